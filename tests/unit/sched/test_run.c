/* test_run.c - one run from its start to its end, however it ends */
#include "kit.h"
#include "sched/sched_internal.h"

static const char *text_of(const json_t *run, const char *a, const char *b)
{
    const char *text =
        json_string_value(json_object_get(b ? json_object_get(run, a) : run, b ? b : a));

    return text ? text : "";
}

static void test_ends(void **state)
{
    static const struct {
        const char *shell, *state, *code, *message;
        int exit_code, exit_signal; /* -1, 0: none */
    } cases[] = {
        { "echo fine", "Completed", "", "", 0, 0 },
        { "echo bad >&2; exit 7", "Failed", "ScriptFailed", "exited with code 7", 7, 0 },
        { "kill -9 $$", "Failed", "ScriptKilled", "was killed by signal 9", -1, 9 },
        { "sleep 100 & exit 0", "Completed", "", "", 0, 0 },
    };
    struct kit *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_JSON json_t *run = NULL;
        char name[128];

        kit_submit(k, "", cases[i].shell, name);
        kit_until(k, kit_ended, name);
        run = kit_run(k, name);
        assert_string_equal(text_of(run, "state", NULL), cases[i].state);
        assert_string_equal(text_of(run, "error", "code"), cases[i].code);
        assert_non_null(strstr(text_of(run, "error", "message"), cases[i].message));
        assert_int_equal(json_is_integer(json_object_get(run, "exit_code"))
                             ? json_integer_value(json_object_get(run, "exit_code"))
                             : -1,
                         cases[i].exit_code);
        assert_int_equal(json_integer_value(json_object_get(run, "exit_signal")),
                         cases[i].exit_signal);
    }
}

static void test_an_error_holds_the_end_of_the_log(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    char name[128];

    kit_submit(k, "", "echo first; echo ValueError: boom >&2; exit 1", name);
    kit_until(k, kit_ended, name);
    run = kit_run(k, name);
    assert_string_equal(text_of(run, "error", "log_tail"), "first\nValueError: boom\n");
}

static void test_cancel_while_it_waits(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *events = NULL;
    char first[128], waits[128];

    kit_submit(k, "\"resources\": {\"cpus\": 2}, ", "sleep 100", first);
    kit_submit(k, "", "echo never", waits);
    kit_state(k, waits, "Queued");
    assert_int_equal(kit_cancel(k, waits), 0);
    kit_state(k, waits, "Canceled");
    events = kit_events(k, waits);
    assert_string_equal(events, "submitted prepare ready cancel exited_bad collected");
    assert_int_equal(kit_cancel(k, first), 0);
    kit_state(k, first, "Canceled");
}

static void test_cancel_while_it_runs(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    CLEANUP_FREE char *events = NULL;
    char name[128];

    kit_submit(k, "", "sleep 100", name);
    kit_state(k, name, "Running");
    assert_int_equal(kit_cancel(k, name), 0);
    assert_int_equal(kit_cancel(k, name), 0); /* twice is once */
    kit_state(k, name, "Canceled");
    assert_int_equal(kit_cancel(k, name), 0); /* and after the end nothing happens */
    run = kit_run(k, name);
    assert_int_equal(json_integer_value(json_object_get(run, "exit_signal")), SIGTERM);
    events = kit_events(k, name);
    assert_string_equal(events, "submitted prepare ready started cancel exited_bad collected");
}

static void test_cancel_of_one_that_will_not_listen(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    char name[128];

    kit_submit(k, "", "trap '' TERM; while :; do sleep 0.1; done", name);
    kit_state(k, name, "Running");
    assert_int_equal(kit_cancel(k, name), 0);
    kit_state(k, name, "Canceled");
    run = kit_run(k, name);
    assert_int_equal(json_integer_value(json_object_get(run, "exit_signal")), SIGKILL);
}

static void test_time_limit(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    char name[128];

    kit_submit(k, "\"max_run_duration_seconds\": 1, ", "sleep 100", name);
    kit_state(k, name, "Canceled");
    run = kit_run(k, name);
    assert_string_equal(text_of(run, "error", "code"), "TimeLimit");
    assert_non_null(strstr(text_of(run, "error", "message"), "1 s (max_run_duration_seconds)"));
}

static void test_a_runner_that_is_killed(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    char name[128];

    kit_submit(k, "", "echo before; sleep 100", name);
    kit_state(k, name, "Running");
    assert_int_equal(kill(kit_runner(k, name), SIGKILL), 0);
    kit_state(k, name, "Failed");
    run = kit_run(k, name);
    assert_string_equal(text_of(run, "error", "code"), "RunnerLost");
}

/* That a node is silent outlives the daemon: its runner, which is heard, says nothing of it. */
static void test_a_silent_node(void **state)
{
    struct kit *k = *state;
    char run[128];

    kit_submit(k, "", "while :; do echo here; sleep 0.05; done", run);
    kit_state(k, run, "Running");
    kit_idle(k, 50);
    kit_stop(k);
    kit_sql(k,
            "INSERT INTO event SELECT id, last_seq + 1, started_us, 'silent', "
            "'{\"node\":\"h2\",\"seconds\":10}' FROM run;"
            "UPDATE run SET state = 'NotResponding', heard = 'Running', last_seq = last_seq + 1");
    kit_start(k);
    kit_idle(k, 500);
    kit_state(k, run, "NotResponding");
    assert_int_equal(kit_cancel(k, run), 0);
    kit_state(k, run, "Canceled");
}

