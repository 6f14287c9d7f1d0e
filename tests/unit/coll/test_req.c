/* Calls that are refused, what a digest covers, and ranges over many tensors. */
#include "coll/req.h"
#include "tests.h"

static float data[256];
static const int64_t dims[] = { 4, 3 };

static bool below_ten(void *ctx, int rank)
{
    (void)ctx;
    return rank >= 0 && rank < 10;
}

static struct ty_coll_buf usual_buf = { .data = data, .count = 12, .ndims = 2, .dims = dims };

static struct ty_coll_call usual(enum ty_coll_kind kind)
{
    return (struct ty_coll_call){ .kind = kind,
                                  .name = "layer.weight",
                                  .dtype = TY_COLL_F32,
                                  .op = TY_COLL_SUM,
                                  .in = &usual_buf,
                                  .out = &usual_buf,
                                  .nbufs = 1 };
}

static void refused(const struct ty_coll_call *call, int size, int code, const char *words)
{
    struct ty_req r;
    struct ty_error err = { 0 };

    assert_int_equal(ty_req_init(&r, call, size, below_ten, NULL, &err), code);
    if (!strstr(err.text, words))
        fail_msg("'%s' is not in: %s", words, err.text);
}

static void refusals(void **state)
{
    struct ty_coll_call c = usual(TY_COLL_ALLREDUCE);
    struct ty_coll_buf b = usual_buf;
    int64_t wrong[] = { 4, -3 }, splits[] = { 1, 2, 3 };

    (void)state;
    c.kind = TY_COLL_KINDS;
    refused(&c, 3, -EINVAL, "of kind 9");
    c = usual(TY_COLL_ALLREDUCE);
    c.dtype = TY_COLL_DTYPES;
    refused(&c, 3, -EINVAL, "cannot submit allreduce 'layer.weight': there is no such dtype");
    c = usual(TY_COLL_ALLREDUCE);
    c.nbufs = 0;
    refused(&c, 3, -EINVAL, "no tensors");
    c = usual(TY_COLL_ALLREDUCE);
    c.out = NULL;
    refused(&c, 3, -EINVAL, "no outputs");
    c = usual(TY_COLL_ALLREDUCE);
    c.op = TY_COLL_OPS;
    refused(&c, 3, -EINVAL, "no such reduction");
    c.op = TY_COLL_ADASUM;
    refused(&c, 3, -ENOTSUP, "power of two");
    c.dtype = TY_COLL_I32;
    refused(&c, 4, -ENOTSUP, "floating type");
    c = usual(TY_COLL_REDUCESCATTER);
    c.op = TY_COLL_MAX;
    refused(&c, 4, -ENOTSUP, "sum and average only");
    c = usual(TY_COLL_BROADCAST);
    c.root = 10;
    refused(&c, 4, -EINVAL, "root");
    c = usual(TY_COLL_SET_ADD);
    refused(&c, 4, -EINVAL, "needs ranks");
    c = usual(TY_COLL_ALLREDUCE);
    c.in = &b;
    b.count = -1;
    refused(&c, 4, -EINVAL, "negative count");
    b.count = 13;
    refused(&c, 4, -EINVAL, "not the product");
    b = usual_buf;
    b.dims = wrong;
    refused(&c, 4, -EINVAL, "negative or too large");
    wrong[0] = wrong[1] = INT64_MAX;
    refused(&c, 4, -EINVAL, "negative or too large");
    b = usual_buf;
    b.ndims = TY_COLL_DIMS + 1;
    refused(&c, 4, -EINVAL, "more dimensions");
    b = usual_buf;
    b.data = NULL;
    refused(&c, 4, -EINVAL, "no data");
    c.in = &usual_buf;
    c.out = &b;
    refused(&c, 4, -EINVAL, "an output has no data");
    c.kind = TY_COLL_REDUCESCATTER; /* each of 4 ranks gets a row */
    refused(&c, 4, -EINVAL, "an output has no data");
    c = usual(TY_COLL_ALLGATHER);
    b = (struct ty_coll_buf){ .data = data, .count = 1 };
    c.in = &b;
    refused(&c, 4, -EINVAL, "rank-zero tensor");
    c = usual(TY_COLL_ALLTOALL);
    refused(&c, 3, -EINVAL, "divisible");
    c.splits = splits;
    refused(&c, 3, -EINVAL, "more than the first dimension");
    splits[1] = -2;
    refused(&c, 3, -EINVAL, "negative");
}

