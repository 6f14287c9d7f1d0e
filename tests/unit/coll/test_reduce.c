/* test_reduce.c - every variant of the inner loops gives the bits of the reference, and the reference is right
 *
 * The reference's conversions of half types are compared with float64 arithmetic by frexp and rint; all else is
 * compared with the reference, on random bits, at every length and alignment that could matter.
 */
#include "coll/reduce_kernels.h"
#include "tests.h"
#include <float.h>
#include <math.h>

#define GUARD 0xa5
#define MARGIN 128

static bool is_float(enum ty_coll_dtype t)
{
    return t == TY_COLL_F16 || t == TY_COLL_BF16 || t == TY_COLL_F32 || t == TY_COLL_F64;
}

/* ---- values ---- */

/* A half type's value, from the definition of the format. */
static double half_value(enum ty_coll_dtype t, uint16_t h)
{
    int bits = t == TY_COLL_F16 ? 10 : 7, bias = t == TY_COLL_F16 ? 15 : 127;
    int top = t == TY_COLL_F16 ? 31 : 255, exponent = h >> bits & top;
    int mantissa = h & ((1 << bits) - 1);
    double v;

    if (exponent == top)
        v = mantissa ? (double)NAN : (double)INFINITY;
    else if (exponent)
        v = ldexp(mantissa + (1 << bits), exponent - bias - bits);
    else
        v = ldexp(mantissa, 1 - bias - bits);
    return h & 0x8000 ? -v : v;
}

/* d rounded to what a half type can hold. */
static double half_rounded(enum ty_coll_dtype t, double d)
{
    int precision = t == TY_COLL_F16 ? 11 : 8, least = t == TY_COLL_F16 ? -24 : -133, e;
    double most = half_value(t, t == TY_COLL_F16 ? 0x7bff : 0x7f7f), r;

    if (!isfinite(d))
        return d;
    frexp(d, &e);
    e = e - precision > least ? e - precision : least;
    r = ldexp(rint(ldexp(d, -e)), e);
    return fabs(r) > most ? copysign((double)INFINITY, d) : r;
}

static void expect_half(enum ty_coll_dtype t, uint16_t got, double exact)
{
    double v = half_value(t, got), want = half_rounded(t, exact);

    if (isnan(want) ? !isnan(v) : v != want || signbit(v) != signbit(want))
        fail_msg("%s: %a became %a, not %a", ty_coll_dtype_name(t), exact, v, want);
}

static bool is_nan(enum ty_coll_dtype t, const char *p)
{
    uint16_t h;
    float f;
    double d;

    switch (t) {
    case TY_COLL_F16:
    case TY_COLL_BF16:
        memcpy(&h, p, sizeof h);
        return isnan(half_value(t, h));
    case TY_COLL_F32:
        memcpy(&f, p, sizeof f);
        return isnan(f);
    case TY_COLL_F64:
        memcpy(&d, p, sizeof d);
        return isnan(d);
    default:
        return false;
    }
}

/* Equal bits; any NaN for a NaN. */
static void expect_same(const char *what, enum ty_coll_dtype t, const void *got, const void *want,
                        size_t n)
{
    size_t size = ty_coll_dtype_size(t);
    const char *g = got, *w = want;

    if (!memcmp(g, w, n * size))
        return;
    for (size_t i = 0; i < n; i++, g += size, w += size)
        if (memcmp(g, w, size) && !(is_nan(t, g) && is_nan(t, w))) {
            uint64_t a = 0, b = 0;
            memcpy(&a, g, size);
            memcpy(&b, w, size);
            fail_msg("%s: %s, element %zu of %zu is %llx, not %llx", what, ty_coll_dtype_name(t), i,
                     n, (unsigned long long)a, (unsigned long long)b);
        }
}

