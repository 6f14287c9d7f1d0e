/* test_commands.c - each command against a daemon that says what is written here */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define A "first_1780000000_0a1b2c3d"
#define B "other_1780000001_0a1b2c3e"
#define RUN(id, state, more) \
    "{\"id\": \"" id "\", \"number\": 1, \"experiment\": \"first\", \"state\": \"" state \
    "\", \"attempt\": 1, \"target\": \"local\", " \
    "\"command_line\": \"python3 train.py\", \"created\": \"2026-11-23T11:52:03.000000Z\", \"started\": \"2026-11-23T11:52:04.000000Z\", " \
    "\"ended\": \"2026-11-23T11:53:05.000000Z\", \"warnings\": [\"no GPU here\"], \"tags\": {\"k\": \"v\"}, \"properties\": {}, \"why\": null, " more \
    "}"
#define FAILED \
    RUN(A, "Failed", \
        "\"exit_code\": 7, \"exit_signal\": null, \"error\": {\"code\": \"ScriptFailed\", " \
        "\"message\": \"the script exited with code 7\", \"log_tail\": \"last\\nwords\\n\"}")
#define DONE RUN(B, "Completed", "\"exit_code\": 0, \"exit_signal\": null, \"error\": null")
#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define FILES \
    "{\"files\": [{\"path\": \"azureml-logs/70_driver_log.txt\", \"bytes\": 14, \"kind\": \"log\", \"sha256\": null}, " \
    "{\"path\": \"outputs/deep/model\", \"bytes\": 2, \"kind\": \"artifact\", \"sha256\": null}]}"

static void test_ps(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs?limit=20 ",
          .raw = fake_json("{\"runs\": [" FAILED "], \"next\": \"" A "\"}") },
        { .match = "GET /api/v1/runs?state=active&limit=1000 ",
          .raw = fake_json("{\"runs\": [" FAILED ", " DONE "], \"next\": null}") },
        { .match = "GET /api/v1/runs?limit=1000&state=Failed&experiment=a%20b ",
          .raw = fake_json("{\"runs\": [" FAILED "], \"next\": \"x\"}") },
        { .match = "GET /api/v1/runs?limit=1000&state=Failed&experiment=a%20b&before=x ",
          .raw = fake_json("{\"runs\": [" DONE "], \"next\": null}") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "ps");

    (void)state;
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "ID                         EXPERIMENT  STATE "));
    assert_true(strstr(c.out, "\n" A "  first       Failed ") &&
                strstr(c.out, "     1m01s  local   python3 train.py\n"));
    assert_non_null(strstr(c.out, "\n" B));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "ps", "-q");
    assert_string_equal(c.out, A "\n" B "\n"); /* each once */
    captured_done(&c);
    c = CAPTURE(fake_home(f), "ps", "-aq", "-s", "Failed", "-e", "a b");
    assert_string_equal(c.out, A "\n" B "\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "ps", "--json");
    assert_true(ty_starts_with(c.out, "{\"runs\":[{\"id\":\"" A "\""));
    captured_done(&c);
    fake_stop(f);
}

static void test_show(void **state)
{
    struct fake_answer answers[] = { { .match = "GET /api/v1/runs/" A, .raw = fake_json(FAILED) },
                                     { .match = "GET /api/v1/runs/" B,
                                       .raw = fake_reply(404, "text/plain", "no run '" B "'") },
                                     { 0 } };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "show", B, A);

    (void)state;
    assert_int_equal(c.code, 3);
    assert_string_equal(c.err, "trainyard: no run '" B "'\n");
    assert_non_null(strstr(c.out, "state        Failed, exit code 7\n"));
    assert_non_null(strstr(c.out, "error        the script exited with code 7\n"));
    assert_true(strstr(c.out, "last\n") && strstr(c.out, "words\n"));
    assert_non_null(strstr(c.out, "warning      no GPU here\n"));
    assert_non_null(strstr(c.out, "tags         k=v\n"));
    assert_non_null(strstr(c.out, "duration     1m01s\n"));
    captured_done(&c);
    fake_stop(f);
}

