/* test_http.c - requests, against a small server in a thread that says what it is told to */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "data/http.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWERS_MAX 8

/* Answers one connection after another: each request is read whole (head, and a body of Content-Length), then the next of `answers` is
 * sent; an answer that is empty closes the connection. */
struct server {
    int fd, port;
    pthread_t thread;
    const char *answers[ANSWERS_MAX];
    int n;
    char seen[ANSWERS_MAX][4096];
    int nseen, connections;
};
struct box {
    struct server s;
    struct ty_http *h;
    struct ty_error err;
    char dir[64];
};

static bool read_request(int fd, char *buf, size_t size)
{
    size_t n = 0, body = 0;
    const char *end = NULL, *at;

    while (n < size - 1) {
        ssize_t got = read(fd, buf + n, size - 1 - n);

        if (got <= 0)
            return false;
        n += (size_t)got;
        buf[n] = '\0';
        end = strstr(buf, "\r\n\r\n");
        if (!end)
            continue;
        at = strcasestr(buf, "content-length: ");
        body = at && at < end ? strtoul(at + 16, NULL, 10) : 0;
        if (n >= (size_t)(end + 4 - buf) + body)
            return true;
    }
    return false;
}

static void *serve(void *ctx)
{
    struct server *s = ctx;

    while (s->nseen < s->n) {
        int fd = accept(s->fd, NULL, NULL);

        if (fd < 0)
            break;
        s->connections++;
        while (s->nseen < s->n && read_request(fd, s->seen[s->nseen], sizeof s->seen[0])) {
            const char *a = s->answers[s->nseen++];

            if (!*a || ty_write_all(fd, a, strlen(a)) < 0 || strstr(a, "close"))
                break;
        }
        close(fd);
    }
    return NULL;
}

static void start(struct box *x, const char *const *answers, int n)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;

    x->s = (struct server){ .n = n };
    for (int i = 0; i < n; i++)
        x->s.answers[i] = answers[i];
    x->s.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(x->s.fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(x->s.fd, 10), 0);
    assert_int_equal(getsockname(x->s.fd, (struct sockaddr *)&a, &len), 0);
    x->s.port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&x->s.thread, NULL, serve, &x->s), 0);
}

static void stop(struct box *x)
{
    shutdown(x->s.fd, SHUT_RDWR);
    pthread_join(x->s.thread, NULL);
    close(x->s.fd);
}
#define START(x, ...) \
    do { \
        const char *const answers_[] = { __VA_ARGS__ }; \
        start(x, answers_, (int)(sizeof answers_ / sizeof *answers_)); \
    } while (0)

static int set_up(void **state)
{
    struct box *x = calloc(1, sizeof *x);

    unsetenv("http_proxy");
    unsetenv("all_proxy");
    snprintf(x->dir, sizeof x->dir, "/tmp/ty-http-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    assert_int_equal(ty_http_new(4, &x->h, &x->err), 0);
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    struct box *x = *state;

    ty_http_free(x->h);
    ty_rm_rf(x->dir);
    free(x);
    return 0;
}

static char *url(struct box *x, const char *path)
{
    return ty_strf("http://user:password@127.0.0.1:%d%s", x->s.port, path);
}

static int open_file(struct box *x, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(x->dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static void test_get(void **state)
{
    struct box *x = *state;
    CLEANUP_HTTP_REQ struct ty_http_req r = { .method = "GET", .want_md5 = true };
    uint8_t sum[16], expected[16];

    START(x, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Thing:  a b \r\n\r\nhello",
          "HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\ngone");
    r.url = url(x, "/a%20b?q=1");
    assert_int_equal(ty_http_header(&r, "X-Asked", "%d", 7), 0);
    assert_int_equal(ty_http_header(&r, "X-Bad", "a\nb"), -EINVAL);
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, 0);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.text.text, "hello");
    assert_string_equal(ty_http_answer(&r, "x-thing"), "a b");
    assert_null(ty_http_answer(&r, "other"));
    ty_md5_end(&r.md5, sum);
    ty_md5("hello", 5, expected);
    assert_memory_equal(sum, expected, 16);
    ty_http_req_again(&r);
    assert_null(r.text.text);
    r.method = "GET";
    r.url = url(x, "/x");
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.status, 404);
    assert_string_equal(r.text.text, "gone");
    stop(x);
    assert_int_equal(x->s.connections, 1); /* it was kept */
    assert_non_null(strstr(x->s.seen[0], "GET /a%20b?q=1 HTTP/1.1\r\n"));
    assert_non_null(strstr(x->s.seen[0], "X-Asked: 7\r\n"));
    assert_null(strstr(x->s.seen[1], "X-Asked"));
}

static void test_put(void **state)
{
    struct box *x = *state;
    CLEANUP_HTTP_REQ struct ty_http_req r = { .method = "PUT" };
    CLEANUP_CLOSE int fd = open_file(x, "body");

    START(x, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(ty_write_all(fd, "0123456789", 10), 0);
    r.url = url(x, "/p");
    r.body_fd = fd;
    r.body_offset = 3;
    r.body_bytes = 4;
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.sent, 4);
    ty_http_req_done(&r);
    r = (struct ty_http_req){
        .method = "POST", .url = url(x, "/p"), .body = strdup("text"), .body_bytes = 4
    };
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "PUT", .url = url(x, "/p") };
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    stop(x);
    assert_non_null(strstr(x->s.seen[0], "\r\n\r\n3456"));
    assert_null(strstr(x->s.seen[0], "Expect"));
    assert_true(ty_starts_with(x->s.seen[1], "POST "));
    assert_non_null(strstr(x->s.seen[1], "\r\n\r\ntext"));
    assert_non_null(strstr(x->s.seen[2], "Content-Length: 0\r\n"));
}

