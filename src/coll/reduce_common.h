/* reduce_common.h - what the reference and the vectors of reduce_kernels.h share: types without alignment, the
 * integers' wrapping, and the tables' layout
 *
 * Included after the pragmas that say for which processor a file is compiled.
 */
#ifndef TY_COLL_REDUCE_COMMON_H
#define TY_COLL_REDUCE_COMMON_H
#include "coll/reduce_kernels.h"

/* An element anywhere in memory. */
#define REDUCE_LOOSE __attribute__((aligned(1), may_alias))
typedef uint8_t loose_u8 REDUCE_LOOSE;
typedef int8_t loose_i8 REDUCE_LOOSE;
typedef uint16_t loose_u16 REDUCE_LOOSE;
typedef int16_t loose_i16 REDUCE_LOOSE;
typedef int32_t loose_i32 REDUCE_LOOSE;
typedef int64_t loose_i64 REDUCE_LOOSE;
typedef float loose_f32 REDUCE_LOOSE;
typedef double loose_f64 REDUCE_LOOSE;

/* The loop that follows may be done in any order: its arrays are apart or equal. */
#ifdef __clang__
#define REDUCE_APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define REDUCE_APART _Pragma("GCC ivdep")
#endif

/* d cut toward zero, modulo 2^64.  Infinities and NaN give 0. */
static inline uint64_t reduce_wrapped(double d)
{
    uint64_t bits, mantissa;
    int exponent;

    memcpy(&bits, &d, sizeof bits);
    exponent = (int)(bits >> 52 & 0x7ff) - 1075;
    if (exponent < 10) /* |d| < 2^63 */
        return (uint64_t)(int64_t)d;
    mantissa = (bits & 0xfffffffffffff) | (uint64_t)1 << 52;
    mantissa = exponent < 64 ? mantissa << exponent : 0;
    return bits >> 63 ? -mantissa : mantissa;
}

/* The partial sums of ty_dots, in pairs. */
static inline double reduce_lanes_sum(double lanes[TY_REDUCE_LANES])
{
    for (int w = TY_REDUCE_LANES / 2; w; w /= 2)
        for (int j = 0; j < w; j++)
            lanes[j] += lanes[j + w];
    return lanes[0];
}

/* d as the float next to it toward zero, with the last bit set where d lies beyond: rounding that to a half type gives
 * what rounding d would. */
static inline float reduce_odd(double d)
{
    float f = (float)d;
    double back = (double)f;
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    bits = (bits - (uint32_t)(__builtin_fabs(back) > __builtin_fabs(d))) | (uint32_t)(back != d);
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* A row of ty_reduce_kernels.fold, of functions named fold_type_step. */
#define REDUCE_ROW(type) \
    { fold_##type##_sum, fold_##type##_min, fold_##type##_max, fold_##type##_product }
#define REDUCE_TABLE(title) \
    { \
        .name = title, \
        .fold = { \
            [TY_COLL_U8] = REDUCE_ROW(u8), [TY_COLL_I8] = REDUCE_ROW(i8), \
            [TY_COLL_I16] = REDUCE_ROW(i16), [TY_COLL_I32] = REDUCE_ROW(i32), \
            [TY_COLL_I64] = REDUCE_ROW(i64), \
            [TY_COLL_BOOL] = { fold_bool_or, fold_bool_and, fold_bool_or, fold_bool_and }, \
            [TY_COLL_F16] = REDUCE_ROW(f16), [TY_COLL_BF16] = REDUCE_ROW(bf16), \
            [TY_COLL_F32] = REDUCE_ROW(f32), [TY_COLL_F64] = REDUCE_ROW(f64), \
        }, \
        .scale = { \
            [TY_COLL_U8] = scale_u8, [TY_COLL_I8] = scale_i8, [TY_COLL_I16] = scale_i16, \
            [TY_COLL_I32] = scale_i32, [TY_COLL_I64] = scale_i64, \
        }, \
        .dots = { \
            [TY_COLL_F16] = dots_f16, [TY_COLL_BF16] = dots_bf16, [TY_COLL_F32] = dots_f32, \
            [TY_COLL_F64] = dots_f64, \
        }, \
        .axpby = { \
            [TY_COLL_F16] = axpby_f16, [TY_COLL_BF16] = axpby_bf16, [TY_COLL_F32] = axpby_f32, \
            [TY_COLL_F64] = axpby_f64, \
        }, \
    }
#endif
