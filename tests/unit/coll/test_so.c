/* Libraries are found by the variable, in what is loaded, in the caller's folders and files; else the text says what was tried.
 * The libraries are stand-ins of the tests of GPUs. */
#include "coll/so.h"
#include "tests.h"
#include <dlfcn.h>

static void found(void **state)
{
    static const char *const names[] = { "libfake_cuda.so", NULL };
    static const char *const other[] = { "libty-no-such.so.1", "libty-no-such.so.2", NULL };
    struct ty_so so = { "the stand-in", "TRAINYARD_TEST_SO", "libfake_cuda", names };
    char folder[] = FAKE_CUDA, paths[2 * sizeof folder + 64];
    struct ty_error err = { 0 };
    void *handle = NULL;

    (void)state;
    *strrchr(folder, '/') = 0;
    snprintf(paths, sizeof paths, "/nowhere::%s", folder);
    assert_int_equal(ty_so_open(&so, paths, &handle, &err), 0);
    assert_non_null(dlsym(handle, "cudaMalloc"));
    so.names = other;
    snprintf(paths, sizeof paths, "%s:%s", FAKE_NCCL, FAKE_CUDA);
    assert_int_equal(ty_so_open(&so, paths, &handle, &err), 0);
    assert_non_null(dlsym(handle, "cudaMalloc"));
    so.stem = "libnothing";
    assert_int_equal(ty_so_open(&so, "/nowhere:/tmp", &handle, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere, /tmp, libty-no-such.so.1, libty-no-such.so.2"));
    assert_non_null(strstr(err.text, "TRAINYARD_TEST_SO"));
    assert_int_equal(ty_so_open(&so, NULL, &handle, &err), -ENOENT);
}

/* The variable wins, whatever else there is; and what is loaded is found by its name alone. */
static void by_variable(void **state)
{
    static const char *const names[] = { "libfake_cuda.so", NULL };
    struct ty_so so = { "the stand-in", "TRAINYARD_TEST_SO", "libfake_cuda", names };
    struct ty_error err = { 0 };
    void *handle = NULL;

    (void)state;
    setenv("TRAINYARD_TEST_SO", FAKE_NCCL, 1);
    assert_int_equal(ty_so_open(&so, NULL, &handle, &err), 0);
    assert_non_null(dlsym(handle, "ncclGetVersion"));
    setenv("TRAINYARD_TEST_SO", "/nowhere/x.so", 1);
    assert_int_equal(ty_so_open(&so, NULL, &handle, &err), -ENOENT);
    assert_non_null(strstr(err.text, "TRAINYARD_TEST_SO names as '/nowhere/x.so'"));
    setenv("TRAINYARD_TEST_SO", "none", 1);
    assert_int_equal(ty_so_open(&so, NULL, &handle, &err), -ENOENT);
    unsetenv("TRAINYARD_TEST_SO");
    assert_non_null(dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL));
    assert_int_equal(ty_so_open(&so, NULL, &handle, &err), 0);
    assert_non_null(dlsym(handle, "cudaMalloc"));
}

static void fill(void **state)
{
    static const char *const names[] = { NULL };
    struct ty_so so = { "the stand-in", "TRAINYARD_TEST_SO", "libfake_cuda", names };
    struct {
        void *spare, *malloc, *none;
    } table = { NULL, NULL, NULL };
    struct ty_so_call calls[] = { { "cudaMalloc", sizeof(void *) },
                                  { "cudaNoSuch", 2 * sizeof(void *) } };
    void *handle = dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL);
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_so_fill(&so, handle, calls, 1, &table, &err), 0);
    assert_ptr_equal(table.malloc, dlsym(handle, "cudaMalloc"));
    assert_null(table.spare);
    assert_int_equal(ty_so_fill(&so, handle, calls, 2, &table, &err), -ENOENT);
    assert_non_null(strstr(err.text, "no function cudaNoSuch"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found),
        cmocka_unit_test(by_variable),
        cmocka_unit_test(fill),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
