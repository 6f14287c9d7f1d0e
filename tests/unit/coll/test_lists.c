/* What is decided when ranks do not want the same: every kind of difference, in words; joins; names; what waits. */
#include "coll/lists.h"
#include "coll/req.h"
#include "tests.h"

#define RANKS 3

static const int world[RANKS] = { 2, 5, 9 };
static float data[64];

/* Requests of a rank, in the order of submission. */
struct rank {
    struct ty_req req[8];
    int n;
};

static bool anyone(void *ctx, int rank)
{
    (void)ctx;
    return rank < 10;
}

static void want_call(struct rank *r, const struct ty_coll_call *call)
{
    struct ty_req *q = &r->req[r->n++];
    struct ty_error err = { 0 };

    if (ty_req_init(q, call, RANKS, anyone, NULL, &err) < 0)
        fail_msg("%s", err.text);
    if (r->n > 1)
        q[-1].next = q;
}

static struct ty_coll_call a_call(enum ty_coll_kind kind, const char *name, struct ty_coll_buf *b)
{
    return (struct ty_coll_call){ .kind = kind,
                                  .name = name,
                                  .dtype = TY_COLL_F32,
                                  .op = TY_COLL_SUM,
                                  .in = b,
                                  .out = b,
                                  .nbufs = 1,
                                  .root = 2 };
}

static void want(struct rank *r, enum ty_coll_kind kind, const char *name)
{
    static const int64_t dims[] = { 4, 3 };
    struct ty_coll_buf b = { .data = data, .count = 12, .ndims = 2, .dims = dims };
    struct ty_coll_call call = a_call(kind, name, &b);

    want_call(r, &call);
}

/* Decide as all ranks do, through the bytes. */
static void decide(struct rank *r, struct ty_list *lists, struct ty_decisions *d)
{
    for (int i = 0; i < RANKS; i++) {
        void *bytes, *tight;
        size_t n;

        assert_int_equal(ty_list_write(r[i].n ? r[i].req : NULL, 1000000, &bytes, &n), 0);
        tight = tests_tight(bytes, n);
        assert_int_equal(ty_list_read(tight, n, &lists[i]), 0);
        for (size_t cut = 0; cut < n; cut++) { /* what was cut off is no list */
            struct ty_list l;
            void *part = tests_tight(bytes, cut);

            assert_int_equal(ty_list_read(part, cut, &l), -EPROTO);
            free(part);
        }
        free(bytes);
        free(tight);
    }
    assert_int_equal(ty_lists_decide(lists, RANKS, world, d), 0);
}

static void done(struct rank *r, struct ty_list *lists, struct ty_decisions *d)
{
    ty_decisions_done(d);
    for (int i = 0; i < RANKS; i++) {
        ty_list_done(&lists[i]);
        for (int k = 0; k < r[i].n; k++)
            ty_req_done(&r[i].req[k]);
        r[i].n = 0;
    }
}

/* The one decision is an error with these words. */
static void refused(struct rank *r, const char *const *words)
{
    struct ty_list lists[RANKS];
    struct ty_decisions d;

    decide(r, lists, &d);
    assert_int_equal(d.n, 1);
    assert_non_null(d.at[0].error);
    for (; *words; words++)
        if (!strstr(d.at[0].error, *words))
            fail_msg("'%s' is not in: %s", *words, d.at[0].error);
    done(r, lists, &d);
}

/* So many run, and so many wait. */
static void runs(struct rank *r, int n, int waiting)
{
    struct ty_list lists[RANKS];
    struct ty_decisions d;

    decide(r, lists, &d);
    assert_int_equal(d.n, n);
    assert_int_equal(d.waiting, waiting);
    for (int i = 0; i < n; i++)
        assert_null(d.at[i].error);
    done(r, lists, &d);
}

static void agreement(void **state)
{
    static struct rank r[RANKS];

    (void)state;
    runs(r, 0, 0);
    for (int i = 0; i < RANKS; i++) { /* other orders */
        want(&r[i], TY_COLL_ALLREDUCE, i == 1 ? "b" : "a");
        want(&r[i], TY_COLL_ALLREDUCE, i == 1 ? "a" : "b");
        if (i)
            want(&r[i], TY_COLL_ALLGATHER, "c");
    }
    want(&r[0], TY_COLL_BROADCAST, "d");
    runs(r, 2, 1);
}

static void order_of_the_first(void **state)
{
    static struct rank r[RANKS];
    struct ty_list lists[RANKS];
    struct ty_decisions d;

    (void)state;
    for (int i = 0; i < RANKS; i++) {
        want(&r[i], TY_COLL_ALLREDUCE, i ? "b" : "a");
        want(&r[i], TY_COLL_ALLREDUCE, i ? "a" : "b");
    }
    decide(r, lists, &d);
    assert_string_equal(d.at[0].entry->name, "a");
    assert_string_equal(d.at[1].entry->name, "b");
    done(r, lists, &d);
}

