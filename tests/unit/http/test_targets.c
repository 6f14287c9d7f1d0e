/* test_targets.c - compute targets */
#include "base/conf.h"
#include "base/fs.h"
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

static void test_draining(void **state)
{
    CLEANUP_JSON json_t *nodes = expect_json(*state, "GET", "/api/v1/nodes", NULL, 200, "nodes");
    CLEANUP_JSON json_t *drained = NULL, *resumed = NULL;

    assert_int_equal(json_array_size(json_object_get(nodes, "nodes")), 1);
    expect(*state, "PUT", "/api/v1/targets/box", "{\"kind\":\"local\"}", 201, "");
    drained = expect_json(*state, "POST", "/api/v1/targets/box/drain", "{\"node\":\"h1\"}", 200,
                          "target");
    assert_true(json_is_true(json_object_get(json_object_get(drained, "spec"), "drained")));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(drained, "spec"), "description")), "h1");
    resumed = expect_json(*state, "POST", "/api/v1/targets/box/resume", "{}", 200, "target");
    assert_true(json_is_false(json_object_get(json_object_get(resumed, "spec"), "drained")));
    expect(*state, "POST", "/api/v1/targets/box/drain", "{\"nod\":1}", 400, "'node'");
    expect(*state, "POST", "/api/v1/targets/box/drain", "[]", 400, "");
    expect(*state, "PUT", "/api/v1/targets/box?ask=1", "{\"kind\":\"local\"}", 400, "h1");
    expect(*state, "DELETE", "/api/v1/targets/box", NULL, 204, "");
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

static void configure(struct kit *k, const char *key, const char *value)
{
    assert_int_equal(ty_conf_set(k->conf, key, value, "test", NULL), 0);
}

/* What the spec of `target` says of `key`, as JSON. */
static void expect_says(struct kit *k, const char *target, const char *key, const char *value)
{
    CLEANUP_FREE char *path = ty_strf("/api/v1/targets/%s", target);
    CLEANUP_JSON json_t *shown = expect_json(k, "GET", path, NULL, 200, "target");
    const json_t *said = json_object_get(json_object_get(shown, "spec"), key);
    CLEANUP_FREE char *text = said ? json_dumps(said, JSON_ENCODE_ANY) : strdup("none");

    assert_string_equal(text, value);
}

static void test_configured(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *path = ty_path_join(k->dir, "template.json");
    const char *text = "{\"kind\":\"slurm\",\"partition\":\"big\",\"qos\":\"q\",\"max_nodes\":9}";

    expect(k, "PUT", "/api/v1/targets/plain", "{\"max_nodes\":2}", 201, "");
    expect_says(k, "plain", "kind", "\"local\"");
    configure(k, "target.slurm_partition", "gpu");
    expect(k, "PUT", "/api/v1/targets/cluster", "{\"kind\":null}", 201, "");
    expect_says(k, "cluster", "kind", "\"slurm\"");
    expect_says(k, "cluster", "partition", "\"gpu\"");
    expect(k, "PUT", "/api/v1/targets/box", "{\"kind\":\"local\"}", 201, "");
    expect_says(k, "box", "partition", "none");

    configure(k, "target.template", path);
    expect(k, "PUT", "/api/v1/targets/more", "{}", 500, "which target.template names: No such");
    assert_int_equal(ty_write_file(path, "[]", 2, 0600), 0);
    expect(k, "PUT", "/api/v1/targets/more", "{}", 500, "names: it holds no JSON object");
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
    expect(k, "PUT", "/api/v1/targets/more", "{\"max_nodes\":2,\"qos\":null}", 201, "");
    expect_says(k, "more", "partition", "\"big\"");
    expect_says(k, "more", "qos", "\"q\"");
    expect_says(k, "more", "max_nodes", "2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_refused, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_draining, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_configured, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("targets", tests, NULL, NULL);
}
