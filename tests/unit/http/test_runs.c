/* test_runs.c - submitting, listing, showing, changing and removing runs */
#include "kit.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

#define SPEC(name) "{\"version\":1,\"display_name\":\"" name "\"}"

static void submit(struct kit *k, const char *spec)
{
    json_decref(expect_json(k, "POST", "/api/v1/experiments/first/runs", spec, 201, NULL));
}

static void test_submit_and_show(void **state)
{
    CLEANUP_JSON json_t *made = NULL;
    CLEANUP_JSON json_t *shown = NULL;

    made =
        expect_json(*state, "POST", "/api/v1/experiments/first/runs", SPEC("first_1"), 201, NULL);
    assert_string_equal(json_string_value(json_object_get(made, "id")), "first_1");
    assert_non_null(json_object_get(made, "spec"));
    shown = expect_json(*state, "GET", "/api/v1/runs/first_1", NULL, 200, "run");
    assert_true(json_equal(made, shown));
    json_decref(expect_json(*state, "GET", "/api/v1/experiments", NULL, 200, "experiments"));
}

static void test_bad_submissions(void **state)
{
    struct kit *k = *state;

    expect(k, "POST", "/api/v1/experiments/first/runs", "{", 400, "cannot read the run spec");
    expect(k, "POST", "/api/v1/experiments/first/runs", "", 400, "cannot read the run spec");
    k->sched.refuse = -EUSERS;
    expect(k, "POST", "/api/v1/experiments/first/runs", SPEC("first_1"), 429, "refused on purpose");
    k->sched.refuse = -ENOSPC;
    expect(k, "POST", "/api/v1/experiments/first/runs", SPEC("first_1"), 507, "refused on purpose");
    k->sched.refuse = 0;
    expect(k, "GET", "/api/v1/runs/first_1", NULL, 404,
           "there is no run 'first_1'; `trainyard ps -a`");
}

static const char *next_of(const json_t *page)
{
    return json_string_value(json_object_get(page, "next"));
}

static void test_pages(void **state)
{
    CLEANUP_JSON json_t *all = NULL;
    CLEANUP_JSON json_t *first = NULL;
    CLEANUP_JSON json_t *last = NULL;

    submit(*state, SPEC("first_1"));
    submit(*state, SPEC("first_2"));
    submit(*state, SPEC("first_3"));
    all = expect_json(*state, "GET", "/api/v1/runs", NULL, 200, "runs");
    assert_int_equal(json_array_size(json_object_get(all, "runs")), 3);
    assert_null(next_of(all));
    first = expect_json(*state, "GET", "/api/v1/runs?limit=2", NULL, 200, "runs");
    assert_string_equal(next_of(first), "first_2");
    last = expect_json(*state, "GET", "/api/v1/runs?limit=1&before=first_2", NULL, 200, "runs");
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(last, "runs"), 0), "id")),
        "first_1");
    assert_null(next_of(last)); /* the page is full, but nothing follows */
}

static size_t listed(struct kit *k, const char *query)
{
    CLEANUP_FREE char *path = ty_strf("/api/v1/runs?%s", query);
    CLEANUP_JSON json_t *j = expect_json(k, "GET", path, NULL, 200, "runs");

    return json_array_size(json_object_get(j, "runs"));
}

static void test_filters(void **state)
{
    struct kit *k = *state;

    submit(k, SPEC("first_1"));
    submit(k, SPEC("first_2"));
    kit_event(k, "first_2", TY_EV_PREPARE);
    json_decref(expect_json(k, "PATCH", "/api/v1/runs/first_1/tags", "{\"set\":{\"a b\":\"c=d\"}}",
                            200, "run"));
    assert_int_equal(listed(k, "state=active"), 2);
    assert_int_equal(listed(k, "state=ended"), 0);
    assert_int_equal(listed(k, "state=Preparing"), 1);
    assert_int_equal(listed(k, "experiment=first&target=local"), 2);
    assert_int_equal(listed(k, "experiment=other"), 0);
    assert_int_equal(listed(k, "tag=a+b"), 1);
    assert_int_equal(listed(k, "tag=a%20b=c%3Dd"), 1);
    assert_int_equal(listed(k, "tag=a+b=c"), 0);
    expect(k, "GET", "/api/v1/runs?state=running", NULL, 400,
           "'state' is 'running'; it can be NotStarted, Starting");
    expect(k, "GET", "/api/v1/runs?before=nobody", NULL, 404, "there is no run 'nobody'");
}

