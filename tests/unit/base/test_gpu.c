/* test_gpu.c - GPUs through the stand-in of NVML (nvml_standin.c) */
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/gpu.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>
#include <sys/stat.h>

#define ONE "gpu GPU-aaaa NVIDIA_A100 81920 1024 37 41 250\n"
#define TWO "gpu GPU-bbbb NVIDIA_T4 15360 - - - -\n"

/* The library `kind` becomes ./nvml.so, its GPUs `gpus`. */
static void use(const char *kind, const char *gpus)
{
    CLEANUP_FREE char *from = ty_strf("%s/libnvml-%s.so", getenv("TRAINYARD_NVML_FOLDER"), kind);
    CLEANUP_FREE char *path = ty_strf("%s/nvml.so", tests_folder);

    ty_gpu_release();
    unlink("nvml.so");
    assert_int_equal(symlink(from, "nvml.so"), 0);
    ty_rm_rf("nvml.so.gpus");
    if (gpus)
        tests_put("nvml.so.gpus", gpus);
    setenv("TRAINYARD_TEST_NVML", path, 1);
}

static void put_gpus(const char *gpus)
{
    tests_put("fresh", gpus);
    assert_int_equal(rename("fresh", "nvml.so.gpus"), 0);
}

static struct ty_gpu *listed(int n)
{
    struct ty_gpu *g = NULL;
    int got = -1;

    assert_int_equal(ty_gpu_list(&g, &got), 0);
    assert_int_equal(got, n);
    assert_true(n > 0 ? g != NULL : g == NULL);
    return g;
}

static void test_none(void **state)
{
    struct ty_gpu_driver d;

    (void)state;
    setenv("TRAINYARD_TEST_NVML", "/nonexistent/libnvidia-ml.so.1", 1);
    listed(0);
    ty_gpu_driver(&d);
    assert_string_equal(d.version, "");
    assert_string_equal(d.cuda, "");
    ty_gpu_release();
    ty_gpu_release();
}

static void test_all_that_is_told(void **state)
{
    struct ty_gpu_driver d;
    struct ty_gpu *g;

    (void)state;
    use("whole", "driver 550.54.15 12040\n" ONE TWO);
    g = listed(2);
    assert_int_equal(g[0].index, 0);
    assert_string_equal(g[0].uuid, "GPU-aaaa");
    assert_string_equal(g[0].name, "NVIDIA A100");
    assert_int_equal(g[0].memory_mb, 81920);
    assert_int_equal(g[0].memory_used_mb, 1024);
    assert_int_equal(g[0].utilization_percent, 37);
    assert_int_equal(g[0].temperature_c, 41);
    assert_true(g[0].power_watts == 250.0);
    assert_false(g[0].part);
    assert_int_equal(g[1].index, 1);
    assert_int_equal(g[1].memory_mb, 15360);
    assert_int_equal(g[1].utilization_percent, TY_GPU_UNKNOWN);
    assert_int_equal(g[1].temperature_c, TY_GPU_UNKNOWN);
    assert_true(g[1].power_watts == TY_GPU_UNKNOWN);
    free(g);
    ty_gpu_driver(&d);
    assert_string_equal(d.version, "550.54.15");
    assert_string_equal(d.cuda, "12.4");
}

/* A GPU that is lost keeps its number: the others keep theirs. */
static void test_lost(void **state)
{
    struct ty_gpu *g;

    (void)state;
    use("whole", "lost\n" ONE);
    g = listed(1);
    assert_int_equal(g[0].index, 1);
    assert_string_equal(g[0].uuid, "GPU-aaaa");
    free(g);
    use("whole", "lost\n");
    listed(0);
}

static void test_divided(void **state)
{
    struct ty_gpu *g;

    (void)state;
    use("whole", ONE "part MIG-1 20480\npart MIG-2 40960\n" TWO);
    g = listed(3);
    assert_string_equal(g[0].uuid, "MIG-1");
    assert_string_equal(g[1].uuid, "MIG-2");
    assert_true(g[0].part && g[1].part && !g[2].part);
    assert_int_equal(g[1].index, 0);
    assert_int_equal(g[1].memory_mb, 40960);
    assert_int_equal(g[2].index, 1);
    free(g);
}

static void test_partial_library(void **state)
{
    struct ty_gpu_driver d;
    struct ty_gpu *g;

    (void)state;
    use("partial", "driver 1 2\n" ONE);
    g = listed(1);
    assert_string_equal(g[0].uuid, "GPU-aaaa");
    assert_string_equal(g[0].name, "");
    assert_int_equal(g[0].memory_mb, 0);
    assert_int_equal(g[0].memory_used_mb, TY_GPU_UNKNOWN);
    free(g);
    ty_gpu_driver(&d);
    assert_string_equal(d.version, "");
    use("useless", ONE);
    listed(0);
    setenv("TRAINYARD_TEST_NVML", "/proc/self/exe", 1);
    ty_gpu_release();
    listed(0);
}

static void test_errors(void **state)
{
    (void)state;
    use("whole", ONE "init 9\n");
    listed(0);
    use("whole", ONE "count 999\n");
    listed(0);
    use("whole", NULL);
    listed(0);
    use("whole", "");
    listed(0);
}

/* The driver goes away and comes back, with other GPUs, while the library is in use. */
static void test_exchanged(void **state)
{
    (void)state;
    use("whole", ONE);
    free(listed(1));
    put_gpus(ONE TWO);
    free(listed(2));
    put_gpus("init 9\n");
    listed(0);
    put_gpus(ONE);
    free(listed(1));
}

#ifdef TY_FAULTS
static void test_faults(void **state)
{
    struct ty_gpu *g = NULL;
    int n = 7;

    (void)state;
    use("whole", ONE);
    ty_fault_arm("gpu.open", 1, ENOENT);
    listed(0);
    ty_fault_arm("gpu.alloc", 1, ENOMEM);
    assert_int_equal(ty_gpu_list(&g, &n), -ENOMEM);
    assert_int_equal(n, 7);
    assert_null(g);
    ty_fault_arm(NULL, 0, 0);
    free(listed(1));
}
#endif

static int leave(void **state)
{
    ty_gpu_release();
    return tests_leave(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_all_that_is_told),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_divided),
        cmocka_unit_test(test_partial_library),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_exchanged),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults),
#endif
    };

    return cmocka_run_group_tests_name("gpu", tests, tests_enter, leave);
}
