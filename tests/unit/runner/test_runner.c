/* test_runner.c - whole lives of runners (runner.c, life.c, deliver.c, launch.c, rank.c,
 * prepare.c), against a daemon of the test's own */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "core/row.h"
#include "job.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_log(const struct job *j, const char *text)
{
    const struct ty_str *log = fake_log(&j->fake, "70_driver_log.txt");

    assert_int_equal(log->len, strlen(text));
    assert_memory_equal(log->text, text, log->len);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' should say '%s'", text, part);
}

static void test_normal(void **state)
{
    struct job j;

    (void)state;
    job_make(
        &j, NULL,
        "echo one; echo two >&2; printf model > outputs/model.bin; mkdir logs/deep; echo x > logs/deep/a.txt; pwd");
    CLEANUP_FREE char *expected = ty_strf("one\ntwo\n%s/work\n", j.dir);
    job_run(&j);
    assert_log(&j, expected);
    assert_int_equal(json_array_size(j.fake.records), 5);
    assert_true(job_number(&j, "started", 0, "pid") > 0);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "script");
    assert_string_equal(job_text(&j, "artifact", 0, "path"), "outputs/model.bin");
    assert_int_equal(job_number(&j, "artifact", 0, "bytes"), 5);
    assert_string_equal(job_text(&j, "artifact", 1, "path"), "logs/deep/a.txt");
    assert_int_equal(strlen(job_text(&j, "artifact", 1, "sha256")), 64);
    assert_string_equal(json_string_value(json_object_get(j.fake.hello, "token")), "secret");
    assert_has(fake_log(&j.fake, "60_control_log.txt")->text, "the script exited with code 0");
    job_done(&j);
}

static void test_warnings_head_the_log(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "echo hello", NULL);
    json_object_set_new(j.json, "warnings", json_pack("[s, s]", "no GPU here", "and it rains"));
    job_run(&j);
    assert_log(&j, "Warning: no GPU here\nWarning: and it rains\nhello\n");
    job_done(&j);
}

static void test_failing(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, NULL, "echo before; echo 'it broke' >&2; printf '\\377x\\n'; exit 3");
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 3);
    assert_string_equal(job_text(&j, "exited", 0, "message"), "the script exited with code 3");
    assert_string_equal(job_text(&j, "exited", 0, "log_tail"), "before\nit broke\n\xef\xbf\xbdx\n");
    job_done(&j);
}

static void test_killed_by_a_signal(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "kill -9 $$", NULL);
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_signal"), 9);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), -1);
    assert_string_equal(job_text(&j, "exited", 0, "message"),
                        "the command was killed by signal 9 (Killed)");
    job_done(&j);
}

static void not_started(struct job *j, const char *part)
{
    job_run(j);
    assert_null(fake_record(&j->fake, "started", 0));
    assert_string_equal(job_text(j, "exited", 0, "reason"), "prepare");
    assert_has(job_text(j, "exited", 0, "message"), part);
    assert_int_equal(job_number(j, "exited", 0, "exit_code"), -1);
    job_done(j);
}

static void test_what_cannot_start(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, NULL, "true");
    json_object_set_new(job_spec(&j), "interpreter", json_string("/no/such/python"));
    not_started(&j, "/no/such/python");
    job_make(&j, NULL, "true");
    json_object_set_new(job_spec(&j), "script", json_string("other.sh"));
    not_started(&j, "other.sh");
    job_make(&j, "true", NULL);
    json_object_set_new(job_spec(&j), "command", json_pack("[s]", "/no/such/program"));
    not_started(&j, "/no/such/program");
}

static void test_leftovers_end_with_the_script(void **state)
{
    struct job j;

    (void)state;
    job_make(&j,
             "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & wait' &) ; sleep 1000 & echo ready",
             NULL);
    job_run(&j); /* which checks that nobody is left */
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    job_done(&j);
}

