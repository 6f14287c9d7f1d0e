/* test_link.c - one link between two ends in this process */
#include "base/clock.h"
#include "base/link.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const unsigned char key[TY_LINK_KEY] = { 1, 2, 3 }, other_key[TY_LINK_KEY] = { 1, 2, 4 };

struct ends {
    struct ty_link *caller, *called;
    int wire[2]; /* with a wire between them: its two ends */
};

static void open_pair(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
}

static void open_ends(struct ends *e, const unsigned char caller_key[TY_LINK_KEY])
{
    int fd[2];

    open_pair(fd);
    *e = (struct ends){ .caller = ty_link_new(fd[0], false, caller_key, 0),
                        .called = ty_link_new(fd[1], true, key, 0),
                        .wire = { -1, -1 } };
    assert_true(e->caller && e->called);
}

/* The same, with the test in the middle. */
static void open_wired(struct ends *e)
{
    int a[2], b[2];

    open_pair(a);
    open_pair(b);
    *e = (struct ends){ .caller = ty_link_new(a[0], false, key, 0),
                        .called = ty_link_new(b[0], true, key, 0),
                        .wire = { a[1], b[1] } };
    assert_true(e->caller && e->called);
}

static void close_ends(struct ends *e)
{
    ty_link_free(e->caller);
    ty_link_free(e->called);
    for (int i = 0; i < 2; i++)
        if (e->wire[i] >= 0)
            close(e->wire[i]);
}

/* Both turns until both are ready, or one is over: what the two said last. */
static void shake(struct ends *e, int *caller, int *called)
{
    for (int i = 0; i < 20; i++) {
        *called = ty_link_turn(e->called, 1);
        *caller = ty_link_turn(e->caller, 1);
    }
}

static void ready(struct ends *e)
{
    int caller, called;

    open_ends(e, key);
    shake(e, &caller, &called);
    assert_int_equal(caller, 0);
    assert_int_equal(called, 0);
    assert_true(ty_link_ready(e->caller) && ty_link_ready(e->called));
    assert_int_equal(ty_link_due(e->caller), INT64_MAX);
}

static void keys(void **state)
{
    char hex[2 * TY_LINK_KEY + 1], again[2 * TY_LINK_KEY + 1];
    unsigned char k[TY_LINK_KEY];

    (void)state;
    assert_int_equal(ty_link_key_make(hex), 0);
    assert_int_equal(ty_link_key_make(again), 0);
    assert_string_not_equal(hex, again);
    assert_int_equal(ty_link_key_parse(hex, k), 0);
    hex[63] = 'x';
    assert_int_equal(ty_link_key_parse(hex, k), -EINVAL);
    hex[63] = '\0';
    assert_int_equal(ty_link_key_parse(hex, k), -EINVAL);
}

static void says_and_hears(void **state)
{
    struct ends e;
    char buf[64];

    (void)state;
    ready(&e);
    assert_int_equal(ty_link_send(e.caller, "hello", 5), 5);
    assert_int_equal(ty_link_recv(e.called, buf, 2), 2);
    assert_true(ty_link_holds(e.called)); /* the socket says nothing of the other three */
    assert_int_equal(ty_link_recv(e.called, buf + 2, sizeof buf - 2), 3);
    assert_memory_equal(buf, "hello", 5);
    assert_false(ty_link_holds(e.called));
    assert_int_equal(ty_link_recv(e.called, buf, sizeof buf), -EAGAIN);
    assert_int_equal(ty_link_send(e.called, "and back", 8), 8);
    assert_int_equal(ty_link_recv(e.caller, buf, sizeof buf), 8);
    close_ends(&e);
}

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 2654435761u >> 13);
}

