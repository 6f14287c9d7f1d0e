/* tune.c - which way private tensors take through the slots of a node, found by trying
 *
 * What is fastest depends on where the cores are (one cache between them or not), which nothing but a measurement tells:
 * virtual machines do not say, and move.  Each way is run a few times at each of a few sizes, with the buffers
 * rewritten before every run; what counts is the slowest rank's best time.
 */
#include "coll/tune.h"
#include "base/clock.h"
#include "base/fault.h"
#include "coll/engine.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int sizes[] = { 12, 14, 16, 18, 20, 22 }; /* log2 of bytes */
static const enum ty_path ways[] = { TY_PATH_EACH, TY_PATH_EACH_STREAM, TY_PATH_SLICES,
                                     TY_PATH_SLICES_STREAM, TY_PATH_CMA };
#define SIZES ((int)(sizeof sizes / sizeof *sizes))
#define WAYS ((int)(sizeof ways / sizeof *ways))

#define NEVER_US 1e12
#define STRANGE 16        /* so many in a row */
#define AGAIN_US 30000000 /* measured again at most so often */

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void default_paths(unsigned char *paths)
{
    for (int i = 0; i < 64; i++)
        paths[i] = i < 16 ? TY_PATH_EACH : i < 20 ? TY_PATH_EACH_STREAM : TY_PATH_SLICES;
}

/* The best of a few runs; all ranks do equally many. */
static int try_way(struct ty_chan *ch, float *p, int log2, enum ty_path way, int runs, double *ret)
{
    struct ty_coll_buf b = { .data = p, .count = (int64_t)1 << (log2 - 2) };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    struct ty_req r;
    double best = NEVER_US;
    int e = ty_req_init(&r, &call, ch->n, NULL, NULL, NULL);

    r.ch = ch;
    for (int k = 0; e == 0 && k < runs; k++) {
        double begun, took;

        memset(p, 0, (size_t)1 << log2);
        e = ty_chan_barrier(ch);
        begun = now_us();
        if (e == 0)
            e = ty_allreduce_staged(ch, &r, way);
        took = now_us() - begun;
        best = took < best ? took : best;
    }
    *ret = best;
    return e;
}

static int measure(struct ty_chan *ch, float *p, double *took)
{
    bool cma;
    int e = ty_cma_probe(ch, &cma);

    if (e < 0)
        return e;
    for (int s = 0; s < SIZES; s++)
        for (int w = 0; w < WAYS; w++) {
            int runs = sizes[s] <= 16 ? 12 : sizes[s] <= 20 ? 5 : 3;

            took[s * WAYS + w] = NEVER_US;
            if (ways[w] != TY_PATH_CMA || cma)
                e = try_way(ch, p, sizes[s], ways[w], runs, &took[s * WAYS + w]);
            if (e < 0)
                return e;
        }
    return 0;
}

/* all[n][SIZES][WAYS] -> the way whose slowest rank is fastest, at each size. */
static void choose(struct ty_coll *c, const double *all, int n)
{
    for (int s = 0, from = 0; s < SIZES; s++) {
        int best = 0;
        double best_us = 2 * NEVER_US;

        for (int w = 0; w < WAYS; w++) {
            double slowest = 0;

            for (int i = 0; i < n; i++) {
                double us = all[(i * SIZES + s) * WAYS + w];

                slowest = us > slowest ? us : slowest;
            }
            if (slowest < best_us) {
                best_us = slowest;
                best = w;
            }
        }
        for (; from < 64 && (s == SIZES - 1 || from <= sizes[s] + 1); from++) {
            c->paths[from] = (unsigned char)ways[best];
            c->drift.expected_us[from] =
                (float)(best_us *
                        (from < sizes[s] ? 1 : (double)(2ull << (from - sizes[s])) / 1.5));
        }
    }
}

int ty_tune(struct ty_coll *c)
{
    struct ty_chan *ch = c->set[0]->ch;
    double took[SIZES * WAYS], *all;
    float *p;
    int e;

    default_paths(c->paths);
    c->drift = (struct ty_drift){ .tuned_us = ty_mono_us() };
    if (ch->net || ch->n == 1) /* between nodes there is one way */
        return 0;
    p = aligned_alloc(64, (size_t)1 << sizes[SIZES - 1]);
    all = FAULT("tune.alloc", NULL, malloc((size_t)c->size * sizeof took));
    e = p && all ? measure(ch, p, took) : -ENOMEM;
    if (e == 0)
        e = ty_gather_fixed(ch, took, sizeof took, all);
    if (e == 0)
        choose(c, all, ch->n);
    free(p);
    free(all);
    return e;
}

void ty_tune_watch(struct ty_coll *c, int64_t bytes, int64_t took_us)
{
    float expected = c->drift.expected_us[63 - __builtin_clzll((uint64_t)bytes | 1)];
    bool strange = (float)took_us > 2 * expected + 20 || (float)took_us < expected / 4 - 20;

    c->drift.strange = strange && expected > 0 ? c->drift.strange + 1 : 0;
    if (c->drift.strange >= STRANGE && ty_mono_us() - c->drift.tuned_us > AGAIN_US)
        c->drift.again = true;
}
