/* Every operation on every type, at the sizes where the engine changes its way: compared between ranks bit for bit, and
 * with float64 to within rounding. */
#include "coll/engine.h"
#include "tests.h"
#include "values.h"
#include "world.h"
#include <sys/mman.h>
#include <unistd.h>

#define TYPES (WORLD_THIN > 1 ? 3 : 1) /* every so manieth */

static const struct way {
    const char *what;
    int path; /* -1: as tuned */
    bool arena, apart;
} ways[] = {
    { "as tuned", -1, false, false },
    { "each", TY_PATH_EACH, false, true },
    { "each-stream", TY_PATH_EACH_STREAM, false, false },
    { "slices", TY_PATH_SLICES, false, false },
    { "slices-stream", TY_PATH_SLICES_STREAM, false, true },
    { "cma", TY_PATH_CMA, false, false },
    { "cma apart", TY_PATH_CMA, false, true },
    { "arena", -1, true, false },
    { "arena apart", -1, true, true },
};
#define WAYS ((int)(sizeof ways / sizeof *ways))

/* Elements of `size` bytes: around every switch point. */
static int sizes(size_t size, int64_t *ret)
{
    static const int64_t bytes[] = { TY_DIRECT_BYTES, TY_INLINE_BYTES, 64 << 10,
                                     128 << 10,       1 << 20,         5 << 19 };
    int n = 0;

    ret[n++] = 0;
    ret[n++] = 1;
    ret[n++] = 7;
    ret[n++] = 65;
    for (int i = 0; i < 6; i++)
        for (int d = -1; d <= 1; d++)
            ret[n++] = bytes[i] / (int64_t)size + d;
    return n;
}

static void *memory(struct world_rank *r, bool arena, size_t bytes)
{
    void *p = arena ? ty_coll_arena_alloc(r->c, bytes) : aligned_alloc(64, (bytes + 64) / 64 * 64);

    CHECK(p != NULL);
    return p;
}
static void release(struct world_rank *r, bool arena, void *p)
{
    if (arena)
        ty_coll_arena_free(r->c, p);
    else
        free(p);
}

/* All ranks have the same bytes: by a hash of them. */
static void same_everywhere(struct world_rank *r, int set, const void *p, size_t n)
{
    uint64_t h = 0, low, high;
    const unsigned char *b = p;
    struct ty_coll_buf buf[2] = { { .data = &low, .count = 1 }, { .data = &high, .count = 1 } };
    struct ty_coll_call call = {
        .kind = TY_COLL_ALLREDUCE, .dtype = TY_COLL_I64, .set = set, .nbufs = 1
    };

    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = 0;

        memcpy(&x, b + i, n - i < 8 ? n - i : 8);
        h = (h ^ x) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    low = high = h >> 1;
    call.in = call.out = &buf[0];
    call.op = TY_COLL_MIN;
    CHECK(ty_coll_do(r->c, &call, NULL, NULL) == 0);
    call.in = call.out = &buf[1];
    call.op = TY_COLL_MAX;
    CHECK(ty_coll_do(r->c, &call, NULL, NULL) == 0);
    CHECK(low == high);
}

static void do_call(struct world_rank *r, const struct ty_coll_call *call,
                    struct ty_coll_result *ret)
{
    struct ty_error err = { 0 };
    int64_t h;

    if (r->seed++ % 2) {
        if (ty_coll_do(r->c, call, ret, &err) < 0)
            world_failed(r->w, r->rank, err.text, __FILE__, __LINE__);
        return;
    }
    h = ty_coll_submit(r->c, call, &err);
    if (h < 0 || ty_coll_wait(r->c, h, ret, &err) < 0)
        world_failed(r->w, r->rank, err.text, __FILE__, __LINE__);
}

