/* test_follow.c - following a run */
#include "base/cleanup.h"
#include "base/str.h"
#include "http/request.h"
#include "kit.h"
#include "store/store.h"
#include "track/follow.h"
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG "azureml-logs/70_driver_log.txt"

static struct client *follow(struct kit *k, const char *run, const char *query, const char *headers)
{
    struct client *c = client_open(k);

    client_sendf(c,
                 "GET /api/v1/runs/%s/follow?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n",
                 run, query, headers ? headers : "");
    return c;
}

static void run_to_its_end(struct kit *k, const char *run)
{
    static const enum ty_run_event events[] = { TY_EV_PREPARE, TY_EV_READY, TY_EV_STARTED,
                                                TY_EV_EXITED_OK, TY_EV_COLLECTED };

    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        kit_event(k, run, events[i]);
}

/* The order of things in what came. */
static void check_order(const struct client *c, const char *const *texts)
{
    const char *at = c->in.text;

    for (; *texts; texts++) {
        at = strstr(at, *texts);
        if (!at)
            fail_msg("'%s' is missing or too early in: %s", *texts, c->in.text);
        at += strlen(*texts);
    }
}

static void test_whole_life(void **state)
{
    static const char *const order[] = { "text/event-stream",
                                         "id: 1:0\nevent: state\ndata: {\"state\":\"Starting\"",
                                         "\"why\":null,\"kind\":\"submitted\"}",
                                         "id: 2:0\nevent: state\ndata: {\"state\":\"Preparing\"",
                                         "\"state\":\"Queued\"",
                                         "\"why\":\"waits for 1 CPU slot\",\"kind\":\"ready\"",
                                         "id: 4:0\nevent: state\ndata: {\"state\":\"Running\"",
                                         "id: 4:6\nevent: log\ndata: {\"name\":\"" LOG
                                         "\",\"offset\":0,\"text\":\"hello\\n\"}",
                                         "id: 4:7\nevent: log",
                                         "\"offset\":6,\"text\":\"x\"}",
                                         "id: 4:9\nevent: log",
                                         "\"offset\":7,\"text\":\"\xc3\xa9\"}",
                                         "\"state\":\"Finalizing\"",
                                         "\"state\":\"Completed\"",
                                         "id: 6:10\nevent: log",
                                         "\"base64\":\"ww==\"",
                                         "event: end\ndata: {\"id\":\"first_1\"",
                                         NULL };
    struct kit *k = *state;
    struct client *c;

    kit_run(k, "first_1");
    c = follow(k, "first_1", "log=" LOG, NULL);
    client_until(c, "Starting");
    kit_event(k, "first_1", TY_EV_PREPARE);
    client_until(c, "Preparing");
    kit_event(k, "first_1", TY_EV_READY);
    client_until(c, "Queued");
    kit_event(k, "first_1", TY_EV_STARTED);
    client_until(c, "Running");
    kit_log(k, "first_1", LOG, 0, "hello\n", 6);
    client_until(c, "hello");
    kit_log(k, "first_1", LOG, 6, "x\xc3", 2);
    client_until(c, "id: 4:7");
    kit_log(k, "first_1", LOG, 8, "\xa9", 1);
    client_until(c, "id: 4:9");
    kit_event(k, "first_1", TY_EV_EXITED_OK);
    kit_log(k, "first_1", LOG, 9, "\xc3", 1); /* its rest never comes */
    kit_event(k, "first_1", TY_EV_COLLECTED);
    client_eof(c);
    check_order(c, order);
    client_close(c);
}

/* One that ended long ago: everything comes at once, also a log of many pieces. */
static void test_ended_run(void **state)
{
    struct kit *k = *state;
    struct answer a;
    char *big = malloc(300000);
    size_t pieces = 0;

    memset(big, 'b', 300000);
    kit_run(k, "first_1");
    kit_log(k, "first_1", LOG, 0, big, 300000);
    kit_note(k, "first_1", 450); /* more than one page of events */
    run_to_its_end(k, "first_1");
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?log=user_logs%2fstd_log.txt", NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    for (const char *at = a.body; (at = strstr(at, "event: log\n")); at++)
        pieces++;
    assert_true(pieces >= 5);
    assert_non_null(strstr(a.body, "\"name\":\"user_logs/std_log.txt\",\"offset\":0,"));
    assert_non_null(strstr(a.body, "id: 456:300000\nevent: end\n"));
    assert_null(strstr(a.body, "Preparing")); /* the present state, not the way to it */
    assert_non_null(strstr(a.body, "{\"state\":\"Completed\""));
    answer_done(&a);
    free(big);
}