/* A side that sends `all` bytes in pieces of any size, and one that takes them slowly. */
static void pour(struct ty_link *from, struct ty_link *to, size_t all)
{
    static unsigned char out[300000], in[100000];
    size_t sent = 0, got = 0;

    srandom(7);
    while (got < all) {
        size_t want = (size_t)random() % sizeof out;
        ssize_t n;

        if (want > all - sent)
            want = all - sent;
        for (size_t i = 0; i < want; i++)
            out[i] = byte_at(sent + i);
        n = want ? ty_link_send(from, out, want) : -EAGAIN;
        assert_true(n == -EAGAIN || (n > 0 && (size_t)n <= want));
        sent += n > 0 ? (size_t)n : 0;
        assert_true(ty_link_unsent(from) < TY_LINK_UNSENT_MAX + 2 * TY_LINK_CHUNK);
        n = ty_link_recv(to, in, 1 + (size_t)random() % sizeof in);
        assert_true(n == -EAGAIN || n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(in[i], byte_at(got + (size_t)i));
        got += n > 0 ? (size_t)n : 0;
        assert_int_equal(ty_link_turn(from, 2), 0);
    }
}

static void carries_much(void **state)
{
    struct ends e;

    (void)state;
    ready(&e);
    pour(e.caller, e.called, 20 << 20);
    pour(e.called, e.caller, 20 << 20);
    close_ends(&e);
}

static void wrong_key(void **state)
{
    struct ends e;
    int caller, called;

    (void)state;
    open_ends(&e, other_key);
    assert_int_equal(ty_link_turn(e.called, 1), 0);
    assert_int_equal(ty_link_turn(e.caller, 1), 0);
    called = ty_link_turn(e.called, 1);
    assert_int_equal(called, -EACCES);
    e.called = ty_link_free(e.called); /* without a word */
    caller = ty_link_turn(e.caller, 1);
    assert_int_equal(caller, -EACCES);
    assert_int_equal(ty_link_send(e.caller, "x", 1), -EACCES);
    close_ends(&e);
}

static void strangers(void **state)
{
    static const char *const words[] = { "GET / HTTP/1.1\r\n\r\n", "TyLonk\n\1", "T\0" };
    char buf[64];
    int fd[2];

    (void)state;
    for (int called = 0; called < 2; called++)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            struct ty_link *l;

            open_pair(fd);
            l = ty_link_new(fd[0], called, key, 0);
            assert_int_equal(write(fd[1], words[i], strlen(words[i]) + 1), strlen(words[i]) + 1);
            assert_int_equal(ty_link_turn(l, 1), -EPROTO);
            assert_int_equal(ty_link_recv(l, buf, sizeof buf), -EPROTO);
            ty_link_free(l);
            close(fd[1]);
        }
}

static void slow_peers(void **state)
{
    int fd[2];
    struct ty_link *l;

    (void)state;
    open_pair(fd);
    l = ty_link_new(fd[0], true, key, 1000);
    assert_int_equal(ty_link_turn(l, 2000), 0);
    assert_int_equal(write(fd[1], "Ty", 2), 2);
    assert_int_equal(ty_link_turn(l, ty_link_due(l) - 1), 0);
    assert_int_equal(ty_link_send(l, "x", 1), -EAGAIN); /* nothing before the proof */
    assert_int_equal(ty_link_turn(l, ty_link_due(l)), -ETIMEDOUT);
    ty_link_free(l);
    close(fd[1]);
}

static void cut(void **state)
{
    struct ends e;
    char buf[8];
    ssize_t n = 0;
    int fd[2];

    (void)state;
    ready(&e);
    assert_int_equal(ty_link_send(e.caller, "last", 4), 4);
    e.caller = ty_link_free(e.caller);
    assert_int_equal(ty_link_recv(e.called, buf, sizeof buf), 4);
    assert_int_equal(ty_link_recv(e.called, buf, sizeof buf), 0);
    for (int i = 0; i < 3 && n >= 0; i++)
        n = ty_link_send(e.called, "x", 1);
    assert_int_equal(n, -EPIPE);
    close_ends(&e);

    /* Sending fails first; the last words are heard all the same. */
    ready(&e);
    assert_int_equal(ty_link_send(e.caller, "last", 4), 4);
    e.caller = ty_link_free(e.caller);
    assert_int_equal(ty_link_send(e.called, "x", 1), -EPIPE);
    assert_int_equal(ty_link_turn(e.called, 2), -EPIPE);
    assert_int_equal(ty_link_recv(e.called, buf, sizeof buf), 4);
    assert_int_equal(ty_link_recv(e.called, buf, sizeof buf), 0);
    close_ends(&e);

    open_pair(fd); /* before the proof */
    e.called = ty_link_new(fd[0], true, key, 0);
    close(fd[1]);
    assert_int_equal(ty_link_turn(e.called, 1) < 0, 1);
    ty_link_free(e.called);
}

/* At most `max` bytes from one end of the wire to the other; byte number `flip` of those passed so far is changed. */
static ssize_t carry(int from, int to, size_t max, size_t *passed, size_t flip)
{
    unsigned char buf[4096];
    ssize_t n = read(from, buf, max < sizeof buf ? max : sizeof buf);

    if (n <= 0)
        return 0;
    if (flip >= *passed && flip < *passed + (size_t)n)
        buf[flip - *passed] ^= 0x40;
    *passed += (size_t)n;
    assert_int_equal(write(to, buf, (size_t)n), n);
    return n;
}

static void byte_by_byte(void **state)
{
    struct ends e;
    size_t there = 0, back = 0;
    char buf[16];

    (void)state;
    open_wired(&e);
    for (int i = 0; i < 400 && !(ty_link_ready(e.caller) && ty_link_ready(e.called)); i++) {
        assert_int_equal(ty_link_turn(e.called, 1), 0);
        assert_int_equal(ty_link_turn(e.caller, 1), 0);
        carry(e.wire[0], e.wire[1], 1, &there, SIZE_MAX);
        carry(e.wire[1], e.wire[0], 1, &back, SIZE_MAX);
    }
    assert_true(ty_link_ready(e.caller) && ty_link_ready(e.called));
    assert_int_equal(ty_link_send(e.caller, "hello", 5), 5);
    while (carry(e.wire[0], e.wire[1], 1, &there, SIZE_MAX))
        if (ty_link_recv(e.called, buf, sizeof buf) != -EAGAIN)
            break;
    assert_memory_equal(buf, "hello", 5);
    close_ends(&e);
}

