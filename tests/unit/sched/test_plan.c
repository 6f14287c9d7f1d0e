/* test_plan.c - gangs and back-filling: cases by hand, and random loads in virtual time beside a simple oracle */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "sched/plan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- by hand ---- */

#define CPUS(n) \
    { \
        .cpus = (n) \
    }
#define UP(n) \
    { \
        .all = CPUS(n), .up = true \
    }

static char A[] = "A", B[] = "B", C[] = "C";

static int next(struct plan *p, struct plan_need need, int *node, void **behind)
{
    int nodes[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };
    int r = plan_next(p, &need, nodes, behind);

    if (node)
        *node = nodes[0];
    return r;
}

static void test_all_or_nothing(void **state)
{
    const struct plan_node nodes[] = { UP(2), UP(2), { .all = CPUS(8) } };
    const int all[] = { 0, 1, 2 };
    const struct plan_set sets[] = { { .nodes = all, .nnodes = 3 }, { .max = 3, .used = 2 } };
    struct plan *p = plan_new(nodes, 3, sets, 2, NULL, 0, 100);
    void *behind;

    (void)state;
    /* One of the three is down: nobody knows until when, so this is no head. */
    assert_int_equal(next(p,
                          (struct plan_need){
                              .count = 3, .pieces = 3, .piece = CPUS(1), .lasts_us = PLAN_NEVER },
                          NULL, &behind),
                     PLAN_FEW);
    assert_int_equal(
        next(p,
             (struct plan_need){
                 .count = 2, .pieces = 2, .piece = CPUS(2), .lasts_us = PLAN_NEVER, .who = A },
             NULL, &behind),
        PLAN_STARTS);
    assert_int_equal(
        next(p,
             (struct plan_need){
                 .count = 1, .pieces = 1, .piece = CPUS(1), .lasts_us = PLAN_NEVER, .who = B },
             NULL, &behind),
        PLAN_CPUS);
    assert_null(behind);
    assert_int_equal(plan_shadow(p, 0, &behind), PLAN_NEVER);
    assert_ptr_equal(behind, B);
    assert_int_equal(next(p,
                          (struct plan_need){
                              .count = 1, .pieces = 1, .piece = CPUS(2), .lasts_us = 1, .who = C },
                          NULL, &behind),
                     PLAN_CPUS);
    assert_ptr_equal(behind, B);
    /* The other target is not held up. */
    assert_int_equal(
        next(p, (struct plan_need){ .set = 1, .count = 2, .lasts_us = 5 }, NULL, &behind),
        PLAN_MAX);
    assert_int_equal(
        next(p, (struct plan_need){ .set = 1, .count = 1, .lasts_us = 5 }, NULL, &behind),
        PLAN_BEHIND);
    plan_free(p);
}

static void test_shadow(void **state)
{
    const struct plan_node nodes[] = { { .all = CPUS(4), .used = CPUS(3), .up = true } };
    const int all[] = { 0 };
    const struct plan_set sets[] = { { .nodes = all, .nnodes = 1 } };
    const struct plan_use one = { 0, CPUS(1) }, two = { 0, CPUS(2) };
    const struct plan_run runs[] = { { .count = 1, .use = &two, .nuse = 1, .ends_us = PLAN_NEVER },
                                     { .count = 1, .use = &one, .nuse = 1, .ends_us = 500 } };
    struct plan *p = plan_new(nodes, 1, sets, 1, runs, 2, 100);
    void *behind;

    (void)state;
    /* It can start at 500, when two are free; until then one is. */
    assert_int_equal(next(p,
                          (struct plan_need){
                              .count = 1, .pieces = 1, .piece = CPUS(2), .lasts_us = 50, .who = A },
                          NULL, &behind),
                     PLAN_CPUS);
    assert_int_equal(plan_shadow(p, 0, &behind), 500);
    assert_int_equal(
        next(p, (struct plan_need){ .count = 1, .pieces = 1, .piece = CPUS(1), .lasts_us = 401 },
             NULL, &behind),
        PLAN_BEHIND);
    assert_ptr_equal(behind, A);
    assert_int_equal(
        next(p, (struct plan_need){ .count = 1, .pieces = 1, .piece = CPUS(1), .lasts_us = 400 },
             NULL, &behind),
        PLAN_STARTS);
    assert_int_equal(
        next(p, (struct plan_need){ .count = 1, .pieces = 1, .piece = CPUS(1), .lasts_us = 1 },
             NULL, &behind),
        PLAN_CPUS);
    assert_ptr_equal(behind, A);
    plan_free(p);
}

