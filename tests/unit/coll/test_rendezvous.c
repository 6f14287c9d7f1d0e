/* test_rendezvous.c - ranks that are threads, and a server; strangers that are sockets */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/rendezvous.h"
#include "tests.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET "a secret of this test"
#define TIMEOUT_MS 20000
#define RANKS_MAX 5

/* ---- ranks ---- */

struct rank {
    pthread_t thread;
    struct ty_world world;
    int port, r;
    const char *secret;
    struct ty_error err;
    struct ty_coll_boot boot;
    void (*run)(struct rank *me);
};

static void enter(struct rank *me)
{
    me->r = ty_boot_rendezvous("127.0.0.1", me->port, me->secret, &me->world, TIMEOUT_MS, &me->boot,
                               &me->err);
    if (me->r < 0)
        fprintf(stderr, "# %s\n", me->err.text);
    assert_int_equal(me->r, 0);
}

static void put_text(struct rank *me, const char *key, int world)
{
    char text[100];

    snprintf(text, sizeof text, "%s of %d in %d", key, me->world.rank, world);
    assert_int_equal(me->boot.put(me->boot.ctx, key, text, strlen(text) + 1, &me->err), 0);
}

static void expect_text(struct rank *me, int rank, const char *key, int world)
{
    char want[100];
    void *got;
    size_t n;

    snprintf(want, sizeof want, "%s of %d in %d", key, rank, world);
    assert_int_equal(me->boot.get(me->boot.ctx, rank, key, &got, &n, &me->err), 0);
    assert_int_equal(n, strlen(want) + 1);
    assert_string_equal(got, want);
    free(got);
}

static void *rank_main(void *arg)
{
    struct rank *me = arg;

    me->run(me);
    return NULL;
}

static void run_ranks(int n, int port, void (*run)(struct rank *me))
{
    struct rank ranks[RANKS_MAX] = { 0 };

    for (int i = 0; i < n; i++) {
        ranks[i] = (struct rank){
            .world = { i, n, "trainyard" }, .port = port, .secret = SECRET, .run = run
        };
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]), 0);
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_join(ranks[i].thread, NULL), 0);
}

static struct ty_rendezvous *serve(int size)
{
    struct ty_rendezvous *s;
    struct ty_error err = { 0 };

    if (ty_rendezvous_open("127.0.0.1", 0, SECRET, size, &s, &err) < 0)
        fail_msg("%s", err.text);
    assert_in_range(ty_rendezvous_port(s), 1, 65535);
    return s;
}

/* ---- worlds ---- */

static void two_worlds(struct rank *me)
{
    for (int world = 0; world < 3; world++) {
        void *got;
        size_t n;

        enter(me);
        assert_int_equal(me->boot.get(me->boot.ctx, 0, "address", &got, &n, &me->err), -ENOENT);
        put_text(me, "address", world);
        if (world == 0)
            put_text(me, "first", world);
        assert_int_equal(me->boot.fence(me->boot.ctx, TIMEOUT_MS, &me->err), 0);
        for (int i = 0; i < me->world.size; i++) {
            expect_text(me, i, "address", world);
            if (world > 0)
                assert_int_equal(me->boot.get(me->boot.ctx, i, "first", &got, &n, &me->err),
                                 -ENOENT);
        }
        put_text(me, "more", world);
        assert_int_equal(me->boot.fence(me->boot.ctx, TIMEOUT_MS, &me->err), 0);
        for (int i = 0; i < me->world.size; i++)
            expect_text(me, i, "more", world);
        me->boot.close(me->boot.ctx);
    }
}

static void test_worlds_one_after_the_other(void **state)
{
    (void)state;
    for (int n = 1; n <= RANKS_MAX; n++) {
        struct ty_rendezvous *s = serve(n);

        run_ranks(n, ty_rendezvous_port(s), two_worlds);
        ty_rendezvous_free(s);
    }
}

/* ---- one rank at a time, on this thread ---- */

static struct rank *rank_new(struct ty_rendezvous *s, int rank, int size)
{
    struct rank *me = calloc(1, sizeof *me);

