/* test_limits.c - what one run may hold */
#include "kit.h"

static void test_tags(void **state)
{
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char name[128];

    kit_conf(k, "limits.tags", "2");
    kit_submit(k, "\"tags\": {\"a\": \"1\"}, ", "true", name);
    kit_until(k, kit_ended, name);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"b\": \"1\"}}", &err), 0);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"c\": \"1\"}}", &err), -EUSERS);
    assert_non_null(strstr(err.text, "cannot add tag 'c'"));
    assert_non_null(strstr(err.text, "2 (limits.tags"));
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"b\": \"2\"}}", &err), 0); /* it is there */
    assert_int_equal(kit_tag(k, name, "{\"remove\": [\"a\"]}", &err), 0);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"c\": \"1\"}}", &err), 0);
    kit_conf(k, "limits.tags", "0");
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"d\": \"1\"}}", &err), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_tags) };

    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
