#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/proc.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Run sh -c `script` with its output in a file, and give the output back; the exit code must be 0. */
static char *output_of(const char *script, struct ty_spawn spec)
{
    const char *argv[] = { "/bin/sh", "-c", script, NULL };
    CLEANUP_CLOSE int out = open("out", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct ty_error err = { 0 };
    char *text = NULL;
    int status;
    pid_t pid;

    spec.argv = argv;
    spec.in = -1;
    spec.out = out;
    spec.err = out;
    if (ty_spawn(&spec, &pid, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(ty_read_file("out", 100000, &text, NULL), 0);
    if (status != 0)
        fail_msg("status %d: %s", status, text);
    return text;
}

static void test_environment_and_folder(void **state)
{
    const char *envp[] = { "GIVEN=yes", NULL };
    CLEANUP_FREE char *got = NULL;

    (void)state;
    setenv("LEAK", "1", 1);
    got =
        output_of("pwd; echo \"$GIVEN$LEAK\"; cat", (struct ty_spawn){ .envp = envp, .cwd = "/" });
    assert_string_equal(got, "/\nyes\n");
}

/* Only 0, 1, 2 and what is kept is open, whatever this process has open and however it is numbered. */
static void test_descriptors(void **state)
{
    int leaked = fcntl(1, F_DUPFD, 20), kept = fcntl(1, F_DUPFD_CLOEXEC, 30);
    CLEANUP_FREE char *got = NULL;

    (void)state;
    got = output_of(
        "for f in /proc/$$/fd/*; do n=${f##*/}; [ $n -lt 10 ] || [ $n -gt 19 ] && echo -n \"$n \"; done; exit 0",
        (struct ty_spawn){ .keep = { kept }, .nkeep = 1 });
    close(leaked);
    close(kept);
    assert_non_null(strstr(got, "0 1 2 "));
    assert_non_null(strstr(got, " 30 "));
    assert_null(strstr(got, " 20 "));
    assert_null(strstr(got, " 64 "));
}

static void test_signals_and_session(void **state)
{
    CLEANUP_FREE char *got = NULL;
    unsigned long long blocked = 1, ignored = 1;
    sigset_t some, before;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, &before);
    got = output_of(
        "grep -E '^Sig(Blk|Ign)' /proc/self/status; read p x x x pgrp sid rest < /proc/$$/stat; "
        "[ $sid = $$ ] && echo leads",
        (struct ty_spawn){ 0 });
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    assert_int_equal(sscanf(got, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
    assert_true(blocked == 0);
    assert_true((ignored & ~(3ull << 31)) ==
                0); /* 32 and 33 are glibc's own: it lets nobody touch them */
    assert_non_null(strstr(got, "\nleads\n"));
}

static int start(const char *path, const char *cwd, struct ty_error *err)
{
    const char *argv[] = { path, NULL };
    struct ty_spawn spec = { .argv = argv, .cwd = cwd, .in = -1, .out = -1, .err = -1 };
    pid_t pid = 0;
    int r = ty_spawn(&spec, &pid, err);

    assert_true(r < 0 ? pid == 0 : waitpid(pid, NULL, 0) == pid);
    return r;
}

static void test_failures_are_told(void **state)
{
    struct ty_error err = { 0 };
    char script[128];

    (void)state;
    assert_int_equal(start("/no/such/program", NULL, &err), -ENOENT);
    assert_string_equal(err.text, "cannot start '/no/such/program': No such file or directory");
    assert_int_equal(start("/bin/true", "/no/such/folder", &err), -ENOENT);
    assert_non_null(strstr(err.text, "in the folder '/no/such/folder'"));
    assert_int_equal(start("/", NULL, &err), -EACCES);
    snprintf(script, sizeof script, "%s/script", tests_folder);
    tests_put(script, "#!/no/such/interpreter\n");
    assert_int_equal(chmod(script, 0755), 0);
    assert_int_equal(start(script, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "interpreter"));
    tests_put(script, "echo no first line\n");
    assert_int_equal(chmod(script, 0755), 0);
    assert_int_equal(start(script, NULL, &err), -ENOEXEC);
    assert_non_null(strstr(err.text, "#!"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    assert_int_equal(errno, ECHILD);
}

#ifdef TY_FAULTS
static void test_faults(void **state)
{
    static const char *const points[] = { "proc.pipe", "proc.fork" };

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct ty_error err = { 0 };

        ty_fault_arm(points[i], 1, ENOMEM);
        assert_int_equal(start("/bin/true", NULL, &err), -ENOMEM);
        assert_non_null(strstr(err.text, "cannot start '/bin/true'"));
    }
    ty_fault_arm(NULL, 0, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment_and_folder),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_signals_and_session),
        cmocka_unit_test(test_failures_are_told),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults),
#endif
    };

    return cmocka_run_group_tests_name("spawn", tests, tests_enter, tests_leave);
}
