/* test_run_commands.c - ps, show, wait, cancel, rm, run and submit: filters, pages, several runs at
 * once, and what each says when the daemon says no
 *
 * Their plain ways are in test_commands.c.
 */
#include "base/cleanup.h"
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

#define A "first_1780000000_0a1b2c3d"
#define B "other_1780000001_0a1b2c3e"
#define RUN(id, state, more) \
    "{\"id\": \"" id "\", \"experiment\": \"first\", \"state\": \"" state "\", \"attempt\": 1, " \
    "\"target\": \"local\", \"command_line\": \"python3 train.py\", " \
    "\"created\": \"2026-11-23T11:52:03.000000Z\", \"started\": null, \"ended\": null, " \
    "\"warnings\": [], \"why\": null" more "}"
#define DONE(id) RUN(id, "Completed", ", \"exit_code\": 0, \"error\": null")
#define BAD(id) \
    RUN(id, "Failed", \
        ", \"exit_code\": null, \"exit_signal\": 11, \"error\": {\"message\": \"it broke\"}")
#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define END(run) EVENTS "event: end\ndata: " run "\n\n"

static struct fake *f;

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    if (out)
        assert_string_equal(c.out, out);
    if (err)
        assert_string_equal(c.err, err);
    captured_done(&c);
}

/* The exit code, and a part of what is said on stderr; nothing on stdout. */
static void refuses(struct captured c, int code, const char *part)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, "");
    if (!strstr(c.err, part))
        fail_msg("'%s' should say '%s'", c.err, part);
    captured_done(&c);
}

#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void test_ps_words(void **state)
{
    struct fake_answer answers[] = { { 0 } };

    (void)state;
    f = fake_start(answers);
    refuses(TRY("ps", "--state", "Runing"), 2, "no state 'Runing'; did you mean 'Running'?");
    refuses(TRY("ps", "--state", "xyzzy"), 2,
            "no state 'xyzzy'; it is 'active', 'ended' or a word like 'Running' (docs/runs.md)");
    refuses(TRY("ps", "--limit", "0"), 2, "--limit '0' is not a number from 1 on");
    refuses(TRY("ps", "-n", "many"), 2, "--limit 'many' is not a number from 1 on");
    refuses(TRY("ps", "-n", "99999999999999999999"), 2, "is not a number from 1 on");
    refuses(TRY("ps", "what"), 2, "'ps' takes no argument 'what'");
    assert_int_equal(fake_count(f), 0); /* nobody was asked */
    fake_stop(f);
}

