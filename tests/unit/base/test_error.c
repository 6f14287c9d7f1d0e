#include "base/error.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>

static void test_set(void **state)
{
    struct ty_error err = { 0 };

    (void)state;
    errno = ENOENT;
    assert_int_equal(ty_error_set(&err, -ENOENT, "cannot open '%s': %m", "x"), -ENOENT);
    assert_int_equal(err.code, -ENOENT);
    assert_string_equal(err.text, "cannot open 'x': No such file or directory");
    assert_int_equal(errno, ENOENT);
    assert_int_equal(ty_error_set(NULL, -EIO, "%s", "nobody reads this"), -EIO);
    assert_int_equal(ty_error_oom(&err), -ENOMEM);
    assert_string_equal(err.text, "out of memory");
}

static void test_prefix(void **state)
{
    struct ty_error err = { 0 };

    (void)state;
    ty_error_set(&err, -EINVAL, "it is not a number");
    assert_int_equal(ty_error_prefix(&err, "line %d", 7), -EINVAL);
    assert_string_equal(err.text, "line 7: it is not a number");
}

/* A cut text is marked, ends within its array, and never inside a character, wherever the cut falls. */
static void test_long_texts_are_cut(void **state)
{
    struct ty_error err = { 0 };
    char text[2000], pad[8];

    (void)state;
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa4", 3);
    for (int shift = 0; shift < 4; shift++) {
        snprintf(pad, sizeof pad, "%.*s", shift, "xxx");
        ty_error_set(&err, -EIO, "%s%s", pad, text);
        assert_true(strlen(err.text) > sizeof err.text - 8 && strlen(err.text) < sizeof err.text);
        assert_true(ty_ends_with(err.text, "..."));
        assert_true(ty_utf8_valid(err.text, strlen(err.text)));
        ty_error_prefix(&err, "more %s", pad);
        assert_true(ty_starts_with(err.text, "more ") && ty_ends_with(err.text, "..."));
        assert_true(ty_utf8_valid(err.text, strlen(err.text)));
        ty_error_prefix(&err, "%s", text);
        assert_true(ty_ends_with(err.text, "...") && ty_utf8_valid(err.text, strlen(err.text)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_long_texts_are_cut),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
