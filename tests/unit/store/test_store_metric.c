/* test_store_metric.c - rows: once each, in order, within limits, and back as JSON */
#include "kit.h"
#include <math.h>

#define DOUBLES(s, name, first, count) \
    for (int i_ = (first); i_ < (first) + (count); i_++) \
    kit_row_double(&(s), name, T0 + i_, i_)

static int rows(struct kit *k, int64_t id, uint32_t writer, uint64_t first, uint32_t count,
                const struct ty_str *s)
{
    struct ty_unit *u = ty_unit_new();

    ty_unit_rows(u, id, writer, first, count, s->text, s->len);
    return kit_commit(k, u);
}

static void metrics_are(struct kit *k, int64_t id, const char *name, const char *want)
{
    json_t *j = NULL;

    assert_int_equal(ty_store_metrics(k->st, id, name, &j), 0);
    kit_json_is(j, want);
}

static void test_each_row_once(void **state)
{
    CLEANUP_STR struct ty_str a = { 0 }, b = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);
    json_t *j = NULL;

    DOUBLES(a, "loss", 0, 3);
    DOUBLES(b, "loss", 2, 3);
    assert_int_equal(rows(k, id, 0, 0, 3, &a), 0);
    assert_int_equal(rows(k, id, 0, 0, 3, &a), 0);       /* the same again */
    assert_int_equal(rows(k, id, 0, 2, 3, &b), 0);       /* overlapping */
    assert_int_equal(rows(k, id, 0, 6, 3, &a), -EPROTO); /* a gap */
    assert_int_equal(rows(k, id, 0, 5, 4, &a), -EPROTO); /* fewer rows than announced */
    assert_int_equal(rows(k, id, 0, 5, 2, &a), -EPROTO); /* more */
    assert_int_equal(rows(k, id + 1, 0, 0, 3, &a), -ENOENT);
    assert_int_equal(ty_store_failed(k->st), 0);
    metrics_are(k, id, NULL, "{\"loss\": [0.0, 1.0, 2.0, 3.0, 4.0]}");
    assert_int_equal(ty_store_resume_point(k->st, id, &j), 0);
    kit_json_is(j, "{\"record_next\": 1, \"logs\": {}, \"rows\": {\"0\": 5}}");
}

static void test_a_malformed_batch_stores_nothing(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    DOUBLES(s, "loss", 0, 3);
    s.len -= 8;
    assert_int_equal(rows(k, id, 0, 0, 3, &s), -EPROTO);
    metrics_are(k, id, NULL, "{}");
    s.len += 8;
    assert_int_equal(rows(k, id, 0, 0, 3, &s), 0);
    metrics_are(k, id, NULL, "{\"loss\": [0.0, 1.0, 2.0]}");
}

static void test_every_kind(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL), n = -9007199254740993;

    kit_row(&s, TY_ROW_INT, "int", T0, &n, sizeof n);
    kit_row(&s, TY_ROW_TEXT, "text", T0, "NaN", 3);
    kit_row(&s, TY_ROW_TEXT, "bytes", T0, "a\xff", 2);
    kit_row(&s, TY_ROW_TAG, "tag", T0, "null", 4);
    kit_row(&s, TY_ROW_LIST, "list", T0, "[1, \"a\"]", 8);
    kit_row(&s, TY_ROW_ROW, "row", T0, "{\"c\": 1}", 8);
    kit_row(&s, TY_ROW_PROPERTY, "property", T0, "\"v\"", 3);
    kit_row(&s, TY_ROW_TABLE, "table", T0, "{\"c\": [1]}", 10);
    kit_row(&s, TY_ROW_LIST, "broken", T0, "[1,", 3);
    kit_row_double(&s, "nan", T0, NAN);
    kit_row_double(&s, "inf", T0, INFINITY);
    kit_row_double(&s, "inf", T0 + 1, -INFINITY);
    kit_row_double(&s, "zero", T0 + 1, -0.0);
    kit_row_double(&s, "na\xffme", T0, 1);
    assert_int_equal(rows(k, id, 0, 0, 14, &s), 0);
    metrics_are(
        k, id, NULL,
        "{\"int\": -9007199254740993, \"text\": \"NaN\", \"bytes\": \"a\xef\xbf\xbd\", \"list\": [1, \"a\"], "
        "\"row\": {\"c\": 1}, \"table\": {\"c\": [1]}, \"broken\": \"[1,\", \"nan\": {\"$float\": \"NaN\"}, "
        "\"inf\": [{\"$float\": \"Infinity\"}, {\"$float\": \"-Infinity\"}], \"zero\": -0.0, "
        "\"na\xef\xbf\xbdme\": 1.0}");
    metrics_are(k, id, "int", "{\"int\": -9007199254740993}");
    metrics_are(k, id, "none", "{}");
    metrics_are(k, id, "tag", "{}");
}

