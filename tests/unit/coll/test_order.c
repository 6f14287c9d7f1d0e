/* Operations in random orders: each rank submits a permutation of its own, from one thread or several, over the world and
 * overlapping sets, polls and waits in any order, joins, makes mistakes and goes on.  Every failure prints its seed;
 * TY_TEST_SEED=n begins with another one. */
#include "coll/engine.h"
#include "tests.h"
#include "values.h"
#include "world.h"
#include <pthread.h>
#include <unistd.h>

#define OPS 24
#define STEPS (WORLD_THIN > 1 ? 3 : 6)

/* ---- one operation of a plan, which all ranks make from the same seed ---- */

struct op {
    struct world_rank *r;
    uint64_t seed;
    enum ty_coll_kind kind;
    enum ty_coll_dtype dtype;
    int set, n, ranks[WORLD_MAX]; /* of the world */
    bool member, arena, wrong;    /* wrong: one rank gives another shape */
    int root;
    int64_t count, dims[1];
    char name[32];
    struct ty_coll_buf buf;
    int64_t splits[WORLD_MAX], handle;
};

static const enum ty_coll_kind kinds[] = { TY_COLL_ALLREDUCE, TY_COLL_ALLREDUCE,
                                           TY_COLL_ALLREDUCE, TY_COLL_BROADCAST,
                                           TY_COLL_ALLGATHER, TY_COLL_REDUCESCATTER,
                                           TY_COLL_ALLTOALL,  TY_COLL_BARRIER };

/* Operation i of a step, of ranks r->rank's view.  sets[k]: which sets there are; bit i of members[k]. */
static void make_op(struct op *o, struct world_rank *r, uint64_t seed, int i, int step,
                    const int *sets, const unsigned *members, int nsets)
{
    uint64_t x = mix(seed + (uint64_t)i * 77);
    int which = (int)(x % (uint64_t)nsets);

    memset(o, 0, sizeof *o);
    o->r = r;
    o->seed = seed + (uint64_t)i + (uint64_t)step * 1000;
    o->kind = kinds[x >> 8 & 7];
    o->dtype = (x >> 16 & 3) ? TY_COLL_F32 : TY_COLL_I64;
    o->set = sets[which];
    for (int k = 0; k < r->size; k++)
        if (members[which] >> k & 1)
            o->ranks[o->n++] = k;
    o->member = members[which] >> r->rank & 1;
    o->count =
        (int64_t)(x >> 20 & 7) == 0 ? (int64_t)(x >> 24 & 0x3ffff) : (int64_t)(x >> 24 & 0x1ff);
    o->count = (o->count / o->n + 1) * o->n;
    o->root = o->ranks[(x >> 44) % (uint64_t)o->n];
    o->arena = (x >> 50 & 1) && o->kind == TY_COLL_ALLREDUCE;
    snprintf(o->name, sizeof o->name, "tensor %d", i);
}

static int64_t submit_op(struct op *o)
{
    struct world_rank *r = o->r;
    bool odd = o->wrong && r->rank == o->ranks[o->seed % (uint64_t)o->n];
    struct ty_coll_call call = { .kind = o->kind,
                                 .name = o->name[0] ? o->name : NULL,
                                 .set = o->set,
                                 .dtype = o->dtype,
                                 .op = TY_COLL_SUM,
                                 .root = o->root,
                                 .in = &o->buf,
                                 .out = &o->buf,
                                 .nbufs = 1 };
    struct ty_error err;
    int64_t h;

    o->dims[0] = odd ? o->count - 1 : o->count;
    o->buf = (struct ty_coll_buf){ .count = o->dims[0], .ndims = 1, .dims = o->dims };
    if (o->kind != TY_COLL_BARRIER) {
        size_t bytes = (size_t)o->count * ty_coll_dtype_size(o->dtype);

        o->buf.data = o->arena ? ty_coll_arena_alloc(r->c, bytes) : malloc(bytes);
        CHECK(o->buf.data);
        fill(o->dtype, o->buf.data, o->count, o->seed, r->rank);
    }
    for (int i = 0; i < o->n; i++)
        o->splits[i] = o->count / o->n;
    call.splits = o->seed % 2 ? o->splits : NULL;
    h = ty_coll_submit(r->c, &call, &err);
    if (h <= 0)
        world_failed(r->w, r->rank, err.text, __FILE__, __LINE__);
    return h;
}

