/* test_datastore_change.c - datastores are registered, changed, made the default, forgotten; keys go to who may have them */
#include "base/conf.h"
#include "base/fs.h"
#include "kit.h"
#include "store/store.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AT "/api/v1/datastores/"
#define S3(more) \
    "{\"kind\":\"s3\",\"config\":{\"bucket\":\"sets\",\"endpoint\":\"http://127.0.0.1:1\",\"access_key_id\":\"KEYID7\"," \
    "\"secret_access_key\":\"hush-hush\"}" more "}"
#define UNSEEN ",\"skip_validation\":true"

static int open_with_datastores(void **state)
{
    struct ty_unit *u = ty_unit_new();

    kit_open(state);
    ty_unit_datastore_put(u, "workspaceblobstore", "file", "{\"root\":\"/b\"}", 1);
    ty_unit_datastore_put(u, "workspacefilestore", "file", "{\"root\":\"/f\"}", 1);
    ty_store_commit(((struct kit *)*state)->store, u, NULL, NULL);
    kit_run(*state, "first_1"); /* is stored after it */
    return 0;
}

/* The program that is asked of object stores: keeps what it is asked, and says this. */
static void agent_says(struct kit *k, const char *shell)
{
    CLEANUP_FREE char *text =
        ty_strf("#!/bin/sh\ncd %s\ncat > asked.new\necho \"$*\" > argv\n"
                "tr '\\0' '\\n' < /proc/$$/environ > env\nmv asked.new asked\n%s\n",
                k->dir, shell);

    assert_int_equal(ty_write_file(k->agent, text, strlen(text), 0700), 0);
}

static char *file_of(const struct kit *k, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(k->dir, name);
    char *text = NULL;

    if (ty_read_file(path, 1 << 20, &text, NULL) < 0)
        fail_msg("cannot read %s", path);
    return text;
}

static void has_no_key(struct kit *k, const char *path)
{
    struct answer a = ask(k, "GET", path, NULL, NULL, 0);

    if (a.status != 200 || strstr(a.body, "hush") || strstr(a.body, "KEYID7"))
        fail_msg("%s: %d %s", path, a.status, a.body);
    answer_done(&a);
}

static void test_life(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *made = expect_json(k, "PUT", AT "sets", S3(UNSEEN), 201, "datastore");
    CLEANUP_JSON json_t *access = expect_json(k, "GET", AT "sets/access", NULL, 200, "access");
    CLEANUP_JSON json_t *got = NULL;
    CLEANUP_JSON json_t *first = NULL;

    assert_string_equal(json_string_value(json_object_get(made, "credentials")), "access_key");
    assert_false(json_is_true(json_object_get(made, "default")));
    assert_true(json_is_true(json_object_get(json_object_get(made, "config"), "path_style")));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(access, "config"), "secret_access_key")),
        "hush-hush");
    has_no_key(k, AT "sets");
    has_no_key(k, "/api/v1/datastores");
    got = expect_json(k, "GET", AT "sets", NULL, 200, "datastore");
    assert_true(json_equal(got, made));

    /* the same again is no change; another is asked for */
    expect(k, "PUT", AT "sets", S3(UNSEEN), 200, "access_key");
    expect(k, "PUT", AT "sets", "{\"kind\":\"s3\",\"config\":{\"bucket\":\"sets\"}" UNSEEN "}", 409,
           "is there already, and is described otherwise");
    expect(k, "PUT", AT "sets",
           "{\"kind\":\"s3\",\"config\":{\"bucket\":\"others\"},\"overwrite\":true" UNSEEN "}", 200,
           "\"credentials\":\"none\"");
    expect(k, "GET", AT "sets/access", NULL, 200, "\"bucket\":\"others\"");
    has_no_key(k, AT "sets/access"); /* it went with what was replaced */

    first = expect_json(k, "POST", AT "sets/default", NULL, 200, "datastore");
    assert_true(json_is_true(json_object_get(first, "default")));
    expect(k, "GET", AT "workspaceblobstore", NULL, 200, "\"default\":false");
    expect(k, "DELETE", AT "sets", NULL, 409, "is the default one");
    expect(k, "POST", AT "workspaceblobstore/default", NULL, 200, "\"default\":true");
    k->sched.uses = "sets";
    expect(k, "DELETE", AT "sets", NULL, 409, "'busy_1' for one");
    k->sched.uses = NULL;
    expect(k, "DELETE", AT "sets", NULL, 204, "");
    expect(k, "GET", AT "sets", NULL, 404, "there is no datastore 'sets'");
    expect(k, "GET", AT "sets/access", NULL, 404, "there is no datastore 'sets'");
    expect(k, "DELETE", AT "sets", NULL, 404, "there is no datastore 'sets'");
    expect(k, "POST", AT "sets/default", NULL, 404, "there is no datastore 'sets'");
}

