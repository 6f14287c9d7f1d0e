/* test_sigv4.c - signatures against those that AWS has published
 *
 * Sources: "Signature Calculations for the Authorization Header" of the S3 API reference (four examples), and the
 * Signature Version 4 test suite (those of its cases that need no change of the path, which S3 does not make).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "data/sigv4.h"
#include <errno.h>
#include <string.h>

static const int64_t MAY_2013 = 1369353600, AUGUST_2015 = 1440938160;

static struct ty_sigv4 s3_key(void)
{
    return (struct ty_sigv4){ .key_id = "AKIAIOSFODNN7EXAMPLE",
                              .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                              .region = "us-east-1",
                              .service = "s3" };
}

static void check(struct ty_sigv4 *k, struct ty_http_req *r, const char *payload, int64_t now,
                  const char *names, const char *signature)
{
    const char *text;

    assert_int_equal(ty_sigv4_sign(k, r, payload, now), 0);
    text = ty_http_asked(r, "Authorization");
    assert_non_null(text);
    assert_string_equal(strstr(text, "Signature=") + 10, signature);
    text = strstr(text, "SignedHeaders=") + 14;
    assert_int_equal(strncmp(text, names, strlen(names)), 0);
    assert_int_equal(text[strlen(names)], ',');
    ty_http_req_done(r);
}

static void test_s3_get(void **state)
{
    struct ty_sigv4 k = s3_key();
    struct ty_http_req r = { .method = "GET",
                             .url = strdup("https://examplebucket.s3.amazonaws.com/test.txt") };

    (void)state;
    ty_http_header(&r, "Range", "bytes=0-9");
    check(&k, &r, TY_SIGV4_EMPTY, MAY_2013, "host;range;x-amz-content-sha256;x-amz-date",
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_s3_put(void **state)
{
    struct ty_sigv4 k = s3_key();
    struct ty_http_req r = {
        .method = "PUT", .url = strdup("https://examplebucket.s3.amazonaws.com/test%24file.text")
    };

    (void)state;
    ty_http_header(&r, "Date", "Fri, 24 May 2013 00:00:00 GMT");
    ty_http_header(&r, "x-amz-storage-class", "REDUCED_REDUNDANCY");
    check(&k, &r, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072", MAY_2013,
          "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_s3_queries(void **state)
{
    struct ty_sigv4 k = s3_key();
    struct ty_http_req r = { .method = "GET",
                             .url = strdup("https://examplebucket.s3.amazonaws.com/?lifecycle") };

    (void)state;
    check(&k, &r, TY_SIGV4_EMPTY, MAY_2013, "host;x-amz-content-sha256;x-amz-date",
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    r.method = "GET";
    r.url = strdup("https://examplebucket.s3.amazonaws.com?prefix=J&max-keys=2");
    check(&k, &r, TY_SIGV4_EMPTY, MAY_2013, "host;x-amz-content-sha256;x-amz-date",
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

/* Method, path and query, two headers, signed names, signature. */
static const struct {
    const char *name, *method, *path, *header[2][2], *names, *signature;
} suite[] = {
    { "get-vanilla",
      "GET",
      "/",
      { { 0 } },
      "host;x-amz-date",
      "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
    { "post-vanilla",
      "POST",
      "/",
      { { 0 } },
      "host;x-amz-date",
      "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
    { "get-vanilla-query-order-key-case",
      "GET",
      "/?Param2=value2&Param1=value1",
      { { 0 } },
      "host;x-amz-date",
      "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
    { "get-vanilla-empty-query-key",
      "GET",
      "/?Param1=value1",
      { { 0 } },
      "host;x-amz-date",
      "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb" },
    { "get-unreserved",
      "GET",
      "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
      { { 0 } },
      "host;x-amz-date",
      "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f" },
    { "get-utf8",
      "GET",
      "/%E1%88%B4",
      { { 0 } },
      "host;x-amz-date",
      "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85" },
    { "get-header-value-trim",
      "GET",
      "/",
      { { "My-Header1", " value1" }, { "My-Header2", " \"a   b   c\"" } },
      "host;my-header1;my-header2;x-amz-date",
      "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736" },
    { "post-header-key-sort",
      "POST",
      "/",
      { { "My-Header1", "value1" } },
      "host;my-header1;x-amz-date",
      "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c" },
};

static void test_suite(void **state)
{
    struct ty_sigv4 k = { .key_id = "AKIDEXAMPLE",
                          .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                          .region = "us-east-1",
                          .service = "service" };

    (void)state;
    for (size_t i = 0; i < sizeof suite / sizeof *suite; i++) {
        struct ty_http_req r = { .method = suite[i].method,
                                 .url = ty_strf("https://example.amazonaws.com%s", suite[i].path) };

        print_message("# %s\n", suite[i].name);
        for (int h = 0; h < 2 && suite[i].header[h][0]; h++)
            assert_int_equal(ty_http_header(&r, suite[i].header[h][0], "%s", suite[i].header[h][1]),
                             0);
        check(&k, &r, NULL, AUGUST_2015, suite[i].names, suite[i].signature);
    }
}

static void test_canonical(void **state)
{
    struct ty_http_req r = { .method = "PUT",
                             .url = strdup("http://host:9000/b/a%20b?uploads&a-b=2&a=1&a=%20") };
    CLEANUP_FREE char *names = NULL, *text = NULL;

    (void)state;
    ty_http_header(&r, "x-amz-meta-b", "2");
    ty_http_header(&r, "x-amz-meta", "1");
    text = ty_sigv4_canonical(&r, "HASH", &names);
    assert_string_equal(text, "PUT\n/b/a%20b\na=%20&a=1&a-b=2&uploads=\nhost:host:9000\n"
                              "x-amz-meta:1\nx-amz-meta-b:2\n\nhost;x-amz-meta;x-amz-meta-b\nHASH");
    ty_http_req_done(&r);
}

static void test_token_and_days(void **state)
{
    struct ty_sigv4 k = s3_key();
    struct ty_http_req r = { .method = "GET", .url = strdup("http://h/") };
    CLEANUP_FREE char *first = NULL;

    (void)state;
    k.token = "session";
    assert_int_equal(ty_sigv4_sign(&k, &r, TY_SIGV4_UNSIGNED, MAY_2013), 0);
    assert_string_equal(ty_http_asked(&r, "x-amz-security-token"), "session");
    assert_string_equal(ty_http_asked(&r, "x-amz-content-sha256"), TY_SIGV4_UNSIGNED);
    assert_non_null(strstr(ty_http_asked(&r, "Authorization"), "x-amz-security-token"));
    assert_null(strstr(ty_http_asked(&r, "Authorization"), k.secret));
    assert_string_equal(k.day, "20130524");
    first = strdup(ty_http_asked(&r, "Authorization"));
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET", .url = strdup("http://h/") };
    assert_int_equal(ty_sigv4_sign(&k, &r, TY_SIGV4_UNSIGNED, MAY_2013 + 86400), 0);
    assert_string_equal(k.day, "20130525"); /* the next day has a key of its own */
    assert_string_not_equal(first, ty_http_asked(&r, "Authorization"));
    ty_http_req_done(&r);
    r = (struct ty_http_req){ .method = "GET", .url = strdup("http://h/") };
    k.token = "with\nline";
    assert_int_equal(ty_sigv4_sign(&k, &r, NULL, MAY_2013), -EINVAL);
    ty_http_req_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s3_get),     cmocka_unit_test(test_s3_put),
        cmocka_unit_test(test_s3_queries), cmocka_unit_test(test_suite),
        cmocka_unit_test(test_canonical),  cmocka_unit_test(test_token_and_days),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