static void test_wait(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A "/follow",
          .raw = EVENTS "event: end\ndata: " FAILED "\n\n",
          .close = true },
        { .match = "GET /api/v1/runs/" B "/follow",
          .raw = EVENTS "event: end\ndata: " DONE "\n\n",
          .close = true },
        { .match = "GET /api/v1/runs/third_1780000001_0a1b2c3e/follow", .raw = EVENTS },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "no such run") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "wait", B);

    (void)state;
    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, "");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "wait", B, A);
    assert_int_equal(c.code, 1);
    assert_non_null(strstr(c.err, "run '" A "' Failed: the script exited with code 7\n"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "wait", "-q", "--exit-status", A, B);
    assert_int_equal(c.code, 7);
    assert_string_equal(c.err, "");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "wait", "--timeout", "0.05", A, "third_1780000001_0a1b2c3e");
    assert_int_equal(c.code, 124);
    captured_done(&c);
    c = CAPTURE(fake_home(f), "wait", "gone_1780000001_0a1b2c3e");
    assert_int_equal(c.code, 3);
    captured_done(&c);
    c = CAPTURE(fake_home(f), "wait", "--exit-status", "gone_1780000001_0a1b2c3e");
    assert_int_equal(c.code, 125);
    captured_done(&c);
    fake_stop(f);
}

static void test_run(void **state)
{
    struct fake_answer answers[] = {
        { .match = "POST /api/v1/experiments/first/runs",
          .raw = fake_reply(201, "application/json", FAILED) },
        { .match = "GET /api/v1/runs/" A "/follow",
          .close = true,
          .raw = EVENTS
          "event: log\ndata: {\"offset\": 0, \"text\": \"out\\n\"}\n\nevent: end\ndata: " FAILED
          "\n\n" },
        { .match = "POST", .raw = fake_reply(400, "text/plain", "no compute target is named 'x'") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c =
        CAPTURE(fake_home(f), "run", "-e", "first", "--no-snapshot", "--", "sh", "-c", "exit 7");
    size_t n;

    (void)state;
    assert_int_equal(c.code, 7);
    assert_string_equal(c.out, "out\n");
    assert_string_equal(c.err, "trainyard: warning: no GPU here\nrun " A "\ntrainyard: run '" A
                               "' Failed: the script exited with code 7\n");
    assert_non_null(strstr(fake_body(f, 0, &n), "/sh\",\"-c\",\"exit 7\"]"));
    assert_null(strstr(fake_body(f, 0, &n), "snapshot"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "run", "-e", "other", "--no-snapshot", "true");
    assert_int_equal(c.code, 125);
    assert_string_equal(c.err, "trainyard: no compute target is named 'x'\n");
    captured_done(&c);
    n = (size_t)fake_count(f);
    c = CAPTURE(fake_home(f), "run", "--no-snapshot", "no-such-program-here");
    assert_int_equal(c.code, 125);
    assert_non_null(strstr(c.err, "no-such-program-here"));
    assert_int_equal(fake_count(f), n); /* nothing was asked of the daemon */
    captured_done(&c);
    c = CAPTURE(fake_home(f), "submit", "-e", "first", "-q", "--no-snapshot", "true");
    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, A "\n");
    captured_done(&c);
    fake_stop(f);
}

static void test_logs(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A " ",
          .raw = fake_json(RUN(A, "Running", "\"error\": null")) },
        { .match = "GET /api/v1/runs/" A "/files ", .raw = fake_json(FILES) },
        { .match = "GET /api/v1/runs/" B "/files ", .raw = fake_json("{\"files\": []}") },
        { .match = "GET /api/v1/runs/" B " ",
          .raw = fake_json(RUN(B, "Queued", "\"error\": null")) },
        { .match = "GET /api/v1/runs/" A "/files/azureml-logs/70_driver_log.txt?offset=10 ",
          .raw = fake_reply(200, "x/y", "last") },
        { .match = "GET /api/v1/runs/" A "/files/azureml-logs/70_driver_log.txt?offset=4 ",
          .raw = fake_reply(200, "x/y", "two\n\n\nlast") },
        { .match = "GET /api/v1/runs/" A "/files/azureml-logs/70_driver_log.txt?offset=0 ",
          .raw = fake_reply(200, "x/y", "one\ntwo\n\n\nlast") },
        /* the whole log breaks off once, and is taken up where it broke */
        { .match = "GET /api/v1/runs/" A "/files/azureml-logs/70_driver_log.txt ",
          .close = true,
          .raw = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\none\n" },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "logs", A);

    (void)state;
    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, "one\ntwo\n\n\nlast");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "logs", "--tail", "1", A);
    assert_string_equal(c.out, "last");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "logs", "-n", "4", A);
    assert_string_equal(c.out, "two\n\n\nlast");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "logs", "-n", "0", A);
    assert_string_equal(c.out, "");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "logs", B);
    assert_int_equal(c.code, 0);
    assert_string_equal(c.err, "run '" B "' has written no log; it is Queued\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "logs", "--file", "nothing.txt", A);
    assert_int_equal(c.code, 3);
    assert_non_null(strstr(c.err, "nothing.txt"));
    captured_done(&c);
    fake_stop(f);
}