static void test_rows_as_json(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 }, t = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);
    json_t *j = NULL;

    DOUBLES(s, "loss", 0, 2);
    kit_row(&s, TY_ROW_TEXT, "note", T0 + 5, "hi", 2);
    kit_row(&t, TY_ROW_TEXT, "note", T0 + 1, "ho", 2);
    assert_int_equal(rows(k, id, 0, 0, 3, &s), 0);
    assert_int_equal(rows(k, id, 7, 0, 1, &t), 0);
    assert_int_equal(ty_store_rows_json(k->st, id, NULL, 1, &j), 0);
    kit_json_is(
        j,
        "[{\"name\": \"loss\", \"kind\": \"double\", \"step\": null, \"at\": \"2026-05-28T20:26:40.000000Z\", "
        "\"value\": 0.0, \"writer\": 0, \"seq\": 0}]");
    assert_int_equal(ty_store_rows_json(k->st, id, "note", 0, &j), 0);
    kit_json_is(
        j,
        "[{\"name\": \"note\", \"kind\": \"text\", \"step\": null, \"at\": \"2026-05-28T20:26:40.000005Z\", "
        "\"value\": \"hi\", \"writer\": 0, \"seq\": 2}, "
        "{\"name\": \"note\", \"kind\": \"text\", \"step\": null, \"at\": \"2026-05-28T20:26:40.000001Z\", "
        "\"value\": \"ho\", \"writer\": 7, \"seq\": 0}]");
    metrics_are(k, id, "note", "{\"note\": [\"ho\", \"hi\"]}");
}

static void test_limits_drop_and_count(void **state)
{
    const struct ty_store_limits limits = { .metric_keys = 2, .metric_rows = 5 };
    CLEANUP_STR struct ty_str s = { 0 }, t = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);
    json_t *j = NULL;

    ty_store_limits(k->st, &limits);
    DOUBLES(s, "a", 0, 2);
    DOUBLES(s, "b", 0, 1);
    DOUBLES(s, "c", 0, 2);
    assert_int_equal(rows(k, id, 0, 0, 5, &s), 0);
    metrics_are(k, id, NULL, "{\"a\": [0.0, 1.0], \"b\": 0.0}");
    assert_int_equal(ty_store_dropped(k->st, id, TY_STORE_METRIC_KEYS), 2);
    assert_int_equal(ty_store_dropped(k->st, id, TY_STORE_METRIC_ROWS), 0);
    DOUBLES(t, "b", 7, 4);
    assert_int_equal(rows(k, id, 1, 0, 4, &t), 0);
    assert_int_equal(rows(k, id, 1, 0, 4, &t), 0);
    metrics_are(k, id, NULL, "{\"a\": [0.0, 1.0], \"b\": [0.0, 7.0, 8.0]}");
    assert_int_equal(ty_store_dropped(k->st, id, TY_STORE_METRIC_ROWS), 2);
    assert_int_equal(ty_store_resume_point(k->st, id, &j),
                     0); /* what was dropped is not sent again */
    kit_json_is(j, "{\"record_next\": 1, \"logs\": {}, \"rows\": {\"0\": 5, \"1\": 4}}");
    kit_close(k);
    assert_int_equal(kit_open(k, NULL), 0);
    assert_int_equal(ty_store_dropped(k->st, id, TY_STORE_METRIC_KEYS), 2);
}

/* A name that a failed unit interned must not be remembered. */
static void test_names_of_a_failed_unit_are_forgotten(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 }, t = { 0 };
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    int64_t id = kit_run(k, "x", "e", NULL);

    DOUBLES(s, "lost", 0, 1);
    DOUBLES(t, "kept", 0, 1);
    ty_unit_rows(u, id, 0, 0, 1, s.text, s.len);
    ty_unit_record_next(u, 999, 1); /* fails the unit */
    assert_int_equal(kit_commit(k, u), -ENOENT);
    assert_int_equal(rows(k, id, 0, 0, 1, &t), 0);
    metrics_are(k, id, NULL, "{\"kept\": 0.0}");
    assert_int_equal(rows(k, id, 0, 1, 1, &s), 0);
    metrics_are(k, id, NULL, "{\"kept\": 0.0, \"lost\": 0.0}");
}