/* Whatever byte is changed on the way, in either direction: nothing of what was meant arrives, and nothing else does. */
static void changed_on_the_way(void **state)
{
    (void)state;
    for (size_t way = 0; way < 2; way++)
        for (size_t flip = 0;; flip++) {
            size_t passed[2] = { 0, 0 };
            struct ends e;
            ssize_t got = -EAGAIN;
            char buf[16];

            open_wired(&e);
            for (int i = 0; i < 12; i++) {
                ty_link_turn(e.called, 1);
                ty_link_turn(e.caller, 1);
                if (i == 8) {
                    (void)!ty_link_send(e.caller, "hello", 5);
                    (void)!ty_link_send(e.called, "hello", 5);
                }
                for (size_t d = 0; d < 2; d++)
                    carry(e.wire[d], e.wire[!d], 4096, &passed[d], d == way ? flip : SIZE_MAX);
            }
            got = ty_link_recv(way ? e.caller : e.called, buf, sizeof buf);
            close_ends(&e);
            if (passed[way] <= flip) {
                assert_int_equal(got, 5);
                break;
            }
            assert_true(got < 0);
        }
}

/* What a caller said once convinces nobody again. */
static void played_again(void **state)
{
    static char said[2][65536];
    size_t len = 0;
    struct ends e;
    struct ty_link *l;
    int fd[2], r = 0;
    ssize_t n;

    (void)state;
    open_wired(&e);
    for (int i = 0; i < 8; i++) {
        ty_link_turn(e.called, 1);
        ty_link_turn(e.caller, 1);
        n = read(e.wire[0], said[0] + len, sizeof said[0] - len);
        if (n > 0) {
            assert_int_equal(write(e.wire[1], said[0] + len, (size_t)n), n);
            len += (size_t)n;
        }
        n = read(e.wire[1], said[1], sizeof said[1]);
        if (n > 0)
            assert_int_equal(write(e.wire[0], said[1], (size_t)n), n);
    }
    assert_true(ty_link_ready(e.called));
    close_ends(&e);

    open_pair(fd);
    l = ty_link_new(fd[0], true, key, 0);
    assert_int_equal(write(fd[1], said[0], len), len);
    for (int i = 0; i < 4 && r == 0; i++)
        r = ty_link_turn(l, 1);
    assert_int_equal(r, -EACCES);
    ty_link_free(l);
    close(fd[1]);
}

static void refused_and_addresses(void **state)
{
    union ty_link_address a = { .v4 = { .sin_family = AF_INET,
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
    socklen_t n = sizeof a;
    char text[TY_LINK_ADDRESS_TEXT];
    struct ends e = { .wire = { -1, -1 } };
    struct pollfd p;
    int caller, called, r;

    (void)state;
    assert_int_equal(bind(listen_fd, &a.any, sizeof a.v4), 0);
    assert_int_equal(getsockname(listen_fd, &a.any, &n), 0);
    r = ty_link_connect(&a, key, 0, &e.caller); /* nobody listens yet */
    if (r == 0) {
        p = (struct pollfd){ .fd = ty_link_fd(e.caller), .events = ty_link_events(e.caller) };
        assert_int_equal(poll(&p, 1, 10000), 1);
        r = ty_link_turn(e.caller, 1);
        ty_link_free(e.caller);
    }
    assert_int_equal(r, -ECONNREFUSED);

    assert_int_equal(listen(listen_fd, 1), 0);
    assert_int_equal(ty_link_connect(&a, key, 0, &e.caller), 0);
    fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    e.called = ty_link_new(fd, true, key, 0);
    for (int i = 0; i < 1000 && !(ty_link_ready(e.caller) && ty_link_ready(e.called)); i++) {
        shake(&e, &caller, &called);
        p = (struct pollfd){ .fd = ty_link_fd(e.caller), .events = ty_link_events(e.caller) };
        poll(&p, 1, 10);
    }
    assert_true(ty_link_ready(e.caller) && ty_link_ready(e.called));
    assert_int_equal(ty_link_local(e.caller, text), 0);
    assert_string_equal(text, "127.0.0.1");
    assert_int_equal(ty_link_peer(e.called, text), 0);
    assert_string_equal(text, "127.0.0.1");
    close_ends(&e);
    close(listen_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys),
        cmocka_unit_test(says_and_hears),
        cmocka_unit_test(carries_much),
        cmocka_unit_test(wrong_key),
        cmocka_unit_test(strangers),
        cmocka_unit_test(slow_peers),
        cmocka_unit_test(cut),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(changed_on_the_way),
        cmocka_unit_test(played_again),
        cmocka_unit_test(refused_and_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
