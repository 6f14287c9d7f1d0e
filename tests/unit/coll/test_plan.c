/* test_plan.c - every algorithm, run in memory: what is sent is received, and all ranks end with the same bits */
#include "coll/plan.h"
#include "tests.h"
#include <float.h>
#include <math.h>

struct world {
    enum ty_plan_kind kind;
    int n;
    int64_t count;
    float *data; /* n rows of count */
    int64_t most_sent;
};

static float any_float(uint64_t *seed)
{
    /* Magnitudes far apart, so that another order of adding gives other bits. */
    float v = (float)((double)tests_random(seed) / 2147483648.0 - 0.5);

    return ldexpf(v, (int)(tests_random(seed) % 12));
}

static struct ty_plan plan_of(const struct world *w, int rank)
{
    return (struct ty_plan){ .kind = w->kind, .rank = rank, .n = w->n, .count = w->count };
}

static int64_t size_of(const struct ty_range r[2])
{
    return r[0].count + r[1].count;
}

static void check_range(const struct world *w, const struct ty_range r[2])
{
    for (int i = 0; i < 2; i++) {
        assert_true(r[i].count >= 0);
        assert_true(r[i].count == 0 || (r[i].at >= 0 && r[i].at + r[i].count <= w->count));
    }
    assert_true(r[1].count == 0 || r[1].at + r[1].count <= r[0].at);
}

/* One step of every rank: what they send is taken first, then delivered. */
static void run_step(struct world *w, int k, int64_t *sent)
{
    float *wire = malloc(sizeof *wire * (size_t)(w->count * w->n + 1));

    for (int rank = 0; rank < w->n; rank++) {
        struct ty_plan p = plan_of(w, rank);
        struct ty_step s;
        float *to = wire + rank * w->count;

        ty_plan_step(&p, k, &s);
        check_range(w, s.send);
        assert_true(s.to >= -1 && s.to < w->n && s.to != rank);
        assert_int_equal(s.to >= 0, size_of(s.send) > 0);
        for (int i = 0; i < 2 && s.to >= 0; i++) {
            memcpy(to, w->data + rank * w->count + s.send[i].at,
                   sizeof *to * (size_t)s.send[i].count);
            to += s.send[i].count;
        }
        sent[rank] += size_of(s.send);
    }
    for (int rank = 0; rank < w->n; rank++) {
        struct ty_plan p = plan_of(w, rank), q;
        struct ty_step s, theirs;

        ty_plan_step(&p, k, &s);
        check_range(w, s.recv);
        assert_int_equal(s.from >= 0, size_of(s.recv) > 0);
        assert_int_equal(s.from >= 0, s.use != TY_STEP_NOTHING);
        if (s.to >= 0) {
            q = plan_of(w, s.to);
            ty_plan_step(&q, k, &theirs);
            assert_int_equal(theirs.from, rank);
        }
        if (s.from < 0)
            continue;
        q = plan_of(w, s.from);
        ty_plan_step(&q, k, &theirs);
        assert_int_equal(theirs.to, rank);
        const float *in = wire + s.from * w->count;

        for (int i = 0; i < 2; i++) {
            float *mine = w->data + rank * w->count + s.recv[i].at;

            assert_int_equal(theirs.send[i].count, s.recv[i].count);
            assert_true(s.recv[i].count == 0 || theirs.send[i].at == s.recv[i].at);
            for (int64_t e = 0; e < s.recv[i].count; e++, in++)
                mine[e] = s.use == TY_STEP_STORE ? *in : mine[e] + *in;
        }
    }
    free(wire);
}

static void run(struct world *w)
{
    int64_t sent[64] = { 0 };
    struct ty_plan first = plan_of(w, 0);
    int steps = ty_plan_steps(&first);

    for (int rank = 0; rank < w->n; rank++) {
        struct ty_plan p = plan_of(w, rank);

        assert_int_equal(ty_plan_steps(&p), steps);
    }
    for (int k = 0; k < steps; k++)
        run_step(w, k, sent);
    w->most_sent = 0;
    for (int rank = 0; rank < w->n; rank++)
        w->most_sent = sent[rank] > w->most_sent ? sent[rank] : w->most_sent;
}

static void check_sums(enum ty_plan_kind kind, int n, int64_t count, uint64_t *seed)
{
    struct world w = { .kind = kind, .n = n, .count = count };
    size_t total = (size_t)(count * n);
    double *sum = calloc((size_t)count + 1, sizeof *sum),
           *size = calloc((size_t)count + 1, sizeof *size);

    w.data = malloc((total + 1) * sizeof *w.data);
    for (size_t i = 0; i < total; i++) {
        w.data[i] = any_float(seed);
        sum[i % (size_t)count] += w.data[i];
        size[i % (size_t)count] += fabs((double)w.data[i]);
    }
    run(&w);
    for (int rank = 1; rank < n; rank++)
        assert_memory_equal(w.data, w.data + rank * count, (size_t)count * sizeof *w.data);
    for (int64_t e = 0; e < count; e++)
        if (fabs((double)w.data[e] - sum[e]) > n * (double)FLT_EPSILON * size[e])
            fail_msg("%s, %d ranks, element %lld: %g for %g", ty_plan_word(kind), n, (long long)e,
                     (double)w.data[e], sum[e]);
    free(w.data);
    free(sum);
    free(size);
}

