/* test_queue.c - the queue over HTTP */
#include "kit.h"

static bool paused(const json_t *queue)
{
    return json_is_true(json_object_get(queue, "paused"));
}

static void test_queue(void **state)
{
    CLEANUP_JSON json_t *before = NULL, *after = NULL, *resumed = NULL;

    before = expect_json(*state, "GET", "/api/v1/queue", NULL, 200, "queue");
    assert_false(paused(before));
    after = expect_json(*state, "PATCH", "/api/v1/queue", "{\"paused\":true}", 200, "queue");
    assert_true(paused(after));
    resumed = expect_json(*state, "PATCH", "/api/v1/queue", "{\"paused\":false}", 200, "queue");
    assert_false(paused(resumed));
    expect(*state, "PATCH", "/api/v1/queue", "{\"paused\":1}", 400, "'paused', true or false");
    expect(*state, "PATCH", "/api/v1/queue", "{\"paused\":true,\"x\":1}", 400, "'x'");
    expect(*state, "PATCH", "/api/v1/queue", "{", 400, "cannot read the change of the queue");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_queue, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
