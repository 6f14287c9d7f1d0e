/* test_net.c - lanes between ranks: threads of this process, a child that is killed, and a network that is cut */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/net.h"
#include "coll/net_addr.h"
#include "coll/net_wire.h"
#include "tests.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define RANKS 4
#define PATIENCE_S 30

static const unsigned char key[TY_NET_KEY_BYTES] = { 1, 2, 3 };
static const unsigned char wrong_key[TY_NET_KEY_BYTES] = { 3, 2, 1 };

/* One rank, and what its net has told. */
struct node {
    struct ty_net *net;
    char *address;
    pthread_mutex_t lock;
    pthread_cond_t told;
    int lost[RANKS], left[RANKS], heard;
    int64_t lost_us;
    char why[256];
};

static void on_lost(void *ctx, int rank, const char *why)
{
    struct node *d = ctx;

    pthread_mutex_lock(&d->lock);
    d->lost[rank]++;
    d->lost_us = ty_mono_us();
    snprintf(d->why, sizeof d->why, "%s", why);
    pthread_cond_broadcast(&d->told);
    pthread_mutex_unlock(&d->lock);
}

static void on_left(void *ctx, int rank)
{
    struct node *d = ctx;

    pthread_mutex_lock(&d->lock);
    d->left[rank]++;
    pthread_cond_broadcast(&d->told);
    pthread_mutex_unlock(&d->lock);
}

static void on_heard(void *ctx)
{
    struct node *d = ctx;

    pthread_mutex_lock(&d->lock);
    d->heard++;
    pthread_cond_broadcast(&d->told);
    pthread_mutex_unlock(&d->lock);
}

/* Until *count is at least `value`. */
static void await(struct node *d, const int *count, int value)
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

static int count_of(struct node *d, const int *count)
{
    int v;

    pthread_mutex_lock(&d->lock);
    v = *count;
    pthread_mutex_unlock(&d->lock);
    return v;
}

static void open_node(struct node *d, int rank, int size, struct ty_net_options o)
{
    struct ty_error err = { 0 };

    memset(d, 0, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->told, NULL);
    o.rank = rank;
    o.size = size;
    o.key = o.key ? o.key : key;
    o.interfaces = o.interfaces ? o.interfaces : "lo";
    o.ctx = d;
    o.lost = on_lost;
    o.left = on_left;
    o.heard = on_heard;
    if (ty_net_open(&o, &d->net, &d->address, &err) < 0)
        fail_msg("%s", err.text);
}

static void close_node(struct node *d)
{
    d->net = ty_net_free(d->net);
    free(d->address);
    d->address = NULL;
}

static void introduce(struct node *d, int size)
{
    const char *addresses[RANKS];
    struct ty_error err = { 0 };

    for (int r = 0; r < size; r++)
        addresses[r] = d[r].address;
    for (int r = 0; r < size; r++)
        if (ty_net_peers(d[r].net, addresses, &err) < 0)
            fail_msg("%s", err.text);
}

static void open_world(struct node *d, int size, struct ty_net_options o)
{
    for (int r = 0; r < size; r++)
        open_node(&d[r], r, size, o);
    introduce(d, size);
}

static void close_world(struct node *d, int size)
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

static void *run_job(void *arg)
{
    struct job *j = arg;

    j->result = ty_net_exchange(j->node->net, &j->send, &j->recv, &j->stop);
    return NULL;
}

static void begin(struct job *j)
{
    assert_int_equal(pthread_create(&j->thread, NULL, run_job, j), 0);
}

static int end(struct job *j)
{
    assert_int_equal(pthread_join(j->thread, NULL), 0);
    return j->result;
}

/* n bytes in three parts, the middle one often empty */
static int cut(struct iovec iov[3], unsigned char *p, size_t n)
{
    size_t a = n / 3, b = n % 2 ? n / 5 : 0;

    iov[0] = (struct iovec){ p, a };
    iov[1] = (struct iovec){ p + a, b };
    iov[2] = (struct iovec){ p + a + b, n - a - b };
    return 3;
}

static void set_job(struct job *j, struct node *d, int to, unsigned char *out, size_t nout,
                    int from, unsigned char *in, size_t nin, uint64_t tag)
{
    memset(j, 0, sizeof *j);
    j->node = d;
    j->send = (struct ty_net_msg){ to, tag, j->siov, cut(j->siov, out, nout) };
    j->recv = (struct ty_net_msg){ from, tag, j->riov, cut(j->riov, in, nin) };
}

static unsigned char *random_bytes(size_t n, uint64_t seed)
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

/* ---- exchanges ---- */

static void swap(struct node *d, size_t a, size_t b, uint64_t tag)
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

