/* test_follow.c - a log comes out once and whole, however often the daemon goes away */
#include "base/clock.h"
#include "base/error.h"
#include "base/str.h"
#include "capture.h"
#include "cli/runs.h"
#include "fake.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <trainyard/client.h>

#include <cmocka.h>

#define HEAD \
    "HTTP/1.1 200 OK\r\nTrainyard-Api: 1\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define FOLLOW "GET /api/v1/runs/r/follow"
#define END \
    "event: end\nid: 9:9\ndata: {\"id\": \"r\", \"state\": \"Completed\", \"exit_code\": 0}\n\n"

static char *made[16];
static int nmade;

/* A stream of one chunk; `whole`: with the end of the chunks. */
static const char *stream(const char *events, bool whole)
{
    made[nmade] = ty_strf(HEAD "%zx\r\n%s\r\n%s", strlen(events), events, whole ? "0\r\n\r\n" : "");
    return made[nmade++];
}

struct call {
    const char *home;
    struct ty_cli_follow f;
    struct ty_error err;
    int r;
};

static int follow(void *ctx)
{
    struct call *call = ctx;
    struct ty_client_options o = { .home = call->home, .no_start = true };
    struct ty_cli cli = { 0 };

    if (ty_client_open(&o, &cli.client, NULL) < 0)
        abort();
    call->r = ty_cli_follow(&cli, &call->f, &call->err);
    ty_client_free(cli.client);
    return 0;
}

static struct captured run(struct fake *f, struct call *call)
{
    call->home = fake_home(f);
    call->f.run = "r";
    return capture_call(follow, call);
}

static void done(struct fake *f, struct call *call, struct captured *c)
{
    json_decref(call->f.end);
    captured_done(c);
    fake_stop(f);
    while (nmade > 0)
        free(made[--nmade]);
}

