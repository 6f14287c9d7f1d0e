/* net_kit.h - ranks in one process, and what the tests of lanes do with them */
#ifndef NET_KIT_H
#define NET_KIT_H
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/net.h"
#include "coll/net_addr.h"
#include "coll/net_wire.h"
#include "tests.h"
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RANKS 4
#define PATIENCE_S 30

static const unsigned char kit_key[TY_NET_KEY_BYTES] = { 1, 2, 3 };

/* One rank, and what its net has told. */
struct node {
    struct ty_net *net;
    char *address;
    pthread_mutex_t lock;
    pthread_cond_t told;
    int lost[RANKS], left[RANKS], heard;
    int64_t lost_us;
    char why[256];
    int notices, notice_rank;
    char notice[TY_NET_SMALL_BYTES + 1];
};

static inline void on_lost(void *ctx, int rank, const char *why)
{
    struct node *d = ctx;

    pthread_mutex_lock(&d->lock);
    d->lost[rank]++;
    d->lost_us = ty_mono_us();
    snprintf(d->why, sizeof d->why, "%s", why);
    pthread_cond_broadcast(&d->told);
    pthread_mutex_unlock(&d->lock);
}

static inline void on_left(void *ctx, int rank)
{
    struct node *d = ctx;

    pthread_mutex_lock(&d->lock);
    d->left[rank]++;
    pthread_cond_broadcast(&d->told);
    pthread_mutex_unlock(&d->lock);
}

static inline void on_heard(void *ctx)
{
    struct node *d = ctx;

    pthread_mutex_lock(&d->lock);
    d->heard++;
    pthread_cond_broadcast(&d->told);
    pthread_mutex_unlock(&d->lock);
}

static inline void on_notice(void *ctx, int rank, const void *bytes, size_t len)
{
    struct node *d = ctx;

    pthread_mutex_lock(&d->lock);
    d->notices++;
    d->notice_rank = rank;
    memcpy(d->notice, bytes, len);
    d->notice[len] = '\0';
    pthread_cond_broadcast(&d->told);
    pthread_mutex_unlock(&d->lock);
}

/* Until *count is at least `value`. */
static inline void await(struct node *d, const int *count, int value)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&d->lock);
    while (*count < value)
        if (pthread_cond_timedwait(&d->told, &d->lock, &until) != 0) {
            pthread_mutex_unlock(&d->lock);
            fail_msg("nothing was told");
        }
    pthread_mutex_unlock(&d->lock);
}

static inline int count_of(struct node *d, const int *count)
{
    int v;

    pthread_mutex_lock(&d->lock);
    v = *count;
    pthread_mutex_unlock(&d->lock);
    return v;
}

static inline void open_node(struct node *d, int rank, int size, struct ty_net_options o)
{
    struct ty_error err = { 0 };

    memset(d, 0, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->told, NULL);
    o.rank = rank;
    o.size = size;
    o.key = o.key ? o.key : kit_key;
    o.interfaces = o.interfaces ? o.interfaces : "lo";
    o.ctx = d;
    o.lost = on_lost;
    o.left = on_left;
    o.heard = on_heard;
    o.notice = on_notice;
    if (ty_net_open(&o, &d->net, &d->address, &err) < 0)
        fail_msg("%s", err.text);
}

static inline void close_node(struct node *d)
{
    d->net = ty_net_free(d->net);
    free(d->address);
    d->address = NULL;
}

static inline void introduce(struct node *d, int size)
{
    const char *addresses[RANKS];
    struct ty_error err = { 0 };

    for (int r = 0; r < size; r++)
        addresses[r] = d[r].address;
    for (int r = 0; r < size; r++)
        if (ty_net_peers(d[r].net, addresses, &err) < 0)
            fail_msg("%s", err.text);
}

static inline void open_world(struct node *d, int size, struct ty_net_options o)
{
    for (int r = 0; r < size; r++)
        open_node(&d[r], r, size, o);
    introduce(d, size);
}

static inline void close_world(struct node *d, int size)
{
    for (int r = 0; r < size; r++)
        close_node(&d[r]);
}

/* An exchange on a thread of its own. */
struct job {
    struct node *node;
    struct ty_net_msg send, recv;
    struct iovec siov[3], riov[3];
    uint32_t stop;
    int result;
    pthread_t thread;
};

