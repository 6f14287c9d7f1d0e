/* test_datastores.c - datastores over HTTP */
#include "base/fs.h"
#include "kit.h"
#include "store/store.h"
#include <string.h>
#include <unistd.h>

#define FILES "/api/v1/datastores/workspaceblobstore/files"

static int open_with_datastore(void **state)
{
    CLEANUP_FREE char *root = NULL;
    CLEANUP_FREE char *config = NULL;
    struct ty_unit *u = ty_unit_new();
    struct kit *k;

    kit_open(state);
    k = *state;
    root = ty_strf("%s/data", k->dir);
    config = ty_strf("{\"root\":\"%s\"}", root);
    assert_int_equal(ty_mkdir_p(root, 0700), 0);
    ty_unit_datastore_put(u, "workspaceblobstore", "file", config, 1780000000000000);
    ty_store_commit(k->store, u, NULL, NULL);
    kit_run(k, "first_1"); /* is stored after it */
    return 0;
}

static void test_show(void **state)
{
    CLEANUP_JSON json_t *list =
        expect_json(*state, "GET", "/api/v1/datastores", NULL, 200, "datastores");
    CLEANUP_JSON json_t *one =
        expect_json(*state, "GET", "/api/v1/datastores/workspaceblobstore", NULL, 200, "datastore");

    assert_true(json_is_true(json_object_get(one, "default")));
    assert_true(json_equal(one, json_array_get(json_object_get(list, "datastores"), 0)));
    expect(*state, "GET", "/api/v1/datastores/other", NULL, 404, "there is no datastore 'other'");
    expect(*state, "GET", "/api/v1/datastores/other/files", NULL, 404,
           "there is no datastore 'other'");
}

static void test_files(void **state)
{
    CLEANUP_JSON json_t *file =
        expect_json(*state, "PUT", FILES "/corpus/a.txt", "hello", 201, "file");
    CLEANUP_JSON json_t *list = NULL;

    assert_string_equal(json_string_value(json_object_get(file, "kind")), "data");
    expect(*state, "GET", FILES "/corpus/a.txt", NULL, 200, "hello");
    expect(*state, "GET", FILES "/corpus/a.txt?offset=4", NULL, 200, "o");
    expect(*state, "GET", FILES "/corpus/a.txt?offset=6", NULL, 400, "behind its end");
    expect(*state, "PUT", FILES "/corpus/a.txt", "again", 409, "has a file 'corpus/a.txt' already");
    expect(*state, "GET", FILES "/corpus/a.txt", NULL, 200, "hello");
    expect(*state, "PUT", FILES "/corpus/a.txt?overwrite=1", "again", 201, "corpus/a.txt");
    expect(*state, "GET", FILES "/corpus/a.txt", NULL, 200, "again");
    expect(*state, "PUT", FILES "/top", "x", 201, "top");
    list = expect_json(*state, "GET", FILES "?prefix=corpus/", NULL, 200, "files");
    assert_int_equal(json_array_size(json_object_get(list, "files")), 1);
}

static void test_refused(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *link = ty_strf("%s/data/out", k->dir);

    assert_int_equal(symlink("/etc", link), 0);
    expect(k, "GET", FILES "/out/passwd", NULL, 400, "leads out of datastore 'workspaceblobstore'");
    expect(k, "PUT", FILES "/out/x", "a", 400, "leads out of datastore 'workspaceblobstore'");
    expect(k, "PUT", FILES "/..%2fx", "a", 400, "cannot be the path");
    expect(k, "GET", FILES "/a//b", NULL, 400, "cannot be the path");
    expect(k, "GET", FILES "/nothing", NULL, 404, "has no file 'nothing'");
    expect(k, "GET", FILES "?prefix=../", NULL, 400, "cannot begin a path");
    assert_int_not_equal(access("/etc/x", F_OK), 0);
}

/* A client that goes away in the middle leaves nothing that anybody could read. */
static void test_broken_upload(void **state)
{
    struct kit *k = *state;
    struct client *c = client_open(k);
    CLEANUP_JSON json_t *list = NULL;

    client_sendf(c,
                 "PUT " FILES
                 "/half HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    client_until(c, "100 Continue");
    client_sendf(c, "half");
    client_close(c);
    list = expect_json(k, "GET", FILES, NULL, 200, "files");
    assert_int_equal(json_array_size(json_object_get(list, "files")), 0);
    expect(k, "GET", FILES "/half", NULL, 404, "half");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_show, open_with_datastore, kit_close),
        cmocka_unit_test_setup_teardown(test_files, open_with_datastore, kit_close),
        cmocka_unit_test_setup_teardown(test_refused, open_with_datastore, kit_close),
        cmocka_unit_test_setup_teardown(test_broken_upload, open_with_datastore, kit_close),
    };

    return cmocka_run_group_tests_name("datastores", tests, NULL, NULL);
}
