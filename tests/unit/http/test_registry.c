/* test_registry.c - registered environments and datasets over HTTP */
#include "base/conf.h"
#include "kit.h"
#include <string.h>

#define ENVS "/api/v1/environments"
#define SETS "/api/v1/datasets"

static int64_t version(struct kit *k, const char *method, const char *path, const char *body,
                       unsigned status)
{
    CLEANUP_JSON json_t *one = expect_json(k, method, path, body, status, "registered");

    return json_integer_value(json_object_get(one, "version"));
}

static void test_environments(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *list = NULL, *all = NULL;

    expect(k, "GET", ENVS "/mine", NULL, 404, "there is no environment 'mine'");
    assert_int_equal(
        version(k, "PUT", ENVS "/mine", "{\"content\":{\"spec\":{\"torch\":\"1.6\"}}}", 201), 1);
    assert_int_equal(
        version(
            k, "PUT", ENVS "/mine",
            "{\"content\":{\"spec\":{\"torch\":\"1.13\"},\"environment_variables\":{\"A\":\"1\"},"
            "\"azureml\":{\"x\":1}}}",
            201),
        2);
    assert_int_equal(
        version(k, "PUT", ENVS "/mine", "{\"content\":{\"spec\":{\"torch\":\"1.6\"}}}", 200), 1);
    assert_int_equal(version(k, "GET", ENVS "/mine/versions/latest", NULL, 200), 2);
    assert_int_equal(version(k, "GET", ENVS "/mine/versions/1", NULL, 200), 1);
    expect(k, "GET", ENVS "/mine/versions/3", NULL, 404,
           "there is no version 3 of environment 'mine'");
    expect(k, "GET", ENVS "/mine/versions/new", NULL, 400, "'new' is no version");
    expect(k, "GET", ENVS "/yours/versions/latest", NULL, 404, "there is no environment 'yours'");
    list = expect_json(k, "GET", ENVS, NULL, 200, "registered_environments");
    assert_int_equal(json_array_size(json_object_get(list, "environments")), 1);
    all = expect_json(k, "GET", ENVS "/mine", NULL, 200, "registered_environments");
    assert_int_equal(json_array_size(json_object_get(all, "environments")), 2);
    expect(k, "DELETE", ENVS "/mine", NULL, 204, "");
    expect(k, "DELETE", ENVS "/mine", NULL, 404, "there is no environment 'mine'");
}

static void test_what_is_no_environment(void **state)
{
    struct kit *k = *state;

    expect(k, "PUT", ENVS "/x", "[]", 400, "must be a JSON object, not an array");
    expect(k, "PUT", ENVS "/x", "{}", 400, "'content'");
    expect(k, "PUT", ENVS "/x", "{\"content\":{\"paths\":[]}}", 400, "'paths'");
    expect(k, "PUT", ENVS "/x", "{\"content\":{\"spec\":{\"torch\":6}}}", 400, "torch");
    expect(k, "PUT", ENVS "/x", "{\"content\":{\"environment_variables\":{\"A\":1}}}", 400,
           "'A' is not a text");
    expect(k, "PUT", ENVS "/x",
           "{\"content\":{\"spec\":{\"conda\":{\"channels\":[\"https://h/t/hush/c\"]}}}}", 400,
           "an address with a password in it");
    expect(k, "PUT", ENVS "/x",
           "{\"content\":{\"environment_variables\":{\"PIP_INDEX_URL\":\"https://me:hush@h\"}}}",
           400, "an address with a password in it");
    expect(k, "PUT", ENVS "/y",
           "{\"content\":{\"environment_variables\":{\"MINE\":\"https://me:hush@h\","
           "\"PIP_INDEX_URL\":\"https://me:***@h\"}}}",
           201, "\"y\"");
    expect(k, "PUT", ENVS "/x", "{\"content\":{\"azureml\":1}}", 400, "'azureml' is not an object");
    expect(k, "PUT", ENVS "/x", "{\"content\":{\"about\":1}}", 400, "'about' is not an object");
    expect(k, "PUT", ENVS "/x", "{\"content\":{},\"more\":1}", 400, "'more'");
    expect(k, "PUT", ENVS "/AzureML-Mine", "{\"content\":{}}", 400, "curated environments");
    expect(k, "PUT", ENVS "/a%0ab", "{\"content\":{}}", 400,
           "cannot be the name of an environment");
    expect(k, "PUT", ENVS "/-x", "{\"content\":{}}", 400, "cannot be the name of an environment");
}

#define PATHS(list) "{\"content\":{\"paths\":[" list "]}}"

static void test_datasets(void **state)
{
    struct kit *k = *state;

    assert_int_equal(version(k, "PUT", SETS "/mnist%20set",
                             PATHS("{\"datastore\":\"d\",\"path\":\"a/*.gz\"}"), 201),
                     1);
    assert_int_equal(
        version(
            k, "PUT", SETS "/mnist%20set",
            "{\"create_new_version\":false,\"content\":{\"paths\":[{\"datastore\":\"d\",\"path\":"
            "\"a/*.gz\"}],\"about\":{\"description\":\"x\"}}}",
            200),
        1);
    expect(
        k, "PUT", SETS "/mnist%20set",
        "{\"create_new_version\":false,\"content\":{\"paths\":[{\"datastore\":\"d\",\"path\":\"\"}]}}",
        409, "create_new_version");
    expect(k, "PUT", SETS "/x", PATHS(""), 400, "a list of 1 to 1000");
    expect(k, "PUT", SETS "/x", PATHS("1"), 400, "must be a JSON object, not a whole number");
    expect(k, "PUT", SETS "/x", PATHS("{\"datastore\":\"d\"}"), 400, "no 'path'");
    expect(k, "PUT", SETS "/x", PATHS("{\"datastore\":\"d/e\",\"path\":\"a\"}"), 400, "d/e");
    expect(k, "PUT", SETS "/x", PATHS("{\"datastore\":\"d\",\"path\":\"../a\"}"), 400, "'../a'");
    expect(k, "PUT", SETS "/x", PATHS("{\"datastore\":\"d\",\"path\":\"/a\"}"), 400, "'/a'");
    expect(k, "PUT", SETS "/x", "{\"content\":{\"spec\":{}}}", 400, "'spec'");
}

static void test_how_many(void **state)
{
    struct kit *k = *state;

    assert_int_equal(ty_conf_set(k->conf, "limits.registered", "1", "test", NULL), 0);
    assert_int_equal(version(k, "PUT", ENVS "/one", "{\"content\":{}}", 201), 1);
    expect(k, "PUT", ENVS "/two", "{\"content\":{}}", 429, "limits.registered");
    assert_int_equal(version(k, "PUT", ENVS "/one", "{\"content\":{}}", 200), 1);
    assert_int_equal(
        version(k, "PUT", SETS "/one", PATHS("{\"datastore\":\"d\",\"path\":\"\"}"), 201), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_environments, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_what_is_no_environment, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_datasets, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_how_many, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
