/* test_local.c - starting, taking up, watching and ending runners on this box
 *
 * The runner is a shell script: what counts here is the process, not what it does.
 */
#include "base/error.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "target/local.h"
#include "tests.h"
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define WAIT_MS 20000
#define NOT_YET 12345

struct watch {
    uv_loop_t loop;
    uv_timer_t bound;
    struct ty_job *job;
    char *agent, *dir;
    int code, calls;
    bool late;
};

static void on_ended(void *ctx, int code)
{
    struct watch *w = ctx;

    w->code = code;
    w->calls++;
}

static void on_late(uv_timer_t *t)
{
    ((struct watch *)t->data)->late = true;
}

static int set_up(void **state)
{
    struct watch *w = calloc(1, sizeof *w);

    if (tests_enter(state) < 0)
        return -1;
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->bound);
    w->bound.data = w;
    w->code = NOT_YET;
    w->agent = ty_path_join(tests_folder, "agent");
    w->dir = ty_path_join(tests_folder, "job");
    assert_int_equal(mkdir(w->dir, 0700), 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct watch *w = *state;

    w->job = ty_target_local.free(w->job);
    uv_close((uv_handle_t *)&w->bound, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w->agent);
    free(w->dir);
    free(w);
    return tests_leave(state);
}

static void write_agent(struct watch *w, const char *body)
{
    CLEANUP_FREE char *text = ty_strf("#!/bin/sh\n%s\n", body);

    assert_int_equal(ty_write_file(w->agent, text, strlen(text), 0755), 0);
}

static int start(struct watch *w, struct ty_error *err)
{
    struct ty_job_start how = {
        .loop = &w->loop, .agent = w->agent, .job_dir = w->dir, .ended = on_ended, .ctx = w
    };

    return ty_target_local.start(&how, &w->job, err);
}

static void start_well(struct watch *w)
{
    struct ty_error err = { 0 };

    if (start(w, &err) < 0)
        fail_msg("%s", err.text);
}

static void until_ended(struct watch *w)
{
    w->late = false;
    uv_timer_start(&w->bound, on_late, WAIT_MS, 0);
    while (w->code == NOT_YET && !w->late)
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_timer_stop(&w->bound);
    assert_false(w->late);
    assert_int_equal(w->calls, 1);
}

/* Until the agent has written that file. */
static char *read_when_there(const char *path)
{
    char *text = NULL;
    size_t n = 0;

    for (int i = 0; i < WAIT_MS / 5 && (!text || n == 0); i++) {
        free(text);
        text = NULL;
        usleep(5000);
        ty_read_file(path, 1000, &text, &n);
    }
    assert_non_null(text);
    return text;
}

static void test_exit_code(void **state)
{
    struct watch *w = *state;
    CLEANUP_FREE char *args = NULL, *want = ty_strf("runner %s\n", w->dir);

    write_agent(w, "echo \"$@\" > \"$2/args\"; exit 7");
    start_well(w);
    until_ended(w);
    assert_int_equal(w->code, 7);
    args = read_when_there("job/args");
    assert_string_equal(args, want);
}

/* A session of its own, and nothing of our environment: it lives on without us. */
static void test_what_a_runner_inherits(void **state)
{
    struct watch *w = *state;
    CLEANUP_FREE char *text = NULL;

    setenv("SECRET", "of the daemon", 1);
    write_agent(
        w,
        "{ cut -d' ' -f6 /proc/$$/stat; echo $$; env; ls /proc/self/fd | wc -l; } > \"$2/saw\"; mv \"$2/saw\" \"$2/done\"");
    start_well(w);
    until_ended(w);
    text = read_when_there("job/done");
    unsetenv("SECRET");
    int sid, pid;
    assert_int_equal(sscanf(text, "%d %d", &sid, &pid), 2);
    assert_int_equal(sid, pid);
    assert_null(strstr(text, "SECRET"));
    assert_non_null(strstr(text, "PATH=/usr/local/bin:/usr/bin:/bin"));
}