static void test_sizes(void **state)
{
    static const size_t sizes[][2] = {
        { 0, 0 },
        { 1, 1 },
        { 0, 7 },
        { 8, 8 },
        { 4095, 3 },
        { TY_NET_STRIPE_BYTES - 1, TY_NET_STRIPE_BYTES },
        { TY_NET_STRIPE_BYTES + 1, 0 },
        { 50000001, 50000000 },
        { 3, 20000000 },
        { 5, 5 },
    };
    uint64_t sent, received, all = 0;
    struct node d[2];

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        swap(d, sizes[i][0], sizes[i][1], 100 + i);
        all += sizes[i][0] +
               (sizes[i][0] < TY_NET_STRIPE_BYTES ? 1 : TY_NET_LANES) * TY_LANE_FRAME_BYTES;
    }
    ty_net_bytes(d[0].net, &sent, NULL);
    ty_net_bytes(d[1].net, NULL, &received);
    assert_true(sent == all && received == all);
    close_world(d, 2);
}

/* Everybody sends to the right and receives from the left, thousands of times, in one direction only between two. */
struct ring {
    struct node *d;
    int rank, size, rounds, result;
    pthread_t thread;
};

static void *run_ring(void *arg)
{
    struct ring *g = arg;
    int right = (g->rank + 1) % g->size, left = (g->rank + g->size - 1) % g->size;
    uint32_t token = (uint32_t)g->rank;

    for (int k = 0; k < g->rounds && g->result == 0; k++) {
        uint32_t in = 0;
        struct iovec s = { &token, sizeof token }, r = { &in, sizeof in };
        struct ty_net_msg send = { right, (uint64_t)k, &s, 1 }, recv = { left, (uint64_t)k, &r, 1 };

        g->result = ty_net_exchange(g->d[g->rank].net, &send, &recv, NULL);
        token = in;
    }
    if (token != (uint32_t)((g->rank + g->size * g->rounds - g->rounds) % g->size) &&
        g->result == 0)
        g->result = 1;
    return NULL;
}

static void test_ring_of_four(void **state)
{
    struct node d[RANKS];
    struct ring g[RANKS];

    (void)state;
    open_world(d, RANKS, (struct ty_net_options){ 0 });
    for (int r = 0; r < RANKS; r++) {
        g[r] = (struct ring){ d, r, RANKS, 301, 0, 0 };
        assert_int_equal(pthread_create(&g[r].thread, NULL, run_ring, &g[r]), 0);
    }
    for (int r = 0; r < RANKS; r++) {
        pthread_join(g[r].thread, NULL);
        assert_int_equal(g[r].result, 0);
    }
    close_world(d, RANKS);
}

static void test_what_is_no_exchange(void **state)
{
    struct ty_net_msg absent = { -1, 0, NULL, 0 }, me = { 0, 0, NULL, 0 },
                      beyond = { 2, 0, NULL, 0 };
    struct ty_net_msg reserved = { 1, TY_NET_TAG_MAX + 1, NULL, 0 };
    struct ty_error err = { 0 };
    struct node d[2];
    const char *none[2] = { NULL, "nonsense" };
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_exchange(d[0].net, &absent, NULL, NULL), 0);
    assert_int_equal(ty_net_exchange(d[0].net, NULL, &me, NULL), -EINVAL);
    assert_int_equal(ty_net_exchange(d[0].net, &beyond, NULL, NULL), -EINVAL);
    assert_int_equal(ty_net_exchange(d[0].net, &reserved, NULL, NULL), -EINVAL);
    assert_int_equal(ty_net_post(d[0].net, 0, 1, "", 0), -EINVAL);
    assert_int_equal(ty_net_post(d[0].net, 1, TY_NET_TAG_MAX + 1, "", 0), -EINVAL);
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "", TY_NET_SMALL_BYTES + 1), -EMSGSIZE);
    assert_int_equal(ty_net_check(d[0].net, 5, 1, NULL, 0, &len), -EINVAL);
    assert_int_equal(ty_net_peers(d[0].net, none, &err), -EINVAL);
    assert_non_null(strstr(err.text, "twice"));
    close_world(d, 2);
    open_node(&d[0], 0, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_peers(d[0].net, none, &err), -EINVAL);
    assert_non_null(strstr(err.text, "rank 1"));
    close_node(&d[0]);
    assert_null(ty_net_free(NULL));
}

/* A message of another round, or of another length, is no data. */
static void mismatch(uint64_t tag, size_t sent, size_t wanted)
{
    unsigned char out[64] = { 1 }, in[64];
    struct iovec s = { out, sent }, r = { in, wanted };
    struct ty_net_msg send = { 1, tag, &s, 1 }, recv = { 0, 7, &r, 1 };
    struct node d[2];

    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_exchange(d[0].net, &send, NULL, NULL), 0);
    assert_int_equal(ty_net_exchange(d[1].net, NULL, &recv, NULL), -EPROTO);
    assert_int_equal(ty_net_exchange(d[1].net, NULL, &recv, NULL), -EPIPE);
    close_world(d, 2);
}

