#include "base/fault.h"
#include "tests.h"
#include <sys/wait.h>

static int expression(void)
{
    return FAULT("test.point", -7, 5);
}

#ifdef TY_FAULTS
static void test_armed_visit(void **state)
{
    (void)state;
    ty_fault_arm("test.point", 2, ENOSPC);
    assert_int_equal(expression(), 5);
    errno = 0;
    assert_int_equal(expression(), -7);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(expression(), 5);
    assert_int_equal(ty_fault_visits(), 3);

    ty_fault_arm("another.point", 1, EIO);
    assert_int_equal(expression(), 5);
    assert_int_equal(ty_fault_visits(), 0);

    ty_fault_arm(NULL, 1, EIO);
    assert_int_equal(expression(), -7);
    ty_fault_arm(NULL, 0, EIO);
    assert_int_equal(expression(), 5);
}

/* In a fresh process, with TY_FAULT set: a digit for each of four visits, 1 when it failed with `error`. */
static void in_child(const char *self, const char *order, int error, char seen[8])
{
    char command[256];
    FILE *f;

    snprintf(command, sizeof command, "TY_FAULT=%s %s %d", order, self, error);
    f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(seen, 8, f));
    assert_int_equal(pclose(f), 0);
}

static void test_environment(void **state)
{
    char seen[8], self[200];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    (void)state;
    assert_true(n > 0);
    self[n] = 0;
    in_child(self, "test.point:3", EIO, seen);
    assert_string_equal(seen, "0010");
    in_child(self, "test.point:3+:ENOSPC", ENOSPC, seen);
    assert_string_equal(seen, "0011");
    in_child(self, "test.point:1:EROFS", EROFS, seen);
    assert_string_equal(seen, "1000");
    in_child(self, "other.point:1+", EIO, seen);
    assert_string_equal(seen, "0000");
    in_child(self, "nonsense", EIO, seen);
    assert_string_equal(seen, "0000");
}

/* What is visited can be asked for; nothing fails then. */
static void test_visits_are_told(void **state)
{
    char file[] = "/tmp/ty-visits-XXXXXX", seen[8], self[200], told[100] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    int fd = mkstemp(file);

    (void)state;
    assert_true(n > 0 && fd >= 0);
    self[n] = 0;
    in_child(self, file, EIO, seen);
    assert_string_equal(seen, "0000");
    assert_true(read(fd, told, sizeof told - 1) > 0);
    assert_string_equal(told, "test.point\ntest.point\ntest.point\ntest.point\n");
    close(fd);
    unlink(file);
}

static int be_child(int error)
{
    for (int i = 0; i < 4; i++) {
        errno = 0;
        putchar(expression() == -7 && errno == error ? '1' : '0');
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_armed_visit),
                                        cmocka_unit_test(test_environment),
                                        cmocka_unit_test(test_visits_are_told) };

    if (argc > 1)
        return be_child((int)strtol(argv[1], NULL, 10));
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
#else
static void test_points_cost_nothing(void **state)
{
    (void)state;
    setenv("TY_FAULT", "test.point:1+", 1);
    assert_int_equal(expression(), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_points_cost_nothing) };

    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
#endif
