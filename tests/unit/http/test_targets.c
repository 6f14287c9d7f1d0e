/* test_targets.c - compute targets */
#include "kit.h"
#include <errno.h>
#include <string.h>

static void test_life(void **state)
{
    CLEANUP_JSON json_t *made =
        expect_json(*state, "PUT", "/api/v1/targets/box", "{\"kind\":\"local\"}", 201, "target");
    CLEANUP_JSON json_t *again = expect_json(*state, "PUT", "/api/v1/targets/box",
                                             "{\"kind\":\"local\",\"max_nodes\":2}", 200, "target");
    CLEANUP_JSON json_t *shown =
        expect_json(*state, "GET", "/api/v1/targets/box", NULL, 200, "target");
    CLEANUP_JSON json_t *list = expect_json(*state, "GET", "/api/v1/targets", NULL, 200, "targets");

    assert_true(json_equal(again, shown));
    assert_false(json_equal(made, shown));
    assert_true(json_array_size(json_object_get(list, "targets")) >= 1);
    expect(*state, "DELETE", "/api/v1/targets/box", NULL, 204, "");
    expect(*state, "GET", "/api/v1/targets/box", NULL, 404, "there is no compute target 'box'");
}

static void test_refused(void **state)
{
    struct kit *k = *state;

    expect(k, "PUT", "/api/v1/targets/box", "nonsense", 400, "cannot read the target spec");
    k->sched.refuse = -EBUSY;
    expect(k, "DELETE", "/api/v1/targets/box", NULL, 409, "refused on purpose");
    k->sched.refuse = -EINVAL;
    expect(k, "PUT", "/api/v1/targets/box", "{}", 400, "refused on purpose");
    k->sched.refuse = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_refused, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("targets", tests, NULL, NULL);
}
