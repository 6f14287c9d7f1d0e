/* reduce_avx2.c - reduce_vector.h for AVX2 and F16C */
#ifdef __x86_64__
#ifdef __clang__
#pragma clang fp contract(off)
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC optimize("O3", "fp-contract=off")
#pragma GCC target("avx2,f16c")
#endif
#include <immintrin.h>
#define STREAM(p, v) _mm256_stream_si256((__m256i *)(p), (__m256i)(v))
#define STREAM_END() _mm_sfence()
#define VB 32
#include "coll/reduce_types.h"

static inline struct pair f16_wide(vec h)
{
    return (struct pair){ (vf)_mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)h)),
                          (vf)_mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)h, 1)) };
}

static inline vec f16_narrow(struct pair p)
{
    return (vec)_mm256_set_m128i(_mm256_cvtps_ph((__m256)p.hi, _MM_FROUND_TO_NEAREST_INT),
                                 _mm256_cvtps_ph((__m256)p.lo, _MM_FROUND_TO_NEAREST_INT));
}

static inline vf f16_load(const uint16_t *h)
{
    return (vf)_mm256_cvtph_ps((__m128i) * (const half_u *)h);
}

static inline void f16_store(uint16_t *h, vf f)
{
    *(half_u *)h = (half)_mm256_cvtps_ph((__m256)f, _MM_FROUND_TO_NEAREST_INT);
}

#include "coll/reduce_vector.h"

const struct ty_reduce_kernels ty_reduce_avx2 = REDUCE_TABLE("avx2 f16c");
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
