/* test_select.c - the table that chooses plans: read, shown, looked up, refused */
#include "coll/plan.h"
#include "tests.h"
#include <trainyard/error.h>

static struct ty_select *parsed(const char *text)
{
    struct ty_select *s = NULL;
    struct ty_error err = { 0 };

    if (ty_select_parse(text, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void test_default(void **state)
{
    struct ty_select *s = parsed(NULL), *e = parsed("");

    (void)state;
    for (int nodes = 2; nodes <= 4096; nodes++) {
        assert_int_equal(ty_select_plan(s, 0, nodes), TY_PLAN_RECURSIVE_DOUBLING);
        assert_int_equal(ty_select_plan(s, 16 << 10, nodes), TY_PLAN_RECURSIVE_DOUBLING);
        assert_int_equal(ty_select_plan(s, 25 << 20, nodes), TY_PLAN_HALVING_DOUBLING);
        assert_int_equal(ty_select_plan(s, INT64_MAX, nodes), TY_PLAN_HALVING_DOUBLING);
    }
    assert_string_equal(ty_select_text(s), ty_select_text(e));
    ty_select_free(s);
    ty_select_free(e);
}

static void test_first_rule_that_fits(void **state)
{
    struct ty_select *s =
        parsed("allreduce:0-16k:2-inf:rd#allreduce:16K-1M:2-4:ring#allreduce:0-inf:0-inf:hd");

    (void)state;
    assert_int_equal(ty_select_plan(s, 16383, 2), TY_PLAN_RECURSIVE_DOUBLING);
    assert_int_equal(ty_select_plan(s, 16384, 2), TY_PLAN_RING);
    assert_int_equal(ty_select_plan(s, 1048575, 3), TY_PLAN_RING);
    assert_int_equal(ty_select_plan(s, 1048575, 4), TY_PLAN_HALVING_DOUBLING);
    assert_int_equal(ty_select_plan(s, 1048576, 3), TY_PLAN_HALVING_DOUBLING);
    assert_string_equal(
        ty_select_text(s),
        "allreduce:0-16k:2-inf:rd#allreduce:16k-1M:2-4:ring#allreduce:0-inf:0-inf:hd");
    ty_select_free(s);
}

static void test_rest_is_the_default(void **state)
{
    struct ty_select *s = parsed("allreduce:1000-2g:5-6:ring"), *d = parsed(NULL);

    (void)state;
    assert_int_equal(ty_select_plan(s, 1000, 5), TY_PLAN_RING);
    for (int64_t bytes = 1; bytes < INT64_C(1) << 40; bytes *= 4)
        assert_int_equal(ty_select_plan(s, bytes, 7), ty_select_plan(d, bytes, 7));
    assert_int_equal(strncmp(ty_select_text(s), "allreduce:1000-2G:5-6:ring#", 27), 0);
    assert_string_equal(ty_select_text(s) + 27, ty_select_text(d));
    ty_select_free(s);
    ty_select_free(d);
}

/* A random table, shown and read again, is the same table; so is its text. */
static void test_text_gives_the_table_back(void **state)
{
    uint64_t seed = 99;

    (void)state;
    for (int round = 0; round < 300; round++) {
        char text[4096];
        int at = 0, n = 1 + (int)(tests_random(&seed) % 8);

        for (int i = 0; i < n; i++) {
            int from = (int)(tests_random(&seed) % 5000);
            const char *unit = (const char *[]){ "", "k", "M" }[tests_random(&seed) % 3];

            at += snprintf(text + at, sizeof text - (size_t)at, "%sallreduce:%d%s-%s:%d-%d:%s",
                           i ? "#" : "", from, unit, tests_random(&seed) % 2 ? "inf" : "9G", i,
                           i + 1 + round % 50,
                           ty_plan_word((enum ty_plan_kind)(tests_random(&seed) % TY_PLAN_KINDS)));
        }
        struct ty_select *a = parsed(text), *b = parsed(ty_select_text(a));

        assert_string_equal(ty_select_text(a), ty_select_text(b));
        for (int i = 0; i < 200; i++) {
            int64_t bytes = (int64_t)tests_random(&seed) << tests_random(&seed) % 10;
            int nodes = 2 + (int)(tests_random(&seed) % 60);

            assert_int_equal(ty_select_plan(a, bytes, nodes), ty_select_plan(b, bytes, nodes));
        }
        ty_select_free(a);
        ty_select_free(b);
    }
}

static void test_wrong_rules_are_named(void **state)
{
    static const struct {
        const char *rule, *why;
    } bad[] = {
        { "", "less than four" },
        { "allreduce", "less than four" },
        { "allreduce:0-1:2-3", "less than four" },
        { "allreduce:0-1:2-3:rd:", "more than four" },
        { "allgather:0-1:2-3:rd", "only operation" },
        { "allreduc:0-1:2-3:rd", "only operation" },
        { "allreduce:1-1:2-3:rd", "bytes" },
        { "allreduce:2-1:2-3:rd", "bytes" },
        { "allreduce:inf-inf:2-3:rd", "bytes" },
        { "allreduce:-1:2-3:rd", "bytes" },
        { "allreduce:0-:2-3:rd", "bytes" },
        { "allreduce:0-1x:2-3:rd", "bytes" },
        { "allreduce:0-1kk:2-3:rd", "bytes" },
        { "allreduce:0-k:2-3:rd", "bytes" },
        { "allreduce:0-9999999999999999999:2-3:rd", "bytes" },
        { "allreduce:0-99999999999G:2-3:rd", "bytes" },
        { "allreduce: 0-1:2-3:rd", "bytes" },
        { "allreduce:0-1:2:rd", "nodes" },
        { "allreduce:0-1:3-2:rd", "nodes" },
        { "allreduce:0-1:2-infi:rd", "nodes" },
        { "allreduce:0-1:2-3:", "algorithm" },
        { "allreduce:0-1:2-3:r", "algorithm" },
        { "allreduce:0-1:2-3:rdx", "algorithm" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256], quoted[128];
        struct ty_select *s = NULL;
        struct ty_error err = { 0 };

        snprintf(text, sizeof text, "allreduce:0-1:2-3:hd#%s#allreduce:0-1:2-3:rd", bad[i].rule);
        snprintf(quoted, sizeof quoted, "\"%s\"", bad[i].rule);
        char *tight = tests_tight(text, strlen(text) + 1);

        assert_int_equal(ty_select_parse(tight, &s, &err), -EINVAL);
        free(tight);
        assert_null(s);
        assert_int_equal(err.code, -EINVAL);
        if (!strstr(err.text, bad[i].why) || !strstr(err.text, quoted))
            fail_msg("%s: %s", bad[i].rule, err.text);
        assert_int_equal(ty_select_parse(text, &s, NULL), -EINVAL);
    }
}

static void test_too_many_rules(void **state)
{
    char text[4096];
    int at = 0;
    struct ty_select *s = NULL;
    struct ty_error err = { 0 };

    (void)state;
    for (int i = 0; i < TY_SELECT_RULES; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%sallreduce:%d-inf:0-inf:hd",
                       i ? "#" : "", TY_SELECT_RULES - 1 - i);
    s = ty_select_free(parsed(text)); /* 64, the last takes all */
    assert_null(s);
    assert_int_equal(ty_select_parse(text + strlen("allreduce:63-inf:0-inf:hd#"), &s, &err), 0);
    ty_select_free(s);
    s = NULL;
    snprintf(text + at, sizeof text - (size_t)at, "#allreduce:5-6:2-3:rd");
    assert_int_equal(ty_select_parse(text, &s, &err), -EINVAL);
    assert_non_null(strstr(err.text, "more than 64"));
    /* 63 and a default that does not fit behind them */
    text[at] = 0;
    *strrchr(text, '#') = 0;
    assert_int_equal(ty_select_parse(text, &s, &err), -EINVAL);
    assert_non_null(strstr(err.text, "more than 64"));
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_first_rule_that_fits),
        cmocka_unit_test(test_rest_is_the_default),
        cmocka_unit_test(test_text_gives_the_table_back),
        cmocka_unit_test(test_wrong_rules_are_named),
        cmocka_unit_test(test_too_many_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
