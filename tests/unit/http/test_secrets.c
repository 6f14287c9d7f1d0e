/* test_secrets.c - secrets over HTTP */
#include "base/conf.h"
#include "kit.h"
#include <string.h>

static void test_secrets(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *list = NULL, *one = NULL;

    expect(k, "GET", "/api/v1/secrets/token", NULL, 404, "there is no secret 'token'");
    expect(k, "PUT", "/api/v1/secrets/token", "{\"value\":\"open\"}", 204, "");
    one = expect_json(k, "GET", "/api/v1/secrets/token", NULL, 200, "secret");
    assert_string_equal(json_string_value(json_object_get(one, "value")), "open");
    list = expect_json(k, "GET", "/api/v1/secrets", NULL, 200, "secrets");
    assert_int_equal(json_array_size(json_object_get(list, "secrets")), 1);
    expect(k, "PUT", "/api/v1/secrets/a%20b", "{\"value\":\"x\"}", 400, "'a b' cannot be the name");
    expect(k, "PUT", "/api/v1/secrets/token", "{\"value\":\"\"}", 400,
           "a text of 1 to 65536 bytes");
    expect(k, "PUT", "/api/v1/secrets/token", "{\"value\":1}", 400, "'value'");
    expect(k, "PUT", "/api/v1/secrets/token", "[]", 400, "must be a JSON object, not an array");
    expect(k, "PUT", "/api/v1/secrets/token", "{\"value\":\"x\",\"more\":1}", 400, "'more'");
    expect(k, "DELETE", "/api/v1/secrets/token", NULL, 204, "");
    expect(k, "DELETE", "/api/v1/secrets/token", NULL, 404, "`trainyard secret ls` lists");
}

static void test_how_many(void **state)
{
    struct kit *k = *state;

    assert_int_equal(ty_conf_set(k->conf, "limits.secrets", "1", "test", NULL), 0);
    expect(k, "PUT", "/api/v1/secrets/one", "{\"value\":\"1\"}", 204, "");
    expect(k, "PUT", "/api/v1/secrets/two", "{\"value\":\"2\"}", 429, "limits.secrets");
    expect(k, "PUT", "/api/v1/secrets/one", "{\"value\":\"3\"}", 204, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_secrets, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_how_many, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("secrets", tests, NULL, NULL);
}