/* Random bits; among floats the exponents often near each other, or the least or the greatest. */
static void fill(enum ty_coll_dtype t, char *p, size_t n, uint64_t *seed)
{
    static const int mantissas[TY_COLL_DTYPES] = {
        [TY_COLL_F16] = 10, [TY_COLL_BF16] = 7, [TY_COLL_F32] = 23, [TY_COLL_F64] = 52
    };
    size_t size = ty_coll_dtype_size(t);

    for (size_t i = 0; i < n; i++, p += size) {
        uint64_t bits = (uint64_t)tests_random(seed) << 33 ^ (uint64_t)tests_random(seed) << 10 ^
                        tests_random(seed);
        int low = mantissas[t], width = (int)size * 8 - 1 - low;
        uint64_t mask = is_float(t) ? (((uint64_t)1 << width) - 1) << low : 0;

        switch (is_float(t) ? tests_random(seed) % 16 : 15) {
        case 0:
            bits &= ~mask;
            break;
        case 1:
            bits |= mask;
            break;
        case 2:
            bits = (bits | mask) & ~((uint64_t)1 << low) & ~(((uint64_t)1 << low) - 2);
            break;
        case 3:
            bits &= (uint64_t)1 << (size * 8 - 1);
            break;
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
            bits = (bits & ~mask) | ((((uint64_t)1 << (width - 1)) - 1 - bits % 5) << low & mask);
            break;
        default:
            break;
        }
        memcpy(p, &bits, size); /* little-endian, as all that this is built for */
    }
}

/* ---- passes ---- */

static const double scales[] = { 1, 1, 1, 0.5, 1 / 3.0, -0.125, -7.5, 1e30 };

/* One pass by variant k, with its arrays `shift` bytes after aligned places, and by the reference. */
struct trial {
    enum ty_coll_dtype t;
    enum ty_coll_op op;
    int nsrc, ndst;
    size_t n;
    double scale;
    bool stream, in_place;
    size_t shift[TY_REDUCE_RANKS]; /* of dst[i] and src[i], apart by a multiple of i */
};

static void trial_run(const struct ty_reduce_kernels *k, const struct trial *r, const char *input,
                      char *memory, char *result)
{
    size_t bytes = r->n * ty_coll_dtype_size(r->t), room = bytes + 2 * MARGIN;
    void *dst[TY_REDUCE_RANKS];
    const void *src[TY_REDUCE_RANKS];

    memset(memory, GUARD, room * (size_t)(r->nsrc + r->ndst));
    for (int i = 0; i < r->nsrc; i++) {
        char *at = memory + room * (size_t)i + r->shift[i];
        memcpy(at, input + bytes * (size_t)i, bytes);
        src[i] = at;
        dst[i] = at;
    }
    for (int i = 0; i < r->ndst && !r->in_place; i++)
        dst[i] = memory + room * (size_t)(r->nsrc + i) + r->shift[i] + MARGIN / 2;
    ty_reduce_all_by(k, r->t, r->op, dst, r->ndst, src, r->nsrc, r->n, r->scale, r->stream);
    for (int i = 0; i < r->ndst; i++) {
        const char *d = dst[i];
        assert_memory_equal(d, dst[0], bytes);
        for (int j = 1; j <= 32; j++) /* shifts are 64 at most, and margins 128 */
            if ((r->in_place ? r->shift[i] >= 32 : true) && (uint8_t)d[-j] != GUARD)
                fail_msg("%s wrote before its array", k->name);
        for (int j = 0; j < 32; j++)
            if ((uint8_t)d[bytes + (size_t)j] != GUARD)
                fail_msg("%s wrote behind its array", k->name);
    }
    memcpy(result, dst[0], bytes);
}

static void trial_compare(const struct trial *r, uint64_t *seed)
{
    size_t bytes = r->n * ty_coll_dtype_size(r->t);
    size_t room = (bytes + 2 * MARGIN) * (size_t)(r->nsrc + r->ndst);
    char *input = malloc(bytes * (size_t)r->nsrc + 1), *memory = malloc(room);
    char *want = malloc(bytes + 1), *got = malloc(bytes + 1);
    const struct ty_reduce_kernels *k;

    fill(r->t, input, r->n * (size_t)r->nsrc, seed);
    trial_run(ty_reduce_variant(0), r, input, memory, want);
    for (int i = 1; (k = ty_reduce_variant(i)); i++) {
        trial_run(k, r, input, memory, got);
        expect_same(k->name, r->t, got, want, r->n);
    }
    free(input);
    free(memory);
    free(want);
    free(got);
}