/* Nobody knows when the head can start: only what leaves room for it passes. */
static void test_unknown_ends(void **state)
{
    const struct plan_node nodes[] = {
        { .all = { .cpus = 4, .memory_mb = 10 }, .used = { .cpus = 1, .memory_mb = 8 }, .up = true }
    };
    const int all[] = { 0 };
    const struct plan_set sets[] = { { .nodes = all, .nnodes = 1 } };
    const struct plan_use use = { 0, { .cpus = 1, .memory_mb = 8 } };
    const struct plan_run runs[] = {
        { .count = 1, .use = &use, .nuse = 1, .ends_us = PLAN_NEVER }
    };
    struct plan *p = plan_new(nodes, 1, sets, 1, runs, 1, 100);
    void *behind;

    (void)state;
    assert_int_equal(next(p,
                          (struct plan_need){ .count = 1,
                                              .pieces = 1,
                                              .piece = { .cpus = 2, .memory_mb = 5 },
                                              .lasts_us = 50,
                                              .who = A },
                          NULL, &behind),
                     PLAN_MEMORY);
    assert_int_equal(
        next(p,
             (struct plan_need){
                 .count = 1, .pieces = 1, .piece = { .cpus = 1, .memory_mb = 1 }, .lasts_us = 1 },
             NULL, &behind),
        PLAN_BEHIND);
    assert_int_equal(
        next(p, (struct plan_need){ .count = 1, .pieces = 1, .piece = CPUS(2), .lasts_us = 1 },
             NULL, &behind),
        PLAN_BEHIND);
    assert_int_equal(next(p,
                          (struct plan_need){
                              .count = 1, .pieces = 1, .piece = CPUS(1), .lasts_us = PLAN_NEVER },
                          NULL, &behind),
                     PLAN_STARTS);
    plan_free(p);
}

/* Whoever waits for its own target to hold fewer nodes does not keep others from what is free then anyway. */
static void test_count(void **state)
{
    const struct plan_node nodes[] = { { .all = CPUS(3), .used = CPUS(1), .up = true } };
    const int all[] = { 0 };
    const struct plan_set sets[] = { { .nodes = all, .nnodes = 1, .max = 1, .used = 1 },
                                     { .nodes = all, .nnodes = 1 } };
    const struct plan_use use = { 0, CPUS(1) };
    const struct plan_run runs[] = {
        { .count = 1, .use = &use, .nuse = 1, .ends_us = PLAN_NEVER }
    };
    struct plan_need head = { .count = 1, .pieces = 1, .piece = CPUS(1), .lasts_us = 9, .who = A };
    struct plan_need other = { .set = 1, .count = 1, .pieces = 1, .piece = CPUS(2), .lasts_us = 9 };
    struct plan *p = plan_new(nodes, 1, sets, 2, runs, 1, 100);
    void *behind;

    (void)state;
    assert_int_equal(next(p, head, NULL, &behind), PLAN_MAX);
    assert_int_equal(next(p, other, NULL, &behind), PLAN_STARTS);
    plan_free(p);
    p = plan_new(nodes, 1, sets, 2, runs, 1, 100);
    head.piece.cpus = 2;
    assert_int_equal(next(p, head, NULL, &behind), PLAN_MAX);
    assert_int_equal(next(p, other, NULL, &behind), PLAN_BEHIND); /* one would be free then */
    plan_free(p);
}