static void test_another_message(void **state)
{
    (void)state;
    mismatch(8, 10, 10);
    mismatch(7, 10, 9);
    mismatch(7, 10, 11);
    mismatch(7, 0, 64);
}

static void test_stop(void **state)
{
    unsigned char *big = calloc(1, 30000000), small[8] = { 0 };
    struct node d[2];
    struct job j;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 8, 8, 1);
    /* nothing has moved: it can be tried again */
    set_job(&j, &d[0], -1, small, 8, 1, small, 8, 5);
    begin(&j);
    __atomic_store_n(&j.stop, 1, __ATOMIC_RELEASE);
    ty_net_wake(d[0].net);
    assert_int_equal(end(&j), -ECANCELED);
    swap(d, 8, 8, 2);
    /* in the middle of a message: that direction is done with */
    set_job(&j, &d[0], 1, big, 30000000, -1, small, 0, 6);
    begin(&j);
    for (uint64_t sent = 0; sent < 1000;)
        ty_net_bytes(d[0].net, &sent, NULL);
    __atomic_store_n(&j.stop, 1, __ATOMIC_RELEASE);
    ty_net_wake(d[0].net);
    assert_int_equal(end(&j), -ECANCELED);
    assert_int_equal(ty_net_exchange(d[0].net, &j.send, NULL, NULL), -EPIPE);
    assert_int_equal(count_of(&d[1], &d[1].lost[0]), 0);
    close_world(d, 2);
    free(big);
}

/* ---- small messages ---- */

/* Take the message, sleeping until it comes. */
static void take(struct node *d, int from, uint64_t tag, void *buf, size_t cap, size_t *len)
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

static void test_small_in_any_order(void **state)
{
    struct node d[3];
    unsigned char buf[TY_NET_SMALL_BYTES];
    size_t len;

    (void)state;
    open_world(d, 3, (struct ty_net_options){ 0 });
    for (uint64_t t = 0; t < 300; t++) {
        unsigned char out[TY_NET_SMALL_BYTES];

        memset(out, (int)t, sizeof out);
        assert_int_equal(ty_net_post(d[1].net, 0, t, out, t % 257), 0);
        assert_int_equal(ty_net_post(d[2].net, 0, 1000 + t, out, 1), 0);
    }
    for (uint64_t t = 300; t-- > 0;) {
        take(&d[0], 1, t, buf, sizeof buf, &len);
        assert_int_equal(len, t % 257);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(buf[i], t & 255);
        take(&d[0], 2, 1000 + t, buf, sizeof buf, &len);
        assert_int_equal(len, 1);
    }
    assert_int_equal(ty_net_check(d[0].net, 1, 0, buf, sizeof buf, &len), 0);
    /* equal tags come in order; one that is too long stays */
    assert_int_equal(ty_net_post(d[0].net, 2, 9, "first", 5), 0);
    assert_int_equal(ty_net_post(d[0].net, 2, 9, "second", 6), 0);
    take(&d[2], 0, 9, buf, sizeof buf, &len);
    assert_memory_equal(buf, "first", len);
    while ((len = 0, ty_net_check(d[2].net, 0, 9, buf, 2, &len)) == 0) {
        int heard = count_of(&d[2], &d[2].heard);

        ty_net_arm(d[2].net);
        await(&d[2], &d[2].heard, heard + 1);
    }
    assert_int_equal(ty_net_check(d[2].net, 0, 9, buf, 2, &len), -EMSGSIZE);
    take(&d[2], 0, 9, buf, sizeof buf, &len);
    assert_memory_equal(buf, "second", len);
    close_world(d, 3);
}

/* What lies there for later wakes once, not again and again. */
static void test_arm(void **state)
{
    struct node d[2];
    unsigned char b;
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    ty_net_arm(d[0].net);
    assert_int_equal(ty_net_post(d[1].net, 0, 1, "x", 1), 0);
    await(&d[0], &d[0].heard, 1);
    assert_int_equal(ty_net_post(d[1].net, 0, 2, "x", 1), 0);
    take(&d[0], 1, 2, &b, 1, &len);
    ty_net_arm(d[0].net); /* message 1 lies there, and was told */
    assert_int_equal(ty_net_post(d[0].net, 1, 3, "x", 1), 0);
    take(&d[1], 0, 3, &b, 1, &len);
    assert_true(count_of(&d[0], &d[0].heard) <= 2);
    assert_int_equal(ty_net_post(d[1].net, 0, 4, "x", 1), 0);
    take(&d[0], 1, 4, &b, 1, &len);
    take(&d[0], 1, 1, &b, 1, &len);
    close_world(d, 2);
}