static void test_ps_filters(void **state)
{
    struct fake_answer answers[] = {
        { .match =
              "GET /api/v1/runs?limit=3&state=active&experiment=a%26b&target=gpu&tag=k%3Dv%20w ",
          .raw = fake_json("{\"runs\": [" DONE(A) ", " BAD(B) "], \"next\": \"n&1\"}") },
        { .match = "GET /api/v1/runs?limit=1&state=active&experiment=a%26b&target=gpu&tag=k%3Dv%20w"
                   "&before=n%261 ",
          .raw = fake_json("{\"runs\": [" DONE("third") "], \"next\": \"more\"}") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("ps", "-q", "-n", "3", "-s", "ACTIVE", "-e", "a&b", "-t", "gpu", "--tag", "k=v w"), 0,
         A "\n" B "\nthird\n", "");
    assert_int_equal(fake_count(f), 2);
    fake_stop(f);
}

static void test_ps_without_runs(void **state)
{
    struct fake_answer answers[] = { { .match = "GET /api/v1/runs?limit=20 ",
                                       .raw = fake_json("{\"runs\": [], \"next\": null}"),
                                       .times = 4 },
                                     { .match = "GET",
                                       .raw = fake_reply(503, "text/plain", "the disk is full") },
                                     { 0 } };

    (void)state;
    f = fake_start(answers);
    refuses(TRY("ps", "-q"), 0, "");
    says(TRY("ps", "--plain"), 0, "", "");
    says(TRY("ps", "--json"), 0, "{\"runs\":[]}\n", "");
    says(TRY("ps"), 0, NULL, "no runs; 'trainyard run -- COMMAND' makes one\n");
    says(TRY("ps"), 1, "", "trainyard: the disk is full\n");
    fake_stop(f);
}

/* What a run brings along cannot move the cursor, and what is not known is left out. */
static void test_show_lines(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ",
          .raw = fake_json(
              "{\"id\": \"" A "\", \"state\": \"Queued\", \"attempt\": 1, \"started\": null, "
              "\"display_name\": \"nice\\u001b[31m\", \"why\": \"2 of 2 CPUs are in use\", "
              "\"created\": \"2026-11-23T11:52:03.000000Z\", "
              "\"tags\": {\"k\": \"v\", \"alone\": null}, \"properties\": {}, "
              "\"spec\": {\"source_directory\": \"/my/src\"}}") },
        { .match = "GET /api/v1/runs/" B " ",
          .raw = fake_json("{\"id\": \"" B "\", \"state\": \"Failed\", \"attempt\": 3, "
                           "\"exit_signal\": 9, \"error\": {\"message\": \"m\", "
                           "\"log_tail\": \"one\\ntwo\\r\\nlast\"}}") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("show", A);
    assert_int_equal(c.code, 0);
    assert_null(strchr(c.out, '\033'));
    assert_non_null(strstr(c.out, "name         nice"));
    assert_non_null(strstr(c.out, "state        Queued\n"));
    assert_non_null(strstr(c.out, "why          2 of 2 CPUs are in use\n"));
    assert_non_null(strstr(c.out, "source       /my/src\n"));
    assert_non_null(strstr(c.out, "tags         k=v, alone\n"));
    assert_non_null(strstr(c.out, "created      2026-11-23T11:52:03.000000Z ("));
    assert_null(strstr(c.out, "properties"));
    assert_null(strstr(c.out, "started"));
    assert_null(strstr(c.out, "duration"));
    assert_true(ty_ends_with(c.out, "\nreproduce    trainyard rerun --exact " A "\n"));
    captured_done(&c);
    c = TRY("show", B);
    assert_true(ty_starts_with(c.out, "run          " B "\n"
                                      "state        Failed, ended by signal 9, attempt 3\n"
                                      "error        m\n"
                                      "  |          one\n"
                                      "  |          two"));
    assert_non_null(strstr(c.out, "\n  |          last\n"));
    captured_done(&c);
    c = TRY("show", A, B);
    assert_non_null(strstr(c.out, "\n\nrun          " B "\n"));
    captured_done(&c);
    c = TRY("show", "--json", B);
    assert_true(ty_starts_with(c.out, "{\"id\":\"" B "\"") && ty_ends_with(c.out, "}\n"));
    captured_done(&c);
    fake_stop(f);
}

static void test_names(void **state)
{
    struct fake_answer answers[] = { { .match = "GET /api/v1/runs?limit=1 ",
                                       .raw = fake_json("{\"runs\": []}") },
                                     { .match = "GET /api/v1/runs?limit=1000 ",
                                       .raw = fake_json("{\"runs\": [" DONE(A) ", " DONE(
                                           "first_1780000009_0a1b2c3f") "], "
                                                                        "\"next\": null}") },
                                     { 0 } };

    (void)state;
    f = fake_start(answers);
    refuses(TRY("show", "@last"), 3,
            "there is no run yet that '@last' could name; 'trainyard run' makes one");
    refuses(TRY("wait", "firs"), 1,
            "'firs' is the beginning of 2 runs: " A
            ", first_1780000009_0a1b2c3f; write more of the "
            "name");
    refuses(TRY("logs", "second"), 3,
            "no run is named 'second' or begins so; 'trainyard ps -a' lists all");
    refuses(TRY("cancel", ""), 3, "no run is named ''");
    fake_stop(f);
}

static void test_wait_outcomes(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A "/follow", .raw = END(DONE(A)), .close = true },
        { .match = "GET /api/v1/runs/" B "/follow", .raw = END(BAD(B)), .close = true },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    refuses(TRY("wait", "--timeout", "soon", A), 2,
            "--timeout 'soon' is not a time such as 90, 10m or 1h30m");
    says(TRY("wait", "-q", A), 0, "", "");
    says(TRY("wait", "-q", B, A), 1, "", "");
    says(TRY("wait", "-q", "--exit-status", A, B), 128 + 11, "", "");
    c = TRY("wait", "--json", B);
    assert_int_equal(c.code, 1);
    assert_true(ty_starts_with(c.out, "{\"id\":\"" B "\"") && ty_ends_with(c.out, "}\n"));
    assert_string_equal(c.err, "");
    captured_done(&c);
    says(TRY("wait", B), 1, "", "trainyard: run '" B "' Failed: it broke\n");
    fake_stop(f);
}

