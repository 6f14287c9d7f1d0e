/* netns_main.c - one rank of a world that netns.sh spreads over network namespaces
 *
 *     netns_main check   every kind of operation at several sizes; what comes out is compared with what must
 *     netns_main idle    one operation; then each waits for one that the last rank does not submit, until the world ends
 *     netns_main busy    allreduces of 4 MiB, until the world ends
 *
 * check prints how long ten small allreduces took; exit code 0.  The others print "ready" when the first operation is done,
 * and how the world ended: "ended <ms since 1970> <errno> <sentence>"; exit code 0 when it did.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <trainyard/coll.h>
#include <unistd.h>

#define LIMIT_S 200 /* for the process */
#define BIG (1 << 20)
#define SMALL_TIMES 10
#define COLUMNS 3

static struct ty_coll *c;
static int rank, size;
static struct ty_error err;

static void must(int holds, const char *what, int64_t at)
{
    if (holds)
        return;
    printf("rank %d: %s is wrong at %lld; the last error: %s\n", rank, what, (long long)at,
           err.text);
    exit(1);
}

static void *memory(size_t n)
{
    void *p = calloc(1, n);

    must(p != NULL, "memory", (int64_t)n);
    return p;
}

static int64_t now_us(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Whole numbers small enough that their sums are exact; another one in each place, rank and turn. */
static float value(int64_t i, int r, int turn)
{
    return (float)(((i * 7 + turn * 13) % 1009 + 1) * (r + 1));
}

static int sum(const char *name, float *v, int64_t n)
{
    struct ty_coll_buf b = { .data = v, .count = n };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = name,
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };

    return ty_coll_do(c, &call, NULL, &err);
}

static void check_sum(float *v, int64_t n, int turn)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = value(i, rank, turn);
    must(sum("sum", v, n) == 0, "allreduce", n);
    for (int64_t i = 0; i < n; i++)
        must(v[i] == value(i, 0, turn) * (float)(size * (size + 1) / 2), "a sum", i);
}

static void check_sums(void)
{
    static const int64_t sizes[] = { 1, 1000, 16384, 300001, BIG };
    float *v = memory(BIG * sizeof *v);
    int64_t begin;

    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            check_sum(v, sizes[i], turn);
    begin = now_us(CLOCK_MONOTONIC);
    for (int turn = 0; turn < SMALL_TIMES; turn++)
        check_sum(v, 1, turn);
    printf("small %lld us\n", (long long)(now_us(CLOCK_MONOTONIC) - begin));
    free(v);
}

static void check_broadcasts(void)
{
    const int64_t n = 1000003;
    unsigned char *v = memory((size_t)n);

    for (int root = 0; root < size; root++) {
        struct ty_coll_buf b = { .data = v, .count = n };
        struct ty_coll_call call = { .kind = TY_COLL_BROADCAST,
                                     .name = "broadcast",
                                     .dtype = TY_COLL_U8,
                                     .root = root,
                                     .in = &b,
                                     .out = &b,
                                     .nbufs = 1 };

        for (int64_t i = 0; i < n; i++)
            v[i] = (unsigned char)(i * 11 + rank);
        must(ty_coll_do(c, &call, NULL, &err) == 0, "broadcast", root);
        for (int64_t i = 0; i < n; i++)
            must(v[i] == (unsigned char)(i * 11 + root), "a byte of a broadcast", i);
    }
    free(v);
}

/* Allgather and alltoall: rows of COLUMNS numbers that say where they come from and where they go. */
static int32_t mark(int from, int to, int64_t i)
{
    return (int32_t)(from * 100000000 + to * 10000000 + i);
}

static void fill(int32_t *v, int to, int64_t rows)
{
    for (int64_t i = 0; i < rows * COLUMNS; i++)
        v[i] = mark(rank, to, i);
}

static int64_t must_be(const int32_t *v, int from, int to, int64_t rows, const char *what)
{
    for (int64_t i = 0; i < rows * COLUMNS; i++)
        must(v[i] == mark(from, to, i), what, i);
    return rows * COLUMNS;
}