static void allreduce(struct world_rank *r, enum ty_coll_dtype t, enum ty_coll_op op, int64_t n,
                      const struct way *w)
{
    static const double scales[] = { 0, 1, 0.5, 2 };
    static const int ranks[] = { 0, 1, 2, 3 };
    uint64_t seed = r->w->seed + (uint64_t)n * 64 + t * 8 + op;
    size_t bytes = (size_t)n * ty_coll_dtype_size(t);
    unsigned char *in = memory(r, w->arena, bytes),
                  *out = w->apart ? memory(r, w->arena, bytes) : in;
    struct ty_coll_buf from = { .data = in, .count = n }, to = { .data = out, .count = n };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = op % 2 ? "x" : NULL,
                                 .dtype = t,
                                 .op = op,
                                 .prescale = t == TY_COLL_BOOL ? 1 : scales[seed % 4],
                                 .postscale = t == TY_COLL_BOOL ? 1 : scales[seed / 4 % 4],
                                 .in = &from,
                                 .out = &to,
                                 .nbufs = 1 };
    double pre = call.prescale ? call.prescale : 1, post = call.postscale ? call.postscale : 1;
    double want[PERIOD], slack[PERIOD];

    fill(t, in, n, seed, r->rank);
    do_call(r, &call, NULL);
    for (int64_t k = 0; k < n && k < PERIOD; k++)
        want[k] = reduced(t, op, seed, ranks, r->size, k, pre, post, &slack[k]);
    for (int64_t k = 0; k < n; k++) {
        double got = load(t, out, k), off = got - want[k % PERIOD];

        if (fabs(off) > slack[k % PERIOD]) {
            fprintf(stderr, "%s %s %d, %lld elements, %s: element %lld is %g, not %g (%g off)\n",
                    ty_coll_kind_name(0), ty_coll_dtype_name(t), op, (long long)n, w->what,
                    (long long)k, got, want[k % PERIOD], off);
            CHECK(!"the sum");
        }
        if (w->apart && n < 100)
            CHECK(load(t, in, k) == value(t, seed, r->rank, k));
    }
    same_everywhere(r, 0, out, bytes);
    release(r, w->arena, in);
    if (w->apart)
        release(r, w->arena, out);
}

static const enum ty_coll_op reductions[] = { TY_COLL_AVERAGE, TY_COLL_SUM, TY_COLL_MIN,
                                              TY_COLL_MAX, TY_COLL_PRODUCT };

static void all_allreduces(struct world_rank *r)
{
    int turn = 0;

    for (int w = 0; w < WAYS; w++) {
        unsigned char tuned[64];

        memcpy(tuned, r->c->paths, sizeof tuned);
        if (ways[w].path >= 0)
            memset(r->c->paths, ways[w].path, sizeof tuned);
        for (int t = 0; t < TY_COLL_DTYPES; t++)
            for (int o = 0; o < 5; o++) {
                int64_t all[32];
                int n = sizes(ty_coll_dtype_size((enum ty_coll_dtype)t), all);

                for (int i = 0; i < n; i++)
                    if ((i < 4 && WORLD_THIN == 1 && ways[w].path < 0) ||
                        turn++ % (37 * WORLD_THIN) == 0)
                        allreduce(r, (enum ty_coll_dtype)t, reductions[o], all[i], &ways[w]);
            }
        memcpy(r->c->paths, tuned, sizeof tuned);
    }
}

static void run_worlds(void (*body)(struct world_rank *), int from, int to)
{
    static const char *const two[] = { "a", "a", "b", "b" }, *const uneven[] = { "a", "b", "a" },
                             *const each[] = { "a", "b", "c", "d" };

    for (int n = WORLD_THIN > 4 ? to : from; n <= to; n++)
        world_threads(&(struct world){ .size = n, .seed = (uint64_t)n }, body);
    world_threads(&(struct world){ .size = 4, .seed = 11, .node = two }, body);
    world_threads(&(struct world){ .size = 3, .seed = 12, .node = uneven }, body);
    world_threads(&(struct world){ .size = 2, .seed = 13, .node = each }, body);
}

static void allreduces(void **state)
{
    (void)state;
    run_worlds(all_allreduces, 1, 4);
    world_threads(
        &(struct world){ .size = 3, .seed = 12, .node = (const char *const[]){ "a", "b", "c" } },
        all_allreduces);
}

/* ---- groups ---- */

#define GROUP 40

