/* test_blob.c - files named by their content: whole or not there, read-only, never doubled */
#include "base/fault.h"
#include "kit.h"

static void test_hashes(void **state)
{
    char sha[TY_SHA256_HEX + 1];
    uint64_t bytes = 0;
    int fd;

    (void)state;
    ty_sha256_hex("hello", 5, sha);
    assert_string_equal(sha, SHA_HELLO);
    tests_put("h", "hello");
    fd = open("h", O_RDONLY);
    assert_int_equal(ty_sha256_file(fd, sha, &bytes), 0);
    close(fd);
    assert_string_equal(sha, SHA_HELLO);
    assert_int_equal(bytes, 5);
}

static void test_a_blob_is_a_file_that_cannot_be_written(void **state)
{
    struct ty_blobs *b = open_store();
    CLEANUP_FREE char *text = NULL;
    char sha[TY_SHA256_HEX + 1];
    struct stat st;
    size_t n;
    int fd;

    (void)state;
    assert_false(ty_blob_has(b, SHA_HELLO));
    assert_int_equal(ty_blob_bytes(b, SHA_HELLO), -ENOENT);
    put_text(b, "hello", sha);
    assert_string_equal(sha, SHA_HELLO);
    assert_true(ty_blob_has(b, sha));
    assert_int_equal(ty_blob_bytes(b, sha), 5);
    assert_int_equal(stat(BLOB_HELLO, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_int_equal(ty_read_file(BLOB_HELLO, 100, &text, &n), 0);
    assert_string_equal(text, "hello");
    fd = ty_blob_open(b, sha);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), -1);
    close(fd);
    assert_int_equal(ty_blob_remove(b, sha), 0);
    assert_int_equal(ty_blob_open(b, sha), -ENOENT);
    ty_blobs_free(b);
}

static void test_names_that_are_none(void **state)
{
    static const char *const names[] = {
        "",
        "abc",
        "../../../../etc/passwd",
        SHA_HELLO "0",
        "2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824",
        "../24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    };
    struct ty_blobs *b = open_store();

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_false(ty_blob_has(b, names[i]));
        assert_int_equal(ty_blob_open(b, names[i]), -EINVAL);
        assert_int_equal(ty_blob_bytes(b, names[i]), -EINVAL);
        assert_int_equal(ty_blob_remove(b, names[i]), -EINVAL);
    }
    ty_blobs_free(b);
}

