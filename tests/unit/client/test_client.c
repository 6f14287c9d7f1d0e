/* test_client.c - requests, replies, errors, keep-alive, against a server that says what is
 * written here */
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "client/stubs.h"
#include "fake.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct ty_client *open_client(struct fake *f)
{
    struct ty_client_options o = { .home = fake_home(f), .no_start = true };
    struct ty_client *c = NULL;
    struct ty_error err = { 0 };

    assert_int_equal(ty_client_open(&o, &c, &err), 0);
    return c;
}

static void test_request_and_reply(void **state)
{
    struct fake_answer answers[] = { { .match = "POST /api/v1/experiments/first/runs",
                                       .raw = fake_json("{\"id\":\"r1\"}") },
                                     { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_call call = { .args = { "first" }, .body = "{}", .body_len = 2 };
    struct ty_reply reply = { 0 };
    struct ty_error err = { 0 };
    size_t n;

    (void)state;
    assert_int_equal(ty_client_run_submit(c, &call, &reply, &err), 0);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "{\"id\":\"r1\"}");
    assert_int_equal(reply.len, 11);
    assert_non_null(strstr(fake_head(f, 0), "\r\nTrainyard-Api: 1\r\n"));
    assert_non_null(strstr(fake_head(f, 0), "\r\nAccept: application/json, text/plain\r\n"));
    assert_non_null(strstr(fake_head(f, 0), "\r\nContent-Type: application/json\r\n"));
    assert_string_equal(fake_body(f, 0, &n), "{}");
    ty_reply_done(&reply);
    assert_null(reply.body);
    ty_client_free(c);
    fake_stop(f);
}

/* Each status becomes its errno, and the daemon's sentence the error's text. */
static void test_errors(void **state)
{
    static const struct {
        int status, code;
    } table[] = {
        { 400, -EINVAL }, { 403, -EACCES }, { 404, -ENOENT }, { 409, -EEXIST }, { 413, -EFBIG },
        { 429, -EBUSY },  { 500, -EIO },    { 503, -EAGAIN }, { 507, -ENOSPC }, { 418, -EIO },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        struct fake_answer answers[] = {
            { .match = "GET", .raw = fake_reply(table[i].status, "text/plain", "no run 'x'\n") },
            { 0 }
        };
        struct fake *f = fake_start(answers);
        struct ty_client *c = open_client(f);
        struct ty_call call = { .args = { "x" } };
        struct ty_reply reply = { .status = 77 };
        struct ty_error err = { 0 };

        assert_int_equal(ty_client_run_get(c, &call, &reply, &err), table[i].code);
        assert_int_equal(err.code, table[i].code);
        assert_string_equal(err.text, "no run 'x'");
        assert_int_equal(reply.status, 77);
        ty_client_free(c);
        fake_stop(f);
    }
}

static void test_error_that_is_no_text(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET", .raw = fake_reply(404, "text/html", "<html>") }, { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_client_status_get(c, NULL, NULL, &err), -ENOENT);
    assert_string_equal(err.text, "the daemon answered 404 to GET /api/v1/status");
    ty_client_free(c);
    fake_stop(f);
}

static void test_other_version(void **state)
{
    const char *raw =
        "HTTP/1.1 200 OK\r\nTrainyard-Version: 9.9\r\nTrainyard-Api: 2\r\nContent-Length: 2\r\n\r\n{}";
    struct fake_answer answers[] = { { .match = "GET", .raw = raw }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_client_status_get(c, NULL, NULL, &err), -EPROTO);
    assert_non_null(strstr(err.text, TY_VERSION));
    assert_non_null(strstr(err.text, "9.9 (API 2)"));
    assert_non_null(strstr(err.text, "trainyard down && trainyard up"));
    ty_client_free(c);
    fake_stop(f);
}

static void test_keep_alive(void **state)
{
    struct fake_answer answers[] = { { .match = "GET", .raw = fake_json("{}") }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    int i;

    (void)state;
    for (i = 0; i < 10; i++)
        assert_int_equal(ty_client_status_get(c, NULL, NULL, NULL), 0);
    assert_int_equal(fake_connections(f), 1);
    fake_drop_all(f);
    /* an idle connection that was closed is noticed before anything is sent: even a POST is
     * sent, and once */
    assert_int_equal(ty_client_status_get(c, NULL, NULL, NULL), 0);
    assert_int_equal(fake_connections(f), 2);
    assert_int_equal(fake_count(f), 11);
    ty_client_free(c);
    fake_stop(f);
}

/* The daemon takes the request on a kept connection and closes without a word: a GET is sent
 * again, a POST is not. */
static void test_repeat_only_what_may_be(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/status", .raw = fake_json("{}"), .times = 1 },
        { .match = "GET /api/v1/status", .raw = "", .times = 1, .close = true },
        { .match = "GET /api/v1/status", .raw = fake_json("{\"n\":2}") },
        { .match = "POST", .raw = "", .close = true },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_reply reply = { 0 };
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_client_status_get(c, NULL, NULL, NULL), 0);
    assert_int_equal(ty_client_status_get(c, NULL, &reply, NULL), 0);
    assert_string_equal(reply.body, "{\"n\":2}");
    ty_reply_done(&reply);
    assert_int_equal(fake_count(f), 3);
    assert_int_equal(ty_client_gc_run(c, NULL, NULL, &err), -ECONNRESET);
    assert_non_null(strstr(err.text, "before it replied"));
    assert_int_equal(fake_count(f), 4);
    ty_client_free(c);
    fake_stop(f);
}

static int collect(const char *bytes, size_t n, void *ctx)
{
    char *text = ctx;
    size_t at = strlen(text);

    memcpy(text + at, bytes, n);
    text[at + n] = '\0';
    return 0;
}

static void test_chunks(void **state)
{
    const char *raw =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n";
    struct fake_answer answers[] = { { .match = "GET", .raw = raw }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    char text[64] = "";
    struct ty_call call = { .args = { "r" }, .on_data = collect, .ctx = text };
    struct ty_reply reply = { 0 };

    (void)state;
    assert_int_equal(ty_client_run_follow(c, &call, &reply, NULL), 0);
    assert_string_equal(text, "hello world");
    assert_null(reply.body);
    call.on_data = NULL;
    assert_int_equal(ty_client_run_follow(c, &call, &reply, NULL), 0);
    assert_string_equal(reply.body, "hello world");
    assert_int_equal(fake_connections(f), 1);
    ty_reply_done(&reply);
    ty_client_free(c);
    fake_stop(f);
}

static void test_broken_replies(void **state)
{
    static const struct {
        const char *raw;
        int code;
    } table[] = {
        { "", -ECONNRESET },
        { "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", -ECONNRESET },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", -ECONNRESET },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", -ECONNRESET },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", -EIO },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", -EIO },
        { "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", -EIO },
        { "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", -EIO },
        { "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", -EIO },
        { "SSH-2.0-OpenSSH\r\n\r\n", -EIO },
        { "HTTP/1.1 2x0 OK\r\n\r\n", -EIO },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        struct fake_answer answers[] = { { .match = "GET", .raw = table[i].raw, .close = true },
                                         { 0 } };
        struct fake *f = fake_start(answers);
        struct ty_client *c = open_client(f);
        struct ty_reply reply = { .status = 77 };
        struct ty_error err = { 0 };

        assert_int_equal(ty_client_status_get(c, NULL, &reply, &err), table[i].code);
        assert_true(err.text[0] && err.code == table[i].code && reply.status == 77);
        ty_client_free(c);
        fake_stop(f);
    }
}

