/* reduce_plain.c - reduce_vector.h for any processor: vectors of 16 bytes, as the compiler finds best */
#ifdef __clang__
#pragma clang fp contract(off)
#else
#pragma GCC optimize("O3", "fp-contract=off")
#endif
#ifdef __SSE2__
#include <immintrin.h>
#define STREAM(p, v) _mm_stream_si128((__m128i *)(p), (__m128i)(v))
#define STREAM_END() _mm_sfence()
#else
#define STREAM(p, v) (*(vec_u *)(p) = (v))
#define STREAM_END() ((void)0)
#endif
#define VB 16
#define F16_BY_HAND
#include "coll/reduce_vector.h"

const struct ty_reduce_kernels ty_reduce_plain = REDUCE_TABLE("plain");
