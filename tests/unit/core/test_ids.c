/* test_ids.c */
#include "core/ids.h"
#include "tests.h"

static void test_make(void **state)
{
    char id[TY_RUN_ID_MAX + 1] = "before", name[TY_RUN_ID_MAX + 8];

    (void)state;
    assert_int_equal(ty_run_id_make("first", 1780000000, 0xa1b2c3d, id), 0);
    assert_string_equal(id, "first_1780000000_0a1b2c3d");
    assert_int_equal(ty_run_id_make("-x", 1780000000, 1, id), -EINVAL);
    assert_int_equal(ty_run_id_make("a b", 1780000000, 1, id), -EINVAL);
    memset(name, 'n', sizeof name);
    name[TY_RUN_ID_MAX - 20 + 1] = 0;
    assert_int_equal(ty_run_id_make(name, 1780000000, 1, id), -EINVAL);
    assert_string_equal(id, "first_1780000000_0a1b2c3d");
    name[TY_RUN_ID_MAX - 20] = 0;
    assert_int_equal(ty_run_id_make(name, 1780000000, 0xffffffff, id), 0);
    assert_int_equal(strlen(id), TY_RUN_ID_MAX);
    assert_true(ty_run_id_valid(id));
}

static void test_run_id_valid(void **state)
{
    static const char *const good[] = { "a", "9", "A-b_c", "first_1780000000_0a1b2c3d" };
    static const char *const bad[] = { "",    "_a",  "-a",  ".",        "..",   "a/b",
                                       "a b", "a.b", "a\n", "\xc3\xa4", "a\xe4" };
    char long_id[TY_RUN_ID_MAX + 2];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(ty_run_id_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ty_run_id_valid(bad[i]));
    memset(long_id, 'a', sizeof long_id);
    long_id[TY_RUN_ID_MAX + 1] = 0;
    assert_false(ty_run_id_valid(long_id));
    long_id[TY_RUN_ID_MAX] = 0;
    assert_true(ty_run_id_valid(long_id));
}

static void test_sha256_valid(void **state)
{
    char hex[66] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    (void)state;
    assert_true(ty_sha256_valid(hex));
    hex[3] = 'C';
    assert_false(ty_sha256_valid(hex));
    hex[3] = 'g';
    assert_false(ty_sha256_valid(hex));
    hex[3] = '0';
    hex[64] = '0';
    assert_false(ty_sha256_valid(hex));
    hex[63] = 0;
    assert_false(ty_sha256_valid(hex));
    assert_false(ty_sha256_valid(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_make),
                                        cmocka_unit_test(test_run_id_valid),
                                        cmocka_unit_test(test_sha256_valid) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
