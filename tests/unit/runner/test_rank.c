/* test_rank.c - the rank wrapper with plans and descriptors that are not as they should be
 *
 * It runs in a child of the test; a wrapper's whole work, started as the runner starts it, is in
 * test_launch.c.
 */
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "runner/launch.h"
#include "runner/rank.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

struct box {
    char dir[64];
    char *log, *made;
    int line;      /* the runner's end; -1: closed */
    pid_t wrapper; /* 0: none */
};

static int set_up(void **state)
{
    static struct box b;

    b = (struct box){ .dir = "/tmp/ty-rank-XXXXXX", .line = -1 };
    assert_non_null(mkdtemp(b.dir));
    b.log = ty_path_join(b.dir, "log");
    b.made = ty_path_join(b.dir, "made");
    assert_int_equal(ty_write_file(b.log, "", 0, 0600), 0);
    *state = &b;
    return 0;
}

static void hang_up(struct box *b)
{
    if (b->line >= 0)
        close(b->line);
    b->line = -1;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    hang_up(b); /* which ends everything */
    if (b->wrapper)
        waitpid(b->wrapper, NULL, 0);
    ty_rm_rf(b->dir);
    free(b->log);
    free(b->made);
    return 0;
}

static int plan_of(const char *text)
{
    int fd = memfd_create("plan", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ty_write_all(fd, text, strlen(text)), 0);
    return fd;
}

/* The wrapper, with `text` as its plan; the line is there, and closed already where `late`. */
static void start_plan(struct box *b, const char *text, bool late)
{
    int plan = plan_of(text), fds[2];
    char line_arg[16], plan_arg[16];
    char *argv[] = { (char *)"agent", (char *)"rank", line_arg, plan_arg, NULL };

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    snprintf(line_arg, sizeof line_arg, "%d", fds[1]);
    snprintf(plan_arg, sizeof plan_arg, "%d", plan);
    b->line = fds[0];
    if (late)
        hang_up(b);
    fflush(NULL);
    b->wrapper = fork();
    assert_true(b->wrapper >= 0);
    if (b->wrapper == 0) {
        hang_up(b);
        _exit(ty_rank_main(4, argv));
    }
    close(fds[1]);
    close(plan);
}

/* `sh -c command`, in the box's folder. */
static void start(struct box *b, const char *command)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:s, s:s, s:i, s:[s, s, s], s:[s, s]}", "work", b->dir, "log", b->log, "oom", 0,
                  "argv", "/bin/sh", "-c", command, "env", "PATH=/usr/bin:/bin", "COLOR=red");
    CLEANUP_FREE char *text = json_dumps(o, 0);

    assert_non_null(text);
    start_plan(b, text, false);
}

static struct ty_report next_report(struct box *b)
{
    struct pollfd p = { .fd = b->line, .events = POLLIN };
    struct ty_rank r = { .pid = b->wrapper, .line = b->line };
    struct ty_report rep;

    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(ty_rank_report(&r, &rep), 0);
    return rep;
}

static pid_t started(struct box *b)
{
    struct ty_report rep = next_report(b);

    assert_int_equal(rep.kind, TY_REPORT_STARTED);
    assert_true(rep.value > 1);
    return rep.value;
}