static void test_posts_from_many_threads_beside_data(void **state)
{
    struct node d[2];
    struct job j[2];
    unsigned char *out = random_bytes(8000000, 1), *in = malloc(8000000), b[8];
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ .spin_us = -1 });
    set_job(&j[0], &d[0], 1, out, 8000000, -1, in, 0, 1);
    set_job(&j[1], &d[1], -1, out, 0, 0, in, 8000000, 1);
    begin(&j[0]);
    for (uint64_t t = 0; t < 500; t++)
        assert_int_equal(ty_net_post(d[0].net, 1, t, &t, sizeof t), 0);
    begin(&j[1]);
    for (uint64_t t = 0; t < 500; t++) {
        take(&d[1], 0, t, b, sizeof b, &len);
        assert_memory_equal(b, &t, sizeof t);
    }
    assert_int_equal(end(&j[0]), 0);
    assert_int_equal(end(&j[1]), 0);
    assert_memory_equal(in, out, 8000000);
    close_world(d, 2);
    free(out);
    free(in);
}

/* ---- leaving ---- */

static void test_goodbye_is_no_loss(void **state)
{
    unsigned char out[100] = { 4 }, in[100] = { 0 }, b[8];
    struct iovec s = { out, sizeof out }, r = { in, sizeof in };
    struct ty_net_msg send = { 0, 3, &s, 1 }, recv = { 1, 3, &r, 1 }, back = { 1, 4, &s, 1 };
    struct node d[2];
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 9, 9, 1);
    assert_int_equal(ty_net_exchange(d[1].net, &send, NULL, NULL), 0);
    assert_int_equal(ty_net_post(d[1].net, 0, 8, "last", 4), 0);
    d[1].net = ty_net_free(d[1].net);
    await(&d[0], &d[0].left[1], 1);
    /* what it sent before can still be had, and then no more */
    assert_int_equal(ty_net_exchange(d[0].net, NULL, &recv, NULL), 0);
    assert_memory_equal(in, out, sizeof out);
    assert_int_equal(ty_net_exchange(d[0].net, NULL, &recv, NULL), -ESHUTDOWN);
    assert_int_equal(ty_net_exchange(d[0].net, &back, NULL, NULL), -ESHUTDOWN);
    assert_int_equal(ty_net_check(d[0].net, 1, 8, b, sizeof b, &len), 1);
    assert_int_equal(ty_net_check(d[0].net, 1, 8, b, sizeof b, &len), -ESHUTDOWN);
    assert_int_equal(ty_net_post(d[0].net, 1, 8, b, 1), -ESHUTDOWN);
    assert_int_equal(d[0].lost[1], 0);
    close_world(d, 2);
}

/* The goodbye goes against the direction of the only lane that there is; who is blocked learns of it. */
static void test_goodbye_to_who_is_blocked(void **state)
{
    unsigned char b[8] = { 0 };
    struct node d[2];
    struct job j;
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_post(d[0].net, 1, 1, b, 1), 0);
    take(&d[1], 0, 1, b, sizeof b, &len);
    set_job(&j, &d[0], -1, b, 0, 1, b, 8, 1);
    begin(&j);
    d[1].net = ty_net_free(d[1].net);
    assert_int_equal(end(&j), -ESHUTDOWN);
    await(&d[0], &d[0].left[1], 1);
    assert_int_equal(d[0].lost[1], 0);
    close_world(d, 2);
}

/* A post whose lane is not even open yet still goes out. */
static void test_last_words(void **state)
{
    struct node d[2];
    unsigned char b[8];
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "bye", 3), 0);
    d[0].net = ty_net_free(d[0].net);
    take(&d[1], 0, 1, b, sizeof b, &len);
    assert_int_equal(len, 3);
    close_world(d, 2);
}

/* ---- losing ---- */

/* A rank in a process of its own, which does `what` and then waits to be killed; it gets and gives addresses by pipes. */
struct child {
    pid_t pid;
    int in, out;
};

static void child_says(int fd, const char *text)
{
    if (write(fd, text, strlen(text) + 1) < 0)
        _exit(3);
}

static void read_text(int fd, char *buf, size_t cap)
{
    size_t n = 0;

    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };

        if (n == cap || poll(&p, 1, PATIENCE_S * 1000) != 1 || read(fd, buf + n, 1) != 1) {
            buf[0] = '\0';
            return;
        }
        if (buf[n++] == '\0')
            return;
    }
}

/* Rank 1 of two: swaps 8 bytes with rank 0, says "ready", and stays. */
static void live_as_rank_1(int in, int out, const unsigned char *its_key, const char *interfaces)
{
    struct ty_net_options o = { .rank = 1, .size = 2, .key = its_key, .interfaces = interfaces };
    struct ty_net *n;
    char *mine, other[1024];
    unsigned char b[8] = { 0 };
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 0, 1, &v, 1 };

    alarm(120);
    if (ty_net_open(&o, &n, &mine, NULL) < 0)
        _exit(2);
    child_says(out, mine);
    read_text(in, other, sizeof other);
    if (ty_net_peers(n, (const char *const[]){ other, NULL }, NULL) < 0 ||
        ty_net_exchange(n, &m, &m, NULL) < 0)
        _exit(4);
    child_says(out, "ready");
    for (;;)
        pause();
}

