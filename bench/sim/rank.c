/* rank.c - one rank of a calibration: runs the engine's plans over its own lanes, and says how long they took
 *
 *     rank RANK RANKS TEST...
 *
 * It first prints a line with its addresses, and reads such a line for each rank from its standard input.
 * A TEST is allreduce:PLAN:BYTES:TIMES, p2p:BYTES:ROW:TIMES (ranks 0 and 1 exchange messages of that size, ROW after each
 * other) or adds:BYTES:TIMES (no network).  All ranks get the same tests.  All are on one host and share its monotonic
 * clock: each measurement begins at an instant that the ranks have agreed on, and each rank prints "<test> <time> <begin>
 * <end>", both in microseconds after that instant.
 */
#include "base/cleanup.h"
#include "coll/exec.h"
#include "coll/reduce.h"
#include <stdarg.h>
#include <trainyard/error.h>

#define RANKS 64
#define LEAD_NS \
    INT64_C(3000000) /* from agreeing on an instant to it, besides what agreeing takes */

static int rank, ranks;
static struct ty_net *net;

static _Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void die(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "rank %d: ", rank);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t number(const char *s)
{
    char *end;
    long long v = strtoll(s, &end, 10);

    if (end == s || *end || v < 0)
        die("\"%s\" is no number", s);
    return v;
}

/* ---- lanes ---- */

static void on_lost(void *ctx, int who, const char *why)
{
    (void)ctx;
    die("rank %d is gone: it %s", who, why);
}

/* Our address goes out on a line, those of all ranks come in. */
static struct ty_net *open_net(void)
{
    static const unsigned char key[TY_NET_KEY_BYTES] = "calibration";
    struct ty_net_options o = { .rank = rank,
                                .size = ranks,
                                .key = key,
                                .interfaces = "lan0",
                                .spin_us = -1,
                                .lost = on_lost };
    struct ty_net *n;
    struct ty_error err;
    char *address[RANKS] = { 0 };
    size_t room = 0;

    if (ty_net_open(&o, &n, &address[0], &err) < 0)
        die("%s", err.text);
    printf("%s\n", address[0]);
    fflush(stdout);
    free(TAKE(address[0]));
    for (int r = 0; r < ranks; r++, room = 0) {
        if (getline(&address[r], &room, stdin) <= 0)
            die("there is no address of rank %d", r);
        address[r][strcspn(address[r], "\n")] = 0;
    }
    if (ty_net_peers(n, (const char *const *)address, &err) < 0)
        die("%s", err.text);
    for (int r = 0; r < ranks; r++)
        free(address[r]);
    return n;
}

static int exchange(void *ctx, struct ty_net_msg *send, struct ty_net_msg *recv,
                    void (*got)(void *arg, size_t at, size_t bytes), void *arg)
{
    (void)ctx;
    return ty_net_exchange_told(net, send, recv, NULL, got, arg);
}

static const struct ty_exec_io io = { NULL, exchange };

/* ---- measurements ---- */

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 64) / 64 * 64);

    if (!p)
        die("no memory for %zu bytes", bytes);
    memset(p, 0, (bytes + 64) / 64 * 64);
    return p;
}

static void run_plan(const struct ty_exec *e, const struct ty_plan *p, void *data)
{
    int r = ty_exec_run(e, p, data);

    if (r < 0)
        die("an allreduce by %s failed: %s", ty_plan_word(p->kind), strerror(-r));
}

/* The ranks agree on an instant, the latest that any of them proposes, and wait for it. */
static int64_t together(void)
{
    static int64_t takes; /* what agreeing took the last time, on any rank */
    char scratch[64] __attribute__((aligned(64)));
    struct ty_exec e = {
        .io = &io, .dtype = TY_COLL_I64, .op = TY_COLL_MAX, .tag = 1 << 20, .scratch = scratch
    };
    struct ty_plan p = { .kind = TY_PLAN_RECURSIVE_DOUBLING, .rank = rank, .n = ranks, .count = 2 };
    int64_t begin = now_ns(), at[2] = { begin + 2 * takes + LEAD_NS, takes };

    run_plan(&e, &p, at);
    takes = now_ns() - begin > takes / 2 ? now_ns() - begin : takes / 2;
    if (takes > 200000000)
        takes = 200000000;
    struct timespec t = { .tv_sec = at[0] / 1000000000, .tv_nsec = at[0] % 1000000000 };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    return at[0];
}