static void test_every_length(void **state)
{
    static const int counts[] = { 2, 2, 1, 3, 4, 8, 9 };
    uint64_t seed = 1;

    (void)state;
    for (int t = 0; t < TY_COLL_DTYPES; t++)
        for (int op = 0; op < TY_COLL_OPS; op++)
            for (size_t n = 0; n <= 130; n++) {
                struct trial r = { .t = (enum ty_coll_dtype)t, .op = (enum ty_coll_op)op, .n = n };

                r.nsrc = counts[tests_random(&seed) % 7];
                r.in_place = tests_random(&seed) % 2;
                r.ndst = 1 + (int)(tests_random(&seed) % (r.in_place ? (unsigned)r.nsrc : 3));
                r.stream = tests_random(&seed) % 3 == 0;
                r.scale = scales[tests_random(&seed) % 8];
                for (int i = 0; i < TY_REDUCE_RANKS; i++)
                    r.shift[i] = tests_random(&seed) % 2 ? tests_random(&seed) % 64 : 32;
                trial_compare(&r, &seed);
            }
}

/* Blocks, groups of sources, lines that are streamed whole. */
static void test_long_and_many(void **state)
{
    static const int counts[] = { 2, 8, 9, 16, 65, TY_REDUCE_RANKS };
    uint64_t seed = 2;

    (void)state;
    for (int t = 0; t < TY_COLL_DTYPES; t++)
        for (int i = 0; i < 24; i++) {
            struct trial r = { .t = (enum ty_coll_dtype)t,
                               .op = (enum ty_coll_op)(i % TY_COLL_OPS),
                               .nsrc = counts[i % 6],
                               .n = 2000 + tests_random(&seed) % 3000,
                               .scale = scales[tests_random(&seed) % 8],
                               .stream = i / 6 % 2,
                               .in_place = i / 12 };
            size_t size = ty_coll_dtype_size(r.t);

            r.ndst = r.in_place ? r.nsrc : 2;
            for (int j = 0; j < TY_REDUCE_RANKS; j++)
                r.shift[j] = i % 5 == 0 ? tests_random(&seed) % 64 : tests_random(&seed) % 4 * size;
            trial_compare(&r, &seed);
        }
}

/* The result goes over any of the sources, however far behind it stands. */
static void test_over_a_source(void **state)
{
    enum { SRC = TY_REDUCE_RANKS, N = 700 };
    static int32_t v[SRC][N], want[N];

    (void)state;
    for (int over = 0; over < SRC; over += 51) {
        const void *src[SRC];
        void *dst = v[over];

        memset(want, 0, sizeof want);
        for (int i = 0; i < SRC; i++) {
            src[i] = v[i];
            for (int j = 0; j < N; j++)
                want[j] += v[i][j] = i * 1000 + j;
        }
        ty_reduce_all(TY_COLL_I32, TY_COLL_SUM, &dst, 1, src, SRC, N, 1, false);
        assert_memory_equal(v[over], want, sizeof want);
    }
}