static int run_command(const char *command)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 1);
        dup2(null, 2);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static bool quiet_world(void)
{
    return unshare(CLONE_NEWNET) == 0 && run_command("ip link set lo up") == 0;
}

/* `apart`: in a network of its own, and it waits there for its cable. */
static void open_child(struct child *c, bool apart, const char *interfaces)
{
    int down[2], up[2];

    assert_int_equal(pipe2(down, O_CLOEXEC), 0);
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        close(down[1]);
        close(up[0]);
        if (apart) {
            char go[8];

            child_says(up[1], quiet_world() ? "apart" : "refused");
            read_text(down[0], go, sizeof go);
        }
        live_as_rank_1(down[0], up[1], key, interfaces);
    }
    close(down[0]);
    close(up[1]);
    c->in = down[1];
    c->out = up[0];
}

static void meet_child(struct child *c, struct node *d, const char *its_address)
{
    unsigned char b[8] = { 0 };
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 1, &v, 1 };
    char text[64];

    child_says(c->in, d->address);
    assert_int_equal(ty_net_peers(d->net, (const char *const[]){ NULL, its_address }, NULL), 0);
    assert_int_equal(ty_net_exchange(d->net, &m, &m, NULL), 0);
    read_text(c->out, text, sizeof text);
    assert_string_equal(text, "ready");
}

static void end_child(struct child *c)
{
    kill(c->pid, SIGKILL);
    assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
    close(c->in);
    close(c->out);
}

static void test_killed(void **state)
{
    struct child c;
    struct node d;
    struct job j;
    unsigned char b[8];
    char address[1024];
    int64_t killed_us;

    (void)state;
    open_child(&c, false, "lo"); /* before there are threads */
    read_text(c.out, address, sizeof address);
    open_node(&d, 0, 2, (struct ty_net_options){ 0 });
    meet_child(&c, &d, address);
    set_job(&j, &d, -1, b, 0, 1, b, 8, 2);
    begin(&j);
    killed_us = ty_mono_us();
    end_child(&c);
    assert_int_equal(end(&j), -ECONNRESET);
    await(&d, &d.lost[1], 1);
    print_message("lost after %lld us\n", (long long)(d.lost_us - killed_us));
#ifdef __OPTIMIZE__
    assert_true(d.lost_us - killed_us < 100000);
#endif
    assert_non_null(strstr(d.why, "connection ended"));
    assert_int_equal(ty_net_post(d.net, 1, 1, b, 1), -ECONNRESET);
    assert_int_equal(ty_net_exchange(d.net, &j.recv, NULL, NULL), -ECONNRESET);
    assert_int_equal(d.left[1], 0);
    close_node(&d);
}

/* Nobody listens there any more: known at once, not when the time is up. */
static void test_gone_before_it_was_met(void **state)
{
    unsigned char b[8];
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 1, &v, 1 };
    struct node d[2];
    int64_t begun = ty_mono_us();

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    d[1].net = ty_net_free(d[1].net);
    assert_int_equal(ty_net_exchange(d[0].net, &m, NULL, NULL), -ECONNRESET);
    await(&d[0], &d[0].lost[1], 1);
    assert_true(ty_mono_us() - begun < 20000000);
    assert_non_null(strstr(d[0].why, "127.0.0.1:"));
    assert_non_null(strstr(d[0].why, "refused"));
    close_world(d, 2);
}

/* Addresses that lead astray come first: one that refuses, and this rank's own. */
static void test_addresses_in_order(void **state)
{
    char address[256];
    struct node d[2];
    unsigned char b;
    size_t len;

    (void)state;
    open_node(&d[0], 0, 2, (struct ty_net_options){ 0 });
    open_node(&d[1], 1, 2, (struct ty_net_options){ 0 });
    snprintf(address, sizeof address, "127.0.0.1:1 %.100s %.100s", d[0].address, d[1].address);
    assert_int_equal(ty_net_peers(d[0].net, (const char *const[]){ NULL, address }, NULL), 0);
    assert_int_equal(ty_net_peers(d[1].net, (const char *const[]){ d[0].address, NULL }, NULL), 0);
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "x", 1), 0);
    take(&d[1], 0, 1, &b, 1, &len);
    close_world(d, 2);
}

/* ---- strangers ---- */

static int connect_to(const struct node *d)
{
    union ty_address a[TY_NET_ADDRESSES];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_true(ty_addresses_parse(d->address, a, TY_NET_ADDRESSES) >= 1);
    assert_int_equal(connect(fd, &a[0].any, ty_address_bytes(&a[0])), 0);
    return fd;
}

/* Nothing comes and the connection ends. */
static void is_turned_away(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };
    char b;

    assert_int_equal(poll(&p, 1, PATIENCE_S * 1000), 1);
    assert_true(recv(fd, &b, 1, 0) <= 0);
    close(fd);
}

