/* reduce_scalar.c - the reference of reduce_kernels.h: an element at a time, as the words of reduce.h say it
 *
 * Never vectorised, and no multiplication is fused with an addition: what this computes is what every variant must.
 */
#ifdef __clang__
#pragma clang fp contract(off)
#else
#pragma GCC optimize("no-tree-vectorize", "no-tree-slp-vectorize", "fp-contract=off")
#endif
#include "coll/reduce_common.h"

static float bits_f32(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t f32_bits(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* exponent 0: a multiple of 2^-24; exponent 31: infinity or NaN; else the exponent moves from bias 15 to 127 */
static float f16_widen(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;

    if (exponent == 0)
        return bits_f32(sign | f32_bits((float)mantissa * 0x1p-24f));
    if (exponent == 31)
        return bits_f32(sign | 0x7f800000 | mantissa << 13);
    return bits_f32(sign | (exponent + 112) << 23 | mantissa << 13);
}

static uint16_t f16_narrow(float f)
{
    uint32_t x = f32_bits(f), sign = x >> 16 & 0x8000;

    x &= 0x7fffffff;
    if (x > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (x >> 13 & 0x1ff));
    if (x >= 0x47800000) /* 2^16 */
        return (uint16_t)(sign | 0x7c00);
    if (x < 0x38800000) /* 2^-14: the last bit of a float at 0.5 is 2^-24, so the addition rounds */
        return (uint16_t)(sign | (f32_bits(bits_f32(x) + 0.5f) - 0x3f000000));
    x -= 112u << 23;
    return (uint16_t)(sign | (x + 0xfff + (x >> 13 & 1)) >> 13);
}

static float bf16_widen(uint16_t h)
{
    return bits_f32((uint32_t)h << 16);
}

static uint16_t bf16_narrow(float f)
{
    uint32_t x = f32_bits(f);

    if (f != f)
        return (uint16_t)(x >> 16 | 0x40);
    return (uint16_t)((x + 0x7fff + (x >> 16 & 1)) >> 16);
}

/* One step: v = v op w, both variables of type `wide`. */
#define STEP_sum(wide, narrow, v, w) v = narrow((wide)(v + w))
#define STEP_product(wide, narrow, v, w) v = narrow((wide)(v * w))
#define STEP_min(wide, narrow, v, w) v = v < w || v != v ? v : w
#define STEP_max(wide, narrow, v, w) v = v > w || v != v ? v : w
#define STEP_or(wide, narrow, v, w) v = v || w
#define STEP_and(wide, narrow, v, w) v = v && w

/* elem: as in memory; wide: as computed; load and round go between them.  scaled(v, factor) ends it. */
#define FOLD(type, op, elem, wide, load, round, scaled) \
    static void fold_##type##_##op(const struct ty_reduce_pass *p) \
    { \
        for (size_t i = 0; i < p->bytes; i += sizeof(elem)) { \
            wide v = load(*(const elem *)(p->src[0] + i)); \
            for (int k = 1; k < p->nsrc; k++) { \
                wide w = load(*(const elem *)(p->src[k] + i)); \
                STEP_##op(wide, load##_of_##round, v, w); \
            } \
            elem r = (elem)round(scaled(v, p->scale)); \
            for (int k = 0; k < p->ndst; k++) \
                *(elem *)(p->dst[k] + i) = r; \
        } \
    }
#define SAME(v) (v)
#define UNSCALED(v, factor) (v)
#define SCALED_f32(v, factor) ((factor) == 1 ? (v) : (v) * (float)(factor))
#define SCALED_f64(v, factor) ((factor) == 1 ? (v) : (v) * (factor))
/* What a half type holds after a step, widened again. */
#define SAME_of_SAME(v) (v)
#define f16_widen_of_f16_narrow(v) f16_widen(f16_narrow(v))
#define bf16_widen_of_bf16_narrow(v) bf16_widen(bf16_narrow(v))

#define FOLDS(type, elem, wide, uwide, load, round, scaled) \
    FOLD(type, sum, elem, uwide, load, round, scaled) \
    FOLD(type, min, elem, wide, load, round, scaled) \
    FOLD(type, max, elem, wide, load, round, scaled) \
    FOLD(type, product, elem, uwide, load, round, scaled)

/* Sums and products wrap: they are computed without a sign. */
FOLDS(u8, loose_u8, uint8_t, uint32_t, SAME, SAME, UNSCALED)
FOLDS(i8, loose_i8, int8_t, uint32_t, SAME, SAME, UNSCALED)
FOLDS(i16, loose_i16, int16_t, uint32_t, SAME, SAME, UNSCALED)
FOLDS(i32, loose_i32, int32_t, uint32_t, SAME, SAME, UNSCALED)
FOLDS(i64, loose_i64, int64_t, uint64_t, SAME, SAME, UNSCALED)
FOLD(bool, or, loose_u8, uint8_t, SAME, SAME, UNSCALED)
FOLD(bool, and, loose_u8, uint8_t, SAME, SAME, UNSCALED)
FOLDS(f16, loose_u16, float, float, f16_widen, f16_narrow, SCALED_f32)
FOLDS(bf16, loose_u16, float, float, bf16_widen, bf16_narrow, SCALED_f32)
FOLDS(f32, loose_f32, float, float, SAME, SAME, SCALED_f32)
FOLDS(f64, loose_f64, double, double, SAME, SAME, SCALED_f64)

#define SCALE(type, elem) \
    static void scale_##type(void *dst, const void *src, size_t n, double factor) \
    { \
        elem *d = dst; \
        const elem *s = src; \
\
        for (size_t i = 0; i < n; i++) \
            d[i] = (elem)reduce_wrapped((double)s[i] * factor); \
    }
SCALE(u8, loose_u8)
SCALE(i8, loose_i8)
SCALE(i16, loose_i16)
SCALE(i32, loose_i32)
SCALE(i64, loose_i64)

#define DOTS(type, elem, load) \
    static void dots_##type(const void *a, const void *b, size_t n, double sums[3]) \
    { \
        const elem *pa = a, *pb = b; \
        double lanes[3][TY_REDUCE_LANES] = { 0 }; \
\
        for (size_t i = 0; i < n; i++) { \
            double x = (double)load(pa[i]), y = (double)load(pb[i]); \
            lanes[0][i % TY_REDUCE_LANES] += x * y; \
            lanes[1][i % TY_REDUCE_LANES] += x * x; \
            lanes[2][i % TY_REDUCE_LANES] += y * y; \
        } \
        for (int k = 0; k < 3; k++) \
            sums[k] = reduce_lanes_sum(lanes[k]); \
    }
DOTS(f16, loose_u16, f16_widen)
DOTS(bf16, loose_u16, bf16_widen)
DOTS(f32, loose_f32, SAME)
DOTS(f64, loose_f64, SAME)

#define AXPBY(type, elem, load, round) \
    static void axpby_##type(void *a, const void *b, size_t n, double ca, double cb) \
    { \
        elem *pa = a; \
        const elem *pb = b; \
\
        for (size_t i = 0; i < n; i++) \
            pa[i] = (elem)round(ca * (double)load(pa[i]) + cb * (double)load(pb[i])); \
    }
#define F16_ONCE(d) f16_narrow(reduce_odd(d))
#define BF16_ONCE(d) bf16_narrow(reduce_odd(d))
AXPBY(f16, loose_u16, f16_widen, F16_ONCE)
AXPBY(bf16, loose_u16, bf16_widen, BF16_ONCE)
AXPBY(f32, loose_f32, SAME, SAME)
AXPBY(f64, loose_f64, SAME, SAME)

const struct ty_reduce_kernels ty_reduce_scalar = REDUCE_TABLE("scalar");
