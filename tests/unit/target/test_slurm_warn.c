/* test_slurm_warn.c - who is warned: processes of jobs below this one, and only those that catch the signal */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "target/slurm_warn.h"
#include "tests.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static pid_t start(const char *script, const char *spool, int out)
{
    CLEANUP_FREE char *mark = ty_strf("TRAINYARD_SPOOL_DIR=%s", spool);
    const char *argv[] = { "/bin/sh", "-c", script, NULL },
               *envp[] = { "PATH=/usr/bin:/bin", mark, NULL };
    struct ty_spawn s = { .argv = argv, .envp = envp, .in = -1, .out = out, .err = -1 };
    pid_t pid = 0;

    assert_int_equal(ty_spawn(&s, &pid, NULL), 0);
    return pid;
}

static void test_warn(void **state)
{
    char dir[] = "/tmp/ty-warn.XXXXXX", buf[64] = "";
    CLEANUP_FREE char *path = NULL, *text = NULL;
    int fds[2], status;
    pid_t catches, dies;

    (void)state;
    assert_non_null(mkdtemp(dir));
    path = ty_path_join(dir, TY_WARNING_FILE);
    assert_int_equal(pipe(fds), 0);
    catches = start(
        "trap 'cat \"$TRAINYARD_SPOOL_DIR/warning\"; exit 5' USR1; echo ready; while :; do sleep 0.05; done",
        dir, fds[1]);
    dies = start("echo ready; exec sleep 100", dir, fds[1]);
    for (size_t n = 0; n < 12;) { /* both are */
        ssize_t got = read(fds[0], buf + n, sizeof buf - 1 - n);

        assert_true(got > 0);
        n += (size_t)got;
    }
    assert_int_equal(ty_slurm_warn("soon\n"), 1);
    assert_int_equal(ty_read_file(path, 100, &text, NULL), 0);
    assert_string_equal(text, "soon\n");
    assert_int_equal(waitpid(catches, &status, 0), catches);
    assert_int_equal(WEXITSTATUS(status), 5);
    assert_int_equal(waitpid(dies, &status, WNOHANG), 0); /* it would have, and lives */
    kill(dies, SIGKILL);
    waitpid(dies, NULL, 0);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(ty_rm_rf(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_warn) };

    return cmocka_run_group_tests_name("slurm_warn", tests, NULL, NULL);
}
