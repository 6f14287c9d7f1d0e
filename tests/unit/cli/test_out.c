/* test_out.c - tables, JSON, times, and text that must not reach the terminal as it is */
#include "base/str.h"
#include "capture.h"
#include "cli/out.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct ty_cli_option quiet = { .name = "quiet" }, plain = { .name = "plain" };

static int print(void *ctx)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "ID", "N", "COMMAND" },
                                        .state_column = -1,
                                        .right = 1 << 1 };

    ty_table_row(&t,
                 (const char *const[]){ "first", "1", "python3 train.py --a-long-option 12345" });
    ty_table_row(&t, (const char *const[]){ "h\xc3\xa9", NULL, "x\ty\033[31m\n" });
    return ty_table_print(ctx, &t);
}

static void expect(struct ty_cli *cli, const char *text)
{
    struct captured c = capture_call(print, cli);

    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, text);
    captured_done(&c);
}

static void test_table(void **state)
{
    struct ty_cli cli = { 0 };

    (void)state;
    expect(&cli, "ID     N  COMMAND\n"
                 "first  1  python3 train.py --a-long-option 12345\n"
                 "h\xc3\xa9     -  x y?[31m \n");
    cli.width = 30;
    expect(&cli, "ID     N  COMMAND\n"
                 "first  1  python3 train.py --…\n"
                 "h\xc3\xa9     -  x y?[31m \n");
    cli.nvalues = 1;
    cli.values[0].option = &plain;
    expect(&cli, "first\t1\tpython3 train.py --a-long-option 12345\nh\xc3\xa9\t-\tx y?[31m \n");
    cli.values[0].option = &quiet;
    expect(&cli, "first\nh\xc3\xa9\n");
}

static int print_state(void *ctx)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "ID", "STATE" }, .state_column = 1 };

    ty_table_row(&t, (const char *const[]){ "a", "Failed" });
    return ty_table_print(ctx, &t);
}

static void test_color(void **state)
{
    struct ty_cli cli = { .color = true };
    struct captured c = capture_call(print_state, &cli);

    (void)state;
    assert_string_equal(c.out, "ID  STATE\na   \033[31mFailed\033[0m\n");
    captured_done(&c);
}

static void test_safe(void **state)
{
    static const struct {
        const char *in, *out;
    } table[] = {
        { "plain", "plain" },
        { "a\tb\nc", "a b c" },
        { "\033]0;x\007", "?]0;x?" },
        { "h\xc3\xa9", "h\xc3\xa9" },
        { "bad\xff", "bad?" },
        { "\xc2\x9b"
          "31m",
          "??31m" },
        { "\xc2\xa0", "\xc2\xa0" },
        { "", "" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        CLEANUP_FREE char *got = ty_out_safe(table[i].in);

        assert_string_equal(got, table[i].out);
    }
}

static void test_times(void **state)
{
    static const struct {
        int64_t s;
        const char *text;
    } table[] = {
        { -5, "0s" },      { 59, "59s" },       { 60, "1m00s" },   { 3599, "59m59s" },
        { 3600, "1h00m" }, { 86399, "23h59m" }, { 90000, "1d1h" },
    };
    CLEANUP_JSON json_t *iso = json_string("2026-11-23T11:52:03.123456Z"), *none = json_null();
    CLEANUP_JSON json_t *odd = json_string("soon");
    char buf[16];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++)
        assert_string_equal(ty_out_duration(table[i].s * 1000000, buf), table[i].text);
    assert_int_equal(ty_out_time(iso), INT64_C(1795434723123456));
    assert_int_equal(ty_out_time(none), 0);
    assert_int_equal(ty_out_time(odd), 0);
    assert_int_equal(ty_out_time(NULL), 0);
}

static int draw(void *ctx)
{
    struct ty_progress *p = ctx;

    ty_progress_draw(p, "upload", 5, 10, true);
    ty_progress_draw(p, "upload", 6, 10, false); /* too soon */
    ty_progress_draw(p, "upload", 0, 0, true);
    ty_progress_clear(p);
    return 0;
}

static void test_progress(void **state)
{
    struct ty_progress off = { 0 }, on = { .on = true };
    struct captured c = capture_call(draw, &off);

    (void)state;
    assert_string_equal(c.err, "");
    captured_done(&c);
    c = capture_call(draw, &on);
    assert_non_null(strstr(c.err, "upload [############............] "));
    assert_null(strstr(c.err, "[##############"
                              ".."));
    assert_true(ty_ends_with(c.err, "\r\033[K"));
    assert_string_equal(c.out, "");
    captured_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_color),    cmocka_unit_test(test_safe),
        cmocka_unit_test(test_times), cmocka_unit_test(test_progress),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
