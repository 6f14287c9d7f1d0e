/* test_recover.c - after a power cut: a blob that is not what its name says is not believed
 *
 * A cut is played by a blob that lost bytes and by another boot's word in the file `synced`.
 */
#include "base/fault.h"
#include "kit.h"

static void other_boot(int64_t synced_seconds_ago)
{
    tests_put("store/synced", "00000000-1111-2222-3333-444444444444");
    make_old("store/synced", synced_seconds_ago);
}

static void cut(const char *path)
{
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 2), 0);
    assert_int_equal(chmod(path, 0444), 0);
}

static int64_t bytes_after_opening(const char *sha)
{
    struct ty_blobs *b = open_store();
    int64_t bytes = ty_blob_bytes(b, sha);

    ty_blobs_free(b);
    return bytes;
}

static int enter(void **state)
{
    struct ty_blobs *b;
    char sha[TY_SHA256_HEX + 1];

    if (tests_enter(state) < 0)
        return -1;
    b = open_store();
    put_text(b, "hello", sha);
    ty_blobs_free(b);
    return 0;
}

static void test_a_whole_blob_stays(void **state)
{
    (void)state;
    other_boot(100);
    assert_true(bytes_after_opening(SHA_HELLO) == 5);
}

static void test_a_cut_blob_goes(void **state)
{
    (void)state;
    cut(BLOB_HELLO);
    other_boot(100);
    assert_int_equal(bytes_after_opening(SHA_HELLO), -ENOENT);
}

/* In the same boot nothing was cut by the power: nothing is read. */
static void test_once_a_boot(void **state)
{
    (void)state;
    cut(BLOB_HELLO);
    assert_true(bytes_after_opening(SHA_HELLO) == 2);
    other_boot(100);
    assert_int_equal(bytes_after_opening(SHA_HELLO), -ENOENT);
}

/* What was there before the last sync began is on the disk, whatever became of it: it is not read again. */
static void test_only_what_is_younger_than_the_last_sync(void **state)
{
    (void)state;
    cut(BLOB_HELLO);
    other_boot(-100);
    assert_true(bytes_after_opening(SHA_HELLO) == 2);
}

static void test_without_a_mark_everything_is_read(void **state)
{
    (void)state;
    cut(BLOB_HELLO);
    tests_put("store/synced", "");
    make_old("store/synced", -100);
    assert_int_equal(bytes_after_opening(SHA_HELLO), -ENOENT);
}

static void test_an_empty_blob_goes(void **state)
{
    (void)state;
    cut(BLOB_HELLO);
    assert_int_equal(truncate(BLOB_HELLO, 0), 0);
    other_boot(100);
    assert_int_equal(bytes_after_opening(SHA_HELLO), -ENOENT);
}

/* A sync moves the mark: what was put before is not read again. */
static void test_sync_moves_the_mark(void **state)
{
    struct ty_blobs *b = open_store();
    struct stat st;

    (void)state;
    make_old("store/synced", 1000);
    assert_int_equal(ty_blobs_sync(b), 0);
    assert_int_equal(stat("store/synced", &st), 0);
    assert_true(time(NULL) - st.st_mtim.tv_sec < 500);
    ty_blobs_free(b);
}

/* On a network file system another boot's word is another machine's, and a blob that is too short here is still on its way. */
static void test_a_store_that_machines_share(void **state)
{
    (void)state;
    setenv("TRAINYARD_TEST_NETWORK_FS", "store", 1);
    cut(BLOB_HELLO);
    other_boot(100);
    assert_true(bytes_after_opening(SHA_HELLO) == 2);
#ifdef TY_FAULTS
    struct ty_blobs *b = open_store();
    char sha[TY_SHA256_HEX + 1];

    ty_fault_arm("blob.fsync", 1, EIO); /* the bytes come before the name */
    assert_int_equal(ty_blob_put_bytes(b, "other", 5, sha, NULL), -EIO);
    ty_fault_arm("none", 0, 0);
    assert_int_equal(ty_blob_put_bytes(b, "other", 5, sha, NULL), 0);
    ty_blobs_free(b);
#endif
    unsetenv("TRAINYARD_TEST_NETWORK_FS");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, enter, tests_leave)
    const struct CMUnitTest tests[] = { T(test_a_whole_blob_stays),
                                        T(test_a_cut_blob_goes),
                                        T(test_once_a_boot),
                                        T(test_only_what_is_younger_than_the_last_sync),
                                        T(test_without_a_mark_everything_is_read),
                                        T(test_an_empty_blob_goes),
                                        T(test_sync_moves_the_mark),
                                        T(test_a_store_that_machines_share) };

    return cmocka_run_group_tests_name("recover", tests, NULL, NULL);
}