/* Nodes with GPUs are kept for those that need them, and tight fits come first. */
static void test_choice(void **state)
{
    const struct plan_node nodes[] = { { .all = { .cpus = 4, .gpus = 2 }, .up = true },
                                       UP(8),
                                       UP(3) };
    const int all[] = { 0, 1, 2 };
    const struct plan_set sets[] = { { .nodes = all, .nnodes = 3 } };
    struct plan *p = plan_new(nodes, 3, sets, 1, NULL, 0, 0);
    void *behind;
    int node;

    (void)state;
    assert_int_equal(next(p,
                          (struct plan_need){
                              .count = 1, .pieces = 1, .piece = CPUS(2), .lasts_us = PLAN_NEVER },
                          &node, &behind),
                     PLAN_STARTS);
    assert_int_equal(node, 2);
    assert_int_equal(next(p,
                          (struct plan_need){
                              .count = 1, .pieces = 1, .piece = CPUS(2), .lasts_us = PLAN_NEVER },
                          &node, &behind),
                     PLAN_STARTS);
    assert_int_equal(node, 1);
    assert_int_equal(next(p,
                          (struct plan_need){ .count = 1,
                                              .pieces = 1,
                                              .piece = { .cpus = 1, .gpus = 3 },
                                              .few_gpus = true,
                                              .lasts_us = PLAN_NEVER },
                          &node, &behind),
                     PLAN_STARTS);
    assert_int_equal(node, 0);
    assert_int_equal(next(p,
                          (struct plan_need){ .count = 1,
                                              .pieces = 1,
                                              .piece = { .cpus = 1, .gpus = 1 },
                                              .lasts_us = PLAN_NEVER,
                                              .who = A },
                          &node, &behind),
                     PLAN_GPUS);
    /* Those that wait for a GPU hold up nobody who waits for CPUs elsewhere. */
    assert_int_equal(next(p,
                          (struct plan_need){ .count = 1,
                                              .pieces = 1,
                                              .piece = CPUS(20),
                                              .few_cpus = true,
                                              .lasts_us = PLAN_NEVER,
                                              .who = B },
                          &node, &behind),
                     PLAN_CPUS);
    assert_null(behind);
    assert_int_equal(next(p,
                          (struct plan_need){
                              .count = 2, .pieces = 2, .piece = CPUS(7), .lasts_us = PLAN_NEVER },
                          &node, &behind),
                     PLAN_FEW);
    plan_free(p);
}

static void test_estimates(void **state)
{
    const struct plan_node nodes[] = { { .all = CPUS(2), .used = CPUS(2), .up = true } };
    const int all[] = { 0 };
    const struct plan_set sets[] = { { .nodes = all, .nnodes = 1 } };
    const struct plan_use use = { 0, CPUS(1) };
    const struct plan_run runs[] = {
        { .count = 1, .use = &use, .nuse = 1, .ends_us = PLAN_NEVER, .guess_us = 300, .who = A },
        { .count = 1, .use = &use, .nuse = 1, .ends_us = 200, .guess_us = 150, .who = B },
    };
    const struct plan_need two = {
        .count = 1, .pieces = 1, .piece = CPUS(2), .lasts_us = 1000, .who = C
    };
    struct plan *p = plan_new(nodes, 1, sets, 1, runs, 2, 100);
    void *who;

    (void)state;
    assert_int_equal(plan_estimate(p, &two, 40, &who), 300);
    assert_ptr_equal(who, A);
    assert_int_equal(plan_estimate(p, &two, PLAN_NEVER, &who), 340);
    assert_ptr_equal(who, C);
    assert_int_equal(plan_estimate(p, &two, 1, &who), PLAN_NEVER);
    plan_free(p);
}

/* ---- in virtual time ---- */

#define NODES 6
#define SETS 4
#define RUNS 60
#define STEPS_MAX 100000

struct run {
    int id, set, count, pieces, priority;
    struct plan_room piece;
    bool few;
    int64_t arrives, limit, really; /* limit: PLAN_NEVER for none */
    int64_t started, ends;
    int at[NODES];
    enum { TO_COME, WAITS, GOES, ENDED } phase;
    bool behind_unknown; /* started behind a head of which nobody knew when it could */
};

struct world {
    int nnodes, nsets;
    struct plan_node nodes[NODES]; /* used is kept by this file's own counting */
    int members[SETS][NODES];
    struct plan_set sets[SETS];
    struct run runs[RUNS];
    int order[RUNS];
    int64_t now;
    int first;       /* the run that was first of those that waited, and could have been placed */
    int64_t promise; /* when it can start at the latest */
};

static uint64_t seed;

