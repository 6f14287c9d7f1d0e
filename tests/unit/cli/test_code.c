/* test_code.c - in which files two snapshots differ, and in which lines */
#include "base/error.h"
#include "base/str.h"
#include "capture.h"
#include "cli/code.h"
#include "fake.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <trainyard/client.h>

#include <cmocka.h>

#define HEAD "trainyard-snapshot 1\n"
#define HASH(digit) digit "000000000000000000000000000000000000000000000000000000000000000"
#define F(digit, bytes, path) "f 644 " bytes " " HASH(digit) " " path "\n"
#define FILE_JSON(digit, bytes) \
    "{\"type\": \"file\", \"bytes\": " bytes ", \"mode\": \"644\", \"sha256\": \"" HASH(digit) "\"}"

static void files_are(const char *before, const char *after, const char *want)
{
    CLEANUP_JSON json_t *have = NULL;
    CLEANUP_JSON json_t *expected = json_loads(want, 0, NULL);
    CLEANUP_FREE char *text = NULL;

    assert_non_null(expected);
    assert_int_equal(ty_code_compare(before, after, &have, NULL), 0);
    text = json_dumps(have, 0);
    if (!json_equal(have, expected))
        fail_msg("%s, not %s", text, want);
}

static void test_files(void **state)
{
    (void)state;
    files_are(
        HEAD F("1", "5", "a") F("2", "6", "b") F("3", "7", "d"),
        HEAD F("1", "5", "a") F("4", "8", "b") F("5", "9", "c"),
        "[{\"path\": \"b\", \"change\": \"changed\", \"before\": " FILE_JSON("2", "6") ", \"after\": " FILE_JSON(
            "4",
            "8") "}, "
                 "{\"path\": \"c\", \"change\": \"added\", \"before\": null, \"after\": " FILE_JSON(
                     "5", "9") "}, "
                               "{\"path\": \"d\", \"change\": \"removed\", \"before\": " FILE_JSON(
                                   "3", "7") ", \"after\": null}]");
    files_are("", HEAD, "[]");
    files_are(HEAD F("1", "5", "a"), HEAD F("1", "5", "a"), "[]");
    files_are("", HEAD F("1", "5", "a"),
              "[{\"path\": \"a\", \"change\": \"added\", \"before\": null, \"after\": " FILE_JSON(
                  "1", "5") "}]");
}

/* Order is that of the plain path, not of how it is written. */
static void test_odd_entries(void **state)
{
    (void)state;
    files_are(
        HEAD "f 644 1 " HASH("1") " a%25\nl - 1 - l%3E -> a\n",
        HEAD "f 755 1 " HASH("1") " a%25\nl - 1 - l%3E -> b\nd - - - x\n",
        "[{\"path\": \"a%\", \"change\": \"changed\", \"before\": " FILE_JSON(
            "1",
            "1") ", \"after\": "
                 "{\"type\": \"file\", \"bytes\": 1, \"mode\": \"755\", \"sha256\": \"" HASH(
                     "1") "\"}}, "
                          "{\"path\": \"l>\", \"change\": \"changed\", \"before\": {\"type\": \"link\", \"target\": \"a\"}, \"after\": "
                          "{\"type\": \"link\", \"target\": \"b\"}}, "
                          "{\"path\": \"x\", \"change\": \"added\", \"before\": null, \"after\": {\"type\": \"folder\"}}]");
    files_are(
        HEAD, HEAD "d - - - \xff\n",
        "[{\"path\": \"?\", \"change\": \"added\", \"before\": null, \"after\": {\"type\": \"folder\"}, "
        "\"inexact\": true}]");
}

static void test_not_a_manifest(void **state)
{
    struct ty_error err = { 0 };
    json_t *files = NULL;

    (void)state;
    assert_int_equal(ty_code_compare("", "trainyard-snapshot 2\n", &files, &err), -EPROTO);
    assert_non_null(strstr(err.text, "'trainyard-snapshot 2'"));
    assert_int_equal(ty_code_compare(HEAD "f 644\n", "", &files, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "line 2 of a manifest"));
    assert_int_equal(ty_code_compare(HEAD "l - 1 - x\n", "", &files, &err), -EBADMSG);
    assert_int_equal(ty_code_compare(HEAD "d - - - %G0\n", "", &files, &err), -EBADMSG);
    assert_null(files);
}

