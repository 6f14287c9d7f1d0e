/* test_chart.c - curves of characters: what is kept, where the dots are, and that every line fits */
#include "cli/chart.h"
#include "cli/out.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void add(struct ty_series *s, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ty_series_add(s, NULL, values[i]), 0);
}

static void draws(const struct ty_series *s, int width, int height, bool unicode,
                  const char *const *want)
{
    const struct ty_chart_style style = { .unicode = unicode };
    struct ty_str lines[32] = { 0 };

    ty_chart_draw(s, width, height, &style, lines);
    for (int i = 0; i < height; i++) {
        assert_int_equal(ty_out_width(lines[i].text), width);
        if (want)
            assert_string_equal(lines[i].text, want[i]);
        ty_str_done(&lines[i]);
    }
}

static void test_a_rising_line(void **state)
{
    static const char *const want[] = {
        "loss  4  (4: 1 to 4)          ", "         4|              ...''",
        "          |         ...'''    ", "          |    ...'''         ",
        "         1|..'''              ", "          + 1                4",
    };
    static const double values[] = { 1, 2, 3, 4 };
    struct ty_series s = { .name = strdup("loss") };

    (void)state;
    add(&s, values, 4);
    draws(&s, 30, 6, false, want);
    draws(&s, 30, 6, true, NULL);
    ty_series_done(&s);
}

/* Two points at the ends of a field of one row of characters: the corners' dots. */
static void test_dots(void **state)
{
    static const double up[] = { 0, 1 }, flat[] = { 5, 5, 5 };
    struct ty_series a = { .name = strdup("a") }, b = { .name = strdup("b") };
    const struct ty_chart_style style = { .unicode = true };
    struct ty_str lines[4] = { 0 };

    (void)state;
    add(&a, up, 2);
    ty_chart_draw(&a, 31, 4, &style, lines);
    assert_true(strstr(lines[1].text, "│ ") ==
                strstr(lines[1].text, "│")); /* left above: nothing */
    assert_true(ty_ends_with(lines[1].text, "⠉"));
    assert_non_null(strstr(lines[2].text, "│⣀"));
    for (int i = 0; i < 4; i++)
        ty_str_done(&lines[i]);
    add(&b, flat, 3);
    draws(&b, 30, 5, false,
          (const char *const[]){ "b  5  (3: 5 to 5)             ", "       5.5|                   ",
                                 "          |'''''''''''''''''''", "       4.5|                   ",
                                 "          + 1                3" });
    ty_series_done(&a);
    ty_series_done(&b);
}

static void test_steps_and_odd_values(void **state)
{
    static const int64_t steps[] = { 100, 200, 300 };
    struct ty_series s = { .name = strdup("a\033[31m") };
    const struct ty_chart_style style = { 0 };
    struct ty_str lines[4] = { 0 };

    (void)state;
    assert_int_equal(ty_series_add(&s, &steps[0], 1), 0);
    assert_int_equal(ty_series_add(&s, &steps[1], NAN), 0);
    assert_int_equal(ty_series_add(&s, &steps[2], 3), 0);
    assert_int_equal(ty_series_add(&s, NULL, INFINITY), 0);
    assert_true(s.count == 4 && s.odd == 2 && s.n == 2 && s.last_x == 301 && s.min == 1 &&
                s.max == 3);
    ty_chart_draw(&s, 60, 4, &style, lines);
    assert_true(ty_starts_with(lines[0].text, "a?[31m  inf  (4: 1 to 3, 2 not finite)"));
    assert_true(ty_starts_with(lines[3].text, "          + step 100 ") &&
                ty_ends_with(lines[3].text, " 301"));
    for (int i = 0; i < 4; i++)
        ty_str_done(&lines[i]);
    ty_series_done(&s);
}

static void test_extremes_fit(void **state)
{
    static const double huge[] = { -1.7e308, 1.7e308, 0 }, odd[] = { NAN }, zero[] = { 0 };
    struct ty_series a = { .name =
                               strdup("a name that is far longer than there is room for, äöü") },
                     b = { .name = strdup("b") }, c = { .name = strdup("c") };

    (void)state;
    add(&a, huge, 3);
    add(&b, odd, 1);
    add(&c, zero, 1);
    for (int width = TY_CHART_WIDTH_MIN; width < 50; width++)
        for (int height = TY_CHART_HEIGHT_MIN; height < 12; height++) {
            draws(&a, width, height, true, NULL);
            draws(&b, width, height, false, NULL);
            draws(&c, width, height, true, NULL);
        }
    ty_series_done(&a);
    ty_series_done(&b);
    ty_series_done(&c);
}

/* However many values come, what is kept is bounded, and the spike stays. */
static void test_bounded(void **state)
{
    struct ty_series s = { .name = strdup("a") };
    bool spike = false, dip = false;

    (void)state;
    for (int i = 0; i < 300000; i++)
        assert_int_equal(ty_series_add(&s, NULL,
                                       i == 777      ? 1000
                                       : i == 250001 ? -1000
                                                     : i % 10),
                         0);
    assert_true(s.n <= TY_SERIES_POINTS_MAX && s.n > 100);
    assert_true(s.count == 300000 && s.min == -1000 && s.max == 1000 && s.last == 9);
    for (size_t i = 0; i < s.n; i++) {
        spike = spike || (s.y[i] == 1000 && s.x[i] == 778);
        dip = dip || (s.y[i] == -1000 && s.x[i] == 250002);
        assert_true(i == 0 || s.x[i] > s.x[i - 1]);
    }
    assert_true(spike && dip);
    draws(&s, 80, 10, true, NULL);
    ty_series_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rising_line),
        cmocka_unit_test(test_dots),
        cmocka_unit_test(test_steps_and_odd_values),
        cmocka_unit_test(test_extremes_fit),
        cmocka_unit_test(test_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
