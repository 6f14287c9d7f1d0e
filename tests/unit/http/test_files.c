/* test_files.c - logs and artifacts of runs */
#include "base/fs.h"
#include "blob/blob.h"
#include "kit.h"
#include "store/store.h"
#include <string.h>
#include <unistd.h>

#define LOG "azureml-logs/70_driver_log.txt"

/* What the store has not committed is not there, whatever lies in the file. */
static void test_log(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *path = NULL;
    struct answer a;
    char type[64];

    kit_run(k, "first_1");
    kit_log(k, "first_1", LOG, 0, "hello\nworld\n", 12);
    path = ty_store_log_path(k->store, "first_1", LOG);
    assert_int_equal(access(path, R_OK), 0);
    a = ask(k, "GET", "/api/v1/runs/first_1/files/" LOG, NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "hello\nworld\n");
    assert_string_equal(header_of(&a, "Content-Type", type, sizeof type),
                        "text/plain; charset=utf-8");
    answer_done(&a);
    expect(k, "GET", "/api/v1/runs/first_1/files/user_logs/std_log.txt?offset=6", NULL, 200,
           "world\n");
    expect(k, "GET", "/api/v1/runs/first_1/files/" LOG "?offset=12", NULL, 200, "");
    expect(k, "GET", "/api/v1/runs/first_1/files/" LOG "?offset=13", NULL, 400, "behind its end");
    a = ask(k, "HEAD", "/api/v1/runs/first_1/files/" LOG, NULL, NULL, 0);
    assert_string_equal(header_of(&a, "Content-Length", type, sizeof type), "12");
    assert_int_equal(a.len, 0);
    answer_done(&a);
}

static void test_names_of_rank_logs(void **state)
{
    static const char *const names[] = { "azureml-logs/70_driver_log_1.txt",
                                         "azureml-logs/70_driver_log_rank_1.txt",
                                         "user_logs/std_log_process_1.txt",
                                         "user_logs/std_log_process_01.txt" };
    static const char *const none[] = {
        "user_logs/std_log_process_2.txt",          "user_logs/std_log_process_.txt",
        "user_logs/std_log_process_1.log",          "user_logs/std_log_process_x1.txt",
        "user_logs/std_log_process_9999999999.txt", "user_logs/std_log.txt"
    };
    struct kit *k = *state;
    CLEANUP_JSON json_t *list = NULL;

    kit_run(k, "first_1");
    kit_log(k, "first_1", names[0], 0, "hello\n", 6);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CLEANUP_FREE char *path = ty_strf("/api/v1/runs/first_1/files/%s", names[i]);

        expect(k, "GET", path, NULL, 200, "hello\n");
        expect(k, "PUT", path, "mine", 409, "is a log of run");
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        CLEANUP_FREE char *path = ty_strf("/api/v1/runs/first_1/files/%s", none[i]);

        expect(k, "GET", path, NULL, 404, "has no file");
    }
    list = expect_json(k, "GET", "/api/v1/runs/first_1/files", NULL, 200, "files");
    assert_int_equal(json_array_size(json_object_get(list, "files")), 1);
}

#define AT(second) \
    (1780000000000000 + (second)*INT64_C(1000000)) /* 2026-05-28T20:26:40Z and so many */
#define SINCE(second) "since=2026-05-28T20:26:" second "Z"

static void test_log_since(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *list = NULL;
    const json_t *files;

    kit_run(k, "first_1");
    k->log_at_us = AT(0);
    kit_log(k, "first_1", LOG, 0, "old\nha", 6);
    k->log_at_us = AT(10);
    kit_log(k, "first_1", LOG, 6, "lf\nnew\n", 7);
    kit_log(k, "first_1", "other.txt", 0, "other", 5);
    expect(k, "PUT", "/api/v1/runs/first_1/files/outputs/a", "a", 201, "");
    expect(k, "GET", "/api/v1/runs/first_1/files/" LOG "?" SINCE("45"), NULL, 200, "half\nnew\n");
    expect(k, "GET", "/api/v1/runs/first_1/files/user_logs/std_log.txt?offset=5&" SINCE("45.5"),
           NULL, 200, "new\n");
    expect(k, "GET", "/api/v1/runs/first_1/files/" LOG "?offset=10&" SINCE("45"), NULL, 400,
           "behind its end");
    expect(k, "GET", "/api/v1/runs/first_1/files/" LOG "?" SINCE("59"), NULL, 200, "");
    expect(k, "GET", "/api/v1/runs/first_1/files/" LOG "?since=10m", NULL, 400,
           "a time like 2026-");
    expect(k, "GET", "/api/v1/runs/first_1/files/outputs/a?" SINCE("45"), NULL, 400,
           "has no log 'outputs/a'");
    expect(k, "GET", "/api/v1/runs/nobody/files?" SINCE("45"), NULL, 404,
           "there is no run 'nobody'");
    list = expect_json(k, "GET", "/api/v1/runs/first_1/files?" SINCE("45"), NULL, 200, "files");
    files = json_object_get(list, "files");
    assert_int_equal(json_array_size(files), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(files, 0), "offset")), 4);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(files, 1), "offset")), 0);
    assert_null(json_object_get(json_array_get(files, 2), "offset"));
}

