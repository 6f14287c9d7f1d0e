/* test_store_log.c - log bytes: once each, without gaps, beside the tables and never ahead of them */
#include "base/fs.h"
#include "kit.h"
#include <sqlite3.h>
#include <sys/stat.h>

#define DRIVER "azureml-logs/70_driver_log.txt"

static int put_at(struct kit *k, int64_t id, const char *run, const char *log, uint64_t offset,
                  const char *text, int64_t at_us)
{
    struct ty_unit *u = ty_unit_new();

    ty_unit_log(u, id, run, log, offset, text, strlen(text), at_us);
    return kit_commit(k, u);
}

static int put(struct kit *k, int64_t id, const char *run, const char *log, uint64_t offset,
               const char *text)
{
    return put_at(k, id, run, log, offset, text, T0);
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

#define SECOND 1000000

static void sql(struct kit *k, const char *text)
{
    CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void since_is(struct kit *k, int64_t id, int64_t at_us, uint64_t want)
{
    uint64_t offset = 999;

    assert_int_equal(ty_store_log_since(k->st, id, "x", DRIVER, at_us, &offset), 0);
    assert_int_equal(offset, want);
}

static void test_when_bytes_came(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);
    uint64_t offset = 7, from;
    int64_t at_us;

    assert_int_equal(ty_store_log_since(k->st, id, "x", DRIVER, T0, &offset), -ENOENT);
    assert_int_equal(put_at(k, id, "x", DRIVER, 0, "", T0), 0);
    since_is(k, id, T0 + 100 * SECOND, 0); /* an empty log has nothing to leave out */
    assert_int_equal(put_at(k, id, "x", DRIVER, 0, "one\n", T0 + 5 * SECOND), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 4, "two\n", T0 + 5 * SECOND + 999999), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 8, "three\n", T0 + 10 * SECOND), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 8, "three\n", T0 + 20 * SECOND),
                     0); /* sent again */
    since_is(k, id, 0, 0);
    since_is(k, id, T0 + 5 * SECOND, 0);
    since_is(k, id, T0 + 6 * SECOND - 1, 0); /* "two" came then, and its time is not kept */
    since_is(k, id, T0 + 6 * SECOND, 8);
    since_is(k, id, T0 + 11 * SECOND - 1, 8);
    since_is(k, id, T0 + 11 * SECOND, 14);
    assert_int_equal(ty_store_log_time_at(k->st, id, DRIVER, 7, &at_us), 0);
    assert_int_equal(at_us, T0 + 5 * SECOND);
    assert_int_equal(ty_store_log_time_at(k->st, id, DRIVER, 9, &at_us), 0);
    assert_int_equal(at_us, T0 + 10 * SECOND);
    assert_int_equal(ty_store_log_time_next(k->st, id, DRIVER, T0 + 5 * SECOND, &at_us, &from), 0);
    assert_true(at_us == T0 + 10 * SECOND && from == 8);
    assert_int_equal(ty_store_log_time_next(k->st, id, DRIVER, at_us, &at_us, &from), -ENOENT);
    assert_int_equal(ty_store_log_time_at(k->st, id, "none", 0, &at_us), 0);
    assert_int_equal(at_us, 0);
    kit_close(k);
    assert_int_equal(kit_open(k, NULL), 0);
    since_is(k, id, T0 + 6 * SECOND, 8);
    assert_int_equal(offset, 7);
}

/* A line that came in pieces is there from its beginning. */
static void test_since_begins_a_line(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);
    CLEANUP_STR struct ty_str lines = { 0 };

    assert_int_equal(put_at(k, id, "x", DRIVER, 0, "one\ntw", T0), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 6, "o\n", T0 + 10 * SECOND), 0);
    since_is(k, id, T0 + 5 * SECOND, 4);
    for (int i = 0; i < 7000; i++)
        ty_str_add(&lines, "0123456789");
    assert_int_equal(put_at(k, id, "x", DRIVER, 8, lines.text, T0 + 20 * SECOND), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 70008, "end", T0 + 30 * SECOND), 0);
    since_is(k, id, T0 + 20 * SECOND, 8);
    since_is(k, id, T0 + 30 * SECOND, 70008); /* of this one the beginning is too far */
}

static void test_a_clock_that_is_set_back(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    assert_int_equal(put_at(k, id, "x", DRIVER, 0, "one\n", T0 + 50 * SECOND), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 4, "two\n", T0 + 10 * SECOND), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 8, "three\n", T0 + 60 * SECOND), 0);
    since_is(k, id, T0 + 10 * SECOND, 0);
    since_is(k, id, T0 + 55 * SECOND, 8);
}

/* Bytes that are lost and sent again came when they came again. */
static void test_times_of_lost_bytes(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);
    CLEANUP_FREE char *path = ty_store_log_path(k->st, "x", DRIVER);

    assert_int_equal(put_at(k, id, "x", DRIVER, 0, "one\n", T0), 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 4, "two\n", T0 + 10 * SECOND), 0);
    kit_close(k);
    assert_int_equal(truncate(path, 4), 0);
    assert_int_equal(kit_open(k, NULL), 0);
    since_is(k, id, T0 + 5 * SECOND, 4);
    assert_int_equal(put_at(k, id, "x", DRIVER, 4, "two\n", T0 + 30 * SECOND), 0);
    since_is(k, id, T0 + 20 * SECOND, 4);
    since_is(k, id, T0 + 31 * SECOND, 8);
}

/* A log that a release wrote which kept no times: nothing of it is left out. */
static void test_a_log_without_times(void **state)
{
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    assert_int_equal(put_at(k, id, "x", DRIVER, 0, "one\n", T0), 0);
    kit_close(k);
    sql(k, "DELETE FROM log_time");
    assert_int_equal(kit_open(k, NULL), 0);
    since_is(k, id, T0 + 100 * SECOND, 0);
    assert_int_equal(put_at(k, id, "x", DRIVER, 4, "two\n", T0 + 50 * SECOND), 0);
    since_is(k, id, T0 + 20 * SECOND, 0);
    since_is(k, id, T0 + 60 * SECOND, 8);
}

static void test_times_go_with_the_run(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    int64_t id = kit_run(k, "x", "e", NULL);

    assert_int_equal(put_at(k, id, "x", DRIVER, 0, "one\n", T0), 0);
    ty_unit_run_delete(u, id);
    assert_int_equal(kit_commit(k, u), 0);
    kit_close(k);
    sql(k,
        "CREATE TABLE must_be_empty(n CHECK(n = 0)); INSERT INTO must_be_empty SELECT count(*) FROM log_time");
    assert_int_equal(kit_open(k, NULL), 0);
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
        T(test_when_bytes_came),
        T(test_since_begins_a_line),
        T(test_a_clock_that_is_set_back),
        T(test_times_of_lost_bytes),
        T(test_a_log_without_times),
        T(test_times_go_with_the_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
