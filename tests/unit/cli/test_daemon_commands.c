/* test_daemon_commands.c - up, down, status, gc, serve, doctor and version: with a daemon that is
 * well, one that is not, and none
 *
 * Daemons that end are children of the test: `down` waits for the process behind the socket.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include "cli/cli.h"
#include "fake.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define STATUS(active, store) \
    "{\"version\": \"0.1.0\", \"api\": 1, \"pid\": 42, \"home\": \"/h\", " \
    "\"started\": \"2026-11-23T11:52:03.000000Z\", " \
    "\"runs\": {\"active\": " active ", \"queued\": 0, \"total\": 9}, " \
    "\"slots\": {\"cpus\": 4, \"used\": 1}, \"db_bytes\": 1000, \"free_bytes\": 2000000, " \
    "\"store\": \"" store "\"}"

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    if (out)
        assert_string_equal(c.out, out);
    if (err)
        assert_string_equal(c.err, err);
    captured_done(&c);
}

static void refuses(struct captured c, int code, const char *part)
{
    assert_int_equal(c.code, code);
    if (!strstr(c.err, part))
        fail_msg("'%s' should say '%s'", c.err, part);
    captured_done(&c);
}

/* --- without a daemon --- */

static char home[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/ty-dcmd-XXXXXX");
    return mkdtemp(home) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    unsetenv("TRAINYARD_DAEMON");
    return ty_rm_rf(home);
}

static void test_none_runs(void **state)
{
    CLEANUP_FREE char *none = ty_strf(
        "trainyard: no daemon serves the state folder '%s'; 'trainyard up' starts one\n", home);

    (void)state;
    says(CAPTURE(home, "status"), 6, "", none);
    says(CAPTURE(home, "status", "--json"), 6, "", none);
    says(CAPTURE(home, "down"), 0, "", "no daemon runs\n");
    assert_int_equal(rmdir(home), 0); /* nothing was made */
}

static void test_none_can_be_started(void **state)
{
    static const char *const starting[] = { "up", "ps", "gc" };

    (void)state;
    setenv("TRAINYARD_DAEMON", "/no/such/daemon", 1);
    for (size_t i = 0; i < sizeof starting / sizeof *starting; i++)
        says(
            CAPTURE(home, starting[i]), 6, "",
            "trainyard: cannot start a daemon: '/no/such/daemon' (TRAINYARD_DAEMON) is no program\n");
    refuses(CAPTURE(home, "serve"), 3, "'/no/such/daemon' (TRAINYARD_DAEMON) is no program\n");
}

static void put_program(const char *path, const char *text)
{
    assert_int_equal(ty_write_file(path, text, strlen(text), 0755), 0);
    setenv("TRAINYARD_DAEMON", path, 1);
}

/* `serve` becomes the daemon: same process, its exit code, the state folder as an argument. */
static void test_serve(void **state)
{
    CLEANUP_FREE char *program = ty_path_join(home, "daemon"), *said = ty_path_join(home, "said");
    CLEANUP_FREE char *text = ty_strf("#!/bin/sh\necho $$ \"$@\" > '%s'\nexit 9\n", said);
    CLEANUP_FREE char *expected = NULL, *got = NULL;
    char *argv[] = { (char *)"trainyard", (char *)"--home", home, (char *)"serve", NULL };
    int status;
    pid_t pid;

    (void)state;
    put_program(program, text);
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        _exit(ty_cli_main(4, argv));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    expected = ty_strf("%d --home %s\n", (int)pid, home);
    assert_int_equal(ty_read_file(said, 4096, &got, NULL), 0);
    assert_string_equal(got, expected);
    put_program(program, "#!/no/such/interpreter\n");
    refuses(CAPTURE(home, "serve"), 3, "/daemon': No such file or directory\n");
}

static void check(const struct captured *c, const char *line)
{
    if (!strstr(c->out, line))
        fail_msg("doctor should say '%s', but says:\n%s", line, c->out);
}

