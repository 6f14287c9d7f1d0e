/* test_cmd_target.c - trainyard target ls, show */
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BOX \
    "{\"name\": \"box\", \"spec\": {\"kind\": \"local\", \"vm_size\": \"STANDARD_NC6\", \"max_nodes\": 2}, " \
    "\"created\": \"2026-01-01T00:00:00.000000Z\", \"nodes\": {\"max\": 2, \"running\": 1, \"idle\": 1}, " \
    "\"cpus\": 4, \"gpus\": 0}"

static struct fake *f;

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, out);
    if (!strstr(c.err, err))
        fail_msg("'%s' should say '%s'", c.err, err);
    captured_done(&c);
}

#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void test_target(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/targets ", .raw = fake_json("{\"targets\": [" BOX "]}") },
        { .match = "GET /api/v1/targets/box ", .raw = fake_json(BOX) },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no compute target 'x'") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("target", "ls"), 0,
         "TARGET  KIND   NODES  IN USE  VM SIZE       STATE\n"
         "box     local      2       1  STANDARD_NC6  up\n",
         "");
    says(TRY("target", "ls", "-q"), 0, "box\n", "");
    says(TRY("target", "ls", "--plain"), 0, "box\tlocal\t2\t1\tSTANDARD_NC6\tup\n", "");
    says(TRY("target", "show", "box"), 0,
         "target       box\n"
         "created      2026-01-01T00:00:00.000000Z\n"
         "nodes        1 of 2 in use, 1 idle\n"
         "cpus         4\n"
         "gpus         0\n"
         "kind         local\n"
         "vm_size      STANDARD_NC6\n"
         "max_nodes    2\n",
         "");
    says(TRY("target", "show", "x"), 3, "", "there is no compute target 'x'");
    says(TRY("target", "show"), 2, "", "target show --help");
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_target),
    };

    return cmocka_run_group_tests_name("cmd_target", tests, NULL, NULL);
}