static void test_many_names(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 };
    CLEANUP_JSON json_t *j = NULL;
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    for (int i = 0; i < 2000; i++) {
        char name[16];

        snprintf(name, sizeof name, "m%d", i % 1000);
        kit_row_double(&s, name, T0 + i, i);
    }
    assert_int_equal(rows(k, id, 0, 0, 2000, &s), 0);
    assert_int_equal(ty_store_metrics(k->st, id, NULL, &j), 0);
    assert_int_equal(json_object_size(j), 1000);
    kit_json_is(json_incref(json_object_get(j, "m17")), "[17.0, 1017.0]");
}

/* The next page behind the places: how many rows, and the first and last of them as writer and number. */
static size_t page_of(struct kit *k, int64_t id, struct ty_row_places *at, bool system,
                      int64_t limit, bool want_more, int64_t ends[4])
{
    CLEANUP_JSON json_t *j = NULL;
    bool more = !want_more;
    size_t n;

    assert_int_equal(ty_store_rows_from(k->st, id, at, system, limit, &j, &more), 0);
    assert_int_equal(more, want_more);
    n = json_array_size(j);
    for (size_t i = 0; n > 0 && i < 2; i++) {
        const json_t *row = json_array_get(j, i == 0 ? 0 : n - 1);

        ends[2 * i] = json_integer_value(json_object_get(row, "writer"));
        ends[2 * i + 1] = json_integer_value(json_object_get(row, "seq"));
    }
    return n;
}

static size_t page(struct kit *k, int64_t id, struct ty_row_places *at, int64_t limit,
                   bool want_more, int64_t ends[4])
{
    return page_of(k, id, at, false, limit, want_more, ends);
}

static void test_reading_on(void **state)
{
    CLEANUP(ty_row_places_done) struct ty_row_places at = { 0 };
    CLEANUP_STR struct ty_str a = { 0 }, b = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL), ends[4];

    assert_int_equal(page(k, id, &at, 10, false, ends), 0);
    DOUBLES(a, "loss", 0, 5);
    kit_row(&b, TY_ROW_TAG, "tag", T0, "\"t\"", 3); /* has a number, and is no row to read */
    DOUBLES(b, "acc", 1, 2);
    assert_int_equal(rows(k, id, 0, 0, 5, &a), 0);
    assert_int_equal(rows(k, id, 2, 0, 3, &b), 0);
    assert_int_equal(page(k, id, &at, 3, true, ends), 3);
    assert_true(ends[0] == 0 && ends[1] == 0 && ends[2] == 0 && ends[3] == 2);
    assert_int_equal(page(k, id, &at, 3, true, ends), 3);
    assert_true(ends[0] == 0 && ends[1] == 3 && ends[2] == 2 && ends[3] == 1);
    assert_int_equal(page(k, id, &at, 3, false, ends), 1);
    assert_true(ends[2] == 2 && ends[3] == 2);
    assert_true(at.n == 2 && ty_row_places_get(&at, 0) == 5 && ty_row_places_get(&at, 1) == 0 &&
                ty_row_places_get(&at, 2) == 3);
    assert_int_equal(page(k, id, &at, 3, false, ends), 0);
    assert_int_equal(rows(k, id, 0, 5, 5, &a), 0);
    assert_int_equal(page(k, id, &at, 500, false, ends), 5);
    assert_true(ends[0] == 0 && ends[1] == 5 && ends[3] == 9);
    assert_int_equal(rows(k, id, 70000, 0, 5, &a), 0); /* from outside of the job */
    assert_int_equal(page(k, id, &at, 500, false, ends), 5);
    assert_true(ends[0] == 70000 && at.n == 3);
    ty_row_places_done(&at);
    assert_int_equal(ty_row_places_set(&at, 0, 9), 0);
    assert_int_equal(page(k, id, &at, 500, false, ends), 8);
    assert_true(ends[0] == 0 && ends[1] == 9 && ends[2] == 70000 && ends[3] == 4);
}