static void test_cancel_and_rm(void **state)
{
    struct fake_answer answers[] = {
        { .match = "POST /api/v1/runs/" A "/cancel",
          .raw = fake_json(RUN(A, "CancelRequested", "\"error\": null")) },
        { .match = "DELETE /api/v1/runs/" A, .raw = "HTTP/1.1 204 No Content\r\n\r\n" },
        { .match = "DELETE /api/v1/runs/" B,
          .raw = fake_reply(409, "text/plain", "it is Running") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "cancel", A);

    (void)state;
    assert_int_equal(c.code, 0);
    assert_string_equal(c.err, "run '" A "': CancelRequested\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "rm", A); /* nobody can be asked */
    assert_int_equal(c.code, 2);
    assert_non_null(strstr(c.err, "-y"));
    assert_int_equal(fake_count(f), 1);
    captured_done(&c);
    c = CAPTURE(fake_home(f), "rm", "-y", A, B, A);
    assert_int_equal(c.code, 5);
    assert_non_null(strstr(c.err, "removed run '" A "'\ntrainyard: it is Running\n"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "rm", "-y", A, A);
    assert_int_equal(c.code, 0);
    assert_int_equal(fake_count(f), 4); /* named twice, removed once */
    captured_done(&c);
    fake_stop(f);
}

static void test_metrics(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A "/metrics?form=azureml ",
          .raw = fake_json("{\"metrics\": {\"loss\": [2.5, 0.125], \"name\": \"x\"}}") },
        { .match = "GET /api/v1/runs/" A "/metrics?form=rows&name=loss ",
          .raw = fake_json(
              "{\"rows\": [{\"name\": \"loss\", \"kind\": \"double\", \"step\": 3, \"at\": \"2026-11-23T11:52:03.000000Z\", \"value\": 2.5}]}") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "metrics", A);

    (void)state;
    assert_string_equal(c.out, "METRIC  COUNT  LAST\nloss        2  0.125\nname        1  x\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "metrics", "--rows", "--plain", "--name", "loss", A);
    assert_string_equal(c.out, "loss\t3\t2026-11-23T11:52:03.000000Z\t2.5\n");
    captured_done(&c);
    fake_stop(f);
}

static void reads(const char *dir, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name), *got = NULL;
    size_t n;

    assert_int_equal(ty_read_file(path, 100, &got, &n), 0);
    assert_string_equal(got, text);
}

static void test_artifacts(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" A "/files ", .raw = fake_json(FILES) },
        { .match = "GET /api/v1/runs/" B "/files ",
          .raw = fake_json(
              "{\"files\": [{\"path\": \"../evil\", \"bytes\": 1, \"kind\": \"artifact\"}]}") },
        { .match = "GET /api/v1/runs/" A "/files/outputs/deep/model ",
          .raw = fake_reply(200, "x/y", "m\n") },
        { .match = "GET /api/v1/runs/" A "/files/azureml-logs/70_driver_log.txt ",
          .raw = fake_reply(500, "text/plain", "broken") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    CLEANUP_FREE char *to = ty_path_join(fake_home(f), "got"),
                      *one = ty_path_join(fake_home(f), "one");
    struct captured c = CAPTURE(fake_home(f), "artifacts", "ls", "--plain", A);

    (void)state;
    assert_string_equal(
        c.out, "azureml-logs/70_driver_log.txt\tlog\t14\noutputs/deep/model\tartifact\t2\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "artifacts", "get", A, "outputs", "-o", to);
    assert_int_equal(c.code, 0);
    reads(to, "outputs/deep/model", "m\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "artifacts", "get", A, "outputs", "-o", to);
    assert_int_equal(c.code, 5);
    assert_non_null(strstr(c.err, "--overwrite"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "artifacts", "get", A, "outputs/deep/model", "-o", one);
    assert_int_equal(c.code, 0);
    reads(fake_home(f), "one", "m\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "artifacts", "get", A, "outputs/deep/model", "-o", "-");
    assert_string_equal(c.out, "m\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "artifacts", "get", A, "nothing");
    assert_int_equal(c.code, 3);
    captured_done(&c);
    c = CAPTURE(fake_home(f), "artifacts", "get", B, "-o", to);
    assert_int_equal(c.code, 1);
    assert_non_null(strstr(c.err, "../evil"));
    captured_done(&c);
    /* what fails leaves no half file */
    c = CAPTURE(fake_home(f), "artifacts", "get", A, "azureml-logs", "-o", to, "--overwrite");
    assert_int_equal(c.code, 1);
    captured_done(&c);
    free(to);
    to = ty_strf("%s/got/azureml-logs", fake_home(f));
    assert_int_equal(rmdir(to), 0); /* empty */
    fake_stop(f);
}

static void test_data(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/datastores ",
          .raw = fake_json(
              "{\"datastores\": [{\"name\": \"ds\", \"kind\": \"file\", \"root\": \"/r\", \"default\": true}]}") },
        { .match = "GET /api/v1/datastores/ds/access ",
          .raw =
              fake_json("{\"name\": \"ds\", \"kind\": \"file\", \"config\": {\"root\": \"/r\"}}") },
        { .match = "GET /api/v1/datastores/full/access ",
          .raw = fake_json(
              "{\"name\": \"full\", \"kind\": \"file\", \"config\": {\"root\": \"/r\"}}") },
        { .match = "PUT /api/v1/datastores/full/", .raw = fake_reply(409, "text/plain", "exists") },
        { .match = "PUT", .raw = fake_reply(201, "application/json", "{}") },
        { .match = "GET /api/v1/datastores/ds/files?prefix=set ",
          .raw = fake_json(
              "{\"files\": [{\"path\": \"set/a\", \"bytes\": 1, \"kind\": \"data\"}, {\"path\": \"set/sub/b\", \"bytes\": 1, \"kind\": \"data\"}, "
              "{\"path\": \"settings\", \"bytes\": 1, \"kind\": \"data\"}]}") },
        { .match = "GET /api/v1/datastores/ds/files?prefix=set/a ",
          .raw = fake_json("{\"files\": [{\"path\": \"set/a\", \"bytes\": 1}]}") },
        { .match = "GET /api/v1/datastores/ds/files?prefix=set%2Fa ",
          .raw = fake_json("{\"files\": [{\"path\": \"set/a\", \"bytes\": 1}]}") },
        { .match = "GET /api/v1/datastores/ds/files?prefix=none ",
          .raw = fake_json("{\"files\": []}") },
        { .match = "GET /api/v1/datastores/ds/files/set/a ", .raw = fake_reply(200, "x/y", "A") },
        { .match = "GET /api/v1/datastores/ds/files/set/sub/b ",
          .raw = fake_reply(200, "x/y", "B") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    CLEANUP_FREE char *up = ty_path_join(fake_home(f), "up"), *a = ty_path_join(up, "a"),
                      *b = ty_path_join(up, "sub/b");
    CLEANUP_FREE char *down = ty_path_join(fake_home(f), "down"),
                      *new_name = ty_path_join(fake_home(f), "new");
    struct captured c = CAPTURE(fake_home(f), "data", "ls", "--plain");

    (void)state;
    assert_string_equal(c.out, "ds\tfile\tyes\t/r\n");
    captured_done(&c);
    assert_int_equal(ty_mkdir_parent(b, 0755), 0);
    assert_int_equal(ty_write_file(a, "1", 1, 0644), 0);
    assert_int_equal(ty_write_file(b, "2", 1, 0644), 0);
    c = CAPTURE(fake_home(f), "data", "put", up, "ds:set");
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(fake_head(f, 2), "PUT /api/v1/datastores/ds/files/set/a HTTP"));
    assert_true(ty_starts_with(fake_head(f, 3), "PUT /api/v1/datastores/ds/files/set/sub/b HTTP"));
    assert_string_equal(fake_body(f, 3, NULL), "2");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "data", "put", "--overwrite", a, b, "ds:in");
    assert_true(
        ty_starts_with(fake_head(f, 5), "PUT /api/v1/datastores/ds/files/in/a?overwrite=1 HTTP"));
    assert_true(
        ty_starts_with(fake_head(f, 6), "PUT /api/v1/datastores/ds/files/in/b?overwrite=1 HTTP"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "data", "put", up, "ds:");
    assert_true(ty_starts_with(fake_head(f, 8), "PUT /api/v1/datastores/ds/files/up/a HTTP"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "data", "put", a, "full:x");
    assert_int_equal(c.code, 5);
    captured_done(&c);
    c = CAPTURE(fake_home(f), "data", "put", "/nonexistent/file", "ds:x");
    assert_int_equal(c.code, 3);
    captured_done(&c);
    c = CAPTURE(fake_home(f), "data", "get", "ds:set", down);
    assert_int_equal(c.code, 0);
    reads(down, "set/a", "A");
    reads(down, "set/sub/b", "B");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "data", "get", "ds:set/a", new_name);
    assert_int_equal(c.code, 0);
    reads(fake_home(f), "new", "A");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "data", "get", "ds:none", down);
    assert_int_equal(c.code, 3);
    captured_done(&c);
    fake_stop(f);
}

static void test_daemon_commands(void **state)
{
    static const char status[] =
        "{\"version\": \"0.1.0\", \"api\": 1, \"pid\": 42, \"home\": \"/h\", \"started\": \"2026-11-23T11:52:03.000000Z\", "
        "\"runs\": {\"active\": 1, \"queued\": 2, \"total\": 3}, \"slots\": {\"cpus\": 4, \"used\": 1}, \"db_bytes\": 1000, "
        "\"free_bytes\": 2000000, \"store\": \"ok\"}";
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/status", .raw = fake_json(status), .times = 2 },
        { .match = "GET /api/v1/status", .raw = fake_json("{\"store\": \"the disk is full\"}") },
        { .match = "POST /api/v1/gc",
          .raw = fake_json(
              "{\"blobs_kept\": 1, \"bytes_kept\": 10, \"blobs_removed\": 2, \"bytes_removed\": 2000, "
              "\"runs_removed\": 0, \"snapshots_removed\": 1}") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "up");

    (void)state;
    assert_int_equal(c.code, 0);
    assert_string_equal(c.err, "trainyard 0.1.0 serves '/h' (process 42)\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "status");
    assert_int_equal(c.code, 0);
    assert_non_null(strstr(c.out, "runs     1 active, 2 queued, 3 in all\n"));
    assert_non_null(strstr(c.out, "slots    1 of 4 CPUs in use\n"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "status");
    assert_int_equal(c.code, 1);
    assert_non_null(strstr(c.out, "the disk is full"));
    captured_done(&c);
    c = CAPTURE(fake_home(f), "gc");
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "removed 2 files ("));
    captured_done(&c);
    fake_stop(f);
    c = CAPTURE("/nonexistent/home", "down");
    assert_int_equal(c.code, 0);
    assert_string_equal(c.err, "no daemon runs\n");
    captured_done(&c);
}

static void test_doctor(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET",
          .raw =
              "HTTP/1.1 426 X\r\nTrainyard-Version: 9\r\nTrainyard-Api: 9\r\nContent-Length: 0\r\n\r\n" },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    CLEANUP_FREE char *python = ty_path_join(fake_home(f), "python3"),
                      *old = strdup(getenv("PATH"));
    struct captured c;

    (void)state;
    assert_int_equal(ty_write_file(python, "#!/bin/sh\necho 3.99.0 7.5\n", 25, 0755), 0);
    setenv("PATH", fake_home(f), 1);
    c = CAPTURE(fake_home(f), "doctor");
    setenv("PATH", old, 1);
    assert_int_equal(c.code, 1);
    assert_non_null(strstr(c.out, "Python 3.99.0 with torch 7.5\n"));
    assert_non_null(strstr(c.out, "to mend it: trainyard down && trainyard up\n"));
    assert_null(strstr(c.out, "no interpreter with torch"));
    captured_done(&c);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ps),      cmocka_unit_test(test_show),
        cmocka_unit_test(test_wait),    cmocka_unit_test(test_run),
        cmocka_unit_test(test_logs),    cmocka_unit_test(test_cancel_and_rm),
        cmocka_unit_test(test_metrics), cmocka_unit_test(test_artifacts),
        cmocka_unit_test(test_data),    cmocka_unit_test(test_daemon_commands),
        cmocka_unit_test(test_doctor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