static int place_of(const struct op *o)
{
    int me = 0;

    while (o->ranks[me] != o->r->rank)
        me++;
    return me;
}

static void check_data(struct op *o, const struct ty_coll_result *ret)
{
    struct world_rank *r = o->r;
    int64_t each = o->count / o->n, me = place_of(o);

    for (int64_t k = 0; k < o->count; k += 1 + o->count / 200) {
        double slack,
            want = reduced(o->dtype, TY_COLL_SUM, o->seed, o->ranks, o->n, k, 1, 1, &slack);

        if (o->kind == TY_COLL_ALLREDUCE)
            CHECK(fabs(load(o->dtype, o->buf.data, k) - want) <= slack);
        if (o->kind == TY_COLL_REDUCESCATTER && k / each == me)
            CHECK(fabs(load(o->dtype, o->buf.data, k - me * each) - want) <= slack);
        if (o->kind == TY_COLL_BROADCAST)
            CHECK(load(o->dtype, o->buf.data, k) == value(o->dtype, o->seed, o->root, k));
        for (int i = 0; i < o->n; i++) {
            if (o->kind == TY_COLL_ALLGATHER)
                CHECK(load(o->dtype, ret->data[0], i * o->count + k) ==
                      value(o->dtype, o->seed, o->ranks[i], k));
            if (o->kind == TY_COLL_ALLTOALL && k < each)
                CHECK(load(o->dtype, ret->data[0], i * each + k) ==
                      value(o->dtype, o->seed, o->ranks[i], me * each + k));
        }
    }
}

/* Wait for the end, one way or the other; ok: whether it may have failed for a mismatch. */
static void end_op(struct op *o)
{
    struct world_rank *r = o->r;
    struct ty_coll_result ret = { 0 };
    struct ty_error err;
    int e;

    switch (mix(r->seed++) % 4) {
    case 0:
        while (ty_coll_poll(r->c, o->handle) == 0)
            sched_yield();
        break;
    case 1:
        while ((e = ty_coll_wait_ms(r->c, o->handle, 1, &ret, &err)) == -EAGAIN)
            ;
        goto ended;
    default:
        break;
    }
    e = ty_coll_wait(r->c, o->handle, &ret, &err);
ended:
    if (e != (o->wrong ? -EPROTO : 0)) {
        fprintf(stderr, "%s '%s' of set %d, %lld elements: %d %s\n", ty_coll_kind_name(o->kind),
                o->name, o->set, (long long)o->count, e, e < 0 ? err.text : "");
        CHECK(e == (o->wrong ? -EPROTO : 0));
    }
    CHECK(!o->wrong || strstr(err.text, "mismatched"));
    CHECK(ty_coll_poll(r->c, o->handle) == -ENOENT);
    if (e == 0)
        check_data(o, &ret);
    ty_coll_result_done(&ret);
    if (o->arena)
        ty_coll_arena_free(r->c, o->buf.data);
    else
        free(o->buf.data);
}

/* ---- steps ---- */

static void shuffle(struct op **o, int n, uint64_t *seed)
{
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(mix((*seed)++) % (uint64_t)(i + 1));
        struct op *t = o[i];

        o[i] = o[j];
        o[j] = t;
    }
}

/* Submit and end in orders of this rank's own; a few stay open for a while. */
static void run_ops(struct op **o, int n, uint64_t *seed)
{
    int ended = 0;

    shuffle(o, n, seed);
    for (int i = 0; i < n; i++)
        o[i]->handle = submit_op(o[i]);
    shuffle(o, n, seed);
    while (ended < n)
        end_op(o[ended++]);
}

struct part {
    struct op *o[OPS];
    int n;
    struct world_rank r;
};

static void *part(void *arg)
{
    struct part *p = arg;

    run_ops(p->o, p->n, &p->r.seed);
    return NULL;
}

