/* test_request.c - who owns a request and what it carries */
#include "base/error.h"
#include "http/request.h"
#include "kit.h"
#include <errno.h>
#include <string.h>

static void count_free(void *data)
{
    ++*(int *)data;
}

static void test_holds(void **state)
{
    struct ty_http h = { 0 };
    struct request *a = request_new(&h, "/a"), *b = request_new(&h, "/b");
    int freed = 0;

    (void)state;
    request_keep(a, &freed, count_free);
    request_hold(a);
    request_disconnect(a);
    assert_int_equal(freed, 0); /* somebody still waits for an answer */
    assert_ptr_equal(h.requests, b);
    request_answer(a, -EIO, NULL); /* nobody is there to hear it */
    assert_null(a->reply.response);
    request_changed(a, 0, NULL);
    assert_int_equal(freed, 1);
    request_disconnect(b);
    assert_null(h.requests);
}

static void test_keep_replaces(void **state)
{
    struct ty_http h = { 0 };
    struct request *req = request_new(&h, "/a");
    int first = 0, second = 0;

    (void)state;
    request_keep(req, &first, count_free);
    request_keep(req, &second, count_free);
    assert_int_equal(first, 1);
    assert_int_equal(second, 0);
    request_disconnect(req);
    assert_int_equal(second, 1);
}

static void test_json(void **state)
{
    struct ty_http h = { 0 };
    struct request *req = request_new(&h, "/a");
    json_t *j = NULL;

    (void)state;
    assert_int_equal(request_json(req, "run spec", &j), -EINVAL);
    assert_null(j);
    assert_int_equal(strncmp(req->err.text, "cannot read the run spec: ", 26), 0);
    ty_str_add(&req->body, "{\"a\":1}");
    assert_int_equal(request_json(req, "run spec", &j), 0);
    assert_int_equal(json_integer_value(json_object_get(j, "a")), 1);
    json_decref(j);
    request_disconnect(req);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_holds),
                                        cmocka_unit_test(test_keep_replaces),
                                        cmocka_unit_test(test_json) };

    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
