/* test_sched.c - the queue, and taking everything up again after a restart */
#include "kit.h"

static void check_why(struct kit *k, const char *name, const char *why, int place)
{
    CLEANUP_JSON json_t *run = kit_run(k, name);
    const char *text = json_string_value(json_object_get(run, "why"));

    if (!text || strcmp(text, why) != 0)
        fail_msg("'%s', not '%s'", text ? text : "no reason", why);
    assert_int_equal(json_integer_value(json_object_get(run, "queue_place")), place);
}

/* All or nothing, in order: what wants little does not overtake what wants more. */
static void test_slots(void **state)
{
    struct kit *k = *state;
    char one[128], two[128], little[128], why[256];

    kit_submit(k, "", "sleep 100", one);
    kit_submit(k, "\"resources\": {\"cpus\": 2}, ", "sleep 100", two);
    kit_submit(k, "", "sleep 100", little);
    kit_state(k, one, "Running");
    kit_idle(k, 100);
    kit_state(k, two, "Queued");
    kit_state(k, little, "Queued");
    check_why(k, two, "waits for 2 CPU slots of this box (1 of 2 in use)", 1);
    snprintf(why, sizeof why,
             "waits for its turn, behind 1 other run; what is free is kept for run %s", two);
    check_why(k, little, why, 2);
    assert_int_equal(kit_cancel(k, one), 0);
    kit_state(k, two, "Running");
    kit_state(k, little, "Queued");
    check_why(k, little, "waits for 1 CPU slot of this box (2 of 2 in use)", 1);
    assert_int_equal(kit_cancel(k, two), 0);
    kit_state(k, little, "Running");
}

/* A target with as many runs as it has nodes lets those of others pass. */
static void test_nodes(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *target = json_pack("{s:s}", "name", "box");
    struct ty_error err = { 0 };
    char first[128], second[128], other[128];

    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\", \"max_nodes\": 1}", &err), 0);
    kit_submit(k, "\"target\": \"box\", ", "sleep 100", first);
    kit_submit(k, "\"target\": \"box\", ", "sleep 100", second);
    kit_submit(k, "", "sleep 100", other);
    kit_state(k, first, "Running");
    kit_state(k, other, "Running");
    kit_state(k, second, "Queued");
    check_why(k, second, "waits for a node of target 'box' (1 of 1 in use)", 1);
    ty_sched_annotate_target(k->sched, target);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(target, "nodes"), "running")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(target, "nodes"), "idle")),
                     0);
    assert_int_equal(kit_cancel(k, other), 0);
    kit_until(k, kit_ended, other);
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\", \"max_nodes\": 2}", &err),
                     0); /* one more now */
    kit_state(k, second, "Running");
}

static void test_status(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *status = json_object();
    char one[128], two[128];

    kit_submit(k, "\"resources\": {\"cpus\": 2}, ", "sleep 100", one);
    kit_submit(k, "", "sleep 100", two);
    ty_sched_status(k->sched, status);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "runs"), "active")),
                     2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "runs"), "queued")),
                     1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "slots"), "used")),
                     2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "slots"), "cpus")),
                     2);
}

/* What every call may count on as soon as the daemon listens. */
static void test_what_is_there_from_the_start(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *target = NULL, *store = NULL;

    assert_int_equal(ty_store_target(k->store, "local", &target), 0);
    assert_int_equal(ty_store_datastore(k->store, "workspaceblobstore", &store), 0);
}

/* The daemon stops while one run goes on, one waits and one ends: all is as if it had not. */
static void test_restart(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *events = NULL, *go = ty_strf("%s/go", k->home), *shell = NULL;
    char runs[128], waits[128];
    int pid;

    shell = ty_strf("echo before; while [ ! -e %s ]; do sleep 0.02; done; echo after", go);
    kit_submit(k, "\"resources\": {\"cpus\": 2}, ", shell, runs);
    kit_submit(k, "", "true", waits);
    kit_state(k, runs, "Running");
    pid = kit_runner(k, runs);
    kit_stop(k);
    assert_int_equal(kill(pid, 0), 0);
    kit_start(k);
    kit_state(k, runs, "Running");
    kit_state(k, waits, "Queued");
    assert_int_equal(kit_runner(k, runs), pid); /* the same one */
    assert_int_equal(ty_write_file(go, "", 0, 0600), 0);
    kit_state(k, runs, "Completed");
    kit_state(k, waits, "Completed");
    events = kit_events(k, runs);
    assert_string_equal(events, "submitted prepare ready started exited_ok collected");
}

