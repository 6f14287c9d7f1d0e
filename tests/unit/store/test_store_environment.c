/* test_store_environment.c - what the environment of a run came to */
#include "kit.h"

static void put(struct kit *k, int64_t run, int node, const char *hash)
{
    CLEANUP_JSON json_t *record = json_pack("{s:i s:s}", "version", 1, "hash", hash);
    struct ty_unit *u = ty_unit_new();

    ty_unit_environment(u, run, node, record);
    assert_int_equal(kit_commit(k, u), 0);
}

static void test_a_record_of_each_node(void **state)
{
    struct kit *k = *state;
    int64_t run = kit_run(k, "first_1", "first", NULL);
    json_t *list = NULL, *one = NULL;

    assert_int_equal(ty_store_environments(k->st, run, &list), 0);
    kit_json_is(list, "[]");
    put(k, run, 1, "b");
    assert_int_equal(ty_store_run(k->st, "first_1", false, &one), 0);
    assert_true(json_is_null(json_object_get(one, "environment")));
    json_decref(one);
    put(k, run, 0, "a");
    put(k, run, 1, "c"); /* the next attempt */
    assert_int_equal(ty_store_environments(k->st, run, &list), 0);
    kit_json_is(list, "[{\"node\": 0, \"record\": {\"version\": 1, \"hash\": \"a\"}}, "
                      "{\"node\": 1, \"record\": {\"version\": 1, \"hash\": \"c\"}}]");
    assert_int_equal(ty_store_run(k->st, "first_1", false, &one), 0);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(one, "environment"), "hash")), "a");
    json_decref(one);
}

static void test_it_goes_with_the_run(void **state)
{
    struct kit *k = *state;
    int64_t run = kit_run(k, "first_1", "first", NULL);
    struct ty_unit *u = ty_unit_new();
    json_t *list = NULL;

    put(k, run, 0, "a");
    ty_unit_run_delete(u, run);
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_environments(k->st, run, &list), 0);
    kit_json_is(list, "[]");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    static const struct CMUnitTest tests[] = {
        T(test_a_record_of_each_node),
        T(test_it_goes_with_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
