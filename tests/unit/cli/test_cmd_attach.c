/* test_cmd_attach.c - attach: the output, the job's exit code */
#include "base/str.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID "first_1780000000_0a1b2c3d"
#define RUN(state, more) "{\"id\": \"" ID "\", \"state\": \"" state "\"" more "}"
#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define LOG "event: log\ndata: {\"offset\": 0, \"text\": \"hello\\n\"}\n\n"
#define FOLLOW "GET /api/v1/runs/" ID "/follow?log=azureml-logs%2F70_driver_log.txt&ranks=1 "

static struct fake *f;
#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void test_to_the_end(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" ID " ", .raw = fake_json(RUN("Running", "")) },
        { .match = FOLLOW,
          .raw = EVENTS LOG "event: end\ndata: " RUN("Failed", ", \"exit_code\": 9") "\n\n",
          .close = true,
          .times = 2 },
        { .match = FOLLOW,
          .raw = EVENTS LOG "event: end\ndata: " RUN("Completed", ", \"exit_code\": 0") "\n\n",
          .close = true },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("attach", ID);
    assert_int_equal(c.code, 9);
    assert_string_equal(c.out, "hello\n");
    assert_string_equal(c.err, "trainyard: run '" ID "' Failed\n");
    captured_done(&c);
    c = TRY("attach", "--json", ID);
    assert_int_equal(c.code, 9);
    assert_true(ty_starts_with(
        c.out,
        "{\"event\":\"log\",\"data\":{\"offset\":0,\"text\":\"hello\\n\"}}\n{\"event\":\"end\""));
    captured_done(&c);
    c = TRY("attach", ID);
    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, "hello\n");
    assert_string_equal(c.err, "");
    captured_done(&c);
    fake_stop(f);
}

static void test_not_found(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no run 'x'") }, { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("attach", ID);
    assert_int_equal(c.code, 125);
    assert_string_equal(c.err, "trainyard: there is no run 'x'\n");
    assert_string_equal(c.out, "");
    captured_done(&c);
    c = TRY("attach");
    assert_int_equal(c.code, 125);
    captured_done(&c);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_the_end),
        cmocka_unit_test(test_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
