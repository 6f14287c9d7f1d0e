#include "base/fs.h"
#include "tests.h"

static void test_local(void **state)
{
    (void)state;
    unsetenv("TRAINYARD_TEST_NETWORK_FS");
    assert_null(ty_fs_network_kind("/proc"));
    assert_null(ty_fs_network_kind("/proc/none/of/these/exist"));
    assert_null(ty_fs_network_kind("/dev/shm"));
}

static void test_declared(void **state)
{
    (void)state;
    setenv("TRAINYARD_TEST_NETWORK_FS", "/proc/net-home", 1);
    assert_string_equal(ty_fs_network_kind("/proc/net-home"), "nfs");
    assert_string_equal(ty_fs_network_kind("/proc/net-home/user/state"), "nfs");
    assert_null(ty_fs_network_kind("/proc/net-homes"));
    assert_null(ty_fs_network_kind("/proc"));
    unsetenv("TRAINYARD_TEST_NETWORK_FS");
}

static void test_free_bytes(void **state)
{
    uint64_t here = ty_fs_free_bytes("."), below = ty_fs_free_bytes("./not/made/yet");

    (void)state;
    assert_true(here > 0 && below > 0);
    assert_int_equal(ty_fs_free_bytes("/proc"), 0);
    assert_int_equal(ty_fs_free_bytes("/proc/none/such"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_declared),
        cmocka_unit_test(test_free_bytes),
    };

    return cmocka_run_group_tests_name("fs_kind", tests, tests_enter, tests_leave);
}
