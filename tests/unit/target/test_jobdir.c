/* test_jobdir.c - the folder of a job: whole or not there */
#include "base/error.h"
#include "base/json.h"
#include "blob/blob.h"
#include "target/jobdir.h"
#include "tests.h"
#include <errno.h>
#include <sys/stat.h>

static json_t *spec, *warnings;

static struct ty_jobdir job(void)
{
    static const char *const dirs[] = { "/data/one", "" };

    return (struct ty_jobdir){ .home = tests_folder,
                               .run = "r_1_00000000",
                               .token = "secret",
                               .user = "ann",
                               .attempt = 2,
                               .spec = spec,
                               .data_dirs = dirs,
                               .ndata = 2,
                               .cancel_grace_seconds = 7,
                               .system_metrics_seconds = 3,
                               .log_bytes_max = 1000,
                               .artifact_files_max = 5,
                               .artifact_bytes_max = 6,
                               .warnings = warnings };
}

static int set_up(void **state)
{
    if (tests_enter(state) < 0)
        return -1;
    spec = json_pack("{s:i s:[s]}", "version", 1, "command", "/bin/true");
    warnings = json_pack("[s]", "mind");
    return 0;
}

static int tear_down(void **state)
{
    json_decref(spec);
    json_decref(warnings);
    return tests_leave(state);
}

static void test_what_is_in_it(void **state)
{
    struct ty_jobdir j = job();
    CLEANUP_JSON json_t *got = NULL;
    CLEANUP_FREE char *text = NULL;
    struct ty_error err = { 0 };
    struct stat st;
    size_t n;

    (void)state;
    assert_false(ty_jobdir_exists(tests_folder, j.run));
    assert_int_equal(ty_jobdir_make(&j, NULL, &err), 0);
    assert_true(ty_jobdir_exists(tests_folder, j.run));
    assert_int_equal(stat("jobs/r_1_00000000", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat("jobs/r_1_00000000/job.json", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600); /* it holds the token */
    assert_int_equal(ty_read_file("jobs/r_1_00000000/job.json", 100000, &text, &n), 0);
    assert_int_equal(ty_json_parse(text, n, &got, &err), 0);
    assert_string_equal(json_string_value(json_object_get(got, "token")), "secret");
    assert_int_equal(json_integer_value(json_object_get(got, "attempt")), 2);
    assert_int_equal(json_integer_value(json_object_get(got, "system_metrics_seconds")), 3);
    assert_true(json_equal(json_object_get(got, "spec"), spec));
    assert_true(json_equal(json_object_get(got, "warnings"), warnings));
    assert_string_equal(json_string_value(json_array_get(json_object_get(got, "data_dirs"), 0)),
                        "/data/one");
    assert_true(
        json_is_null(json_array_get(json_object_get(got, "data_dirs"), 1))); /* an object store */
    assert_true(json_is_null(json_object_get(got, "manifest")));
    j.token = "another"; /* it is there: nothing is done */
    assert_int_equal(ty_jobdir_make(&j, NULL, &err), 0);
    free(text);
    assert_int_equal(ty_read_file("jobs/r_1_00000000/job.json", 100000, &text, &n), 0);
    assert_null(strstr(text, "another"));
    assert_int_equal(ty_jobdir_remove(tests_folder, j.run), 0);
    assert_int_equal(access("jobs/r_1_00000000", F_OK), -1);
    assert_int_equal(ty_jobdir_remove(tests_folder, j.run), 0);
}

static void test_with_a_snapshot(void **state)
{
    static const char manifest[] = "trainyard-snapshot 1\nd - - - a\n";
    struct ty_jobdir j = job();
    struct ty_blobs *b = NULL;
    CLEANUP_FREE char *text = NULL;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];
    size_t n;

    (void)state;
    assert_int_equal(ty_blobs_open("blobs", &b, &err), 0);
    assert_int_equal(ty_blob_put_bytes(b, manifest, strlen(manifest), sha, &err), 0);
    j.snapshot = sha;
    assert_int_equal(ty_jobdir_make(&j, b, &err), 0);
    assert_int_equal(ty_read_file("jobs/r_1_00000000/manifest", 1000, &text, &n), 0);
    assert_string_equal(text, manifest);
    /* One that is not stored: no half folder is left. */
    j.run = "r_1_00000001";
    assert_int_equal(ty_blob_remove(b, sha), 0);
    assert_int_equal(ty_jobdir_make(&j, b, &err), -ENOENT);
    assert_non_null(strstr(err.text, "jobs/r_1_00000001"));
    assert_int_equal(access("jobs/r_1_00000001", F_OK), -1);
    assert_int_equal(access("jobs/.new-r_1_00000001", F_OK), -1);
    ty_blobs_free(b);
}

/* What a daemon that died left half-made, or a runner half-removed, is in nobody's way. */
static void test_leftovers(void **state)
{
    struct ty_jobdir j = job();
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_mkdir_p("jobs/.new-r_1_00000000/work", 0700), 0);
    tests_put("jobs/.new-r_1_00000000/job.json", "{");
    assert_int_equal(ty_mkdir_p("jobs/r_1_00000000/work", 0700), 0);
    assert_false(ty_jobdir_exists(tests_folder, j.run));
    assert_int_equal(ty_jobdir_make(&j, NULL, &err), 0);
    assert_int_equal(access("jobs/r_1_00000000/work", F_OK), -1);
    assert_int_equal(access("jobs/.new-r_1_00000000", F_OK), -1);
}

/* What may be left of a job on hosts is not forgotten with its folder. */
static void test_given_up(void **state)
{
    CLEANUP_JSON json_t *hosts = json_pack("{s:{s:s}}", "target", "kind", "hosts");
    struct ty_jobdir here = job(), there = job();
    struct ty_error err = { 0 };

    (void)state;
    there.run = "r_1_00000002";
    there.attempt = 3;
    there.extra = hosts;
    assert_int_equal(ty_jobdir_make(&here, NULL, &err), 0);
    assert_int_equal(ty_jobdir_make(&there, NULL, &err), 0);
    assert_int_equal(ty_jobdir_give_up(tests_folder, here.run), 0);
    assert_int_equal(ty_jobdir_give_up(tests_folder, there.run), 0);
    assert_int_equal(access("jobs/r_1_00000000", F_OK), -1);
    assert_int_equal(access("jobs/r_1_00000002", F_OK), -1);
    assert_int_equal(access("lost/r_1_00000002.3/job.json", F_OK), 0);
    assert_int_equal(ty_jobdir_give_up(tests_folder, there.run), 0); /* there is none */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(test_what_is_in_it), T(test_with_a_snapshot),
                                        T(test_leftovers), T(test_given_up) };

    return cmocka_run_group_tests_name("jobdir", tests, NULL, NULL);
}