static int64_t gathered(int r)
{
    return (r + 1) * 5000;
}

static void check_allgather(void)
{
    int64_t dims[2] = { gathered(rank), COLUMNS }, at = 0;
    int32_t *v = memory((size_t)(dims[0] * COLUMNS) * sizeof *v);
    struct ty_coll_buf b = { .data = v, .count = dims[0] * COLUMNS, .ndims = 2, .dims = dims };
    struct ty_coll_call call = {
        .kind = TY_COLL_ALLGATHER, .name = "gather", .dtype = TY_COLL_I32, .in = &b, .nbufs = 1
    };
    struct ty_coll_result got;

    fill(v, 0, dims[0]);
    must(ty_coll_do(c, &call, &got, &err) == 0, "allgather", 0);
    must(got.nrows == size, "the ranks of an allgather", got.nrows);
    for (int r = 0; r < size; r++) {
        must(got.rows[r] == gathered(r), "the rows of an allgather", r);
        at += must_be((int32_t *)got.data[0] + at, r, 0, gathered(r), "an allgather");
    }
    ty_coll_result_done(&got);
    free(v);
}

static int64_t sent(int from, int to)
{
    return from == 1 && to == 2 ? 0 : (from * 2 + to + 1) * 700;
}

static void check_alltoall(void)
{
    int64_t *splits = memory((size_t)size * sizeof *splits), dims[2] = { 0, COLUMNS }, at = 0;
    struct ty_coll_buf b = { .ndims = 2, .dims = dims };
    struct ty_coll_call call = { .kind = TY_COLL_ALLTOALL,
                                 .name = "exchange",
                                 .dtype = TY_COLL_I32,
                                 .in = &b,
                                 .nbufs = 1,
                                 .splits = splits };
    struct ty_coll_result got;
    int32_t *v;

    for (int r = 0; r < size; r++)
        dims[0] += splits[r] = sent(rank, r);
    b.count = dims[0] * COLUMNS;
    b.data = v = memory((size_t)b.count * sizeof *v);
    for (int r = 0; r < size; at += splits[r++] * COLUMNS)
        fill(v + at, r, splits[r]);
    must(ty_coll_do(c, &call, &got, &err) == 0, "alltoall", 0);
    must(got.nrows == size, "the ranks of an alltoall", got.nrows);
    at = 0;
    for (int r = 0; r < size; r++) {
        must(got.rows[r] == sent(r, rank), "the rows of an alltoall", r);
        at += must_be((int32_t *)got.data[0] + at, r, rank, sent(r, rank), "an alltoall");
    }
    ty_coll_result_done(&got);
    free(v);
    free(splits);
}

static int check_all(void)
{
    check_sums();
    check_broadcasts();
    check_allgather();
    check_alltoall();
    printf("all is right on rank %d\n", rank);
    return 0;
}

/* Until the world ends; what each submits last in an idle world is never done. */
static int await_end(int busy)
{
    float *v = memory(BIG * sizeof *v);
    int r = sum("first", v, 1);

    must(r == 0, "the first allreduce", 0);
    printf("ready\n");
    fflush(stdout);
    while (r == 0 && busy)
        r = sum("busy", v, BIG);
    if (r == 0)
        r = sum(rank == size - 1 ? "of the last" : "of the others", v, 1);
    printf("ended %lld %d %s\n", (long long)(now_us(CLOCK_REALTIME) / 1000), -r, err.text);
    fflush(stdout);
    free(v);
    return r < 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "check";
    int bad;

    alarm(LIMIT_S);
    must(ty_coll_open(NULL, &c, &err) == 0, "open", 0);
    rank = ty_coll_rank(c);
    size = ty_coll_size(c);
    bad = strcmp(mode, "check") == 0 ? check_all() : await_end(strcmp(mode, "busy") == 0);
    c = ty_coll_close(c);
    return bad;
}
