/* test_reply.c - error codes and bodies */
#include "http/reply.h"
#include "kit.h"
#include <errno.h>

static void test_status_of_code(void **state)
{
    static const struct {
        int r;
        unsigned status;
        const char *code;
    } rows[] = {
        { -EINVAL, 400, "bad_request" },
        { -EBADMSG, 400, "bad_request" },
        { -EXDEV, 400, "bad_request" },
        { -EACCES, 403, "forbidden" },
        { -ENOENT, 404, "not_found" },
        { -ENOTSUP, 405, "method_not_allowed" },
        { -EEXIST, 409, "conflict" },
        { -EBUSY, 409, "conflict" },
        { -EFBIG, 413, "too_large" },
        { -EUSERS, 429, "too_many" },
        { -EPROTONOSUPPORT, 426, "wrong_version" },
        { -ENOSPC, 507, "no_space" },
        { -EROFS, 503, "unavailable" },
        { -ESHUTDOWN, 503, "unavailable" },
        { -ENOMEM, 500, "internal" },
        { -EIO, 500, "internal" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(reply_status(rows[i].r), rows[i].status);
        assert_string_equal(reply_code(rows[i].status), rows[i].code);
    }
}

static void test_error_body(void **state)
{
    CLEANUP_STR struct ty_str json = { 0 };
    CLEANUP_STR struct ty_str plain = { 0 };

    (void)state;
    reply_error_body(&json, 404, "no \"x\" \xff here", false);
    assert_string_equal(
        json.text,
        "{\"error\":{\"code\":\"not_found\",\"message\":\"no \\\"x\\\" \xef\xbf\xbd here\"}}");
    reply_error_body(&plain, 404, "no x here", true);
    assert_string_equal(plain.text, "no x here\n");
}

static void test_json_that_could_not_be_made(void **state)
{
    struct reply rep = { 0 };

    (void)state;
    assert_int_equal(reply_json(&rep, 200, NULL), -ENOMEM);
    assert_null(rep.response);
    assert_int_equal(reply_nothing(&rep), 0);
    assert_int_equal(rep.status, 204);
    reply_done(&rep);
    assert_null(rep.response);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_of_code),
        cmocka_unit_test(test_error_body),
        cmocka_unit_test(test_json_that_could_not_be_made),
    };

    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