static inline void *run_job(void *arg)
{
    struct job *j = arg;

    j->result = ty_net_exchange(j->node->net, &j->send, &j->recv, &j->stop);
    return NULL;
}

static inline void begin(struct job *j) { assert_int_equal(pthread_create(&j->thread, NULL, run_job, j), 0); }

static inline int end(struct job *j)
{
    assert_int_equal(pthread_join(j->thread, NULL), 0);
    return j->result;
}

/* n bytes in three parts, the middle one often empty */
static inline int cut(struct iovec iov[3], unsigned char *p, size_t n)
{
    size_t a = n / 3, b = n % 2 ? n / 5 : 0;

    iov[0] = (struct iovec){ p, a };
    iov[1] = (struct iovec){ p + a, b };
    iov[2] = (struct iovec){ p + a + b, n - a - b };
    return 3;
}

static inline void set_job(struct job *j, struct node *d, int to, unsigned char *out, size_t nout, int from, unsigned char *in,
                    size_t nin, uint64_t tag)
{
    memset(j, 0, sizeof *j);
    j->node = d;
    j->send = (struct ty_net_msg){ to, tag, j->siov, cut(j->siov, out, nout) };
    j->recv = (struct ty_net_msg){ from, tag, j->riov, cut(j->riov, in, nin) };
}

static inline unsigned char *random_bytes(size_t n, uint64_t seed)
{
    unsigned char *p = malloc(n + 1);

    assert_non_null(p);
    for (size_t i = 0; i + 4 <= n; i += 4) {
        uint32_t v = tests_random(&seed);

        memcpy(p + i, &v, 4);
    }
    for (size_t i = n / 4 * 4; i < n; i++)
        p[i] = (unsigned char)i;
    return p;
}

static inline void swap(struct node *d, size_t a, size_t b, uint64_t tag)
{
    unsigned char *out[2] = { random_bytes(a, tag), random_bytes(b, tag + 1) };
    unsigned char *in[2] = { malloc(b + 1), malloc(a + 1) };
    struct job j[2];

    set_job(&j[0], &d[0], 1, out[0], a, 1, in[0], b, tag);
    set_job(&j[1], &d[1], 0, out[1], b, 0, in[1], a, tag);
    begin(&j[0]);
    begin(&j[1]);
    assert_int_equal(end(&j[0]), 0);
    assert_int_equal(end(&j[1]), 0);
    assert_memory_equal(in[0], out[1], b);
    assert_memory_equal(in[1], out[0], a);
    for (int i = 0; i < 2; i++) {
        free(out[i]);
        free(in[i]);
    }
}

/* Take the message, sleeping until it comes. */
static inline void take(struct node *d, int from, uint64_t tag, void *buf, size_t cap, size_t *len)
{
    int r, heard;

    for (;;) {
        heard = count_of(d, &d->heard);
        r = ty_net_check(d->net, from, tag, buf, cap, len);
        if (r != 0)
            break;
        ty_net_arm(d->net);
        await(d, &d->heard, heard + 1);
    }
    assert_int_equal(r, 1);
}

static inline int connect_to(const struct node *d)
{
    union ty_address a[TY_NET_ADDRESSES];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_true(ty_addresses_parse(d->address, a, TY_NET_ADDRESSES) >= 1);
    assert_int_equal(connect(fd, &a[0].any, ty_address_bytes(&a[0])), 0);
    return fd;
}

/* A hello from rank 1 for a lane; the rank that is asked answers with its nonce. */
static inline int say_hello(const struct node *d, struct ty_lane_hello h, unsigned char hello[TY_LANE_HELLO_BYTES],
                     unsigned char challenge[TY_LANE_CHALLENGE_BYTES])
{
    int fd = connect_to(d);

    ty_lane_hello_encode(&h, hello);
    assert_int_equal(send(fd, hello, TY_LANE_HELLO_BYTES, MSG_NOSIGNAL), TY_LANE_HELLO_BYTES);
    if (challenge)
        assert_int_equal(recv(fd, challenge, TY_LANE_CHALLENGE_BYTES, MSG_WAITALL), TY_LANE_CHALLENGE_BYTES);
    return fd;
}

/* Nothing comes and the connection ends. */
static inline void is_turned_away(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };
    char b;

    assert_int_equal(poll(&p, 1, PATIENCE_S * 1000), 1);
    assert_true(recv(fd, &b, 1, 0) <= 0);
    close(fd);
}
#endif