/* What was sampled of the machines is read by itself, whichever writer it came from, and never with what was logged. */
static void test_system_metrics_are_apart(void **state)
{
    CLEANUP(ty_row_places_done) struct ty_row_places at = { 0 }, other = { 0 };
    CLEANUP_STR struct ty_str script = { 0 }, sampler = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL), ends[4], n = 0;
    json_t *j = NULL;

    DOUBLES(script, "loss", 0, 2);
    DOUBLES(script, "system/mine", 5, 1);
    DOUBLES(script, "system", 6, 1);
    DOUBLES(sampler, "system/cpu_percent", 0, 3);
    assert_int_equal(rows(k, id, 0, 0, 4, &script), 0);
    assert_int_equal(rows(k, id, 1, 0, 3, &sampler), 0);
    metrics_are(k, id, NULL, "{\"loss\": [0.0, 1.0], \"system\": 6.0}");
    metrics_are(k, id, "system/",
                "{\"system/mine\": 5.0, \"system/cpu_percent\": [0.0, 1.0, 2.0]}");
    metrics_are(k, id, "system/cpu_percent", "{\"system/cpu_percent\": [0.0, 1.0, 2.0]}");
    assert_int_equal(ty_store_row_count(k->st, id, &n), 0);
    assert_int_equal(n, 3);
    assert_int_equal(ty_store_rows_json(k->st, id, NULL, 0, &j), 0);
    assert_int_equal(json_array_size(j), 3);
    json_decref(j);
    assert_int_equal(ty_store_rows_json(k->st, id, "system/", 2, &j), 0);
    assert_int_equal(json_array_size(j), 2);
    json_decref(j);
    assert_int_equal(page_of(k, id, &at, false, 2, true, ends), 2);
    assert_int_equal(page_of(k, id, &at, false, 2, false, ends), 1);
    assert_true(ends[0] == 0 && ends[1] == 3 && at.n == 1);
    assert_int_equal(page_of(k, id, &other, true, 2, true, ends), 2);
    assert_true(ends[0] == 0 && ends[1] == 2 && ends[2] == 1 && ends[3] == 0);
    assert_int_equal(page_of(k, id, &other, true, 2, false, ends), 2);
    assert_int_equal(page_of(k, id, &other, true, 2, false, ends), 0);
    assert_int_equal(ty_store_resume_point(k->st, id, &j), 0);
    kit_json_is(j, "{\"record_next\": 1, \"logs\": {}, \"rows\": {\"0\": 4, \"1\": 3}}");
}

/* Neither side takes room from the other; what is too much of the sampled is not kept, and is nobody's fault. */
static void test_system_metrics_have_limits_of_their_own(void **state)
{
    const struct ty_store_limits limits = { .metric_keys = 2, .metric_rows = 4 };
    CLEANUP_STR struct ty_str a = { 0 }, b = { 0 };
    struct kit *k = *state;
    int64_t id = kit_run(k, "x", "e", NULL);

    ty_store_limits(k->st, &limits);
    DOUBLES(a, "system/a", 0, 2);
    DOUBLES(a, "system/b", 0, 1);
    DOUBLES(a, "system/c", 0, 1);
    DOUBLES(a, "system/b", 1, 2);
    assert_int_equal(rows(k, id, 0, 0, 6, &a), 0);
    metrics_are(k, id, "system/", "{\"system/a\": [0.0, 1.0], \"system/b\": [0.0, 1.0]}");
    DOUBLES(b, "a", 0, 3);
    DOUBLES(b, "b", 0, 1);
    assert_int_equal(rows(k, id, 1, 0, 4, &b), 0);
    metrics_are(k, id, NULL, "{\"a\": [0.0, 1.0, 2.0], \"b\": 0.0}");
    assert_int_equal(ty_store_dropped(k->st, id, TY_STORE_METRIC_KEYS), 0);
    assert_int_equal(ty_store_dropped(k->st, id, TY_STORE_METRIC_ROWS), 0);
    assert_int_equal(rows(k, id, 2, 0, 6, &a), 0); /* also counted by what is there already */
    metrics_are(k, id, "system/", "{\"system/a\": [0.0, 1.0], \"system/b\": [0.0, 1.0]}");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_each_row_once),
        T(test_a_malformed_batch_stores_nothing),
        T(test_every_kind),
        T(test_rows_as_json),
        T(test_limits_drop_and_count),
        T(test_names_of_a_failed_unit_are_forgotten),
        T(test_many_names),
        T(test_reading_on),
        T(test_system_metrics_are_apart),
        T(test_system_metrics_have_limits_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
