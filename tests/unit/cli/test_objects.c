/* test_objects.c - trainyard data and object stores: what the data helper is asked, what is made of what it says, and where keys
 * come from
 *
 * The helper is a shell script beside a file that passes for the daemon's program; the real one is tested end to end.
 */
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
#include <unistd.h>

#include <cmocka.h>

#define ACCESS \
    "{\"name\": \"sets\", \"kind\": \"s3\", \"config\": {\"bucket\": \"b\", \"secret_access_key\": \"hush\"}}"

static struct fake *f;

static void is(struct captured c, int code, const char *out, const char *err)
{
    if (c.code != code || (out && strcmp(c.out, out) != 0) || (err && !strstr(c.err, err)))
        fail_msg("exit code %d, not %d: '%s' '%s'", c.code, code, c.out, c.err);
    if (strstr(c.out, "hush") || strstr(c.err, "hush"))
        fail_msg("a key was said: '%s' '%s'", c.out, c.err);
    captured_done(&c);
}

#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void put(const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(fake_home(f), name);

    assert_int_equal(ty_write_file(path, text, strlen(text), 0700), 0);
}

/* It keeps what it is asked in `asked-N`, and says what the file `says-N` has; N counts from 1. */
static void make_helper(void)
{
    CLEANUP_FREE char *daemon = ty_path_join(fake_home(f), "trainyardd");
    CLEANUP_FREE char *helper = ty_strf(
        "#!/bin/sh\ncd %s || exit 9\nn=1\nwhile [ -e asked-$n ]; do n=$((n + 1)); done\n"
        "cat > asked-$n\necho \"$@\" > argv\ncat says-$n\n. ./then-$n 2>/dev/null\nexit 0\n",
        fake_home(f));

    put("trainyardd", "");
    put("trainyard-agent", helper);
    setenv("TRAINYARD_DAEMON", daemon, 1);
}

static void asked(int n, const char *part)
{
    CLEANUP_FREE char *name = ty_strf("asked-%d", n);
    CLEANUP_FREE char *path = ty_path_join(fake_home(f), name);
    CLEANUP_FREE char *text = NULL;

    assert_int_equal(ty_read_file(path, 1 << 20, &text, NULL), 0);
    if (!strstr(text, part))
        fail_msg("asked %s, not %s", text, part);
}

static int begin(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/datastores/sets/access ", .raw = fake_json(ACCESS) },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no datastore 'x'") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    make_helper();
    return 0;
}

static int end(void **state)
{
    (void)state;
    unsetenv("TRAINYARD_DAEMON");
    fake_stop(f);
    return 0;
}

static void test_ls(void **state)
{
    (void)state;
    put("says-1",
        "{\"file\": {\"path\": \"a/b\", \"bytes\": 1500, \"etag\": \"x\", \"md5\": null, \"modified\": null}}\n"
        "{\"file\": {\"path\": \"c\", \"bytes\": 1, \"etag\": null, \"md5\": null, \"modified\": null}}\n"
        "{\"done\": {\"files\": 2}}\n");
    is(TRY("data", "ls", "sets"), 0, "PATH  SIZE\na/b   1.5 kB\nc     1 B\n", "");
    asked(1, "\"do\":\"ls\",\"path\":\"\"");
    asked(1, "\"secret_access_key\":\"hush\"");
    put("says-2", "{\"done\": {\"files\": 0}}\n");
    is(TRY("data", "ls", "--json", "sets:a/"), 0, "{\"files\":[]}\n", "");
    asked(2, "\"path\":\"a/\"");
    is(TRY("data", "ls", "x:"), 3, "", "there is no datastore 'x'");
}

static void test_put(void **state)
{
    CLEANUP_FREE char *up = ty_path_join(fake_home(f), "up"), *one = ty_path_join(up, "one");
    CLEANUP_FREE char *folder =
        ty_strf("\"do\":\"put\",\"local\":\"%s\",\"path\":\"in\",\"overwrite\":true", up);
    CLEANUP_FREE char *first =
        ty_strf("\"local\":\"%s\",\"path\":\"in/one\",\"overwrite\":false", one);
    CLEANUP_FREE char *second = ty_strf("\"local\":\"%s\",\"path\":\"in/up\",", up);

    (void)state;
    assert_int_equal(ty_mkdir_p(up, 0700), 0);
    put("up/one", "1");
    put("says-1",
        "{\"progress\": {\"bytes\": 1, \"total\": 1, \"files\": 1, \"files_total\": 1}}\n"
        "{\"file\": {\"path\": \"in/one\", \"state\": \"moved\"}}\n{\"warning\": \"mind \\u001b[2J\"}\n"
        "{\"done\": {\"files\": 3, \"bytes\": 1, \"there\": 2, \"failed\": 0}}\n");
    is(TRY("data", "put", "--overwrite", up, "sets:in"), 0, "",
       "stored 3 files in 'sets', 2 of them there already\n");
    asked(1, folder);
    put("says-2",
        "{\"file\": {\"path\": \"a\", \"state\": \"failed\", \"error\": {\"code\": \"conflict\", \"message\": \"first\"}}}\n"
        "{\"file\": {\"path\": \"b\", \"state\": \"failed\", \"error\": {\"code\": \"conflict\", \"message\": \"second\"}}}\n"
        "{\"error\": {\"code\": \"conflict\", \"message\": \"first, and 1 other\"}}\n");
    is(TRY("data", "put", up, "sets:in"), 5, "",
       "trainyard: second\ntrainyard: first, and 1 other\n");
    put("says-3", "{\"done\": {\"files\": 1, \"there\": 1}}\n");
    put("says-4", "{\"done\": {\"files\": 2, \"there\": 0}}\n");
    is(TRY("data", "put", one, up, "sets:in"), 0, "",
       "stored 3 files in 'sets', 1 of them there already\n");
    asked(3, first);
    asked(4, second);
}