static void group(struct world_rank *r, enum ty_coll_dtype t, int64_t most, bool arena)
{
    static const int ranks[] = { 0, 1, 2, 3 };
    struct ty_coll_buf b[GROUP];
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = "group",
                                 .dtype = t,
                                 .op = TY_COLL_SUM,
                                 .in = b,
                                 .out = b,
                                 .nbufs = GROUP };
    uint64_t seed = r->w->seed + (uint64_t)most;

    for (int i = 0; i < GROUP; i++) {
        b[i] = (struct ty_coll_buf){ .count = (int64_t)(mix(seed + (uint64_t)i) % 4 == 0
                                                            ? 0
                                                            : mix(seed * 7 + (uint64_t)i) %
                                                                  (uint64_t)most) };
        b[i].data = memory(r, arena, (size_t)b[i].count * ty_coll_dtype_size(t));
        fill(t, b[i].data, b[i].count, seed + (uint64_t)i, r->rank);
    }
    do_call(r, &call, NULL);
    for (int i = 0; i < GROUP; i++) {
        for (int64_t k = 0; k < b[i].count; k++) {
            double slack,
                want = reduced(t, TY_COLL_SUM, seed + (uint64_t)i, ranks, r->size, k, 1, 1, &slack);

            CHECK(fabs(load(t, b[i].data, k) - want) <= slack);
        }
        same_everywhere(r, 0, b[i].data, (size_t)b[i].count * ty_coll_dtype_size(t));
        release(r, arena, b[i].data);
    }
}

static void all_groups(struct world_rank *r)
{
    static const int64_t most[] = { 2, 40, 1000, 40000, 100000 };

    for (int i = 0; i < 5; i++)
        for (int t = TY_COLL_I8; t < TY_COLL_DTYPES; t += (i < 3 ? 1 : 7) * TYPES)
            for (int arena = 0; arena < 2; arena++)
                if (t != TY_COLL_BOOL)
                    group(r, (enum ty_coll_dtype)t, most[i], arena);
}

static void groups(void **state)
{
    (void)state;
    run_worlds(all_groups, 2, 3);
}

/* ---- Adasum ---- */

/* Its definition, in float64. */
static void adasum_reference(double *v, int n, int64_t count)
{
    for (int bit = 1; bit < n; bit <<= 1)
        for (int i = 0; i < n; i += 2 * bit) {
            double *a = v + i * count, *b = v + (i + bit) * count, ab = 0, aa = 0, bb = 0;

            for (int64_t k = 0; k < count; k++) {
                ab += a[k] * b[k];
                aa += a[k] * a[k];
                bb += b[k] * b[k];
            }
            for (int64_t k = 0; k < count; k++)
                a[k] = a[k] * (aa > 0 ? 1 - ab / (2 * aa) : 1) +
                       b[k] * (bb > 0 ? 1 - ab / (2 * bb) : 1);
        }
}

static void adasum(struct world_rank *r, enum ty_coll_dtype t, int64_t n, bool arena)
{
    uint64_t seed = r->w->seed + (uint64_t)n;
    unsigned char *p = memory(r, arena, (size_t)n * ty_coll_dtype_size(t));
    double *v = malloc((size_t)(n * r->size + 1) * sizeof *v);
    struct ty_coll_buf b = { .data = p, .count = n };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = t,
                                 .op = TY_COLL_ADASUM,
                                 .postscale = 0.5,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };

    fill(t, p, n, seed, r->rank);
    for (int i = 0; i < r->size; i++)
        for (int64_t k = 0; k < n; k++)
            v[i * n + k] = value(t, seed, i, k);
    adasum_reference(v, r->size, n);
    do_call(r, &call, NULL);
    for (int64_t k = 0; k < n; k++)
        CHECK(fabs(load(t, p, k) - 0.5 * v[k]) <= 8 * epsilon(t));
    same_everywhere(r, 0, p, (size_t)n * ty_coll_dtype_size(t));
    release(r, arena, p);
    free(v);
}

static void all_adasums(struct world_rank *r)
{
    for (int t = TY_COLL_F16; t <= TY_COLL_F64; t++)
        for (int arena = 0; arena < 2; arena++) {
            adasum(r, (enum ty_coll_dtype)t, 0, arena);
            adasum(r, (enum ty_coll_dtype)t, 1, arena);
            adasum(r, (enum ty_coll_dtype)t, 1000, arena);
            adasum(r, (enum ty_coll_dtype)t, 300001, arena);
        }
}