    assert_non_null(me);
    *me = (struct rank){ .world = { rank, size, "trainyard" },
                         .port = s ? ty_rendezvous_port(s) : 0,
                         .secret = SECRET };
    return me;
}

static int come(struct rank *me)
{
    me->r = ty_boot_rendezvous("127.0.0.1", me->port, me->secret, &me->world, TIMEOUT_MS, &me->boot,
                               &me->err);
    return me->r;
}

static void rank_free(struct rank *me)
{
    if (me->boot.close)
        me->boot.close(me->boot.ctx);
    free(me);
}

static int fence(struct rank *me, int timeout_ms)
{
    return me->boot.fence(me->boot.ctx, timeout_ms, &me->err);
}

static void fence_run(struct rank *me)
{
    me->r = fence(me, TIMEOUT_MS);
}

static void fence_start(struct rank *me)
{
    me->run = fence_run;
    assert_int_equal(pthread_create(&me->thread, NULL, rank_main, me), 0);
}

static int fence_finish(struct rank *me)
{
    assert_int_equal(pthread_join(me->thread, NULL), 0);
    return me->r;
}

static void expect_error(const struct rank *me, const char *text)
{
    if (!strstr(me->err.text, text))
        fail_msg("'%s' does not say '%s'", me->err.text, text);
}

static void test_who_is_missing_is_named(void **state)
{
    struct ty_rendezvous *s = serve(5);
    struct rank *a = rank_new(s, 0, 5), *b = rank_new(s, 1, 5), *c = rank_new(s, 3, 5);
    char want[200];

    (void)state;
    assert_int_equal(come(a), 0);
    assert_int_equal(fence(a, 50), -ETIMEDOUT);
    expect_error(a, "ranks 1, 2, 3 and 4 of 5 have not come");
    assert_int_equal(come(b), 0);
    assert_int_equal(come(c), 0);
    fence_start(b);
    /* b is at the fence when the server's answer no longer says that it is not ready. */
    do {
        assert_int_equal(fence(a, 20), -ETIMEDOUT);
    } while (strstr(a->err.text, "ranks 1 and 3"));
    snprintf(
        want, sizeof want,
        "ranks 2 and 4 of 5 have not come, and rank 3 has come but is not ready, to the rendezvous at 127.0.0.1:%d within 1 s",
        a->port);
    assert_string_equal(a->err.text, want);
    ty_rendezvous_reset(s, 4); /* sends b home */
    assert_int_equal(fence_finish(b), -EINVAL);
    expect_error(b, "a world of 5 ranks, but this is one of 4");
    rank_free(a);
    rank_free(b);
    rank_free(c);
    ty_rendezvous_free(s);
}

static void test_a_late_rank_is_welcome_after_a_time_out(void **state)
{
    struct ty_rendezvous *s = serve(2);
    struct rank *a = rank_new(s, 0, 2), *b = rank_new(s, 1, 2);

    (void)state;
    assert_int_equal(come(a), 0);
    put_text(a, "address", 1);
    assert_int_equal(fence(a, 20), -ETIMEDOUT);
    expect_error(a, "rank 1 of 2 has not come to the rendezvous");
    assert_int_equal(come(b), 0);
    put_text(b, "address", 1);
    fence_start(b);
    assert_int_equal(fence(a, TIMEOUT_MS), 0);
    assert_int_equal(fence_finish(b), 0);
    for (int i = 0; i < 2; i++) {
        expect_text(a, i, "address", 1);
        expect_text(b, i, "address", 1);
    }
    rank_free(a);
    rank_free(b);
    ty_rendezvous_free(s);
}

