/* test_target.c - the table of kinds, and what this box offers */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/gpu.h"
#include "base/str.h"
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

/* Everybody gets a list of their own; what is known is not asked for at each call. */
static void test_gpu_list(void **state)
{
    struct ty_gpu *one = NULL, *other = NULL;
    char dir[] = "/tmp/ty-target.XXXXXX";
    CLEANUP_FREE char *from = ty_strf("%s/libnvml-whole.so", getenv("TRAINYARD_NVML_FOLDER"));
    CLEANUP_FREE char *library = NULL, *list = NULL;
    int n = 0;

    (void)state;
    assert_non_null(mkdtemp(dir));
    library = ty_path_join(dir, "nvml.so");
    list = ty_path_join(dir, "nvml.so.gpus");
    assert_int_equal(symlink(from, library), 0);
    assert_int_equal(ty_write_file(list, "gpu GPU-a A 100 1 2 3 4\n", 24, 0600), 0);
    setenv("TRAINYARD_TEST_NVML", library, 1);
    assert_int_equal(ty_target_gpus(), 1);
    assert_int_equal(ty_target_gpu_list(&one, &n), 0);
    assert_int_equal(n, 1);
    assert_string_equal(one[0].uuid, "GPU-a");
    ty_rm_rf(dir);
    assert_int_equal(ty_target_gpu_list(&other, &n), 0);
    assert_int_equal(n, 1);
    assert_ptr_not_equal(one, other);
    free(one);
    free(other);
    unsetenv("TRAINYARD_TEST_NVML");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_kinds), cmocka_unit_test(test_cpus),
                                        cmocka_unit_test(test_gpu_list) };

    return cmocka_run_group_tests_name("target", tests, NULL, NULL);
}
