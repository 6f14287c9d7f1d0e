/* test_build.c - environments are got in a child that is ended, with all it has started, when its runner goes
 *
 * What is got here is what any interpreter has, or cannot be had; real builds are in tests/unit/env and tests/e2e/env.sh.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "core/run_spec.h"
#include "runner/build.h"
#include "runner/child.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_US (20 * 1000 * 1000)

struct box {
    char dir[64];
    json_t *spec;
    struct ty_jobfile job;
    json_t *told; /* array of lines */
    bool failed;
};

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-build-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->job = (struct ty_jobfile){ .dir = b->dir,
                                  .tmp = ty_path_join(b->dir, "tmp"),
                                  .cache = ty_path_join(b->dir, "cache"),
                                  .user = "u",
                                  .user_home = b->dir,
                                  .python_path = getenv("TRAINYARD_PYTHON_PATH") };
    assert_int_equal(ty_mkdir_p(b->job.tmp, 0700), 0);
    b->told = json_array();
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_run_spec_free(b->job.spec);
    json_decref(b->spec);
    json_decref(b->told);
    ty_rm_rf(b->dir);
    free(b->job.tmp);
    free(b->job.cache);
    free(b);
    return 0;
}

static void ask(struct box *b, json_t *environment)
{
    struct ty_error err = { 0 };

    b->spec = json_pack("{s:i, s:s, s:[s, s], s:o}", "version", 1, "experiment", "first", "command",
                        "/usr/bin/python3", "x.py", "environment", environment);
    if (ty_run_spec_parse(b->spec, &b->job.spec, &err) < 0)
        fail_msg("%s", err.text);
}

static void hear(json_t *line, void *ctx)
{
    json_array_append(((struct box *)ctx)->told, line);
}

static int build(int out, void *ctx)
{
    return ty_build(ctx, out, getppid());
}

static void listen_to(struct box *b, struct ty_child *c)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };

    while (poll(&p, 1, 20000) == 1 && ty_child_read(c, hear, b, &b->failed) == 0)
        ;
}

static void run(struct box *b)
{
    struct ty_child c = TY_CHILD_INIT;
    struct ty_error err;

    assert_int_equal(ty_child_start(&c, build, &b->job, &err), 0);
    listen_to(b, &c);
    assert_int_equal(c.pid, 0);
}

static const json_t *told(const struct box *b, const char *kind)
{
    const json_t *o;
    size_t i;

    json_array_foreach (b->told, i, o)
        if (strcmp(json_string_value(json_object_get(o, "kind")), kind) == 0)
            return o;
    return NULL;
}

static void test_what_is_wanted(void **state)
{
    static const struct {
        const char *env;
        bool wanted;
    } cases[] = {
        { "{}", false },
        { "{\"name\": \"a\"}", false },
        { "{\"sandbox\": true}", false },
        { "{\"user_managed\": true}", false },
        { "{\"image\": {\"name\": \"debian\"}, \"pip\": {\"packages\": [\"six\"]}}", true },
        { "{\"image\": {\"name\": \"debian\"}}", false },
        { "{\"torch\": \"\"}", true },
        { "{\"pip\": {\"packages\": [\"six\"]}}", true },
        { "{\"conda\": {\"packages\": [\"six\"]}}", true },
        { "{\"python\": \"3\"}", true },
        { "{\"lock\": {}}", true },
    };
    struct box *b = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask(b, json_loads(cases[i].env, 0, NULL));
        if (ty_build_wanted(&b->job) != cases[i].wanted)
            fail_msg("%s", cases[i].env);
        b->job.spec = ty_run_spec_free(b->job.spec);
        json_decref(b->spec);
        b->spec = NULL;
    }
}

static void test_it_is_there(void **state)
{
    struct box *b = *state;
    const json_t *o;

    ask(b, json_pack("{s:s}", "python", ">=3"));
    run(b);
    assert_false(b->failed);
    o = told(b, "environment");
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "interpreter")), "/usr/bin/python3");
    assert_true(json_is_object(json_object_get(o, "record")));
    assert_null(told(b, "log"));
}