static bool folder_gone(struct kit *k, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/jobs/%s", k->home, run);

    return access(path, F_OK) < 0;
}

static void test_a_job_folder_that_vanishes(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    CLEANUP_FREE char *folder = NULL;
    char name[128];
    int pid;

    kit_submit(k, "", "sleep 100", name);
    kit_state(k, name, "Running");
    folder = ty_strf("%s/jobs/%s", k->home, name);
    pid = kit_runner(k, name);
    kit_stop(k);
    assert_int_equal(kill(pid, SIGKILL), 0);
    ty_rm_rf(folder);
    kit_start(k);
    kit_state(k, name, "Failed");
    run = kit_run(k, name);
    assert_non_null(strstr(text_of(run, "error", "message"), "vanished"));
    kit_until(k, folder_gone, name);
}

static bool says_it_cannot_begin(struct kit *k, const char *run)
{
    CLEANUP_JSON json_t *j = kit_run(k, run);
    const char *why = json_string_value(json_object_get(j, "why"));

    return why && strstr(why, "its runner cannot begin: ");
}

/* What cannot be read now is tried again: when it can, the run goes on; when it stays so, the run is given up. */
static void test_a_runner_that_cannot_begin(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *job = NULL, *good = NULL, *out = ty_strf("%s/out", k->home), *shell = NULL;
    CLEANUP_JSON json_t *run = NULL;
    char name[128];
    size_t n;

    kit_conf(k, "sched.begin_seconds", "3");
    kit_stop(k);
    kit_start(k);
    for (int mended = 1; mended >= 0; mended--) {
        free(shell);
        shell = ty_strf("touch %s; sleep 100", out);
        kit_submit(k, "", shell, name);
        kit_state(k, name, "Running");
        free(job);
        job = ty_strf("%s/jobs/%s/job.json", k->home, name);
        free(good);
        assert_int_equal(ty_read_file(job, 1 << 20, &good, &n), 0);
        assert_int_equal(ty_write_file(job, "{", 1, 0600), 0);
        assert_int_equal(kill(kit_runner(k, name), SIGKILL), 0);
        kit_until(k, says_it_cannot_begin, name);
        if (mended)
            assert_int_equal(ty_write_file(job, good, n, 0600), 0);
        kit_state(k, name, "Failed");
        json_decref(run);
        run = kit_run(k, name);
        assert_int_equal(strstr(text_of(run, "error", "message"), "cannot begin") == NULL, mended);
    }
    kit_until(k, folder_gone, name);
}

/* Silent: NotResponding; heard again: where it was. */
static void test_silence(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *events = NULL;
    char name[128];
    int pid;

    kit_stop(k);
    kit_conf(k, "sched.silent_seconds", "1");
    kit_start(k);
    kit_submit(k, "", "sleep 100", name);
    kit_state(k, name, "Running");
    pid = kit_runner(k, name);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    kit_state(k, name, "NotResponding");
    assert_int_equal(kill(pid, SIGCONT), 0);
    kit_state(k, name, "Running");
    assert_int_equal(kill(pid, SIGSTOP), 0);
    kit_state(k, name, "NotResponding");
    assert_int_equal(kit_cancel(k, name), 0);
    assert_int_equal(kill(pid, SIGCONT), 0);
    kit_state(k, name, "Canceled");
    events = kit_events(k, name);
    assert_non_null(strstr(events, "started silent heard silent cancel"));
}

static int kills;

static void count_kill(struct ty_job *job)
{
    (void)job;
    kills++;
}

/* The courier of a run that has ended is silent: it may clean hosts for a day.  A runner has no such reason. */
static void test_silence_at_the_end(void **state)
{
    struct ty_sched s = { .silent_us = 10, .node_lost_us = 20 };
    struct ty_target_kind kind = { .couriers = true, .kill = count_kill };
    struct live l = {
        .sched = &s, .kind = &kind, .job = (struct ty_job *)&kind, .run.state = TY_RUN_COMPLETED
    };

    (void)state;
    run_check_silence(&l, 1000);
    assert_int_equal(kills, 0);
    kind.couriers = false;
    run_check_silence(&l, 1000);
    assert_int_equal(kills, 1);
}

#ifdef TY_FAULTS
/* The store fails while a run goes on, at each commit in turn: the run ends in its true state all the same. */
static void test_a_store_that_fails_meanwhile(void **state)
{
    struct kit *k = *state;

    for (int commit = 1; commit <= 6; commit++) {
        CLEANUP_FREE char *events = NULL;
        char name[128];

        kit_submit(k, "", "echo one; sleep 0.1; echo two; sleep 0.1; exit 3", name);
        ty_fault_arm("store.commit", commit, commit % 2 ? ENOSPC : EIO);
        kit_until(k, kit_ended, name);
        ty_fault_arm("none", 0, 0);
        events = kit_events(k, name);
        assert_string_equal(events, "submitted prepare ready started exited_bad collected");
        kit_until(k, folder_gone, name);
    }
}
#endif

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_ends),
        T(test_an_error_holds_the_end_of_the_log),
        T(test_cancel_while_it_waits),
        T(test_cancel_while_it_runs),
        T(test_cancel_of_one_that_will_not_listen),
        T(test_time_limit),
        T(test_a_runner_that_is_killed),
        T(test_a_silent_node),
        T(test_a_job_folder_that_vanishes),
        T(test_a_runner_that_cannot_begin),
        T(test_silence),
        cmocka_unit_test(test_silence_at_the_end),
#ifdef TY_FAULTS
        T(test_a_store_that_fails_meanwhile),
#endif
    };

    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