struct call {
    const char *home;
    const json_t *files;
    struct ty_str out;
    struct ty_error err;
    int r;
};

static int lines(void *ctx)
{
    struct call *c = ctx;
    struct ty_client_options o = { .home = c->home, .no_start = true };
    struct ty_cli cli = { 0 };

    if (ty_client_open(&o, &cli.client, NULL) < 0)
        abort();
    c->r = ty_code_lines(&cli, "one", "two", c->files, &c->out, &c->err);
    ty_client_free(cli.client);
    return 0;
}

static void compare_lines(struct fake *f, const char *before, const char *after, struct call *c)
{
    CLEANUP_JSON json_t *files = NULL;
    struct captured said;

    *c = (struct call){ .home = fake_home(f) };
    assert_int_equal(ty_code_compare(before, after, &files, NULL), 0);
    c->files = files;
    said = capture_call(lines, c);
    captured_done(&said);
}

static void test_lines(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/snapshots/one/files/sub/a%20b.py ",
          .raw = fake_reply(200, "application/octet-stream", "x = 1\nsame\n") },
        { .match = "GET /api/v1/snapshots/two/files/sub/a%20b.py ",
          .raw = fake_reply(200, "application/octet-stream", "x = 2\nsame\n") },
        { .match = "GET /api/v1/snapshots/one/files/zero ",
          .raw = fake_reply(200, "application/octet-stream", "text") },
        { .match = "GET /api/v1/snapshots/two/files/zero ",
          .raw = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\0b",
          .raw_len = sizeof "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\0b" - 1 },
        { 0 }
    };
    char folder[] = "/tmp/ty-code-XXXXXX";
    struct fake *f = fake_start(answers);
    struct call c;

    (void)state;
    assert_non_null(mkdtemp(folder));
    setenv("TMPDIR", folder, 1);
    compare_lines(
        f,
        HEAD "f 644 9 " HASH("1") " big\nf 644 1 " HASH("1") " mode\n" F("1", "1", "sub/a b.py")
            F("1", "1", "zero"),
        HEAD "f 644 99999999 " HASH("2") " big\nf 755 1 " HASH("1") " mode\nf 644 1 " HASH(
            "3") " new\n" F("2", "1", "sub/a b.py") F("2", "1", "zero"),
        &c);
    assert_int_equal(c.r, 0);
    assert_string_equal(
        c.out.text, "Files a/big and b/big differ\n"
                    "--- a/sub/a b.py\n+++ b/sub/a b.py\n@@ -1,2 +1,2 @@\n-x = 1\n+x = 2\n same\n"
                    "Binary files a/zero and b/zero differ\n");
    assert_int_equal(fake_count(f), 4);
    assert_int_equal(rmdir(folder), 0); /* nothing is left in it */
    ty_str_done(&c.out);
    compare_lines(f, HEAD F("1", "1", "gone"), HEAD F("2", "1", "gone"), &c);
    assert_true(c.r < 0);
    ty_str_done(&c.out);
    unsetenv("TMPDIR");
    fake_stop(f);
}

static void test_without_diff(void **state)
{
    struct fake_answer answers[] = { { 0 } };
    CLEANUP_FREE char *path = strdup(getenv("PATH"));
    struct fake *f = fake_start(answers);
    struct call c;

    (void)state;
    setenv("PATH", "/nowhere", 1);
    compare_lines(f, HEAD, HEAD F("1", "1", "a"), &c);
    setenv("PATH", path, 1);
    assert_int_equal(c.r, -ENOENT);
    assert_non_null(strstr(c.err.text, "install diffutils"));
    assert_int_equal(fake_count(f), 0);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),          cmocka_unit_test(test_odd_entries),
        cmocka_unit_test(test_not_a_manifest), cmocka_unit_test(test_lines),
        cmocka_unit_test(test_without_diff),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