/* One rank differs in one thing. */
static void differ(const struct ty_coll_call *usual, const struct ty_coll_call *odd,
                   const char *const *words)
{
    static struct rank r[RANKS];

    for (int i = 0; i < RANKS; i++)
        want_call(&r[i], i == 1 ? odd : usual);
    refused(r, words);
}

static void differences(void **state)
{
    static const int64_t dims[] = { 4, 3 }, turned[] = { 3, 4 }, flat[] = { 12 };
    struct ty_coll_buf b[3] = { { .data = data, .count = 12, .ndims = 2, .dims = dims },
                                { .data = data, .count = 5 },
                                { .data = data, .count = 5 } };
    struct ty_coll_buf c[3] = { b[0], b[1], b[2] };
    struct ty_coll_call usual = a_call(TY_COLL_ALLREDUCE, "x", b),
                        odd = a_call(TY_COLL_ALLREDUCE, "x", c);

    (void)state;
    odd.dtype = TY_COLL_F16;
    differ(&usual, &odd,
           (const char *[]){ "allreduce 'x'", "mismatched data types", "rank 2 gave float32",
                             "rank 5 float16", NULL });
    odd = a_call(TY_COLL_ALLREDUCE, "x", c);
    odd.op = TY_COLL_MAX;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "mismatched reduction operations", "rank 2 gave sum",
                             "rank 5 max", NULL });
    odd = a_call(TY_COLL_ALLREDUCE, "x", c);
    odd.prescale = 0.5;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "mismatched prescale factors", "rank 2 gave 1", "rank 5 0.5",
                             NULL });
    odd = a_call(TY_COLL_ALLREDUCE, "x", c);
    odd.postscale = 2;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "mismatched postscale factors", "rank 2 gave 1", "rank 5 2",
                             NULL });
    odd = a_call(TY_COLL_ALLREDUCE, "x", c);
    odd.device = 1;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "mixed devices", "rank 2 gave a tensor on the CPU",
                             "rank 5 on the GPU", NULL });
    odd = a_call(TY_COLL_ALLREDUCE, "x", c);
    c[0].dims = turned;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "mismatched allreduce tensor shapes", "rank 2 gave [4, 3]",
                             "rank 5 [3, 4]", NULL });
    c[0].dims = flat;
    c[0].ndims = 1;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "shapes", "rank 2 gave [4, 3]", "rank 5 [12]", NULL });
    c[0] = b[0];
    odd.nbufs = 2;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "mismatched group sizes", "rank 2 gave 1", "rank 5 2", NULL });
    usual.nbufs = odd.nbufs = 3;
    c[2].count = 4;
    differ(&usual, &odd,
           (const char *[]){ "'x'", "its tensor 2", "rank 2 gave 5 elements", "rank 5 4", NULL });
    usual = a_call(TY_COLL_BROADCAST, "x", b);
    odd = a_call(TY_COLL_BROADCAST, "x", c);
    odd.root = 5;
    differ(&usual, &odd,
           (const char *[]){ "broadcast 'x'", "mismatched root ranks", "rank 2 gave 2", "rank 5 5",
                             NULL });
    usual = a_call(TY_COLL_ALLREDUCE, NULL, b);
    odd = a_call(TY_COLL_ALLREDUCE, NULL, c);
    odd.dtype = TY_COLL_I64;
    differ(&usual, &odd, (const char *[]){ "an unnamed allreduce", "rank 5 int64", NULL });
}

/* Scalars and tensors whose dimensions are not known: counts. */
static void counts_without_dims(void **state)
{
    struct ty_coll_buf b = { .data = data, .count = 5 }, c = { .data = data, .count = 6 };
    struct ty_coll_call usual = a_call(TY_COLL_ALLREDUCE, "x", &b),
                        odd = a_call(TY_COLL_ALLREDUCE, "x", &c);

    (void)state;
    differ(&usual, &odd, (const char *[]){ "'x'", "rank 2 gave 5", "rank 5 6", NULL });
}

/* Rows may differ where they are cut. */
static void rows_are_free(void **state)
{
    static struct rank r[RANKS];
    int64_t dims[2] = { 0, 3 }, other[2] = { 2, 4 };

    (void)state;
    for (int i = 0; i < RANKS; i++) {
        struct ty_coll_buf b = { .data = data, .ndims = 2, .dims = dims };
        struct ty_coll_call call = a_call(TY_COLL_ALLGATHER, "x", &b);

        dims[0] = i;
        b.count = 3 * i;
        want_call(&r[i], &call);
    }
    runs(r, 1, 0);
    for (int i = 0; i < RANKS; i++) {
        struct ty_coll_buf b = {
            .data = data, .count = i == 2 ? 8 : 3, .ndims = 2, .dims = i == 2 ? other : dims
        };
        struct ty_coll_call call = a_call(TY_COLL_ALLGATHER, "x", &b);

        dims[0] = 1;
        want_call(&r[i], &call);
    }
    refused(r, (const char *[]){ "mismatched allgather tensor shapes", "rank 2 gave",
                                 "rank 9 [2, 4]", NULL });
}