/* The arithmetic of each type, by hand. */
static void test_known_results(void **state)
{
    const struct ty_reduce_kernels *k;

    (void)state;
    for (int i = 0; (k = ty_reduce_variant(i)); i++) {
#define KNOWN(type, t, op, a, b, want) \
    do { \
        type x = (type)(a), y = (type)(b), w = (type)(want); \
        void *d = &x; \
        const void *s[2] = { &x, &y }; \
        ty_reduce_all_by(k, t, op, &d, 1, s, 2, 1, 1, false); \
        assert_memory_equal(&x, &w, sizeof w); \
    } while (0)
        KNOWN(uint8_t, TY_COLL_U8, TY_COLL_SUM, 200, 100, 44);
        KNOWN(uint8_t, TY_COLL_U8, TY_COLL_MAX, 200, 100, 200);
        KNOWN(int8_t, TY_COLL_I8, TY_COLL_MAX, 200, 100, 100);
        KNOWN(int8_t, TY_COLL_I8, TY_COLL_PRODUCT, -128, -1, -128);
        KNOWN(int16_t, TY_COLL_I16, TY_COLL_PRODUCT, 300, 300, 90000 - 65536);
        KNOWN(int32_t, TY_COLL_I32, TY_COLL_SUM, INT32_MAX, 1, INT32_MIN);
        KNOWN(int64_t, TY_COLL_I64, TY_COLL_AVERAGE, INT64_MAX, 1, INT64_MIN);
        KNOWN(int64_t, TY_COLL_I64, TY_COLL_MIN, -5, 3, -5);
        KNOWN(int64_t, TY_COLL_I64, TY_COLL_PRODUCT, 3037000500, 3037000500, -9223372036709301616);
        KNOWN(uint8_t, TY_COLL_BOOL, TY_COLL_SUM, 1, 1, 1);
        KNOWN(uint8_t, TY_COLL_BOOL, TY_COLL_MAX, 0, 2, 1);
        KNOWN(uint8_t, TY_COLL_BOOL, TY_COLL_MIN, 1, 2, 1);
        KNOWN(uint8_t, TY_COLL_BOOL, TY_COLL_PRODUCT, 1, 0, 0);
        KNOWN(uint16_t, TY_COLL_F16, TY_COLL_SUM, 0x3c00, 0x4000, 0x4200);
        KNOWN(uint16_t, TY_COLL_F16, TY_COLL_SUM, 1, 1, 2); /* denormals */
        KNOWN(uint16_t, TY_COLL_F16, TY_COLL_PRODUCT, 0x7bff, 0x4000, 0x7c00);
        KNOWN(uint16_t, TY_COLL_BF16, TY_COLL_SUM, 0x3f80, 0x4000, 0x4040);
        KNOWN(uint16_t, TY_COLL_BF16, TY_COLL_SUM, 1, 1, 2);
        KNOWN(uint16_t, TY_COLL_BF16, TY_COLL_SUM, 0x4380, 0x3f80, 0x4380); /* 257: a tie */
        KNOWN(float, TY_COLL_F32, TY_COLL_MIN, -INFINITY, 1, -INFINITY);
        KNOWN(double, TY_COLL_F64, TY_COLL_PRODUCT, 0.1, 3, 0.1 * 3);
#undef KNOWN
    }
}

static void test_nan_stays(void **state)
{
    static const enum ty_coll_op ops[] = { TY_COLL_SUM, TY_COLL_MIN, TY_COLL_MAX, TY_COLL_PRODUCT };
    static const float pairs[][2] = { { NAN, 1 }, { 1, NAN }, { NAN, NAN }, { NAN, INFINITY } };
    static const uint16_t half_nan[] = { 0x7c01, 0xfe00, 0x7fff };
    const struct ty_reduce_kernels *k;

    (void)state;
    for (int i = 0; (k = ty_reduce_variant(i)); i++)
        for (int o = 0; o < 4; o++) {
            for (int j = 0; j < 4; j++) {
                float x = pairs[j][0], y = pairs[j][1];
                double dx = (double)x, dy = (double)y;
                void *d = &x;
                const void *s[2] = { &x, &y };
                ty_reduce_all_by(k, TY_COLL_F32, ops[o], &d, 1, s, 2, 1, 1, false);
                assert_true(isnan(x));
                d = &dx;
                s[0] = &dx;
                s[1] = &dy;
                ty_reduce_all_by(k, TY_COLL_F64, ops[o], &d, 1, s, 2, 1, 1, false);
                assert_true(isnan(dx));
            }
            for (int j = 0; j < 6; j++) {
                enum ty_coll_dtype t = j % 2 ? TY_COLL_BF16 : TY_COLL_F16;
                uint16_t nan = (uint16_t)(half_nan[j / 2] | (j % 2 ? 0x7f81 : 0)), one = 0x3c00;
                void *d = &one;
                const void *s[2] = { o % 2 ? &one : &nan, o % 2 ? &nan : &one };
                ty_reduce_all_by(k, t, ops[o], &d, 1, s, 2, 1, 1, false);
                assert_true(isnan(half_value(t, one)));
            }
        }
}

