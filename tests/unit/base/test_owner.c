/* test_owner.c - acting as a user */
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/proc.h"
#include "tests.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define USER "nobody" /* every Debian machine has it */

static void test_find(void **state)
{
    struct ty_error err = { 0 };
    struct ty_owner *o = NULL;

    (void)state;
    assert_int_equal(ty_owner_find("root", &o, &err), 0);
    assert_int_equal(o->uid, 0);
    assert_string_equal(o->name, "root");
    assert_true(o->home[0] == '/' && o->ngroups >= 1);
    o = ty_owner_free(o);
    assert_int_equal(ty_owner_find("0", &o, &err), 0);
    assert_string_equal(o->name, "root");
    o = ty_owner_free(o);
    assert_int_equal(ty_owner_find("no such user", &o, &err), -ENOENT);
    assert_int_equal(ty_owner_find("3999999999", &o, &err), -ENOENT);
    assert_non_null(strstr(err.text, "no user '3999999999'"));
    assert_null(o);
}

static void test_nobody_to_be(void **state)
{
    (void)state;
    ty_owner_enter(NULL);
    ty_owner_leave(NULL);
    assert_int_equal(ty_owner_become(NULL), 0);
    assert_null(ty_owner_free(NULL));
}

static void *other_thread(void *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0 ? path : NULL;
}

static void test_enter(void **state)
{
    char path[] = "/tmp/ty-owner.XXXXXX";
    int fd = mkstemp(path), signal_at_death = 0;
    struct ty_owner *o = NULL;
    struct ty_error err;
    pthread_t thread;
    void *reads = NULL;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    if (geteuid() != 0) {
        unlink(path);
        skip();
    }
    assert_int_equal(ty_owner_find(USER, &o, &err), 0);
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    ty_owner_enter(o);
    assert_int_equal(open(path, O_RDONLY | O_CLOEXEC), -1);
    assert_int_equal(errno, EACCES);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, path), 0);
    pthread_join(thread, &reads); /* a new thread has its maker's eyes */
    assert_null(reads);
    prctl(PR_GET_PDEATHSIG, &signal_at_death);
    assert_int_equal(signal_at_death, SIGUSR1);
    ty_owner_leave(o);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    close(fd);
    prctl(PR_GET_PDEATHSIG, &signal_at_death);
    assert_int_equal(signal_at_death, SIGUSR1);
    prctl(PR_SET_PDEATHSIG, 0);
    assert_int_equal(geteuid(), 0);
    unlink(path);
    ty_owner_free(o);
}

struct waiting {
    pthread_barrier_t both;
    const char *path;
    bool reads;
};

static void *waits(void *ctx)
{
    struct waiting *w = ctx;

    pthread_barrier_wait(&w->both); /* begun before, asks meanwhile */
    pthread_barrier_wait(&w->both);
    w->reads = other_thread((void *)w->path) != NULL;
    return NULL;
}

static void test_only_one_thread(void **state)
{
    char path[] = "/tmp/ty-owner.XXXXXX";
    int fd = mkstemp(path);
    struct waiting w = { .path = path };
    struct ty_owner *o = NULL;
    struct ty_error err;
    pthread_t thread;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    if (geteuid() != 0) {
        unlink(path);
        skip();
    }
    assert_int_equal(ty_owner_find(USER, &o, &err), 0);
    pthread_barrier_init(&w.both, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, waits, &w), 0);
    pthread_barrier_wait(&w.both);
    ty_owner_enter(o);
    pthread_barrier_wait(&w.both);
    pthread_join(thread, NULL);
    ty_owner_leave(o);
    assert_true(w.reads);
    pthread_barrier_destroy(&w.both);
    unlink(path);
    ty_owner_free(o);
}

static void test_check(void **state)
{
    (void)state;
    assert_int_equal(ty_owner_check(), geteuid() == 0 ? 0 : -EPERM);
}

static void test_closed_folder(void **state)
{
    char path[] = "/tmp/ty-owner.XXXXXX";
    struct ty_owner *o = NULL;
    struct ty_error err;

    (void)state;
    assert_non_null(mkdtemp(path)); /* with mode 0700 */
    if (geteuid() != 0) {
        rmdir(path);
        skip();
    }
    assert_int_equal(ty_fs_can_enter(AT_FDCWD, path), 0);
    assert_int_equal(ty_owner_find(USER, &o, &err), 0);
    ty_owner_enter(o);
    assert_int_equal(ty_fs_can_enter(AT_FDCWD, path), -EACCES);
    ty_owner_leave(o);
    assert_int_equal(chmod(path, 0744), 0); /* can be listed, and not entered */
    ty_owner_enter(o);
    assert_int_equal(ty_fs_can_enter(AT_FDCWD, path), -EACCES);
    ty_owner_leave(o);
    assert_int_equal(chmod(path, 0755), 0);
    ty_owner_enter(o);
    assert_int_equal(ty_fs_can_enter(AT_FDCWD, path), 0);
    ty_owner_leave(o);
    assert_int_equal(ty_fs_can_enter(AT_FDCWD, "/etc/passwd"), -ENOTDIR);
    rmdir(path);
    ty_owner_free(o);
}

static void test_spawn(void **state)
{
    const char *argv[] = { "/bin/sh", "-c", "test $(id -un) = " USER " && ! test -r /etc/shadow",
                           NULL };
    const char *env[] = { "PATH=/usr/bin:/bin", NULL };
    struct ty_spawn s = { .argv = argv, .envp = env, .cwd = "/", .in = -1, .out = -1, .err = -1 };
    struct ty_owner *o = NULL;
    struct ty_error err;
    int status;
    pid_t pid;

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(ty_owner_find(USER, &o, &err), 0);
    s.owner = o;
    assert_int_equal(ty_spawn(&s, &pid, &err), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    ty_owner_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),  cmocka_unit_test(test_nobody_to_be),
        cmocka_unit_test(test_enter), cmocka_unit_test(test_only_one_thread),
        cmocka_unit_test(test_check), cmocka_unit_test(test_closed_folder),
        cmocka_unit_test(test_spawn),
    };

    return cmocka_run_group_tests_name("owner", tests, NULL, NULL);
}
