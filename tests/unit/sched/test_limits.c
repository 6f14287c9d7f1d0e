/* test_limits.c - what one run may hold */
#include "core/row.h"
#include "kit.h"

static void test_tags(void **state)
{
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char name[128];

    kit_conf(k, "limits.tags", "2");
    kit_submit(k, "\"tags\": {\"a\": \"1\"}, ", "true", name);
    kit_until(k, kit_ended, name);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"b\": \"1\"}}", &err), 0);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"c\": \"1\"}}", &err), -EUSERS);
    assert_non_null(strstr(err.text, "cannot add tag 'c'"));
    assert_non_null(strstr(err.text, "may have 2 tags (limits.tags"));
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"b\": \"2\"}}", &err), 0); /* it is there */
    assert_int_equal(kit_tag(k, name, "{\"remove\": [\"a\"]}", &err), 0);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"c\": \"1\"}}", &err), 0);
    kit_conf(k, "limits.tags", "0");
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"d\": \"1\"}}", &err), 0);
}

/* Many at once, and with the submission. */
static void test_many_tags(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    struct ty_error err = { 0 };
    char name[128];

    kit_conf(k, "limits.tags", "2");
    kit_submit(k, "\"tags\": {\"a\": \"1\"}, ", "true", name);
    kit_until(k, kit_ended, name);
    assert_int_equal(
        kit_tag(k, name, "{\"set\": {\"a\": \"2\", \"b\": \"1\", \"c\": \"1\"}}", &err), -EUSERS);
    run = kit_run(k, name);
    assert_int_equal(json_object_size(json_object_get(run, "tags")), 1);
    assert_int_equal(
        kit_try(k,
                "{\"version\": 1, \"command\": [\"/bin/true\"], \"tags\": {\"a\": \"1\", "
                "\"b\": \"1\", \"c\": \"1\"}}",
                name, &err),
        -EUSERS);
    assert_non_null(strstr(err.text, "3 tags, and may have 2 (limits.tags"));
}

static int answers, refused;

static void on_answer(void *ctx, int r, const char *run, const struct ty_error *err)
{
    (void)ctx, (void)run, (void)err;
    answers++;
    refused += r != 0;
}

static bool all(struct kit *k, const char *run)
{
    (void)k, (void)run;
    return answers == 2;
}

static void test_properties(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *a = json_pack("{s:{s:s}}", "set", "a", "1"),
                        *again = json_pack("{s:{s:s}}", "set", "a", "2"),
                        *b = json_pack("{s:{s:s}}", "set", "b", "1"),
                        *c = json_pack("{s:{s:s}}", "set", "c", "1");
    struct ty_error err = { 0 };
    char name[128];

    kit_conf(k, "limits.properties", "2");
    kit_submit(k, "", "true", name);
    kit_until(k, kit_ended, name);
    answers = refused = 0;
    assert_int_equal(ty_sched_properties(k->sched, name, a, on_answer, NULL, &err), 0);
    /* The first is not stored yet. */
    assert_int_equal(ty_sched_properties(k->sched, name, again, on_answer, NULL, &err), -EEXIST);
    assert_non_null(strstr(err.text, "is '1' already"));
    assert_int_equal(ty_sched_properties(k->sched, name, b, on_answer, NULL, &err), 0);
    kit_until(k, all, NULL);
    assert_int_equal(refused, 0);
    assert_int_equal(ty_sched_properties(k->sched, name, c, on_answer, NULL, &err), -EUSERS);
    assert_non_null(strstr(err.text, "limits.properties"));
}

static void test_a_file_on_its_way(void **state)
{
    static const char one[] = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    static const char two[] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char name[128];

    kit_submit(k, "", "true", name);
    kit_until(k, kit_ended, name);
    answers = refused = 0;
    assert_int_equal(ty_sched_artifact(k->sched, name, "outputs/a", one, 4, on_answer, NULL, &err),
                     0);
    assert_int_equal(ty_sched_artifact(k->sched, name, "outputs/a", two, 4, on_answer, NULL, &err),
                     -EEXIST);
    assert_int_equal(ty_sched_artifact(k->sched, name, "outputs/a", one, 4, on_answer, NULL, &err),
                     0);
    kit_until(k, all, NULL);
    assert_int_equal(refused, 0);
}

static void test_targets_and_writers(void **state)
{
    struct kit *k = *state;
    const struct ty_row row = { .kind = TY_ROW_TEXT,
                                .step = TY_ROW_NO_STEP,
                                .name = "a",
                                .name_len = 1,
                                .value = "b",
                                .value_len = 1 };
    struct ty_error err = { 0 };
    char name[128], bytes[64];

    assert_int_equal(ty_row_encode(&row, bytes), 0);
    kit_conf(k, "limits.targets", "2");
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\"}", &err), 0);
    assert_int_equal(kit_target(k, "bex", "{\"kind\": \"local\"}", &err), -EUSERS);
    assert_non_null(strstr(err.text, "limits.targets"));
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\", \"max_nodes\": 1}", &err), 0);
    kit_conf(k, "limits.writers", "1");
    kit_submit(k, "", "true", name);
    kit_until(k, kit_ended, name);
    for (uint32_t writer = 70000; writer < 70002; writer++) {
        int want = writer == 70000 ? 0 : -EUSERS;

        answers = 1;
        assert_int_equal(ty_sched_rows(k->sched, name, writer, 0, bytes, ty_row_size(&row),
                                       on_answer, NULL, &err),
                         want);
        if (want == 0)
            kit_until(k, all, NULL);
    }
    assert_int_equal(refused, 0);
    assert_non_null(strstr(err.text, "limits.writers"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_tags), T(test_many_tags), T(test_properties),
                                        T(test_a_file_on_its_way), T(test_targets_and_writers) };

    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