static void adasums(void **state)
{
    static const char *const two[] = { "a", "a", "b", "b" };

    (void)state;
    for (int n = 1; n <= 4; n *= 2)
        world_threads(&(struct world){ .size = n, .seed = (uint64_t)n }, all_adasums);
    world_threads(&(struct world){ .size = 4, .seed = 9, .node = two }, all_adasums);
}

/* ---- what moves data ---- */

static void broadcast(struct world_rank *r, enum ty_coll_dtype t, int64_t n, int root, bool arena,
                      bool apart)
{
    uint64_t seed = r->w->seed + (uint64_t)n;
    size_t bytes = (size_t)n * ty_coll_dtype_size(t);
    unsigned char *in = memory(r, arena, bytes), *out = apart ? memory(r, arena, bytes) : in;
    struct ty_coll_buf b[2] = { { .data = in, .count = n }, { .data = NULL, .count = 0 } },
                       o[2] = { { .data = out, .count = n }, { .data = NULL, .count = 0 } };
    struct ty_coll_call call = { .kind = TY_COLL_BROADCAST,
                                 .name = "b",
                                 .dtype = t,
                                 .root = root,
                                 .in = b,
                                 .out = o,
                                 .nbufs = 2 };

    fill(t, in, n, seed, r->rank);
    do_call(r, &call, NULL);
    for (int64_t k = 0; k < n; k++) {
        CHECK(load(t, out, k) == value(t, seed, root, k));
        CHECK(!apart || load(t, in, k) == value(t, seed, r->rank, k));
    }
    release(r, arena, in);
    if (apart)
        release(r, arena, out);
}

static void all_broadcasts(struct world_rank *r)
{
    int turn = 0;

    for (int t = 0; t < TY_COLL_DTYPES; t += TYPES) {
        int64_t all[32];
        int n = sizes(ty_coll_dtype_size((enum ty_coll_dtype)t), all);

        for (int i = 0; i < n; i++, turn++)
            if (i < 10 || turn % 7 == 0)
                broadcast(r, (enum ty_coll_dtype)t, all[i], turn % r->size, turn / 2 % 2, turn % 2);
    }
}

static void broadcasts(void **state)
{
    (void)state;
    run_worlds(all_broadcasts, 1, 4);
}

/* Blocks of rows of `row` elements: two tensors, of which each rank gives so many. */
static int64_t rows_of(uint64_t seed, int rank, int tensor, int64_t most)
{
    uint64_t x = mix(seed * 31 + (uint64_t)rank * 5 + (uint64_t)tensor);

    return x % 5 == 0 ? 0 : (int64_t)(x % (uint64_t)(most + 1));
}

static void allgather(struct world_rank *r, enum ty_coll_dtype t, int64_t most, int64_t row)
{
    uint64_t seed = r->w->seed + (uint64_t)most;
    int64_t dims[2][2] = { { rows_of(seed, r->rank, 0, most), row },
                           { rows_of(seed, r->rank, 1, most), row } };
    struct ty_coll_buf b[2] = { { .count = dims[0][0] * row, .ndims = 2, .dims = dims[0] },
                                { .count = dims[1][0] * row, .ndims = 2, .dims = dims[1] } };
    struct ty_coll_call call = { .kind = TY_COLL_ALLGATHER, .dtype = t, .in = b, .nbufs = 2 };
    struct ty_coll_result ret;

    for (int s = 0; s < 2; s++) {
        b[s].data = memory(r, false, (size_t)b[s].count * ty_coll_dtype_size(t));
        fill(t, b[s].data, b[s].count, seed + (uint64_t)s, r->rank);
    }
    do_call(r, &call, &ret);
    CHECK(ret.nrows == 2 * r->size);
    for (int s = 0; s < 2; s++) {
        int64_t at = 0;

        for (int i = 0; i < r->size; i++) {
            CHECK(ret.rows[s * r->size + i] == rows_of(seed, i, s, most));
            for (int64_t k = 0; k < ret.rows[s * r->size + i] * row; k++)
                CHECK(load(t, ret.data[s], at++) == value(t, seed + (uint64_t)s, i, k));
        }
        free(b[s].data);
    }
    ty_coll_result_done(&ret);
}

