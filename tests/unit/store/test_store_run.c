/* test_store_run.c - runs: added, read, deleted */
#include "kit.h"
#include <sys/stat.h>

static void test_a_run_as_json(void **state)
{
    struct kit *k = *state;
    json_t *run = NULL;

    kit_run(k, "first_1", "first", NULL);
    assert_int_equal(ty_store_run(k->st, "first_1", true, &run), 0);
    kit_json_is(
        run,
        "{\"id\": \"first_1\", \"kind\": \"command\", \"parent\": null, \"number\": 1, \"experiment\": \"first\", \"display_name\": null, "
        "\"state\": \"Starting\", \"attempt\": 1, \"target\": \"local\", \"user\": \"ann\", "
        "\"command_line\": \"python3 train.py\", \"snapshot\": null, \"created\": \"2026-05-28T20:26:40.000001Z\", "
        "\"started\": null, \"ended\": null, \"exit_code\": null, \"exit_signal\": null, \"error\": null, "
        "\"warnings\": [], \"tags\": {}, \"properties\": {}, \"why\": null, \"queue_place\": null, "
        "\"node_count\": 1, \"process_count_per_node\": 1, "
        "\"spec\": {\"version\": 1}, \"environment\": null}");
    assert_int_equal(ty_store_run(k->st, "first_2", true, &run), -ENOENT);
}

static int64_t number_of(struct kit *k, const char *name)
{
    CLEANUP_JSON json_t *run = NULL;

    assert_int_equal(ty_store_run(k->st, name, false, &run), 0);
    assert_null(json_object_get(run, "spec"));
    return json_integer_value(json_object_get(run, "number"));
}

static void test_numbers_count_per_experiment_and_are_not_used_again(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    int64_t b = 0;

    kit_run(k, "a1", "a", NULL);
    b = kit_run(k, "a2", "a", NULL);
    kit_run(k, "b1", "b", NULL);
    assert_int_equal(number_of(k, "a2"), 2);
    assert_int_equal(number_of(k, "b1"), 1);
    ty_unit_run_delete(u, b);
    assert_int_equal(kit_commit(k, u), 0);
    kit_run(k, "a3", "a", NULL);
    assert_int_equal(number_of(k, "a3"), 3);
}

static void test_ids_are_never_used_again(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    int64_t id = kit_run(k, "x", "e", NULL);

    ty_unit_run_delete(u, id);
    assert_int_equal(kit_commit(k, u), 0);
    kit_close(k);
    assert_int_equal(kit_open(k, NULL), 0);
    assert_true(ty_store_next_id(k->st) > id);
}

static void test_a_name_is_taken_once(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id, again;

    id = kit_run(k, "x", "e", NULL);
    kit_add_run(k, u, "x", "e", &again, &run);
    assert_int_equal(kit_commit(k, u), -EEXIST);
    assert_int_equal(ty_store_failed(k->st), 0);
    assert_int_equal(ty_store_run_id(k->st, "x", &again), 0);
    assert_int_equal(again, id);
}

static int count_active(const struct ty_active_run *a, void *ctx)
{
    char *names = ctx;

    assert_string_equal(a->row.spec, "{\"version\":1}");
    assert_string_equal(a->row.token, "secret");
    assert_int_equal(a->row.uid, 1000);
    snprintf(names + strlen(names), 64 - strlen(names), "%s:%s:%d:%d ", a->row.name,
             ty_run_state_word(a->row.run.state), (int)a->last_seq, (int)a->record_next);
    return strcmp(a->row.name, "stop") == 0 ? -ECANCELED : 0;
}

static void test_active_runs(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    char names[64] = "";
    int64_t id;

    kit_run(k, "a", "e", NULL);
    id = kit_run(k, "b", "e", &run);
    kit_event(u, id, 2, TY_EV_CANCEL, NULL, &run);
    assert_int_equal(kit_commit(k, u), 0);
    id = kit_run(k, "c", "e", &run);
    u = ty_unit_new();
    kit_event(u, id, 2, TY_EV_PREPARE, NULL, &run);
    ty_unit_record_next(u, id, 7);
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_each_active(k->st, count_active, names), 0);
    assert_string_equal(names, "a:Starting:1:1 c:Preparing:2:7 ");
    names[0] = '\0';
    assert_int_equal(ty_store_with_run(k->st, "b", count_active, names), 0);
    assert_string_equal(names, "b:Canceled:2:1 ");
    assert_int_equal(ty_store_with_run(k->st, "none", count_active, names), -ENOENT);
    kit_run(k, "stop", "e", NULL);
    assert_int_equal(ty_store_each_active(k->st, count_active, names), -ECANCELED);
}