static void test_get(void **state)
{
    CLEANUP_FREE char *into = ty_path_join(fake_home(f), "into");
    CLEANUP_FREE char *folder =
        ty_strf("\"path\":\"a/set\",\"local\":\"%s/set\",\"overwrite\":false", into);
    CLEANUP_FREE char *file = ty_strf("\"path\":\"a/x\",\"local\":\"%s\"", into);
    CLEANUP_FREE char *below = ty_strf("\"path\":\"a/x\",\"local\":\"%s/x\"", into);
    CLEANUP_FREE char *all = ty_strf("\"path\":\"\",\"local\":\"%s\"", into);
    static const char
        none[] = "{\"error\": {\"code\": \"not_found\", \"message\": \"no such object\"}}\n",
        there[] = "{\"file\": {\"path\": \"a/x\", \"bytes\": 1}}\n{\"done\": {\"files\": 1}}\n",
        done[] = "{\"done\": {\"files\": 1, \"bytes\": 1, \"there\": 0, \"failed\": 0}}\n";

    (void)state;
    put("says-1", none); /* no object: a folder */
    put("says-2", done);
    is(TRY("data", "get", "sets:a/set/", into), 0, "", "1 file in");
    asked(1, "\"do\":\"stat\",\"path\":\"a/set\"");
    asked(2, folder);
    put("says-3", there);
    put("says-4", done);
    is(TRY("data", "get", "sets:a/x", into), 0, "", NULL);
    asked(4, file);
    assert_int_equal(ty_mkdir_p(into, 0700), 0); /* now it is a folder */
    put("says-5", there);
    put("says-6", done);
    is(TRY("data", "get", "sets:a/x", into), 0, "", NULL);
    asked(6, below);
    put("says-7", done); /* everything: nothing is looked up */
    is(TRY("data", "get", "sets:", into), 0, "", NULL);
    asked(7, all);
    put("says-8", "{\"error\": {\"code\": \"forbidden\", \"message\": \"the key is wrong\"}}\n");
    is(TRY("data", "get", "sets:a", into), 4, "", "the key is wrong");
}

/* A helper that is not there, dies, or talks nonsense. */
static void test_no_helper(void **state)
{
    CLEANUP_FREE char *path = ty_path_join(fake_home(f), "trainyard-agent");

    (void)state;
    put("says-1", "");
    is(TRY("data", "ls", "sets:"), 1, "", "ended without saying what came of it");
    put("says-2", "good morning\n");
    is(TRY("data", "ls", "sets:"), 1, "", "what trainyard-agent said");
    unlink(path);
    is(TRY("data", "ls", "sets:"), 3, "", "the data helper");
    setenv("TRAINYARD_DAEMON", "/no/such/trainyardd", 1);
    is(TRY("data", "ls", "sets:"), 3, "", "/no/such/trainyardd");
}

/* ---- datastores themselves ---- */

static void test_show(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/datastores/sets ",
          .raw = fake_json(
              "{\"name\": \"sets\", \"kind\": \"azureblob\", \"config\": {\"account_name\": \"acc\", \"container_name\": \"con\", "
              "\"prefix\": \"p\", \"protocol\": \"https\", \"endpoint\": \"core.windows.net\"}, \"credentials\": \"sas_token\", "
              "\"default\": true, \"created\": \"2026-01-01T00:00:00.000000Z\"}") },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no datastore 'x'") },
        { .match = "POST /api/v1/datastores/sets/default ", .raw = fake_json("{}") },
        { .match = "DELETE /api/v1/datastores/sets ", .raw = fake_reply(204, "text/plain", "") },
        { .match = "DELETE", .raw = fake_reply(409, "text/plain", "'first_1' for one") },
        { 0 }
    };
    struct captured c;

    (void)state;
    f = fake_start(answers);
    c = TRY("data", "show", "sets");
    assert_int_equal(c.code, 0);
    assert_non_null(strstr(c.out, "where          https://acc.blob.core.windows.net/con/p\n"));
    assert_non_null(strstr(c.out, "credentials    sas_token\n"));
    captured_done(&c);
    is(TRY("data", "show", "x"), 3, "", "there is no datastore 'x'");
    is(TRY("data", "default", "sets"), 0, "", "the default datastore is 'sets'\n");
    is(TRY("data", "rm", "busy", "sets"), 5, "",
       "trainyard: 'first_1' for one\nforgot datastore 'sets'; its data stays where it is\n");
    fake_stop(f);
}

