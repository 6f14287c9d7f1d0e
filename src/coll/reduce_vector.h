/* reduce_vector.h - the text of the vector variants of reduce_kernels.h
 *
 * Included once by each of reduce_plain.c, reduce_avx2.c and reduce_avx512.c, which define before it
 *
 *     VB                     bytes of a vector
 *     STREAM(p, v)           store v at p, which is aligned to VB, past the caches
 *     STREAM_END()           other processors see those stores before any later one
 *     F16_BY_HAND            float16 is converted by the integer arithmetic below; otherwise the includer gives, after
 *                            #include "coll/reduce_types.h", f16_wide, f16_narrow, f16_load and f16_store
 *
 * A pass works on whole vectors of memory, whatever the type: a step takes the running value and the next source's
 * vector as they lie in memory and gives the new value, rounded.  Half types are widened and narrowed within the step;
 * in a pass of two sources the compiler leaves one rounding, that before the store.  What remains at the ends is
 * padded with zeros to a vector and goes the same way, so the length never changes a result.
 */
#include "coll/reduce_types.h"

/* ---- steps ---- */

/* m: all ones where a is taken. */
static inline vec pick(vec m, vec a, vec b)
{
    return (m & a) | (~m & b);
}

#define STEPS_ARITHMETIC(type, vector) \
    static inline vec step_##type##_sum(vec a, vec b) { return (vec)((vector)a + (vector)b); } \
    static inline vec step_##type##_product(vec a, vec b) { return (vec)((vector)a * (vector)b); }
#define STEPS_ORDER(type, vector) \
    static inline vec step_##type##_min(vec a, vec b) { return pick((vec)((vector)a < (vector)b), a, b); } \
    static inline vec step_##type##_max(vec a, vec b) { return pick((vec)((vector)a > (vector)b), a, b); }
