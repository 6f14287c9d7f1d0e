/* test_help.c - what --help and `help` print: layout, examples first, groups of commands */
#include "base/str.h"
#include "capture.h"
#include "cli/cli.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int the_program(void *ctx)
{
    return ty_cli_help(ctx);
}

static const struct ty_cli_option options[] = {
    { 'v', "very", NULL, "a flag" },
    { 0, "number", "N", "a value" },
    { 'x', "an-option-that-is-very-long", "SOMETHING", "below it" },
    TY_OPT_END,
};

static void test_a_command(void **state)
{
    static const struct ty_cli_command full = { .name = "make it",
                                                .usage = "[OPTIONS] THING...",
                                                .summary = "Make things",
                                                .examples = "  trainyard make it one\n",
                                                .text = "More of it.\n",
                                                .options = options };
    struct captured c = capture_call(the_program, (void *)(uintptr_t)&full);

    (void)state;
    assert_int_equal(c.code, 0);
    assert_true(ty_starts_with(c.out, "make it: Make things\n"
                                      "\n"
                                      "Usage: trainyard make it [OPTIONS] THING...\n"
                                      "\n"
                                      "Examples:\n"
                                      "  trainyard make it one\n"
                                      "\n"
                                      "More of it.\n"
                                      "\n"
                                      "Options:\n"
                                      "  -v, --very                    a flag\n"
                                      "      --number N                a value\n"
                                      "  -x, --an-option-that-is-very-long SOMETHING\n"
                                      "                                below it\n"
                                      "\n"
                                      "Options of every command:\n"
                                      "  "));
    assert_string_equal(c.err, "");
    captured_done(&c);
}

/* What a command has not is not announced. */
static void test_a_bare_command(void **state)
{
    static const struct ty_cli_option none[] = { TY_OPT_END };
    struct ty_cli_command bare = { .name = "bare", .usage = "", .summary = "Do nothing" };
    struct captured c = capture_call(the_program, &bare);

    (void)state;
    assert_true(ty_starts_with(c.out, "bare: Do nothing\n\nUsage: trainyard bare\n\nOptions of "
                                      "every command:\n"));
    captured_done(&c);
    bare.options = none;
    c = capture_call(the_program, &bare);
    assert_null(strstr(c.out, "\nOptions:\n"));
    captured_done(&c);
}

static void test_the_program(void **state)
{
    struct captured c = capture_call(the_program, NULL);
    const char *at = c.out;

    (void)state;
    assert_int_equal(c.code, 0);
    assert_true(strstr(c.out, "Examples:") < strstr(c.out, "\nStart:\n  run "));
    for (int i = 0; ty_cli_commands[i]; i++) { /* each once, in the order of the table */
        CLEANUP_FREE char *line =
            ty_strf("\n  %-16s  %s\n", ty_cli_commands[i]->name, ty_cli_commands[i]->summary);

        at = strstr(at, line);
        assert_non_null(at);
        assert_null(strstr(at + 1, line));
    }
    for (const struct ty_cli_option *o = ty_cli_global_options; o->name; o++)
        assert_non_null(strstr(at, o->help));
    assert_true(ty_ends_with(c.out, "\n'trainyard COMMAND --help' tells more.\n"));
    captured_done(&c);
}

/* Whatever somebody pipes it through: no line is longer than a usual terminal allows. */
static void test_width(void **state)
{
    (void)state;
    for (int i = -1; i < 0 || ty_cli_commands[i]; i++) {
        struct captured c =
            capture_call(the_program, (void *)(uintptr_t)(i < 0 ? NULL : ty_cli_commands[i]));

        for (const char *line = c.out; *line; line += strcspn(line, "\n") + 1)
            if (strcspn(line, "\n") > 132)
                fail_msg("a line of the help of '%s' is %zu characters long",
                         i < 0 ? "trainyard" : ty_cli_commands[i]->name, strcspn(line, "\n"));
        assert_null(strchr(c.out, '\t'));
        captured_done(&c);
    }
}

static int a_group(void *ctx)
{
    return ty_cli_help_group(ctx);
}

static void test_groups(void **state)
{
    static char data[] = "data", dat[] = "dat", ps[] = "ps", nothing[] = "";
    char *no_group[] = { dat, ps, nothing };
    struct captured c = capture_call(a_group, data);

    (void)state;
    assert_int_equal(c.code, 1);
    assert_true(ty_starts_with(c.out, "Commands of 'data':\n  data ls "));
    assert_true(strstr(c.out, "\n  data put ") && strstr(c.out, "\n  data get "));
    assert_null(strstr(c.out, "artifacts"));
    assert_true(ty_ends_with(c.out, "\n'trainyard data COMMAND --help' tells more.\n"));
    captured_done(&c);
    for (size_t i = 0; i < sizeof no_group / sizeof *no_group; i++) {
        c = capture_call(a_group, no_group[i]);
        assert_int_equal(c.code, 0);
        assert_string_equal(c.out, "");
        captured_done(&c);
    }
}

static void same(struct captured a, struct captured b)
{
    assert_int_equal(a.code, b.code);
    assert_string_equal(a.out, b.out);
    assert_string_equal(a.err, b.err);
    captured_done(&a);
    captured_done(&b);
}

/* `help X` says what `X --help` says, for every command. */
static void test_the_command_help(void **state)
{
    (void)state;
    same(CAPTURE(NULL, "help"), CAPTURE(NULL, "--help"));
    same(CAPTURE(NULL, "help", "data"), CAPTURE(NULL, "data", "--help"));
    for (int i = 0; ty_cli_commands[i]; i++) {
        CLEANUP_FREE char *name = strdup(ty_cli_commands[i]->name);
        char *second = strchr(name, ' ');

        if (second)
            *second++ = '\0';
        if (second)
            same(CAPTURE(NULL, "help", name, second), CAPTURE(NULL, name, second, "--help"));
        else
            same(CAPTURE(NULL, "help", name), CAPTURE(NULL, name, "--help"));
    }
}

static void test_help_of_nothing(void **state)
{
    static const char *const bad[][2] = { { "nothing", NULL },
                                          { "data", "nothing" },
                                          { "ps", "x" } };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_FREE char *sentence = ty_strf("no command '%s%s%s'", bad[i][0],
                                              bad[i][1] ? " " : "", bad[i][1] ? bad[i][1] : "");
        struct captured c = CAPTURE(NULL, "help", bad[i][0], bad[i][1]);

        assert_int_equal(c.code, 2);
        assert_string_equal(c.out, "");
        assert_non_null(strstr(c.err, sentence));
        captured_done(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command),       cmocka_unit_test(test_a_bare_command),
        cmocka_unit_test(test_the_program),     cmocka_unit_test(test_width),
        cmocka_unit_test(test_groups),          cmocka_unit_test(test_the_command_help),
        cmocka_unit_test(test_help_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
