/* test_params.c - queries */
#include "http/request.h"
#include "kit.h"
#include <errno.h>
#include <string.h>

static int parse(struct request *req, enum ty_route_id route, char *query)
{
    *req = (struct request){ .match = { .route = route } };
    return request_params(req, query);
}

static void test_good(void **state)
{
    char query[] = "tag=a%3Db+c&limit=7&&user=", empty[] = "";
    struct request req;

    (void)state;
    assert_int_equal(parse(&req, TY_ROUTE_run_list, query), 0);
    assert_string_equal(request_param(&req, "tag"), "a=b c");
    assert_string_equal(request_param(&req, "user"), "");
    assert_null(request_param(&req, "state"));
    assert_int_equal(request_count(&req, "limit", 100), 7);
    assert_int_equal(parse(&req, TY_ROUTE_run_list, empty), 0);
    assert_int_equal(request_count(&req, "limit", 100), 100);
}

static void test_switch(void **state)
{
    char on[] = "overwrite=1", off[] = "overwrite=0", bare[] = "overwrite";
    struct request req;

    (void)state;
    assert_int_equal(parse(&req, TY_ROUTE_data_put, on), 0);
    assert_true(request_switch(&req, "overwrite"));
    assert_int_equal(parse(&req, TY_ROUTE_data_put, off), 0);
    assert_false(request_switch(&req, "overwrite"));
    assert_int_equal(parse(&req, TY_ROUTE_data_put, bare), -EINVAL);
}

static void test_time(void **state)
{
    char query[] = "since=2026-05-28T22%3A26%3A40%2B02%3A00";
    struct request req;

    (void)state;
    assert_int_equal(parse(&req, TY_ROUTE_file_get, query), 0);
    assert_int_equal(request_time(&req, "since", 7), 1780000000000000);
    assert_int_equal(request_time(&req, "offset", 7), 7);
}

static void test_bad(void **state)
{
    static const struct {
        enum ty_route_id route;
        const char *query, *text;
    } rows[] = {
        { TY_ROUTE_run_list, "experimnt=x",
          "'experimnt' is not known here; known are experiment, target, state" },
        { TY_ROUTE_run_get, "x", "'x' is not known here; this request takes none" },
        { TY_ROUTE_run_list, "user=a&user=b", "'user' is given twice" },
        { TY_ROUTE_run_list, "limit=0", "a number from 1 to 1000" },
        { TY_ROUTE_run_list, "limit=1001", "a number from 1 to 1000" },
        { TY_ROUTE_run_list, "limit=7x", "a number from 1 to 1000" },
        { TY_ROUTE_run_list, "limit=", "a number from 1 to 1000" },
        { TY_ROUTE_run_list, "user=%zz", "bad percent-escape" },
        { TY_ROUTE_run_list, "user=%00", "bad percent-escape" },
        { TY_ROUTE_run_list, "user=%ff", "not UTF-8" },
        { TY_ROUTE_file_get, "offset=-1", "'offset' is '-1'" },
        { TY_ROUTE_file_get, "since=2026-05-28",
          "'since' is '2026-05-28'; it must be a time like" },
        { TY_ROUTE_run_follow, "since=2026-05-28T20:26:45%2B01", "it must be a time like" },
        { TY_ROUTE_data_put, "overwrite=yes", "can be 0 or 1" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CLEANUP_FREE char *query = strdup(rows[i].query);
        struct request req;

        assert_int_equal(parse(&req, rows[i].route, query), -EINVAL);
        if (!strstr(req.err.text, rows[i].text))
            fail_msg("%s: %s", rows[i].query, req.err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_switch),
                                        cmocka_unit_test(test_time), cmocka_unit_test(test_bad) };

    return cmocka_run_group_tests_name("params", tests, NULL, NULL);
}