/* A refusal that comes while a large body is still being sent is read, and not taken for a
 * broken connection. */
static void test_early_answer(void **state)
{
    struct fake_answer answers[] = { { .match = "PUT",
                                       .raw = fake_reply(413, "text/plain",
                                                         "larger than limits.upload_bytes"),
                                       .early = true,
                                       .close = true },
                                     { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_call call = { .args = { "ds", "big" }, .body_len = 32u << 20 };
    struct ty_error err = { 0 };
    char path[] = "/tmp/ty-early.XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_int_equal(ftruncate(fd, 32 << 20), 0);
    call.body_fd = fd;
    assert_int_equal(ty_client_data_put(c, &call, NULL, &err), -EFBIG);
    assert_string_equal(err.text, "larger than limits.upload_bytes");
    close(fd);
    unlink(path);
    ty_client_free(c);
    fake_stop(f);
}

static void test_body_from_a_file(void **state)
{
    struct fake_answer answers[] = {
        { .match = "PUT", .raw = fake_reply(201, "application/json", "{}") }, { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_call call = { .args = { "ds", "a b/c" }, .body_len = 5 };
    struct ty_error err = { 0 };
    char path[] = "/tmp/ty-body.XXXXXX";
    int fd = mkstemp(path);
    size_t n;

    (void)state;
    assert_int_equal(write(fd, "..hello", 7), 7);
    assert_int_equal(lseek(fd, 2, SEEK_SET), 2);
    call.body_fd = fd;
    assert_int_equal(ty_client_data_put(c, &call, NULL, &err), 0);
    assert_memory_equal(fake_body(f, 0, &n), "hello", 5);
    assert_int_equal(n, 5);
    assert_memory_equal(fake_head(f, 0), "PUT /api/v1/datastores/ds/files/a%20b/c HTTP/1.1\r\n",
                        50);
    /* the file is at its end now: that it is too short must not hang or be taken for success */
    assert_int_equal(ty_client_data_put(c, &call, NULL, &err), -EIO);
    assert_true(err.text[0]);
    close(fd);
    unlink(path);
    ty_client_free(c);
    fake_stop(f);
}

static void test_silence_and_deadline(void **state)
{
    struct fake_answer answers[] = { { .match = "GET", .raw = "" }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_call call = { .silence_ms = 30 };
    struct ty_error err = { 0 };
    int stop = 1;

    (void)state;
    assert_int_equal(ty_client_status_get(c, &call, NULL, &err), -ETIMEDOUT);
    assert_true(err.text[0]);
    call = (struct ty_call){ .silence_ms = -1, .deadline_us = 1 };
    assert_int_equal(ty_client_status_get(c, &call, NULL, &err), -ETIMEDOUT);
    call = (struct ty_call){ .silence_ms = -1, .stop = &stop };
    assert_int_equal(ty_client_status_get(c, &call, NULL, &err), -EINTR);
    ty_client_free(c);
    fake_stop(f);
}

static int refuse(const char *bytes, size_t n, void *ctx)
{
    (void)bytes;
    (void)n;
    return *(int *)ctx;
}

static void test_callback_ends_the_call(void **state)
{
    struct fake_answer answers[] = { { .match = "GET", .raw = fake_json("{}") }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    int wish = 42;
    struct ty_call call = { .on_data = refuse, .ctx = &wish };
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_client_status_get(c, &call, NULL, &err), 42);
    assert_string_equal(err.text, "");
    assert_int_equal(ty_client_status_get(c, NULL, NULL, NULL), 0);
    ty_client_free(c);
    fake_stop(f);
}

static void test_nothing_gets_into_the_head(void **state)
{
    struct fake_answer answers[] = { { .match = "GET", .raw = fake_json("{}") }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_call call = { .query = "a=b\r\nEvil: yes" };

    (void)state;
    assert_int_equal(ty_client_status_get(c, &call, NULL, NULL), -EINVAL);
    call = (struct ty_call){ .last_event_id = "1\n2" };
    assert_int_equal(ty_client_status_get(c, &call, NULL, NULL), -EINVAL);
    assert_int_equal(ty_client_run_get(c, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(fake_count(f), 0);
    ty_client_free(c);
    fake_stop(f);
}

static void test_daemon_pid(void **state)
{
    struct fake_answer answers[] = { { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);

    (void)state;
    assert_int_equal(ty_client_daemon_pid(c, NULL), getpid());
    ty_client_free(c);
    fake_stop(f);
}

#ifdef TY_FAULTS
/* Break each fault point in turn until a whole pass meets none. */
static void test_every_failure_is_clean(void **state)
{
    struct fake_answer answers[] = { { .match = "PO", .raw = fake_json("{}") }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client_options o = { .home = fake_home(f), .no_start = true };
    int at;

    (void)state;
    for (at = 1; at < 100; at++) {
        struct ty_client *c = NULL;
        struct ty_reply reply = { .status = 77 };
        struct ty_error err = { 0 };
        int r;

        ty_fault_arm(NULL, at, EIO);
        r = ty_client_open(&o, &c, &err);
        if (r == 0)
            r = ty_client_gc_run(c, NULL, &reply, &err);
        assert_true((r == 0) == (reply.status == 200));
        assert_true(r == 0 || (r < 0 && err.code == r && err.text[0]));
        ty_reply_done(&reply);
        ty_client_free(c);
        if (r == 0)
            break;
    }
    assert_in_range(ty_fault_visits(), 4, at - 1);
    ty_fault_arm(NULL, 0, 0);
    fake_stop(f);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_and_reply),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_error_that_is_no_text),
        cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_repeat_only_what_may_be),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_broken_replies),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_body_from_a_file),
        cmocka_unit_test(test_silence_and_deadline),
        cmocka_unit_test(test_callback_ends_the_call),
        cmocka_unit_test(test_nothing_gets_into_the_head),
        cmocka_unit_test(test_daemon_pid),
#ifdef TY_FAULTS
        cmocka_unit_test(test_every_failure_is_clean),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