/* The exit code of the wrapper. */
static int end(struct box *b)
{
    int status;

    assert_int_equal(waitpid(b->wrapper, &status, 0), b->wrapper);
    b->wrapper = 0;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void assert_log(const struct box *b, const char *expected)
{
    CLEANUP_FREE char *text = NULL;

    assert_int_equal(ty_read_file(b->log, 4096, &text, NULL), 0);
    assert_string_equal(text, expected);
}

static void test_killed_program(void **state)
{
    struct box *b = *state;
    struct ty_report rep;

    start(b, "kill -9 $$");
    started(b);
    rep = next_report(b);
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    assert_true(WIFSIGNALED(rep.value) && WTERMSIG(rep.value) == SIGKILL);
    assert_int_equal(end(b), 128 + SIGKILL);
}

/* The program has no input, a session of its own, and nothing open of the wrapper's: neither the
 * line nor the plan.  (A descriptor that opens nowhere is the shell's own, of the folder.) */
static void test_what_it_inherits(void **state)
{
    struct box *b = *state;

    start(b, "cat; for fd in /proc/$$/fd/*; do case $(readlink $fd) in "
             "socket:*|anon_inode:*|*memfd:*) echo $fd;; esac; done; "
             "read -r pid comm state ppid pgrp session rest < /proc/$$/stat; "
             "test $pid = $session && echo own session; echo $COLOR");
    started(b);
    assert_int_equal(next_report(b).kind, TY_REPORT_EXITED);
    assert_int_equal(end(b), 0);
    assert_log(b, "own session\nred\n");
}

/* The runner was killed before there was a program: there is none. */
static void test_abandoned(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *o = json_pack("{s:s, s:s, s:i, s:[s, s], s:[]}", "work", b->dir, "log",
                                       b->log, "oom", 0, "argv", "/usr/bin/touch", b->made, "env");
    CLEANUP_FREE char *text = json_dumps(o, 0);

    start_plan(b, text, true);
    assert_int_equal(end(b), 1);
    assert_int_equal(access(b->made, F_OK), -1);
}

static void fails(struct box *b, const char *plan, int code, const char *why)
{
    struct ty_report rep;

    start_plan(b, plan, false);
    rep = next_report(b);
    assert_int_equal(rep.kind, TY_REPORT_FAILED);
    assert_int_equal(rep.value, code);
    assert_string_equal(rep.text, why);
    assert_int_equal(end(b), 127);
    hang_up(b);
}

static void test_bad_plans(void **state)
{
    static const char unreadable[] = "cannot read the plan of the process";
    struct box *b = *state;
    CLEANUP_FREE char *no_log = ty_strf("{\"work\": \"/\", \"log\": \"%s/no/log\", \"oom\": 0, "
                                        "\"argv\": [\"/bin/true\"], \"env\": []}",
                                        b->dir);
    CLEANUP_FREE char *no_log_why =
        ty_strf("cannot open the log '%s/no/log': No such file or directory", b->dir);
    CLEANUP_FREE char *nothing = ty_strf(
        "{\"work\": \"/\", \"log\": \"%s\", \"oom\": 0, \"argv\": [], \"env\": []}", b->log);
    CLEANUP_FREE char *unknown = ty_strf("{\"work\": \"/\", \"log\": \"%s\", \"oom\": 0, "
                                         "\"argv\": [\"/no/such/program\"], \"env\": []}",
                                         b->log);
    CLEANUP_FREE char *nowhere = ty_strf("{\"work\": \"/no/such/folder\", \"log\": \"%s\", "
                                         "\"oom\": 0, \"argv\": [\"/bin/true\"], \"env\": []}",
                                         b->log);

    fails(b, "", -EIO, unreadable);
    fails(b, "{\"work\": ", -EIO, unreadable);
    fails(b, no_log, -ENOENT, no_log_why);
    fails(b, nothing, -EINVAL, "there is no program to start");
    fails(b, unknown, -ENOENT, "cannot start '/no/such/program': No such file or directory");
    fails(b, nowhere, -ENOENT,
          "cannot start '/bin/true' in the folder '/no/such/folder': No such file or directory");
}

/* Run by hand, or with descriptors that are none. */
static void test_bad_arguments(void **state)
{
    static const char *const bad[][2] = {
        { "0", "1" },
        { "2", "2" },
        { "-1", "999" },
        { "x", "y" },
        { "", "" },
        { "999", "1000" },
        { "99999999999999999999", "999" },
    };
    int err = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(err >= 0 && null >= 0);
    dup2(null, STDERR_FILENO);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *argv[] = { (char *)"agent", (char *)"rank", (char *)bad[i][0], (char *)bad[i][1],
                         NULL };

        assert_int_equal(ty_rank_main(4, argv), 2);
        assert_int_equal(ty_rank_main(2, argv), 2);
        assert_int_equal(ty_rank_main(5, argv), 2);
    }
    assert_int_equal(dup2(err, STDERR_FILENO), STDERR_FILENO);
    close(err);
    close(null);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_killed_program), TEST(test_what_it_inherits),          TEST(test_abandoned),
        TEST(test_bad_plans),      cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