/* ---- half types ---- */

#define ALL_HALVES 65536

static void halves_against(enum ty_coll_dtype t, enum ty_coll_op op, uint16_t other,
                           const uint16_t *all, uint16_t *want, uint16_t *got)
{
    const struct ty_reduce_kernels *k;
    void *d = want;
    const void *s[2] = { all, got };

    for (int i = 0; i < ALL_HALVES; i++)
        got[i] = other;
    ty_reduce_all_by(ty_reduce_variant(0), t, op, &d, 1, s, 2, ALL_HALVES, 1, false);
    for (int i = 0; i < ALL_HALVES; i++) {
        float a = (float)half_value(t, all[i]), b = (float)half_value(t, other);
        expect_half(t, want[i], (double)(op == TY_COLL_SUM ? a + b : a * b));
    }
    for (int v = 1; (k = ty_reduce_variant(v)); v++) {
        for (int i = 0; i < ALL_HALVES; i++)
            got[i] = other;
        d = got;
        ty_reduce_all_by(k, t, op, &d, 1, s, 2, ALL_HALVES, 1, false);
        expect_same(k->name, t, got, want, ALL_HALVES);
    }
}

/* Every half with a few others: every value is widened, and sums and products are rounded of every kind. */
static void test_every_half(void **state)
{
    static const uint16_t others[] = { 0x8000, 0x0001, 0x03ff, 0x3c01, 0x3f81,
                                       0xbbff, 0x5678, 0x7bff, 0x7c00, 0x1234 };
    uint16_t *all = malloc(ALL_HALVES * 2), *want = malloc(ALL_HALVES * 2);
    uint16_t *got = malloc(ALL_HALVES * 2);

    (void)state;
    for (int i = 0; i < ALL_HALVES; i++)
        all[i] = (uint16_t)i;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        halves_against(TY_COLL_F16, TY_COLL_SUM, others[i], all, want, got);
        halves_against(TY_COLL_F16, TY_COLL_PRODUCT, others[i], all, want, got);
        halves_against(TY_COLL_BF16, TY_COLL_SUM, others[i], all, want, got);
        halves_against(TY_COLL_BF16, TY_COLL_PRODUCT, others[i], all, want, got);
    }
    free(all);
    free(want);
    free(got);
}

/* One times a factor is the factor rounded: each half, the middle up to the next, and the floats beside that. */
static void test_every_rounding(void **state)
{
    const struct ty_reduce_kernels *k;

    (void)state;
    for (int i = 0; (k = ty_reduce_variant(i)); i++)
        for (int b = 0; b < 2; b++) {
            enum ty_coll_dtype t = b ? TY_COLL_BF16 : TY_COLL_F16;
            uint16_t one = b ? 0x3f80 : 0x3c00, got;
            for (int h = 0; h < ALL_HALVES - 1; h++) {
                float here = (float)half_value(t, (uint16_t)h);
                float next = (float)half_value(t, (uint16_t)(h + 1)), middle = here / 2 + next / 2;
                float at[4] = { here, nextafterf(middle, 0), middle,
                                nextafterf(middle, copysignf(INFINITY, middle)) };
                if (!isfinite(here))
                    continue;
                for (int j = 0; j < 4; j++) {
                    ty_scale_to_by(k, t, &got, &one, 1, (double)at[j]);
                    expect_half(t, got, (double)at[j]);
                }
            }
        }
}

/* ---- factors ---- */

