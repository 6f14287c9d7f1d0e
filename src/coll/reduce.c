/* reduce.c - picks the inner loops of this processor, and cuts long passes of many sources into blocks
 *
 * A pass reads every source once.  With more than TY_REDUCE_GROUP of them a block is summed up in a buffer that stays in the
 * first cache, a group of sources at a time, in order: processors follow only so many streams at once.
 */
#include "coll/reduce_kernels.h"
#ifdef __x86_64__
#include <cpuid.h>
#endif

#define BLOCK ((size_t)8192) /* bytes */

/* Written once, before main or while the library is loaded, and only read after that. */
static const struct ty_reduce_kernels *best = &ty_reduce_plain;

#ifdef __x86_64__
static bool has_f16c(void)
{
    unsigned int a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

const struct ty_reduce_kernels *ty_reduce_variant(int i)
{
    const struct ty_reduce_kernels *all[5] = { &ty_reduce_scalar, &ty_reduce_plain };
    int n = 2;

#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && has_f16c())
        all[n++] = &ty_reduce_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has_f16c())
        all[n++] = &ty_reduce_avx512;
#endif
    return i >= 0 && i < n ? all[i] : NULL;
}

__attribute__((constructor)) static void pick_best(void)
{
    const struct ty_reduce_kernels *k;

    for (int i = 0; (k = ty_reduce_variant(i)); i++)
        best = k;
}

const char *ty_reduce_isa(void)
{
    return best->name;
}

static enum ty_reduce_step step_of(enum ty_coll_op op)
{
    switch (op) {
    case TY_COLL_MIN:
        return TY_REDUCE_MIN;
    case TY_COLL_MAX:
        return TY_REDUCE_MAX;
    case TY_COLL_PRODUCT:
        return TY_REDUCE_PRODUCT;
    default:
        return TY_REDUCE_SUM;
    }
}

/* The bytes at `offset` of every source, to the same place of every dst. */
static void fold_block(const struct ty_reduce_kernels *k, enum ty_coll_dtype t,
                       enum ty_reduce_step step, const struct ty_reduce_pass *p, size_t offset,
                       size_t bytes)
{
    void (*fold)(const struct ty_reduce_pass *) = k->fold[t][step];
    bool late = p->scale != 1 && k->scale[t];
    _Alignas(64) char sum[BLOCK];
    char *sums = sum, *dst[TY_REDUCE_RANKS];
    const char *group[TY_REDUCE_GROUP];
    struct ty_reduce_pass part = { .src = group, .bytes = bytes, .scale = 1 };
    int done = 0;

    while (done < p->nsrc) {
        part.nsrc = 0;
        if (done)
            group[part.nsrc++] = sum;
        while (part.nsrc < TY_REDUCE_GROUP && done < p->nsrc)
            group[part.nsrc++] = p->src[done++] + offset;
        part.dst = &sums;
        part.ndst = 1;
        if (done < p->nsrc || late)
            fold(&part);
    }
    if (late) {
        k->scale[t](sum, sum, bytes / ty_coll_dtype_size(t), p->scale);
        group[0] = sum;
        part.nsrc = 1;
    } else {
        part.scale = p->scale;
    }
    for (int i = 0; i < p->ndst; i++)
        dst[i] = p->dst[i] + offset;
    part.dst = dst;
    part.ndst = p->ndst;
    part.stream = p->stream;
    fold(&part);
}

void ty_reduce_all_by(const struct ty_reduce_kernels *k, enum ty_coll_dtype t, enum ty_coll_op op,
                      void *const *dst, int ndst, const void *const *src, int nsrc, size_t n,
                      double scale, bool stream)
{
    char *to[TY_REDUCE_RANKS];
    const char *from[TY_REDUCE_RANKS];
    struct ty_reduce_pass p = { .dst = to, .src = from, .scale = scale, .stream = stream };

    while (p.ndst < ndst && p.ndst < TY_REDUCE_RANKS && dst[p.ndst]) {
        to[p.ndst] = dst[p.ndst];
        p.ndst++;
    }
    while (p.nsrc < nsrc && p.nsrc < TY_REDUCE_RANKS) {
        from[p.nsrc] = src[p.nsrc];
        p.nsrc++;
    }
    p.bytes = n * ty_coll_dtype_size(t);
    if (!p.ndst || !p.nsrc || !p.bytes)
        return;
    if (p.nsrc <= TY_REDUCE_GROUP && (scale == 1 || !k->scale[t])) {
        k->fold[t][step_of(op)](&p);
        return;
    }
    for (size_t i = 0; i < p.bytes; i += BLOCK)
        fold_block(k, t, step_of(op), &p, i, p.bytes - i < BLOCK ? p.bytes - i : BLOCK);
}

void ty_reduce_all(enum ty_coll_dtype t, enum ty_coll_op op, void *const *dst, int ndst,
                   const void *const *src, int nsrc, size_t n, double scale, bool stream)
{
    ty_reduce_all_by(best, t, op, dst, ndst, src, nsrc, n, scale, stream);
}

void ty_reduce(enum ty_coll_dtype t, enum ty_coll_op op, void *dst, const void *src, size_t n)
{
    const char *from[2] = { dst, src };
    char *to = dst;
    struct ty_reduce_pass p = { .dst = &to,
                                .ndst = 1,
                                .src = from,
                                .nsrc = 2,
                                .bytes = n * ty_coll_dtype_size(t),
                                .scale = 1 };

    best->fold[t][step_of(op)](&p);
}

void ty_scale_to_by(const struct ty_reduce_kernels *k, enum ty_coll_dtype t, void *dst,
                    const void *src, size_t n, double factor)
{
    if (factor != 1 && k->scale[t])
        k->scale[t](dst, src, n, factor);
    else if (factor != 1 || dst != src)
        ty_reduce_all_by(k, t, TY_COLL_SUM, &dst, 1, &src, 1, n, factor, false);
}

void ty_scale_to(enum ty_coll_dtype t, void *dst, const void *src, size_t n, double factor)
{
    ty_scale_to_by(best, t, dst, src, n, factor);
}

void ty_scale(enum ty_coll_dtype t, void *p, size_t n, double factor)
{
    ty_scale_to_by(best, t, p, p, n, factor);
}

void ty_copy_stream(void *dst, const void *src, size_t bytes)
{
    const void *from = src;

    ty_reduce_all_by(best, TY_COLL_U8, TY_COLL_SUM, &dst, 1, &from, 1, bytes, 1, true);
}

void ty_dots(enum ty_coll_dtype t, const void *a, const void *b, size_t n, double *ab, double *aa,
             double *bb)
{
    double sums[3];

    best->dots[t](a, b, n, sums);
    *ab = sums[0];
    *aa = sums[1];
    *bb = sums[2];
}

void ty_axpby(enum ty_coll_dtype t, void *a, const void *b, size_t n, double ca, double cb)
{
    best->axpby[t](a, b, n, ca, cb);
}
