#include "base/cleanup.h"
#include "base/clock.h"
#include "base/proc.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t started(const char *script, const char *const *envp, int out)
{
    const char *argv[] = { "/bin/sh", "-c", script, NULL };
    struct ty_spawn spec = { .argv = argv, .envp = envp, .in = -1, .out = out, .err = -1 };
    pid_t pid;

    assert_int_equal(ty_spawn(&spec, &pid, NULL), 0);
    return pid;
}

/* A pipe whose writers are the processes of a test: `n` bytes say that n of them run, its end that none is left. */
static int watched(const char *script, const char *const *envp, int n)
{
    char seen[16];
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    started(script, envp, fds[1]);
    close(fds[1]);
    assert_int_equal(ty_read_full(fds[0], seen, (size_t)n), n);
    return fds[0];
}

static void assert_ended(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char c;

    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(read(fd, &c, 1), 0);
    close(fd);
}

static void test_identity(void **state)
{
    struct ty_proc_id me, other;
    int status, fd;
    pid_t pid;

    (void)state;
    assert_int_equal(ty_proc_identify(getpid(), &me), 0);
    assert_true(me.pid == getpid() && me.start > 0 && strlen(me.boot) == 36);
    assert_true(ty_proc_alive(&me));
    assert_int_equal(ty_proc_signal(&me, 0), 0);
    other = me;
    other.start++;
    assert_false(ty_proc_alive(&other));
    assert_int_equal(ty_proc_signal(&other, SIGKILL), -ESRCH);
    assert_false(ty_proc_alive(&(struct ty_proc_id){ 0 }));
    assert_int_equal(ty_proc_identify(0, &other), -ESRCH);
    assert_int_equal(ty_proc_open(&(struct ty_proc_id){ .pid = 0 }), -ESRCH);

    pid = started("read x < /dev/null; exec sleep 1000", NULL, -1);
    assert_int_equal(ty_proc_identify(pid, &other), 0);
    fd = ty_proc_open(&other);
    assert_true(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    assert_int_equal(ty_proc_signal(&other, SIGKILL), 0);
    assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
    close(fd);
    assert_false(ty_proc_alive(&other)); /* a zombie still */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(ty_proc_open(&other), -ESRCH);
}

static void test_reboot(void **state)
{
    struct ty_proc_id me;

    (void)state;
    assert_int_equal(ty_proc_identify(getpid(), &me), 0);
    setenv("TRAINYARD_TEST_BOOT_ID", "another-boot", 1);
    assert_false(ty_proc_alive(&me));
    assert_int_equal(ty_proc_signal(&me, SIGKILL), -ESRCH);
    assert_int_equal(ty_proc_identify(getpid(), &me), 0);
    assert_string_equal(me.boot, "another-boot");
    assert_true(ty_proc_alive(&me));
    unsetenv("TRAINYARD_TEST_BOOT_ID");
}

struct reaped {
    int n, killed;
};

static void count(pid_t pid, int status, void *ctx)
{
    struct reaped *r = ctx;

    assert_true(pid > 0);
    r->n++;
    r->killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Children, grandchildren, an orphan, one with a session of its own, and one that ignores what it can. */
static void test_tree(void **state)
{
    struct reaped r = { 0 };
    int fd, ignores;

    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    fd = watched(
        "(sh -c 'trap \"\" TERM HUP INT; echo -n x; while :; do sleep 1000; done' &) ; setsid sh -c 'echo -n x; "
        "sleep 1000; :' & echo -n x; wait",
        NULL, 3);
    assert_true(ty_tree_signal(0) >= 3);
    ignores = ty_tree_signal(SIGTERM);
    assert_true(ignores >= 3);
    assert_int_equal(ty_tree_kill(10000, count, &r), 0);
    assert_ended(fd);
    assert_true(r.n >= 3 && r.killed >= 1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(ty_tree_kill(0, NULL, NULL), 0);
    assert_int_equal(ty_tree_signal(SIGKILL), 0);
}

/* What is stopped hears it as well. */
static void test_stopped_tree(void **state)
{
    int status, fd = watched("trap 'exit 7' TERM; echo -n x; kill -STOP $$; exit 1", NULL, 1);
    pid_t pid;

    (void)state;
    pid = waitpid(-1, &status, WUNTRACED);
    assert_true(pid > 0 && WIFSTOPPED(status));
    assert_true(ty_tree_signal(SIGTERM) >= 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_ended(fd);
}

/* A tree that keeps forking new children while it is being killed. */
static void test_forking_tree(void **state)
{
    int fd = watched(
        "i=0; while [ $i -lt 500 ]; do (sleep 1000) & i=$((i+1)); [ $i = 3 ] && echo -n x; done; wait",
        NULL, 1);

    (void)state;
    assert_int_equal(ty_tree_kill(20000, NULL, NULL), 0);
    assert_ended(fd);
}

/* A child that serves the others outlives the end of the tree, and is none of it; its own children are. */
static void test_tree_spares(void **state)
{
    static const char *const argv[] = { "/bin/sleep", "1000", NULL };
    struct ty_spawn spec = { .argv = argv, .in = -1, .out = -1, .err = -1 };
    struct ty_proc_id id;
    int fd, status;
    pid_t pid;

    (void)state;
    assert_int_equal(ty_spawn(&spec, &pid, NULL), 0);
    assert_int_equal(ty_proc_identify(pid, &id), 0);
    assert_int_equal(ty_tree_spare(pid), 0);
    fd = watched("echo -n x; exec sleep 1000", NULL, 1);
    assert_int_equal(ty_tree_kill(10000, NULL, NULL), 0);
    assert_ended(fd);
    assert_true(ty_proc_alive(&id));
    assert_int_equal(ty_tree_signal(SIGKILL), 0);
    assert_true(ty_proc_alive(&id));
    ty_tree_spare_none();
    assert_int_equal(ty_tree_signal(SIGKILL), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < TY_TREE_SPARED_MAX; i++)
        assert_int_equal(ty_tree_spare(1), 0);
    assert_int_equal(ty_tree_spare(1), -ENOSPC);
    ty_tree_spare_none();
}
static void test_tree_timeout(void **state)
{
    int fd = watched("echo -n x; exec sleep 1000", NULL, 1);

    (void)state;
    assert_int_equal(ty_tree_kill(0, NULL, NULL), -ETIMEDOUT);
    assert_int_equal(ty_tree_kill(10000, NULL, NULL), 0);
    assert_ended(fd);
}

static void test_marked(void **state)
{
    CLEANUP_FREE char *mine = ty_strf("TY_MARK=%d-%lld", (int)getpid(), (long long)ty_mono_us());
    CLEANUP_FREE char *longer = ty_strf("%s0", mine);
    const char *marked[] = { "PATH=/usr/bin:/bin", mine, NULL },
               *similar[] = { "PATH=/usr/bin:/bin", longer, NULL };
    int fd = watched("setsid sh -c 'echo -n x; sleep 1000; :' & echo -n x; wait", marked, 2);
    int other = watched("echo -n x; exec sleep 1000", similar, 1);

    (void)state;
    for (int i = 0; ty_marked_count("TY_MARK", longer + strlen("TY_MARK="), "sleep") != 1; i++) {
        assert_true(i < 5000); /* it has yet to become that */
        usleep(1000);
    }
    assert_int_equal(ty_marked_count("TY_MARK", longer + strlen("TY_MARK="), "sh"), 0);
    assert_true(ty_marked_count("TY_MARK", mine + strlen("TY_MARK="), "sh") >= 2);
    assert_true(ty_marked_kill("TY_MARK", mine + strlen("TY_MARK=")) >= 2);
    assert_ended(fd);
    assert_int_equal(poll(&(struct pollfd){ .fd = other, .events = POLLIN }, 1, 0), 0);
    assert_int_equal(ty_marked_kill("TY_MARK", longer + strlen("TY_MARK=")), 1);
    assert_ended(other);
    assert_int_equal(ty_marked_kill("TY_MARK", mine + strlen("TY_MARK=")), 0);
    assert_int_equal(ty_tree_kill(10000, NULL, NULL), 0);
}

static void test_status_text(void **state)
{
    char buf[64];

    (void)state;
    assert_string_equal(ty_status_text(3 << 8, buf), "exited with code 3");
    assert_string_equal(ty_status_text(9, buf), "was killed by signal 9 (Killed)");
    assert_string_equal(ty_status_text(11 | 0x80, buf),
                        "was killed by signal 11 (Segmentation fault)");
    assert_string_equal(ty_status_text(40, buf), "was killed by signal 40");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),     cmocka_unit_test(test_reboot),
        cmocka_unit_test(test_tree),         cmocka_unit_test(test_stopped_tree),
        cmocka_unit_test(test_forking_tree), cmocka_unit_test(test_tree_spares),
        cmocka_unit_test(test_tree_timeout), cmocka_unit_test(test_marked),
        cmocka_unit_test(test_status_text),
    };

    return cmocka_run_group_tests_name("proc", tests, NULL, NULL);
}
