/* test_cli.c - words of the command line, usage errors, help */
#include "base/cleanup.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include "cli/cli.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The one line that every usage error is. */
static void usage_error(struct captured c, int code, const char *part)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, "");
    assert_true(ty_starts_with(c.err, "trainyard: "));
    assert_non_null(strstr(c.err, part));
    assert_non_null(strstr(c.err, "ee 'trainyard "));
    assert_ptr_equal(strchr(c.err, '\n'), c.err + strlen(c.err) - 1);
    captured_done(&c);
}

static void test_usage_errors(void **state)
{
    (void)state;
    usage_error(CAPTURE(NULL, "shwo"), 2, "did you mean 'show'?");
    usage_error(CAPTURE(NULL, "frobnicate"), 2, "no command 'frobnicate'");
    usage_error(CAPTURE(NULL, "stop", "@last"), 2, "no command 'stop'; did you mean 'cancel'?");
    usage_error(CAPTURE(NULL, "runs"), 2, "did you mean 'ps'?");
    usage_error(CAPTURE(NULL, "help", "delete"), 2, "no command 'delete'; did you mean 'rm'?");
    usage_error(CAPTURE(NULL, "artifact", "ls", "a"), 2, "did you mean 'artifacts ls'?");
    usage_error(CAPTURE(NULL, "target", "create", "a"), 2, "did you mean 'target add'?");
    usage_error(CAPTURE(NULL, "data", "delete", "a"), 2, "did you mean 'data rm'?");
    usage_error(CAPTURE(NULL, "data"), 2,
                "'data' needs one of ls, put, get, show, add, default, rm or cache after it");
    usage_error(CAPTURE(NULL, "data", "lss"), 2, "did you mean 'data ls'?");
    usage_error(CAPTURE(NULL, "data", "quux"), 2,
                "after 'data' comes ls, put, get, show, add, default, rm or cache");
    usage_error(CAPTURE(NULL, "ps", "--limt", "3"), 2, "did you mean '--limit'?");
    usage_error(CAPTURE(NULL, "ps", "--limit"), 2, "'--limit' needs a value (N)");
    usage_error(CAPTURE(NULL, "ps", "--limit", "x"), 2, "--limit 'x'");
    usage_error(CAPTURE(NULL, "ps", "--all=yes"), 2, "'--all' takes no value");
    usage_error(CAPTURE(NULL, "ps", "-Z"), 2, "no option '-Z'");
    usage_error(CAPTURE(NULL, "ps", "extra"), 2, "'extra'");
    usage_error(CAPTURE(NULL, "show"), 2, "'show' needs RUN...");
    usage_error(CAPTURE(NULL, "logs", "a", "b"), 2, "'b'");
    usage_error(CAPTURE(NULL, "logs", "--rank", "x", "a"), 2, "--rank 'x'");
    usage_error(CAPTURE(NULL, "logs", "--json", "a"), 2, "--follow");
    usage_error(CAPTURE(NULL, "data", "put", "x", "noplace"), 2, "DATASTORE:PATH");
    usage_error(CAPTURE(NULL, "help", "nothing"), 2, "no command 'nothing'");
    usage_error(CAPTURE(NULL, "wait", "--timeout", "soon", "a"), 2, "--timeout 'soon'");
}

/* Whatever goes wrong in `run` itself is 125, so that no code of the job has two meanings. */
static void test_own_failures(void **state)
{
    (void)state;
    usage_error(CAPTURE(NULL, "run"), 125, "'run' needs");
    usage_error(CAPTURE(NULL, "run", "--no-such-option", "--", "true"), 125, "--no-such-option");
    usage_error(CAPTURE(NULL, "wait", "--exit-status", "--timeout", "soon", "a"), 125, "--timeout");
}