static void test_integers_by_a_factor(void **state)
{
    const struct ty_reduce_kernels *k;

    (void)state;
    for (int i = 0; (k = ty_reduce_variant(i)); i++) {
#define SCALED(type, t, v, factor, want) \
    do { \
        type x = (type)(v); \
        ty_scale_to_by(k, t, &x, &x, 1, factor); \
        if (x != (type)(want)) \
            fail_msg("%s: %s by %s gave %lld", k->name, #v, #factor, (long long)x); \
    } while (0)
        SCALED(int32_t, TY_COLL_I32, 7, 0.5, 3);
        SCALED(int32_t, TY_COLL_I32, -7, 0.5, -3);
        SCALED(int32_t, TY_COLL_I32, INT32_MIN, 1 / 3.0, -715827882);
        SCALED(int32_t, TY_COLL_I32, INT32_MAX, 2, -2);
        SCALED(int32_t, TY_COLL_I32, 3, 0x1p62, 0);
        SCALED(int32_t, TY_COLL_I32, 3, INFINITY, 0);
        SCALED(int32_t, TY_COLL_I32, 3, NAN, 0);
        SCALED(uint8_t, TY_COLL_U8, 255, 0.5, 127);
        SCALED(uint8_t, TY_COLL_U8, 200, -0.5, 156);
        SCALED(uint8_t, TY_COLL_U8, 100, 3, 44);
        SCALED(int8_t, TY_COLL_I8, -128, -1, -128);
        SCALED(int16_t, TY_COLL_I16, -30000, 2.5, -75000 + 65536);
        SCALED(int64_t, TY_COLL_I64, INT64_MIN, 0.5, INT64_MIN / 2);
        SCALED(int64_t, TY_COLL_I64, INT64_MAX, 1 - 0x1p-53, INT64_MAX - 1023);
        SCALED(int64_t, TY_COLL_I64, INT64_MIN, -1, INT64_MIN);
        SCALED(int64_t, TY_COLL_I64, 3, 0x1p62, -0x4000000000000000);
        SCALED(int64_t, TY_COLL_I64, -5, 0x1p62, -0x4000000000000000);
        SCALED(int64_t, TY_COLL_I64, (int64_t)1 << 40 | 1, 0x1p25, (int64_t)1 << 25);
        SCALED(uint8_t, TY_COLL_BOOL, 1, 0.25, 1);
#undef SCALED
    }
}

static void test_scale_is_the_pass_of_one(void **state)
{
    static const double factors[] = { 1, 0.5, 1 / 3.0, -0.9, -1, 2.7, 1e-40, 1e300, (double)NAN };
    uint64_t seed = 3;
    char from[8 * 300], want[8 * 300], got[8 * 300];
    const struct ty_reduce_kernels *k;

    (void)state;
    for (int t = 0; t < TY_COLL_DTYPES; t++)
        for (int f = 0; f < 9; f++) {
            enum ty_coll_dtype type = (enum ty_coll_dtype)t;
            size_t n = 200 + tests_random(&seed) % 90;

            fill(type, from, n, &seed);
            ty_scale_to_by(ty_reduce_variant(0), type, want, from, n, factors[f]);
            for (int i = 1; (k = ty_reduce_variant(i)); i++) {
                ty_scale_to_by(k, type, got, from, n, factors[f]);
                expect_same(k->name, type, got, want, n);
            }
            ty_scale_to(type, got, from, n, factors[f]);
            expect_same("ty_scale_to", type, got, want, n);
            ty_scale(type, from, n, factors[f]);
            expect_same("ty_scale", type, from, want, n);
        }
}

/* ty_reduce_all is ty_reduce source after source, then ty_scale. */
static void test_all_at_once_is_step_by_step(void **state)
{
    enum { N = 5000, RANKS = 21 };
    uint64_t seed = 4;
    char *memory = malloc(8 * N * (RANKS + 2)), *want = memory + 8 * N * RANKS, *got = want + 8 * N;
    const void *src[RANKS];
    char beyond[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, before[8];

    (void)state;
    memcpy(before, beyond, sizeof before);
    for (int i = 0; i < RANKS; i++)
        src[i] = memory + 8 * N * i;
    for (int t = 0; t < TY_COLL_DTYPES; t++)
        for (int op = 0; op < TY_COLL_OPS; op++)
            for (int nsrc = 1; nsrc <= RANKS; nsrc += 4) {
                enum ty_coll_dtype type = (enum ty_coll_dtype)t;
                void *dst[3] = { got, NULL, beyond };

                for (int i = 0; i < RANKS; i++)
                    fill(type, memory + 8 * N * i, N, &seed);
                memcpy(want, src[0], N * ty_coll_dtype_size(type));
                for (int i = 1; i < nsrc; i++)
                    ty_reduce(type, (enum ty_coll_op)op, want, src[i], N);
                ty_scale(type, want, N, 1.0 / nsrc);
                ty_reduce_all(type, (enum ty_coll_op)op, dst, 3, src, nsrc, N, 1.0 / nsrc, false);
                expect_same("ty_reduce_all", type, got, want, N);
                assert_memory_equal(beyond, before, sizeof before);
            }
    free(memory);
}

/* ---- the rest ---- */

static void test_copy_stream(void **state)
{
    uint64_t seed = 5;
    uint8_t from[1024], to[1200];

    (void)state;
    fill(TY_COLL_U8, (char *)from, sizeof from, &seed);
    for (int i = 0; i < 3000; i++) {
        size_t n = tests_random(&seed) % 800, a = tests_random(&seed) % 130,
               b = 1 + tests_random(&seed) % 130;
        memset(to, GUARD, sizeof to);
        ty_copy_stream(to + b, from + a, n);
        assert_memory_equal(to + b, from + a, n);
        assert_int_equal(to[b - 1], GUARD);
        assert_int_equal(to[b + n], GUARD);
    }
}

static double value_at(enum ty_coll_dtype t, const char *p, size_t i)
{
    uint16_t h;
    float f;
    double d;

    p += i * ty_coll_dtype_size(t);
    if (t == TY_COLL_F64) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    if (t == TY_COLL_F32) {
        memcpy(&f, p, sizeof f);
        return (double)f;
    }
    memcpy(&h, p, sizeof h);
    return half_value(t, h);
}

/* Values around one, without what makes sums meaningless. */
static void fill_moderate(enum ty_coll_dtype t, char *p, size_t n, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        double d = (double)tests_random(seed) * 0x1p-30 - 1;
        float f = (float)d;
        uint16_t one = t == TY_COLL_BF16 ? 0x3f80 : 0x3c00;

        if (t == TY_COLL_F64)
            memcpy(p + i * 8, &d, 8);
        else if (t == TY_COLL_F32)
            memcpy(p + i * 4, &f, 4);
        else
            ty_scale_to(t, p + i * 2, &one, 1, d);
    }
}

static void test_dots(void **state)
{
    static const enum ty_coll_dtype types[] = { TY_COLL_F16, TY_COLL_BF16, TY_COLL_F32,
                                                TY_COLL_F64 };
    uint64_t seed = 6;
    char a[8 * 1000], b[8 * 1000];
    const struct ty_reduce_kernels *k;

    (void)state;
    for (int t = 0; t < 4; t++)
        for (size_t n = 0; n < 900; n += n < 70 ? 1 : 83) {
            size_t shift = n % 3;
            double want[3], got[3], exact[3] = { 0 };

            fill_moderate(types[t], a + shift, n, &seed);
            fill_moderate(types[t], b + shift, n, &seed);
            for (size_t i = 0; i < n; i++) {
                double x = value_at(types[t], a + shift, i), y = value_at(types[t], b + shift, i);
                exact[0] += x * y;
                exact[1] += x * x;
                exact[2] += y * y;
            }
            ty_reduce_variant(0)->dots[types[t]](a + shift, b + shift, n, want);
            for (int i = 0; i < 3; i++)
                assert_true(fabs(want[i] - exact[i]) <= 1e-12 * (1 + (double)n));
            for (int i = 1; (k = ty_reduce_variant(i)); i++) {
                k->dots[types[t]](a + shift, b + shift, n, got);
                assert_memory_equal(got, want, sizeof got);
            }
            ty_dots(types[t], a + shift, b + shift, n, &got[0], &got[1], &got[2]);
            assert_memory_equal(got, want, sizeof got);
        }
}

static void axpby_expect(enum ty_coll_dtype t, const char *got, const char *a, const char *b,
                         size_t n, double ca, double cb)
{
    for (size_t i = 0; i < n; i++) {
        double x = ca * value_at(t, a, i), y = cb * value_at(t, b, i), want = x + y;
        double v = value_at(t, got, i);
        uint16_t h;

        if (t == TY_COLL_F32)
            want = (double)(float)want;
        if (t == TY_COLL_F16 || t == TY_COLL_BF16) {
            memcpy(&h, got + 2 * i, sizeof h);
            expect_half(t, h, want);
        } else if (isnan(want) ? !isnan(v) : v != want) {
            fail_msg("%s: %a, not %a", ty_coll_dtype_name(t), v, want);
        }
    }
}

static void test_axpby(void **state)
{
    static const enum ty_coll_dtype types[] = { TY_COLL_F16, TY_COLL_BF16, TY_COLL_F32,
                                                TY_COLL_F64 };
    /* 1 + 2^-11 + 2^-40: half of float16's last bit and a little, which a float loses on the way */
    static const double factors[][2] = {
        { 1, 1 },          { 0.75, -0.25 }, { 1 + 0x1p-11 + 0x1p-40, 0 },
        { 1e-30, 1e30 },   { 0.1, 0.3 },    { 1 + 0x1p-8 - 0x1p-40, 0 },
        { 1e300, -1e300 }, { 0x1p-140, 0 }
    };
    uint64_t seed = 7;
    char a[8 * 800 + 8], b[8 * 800 + 8], want[8 * 800 + 8], got[8 * 800 + 8];
    const struct ty_reduce_kernels *k;

    (void)state;
    for (int t = 0; t < 4; t++)
        for (size_t n = 0; n < 800; n += n < 70 ? 1 : 83) {
            const double *f = factors[tests_random(&seed) % 8];
            size_t shift = n % 3, bytes = n * ty_coll_dtype_size(types[t]);

            fill(types[t], a + shift, n, &seed);
            fill(types[t], b + shift, n, &seed);
            memcpy(want + shift, a + shift, bytes);
            ty_reduce_variant(0)->axpby[types[t]](want + shift, b + shift, n, f[0], f[1]);
            axpby_expect(types[t], want + shift, a + shift, b + shift, n, f[0], f[1]);
            for (int i = 1; (k = ty_reduce_variant(i)); i++) {
                memcpy(got + shift, a + shift, bytes);
                got[shift + bytes] = 77;
                k->axpby[types[t]](got + shift, b + shift, n, f[0], f[1]);
                expect_same(k->name, types[t], got + shift, want + shift, n);
                assert_int_equal(got[shift + bytes], 77);
            }
            ty_axpby(types[t], a + shift, b + shift, n, f[0], f[1]);
            expect_same("ty_axpby", types[t], a + shift, want + shift, n);
        }
}

static void test_variants(void **state)
{
    int n = 0;

    (void)state;
    while (ty_reduce_variant(n))
        n++;
    assert_true(n >= 2);
    assert_string_equal(ty_reduce_variant(0)->name, "scalar");
    assert_string_equal(ty_reduce_variant(n - 1)->name, ty_reduce_isa());
    assert_null(ty_reduce_variant(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_known_results),
        cmocka_unit_test(test_nan_stays),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_long_and_many),
        cmocka_unit_test(test_over_a_source),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_every_rounding),
        cmocka_unit_test(test_integers_by_a_factor),
        cmocka_unit_test(test_scale_is_the_pass_of_one),
        cmocka_unit_test(test_all_at_once_is_step_by_step),
        cmocka_unit_test(test_copy_stream),
        cmocka_unit_test(test_dots),
        cmocka_unit_test(test_axpby),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
