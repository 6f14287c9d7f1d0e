/* reduce_kernels.h - the inner loops behind reduce.h, once for each instruction set
 *
 * Variant 0 is the reference: plain C, an element at a time.  The others come from one text, reduce_vector.h, with
 * vectors of 16, 32 and 64 bytes.  For tests and benchmarks, which compare them; everybody else uses reduce.h.
 */
#ifndef TY_COLL_REDUCE_KERNELS_H
#define TY_COLL_REDUCE_KERNELS_H
#include "coll/reduce.h"

enum ty_reduce_step {
    TY_REDUCE_SUM,
    TY_REDUCE_MIN,
    TY_REDUCE_MAX,
    TY_REDUCE_PRODUCT,
    TY_REDUCE_STEPS
};

#define TY_REDUCE_LANES 16 /* of ty_dots: element i is added to partial sum i mod 16, on every processor */

#define TY_REDUCE_GROUP 8  /* most sources of one pass */

/* One pass: src[0] op src[1] ... times scale, to every dst.  The scale is for floating types; others do without. */
struct ty_reduce_pass {
    char *const *dst;
    int ndst;
    const char *const *src;
    int nsrc;
    size_t bytes;
    double scale;
    bool stream;
};

struct ty_reduce_kernels {
    const char *name;
    void (*fold[TY_COLL_DTYPES][TY_REDUCE_STEPS])(const struct ty_reduce_pass *p);
    /* Integers alone: NULL for a type that fold scales, and for bool. */
    void (*scale[TY_COLL_DTYPES])(void *dst, const void *src, size_t n, double factor);
    /* Floating types alone.  sums: ab, aa, bb. */
    void (*dots[TY_COLL_DTYPES])(const void *a, const void *b, size_t n, double sums[3]);
    void (*axpby[TY_COLL_DTYPES])(void *a, const void *b, size_t n, double ca, double cb);
};

extern const struct ty_reduce_kernels ty_reduce_scalar, ty_reduce_plain;
#ifdef __x86_64__
extern const struct ty_reduce_kernels ty_reduce_avx2, ty_reduce_avx512;
#endif

/* The i-th variant that this processor can run, from the reference up to the one in use; NULL past the last. */
const struct ty_reduce_kernels *ty_reduce_variant(int i);

/* ty_reduce_all() and ty_scale_to() by a variant. */
void ty_reduce_all_by(const struct ty_reduce_kernels *k, enum ty_coll_dtype t, enum ty_coll_op op, void *const *dst,
                      int ndst, const void *const *src, int nsrc, size_t n, double scale, bool stream);
void ty_scale_to_by(const struct ty_reduce_kernels *k, enum ty_coll_dtype t, void *dst, const void *src, size_t n,
                    double factor);
#endif
