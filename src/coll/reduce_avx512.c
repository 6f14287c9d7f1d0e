/* reduce_avx512.c - reduce_vector.h for AVX-512
 *
 * Not the instructions of AVX512_BF16: they take denormals for zero.
 */
#ifdef __x86_64__
#ifdef __clang__
#pragma clang fp contract(off)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c"))), \
                             apply_to = function)
#else
#pragma GCC optimize("O3", "fp-contract=off")
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,f16c")
#endif
#include <immintrin.h>
#define STREAM(p, v) _mm512_stream_si512((__m512i *)(p), (__m512i)(v))
#define STREAM_END() _mm_sfence()
#define VB 64
#include "coll/reduce_types.h"

static inline struct pair f16_wide(vec h)
{
    return (struct pair){ (vf)_mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)h)),
                          (vf)_mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)h, 1)) };
}

static inline vec f16_narrow(struct pair p)
{
    __m256i lo = _mm512_cvtps_ph((__m512)p.lo, _MM_FROUND_TO_NEAREST_INT);
    __m256i hi = _mm512_cvtps_ph((__m512)p.hi, _MM_FROUND_TO_NEAREST_INT);

    return (vec)_mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}

static inline vf f16_load(const uint16_t *h)
{
    return (vf)_mm512_cvtph_ps((__m256i) * (const half_u *)h);
}

static inline void f16_store(uint16_t *h, vf f)
{
    *(half_u *)h = (half)_mm512_cvtps_ph((__m512)f, _MM_FROUND_TO_NEAREST_INT);
}

#include "coll/reduce_vector.h"

const struct ty_reduce_kernels ty_reduce_avx512 = REDUCE_TABLE("avx512 f16c");
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
