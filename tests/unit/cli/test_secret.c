/* test_secret.c - trainyard secret: where values come from, and what is never sent */
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

static void test_reading(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/secrets ",
          .raw = fake_json(
              "{\"secrets\": [{\"name\": \"key\", \"created\": \"2026-01-01T00:00:00.000000Z\", "
              "\"changed\": \"2026-01-02T00:00:00.000000Z\"}]}") },
        { .match = "GET /api/v1/secrets/key ",
          .raw = fake_json("{\"name\": \"key\", \"value\": \"open\"}") },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no secret 'x'") },
        { .match = "DELETE /api/v1/secrets/key ", .raw = fake_reply(204, "text/plain", "") },
        { .match = "DELETE", .raw = fake_reply(404, "text/plain", "there is no secret 'x'") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("secret", "ls", "-q"), 0, "key\n", "");
    says(TRY("secret", "ls", "--plain"), 0, "key\t2026-01-02T00:00:00.000000Z\n", "");
    says(TRY("secret", "get", "key"), 0, "open\n", "");
    says(TRY("secret", "get", "x"), 3, "", "there is no secret 'x'");
    says(TRY("secret", "rm", "x", "key"), 3, "", "removed secret 'key'");
    says(TRY("secret", "get"), 2, "", "secret get --help");
    fake_stop(f);
}

static void test_setting(void **state)
{
    struct fake_answer answers[] = { { .match = "PUT", .raw = fake_reply(204, "text/plain", "") },
                                     { 0 } };

    (void)state;
    f = fake_start(answers);
    CLEANUP_FREE char *file = ty_path_join(fake_home(f), "value"), *gone = ty_path_join(file, "x");

    assert_int_equal(ty_write_file(file, "two\nlines\n", 10, 0600), 0);
    says(TRY("secret", "set", "key", "--file", file), 0, "", "set secret 'key'");
    assert_true(ty_starts_with(fake_head(f, 0), "PUT /api/v1/secrets/key HTTP"));
    assert_string_equal(fake_body(f, 0, NULL), "{\"value\":\"two\\nlines\"}");
    says(TRY("secret", "set", "key", "--file", gone), 1, "",
         "cannot read the value of secret 'key'");
    assert_int_equal(ty_write_file(file, "a\0b", 3, 0600), 0);
    says(TRY("secret", "set", "key", "--file", file), 1, "", "it holds a NUL");
    assert_int_equal(ty_write_file(file, "\xff", 1, 0600), 0);
    says(TRY("secret", "set", "key", "--file", file), 1, "", "is not UTF-8");
    says(TRY("secret", "set", "key", "value"), 2, "", "secret set --help"); /* never as a word */
    assert_int_equal(fake_count(f), 1);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_setting),
    };

    return cmocka_run_group_tests_name("secret", tests, NULL, NULL);
}
