/* test_logs.c - which logs a runner has, by its place in the job */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/logs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static struct ty_job_node nodes[3];
static struct ty_jobfile job;
static struct ty_logs logs;

static int set_up(void **state)
{
    CLEANUP_FREE char *path = NULL;

    (void)state;
    memcpy(dir, "/tmp/ty-logs-XXXXXX", sizeof "/tmp/ty-logs-XXXXXX");
    assert_non_null(mkdtemp(dir));
    path = ty_path_join(dir, "azureml-logs");
    assert_int_equal(ty_mkdir_p(path, 0700), 0);
    for (int i = 0; i < 3; i++)
        nodes[i] = (struct ty_job_node){ .name = "n", .ranks = 2, .first = 2 * i };
    job = (struct ty_jobfile){ .log = dir,
                               .nodes = nodes,
                               .nnodes = 3,
                               .size = 6,
                               .leads = true,
                               .own_nodes = 1,
                               .log_bytes_max = 1000 };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ty_logs_done(&logs);
    ty_rm_rf(dir);
    return 0;
}

static void open_all(void)
{
    struct ty_error err = { 0 };

    if (ty_logs_open(&logs, &job, &err) < 0)
        fail_msg("%s", err.text);
}

static void test_alone(void **state)
{
    (void)state;
    nodes[0].ranks = 1;
    job.nnodes = job.size = 1;
    open_all();
    assert_int_equal(logs.n, 2);
    assert_string_equal(logs.at[TY_LOG_CONTROL].name, "azureml-logs/60_control_log.txt");
    assert_string_equal(logs.at[TY_LOG_DRIVER].name, "azureml-logs/70_driver_log.txt");
    assert_ptr_equal(ty_logs_of_rank(&logs, 0), &logs.at[TY_LOG_DRIVER]);
    assert_null(ty_logs_of_rank(&logs, 1));
}

/* The first node has its own, and takes in those of others. */
static void test_leader(void **state)
{
    struct ty_error err = { 0 };

    (void)state;
    open_all();
    assert_int_equal(logs.n, 3);
    assert_string_equal(ty_logs_of_rank(&logs, 1)->name, "azureml-logs/70_driver_log_1.txt");
    assert_null(ty_logs_of_rank(&logs, 5));
    assert_int_equal(ty_logs_add(&logs, &job, 5, &err), 0);
    assert_int_equal(ty_logs_add(&logs, &job, 2, &err), 0);
    assert_string_equal(ty_logs_of_rank(&logs, 5)->name, "azureml-logs/70_driver_log_5.txt");
    assert_string_equal(ty_logs_of_rank(&logs, 2)->name, "azureml-logs/70_driver_log_2.txt");
    assert_null(ty_logs_of_rank(&logs, 3));
}

static void test_another_node(void **state)
{
    (void)state;
    job.leads = false;
    job.node = 2;
    open_all();
    assert_int_equal(logs.n, 3);
    assert_null(ty_logs_of_rank(&logs, 0));
    assert_string_equal(ty_logs_of_rank(&logs, 4)->name, "azureml-logs/70_driver_log_4.txt");
    assert_ptr_equal(ty_logs_of_rank(&logs, 5), &logs.at[2]);
}

/* What a build said is a log of its own, also after the runner that had it. */
static void test_builds(void **state)
{
    struct ty_error err = { 0 };

    (void)state;
    open_all();
    assert_int_equal(ty_logs_add(&logs, &job, TY_LOG_BUILD(0), &err), 0);
    assert_int_equal(ty_logs_add(&logs, &job, TY_LOG_BUILD(2), &err), 0);
    assert_string_equal(ty_logs_of_rank(&logs, TY_LOG_BUILD(0))->name,
                        "azureml-logs/20_image_build_log.txt");
    assert_string_equal(ty_logs_of_rank(&logs, TY_LOG_BUILD(2))->name,
                        "azureml-logs/20_image_build_log_2.txt");
    assert_null(ty_logs_of_rank(&logs, TY_LOG_BUILD(1)));
    ty_logs_done(&logs);
    open_all();
    assert_int_equal(ty_logs_take_up(&logs, &job, &err), 0);
    assert_int_equal(logs.n, 5);
    assert_non_null(ty_logs_of_rank(&logs, TY_LOG_BUILD(0)));
    assert_null(ty_logs_of_rank(&logs, TY_LOG_BUILD(1)));
    assert_non_null(ty_logs_of_rank(&logs, TY_LOG_BUILD(2)));
}

/* A later attempt goes on where the one before ended. */
static void test_later_attempt(void **state)
{
    CLEANUP_JSON json_t *base = json_pack("{s:i}", "azureml-logs/70_driver_log_1.txt", 400);

    (void)state;
    job.log_base = base;
    open_all();
    job.log_base = NULL;
    assert_int_equal(ty_logs_of_rank(&logs, 1)->tail.base, 400);
    assert_int_equal(ty_logs_of_rank(&logs, 1)->tail.limit, 600);
    assert_int_equal(ty_logs_of_rank(&logs, 0)->tail.base, 0);
}

static void test_no_folder(void **state)
{
    struct ty_error err = { 0 };

    (void)state;
    ty_rm_rf(dir);
    assert_true(ty_logs_open(&logs, &job, &err) < 0);
    assert_non_null(strstr(err.text, "cannot open the log"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(test_alone),  T(test_leader),        T(test_another_node),
                                        T(test_builds), T(test_later_attempt), T(test_no_folder) };

    return cmocka_run_group_tests_name("logs", tests, NULL, NULL);
}