static void test_artifact(void **state)
{
    CLEANUP_JSON json_t *file = NULL;
    CLEANUP_JSON json_t *list = NULL;
    CLEANUP_FREE char *big = malloc(900001);
    struct answer a;

    kit_run(*state, "first_1");
    file = expect_json(*state, "PUT", "/api/v1/runs/first_1/files/outputs/a%20model.pt", "weights",
                       201, "file");
    assert_string_equal(json_string_value(json_object_get(file, "path")), "outputs/a model.pt");
    assert_int_equal(json_integer_value(json_object_get(file, "bytes")), 7);
    expect(*state, "GET", "/api/v1/runs/first_1/files/outputs/a%20model.pt", NULL, 200, "weights");
    expect(*state, "GET", "/api/v1/runs/first_1/files/outputs/a%20model.pt?offset=3", NULL, 200,
           "ghts");
    memset(big, 'z', 900000);
    big[900000] = '\0';
    a = ask(*state, "PUT", "/api/v1/runs/first_1/files/big", NULL, big, 900000);
    assert_int_equal(a.status, 201);
    answer_done(&a);
    a = ask(*state, "GET", "/api/v1/runs/first_1/files/big", NULL, NULL, 0);
    assert_int_equal(a.len, 900000);
    assert_string_equal(a.body, big);
    answer_done(&a);
    kit_log(*state, "first_1", LOG, 0, "x", 1);
    list = expect_json(*state, "GET", "/api/v1/runs/first_1/files", NULL, 200, "files");
    assert_int_equal(json_array_size(json_object_get(list, "files")), 3);
    a = ask(*state, "PUT", "/api/v1/runs/first_1/files/empty", NULL, "", 0);
    assert_int_equal(a.status, 201);
    answer_done(&a);
    expect(*state, "GET", "/api/v1/runs/first_1/files/empty", NULL, 200, "");
}

static void test_refused(void **state)
{
    kit_run(*state, "first_1");
    kit_log(*state, "first_1", LOG, 0, "x", 1);
    expect(*state, "GET", "/api/v1/runs/first_1/files/nothing", NULL, 404,
           "run 'first_1' has no file 'nothing'");
    expect(*state, "GET", "/api/v1/runs/nobody/files/x", NULL, 404, "there is no run 'nobody'");
    expect(*state, "GET", "/api/v1/runs/nobody/files", NULL, 404, "there is no run 'nobody'");
    expect(*state, "GET", "/api/v1/runs/first_1/files/a/../../x", NULL, 400, "cannot be the path");
    expect(*state, "GET", "/api/v1/runs/first_1/files/%2e%2e%2fx", NULL, 400, "cannot be the path");
    expect(*state, "GET", "/api/v1/runs/first_1/files/%2fetc%2fpasswd", NULL, 400,
           "cannot be the path");
    expect(*state, "PUT", "/api/v1/runs/first_1/files/../x", "a", 400, "cannot be the path");
    expect(*state, "PUT", "/api/v1/runs/nobody/files/x", "a", 404, "there is no run 'nobody'");
    expect(*state, "PUT", "/api/v1/runs/first_1/files/" LOG, "a", 409, "is a log of run 'first_1'");
}

static int count_entry(const char *rel, const struct stat *st, void *ctx)
{
    (void)rel;
    (void)st;
    ++*(int *)ctx;
    return 0;
}

/* A client that goes away in the middle of an upload leaves nothing behind. */
static void test_broken_upload(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *tmp = ty_strf("%s/blobs/tmp", k->dir);
    struct client *c = client_open(k);
    int left = 0;

    kit_run(k, "first_1");
    client_sendf(
        c,
        "PUT /api/v1/runs/first_1/files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n");
    client_until(c, "100 Continue");
    client_sendf(c, "half");
    client_close(c);
    expect(k, "GET", "/api/v1/runs/first_1/files/x", NULL, 404, "no file 'x'");
    kit_stop(k);
    uv_run(&k->loop, UV_RUN_NOWAIT);
    assert_int_equal(ty_walk(tmp, count_entry, &left, NULL), 0);
    assert_int_equal(left, 0);
}

/* So many that the pool lists them: the same list, and the page has the first of them. */
static void test_many(void **state)
{
    enum { MANY = 1001 };
    struct kit *k = *state;
    CLEANUP_JSON json_t *list = NULL;
    const json_t *files;
    char path[80];

    kit_run(k, "first_1");
    for (int i = 0; i < MANY; i++) {
        snprintf(path, sizeof path, "/api/v1/runs/first_1/files/outputs/%04d", i);
        expect(k, "PUT", path, "a", 201, "");
    }
    list = expect_json(k, "GET", "/api/v1/runs/first_1/files", NULL, 200, "files");
    files = json_object_get(list, "files");
    assert_int_equal(json_array_size(files), MANY);
    assert_string_equal(json_string_value(json_object_get(json_array_get(files, 1000), "path")),
                        "outputs/1000");
    expect(k, "GET", "/runs/first_1", NULL, 200, "outputs/0499");
    expect(k, "GET", "/runs/first_1", NULL, 200, "501 more: <code>trainyard artifacts ls</code>");
    expect(k, "GET", "/api/v1/runs/none/files", NULL, 404, "there is no run 'none'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_log, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_names_of_rank_logs, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_log_since, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_artifact, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_many, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_refused, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_broken_upload, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