static void step(struct world_rank *r, uint64_t seed, int k, const int *sets,
                 const unsigned *members, int nsets, int threads, bool mistakes)
{
    static _Thread_local struct op ops[OPS];
    struct part parts[3] = { { .n = 0 } };
    pthread_t t[3];

    for (int i = 0; i < OPS; i++) {
        struct part *p = &parts[i % threads];

        make_op(&ops[i], r, seed, i, k, sets, members, nsets);
        ops[i].wrong = mistakes && mix(seed + (uint64_t)(i * 31 + k)) % 5 == 0 && ops[i].n > 1 &&
                       (ops[i].kind == TY_COLL_ALLREDUCE || ops[i].kind == TY_COLL_BROADCAST);
        if (ops[i].member)
            p->o[p->n++] = &ops[i];
    }
    for (int j = 0; j < threads; j++) {
        parts[j].r = *r;
        parts[j].r.seed = r->seed + (uint64_t)j * 999;
        for (int i = 0; i < parts[j].n; i++)
            parts[j].o[i]->r = &parts[j].r;
    }
    for (int j = 1; j < threads; j++)
        CHECK(pthread_create(&t[j], NULL, part, &parts[j]) == 0);
    part(&parts[0]);
    for (int j = 1; j < threads; j++)
        pthread_join(t[j], NULL);
    r->seed += 5000;
}

static int add_set(struct world_rank *r, unsigned members)
{
    int ranks[WORLD_MAX], n = 0;
    struct ty_coll_result ret;
    struct ty_coll_call call = { .kind = TY_COLL_SET_ADD, .ranks = ranks };
    struct ty_error err = { 0 };

    for (int i = r->size - 1; i >= 0; i--)
        if (members >> i & 1)
            ranks[n++] = i;
    call.nranks = n;
    if (ty_coll_do(r->c, &call, &ret, &err) < 0)
        world_failed(r->w, r->rank, err.text, __FILE__, __LINE__);
    CHECK(ty_coll_set_size(r->c, ret.value) == n);
    return ret.value;
}

static void remove_set(struct world_rank *r, int set)
{
    struct ty_coll_call call = { .kind = TY_COLL_SET_REMOVE, .set = set };

    CHECK(ty_coll_do(r->c, &call, NULL, NULL) == 0);
    CHECK(ty_coll_set_size(r->c, set) == -ENOENT);
}

/* Names in random orders; the same step again and again, so that history predicts; sets come and go. */
static void orders(struct world_rank *r)
{
    uint64_t seed = r->w->seed * 7919;
    int sets[4] = { 0 }, nsets = 1;
    unsigned members[4] = { (1u << r->size) - 1 };
    int threads = 1 + (int)(r->w->seed % 3);

    for (int round = 0; round < 3; round++) {
        for (int k = 0; k < STEPS; k++)
            step(r, seed + (uint64_t)round, k, sets, members, nsets, threads, round == 2 && k % 2);
        if (r->size > 1 && round < 2) {
            for (uint64_t try = seed; nsets < 4 && nsets < (1 << r->size) - 1; try++) {
                bool there = false;

                members[nsets] = mix(try) & members[0];
                for (int i = 0; i < nsets; i++)
                    there |= members[i] == members[nsets];
                if (there || !members[nsets])
                    continue;
                sets[nsets] = add_set(r, members[nsets]);
                nsets++;
            }
            if (round == 1)
                while (nsets > 2)
                    remove_set(r, sets[--nsets]);
        }
    }
    while (nsets > 1)
        remove_set(r, sets[--nsets]);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("TY_TEST_SEED");

    return text ? strtoull(text, NULL, 10) : 1;
}

static const char *const nodes[][4] = {
    { "a", "b", "a", "b" }, { "a", "b", "b", "a" }, { "a", "a", "b", "c" }, { "a", "b", "c", "d" }
};

static void random_orders(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < (WORLD_THIN > 1 ? 4 : 12); k++)
        world_threads(&(struct world){ .size = 1 + (int)(k % 4), .seed = first_seed() + k },
                      orders);
    for (uint64_t k = 0; k < (WORLD_THIN > 1 ? 2 : 8); k++)
        world_threads(&(struct world){ .size = 3 + (int)(k / 4 % 2),
                                       .seed = first_seed() + k,
                                       .node = nodes[k % 4] },
                      orders);
}