static void test_the_services_own_stay(void **state)
{
    struct kit *k = *state;

    expect(k, "DELETE", AT "workspaceblobstore", NULL, 409, "the service's own");
    expect(k, "DELETE", AT "workspacefilestore", NULL, 409, "the service's own");
    expect(k, "PUT", AT "workspacefilestore",
           "{\"kind\":\"file\",\"config\":{\"root\":\"/tmp\"},\"overwrite\":true}", 409,
           "choose another name");
    expect(k, "POST", AT "workspacefilestore/default", NULL, 200, "\"default\":true");
}

static void test_refused(void **state)
{
    static const struct {
        const char *name, *body, *says;
    } bad[] = {
        { "a-b", S3(UNSEEN), "cannot be the name of a datastore" },
        { "a%0ab", S3(UNSEEN), "cannot be the name of a datastore" },
        { "..", S3(UNSEEN), "cannot be the name of a datastore" },
        { "a", "{", "cannot read the description of the datastore" },
        { "a", "[]", "must be a JSON object, not an array" },
        { "a", "{\"config\":{}}", "has no 'kind'" },
        { "a", "{\"kind\":\"s3\"}", "'config' is not a JSON object" },
        { "a", "{\"kind\":\"ftp\",\"config\":{}}", "is no kind of datastore" },
        { "a", "{\"kind\":\"s3\",\"config\":{\"bucket\":\"abc\"},\"force\":true}", "force" },
        { "a", "{\"kind\":\"s3\",\"config\":{\"bucket\":\"abc\"},\"overwrite\":1}", "overwrite" },
        { "a", "{\"kind\":\"file\",\"config\":{\"root\":\"/no/such/folder\"}}",
          "'/no/such/folder': No such file or directory; make it" },
        { "a", "{\"kind\":\"file\",\"config\":{\"root\":\"/dev/null\"}}", "Not a directory" },
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_FREE char *path = ty_strf(AT "%s", bad[i].name);

        expect(*state, "PUT", path, bad[i].body, 400, bad[i].says);
    }
    expect(*state, "GET", "/api/v1/datastores", NULL, 200, "workspacefilestore");
}

/* Somebody else's registration is on its way to the store when ours is looked at. */
static void register_beside(struct kit *k, const char *name)
{
    struct ty_unit *u = ty_unit_new();

    ty_unit_datastore_put(u, name, "file", "{\"root\":\"/theirs\",\"credentials\":\"none\"}", 1);
    ty_store_commit(k->store, u, NULL, NULL);
}

/* Taken as new or as known, by what has been stored first. */
static void is_taken(struct kit *k, const char *path, const char *body, const char *text)
{
    struct answer a = ask(k, "PUT", path, NULL, body, strlen(body));

    if ((a.status != 200 && a.status != 201) || !strstr(a.body, text))
        fail_msg("%s gave %d: %s", path, a.status, a.body);
    answer_done(&a);
}

