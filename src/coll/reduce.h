/* reduce.h - arithmetic on arrays: the inner loops of every reduction
 *
 * Pure and without state.  The best instructions of this processor are found once, at load time; every variant gives
 * bit for bit what the plain C one gives, denormals and infinities included (a NaN stays a NaN, whichever).
 * float16 and bfloat16 are widened to float32, combined, and rounded to nearest even after every single step.
 * Arrays may be unaligned and must not overlap but where they are equal.  Integers wrap.  A minimum or maximum with a
 * NaN on either side is a NaN.  A bool that is not 0 counts as 1.  Denormals are kept as long as the calling thread has
 * not told its processor to flush them.
 */
#ifndef TY_COLL_REDUCE_H
#define TY_COLL_REDUCE_H
#include <trainyard/coll.h>

#define TY_REDUCE_RANKS 256 /* most sources of ty_reduce_all */

/* dst[i] = dst[i] op src[i] for n elements.  op: SUM (AVERAGE and ADASUM are the same here), MIN, MAX, PRODUCT. */
void ty_reduce(enum ty_coll_dtype t, enum ty_coll_op op, void *dst, const void *src, size_t n);

/* v = src[0][i] op src[1][i] op ... (in that order), times `scale`, stored to dst[0][i], dst[1][i] ...: one pass over
 * memory.  Bit for bit ty_reduce() of one source after the other, then ty_scale().  A dst may be one of the src.
 * ndst of them, or as many as stand before a NULL.  nsrc, ndst <= TY_REDUCE_RANKS.
 * `stream`: with stores that bypass the caches, where dst[0] is aligned to its elements and the others lie, modulo 64
 * bytes, as it does; they are ordered before what the thread stores after the call. */
void ty_reduce_all(enum ty_coll_dtype t, enum ty_coll_op op, void *const *dst, int ndst, const void *const *src, int nsrc,
                   size_t n, double scale, bool stream);

/* p[i] *= factor: floats in their own type's arithmetic (half types in float32, float32 and float64 by a factor rounded to
 * the type), integers as doubles cut toward zero and wrapped into the type (infinities and NaN give 0), bool unchanged.
 * factor 1 does nothing. */
void ty_scale(enum ty_coll_dtype t, void *p, size_t n, double factor);
/* dst[i] = src[i] * factor, the same. */
void ty_scale_to(enum ty_coll_dtype t, void *dst, const void *src, size_t n, double factor);

/* memcpy with stores that bypass the caches: for what another core reads next. */
void ty_copy_stream(void *dst, const void *src, size_t bytes);

/* Both for floating types alone.
 * The three sums of Adasum, in float64 and in the same order everywhere: *ab = sum a*b, *aa = sum a*a, *bb = sum b*b. */
void ty_dots(enum ty_coll_dtype t, const void *a, const void *b, size_t n, double *ab, double *aa, double *bb);
/* a[i] = ca * a[i] + cb * b[i], in float64, rounded to the type once. */
void ty_axpby(enum ty_coll_dtype t, void *a, const void *b, size_t n, double ca, double cb);

/* The names of the instruction sets in use, for logs and benchmarks: "avx512 f16c". */
const char *ty_reduce_isa(void);
#endif