static void body(int n, const char *want)
{
    const char *got = fake_body(f, n, NULL);

    if (strcmp(got, want) != 0)
        fail_msg("sent %s, not %s", got, want);
}

#define REST ",\"overwrite\":false,\"create_if_not_exists\":false,\"skip_validation\":false}"

static void test_add(void **state)
{
    struct fake_answer answers[] = { { .match = "PUT", .raw = fake_json("{}") }, { 0 } };

    (void)state;
    f = fake_start(answers);
    CLEANUP_FREE char *file = ty_path_join(fake_home(f), "key");

    put("key", "hush/+=\n");
    setenv("TY_TEST_KEY", "hush-env", 1);
    is(TRY("data", "add", "a", "--root", "/srv/a"), 0, "", "registered datastore 'a'\n");
    body(0, "{\"kind\":\"file\",\"config\":{\"root\":\"/srv/a\"}" REST);
    is(TRY("data", "add", "s", "--bucket", "b", "--prefix", "p", "--endpoint", "http://h:1",
           "--path-style", "no", "--key-id", "id", "--key-file", file, "--token-env", "TY_TEST_KEY",
           "--create", "--overwrite", "--skip-validation"),
       0, "", "registered datastore 's'\n");
    body(
        1,
        "{\"kind\":\"s3\",\"config\":{\"bucket\":\"b\",\"prefix\":\"p\",\"endpoint\":\"http://h:1\",\"access_key_id\":\"id\","
        "\"path_style\":false,\"secret_access_key\":\"hush/+=\",\"session_token\":\"hush-env\"},"
        "\"overwrite\":true,\"create_if_not_exists\":true,\"skip_validation\":true}");
    is(TRY("data", "add", "z", "--account", "acc", "--container", "con", "--sas", "--key-env",
           "TY_TEST_KEY"),
       0, "", "registered");
    body(
        2,
        "{\"kind\":\"azureblob\",\"config\":{\"account_name\":\"acc\",\"container_name\":\"con\",\"sas_token\":\"hush-env\"}" REST);
    is(TRY("data", "add", "z", "--account", "acc", "--container", "con", "--key-env",
           "TY_TEST_KEY"),
       0, "", NULL);
    body(
        3,
        "{\"kind\":\"azureblob\",\"config\":{\"account_name\":\"acc\",\"container_name\":\"con\",\"account_key\":\"hush-env\"}" REST);
    is(TRY("data", "add", "z", "--bucket", "b", "--no-key"), 0, "", NULL);
    body(4, "{\"kind\":\"s3\",\"config\":{\"bucket\":\"b\"}" REST);
    is(TRY("data", "add", "m", "--share", "sss", "--account", "acc", "--root", "/mnt"), 0, "",
       NULL);
    body(
        5,
        "{\"kind\":\"azurefile\",\"config\":{\"root\":\"/mnt\",\"account_name\":\"acc\",\"file_share_name\":\"sss\"}" REST);
    fake_stop(f);
}

static void test_add_refused(void **state)
{
    struct fake_answer answers[] = { { 0 } };

    (void)state;
    f = fake_start(answers);
    put("key", "\n");
    CLEANUP_FREE char *file = ty_path_join(fake_home(f), "key");

    is(TRY("data", "add", "a"), 2, "", "which kind?");
    is(TRY("data", "add", "--root", "/x"), 2, "", "data add");
    is(TRY("data", "add", "a", "--bucket", "b", "--key-id", "i"), 2, "",
       "where is the secret access key? Give --key-env");
    is(TRY("data", "add", "a", "--container", "b", "--sas"), 2, "", "where is the SAS token?");
    is(TRY("data", "add", "a", "--bucket", "b", "--key-env", "TY_TEST_NOT_SET"), 2, "",
       "there is no environment variable");
    is(TRY("data", "add", "a", "--bucket", "b", "--key-file", "/no/such/file"), 3, "",
       "/no/such/file");
    is(TRY("data", "add", "a", "--bucket", "b", "--key-file", file), 2, "",
       "the secret access key is empty");
    is(TRY("data", "add", "a", "--bucket", "b", "--no-key", "--key-file", file), 2, "",
       "give one of them");
    is(TRY("data", "add", "a", "--bucket", "b", "--key-env", "X", "--key-file", file), 2, "",
       "give one of them");
    is(TRY("data", "add", "a", "--bucket", "b", "--sas", "--key-file", file), 2, "",
       "--sas is for kind azureblob");
    is(TRY("data", "add", "a", "--bucket", "b", "--no-key", "--path-style", "maybe"), 2, "",
       "must be yes or no");
    assert_int_equal(fake_count(f), 0);
    fake_stop(f);
}

int main(void)
{
#define H(t) cmocka_unit_test_setup_teardown(t, begin, end)
    const struct CMUnitTest tests[] = {
        H(test_ls),
        H(test_put),
        H(test_get),
        H(test_no_helper),
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_add_refused),
    };

    return cmocka_run_group_tests_name("objects", tests, NULL, NULL);
}