static void test_every_rank_gets_the_sum(void **state)
{
    uint64_t seed = 20260715;

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int n = 1; n <= 17; n++) {
            for (int64_t count = 0; count <= 100; count++)
                check_sums((enum ty_plan_kind)kind, n, count, &seed);
            for (int i = 0; i < 4; i++)
                check_sums((enum ty_plan_kind)kind, n, 1000 + tests_random(&seed) % 20000, &seed);
        }
}

static void test_more_ranks(void **state)
{
    static const int sizes[] = { 24, 31, 32, 33, 48, 63 };
    uint64_t seed = 7;

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int64_t count = 1; count < 4000; count = count * 3 + 1)
                check_sums((enum ty_plan_kind)kind, sizes[i], count, &seed);
}

static int log2_up(int n)
{
    int k = 0;

    while (1 << k < n)
        k++;
    return k;
}

/* Steps and bytes are what the algorithms promise, for powers of 2 and for all others. */
static void test_costs(void **state)
{
    (void)state;
    for (int n = 2; n <= 40; n++) {
        int64_t count = (int64_t)n * 64;
        struct world w = { .n = n, .count = count };
        int64_t least = 2 * (count - count / n);
        bool power = (n & (n - 1)) == 0;

        w.data = calloc((size_t)(count * n), sizeof *w.data);
        for (int kind = 0; kind < TY_PLAN_KINDS; kind++) {
            w.kind = (enum ty_plan_kind)kind;
            struct ty_plan p = plan_of(&w, 0);

            run(&w);
            switch (w.kind) {
            case TY_PLAN_RECURSIVE_DOUBLING:
                assert_int_equal(ty_plan_steps(&p), power ? log2_up(n) : log2_up(n) + 1);
                assert_int_equal(w.most_sent, count * log2_up(n));
                break;
            case TY_PLAN_HALVING_DOUBLING:
                assert_int_equal(ty_plan_steps(&p), 2 * log2_up(n));
                assert_int_equal(w.most_sent, least);
                break;
            case TY_PLAN_RING:
            default:
                assert_int_equal(ty_plan_steps(&p), 2 * (n - 1));
                assert_int_equal(w.most_sent, least);
            }
        }
        free(w.data);
    }
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++) {
        struct ty_plan alone = { .kind = (enum ty_plan_kind)kind, .rank = 0, .n = 1, .count = 5 };
        struct ty_plan empty = { .kind = (enum ty_plan_kind)kind, .rank = 3, .n = 7, .count = 0 };

        assert_int_equal(ty_plan_steps(&alone), 0);
        assert_int_equal(ty_plan_steps(&empty), 0);
    }
    assert_string_equal(ty_plan_word(TY_PLAN_RING), "ring");
    assert_null(ty_plan_word(TY_PLAN_KINDS));
}

/* More elements than 2^31, and more than 2^31 bytes of nodes times blocks: ranges stay whole. */
static void test_huge_counts(void **state)
{
    const int64_t count = INT64_C(5000000000001);

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int n = 2; n < 4100; n = n * 3 / 2 + 1) {
            struct ty_plan p = {
                .kind = (enum ty_plan_kind)kind, .rank = n - 1, .n = n, .count = count
            };
            int64_t sent = 0;

            for (int k = 0; k < ty_plan_steps(&p); k++) {
                struct ty_step s;

                ty_plan_step(&p, k, &s);
                for (int i = 0; i < 2; i++) {
                    assert_true(s.send[i].count >= 0 && s.send[i].at + s.send[i].count <= count);
                    assert_true(s.recv[i].count >= 0 && s.recv[i].at + s.recv[i].count <= count);
                    sent += s.send[i].count;
                }
            }
            if (p.kind != TY_PLAN_RECURSIVE_DOUBLING)
                assert_true(llabs(sent - 2 * (count - count / n)) <= 4 * n);
        }
}

/* Halving goes to the nearest ranks first, so that with ranks in racks most bytes stay in the rack. */
static void test_near_ranks_get_the_large_messages(void **state)
{
    struct ty_plan p = { .kind = TY_PLAN_HALVING_DOUBLING, .n = 96, .count = 96 * 64 };
    int64_t far = 0, all = 0;

    (void)state;
    for (p.rank = 0; p.rank < p.n; p.rank++)
        for (int k = 0; k < ty_plan_steps(&p); k++) {
            struct ty_step s;

            ty_plan_step(&p, k, &s);
            all += size_of(s.send);
            if (s.to / 32 != p.rank / 32)
                far += size_of(s.send);
        }
    assert_true(far * 20 < all);
    assert_true(far > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rank_gets_the_sum),
        cmocka_unit_test(test_more_ranks),
        cmocka_unit_test(test_costs),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_huge_counts),
        cmocka_unit_test(test_near_ranks_get_the_large_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
