/* rank.c - one rank of a calibration: runs the engine's plans over plain TCP, and says how long they took
 *
 *     rank RANK PORT ADDRESS,ADDRESS... TEST...
 *
 * A TEST is allreduce:PLAN:BYTES:TIMES, p2p:BYTES:ROW:TIMES (ranks 0 and 1 exchange messages of that size, ROW after each
 * other) or adds:BYTES:TIMES (no network).  All ranks get the same tests.  All are on one host and share its monotonic
 * clock: each measurement begins at an instant that the ranks have agreed on, and each rank prints "<test> <time> <begin>
 * <end>", both in microseconds after that instant.
 */
#include "coll/exec.h"
#include "coll/reduce.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#define RANKS 64
#define LEAD_NS \
    INT64_C(3000000) /* from agreeing on an instant to it, besides what agreeing takes */
#define GIVE_UP_MS 20000

static int rank, ranks, lanes[RANKS];
static const char *address[RANKS];

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

/* ---- lanes: each rank connects to those below it ---- */

static struct sockaddr_in place_of(int r, int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

    if (inet_pton(AF_INET, address[r], &a.sin_addr) != 1)
        die("\"%s\" is no address", address[r]);
    return a;
}

static void ready_lane(int r, int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    if (r < 0 || r >= ranks || lanes[r] || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        die("a lane from rank %d is not wanted", r);
    lanes[r] = fd;
}

static int listen_here(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = place_of(rank, port);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, RANKS) < 0)
        die("cannot listen on %s:%d: %m", address[rank], port);
    return fd;
}

static void connect_to(int r, int port)
{
    struct sockaddr_in there = place_of(r, port);
    int64_t end = now_ns() + GIVE_UP_MS * INT64_C(1000000);
    int32_t me = rank;

    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd >= 0 && connect(fd, (struct sockaddr *)&there, sizeof there) == 0) {
            if (write(fd, &me, sizeof me) != sizeof me)
                die("cannot greet rank %d: %m", r);
            ready_lane(r, fd);
            return;
        }
        if (now_ns() > end)
            die("cannot connect to rank %d at %s:%d: %m", r, address[r], port);
        if (fd >= 0)
            close(fd);
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
}

static void open_lanes(int port)
{
    int fd = listen_here(port);

    for (int r = 0; r < rank; r++)
        connect_to(r, port);
    for (int i = rank + 1; i < ranks; i++) {
        struct pollfd p = { fd, POLLIN, 0 };
        int lane = poll(&p, 1, GIVE_UP_MS) == 1 ? accept4(fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        int32_t who = -1;

        if (lane < 0 || recv(lane, &who, sizeof who, MSG_WAITALL) != sizeof who)
            die("not every rank has connected");
        ready_lane(who, lane);
    }
    close(fd);
}

/* ---- messages ---- */

struct head {
    uint64_t tag, bytes;
};
/* A message on its way: its head and pieces, and how much has passed. */
struct flow {
    int fd;
    struct head head;
    struct iovec iov[4];
    int at, n;
    size_t passed, whole;
};

static void begin_flow(struct flow *f, const struct ty_net_msg *m)
{
    *f = (struct flow){ .fd = m ? lanes[m->rank] : -1, .n = 1 };
    if (!m)
        return;
    f->iov[0] = (struct iovec){ &f->head, sizeof f->head };
    f->head.tag = m->tag;
    for (int i = 0; i < m->niov; i++) {
        f->iov[f->n++] = m->iov[i];
        f->head.bytes += m->iov[i].iov_len;
    }
    f->whole = sizeof f->head + f->head.bytes;
}

static void pass(struct flow *f, ssize_t n)
{
    f->passed += (size_t)n;
    while (n > 0) {
        struct iovec *v = &f->iov[f->at];
        size_t step = (size_t)n < v->iov_len ? (size_t)n : v->iov_len;

        v->iov_base = (char *)v->iov_base + step;
        v->iov_len -= step;
        n -= (ssize_t)step;
        f->at += v->iov_len == 0;
    }
}

/* As much as the socket takes or gives at once.  1: something passed. */
static int move(struct flow *f, bool sends)
{
    if (f->passed == f->whole)
        return 0;
    struct msghdr m = { .msg_iov = f->iov + f->at, .msg_iovlen = (size_t)(f->n - f->at) };
    ssize_t n = sends ? sendmsg(f->fd, &m, MSG_NOSIGNAL) : recvmsg(f->fd, &m, 0);

    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    pass(f, n);
    return 1;
}

/* What has come and was not told of, if it is worth it. */
static void tell(const struct flow *f, size_t *told,
                 void (*got)(void *arg, size_t at, size_t bytes), void *arg)
{
    size_t come = f->passed - sizeof f->head;

    if (f->passed < f->whole)
        come &= ~(size_t)63;
    if (come > *told && (f->passed == f->whole || come - *told >= TY_NET_TELL_BYTES)) {
        got(arg, *told, come - *told);
        *told = come;
    }
}

static int exchange(void *ctx, struct ty_net_msg *send, struct ty_net_msg *recv,
                    void (*got)(void *arg, size_t at, size_t bytes), void *arg)
{
    struct flow out, in;
    size_t told = 0;

    (void)ctx;
    begin_flow(&out, send);
    begin_flow(&in, recv);
    struct head want = in.head;

    while (out.passed < out.whole || in.passed < in.whole) {
        struct pollfd p[2] = { { out.passed < out.whole ? out.fd : -1, POLLOUT, 0 },
                               { in.passed < in.whole ? in.fd : -1, POLLIN, 0 } };
        int sent = move(&out, true), received = sent < 0 ? 0 : move(&in, false);

        if (sent < 0 || received < 0)
            return sent < 0 ? sent : received;
        if (received && in.passed > sizeof want) {
            if (in.head.tag != want.tag || in.head.bytes != want.bytes)
                return -EPROTO;
            if (got)
                tell(&in, &told, got, arg);
        }
        if (!sent && !received && poll(p, 2, GIVE_UP_MS) == 0)
            return -ETIMEDOUT;
    }
    return 0;
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
    char *save = NULL;

    if (argc < 5) {
        fprintf(stderr, "usage: rank RANK PORT ADDRESS,ADDRESS... TEST...\n");
        return 2;
    }
    rank = (int)number(argv[1]);
    for (char *a = strtok_r(argv[3], ",", &save); a && ranks < RANKS;
         a = strtok_r(NULL, ",", &save))
        address[ranks++] = a;
    if (rank >= ranks || ranks < 2)
        die("there are %d addresses", ranks);
    open_lanes((int)number(argv[2]));
    for (int i = 4; i < argc; i++)
        measure(argv[i]);
    together(); /* nobody goes while another still receives */
    return 0;
}