static void test_resume(void **state)
{
    struct kit *k = *state;
    struct answer a, b;

    kit_run(k, "first_1");
    kit_log(k, "first_1", LOG, 0, "hello\n", 6);
    run_to_its_end(k, "first_1");
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?log=" LOG "&after=0:0", "Last-Event-ID: 4:2\r\n",
            NULL, 0);
    assert_int_equal(a.status, 200);
    assert_null(strstr(a.body, "Running")); /* event 4, seen */
    assert_non_null(strstr(a.body, "\"offset\":2,\"text\":\"llo\\n\""));
    assert_non_null(strstr(a.body, "Completed"));
    answer_done(&a);
    b = ask(k, "GET", "/api/v1/runs/first_1/follow?log=" LOG "&after=6:6", NULL, NULL, 0);
    assert_null(strstr(b.body, "event: state"));
    assert_null(strstr(b.body, "event: log"));
    assert_non_null(strstr(b.body, "event: end"));
    answer_done(&b);
}

static void test_since(void **state)
{
    struct kit *k = *state;
    struct answer a;

    kit_run(k, "first_1");
    k->log_at_us = 1780000000000000; /* 2026-05-28T20:26:40Z */
    kit_log(k, "first_1", LOG, 0, "old\n", 4);
    k->log_at_us += 10000000;
    kit_log(k, "first_1", LOG, 4, "new\n", 4);
    run_to_its_end(k, "first_1");
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?since=2026-05-28T20:26:45Z", NULL, NULL, 0);
    assert_non_null(strstr(a.body, "\"offset\":4,\"text\":\"new\\n\""));
    assert_null(strstr(a.body, "old"));
    assert_non_null(strstr(a.body, "Completed"));
    answer_done(&a);
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?since=2026-05-28T20:26:45Z",
            "Last-Event-ID: 4:2\r\n", NULL, 0);
    assert_non_null(strstr(a.body, "\"offset\":2,\"text\":\"d\\nnew\\n\""));
    answer_done(&a);
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?log=none.txt&since=2026-05-28T20:26:45Z", NULL,
            NULL, 0);
    assert_int_equal(a.status, 200);
    answer_done(&a);
}

static void test_rows(void **state)
{
    static const char *const order[] = {
        "id: 1:0\nevent: state",
        "id: 1:0:0-2\nevent: rows\ndata: {\"rows\":[{\"name\":\"loss\",",
        "\"value\":1.0,\"writer\":0,\"seq\":1}]}",
        "id: 1:0:0-2.3-1\nevent: rows\n",
        "\"name\":\"acc\"",
        "\"writer\":3,\"seq\":0}]}",
        "id: 3:0:0-3.3-1\nevent: rows\n",
        "\"seq\":2}]}",
        "id: 6:0:0-3.3-1\nevent: end",
        NULL
    };
    struct kit *k = *state;
    struct client *c;
    struct answer a;

    kit_run(k, "first_1");
    c = follow(k, "first_1", "log=&rows=1", NULL);
    client_until(c, "Starting");
    kit_rows(k, "first_1", 0, 0, 2, "loss");
    client_until(c, "\"seq\":1");
    kit_rows(k, "first_1", 3, 0, 1, "acc");
    client_until(c, "acc");
    kit_event(k, "first_1", TY_EV_PREPARE);
    kit_event(k, "first_1", TY_EV_READY);
    client_until(c, "Queued");
    kit_rows(k, "first_1", 0, 2, 1, "loss");
    client_until(c, "\"seq\":2");
    kit_event(k, "first_1", TY_EV_STARTED);
    kit_event(k, "first_1", TY_EV_EXITED_OK);
    kit_event(k, "first_1", TY_EV_COLLECTED);
    client_eof(c);
    check_order(c, order);
    client_close(c);
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?log=", NULL, NULL, 0); /* unasked, none */
    assert_null(strstr(a.body, "event: rows"));
    assert_non_null(strstr(a.body, "id: 6:0\nevent: end"));
    answer_done(&a);
    expect(k, "GET", "/api/v1/runs/first_1/follow?rows=1&after=1:0:x", NULL, 400,
           "is not the id of an event");
}