/* The first time of each test is for the caches and TCP's window. */
static void report(const char *test, int64_t time, int64_t instant, int64_t begin)
{
    if (time >= 0)
        printf("%s %lld %.3f %.3f\n", test, (long long)time, (double)(begin - instant) / 1000,
               (double)(now_ns() - instant) / 1000);
}

static void measure_plan(const char *test, enum ty_plan_kind kind, int64_t bytes, int64_t times)
{
    struct ty_plan p = { .kind = kind, .rank = rank, .n = ranks, .count = bytes / 4 };
    struct ty_exec e = { .io = &io, .dtype = TY_COLL_F32, .op = TY_COLL_SUM };
    void *data = memory((size_t)bytes);

    e.scratch = memory(ty_exec_scratch(&e, &p));
    for (int64_t i = -1; i < times; i++) {
        int64_t instant = together(), begin = now_ns();

        e.tag = (uint64_t)(i + 2) << 32;
        run_plan(&e, &p, data);
        report(test, i, instant, begin);
    }
    free(e.scratch);
    free(data);
}

static void swap(char *data, int64_t bytes)
{
    struct iovec out = { data, (size_t)bytes }, in = { data + bytes, (size_t)bytes };
    struct ty_net_msg send = { !rank, 7, &out, 1 }, recv = { !rank, 7, &in, 1 };
    int r = exchange(NULL, &send, &recv, NULL, NULL);

    if (r < 0)
        die("an exchange failed: %s", strerror(-r));
}

static void measure_p2p(const char *test, int64_t bytes, int64_t row, int64_t times)
{
    char *data = memory(2 * (size_t)bytes);

    for (int64_t i = -1; i < times; i++) {
        int64_t instant = together(), begin = now_ns();

        for (int64_t j = 0; j < row && rank < 2; j++)
            swap(data, bytes);
        if (rank < 2)
            report(test, i, instant, begin);
    }
    free(data);
}

static void measure_adds(const char *test, int64_t bytes, int64_t times)
{
    void *a = memory((size_t)bytes), *b = memory((size_t)bytes);

    for (int64_t i = -1; i < times && rank == 0; i++) {
        int64_t begin = now_ns();

        ty_reduce(TY_COLL_F32, TY_COLL_SUM, a, b, (size_t)bytes / 4);
        report(test, i, begin, begin);
    }
    free(a);
    free(b);
}

static void measure(const char *test)
{
    char *words = strdup(test), *save = NULL, *word[5];
    int n = 0;

    for (char *w = strtok_r(words, ":", &save); w && n < 5; w = strtok_r(NULL, ":", &save))
        word[n++] = w;
    if (n == 4 && strcmp(word[0], "allreduce") == 0) {
        int k = 0;

        while (k < TY_PLAN_KINDS && strcmp(word[1], ty_plan_word((enum ty_plan_kind)k)) != 0)
            k++;
        if (k == TY_PLAN_KINDS)
            die("\"%s\" is no plan", word[1]);
        measure_plan(test, (enum ty_plan_kind)k, number(word[2]), number(word[3]));
    } else if (n == 4 && strcmp(word[0], "p2p") == 0)
        measure_p2p(test, number(word[1]), number(word[2]), number(word[3]));
    else if (n == 3 && strcmp(word[0], "adds") == 0)
        measure_adds(test, number(word[1]), number(word[2]));
    else
        die("\"%s\" is no test", test);
    free(words);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: rank RANK RANKS TEST...\n");
        return 2;
    }
    rank = (int)number(argv[1]);
    ranks = (int)number(argv[2]);
    if (rank >= ranks || ranks < 2 || ranks > RANKS)
        die("it is none of %d ranks", ranks);
    net = open_net();
    for (int i = 3; i < argc; i++)
        measure(argv[i]);
    together(); /* nobody goes while another still receives */
    net = ty_net_free(net);
    return 0;
}
