/* test_store_list.c - the list of runs, filter by filter, and that none of them walks the whole
 * table */
#include "kit.h"
#include "store/store_internal.h"

static void end(struct kit *k, int64_t id, enum ty_run_event ev, struct ty_run *run)
{
    struct ty_unit *u = ty_unit_new();

    kit_event(u, id, 2, ev, NULL, run);
    assert_int_equal(kit_commit(k, u), 0);
}

static void tag(struct kit *k, int64_t id, int64_t seq, const char *data, const struct ty_run *run)
{
    struct ty_unit *u = ty_unit_new();

    kit_note(u, id, seq, TY_NOTE_TAGGED, data, run);
    assert_int_equal(kit_commit(k, u), 0);
}

/* a1 Starting, tag best=1; b1 Canceled, tag best; a2 Failed; a3 Starting, target gpu, user bob,
 * tag best=2, child of a1 */
static void four_runs(struct kit *k)
{
    struct ty_run run;
    int64_t id = kit_run(k, "a1", "a", &run);
    struct ty_unit *u;
    struct ty_run_row row;

    tag(k, id, 2, "{\"key\": \"best\", \"value\": \"1\"}", &run);
    id = kit_run(k, "b1", "b", &run);
    end(k, id, TY_EV_CANCEL, &run);
    tag(k, id, 3, "{\"key\": \"best\", \"value\": null}", &run);
    id = kit_run(k, "a2", "a", &run);
    end(k, id, TY_EV_LOST, &run);
    u = ty_unit_new();
    row = (struct ty_run_row){ .id = ty_store_next_id(k->st),
                               .name = "a3",
                               .experiment = "a",
                               .target = "gpu",
                               .user = "bob",
                               .parent = "a1",
                               .run = TY_RUN_INIT };
    ty_unit_run_add(u, &row);
    kit_event(u, row.id, 1, TY_EV_SUBMITTED, NULL, &row.run);
    assert_int_equal(kit_commit(k, u), 0);
    tag(k, row.id, 2, "{\"key\": \"best\", \"value\": \"2\"}", &row.run);
}

static void list_is(struct kit *k, struct ty_run_filter f, const char *want)
{
    CLEANUP_JSON json_t *runs = NULL;
    char have[128] = "";
    size_t i;
    json_t *run;

    if (!f.limit)
        f.limit = 100;
    assert_int_equal(ty_store_runs(k->st, &f, &runs, NULL), 0);
    json_array_foreach (runs, i, run)
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s ",
                 json_string_value(json_object_get(run, "id")));
    assert_string_equal(have, want);
}

static void test_filters(void **state)
{
    struct kit *k = *state;
    struct ty_run_filter unknown = { .before = "zz", .limit = 1 };
    json_t *j;

    list_is(k, (struct ty_run_filter){ 0 }, "");
    four_runs(k);
    list_is(k, (struct ty_run_filter){ 0 }, "a3 a2 b1 a1 ");
    list_is(k, (struct ty_run_filter){ .limit = 2 }, "a3 a2 ");
    list_is(k, (struct ty_run_filter){ .before = "a2" }, "b1 a1 ");
    list_is(k, (struct ty_run_filter){ .experiment = "a" }, "a3 a2 a1 ");
    list_is(k, (struct ty_run_filter){ .experiment = "a", .before = "a2" }, "a1 ");
    list_is(k, (struct ty_run_filter){ .experiment = "a", .state = "Failed" }, "a2 ");
    list_is(k, (struct ty_run_filter){ .experiment = "a", .state = "active", .user = "ann" },
            "a1 ");
    list_is(k, (struct ty_run_filter){ .state = "active" }, "a3 a1 ");
    list_is(k, (struct ty_run_filter){ .state = "ended" }, "a2 b1 ");
    list_is(k, (struct ty_run_filter){ .state = "Canceled" }, "b1 ");
    list_is(k, (struct ty_run_filter){ .state = "nonsense" }, "");
    list_is(k, (struct ty_run_filter){ .target = "gpu" }, "a3 ");
    list_is(k, (struct ty_run_filter){ .user = "ann" }, "a2 b1 a1 ");
    list_is(k, (struct ty_run_filter){ .tag = "best" }, "a3 b1 a1 ");
    list_is(k, (struct ty_run_filter){ .parent = "a1" }, "a3 ");
    list_is(k, (struct ty_run_filter){ .parent = "a1", .state = "active", .tag = "best" }, "a3 ");
    list_is(k, (struct ty_run_filter){ .parent = "a1", .user = "ann" }, "");
    list_is(k, (struct ty_run_filter){ .top = true }, "a2 b1 a1 ");
    list_is(k, (struct ty_run_filter){ .top = true, .experiment = "a" }, "a2 a1 ");
    list_is(k, (struct ty_run_filter){ .top = true, .experiment = "a", .state = "Starting" },
            "a1 ");
    list_is(k, (struct ty_run_filter){ .tag = "best", .before = "a3", .limit = 1 }, "b1 ");
    list_is(k, (struct ty_run_filter){ .tag = "best", .tag_value = "1" }, "a1 ");
    list_is(k, (struct ty_run_filter){ .tag = "best", .tag_value = "2", .experiment = "b" }, "");
    assert_int_equal(ty_store_runs(k->st, &unknown, &j, NULL), -ENOENT);
}