static void test_help(void **state)
{
    struct captured c = CAPTURE(NULL, "--help");
    int i;

    (void)state;
    assert_int_equal(c.code, 0);
    assert_string_equal(c.err, "");
    for (i = 0; ty_cli_commands[i]; i++) {
        const struct ty_cli_command *command = ty_cli_commands[i];
        const struct ty_cli_option *o;
        CLEANUP_FREE char *name = strdup(command->name);
        char *second = strchr(name, ' ');
        struct captured h;

        assert_non_null(strstr(c.out, command->summary));
        if (second)
            *second++ = '\0';
        h = second ? CAPTURE(NULL, name, second, "--help") : CAPTURE(NULL, name, "-h");
        assert_int_equal(h.code, 0);
        assert_true(ty_starts_with(h.out, command->name));
        assert_true(!command->examples ||
                    (strstr(h.out, "Examples:") &&
                     (!strstr(h.out, "Options:") ||
                      strstr(h.out, "Examples:") < strstr(h.out, "Options:"))));
        for (o = command->options; o && o->name; o++)
            assert_non_null(strstr(h.out, o->help));
        captured_done(&h);
    }
    captured_done(&c);
    c = CAPTURE(NULL, "data", "--help");
    assert_int_equal(c.code, 0);
    assert_non_null(strstr(c.out, "data put"));
    captured_done(&c);
    c = CAPTURE(NULL, "help", "data", "get");
    assert_true(ty_starts_with(c.out, "data get: "));
    captured_done(&c);
}

/* No two options of a command share a letter or a name, also not with those that every command has. */
static void test_tables(void **state)
{
    const struct ty_cli_option *a, *b;
    int i, words;

    (void)state;
    for (i = 0; ty_cli_commands[i]; i++) {
        const struct ty_cli_command *c = ty_cli_commands[i];

        assert_true(c->name && c->usage && c->summary && c->run);
        assert_true(c->max == -1 || c->max >= c->min);
        for (a = c->options; a && a->name; a++) {
            for (b = a + 1; b->name; b++)
                assert_true(strcmp(a->name, b->name) && (!a->letter || a->letter != b->letter));
            for (b = ty_cli_global_options; b->name; b++)
                assert_true(strcmp(a->name, b->name) && (!a->letter || a->letter != b->letter));
        }
    }
    assert_string_equal(ty_cli_find("artifacts", "get", &words)->name, "artifacts get");
    assert_int_equal(words, 2);
    assert_null(ty_cli_find("artifacts", NULL, &words));
}

static void parse(struct ty_cli *cli, int code, const char *const *words)
{
    char *argv[20];
    int n = 0, got = 0;

    while (words[n]) {
        argv[n] = (char *)words[n];
        n++;
    }
    argv[n] = NULL;
    assert_int_equal(ty_cli_parse(cli, n, argv, &got), code ? -1 : 0);
    assert_int_equal(got, code);
}
#define PARSE(cli, ...) parse(cli, 0, (const char *const[]){ __VA_ARGS__, NULL })

static void test_options(void **state)
{
    struct ty_cli cli;

    (void)state;
    PARSE(&cli, "--home", "/h", "ps", "-aqn5", "--state=Failed", "--tag", "x=y");
    assert_string_equal(cli.command->name, "ps");
    assert_string_equal(ty_cli_value(&cli, "home"), "/h");
    assert_true(ty_cli_flag(&cli, "all") && ty_cli_flag(&cli, "quiet") &&
                !ty_cli_flag(&cli, "json"));
    assert_string_equal(ty_cli_value(&cli, "limit"), "5");
    assert_string_equal(ty_cli_value(&cli, "state"), "Failed");
    assert_string_equal(ty_cli_value(&cli, "tag"), "x=y");
    free(cli.args);
    PARSE(&cli, "show", "a", "--json", "--", "--json");
    assert_int_equal(cli.nargs, 2);
    assert_string_equal(cli.args[1], "--json");
    assert_int_equal(cli.nvalues, 1);
    free(cli.args);
    PARSE(&cli, "data", "ls", "-q", "x");
    assert_string_equal(cli.command->name, "data ls");
    assert_string_equal(cli.args[0], "x");
    free(cli.args);
}

