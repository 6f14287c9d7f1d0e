/* test_store_target.c - compute targets and datastores */
#include "kit.h"

static void test_targets(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    json_t *j = NULL;

    assert_int_equal(ty_store_targets(k->st, &j), 0);
    kit_json_is(j, "[]");
    ty_unit_target_put(u, "local", "{\"kind\":\"local\"}", T0);
    ty_unit_target_put(u, "box", "{\"kind\":\"local\",\"max_nodes\":2}", T0 + 1);
    ty_unit_target_put(u, "box", "{\"kind\":\"local\",\"max_nodes\":3}", T0 + 2);
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_target(k->st, "box", &j), 0);
    kit_json_is(j, "{\"name\": \"box\", \"spec\": {\"kind\": \"local\", \"max_nodes\": 3}, "
                   "\"created\": \"2026-05-28T20:26:40.000001Z\"}");
    u = ty_unit_new();
    ty_unit_target_delete(u, "box");
    ty_unit_target_delete(u, "box");
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_target(k->st, "box", &j), -ENOENT);
    assert_int_equal(ty_store_targets(k->st, &j), 0);
    kit_json_is(
        j,
        "[{\"name\": \"local\", \"spec\": {\"kind\": \"local\"}, \"created\": \"2026-05-28T20:26:40.000000Z\"}]");
}

static void test_datastores(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    json_t *j = NULL;

    ty_unit_datastore_put(u, "workspaceblobstore", "file", "{\"root\":\"/a\"}", T0);
    ty_unit_datastore_put(u, "b", "file", "{\"root\":\"/b\",\"name\":\"not this\"}", T0);
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_datastore(k->st, "workspaceblobstore", &j), 0);
    kit_json_is(
        j,
        "{\"name\": \"workspaceblobstore\", \"kind\": \"file\", \"root\": \"/a\", \"config\": {\"root\": \"/a\"}, \"credentials\": \"none\", \"default\": true, "
        "\"created\": \"2026-05-28T20:26:40.000000Z\"}");
    assert_int_equal(ty_store_datastore(k->st, "none", &j), -ENOENT);
    assert_int_equal(ty_store_datastores(k->st, &j), 0);
    assert_int_equal(json_array_size(j), 2);
    kit_json_is(
        json_incref(json_array_get(j, 1)),
        "{\"name\": \"b\", \"kind\": \"file\", \"root\": \"/b\", \"config\": {\"root\": \"/b\", \"name\": \"not this\"}, "
        "\"credentials\": \"none\", \"default\": false, "
        "\"created\": \"2026-05-28T20:26:40.000000Z\"}");
    json_decref(j);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_targets), T(test_datastores) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