/* Neither an index nor a folder that has it: a sentence, and where the rest stands. */
static void test_it_cannot_be_had(void **state)
{
    struct box *b = *state;
    const char *text;

    ask(b,
        json_pack("{s:{s:[s], s:[s]}}", "pip", "packages", "nosuch-package", "find_links", b->dir));
    json_object_set_new(b->job.spec->environment, "PIP_NO_INDEX", json_string("1"));
    run(b);
    assert_true(b->failed);
    text = json_string_value(json_object_get(told(b, "failed"), "text"));
    assert_non_null(text);
    assert_string_equal(json_string_value(json_object_get(told(b, "failed"), "of")), "environment");
    if (!strstr(text, "nosuch-package") || !strstr(text, "azureml-logs/20_image_build_log.txt"))
        fail_msg("%s", text);
    assert_non_null(told(b, "log"));
    assert_non_null(told(b, "building"));
}

/* ---- ends ---- */

/* A source distribution whose setup.py, which pip starts to learn what it is, writes its pid and stays. */
static char *put_stayer(struct box *b)
{
    CLEANUP_FREE char *src = ty_path_join(b->dir, "slow-1.0"),
                      *setup = ty_path_join(src, "setup.py"),
                      *tar = ty_path_join(b->dir, "slow-1.0.tar.gz"),
                      *text = ty_strf("import os, time\n"
                                      "open('%s/pid.new', 'w').write(str(os.getpid()))\n"
                                      "os.rename('%s/pid.new', '%s/pid')\n"
                                      "time.sleep(1000)\n",
                                      b->dir, b->dir, b->dir);
    const char *argv[] = { "/bin/tar", "czf", tar, "slow-1.0", NULL };
    struct ty_error err;
    pid_t pid;
    int status;

    assert_int_equal(ty_mkdir_p(src, 0700), 0);
    assert_int_equal(ty_write_file(setup, text, strlen(text), 0600), 0);
    assert_int_equal(
        ty_spawn(&(struct ty_spawn){ .argv = argv, .cwd = b->dir, .in = -1, .out = -1, .err = -1 },
                 &pid, &err),
        0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    ask(b, json_pack("{s:{s:[s], s:[s]}}", "pip", "packages", "slow", "find_links", b->dir));
    json_object_set_new(b->job.spec->environment, "PIP_NO_INDEX", json_string("1"));
    return ty_path_join(b->dir, "pid");
}

static pid_t wait_for_pid(const char *path)
{
    for (int64_t end = ty_mono_us() + PATIENCE_US; ty_mono_us() < end; usleep(5000)) {
        CLEANUP_FREE char *text = NULL;

        if (ty_read_file(path, 32, &text, NULL) == 0)
            return (pid_t)strtol(text, NULL, 10);
    }
    fail_msg("nothing was built within 20 s");
    return 0;
}

/* Reaps what falls to this process meanwhile, as a runner does. */
static void assert_gone(pid_t pid)
{
    for (int64_t end = ty_mono_us() + PATIENCE_US; ty_mono_us() < end; usleep(5000)) {
        struct ty_proc_id id;

        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (ty_proc_identify(pid, &id) < 0 || !ty_proc_alive(&id))
            return;
    }
    fail_msg("process %d is still there", (int)pid);
}

/* As a runner cancels: the child is killed, and then what has come to this process, a subreaper. */
static void test_cancel(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *path = put_stayer(b);
    struct ty_child c = TY_CHILD_INIT;
    struct ty_error err;
    pid_t pid;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    assert_int_equal(ty_child_start(&c, build, &b->job, &err), 0);
    pid = wait_for_pid(path);
    ty_child_kill(&c);
    assert_int_equal(ty_tree_kill(5000, NULL, NULL), 0);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    assert_gone(pid);
}

/* The runner is killed: nobody has told the child to end. */
static void test_runner_killed(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *path = put_stayer(b);
    struct ty_child c = TY_CHILD_INIT;
    struct ty_error err;
    pid_t pid, runner;

    runner = fork();
    if (runner == 0) {
        if (ty_child_start(&c, build, &b->job, &err) < 0)
            _exit(1);
        pause();
    }
    assert_true(runner > 0);
    pid = wait_for_pid(path);
    kill(runner, SIGKILL);
    assert_int_equal(waitpid(runner, NULL, 0), runner);
    assert_gone(pid);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_what_is_wanted), T(test_it_is_there),   T(test_it_cannot_be_had),
        T(test_cancel),         T(test_runner_killed),
    };

    return cmocka_run_group_tests_name("build", tests, NULL, NULL);
}