/* ---- unnamed ---- */

/* Unnamed ones pair in the order of their submission, on every rank the same, among named ones in any order. */
static void unnamed_orders(struct world_rank *r)
{
    static const int world = 0;
    unsigned members = (1u << r->size) - 1;
    static _Thread_local struct op ops[OPS];
    struct op *named[OPS], *all[OPS];
    int n = 0, at = 0;

    for (int k = 0; k < STEPS; k++) {
        n = at = 0;
        for (int i = 0; i < OPS; i++) {
            make_op(&ops[i], r, r->w->seed + 5, i, k, &world, &members, 1);
            if (i % 2)
                named[n++] = &ops[i];
            else
                ops[i].name[0] = 0;
        }
        shuffle(named, n, &r->seed);
        for (int i = 0, u = 0, m = 0; at < OPS; i++)
            if (m == n || (u < OPS && mix(r->seed + (uint64_t)i) % 2))
                all[at++] = &ops[u], u += 2;
            else
                all[at++] = named[m++];
        for (int i = 0; i < OPS; i++)
            all[i]->handle = submit_op(all[i]);
        shuffle(all, OPS, &r->seed);
        for (int i = 0; i < OPS; i++)
            end_op(all[i]);
    }
}

static void unnamed(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 6; k++)
        world_threads(&(struct world){ .size = 2 + (int)(k % 3),
                                       .seed = first_seed() + k,
                                       .node = k < 3 ? NULL : nodes[0] },
                      unnamed_orders);
}

/* ---- join ---- */

/* Each rank has another number of batches; sums count those that are there. */
static void joins(struct world_rank *r)
{
    struct ty_coll_call join = { .kind = TY_COLL_JOIN };
    struct ty_coll_result ret;
    int batches[4], most = 0, last = -1;

    for (int epoch = 0; epoch < 4; epoch++) {
        most = 0;
        for (int i = 0; i < r->size; i++) {
            batches[i] = (int)(mix(r->w->seed * 3 + (uint64_t)(i + epoch * 10)) % 12);
            most = batches[i] > most ? batches[i] : most;
        }
        for (int k = 0; k < batches[r->rank]; k++) {
            float one = 1, few[3000];
            struct ty_coll_buf b[2] = { { .data = &one, .count = 1 },
                                        { .data = few, .count = 3000 } };
            struct ty_coll_call call = {
                .kind = TY_COLL_ALLREDUCE, .dtype = TY_COLL_F32, .op = TY_COLL_SUM, .nbufs = 1
            };
            struct ty_error err = { 0 };
            int64_t h[2];
            int here = 0;

            for (int i = 0; i < r->size; i++)
                here += batches[i] > k;
            for (int i = 0; i < 3000; i++)
                few[i] = (float)i;
            for (int i = 0; i < 2; i++) {
                call.in = call.out = &b[i];
                call.name = epoch % 2 ? (i ? "few" : "one") : NULL;
                h[i] = ty_coll_submit(r->c, &call, &err);
                CHECK(h[i] > 0);
            }
            for (int i = 0; i < 2; i++)
                if (ty_coll_wait(r->c, h[i], NULL, &err) < 0)
                    world_failed(r->w, r->rank, err.text, __FILE__, __LINE__);
            CHECK(one == (float)here && few[2999] == 2999.0f * (float)here);
        }
        CHECK(ty_coll_do(r->c, &join, &ret, NULL) == 0);
        CHECK(ret.value >= 0 && ret.value < r->size);
        last = ret.value;
        {
            int32_t low = last, high = last;
            struct ty_coll_buf a = { .data = &low, .count = 1 }, b = { .data = &high, .count = 1 };
            struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                         .dtype = TY_COLL_I32,
                                         .op = TY_COLL_MIN,
                                         .in = &a,
                                         .out = &a,
                                         .nbufs = 1 };

            CHECK(ty_coll_do(r->c, &call, NULL, NULL) == 0);
            call.in = call.out = &b;
            call.op = TY_COLL_MAX;
            CHECK(ty_coll_do(r->c, &call, NULL, NULL) == 0);
            CHECK(low == high);
        }
    }
}

