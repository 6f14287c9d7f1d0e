/* test_start_daemon.c - finding and starting daemons, with shell scripts in the daemon's place */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "client/start_daemon.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <trainyard/client.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-start.XXXXXX");
    unsetenv("TRAINYARD_DAEMON");
    unsetenv("TRAINYARD_HOME");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    unsetenv("TRAINYARD_DAEMON");
    return ty_rm_rf(dir);
}

static char *script(const char *text)
{
    CLEANUP_FREE char *all = ty_strf("#!/bin/sh\n%s\n", text);
    char *path = ty_strf("%s/daemon.sh", dir);

    assert_int_equal(ty_write_file(path, all, strlen(all), 0755), 0);
    return path;
}

static void test_home(void **state)
{
    char *home = NULL;

    (void)state;
    assert_int_equal(ty_client_find_home("/a/b", &home, NULL), 0);
    assert_string_equal(home, "/a/b");
    free(home);
    setenv("TRAINYARD_HOME", "rel", 1);
    assert_int_equal(ty_client_find_home(NULL, &home, NULL), 0);
    assert_true(home[0] == '/' && ty_ends_with(home, "/rel"));
    free(home);
    unsetenv("TRAINYARD_HOME");
    setenv("XDG_STATE_HOME", "/s", 1);
    assert_int_equal(ty_client_find_home(NULL, &home, NULL), 0);
    assert_string_equal(home, "/s/trainyard");
    free(home);
    setenv("XDG_STATE_HOME", "not/absolute", 1);
    setenv("HOME", "/h", 1);
    assert_int_equal(ty_client_find_home(NULL, &home, NULL), 0);
    assert_string_equal(home, "/h/.local/state/trainyard");
    free(home);
    unsetenv("XDG_STATE_HOME");
}

/* A listening socket at HOME/sock; the caller closes it. */
static int listen_at(const char *home)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
        here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    /* bind by a short name, as the path may be too long for a socket's address */
    assert_int_equal(chdir(home), 0);
    snprintf(a.sun_path, sizeof a.sun_path, "sock");
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(fchdir(here), 0);
    close(here);
    return fd;
}

static void test_connect(void **state)
{
    CLEANUP_FREE char *deep = NULL;
    struct ty_error err = { 0 };
    char part[121];
    int fd, got;

    (void)state;
    assert_int_equal(ty_daemon_connect(dir, &err), -ECONNREFUSED);
    assert_non_null(strstr(err.text, dir));
    fd = listen_at(dir);
    got = ty_daemon_connect(dir, &err);
    assert_true(got >= 0);
    close(got);
    close(fd); /* the file stays, as after kill -9 */
    assert_int_equal(ty_daemon_connect(dir, &err), -ECONNREFUSED);
    memset(part, 'x', 120);
    part[120] = '\0';
    deep = ty_strf("%s/%s", dir, part);
    assert_int_equal(ty_mkdir_p(deep, 0700), 0);
    assert_int_equal(ty_daemon_connect(deep, &err), -ECONNREFUSED);
    fd = listen_at(deep);
    got = ty_daemon_connect(deep, &err);
    assert_true(got >= 0);
    close(got);
    close(fd);
}

static void test_find(void **state)
{
    CLEANUP_FREE char *path = script("exit 0");
    CLEANUP_FREE char *named = ty_strf("%s/trainyardd", dir);
    CLEANUP_FREE char *old = strdup(getenv("PATH"));
    struct ty_error err = { 0 };
    char *got = NULL;

    (void)state;
    assert_int_equal(ty_daemon_find(path, &got, &err), 0);
    assert_string_equal(got, path);
    free(got);
    got = NULL;
    assert_int_equal(ty_daemon_find("/nonexistent/daemon", &got, &err), -ENOENT);
    assert_null(got);
    assert_non_null(strstr(err.text, "/nonexistent/daemon"));
    setenv("TRAINYARD_DAEMON", path, 1);
    assert_int_equal(ty_daemon_find(NULL, &got, &err), 0);
    assert_string_equal(got, path);
    free(got);
    unsetenv("TRAINYARD_DAEMON");
    assert_int_equal(rename(path, named), 0);
    setenv("PATH", dir, 1);
    assert_int_equal(ty_daemon_find(NULL, &got, &err), 0);
    /* beside this test's program or above it there may be a real one */
    assert_true(ty_ends_with(got, "/trainyardd"));
    free(got);
    setenv("PATH", old, 1);
}

