/* test_oom.c - oom_score_adj, asked for and set */
#include "base/fs.h"
#include "base/str.h"
#include "runner/oom.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define KERNEL_MAX 1000

/* What the kernel says, read in another way. */
static int kernel_says(void)
{
    CLEANUP_FREE char *text = NULL;
    char *end;
    long n;

    assert_int_equal(ty_read_file("/proc/self/oom_score_adj", 64, &text, NULL), 0);
    n = strtol(text, &end, 10);
    assert_true(end != text && *end == '\n');
    return (int)n;
}

static void test_get(void **state)
{
    (void)state;
    assert_int_equal(ty_oom_get(), kernel_says());
}

/* Everybody may raise the number, and take it back to where it was. */
static void test_set(void **state)
{
    int was = kernel_says();
    int more = was < KERNEL_MAX ? was + 1 : was;

    (void)state;
    ty_oom_set(more);
    assert_int_equal(kernel_says(), more);
    assert_int_equal(ty_oom_get(), more);
    ty_oom_set(was);
    assert_int_equal(kernel_says(), was);
}

/* What the kernel does not take changes nothing, and is no failure. */
static void test_refused(void **state)
{
    static const int bad[] = { KERNEL_MAX + 1, -KERNEL_MAX - 1, 2147483647, -2147483647 - 1 };
    int was = kernel_says();

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ty_oom_set(bad[i]);
        assert_int_equal(kernel_says(), was);
    }
}

/* It only grows; the tests' kernel counts (4.13 and later do). */
static void test_kills(void **state)
{
    int64_t kills = ty_oom_kills();

    (void)state;
    assert_true(kills >= 0);
    assert_true(ty_oom_kills() >= kills);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