/* However often the stream is cut, each row comes once: the ids lead on from where they were. */
static void test_rows_resume(void **state)
{
    struct kit *k = *state;
    char path[256] = "/api/v1/runs/first_1/follow?log=&rows=1";
    int rows = 0, pages = 0;

    kit_run(k, "first_1");
    kit_rows(k, "first_1", 0, 0, 1100, "loss"); /* of three pages */
    kit_rows(k, "first_1", 1, 0, 7, "acc");
    run_to_its_end(k, "first_1");
    for (bool more = true; more; pages++) {
        struct answer a = ask(k, "GET", path, NULL, NULL, 0);
        char *at = strstr(a.body, "event: rows\n"), *id, *end;

        assert_int_equal(a.status, 200);
        more = at != NULL;
        if (more) {
            CLEANUP_JSON json_t *data = NULL;

            *at = '\0'; /* the client takes this event, and hears nothing more */
            id = strstr(a.body, "id: ");
            for (char *next = id; (next = strstr(next + 1, "id: ")) != NULL;)
                id = next;
            id[strcspn(id, "\n")] = '\0';
            snprintf(path, sizeof path, "/api/v1/runs/first_1/follow?log=&rows=1&after=%s", id + 4);
            at = strstr(at + 1, "data: ") + 6;
            end = strchr(at, '\n');
            *end = '\0';
            data = json_loads(at, 0, NULL);
            assert_true(json_array_size(json_object_get(data, "rows")) <= 500);
            for (size_t i = 0; i < json_array_size(json_object_get(data, "rows")); i++, rows++) {
                const json_t *row = json_array_get(json_object_get(data, "rows"), i);
                int64_t seq = json_integer_value(json_object_get(row, "seq"));

                assert_int_equal(seq, rows < 1100 ? rows : rows - 1100);
                assert_int_equal(json_integer_value(json_object_get(row, "writer")), rows >= 1100);
            }
        }
        answer_done(&a);
    }
    assert_int_equal(rows, 1107);
    assert_int_equal(pages, 4);
    assert_non_null(strstr(path, "after=6:0:0-1100.1-7"));
}

#define RANK(n) "azureml-logs/70_driver_log_" #n ".txt"
#define SECOND INT64_C(1000000)

static void log_at(struct kit *k, int rank, uint64_t offset, const char *text, int64_t at_us)
{
    k->log_at_us = at_us;
    kit_log(k, "first_1", rank ? RANK(1) : RANK(0), offset, text, strlen(text));
}

/* Of a run that has ended: lines by the second in which they came, and whole. */
static void test_logs_of_all_ranks(void **state)
{
    static const char *const order[] = { "\"rank\":1,\"offset\":0,\"text\":\"one a\\n\"",
                                         "\"rank\":0,\"offset\":0,\"text\":\"zero a\\nzero b\\n\"",
                                         "\"rank\":1,\"offset\":6,\"text\":\"one b\\n\"",
                                         "id: 6:20.12\nevent: log\ndata: {\"name\":\"" RANK(
                                             0) "\",\"rank\":0,\"offset\":14,\"text\":\"zero c\"",
                                         "event: end",
                                         NULL };
    const int64_t t = INT64_C(1780000000) * SECOND;
    struct kit *k = *state;
    struct client *c;

    k->spec = "{\"version\":1,\"node_count\":2,\"communicator\":\"Mpi\"}";
    kit_run(k, "first_1");
    log_at(k, 1, 0, "one a\n", t);
    log_at(k, 0, 0, "zero a\n", t + 2 * SECOND);
    log_at(k, 1, 6, "one b", t + 4 * SECOND);
    log_at(k, 0, 7, "zero b\n", t + 2 * SECOND + 500000);
    log_at(k, 1, 11, "\n", t + 8 * SECOND);
    log_at(k, 0, 14, "zero c", t + 9 * SECOND);
    run_to_its_end(k, "first_1");
    c = follow(k, "first_1", "ranks=1", NULL);
    client_eof(c);
    check_order(c, order);
    client_close(c);
    c = follow(k, "first_1", "ranks=1&after=5:14.6", NULL);
    client_eof(c);
    check_order(c, order + 2);
    assert_null(strstr(c->in.text, "one a"));
    assert_null(strstr(c->in.text, "zero a"));
    client_close(c);
    c = follow(k, "first_1", "ranks=1&since=2026-05-28T20:26:43Z", NULL);
    client_eof(c);
    check_order(c, order + 2);
    assert_null(strstr(c->in.text, " a"));
    client_close(c);
    expect(k, "GET", "/api/v1/runs/first_1/follow?ranks=1&after=1:1.2.3", NULL, 400,
           "is not the id of an event");
}

