#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>
#include <fcntl.h>

/* What the lines written by `level` and `text` look like in a file. */
static char *logged(const char *wanted, enum ty_log_level level, const char *text)
{
    CLEANUP_CLOSE int fd = open("log", O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    char *got = NULL;

    assert_true(fd >= 0);
    if (wanted)
        setenv("TRAINYARD_LOG", wanted, 1);
    else
        unsetenv("TRAINYARD_LOG");
    ty_log_init(fd, "unit");
    ty_log(level, "%s", text);
    assert_int_equal(ty_read_file("log", 100000, &got, NULL), 0);
    return got;
}

static void test_line(void **state)
{
    CLEANUP_FREE char *got = logged(NULL, TY_LOG_WARN, "one\ntwo\x1b[31m");

    (void)state;
    assert_int_equal(strlen(got), strlen("2026-11-23T11:52:03.123456Z warn unit one two [31m\n"));
    assert_true(got[10] == 'T' && got[26] == 'Z');
    assert_string_equal(got + 27, " warn unit one two [31m\n");
}

static void test_levels(void **state)
{
    static const struct {
        const char *wanted;
        enum ty_log_level level;
        bool seen;
    } cases[] = {
        { NULL, TY_LOG_INFO, true },     { NULL, TY_LOG_DEBUG, false },
        { "debug", TY_LOG_DEBUG, true }, { "error", TY_LOG_WARN, false },
        { "error", TY_LOG_ERROR, true }, { "loud", TY_LOG_INFO, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *got = logged(cases[i].wanted, cases[i].level, "text");

        assert_int_equal(got[0] != 0, cases[i].seen);
    }
}

static void test_long_line(void **state)
{
    CLEANUP_FREE char *text = malloc(5001), *got = NULL;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', 5000);
    text[5000] = 0;
    got = logged(NULL, TY_LOG_ERROR, text);
    assert_true(strlen(got) < 2100 && ty_ends_with(got, "x\n"));
    assert_ptr_equal(strchr(got, '\n'), got + strlen(got) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_long_line),
    };

    return cmocka_run_group_tests_name("log", tests, tests_enter, tests_leave);
}
