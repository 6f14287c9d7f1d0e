#include "base/cleanup.h"
#include "base/conf.h"
#include "base/error.h"
#include "base/str.h"
#include "tests.h"

static void home(const char *own, const char *state_home, const char *user, const char *expected)
{
    CLEANUP_FREE char *got = NULL;
    struct ty_error err = { 0 };

    own ? setenv("TRAINYARD_HOME", own, 1) : unsetenv("TRAINYARD_HOME");
    state_home ? setenv("XDG_STATE_HOME", state_home, 1) : unsetenv("XDG_STATE_HOME");
    user ? setenv("HOME", user, 1) : unsetenv("HOME");
    assert_int_equal(ty_home(&got, &err), 0);
    assert_string_equal(got, expected);
}

static void test_precedence(void **state)
{
    CLEANUP_FREE char *seen_from_here = ty_path_join(tests_folder, "x/y");

    (void)state;
    home("/a", "/b", "/c", "/a");
    home("/a/b///", "/b", "/c", "/a/b");
    home("/", NULL, NULL, "/");
    home("x/y", NULL, NULL, seen_from_here);
    home(NULL, "/b", "/c", "/b/trainyard");
    home("", "", "/c", "/c/.local/state/trainyard");
    home(NULL, "relative", "/c/", "/c/.local/state/trainyard");
}

static void test_user_database(void **state)
{
    char *got = NULL;

    (void)state;
    unsetenv("TRAINYARD_HOME");
    unsetenv("XDG_STATE_HOME");
    unsetenv("HOME");
    if (ty_home(&got, NULL) == 0) {
        assert_true(got[0] == '/' && ty_ends_with(got, "/.local/state/trainyard"));
        free(got);
    } else {
        assert_null(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_precedence),
                                        cmocka_unit_test(test_user_database) };

    return cmocka_run_group_tests_name("home", tests, tests_enter, tests_leave);
}