static void test_a_run_that_ended_meanwhile(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *done = ty_strf("%s/done", k->home),
                      *shell = ty_strf("touch %s; exit 9", done);
    CLEANUP_JSON json_t *run = NULL;
    char name[128];

    kit_submit(k, "", shell, name);
    kit_runner(k, name);
    kit_stop(k);
    for (int i = 0; access(done, F_OK) < 0 && i < 1000; i++)
        usleep(10000);
    kit_start(k);
    kit_state(k, name, "Failed");
    run = kit_run(k, name);
    assert_int_equal(json_integer_value(json_object_get(run, "exit_code")), 9);
}

/* Specifications that this version cannot read: what runs goes on, what waits is told. */
static void test_unreadable_specs(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *go = ty_strf("%s/go", k->home), *shell = NULL;
    CLEANUP_JSON json_t *run = NULL;
    struct ty_error err = { 0 };
    char runs[128], waits[128], ended[128];

    kit_submit(k, "", "true", ended);
    kit_until(k, kit_ended, ended);
    shell = ty_strf("while [ ! -e %s ]; do sleep 0.02; done", go);
    kit_submit(k, "\"resources\": {\"cpus\": 2}, ", shell, runs);
    kit_submit(k, "", "true", waits);
    kit_state(k, runs, "Running");
    kit_stop(k);
    kit_sql(k, "UPDATE spec SET json = json_set(json, '$.of_tomorrow', 1)");
    kit_start(k);
    kit_state(k, waits, "Failed");
    run = kit_run(k, waits);
    assert_string_equal(json_string_value(json_object_get(json_object_get(run, "error"), "code")),
                        "PreparationFailed");
    assert_int_equal(ty_write_file(go, "", 0, 0600), 0);
    kit_state(k, runs, "Completed");
    assert_int_equal(kit_tag(k, ended, "{\"set\": {\"a\": \"1\"}}", &err), 0);
    assert_int_equal(kit_delete(k, ended), 0);
}

/* After a reboot nothing of a run lives: it is told so, and what waits goes on waiting for its turn. */
static void test_reboot(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    char runs[128], waits[128];
    int pid;

    kit_submit(k, "\"resources\": {\"cpus\": 2}, ", "sleep 100", runs);
    kit_submit(k, "", "true", waits);
    kit_state(k, runs, "Running");
    pid = kit_runner(k, runs);
    kit_stop(k);
    assert_int_equal(kill(pid, SIGKILL), 0);
    setenv("TRAINYARD_TEST_BOOT_ID", "11111111-2222-3333-4444-555555555555", 1);
    kit_start(k);
    kit_state(k, runs, "Failed");
    run = kit_run(k, runs);
    assert_string_equal(json_string_value(json_object_get(json_object_get(run, "error"), "code")),
                        "Rebooted");
    kit_state(k, waits, "Completed");
}

/* A cancel that was stored, and then the daemon died before it told the runner. */
static void test_a_cancel_across_a_restart(void **state)
{
    struct kit *k = *state;
    char name[128];
    int pid;

    kit_submit(k, "", "sleep 100", name);
    kit_state(k, name, "Running");
    pid = kit_runner(k, name);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(kit_cancel(k, name), 0);
    kit_state(k, name, "CancelRequested");
    kit_stop(k);
    assert_int_equal(kill(pid, SIGCONT), 0);
    kit_start(k);
    kit_state(k, name, "Canceled");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_slots),
        T(test_nodes),
        T(test_status),
        T(test_what_is_there_from_the_start),
        T(test_restart),
        T(test_a_run_that_ended_meanwhile),
        T(test_unreadable_specs),
        T(test_reboot),
        T(test_a_cancel_across_a_restart),
    };

    return cmocka_run_group_tests_name("sched", tests, NULL, NULL);
}