static void names(void **state)
{
    static struct rank r[RANKS];

    (void)state;
    /* One rank calls something else by that name. */
    for (int i = 0; i < RANKS; i++)
        want(&r[i], i == 2 ? TY_COLL_BROADCAST : TY_COLL_ALLREDUCE, "x");
    refused(r, (const char *[]){ "'x'", "mismatched operations", "rank 2 called allreduce",
                                 "rank 9 broadcast", NULL });
    /* It may still come, for the third has not spoken. */
    for (int i = 0; i < 2; i++)
        want(&r[i], i ? TY_COLL_BROADCAST : TY_COLL_ALLREDUCE, "x");
    runs(r, 0, 1);
    /* Both are there, or will be. */
    for (int i = 0; i < RANKS; i++) {
        want(&r[i], TY_COLL_BROADCAST, "x");
        if (i == 0)
            want(&r[i], TY_COLL_ALLREDUCE, "x");
    }
    runs(r, 1, 1);
    for (int i = 0; i < RANKS; i++) {
        want(&r[i], i ? TY_COLL_BROADCAST : TY_COLL_ALLREDUCE, "x");
        want(&r[i], i ? TY_COLL_ALLREDUCE : TY_COLL_BROADCAST, "x");
    }
    runs(r, 2, 0);
}

/* Unnamed ones pair by how many of their kind came before. */
static void unnamed(void **state)
{
    static struct rank r[RANKS];

    (void)state;
    for (int i = 0; i < RANKS; i++) {
        if (i)
            want(&r[i], TY_COLL_BROADCAST, NULL);
        want(&r[i], TY_COLL_ALLREDUCE, NULL);
        want(&r[i], TY_COLL_ALLREDUCE, "named");
        if (i != 1)
            want(&r[i], TY_COLL_ALLREDUCE, NULL);
        if (!i)
            want(&r[i], TY_COLL_BROADCAST, NULL);
    }
    runs(r, 3, 1); /* the second allreduce waits for rank 5 */
}

static void joined(void **state)
{
    static const struct ty_coll_call join = { .kind = TY_COLL_JOIN };
    static struct rank r[RANKS];
    struct ty_list lists[RANKS];
    struct ty_decisions d;
    int missing[RANKS];

    (void)state;
    /* The first has joined: the others' allreduce runs, as does a barrier. */
    want_call(&r[0], &join);
    for (int i = 1; i < RANKS; i++) {
        want(&r[i], TY_COLL_ALLREDUCE, "x");
        want(&r[i], TY_COLL_BARRIER, NULL);
    }
    want(&r[1], TY_COLL_ALLREDUCE, "y");
    decide(r, lists, &d);
    assert_int_equal(d.n, 2);
    assert_null(d.at[0].error);
    assert_null(d.at[1].error);
    assert_int_equal(d.waiting, 1);
    assert_int_equal(d.last_joined, -1);
    assert_int_equal(
        ty_lists_missing(lists, RANKS, world, ty_list_pairing(&r[1].req[2], 0), missing), 1);
    assert_int_equal(missing[0], 9);
    done(r, lists, &d);

    /* What needs its data is refused. */
    want_call(&r[0], &join);
    for (int i = 1; i < RANKS; i++)
        want(&r[i], TY_COLL_ALLGATHER, "x");
    refused(r, (const char *[]){ "allgather 'x'", "not supported with join", "rank 2 has joined",
                                 NULL });

    /* All have: the last one is known. */
    for (int i = 0; i < RANKS; i++) {
        want_call(&r[i], &join);
        r[i].req[0].submitted_us = i == 1 ? 900000 : 500000;
    }
    decide(r, lists, &d);
    assert_int_equal(d.n, 0);
    assert_int_equal(d.last_joined, 1);
    done(r, lists, &d);
}

static void no_lists(void **state)
{
    unsigned char bytes[64] = { 0 };
    struct ty_list l;

    (void)state;
    assert_int_equal(ty_list_read(NULL, 0, &l), -EPROTO);
    assert_int_equal(ty_list_read(bytes, sizeof bytes, &l), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agreement),     cmocka_unit_test(order_of_the_first),
        cmocka_unit_test(differences),   cmocka_unit_test(counts_without_dims),
        cmocka_unit_test(rows_are_free), cmocka_unit_test(names),
        cmocka_unit_test(unnamed),       cmocka_unit_test(joined),
        cmocka_unit_test(no_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