static void test_record_next_needs_a_run(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();

    ty_unit_record_next(u, 12345, 7);
    assert_int_equal(kit_commit(k, u), -ENOENT);
}

static bool log_folder(struct kit *k, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/logs/%s", k->home, run);
    struct stat sb;

    return stat(path, &sb) == 0;
}

static void fill(struct kit *k, int64_t id, const char *name, int rows)
{
    CLEANUP_STR struct ty_str s = { 0 };
    struct ty_unit *u = ty_unit_new();

    for (int i = 0; i < rows; i++)
        kit_row_double(&s, "loss", T0 + i, i);
    ty_unit_rows(u, id, 0, 0, (uint32_t)rows, s.text, s.len);
    ty_unit_log(u, id, name, "azureml-logs/70_driver_log.txt", 0, "hello", 5, T0);
    assert_int_equal(kit_commit(k, u), 0);
}

static void test_deletion_takes_everything(void **state)
{
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run), kept = kit_run(k, "y", "e", NULL);
    struct ty_unit *u = ty_unit_new();
    CLEANUP_JSON json_t *experiments = NULL;
    CLEANUP_JSON json_t *events = NULL;
    uint64_t bytes;
    json_t *j = NULL;

    fill(k, id, "x", 25000);
    fill(k, kept, "y", 3);
    kit_note(u, id, 2, TY_NOTE_TAGGED, "{\"key\": \"a\", \"value\": \"b\"}", &run);
    ty_unit_run_delete(u, id);
    ty_unit_run_delete(u, id); /* twice is no error */
    assert_int_equal(kit_commit(k, u), 0);
    assert_false(log_folder(k, "x"));
    assert_true(log_folder(k, "y"));
    assert_int_equal(ty_store_run(k->st, "x", false, &j), -ENOENT);
    assert_int_equal(ty_store_log_size(k->st, id, "azureml-logs/70_driver_log.txt", &bytes),
                     -ENOENT);
    assert_int_equal(ty_store_events(k->st, id, 0, 100, &events), 0);
    assert_int_equal(json_array_size(events), 0);
    assert_int_equal(ty_store_metrics(k->st, id, NULL, &j), 0);
    kit_json_is(j, "{}");
    assert_int_equal(ty_store_experiments(k->st, &experiments), 0);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(experiments, 0), "runs")),
                     1);
    assert_int_equal(ty_store_metrics(k->st, kept, NULL, &j), 0);
    kit_json_is(j, "{\"loss\": [0.0, 1.0, 2.0]}");
}

static void test_ended_before(void **state)
{
    struct kit *k = *state;
    struct ty_run run;
    json_t *j = NULL;

    for (int i = 0; i < 3; i++) {
        char name[] = { (char)('a' + i), 0 };
        struct ty_unit *u = ty_unit_new();
        int64_t id = kit_run(k, name, "e", &run);

        if (i < 2)
            kit_event(u, id, 2, i ? TY_EV_LOST : TY_EV_CANCEL, NULL, &run);
        assert_int_equal(kit_commit(k, u), 0);
    }
    assert_int_equal(ty_store_ended_before(k->st, T0 + 3, NULL, 10, &j), 0);
    kit_json_is(j, "[\"a\", \"b\"]");
    assert_int_equal(ty_store_ended_before(k->st, T0 + 3, "Failed", 10, &j), 0);
    kit_json_is(j, "[\"b\"]");
    assert_int_equal(ty_store_ended_before(k->st, T0 + 3, NULL, 1, &j), 0);
    kit_json_is(j, "[\"a\"]");
    assert_int_equal(ty_store_ended_before(k->st, T0 + 2, NULL, 10, &j), 0);
    kit_json_is(j, "[]");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_run_as_json),
        T(test_numbers_count_per_experiment_and_are_not_used_again),
        T(test_ids_are_never_used_again),
        T(test_a_name_is_taken_once),
        T(test_active_runs),
        T(test_record_next_needs_a_run),
        T(test_deletion_takes_everything),
        T(test_ended_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