static void test_cancel(void **state)
{
    struct job j;

    (void)state;
    job_make(
        &j,
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; setsid sleep 1000 & sleep 1000' &); echo ready; while :; do sleep 1; done",
        NULL);
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_has_output);
    assert_true(job_processes(&j) >= 3);
    fake_cancel(&j.fake);
    fake_cancel(&j.fake);
    job_until(&j, job_over);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "cancel");
    assert_int_equal(job_number(&j, "exited", 0, "exit_signal"), 9);
    assert_true(job_collected(&j));
    assert_int_equal(job_processes(&j), 0);
    job_done(&j);
}

static void test_cancel_is_heard(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done", NULL);
    json_object_set_new(j.json, "cancel_grace_seconds", json_integer(30));
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_has_output);
    kill(j.runner, SIGTERM);
    job_until(&j, job_over);
    assert_has(fake_log(&j.fake, "70_driver_log.txt")->text, "bye\n");
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "cancel");
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 5);
    job_done(&j);
}

static void test_canceled_before_it_began(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, NULL, "sleep 1000");
    j.fake.cancel = true;
    job_run(&j);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "cancel");
    job_done(&j);
}

static void test_time_limit(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "echo ready; exec sleep 1000", NULL);
    json_object_set_new(job_spec(&j), "max_run_duration_seconds", json_integer(1));
    job_run(&j);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "time_limit");
    assert_has(job_text(&j, "exited", 0, "message"), "max_run_duration_seconds");
    assert_int_equal(job_number(&j, "exited", 0, "exit_signal"), 15);
    job_done(&j);
}

/* 20,000 numbered lines, and the same in one string. */
#define COUNTING "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
static char *counted(void)
{
    struct ty_str s = { 0 };

    for (int i = 0; i < 20000; i++)
        ty_str_addf(&s, "line %d\n", i);
    return ty_str_take(&s);
}

static void test_daemon_away_and_back(void **state)
{
    CLEANUP_FREE char *expected = counted();
    struct job j;

    (void)state;
    job_make(&j, "echo ready; " COUNTING "; echo file > outputs/f", NULL);
    CLEANUP_FREE char *phase = job_file(&j, "phase");
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_has_output);
    fake_away(&j.fake);
    for (int64_t end = ty_mono_us() + 20000000;;) { /* until it has ended by itself */
        CLEANUP_FREE char *word = NULL;
        size_t n;

        if (ty_read_file(phase, 64, &word, &n) == 0 && strcmp(word, "collected") == 0)
            break;
        assert_true(ty_mono_us() < end);
        fake_turn(&j.fake, 10);
    }
    assert_int_equal(job_processes(&j), 0);
    assert_false(job_collected(&j));
    fake_back(&j.fake);
    job_until(&j, job_over);
    assert_memory_equal(fake_log(&j.fake, "70_driver_log.txt")->text, "ready\n", 6);
    assert_string_equal(fake_log(&j.fake, "70_driver_log.txt")->text + 6, expected);
    assert_string_equal(job_text(&j, "artifact", 0, "path"), "outputs/f");
    job_done(&j);
}

static void test_broken_connections(void **state)
{
    CLEANUP_FREE char *expected = counted();
    struct job j;

    (void)state;
    job_make(&j, COUNTING, NULL);
    j.fake.break_every = 7;
    job_run(&j);
    assert_log(&j, expected);
    assert_true(j.fake.welcomes > 1);
    job_done(&j);
}

static void check_rows(const struct job *j, uint64_t count)
{
    const struct ty_str *rows = &j->fake.rows[0];
    size_t used = 0;

    assert_int_equal(j->fake.nrows[0], count);
    for (uint64_t i = 0; i < count; i++) {
        struct ty_row row;
        double v;
        ptrdiff_t n = ty_row_decode(rows->text + used, rows->len - used, &row);

        assert_true(n > 0);
        used += (size_t)n;
        memcpy(&v, row.value, sizeof v);
        assert_true(row.step == (int64_t)i && v == (double)i / 2);
    }
}

static void test_rows(void **state)
{
    CLEANUP_FREE char *command = ty_strf("%s 100000 1000", getenv("TRAINYARD_ROW_WRITER"));
    struct job j;

    (void)state;
    job_make(&j, command, NULL);
    j.fake.break_every = 5;
    job_run(&j);
    check_rows(&j, 100000);
    assert_log(&j, "logged\n");
    job_done(&j);
}