static void test_ranks_live(void **state)
{
    static const char *const order[] = { "\"rank\":0,\"offset\":0,\"text\":\"a\\n\"",
                                         "\"rank\":1,\"offset\":0,\"text\":\"b\\n\"",
                                         "\"rank\":0,\"offset\":2,\"text\":\"half of it\\n\"",
                                         "\"rank\":1,\"offset\":2,\"text\":\"no end\"",
                                         "event: end",
                                         NULL };
    struct kit *k = *state;
    struct client *c;
    struct answer a;

    k->spec = "{\"version\":1,\"process_count_per_node\":2,\"communicator\":\"Mpi\"}";
    kit_run(k, "first_1");
    c = follow(k, "first_1", "ranks=1", NULL);
    client_until(c, "Starting");
    log_at(k, 0, 0, "a\nhalf", 0);
    client_until(c, "a\\n");
    log_at(k, 1, 0, "b\n", 0);
    client_until(c, "b\\n");
    log_at(k, 0, 6, " of it\n", 0);
    client_until(c, "of it");
    log_at(k, 1, 2, "no end", 0);
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?ranks=1&now=1", NULL, NULL, 0);
    assert_non_null(strstr(a.body, "no end")); /* what there is now, whole line or not */
    assert_null(strstr(a.body, "event: end"));
    answer_done(&a);
    assert_null(strstr(c->in.text, "no end"));
    run_to_its_end(k, "first_1");
    client_eof(c);
    check_order(c, order);
    client_close(c);
}

/* A line longer than a piece does not wait for its end; one log of one process is as it is without ranks=1. */
static void test_ranks_long_lines_and_single_ones(void **state)
{
    struct kit *k = *state;
    char *big = malloc(150001);
    size_t pieces = 0;
    struct answer a;

    memset(big, 'b', 150000);
    big[150000] = '\0';
    k->spec = "{\"version\":1,\"node_count\":300,\"communicator\":\"Mpi\"}";
    kit_run(k, "first_1");
    log_at(k, 1, 0, big, 0);
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?ranks=1&now=1", NULL, NULL, 0);
    for (const char *at = a.body; (at = strstr(at, "event: log\n")); at++)
        pieces++;
    assert_int_equal(pieces, 3);
    answer_done(&a);
    free(big);
    k->spec = NULL;
    kit_run(k, "single_1");
    kit_log(k, "single_1", LOG, 0, "x", 1);
    a = ask(k, "GET", "/api/v1/runs/single_1/follow?ranks=1&now=1", NULL, NULL, 0);
    assert_non_null(strstr(a.body, "{\"name\":\"" LOG "\",\"offset\":0,\"text\":\"x\"}"));
    answer_done(&a);
}

static void test_no_log(void **state)
{
    struct kit *k = *state;
    struct answer a;

    kit_run(k, "first_1");
    kit_log(k, "first_1", LOG, 0, "hello\n", 6);
    run_to_its_end(k, "first_1");
    a = ask(k, "GET", "/api/v1/runs/first_1/follow?log=", NULL, NULL, 0);
    assert_null(strstr(a.body, "event: log"));
    assert_non_null(strstr(a.body, "event: end"));
    answer_done(&a);
    a = ask(k, "HEAD", "/api/v1/runs/first_1/follow", NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.len, 0);
    answer_done(&a);
}

