/* net_bench.c - lanes on loopback beside plain blocking TCP, in one run: net_bench [REPEATS]
 *
 * Two processes; each figure is the median of REPEATS (21), the two ways in turn.
 *
 *   exchange   8 bytes in both directions at the same time, 200 in a row: microseconds for one
 *   one way    8 MiB, answered by 8 bytes: GB/s
 *   both ways  8 MiB in both directions: GB/s of both together; plain TCP, which would block for ever, in two turns
 *
 * One line for each: JSON.
 */
#include "base/clock.h"
#include "base/error.h"
#include "coll/net.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE ((size_t)8 << 20)
#define ROW 200
#define MOST_REPEATS 201

struct bench {
    int rank, fd;
    struct ty_net *net;
    uint64_t tag;
    unsigned char *out, *in;
};

static void die(const char *what)
{
    fprintf(stderr, "net_bench: %s\n", what);
    exit(1);
}

/* ---- the two ways of moving bytes ---- */

static void by_lane(struct bench *b, size_t out, size_t in)
{
    struct iovec s = { b->out, out }, r = { b->in, in };
    struct ty_net_msg send = { out ? 1 - b->rank : -1, b->tag, &s, 1 };
    struct ty_net_msg recv = { in ? 1 - b->rank : -1, b->tag, &r, 1 };

    b->tag++;
    if (ty_net_exchange(b->net, &send, &recv, NULL) < 0)
        die("an exchange failed");
}

static void send_all(int fd, const unsigned char *p, size_t n)
{
    for (ssize_t k; n > 0; p += k, n -= (size_t)k)
        if ((k = send(fd, p, n, MSG_NOSIGNAL)) <= 0)
            die("a send failed");
}

static void by_tcp(struct bench *b, size_t out, size_t in)
{
    if (b->rank == 0)
        send_all(b->fd, b->out, out);
    if (in > 0 && recv(b->fd, b->in, in, MSG_WAITALL) != (ssize_t)in)
        die("a receive failed");
    if (b->rank == 1)
        send_all(b->fd, b->out, out);
}

/* Small ones are sent before they are awaited: they fit into the socket. */
static void small_by_tcp(struct bench *b)
{
    send_all(b->fd, b->out, 8);
    if (recv(b->fd, b->in, 8, MSG_WAITALL) != 8)
        die("a receive failed");
}

/* ---- what is measured: microseconds ---- */

static double exchange(struct bench *b, bool lane)
{
    int64_t begun = ty_mono_us();

    for (int i = 0; i < ROW; i++)
        if (lane)
            by_lane(b, 8, 8);
        else
            small_by_tcp(b);
    return (double)(ty_mono_us() - begun) / ROW;
}

static double one_way(struct bench *b, bool lane)
{
    void (*move)(struct bench *, size_t, size_t) = lane ? by_lane : by_tcp;
    int64_t begun = ty_mono_us();

    if (b->rank == 0) {
        move(b, LARGE, 0);
        move(b, 0, 8);
    } else {
        move(b, 0, LARGE);
        move(b, 8, 0);
    }
    return (double)(ty_mono_us() - begun);
}

static double both_ways(struct bench *b, bool lane)
{
    int64_t begun = ty_mono_us();

    if (lane)
        by_lane(b, LARGE, LARGE);
    else
        by_tcp(b, LARGE, LARGE);
    return (double)(ty_mono_us() - begun);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(struct bench *b, const char *name, double (*what)(struct bench *, bool),
                    double bytes, int repeats)
{
    double t[2][MOST_REPEATS];

    for (int i = -2; i < repeats; i++) /* two to warm up */
        for (int lane = 0; lane < 2; lane++)
            t[lane][i < 0 ? 0 : i] = what(b, lane);
    if (b->rank != 0)
        return;
    for (int lane = 0; lane < 2; lane++)
        qsort(t[lane], (size_t)repeats, sizeof t[lane][0], ascending);
    for (int lane = 0; lane < 2 && bytes > 0; lane++)
        t[lane][repeats / 2] = bytes / t[lane][repeats / 2] / 1e3;
    printf(
        "{\"what\": \"%s\", \"unit\": \"%s\", \"lanes\": %.2f, \"tcp\": %.2f, \"ratio\": %.2f}\n",
        name, bytes > 0 ? "GB/s" : "us", t[1][repeats / 2], t[0][repeats / 2],
        t[1][repeats / 2] / t[0][repeats / 2]);
    fflush(stdout);
}

/* ---- setting up ---- */

/* A connected pair of TCP sockets on loopback. */
static void connect_pair(int fd[2])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&a, &len) < 0 ||
        connect(fd[0], (struct sockaddr *)&a, sizeof a) < 0 ||
        (fd[1] = accept(listener, NULL, NULL)) < 0)
        die("no connection on loopback");
    close(listener);
    for (int i = 0; i < 2; i++)
        setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void open_lanes(struct bench *b)
{
    static const unsigned char key[TY_NET_KEY_BYTES] = { 1 };
    struct ty_net_options o = { .rank = b->rank, .size = 2, .key = key, .interfaces = "lo" };
    char text[1024] = "", *mine;
    struct ty_error err;

    if (ty_net_open(&o, &b->net, &mine, &err) < 0)
        die(err.text);
    snprintf(text, sizeof text, "%s", mine);
    send_all(b->fd, (unsigned char *)text, sizeof text);
    if (recv(b->fd, text, sizeof text, MSG_WAITALL) != sizeof text)
        die("the other process is gone");
    if (ty_net_peers(b->net, (const char *const[]){ text, text }, &err) < 0)
        die(err.text);
    free(mine);
}

static void run(struct bench *b, int repeats)
{
    open_lanes(b);
    b->out = calloc(1, LARGE);
    b->in = calloc(1, LARGE);
    if (!b->out || !b->in)
        die("out of memory");
    memset(b->out, 1, LARGE);
    memset(b->in, 1, LARGE);
    measure(b, "exchange of 8 bytes", exchange, 0, repeats);
    measure(b, "8 MiB one way", one_way, (double)LARGE, repeats);
    measure(b, "8 MiB both ways", both_ways, 2.0 * LARGE, repeats);
    ty_net_free(b->net);
    free(b->out);
    free(b->in);
}

int main(int argc, char **argv)
{
    int repeats = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 21, fd[2];
    struct bench b = { 0 };
    pid_t pid;

    if (repeats < 1 || repeats > MOST_REPEATS)
        die("REPEATS is a number from 1 to 201");
    connect_pair(fd);
    pid = fork();
    if (pid < 0)
        die("cannot fork");
    alarm(300);
    b.rank = pid == 0;
    b.fd = fd[b.rank];
    close(fd[1 - b.rank]);
    run(&b, repeats);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return 0;
}