static void test_cancel_and_kill(void **state)
{
    struct watch *w = *state;
    CLEANUP_FREE char *ready = NULL;

    write_agent(w, "trap 'exit 5' TERM; echo > \"$2/ready\"; while :; do sleep 0.02; done");
    start_well(w);
    ready = read_when_there("job/ready");
    ty_target_local.cancel(w->job);
    until_ended(w);
    assert_int_equal(w->code, 5);
    ty_target_local.cancel(w->job); /* nobody is there any more: nothing happens */
    ty_target_local.kill(w->job);

    w->job = ty_target_local.free(w->job);
    w->code = NOT_YET;
    w->calls = 0;
    write_agent(w, "while :; do sleep 1; done");
    start_well(w);
    ty_target_local.kill(w->job);
    until_ended(w);
    assert_int_equal(w->code, -1);
}

/* A runner of an earlier daemon is watched, not started again. */
static void test_taking_up(void **state)
{
    struct watch *w = *state;
    CLEANUP_FREE char *id = NULL;
    struct ty_proc_id who;
    pid_t pid = fork();

    if (pid == 0) {
        execl("/bin/sleep", "sleep", "100", (char *)NULL);
        _exit(1);
    }
    assert_int_equal(ty_proc_identify(pid, &who), 0);
    id = ty_strf("%s %d %llu\n", who.boot, (int)who.pid, (unsigned long long)who.start);
    tests_put("job/runner.id", id);
    write_agent(w, "echo > \"$2/started\"");
    start_well(w);
    ty_target_local.kill(w->job);
    until_ended(w);
    assert_int_equal(
        w->code, -1); /* its code cannot be had: it is not our child, as far as the target knows */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(access("job/started", F_OK), -1);
}

/* The word of a runner that is dead, or of another boot, counts for nothing. */
static void test_a_runner_that_is_no_more(void **state)
{
    struct watch *w = *state;
    CLEANUP_FREE char *id = NULL;
    struct ty_proc_id self;

    assert_int_equal(ty_proc_identify(getpid(), &self), 0);
    id = ty_strf("00000000-1111-2222-3333-444444444444 %d %llu\n", (int)self.pid,
                 (unsigned long long)self.start);
    tests_put("job/runner.id", id);
    write_agent(w, "exit 3");
    start_well(w);
    until_ended(w);
    assert_int_equal(w->code, 3);
}

static void test_no_agent(void **state)
{
    struct watch *w = *state;
    struct ty_error err = { 0 };

    assert_int_equal(start(w, &err), -ENOENT);
    assert_non_null(strstr(err.text, w->agent));
    assert_null(w->job);
}

/* After free nobody is told, and the runner goes on. */
static void test_no_longer_watched(void **state)
{
    struct watch *w = *state;
    CLEANUP_FREE char *text = NULL;
    int pid = 0;

    write_agent(w, "echo $$ > \"$2/tmp\"; mv \"$2/tmp\" \"$2/pid\"; exec sleep 100");
    start_well(w);
    text = read_when_there("job/pid");
    assert_int_equal(sscanf(text, "%d", &pid), 1);
    w->job = ty_target_local.free(w->job);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(kill(pid, 0), 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->calls, 0);
}

static void test_gpus(void **state)
{
    CLEANUP_JSON json_t *loose = json_pack("{s:s}", "kind", "local"),
                        *strict = json_pack("{s:s s:b}", "kind", "local", "require_gpu", 1);
    struct ty_target_spec *any = NULL, *needs = NULL;
    struct ty_run_spec run = { .target = "box", .use_gpu = true, .cpus = 1 };
    CLEANUP_STR struct ty_str warning = { 0 };
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_target_spec_parse(loose, &any, &err), 0);
    assert_int_equal(ty_target_spec_parse(strict, &needs, &err), 0);
    assert_int_equal(ty_target_local.check(any, &run, &warning, &err), 0);
    if (ty_target_gpus() == 0) {
        assert_non_null(strstr(warning.text, "target 'box' has no GPU: the run uses the CPU"));
        assert_int_equal(ty_target_local.check(needs, &run, &warning, &err), -EINVAL);
        assert_non_null(strstr(err.text, "require_gpu"));
    } else {
        assert_int_equal(warning.len, 0);
    }
    run.use_gpu = false;
    assert_int_equal(ty_target_local.check(needs, &run, &warning, &err), 0);
    ty_target_spec_free(any);
    ty_target_spec_free(needs);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(test_exit_code),
                                        T(test_what_a_runner_inherits),
                                        T(test_cancel_and_kill),
                                        T(test_taking_up),
                                        T(test_a_runner_that_is_no_more),
                                        T(test_no_agent),
                                        T(test_no_longer_watched),
                                        T(test_gpus) };

    return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