static int dice(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static struct plan_room room_on(const struct world *w, const struct run *r, int n)
{
    struct plan_room room = r->piece;

    if (r->few && room.cpus > w->nodes[n].all.cpus)
        room.cpus = w->nodes[n].all.cpus;
    return room;
}

static void make_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->nnodes = 1 + dice(NODES);
    w->nsets = 1 + dice(SETS);
    w->first = -1;
    for (int i = 0; i < w->nnodes; i++)
        w->nodes[i] = (struct plan_node){ .all = { 1 + dice(8), dice(3), 100 * (1 + dice(3)) },
                                          .up = dice(10) > 0 };
    for (int s = 0; s < w->nsets; s++) {
        int n = 0;

        for (int i = 0; i < w->nnodes; i++)
            if (dice(3))
                w->members[s][n++] = i;
        w->sets[s] = (struct plan_set){ .nodes = w->members[s],
                                        .nnodes = n,
                                        .max = dice(3) ? 0 : 1 + dice(4) };
    }
    for (int i = 0; i < RUNS; i++) {
        struct run *r = &w->runs[i];

        *r = (struct run){
            .id = i, .set = dice(w->nsets), .priority = dice(8) ? 0 : dice(3), .few = dice(4) == 0
        };
        r->pieces = r->count = 1 + dice(3);
        r->piece =
            (struct plan_room){ 1 + dice(5), dice(4) ? 0 : 1, dice(3) ? 0 : 50 * (1 + dice(3)) };
        r->arrives = dice(300);
        r->really = 1 + dice(60);
        r->limit = dice(3) ? r->really + dice(3) * dice(40) : PLAN_NEVER;
    }
}

static bool could_ever(const struct world *w, const struct run *r)
{
    const struct plan_set *set = &w->sets[r->set];
    int n = 0;

    for (int i = 0; i < set->nnodes; i++) {
        const struct plan_node *node = &w->nodes[set->nodes[i]];
        struct plan_room room = room_on(w, r, set->nodes[i]);

        n += node->up && room.cpus <= node->all.cpus && room.gpus <= node->all.gpus &&
             room.memory_mb <= node->all.memory_mb;
    }
    return n >= r->pieces && (!set->max || r->count <= set->max);
}

/* Would it fit at time t, with those of what goes on that have not met their limits by then?  Counted from nothing. */
static bool fits_at(const struct world *w, const struct run *r, int64_t t, bool with_behind)
{
    struct plan_room used[NODES] = { 0 };
    const struct plan_set *set = &w->sets[r->set];
    int held = 0, n = 0;

    for (int i = 0; i < RUNS; i++) {
        const struct run *o = &w->runs[i];
        int64_t end = o->limit == PLAN_NEVER ? PLAN_NEVER : o->started + o->limit;

        if (o->phase != GOES || end <= t || (o->behind_unknown && !with_behind))
            continue;
        held += o->set == r->set ? o->count : 0;
        for (int k = 0; k < o->pieces; k++) {
            struct plan_room room = room_on(w, o, o->at[k]);

            used[o->at[k]].cpus += room.cpus;
            used[o->at[k]].gpus += room.gpus;
            used[o->at[k]].memory_mb += room.memory_mb;
        }
    }
    for (int i = 0; i < set->nnodes; i++) {
        int k = set->nodes[i];
        struct plan_room room = room_on(w, r, k);

        n += w->nodes[k].up && used[k].cpus + room.cpus <= w->nodes[k].all.cpus &&
             (!room.gpus || used[k].gpus + room.gpus <= w->nodes[k].all.gpus) &&
             (!room.memory_mb || used[k].memory_mb + room.memory_mb <= w->nodes[k].all.memory_mb);
    }
    return n >= r->pieces && (!set->max || held + r->count <= set->max);
}

static int64_t shadow_of(const struct world *w, const struct run *r)
{
    int64_t best = PLAN_NEVER;

    if (fits_at(w, r, w->now, true))
        return w->now;
    for (int i = 0; i < RUNS; i++) {
        const struct run *o = &w->runs[i];
        int64_t end = o->limit == PLAN_NEVER ? PLAN_NEVER : o->started + o->limit;

        if (o->phase == GOES && end < best && fits_at(w, r, end, true))
            best = end;
    }
    return best;
}