static void test_words(void **state)
{
    struct ty_error err = { 0 };
    CLEANUP_FREE char *ready = script("echo ready; exec >&-");

    (void)state;
    assert_int_equal(ty_daemon_start(dir, ready, &err), 0);
    free(script("echo 'error the state folder is a file'"));
    assert_int_equal(ty_daemon_start(dir, ready, &err), -ECONNREFUSED);
    assert_string_equal(err.text, "cannot start the daemon: the state folder is a file");
    free(script("exit 3"));
    assert_int_equal(ty_daemon_start(dir, ready, &err), -ECONNREFUSED);
    assert_non_null(strstr(err.text, "ended before it was ready"));
    ty_write_file(ready, "#!/nonexistent/shell\n", 21, 0755);
    assert_int_equal(ty_daemon_start(dir, ready, &err), -ECONNREFUSED);
    assert_true(ty_starts_with(err.text, "cannot start the daemon: "));
}

static void test_busy_waits_for_the_other(void **state)
{
    CLEANUP_FREE char *busy = script("echo busy");
    struct ty_error err = { 0 };
    int fd = listen_at(dir);

    (void)state;
    assert_int_equal(ty_daemon_start(dir, busy, &err), 0);
    close(fd);
}

/* The one that held the place was just ending: it is asked for again. */
static void test_busy_and_then_free(void **state)
{
    CLEANUP_FREE char *path =
        script("[ -e \"$2/once\" ] && echo ready || { touch \"$2/once\"; echo busy; }");
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_daemon_start(dir, path, &err), 0);
}

/* What the daemon gets: its home, a new session, no child of ours, nothing of the shell but what
 * is listed. */
static void test_what_it_is_given(void **state)
{
    CLEANUP_FREE char *path = script(
        "env > \"$2/env\"; echo \"$1 $2\" > \"$2/args\"; pwd > \"$2/cwd\"; "
        "cut -d' ' -f4,6 /proc/$$/stat > \"$2/stat\"; echo $$ > \"$2/pid\"; ls -l /proc/$$/fd | grep -c socket > "
        "\"$2/sockets\"; echo ready");
    CLEANUP_FREE char *text = NULL;
    struct ty_error err = { 0 };
    char file[96], expect[96];
    int extra = socket(AF_UNIX, SOCK_STREAM, 0); /* not close-on-exec */
    size_t n;
    int ppid, session, pid;

    (void)state;
    setenv("SECRET_OF_THE_SHELL", "x", 1);
    setenv("TRAINYARD_LOG", "debug", 1);
    setenv("no_proxy", "a,b", 1);
    assert_int_equal(ty_daemon_start(dir, path, &err), 0);
    unsetenv("TRAINYARD_LOG");
    unsetenv("no_proxy");
    close(extra);
    snprintf(file, sizeof file, "%s/env", dir);
    assert_int_equal(ty_read_file(file, 65536, &text, &n), 0);
    assert_null(strstr(text, "SECRET_OF_THE_SHELL"));
    assert_non_null(strstr(text, "TRAINYARD_LOG=debug\n"));
    assert_non_null(strstr(text, "no_proxy=a,b\n"));
    assert_non_null(strstr(text, "PATH="));
    free(text);
    snprintf(file, sizeof file, "%s/args", dir);
    snprintf(expect, sizeof expect, "--home %s\n", dir);
    assert_int_equal(ty_read_file(file, 65536, &text, &n), 0);
    assert_string_equal(text, expect);
    free(text);
    snprintf(file, sizeof file, "%s/cwd", dir);
    assert_int_equal(ty_read_file(file, 65536, &text, &n), 0);
    assert_string_equal(text, "/\n");
    free(text);
    snprintf(file, sizeof file, "%s/sockets", dir);
    assert_int_equal(ty_read_file(file, 65536, &text, &n), 0);
    assert_string_equal(text, "0\n");
    free(text);
    snprintf(file, sizeof file, "%s/pid", dir);
    assert_int_equal(ty_read_file(file, 65536, &text, &n), 0);
    pid = (int)strtol(text, NULL, 10);
    free(text);
    snprintf(file, sizeof file, "%s/stat", dir);
    assert_int_equal(ty_read_file(file, 65536, &text, &n), 0);
    assert_int_equal(sscanf(text, "%d %d", &ppid, &session), 2);
    assert_int_equal(session, pid);
    assert_int_not_equal(ppid, getpid());
}