static uint64_t digest(const struct ty_coll_call *call, int set)
{
    struct ty_coll_call c = *call;
    struct ty_req r;
    uint64_t d;

    c.set = set;
    assert_int_equal(ty_req_init(&r, &c, 4, below_ten, NULL, NULL), 0);
    assert_int_equal(r.marked, 0);
    d = r.digest;
    ty_req_done(&r);
    return d;
}

/* All of these differ, and each is the same every time. */
static void digests(void **state)
{
    static const int64_t turned[] = { 3, 4 }, one[] = { 12 };
    struct ty_coll_buf b[4] = { usual_buf, usual_buf, usual_buf, usual_buf };
    struct ty_coll_call c[12];
    uint64_t d[12];

    (void)state;
    for (int i = 0; i < 12; i++)
        c[i] = usual(TY_COLL_ALLREDUCE);
    c[1].name = NULL;
    c[2].name = "layer.bias";
    c[3].dtype = TY_COLL_F64;
    c[4].op = TY_COLL_AVERAGE;
    c[5].prescale = 2;
    c[6].postscale = 2;
    c[7].device = 1;
    c[8].in = &b[0];
    b[0].dims = turned;
    c[9].in = &b[1];
    b[1].ndims = 1;
    b[1].dims = one;
    c[10].in = c[10].out = &b[2];
    c[10].nbufs = 2;
    c[11] = usual(TY_COLL_BROADCAST);
    for (int i = 0; i < 12; i++) {
        d[i] = digest(&c[i], 0);
        assert_true(d[i] != 0 && digest(&c[i], 0) == d[i]);
        for (int k = 0; k < i; k++)
            assert_true(d[i] != d[k]);
    }
    c[11].root = 1;
    assert_true(digest(&c[11], 0) != d[11]);
    c[0].root = 1; /* of no meaning */
    c[0].prescale = c[0].postscale = 1;
    assert_true(digest(&c[0], 0) == d[0]);
    c[0] = usual(TY_COLL_SET_REMOVE);
    assert_true(digest(&c[0], 1) != digest(&c[0], 2));
    c[0] = usual(TY_COLL_ALLGATHER); /* rows are free */
    c[1] = c[0];
    b[3].count = 6;
    b[3].dims = (const int64_t[]){ 2, 3 };
    c[1].in = &b[3];
    assert_true(digest(&c[0], 0) == digest(&c[1], 0));
    c[1].kind = c[0].kind = TY_COLL_ALLREDUCE;
    assert_true(digest(&c[0], 0) != digest(&c[1], 0));
}

/* The order of ranks does not matter. */
static void sets(void **state)
{
    struct ty_coll_call a = { .kind = TY_COLL_SET_ADD,
                              .ranks = (const int[]){ 3, 1, 2 },
                              .nranks = 3 };
    struct ty_coll_call b = { .kind = TY_COLL_SET_ADD,
                              .ranks = (const int[]){ 1, 2, 3 },
                              .nranks = 3 };
    struct ty_coll_call c = { .kind = TY_COLL_SET_ADD,
                              .ranks = (const int[]){ 1, 2 },
                              .nranks = 2 };

    (void)state;
    assert_true(digest(&a, 0) == digest(&b, 0));
    assert_true(digest(&a, 0) != digest(&c, 0));
}

