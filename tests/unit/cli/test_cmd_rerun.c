/* test_cmd_rerun.c - rerun: what is submitted again, with which snapshot, and what is refused before that */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/json.h"
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

#define OLD "first_1780000000_0a1b2c3d"
#define NEW "first_1780000009_0a1b2c3e"
#define OLD_SNAPSHOT "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define SUBMITTED "{\"id\": \"" NEW "\", \"state\": \"Starting\", \"warnings\": [\"no GPU here\"]}"

static char dir[64];
static struct fake *f;
#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static int set_up(void **state)
{
    CLEANUP_FREE char *script = NULL;

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-rerun.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    script = ty_path_join(dir, "train.py");
    return ty_write_file(script, "print()\n", 8, 0644);
}

static int tear_down(void **state)
{
    (void)state;
    return ty_rm_rf(dir);
}

/* RUN with this specification. */
static const char *run_of(const char *spec)
{
    CLEANUP_FREE char *text = ty_strf("{\"id\": \"" OLD "\", \"state\": \"Failed\", "
                                      "\"experiment\": \"first\", \"spec\": %s}",
                                      spec);

    return fake_json(text);
}

static char *script_spec(const char *folder, const char *script)
{
    return ty_strf("{\"version\": 1, \"experiment\": \"first\", \"target\": \"box\", "
                   "\"snapshot\": \"" OLD_SNAPSHOT "\", \"source_directory\": %s%s%s, "
                   "\"script\": \"%s\", \"interpreter\": \"/usr/bin/python3\", "
                   "\"tags\": {\"k\": \"v\"}, \"properties\": "
                   "{\"mine\": \"1\", \"ContentSnapshotId\": \"" OLD_SNAPSHOT "\"}}",
                   folder ? "\"" : "", folder ? folder : "null", folder ? "\"" : "", script);
}

static void refuses(struct captured c, int code, const char *part)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, "");
    if (!strstr(c.err, part))
        fail_msg("'%s' should say '%s'", c.err, part);
    captured_done(&c);
}

/* The specification that the i-th request submitted. */
static json_t *sent(int i)
{
    size_t n;
    const char *body = fake_body(f, i, &n);

    assert_true(ty_starts_with(fake_head(f, i), "POST /api/v1/experiments/first/runs "));
    return json_loadb(body, n, 0, NULL);
}

static const char *text(const json_t *spec, const char *a, const char *b)
{
    const json_t *o = json_object_get(spec, a);

    return json_string_value(b ? json_object_get(o, b) : o);
}

static void test_new_snapshot(void **state)
{
    CLEANUP_FREE char *spec = script_spec(dir, "train.py");
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" OLD " ", .raw = run_of(spec) },
        { .match = "POST /api/v1/blobs/missing ", .raw = fake_reply(200, "text/plain", "") },
        { .match = "PUT /api/v1/snapshots/", .raw = "HTTP/1.1 204 No Content\r\n\r\n" },
        { .match = "POST", .raw = fake_reply(201, "application/json", SUBMITTED) },
        { .match = "GET /api/v1/runs/" NEW "/follow",
          .raw = EVENTS "event: log\ndata: {\"offset\": 0, \"text\": \"x\"}\n\n"
                        "event: end\ndata: {\"id\": \"" NEW
                        "\", \"state\": \"Failed\", \"exit_code\": 7}\n\n",
          .close = true },
        { 0 }
    };
    CLEANUP_JSON json_t *got = NULL;
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("rerun", OLD);
    assert_int_equal(c.code, 7);
    assert_string_equal(c.out, "x");
    assert_string_equal(c.err, "trainyard: warning: no GPU here\nrun " NEW "\ntrainyard: run '" NEW
                               "' Failed\n");
    captured_done(&c);
    assert_int_equal(fake_count(f), 5);
    got = sent(3);
    assert_string_not_equal(text(got, "snapshot", NULL), OLD_SNAPSHOT);
    assert_int_equal(strlen(text(got, "snapshot", NULL)), 64);
    assert_non_null(strstr(fake_head(f, 2), text(got, "snapshot", NULL)));
    assert_string_equal(text(got, "properties", "ContentSnapshotId"), text(got, "snapshot", NULL));
    assert_string_equal(text(got, "properties", "trainyard.rerun_of"), OLD);
    assert_string_equal(text(got, "properties", "mine"), "1");
    assert_string_equal(text(got, "tags", "k"), "v");
    assert_string_equal(text(got, "target", NULL), "box");
    fake_stop(f);
}

