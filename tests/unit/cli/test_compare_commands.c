/* test_compare_commands.c - diff and compare: what they ask for and print, and what they say when there is nothing */
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

#define C "third_1780000002_0a1b2c3f"
#define ANSWERS \
    { .match = "GET /api/v1/runs/" A " ", .raw = fake_json(RUN(A, S1, "/a", "0.1")) }, \
        { .match = "GET /api/v1/runs/" B " ", .raw = fake_json(RUN(B, S1, "/b", "0.2")) }, \
        { .match = "GET /api/v1/runs/" C " ", \
          .raw = \
              fake_json("{\"id\": \"" C \
                        "\", \"state\": \"Queued\", \"started\": null, \"spec\": {\"command\": " \
                        "[\"p\", \"--lr\", \"0.1\"]}}") }, \
        { .match = "GET /api/v1/runs/" A "/metrics ", \
          .raw = fake_json("{\"metrics\": {\"loss\": [0.1, 0.5], \"n\": 3}}") }, \
        { .match = "GET /api/v1/runs/" B "/metrics ", \
          .raw = fake_json("{\"metrics\": {\"loss\": [0.25, {\"$float\": \"NaN\"}, 0.375]}}") }, \
    { \
        .match = "GET /api/v1/runs/" C "/metrics ", .raw = fake_json("{\"metrics\": {}}") \
    }

static void test_compare(void **state)
{
    struct fake_answer answers[] = { ANSWERS, { 0 } };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    says(TRY("compare", "--plain", A, B, C, A), 0,
         A "\tCompleted\t1m01s\t0.1\t11111111\t0.5\t3\n" B
           "\tCompleted\t1m01s\t0.2\t11111111\t0.375\t-\n" C "\tQueued\t-\t0.1\tnone\t-\t-\n",
         "");
    c = TRY("compare", A, B);
    assert_true(ty_starts_with(
        c.out, "ID                         STATE      DURATION  --lr   loss  n\n" A));
    captured_done(&c);
    says(TRY("compare", "-q", "--sort", "loss", C, A, B), 0, B "\n" A "\n" C "\n", "");
    says(TRY("compare", "-q", "--sort", "loss", "--best", "min", C, B, A), 0, A "\n" B "\n" C "\n",
         "");
    says(TRY("compare", "-q", "--sort", "loss", "--best", "max", C, B, A), 0, A "\n" B "\n" C "\n",
         "");
    says(TRY("compare", "--plain", "--metric", "n", "--best", "max", A, B), 0,
         A "\tCompleted\t1m01s\t3\t3\t0.1\n" B "\tCompleted\t1m01s\t-\t-\t0.2\n", "");
    says(TRY("compare", "--json", "--metric", "loss", "--best", "min", A, C), 0,
         "{\"runs\":[{\"id\":\"" A
         "\",\"state\":\"Completed\",\"duration_seconds\":61.5,\"parameters\":{\"code\":"
         "\"11111111\"},\"metrics\":{\"loss\":{\"last\":0.5,\"best\":0.10000000000000001}}},"
         "{\"id\":\"" C
         "\",\"state\":\"Queued\",\"duration_seconds\":null,\"parameters\":{\"code\":\"none\"},"
         "\"metrics\":{}}],\"parameters\":[\"code\"],\"metrics\":[\"loss\"]}\n",
         "");
    says(
        TRY("compare", "--sort", "acc", A, B), 3, "",
        "trainyard: none of these runs has logged numbers as 'acc'; 'trainyard metrics RUN' lists what one has\n");
    fake_stop(f);
}

static void test_compare_filters(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs?limit=20&experiment=a%26b&tag=k%3Dv ",
          .raw = fake_json("{\"runs\": [{\"id\": \"" A "\"}, {\"id\": \"" B
                           "\"}], \"next\": \"x\"}") },
        { .match = "GET /api/v1/runs?limit=1 ",
          .raw = fake_json("{\"runs\": [{\"id\": \"" B "\"}], \"next\": null}") },
        { .match = "GET /api/v1/runs?limit=3&tag=none ",
          .raw = fake_json("{\"runs\": [], \"next\": null}") },
        ANSWERS,
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("compare", "-q", "-e", "a&b", "--tag", "k=v", C, B), 0, C "\n" B "\n" A "\n", "");
    says(TRY("compare", "--plain", "-n", "1"), 0, B "\tCompleted\t1m01s\t0.375\n", "");
    says(TRY("compare", "-n", "3", "--tag", "none"), 0, "", "no run matches\n");
    says(
        TRY("compare"), 2, "",
        "trainyard: 'compare' needs runs, or --experiment, --tag or --limit; see 'trainyard compare --help'\n");
    says(
        TRY("compare", "one"), 2, "",
        "trainyard: 'compare' needs another run to compare 'one' with; see 'trainyard compare --help'\n");
    says(
        TRY("compare", "--limit", "1001"), 2, "",
        "trainyard: --limit '1001' is not a number from 1 to 1000; see 'trainyard compare --help'\n");
    says(TRY("compare", "--best", "mean", A, B), 2, "",
         "trainyard: --best 'mean' is neither min nor max; see 'trainyard compare --help'\n");
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_no_difference),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_compare_filters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
