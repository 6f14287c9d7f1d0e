/* life_bench.c - what waiting costs, and how soon a death is seen: mpirun -np N life_bench WHAT
 *
 *   idle            CPU of each rank in two seconds after the start, and in two seconds of waiting for a late rank
 *   exchange        the 161 gradients of ResNet-50 (counts on stdin), one MPI_Allreduce each, beside one tensor of all
 *   die MIB         rank 1 touches MIB of memory and kills itself; the others say how long their error took
 *   memory MIB      PSS of a rank after the start, and with MIB of gradients in the arena, exchanged once
 *
 * Prints JSON; every rank its own line for `die`, else the largest of all ranks.
 */
#include <mpi.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <trainyard/coll.h>
#include <unistd.h>

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double cpu_us(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static struct ty_coll *open_world(void)
{
    struct ty_error err;
    struct ty_coll *c;

    if (ty_coll_open(NULL, &c, &err) < 0) {
        fprintf(stderr, "life_bench: %s\n", err.text);
        exit(1);
    }
    return c;
}

static int sum(struct ty_coll *c, const char *name, float *p, int64_t n, struct ty_error *err)
{
    struct ty_coll_buf b = { .data = p, .count = n };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE, .name = name, .dtype = TY_COLL_F32, .op = TY_COLL_MAX, .in = &b,
                                 .out = &b, .nbufs = 1 };

    return ty_coll_do(c, &call, NULL, err);
}

static float most(struct ty_coll *c, float value)
{
    struct ty_error err;

    sum(c, "most", &value, 1, &err);
    return value;
}

/* ---- idle ---- */

static void idle(void)
{
    struct ty_coll *c = open_world();
    struct timespec two = { 2, 0 };
    double begun, waiting;
    float quiet, late;

    most(c, 0);
    begun = cpu_us();
    nanosleep(&two, NULL);
    quiet = most(c, (float)((cpu_us() - begun) / 2e6));
    begun = cpu_us();
    if (ty_coll_rank(c) == 0)
        nanosleep(&two, NULL);
    most(c, 0);
    waiting = cpu_us() - begun;
    late = most(c, (float)(waiting / 2e6));
    if (ty_coll_rank(c) == 0)
        printf("{\"idle_cores\": %.5f, \"waiting_cores\": %.5f}\n", (double)quiet, (double)late);
    ty_coll_close(c);
}

/* ---- a death ---- */

static void die(size_t mib)
{
    struct ty_coll *c = open_world();
    struct timespec some = { 0, 200000000 };
    struct ty_error err;
    float x = 1;
    int r;

    sum(c, "x", &x, 1, &err);
    if (ty_coll_rank(c) == 1) {
        char *p = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        memset(p, 1, mib << 20);
        sum(c, "x", &x, 1, &err);
        nanosleep(&some, NULL);
        printf("{\"killed_us\": %.1f}\n", now_us());
        fflush(stdout);
        kill(getpid(), SIGKILL);
    }
    sum(c, "x", &x, 1, &err);
    r = sum(c, "x", &x, 1, &err);
    printf("{\"rank\": %d, \"error\": %d, \"seen_us\": %.1f}\n", ty_coll_rank(c), r, now_us());
    fflush(stdout);
    ty_coll_close(c);
}

/* ---- memory ---- */

static double pss_mb(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[128];
    long kb = 0;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Pss: %ld", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return (double)kb / 1e3;
}

static void memory(size_t mib)
{
    double before = pss_mb();
    struct ty_coll *c = open_world();
    float started = most(c, (float)(pss_mb() - before)), *p = ty_coll_arena_alloc(c, mib << 20), full;
    struct ty_error err;

    for (size_t i = 0; p && i < mib << 18; i++)
        p[i] = 1;
    if (!p || sum(c, "gradients", p, (int64_t)mib << 18, &err) < 0)
        exit(1);
    full = most(c, (float)(pss_mb() - before));
    if (ty_coll_rank(c) == 0)
        printf("{\"started_mb\": %.1f, \"full_mb\": %.1f, \"gradients_mb\": %.1f}\n", (double)started, (double)full,
               (double)(mib << 20) / 1e6);
    ty_coll_close(c);
}

/* ---- the anchor of the gradient exchange ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void exchange(void)
{
    static double each[64], flat[64];
    static int counts[1024];
    int n = 0, rank, total = 0, repeats = 11;
    float *p;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0)
        while (n < 1024 && scanf("%d", &counts[n]) == 1)
            n++;
    MPI_Bcast(&n, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Bcast(counts, n, MPI_INT, 0, MPI_COMM_WORLD);
    for (int i = 0; i < n; i++)
        total += counts[i];
    p = malloc((size_t)total * sizeof *p);
    if (!p)
        exit(1);
    for (int k = 0; k < repeats; k++)
        for (int way = 0; way < 2; way++) {
            double begun;
            float *at = p;

            for (int i = 0; i < total; i++)
                p[i] = (float)rank;
            MPI_Barrier(MPI_COMM_WORLD);
            begun = now_us();
            for (int i = 0; way == 0 && i < n; at += counts[i++])
                MPI_Allreduce(MPI_IN_PLACE, at, counts[i], MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
            if (way == 1)
                MPI_Allreduce(MPI_IN_PLACE, p, total, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
            (way ? flat : each)[k] = now_us() - begun;
        }
    qsort(each, (size_t)repeats, sizeof *each, compare);
    qsort(flat, (size_t)repeats, sizeof *flat, compare);
    if (rank == 0)
        printf("{\"each_ms\": %.3f, \"flat_ms\": %.3f}\n", each[repeats / 2] / 1e3, flat[repeats / 2] / 1e3);
    free(p);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    size_t mib = argc > 2 ? strtoul(argv[2], NULL, 10) : 512;

    if (strcmp(what, "idle") == 0) {
        idle();
    } else if (strcmp(what, "die") == 0) {
        die(mib);
    } else if (strcmp(what, "memory") == 0) {
        memory(mib);
    } else if (strcmp(what, "exchange") == 0) {
        MPI_Init(&argc, &argv);
        exchange();
        MPI_Finalize();
    } else {
        fprintf(stderr, "usage: mpirun -np N life_bench idle|exchange|die [MIB]|memory [MIB]\n");
        return 2;
    }
    return 0;
}
