/* test_snapshot_upload.c - only what is missing is sent, each blob once, then the manifest */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "fake.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <trainyard/client.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], sha_a[65], sha_b[65];

static void put(const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0755), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0644), 0);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-upload.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    put("a.txt", "alpha");
    put("again/a.txt", "alpha");
    put("b.txt", "beta");
    ty_sha256_hex("alpha", 5, sha_a);
    ty_sha256_hex("beta", 4, sha_b);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return ty_rm_rf(dir);
}

static void note(const struct ty_upload_progress *p, void *ctx)
{
    *(struct ty_upload_progress *)ctx = *p;
}

static struct ty_client *open_client(struct fake *f)
{
    struct ty_client_options o = { .home = fake_home(f), .no_start = true };
    struct ty_client *c = NULL;

    setenv("XDG_CACHE_HOME", fake_home(f), 1);
    assert_int_equal(ty_client_open(&o, &c, NULL), 0);
    return c;
}

static void test_sends_what_is_missing(void **state)
{
    CLEANUP_FREE char *lacks_a = ty_strf("%s\n", sha_a);
    struct fake_answer answers[] = {
        { .match = "POST /api/v1/blobs/missing", .raw = fake_reply(200, "text/plain", lacks_a) },
        { .match = "PUT", .raw = fake_reply(201, "application/json", "{}") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_upload_progress p = { 0 };
    struct ty_error err = { 0 };
    char id[65] = "", line[128];
    const char *body;
    size_t n;

    (void)state;
    assert_int_equal(ty_client_snapshot(c, dir, 0, 0, note, &p, id, &err), 0);
    assert_int_equal(strlen(id), 64);
    assert_int_equal(fake_count(f), 3);
    body = fake_body(f, 0, &n);
    assert_int_equal(n, 2 * 65); /* three files, two contents */
    assert_true(strstr(body, sha_a) && strstr(body, sha_b));
    snprintf(line, sizeof line, "PUT /api/v1/blobs/%s HTTP/1.1\r\n", sha_a);
    assert_memory_equal(fake_head(f, 1), line, strlen(line));
    assert_string_equal(fake_body(f, 1, &n), "alpha");
    snprintf(line, sizeof line, "PUT /api/v1/snapshots/%s HTTP/1.1\r\n", id);
    assert_memory_equal(fake_head(f, 2), line, strlen(line));
    assert_memory_equal(fake_body(f, 2, &n), "trainyard-snapshot 1\n", 21);
    assert_int_equal(p.files, 3);
    assert_int_equal(p.bytes, 14);
    assert_int_equal(p.to_send_files, 1);
    assert_int_equal(p.sent_bytes, 5);
    ty_client_free(c);
    fake_stop(f);
}

static void test_unknown_hash_from_the_daemon(void **state)
{
    struct fake_answer answers[] = {
        { .match = "POST", .raw = fake_reply(200, "text/plain", "0123\n") }, { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_error err = { 0 };
    char id[65] = "untouched";

    (void)state;
    assert_int_equal(ty_client_snapshot(c, dir, 0, 0, NULL, NULL, id, &err), -EIO);
    assert_non_null(strstr(err.text, "0123"));
    assert_string_equal(id, "untouched");
    ty_client_free(c);
    fake_stop(f);
}

static void test_limits_and_missing_folder(void **state)
{
    struct fake_answer answers[] = { { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_error err = { 0 };
    char id[65];

    (void)state;
    assert_int_equal(ty_client_snapshot(c, dir, 10, 0, NULL, NULL, id, &err), -EFBIG);
    assert_int_equal(ty_client_snapshot(c, dir, 0, 2, NULL, NULL, id, &err), -EFBIG);
    assert_int_equal(ty_client_snapshot(c, "/nonexistent/project", 0, 0, NULL, NULL, id, &err),
                     -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/project"));
    assert_int_equal(fake_count(f), 0);
    ty_client_free(c);
    fake_stop(f);
}

static void test_refused_blob_is_named(void **state)
{
    CLEANUP_FREE char *lacks_b = ty_strf("%s\n", sha_b);
    struct fake_answer answers[] = {
        { .match = "POST", .raw = fake_reply(200, "text/plain", lacks_b) },
        { .match = "PUT", .raw = fake_reply(507, "text/plain", "the disk is full") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_error err = { 0 };
    char id[65];

    (void)state;
    assert_int_equal(ty_client_snapshot(c, dir, 0, 0, NULL, NULL, id, &err), -ENOSPC);
    assert_true(strstr(err.text, "b.txt") && strstr(err.text, "the disk is full"));
    ty_client_free(c);
    fake_stop(f);
}

#ifdef TY_FAULTS
/* The folder cannot be opened: the daemon is not asked for anything. */
static void test_folder_that_cannot_be_opened(void **state)
{
    struct fake_answer answers[] = { { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client *c = open_client(f);
    struct ty_error err = { 0 };
    char id[65] = "as it was";

    (void)state;
    ty_fault_arm("client.snapshot_dir", 1, EIO);
    assert_int_equal(ty_client_snapshot(c, dir, 0, 0, NULL, NULL, id, &err), -EIO);
    ty_fault_arm(NULL, 0, 0);
    assert_non_null(strstr(err.text, dir));
    assert_non_null(strstr(err.text, "Input/output error"));
    assert_string_equal(id, "as it was");
    assert_int_equal(fake_count(f), 0);
    ty_client_free(c);
    fake_stop(f);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sends_what_is_missing),
        cmocka_unit_test(test_unknown_hash_from_the_daemon),
        cmocka_unit_test(test_limits_and_missing_folder),
        cmocka_unit_test(test_refused_blob_is_named),
#ifdef TY_FAULTS
        cmocka_unit_test(test_folder_that_cannot_be_opened),
#endif
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
