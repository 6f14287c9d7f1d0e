/* values.h - random tensors that every rank can compute, and their sums in float64 */
#ifndef TESTS_VALUES_H
#define TESTS_VALUES_H
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <trainyard/coll.h>

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline double load(enum ty_coll_dtype t, const void *p, int64_t i)
{
    union {
        uint32_t u;
        float f;
    } wide;

    switch (t) {
    case TY_COLL_I8:
        return ((const int8_t *)p)[i];
    case TY_COLL_I16:
        return ((const int16_t *)p)[i];
    case TY_COLL_I32:
        return ((const int32_t *)p)[i];
    case TY_COLL_I64:
        return (double)((const int64_t *)p)[i];
    case TY_COLL_F16:
        return (double)((const _Float16 *)p)[i];
    case TY_COLL_BF16:
        wide.u = (uint32_t)((const uint16_t *)p)[i] << 16;
        return (double)wide.f;
    case TY_COLL_F32:
        return (double)((const float *)p)[i];
    case TY_COLL_F64:
        return ((const double *)p)[i];
    default:
        return ((const uint8_t *)p)[i];
    }
}

/* v is a value of the type. */
static inline void store(enum ty_coll_dtype t, void *p, int64_t i, double v)
{
    union {
        uint32_t u;
        float f;
    } wide;

    switch (t) {
    case TY_COLL_I8:
        ((int8_t *)p)[i] = (int8_t)v;
        break;
    case TY_COLL_I16:
        ((int16_t *)p)[i] = (int16_t)v;
        break;
    case TY_COLL_I32:
        ((int32_t *)p)[i] = (int32_t)v;
        break;
    case TY_COLL_I64:
        ((int64_t *)p)[i] = (int64_t)v;
        break;
    case TY_COLL_F16:
        ((_Float16 *)p)[i] = (_Float16)v;
        break;
    case TY_COLL_BF16:
        wide.f = (float)v;
        ((uint16_t *)p)[i] = (uint16_t)(wide.u >> 16);
        break;
    case TY_COLL_F32:
        ((float *)p)[i] = (float)v;
        break;
    case TY_COLL_F64:
        ((double *)p)[i] = v;
        break;
    default:
        ((uint8_t *)p)[i] = (uint8_t)v;
    }
}

/* Tensors repeat after so many elements, which nothing in the engine is a multiple of. */
#define PERIOD 4093

/* Element i of the tensor that a rank gives: small enough that four of them multiplied do not leave any type. */
static inline double value(enum ty_coll_dtype t, uint64_t seed, int rank, int64_t i)
{
    uint64_t x = mix(mix(seed + (uint64_t)rank * 0x9e3779b97f4a7c15u) + (uint64_t)(i % PERIOD));

    switch (t) {
    case TY_COLL_BOOL:
        return (double)(x % 4 == 0);
    case TY_COLL_U8:
        return (double)(x % 4);
    case TY_COLL_I8:
    case TY_COLL_I16:
    case TY_COLL_I32:
    case TY_COLL_I64:
        return (double)(x % 7) - 3;
    case TY_COLL_F16:
    case TY_COLL_BF16:
        return ((double)(x % 255) - 127) / 128;
    case TY_COLL_F32:
        return (double)((float)(x >> 40) / (float)(1 << 23) - 1);
    default:
        return (double)(x >> 11) / (double)(1ull << 52) - 1;
    }
}

static inline void fill(enum ty_coll_dtype t, void *p, int64_t n, uint64_t seed, int rank)
{
    size_t size = ty_coll_dtype_size(t);

    for (int64_t i = 0; i < n && i < PERIOD; i++)
        store(t, p, i, value(t, seed, rank, i));
    for (int64_t i = PERIOD; i < n; i += PERIOD)
        memcpy((char *)p + (size_t)i * size, p, (size_t)(n - i < PERIOD ? n - i : PERIOD) * size);
}

static inline double epsilon(enum ty_coll_dtype t)
{
    return t == TY_COLL_F16    ? 1.0 / 1024
           : t == TY_COLL_BF16 ? 1.0 / 128
           : t == TY_COLL_F32  ? 1.0 / (1 << 23)
           : t == TY_COLL_F64  ? 1.0 / (double)(1ull << 52)
                               : 0;
}

/* What the reduction of `ranks` (n of them) is for element i, and how far from it a result may be. */
static inline double reduced(enum ty_coll_dtype t, enum ty_coll_op op, uint64_t seed, const int *ranks, int n, int64_t i,
                             double prescale, double postscale, double *slack)
{
    bool whole = t <= TY_COLL_BOOL;
    double sum = 0, size = 0;

    for (int k = 0; k < n; k++) {
        double x = value(t, seed, ranks[k], i) * (t == TY_COLL_BOOL ? 1 : prescale);

        x = whole ? trunc(x) : x;
        size += fabs(x);
        if (k == 0)
            sum = x;
        else if (op == TY_COLL_MIN)
            sum = x < sum ? x : sum;
        else if (op == TY_COLL_MAX)
            sum = x > sum ? x : sum;
        else if (op == TY_COLL_PRODUCT)
            sum *= x;
        else
            sum += x;
    }
    if (t == TY_COLL_BOOL) {
        *slack = 0;
        return sum != 0;
    }
    if (op == TY_COLL_AVERAGE)
        sum /= n;
    sum *= postscale;
    *slack = (n + 3) * epsilon(t) * (size + fabs(sum)) * fmax(1, fabs(postscale));
    return whole ? trunc(sum) : sum;
}
#endif
