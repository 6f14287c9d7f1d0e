/* test_http.c - replies in pieces of every size, over a socket pair */
#include "client/http.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const char chunked[] =
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTrainyard-Api: 1\r\nTrainyard-Version: 3.2.1\r\n"
    "content-type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";

struct speaker {
    int fd;
    const char *text;
    size_t n, piece;
    bool hang_up;
};

/* The other side: take the request, then say the text in pieces. */
static void *speak(void *ctx)
{
    struct speaker *s = ctx;
    char buf[4096];
    size_t at;

    if (recv(s->fd, buf, sizeof buf, 0) <= 0)
        return NULL;
    for (at = 0; at < s->n; at += s->piece)
        if (send(s->fd, s->text + at, s->n - at < s->piece ? s->n - at : s->piece, MSG_NOSIGNAL) <
            0)
            break;
    shutdown(s->fd, s->hang_up ? SHUT_RDWR : SHUT_RD);
    return NULL;
}

static struct ty_http_conn conn;

/* One exchange with a speaker; *x is filled. */
static int talk(const char *text, size_t piece, struct ty_http_exchange *x, bool hang_up)
{
    struct speaker s = { .text = text, .n = strlen(text), .piece = piece, .hang_up = hang_up };
    pthread_t t;
    int fds[2], r;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    s.fd = fds[1];
    conn = (struct ty_http_conn){ .fd = fds[0] };
    assert_int_equal(pthread_create(&t, NULL, speak, &s), 0);
    *x = (struct ty_http_exchange){
        .head = "GET / HTTP/1.1\r\n\r\n", .head_len = 18, .body_max = 100, .silence_ms = 10000
    };
    r = ty_http_ask(&conn, x);
    pthread_join(t, NULL);
    close(fds[1]);
    return r;
}

static void test_pieces(void **state)
{
    size_t piece;

    (void)state;
    for (piece = 1; piece < sizeof chunked; piece++) {
        struct ty_http_exchange x;

        assert_int_equal(talk(chunked, piece, &x, false), 0);
        assert_int_equal(x.status, 200);
        assert_int_equal(x.api, 1);
        assert_string_equal(x.version, "3.2.1");
        assert_true(x.text);
        assert_string_equal(x.body_in.text, "abc0123456789");
        assert_true(conn.fd >= 0 && conn.at == conn.end);
        ty_str_done(&x.body_in);
        ty_http_close(&conn);
    }
}

static void test_ends(void **state)
{
    struct ty_http_exchange x;

    (void)state;
    assert_int_equal(talk("HTTP/1.1 204 No Content\r\n\r\n", 99, &x, false), 0);
    assert_true(conn.fd >= 0);
    ty_http_close(&conn);
    assert_int_equal(
        talk("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 99, &x, false),
        0);
    assert_int_equal(conn.fd, -1);
    ty_str_done(&x.body_in);
    assert_int_equal(talk("HTTP/1.0 200 OK\r\nContent-Length: 200\r\n\r\n", 99, &x, true),
                     -ECONNRESET);
    ty_str_done(&x.body_in);
}

static void test_body_limit(void **state)
{
    CLEANUP_STR struct ty_str text = { 0 };
    struct ty_http_exchange x;
    int i;

    (void)state;
    ty_str_add(&text, "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n");
    for (i = 0; i < 101; i++)
        ty_str_add(&text, "x");
    assert_int_equal(talk(text.text, 4096, &x, false), -EFBIG);
    assert_int_equal(conn.fd, -1);
    ty_str_done(&x.body_in);
}

/* 2^32 + 200 would be taken for 200, its lower 32 bits. */
static void test_no_status(void **state)
{
    static const char *const lines[] = { "4294967496 OK", "99 Too low", "1000 Too high" };
    struct ty_http_exchange x;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CLEANUP_FREE char *text = ty_strf("HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", lines[i]);

        assert_int_equal(talk(text, 65536, &x, false), -EBADMSG);
    }
}

static void test_endless_head(void **state)
{
    CLEANUP_STR struct ty_str text = { 0 };
    struct ty_http_exchange x;
    int i;

    (void)state;
    ty_str_add(&text, "HTTP/1.1 200 OK\r\n");
    for (i = 0; i < 2 * TY_HTTP_HEAD_MAX / 16; i++)
        ty_str_add(&text, "Name: 0123456789abcdef\r\n");
    assert_int_equal(talk(text.text, 65536, &x, false), -EBADMSG);
    text.len = 0;
    ty_str_add(&text, "HTTP/1.1 200 ");
    for (i = 0; i < 20000; i++)
        ty_str_add(&text, "x");
    assert_int_equal(talk(text.text, 65536, &x, false), -EBADMSG);
}

static void test_idle(void **state)
{
    int fds[2];

    (void)state;
    conn = (struct ty_http_conn){ .fd = -1 };
    assert_false(ty_http_idle_ok(&conn));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    conn.fd = fds[0];
    assert_true(ty_http_idle_ok(&conn));
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_false(ty_http_idle_ok(&conn));
    close(fds[1]);
    ty_http_close(&conn);
    assert_int_equal(conn.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),       cmocka_unit_test(test_ends),
        cmocka_unit_test(test_body_limit),   cmocka_unit_test(test_no_status),
        cmocka_unit_test(test_endless_head), cmocka_unit_test(test_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