/* A request keeps what it was given, however long it is. */
static void copies(void **state)
{
    enum { N = 500 };
    struct ty_coll_buf b[N];
    char name[] = "a name that is long enough to be seen when it is not copied";
    int64_t d[2] = { 1, 2 };
    struct ty_coll_call c = {
        .kind = TY_COLL_ALLREDUCE, .name = name, .dtype = TY_COLL_F32, .in = b, .out = b, .nbufs = N
    };
    struct ty_req r;

    (void)state;
    for (int i = 0; i < N; i++)
        b[i] = (struct ty_coll_buf){ .data = data, .count = 2, .ndims = 2, .dims = d };
    assert_int_equal(ty_req_init(&r, &c, 4, below_ten, NULL, NULL), 0);
    memset(b, 0, sizeof b);
    memset(name, 0, sizeof name);
    d[0] = d[1] = 0;
    assert_string_equal(r.name, "a name that is long enough to be seen when it is not copied");
    assert_int_equal(r.count, 2 * N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(r.seg[i].at, 2 * i);
        assert_int_equal(r.seg[i].dims[1], 2);
        assert_int_equal(ty_seg_row(&r.seg[i]), 2);
    }
    ty_req_done(&r);
}

/* Ranges of many tensors, empty ones among them, against plain copies. */
static void ranges(void **state)
{
    enum { N = 17, ALL = 60 };
    static const int counts[N] = { 0, 3, 0, 0, 1, 10, 2, 0, 7, 1, 1, 0, 20, 5, 9, 1, 0 };
    int32_t in[ALL], out[ALL], flat[ALL];
    struct ty_coll_buf b[N], o[N];
    struct ty_coll_call c = {
        .kind = TY_COLL_ALLREDUCE, .dtype = TY_COLL_I32, .in = b, .out = o, .nbufs = N
    };
    struct ty_req r;
    int at = 0;

    (void)state;
    for (int i = 0; i < N; at += counts[i++]) {
        b[i] = (struct ty_coll_buf){ .data = in + at, .count = counts[i] };
        o[i] = (struct ty_coll_buf){ .data = out + at, .count = counts[i] };
    }
    assert_int_equal(at, ALL);
    for (int i = 0; i < ALL; i++)
        in[i] = i + 1;
    assert_int_equal(ty_req_init(&r, &c, 4, below_ten, NULL, NULL), 0);
    for (int from = 0; from <= ALL; from++)
        for (int n = 0; from + n <= ALL; n++) {
            memset(flat, 0, sizeof flat);
            memset(out, 0, sizeof out);
            ty_req_load(&r, from, n, flat, n % 2 ? 1 : 2, n % 3 == 0);
            for (int i = 0; i < n; i++)
                assert_int_equal(flat[i], (from + i + 1) * (n % 2 ? 1 : 2));
            ty_req_store(&r, from, n, flat);
            for (int i = 0; i < ALL; i++)
                assert_int_equal(out[i], i >= from && i < from + n ? (i + 1) * (n % 2 ? 1 : 2) : 0);
        }
    for (int i = 0; i < ALL; i++) {
        int s = ty_req_seg(&r, i);

        assert_true(r.seg[s].at <= i && i < r.seg[s].at + r.seg[s].count);
    }
    ty_req_done(&r);
}

static void titles(void **state)
{
    char buf[64], few[12];

    (void)state;
    assert_string_equal(ty_req_title(TY_COLL_BROADCAST, "w", buf, sizeof buf), "broadcast 'w'");
    assert_string_equal(ty_req_title(TY_COLL_ALLTOALL, NULL, buf, sizeof buf),
                        "an unnamed alltoall");
    assert_string_equal(ty_req_title(TY_COLL_ALLREDUCE, "long", few, sizeof few), "allreduce '");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals), cmocka_unit_test(digests), cmocka_unit_test(sets),
        cmocka_unit_test(copies),   cmocka_unit_test(ranges),  cmocka_unit_test(titles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