static void test_doctor_without_a_daemon(void **state)
{
    CLEANUP_FREE char *program = ty_path_join(home, "daemon"), *later = ty_path_join(home, "a/b");
    CLEANUP_FREE char *will = ty_strf("'%s' will be made\n", later), *is = ty_strf("'%s'\n", home);
    struct captured c;

    (void)state;
    put_program(program, "#!/bin/sh\nexit 1\n");
    c = CAPTURE(later, "doctor");
    check(&c, will);
    check(&c, "none runs; the first command that needs one starts it\n");
    check(&c, program);
    assert_int_equal(access(later, F_OK), -1); /* it makes nothing */
    captured_done(&c);
    c = CAPTURE(home, "doctor");
    check(&c, is);
    captured_done(&c);
    setenv("TRAINYARD_DAEMON", "/no/such/daemon", 1);
    c = CAPTURE(home, "doctor");
    assert_int_equal(c.code, 1);
    check(
        &c,
        "failed   daemon program cannot start a daemon: '/no/such/daemon' (TRAINYARD_DAEMON) is no "
        "program\n");
    check(&c,
          "to mend it: build or install trainyardd beside trainyard, or set TRAINYARD_DAEMON\n");
    captured_done(&c);
}

/* An interpreter that fails, and one that says nothing, are doubts and no failures. */
static void test_doctor_and_interpreters(void **state)
{
    static const char *const broken[] = { "#!/bin/sh\nexit 3\n", "#!/bin/sh\n",
                                          "#!/bin/sh\necho nonsense\n" };
    CLEANUP_FREE char *python = ty_path_join(home, "python3"), *old = strdup(getenv("PATH"));
    CLEANUP_FREE char *line = ty_strf("warning  python         '%s' does not run\n", python);
    CLEANUP_FREE char *plain =
        ty_strf("ok       python         '%s' is Python 3.1.4, without torch", python);
    struct captured c;

    (void)state;
    for (size_t i = 0; i <= sizeof broken / sizeof *broken; i++) {
        const char *text =
            i < sizeof broken / sizeof *broken ? broken[i] : "#!/bin/sh\necho 3.1.4 -\n";

        assert_int_equal(ty_write_file(python, text, strlen(text), 0755), 0);
        setenv("PATH", home, 1);
        c = CAPTURE(home, "doctor");
        setenv("PATH", old, 1);
        check(&c, i < sizeof broken / sizeof *broken ? line : plain);
        captured_done(&c);
    }
}

static void test_doctor_and_configuration(void **state)
{
    struct captured c;

    (void)state;
    setenv("TRAINYARD_CLI_COLOR", "always", 1);
    c = CAPTURE(home, "--no-color", "doctor");
    check(&c, "ok       configuration  readable\n");
    captured_done(&c);
    unsetenv("TRAINYARD_CLI_COLOR");
    setenv("TRAINYARD_LIMITS_LOG_BYTES", "plenty", 1);
    c = CAPTURE(home, "doctor");
    unsetenv("TRAINYARD_LIMITS_LOG_BYTES");
    assert_int_equal(c.code, 1);
    check(&c, "failed   configuration  ");
    check(&c,
          "to mend it: correct that file or variable; docs/configuration.md lists the options\n");
    captured_done(&c);
}

static void test_version(void **state)
{
    (void)state;
    says(CAPTURE(NULL, "version"), 0, "trainyard " TY_VERSION "\n", "");
    says(CAPTURE(NULL, "--version"), 0, "trainyard " TY_VERSION "\n", "");
    says(CAPTURE(NULL, "version", "--json"), 0, "{\"version\":\"" TY_VERSION "\",\"api\":1}\n", "");
    refuses(CAPTURE(NULL, "version", "x"), 2, "'version' takes no argument 'x'");
}

/* --- with one that answers --- */