/* A hello from rank 1 for a lane; the rank that is asked answers with its nonce. */
static int say_hello(const struct node *d, struct ty_lane_hello h,
                     unsigned char hello[TY_LANE_HELLO_BYTES],
                     unsigned char challenge[TY_LANE_CHALLENGE_BYTES])
{
    int fd = connect_to(d);

    ty_lane_hello_encode(&h, hello);
    assert_int_equal(send(fd, hello, TY_LANE_HELLO_BYTES, MSG_NOSIGNAL), TY_LANE_HELLO_BYTES);
    if (challenge)
        assert_int_equal(recv(fd, challenge, TY_LANE_CHALLENGE_BYTES, MSG_WAITALL),
                         TY_LANE_CHALLENGE_BYTES);
    return fd;
}

static void test_strangers_are_turned_away(void **state)
{
    struct ty_lane_hello h = { .from = 1, .to = 0, .size = 2, .lane = 0 };
    unsigned char hello[TY_LANE_HELLO_BYTES], challenge[TY_LANE_CHALLENGE_BYTES],
        proof[TY_LANE_PROOF_BYTES];
    struct node d[2];
    int fd;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    fd = connect_to(&d[0]);
    assert_int_equal(
        send(fd, "GET / HTTP/1.1\r\nHost: a\r\nAccept: anything at all, really\r\n\r\n", 64, 0),
        64);
    is_turned_away(fd);
    h.size = 3;
    is_turned_away(say_hello(&d[0], h, hello, NULL));
    h.size = 2;
    is_turned_away(say_hello(&d[1], h, hello, NULL)); /* for another rank */
    fd = say_hello(&d[0], h, hello, challenge);
    /* its own proof sent back, and one with another key */
    assert_int_equal(send(fd, challenge + TY_LANE_NONCE_BYTES, TY_LANE_PROOF_BYTES, 0),
                     TY_LANE_PROOF_BYTES);
    is_turned_away(fd);
    fd = say_hello(&d[0], h, hello, challenge);
    ty_lane_proof(wrong_key, TY_LANE_OPENS, hello, challenge, proof);
    assert_int_equal(send(fd, proof, sizeof proof, 0), sizeof proof);
    is_turned_away(fd);
    swap(d, 1000, 1000, 1);
    /* a lane that is there is not given to another, key or not */
    is_turned_away(say_hello(&d[0], h, hello, NULL));
    swap(d, 1000, 1000, 2);
    close_world(d, 2);
}

static void test_silent_strangers(void **state)
{
    int fds[TY_NET_STRANGERS + 10];
    struct node d[2];
    int n = sizeof fds / sizeof *fds, fd;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ .hello_timeout_ms = 600000 });
    for (int i = 0; i < n; i++)
        fds[i] = connect_to(&d[0]);
    swap(d, 1000, 1000, 1); /* who has the key gets in */
    for (int i = 0; i < 10; i++)
        is_turned_away(fds[i]);
    for (int i = 10; i < n; i++)
        close(fds[i]);
    close_world(d, 2);
    open_world(d, 2, (struct ty_net_options){ .hello_timeout_ms = 20 });
    fd = connect_to(&d[0]);
    assert_int_equal(send(fd, "TyLane", 6, 0), 6);
    is_turned_away(fd);
    close_world(d, 2);
}

static void test_wrong_key(void **state)
{
    unsigned char b[8];
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 1, &v, 1 };
    struct node d[2];

    (void)state;
    open_node(&d[0], 0, 2, (struct ty_net_options){ .connect_timeout_ms = 300 });
    open_node(&d[1], 1, 2, (struct ty_net_options){ .key = wrong_key });
    introduce(d, 2);
    assert_int_equal(ty_net_exchange(d[0].net, &m, NULL, NULL), -ECONNRESET);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "another key"));
    assert_int_equal(d[1].lost[0] + d[1].left[0], 0);
    close_world(d, 2);
}

/* Who has the key and then sends what is no message, or too many of them, is lost; nobody else is. */
static int intrude(struct node *d, int lane)
{
    struct ty_lane_hello h = { .from = 1, .to = 0, .size = 3, .lane = (uint32_t)lane };
    unsigned char hello[TY_LANE_HELLO_BYTES], challenge[TY_LANE_CHALLENGE_BYTES],
        proof[TY_LANE_PROOF_BYTES];
    unsigned char welcome[TY_LANE_FRAME_BYTES];
    int fd = say_hello(d, h, hello, challenge);

    assert_true(ty_lane_proof_holds(key, TY_LANE_ACCEPTS, hello, challenge,
                                    challenge + TY_LANE_NONCE_BYTES));
    ty_lane_proof(key, TY_LANE_OPENS, hello, challenge, proof);
    assert_int_equal(send(fd, proof, sizeof proof, 0), sizeof proof);
    assert_int_equal(recv(fd, welcome, sizeof welcome, MSG_WAITALL), sizeof welcome);
    return fd;
}

