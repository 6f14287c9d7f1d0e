/* test_s3_judge.c - what answers of S3 mean */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/str.h"
#include "data/http.h"
#include "data/object.h"
#include <errno.h>
#include <string.h>

static struct ty_object_store *open_store(bool keyed)
{
    CLEANUP_JSON json_t *j = json_pack("{s:s, s:s, s:s*, s:s*}", "bucket", "buck", "endpoint",
                                       "http://h", "access_key_id", keyed ? "AKID" : NULL,
                                       "secret_access_key", keyed ? "hush" : NULL);
    struct ty_object_store *s = NULL;

    assert_int_equal(ty_s3.open(j, &s, NULL), 0);
    return s;
}

static const struct {
    const char *code;
    int status, result, again;
    const char *says;
} cases[] = {
    { "SignatureDoesNotMatch", 403, -EACCES, -1,
      "the secret key is not the one of access key 'AKID'" },
    { "InvalidAccessKeyId", 403, -EACCES, -1, "no access key 'AKID'" },
    { "AccessDenied", 403, -EACCES, -1, "'AKID' has no right" },
    { "ExpiredToken", 400, -EACCES, -1, "expired" },
    { "RequestTimeTooSkewed", 403, -ETIME, -1, "clock" },
    { "NoSuchBucket", 404, -ENODEV, -1, "no such bucket" },
    { "NoSuchKey", 404, -ENOENT, -1,
      "cannot upload 'x' in bucket 'buck' at http://h: there is no such object" },
    { "NoSuchUpload", 404, -ENOENT, -1, "unfinished" },
    { "BadDigest", 400, -EBADMSG, -1, "not what was sent" },
    { "SlowDown", 503, -EAGAIN, 0, "slow down (SlowDown)" },
    { "InternalError", 500, -EAGAIN, 0, "fault of its own" },
    { "BucketAlreadyOwnedByYou", 409, -EEXIST, -1, "already" },
    { "PermanentRedirect", 301, -EINVAL, -1, "not served at this address" },
    { "Surprise", 418, -EPROTO, -1, "it answers 418 Surprise: because" },
    { "Surprise", 599, -EAGAIN, 0, "it answers 599" },
    { NULL, 404, -ENOENT, -1, "no such object" },
    { NULL, 403, -EACCES, -1, "no right" },
    { NULL, 416, -ESTALE, -1, "shorter" },
    { NULL, 429, -EAGAIN, 0, "slow down" },
    { NULL, 502, -EAGAIN, 0, "fault" },
    { NULL, 200, 0, -1, "" },
    { NULL, 204, 0, -1, "" },
};

static void test_codes(void **state)
{
    struct ty_object_store *s = open_store(true);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_HTTP_REQ struct ty_http_req r = { .method = "PUT",
                                                  .url = strdup("http://h/"),
                                                  .status = cases[i].status };
        struct ty_error err = { 0 };
        int again = 7;

        if (cases[i].code)
            ty_str_addf(&r.text, "<Error><Code>%s</Code><Message>because</Message></Error>",
                        cases[i].code);
        assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), cases[i].result);
        assert_int_equal(again, cases[i].again);
        if (!strstr(err.text, cases[i].says))
            fail_msg("'%s' should say '%s'", err.text, cases[i].says);
        assert_null(strstr(err.text, "hush"));
    }
    s->kind->close(s);
}

static void test_special(void **state)
{
    struct ty_object_store *s = open_store(false);
    struct ty_http_req r = { .method = "POST",
                             .url = strdup("http://h/x?uploadId=1"),
                             .status = 200 };
    struct ty_error err;
    struct ty_object_content c = { .bytes = 1 };
    int again;

    (void)state;
    ty_str_add(
        &r.text,
        "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>"); /* 200 came first */
    assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), -EAGAIN);
    assert_int_equal(again, 0);
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "PUT", .url = strdup("http://h/x"), .status = 412 };
    assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), -ESTALE);
    ty_http_header(&r, "If-None-Match", "*");
    assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), -EEXIST);
    ty_http_req_done(&r);
    assert_int_equal(s->kind->put(s, &r, "x", &c, NULL), 0);
    assert_non_null(ty_http_asked(&r, "If-None-Match"));
    r.status = 501;
    assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), -EOPNOTSUPP);
    assert_int_equal(again, 0); /* and then it is put without a condition */
    ty_http_req_again(&r);
    assert_int_equal(s->kind->put(s, &r, "x", &c, NULL), 0);
    assert_null(ty_http_asked(&r, "If-None-Match"));
    r.status = 501;
    assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), -EOPNOTSUPP);
    assert_int_equal(again, -1);
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "HEAD", .url = strdup("http://h/x"), .status = 403 };
    assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), -EACCES);
    ty_http_req_done(&r);
    assert_int_equal(s->kind->put(s, &r, "x", &c, NULL), 0);
    assert_non_null(ty_http_asked(&r, "If-None-Match")); /* who has not looked replaces nothing */
    r.status = 501;
    assert_int_equal(s->kind->judge(s, &r, "upload", "x", &again, &err), -EOPNOTSUPP);
    assert_int_equal(again, -1);
    assert_non_null(strstr(err.text, "it might replace an object"));
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET", .url = strdup("http://h/x"), .status = 403 };
    assert_int_equal(s->kind->judge(s, &r, "list", NULL, &again, &err), -EACCES);
    assert_non_null(strstr(err.text, "cannot list bucket 'buck' at http://h: it needs a key"));
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET",
                              .url = strdup("http://h/buck/?list-type=2&max-keys=1"),
                              .status = 200 };
    ty_str_add(&r.text, "<html>log in</html>");
    assert_int_equal(s->kind->judge(s, &r, "list", NULL, &again, &err), -EPROTO);
    assert_non_null(strstr(err.text, "no S3"));
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET",
                              .result = -ECONNRESET,
                              .why = "the connection broke" };
    assert_int_equal(s->kind->judge(s, &r, "list", NULL, &again, &err), -ECONNRESET);
    assert_int_equal(again, 0);
    s->kind->close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_codes),
                                        cmocka_unit_test(test_special) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
