/* test_cmd_tag.c - tag: what is sent, what is listed, what is refused before anything is sent */
#include "base/json.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID "first_1780000000_0a1b2c3d"
#define RUN(tags) "{\"id\": \"" ID "\", \"state\": \"Running\", \"tags\": {" tags "}}"

static struct fake *f;
#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, out);
    assert_string_equal(c.err, err);
    captured_done(&c);
}

static void test_change(void **state)
{
    struct fake_answer answers[] = { { .match = "PATCH /api/v1/runs/" ID "/tags ",
                                       .raw = fake_json(RUN("\"k\": \"a=b\"")) },
                                     { 0 } };
    size_t n;

    (void)state;
    f = fake_start(answers);
    says(TRY("tag", ID, "k=a=b", "alone", "--remove", "old", "empty=", "--remove", "older"), 0, "",
         "run '" ID "' has 1 tag now\n");
    assert_string_equal(fake_body(f, 0, &n),
                        "{\"set\":{\"k\":\"a=b\",\"alone\":null,\"empty\":\"\"},"
                        "\"remove\":[\"old\",\"older\"]}");
    says(TRY("tag", "-q", "--remove", "old", ID), 0, "", "");
    assert_string_equal(fake_body(f, 1, &n), "{\"set\":{},\"remove\":[\"old\"]}");
    says(TRY("tag", "--json", ID, "k"), 0, "{\"run\":\"" ID "\",\"tags\":{\"k\":\"a=b\"}}\n", "");
    assert_int_equal(fake_count(f), 3);
    fake_stop(f);
}

static void test_list(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" ID " ",
          .raw = fake_json(RUN("\"k\": \"v\", \"alone\": null, \"long\": \"\\u001b[1m\"")),
          .times = 4 },
        { .match = "GET /api/v1/runs/" ID " ", .raw = fake_json(RUN("")) },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("tag", ID), 0, "KEY    VALUE\nk      v\nalone  -\nlong   ?[1m\n", "");
    says(TRY("tag", "--plain", ID), 0, "k\tv\nalone\t-\nlong\t?[1m\n", "");
    says(TRY("tag", "-q", ID), 0, "k\nalone\nlong\n", "");
    says(TRY("tag", "--json", ID), 0,
         "{\"run\":\"" ID "\",\"tags\":{\"k\":\"v\",\"alone\":null,\"long\":\"\\u001B[1m\"}}\n",
         "");
    says(TRY("tag", ID), 0, "",
         "run '" ID "' has no tags; 'trainyard tag " ID " KEY=VALUE' sets one\n");
    says(TRY("tag", "-q", ID), 0, "", "");
    says(TRY("tag", "--json", ID), 0, "{\"run\":\"" ID "\",\"tags\":{}}\n", "");
    fake_stop(f);
}

static void test_refusals(void **state)
{
    struct fake_answer answers[] = {
        { .match = "PATCH", .raw = fake_reply(429, "text/plain", "it has the most tags") }, { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("tag", ID, "=v"), 2, "",
         "trainyard: the tag '=v' has no key; write KEY=VALUE, or KEY alone; see 'trainyard tag "
         "--help'\n");
    says(TRY("tag", ID, "k=v", "--remove", "k"), 2, "",
         "trainyard: the tag 'k' is both set and removed; see 'trainyard tag --help'\n");
    says(TRY("tag", ID, "--remove", ""), 2, "",
         "trainyard: --remove '' names no tag; see 'trainyard tag --help'\n");
    says(TRY("tag", ID, "k=\xff"), 2, "",
         "trainyard: the tag 'k=\xff' is not valid UTF-8; see 'trainyard tag --help'\n");
    assert_int_equal(fake_count(f), 0);
    says(TRY("tag", ID, "k"), 1, "", "trainyard: it has the most tags\n");
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