static void test_putting_again_touches(void **state)
{
    struct ty_blobs *b = open_store();
    char sha[TY_SHA256_HEX + 1];
    struct stat before, after;

    (void)state;
    put_text(b, "hello", sha);
    make_old(BLOB_HELLO, 5000);
    assert_int_equal(stat(BLOB_HELLO, &before), 0);
    put_text(b, "hello", sha);
    assert_int_equal(stat(BLOB_HELLO, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_true(after.st_mtim.tv_sec > before.st_mtim.tv_sec);
    make_old(BLOB_HELLO, 5000);
    assert_true(ty_blob_has(b, sha));
    assert_int_equal(stat(BLOB_HELLO, &after), 0);
    assert_true(after.st_mtim.tv_sec > before.st_mtim.tv_sec);
    assert_int_equal(files_below("store/tmp"), 0);
    ty_blobs_free(b);
}

static void test_a_blob_that_was_cut_is_replaced(void **state)
{
    struct ty_blobs *b = open_store();
    char sha[TY_SHA256_HEX + 1];

    (void)state;
    put_text(b, "hello", sha);
    assert_int_equal(truncate(BLOB_HELLO, 2), 0);
    put_text(b, "hello", sha);
    assert_int_equal(ty_blob_bytes(b, sha), 5);
    ty_blobs_free(b);
}

static void test_pieces_and_what_was_announced(void **state)
{
    struct ty_blobs *b = open_store();
    struct ty_error err = { 0 };
    struct ty_blob_put *p;
    char sha[TY_SHA256_HEX + 1] = "untouched";

    (void)state;
    assert_int_equal(ty_blob_begin(b, &p, &err), 0);
    assert_int_equal(ty_blob_write(p, "hel", 3, &err), 0);
    assert_int_equal(ty_blob_write(p, "", 0, &err), 0);
    assert_int_equal(ty_blob_write(p, "lo", 2, &err), 0);
    assert_int_equal(ty_blob_finish(p, SHA_HELLO, sha, &err), 0);
    assert_string_equal(sha, SHA_HELLO);

    snprintf(sha, sizeof sha, "untouched");
    assert_int_equal(ty_blob_begin(b, &p, &err), 0);
    assert_int_equal(ty_blob_write(p, "HELLO", 5, &err), 0);
    assert_int_equal(ty_blob_finish(p, SHA_HELLO, sha, &err), -EBADMSG);
    assert_non_null(strstr(err.text, SHA_HELLO));
    assert_string_equal(sha, "untouched");

    assert_int_equal(ty_blob_begin(b, &p, &err), 0);
    ty_blob_abort(p);
    ty_blob_abort(NULL);
    assert_int_equal(files_below("store/tmp"), 0);
    assert_int_equal(ty_blobs_sync(b), 0);
    ty_blobs_free(b);
}

static void test_whole_files(void **state)
{
    struct ty_blobs *b = open_store();
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];
    uint64_t bytes = 7;
    struct stat from, to;

    (void)state;
    tests_put("file", "hello");
    assert_int_equal(ty_blob_put_file(b, "file", sha, &bytes, &err), 0);
    assert_string_equal(sha, SHA_HELLO);
    assert_int_equal(bytes, 5);
    assert_int_equal(stat("file", &from), 0);
    assert_int_equal(stat(BLOB_HELLO, &to), 0);
    assert_int_not_equal(from.st_ino, to.st_ino);
    assert_int_equal(to.st_nlink, 1);
    assert_int_equal(ty_blob_put_file(b, "absent", sha, &bytes, &err), -ENOENT);
    assert_non_null(strstr(err.text, "'absent'"));
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_int_equal(ty_blob_put_file(b, "pipe", sha, &bytes, &err),
                     -EINVAL); /* and does not wait */
    assert_int_equal(ty_blob_put_file(b, ".", sha, &bytes, &err), -EINVAL);
    assert_int_equal(files_below("store/tmp"), 0);
    ty_blobs_free(b);
}

static void test_a_store_that_cannot_be(void **state)
{
    struct ty_blobs *b = NULL;
    struct ty_error err = { 0 };

    (void)state;
    tests_put("plain", "");
    assert_int_equal(ty_blobs_open("plain/store", &b, &err), -ENOTDIR);
    assert_non_null(strstr(err.text, "'plain/store'"));
    assert_null(b);
}

#ifdef TY_FAULTS
/* Each point fails in turn: an error with a sentence, no blob, nothing left in tmp/. */
static void test_faults(void **state)
{
    static const char *const points[] = { "blob.open", "blob.write", "blob.rename" };
    struct ty_blobs *b = open_store();

    (void)state;
    tests_put("file", "hello");
    ty_blob_remove(b, SHA_HELLO);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        for (int from_file = 0; from_file < 2; from_file++) {
            struct ty_error err = { 0 };
            char sha[TY_SHA256_HEX + 1] = "untouched";
            uint64_t bytes;

            ty_fault_arm(points[i], 1, ENOSPC);
            assert_int_equal(from_file ? ty_blob_put_file(b, "file", sha, &bytes, &err)
                                       : ty_blob_put_bytes(b, "hello", 5, sha, &err),
                             -ENOSPC);
            ty_fault_arm("none", 0, 0);
            assert_non_null(strstr(err.text, "free); make room"));
            assert_string_equal(sha, "untouched");
            assert_false(ty_blob_has(b, SHA_HELLO));
            assert_int_equal(files_below("store/tmp"), 0);
        }
    /* After a write that failed, nothing can be made of the rest. */
    struct ty_blob_put *p;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];

    assert_int_equal(ty_blob_begin(b, &p, &err), 0);
    ty_fault_arm("blob.write", 1, EIO);
    assert_int_equal(ty_blob_write(p, "hel", 3, &err), -EIO);
    assert_int_equal(ty_blob_write(p, "lo", 2, &err), -EIO);
    assert_int_equal(ty_blob_finish(p, NULL, sha, &err), -EIO);
    assert_int_equal(files_below("store/tmp"), 0);
    ty_fault_arm("blob.sync", 1, EIO);
    assert_int_equal(ty_blobs_sync(b), -EIO);
    ty_fault_arm("none", 0, 0);
    ty_blobs_free(b);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_a_blob_is_a_file_that_cannot_be_written),
        cmocka_unit_test(test_names_that_are_none),
        cmocka_unit_test(test_putting_again_touches),
        cmocka_unit_test(test_a_blob_that_was_cut_is_replaced),
        cmocka_unit_test(test_pieces_and_what_was_announced),
        cmocka_unit_test(test_whole_files),
        cmocka_unit_test(test_a_store_that_cannot_be),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults),
#endif
    };

    return cmocka_run_group_tests_name("blob", tests, tests_enter, tests_leave);
}