/* Nothing changes but the property, although the folder is gone; a rerun's origin is its own. */
static void test_exact(void **state)
{
    static const char spec[] = "{\"version\": 1, \"snapshot\": \"" OLD_SNAPSHOT
                               "\", \"source_directory\": \"/nowhere/at/all\", "
                               "\"command\": [\"./go.sh\"], "
                               "\"properties\": {\"trainyard.rerun_of\": \"an older one\"}}";
    struct fake_answer answers[] = { { .match = "GET /api/v1/runs/" OLD " ", .raw = run_of(spec) },
                                     { .match = "POST",
                                       .raw = fake_reply(201, "application/json", SUBMITTED) },
                                     { 0 } };
    CLEANUP_JSON json_t *got = NULL, *same = NULL;
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("rerun", "--exact", "--detach", OLD);
    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, NEW "\n");
    captured_done(&c);
    got = sent(1);
    assert_string_equal(text(got, "properties", "trainyard.rerun_of"), OLD);
    same = json_loads(spec, 0, NULL);
    json_object_del(json_object_get(got, "properties"), "trainyard.rerun_of");
    json_object_del(json_object_get(same, "properties"), "trainyard.rerun_of");
    assert_true(json_equal(got, same));
    c = TRY("rerun", "--exact", "-dq", OLD);
    assert_string_equal(c.out, NEW "\n");
    assert_string_equal(c.err, "trainyard: warning: no GPU here\n");
    captured_done(&c);
    c = TRY("rerun", "--exact", "-d", "--json", OLD);
    assert_true(ty_starts_with(c.out, "{\"id\":\"" NEW "\""));
    captured_done(&c);
    refuses(TRY("rerun", "-q", OLD), 125, "--quiet needs --detach");
    fake_stop(f);
}

/* What ran in an empty folder does so again, and a run without properties gets its first one. */
static void test_without_snapshot(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" OLD " ",
          .raw = run_of("{\"version\": 1, \"command\": [\"/bin/true\"]}") },
        { .match = "POST", .raw = fake_reply(201, "application/json", SUBMITTED) },
        { 0 }
    };
    CLEANUP_JSON json_t *got = NULL;
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("rerun", "-d", OLD);
    assert_int_equal(c.code, 0);
    captured_done(&c);
    got = sent(1);
    assert_null(json_object_get(got, "snapshot"));
    assert_string_equal(text(got, "properties", "trainyard.rerun_of"), OLD);
    fake_stop(f);
}

