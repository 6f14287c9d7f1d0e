/* test_cmd_exec.c - exec: whose environment and folder the command gets, and when it is refused
 *
 * The job's program is a child of the test that waits.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include "cli/cli.h"
#include "fake.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "first_1780000000_0a1b2c3d"
#define RUN(state) "{\"id\": \"" ID "\", \"state\": \"" state "\"}"

static char dir[64];
static pid_t job;
static int input; /* of the job: at its end the job ends */
static struct fake *f;
#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

/* A program that waits for its end, with this environment and `dir` as its folder.  It has said
 * something: before, a new program's environment may be seen empty. */
static pid_t start(char *const env[])
{
    char *argv[] = { (char *)"cat", NULL };
    int in[2], out[2];
    char byte = 'x';
    pid_t pid;

    assert_int_equal(pipe2(in, O_CLOEXEC) + pipe2(out, O_CLOEXEC), 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        if (chdir(dir) == 0 && dup2(in[0], 0) == 0 && dup2(out[1], 1) == 1)
            execve("/bin/cat", argv, env);
        _exit(127);
    }
    assert_true(pid > 0);
    close(in[0]);
    close(out[1]);
    assert_int_equal(write(in[1], &byte, 1), 1);
    assert_int_equal(read(out[0], &byte, 1), 1);
    close(out[0]);
    input = in[1];
    return pid;
}

static void stop(pid_t pid)
{
    close(input);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-exec.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return ty_rm_rf(dir);
}

/* A daemon that knows one run, whose second attempt has this pid. */
static void serve(const char *run, pid_t pid)
{
    CLEANUP_FREE char *events =
        ty_strf("{\"events\": [{\"seq\": 1, \"kind\": \"started\", \"data\": {\"pid\": 1}}, "
                "{\"seq\": 2, \"kind\": \"requeued\", \"data\": {}}, "
                "{\"seq\": 3, \"kind\": \"started\", \"data\": {\"pid\": %d}}]}",
                (int)pid);
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" ID " ", .raw = fake_json(run) },
        { .match = "GET /api/v1/runs/" ID "/events?after=0&limit=1000 ",
          .raw = pid ? fake_json(events) : fake_json("{\"events\": []}") },
        { 0 }
    };

    f = fake_start(answers);
}

/* In a process of its own, which becomes the command: its wait status, and what it printed. */
static int exec_in_child(const char *const *words, char **out)
{
    char *argv[20] = { (char *)"trainyard", (char *)"--home", (char *)fake_home(f), (char *)"exec",
                       (char *)ID };
    int status, n = 5;
    char name[] = "/tmp/ty-exec-out.XXXXXX";
    CLEANUP_CLOSE int fd = mkstemp(name);
    pid_t pid;

    while (*words)
        argv[n++] = (char *)*words++;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        if (dup2(fd, 1) < 0)
            _exit(126);
        _exit(ty_cli_main(n, argv));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(ty_read_file(name, 1 << 20, out, NULL), 0);
    unlink(name);
    return status;
}
#define EXEC(out, ...) exec_in_child((const char *const[]){ __VA_ARGS__, NULL }, out)

static void test_runs_beside(void **state)
{
    char *env[] = { (char *)"PATH=/usr/bin:/bin",
                    (char *)"TRAINYARD_RUN_ID=" ID,
                    (char *)"TRAINYARD_JOB=/jobs/" ID,
                    (char *)"TRAINYARD_JOB_OF_MINE=kept",
                    (char *)"EMPTY=",
                    (char *)"TRAINYARD_SPOOL_DIR=/jobs/spool",
                    NULL };
    CLEANUP_FREE char *pwd = ty_strf("%s\n", dir), *out = NULL;
    int status;

    (void)state;
    setenv("OF_THE_SHELL", "leak", 1);
    job = start(env);
    serve(RUN("Running"), job);
    status = EXEC(&out, "--", "env");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_string_equal(out, "PATH=/usr/bin:/bin\nTRAINYARD_RUN_ID=" ID
                             "\nTRAINYARD_JOB_OF_MINE=kept\nEMPTY=\n");
    free(TAKE(out));
    status = EXEC(&out, "--", "pwd", "-P");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_string_equal(out, pwd);
    free(TAKE(out));
    status = EXEC(&out, "sh", "-c", "exit 42"); /* "--" may be left out */
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    free(TAKE(out));
    status = EXEC(&out, "--", "sh", "-c", "kill -TERM $$");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    free(TAKE(out));
    status = EXEC(&out, "--", "no-such-program-here");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 125);
    unsetenv("OF_THE_SHELL");
    fake_stop(f);
    stop(job);
}

static void refuses(struct captured c, const char *part)
{
    assert_int_equal(c.code, 125);
    assert_string_equal(c.out, "");
    if (!strstr(c.err, part))
        fail_msg("'%s' should say '%s'", c.err, part);
    captured_done(&c);
}

static void test_states(void **state)
{
    static const char *const others[] = { "Queued", "NotResponding", "CancelRequested",
                                          "Completed" };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof others / sizeof *others; i++) {
        CLEANUP_FREE char *run = ty_strf("{\"id\": \"" ID "\", \"state\": \"%s\"}", others[i]);
        CLEANUP_FREE char *part =
            ty_strf("in run '" ID "': it is %s, and only a Running one", others[i]);

        serve(run, getpid());
        refuses(TRY("exec", ID, "--", "true"), part);
        assert_int_equal(fake_count(f), 1);
        fake_stop(f);
    }
}

/* A pid alone is no identity: what does not carry the run's id is not its program. */
static void test_another_process(void **state)
{
    char *env[] = { (char *)"TRAINYARD_RUN_ID=" ID "x", (char *)"X=TRAINYARD_RUN_ID=" ID, NULL };
    CLEANUP_FREE char *part = NULL;

    (void)state;
    job = start(env);
    part = ty_strf("process %d does not carry TRAINYARD_RUN_ID=" ID "; the run's program has just "
                   "ended,",
                   (int)job);
    serve(RUN("Running"), job);
    refuses(TRY("exec", ID, "--", "true"), part);
    stop(job);
    refuses(TRY("exec", ID, "--", "true"), "is not on this machine, or has just ended");
    fake_stop(f);
    serve(RUN("Running"), 0);
    refuses(TRY("exec", ID, "--", "true"), "its event log names no process");
    fake_stop(f);
}

static void test_words(void **state)
{
    (void)state;
    serve(RUN("Running"), getpid());
    refuses(TRY("exec", ID), "'exec' needs RUN -- COMMAND");
    refuses(TRY("exec", ID, "--"), "'exec' needs a command after RUN --");
    refuses(TRY("exec", ID, "--json", "true"), "options such as '--json' come before RUN");
    assert_int_equal(fake_count(f), 0);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_beside),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_another_process),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
