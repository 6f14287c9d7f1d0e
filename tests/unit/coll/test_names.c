/* test_names.c - every dtype, kind and reduction has a word, and nothing else has */
#include "coll/names.h"
#include "tests.h"

static void test_each_has_its_own_word(void **state)
{
    (void)state;
    for (int a = 0; a < TY_COLL_DTYPES; a++) {
        assert_true(ty_coll_dtype_size((enum ty_coll_dtype)a) > 0);
        for (int b = 0; b < a; b++)
            assert_string_not_equal(ty_coll_dtype_name((enum ty_coll_dtype)a),
                                    ty_coll_dtype_name((enum ty_coll_dtype)b));
    }
    for (int a = 0; a < TY_COLL_KINDS; a++)
        for (int b = 0; b < a; b++)
            assert_string_not_equal(ty_coll_kind_name((enum ty_coll_kind)a),
                                    ty_coll_kind_name((enum ty_coll_kind)b));
    for (int a = 0; a < TY_COLL_OPS; a++)
        for (int b = 0; b < a; b++)
            assert_string_not_equal(ty_coll_op_name((enum ty_coll_op)a),
                                    ty_coll_op_name((enum ty_coll_op)b));
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(ty_coll_dtype_size(TY_COLL_BF16), 2);
    assert_int_equal(ty_coll_dtype_size(TY_COLL_BOOL), 1);
    assert_int_equal(ty_coll_dtype_size(TY_COLL_I64), sizeof(int64_t));
    assert_int_equal(ty_coll_dtype_size(TY_COLL_F32), sizeof(float));
}

static void test_no_such_thing(void **state)
{
    (void)state;
    assert_int_equal(ty_coll_dtype_size((enum ty_coll_dtype)TY_COLL_DTYPES), 0);
    assert_null(ty_coll_dtype_name((enum ty_coll_dtype) - 1));
    assert_null(ty_coll_kind_name((enum ty_coll_kind)TY_COLL_KINDS));
    assert_null(ty_coll_op_name((enum ty_coll_op)99));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_has_its_own_word),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_no_such_thing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