#define STEPS_INTEGER(type, elem, uelem) \
    typedef elem v_##type __attribute__((vector_size(VB))); \
    typedef uelem vu_##type __attribute__((vector_size(VB))); \
    STEPS_ARITHMETIC(type, vu_##type) \
    STEPS_ORDER(type, v_##type)
STEPS_INTEGER(u8, uint8_t, uint8_t)
STEPS_INTEGER(i8, int8_t, uint8_t)
STEPS_INTEGER(i16, int16_t, uint16_t)
STEPS_INTEGER(i32, int32_t, uint32_t)
STEPS_INTEGER(i64, int64_t, uint64_t)

static inline vec step_bool_or(vec a, vec b)
{
    return (vec)(((vu_u8)a | (vu_u8)b) != 0) & 0x01010101;
}

static inline vec step_bool_and(vec a, vec b)
{
    return (vec)(((vu_u8)a != 0) & ((vu_u8)b != 0)) & 0x01010101;
}

/* A NaN on either side is kept: of b because no comparison with it holds, of a because it differs from itself. */
#define STEPS_FLOAT(type, vector) \
    STEPS_ARITHMETIC(type, vector) \
    static inline vec step_##type##_min(vec a, vec b) \
    { \
        return pick((vec)((vector)a < (vector)b) | (vec)((vector)a != (vector)a), a, b); \
    } \
    static inline vec step_##type##_max(vec a, vec b) \
    { \
        return pick((vec)((vector)a > (vector)b) | (vec)((vector)a != (vector)a), a, b); \
    }
STEPS_FLOAT(f32, vf)
STEPS_FLOAT(f64, vd)

/* Adds half of the last bit that stays, and the least more where that bit is odd: ties go to even. */
static inline vec bf16_round(vec x)
{
    return pick((vec)((vf)x != (vf)x), x | 0x400000, x + 0x7fff + ((x >> 16) & 1));
}

/* The even elements lie in the lower halves of 32-bit words, the odd ones in the upper. */
static inline struct pair bf16_wide(vec h)
{
    return (struct pair){ (vf)(h << 16), (vf)(h & 0xffff0000) };
}

static inline vec bf16_narrow(struct pair p)
{
    return (bf16_round((vec)p.lo) >> 16) | (bf16_round((vec)p.hi) & 0xffff0000);
}

static inline vf bf16_load(const uint16_t *h)
{
    return (vf)(__builtin_convertvector(*(const half_u *)h, vec) << 16);
}

static inline void bf16_store(uint16_t *h, vf f)
{
    *(half_u *)h = __builtin_convertvector(bf16_round((vec)f) >> 16, half);
}

#ifdef F16_BY_HAND
/* h: 16 bits in each 32.  Exponent 0 is found by subtracting the one that was put in. */
static inline vf f16_widen(vec h)
{
    vec sign = (h & 0x8000) << 16, x = (h & 0x7fff) << 13;
    vec tiny = (vec)((vi)x < 0x800000), huge = (vec)((vi)x >= 0x0f800000);
    vec normal = x + (112u << 23) + (huge & (112u << 23));
    vec small = (vec)((vf)(x + (113u << 23)) - 0x1p-14f);

    return (vf)(pick(tiny, small, normal) | sign);
}

/* The last bit of a float at 0.5 is 2^-24, that of the smallest halves, so adding 0.5 rounds them. */
static inline vec f16_bits(vf f)
{
    vec x = (vec)f & 0x7fffffff, sign = ((vec)f >> 16) & 0x8000;
    vec nan = (vec)((vi)x > 0x7f800000), huge = (vec)((vi)x >= 0x47800000);
    vec tiny = (vec)((vi)x < 0x38800000);
    vec small = (vec)((vf)x + 0.5f) - 0x3f000000;
    vec normal = (x - (112u << 23) + 0xfff + ((x >> 13) & 1)) >> 13;
    vec special = 0x7c00 | (nan & (0x200 | ((x >> 13) & 0x1ff)));

    return pick(huge, special, pick(tiny, small, normal)) | sign;
}

static inline struct pair f16_wide(vec h)
{
    return (struct pair){ f16_widen(h & 0xffff), f16_widen(h >> 16) };
}

static inline vec f16_narrow(struct pair p)
{
    return f16_bits(p.lo) | f16_bits(p.hi) << 16;
}

static inline vf f16_load(const uint16_t *h)
{
    return f16_widen(__builtin_convertvector(*(const half_u *)h, vec));
}

static inline void f16_store(uint16_t *h, vf f)
{
    *(half_u *)h = __builtin_convertvector(f16_bits(f), half);
}
#endif

#define STEP_HALF(type, op) \
    static inline vec step_##type##_##op(vec a, vec b) \
    { \
        struct pair x = type##_wide(a), y = type##_wide(b); \
\
        return type##_narrow((struct pair){ (vf)step_f32_##op((vec)x.lo, (vec)y.lo), \
                                            (vf)step_f32_##op((vec)x.hi, (vec)y.hi) }); \
    }
#define STEPS_HALF(type) \
    STEP_HALF(type, sum) \
    STEP_HALF(type, product) \
    STEP_HALF(type, min) \
    STEP_HALF(type, max)
STEPS_HALF(f16)
STEPS_HALF(bf16)

static inline vec scaled_not(vec v, double factor)
{
    (void)factor;
    return v;
}

static inline vec scaled_f32(vec v, double factor)
{
    return (vec)((vf)v * (float)factor);
}

static inline vec scaled_f64(vec v, double factor)
{
    return (vec)((vd)v * factor);
}

#define SCALED_HALF(type) \
    static inline vec scaled_##type(vec v, double factor) \
    { \
        struct pair x = type##_wide(v); \
\
        return type##_narrow((struct pair){ x.lo * (float)factor, x.hi * (float)factor }); \
    }
SCALED_HALF(f16)
SCALED_HALF(bf16)

/* ---- a pass ---- */

typedef vec step_fn(vec a, vec b);
typedef vec scaled_fn(vec v, double factor);
/* The whole vectors of a pass, from offset i on.  Bit k of `past`: dst[k] gets stores that bypass the caches; those behind the
 * first PAST never do. */
#define PAST 64
typedef void run_fn(const struct ty_reduce_pass *p, size_t i, uint64_t past);

/* So many vectors at offset i of every source, to every dst. */
/* `past`: which of the first dsts are stored to past the caches, a bit each. */
#define PAST 64
INLINED void run_place(step_fn *step, scaled_fn *scaled, const struct ty_reduce_pass *p, size_t i, int vectors,
                       uint64_t past)
{
    vec v[RUN_VECTORS];

    EACH(u, vectors)
        v[u] = *(const vec_u *)(p->src[0] + i + (size_t)u * VB);
    for (int k = 1; k < p->nsrc; k++) {
        EACH(u, vectors)
            v[u] = step(v[u], *(const vec_u *)(p->src[k] + i + (size_t)u * VB));
    }
    if (p->scale != 1) {
        EACH(u, vectors)
            v[u] = scaled(v[u], p->scale);
    }
    for (int k = 0; k < p->ndst; k++) {
        if (k < PAST && past >> k & 1) {
            EACH(u, vectors)
                STREAM(p->dst[k] + i + (size_t)u * VB, v[u]);
        } else {
            EACH(u, vectors)
                *(vec_u *)(p->dst[k] + i + (size_t)u * VB) = v[u];
        }
    }
}

INLINED void run_many(step_fn *step, scaled_fn *scaled, const struct ty_reduce_pass *p, size_t i, uint64_t past)
{
    for (; p->bytes - i >= RUN_VECTORS * VB; i += RUN_VECTORS * VB) {
        /* The processor alone does not run ahead far enough on more streams than that. */
        for (int k = 0; k < p->nsrc && p->nsrc > 2; k++)
            for (int line = 0; line < RUN_VECTORS * VB; line += 64)
                __builtin_prefetch(p->src[k] + i + RUN_AHEAD + line);
        run_place(step, scaled, p, i, RUN_VECTORS, past);
    }
    for (; p->bytes - i >= VB; i += VB)
        run_place(step, scaled, p, i, 1, past);
}

/* Two sources to one or two dsts, with their addresses in registers. */
INLINED void run_two(step_fn *step, scaled_fn *scaled, const struct ty_reduce_pass *p, size_t i, int ndst)
{
    char *dst[2] = { p->dst[0], p->dst[ndst - 1] };
    const char *src[2] = { p->src[0], p->src[1] };
    const struct ty_reduce_pass two = {
        .dst = dst, .ndst = ndst, .src = src, .nsrc = 2, .bytes = p->bytes, .scale = 1
    };

    run_many(step, scaled, &two, i, 0);
}

#define RUN(type, op, scaled) \
    static void run_##type##_##op(const struct ty_reduce_pass *p, size_t i, uint64_t past) \
    { \
        run_many(step_##type##_##op, scaled, p, i, past); \
    }
#define RUN_QUICK(type, op, scaled) \
    static void run_##type##_##op(const struct ty_reduce_pass *p, size_t i, uint64_t past) \
    { \
        if (past || p->nsrc != 2 || p->ndst > 2 || p->scale != 1) \
            run_many(step_##type##_##op, scaled, p, i, past); \
        else if (p->ndst == 2) \
            run_two(step_##type##_##op, scaled, p, i, 2); \
        else \
            run_two(step_##type##_##op, scaled, p, i, 1); \
    }

/* Bytes i to end, whole elements but no whole vectors: padded, and run alone. */
static void fold_padded(run_fn *run, const struct ty_reduce_pass *p, size_t i, size_t end)
{
    _Alignas(VB) char from[TY_REDUCE_GROUP][VB], to[VB];
    const char *src[TY_REDUCE_GROUP];
    char *dst = to;
    struct ty_reduce_pass one = *p;

    one.src = src;
    one.dst = &dst;
    one.ndst = 1;
    one.bytes = VB;
    while (i < end) {
        size_t n = end - i < VB ? end - i : VB;

        for (int k = 0; k < p->nsrc; k++) {
            *(vec *)from[k] = (vec){ 0 };
            memcpy(from[k], p->src[k] + i, n);
            src[k] = from[k];
        }
        run(&one, 0, 0);
        for (int k = 0; k < p->ndst; k++)
            memcpy(p->dst[k] + i, to, n);
        i += n;
    }
}

/* Stores past the caches want whole lines: up to the first of dst[0] they are ordinary ones, and they stay that for
 * a dst that lies differently, or whose elements cross lines. */
static void fold(run_fn *run, const struct ty_reduce_pass *p, size_t elem)
{
    size_t head = 0, tail;
    uint64_t past = 0;

    if (p->stream) {
        head = -(size_t)p->dst[0] % 64;
        if (head > p->bytes || head % elem)
            head = 0;
        for (int k = 0; k < p->ndst && k < PAST; k++)
            past |= (uint64_t)((size_t)(p->dst[k] + head) % VB == 0) << k;
    }
    tail = p->bytes - (p->bytes - head) % VB;
    fold_padded(run, p, 0, head);
    run(p, head, past);
    fold_padded(run, p, tail, p->bytes);
    if (past)
        STREAM_END();
}

#define FOLD(type, op, elem) \
    static void fold_##type##_##op(const struct ty_reduce_pass *p) { fold(run_##type##_##op, p, elem); }
#define FOLDS(type, elem, scaled, run_sum) \
    run_sum(type, sum, scaled) \
    RUN(type, min, scaled) \
    RUN(type, max, scaled) \
    RUN(type, product, scaled) \
    FOLD(type, sum, elem) \
    FOLD(type, min, elem) \
    FOLD(type, max, elem) \
    FOLD(type, product, elem)
FOLDS(u8, 1, scaled_not, RUN)
FOLDS(i8, 1, scaled_not, RUN)
FOLDS(i16, 2, scaled_not, RUN)
FOLDS(i32, 4, scaled_not, RUN)
FOLDS(i64, 8, scaled_not, RUN)
RUN(bool, or, scaled_not)
RUN(bool, and, scaled_not)
FOLD(bool, or, 1)
FOLD(bool, and, 1)
FOLDS(f16, 2, scaled_f16, RUN_QUICK)
FOLDS(bf16, 2, scaled_bf16, RUN_QUICK)
FOLDS(f32, 4, scaled_f32, RUN_QUICK)
FOLDS(f64, 8, scaled_f64, RUN_QUICK)

/* ---- integers by a factor ---- */

/* The usual factor is 1/size: below 1 the product fits the type that it came from, or for the narrow ones 32 bits. */
#define SCALE(type, elem, wide) \
    static void scale_##type(void *dst, const void *src, size_t n, double factor) \
    { \
        elem *d = dst; \
        const elem *s = src; \
\
        if (!(factor > -1 && factor < 1)) { \
            for (size_t i = 0; i < n; i++) \
                d[i] = (elem)reduce_wrapped((double)s[i] * factor); \
            return; \
        } \
        REDUCE_APART \
        for (size_t i = 0; i < n; i++) \
            d[i] = (elem)(wide)((double)s[i] * factor); \
    }
SCALE(u8, loose_u8, int32_t)
SCALE(i8, loose_i8, int32_t)
SCALE(i16, loose_i16, int32_t)
SCALE(i32, loose_i32, int32_t)
SCALE(i64, loose_i64, int64_t)

/* ---- Adasum ---- */

#define DOT_VECTORS (TY_REDUCE_LANES * 8 / VB)

/* lanes[k]: partial sum i of product k is in vector i / (VB / 8). */
struct dots {
    vd lanes[3][DOT_VECTORS];
};

/* Adds n elements, a multiple of TY_REDUCE_LANES. */
#define DOTS_RUN(type, vector) \
    static void dots_run_##type(struct dots *s, const type *a, const type *b, size_t n) \
    { \
        struct dots t = *s; \
\
        for (size_t i = 0; i < n; i += TY_REDUCE_LANES) \
            EACH(j, DOT_VECTORS) { \
                vd x = __builtin_convertvector(*(const vector *)(a + i + j * (VB / 8)), vd); \
                vd y = __builtin_convertvector(*(const vector *)(b + i + j * (VB / 8)), vd); \
                t.lanes[0][j] += x * y; \
                t.lanes[1][j] += x * x; \
                t.lanes[2][j] += y * y; \
            } \
        *s = t; \
    }
DOTS_RUN(loose_f32, vhf_u)
DOTS_RUN(loose_f64, vd_u)

static void dots_end(struct dots *s, double sums[3])
{
    for (int k = 0; k < 3; k++) {
        double lanes[TY_REDUCE_LANES];

        memcpy(lanes, s->lanes[k], sizeof lanes);
        sums[k] = reduce_lanes_sum(lanes);
    }
}

/* Zeros after the end change no sum. */
#define DOTS(type) \
    static void dots_##type(const void *a, const void *b, size_t n, double sums[3]) \
    { \
        struct dots s = { 0 }; \
        size_t whole = n - n % TY_REDUCE_LANES; \
        loose_##type x[TY_REDUCE_LANES] = { 0 }, y[TY_REDUCE_LANES] = { 0 }; \
        const loose_##type *pa = a, *pb = b; \
\
        dots_run_loose_##type(&s, pa, pb, whole); \
        memcpy(x, pa + whole, (n - whole) * sizeof *x); \
        memcpy(y, pb + whole, (n - whole) * sizeof *y); \
        dots_run_loose_##type(&s, x, y, TY_REDUCE_LANES); \
        dots_end(&s, sums); \
    }
DOTS(f32)
DOTS(f64)

#define AXPBY_RUN(type) \
    static void axpby_##type(void *a, const void *b, size_t n, double ca, double cb) \
    { \
        loose_##type *pa = a; \
        const loose_##type *pb = b; \
\
        REDUCE_APART \
        for (size_t i = 0; i < n; i++) \
            pa[i] = (loose_##type)(ca * (double)pa[i] + cb * (double)pb[i]); \
    }
AXPBY_RUN(f32)
AXPBY_RUN(f64)

#define HALF_BLOCK 256 /* elements of a half type that are widened at a time */

/* Half types go through floats, a block at a time; what is missing of the last block is zeros. */
#define ADASUM_HALF(type) \
    static void widen_##type(float *f, const char *h, size_t n) \
    { \
        uint16_t padded[HALF_BLOCK] = { 0 }; \
\
        memcpy(padded, h, n * sizeof *padded); \
        for (size_t i = 0; i < HALF_BLOCK; i += VB / 4) \
            *(vf_u *)(f + i) = type##_load(padded + i); \
    } \
\
    static void dots_##type(const void *a, const void *b, size_t n, double sums[3]) \
    { \
        struct dots s = { 0 }; \
        float x[HALF_BLOCK], y[HALF_BLOCK]; \
\
        for (size_t i = 0; i < n; i += HALF_BLOCK) { \
            size_t m = n - i < HALF_BLOCK ? n - i : HALF_BLOCK; \
            widen_##type(x, (const char *)a + i * 2, m); \
            widen_##type(y, (const char *)b + i * 2, m); \
            dots_run_loose_f32(&s, x, y, HALF_BLOCK); \
        } \
        dots_end(&s, sums); \
    } \
\
    static void axpby_##type(void *a, const void *b, size_t n, double ca, double cb) \
    { \
        float x[HALF_BLOCK], y[HALF_BLOCK]; \
        uint16_t h[HALF_BLOCK]; \
\
        for (size_t i = 0; i < n; i += HALF_BLOCK) { \
            size_t m = n - i < HALF_BLOCK ? n - i : HALF_BLOCK; \
            widen_##type(x, (const char *)a + i * 2, m); \
            widen_##type(y, (const char *)b + i * 2, m); \
            for (int j = 0; j < HALF_BLOCK; j++) \
                x[j] = reduce_odd(ca * (double)x[j] + cb * (double)y[j]); \
            for (int j = 0; j < HALF_BLOCK; j += VB / 4) \
                type##_store(h + j, *(const vf_u *)(x + j)); \
            memcpy((char *)a + i * 2, h, m * sizeof *h); \
        } \
    }
ADASUM_HALF(f16)
ADASUM_HALF(bf16)
