/* test_s3.c - S3: addresses, requests, listings, parts */
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

static struct ty_object_store *open_store(const char *config)
{
    CLEANUP_JSON json_t *j = json_loads(config, 0, NULL);
    struct ty_object_store *s = NULL;
    struct ty_error err = { 0 };

    assert_non_null(j);
    if (ty_s3.open(j, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void answer(struct ty_http_req *r, const char *name, const char *value)
{
    r->answer.at = reallocarray(r->answer.at, r->answer.n + 1, sizeof *r->answer.at);
    r->answer.at[r->answer.n++] = (struct ty_http_header){ strdup(name), strdup(value) };
}

static void test_addresses(void **state)
{
    static const char *const cases[][2] = {
        { "{\"bucket\":\"buck\"}", "https://buck.s3.us-east-1.amazonaws.com/a%20b" },
        { "{\"bucket\":\"buck\",\"region\":\"eu-west-3\"}",
          "https://buck.s3.eu-west-3.amazonaws.com/a%20b" },
        { "{\"bucket\":\"buck\",\"region\":\"cn-north-1\"}",
          "https://buck.s3.cn-north-1.amazonaws.com.cn/a%20b" },
        { "{\"bucket\":\"bu.ck\"}",
          "https://s3.us-east-1.amazonaws.com/bu.ck/a%20b" }, /* no certificate has its name */
        { "{\"bucket\":\"buck\",\"path_style\":true}",
          "https://s3.us-east-1.amazonaws.com/buck/a%20b" },
        { "{\"bucket\":\"buck\",\"endpoint\":\"http://h:9000/\"}", "http://h:9000/buck/a%20b" },
        { "{\"bucket\":\"buck\",\"endpoint\":\"h:9000\",\"path_style\":false}",
          "https://buck.h:9000/a%20b" },
        { "{\"bucket\":\"buck\",\"endpoint\":\"http://h\",\"prefix\":\"/p q/r/\"}",
          "http://h/buck/p%20q/r/a%20b" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_object_store *s = open_store(cases[i][0]);
        CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };

        assert_int_equal(s->kind->head(s, &r, "a b", NULL), 0);
        assert_string_equal(r.url, cases[i][1]);
        assert_null(ty_http_asked(&r, "Authorization")); /* no key: not signed */
        s->kind->close(s);
    }
}

static void test_bad_configurations(void **state)
{
    static const char *const cases[][2] = {
        { "{}", "no \"bucket\"" },
        { "{\"bucket\":\"a/b\"}", "'a/b' cannot be the name of a bucket" },
        { "{\"bucket\":\"ab\"}", "cannot be the name of a bucket" },
        { "{\"bucket\":\"buck\",\"access_key_id\":\"x\"}", "belong together" },
        { "{\"bucket\":\"buck\",\"endpoint\":\"http://u:p@h\"}", "without a user" },
        { "{\"bucket\":\"buck\",\"endpoint\":\"ftp://h\"}", "begins neither with https://" },
        { "{\"bucket\":\"buck\",\"prefix\":\"a/../b\"}", "\"a/../b\" cannot be the path" },
        { "{\"bucket\":\"buck\",\"access_key_id\":\"a\\nb\",\"secret_access_key\":\"s\"}",
          "\"access_key_id\" has a line break" },
        { "{\"bucket\":7}", "bucket" },
        { "{\"bucket\":\"buck\",\"path_style\":\"yes\"}", "path_style" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_JSON json_t *j = json_loads(cases[i][0], 0, NULL);
        struct ty_object_store *s = NULL;
        struct ty_error err = { 0 };

        assert_int_equal(ty_s3.open(j, &s, &err), -EINVAL);
        if (!strstr(err.text, cases[i][1]))
            fail_msg("'%s' should say '%s'", err.text, cases[i][1]);
    }
}

static const char *const KEYED =
    "{\"bucket\":\"buck\",\"endpoint\":\"http://h\",\"prefix\":\"p\","
    "\"access_key_id\":\"id\",\"secret_access_key\":\"hush\",\"session_token\":\"tok\"}";

static void test_requests(void **state)
{
    struct ty_object_store *s = open_store(KEYED);
    struct ty_http_req r = { 0 };
    uint8_t md5[16];
    struct ty_object_content c = { .bytes = 3, .md5 = md5 };
    char long_name[1100];

    (void)state;
    ty_md5("abc", 3, md5);
    assert_int_equal(s->kind->put(s, &r, "x", &c, NULL), 0);
    assert_string_equal(r.method, "PUT");
    assert_string_equal(ty_http_asked(&r, "Content-MD5"), "kAFQmDzST7DWlj99KOF/cg==");
    assert_string_equal(ty_http_asked(&r, "If-None-Match"), "*");
    assert_string_equal(ty_http_asked(&r, "x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
    assert_string_equal(ty_http_asked(&r, "x-amz-security-token"), "tok");
    assert_non_null(strstr(ty_http_asked(&r, "Authorization"), "content-md5;"));
    for (size_t i = 0; i < r.headers.n; i++)
        assert_null(strstr(r.headers.at[i].value, "hush"));
    ty_http_req_done(&r);
    c.overwrite = true;
    c.bytes = 0;
    assert_int_equal(s->kind->put(s, &r, "x", &c, NULL), 0);
    assert_null(ty_http_asked(&r, "If-None-Match"));
    ty_http_req_done(&r);
    assert_int_equal(s->kind->get(s, &r, "x", 10, 5, "\"e\"", NULL), 0);
    assert_string_equal(ty_http_asked(&r, "Range"), "bytes=10-14");
    assert_string_equal(ty_http_asked(&r, "If-Match"), "\"e\"");
    ty_http_req_done(&r);
    assert_int_equal(s->kind->get(s, &r, "x", 0, UINT64_MAX, NULL, NULL), 0);
    assert_null(ty_http_asked(&r, "Range"));
    ty_http_req_done(&r);
    assert_int_equal(s->kind->get(s, &r, "x", 7, UINT64_MAX, NULL, NULL), 0);
    assert_string_equal(ty_http_asked(&r, "Range"), "bytes=7-");
    ty_http_req_done(&r);
    assert_int_equal(s->kind->list(s, &r, "a/b", "next=", NULL), 0);
    assert_non_null(strstr(r.url, "&prefix=p%2Fa%2Fb&continuation-token=next%3D"));
    ty_http_req_done(&r);
    memset(long_name, 'k', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(s->kind->head(s, &r, long_name, NULL), -ENAMETOOLONG);
    ty_http_req_done(&r);
    s->kind->close(s);
}

static int add_object(const struct ty_object *o, void *ctx)
{
    ty_str_addf(ctx, "%s:%llu:%d ", o->path, (unsigned long long)o->bytes, o->has_md5);
    return 0;
}

static void test_listing(void **state)
{
    struct ty_object_store *s = open_store(KEYED);
    CLEANUP_STR struct ty_str got = { 0 };
    struct ty_http_req r = { .method = "GET" };
    CLEANUP_FREE char *next = NULL;

    (void)state;
    ty_str_add(
        &r.text,
        "<ListBucketResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>"
        "<Contents><Key>p/a+b%2Bc</Key><Size>5</Size><ETag>&quot;900150983cd24fb0d6963f7d28e17f72&quot;</ETag></Contents>"
        "<Contents><Key>p/folder/</Key><Size>0</Size></Contents>"
        "<Contents><Key>p/parts</Key><Size>7</Size><ETag>\"900150983cd24fb0d6963f7d28e17f72-2\"</ETag></Contents>"
        "<Contents><Key>pelican</Key><Size>1</Size></Contents>"
        "<Contents><Key>p/..%2F..%2Fout</Key><Size>2</Size></Contents>"
        "<NextContinuationToken>tok</NextContinuationToken></ListBucketResult>");
    assert_int_equal(s->kind->listed(s, &r, add_object, &got, &next, NULL), 0);
    assert_string_equal(got.text, "a b+c:5:1 parts:7:0 ../../out:2:0 ");
    assert_string_equal(next, "tok");
    ty_http_req_done(&r);
    free(next);
    next = NULL;
    ty_str_add(
        &r.text,
        "<ListBucketResult><Contents><Key>p/a</Key><Size>-5</Size></Contents></ListBucketResult>");
    assert_true(s->kind->listed(s, &r, add_object, &got, &next, NULL) < 0);
    ty_http_req_done(&r);
    s->kind->close(s);
}

static void test_about(void **state)
{
    struct ty_object_store *s = open_store(KEYED);
    struct ty_http_req r = { .method = "HEAD" };
    struct ty_object o;

    (void)state;
    answer(&r, "ETag", "\"900150983cd24fb0d6963f7d28e17f72\"");
    answer(&r, "Content-Length", "12");
    answer(&r, "Last-Modified", "Fri, 24 May 2013 00:00:00 GMT");
    assert_int_equal(s->kind->about(s, &r, &o), 0);
    assert_true(o.has_md5 && o.bytes == 12 && o.modified_us == 1369353600000000);
    answer(&r, "x-amz-server-side-encryption", "aws:kms"); /* then an ETag is no MD5 */
    s->kind->about(s, &r, &o);
    assert_false(o.has_md5);
    answer(&r, "x-amz-meta-md5chksum", "kAFQmDzST7DWlj99KOF/cg==");
    s->kind->about(s, &r, &o);
    assert_true(o.has_md5);
    ty_http_req_done(&r);
    r.method = "GET";
    answer(&r, "ETag", "\"900150983cd24fb0d6963f7d28e17f72-3\"");
    answer(&r, "Content-Range", "bytes 0-4/40");
    answer(&r, "Content-Length", "5");
    s->kind->about(s, &r, &o);
    assert_true(!o.has_md5 && !o.has_parts_md5 && o.bytes == 40); /* of parts of which size? */
    answer(&r, "x-amz-meta-trainyard-part-bytes", "16777216");
    s->kind->about(s, &r, &o);
    assert_true(o.has_parts_md5 && o.part_bytes == 16777216);
    ty_http_req_done(&r);
    s->kind->close(s);
}

static int add_part(const struct ty_object_part *p, void *ctx)
{
    ty_str_addf(ctx, "%u:%llu:%s:%d ", p->number, (unsigned long long)p->bytes, p->etag,
                p->has_md5);
    return 0;
}

static void test_uploads(void **state)
{
    struct ty_object_store *s = open_store(KEYED);
    CLEANUP_STR struct ty_str got = { 0 };
    struct ty_http_req r = { .method = "GET" };
    CLEANUP_FREE char *upload = NULL, *next = NULL;
    struct ty_object_part parts[2] = { { .number = 1, .etag = "\"a&b\"" },
                                       { .number = 2, .etag = "c" } };
    struct ty_object_content c = { .bytes = 9 };
    struct ty_error err;

    (void)state;
    ty_str_add(
        &r.text,
        "<ListMultipartUploadsResult>"
        "<Upload><Key>p/x</Key><UploadId>old</UploadId><Initiated>2026-11-25T00:00:00Z</Initiated></Upload>"
        "<Upload><Key>p/x</Key><UploadId>new</UploadId><Initiated>2026-11-26T00:00:00Z</Initiated></Upload>"
        "<Upload><Key>p/xy</Key><UploadId>other</UploadId><Initiated>2026-11-27T00:00:00Z</Initiated></Upload>"
        "</ListMultipartUploadsResult>");
    assert_int_equal(s->kind->found(s, &r, "x", &upload, NULL), 0);
    assert_string_equal(upload, "new");
    ty_http_req_done(&r);
    ty_str_add(
        &r.text,
        "<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>2</PartNumber><Size>5</Size>"
        "<ETag>\"900150983cd24fb0d6963f7d28e17f72\"</ETag></Part><Part><PartNumber>0</PartNumber></Part></ListPartsResult>");
    assert_int_equal(s->kind->parts_listed(s, &r, add_part, &got, &next, NULL), 0);
    assert_string_equal(got.text, "2:5:\"900150983cd24fb0d6963f7d28e17f72\":1 ");
    assert_null(next);
    ty_http_req_done(&r);
    assert_int_equal(s->kind->finish(s, &r, "x", "up id", parts, 2, &c, NULL), 0);
    assert_true(ty_ends_with(r.url, "/buck/p/x?uploadId=up%20id"));
    assert_non_null(
        strstr(r.body, "<Part><PartNumber>1</PartNumber><ETag>&quot;a&amp;b&quot;</ETag></Part>"));
    ty_http_req_done(&r);
    ty_str_add(&r.text, "<html/>");
    free(upload);
    upload = NULL;
    assert_int_equal(s->kind->begun(s, &r, &upload, &err), -EPROTO);
    assert_null(upload);
    ty_http_req_done(&r);
    s->kind->close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_requests),  cmocka_unit_test(test_listing),
        cmocka_unit_test(test_about),     cmocka_unit_test(test_uploads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
