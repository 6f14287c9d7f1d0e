/* test_store_log.c - log bytes: once each, without gaps, beside the tables and never ahead of them */
#include "base/fs.h"
#include "kit.h"
#include <sys/stat.h>

#define DRIVER "azureml-logs/70_driver_log.txt"

static int put(struct kit *k, int64_t id, const char *run, const char *log, uint64_t offset,
               const char *text)
{
    struct ty_unit *u = ty_unit_new();

    ty_unit_log(u, id, run, log, offset, text, strlen(text));
    return kit_commit(k, u);
}

static void log_is(struct kit *k, int64_t id, const char *run, const char *log, const char *want)
{
    CLEANUP_FREE char *path = ty_store_log_path(k->st, run, log);
    CLEANUP_FREE char *have = NULL;
    uint64_t bytes = 999;
    size_t n;

    assert_int_equal(ty_store_log_size(k->st, id, log, &bytes), 0);
    assert_int_equal(ty_read_file(path, 1 << 20, &have, &n), 0);
    assert_true(n >= bytes);
    have[bytes] = '\0';
    assert_string_equal(have, want);
}

static void test_each_byte_once(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    assert_int_equal(put(k, id, "x", DRIVER, 0, "one\n"), 0);
    assert_int_equal(put(k, id, "x", DRIVER, 0, "one\n"), 0);
    assert_int_equal(put(k, id, "x", DRIVER, 2, "E\ntwo\n"), 0); /* what is stored stays */
    assert_int_equal(put(k, id, "x", DRIVER, 9, "gap"), -EPROTO);
    assert_int_equal(put(k, id, "x", "other", 1, "gap"), -EPROTO);
    assert_int_equal(put(k, id, "x", "empty", 0, ""), 0);
    assert_int_equal(put(k, id + 1, "y", DRIVER, 0, "no run"), -ENOENT);
    assert_int_equal(ty_store_failed(k->st), 0);
    log_is(k, id, "x", DRIVER, "one\ntwo\n");
    log_is(k, id, "x", "empty", "");
}

static void test_names_that_lead_out_are_refused(void **state)
{
    static const char *const bad[] = { "../x", "/etc/x", "a/../../x", "", "a//b" };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(put(k, id, "x", bad[i], 0, "bytes"), -EINVAL);
        assert_null(ty_store_log_path(k->st, "x", bad[i]));
    }
    assert_int_equal(put(k, id, "..", "x", 0, "bytes"), -EINVAL);
    assert_int_equal(put(k, id, "x", "a", 0, "bytes"), 0);
    assert_int_equal(put(k, id, "x", "a/b", 0, "a is a file"), -EINVAL);
    assert_int_equal(ty_store_failed(k->st), 0);
}

static void test_what_lies_beyond_the_stored_size_is_overwritten(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);
    CLEANUP_FREE char *path = NULL;

    assert_int_equal(put(k, id, "x", DRIVER, 0, "stored\n"), 0);
    path = ty_store_log_path(k->st, "x", DRIVER);
    kit_close(k);
    assert_int_equal(ty_write_file(path, "stored\nnot committed", 20, 0600), 0);
    assert_int_equal(kit_open(k, NULL), 0);
    log_is(k, id, "x", DRIVER, "stored\n");
    assert_int_equal(put(k, id, "x", DRIVER, 7, "next\n"), 0);
    log_is(k, id, "x", DRIVER, "stored\nnext\n");
}

/* After a power cut the file of an active run may be shorter than what the table says. */
static void test_lost_bytes_are_asked_for_again(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", NULL), gone = kit_run(k, "y", "e", NULL),
            ended = kit_run(k, "z", "e", &run);
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *path_y = NULL;
    CLEANUP_FREE char *path_z = NULL;
    json_t *j = NULL;
    uint64_t bytes;

    assert_int_equal(put(k, id, "x", DRIVER, 0, "stored\n"), 0);
    assert_int_equal(put(k, gone, "y", DRIVER, 0, "stored\n"), 0);
    assert_int_equal(put(k, ended, "z", DRIVER, 0, "stored\n"), 0);
    kit_event(u, ended, 2, TY_EV_CANCEL, NULL, &run);
    assert_int_equal(kit_commit(k, u), 0);
    path = ty_store_log_path(k->st, "x", DRIVER);
    path_y = ty_store_log_path(k->st, "y", DRIVER);
    path_z = ty_store_log_path(k->st, "z", DRIVER);
    kit_close(k);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(unlink(path_y), 0);
    assert_int_equal(truncate(path_z, 3), 0);
    assert_int_equal(kit_open(k, NULL), 0);
    assert_int_equal(ty_store_resume_point(k->st, id, &j), 0);
    kit_json_is(j, "{\"record_next\": 1, \"logs\": {\"" DRIVER "\": 3}, \"rows\": {}}");
    assert_int_equal(ty_store_log_size(k->st, gone, DRIVER, &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(ty_store_log_size(k->st, ended, DRIVER, &bytes), 0);
    assert_int_equal(bytes, 7);
    assert_int_equal(put(k, id, "x", DRIVER, 3, "red\n"), 0);
    log_is(k, id, "x", DRIVER, "stored\n");
}

/* More logs than descriptors that are kept open. */
static void test_many_logs(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 150; i++) {
            char name[32];

            snprintf(name, sizeof name, "logs/rank_%d.txt", i);
            assert_int_equal(put(k, id, "x", name, (uint64_t)round * 4, round ? "more" : "some"),
                             0);
        }
    log_is(k, id, "x", "logs/rank_0.txt", "somemore");
    log_is(k, id, "x", "logs/rank_149.txt", "somemore");
}

static void test_a_new_run_of_a_deleted_name_starts_empty(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", NULL), old = id;

    assert_int_equal(put(k, id, "x", DRIVER, 0, "old bytes"), 0);
    ty_unit_run_delete(u, id);
    kit_add_run(k, u, "x", "e", &id, &run);
    assert_int_equal(kit_commit(k, u), -EEXIST); /* not before the deletion is stored */
    u = ty_unit_new();
    ty_unit_run_delete(u, old);
    assert_int_equal(kit_commit(k, u), 0);
    id = kit_run(k, "x", "e", NULL);
    assert_int_equal(put(k, id, "x", DRIVER, 0, "new"), 0);
    log_is(k, id, "x", DRIVER, "new");
    kit_close(k);
    assert_int_equal(kit_open(k, NULL), 0);
    log_is(k, id, "x", DRIVER, "new");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_each_byte_once),
        T(test_names_that_lead_out_are_refused),
        T(test_what_lies_beyond_the_stored_size_is_overwritten),
        T(test_lost_bytes_are_asked_for_again),
        T(test_many_logs),
        T(test_a_new_run_of_a_deleted_name_starts_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