static void all_allgathers(struct world_rank *r)
{
    for (int t = 0; t < TY_COLL_DTYPES; t += TYPES) {
        allgather(r, (enum ty_coll_dtype)t, 0, 3);
        allgather(r, (enum ty_coll_dtype)t, 1, 1);
        allgather(r, (enum ty_coll_dtype)t, 100, 7);
        allgather(r, (enum ty_coll_dtype)t, 5, 0);
    }
    allgather(r, TY_COLL_F32, 2000, 301);
    allgather(r, TY_COLL_U8, 1 << 21, 1);
}

static void allgathers(void **state)
{
    (void)state;
    run_worlds(all_allgathers, 1, 4);
}

static void alltoall(struct world_rank *r, enum ty_coll_dtype t, int64_t most, int64_t row,
                     bool even)
{
    uint64_t seed = r->w->seed + (uint64_t)most;
    int64_t splits[4], dims[2] = { even ? 0 : 2, row }, at = 0; /* two rows that nobody gets */
    struct ty_coll_buf b = { .ndims = 2, .dims = dims };
    struct ty_coll_call call = {
        .kind = TY_COLL_ALLTOALL, .dtype = t, .in = &b, .nbufs = 1, .splits = even ? NULL : splits
    };
    struct ty_coll_result ret;

    for (int i = 0; i < r->size; i++) {
        splits[i] = even ? most : rows_of(seed, r->rank, i, most);
        dims[0] += splits[i];
    }
    b.count = dims[0] * row;
    b.data = memory(r, false, (size_t)b.count * ty_coll_dtype_size(t));
    for (int i = 0; i < r->size; at += splits[i++] * row) /* what goes to rank i */
        fill(t, (char *)b.data + (size_t)at * ty_coll_dtype_size(t), splits[i] * row,
             seed + (uint64_t)i, r->rank);
    do_call(r, &call, &ret);
    CHECK(ret.nrows == r->size);
    at = 0;
    for (int i = 0; i < r->size; i++) {
        CHECK(ret.rows[i] == (even ? most : rows_of(seed, i, r->rank, most)));
        for (int64_t k = 0; k < ret.rows[i] * row; k++)
            CHECK(load(t, ret.data[0], at++) == value(t, seed + (uint64_t)r->rank, i, k));
    }
    free(b.data);
    ty_coll_result_done(&ret);
}

static void all_alltoalls(struct world_rank *r)
{
    for (int t = 0; t < TY_COLL_DTYPES; t += TYPES)
        for (int even = 0; even < 2; even++) {
            alltoall(r, (enum ty_coll_dtype)t, 0, 3, even);
            alltoall(r, (enum ty_coll_dtype)t, 1, 1, even);
            alltoall(r, (enum ty_coll_dtype)t, 50, 5, even);
        }
    alltoall(r, TY_COLL_F64, 90000, 1, false);
    alltoall(r, TY_COLL_U8, 700001, 1, true);
}

static void alltoalls(void **state)
{
    (void)state;
    run_worlds(all_alltoalls, 1, 4);
}

static void reducescatter(struct world_rank *r, enum ty_coll_dtype t, enum ty_coll_op op,
                          int64_t rows, int64_t row)
{
    static const int ranks[] = { 0, 1, 2, 3 };
    uint64_t seed = r->w->seed + (uint64_t)rows * 8 + t;
    int64_t dims[2] = { rows, row }, mine = rows / r->size + (r->rank < rows % r->size),
            first =
                rows / r->size * r->rank + (r->rank < rows % r->size ? r->rank : rows % r->size);
    size_t size = ty_coll_dtype_size(t);
    struct ty_coll_buf in = { .count = rows * row, .ndims = 2, .dims = dims }, out = { 0 };
    struct ty_coll_call call = { .kind = TY_COLL_REDUCESCATTER,
                                 .dtype = t,
                                 .op = op,
                                 .postscale = 2,
                                 .in = &in,
                                 .out = &out,
                                 .nbufs = 1 };

    in.data = memory(r, false, (size_t)in.count * size);
    out.data = memory(r, false, (size_t)(mine * row) * size);
    out.count = mine * row;
    fill(t, in.data, in.count, seed, r->rank);
    if (t == TY_COLL_BOOL)
        call.postscale = 1;
    do_call(r, &call, NULL);
    for (int64_t k = 0; k < mine * row; k++) {
        double slack,
            want = reduced(t, op, seed, ranks, r->size, first * row + k, 1, call.postscale, &slack);

        CHECK(fabs(load(t, out.data, k) - want) <= slack);
    }
    for (int64_t k = 0; k < in.count; k += 97)
        CHECK(load(t, in.data, k) == value(t, seed, r->rank, k));
    free(in.data);
    free(out.data);
}