/* A stream whose log cannot be read just now does not say that this was all; one whose log is gone does. */
static void test_log_that_cannot_be_read(void **state)
{
    static const char *const specs[] = {
        NULL, "{\"version\":1,\"node_count\":2,\"communicator\":\"Mpi\"}"
    };
    static const char *const queries[] = { "log=" LOG, "ranks=1" };
    static const char *const logs[] = { LOG, RANK(0) };
    static const char *const runs[] = { "first_1", "first_2" };
    struct kit *k = *state;

    for (int i = 0; i < 2; i++) {
        CLEANUP_FREE char *path = ty_store_log_path(k->store, runs[i], logs[i]);
        CLEANUP_FREE char *url = ty_strf("/api/v1/runs/%s/follow?%s", runs[i], queries[i]);
        struct answer a;

        k->spec = specs[i];
        kit_run(k, runs[i]);
        kit_log(k, runs[i], logs[i], 0, "hello\n", 6);
        run_to_its_end(k, runs[i]);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0);
        a = ask(k, "GET", url, NULL, NULL, 0);
        assert_int_equal(a.status, 200);
        assert_null(strstr(a.body, "event: end"));
        answer_done(&a);
        assert_int_equal(rmdir(path), 0);
        a = ask(k, "GET", url, NULL, NULL, 0);
        assert_non_null(strstr(a.body, "event: end"));
        answer_done(&a);
    }
}

static void test_refused(void **state)
{
    kit_run(*state, "first_1");
    expect(*state, "GET", "/api/v1/runs/nobody/follow", NULL, 404, "there is no run 'nobody'");
    expect(*state, "GET", "/api/v1/runs/first_1/follow?log=../x", NULL, 400,
           "'../x' cannot be the name of a log");
    expect(*state, "GET", "/api/v1/runs/first_1/follow?after=12", NULL, 400,
           "'12' is not the id of an event");
}

static void test_removed_run_ends_the_stream(void **state)
{
    struct kit *k = *state;
    struct client *c;

    kit_run(k, "first_1");
    kit_event(k, "first_1", TY_EV_PREPARE);
    c = follow(k, "first_1", "log=" LOG, NULL);
    client_until(c, "Preparing");
    k->sched.hold = false;
    kit_event(k, "first_1", TY_EV_READY);
    client_until(c, "Queued");
    {
        int64_t id;
        struct ty_unit *u = ty_unit_new();

        assert_int_equal(ty_store_run_id(k->store, "first_1", &id), 0);
        ty_unit_run_delete(u, id);
        ty_store_commit(k->store, u, NULL, NULL);
        kit_run(k, "other_1"); /* is stored after it */
    }
    expect(k, "GET", "/api/v1/runs/first_1", NULL, 404, "no run 'first_1'");
    ty_follow_notify(k->hub, "first_1");
    client_eof(c);
    assert_null(strstr(c->in.text, "event: end"));
    client_close(c);
}

static bool is_one_left(void *ctx)
{
    const struct peer *p = ((struct kit *)ctx)->http->peers;

    return p && !p->next;
}

/* A quiet stream says that it lives, and a client that went away is noticed then. */
static void test_beat(void **state)
{
    struct kit *k = *state;
    struct client *quiet, *gone;

    kit_run(k, "first_1");
    quiet = follow(k, "first_1", "log=", NULL);
    gone = follow(k, "first_1", "log=", NULL);
    client_until(quiet, "Starting");
    client_until(gone, "Starting");
    client_close(gone);
    expect(k, "GET", "/api/v1/status", NULL, 200, ""); /* both are suspended by now */
    streams_beat(k->http);
    client_until(quiet, "\r\n:\n\n");
    kit_until(k, is_one_left, k);
    client_close(quiet);
}

static void test_too_many(void **state)
{
    struct client *c[3];

    kit_run(*state, "first_1");
    for (int i = 0; i < 3; i++) {
        c[i] = follow(*state, "first_1", "log=", NULL);
        client_until(c[i], "Starting");
    }
    expect(*state, "GET", "/api/v1/runs/first_1/follow", NULL, 429, "limits.followers");
    client_close(c[1]); /* its place is free as soon as somebody wants it */
    c[1] = follow(*state, "first_1", "log=", NULL);
    client_until(c[1], "Starting");
    for (int i = 0; i < 3; i++)
        client_close(c[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole_life, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_ended_run, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_resume, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_since, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_rows, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_rows_resume, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_logs_of_all_ranks, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_ranks_live, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_ranks_long_lines_and_single_ones, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_no_log, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_log_that_cannot_be_read, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_refused, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_removed_run_ends_the_stream, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_beat, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_too_many, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}
