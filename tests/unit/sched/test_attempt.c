/* test_attempt.c - runs that are started again */
#include "kit.h"
#include "target/jobdir.h"
#include <fcntl.h>
#include <sys/stat.h>

#define DRIVER_LOG "azureml-logs/70_driver_log.txt"

/* A shell text that fails until its checkpoint says `n`, counting in the checkpoint folder. */
#define COUNTS(n) \
    "echo attempt $TRAINYARD_ATTEMPT; c=$TRAINYARD_CHECKPOINT_DIR/n; read k <$c || k=0; " \
    "echo $((k+1)) >$c; [ $k = " #n " ] || exit 5"

static char *log_of(struct kit *k, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/logs/%s/%s", k->home, run, DRIVER_LOG);
    char *text = NULL;
    size_t n;

    assert_int_equal(ty_read_file(path, 1 << 20, &text, &n), 0);
    return text;
}

static void assert_ended(struct kit *k, const char *run, const char *state, int attempt)
{
    CLEANUP_JSON json_t *o = NULL;

    kit_until(k, kit_ended, run);
    o = kit_run(k, run);
    assert_string_equal(json_string_value(json_object_get(o, "state")), state);
    assert_int_equal(json_integer_value(json_object_get(o, "attempt")), attempt);
}

static bool is_there(struct kit *k, const char *what, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/%s/%s", k->home, what, run);

    return access(path, F_OK) == 0;
}

static bool folder_gone(struct kit *k, const char *run)
{
    return !is_there(k, "jobs", run);
}

static void test_again_until_it_works(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *events = NULL, *log = NULL;
    char run[128];

    kit_submit(k, "\"max_restarts\": {\"error\": 2}, ", COUNTS(2), run);
    assert_ended(k, run, "Completed", 3);
    events = kit_events(k, run);
    assert_non_null(
        strstr(events, "started requeued warned started requeued warned started exited_ok"));
    log = log_of(k, run);
    assert_non_null(strstr(log, "attempt 1\n"));
    assert_non_null(strstr(log, "attempt 2\n"));
    assert_non_null(strstr(log, "attempt 3\n"));
    assert_false(is_there(k, "checkpoints", run));
    kit_until(k, folder_gone, run);
}

static void test_no_more_than_asked_for(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *o = NULL;
    char run[128];

    kit_submit(k, "\"max_restarts\": {\"error\": 1, \"node_lost\": 5}, ", COUNTS(9), run);
    assert_ended(k, run, "Failed", 2);
    o = kit_run(k, run);
    assert_int_equal(json_integer_value(json_object_get(o, "exit_code")), 5);
    assert_true(is_there(k, "checkpoints", run)); /* for whoever looks into it */
    assert_int_equal(kit_delete(k, run), 0);
    assert_false(is_there(k, "checkpoints", run));
}

static void test_not_for_another_cause(void **state)
{
    struct kit *k = *state;
    char run[128];

    kit_submit(k, "\"max_restarts\": {\"node_lost\": 5, \"preempted\": 5}, ", "exit 5", run);
    assert_ended(k, run, "Failed", 1);
    assert_false(is_there(k, "checkpoints", run)); /* there was nothing in it */
}

static void test_a_killed_runner_counts_as_a_lost_node(void **state)
{
    struct kit *k = *state;
    char run[128];

    kit_submit(k, "\"max_restarts\": {\"node_lost\": 1}, ",
               "[ $TRAINYARD_ATTEMPT = 1 ] || exit 0; exec sleep 100", run);
    kit_state(k, run, "Running");
    assert_int_equal(kill(kit_runner(k, run), SIGKILL), 0);
    assert_ended(k, run, "Completed", 2);
}

/* At whatever moment, also before the program has begun: the first or the next attempt ends well. */
static void test_a_runner_killed_early(void **state)
{
    struct kit *k = *state;

    for (int i = 0; i < 4; i++) {
        CLEANUP_JSON json_t *o = NULL;
        char run[128];

        kit_submit(k, "\"max_restarts\": {\"node_lost\": 1}, ", "sleep 1", run);
        kit_idle(k, 2 * i);
        kill(kit_runner(k, run), SIGKILL);
        kit_until(k, kit_ended, run);
        o = kit_run(k, run);
        assert_string_equal(json_string_value(json_object_get(o, "state")), "Completed");
    }
}

static void test_cancel_ends_all_attempts(void **state)
{
    struct kit *k = *state;
    char run[128];

    kit_submit(k, "\"max_restarts\": {\"error\": 1000}, ", "exec sleep 100", run);
    kit_state(k, run, "Running");
    assert_int_equal(kit_cancel(k, run), 0);
    assert_ended(k, run, "Canceled", 1);
}

static bool is_again(struct kit *k, const char *run)
{
    CLEANUP_JSON json_t *o = kit_run(k, run);

    return json_integer_value(json_object_get(o, "attempt")) == 2;
}

/* The runner of the first attempt has told its end, and is killed while it collects, as are those that take its job up. */
static void test_what_is_left_cannot_be_had(void **state)
{
    struct kit *k = *state;
    char run[128];

    kit_submit(k, "\"max_restarts\": {\"error\": 1}, ",
               "[ $TRAINYARD_ATTEMPT = 1 ] || exit 0; mkdir -p outputs; i=0; "
               "while [ $i -lt 3000 ]; do i=$((i+1)); echo $i >outputs/$i; done; exit 5",
               run);
    kit_until(k, is_again, run);
    for (int i = 0; i < 8 && !kit_ended(k, run); i++) {
        CLEANUP_JSON json_t *o = kit_run(k, run);
        const char *why = json_string_value(json_object_get(o, "why"));

        if (i == 0)
            assert_non_null(strstr(why ? why : "", "until what attempt 1 has left is collected"));
        if (strcmp(json_string_value(json_object_get(o, "state")), "Queued") == 0 &&
            is_there(k, "jobs", run) && ty_jobdir_attempt(k->home, run) == 1)
            kill(kit_runner(k, run), SIGKILL);
        kit_idle(k, 20);
    }
    assert_ended(k, run, "Completed", 2);
}

/* Whatever the moment at which the daemon is replaced: each attempt's line is there once. */
static void test_across_restarts_of_the_daemon(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *log = NULL;
    char run[128];

    kit_submit(k, "\"max_restarts\": {\"error\": 10}, ", COUNTS(8), run);
    for (int i = 0; i < 12; i++) {
        kit_idle(k, 7 * i);
        kit_stop(k);
        kit_start(k);
    }
    assert_ended(k, run, "Completed", 9);
    log = log_of(k, run);
    for (int i = 1; i <= 9; i++) {
        CLEANUP_FREE char *line = ty_strf("attempt %d\n", i);
        const char *at = strstr(log, line);

        assert_non_null(at);
        assert_null(strstr(at + 1, line));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_again_until_it_works, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_no_more_than_asked_for, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_not_for_another_cause, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_a_killed_runner_counts_as_a_lost_node, kit_setup,
                                        kit_teardown),
        cmocka_unit_test_setup_teardown(test_a_runner_killed_early, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_cancel_ends_all_attempts, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_what_is_left_cannot_be_had, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_across_restarts_of_the_daemon, kit_setup,
                                        kit_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
