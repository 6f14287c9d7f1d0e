/* allreduce_bench.c - allreduce of float32 beside Open MPI's, in one run: mpirun -np 2 allreduce_bench [REPEATS [LARGEST]]
 *
 * For each size every way is taken in turn, REPEATS times; every rank rewrites its tensor before every operation, as a
 * backward pass does.  A time is that of the slowest rank, and what is printed is the median.  Small operations are
 * timed a hundred at a time.  `limit` is the same loads, additions and stores on memory that nobody shares.  The probe
 * is one way of a cache line between the first two ranks, before and after: some 50 ns where they share a cache.
 *
 * One line for each size: JSON, microseconds.
 */
#include <mpi.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <trainyard/coll.h>

enum way { MPI, ARENA, PRIVATE, LIMIT, WAYS };
static const char *const names[WAYS] = { "mpi", "arena", "private", "limit" };
#define MOST_REPEATS 101

struct bench {
    struct ty_coll *c;
    int rank, size;
    float *tensor[WAYS], *other; /* other: a second private one, for the limit */
};

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void die(const char *what)
{
    fprintf(stderr, "allreduce_bench: %s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* ---- the operations ---- */

static void rewrite(const struct bench *b, float *p, int64_t n)
{
    float value = (float)(b->rank + 1);

    for (int64_t i = 0; i < n; i++)
        p[i] = value;
}

static void local_work(const struct bench *b, int64_t n)
{
    float *x = b->tensor[LIMIT], *y = b->other;

    for (int64_t i = 0; i < n / b->size; i++)
        x[i] = y[i] = x[i] + y[i];
}

static void operate(const struct bench *b, enum way way, int64_t n)
{
    struct ty_coll_buf buf = { .data = b->tensor[way], .count = n };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE, .name = names[way], .dtype = TY_COLL_F32, .op = TY_COLL_SUM,
                                 .in = &buf, .out = &buf, .nbufs = 1 };
    struct ty_error err;

    if (way == MPI)
        MPI_Allreduce(MPI_IN_PLACE, b->tensor[MPI], (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    else if (way == LIMIT)
        local_work(b, n);
    else if (ty_coll_do(b->c, &call, NULL, &err) < 0)
        die(err.text);
}

static void check(const struct bench *b, enum way way, int64_t n)
{
    float want = (float)(b->size * (b->size + 1)) / 2;

    for (int64_t i = 0; way != LIMIT && i < n; i += 1 + n / 1000)
        if (b->tensor[way][i] != want)
            die("a sum is wrong");
}

/* ---- measuring ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, compare);
    return t[n / 2];
}

static double one(const struct bench *b, enum way way, int64_t n)
{
    int times = n <= 1024 ? 100 : 1;
    double begun, took;

    rewrite(b, b->tensor[way], n);
    if (way == LIMIT)
        rewrite(b, b->other, n);
    MPI_Barrier(MPI_COMM_WORLD);
    begun = now_us();
    operate(b, way, n);
    for (int k = 1; k < times; k++) {
        rewrite(b, b->tensor[way], n);
        operate(b, way, n);
    }
    took = (now_us() - begun) / times;
    check(b, way, n);
    MPI_Allreduce(MPI_IN_PLACE, &took, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return took;
}

/* Nanoseconds for a line of memory to get from rank 0 to rank 1. */
static double probe(const struct bench *b)
{
    MPI_Win win;
    MPI_Aint bytes = b->rank == 0 ? 4096 : 0;
    _Atomic int *word;
    void *p;
    int unit;
    double begun, took = 0;

    MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &p, &win);
    MPI_Win_shared_query(win, 0, &bytes, &unit, &p);
    word = p;
    if (b->rank == 0)
        atomic_store(word, 0);
    MPI_Barrier(MPI_COMM_WORLD);
    begun = now_us();
    for (int k = 0; k < 2000 && b->rank < 2; k++)
        while (atomic_load_explicit(word, memory_order_acquire) % 2 != b->rank || atomic_fetch_add(word, 1) < 0)
            if (now_us() - begun > 100000) /* the ranks share a core */
                break;
    took = (now_us() - begun) * 1000 / 4000;
    MPI_Bcast(&took, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    MPI_Win_free(&win);
    return took;
}

static void measure(struct bench *b, int64_t bytes, int repeats)
{
    double t[WAYS][MOST_REPEATS];
    int64_t n = bytes / 4;

    for (int w = 0; w < WAYS; w++) {
        b->tensor[w] = w == ARENA ? ty_coll_arena_alloc(b->c, (size_t)bytes) : aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64);
        if (!b->tensor[w])
            die("out of memory");
        rewrite(b, b->tensor[w], n);
    }
    b->other = aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64);
    if (!b->other)
        die("out of memory");
    for (int k = -1; k < repeats; k++) /* the first warms up */
        for (int w = 0; w < WAYS; w++) {
            double took = one(b, w, n);

            if (k >= 0)
                t[w][k] = took;
        }
    if (b->rank == 0) {
        printf("{\"bytes\": %lld", (long long)bytes);
        for (int w = 0; w < WAYS; w++)
            printf(", \"%s\": %.3f", names[w], median(t[w], repeats));
        printf("}\n");
        fflush(stdout);
    }
    for (int w = 0; w < WAYS; w++)
        if (w == ARENA)
            ty_coll_arena_free(b->c, b->tensor[w]);
        else
            free(b->tensor[w]);
    free(b->other);
}

int main(int argc, char **argv)
{
    int repeats = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 21;
    int64_t largest = argc > 2 ? strtoll(argv[2], NULL, 10) : 64 << 20;
    struct bench b = { 0 };
    struct ty_error err;
    double before, after;

    MPI_Init(&argc, &argv);
    if (ty_coll_open(NULL, &b.c, &err) < 0)
        die(err.text);
    b.rank = ty_coll_rank(b.c);
    b.size = ty_coll_size(b.c);
    repeats = repeats < 1 ? 1 : repeats > MOST_REPEATS ? MOST_REPEATS : repeats;
    before = probe(&b);
    for (int64_t bytes = 4; bytes <= largest; bytes *= bytes < 1024 ? 16 : 4)
        measure(&b, bytes, bytes >= 16 << 20 && repeats > 7 ? 7 : repeats);
    after = probe(&b);
    if (b.rank == 0)
        printf("{\"ranks\": %d, \"probe_before_ns\": %.0f, \"probe_after_ns\": %.0f}\n", b.size, before, after);
    ty_coll_close(b.c);
    MPI_Finalize();
    return 0;
}