/* Opening a client starts a daemon unless it must not. */
/* It would end with the job, and take with it what it had begun. */
static void test_none_from_inside_a_job(void **state)
{
    CLEANUP_FREE char *ready = script("touch \"$2/started\"; echo ready"),
                      *started = ty_strf("%s/started", dir);
    struct ty_error err = { 0 };

    (void)state;
    setenv("TRAINYARD_JOB", "/some/jobs/first_1", 1);
    assert_int_equal(ty_daemon_start(dir, ready, &err), -ECONNREFUSED);
    unsetenv("TRAINYARD_JOB");
    assert_non_null(strstr(err.text, "a job starts none"));
    assert_int_equal(access(started, F_OK), -1);
}

static void test_open_starts(void **state)
{
    CLEANUP_FREE char *path = script("echo busy");
    struct ty_client_options o = { .home = dir, .daemon = path, .no_start = true };
    struct ty_client *c = NULL;
    struct ty_error err = { 0 };
    int fd;

    (void)state;
    assert_int_equal(ty_client_open(&o, &c, &err), -ECONNREFUSED);
    assert_null(c);
    assert_non_null(strstr(err.text, "trainyard up"));
    free(script("echo 'error full'"));
    o.no_start = false;
    assert_int_equal(ty_client_open(&o, &c, &err), -ECONNREFUSED);
    assert_null(c);
    assert_string_equal(err.text, "cannot start the daemon: full");
    fd = listen_at(dir);
    assert_int_equal(ty_client_open(&o, &c, &err), 0);
    assert_string_equal(ty_client_home(c), dir);
    ty_client_free(c);
    close(fd);
}

#ifdef TY_FAULTS
static void test_failures(void **state)
{
    CLEANUP_FREE char *ready = script("touch \"$2/started\"; echo ready"),
                      *started = ty_strf("%s/started", dir);
    CLEANUP_FREE char *no_process = ty_strf("cannot start '%s': Cannot allocate memory", ready);
    struct ty_client_options o = { .home = dir, .daemon = ready };
    struct ty_client *c = NULL;
    struct ty_error err = { 0 };

    (void)state;
    ty_fault_arm("client.fork", 1, ENOMEM);
    assert_int_equal(ty_daemon_start(dir, ready, &err), -ENOMEM);
    assert_string_equal(err.text, no_process);
    ty_fault_arm("client.socket", 1, EMFILE);
    assert_int_equal(ty_daemon_connect(dir, &err), -EMFILE);
    assert_string_equal(err.text, "cannot make a socket: Too many open files");
    ty_fault_arm("client.socket", 1, EMFILE); /* it is no sign that none runs: none is started */
    assert_int_equal(ty_client_open(&o, &c, &err), -EMFILE);
    assert_int_equal(access(started, F_OK), -1);
    ty_fault_arm("client.alloc", 1, ENOMEM);
    assert_int_equal(ty_client_open(&o, &c, &err), -ENOMEM);
    ty_fault_arm(NULL, 0, 0);
    assert_null(c);
    assert_int_equal(access(started, F_OK), -1);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_home, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_connect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_find, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_busy_waits_for_the_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_busy_and_then_free, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_it_is_given, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_none_from_inside_a_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_starts, set_up, tear_down),
#ifdef TY_FAULTS
        cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
