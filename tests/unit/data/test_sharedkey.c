/* test_sharedkey.c - Shared Key signatures against published ones, and against another implementation's
 *
 * Sources: requests that Microsoft's .NET client sent, with their signatures and the (retired) key, in the tests of
 * Microsoft's Dash server (MicrosoftDX/Dash, SignatureValidationTests.cs); the strings to sign in "Authorize with
 * Shared Key" of the REST reference.  What has another source says so: Python's hmac.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "data/sharedkey.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>

static uint8_t key_bytes[64];

static struct ty_sharedkey dash_key(void)
{
    static const char text[] =
        "8jqRVtXUWiEthgIhR+dFwrB8gh3lFuquvJQ1v4eabObIj7okI1cZIuzY8zZHmEdpcC0f+XlUkbFwAhjTfyrLIg==";
    size_t n = 0;

    assert_int_equal(sodium_base642bin(key_bytes, sizeof key_bytes, text, strlen(text), NULL, &n,
                                       NULL, sodium_base64_VARIANT_ORIGINAL),
                     0);
    return (struct ty_sharedkey){ .account = "dashstorage1", .key = key_bytes, .key_bytes = n };
}

static struct ty_http_req request(const char *method, const char *url, const char *const *headers)
{
    struct ty_http_req r = { .method = method, .url = strdup(url) };

    for (; *headers; headers += 2)
        assert_int_equal(ty_http_header(&r, headers[0], "%s", headers[1]), 0);
    return r;
}

static void check(struct ty_http_req *r, int64_t now, const char *date, const char *signature)
{
    struct ty_sharedkey k = dash_key();
    const char *said;

    assert_int_equal(ty_sharedkey_sign(&k, r, now), 0);
    assert_string_equal(ty_http_asked(r, "x-ms-date"), date);
    said = ty_http_asked(r, "Authorization");
    assert_non_null(said);
    assert_int_equal(strncmp(said, "SharedKey dashstorage1:", 23), 0);
    assert_string_equal(said + 23, signature);
    ty_http_req_done(r);
}

static const char url[] = "https://dashstorage1.blob.core.windows.net/test/test.txt";

static void test_published(void **state)
{
    struct ty_http_req r =
        request("PUT", url,
                (const char *[]){ "User-Agent", "x", "Content-MD5",
                                  "LHmMkMS8mTXh0bRP4e4Ptw==", "x-ms-version", "2014-02-14",
                                  "x-ms-blob-type", "BlockBlob", "x-ms-client-request-id",
                                  "82370d95-e820-4817-bd3f-6c266544ee8b", NULL });

    (void)state;
    r.body_bytes = 423;
    check(&r, 1414690282, "Thu, 30 Oct 2014 17:31:22 GMT",
          "mDTyDIDy8yt7D81qAmYEYiXH1X/bmBHJF2+ZPn/r74k=");
    r = request("PUT", url,
                (const char *[]){ "Content-MD5", "LHmMkMS8mTXh0bRP4e4Ptw==", "X-MS-Blob-Type",
                                  "  BlockBlob ", "x-ms-version", "2014-02-14",
                                  "x-ms-client-request-id", "TestRequest1", "x-ms-test",
                                  "testvalue", "x-test", "differentvalue", NULL });
    r.body_bytes = 423;
    check(&r, 1414698523, "Thu, 30 Oct 2014 19:48:43 GMT",
          "ktMmzuta7Wsqtzyd3TBbd3zW4miedtJPkWWlW9DCRb0=");
    r = request("PUT", url,
                (const char *[]){ "Content-MD5", "LHmMkMS8mTXh0bRP4e4Ptw==", "x-ms-version",
                                  "2014-02-14", "x-ms-blob-type", "BlockBlob",
                                  "x-ms-client-request-id", "d0863cd4-ae43-4dd4-aa27-eff01d30b5cf",
                                  "If-Modified-Since", "Thu, 30 Oct 2014 20:15:41 GMT", NULL });
    r.body_bytes = 423;
    check(&r, 1414700146, "Thu, 30 Oct 2014 20:15:46 GMT",
          "21rAYhnoRQQu6MmxXj6W5Rx3YWI8OCjO50CNNniohAA=");
    r = request("PUT", url,
                (const char *[]){ "x-ms-version", "2014-02-14", "Content-Type",
                                  "application/octet-stream", "Content-MD5",
                                  "LHmMkMS8mTXh0bRP4e4Ptw==", "Content-Language", "EN-US",
                                  "Content-Encoding", "gzip", "x-ms-blob-type", "BlockBlob",
                                  "If-Match", "DummyETag", "x-ms-client-request-id",
                                  "93399f8e-6ce2-4020-81a4-4f1f53f427fd", NULL });
    r.body_bytes = 423;
    check(&r, 1414702008, "Thu, 30 Oct 2014 20:46:48 GMT",
          "ZBQYgC9dgzldVfH6t06qIYZujSz/3blWrinuYePTMv8=");
}

static void signs(struct ty_http_req *r, const char *expected)
{
    CLEANUP_FREE char *text = ty_sharedkey_string("myaccount", r);

    assert_non_null(text);
    assert_string_equal(text, expected);
    ty_http_req_done(r);
}

static void test_documented_strings(void **state)
{
    struct ty_http_req r = request(
        "GET",
        "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=metadata&timeout=20",
        (const char *[]){ "x-ms-version", "2015-02-21", "x-ms-date",
                          "Fri, 26 Jun 2015 23:39:12 GMT", NULL });

    (void)state;
    signs(
        &r,
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20");
    /* Nothing of the body's length when there is none. */
    r = request("PUT",
                "http://myaccount.blob.core.windows.net/mycontainer?restype=container&timeout=30",
                (const char *[]){ "x-ms-version", "2015-02-21", "x-ms-date",
                                  "Fri, 26 Jun 2015 23:39:12 GMT", NULL });
    signs(
        &r,
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\nrestype:container\ntimeout:30");
    /* A parameter that comes more than once, names of either case, values that are encoded. */
    r = request(
        "GET",
        "http://h/c?restype=container&include=uncommittedblobs&INCLUDE=metadata&include=snapshots&prefix=a%2Fb%20c",
        (const char *[]){ "x-ms-version", "2015-02-21", "Range", "bytes=0-9", NULL });
    signs(&r, "GET\n\n\n\n\n\n\n\n\n\n\nbytes=0-9\nx-ms-version:2015-02-21\n/myaccount/c\n"
              "include:metadata,snapshots,uncommittedblobs\nprefix:a/b c\nrestype:container");
    /* The root of the service; and an emulator, whose paths begin with the account. */
    r = request("GET", "http://h?comp=list", (const char *[]){ NULL });
    signs(&r, "GET\n\n\n\n\n\n\n\n\n\n\n\n/myaccount/\ncomp:list");
    r = request("HEAD", "http://127.0.0.1:1/myaccount/c/a%20b", (const char *[]){ NULL });
    signs(&r, "HEAD\n\n\n\n\n\n\n\n\n\n\n\n/myaccount/myaccount/c/a%20b");
}