static void test_log_limit(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, COUNTING, NULL);
    json_object_set_new(j.json, "log_bytes_max", json_integer(5000));
    job_run(&j);
    assert_int_equal(fake_log(&j.fake, "70_driver_log.txt")->len, 5000);
    assert_has(job_text(&j, "warning", 0, "text"), "limits.log_bytes");
    assert_null(fake_record(&j.fake, "warning", 1));
    job_done(&j);
}

static void test_refused(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "sleep 1000", NULL);
    j.fake.refuse = true;
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_over);
    assert_int_equal(access(j.dir, F_OK), -1);
    assert_int_equal(job_processes(&j), 0);
    job_done(&j);
}

static void kill_runner(struct job *j)
{
    kill(j->runner, SIGKILL);
    job_until(j, job_over);
    assert_true(WIFSIGNALED(j->status));
}

static void test_runner_killed(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "echo kept > outputs/kept.txt; (setsid sleep 1000 &); echo ready; sleep 1000",
             NULL);
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_has_output);
    kill_runner(&j);
    job_until(&j, job_nobody); /* the lifeline: nobody comes to look */
    job_start(&j, NULL, NULL);
    job_until(&j, job_over);
    assert_true(WIFEXITED(j.status) && WEXITSTATUS(j.status) == 0);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "lost");
    assert_string_equal(job_text(&j, "exited", 0, "message"),
                        "the runner was killed; the command was ended with it");
    assert_null(json_object_get(fake_record(&j.fake, "exited", 0), "rebooted"));
    assert_null(fake_record(&j.fake, "started", 1));
    assert_string_equal(job_text(&j, "artifact", 0, "path"), "outputs/kept.txt");
    assert_true(job_collected(&j));
    assert_log(&j, "ready\n");
    job_done(&j);
}

/* The log must be a piece of "ready\n", "line 0\n", "line 1\n", ... from its beginning. */
static void assert_in_order(const struct job *j)
{
    const struct ty_str *log = fake_log(&j->fake, "70_driver_log.txt");
    CLEANUP_FREE char *lines = counted(), *all = ty_strf("ready\n%s", lines);

    assert_true(log->len <= strlen(all));
    if (log->len > 0)
        assert_memory_equal(log->text, all, log->len);
}

static void assert_unique_artifacts(const struct job *j)
{
    CLEANUP_JSON json_t *seen = json_object();

    for (int i = 0; fake_record(&j->fake, "artifact", i); i++) {
        assert_null(json_object_get(seen, job_text(j, "artifact", i, "path")));
        json_object_set_new(seen, job_text(j, "artifact", i, "path"), json_true());
    }
    if (strcmp(job_text(j, "exited", 0, "reason"), "script") == 0)
        assert_int_equal(json_object_size(seen), 40);
}

/* Runners killed at random moments of their lives, up to three on one job, with connections that
 * break as well. */
static void test_killed_at_any_moment(void **state)
{
    unsigned seed = 20261123;

    (void)state;
    for (int round = 0; round < 12; round++) {
        struct job j;

        job_make(
            &j,
            "echo ready; for i in 1 2 3 4 5 6 7 8 9 10; do for k in 1 2 3 4; do echo $i > outputs/$i.$k; done; done; " COUNTING,
            NULL);
        j.fake.break_every = round % 2 ? 3 : 0;
        job_write(&j);
        CLEANUP_FREE char *job_json = job_file(&j, "job.json");
        for (int kills = round % 3;; kills--) {
            job_start(&j, NULL, NULL);
            if (kills < 0)
                break;
            int64_t end = ty_mono_us() + rand_r(&seed) % 150000;
            while (ty_mono_us() < end && !job_over(&j))
                fake_turn(&j.fake, 1);
            if (job_over(&j))
                break;
            kill(j.runner, SIGKILL);
            job_until(&j, job_over);
            if (access(job_json, F_OK) < 0)
                break; /* it was at its last work, removing the folder, or done: the daemon does the rest */
            assert_true(WIFSIGNALED(j.status));
        }
        job_until(&j, job_over);
        assert_int_equal(job_processes(&j), 0);
        assert_true(job_collected(&j));
        assert_null(fake_record(&j.fake, "started", 1));
        assert_null(fake_record(&j.fake, "exited", 1));
        assert_null(fake_record(&j.fake, "collected", 1));
        assert_in_order(&j);
        assert_unique_artifacts(&j);
        job_done(&j);
    }
}

