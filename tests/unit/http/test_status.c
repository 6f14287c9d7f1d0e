/* test_status.c - the daemon itself */
#include "kit.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

static void test_status(void **state)
{
    CLEANUP_JSON json_t *j = NULL;

    kit_run(*state, "first_1");
    j = expect_json(*state, "GET", "/api/v1/status", NULL, 200, "status");
    assert_string_equal(json_string_value(json_object_get(j, "version")), TY_VERSION);
    assert_string_equal(json_string_value(json_object_get(j, "store")), "ok");
    assert_int_equal(json_integer_value(json_object_get(j, "pid")), getpid());
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "runs"), "total")), 1);
    assert_true(json_integer_value(json_object_get(j, "db_bytes")) > 0);
}

static void test_check(void **state)
{
    CLEANUP_JSON json_t *j = NULL;

    kit_run(*state, "first_1");
    j = expect_json(*state, "GET", "/api/v1/check", NULL, 200, "check");
    assert_int_equal(json_integer_value(json_object_get(j, "runs")), 1);
    assert_int_equal(json_integer_value(json_object_get(j, "differ")), 0);
    assert_true(json_is_null(json_object_get(j, "first")));
}

static void test_collect(void **state)
{
    struct kit *k = *state;

    json_decref(expect_json(k, "POST", "/api/v1/gc", NULL, 200, "gc_report"));
    k->sched.refuse = -EBUSY;
    expect(k, "POST", "/api/v1/gc", NULL, 409, "going on already");
}

static void test_openapi(void **state)
{
    expect(*state, "GET", "/openapi.json", NULL, 200, "\"operationId\":\"run_submit\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_check, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_collect, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_openapi, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
