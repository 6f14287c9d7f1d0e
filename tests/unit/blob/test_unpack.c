/* test_unpack.c - a snapshot becomes a directory again, and the store stays what it was */
#include "base/fault.h"
#include "blob/snapshot.h"
#include "kit.h"

/* A folder with everything that a snapshot can hold, and its files in the store. */
static struct ty_snapshot *make(struct ty_blobs *b)
{
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];
    uint64_t bytes;

    assert_int_equal(ty_mkdir_p("src/a/b/empty", 0755), 0);
    tests_put("src/run.sh", "#!/bin/sh\n");
    assert_int_equal(chmod("src/run.sh", 0755), 0);
    tests_put("src/a/hello", "hello");
    tests_put("src/a/b/same", "hello");
    tests_put("src/zero", "");
    assert_int_equal(symlink("hello", "src/a/link"), 0);
    assert_int_equal(symlink("../zero", "src/a/up"), 0);
    assert_int_equal(ty_snapshot_from_dir("src", NULL, NULL, &s, &err), 0);
    assert_int_equal(ty_blob_put_file(b, "src/run.sh", sha, &bytes, &err), 0);
    assert_int_equal(ty_blob_put_file(b, "src/a/hello", sha, &bytes, &err), 0);
    assert_int_equal(ty_blob_put_file(b, "src/zero", sha, &bytes, &err), 0);
    return s;
}

static void test_there_and_back(void **state)
{
    struct ty_blobs *b = open_store();
    struct ty_snapshot *s = make(b), *again = NULL;
    struct ty_error err = { 0 };
    struct stat st;

    (void)state;
    if (ty_snapshot_unpack(s, b, "out", &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(ty_snapshot_from_dir("out", NULL, NULL, &again, &err), 0);
    assert_string_equal(ty_snapshot_id(again), ty_snapshot_id(s));
    assert_int_equal(stat("out/run.sh", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);
    assert_int_equal(stat("out/a/b/same", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(st.st_nlink, 1);
    ty_snapshot_free(again);
    ty_snapshot_free(s);
    ty_blobs_free(b);
}

/* A script may write to its own files; the next run gets the old ones. */
static void test_writing_does_not_change_the_store(void **state)
{
    struct ty_blobs *b = open_store();
    struct ty_snapshot *s = make(b);
    struct ty_error err = { 0 };
    CLEANUP_FREE char *text = NULL;
    char sha[TY_SHA256_HEX + 1];
    uint64_t bytes;
    size_t n;
    int fd;

    (void)state;
    assert_int_equal(ty_snapshot_unpack(s, b, "out", &err), 0);
    fd = open("out/a/hello", O_WRONLY | O_APPEND);
    assert_true(fd >= 0 && write(fd, "!", 1) == 1);
    close(fd);
    fd = ty_blob_open(b, SHA_HELLO);
    assert_int_equal(ty_sha256_file(fd, sha, &bytes), 0);
    close(fd);
    assert_string_equal(sha, SHA_HELLO);
    assert_int_equal(ty_snapshot_unpack(s, b, "next", &err), 0);
    assert_int_equal(ty_read_file("next/a/hello", 100, &text, &n), 0);
    assert_string_equal(text, "hello");
    ty_snapshot_free(s);
    ty_blobs_free(b);
}

static void test_a_folder_that_is_not_empty(void **state)
{
    struct ty_blobs *b = open_store();
    struct ty_snapshot *s = make(b);
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(mkdir("out", 0755), 0);
    assert_int_equal(symlink("/tmp", "out/a"), 0);
    assert_int_equal(ty_snapshot_unpack(s, b, "out", &err), -ENOTEMPTY);
    assert_non_null(strstr(err.text, "'out'"));
    assert_int_equal(files_below("out"), 1);
    ty_snapshot_free(s);
    ty_blobs_free(b);
}

static void test_content_that_is_not_there(void **state)
{
    struct ty_blobs *b = open_store();
    struct ty_snapshot *s = make(b);
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(chmod(BLOB_HELLO, 0600), 0);
    assert_int_equal(truncate(BLOB_HELLO, 3), 0);
    assert_int_equal(ty_snapshot_unpack(s, b, "cut", &err), -EBADMSG);
    assert_non_null(strstr(err.text, "is damaged"));
    assert_int_equal(ty_blob_remove(b, SHA_HELLO), 0);
    assert_int_equal(ty_snapshot_unpack(s, b, "gone", &err), -ENOENT);
    assert_non_null(strstr(err.text, SHA_HELLO));
    ty_snapshot_free(s);
    ty_blobs_free(b);
}

#ifdef TY_FAULTS
static void test_faults(void **state)
{
    static const char *const points[] = { "unpack.copy", "unpack.link", "unpack.mkdir" };
    struct ty_blobs *b = open_store();
    struct ty_snapshot *s = make(b);
    char dir[16];

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct ty_error err = { 0 };

        snprintf(dir, sizeof dir, "out%d", i);
        ty_fault_arm(points[i], 1, ENOSPC);
        assert_int_equal(ty_snapshot_unpack(s, b, dir, &err), -ENOSPC);
        ty_fault_arm("none", 0, 0);
        assert_non_null(strstr(err.text, "make room"));
    }
    ty_snapshot_free(s);
    ty_blobs_free(b);
}
#endif

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tests_enter, tests_leave)
    const struct CMUnitTest tests[] = {
        T(test_there_and_back),
        T(test_writing_does_not_change_the_store),
        T(test_a_folder_that_is_not_empty),
        T(test_content_that_is_not_there),
#ifdef TY_FAULTS
        T(test_faults),
#endif
    };

    return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