static void check_nothing_twice(const struct world *w)
{
    struct plan_room used[NODES] = { 0 };
    int held[SETS] = { 0 };

    for (int i = 0; i < RUNS; i++) {
        const struct run *r = &w->runs[i];

        if (r->phase != GOES)
            continue;
        held[r->set] += r->count;
        for (int k = 0; k < r->pieces; k++) {
            struct plan_room room = room_on(w, r, r->at[k]);
            bool member = false;

            for (int j = 0; j < k; j++)
                assert_int_not_equal(r->at[j], r->at[k]);
            for (int j = 0; j < w->sets[r->set].nnodes; j++)
                member |= w->members[r->set][j] == r->at[k];
            assert_true(member && w->nodes[r->at[k]].up);
            used[r->at[k]].cpus += room.cpus;
            used[r->at[k]].gpus += room.gpus;
            used[r->at[k]].memory_mb += room.memory_mb;
        }
    }
    for (int i = 0; i < w->nnodes; i++) {
        assert_true(used[i].cpus <= w->nodes[i].all.cpus);
        assert_true(used[i].gpus <= w->nodes[i].all.gpus);
        assert_true(used[i].memory_mb <= w->nodes[i].all.memory_mb);
    }
    for (int s = 0; s < w->nsets; s++)
        assert_true(!w->sets[s].max || held[s] <= w->sets[s].max);
}

static const struct world *sorting;

static int by_order(const void *a, const void *b)
{
    const struct run *x = &sorting->runs[*(const int *)a], *y = &sorting->runs[*(const int *)b];

    return x->priority != y->priority ? y->priority - x->priority : x->id - y->id;
}

static struct plan *plan_of(const struct world *w, struct plan_set *sets, struct plan_run *runs,
                            struct plan_use (*uses)[NODES])
{
    struct plan_node nodes[NODES];
    int n = 0;

    memcpy(nodes, w->nodes, sizeof nodes);
    memcpy(sets, w->sets, sizeof w->sets);
    for (int i = 0; i < RUNS; i++) {
        const struct run *r = &w->runs[i];

        if (r->phase != GOES)
            continue;
        for (int k = 0; k < r->pieces; k++) {
            struct plan_room room = room_on(w, r, r->at[k]);

            uses[n][k] = (struct plan_use){ r->at[k], room };
            nodes[r->at[k]].used.cpus += room.cpus;
            nodes[r->at[k]].used.gpus += room.gpus;
            nodes[r->at[k]].used.memory_mb += room.memory_mb;
        }
        runs[n] = (struct plan_run){ .set = r->set,
                                     .count = r->count,
                                     .use = uses[n],
                                     .nuse = r->pieces,
                                     .ends_us = r->limit == PLAN_NEVER ? PLAN_NEVER
                                                                       : r->started + r->limit };
        sets[r->set].used += r->count;
        n++;
    }
    struct plan *p = plan_new(nodes, w->nnodes, sets, w->nsets, runs, n, w->now);

    assert_non_null(p);
    return p;
}

/* One placing, checked as it goes. */
static void cycle(struct world *w)
{
    struct plan_run runs[RUNS];
    struct plan_use uses[RUNS][NODES];
    struct plan_set sets[SETS];
    struct plan *p = plan_of(w, sets, runs, uses);
    int n = 0, first = -1, before = 0; /* started, that come before the first that waits */
    int64_t promise = 0;

    for (int i = 0; i < RUNS; i++)
        if (w->runs[i].phase == WAITS)
            w->order[n++] = i;
    sorting = w;
    qsort(w->order, (size_t)n, sizeof *w->order, by_order);
    for (int i = 0; i < n; i++) {
        struct run *r = &w->runs[w->order[i]];
        const struct plan_need need = { .set = r->set,
                                        .count = r->count,
                                        .pieces = r->pieces,
                                        .piece = r->piece,
                                        .few_cpus = r->few,
                                        .lasts_us = r->limit,
                                        .who = r };
        bool can = fits_at(w, r, w->now, true);
        void *behind;
        int v = plan_next(p, &need, r->at, &behind);

        if (v == PLAN_STARTS) {
            assert_true(can);
            r->phase = GOES;
            r->started = w->now;
            r->ends = w->now + r->really;
            r->behind_unknown = first >= 0 && promise == PLAN_NEVER;
            before += first < 0;
            check_nothing_twice(w);
        } else if (first < 0 && could_ever(w, r)) {
            assert_false(can); /* whoever is first and fits, starts */
            assert_int_not_equal(v, PLAN_BEHIND);
            first = r->id;
            promise = shadow_of(w, r);
        } else {
            assert_true(v == PLAN_BEHIND ? behind != NULL : !can);
        }
    }
    if (first != w->first || before > 0) /* those before it change what it can count on */
        for (int i = 0; i < RUNS; i++)
            w->runs[i].behind_unknown &= w->runs[i].started == w->now;
    if (first >= 0) {
        /* Nothing of what has started behind it delays it. */
        int64_t now = shadow_of(w, &w->runs[first]);

        assert_true(now <= promise);
        if (first == w->first && before == 0)
            assert_true(promise <= w->promise);
        if (promise == PLAN_NEVER)
            for (int64_t t = w->now; t < w->now + 1000; t += 1 + dice(100))
                assert_int_equal(fits_at(w, &w->runs[first], t, true),
                                 fits_at(w, &w->runs[first], t, false));
        promise = now;
    }
    w->first = first;
    w->promise = promise;
    plan_free(p);
}