static void test_who_is_turned_away(void **state)
{
    struct ty_rendezvous *s = serve(2);
    struct rank *a = rank_new(s, 0, 2), *twice = rank_new(s, 0, 2), *size = rank_new(s, 1, 3),
                *secret = rank_new(s, 1, 2);

    (void)state;
    assert_int_equal(come(a), 0);
    assert_int_equal(come(twice), -EEXIST);
    expect_error(twice, "a process with rank 0 of 2 is here already");
    assert_int_equal(come(size), -EINVAL);
    expect_error(size, "rank 1 believes in a world of 3 ranks, but this is one of 2");
    secret->secret = "another secret";
    assert_int_equal(come(secret), -EACCES);
    expect_error(secret, "does not have the secret");
    rank_free(a);
    rank_free(twice);
    rank_free(size);
    rank_free(secret);
    ty_rendezvous_free(s);
}

static void test_a_rank_that_leaves_a_formed_world(void **state)
{
    struct ty_rendezvous *s = serve(3);
    struct rank *r[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        r[i] = rank_new(s, i, 3);
        assert_int_equal(come(r[i]), 0);
        fence_start(r[i]);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(fence_finish(r[i]), 0);
    fence_start(r[0]);
    fence_start(r[1]);
    rank_free(r[2]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fence_finish(r[i]), -EOWNERDEAD);
        expect_error(r[i], "rank 2 of 3 has left the rendezvous");
        rank_free(r[i]);
    }
    ty_rendezvous_free(s);
}

static void test_a_rank_that_comes_again(void **state)
{
    struct ty_rendezvous *s = serve(2);
    struct rank *a = rank_new(s, 0, 2), *b = rank_new(s, 1, 2), *again = rank_new(s, 1, 2);
    void *got;
    size_t n;

    (void)state;
    assert_int_equal(come(a), 0);
    assert_int_equal(come(b), 0);
    put_text(b, "old", 0);
    assert_int_equal(fence(b, 20), -ETIMEDOUT);
    rank_free(b);
    while (come(again) == -EEXIST) /* until the server has seen that b is gone */
        ;
    assert_int_equal(again->r, 0);
    put_text(again, "new", 0);
    fence_start(again);
    assert_int_equal(fence(a, TIMEOUT_MS), 0);
    assert_int_equal(fence_finish(again), 0);
    expect_text(a, 1, "new", 0);
    assert_int_equal(a->boot.get(a->boot.ctx, 1, "old", &got, &n, &a->err), -ENOENT);
    rank_free(a);
    rank_free(again);
    ty_rendezvous_free(s);
}