static void test_cancel_and_delete(void **state)
{
    CLEANUP_JSON json_t *canceled = NULL;

    submit(*state, SPEC("first_1"));
    expect(*state, "DELETE", "/api/v1/runs/first_1", NULL, 409, "has not ended");
    canceled = expect_json(*state, "POST", "/api/v1/runs/first_1/cancel", NULL, 200, "run");
    assert_string_equal(json_string_value(json_object_get(canceled, "state")), "Canceled");
    json_decref(expect_json(*state, "POST", "/api/v1/runs/first_1/cancel", NULL, 200,
                            "run")); /* ended: answered at once */
    expect(*state, "DELETE", "/api/v1/runs/first_1", NULL, 204, "");
    expect(*state, "GET", "/api/v1/runs/first_1", NULL, 404, "first_1");
    expect(*state, "POST", "/api/v1/runs/first_1/cancel", NULL, 404, "first_1");
}

static void test_tags(void **state)
{
    CLEANUP_JSON json_t *run = NULL;

    submit(*state, SPEC("first_1"));
    run = expect_json(*state, "PATCH", "/api/v1/runs/first_1/tags", "{\"set\":{\"best\":null}}",
                      200, "run");
    assert_true(json_is_null(json_object_get(json_object_get(run, "tags"), "best")));
    expect(*state, "PATCH", "/api/v1/runs/first_1/tags", "[", 400,
           "cannot read the change of tags");
    expect(*state, "PATCH", "/api/v1/runs/nobody/tags", "{}", 404, "nobody");
}

static void test_properties_and_rows(void **state)
{
    char bytes[64] = { 0 };
    double loss = 0.5;
    const struct ty_row row = { .kind = TY_ROW_DOUBLE,
                                .step = TY_ROW_NO_STEP,
                                .at_us = 1780000000000000,
                                .name = "loss",
                                .name_len = 4,
                                .value = &loss,
                                .value_len = sizeof loss };
    CLEANUP_JSON json_t *metrics = NULL;
    CLEANUP_JSON json_t *run = NULL;
    struct answer added;

    submit(*state, SPEC("first_1"));
    run = expect_json(*state, "PATCH", "/api/v1/runs/first_1/properties", "{\"set\":{\"k\":\"v\"}}",
                      200, "run");
    assert_string_equal(json_string_value(json_object_get(json_object_get(run, "properties"), "k")),
                        "v");
    expect(*state, "PATCH", "/api/v1/runs/first_1/properties", "[", 400,
           "cannot read the change of properties");
    assert_int_equal(ty_row_encode(&row, bytes), 0);
    added = ask(*state, "POST", "/api/v1/runs/first_1/rows?writer=65536&first=0", NULL, bytes,
                ty_row_size(&row));
    assert_int_equal(added.status, 204);
    answer_done(&added);
    expect(*state, "POST", "/api/v1/runs/first_1/rows?first=0", "x", 400,
           "the query lacks 'writer'");
    expect(*state, "POST", "/api/v1/runs/first_1/rows?writer=65536", "x", 400, "lacks 'first'");
    expect(*state, "POST", "/api/v1/runs/first_1/rows?writer=1&first=0", "x", 400,
           "'writer' is '1'; it must be a number from 65536");
    metrics = expect_json(*state, "GET", "/api/v1/runs/first_1/metrics", NULL, 200, "metrics");
    assert_true(json_real_value(json_object_get(json_object_get(metrics, "metrics"), "loss")) ==
                loss);
    json_decref(expect_json(*state, "POST", "/api/v1/runs/first_1/end", "{\"state\":\"Canceled\"}",
                            200, "run"));
    expect(*state, "POST", "/api/v1/runs/nobody/end", "{}", 404, "nobody");
}

static void add_rows(struct kit *k, int64_t first, const struct ty_str *rows)
{
    CLEANUP_FREE char *path =
        ty_strf("/api/v1/runs/first_1/rows?writer=65536&first=%lld", (long long)first);
    struct answer added = ask(k, "POST", path, NULL, rows->text, rows->len);

    assert_int_equal(added.status, 204);
    answer_done(&added);
}

