/* test_environment.c - what a runner makes of what its preparing child, and other nodes, say of environments */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "inside.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct inside in;

static void begin(void)
{
    job_make(&in.j, "true", NULL);
    json_object_set_new(
        in.j.json, "nodes",
        json_pack("[{s:s, s:i}, {s:s, s:i}]", "name", "h1", "ranks", 1, "name", "h2", "ranks", 1));
    inside_open(&in);
    in.r.phase = TY_PHASE_preparing;
}

static void hear(json_t *line)
{
    assert_non_null(line);
    ty_environment_hear(&in.r, json_string_value(json_object_get(line, "kind")), line);
    json_decref(line);
}

static void say(const char *text)
{
    hear(json_pack("{s:s, s:s}", "kind", "log", "text", text));
}

static void progress(int percent, const char *doing)
{
    hear(json_pack("{s:s, s:i, s:s}", "kind", "building", "percent", percent, "doing", doing));
}

static void test_a_log_once_something_is_built(void **state)
{
    CLEANUP_FREE char *path = NULL, *text = NULL;

    (void)state;
    begin();
    assert_null(ty_logs_of_rank(&in.r.logs, TY_LOG_BUILD(0)));
    say("Collecting six");
    say("");
    say("done");
    assert_non_null(ty_logs_of_rank(&in.r.logs, TY_LOG_BUILD(0)));
    path = ty_path_join(in.r.job->log, "azureml-logs/20_image_build_log.txt");
    assert_int_equal(ty_read_file(path, 1000, &text, NULL), 0);
    assert_string_equal(text, "Collecting six\n\ndone\n");
    inside_done(&in);
}

/* A record for each thing that is done, and else at most one a second. */
static void test_progress_is_told_now_and_then(void **state)
{
    (void)state;
    begin();
    progress(0, "resolving");
    progress(10, "downloading");
    progress(11, "downloading");
    in.r.now_us += 900 * 1000;
    progress(12, "downloading");
    assert_int_equal(inside_count(&in, "building"), 2);
    in.r.now_us += 200 * 1000;
    progress(13, "downloading");
    in.r.now_us += 5 * 1000 * 1000;
    progress(13, "downloading"); /* nothing is new */
    assert_int_equal(inside_count(&in, "building"), 3);
    assert_string_equal(inside_text(&in, "building", 2, "doing"), "downloading");
    assert_string_equal(inside_text(&in, "building", 2, "node"), "h1");
    assert_int_equal(inside_number(&in, "building", 2, "percent"), 13);
    inside_done(&in);
}

static json_t *there(json_t *record)
{
    return json_pack("{s:s, s:s, s:n, s:s, s:{s:s}, s:o}", "kind", "environment", "interpreter",
                     "/usr/bin/python3", "prefix", "path", "/a:/b", "variables", "A", "b", "record",
                     record);
}

static void test_it_is_there(void **state)
{
    (void)state;
    begin();
    hear(there(json_pack("{s:s, s:s, s:b}", "hash", "ab", "python", "3.11.2", "built", 0)));
    assert_null(in.r.failure);
    assert_string_equal(in.r.env.interpreter, "/usr/bin/python3");
    assert_string_equal(in.r.env.path, "/a:/b");
    assert_null(in.r.env.prefix);
    assert_int_equal(inside_count(&in, "environment"), 1);
    assert_int_equal(inside_number(&in, "environment", 0, "node"), 0);
    inside_done(&in);
}

/* What nobody holds may be gone the next moment: it is not used. */
static void test_a_prefix_that_comes_without_its_hold(void **state)
{
    json_t *told = there(json_pack("{s:s}", "hash", "ab"));

    (void)state;
    begin();
    json_object_set_new(told, "prefix", json_string(in.r.job->dir));
    hear(told);
    assert_non_null(in.r.failure);
    assert_true(in.r.env.failed);
    assert_int_equal(inside_count(&in, "environment"), 0);
    inside_done(&in);
}

static void test_a_prefix_is_held(void **state)
{
    json_t *told = there(json_pack("{s:s}", "hash", "ab"));

    (void)state;
    begin();
    json_object_set_new(told, "prefix", json_string(in.r.job->dir));
    in.r.child.passed = dup(STDERR_FILENO);
    hear(told);
    assert_null(in.r.failure);
    assert_true(in.r.env.hold >= 0);
    assert_int_equal(in.r.child.passed, -1);
    inside_done(&in);
}

/* A record that is too long for the stream is told without its lists, and that is said. */
static void test_a_very_long_record(void **state)
{
    CLEANUP_FREE char *name = malloc(TY_RECORD_MAX);

    (void)state;
    begin();
    memset(name, 'x', TY_RECORD_MAX - 1);
    name[TY_RECORD_MAX - 1] = '\0';
    hear(
        there(json_pack("{s:s, s:[s], s:{s:[]}}", "hash", "ab", "satisfied", name, "lock", "pip")));
    assert_int_equal(inside_count(&in, "environment"), 1);
    assert_int_equal(inside_count(&in, "warning"), 1);
    inside_done(&in);
}

static void test_of_another_node(void **state)
{
    CLEANUP_JSON json_t *told = json_pack("{s:i, s:s}", "percent", 40, "doing", "downloading"),
                        *record = json_pack("{s:s}", "hash", "ab");

    (void)state;
    begin();
    ty_environment_building(&in.r, 1, told);
    ty_environment_there(&in.r, 1, record);
    assert_string_equal(inside_text(&in, "building", 0, "node"), "h2");
    assert_int_equal(inside_number(&in, "environment", 0, "node"), 1);
    assert_null(in.r.env.interpreter);
    inside_done(&in);
}

/* The run fails by its environment, and quotes the end of the build's log. */
static void test_a_build_that_failed(void **state)
{
    (void)state;
    begin();
    say("ERROR: No matching distribution found for nosuch");
    hear(
        json_pack("{s:s, s:s, s:s}", "kind", "failed", "of", "environment", "text", "no 'nosuch'"));
    ty_life_fail(&in.r, "no 'nosuch'");
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "environment");
    assert_string_equal(inside_text(&in, "exited", 0, "message"), "no 'nosuch'");
    assert_non_null(strstr(inside_text(&in, "exited", 0, "log_tail"), "No matching distribution"));
    inside_until(&in, TY_PHASE_collected);
    inside_done(&in);
}

int main(void)
{
#define T(f) cmocka_unit_test_teardown(f, job_clean)
    const struct CMUnitTest tests[] = {
        T(test_a_log_once_something_is_built),
        T(test_progress_is_told_now_and_then),
        T(test_it_is_there),
        T(test_a_prefix_that_comes_without_its_hold),
        T(test_a_prefix_is_held),
        T(test_a_very_long_record),
        T(test_of_another_node),
        T(test_a_build_that_failed),
    };

    return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