/* A job that lacks a package is told how to get it; one that says nothing of the kind is not. */
static void test_advice(void **state)
{
#define LACKS(name) \
    END(RUN( \
        A, "Failed", \
        ", \"exit_code\": 1, \"error\": {\"message\": \"it broke\", \"log_tail\": " \
        "\"ModuleNotFoundError: No module named 'old'\\nModuleNotFoundError: No module named '" name \
        "'\\n\"}"))
    struct fake_answer answers[] = { { .match = "GET /api/v1/runs/" A "/follow",
                                       .raw = LACKS("torch"),
                                       .close = true,
                                       .times = 1 },
                                     { .match = "GET /api/v1/runs/" A "/follow",
                                       .raw = LACKS("sklearn.svm"),
                                       .close = true,
                                       .times = 1 },
                                     { .match = "GET /api/v1/runs/" A "/follow",
                                       .raw = LACKS("\\u001b[2J"),
                                       .close = true,
                                       .times = 1 },
                                     { 0 } };

    (void)state;
    f = fake_start(answers);
    says(TRY("wait", A), 1, "",
         "trainyard: run '" A "' Failed: it broke\n"
         "  its Python has no torch: 'trainyard doctor' shows those that have it, to be named in "
         "the command, and 'trainyard run --torch any' installs one\n");
    refuses(TRY("wait", A), 1,
            "Failed: it broke\n  if 'sklearn' is a package, 'trainyard run --pip PACKAGE'");
    says(TRY("wait", A), 1, "", "trainyard: run '" A "' Failed: it broke\n");
    fake_stop(f);
}

static void test_cancel_several(void **state)
{
    struct fake_answer answers[] = {
        { .match = "POST /api/v1/runs/" A "/cancel ",
          .raw = fake_reply(409, "text/plain", "run '" A "' has ended already") },
        { .match = "POST /api/v1/runs/" B "/cancel ",
          .raw = fake_json(RUN(B, "CancelRequested", "")),
          .times = 1 },
        { .match = "POST /api/v1/runs/" B "/cancel ", .raw = fake_json(RUN(B, "Canceled", "")) },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    says(TRY("cancel", A, B), 5, "",
         "trainyard: run '" A "' has ended already\nrun '" B "': CancelRequested\n");
    says(TRY("cancel", B), 0, "", "run '" B "' had ended before: Canceled\n");
    c = TRY("cancel", "--json", B);
    assert_int_equal(c.code, 0);
    assert_non_null(strstr(c.out, "\"state\":\"Canceled\""));
    assert_string_equal(c.err, "");
    captured_done(&c);
    refuses(TRY("cancel"), 2, "'cancel' needs RUN...");
    fake_stop(f);
}

/* Every name is looked up before the first run is removed. */
static void test_rm_looks_first(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs?limit=1000 ", .raw = fake_json("{\"runs\": []}") },
        { .match = "DELETE", .raw = "HTTP/1.1 204 No Content\r\n\r\n" },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    refuses(TRY("rm", "-y", A, "unknown"), 3, "no run is named 'unknown'");
    assert_int_equal(fake_count(f), 1);
    refuses(TRY("rm", A), 2, "removing needs -y where nobody can be asked");
    refuses(TRY("rm", "--no-input", A), 2, "removing needs -y where nobody can be asked");
    assert_int_equal(fake_count(f), 1);
    says(TRY("rm", "-y", A, B), 0, "", "removed run '" A "'\nremoved run '" B "'\n");
    fake_stop(f);
}

