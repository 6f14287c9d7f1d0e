/* test_store_registered.c - environments and datasets in versions */
#include "kit.h"
#include <errno.h>

static void put(struct kit *k, const char *kind, const char *name, const char *content,
                bool only_first)
{
    CLEANUP_JSON json_t *j = json_loads(content, 0, NULL);
    struct ty_unit *u = ty_unit_new();

    ty_unit_registered_put(u, kind, name, j, only_first, 1000000);
    assert_int_equal(kit_commit(k, u), 0);
}

static int64_t version_of(json_t *one)
{
    int64_t version = json_integer_value(json_object_get(one, "version"));

    json_decref(one);
    return version;
}

static void test_the_same_content_is_the_same_version(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *same = json_loads("{\"b\":[1],\"a\":{\"y\":1,\"x\":2}}", 0, NULL);
    json_t *one = NULL, *list = NULL;

    put(k, "environment", "e", "{\"a\":{\"x\":2,\"y\":1},\"b\":[1]}", false);
    put(k, "environment", "e", "{\"a\":1}", false);
    put(k, "environment", "e",
        "{\"b\":[1],\"a\":{\"y\":1,\"x\":2},\"about\":{\"description\":\"new\"}}", false);
    put(k, "dataset", "e", "{\"a\":1}", false);
    assert_int_equal(ty_store_registered(k->st, "environment", "e", 0, &one), 0);
    assert_int_equal(version_of(one), 2);
    assert_int_equal(ty_store_registered_same(k->st, "environment", "e", same, &one), 0);
    assert_int_equal(version_of(json_incref(one)), 1);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(json_object_get(one, "content"), "about"),
                                          "description")),
        "new");
    json_decref(one);
    assert_int_equal(ty_store_registered_versions(k->st, "environment", "e", &list), 0);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(version_of(json_incref(json_array_get(list, 0))), 2);
    json_decref(list);
}

static void test_only_the_first(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *second = json_loads("{\"a\":2}", 0, NULL);
    json_t *one = NULL;

    put(k, "dataset", "d", "{\"a\":1}", true);
    put(k, "dataset", "d", "{\"a\":2}", true);
    assert_int_equal(ty_store_registered_same(k->st, "dataset", "d", second, &one), -ENOENT);
    assert_int_equal(ty_store_registered(k->st, "dataset", "d", 2, &one), -ENOENT);
    assert_int_equal(ty_store_registered(k->st, "dataset", "d", 1, &one), 0);
    assert_int_equal(version_of(one), 1);
}

static void test_lists_and_what_is_removed(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    json_t *list = NULL;
    int64_t n = 0;

    put(k, "dataset", "b", "{\"a\":1}", false);
    put(k, "dataset", "a", "{\"a\":1}", false);
    put(k, "dataset", "a", "{\"a\":2}", false);
    put(k, "environment", "c", "{\"a\":2}", false);
    assert_int_equal(ty_store_registered_list(k->st, "dataset", &list), 0);
    kit_json_is(list, "[{\"name\":\"a\",\"version\":2,\"content\":{\"a\":2},\"created\":"
                      "\"1970-01-01T00:00:01.000000Z\"},{\"name\":\"b\",\"version\":1,\"content\":{"
                      "\"a\":1},\"created\":\"1970-01-01T00:00:01.000000Z\"}]");
    assert_int_equal(ty_store_registered_count(k->st, "dataset", &n), 0);
    assert_int_equal(n, 3);
    ty_unit_registered_delete(u, "dataset", "a");
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_registered_count(k->st, "dataset", &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(ty_store_registered_count(k->st, "environment", &n), 0);
    assert_int_equal(n, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    static const struct CMUnitTest tests[] = {
        T(test_the_same_content_is_the_same_version),
        T(test_only_the_first),
        T(test_lists_and_what_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