/* After the command's first word everything is the command's. */
static void test_command_words(void **state)
{
    struct ty_cli cli;

    (void)state;
    PARSE(&cli, "run", "--env", "A=1", "--env", "B", "python3", "-c", "x", "--help");
    assert_int_equal(cli.nargs, 4);
    assert_string_equal(cli.args[3], "--help");
    assert_string_equal(ty_cli_nth(&cli, "env", 1), "B");
    assert_null(ty_cli_nth(&cli, "env", 2));
    assert_string_equal(ty_cli_value(&cli, "env"), "B");
    free(cli.args);
    PARSE(&cli, "run", "--", "--odd-program", "-x", "--");
    assert_int_equal(cli.nargs, 3);
    assert_string_equal(cli.args[0], "--odd-program");
    assert_string_equal(cli.args[2], "--");
    free(cli.args);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        { "90", 90000000 },
        { "0", 0 },
        { "0.2", 200000 },
        { "1.5", 1500000 },
        { "90s", 90000000 },
        { "10m", 600000000 },
        { "1h30m", INT64_C(5400000000) },
        { "2d", INT64_C(172800000000) },
        { "1d1s", INT64_C(86401000000) },
    };
    static const char *const bad[] = { "",  "x",  "-1", "1x",   "1m1h", "1m1m",
                                       "m", "1.", ".5", "1.5h", "1 m",  "999999999999999" };
    int64_t us = 77;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ty_cli_parse_time(good[i].text, &us), 0);
        assert_int_equal(us, good[i].us);
    }
    us = 77;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ty_cli_parse_time(bad[i], &us), -EINVAL);
        assert_int_equal(us, 77);
    }
}

static void test_exit_codes(void **state)
{
    static const struct {
        int code, exit;
    } table[] = {
        { -ENOENT, 3 },    { -EACCES, 4 }, { -EEXIST, 5 }, { -ECONNREFUSED, 6 }, { -EPROTO, 6 },
        { -ETIMEDOUT, 7 }, { -EINVAL, 1 }, { -EFBIG, 1 },  { -ENOSPC, 1 },       { -EINTR, 130 },
    };
    struct captured c;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++)
        assert_int_equal(ty_cli_exit_of(table[i].code), table[i].exit);
    c = CAPTURE("/nonexistent/home", "status");
    assert_int_equal(c.code, 6);
    assert_non_null(strstr(c.err, "/nonexistent/home"));
    captured_done(&c);
}

static void test_version(void **state)
{
    struct captured c = CAPTURE(NULL, "--version"), d = CAPTURE(NULL, "version", "--json");

    (void)state;
    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, "trainyard " TY_VERSION "\n");
    assert_string_equal(d.out, "{\"version\":\"" TY_VERSION "\",\"api\":1}\n");
    captured_done(&c);
    captured_done(&d);
}

/* A full disk behind standard output is told of, and is no success. */
static int to_full(void *ctx)
{
    (void)ctx;
    if (!freopen("/dev/full", "w", stdout))
        return -1;
    return ty_cli_main(2, (char *[]){ (char *)"trainyard", (char *)"version", NULL });
}

static void test_full_output(void **state)
{
    struct captured c = capture_call(to_full, NULL);

    (void)state;
    clearerr(stdout);
    assert_int_equal(c.code, 1);
    assert_non_null(strstr(c.err, "cannot write to standard output"));
    captured_done(&c);
}

/* The pages of docs/ name every command, exit code and option. */
static void test_docs(void **state)
{
    CLEANUP_FREE char *cli = NULL;
    CLEANUP_FREE char *conf = NULL;
    char line[256];
    size_t n;
    int i;

    (void)state;
    assert_int_equal(ty_read_file(DOCS "/cli.md", 1 << 20, &cli, &n), 0);
    assert_int_equal(ty_read_file(DOCS "/configuration.md", 1 << 20, &conf, &n), 0);
    for (i = 0; ty_cli_commands[i]; i++) {
        snprintf(line, sizeof line, "`trainyard %s", ty_cli_commands[i]->name);
        assert_non_null(strstr(cli, line));
    }
#define X(name, code, meaning) \
    snprintf(line, sizeof line, "| %d | %s |", code, meaning); \
    assert_non_null(strstr(cli, line));
    TY_CLI_EXITS(X)
#undef X
    for (i = 0; ty_conf_option(i); i++) {
        const struct ty_conf_option *o = ty_conf_option(i);

        snprintf(line, sizeof line, "| `%s` | %s | %s | %s |", o->key, o->kind, o->fallback,
                 o->help);
        if (!strstr(conf, line))
            fail_msg("docs/configuration.md lacks the line: %s", line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage_errors), cmocka_unit_test(test_own_failures),
        cmocka_unit_test(test_help),         cmocka_unit_test(test_tables),
        cmocka_unit_test(test_options),      cmocka_unit_test(test_command_words),
        cmocka_unit_test(test_times),        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_version),      cmocka_unit_test(test_docs),
        cmocka_unit_test(test_full_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