/* The next thing that happens; false: nothing more will. */
static bool step(struct world *w)
{
    int64_t at = PLAN_NEVER;

    for (int i = 0; i < RUNS; i++) {
        const struct run *r = &w->runs[i];
        int64_t t = r->phase == TO_COME ? r->arrives : r->phase == GOES ? r->ends : PLAN_NEVER;

        at = t < at ? t : at;
    }
    if (at == PLAN_NEVER)
        return false;
    w->now = at;
    for (int i = 0; i < RUNS; i++) {
        struct run *r = &w->runs[i];

        if (r->phase == TO_COME && r->arrives == at)
            r->phase = WAITS;
        else if (r->phase == GOES && r->ends == at)
            r->phase = ENDED;
    }
    return true;
}

static void test_random_loads(void **state)
{
    int placed = 0;

    (void)state;
    for (int k = 0; k < 400; k++) {
        struct world w;

        seed = (uint64_t)k * 977 + 1;
        make_world(&w);
        for (int n = 0; step(&w); n++) {
            assert_true(n < STEPS_MAX);
            cycle(&w);
        }
        /* What can run at all has run: nobody has waited for ever. */
        for (int i = 0; i < RUNS; i++) {
            assert_int_equal(w.runs[i].phase, could_ever(&w, &w.runs[i]) ? ENDED : WAITS);
            placed += w.runs[i].phase == ENDED;
        }
    }
    assert_in_range(placed, 5000, 400 * RUNS);
}

/* Small ones come for ever; the large one that was there first gets its turn, though none of them has a limit. */
static void test_no_starvation(void **state)
{
    const int all[] = { 0 };
    const struct plan_set sets[] = { { .nodes = all, .nnodes = 1 } };
    const struct plan_use one = { 0, CPUS(1) };
    const struct plan_run going = { .count = 1, .use = &one, .nuse = 1, .ends_us = PLAN_NEVER };
    const struct plan_need large = {
        .count = 1, .pieces = 1, .piece = CPUS(4), .lasts_us = PLAN_NEVER, .who = A
    };
    const struct plan_need small = {
        .count = 1, .pieces = 1, .piece = CPUS(1), .lasts_us = 10, .who = B
    };
    int node = 0;
    void *behind;

    (void)state;
    for (int held = 4; held >= 0; held--) { /* they end one after the other */
        const struct plan_node nodes[] = { { .all = CPUS(4), .used = CPUS(held), .up = true } };
        const struct plan_run runs[] = { going, going, going, going };
        struct plan *p = plan_new(nodes, 1, sets, 1, runs, held, 0);

        assert_int_equal(plan_next(p, &large, &node, &behind), held ? PLAN_CPUS : PLAN_STARTS);
        for (int i = 0; i < 10; i++)
            assert_int_not_equal(plan_next(p, &small, &node, &behind), PLAN_STARTS);
        plan_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_or_nothing), cmocka_unit_test(test_shadow),
        cmocka_unit_test(test_unknown_ends),   cmocka_unit_test(test_count),
        cmocka_unit_test(test_choice),         cmocka_unit_test(test_estimates),
        cmocka_unit_test(test_random_loads),   cmocka_unit_test(test_no_starvation),
    };

    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