static void test_garbage_from_a_rank(void **state)
{
    unsigned char garbage[32], frame[TY_LANE_FRAME_BYTES];
    struct node d[3];
    int fd;

    (void)state;
    memset(garbage, 0xa5, sizeof garbage);
    open_world(d, 3, (struct ty_net_options){ 0 });
    fd = intrude(&d[0], TY_NET_LANES);
    assert_int_equal(send(fd, garbage, sizeof garbage, MSG_NOSIGNAL), sizeof garbage);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "no message"));
    assert_int_equal(d[0].lost[2], 0);
    close(fd);
    close_world(d, 3);
    open_world(d, 3, (struct ty_net_options){ 0 });
    fd = intrude(&d[0], TY_NET_LANES);
    ty_lane_frame_encode(1, 0, frame);
    for (int i = 0; i < TY_NET_INBOX + 1; i++)
        assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "more small messages"));
    close(fd);
    close_world(d, 3);
}

/* A data lane that breaks alone makes its rank lost too, with nobody in an exchange. */
static void test_broken_data_lane(void **state)
{
    struct node d[3];
    int small, data;

    (void)state;
    open_world(d, 3, (struct ty_net_options){ 0 });
    small = intrude(&d[0], TY_NET_LANES);
    data = intrude(&d[0], 1);
    close(data);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "broke"));
    close(small);
    close_world(d, 3);
}

/* ---- a fork ---- */

/* A child that was forked keeps no lane open: the end of its parent is seen although it lives. */
static void test_forked(void **state)
{
    int up[2];
    struct node d[2];
    char b = 0;
    pid_t pid;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 10, 10, 1);
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int open = 0;

        ty_net_forked(d[0].net);
        ty_net_forked(d[1].net);
        for (int fd = 0; fd < 1024; fd++) {
            int type;
            socklen_t len = sizeof type;

            open += getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
                    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &type, &len) == 0 && type != AF_UNIX;
        }
        b = (char)open;
        _exit(write(up[1], &b, 1) == 1 ? 0 : 1);
    }
    assert_int_equal(read(up[0], &b, 1), 1);
    assert_int_equal(b, 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    swap(d, 10, 10, 2); /* the parent's are as before */
    close(up[0]);
    close(up[1]);
    close_world(d, 2);
}

/* ---- a network that is cut ---- */

#define NOT_ALLOWED 77

/* The three states in which a rank can vanish. */
enum cut { CUT_IDLE, CUT_SENDING, CUT_POSTING, CUTS };

/* Two network namespaces with a cable between them, in a process that can be thrown away. */
static int live_through_a_cut(enum cut what)
{
    static unsigned char big[30000000];
    char command[256], text[1024];
    struct child c;
    struct node d;
    struct job j;
    int64_t cut_us;
    int r;

    if (!quiet_world())
        return NOT_ALLOWED;
    open_child(&c, true, "eth9");
    read_text(c.out, text, sizeof text);
    snprintf(
        command, sizeof command,
        "ip link add cable type veth peer name eth9 netns %d && ip addr add 10.97.0.1/24 dev cable && "
        "ip link set cable up && nsenter -t %d -n sh -c 'ip addr add 10.97.0.2/24 dev eth9 && ip link set eth9 up'",
        (int)c.pid, (int)c.pid);
    if (strcmp(text, "apart") != 0 || run_command(command) < 0) {
        end_child(&c);
        return NOT_ALLOWED;
    }
    child_says(c.in, "go");
    read_text(c.out, text, sizeof text);
    open_node(&d, 0, 2, (struct ty_net_options){ .interfaces = "cable" });
    meet_child(&c, &d, text);
    set_job(&j, &d, what == CUT_SENDING ? 1 : -1, big, sizeof big, what == CUT_SENDING ? -1 : 1,
            big, 8, 2);
    begin(&j);
    snprintf(command, sizeof command, "nsenter -t %d -n ip link set eth9 down", (int)c.pid);
    cut_us = ty_mono_us();
    if (run_command(what == CUT_IDLE ? "ip link set cable down" : command) < 0)
        return 3;
    if (what == CUT_POSTING)
        ty_net_post(d.net, 1, 5, "x", 1);
    await(&d, &d.lost[1], 1);
    r = end(&j) == -ECONNRESET && d.lost_us - cut_us < 10000000 ? 0 : 4;
    close_node(&d);
    end_child(&c);
    return r;
}

static void test_cut_network(void **state)
{
    pid_t pid[CUTS];
    int status, refused = 0;

    (void)state;
    for (int i = 0; i < CUTS; i++) {
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] == 0) {
            alarm(100);
            _exit(live_through_a_cut((enum cut)i));
        }
    }
    for (int i = 0; i < CUTS; i++) {
        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_true(WIFEXITED(status));
        refused += WEXITSTATUS(status) == NOT_ALLOWED;
        if (WEXITSTATUS(status) != NOT_ALLOWED)
            assert_int_equal(WEXITSTATUS(status), 0);
    }
    if (refused)
        skip();
}

