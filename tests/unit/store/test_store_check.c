/* test_store_check.c - tables that do not say what the events say are found */
#include "kit.h"
#include <sqlite3.h>

static void change(struct kit *k, const char *sql)
{
    CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void test_each_difference_is_found_and_named(void **state)
{
    static const struct {
        const char *sql, *undo, *word;
    } cases[] = {
        { "UPDATE run SET state = 'Failed'", "UPDATE run SET state = 'Starting'", "state" },
        { "UPDATE run SET exit_code = 3", "UPDATE run SET exit_code = -1", "state" },
        { "UPDATE run SET error = '{}'", "UPDATE run SET error = NULL", "error" },
        { "UPDATE run SET last_seq = 9", "UPDATE run SET last_seq = 5", "number of its events" },
        { "UPDATE tag SET value = 'other'", "UPDATE tag SET value = 'v'", "tags" },
        { "UPDATE property SET value = 'other'", "UPDATE property SET value = 'v'", "properties" },
        { "UPDATE artifact SET bytes = 2", "UPDATE artifact SET bytes = 1", "artifacts" },
        { "UPDATE warning SET text = 'other'", "UPDATE warning SET text = 'w'", "warnings" },
        { "UPDATE event SET seq = 7 WHERE seq = 3", "UPDATE event SET seq = 3 WHERE seq = 7",
          "event" },
        { "UPDATE event SET kind = 'exited_ok' WHERE seq = 3",
          "UPDATE event SET kind = 'property' WHERE seq = 3", "exited_ok" },
    };
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run), runs = 0;

    kit_note(u, id, 2, TY_NOTE_TAGGED, "{\"key\": \"k\", \"value\": \"v\"}", &run);
    kit_note(u, id, 3, TY_NOTE_PROPERTY, "{\"key\": \"k\", \"value\": \"v\"}", &run);
    kit_note(u, id, 4, TY_NOTE_ARTIFACT, "{\"path\": \"p\", \"sha256\": \"s\", \"bytes\": 1}",
             &run);
    kit_note(u, id, 5, TY_NOTE_WARNED, "{\"text\": \"w\"}", &run);
    assert_int_equal(kit_commit(k, u), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_error err = { 0 };

        assert_int_equal(ty_store_check(k->home, &runs, &err), 0);
        assert_int_equal(runs, 1);
        change(k, cases[i].sql);
        assert_int_equal(ty_store_check(k->home, &runs, &err), 1);
        assert_non_null(strstr(err.text, "'x'"));
        if (!strstr(err.text, cases[i].word))
            fail_msg("'%s' does not name '%s'", err.text, cases[i].word);
        change(k, cases[i].undo);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_difference_is_found_and_named, kit_setup,
                                        kit_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
