/* test_store.c - opening: what cannot be opened is refused with a sentence, and nothing is left
 * behind */
#include "base/fs.h"
#include "kit.h"
#include "store/store_internal.h"
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void refused(struct kit *k, int want, const char *word)
{
    struct ty_error err = { 0 };

    k->st = NULL;
    assert_int_equal(kit_open(k, &err), want);
    assert_null(k->st);
    assert_int_equal(err.code, want);
    assert_non_null(strstr(err.text, "state.db"));
    if (!strstr(err.text, word))
        fail_msg("'%s' does not say '%s'", err.text, word);
}

static void test_files_are_private(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);
    struct stat sb;

    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
}

static void test_a_newer_version_is_refused(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *back = ty_strf("PRAGMA user_version = %d", store_version);

    kit_close(k);
    kit_sql(k, "PRAGMA user_version = 99");
    refused(k, -EPROTO, "newer Trainyard");
    kit_sql(k, back);
    assert_int_equal(kit_open(k, NULL), 0);
}

/* Version 4 kept no times of log bytes; what it kept stays. */
static void test_an_older_version_is_taken_forward(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL), found = 0;
    struct ty_unit *u = ty_unit_new();

    kit_close(k);
    kit_sql(k, "DROP TABLE log_time; DROP TABLE registered; DROP TABLE environment; "
               "ALTER TABLE datastore DROP COLUMN sealed; PRAGMA user_version = 4");
    assert_int_equal(kit_open(k, NULL), 0);
    assert_int_equal(ty_store_run_id(k->st, "x", &found), 0);
    assert_int_equal(found, id);
    ty_unit_log(u, id, "x", "log", 0, "bytes", 5, T0);
    assert_int_equal(kit_commit(k, u), 0);
}

static void test_a_stranger_is_refused(void **state)
{
    struct kit *k = *state;

    kit_close(k);
    kit_sql(k, "PRAGMA application_id = 5; PRAGMA user_version = 0");
    refused(k, -EPROTO, "another program");
}

static void test_a_damaged_file_is_refused(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);
    char junk[8192];

    memset(junk, 'j', sizeof junk);
    kit_close(k);
    assert_int_equal(ty_write_file(path, junk, sizeof junk, 0600), 0);
    refused(k, -EBADMSG, "damaged");
}

static void test_a_folder_in_its_place_is_refused(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);

    kit_close(k);
    assert_int_equal(ty_rm_rf(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(k, -EISDIR, "directory");
}

#ifdef TY_FAULTS
/* Each fault point of opening in turn, until a whole pass meets none. */
static void test_every_failure_of_opening_is_clean(void **state)
{
    static const struct {
        int error;
        const char *word;
    } errors[] = { { ENOSPC, "disk is full" }, { EROFS, "read-only" }, { EIO, "error" } };
    struct kit *k = *state;
    int visit;

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct ty_error err = { 0 };

        kit_close(k);
        for (visit = 1; visit < 40; visit++) {
            CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);

            ty_rm_rf(path);
            ty_fault_arm("store.open", visit, errors[i].error);
            err = (struct ty_error){ 0 };
            if (kit_open(k, &err) == 0)
                break;
            assert_int_equal(err.code, -errors[i].error);
            assert_null(k->st);
            if (!strstr(err.text, errors[i].word))
                fail_msg("'%s' does not say '%s'", err.text, errors[i].word);
        }
        assert_in_range(visit, 8, 40);
        kit_run(k, "x", "e", NULL);
        assert_int_equal(ty_store_run_id(k->st, "y", &(int64_t){ 0 }), -ENOENT);
    }
}
#endif

static void test_close_accepts_null(void **state)
{
    (void)state;
    assert_null(ty_store_close(NULL));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_files_are_private),
        T(test_a_newer_version_is_refused),
        T(test_an_older_version_is_taken_forward),
        T(test_a_stranger_is_refused),
        T(test_a_damaged_file_is_refused),
        T(test_a_folder_in_its_place_is_refused),
#ifdef TY_FAULTS
        T(test_every_failure_of_opening_is_clean),
#endif
        cmocka_unit_test(test_close_accepts_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
