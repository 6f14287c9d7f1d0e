/* test_target.c - the table of kinds, and what this box offers */
#include "target/target.h"
#include "tests.h"
#include <sched.h>

static void test_kinds(void **state)
{
    (void)state;
    assert_string_equal(ty_target_kind("local")->name, "local");
    assert_null(ty_target_kind("cloud"));
    assert_null(ty_target_kind(""));
}

/* The CPUs that this process may use, not those of the machine. */
static void test_cpus(void **state)
{
    cpu_set_t all, one;
    int before = ty_target_cpus(), cpu = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(before, CPU_COUNT(&all));
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(ty_target_cpus(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void test_gpus(void **state)
{
    int n = ty_target_gpus();

    (void)state;
    assert_true(n >= 0);
    if (access("/dev/nvidiactl", F_OK) < 0)
        assert_int_equal(n, 0);
    assert_int_equal(ty_target_gpus(), n);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_kinds), cmocka_unit_test(test_cpus),
                                        cmocka_unit_test(test_gpus) };

    return cmocka_run_group_tests_name("target", tests, NULL, NULL);
}
