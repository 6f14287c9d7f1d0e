/* reduce_bench.c - how fast the inner loops of reductions are, beside the reference and beside memcpy
 *
 *     reduce_bench [repeats]        30 by default; the best of them counts
 *
 * "cache" works on 64 KiB an array, "memory" on 64 MiB.  GB/s counts every byte read and every byte written once; the
 * ratio is that to the scalar variant's.  The line of memcpy is what the machine does at the same time of day.
 */
#include "coll/reduce_kernels.h"
#include <trainyard/coll.h>

#define SMALL ((size_t)64 << 10)
#define LARGE ((size_t)64 << 20)
#define ARRAYS 4

struct bench {
    const struct ty_reduce_kernels *k;
    enum ty_coll_dtype t;
    enum ty_coll_op op;
    int nsrc, ndst;
    bool stream, in_place;
    size_t bytes;
    char *const *arrays;
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void once(const struct bench *b)
{
    void *dst[ARRAYS];
    const void *src[ARRAYS];

    for (int i = 0; i < b->nsrc; i++)
        src[i] = b->arrays[i];
    for (int i = 0; i < b->ndst; i++)
        dst[i] = b->arrays[b->in_place ? i : b->nsrc + i];
    ty_reduce_all_by(b->k, b->t, b->op, dst, b->ndst, src, b->nsrc,
                     b->bytes / ty_coll_dtype_size(b->t), 1, b->stream);
}

/* The best rate of `repeats`, in GB/s. */
static double rate(const struct bench *b, int repeats)
{
    size_t turns = b->bytes < LARGE ? (b->k == ty_reduce_variant(0) ? 4 : 64) : 1;
    double best = 0;

    for (int r = 0; r < repeats; r++) {
        double start = seconds(), took;
        for (size_t i = 0; i < turns; i++)
            once(b);
        took = (seconds() - start) / (double)turns;
        double now = (double)b->bytes * (b->nsrc + b->ndst) / took * 1e-9;
        best = now > best ? now : best;
    }
    return best;
}

static void row(const char *what, struct bench b, int repeats)
{
    double scalar = 0, now = 0;

    printf("%-32s", what);
    for (int i = 0; (b.k = ty_reduce_variant(i)); i++) {
        now = rate(&b, i ? repeats : (repeats + 3) / 4);
        scalar = i ? scalar : now;
        printf(" %8.2f", now);
    }
    printf(" %7.1fx\n", now / scalar);
}

static void table(char *const *arrays, size_t bytes, int repeats)
{
    static const enum ty_coll_dtype types[] = { TY_COLL_F32, TY_COLL_F16, TY_COLL_BF16, TY_COLL_F64,
                                                TY_COLL_I8,  TY_COLL_I64, TY_COLL_BOOL };
    static const struct {
        const char *what;
        enum ty_coll_op op;
        int nsrc, ndst;
        bool stream, in_place;
    } forms[] = {
        { "d += s", TY_COLL_SUM, 2, 1, false, true },
        { "d = max(d, s)", TY_COLL_MAX, 2, 1, false, true },
        { "both = a + b, in place", TY_COLL_SUM, 2, 2, false, true },
        { "both = a + b, in place, streamed", TY_COLL_SUM, 2, 2, true, true },
        { "x = a + b, streamed", TY_COLL_SUM, 2, 1, true, false },
        { "four = a + b + c + d, in place", TY_COLL_SUM, 4, 4, false, true },
    };

    printf("\n%zu KiB an array, GB/s of:%7s", bytes >> 10, "");
    for (int i = 0; ty_reduce_variant(i); i++)
        printf(" %8.8s", ty_reduce_variant(i)->name);
    printf("    ratio\n");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            char what[64];
            struct bench b = { .t = types[t],
                               .op = forms[f].op,
                               .nsrc = forms[f].nsrc,
                               .ndst = forms[f].ndst,
                               .stream = forms[f].stream,
                               .in_place = forms[f].in_place,
                               .bytes = bytes,
                               .arrays = arrays };
            if (t >= 3 && f >= 1)
                break;
            snprintf(what, sizeof what, "%s %s", ty_coll_dtype_name(b.t), forms[f].what);
            row(what, b, repeats);
        }
}

/* Adasum's two: GB/s of both arrays read, and for the second one written. */
static void adasum(char *const *arrays, size_t bytes, int repeats)
{
    static const enum ty_coll_dtype types[] = { TY_COLL_F32, TY_COLL_F16, TY_COLL_BF16,
                                                TY_COLL_F64 };
    const struct ty_reduce_kernels *k;

    for (int row = 0; row < 8; row++) {
        enum ty_coll_dtype t = types[row / 2];
        size_t n = bytes / ty_coll_dtype_size(t);
        double first = 0, best = 0, sums[3];

        printf("%-8s %-23s", ty_coll_dtype_name(t), row % 2 ? "a = ca * a + cb * b" : "dots");
        for (int i = 0; (k = ty_reduce_variant(i)); i++) {
            best = 0;
            for (int r = 0; r < repeats; r++) {
                double start = seconds(), now;
                if (row % 2)
                    k->axpby[t](arrays[0], arrays[1], n, 0.5, 0.5);
                else
                    k->dots[t](arrays[0], arrays[1], n, sums);
                now = (double)bytes * (2 + row % 2) / (seconds() - start) * 1e-9;
                best = now > best ? now : best;
            }
            first = i ? first : best;
            printf(" %8.2f", best);
        }
        printf(" %7.1fx\n", best / first);
    }
}

static void copies(char *const *arrays, size_t bytes, int repeats)
{
    double best[2] = { 0 };

    for (int r = 0; r < repeats; r++)
        for (int how = 0; how < 2; how++) {
            double start = seconds(), now;
            if (how)
                ty_copy_stream(arrays[0], arrays[1], bytes);
            else
                memcpy(arrays[0], arrays[1], bytes);
            now = (double)bytes * 2 / (seconds() - start) * 1e-9;
            best[how] = now > best[how] ? now : best[how];
        }
    printf("\n%zu KiB: memcpy %.2f GB/s, ty_copy_stream %.2f GB/s\n", bytes >> 10, best[0],
           best[1]);
}

int main(int argc, char **argv)
{
    int repeats = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 30;
    char *arrays[ARRAYS];

    for (int i = 0; i < ARRAYS; i++) {
        uint32_t x = 1;
        if (!(arrays[i] = aligned_alloc(4096, LARGE)))
            return 1;
        /* Halves and floats near one, so that no value is special. */
        for (size_t j = 0; j < LARGE; j += 4) {
            x = x * 1664525 + 1013904223;
            uint32_t v = 0x3c003c00 | (x >> 3 & 0x00ff00ff);
            memcpy(arrays[i] + j, &v, 4);
        }
    }
    printf("in use: %s\n", ty_reduce_isa());
    copies(arrays, SMALL, repeats);
    table(arrays, SMALL, repeats);
    adasum(arrays, SMALL, repeats);
    copies(arrays, LARGE, repeats);
    table(arrays, LARGE, (repeats + 5) / 6);
    for (int i = 0; i < ARRAYS; i++)
        free(arrays[i]);
    return 0;
}