static void test_gone(void **state)
{
    static const struct {
        const char *folder, *script, *part;
    } table[] = {
        { "/nowhere/at/all", "train.py",
          "cannot run '" OLD "' again: its folder '/nowhere/at/all' is gone; 'trainyard rerun "
          "--exact " OLD "' uses the recorded snapshot\n" },
        { NULL, "train.py",
          "it does not say which folder its snapshot was taken of; 'trainyard rerun --exact " },
        { dir, "renamed.py", "its 'renamed.py' is not in '/tmp/ty-rerun." },
        { "/etc/passwd", "train.py", "its folder '/etc/passwd' is gone" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        CLEANUP_FREE char *spec = script_spec(table[i].folder, table[i].script);
        struct fake_answer answers[] = {
            { .match = "GET /api/v1/runs/" OLD " ", .raw = run_of(spec) }, { 0 }
        };

        f = fake_start(answers);
        refuses(TRY("rerun", OLD), 125, table[i].part);
        refuses(TRY("rerun", "--detach", OLD), 3, table[i].part);
        assert_int_equal(fake_count(f), 2); /* nothing was sent */
        fake_stop(f);
    }
}

/* A refusal is explained when it is the snapshot that is missing, and passed on when it is not. */
static void test_snapshot_gone(void **state)
{
    CLEANUP_FREE char *spec = script_spec(dir, "train.py");
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" OLD " ", .raw = run_of(spec) },
        { .match = "POST /api/v1/experiments",
          .raw = fake_reply(404, "text/plain", "no compute target 'box', or no snapshot") },
        { .match = "GET /api/v1/snapshots/" OLD_SNAPSHOT " ",
          .raw = fake_reply(404, "text/plain", "no snapshot"),
          .times = 2 },
        { .match = "GET /api/v1/snapshots/" OLD_SNAPSHOT " ",
          .raw = fake_reply(200, "text/plain", "a manifest") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    refuses(TRY("rerun", "--exact", OLD), 125,
            "trainyard: cannot run '" OLD
            "' exactly again: its snapshot 'aaaaaaaaaaaa...' has been "
            "removed; 'trainyard rerun " OLD "' takes a new one of its folder as it is now\n");
    refuses(TRY("rerun", "--exact", "-d", OLD), 3, "has been removed");
    refuses(TRY("rerun", "--exact", OLD), 125,
            "trainyard: no compute target 'box', or no snapshot\n");
    fake_stop(f);
}

/* What the run had of packages is asked for, to the file; a run without a record looks for them again, and says so. */
static void test_exact_packages(void **state)
{
    static const struct {
        const char *asked, *record, *lock, *said;
    } cases[] = {
        { "{\"pip\": {\"packages\": [\"six\"]}}",
          "{\"hash\": \"ab\", \"lock\": {\"version\": 1, \"pip\": []}}",
          "{\"version\": 1, \"pip\": []}", "" },
        { "{\"pip\": {\"packages\": [\"six\"]}}", "null", NULL, "no record of the packages" },
        { "{}", "null", NULL, "" },
        { "{\"user_managed\": true}", "{\"lock\": {\"version\": 1}}", NULL, "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *text =
            ty_strf("{\"id\": \"" OLD "\", \"state\": \"Failed\", \"experiment\": \"first\", "
                    "\"environment\": %s, \"spec\": {\"version\": 1, \"command\": [\"/bin/true\"], "
                    "\"environment\": %s}}",
                    cases[i].record, cases[i].asked);
        CLEANUP_JSON json_t *spec = NULL,
                            *want = cases[i].lock ? json_loads(cases[i].lock, 0, NULL) : NULL;
        const json_t *got;
        struct captured c;

        struct fake_answer answers[] = {
            { .match = "GET /api/v1/runs/" OLD " ", .raw = fake_json(text) },
            { .match = "POST", .raw = fake_reply(201, "application/json", SUBMITTED) },
            { 0 }
        };

        f = fake_start(answers);
        c = TRY("rerun", "--exact", "--detach", "--quiet", OLD);
        assert_int_equal(c.code, 0);
        if (!strstr(c.err, cases[i].said))
            fail_msg("'%s' should say '%s'", c.err, cases[i].said);
        spec = sent(1);
        got = json_object_get(json_object_get(spec, "environment"), "lock");
        assert_true(want ? json_equal(got, want) : !got);
        captured_done(&c);
        fake_stop(f);
    }
}

/* Of a run on several nodes, the locks of those that came to something else go with the first one's. */
static void test_exact_packages_of_several_nodes(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" OLD " ",
          .raw = fake_json(
              "{\"id\": \"" OLD "\", \"state\": \"Failed\", \"experiment\": \"first\", "
              "\"environment\": {\"lock\": {\"version\": 1}, \"torch\": {\"build\": \"cpu\"}}, "
              "\"spec\": {\"version\": 1, \"command\": [\"/bin/true\"], \"node_count\": 4, "
              "\"environment\": {\"torch\": \"2\"}}}") },
        { .match = "GET /api/v1/runs/" OLD "/environments",
          .raw = fake_json(
              "{\"environments\": ["
              "{\"node\": 0, \"record\": {\"lock\": {\"version\": 1}, \"torch\": {\"build\": \"cpu\"}}}, "
              "{\"node\": 1, \"record\": {\"lock\": {\"version\": 1}, \"torch\": {\"build\": \"cu124\"}}}, "
              "{\"node\": 2, \"record\": {\"lock\": {\"version\": 1}, \"torch\": {\"build\": \"cu124\"}}}, "
              "{\"node\": 3, \"record\": {\"lock\": null}}]}") },
        { .match = "POST", .raw = fake_reply(201, "application/json", SUBMITTED) },
        { 0 }
    };
    CLEANUP_JSON json_t *want = json_loads("{\"version\": 1, \"build\": \"cpu\", \"others\": "
                                           "[{\"version\": 1, \"build\": \"cu124\"}]}",
                                           0, NULL),
                        *spec = NULL;
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("rerun", "--exact", "--detach", "--quiet", OLD);
    assert_int_equal(c.code, 0);
    spec = sent(2);
    assert_true(json_equal(json_object_get(json_object_get(spec, "environment"), "lock"), want));
    captured_done(&c);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_packages_of_several_nodes),
        cmocka_unit_test(test_new_snapshot),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_without_snapshot),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_snapshot_gone),
        cmocka_unit_test(test_exact_packages),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