static void test_reboot(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "echo ready; sleep 1000", NULL);
    job_write(&j);
    job_start(&j, NULL, "11111111-0000-0000-0000-000000000000");
    job_until(&j, job_has_output);
    kill_runner(&j);
    job_start(&j, NULL, "22222222-0000-0000-0000-000000000000");
    job_until(&j, job_over);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "lost");
    assert_true(json_is_true(json_object_get(fake_record(&j.fake, "exited", 0), "rebooted")));
    job_done(&j);
}

static void test_killed_after_the_end(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "for i in 1 2 3 4 5; do echo $i > outputs/$i; done; exit 4", NULL);
    j.fake.hold = true;
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_collected);
    size_t n = json_array_size(j.fake.records);
    kill_runner(&j);
    j.fake.hold = false;
    json_array_remove(j.fake.records, n - 1); /* a daemon that had not stored the last two */
    json_array_remove(j.fake.records, n - 2);
    job_start(&j, NULL, NULL);
    job_until(&j, job_over);
    assert_int_equal(json_array_size(j.fake.records), n);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 4);
    assert_null(fake_record(&j.fake, "artifact", 5));
    job_done(&j);
}

static void test_second_runner(void **state)
{
    struct job j, second;

    (void)state;
    job_make(&j, "echo ready; sleep 1000", NULL);
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_has_output);
    second = j;
    second.runner = 0;
    job_start(&second, NULL, NULL);
    for (int64_t end = ty_mono_us() + 20000000; !job_over(&second);) {
        assert_true(ty_mono_us() < end);
        fake_turn(&j.fake, 5);
    }
    assert_true(WIFEXITED(second.status) && WEXITSTATUS(second.status) == 3);
    assert_false(job_over(&j));
    assert_true(job_processes(&j) >= 2);
    job_done(&j);
}

static void test_wrapper_killed(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, "(setsid sleep 1000 &); echo ready; sleep 1000", NULL);
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, job_has_output);
    pid_t wrapper = job_find(&j, "trainyard-rank");
    assert_true(wrapper > 0);
    kill(wrapper, SIGKILL);
    job_until(&j, job_over);
    assert_int_equal(job_processes(&j), 0);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "lost");
    assert_has(job_text(&j, "exited", 0, "message"), "killed by signal 9 (Killed)");
    job_done(&j);
}

#ifdef TY_FAULTS
static void with_fault(struct job *j, const char *fault)
{
    job_write(j);
    job_start(j, fault, NULL);
    job_until(j, job_over);
    assert_true(WIFEXITED(j->status) && WEXITSTATUS(j->status) == 0);
    assert_true(job_collected(j));
}

static void test_faults(void **state)
{
    struct job j;

    (void)state;
    job_make(&j, NULL, "true");
    with_fault(&j, "runner.unpack:1:ENOSPC");
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "prepare");
    assert_has(job_text(&j, "exited", 0, "message"), "No space left on device");
    job_done(&j);

    job_make(&j, "echo a > outputs/a", NULL);
    with_fault(&j, "runner.record:2:ENOSPC"); /* tried again, nothing is lost */
    assert_int_equal(json_array_size(j.fake.records), 4);
    job_done(&j);

    job_make(&j, "echo a > outputs/a; echo b > outputs/b", NULL);
    with_fault(&j, "runner.collect:1:ENOSPC"); /* the second try works */
    assert_int_equal(json_array_size(j.fake.records), 5);
    assert_null(fake_record(&j.fake, "warning", 0));
    job_done(&j);

    job_make(&j, "echo a > outputs/a", NULL);
    with_fault(&j, "runner.collect:1+:ENOSPC");
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    assert_has(job_text(&j, "warning", 0, "text"), "outputs/a");
    assert_null(fake_record(&j.fake, "artifact", 0));
    job_done(&j);
}