static void test_resumes(void **state)
{
    /* broken in the middle of the second event; then it repeats a part of the first; then it
     * ends cleanly, but too early */
    struct fake_answer answers[] = {
        { .match = FOLLOW,
          .times = 1,
          .close = true,
          .raw = stream(
              "id: 1:0\nevent: state\ndata: {\"state\": \"Running\"}\n\nid: 1:4\nevent: log\ndata: {\"offset\": 0, \"text\": \"one\\n\"}\n\n"
              "id: 1:8\nevent: log\ndata: {\"offset\": 4, \"te",
              false) },
        { .match = FOLLOW,
          .times = 1,
          .close = true,
          .raw = stream("id: 1:8\nevent: log\ndata: {\"offset\": 2, \"text\": \"e\\ntwo\\n\"}\n\n",
                        true) },
        { .match = FOLLOW,
          .times = 1,
          .raw = stream(
              "id: 1:12\nevent: log\ndata: {\"offset\": 8, \"base64\": \"/wBhCg==\"}\n\n" END,
              true) },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct call call = { .f = { .log = "azureml-logs/70_driver_log.txt" } };
    struct captured c = run(f, &call);

    (void)state;
    assert_int_equal(call.r, 0);
    assert_int_equal(c.out_len, 12);
    assert_memory_equal(c.out, "one\ntwo\n\xff\0a\n", 12);
    assert_string_equal(json_string_value(json_object_get(call.f.end, "state")), "Completed");
    assert_int_equal(fake_count(f), 3);
    assert_non_null(strstr(fake_head(f, 0), "?log=azureml-logs%2F70_driver_log.txt HTTP"));
    assert_null(strstr(fake_head(f, 0), "Last-Event-ID"));
    assert_non_null(strstr(fake_head(f, 1), "\r\nLast-Event-ID: 1:4\r\n"));
    assert_non_null(strstr(fake_head(f, 2), "\r\nLast-Event-ID: 1:8\r\n"));
    done(f, &call, &c);
}

struct heard {
    char names[256];
    int result;
};

static int hear(const char *event, const json_t *data, void *ctx)
{
    struct heard *h = ctx;
    size_t n = strlen(h->names);

    snprintf(h->names + n, sizeof h->names - n, "%s%d ", event,
             (int)json_integer_value(json_object_get(data, "n")));
    return strcmp(event, "rows") ? 0 : h->result;
}

/* The id of the last whole event says where the rows go on: none is told of twice. */
static void test_rows(void **state)
{
    struct fake_answer answers[] = {
        { .match = FOLLOW,
          .times = 1,
          .close = true,
          .raw = stream(
              "id: 1:0\nevent: state\ndata: {\"n\": 1}\n\n"
              "id: 1:0:5\nevent: rows\ndata: {\"n\": 2}\n\nid: 1:0:9\nevent: rows\ndata: {\"n\": 3}\n",
              false) },
        { .match = FOLLOW,
          .raw = stream("id: 1:0:9\nevent: rows\ndata: {\"n\": 3}\n\nid: 1:4:9\nevent: log\ndata: "
                        "{\"offset\": 0, \"text\": \"log\\n\"}\n\n" END,
                        true) },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct heard heard = { .names = "" };
    struct call call = { .f = { .rows = true, .hear = hear, .hear_ctx = &heard } };
    struct captured c = run(f, &call);

    (void)state;
    assert_int_equal(call.r, 0);
    assert_string_equal(heard.names, "state1 rows2 rows3 end0 ");
    assert_string_equal(c.out, "log\n");
    assert_non_null(strstr(fake_head(f, 0), "?log=&rows=1 HTTP"));
    assert_non_null(strstr(fake_head(f, 1), "\r\nLast-Event-ID: 1:0:5\r\n"));
    done(f, &call, &c);
}

static void test_hearer_refuses(void **state)
{
    struct fake_answer answers[] = {
        { .match = FOLLOW,
          .raw = stream("id: 1:0:5\nevent: rows\ndata: {\"n\": 2}\n\n" END, true) },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct heard heard = { .names = "", .result = -EIO };
    struct call call = { .f = { .rows = true, .hear = hear, .hear_ctx = &heard } };
    struct captured c = run(f, &call);

    (void)state;
    assert_int_equal(call.r, -EIO);
    assert_int_equal(fake_count(f), 1);
    done(f, &call, &c);
}

static void test_nul_in_text(void **state)
{
    struct fake_answer answers[] = {
        { .match = FOLLOW,
          .raw =
              stream("event: log\ndata: {\"offset\": 0, \"text\": \"a\\u0000b\"}\n\n" END, true) },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct call call = { .f = { .log = "l" } };
    struct captured c = run(f, &call);

    (void)state;
    assert_int_equal(call.r, 0);
    assert_memory_equal(c.out, "a\0b", 3);
    assert_int_equal(c.out_len, 3);
    done(f, &call, &c);
}

static void test_begins_at_an_offset(void **state)
{
    struct fake_answer answers[] = { { .match = FOLLOW, .raw = stream(END, true) }, { 0 } };
    struct fake *f = fake_start(answers);
    struct call call = { .f = { .log = "l", .offset = 77 } };
    struct captured c = run(f, &call);

    (void)state;
    assert_int_equal(call.r, 0);
    assert_non_null(strstr(fake_head(f, 0), "?log=l&after=0:77 HTTP"));
    done(f, &call, &c);
}

static void test_json_lines(void **state)
{
    struct fake_answer answers[] = {
        { .match = FOLLOW,
          .raw = stream("event: state\ndata: {\"state\": \"Running\"}\n\n" END, true) },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct call call = { .f = { .log = "l", .json = true } };
    struct captured c = run(f, &call);

    (void)state;
    assert_int_equal(call.r, 0);
    assert_string_equal(
        c.out,
        "{\"event\":\"state\",\"data\":{\"state\":\"Running\"}}\n"
        "{\"event\":\"end\",\"data\":{\"id\":\"r\",\"state\":\"Completed\",\"exit_code\":0}}\n");
    done(f, &call, &c);
}

static void test_failures(void **state)
{
    struct fake_answer answers[] = {
        { .match = FOLLOW, .times = 1, .raw = fake_reply(404, "text/plain", "no run 'r'") },
        { .match = FOLLOW, .times = 1, .raw = stream("event: log\ndata: not json\n\n", true) },
        { .match = FOLLOW,
          .times = 1,
          .raw = stream("event: log\ndata: {\"offset\": 0, \"base64\": \"?\"}\n\n", true) },
        { .match = FOLLOW, .raw = HEAD },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct call call = { .f = { .log = "l" } };
    struct captured c = run(f, &call);

    (void)state;
    assert_int_equal(call.r, -ENOENT);
    assert_string_equal(call.err.text, "no run 'r'");
    captured_done(&c);
    c = run(f, &call);
    assert_int_equal(call.r, -EBADMSG);
    captured_done(&c);
    c = run(f, &call);
    assert_int_equal(call.r, -EBADMSG);
    captured_done(&c);
    call.f.deadline_us = ty_mono_us() + 50000;
    c = run(f, &call);
    assert_int_equal(call.r, -ETIMEDOUT);
    assert_null(call.f.end);
    done(f, &call, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_hearer_refuses),
        cmocka_unit_test(test_nul_in_text),
        cmocka_unit_test(test_begins_at_an_offset),
        cmocka_unit_test(test_json_lines),
        cmocka_unit_test(test_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
