/* test_compare_commands.c - diff: what it asks for, prints, and says when nothing differs */
#include "base/str.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define A "first_1780000000_0a1b2c3d"
#define B "other_1780000001_0a1b2c3e"
#define S1 "1111111111111111111111111111111111111111111111111111111111111111"
#define S2 "2222222222222222222222222222222222222222222222222222222222222222"
#define RUN(id, snapshot, from, lr) \
    "{\"id\": \"" id "\", \"state\": \"Completed\", \"snapshot\": \"" snapshot "\", \"started\": " \
    "\"2026-11-23T11:52:03.000000Z\", \"ended\": \"2026-11-23T11:53:04.500000Z\", \"tags\": {}, " \
    "\"spec\": {\"command\": [\"p\", \"--lr\", \"" lr "\"], \"source_directory\": \"" from "\"}}"
#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static struct fake *f;

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, out);
    assert_string_equal(c.err, err);
    captured_done(&c);
}

static void test_diff(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ", .raw = fake_json(RUN(A, S1, "/a", "0.1")) },
        { .match = "GET /api/v1/runs/" B " ", .raw = fake_json(RUN(B, S2, "/b", "0.2")) },
        { .match = "GET /api/v1/runs/" A "/metrics ",
          .raw = fake_json(
              "{\"metrics\": {\"loss\": [1, 0.5], \"n\": 3, \"same\": 1, \"gone\": 2, \"text\": \"x\"}}") },
        { .match = "GET /api/v1/runs/" B "/metrics ",
          .raw = fake_json(
              "{\"metrics\": {\"loss\": 0.25, \"n\": 10, \"same\": [3, 1], \"text\": \"y\"}}") },
        { .match = "GET /api/v1/snapshots/" S1 " ",
          .raw = fake_reply(200, "text/plain", "trainyard-snapshot 1\nf 644 2 " S1 " a.py\n") },
        { .match = "GET /api/v1/snapshots/" S2 " ",
          .raw = fake_reply(200, "text/plain",
                            "trainyard-snapshot 1\nf 644 3 " S2 " a.py\nl - 4 - l -> a.py\n") },
        { .match = "GET /api/v1/snapshots/" S1 "/files/a.py ",
          .raw = fake_reply(200, "a/b", "1\n") },
        { .match = "GET /api/v1/snapshots/" S2 "/files/a.py ",
          .raw = fake_reply(200, "a/b", "22\n") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    says(
        TRY("diff", "--plain", A, B), 0,
        "parameter\t--lr\t0.1\t0.2\tchanged\nfile\ta.py\t2 B\t3 B\tchanged\nfile\tl\t-\t-> a.py\tadded\n"
        "metric\tloss\t0.5\t0.25\t-0.25\nmetric\tn\t3\t10\t+7\nmetric\tgone\t2\t-\tremoved\n",
        "");
    says(
        TRY("diff", "--plain", "--code", A, B), 0,
        "parameter\t--lr\t0.1\t0.2\tchanged\nfile\ta.py\t2 B\t3 B\tchanged\nfile\tl\t-\t-> a.py\tadded\n"
        "metric\tloss\t0.5\t0.25\t-0.25\nmetric\tn\t3\t10\t+7\nmetric\tgone\t2\t-\tremoved\n\n"
        "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-1\n+22\n",
        "");
    c = TRY("diff", "--json", "--code", A, B);
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "{\"runs\":[\"" A "\",\"" B
                                      "\"],\"same\":false,\"parameters\":[{\"name\":\"--lr\","
                                      "\"values\":[\"0.1\",\"0.2\"]}],\"snapshots\":[\"" S1
                                      "\",\"" S2 "\"],\"files\":[{"));
    assert_non_null(strstr(
        c.out,
        "{\"name\":\"gone\",\"values\":[2,null],\"difference\":null}],\"diff\":\"--- a/a.py\\n"));
    assert_null(strstr(c.out, "source_directories"));
    captured_done(&c);
    fake_stop(f);
}

/* The folder that the code came from is worth a word only when all else is equal. */
static void test_no_difference(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ", .raw = fake_json(RUN(A, S1, "/a", "0.1")) },
        { .match = "GET /api/v1/runs/" B " ", .raw = fake_json(RUN(B, S1, "/b", "0.1")) },
        { .match = "GET /api/v1/runs/",
          .raw = fake_json("{\"metrics\": {\"loss\": {\"$float\": \"NaN\"}}}") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    says(TRY("diff", A, B), 0, "",
         "no difference in parameters, code and metrics\nthe code was taken from '/a' and '/b'\n");
    says(TRY("diff", A, A), 0, "", "no difference in parameters, code and metrics\n");
    c = TRY("diff", "--json", A, B);
    assert_non_null(strstr(c.out, "\"same\":true"));
    assert_non_null(strstr(c.out, "\"source_directories\":[\"/a\",\"/b\"]"));
    captured_done(&c);
    c = TRY("diff", A);
    assert_int_equal(c.code, 2);
    captured_done(&c);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_no_difference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