/* A rank that does not take what it is sent is late, not lost, for longer than silence is borne; its kernel answers. */
static void test_late_is_not_lost(void **state)
{
    struct timespec until;
    unsigned char *out = random_bytes(30000000, 1), *in = malloc(30000000);
    struct node d[2];
    struct job j[2];

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 8, 8, 1);
    set_job(&j[0], &d[0], 1, out, 30000000, -1, in, 0, 3);
    begin(&j[0]);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TY_NET_LOST_MS / 1000 + 2;
    pthread_mutex_lock(&d[0].lock);
    while (!d[0].lost[1] && pthread_cond_timedwait(&d[0].told, &d[0].lock, &until) == 0)
        ;
    pthread_mutex_unlock(&d[0].lock);
    assert_int_equal(d[0].lost[1] + d[1].lost[0], 0);
    set_job(&j[1], &d[1], -1, out, 0, 0, in, 30000000, 3);
    begin(&j[1]);
    assert_int_equal(end(&j[0]), 0);
    assert_int_equal(end(&j[1]), 0);
    assert_memory_equal(in, out, 30000000);
    close_world(d, 2);
    free(out);
    free(in);
}

/* ---- what the system refuses ---- */

#ifdef TY_FAULTS
static void test_faults_at_open(void **state)
{
    static const char *const points[] = { "net.alloc",   "net.interfaces", "net.epoll",
                                          "net.eventfd", "net.watch",      "net.thread" };
    struct ty_net_options o = { .size = 1, .key = key };
    struct ty_net *n = NULL;
    char *address = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct ty_error err = { 0 };

        ty_fault_arm(points[i], 1, EMFILE);
        assert_true(ty_net_open(&o, &n, &address, &err) < 0);
        ty_fault_arm(NULL, 0, 0);
        assert_null(n);
        assert_null(address);
        assert_true(err.text[0] != '\0');
    }
}

/* A connection that fails or is refused once is tried again. */
static void test_faults_that_pass(void **state)
{
    static const char *const points[] = { "net.socket", "net.connect", "net.hello", "net.accept",
                                          "net.watch" };
    struct node d[2];
    unsigned char b;
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        for (int error = 0; error < 2; error++) {
            open_world(d, 2, (struct ty_net_options){ 0 });
            ty_fault_arm(points[i], 1, error ? EMFILE : ECONNRESET);
            assert_int_equal(ty_net_post(d[0].net, 1, 1, "x", 1), 0);
            take(&d[1], 0, 1, &b, 1, &len);
            ty_fault_arm(NULL, 0, 0);
            close_world(d, 2);
        }
}

/* An established lane that fails makes the rank lost. */
static void lose_by(const char *point, int visit)
{
    struct node d[2];
    unsigned char b;
    size_t len;

    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "x", 1), 0);
    take(&d[1], 0, 1, &b, 1, &len);
    ty_fault_arm(point, visit, ECONNRESET);
    ty_net_post(d[0].net, 1, 2, "x", 1);
    await(&d[0], &d[0].lost[1], 1);
    ty_fault_arm(NULL, 0, 0);
    close_world(d, 2);
}

static void test_faults_that_lose(void **state)
{
    struct node d[2];
    unsigned char b[8];
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 9, &v, 1 };

    (void)state;
    lose_by("net.send", 1);
    lose_by("net.recv", 1);
    lose_by("net.letter", 1);
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 8, 8, 1);
    ty_fault_arm("net.move", 1, ECONNRESET);
    assert_int_equal(ty_net_exchange(d[0].net, &m, NULL, NULL), -ECONNRESET);
    ty_fault_arm(NULL, 0, 0);
    await(&d[0], &d[0].lost[1], 1);
    close_world(d, 2);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed), /* first: it forks, before there are threads */
        cmocka_unit_test(test_cut_network),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_ring_of_four),
        cmocka_unit_test(test_what_is_no_exchange),
        cmocka_unit_test(test_another_message),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_small_in_any_order),
        cmocka_unit_test(test_arm),
        cmocka_unit_test(test_posts_from_many_threads_beside_data),
        cmocka_unit_test(test_goodbye_is_no_loss),
        cmocka_unit_test(test_goodbye_to_who_is_blocked),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_gone_before_it_was_met),
        cmocka_unit_test(test_addresses_in_order),
        cmocka_unit_test(test_strangers_are_turned_away),
        cmocka_unit_test(test_silent_strangers),
        cmocka_unit_test(test_wrong_key),
        cmocka_unit_test(test_garbage_from_a_rank),
        cmocka_unit_test(test_broken_data_lane),
        cmocka_unit_test(test_forked),
        cmocka_unit_test(test_late_is_not_lost),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults_at_open),
        cmocka_unit_test(test_faults_that_pass),
        cmocka_unit_test(test_faults_that_lose),
#endif
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