static void all_reducescatters(struct world_rank *r)
{
    static const int64_t rows[] = { 0, 1, 2, 3, 5, 8, 1000 };

    for (int t = 0; t < TY_COLL_DTYPES; t += TYPES)
        for (int i = 0; i < 7; i++) {
            reducescatter(r, (enum ty_coll_dtype)t, TY_COLL_SUM, rows[i], 3);
            reducescatter(r, (enum ty_coll_dtype)t, TY_COLL_AVERAGE, rows[i], 1);
        }
    reducescatter(r, TY_COLL_F32, TY_COLL_SUM, 3, 200000);
    reducescatter(r, TY_COLL_I64, TY_COLL_AVERAGE, 400001, 1);
}

static void reducescatters(void **state)
{
    (void)state;
    run_worlds(all_reducescatters, 1, 4);
}

/* ---- averages of integers ---- */

static void ones(struct world_rank *r)
{
    int64_t x[3] = { 1, 7, -3 };
    struct ty_coll_buf b = { .data = x, .count = 3 };
    struct ty_coll_call call = {
        .kind = TY_COLL_ALLREDUCE, .dtype = TY_COLL_I64, .in = &b, .out = &b, .nbufs = 1
    };

    do_call(r, &call, NULL);
    CHECK(x[0] == 1 && x[1] == 7 && x[2] == -3);
}

/* 49 * (1 / 49.) is less than 1. */
static void averages(void **state)
{
    (void)state;
    for (int n = 2; n <= WORLD_MAX / (WORLD_THIN > 4 ? 4 : 1); n += 7)
        world_threads(&(struct world){ .size = n }, ones);
    for (int n = 1; n <= 4096; n++)
        for (int64_t k = -20; k <= 20; k++)
            assert_int_equal(
                (int64_t)((double)(k * n) * ty_average(TY_COLL_I64, TY_COLL_AVERAGE, 1, n)), k);
}

/* ---- more than 2^31 elements ---- */

#define HUGE ((int64_t)(1ull << 31) + 12345)

static void huge(struct world_rank *r)
{
    struct ty_coll_buf b = { .count = HUGE };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = TY_COLL_U8,
                                 .op = TY_COLL_MAX,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    unsigned char *p = mmap(NULL, HUGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(p != MAP_FAILED);
    b.data = p;
    p[0] = (unsigned char)(1 + r->rank);
    p[HUGE / 2 + r->rank] = 77;
    p[HUGE - 1] = (unsigned char)(9 + r->rank);
    do_call(r, &call, NULL);
    CHECK(p[0] == r->size && p[HUGE - 1] == 8 + r->size && p[HUGE / 2] == 77 &&
          p[HUGE / 2 + 1] == 77);
    CHECK(p[HUGE / 2 + 2] == 0 && p[HUGE - 2] == 0);
    munmap(p, HUGE);
}

static void huges(void **state)
{
    (void)state;
    if (WORLD_THIN > 1 || sysconf(_SC_AVPHYS_PAGES) / 1024 * sysconf(_SC_PAGESIZE) < 7 << 20)
        skip(); /* it touches 5 GiB */
    world_threads(&(struct world){ .size = 2 }, huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allreduces),     cmocka_unit_test(groups),     cmocka_unit_test(adasums),
        cmocka_unit_test(broadcasts),     cmocka_unit_test(allgathers), cmocka_unit_test(alltoalls),
        cmocka_unit_test(reducescatters), cmocka_unit_test(averages),   cmocka_unit_test(huges),
    };

    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