static void test_submit(void **state)
{
    struct fake_answer answers[] = {
        { .match = "POST /api/v1/experiments/first/runs",
          .raw = fake_reply(201, "application/json", RUN(A, "Queued", "")) },
        { .match = "POST /api/v1/experiments/busy/runs",
          .raw = fake_reply(429, "text/plain", "too many runs are active") },
        { .match = "POST /api/v1/experiments/odd/runs",
          .raw = fake_reply(201, "application/json", "not JSON") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    says(TRY("submit", "-e", "first", "--no-snapshot", "--", "true"), 0, A "\n",
         "submitted; 'trainyard logs -f " A "' follows it\n");
    c = TRY("submit", "--json", "-e", "first", "--no-snapshot", "--", "true");
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "{\"id\":\"" A "\""));
    captured_done(&c);
    refuses(TRY("submit", "-e", "busy", "--no-snapshot", "--", "true"), 1,
            "trainyard: too many runs are active\n");
    c = TRY("submit", "-e", "odd", "--no-snapshot", "--", "true");
    assert_int_equal(c.code, 1);
    assert_string_equal(c.out, "");
    captured_done(&c);
    fake_stop(f);
}

/* The stream cannot be followed: the run goes on, and how to look after it is said. */
static void test_run_that_cannot_be_followed(void **state)
{
    struct fake_answer answers[] = {
        { .match = "POST", .raw = fake_reply(201, "application/json", RUN(A, "Queued", "")) },
        { .match = "GET /api/v1/runs/" A "/follow",
          .raw = fake_reply(403, "text/plain", "it is another user's") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("run", "-e", "first", "--no-snapshot", "--", "true");
    assert_int_equal(c.code, 125);
    assert_true(ty_starts_with(c.err, "run " A "\ntrainyard: it is another user's\n"));
    assert_non_null(strstr(c.err, "trainyard logs -f " A));
    captured_done(&c);
    fake_stop(f);
}

static void test_run_ends(void **state)
{
    static const struct {
        const char *run;
        int code;
    } t[] = {
        { DONE(A), 0 },
        { BAD(A), 128 + 11 },
        { RUN(A, "Failed", ", \"exit_code\": 3"), 3 },
        { RUN(A, "Failed", ", \"exit_code\": null, \"error\": {\"message\": \"no snapshot\"}"),
          125 },
        { RUN(A, "Canceled", ", \"exit_code\": 0"), 125 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        CLEANUP_FREE char *end =
            ty_strf(EVENTS "event: log\ndata: {\"offset\": 0, \"text\": \"x\"}\n\n"
                           "event: end\ndata: %s\n\n",
                    t[i].run);
        struct fake_answer answers[] = {
            { .match = "POST", .raw = fake_reply(201, "application/json", RUN(A, "Queued", "")) },
            { .match = "GET", .raw = end, .close = true },
            { 0 }
        };

        f = fake_start(answers);
        says(TRY("run", "-e", "first", "--no-snapshot", "--", "true"), t[i].code, "x", NULL);
        fake_stop(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ps_words),
        cmocka_unit_test(test_ps_filters),
        cmocka_unit_test(test_ps_without_runs),
        cmocka_unit_test(test_show_lines),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_wait_outcomes),
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_cancel_several),
        cmocka_unit_test(test_rm_looks_first),
        cmocka_unit_test(test_submit),
        cmocka_unit_test(test_run_that_cannot_be_followed),
        cmocka_unit_test(test_run_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