/* objects_azure.py of the end-to-end tests computed these. */
static void test_other_implementation(void **state)
{
    struct ty_http_req r = request(
        "GET",
        "http://127.0.0.1:10000/dashstorage1/c?comp=list&restype=container&prefix=a%2Fb%20c%2B&maxresults=5000",
        (const char *[]){ "x-ms-version", "2020-10-02", NULL });

    (void)state;
    check(&r, 0, "Thu, 01 Jan 1970 00:00:00 GMT", "K7pi5jpO03oEVRdnTnJVmeYjkSW5dnwuVJfQyhKDle8=");
    r = request(
        "PUT",
        "https://dashstorage1.blob.core.windows.net/c/d/%C3%BC%2B%20x?blockid=AAA%3D&comp=block",
        (const char *[]){ "x-ms-version", "2020-10-02", "Content-MD5", "LHmMkMS8mTXh0bRP4e4Ptw==",
                          "If-None-Match", "*", "Content-Type", "application/octet-stream", NULL });
    r.body_bytes = 8ull << 30;
    check(&r, 1798761599, "Thu, 31 Dec 2026 23:59:59 GMT",
          "5KI45leLtlb5cHoB8Azx8QbMskkseFBhqfXeUOYx0Uc=");
}

static void test_bad_query(void **state)
{
    struct ty_http_req r = request("GET", "http://h/c?prefix=%zz", (const char *[]){ NULL });

    (void)state;
    assert_null(ty_sharedkey_string("a", &r));
    ty_http_req_done(&r);
}

/* By Python's hmac. */
static void test_sas(void **state)
{
    struct ty_sharedkey k = dash_key();
    CLEANUP_FREE char *sas = ty_sharedkey_sas(&k, "sets", 1800000000);

    (void)state;
    assert_string_equal(sas, "sp=rcwdl&se=2027-01-15T08:00:00Z&sv=2020-12-06&sr=c&sig="
                             "%2BOO%2FShk1fMna87%2FSyD%2BfLgAW1RVCqAhSIieVU79ZiBM%3D");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_documented_strings),
        cmocka_unit_test(test_other_implementation),
        cmocka_unit_test(test_bad_query),
        cmocka_unit_test(test_sas),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