static void random_joins(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 8; k++)
        world_threads(&(struct world){ .size = 1 + (int)(k % 4),
                                       .seed = first_seed() + k,
                                       .node = k < 4 ? NULL : nodes[1] },
                      joins);
}

/* With one that has joined, others may not do what needs its data. */
static void forbidden_with_join(struct world_rank *r)
{
    struct ty_coll_call join = { .kind = TY_COLL_JOIN };
    float x = 1;
    struct ty_coll_buf b = { .data = &x, .count = 1 };
    struct ty_coll_call call = { .kind = TY_COLL_BROADCAST,
                                 .name = "b",
                                 .dtype = TY_COLL_F32,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    struct ty_error err = { 0 };

    if (r->rank != 1) {
        CHECK(ty_coll_do(r->c, &call, NULL, &err) == -EPROTO);
        CHECK(strstr(err.text, "join") && strstr(err.text, "rank 1"));
    }
    CHECK(ty_coll_do(r->c, &join, NULL, &err) == 0);
    CHECK(ty_coll_do(r->c, &call, NULL, &err) == 0);
}

static void join_forbids(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 3 }, forbidden_with_join);
    world_threads(&(struct world){ .size = 3, .node = nodes[3] }, forbidden_with_join);
}

/* ---- one name for two kinds ---- */

static void two_kinds(struct world_rank *r)
{
    float x[2] = { 1, 2 };
    struct ty_coll_buf a = { .data = &x[0], .count = 1 }, b = { .data = &x[1], .count = 1 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = "x",
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &a,
                                 .out = &a,
                                 .nbufs = 1 };
    struct ty_coll_call other = { .kind = TY_COLL_BROADCAST,
                                  .name = "x",
                                  .dtype = TY_COLL_F32,
                                  .in = &b,
                                  .out = &b,
                                  .nbufs = 1 };
    struct ty_error err = { 0 };

    if (r->rank == 0) {
        int64_t h = ty_coll_submit(r->c, &call, &err);

        CHECK(h > 0 && ty_coll_submit(r->c, &call, &err) == -EEXIST && strstr(err.text, "'x'"));
        CHECK(ty_coll_do(r->c, &call, NULL, &err) == -EEXIST);
        *world_word(r->w, 0) = 1;
        CHECK(ty_coll_wait(r->c, h, NULL, &err) == 0);
    } else {
        while (!*world_word(r->w, 0))
            usleep(100);
        CHECK(ty_coll_do(r->c, &call, NULL, &err) == 0);
    }
    for (int k = 0; k < 200 / (WORLD_THIN > 4 ? 4 : 1);
         k++) { /* both are there, in different orders */
        bool swap = mix(r->seed++) % 2;
        int64_t h1 = ty_coll_submit(r->c, swap ? &other : &call, &err), h2;

        CHECK(h1 > 0);
        if (mix(r->seed++) % 4 == 0)
            sched_yield();
        h2 = ty_coll_submit(r->c, swap ? &call : &other, &err);
        CHECK(h2 > 0);
        if (ty_coll_wait(r->c, h1, NULL, &err) < 0 || ty_coll_wait(r->c, h2, NULL, &err) < 0)
            world_failed(r->w, r->rank, err.text, __FILE__, __LINE__);
    }
    /* Meant to be one. */
    CHECK(ty_coll_do(r->c, r->rank == 1 ? &call : &other, NULL, &err) == -EPROTO);
    CHECK(strstr(err.text, "'x'") && strstr(err.text, "rank 0") && strstr(err.text, "rank 1") &&
          strstr(err.text, "allreduce") && strstr(err.text, "broadcast"));
    CHECK(ty_coll_do(r->c, &call, NULL, &err) == 0);
}

static void one_name(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 2 }, two_kinds);
    world_threads(&(struct world){ .size = 3 }, two_kinds);
    world_threads(&(struct world){ .size = 3, .node = nodes[0] }, two_kinds);
}