static void test_into_a_file(void **state)
{
    struct box *x = *state;
    CLEANUP_HTTP_REQ struct ty_http_req r = {
        .method = "GET", .to_file = true, .sink_offset = 2, .sink_max = 5
    };
    CLEANUP_CLOSE int fd = open_file(x, "sink");
    char buf[16] = "";

    START(x, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
          "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!",
          "HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nworse");
    r.sink_fd = fd;
    r.url = url(x, "/");
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, 0);
    assert_int_equal(r.got, 5);
    assert_int_equal(pread(fd, buf, sizeof buf, 0), 7);
    assert_memory_equal(buf + 2, "hello", 5);
    ty_http_req_again(&r);
    r.method = "GET";
    r.url = url(x, "/");
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -EMSGSIZE);
    ty_http_req_again(&r);
    r.method = "GET";
    r.url = url(x, "/");
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.status, 500); /* what is no answer to keep goes elsewhere */
    assert_string_equal(r.text.text, "worse");
    assert_int_equal(pread(fd, buf, sizeof buf, 0), 7);
    stop(x);
}

static void test_what_breaks(void **state)
{
    struct box *x = *state;
    CLEANUP_HTTP_REQ struct ty_http_req r = { .method = "GET" };
    CLEANUP_CLOSE int fd = open_file(x, "short");

    START(x, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nhello", "",
          "nonsense close\r\n\r\n");
    r.url = url(x, "/secret?sig=secret");
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -ECONNRESET);
    assert_null(strstr(r.why, "secret"));
    assert_null(strstr(r.why, "password"));
    assert_non_null(strstr(r.why, "127.0.0.1"));
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET", .url = url(x, "/") };
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -ECONNRESET);
    ty_http_req_done(&r);
    r = (struct ty_http_req){
        .method = "PUT", .url = url(x, "/"), .body_fd = fd, .body_bytes = 10
    };
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -ENODATA); /* the file is empty */
    assert_non_null(strstr(r.why, "became shorter"));
    stop(x);
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET", .url = url(x, "/") };
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -ECONNREFUSED);
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET", .url = strdup("http://no-such-host.invalid/") };
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -EHOSTUNREACH);
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET", .url = strdup("ftp://127.0.0.1/") };
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -EINVAL);
}

static void count(struct ty_http_req *r)
{
    ++*(int *)r->ctx;
}

static void test_many_and_cancel(void **state)
{
    struct box *x = *state;
    struct ty_http_req r[3] = { 0 };
    int n = 0;

    START(x, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na",
          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nb");
    for (int i = 0; i < 3; i++) {
        r[i] =
            (struct ty_http_req){ .method = "GET", .url = url(x, "/"), .done = count, .ctx = &n };
        assert_int_equal(ty_http_add(x->h, &r[i], &x->err), 0);
    }
    ty_http_cancel(x->h, &r[1]);
    assert_int_equal(r[1].result, -ECANCELED);
    ty_http_wake(x->h);
    while (n < 2)
        assert_true(ty_http_step(x->h, 1000, &x->err) >= 0);
    assert_int_equal(ty_http_step(x->h, 0, &x->err), 0);
    assert_int_equal(n, 2);
    assert_true(r[0].status == 200 && r[2].status == 200);
    stop(x);
    for (int i = 0; i < 3; i++)
        ty_http_req_done(&r[i]);
}

static void test_retry_after(void **state)
{
    struct box *x = *state;
    CLEANUP_HTTP_REQ struct ty_http_req r = { .method = "GET" };
    static const struct {
        const char *text;
        int ms;
    } cases[] = { { "3", 3000 }, { "100000", 120000 }, { "soon", -1 }, { "-1", -1 } };

    assert_int_equal(ty_http_retry_after_ms(&r), -1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *a = ty_strf(
            "HTTP/1.1 503 No\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", cases[i].text);

        START(x, a);
        ty_http_req_again(&r);
        r.method = "GET";
        r.url = url(x, "/");
        assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
        assert_int_equal(ty_http_retry_after_ms(&r), cases[i].ms);
        stop(x);
    }
}

#ifdef TY_FAULTS
static void test_failing_disk(void **state)
{
    struct box *x = *state;
    CLEANUP_HTTP_REQ struct ty_http_req r = { .method = "GET", .to_file = true, .sink_max = 5 };
    CLEANUP_CLOSE int fd = open_file(x, "sink");

    START(x, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    r.sink_fd = fd;
    r.url = url(x, "/");
    ty_fault_arm("http.pwrite", 1, ENOSPC);
    assert_int_equal(ty_http_do(x->h, &r, &x->err), 0);
    assert_int_equal(r.result, -ENOSPC);
    stop(x);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_into_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_breaks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_and_cancel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retry_after, set_up, tear_down),
#ifdef TY_FAULTS
        cmocka_unit_test_setup_teardown(test_failing_disk, set_up, tear_down),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