/* A job folder on a file system without locks: it is worked on all the same, and by one alone. */
static void test_no_locks(void **state)
{
    struct job j, second;

    (void)state;
    job_make(&j, "echo ready; sleep 1000", NULL);
    job_write(&j);
    job_start(&j, "runner.flock:1+:ENOLCK", NULL);
    job_until(&j, job_has_output);
    second = j;
    second.runner = 0;
    job_start(&second, "runner.flock:1+:ENOLCK", NULL);
    for (int64_t end = ty_mono_us() + 20000000; !job_over(&second);) {
        assert_true(ty_mono_us() < end);
        fake_turn(&j.fake, 5);
    }
    assert_true(WIFEXITED(second.status) && WEXITSTATUS(second.status) == 3);
    assert_false(job_over(&j));
    job_done(&j);
}
#endif

static void test_data(void **state)
{
    struct job j;

    (void)state;
    job_make(
        &j,
        "cat \"$AZUREML_DATAREFERENCE_in/x.txt\"; cat here/x.txt; echo made > \"$AZUREML_DATAREFERENCE_out/made.txt\"",
        NULL);
    CLEANUP_FREE char *in = ty_path_join(j.home, "store/in"), *x = ty_path_join(in, "x.txt");
    CLEANUP_FREE char *out = ty_path_join(j.home, "store/out"),
                      *made = ty_path_join(out, "made.txt"), *text = NULL;
    size_t n;
    assert_int_equal(ty_mkdir_p(in, 0700), 0);
    assert_int_equal(ty_write_file(x, "data\n", 5, 0600), 0);
    json_object_set_new(job_spec(&j), "data_references",
                        json_pack("{s:{s:s, s:s}, s:{s:s, s:s, s:s, s:s}, s:{s:s, s:s, s:s}}", "in",
                                  "datastore", "d", "path", "in", "copy", "datastore", "d", "path",
                                  "in", "mode", "download", "path_on_compute", "here", "out",
                                  "datastore", "d", "path", "out", "mode", "upload"));
    json_object_set_new(j.json, "data_dirs", json_pack("[s, s, s]", in, in, out));
    job_run(&j);
    assert_log(&j, "data\ndata\n");
    assert_int_equal(ty_read_file(made, 64, &text, &n), 0);
    assert_string_equal(text, "made\n");
    job_done(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_normal, job_clean),
        cmocka_unit_test_teardown(test_warnings_head_the_log, job_clean),
        cmocka_unit_test_teardown(test_failing, job_clean),
        cmocka_unit_test_teardown(test_killed_by_a_signal, job_clean),
        cmocka_unit_test_teardown(test_what_cannot_start, job_clean),
        cmocka_unit_test_teardown(test_leftovers_end_with_the_script, job_clean),
        cmocka_unit_test_teardown(test_cancel, job_clean),
        cmocka_unit_test_teardown(test_cancel_is_heard, job_clean),
        cmocka_unit_test_teardown(test_canceled_before_it_began, job_clean),
        cmocka_unit_test_teardown(test_time_limit, job_clean),
        cmocka_unit_test_teardown(test_daemon_away_and_back, job_clean),
        cmocka_unit_test_teardown(test_broken_connections, job_clean),
        cmocka_unit_test_teardown(test_rows, job_clean),
        cmocka_unit_test_teardown(test_log_limit, job_clean),
        cmocka_unit_test_teardown(test_refused, job_clean),
        cmocka_unit_test_teardown(test_runner_killed, job_clean),
        cmocka_unit_test_teardown(test_killed_at_any_moment, job_clean),
        cmocka_unit_test_teardown(test_reboot, job_clean),
        cmocka_unit_test_teardown(test_killed_after_the_end, job_clean),
        cmocka_unit_test_teardown(test_second_runner, job_clean),
        cmocka_unit_test_teardown(test_wrapper_killed, job_clean),
#ifdef TY_FAULTS
        cmocka_unit_test_teardown(test_faults, job_clean),
        cmocka_unit_test_teardown(test_no_locks, job_clean),
#endif
        cmocka_unit_test_teardown(test_data, job_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