/* More rows than are read on the loop: the pool answers the same. */
static void test_many_rows(void **state)
{
    enum { ROWS = 5000, BATCH = 500 };
    struct kit *k = *state;
    CLEANUP_STR struct ty_str bytes = { 0 };
    CLEANUP_JSON json_t *metrics = NULL;
    CLEANUP_JSON json_t *rows = NULL;

    submit(k, SPEC("first_1"));
    for (int64_t i = 0; i < ROWS; i++) {
        const struct ty_row row = { .kind = TY_ROW_INT,
                                    .step = i,
                                    .at_us = 1780000000000000 + i,
                                    .name = "n",
                                    .name_len = 1,
                                    .value = &i,
                                    .value_len = sizeof i };
        char one[64];

        assert_int_equal(ty_row_encode(&row, one), 0);
        ty_str_addn(&bytes, one, ty_row_size(&row));
        if ((i + 1) % BATCH == 0) {
            add_rows(k, i + 1 - BATCH, &bytes);
            bytes.len = 0;
        }
    }
    metrics = expect_json(k, "GET", "/api/v1/runs/first_1/metrics", NULL, 200, "metrics");
    assert_int_equal(json_array_size(json_object_get(json_object_get(metrics, "metrics"), "n")),
                     ROWS);
    rows = expect_json(k, "GET", "/api/v1/runs/first_1/metrics?form=rows&limit=7&name=n", NULL, 200,
                       "metrics");
    assert_int_equal(json_array_size(json_object_get(rows, "rows")), 7);
}

static void test_events(void **state)
{
    CLEANUP_JSON json_t *events = NULL;
    const json_t *list;

    submit(*state, SPEC("first_1"));
    kit_note(*state, "first_1", 5);
    events = expect_json(*state, "GET", "/api/v1/runs/first_1/events?after=2&limit=3", NULL, 200,
                         "events");
    list = json_object_get(events, "events");
    assert_int_equal(json_array_size(list), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "seq")), 3);
    expect(*state, "GET", "/api/v1/runs/nobody/events", NULL, 404, "nobody");
}

static void test_environments(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    CLEANUP_JSON json_t *record = json_loads(
        "{\"version\": 1, \"hash\": \"ab\", \"built\": true, \"seconds\": 2.5, \"python\": \"3.11.2\", \"tool\": \"pip 23\", "
        "\"torch\": {\"version\": \"1.13.0\", \"from\": \"system\", \"reason\": \"1.13 <was> asked for\"}, "
        "\"lock\": {\"pip\": [{\"name\": \"six\", \"version\": \"1.16.0\"}]}}",
        0, NULL);
    json_t *got, *all;
    int64_t id;

    submit(k, SPEC("first_1"));
    got = expect_json(k, "GET", "/api/v1/runs/first_1", NULL, 200, "run");
    assert_true(json_is_null(json_object_get(got, "environment")));
    json_decref(got);
    assert_int_equal(ty_store_run_id(k->store, "first_1", &id), 0);
    assert_non_null(record);
    ty_unit_environment(u, id, 0, record);
    ty_store_commit(k->store, u, NULL, NULL);
    assert_int_equal(ty_store_settle(k->store), 0);
    got = expect_json(k, "GET", "/api/v1/runs/first_1", NULL, 200, "run");
    assert_true(json_equal(json_object_get(got, "environment"), record));
    json_decref(got);
    all = expect_json(k, "GET", "/api/v1/runs/first_1/environments", NULL, 200, "environments");
    got = json_array_get(json_object_get(all, "environments"), 0);
    assert_true(json_equal(json_object_get(got, "record"), record));
    json_decref(all);
    expect(k, "GET", "/api/v1/runs/nobody/environments", NULL, 404, "nobody");
    expect(k, "GET", "/runs/first_1", NULL, 200, "built in 2.5 s with pip 23");
    expect(k, "GET", "/runs/first_1", NULL, 200, "1.13 &#60;was");
    expect(k, "GET", "/runs/first_1", NULL, 200, "<td>six</td><td>1.16.0</td>");
}

static void test_metrics(void **state)
{
    submit(*state, SPEC("first_1"));
    json_decref(expect_json(*state, "GET", "/api/v1/runs/first_1/metrics", NULL, 200, "metrics"));
    json_decref(expect_json(*state, "GET", "/api/v1/runs/first_1/metrics?form=rows&limit=5", NULL,
                            200, "metrics"));
    expect(*state, "GET", "/api/v1/runs/first_1/metrics?form=csv", NULL, 400,
           "'form' is 'csv'; it can be rows or azureml");
    expect(*state, "GET", "/api/v1/runs/first_1/metrics?limit=5", NULL, 400,
           "'limit' needs form=rows");
    expect(*state, "GET", "/api/v1/runs/nobody/metrics", NULL, 404, "nobody");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_submit_and_show, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_bad_submissions, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_pages, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_filters, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_cancel_and_delete, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_tags, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_properties_and_rows, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_many_rows, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_events, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_environments, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_metrics, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("runs", tests, NULL, NULL);
}
