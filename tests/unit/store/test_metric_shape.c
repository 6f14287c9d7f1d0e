/* test_metric_shape.c - every shape of get_metrics, and the order of mixed writers */
#include "kit.h"
#include "store/metric_shape.h"
#include <math.h>

struct given {
    enum ty_row_kind kind;
    const char *value;
};

static json_t *shape(const struct given *g, size_t n)
{
    struct ty_metric_point p[8] = { 0 };
    json_t *ret;

    for (size_t i = 0; i < n; i++)
        p[i] = (struct ty_metric_point){ .seq = i,
                                         .kind = g[i].kind,
                                         .value = json_loads(g[i].value, JSON_DECODE_ANY, NULL) };
    ret = ty_metric_shape("m", p, n);
    for (size_t i = 0; i < n; i++)
        json_decref(p[i].value);
    return ret;
}

static void test_shapes(void **state)
{
    static const struct {
        struct given rows[4];
        size_t n;
        const char *want;
    } cases[] = {
        { { { TY_ROW_DOUBLE, "0.5" } }, 1, "0.5" },
        { { { TY_ROW_INT, "3" }, { TY_ROW_TEXT, "\"x\"" } }, 2, "[3, \"x\"]" },
        { { { TY_ROW_LIST, "[1, 2]" } }, 1, "[1, 2]" },
        { { { TY_ROW_LIST, "[]" } }, 1, "[]" },
        { { { TY_ROW_LIST, "[7]" } }, 1, "[7]" },
        { { { TY_ROW_LIST, "[1]" }, { TY_ROW_LIST, "[2, 3]" } }, 2, "[1, 2, 3]" },
        { { { TY_ROW_INT, "0" }, { TY_ROW_LIST, "[1, [2]]" } }, 2, "[0, 1, [2]]" },
        { { { TY_ROW_ROW, "{\"a\": 1, \"b\": 2}" } }, 1, "{\"a\": 1, \"b\": 2}" },
        { { { TY_ROW_ROW, "{\"a\": [1, 2]}" } }, 1, "{\"a\": [1, 2]}" },
        { { { TY_ROW_ROW, "{\"a\": 1, \"b\": 2}" }, { TY_ROW_ROW, "{\"a\": 3, \"b\": 4}" } },
          2,
          "{\"a\": [1, 3], \"b\": [2, 4]}" },
        { { { TY_ROW_TABLE, "{\"a\": [1, 2], \"b\": [3, 4]}" } },
          1,
          "{\"a\": [1, 2], \"b\": [3, 4]}" },
        { { { TY_ROW_TABLE, "{\"a\": 1}" } }, 1, "{\"a\": [1]}" },
        { { { TY_ROW_TABLE, "{\"a\": [1]}" }, { TY_ROW_ROW, "{\"a\": 2}" } },
          2,
          "{\"a\": [1, 2]}" },
        { { { TY_ROW_ROW, "{\"a\": 1}" }, { TY_ROW_INT, "9" } }, 2, "{\"a\": [1], \"m\": [9]}" },
        { { { TY_ROW_LIST, "\"no list\"" } }, 1, "\"no list\"" },
        { { { TY_ROW_ROW, "5" }, { TY_ROW_TABLE, "6" } }, 2, "[5, 6]" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kit_json_is(shape(cases[i].rows, cases[i].n), cases[i].want);
}

static void test_doubles_without_a_word_in_json(void **state)
{
    (void)state;
    kit_json_is(ty_metric_double(0.25), "0.25");
    kit_json_is(ty_metric_double(NAN), "{\"$float\": \"NaN\"}");
    kit_json_is(ty_metric_double(INFINITY), "{\"$float\": \"Infinity\"}");
    kit_json_is(ty_metric_double(-INFINITY), "{\"$float\": \"-Infinity\"}");
}

static void order_is(struct ty_metric_point *p, size_t n, const char *want)
{
    char have[64] = "";

    ty_metric_order(p, n);
    for (size_t i = 0; i < n; i++)
        snprintf(have + strlen(have), sizeof have - strlen(have), "%u.%d ", p[i].writer,
                 (int)p[i].seq);
    assert_string_equal(have, want);
}

static void test_writers_are_merged_by_time(void **state)
{
    struct ty_metric_point p[] = {
        { .writer = 0, .seq = 0, .at_us = 10 }, { .writer = 0, .seq = 1, .at_us = 30 },
        { .writer = 0, .seq = 2, .at_us = 30 }, { .writer = 1, .seq = 0, .at_us = 20 },
        { .writer = 1, .seq = 1, .at_us = 30 },
    };

    (void)state;
    order_is(p, 5, "0.0 1.0 0.1 0.2 1.1 ");
}

static void test_a_clock_that_steps_back_does_not_reorder_its_writer(void **state)
{
    struct ty_metric_point p[] = {
        { .writer = 0, .seq = 0, .at_us = 100 }, { .writer = 0, .seq = 1, .at_us = 40 },
        { .writer = 0, .seq = 2, .at_us = 120 }, { .writer = 1, .seq = 0, .at_us = 50 },
        { .writer = 1, .seq = 1, .at_us = 110 },
    };

    (void)state;
    order_is(p, 5, "1.0 0.0 0.1 1.1 0.2 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_doubles_without_a_word_in_json),
        cmocka_unit_test(test_writers_are_merged_by_time),
        cmocka_unit_test(test_a_clock_that_steps_back_does_not_reorder_its_writer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
