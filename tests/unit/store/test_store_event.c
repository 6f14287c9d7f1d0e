/* test_store_event.c - events, and what follows from them in the tables */
#include "kit.h"

static void run_has(struct kit *k, const char *name, const char *key, const char *want)
{
    CLEANUP_JSON json_t *run = NULL;

    assert_int_equal(ty_store_run(k->st, name, false, &run), 0);
    kit_json_is(json_incref(json_object_get(run, key)), want);
}

static void test_notes_reach_their_tables(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);
    char sha[65];
    uint64_t bytes;

    kit_note(u, id, 2, TY_NOTE_TAGGED, "{\"key\": \"a\", \"value\": \"1\"}", &run);
    kit_note(u, id, 3, TY_NOTE_TAGGED, "{\"key\": \"b\", \"value\": null}", &run);
    kit_note(u, id, 4, TY_NOTE_TAGGED, "{\"key\": \"a\", \"value\": \"2\"}", &run);
    kit_note(u, id, 5, TY_NOTE_UNTAGGED, "{\"key\": \"b\"}", &run);
    kit_note(u, id, 6, TY_NOTE_UNTAGGED, "{\"key\": \"never set\"}", &run);
    kit_note(u, id, 7, TY_NOTE_PROPERTY, "{\"key\": \"p\", \"value\": \"first\"}", &run);
    kit_note(u, id, 8, TY_NOTE_PROPERTY, "{\"key\": \"p\", \"value\": \"second\"}", &run);
    kit_note(u, id, 9, TY_NOTE_WARNED, "{\"text\": \"no GPU\"}", &run);
    kit_note(u, id, 10, TY_NOTE_ARTIFACT,
             "{\"path\": \"outputs/m\", \"sha256\": \"aa\", \"bytes\": 1}", &run);
    kit_note(u, id, 11, TY_NOTE_ARTIFACT,
             "{\"path\": \"outputs/m\", \"sha256\": \"bb\", \"bytes\": 2}", &run);
    assert_int_equal(kit_commit(k, u), 0);
    run_has(k, "x", "tags", "{\"a\": \"2\"}");
    run_has(k, "x", "properties", "{\"p\": \"first\"}");
    run_has(k, "x", "warnings", "[\"no GPU\"]");
    assert_int_equal(ty_store_artifact(k->st, id, "outputs/m", sha, &bytes), 0);
    assert_string_equal(sha, "bb");
    assert_int_equal(bytes, 2);
    assert_int_equal(ty_store_check(k->home, &id, NULL), 0);
}

static void test_the_error_of_a_run(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);

    kit_event(u, id, 2, TY_EV_PREPARE, NULL, &run);
    kit_event(u, id, 3, TY_EV_CANCEL, "{\"reason\": \"time_limit\", \"message\": \"over 5 s\"}",
              &run);
    assert_int_equal(kit_commit(k, u), 0);
    run_has(k, "x", "error",
            "{\"code\": \"TimeLimit\", \"message\": \"over 5 s\", \"log_tail\": null}");
    u = ty_unit_new();
    kit_event(u, id, 4, TY_EV_EXITED_BAD,
              "{\"exit_signal\": 9, \"error\": {\"code\": \"ScriptKilled\", \"message\": \"m\"}}",
              &run);
    assert_int_equal(kit_commit(k, u), 0);
    run_has(k, "x", "error", "{\"code\": \"ScriptKilled\", \"message\": \"m\"}");
    run_has(k, "x", "exit_signal", "9");
    run_has(k, "x", "exit_code", "null");
    run_has(k, "x", "state", "\"Finalizing\"");
    assert_int_equal(ty_store_check(k->home, &id, NULL), 0);
}

static void test_requeued_forgets_the_error(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run), runs;
    struct ty_error err = { 0 };

    kit_event(u, id, 2, TY_EV_PREPARE, NULL, &run);
    kit_event(u, id, 3, TY_EV_READY, NULL, &run);
    kit_event(u, id, 4, TY_EV_STARTED, "{\"pid\": 7}", &run);
    kit_event(u, id, 5, TY_EV_SILENT,
              "{\"seconds\": 10, \"error\": {\"code\": \"c\", \"message\": \"m\"}}", &run);
    kit_event(u, id, 6, TY_EV_REQUEUED, NULL, &run);
    assert_int_equal(kit_commit(k, u), 0);
    run_has(k, "x", "error", "null");
    run_has(k, "x", "attempt", "2");
    assert_int_equal(ty_store_check(k->home, &runs, &err), 0);
    assert_int_equal(runs, 1);
}

static void test_the_order_is_kept(void **state)
{
    static const struct {
        int64_t seq;
        int want;
    } cases[] = { { 1, -EEXIST }, { 3, -EPROTO }, { 2, 0 }, { 2, -EEXIST }, { 3, 0 } };
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);
    struct ty_unit *u;
    json_t *j = NULL;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        u = ty_unit_new();
        kit_note(u, id, cases[i].seq, TY_NOTE_WARNED, "{\"text\": \"w\"}", &run);
        assert_int_equal(kit_commit(k, u), cases[i].want);
    }
    u = ty_unit_new();
    kit_note(u, id + 1, 1, TY_NOTE_WARNED, "{\"text\": \"w\"}", &run);
    assert_int_equal(kit_commit(k, u), -ENOENT);
    assert_int_equal(ty_store_failed(k->st), 0);
    assert_int_equal(ty_store_events(k->st, id, 1, 100, &j), 0);
    kit_json_is(
        j,
        "[{\"seq\": 2, \"at\": \"2026-05-28T20:26:40.000002Z\", \"kind\": \"warned\", \"data\": {\"text\": \"w\"}}, "
        "{\"seq\": 3, \"at\": \"2026-05-28T20:26:40.000003Z\", \"kind\": \"warned\", \"data\": {\"text\": \"w\"}}]");
    assert_int_equal(ty_store_events(k->st, id, 0, 1, &j), 0);
    kit_json_is(j,
                "[{\"seq\": 1, \"at\": \"2026-05-28T20:26:40.000001Z\", \"kind\": \"submitted\", "
                "\"data\": {\"target\": \"local\", \"user\": \"ann\"}}]");
}

static void test_malformed_notes_fail_their_unit(void **state)
{
    static const struct {
        const char *kind, *data;
    } bad[] = { { "warned", "{}" },
                { "tagged", "{\"value\": \"v\"}" },
                { "property", "{\"key\": \"k\"}" },
                { "artifact", "{\"path\": \"p\"}" },
                { "untold", "{}" } };
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_JSON json_t *data = json_loads(bad[i].data, 0, NULL);
        struct ty_unit *u = ty_unit_new();

        ty_unit_event(u, id, 2, T0, bad[i].kind, data, &run);
        assert_int_equal(kit_commit(k, u), -EINVAL);
    }
    assert_int_equal(ty_store_check(k->home, &id, NULL), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_notes_reach_their_tables),        T(test_the_error_of_a_run),
        T(test_requeued_forgets_the_error),      T(test_the_order_is_kept),
        T(test_malformed_notes_fail_their_unit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