static void test_a_child_outlives_its_parent(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    int64_t id;

    four_runs(k);
    assert_int_equal(ty_store_run_id(k->st, "a1", &id), 0);
    ty_unit_run_delete(u, id);
    assert_int_equal(kit_commit(k, u), 0);
    list_is(k, (struct ty_run_filter){ .parent = "a1" }, "");
    list_is(k, (struct ty_run_filter){ .top = true }, "a3 a2 b1 ");
}

static int count_steps(void *ctx)
{
    ++*(int *)ctx;
    return 0;
}

/* With 4,000 runs, a page of 5 takes few steps of SQLite's machine, whatever the filter. */
static void test_no_filter_walks_the_table(void **state)
{
    static const struct ty_run_filter filters[] = {
        { .limit = 5 },
        { .experiment = "rare", .limit = 5 },
        { .state = "Canceled", .limit = 5 },
        { .state = "Failed", .limit = 5 },
        { .state = "active", .limit = 5 },
        { .target = "nowhere", .limit = 5 },
        { .user = "nobody", .limit = 5 },
        { .tag = "rare", .limit = 5 },
        { .tag = "common", .tag_value = "2", .limit = 5 },
        { .tag = "common", .limit = 5 },
        { .experiment = "many", .state = "Failed", .limit = 5 },
        { .user = "ann", .state = "Failed", .limit = 5 },
        { .target = "local", .state = "Failed", .limit = 5 },
        { .before = "r1", .limit = 5 },
        { .top = true, .limit = 5 },
        { .top = true, .experiment = "rare", .limit = 5 },
        { .parent = "r1", .limit = 5 },
    };
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id;

    for (int i = 0; i < 4000; i++) {
        char name[16];

        snprintf(name, sizeof name, "r%d", i);
        kit_add_run(k, u, name, "many", &id, &run);
        kit_note(u, id, 2, TY_NOTE_TAGGED, "{\"key\": \"common\", \"value\": \"1\"}", &run);
        kit_event(u, id, 3, TY_EV_CANCEL, NULL, &run);
    }
    assert_int_equal(kit_commit(k, u), 0);
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        CLEANUP_JSON json_t *runs = NULL;
        int hundreds = 0;

        sqlite3_progress_handler(k->st->reader.db, 100, count_steps, &hundreds);
        assert_int_equal(ty_store_runs(k->st, &filters[i], &runs, NULL), 0);
        sqlite3_progress_handler(k->st->reader.db, 0, NULL, NULL);
        if (hundreds > 20)
            fail_msg("filter %zu took %d00 steps", i, hundreds);
    }
}

/* What no index answers whole is looked for a thousand runs at a time: no page takes long, none is lost. */
static void test_scanning_goes_on(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run_filter filters[] = {
        { .tag = "common", .tag_value = "1", .experiment = "rare", .limit = 5 },
        { .experiment = "rare", .state = "ended", .limit = 5 },
        { .user = "ann", .top = true, .tag = "common", .experiment = "rare", .limit = 5 },
        { .state = "ended", .experiment = "many", .tag = "special", .limit = 5 },
    };
    const char *const want[] = { "r1 ", "r1 ", "r1 ", "" };
    struct ty_run run;
    int64_t id;

    for (int i = 0; i < 9001; i++) {
        char name[16];

        snprintf(name, sizeof name, "r%d", i);
        kit_add_run(k, u, name, i == 1 ? "rare" : "many", &id, &run);
        kit_note(u, id, 2, TY_NOTE_TAGGED, "{\"key\": \"common\", \"value\": \"1\"}", &run);
        kit_event(u, id, 3, TY_EV_CANCEL, NULL, &run);
    }
    assert_int_equal(kit_commit(k, u), 0);
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        char have[64] = "", *next = NULL;
        int pages = 0;

        do {
            CLEANUP_FREE char *before = next;
            CLEANUP_JSON json_t *runs = NULL;
            json_t *one;
            size_t j;

            next = NULL;
            filters[i].before = before;
            assert_int_equal(ty_store_runs(k->st, &filters[i], &runs, &next), 0);
            json_array_foreach (runs, j, one)
                snprintf(have + strlen(have), sizeof have - strlen(have), "%s ",
                         json_string_value(json_object_get(one, "id")));
        } while (++pages < 20 && next);
        assert_string_equal(have, want[i]);
        assert_int_equal(pages, i == 0 || i == 2 ? 10 : 1);
    }
}

static void test_experiments_and_counts(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *counts = NULL;
    json_t *j = NULL;

    four_runs(k);
    assert_int_equal(ty_store_experiments(k->st, &j), 0);
    kit_json_is(j, "[{\"name\": \"a\", \"runs\": 3, \"last\": \"2026-05-28T20:26:40.000001Z\"}, "
                   "{\"name\": \"b\", \"runs\": 1, \"last\": \"2026-05-28T20:26:40.000001Z\"}]");
    assert_int_equal(ty_store_counts(k->st, &counts), 0);
    assert_int_equal(json_integer_value(json_object_get(counts, "runs")), 4);
    assert_int_equal(json_integer_value(json_object_get(counts, "active")), 2);
    assert_true(json_integer_value(json_object_get(counts, "db_bytes")) > 4096);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_filters), T(test_scanning_goes_on),
                                        T(test_a_child_outlives_its_parent),
                                        T(test_no_filter_walks_the_table),
                                        T(test_experiments_and_counts) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
