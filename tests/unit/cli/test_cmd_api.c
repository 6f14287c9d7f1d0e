/* test_cmd_api.c - trainyard api: what is sent, what is printed, exit codes */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct fake *f;

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, out);
    if (!strstr(c.err, err))
        fail_msg("'%s' should say '%s'", c.err, err);
    captured_done(&c);
}

#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void sent(int i, const char *head, const char *body)
{
    if (!ty_starts_with(fake_head(f, i), head))
        fail_msg("'%.80s' should begin with '%s'", fake_head(f, i), head);
    assert_string_equal(fake_body(f, i, NULL), body);
}

static void test_requests(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs", .raw = fake_json("{\"runs\":[]}") },
        { .match = "GET /openapi.json", .raw = fake_json("{}\n") },
        { .match = "POST", .raw = fake_json("{}") },
        { .match = "PATCH", .raw = fake_reply(409, "text/plain", "it is set already") },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is nothing") },
        { .match = "DELETE", .raw = fake_reply(403, "text/plain", "not yours") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    CLEANUP_FREE char *file = ty_path_join(fake_home(f), "body"), *from = ty_strf("@%s", file);

    says(TRY("api", "runs", "-q", "tag=a b=c&d", "-q", "limit=3"), 0, "{\"runs\":[]}\n", "");
    sent(0, "GET /api/v1/runs?tag=a%20b%3Dc%26d&limit=3 HTTP", "");
    says(TRY("api", "/openapi.json"), 0, "{}\n", "");
    assert_int_equal(ty_write_file(file, "{\"a\":1}", 7, 0600), 0);
    says(TRY("api", "gc", "-d", from), 0, "{}\n", "");
    sent(2, "POST /api/v1/gc HTTP", "{\"a\":1}");
    says(TRY("api", "runs/x/tags", "-X", "PATCH", "-d", "{}"), 5, "", "it is set already");
    sent(3, "PATCH /api/v1/runs/x/tags HTTP", "{}");
    says(TRY("api", "nowhere"), 3, "", "there is nothing");
    says(TRY("api", "runs/x", "-X", "DELETE"), 4, "", "not yours");
    fake_stop(f);
}

static void test_refused(void **state)
{
    struct fake_answer answers[] = { { 0 } };

    (void)state;
    f = fake_start(answers);
    says(TRY("api"), 2, "", "api --help");
    says(TRY("api", "runs", "-X", "get"), 2, "", "'get' is no method");
    says(TRY("api", "runs", "-q", "limit"), 1, "", "'limit' is not NAME=VALUE");
    says(TRY("api", "gc", "-d", "@/no/such"), 3, "", "cannot read the body");
    says(TRY("api", "a b"), 1, "", "a blank or a control character");
    assert_int_equal(fake_count(f), 0);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests_name("cmd_api", tests, NULL, NULL);
}