static void test_two_at_once(void **state)
{
    struct kit *k = *state;

    register_beside(k, "sets");
    expect(k, "PUT", AT "sets", S3(UNSEEN), 409, "is there already, and is described otherwise");
    expect(k, "GET", AT "sets", NULL, 200, "/theirs");
    register_beside(k, "more");
    is_taken(k, AT "more",
             "{\"kind\":\"s3\",\"config\":{\"bucket\":\"others\"},\"overwrite\":true" UNSEEN "}",
             "others");
    register_beside(k, "like");
    is_taken(k, AT "like", "{\"kind\":\"file\",\"config\":{\"root\":\"/theirs\"}" UNSEEN "}",
             "/theirs");
}

static void test_limit(void **state)
{
    struct kit *k = *state;

    assert_int_equal(ty_conf_set(k->conf, "limits.datastores", "3", "test", NULL), 0);
    expect(k, "PUT", AT "one", S3(UNSEEN), 201, "one");
    expect(k, "PUT", AT "two", S3(UNSEEN), 429, "limits.datastores");
    expect(k, "PUT", AT "one",
           "{\"kind\":\"s3\",\"config\":{\"bucket\":\"abc\"},\"overwrite\":true" UNSEEN "}", 200,
           "abc");
}

static void test_folders(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *body = ty_strf(
        "{\"kind\":\"file\",\"config\":{\"root\":\"%s/new/deep\"},\"create_if_not_exists\":true}",
        k->dir);
    CLEANUP_FREE char *root = ty_path_join(k->dir, "new/deep");
    CLEANUP_FREE char *share = ty_strf(
        "{\"kind\":\"azurefile\",\"config\":{\"root\":\"%s\",\"account_name\":\"acc\",\"file_share_name\":\"sss\","
        "\"account_key\":\"QUJD\"}}",
        root);
    struct stat st;

    expect(k, "PUT", AT "here", body, 201, "\"root\":");
    assert_int_equal(stat(root, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    expect(k, "PUT", AT "here/files/a/b", "bytes", 201, "a/b");
    expect(k, "GET", AT "here/files/a/b", NULL, 200, "bytes");
    expect(k, "PUT", AT "share", share, 201, "\"kind\":\"file\"");
    expect(k, "GET", AT "share/files/a/b", NULL, 200, "bytes");
    expect(k, "PUT", AT "later",
           "{\"kind\":\"file\",\"config\":{\"root\":\"/no/such/folder\"}" UNSEEN "}", 201, "later");
}

/* The store is asked before it is registered: by another process, to which the key goes through a file that has no name. */
static void test_asked(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *asked = NULL, *argv = NULL, *env = NULL;

    agent_says(
        k, "echo '{\"error\":{\"code\":\"forbidden\",\"message\":\"the key is wrong\"}}'; exit 1");
    expect(k, "PUT", AT "sets", S3(), 400, "datastore 'sets' cannot be used: the key is wrong");
    expect(k, "GET", AT "sets", NULL, 404, "sets");
    agent_says(k, "exit 3");
    expect(k, "PUT", AT "sets", S3(), 500, "ended without an answer");
    agent_says(k, "echo '{\"warning\":\"x\"}'; echo '{\"done\":{}}'");
    expect(k, "PUT", AT "sets", S3(",\"create_if_not_exists\":true"), 201, "sets");
    asked = file_of(k, "asked");
    argv = file_of(k, "argv");
    env = file_of(k, "env");
    assert_non_null(strstr(asked, "\"do\":\"validate\",\"make\":true"));
    assert_non_null(strstr(asked, "\"secret_access_key\":\"hush-hush\""));
    assert_string_equal(argv, "data\n");
    assert_null(strstr(env, "hush"));
    agent_says(k, "exit 3"); /* nothing changes: it is not asked */
    expect(k, "PUT", AT "sets", S3(), 200, "sets");
    unlink(k->agent);
    expect(k, "PUT", AT "other", S3(), 404, "agent");
}

/* Nobody waits for ever for a store that says nothing. */
static void test_no_answer(void **state)
{
    struct kit *k = *state;

    agent_says(k, "exec sleep 600");
    setenv("TRAINYARD_TEST_HELPER_MS", "1000", 1);
    expect(k, "PUT", AT "sets", S3(), 400, "has not answered within 1 s");
    unsetenv("TRAINYARD_TEST_HELPER_MS");
    expect(k, "GET", AT "sets", NULL, 404, "sets");
}

/* A daemon that stops waits for no store. */
static void test_stop_while_asking(void **state)
{
    struct kit *k = *state;
    static const char body[] = S3();
    struct client *c = client_open(k);
    CLEANUP_FREE char *path = ty_path_join(k->dir, "asked");

    agent_says(k, "exec sleep 600");
    client_sendf(c,
                 "PUT " AT
                 "sets HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
    while (access(path, F_OK) < 0) {
        uv_run(&k->loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    kit_stop(k);
    client_until(c, "503");
    client_close(c);
}

static bool is_registered(void *ctx)
{
    CLEANUP_JSON json_t *j = NULL;

    return ty_store_datastore(((struct kit *)ctx)->store, "sets", &j) == 0;
}

/* A client that goes away does not disturb what it has begun. */
static void test_gone_while_asking(void **state)
{
    struct kit *k = *state;
    static const char body[] = S3();
    struct client *c = client_open(k);
    CLEANUP_FREE char *path = ty_path_join(k->dir, "asked");

    agent_says(k, "sleep 0.2; echo '{\"done\":{}}'");
    client_sendf(c, "PUT " AT "sets HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
    while (access(path, F_OK) < 0) {
        uv_run(&k->loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    client_close(c);
    kit_until(k, is_registered, k);
}

static void test_files_of_object_stores(void **state)
{
    struct kit *k = *state;

    expect(k, "PUT", AT "sets", S3(UNSEEN), 201, "sets");
    expect(k, "GET", AT "sets/files", NULL, 409, "`trainyard data` reaches them");
    expect(k, "GET", AT "sets/files/a", NULL, 409, "kind 's3'");
    expect(k, "PUT", AT "sets/files/a", "x", 409, "do not pass through the daemon");
}

/* What lies in the state folder tells no key; with another key file it cannot be opened, and says so. */
static void test_sealed(void **state)
{
    static const char *const names[] = { "state.db", "state.db-wal" };
    struct kit *k = *state;
    CLEANUP_FREE char *key = ty_path_join(k->dir, "secret.key");
    char other[32];

    expect(k, "PUT", AT "sets", S3(UNSEEN), 201, "sets");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CLEANUP_FREE char *path = ty_path_join(k->dir, names[i]);
        CLEANUP_FREE char *text = NULL;
        size_t n = 0;

        if (ty_read_file(path, 64 << 20, &text, &n) == 0 &&
            (memmem(text, n, "hush", 4) || memmem(text, n, "KEYID7", 6)))
            fail_msg("%s has a key", names[i]);
    }
    memset(other, 'x', sizeof other);
    assert_int_equal(ty_write_file(key, other, sizeof other, 0600), 0);
    expect(k, "GET", AT "sets/access", NULL, 500, "register it again");
    expect(k, "GET", AT "sets", NULL, 200, "access_key");
    expect(k, "PUT", AT "sets", S3(UNSEEN ",\"overwrite\":true"), 200, "sets");
    expect(k, "GET", AT "sets/access", NULL, 200, "hush");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_with_datastores, kit_close)
    const struct CMUnitTest tests[] = {
        T(test_life),
        T(test_the_services_own_stay),
        T(test_refused),
        T(test_two_at_once),
        T(test_limit),
        T(test_folders),
        T(test_asked),
        T(test_no_answer),
        T(test_stop_while_asking),
        T(test_gone_while_asking),
        T(test_files_of_object_stores),
        T(test_sealed),
    };

    return cmocka_run_group_tests_name("datastore_change", tests, NULL, NULL);
}