/* Rank 1 comes to the next world before rank 0, which serves, has left the last one. */
static void test_another_server_takes_over(void **state)
{
    struct ty_rendezvous *s = serve(2);
    int port = ty_rendezvous_port(s);
    struct rank *a = rank_new(s, 0, 2), *b = rank_new(s, 1, 2);
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(come(b), 0);
    put_text(b, "address", 0);
    fence_start(b);
    ty_rendezvous_free(s);
    if (ty_rendezvous_open("127.0.0.1", port, SECRET, 2, &s, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(come(a), 0);
    put_text(a, "address", 0);
    assert_int_equal(fence(a, TIMEOUT_MS), 0);
    assert_int_equal(fence_finish(b), 0);
    expect_text(a, 1, "address", 0);
    expect_text(b, 0, "address", 0);
    /* The values are here, whatever becomes of the server; but there are no more fences. */
    ty_rendezvous_free(s);
    expect_text(b, 1, "address", 0);
    assert_true(fence(b, 100) < 0);
    assert_int_equal(fence(b, 100), -ECONNRESET);
    expect_error(b, "has gone");
    rank_free(a);
    rank_free(b);
}

static void test_reset(void **state)
{
    struct ty_rendezvous *s = serve(4);
    struct rank *a = rank_new(s, 0, 4), *b = rank_new(s, 0, 1);

    (void)state;
    assert_int_equal(come(a), 0);
    ty_rendezvous_reset(s, 1);
    assert_int_equal(come(b), 0);
    put_text(b, "address", 0);
    assert_int_equal(fence(b, TIMEOUT_MS), 0);
    expect_text(b, 0, "address", 0);
    assert_int_equal(fence(a, TIMEOUT_MS), -EINVAL);
    rank_free(a);
    rank_free(b);
    ty_rendezvous_free(s);
}

static void test_limits(void **state)
{
    struct ty_rendezvous *s = serve(1);
    struct rank *a = rank_new(s, 0, 1);
    char long_key[TY_RDV_NAME_MAX + 2];
    void *big = calloc(1, TY_RDV_VALUE_MAX + 1), *got;
    size_t n;

    (void)state;
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    assert_int_equal(come(a), 0);
    assert_int_equal(a->boot.put(a->boot.ctx, long_key, "", 0, &a->err), -EINVAL);
    assert_int_equal(a->boot.put(a->boot.ctx, "", "", 0, &a->err), -EINVAL);
    assert_int_equal(a->boot.put(a->boot.ctx, "big", big, TY_RDV_VALUE_MAX + 1, &a->err), -EINVAL);
    assert_int_equal(a->boot.put(a->boot.ctx, long_key + 1, big, TY_RDV_VALUE_MAX, &a->err), 0);
    assert_int_equal(fence(a, TIMEOUT_MS), 0);
    assert_int_equal(a->boot.get(a->boot.ctx, 0, long_key + 1, &got, &n, &a->err), 0);
    assert_int_equal(n, TY_RDV_VALUE_MAX);
    free(got);
    for (int i = 0; i < TY_RDV_RANK_BYTES / TY_RDV_VALUE_MAX; i++)
        assert_int_equal(a->boot.put(a->boot.ctx, "big", big, TY_RDV_VALUE_MAX, &a->err), 0);
    assert_int_equal(fence(a, TIMEOUT_MS), -E2BIG);
    expect_error(a, "has put more than the server takes");
    free(big);
    rank_free(a);
    ty_rendezvous_free(s);
}

/* ---- strangers ---- */

static int stranger(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* Bytes until the other side has closed. */
static size_t read_to_end(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char bytes[1000];
    size_t all = 0;

    for (;;) {
        ssize_t n;

        assert_int_equal(poll(&p, 1, TIMEOUT_MS), 1);
        n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0)
            return all;
        all += (size_t)n;
    }
}

static void test_strangers_are_turned_away(void **state)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct ty_rendezvous *s = serve(1);
    unsigned char hello[200] = { 0 };
    int fd = stranger(ty_rendezvous_port(s));

    (void)state;
    assert_int_equal(send(fd, http, sizeof http - 1, MSG_NOSIGNAL), sizeof http - 1);
    assert_in_range(read_to_end(fd), 0, TY_RDV_GREETING_BYTES);
    close(fd);
    /* The right beginning, and no proof. */
    fd = stranger(ty_rendezvous_port(s));
    memcpy(hello, "TyRdv\r\n\1", 8);
    assert_int_equal(send(fd, hello, sizeof hello, MSG_NOSIGNAL), sizeof hello);
    assert_in_range(read_to_end(fd), 0, TY_RDV_GREETING_BYTES);
    close(fd);
    /* Says nothing. */
    fd = stranger(ty_rendezvous_port(s));
    assert_int_equal(read_to_end(fd), TY_RDV_GREETING_BYTES);
    close(fd);
    run_ranks(1, ty_rendezvous_port(s), two_worlds);
    ty_rendezvous_free(s);
}

static void test_many_strangers_keep_nobody_out(void **state)
{
    struct ty_rendezvous *s = serve(2);
    int fds[200];

    (void)state;
    for (int i = 0; i < 200; i++)
        fds[i] = stranger(ty_rendezvous_port(s));
    run_ranks(2, ty_rendezvous_port(s), two_worlds);
    for (int i = 0; i < 200 - 66; i++) /* pushed out by those behind them */
        read_to_end(fds[i]);
    for (int i = 0; i < 200; i++)
        close(fds[i]);
    ty_rendezvous_free(s);
}

static int listener(int *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void *speak(void *arg)
{
    static const char text[] = "220 mail.example.com ESMTP at your service, dear stranger\r\n";
    int fd = accept(*(int *)arg, NULL, NULL);

    send(fd, text, sizeof text - 1, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    read_to_end(fd);
    close(fd);
    return NULL;
}

struct stalled {
    int fd, port;
    bool greets;
    struct ty_rendezvous *later;
};

/* A server that is stopped for long, before its first word or after it, and then goes on. */
static void *stall(void *arg)
{
    struct stalled *me = arg;
    unsigned char greeting[TY_RDV_GREETING_BYTES], hello[TY_RDV_HELLO_BYTES];
    struct ty_rdv_side side;
    struct ty_error err = { 0 };
    int fd = accept(me->fd, NULL, NULL);

    if (me->greets && ty_rdv_side_init(&side, SECRET) == 0) {
        ty_rdv_greet(&side, greeting);
        send(fd, greeting, sizeof greeting, MSG_NOSIGNAL);
        recv(fd, hello, sizeof hello, MSG_WAITALL);
    } else {
        read_to_end(fd);
    }
    close(me->fd);
    close(fd);
    ty_rendezvous_open("127.0.0.1", me->port, SECRET, 1, &me->later, &err);
    return NULL;
}

static void test_a_stalled_server_is_no_stranger(void **state)
{
    (void)state;
    for (int greets = 0; greets < 2; greets++) {
        struct stalled server = { .greets = greets };
        struct rank *me = rank_new(NULL, 0, 1);
        pthread_t thread;

        server.fd = listener(&server.port);
        me->port = server.port;
        assert_int_equal(pthread_create(&thread, NULL, stall, &server), 0);
        assert_int_equal(come(me), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(fence(me, TIMEOUT_MS), 0);
        rank_free(me);
        ty_rendezvous_free(server.later);
    }
}

static void test_another_program_is_there(void **state)
{
    struct rank me = { .world = { 0, 2, "trainyard" }, .secret = SECRET };
    struct ty_rendezvous *s;
    struct ty_error err = { 0 };
    char want[100];
    int fd = listener(&me.port);
    pthread_t thread;

    (void)state;
    assert_int_equal(ty_rendezvous_open("127.0.0.1", me.port, SECRET, 2, &s, &err), -EADDRINUSE);
    snprintf(want, sizeof want, "cannot open a rendezvous at port %d of 127.0.0.1: ", me.port);
    assert_non_null(strstr(err.text, want));
    assert_non_null(strstr(err.text, "another program has it"));
    assert_int_equal(pthread_create(&thread, NULL, speak, &fd), 0);
    assert_int_equal(come(&me), -EPROTO);
    expect_error(&me, "is no rendezvous");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(come(&me), -EPROTO); /* accepts, and is silent */
    expect_error(&me, "has not greeted");
    close(fd);
    me.r = ty_boot_rendezvous("127.0.0.1", me.port, SECRET, &me.world, 200, &me.boot, &me.err);
    assert_int_equal(me.r, -ETIMEDOUT);
    expect_error(&me, "rank 0 of 2 has not reached the rendezvous at 127.0.0.1:");
    expect_error(&me, "within 1 s: Connection refused");
    me.r = ty_boot_rendezvous("no-such-host.invalid", me.port, SECRET, &me.world, 200, &me.boot,
                              &me.err);
    assert_int_equal(me.r, -ETIMEDOUT);
    expect_error(&me, "no-such-host.invalid");
}

/* How many sockets this process has; each must be closed by exec. */
static int sockets_open(void)
{
    int n = 0;

    for (int fd = 3; fd < 100; fd++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;

        if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0 || addr.ss_family != AF_INET)
            continue;
        n++;
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    return n;
}

static void test_a_forked_child_lets_go(void **state)
{
    struct ty_rendezvous *s = serve(1);
    struct rank *a = rank_new(s, 0, 1);
    int status, before;
    pid_t pid;

    (void)state;
    assert_int_equal(come(a), 0);
    before = sockets_open();
    assert_int_equal(before, 3); /* listener, and both ends of the connection */
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        ty_boot_forked(&a->boot);
        _exit(sockets_open() == before - 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(fence(a, TIMEOUT_MS), 0); /* the parent's is whole */
    rank_free(a);
    ty_rendezvous_free(s);
}

/* It has copies of everything, and the ranks must see an end all the same. */
static void test_a_forked_child_keeps_nothing_alive(void **state)
{
    struct ty_rendezvous *s = serve(2);
    struct rank *a = rank_new(s, 0, 2), *b = rank_new(s, 1, 2);
    struct ty_error err = { 0 };
    int line[2], port = ty_rendezvous_port(s);
    pid_t pid;

    (void)state;
    assert_int_equal(come(a), 0);
    assert_int_equal(come(b), 0);
    fence_start(b);
    assert_int_equal(fence(a, TIMEOUT_MS), 0);
    assert_int_equal(fence_finish(b), 0);
    assert_int_equal(pipe(line), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(line[1]);
        _exit(read(line[0], line, 1) == 0 ? 0 : 1);
    }
    close(line[0]);
    rank_free(a);
    assert_int_equal(fence(b, TIMEOUT_MS), -EOWNERDEAD);
    ty_rendezvous_free(s);
    assert_true(fence(b, TIMEOUT_MS) < 0);
    if (ty_rendezvous_open("127.0.0.1", port, SECRET, 2, &s, &err) < 0)
        fail_msg("%s", err.text);
    ty_rendezvous_free(s);
    rank_free(b);
    close(line[1]);
    assert_int_equal(waitpid(pid, &port, 0), pid);
    assert_int_equal(port, 0);
}

/* ---- bytes ---- */

static void keys_of_both(struct ty_rdv_keys *server, struct ty_rdv_keys *client)
{
    unsigned char greeting[TY_RDV_GREETING_BYTES], hello[TY_RDV_HELLO_BYTES],
        proof[TY_RDV_PROOF_BYTES];
    struct ty_rdv_side a, b;

    assert_int_equal(ty_rdv_side_init(&a, SECRET), 0);
    assert_int_equal(ty_rdv_side_init(&b, SECRET), 0);
    ty_rdv_greet(&a, greeting);
    assert_int_equal(ty_rdv_hello(&b, greeting, hello), 0);
    assert_int_equal(ty_rdv_accept(&a, hello, proof, server), 0);
    assert_int_equal(ty_rdv_confirm(&b, greeting, proof, client), 0);
    /* No bit of any of them may change. */
    for (size_t i = 0; i < sizeof hello; i++) {
        hello[i] ^= 1;
        assert_int_equal(ty_rdv_accept(&a, hello, proof, &(struct ty_rdv_keys){ 0 }), -EACCES);
        hello[i] ^= 1;
    }
    /* A server that only repeats what it was sent. */
    assert_int_equal(
        ty_rdv_confirm(&b, greeting, hello + TY_RDV_GREETING_BYTES, &(struct ty_rdv_keys){ 0 }),
        -EACCES);
    greeting[7]++;
    assert_int_equal(ty_rdv_hello(&b, greeting, hello), -EPROTONOSUPPORT);
    greeting[0]++;
    assert_int_equal(ty_rdv_hello(&b, greeting, hello), -EPROTO);
}

static void test_frames(void **state)
{
    struct ty_rdv_message m = { .type = TY_RDV_PUT,
                                .key = "address",
                                .value = "10.0.0.1",
                                .value_len = 8 },
                          got;
    CLEANUP_STR struct ty_str one = { 0 };
    struct ty_rdv_keys server, client, before;
    unsigned char copy[200];

    (void)state;
    keys_of_both(&server, &client);
    before = server;
    ty_rdv_seal(&client, &m, &one);
    assert_null(memmem(one.text, one.len, "10.0.0.1", 8));
    for (size_t n = 0; n < one.len; n++) {
        unsigned char *tight = tests_tight(one.text, n);

        assert_int_equal(ty_rdv_open(&server, tight, n, &got), 0);
        free(tight);
    }
    for (size_t i = 0; i < one.len; i++) {
        memcpy(copy, one.text, one.len);
        copy[i] ^= 1;
        assert_true(ty_rdv_open(&server, copy, one.len, &got) <= 0);
        assert_int_equal(server.received, 0);
    }
    memcpy(copy, one.text, one.len);
    assert_int_equal(ty_rdv_open(&server, copy, one.len, &got), one.len);
    assert_int_equal(got.type, TY_RDV_PUT);
    assert_string_equal(got.key, "address");
    assert_int_equal(got.value_len, 8);
    assert_memory_equal(got.value, "10.0.0.1", 8);
    /* Again, and back to its maker. */
    memcpy(copy, one.text, one.len);
    assert_int_equal(ty_rdv_open(&server, copy, one.len, &got), -EBADMSG);
    memcpy(copy, one.text, one.len);
    assert_int_equal(ty_rdv_open(&client, copy, one.len, &got), -EBADMSG);
    /* Lengths that no frame has. */
    server = before;
    memset(copy, 0, 4);
    assert_int_equal(ty_rdv_open(&server, copy, 4, &got), -EPROTO);
    memset(copy, 0xff, 4);
    assert_int_equal(ty_rdv_open(&server, copy, 4, &got), -EPROTO);
}

/* ---- every outside call may fail ---- */

#ifdef TY_FAULTS
static void test_faults(void **state)
{
    static const char *const points[] = {
        "rendezvous.alloc",  "rendezvous.eventfd", "rendezvous.socket", "rendezvous.bind",
        "rendezvous.thread", "rendezvous.accept",  "rendezvous.conn",   "rendezvous.recv",
        "rendezvous.send",   "rendezvous.world",   "rendezvous.value",  "rdv.random",
        "rdv.alloc",         "rdv.socket",         "rdv.connect",       "rdv.send",
        "rdv.recv",          "rdv.poll",           "rdv.entries",       "rdv.copy",
    };

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        for (int visit = 1; visit <= 3; visit++) {
            struct ty_rendezvous *s = NULL;
            struct rank a = { .world = { 0, 1, "trainyard" }, .secret = SECRET };
            void *got;
            size_t n;

            ty_fault_arm(points[i], visit,
                         strcmp(points[i], "rendezvous.accept") == 0 ? EMFILE : EIO);
            a.r = ty_rendezvous_open("127.0.0.1", 0, SECRET, 1, &s, &a.err);
            if (a.r == 0) {
                a.port = ty_rendezvous_port(s);
                a.r = ty_boot_rendezvous("127.0.0.1", a.port, SECRET, &a.world, 3000, &a.boot,
                                         &a.err);
            }
            if (a.r == 0)
                a.r = a.boot.put(a.boot.ctx, "key", "value", 5, &a.err);
            if (a.r == 0)
                a.r = fence(&a, 3000);
            if (a.r == 0)
                a.r = a.boot.get(a.boot.ctx, 0, "key", &got, &n, &a.err);
            if (a.r == 0)
                free(got);
            else
                assert_int_equal(a.err.code, a.r);
            ty_fault_arm("none", 0, 0);
            if (a.boot.close)
                a.boot.close(a.boot.ctx);
            ty_rendezvous_free(s);
        }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds_one_after_the_other),
        cmocka_unit_test(test_who_is_missing_is_named),
        cmocka_unit_test(test_a_late_rank_is_welcome_after_a_time_out),
        cmocka_unit_test(test_who_is_turned_away),
        cmocka_unit_test(test_a_rank_that_leaves_a_formed_world),
        cmocka_unit_test(test_a_rank_that_comes_again),
        cmocka_unit_test(test_another_server_takes_over),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_strangers_are_turned_away),
        cmocka_unit_test(test_many_strangers_keep_nobody_out),
        cmocka_unit_test(test_a_stalled_server_is_no_stranger),
        cmocka_unit_test(test_another_program_is_there),
        cmocka_unit_test(test_a_forked_child_lets_go),
        cmocka_unit_test(test_a_forked_child_keeps_nothing_alive),
        cmocka_unit_test(test_frames),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