/* ---- without anybody waiting ---- */

/* What one thread has submitted runs although only others' operations are waited for. */
static void nobody_waits(struct world_rank *r)
{
    float x[64] = { 0 };
    struct ty_error err = { 0 };

    for (int k = 0; k < (WORLD_THIN > 1 ? 10 : 50); k++) {
        int64_t h[64];

        for (int i = 0; i < 64; i++) {
            char name[16];
            struct ty_coll_buf b = { .data = &x[i], .count = 1 };
            struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                         .name = name,
                                         .dtype = TY_COLL_F32,
                                         .op = TY_COLL_MAX,
                                         .in = &b,
                                         .out = &b,
                                         .nbufs = 1 };

            snprintf(name, sizeof name, "%d", i);
            h[i] = ty_coll_submit(r->c, &call, &err);
            CHECK(h[i] > 0);
        }
        CHECK(ty_coll_wait(r->c, h[mix(r->seed + (uint64_t)k) % 64], NULL, &err) == 0);
        for (int i = 0; i < 64; i++) /* looked at without driving */
            while (ty_coll_poll(r->c, h[i]) == 0)
                usleep(50);
        for (int i = 0; i < 64; i++)
            CHECK(i == (int)(mix(r->seed + (uint64_t)k) % 64) ||
                  ty_coll_wait(r->c, h[i], NULL, &err) == 0);
    }
}

static void engine_thread(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 2, .seed = 3 }, nobody_waits);
    world_threads(&(struct world){ .size = 3, .seed = 4, .node = nodes[0] }, nobody_waits);
}

/* ---- several worlds ---- */

static void again(struct world_rank *r)
{
    for (int g = 0; g < (WORLD_THIN > 1 ? 2 : 4); g++) {
        r->c = world_open(r, g);
        orders(r);
        r->c = ty_coll_close(r->c);
    }
}

static void two_at_once(struct world_rank *r)
{
    struct world_rank a = *r, b = *r;
    float x = 1, y = 2;
    struct ty_coll_buf p = { .data = &x, .count = 1 }, q = { .data = &y, .count = 1 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = "x",
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &p,
                                 .out = &p,
                                 .nbufs = 1 };
    int64_t h;

    a.c = world_open(r, 0);
    b.c = world_open(r, 1);
    for (int k = 0; k < 200 / (WORLD_THIN > 4 ? 4 : 1); k++) {
        x = 1;
        y = 2;
        call.in = call.out = &p;
        h = ty_coll_submit(a.c, &call, NULL);
        CHECK(h > 0);
        call.in = call.out = &q;
        CHECK(ty_coll_do(b.c, &call, NULL, NULL) == 0);
        CHECK(ty_coll_wait(a.c, h, NULL, NULL) == 0);
        CHECK(x == (float)r->size && y == 2 * (float)r->size);
    }
    b.c = ty_coll_close(b.c);
    orders(&a);
    a.c = ty_coll_close(a.c);
}

static void worlds(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 2, .seed = first_seed(), .manual = true }, again);
    world_threads(
        &(struct world){ .size = 3, .seed = first_seed() + 1, .manual = true, .node = nodes[0] },
        again);
    world_threads(&(struct world){ .size = 2, .seed = first_seed() + 2, .manual = true },
                  two_at_once);
    world_threads(
        &(struct world){ .size = 3, .seed = first_seed() + 3, .manual = true, .node = nodes[0] },
        two_at_once);
}

static void two_jobs(void **state)
{
    struct world a = { .size = 3, .seed = first_seed() + 50 },
                 b = { .size = 2, .seed = first_seed() + 51 };

    (void)state;
    world_fork(&a, orders);
    world_fork(&b, orders);
    world_end(&a, 60000);
    world_end(&b, 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_orders), cmocka_unit_test(unnamed),
        cmocka_unit_test(random_joins),  cmocka_unit_test(join_forbids),
        cmocka_unit_test(one_name),      cmocka_unit_test(engine_thread),
        cmocka_unit_test(worlds),        cmocka_unit_test(two_jobs),
    };

    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