static void test_forms(void **state)
{
    static const char report[] =
        "{\"blobs_kept\":1,\"bytes_kept\":10,\"blobs_removed\":2,\"bytes_removed\":2000,"
        "\"runs_removed\":3,\"snapshots_removed\":4}";
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/status", .raw = fake_json(STATUS("1", "ok")) },
        { .match = "POST /api/v1/gc", .raw = fake_json(report), .times = 2 },
        { .match = "POST /api/v1/gc", .raw = fake_reply(503, "text/plain", "the disk is full") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "status", "--json");

    (void)state;
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "{\"version\":\"0.1.0\",\"api\":1,\"pid\":42,"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "up", "--json");
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "{\"version\":\"0.1.0\","));
    assert_string_equal(c.err, "");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "status");
    assert_true(ty_starts_with(c.out, "daemon   trainyard 0.1.0, process 42, up "));
    assert_non_null(strstr(c.out, "\nhome     /h\n"));
    assert_true(ty_ends_with(c.out, "store    ok; database 1.0 kB, 2.0 MB free\n"));
    captured_done(&c);
    says(CAPTURE(fake_home(f), "gc"), 0,
         "removed 2 files (2.0 kB), 3 runs, 4 snapshots; kept 1 files (10 B)\n", "");
    c = CAPTURE(fake_home(f), "gc", "--json");
    assert_non_null(strstr(c.out, "\"snapshots_removed\":4"));
    captured_done(&c);
    says(CAPTURE(fake_home(f), "gc"), 1, "", "trainyard: the disk is full\n");
    fake_stop(f);
}

static void doctor_says(const char *status, const char *events, int code, const char *line)
{
    struct fake_answer answers[] = { { .match = "GET /api/v1/status", .raw = status },
                                     { .match = "GET /api/v1/check", .raw = events },
                                     { 0 } };
    struct fake *f = fake_start(answers);
    CLEANUP_FREE char *program = ty_path_join(fake_home(f), "daemon");
    struct captured c;

    put_program(program, "#!/bin/sh\n");
    c = CAPTURE(fake_home(f), "doctor");
    assert_int_equal(c.code, code);
    check(&c, line);
    captured_done(&c);
    fake_stop(f);
}

static void test_doctor_with_a_daemon(void **state)
{
    (void)state;
    doctor_says(fake_json(STATUS("1", "ok")), fake_json("{\"runs\": 1, \"differ\": 0}"), 0,
                "ok       event log      agrees with the tables, 1 run\n");
    doctor_says(fake_json(STATUS("1", "ok")), fake_json("{\"runs\": 7, \"differ\": 0}"), 0,
                "ok       daemon         trainyard 0.1.0 runs, process 42\n");
    doctor_says(fake_json(STATUS("1", "ok")),
                fake_json("{\"runs\": 7, \"differ\": 2, \"first\": \"first_1: state\"}"), 1,
                "failed   event log      2 of 7 runs differ: first_1: state\n");
    doctor_says(fake_json(STATUS("1", "ok")), fake_reply(403, "text/plain", "root alone can"), 0,
                "ok       event log      not looked at: root alone can\n");
    doctor_says(fake_json(STATUS("1", "ok")), fake_reply(503, "text/plain", "cannot read it"), 1,
                "failed   event log      cannot read it\n");
    doctor_says(fake_json(STATUS("1", "no space")), fake_json("{\"runs\": 0}"), 1,
                "failed   daemon         it runs, but cannot write: no space\n");
    doctor_says(fake_reply(403, "text/plain", "another user's"), "", 1,
                "failed   daemon         another user's\n");
}

static void test_doctor_in_json(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/status", .raw = fake_json(STATUS("1", "ok")) },
        { .match = "GET /api/v1/check", .raw = fake_json("{\"runs\": 0, \"differ\": 0}") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c;

    (void)state;
    setenv("TRAINYARD_DAEMON", "/no/such/daemon", 1);
    c = CAPTURE(fake_home(f), "doctor", "--json");
    assert_int_equal(c.code, 1);
    assert_true(ty_starts_with(
        c.out, "{\"checks\":[{\"check\":\"state folder\",\"result\":\"ok\",\"text\":\"'"));
    check(&c,
          "{\"check\":\"daemon program\",\"result\":\"failed\",\"text\":\"cannot start a daemon: ");
    check(
        &c,
        "{\"check\":\"event log\",\"result\":\"ok\",\"text\":\"agrees with the tables, 0 runs\"}");
    captured_done(&c);
    fake_stop(f);
}

/* --- ending one --- */

struct daemon {
    pid_t pid;
    char home[64];
};

/* A daemon in a process of its own, which ends after `requests` (0: when it is told to by a
 * signal). */
static struct daemon daemon_start(const struct fake_answer *answers, int requests)
{
    struct daemon d = { 0 };
    pid_t parent = getpid();
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    d.pid = fork();
    assert_true(d.pid >= 0);
    if (d.pid == 0) {
        struct fake *f = fake_start(answers);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || write(fds[1], fake_home(f), strlen(fake_home(f)) + 1) < 0)
            _exit(1);
        while (requests == 0 || fake_count(f) < requests)
            usleep(1000);
        _exit(0);
    }
    close(fds[1]);
    assert_true(read(fds[0], d.home, sizeof d.home - 1) > 1);
    close(fds[0]);
    return d;
}

/* The wait status of one that has ended. */
static int daemon_end(struct daemon *d)
{
    int status;

    assert_int_equal(waitpid(d->pid, &status, 0), d->pid);
    ty_rm_rf(d->home);
    return status;
}

static void stops(const struct fake_answer *answers, int requests, bool by_signal, const char *more)
{
    struct daemon d = daemon_start(answers, requests);
    CLEANUP_FREE char *said = ty_strf("stopped the daemon of '%s'%s\n", d.home, more);
    int status;

    says(CAPTURE(d.home, "down"), 0, "", said);
    status = daemon_end(&d);
    if (by_signal)
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    else
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_down(void **state)
{
    static const struct {
        const char *active, *more;
    } t[] = { { "0", "" },
              { "1", "; 1 run goes on without it" },
              { "5", "; 5 runs go on without it" } };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        CLEANUP_FREE char *status = ty_strf("{\"runs\": {\"active\": %s}}", t[i].active);
        struct fake_answer answers[] = {
            { .match = "GET /api/v1/status", .raw = fake_json(status) },
            { .match = "POST /api/v1/shutdown", .raw = "HTTP/1.1 204 No Content\r\n\r\n" },
            { 0 }
        };

        stops(answers, 2, false, t[i].more);
    }
}

/* One that cannot be asked, because it is of another version or out of order, gets the signal. */
static void test_down_of_one_that_cannot_be_asked(void **state)
{
    struct fake_answer other[] = {
        { .match = "GET",
          .raw =
              "HTTP/1.1 426 X\r\nTrainyard-Version: 9\r\nTrainyard-Api: 9\r\nContent-Length: 0\r\n\r\n" },
        { 0 }
    };
    struct fake_answer refusing[] = {
        { .match = "GET /api/v1/status", .raw = fake_json(STATUS("1", "ok")) },
        { .match = "POST", .raw = fake_reply(500, "text/plain", "cannot") },
        { 0 }
    };
    struct fake_answer nonsense[] = { { .match = "GET", .raw = "what?\r\n\r\n", .close = true },
                                      { 0 } };

    (void)state;
    stops(other, 0, true, "");
    stops(refusing, 0, true, "; 1 run goes on without it");
    stops(nonsense, 0, true, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_none_runs),
        TEST(test_none_can_be_started),
        TEST(test_serve),
        TEST(test_doctor_without_a_daemon),
        TEST(test_doctor_and_interpreters),
        TEST(test_doctor_and_configuration),
        TEST(test_version),
        TEST(test_forms),
        TEST(test_doctor_with_a_daemon),
        TEST(test_doctor_in_json),
        TEST(test_down),
        TEST(test_down_of_one_that_cannot_be_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
