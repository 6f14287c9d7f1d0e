/* test_cmd_completion.c - the words that are offered for a line, and the scripts */
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct fake *f;

static void offers(struct captured c, const char *out)
{
    assert_int_equal(c.code, 0);
    assert_string_equal(c.out, out);
    assert_string_equal(c.err, "");
    captured_done(&c);
}

#define TRY(...) CAPTURE(fake_home(f), "completion", "words", __VA_ARGS__)

static void test_words(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs?limit=200 ",
          .raw = fake_json(
              "{\"runs\": [{\"id\": \"first_2\"}, {\"id\": \"other_1\"}], \"next\": null}") },
        { .match = "GET /api/v1/datastores ",
          .raw = fake_json("{\"datastores\": [{\"name\": \"sets\"}, {\"name\": \"blobs\"}]}") },
        { .match = "GET /api/v1/targets ",
          .raw = fake_json("{\"targets\": [{\"name\": \"box\"}]}") },
        { .match = "GET /api/v1/secrets ",
          .raw = fake_json("{\"secrets\": [{\"name\": \"key\"}]}") },
        { .match = "GET", .raw = fake_reply(500, "text/plain", "trouble") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    offers(TRY("att"), "attach\n");
    offers(TRY("artifacts", ""), "ls\nget\n");
    offers(TRY("data", "p"), "put\n");
    offers(TRY("show", ""), "@last\nfirst_2\nother_1\n");
    offers(TRY("show", "other_1", "fi"), "first_2\n");
    offers(TRY("ps", "--stat"), "--state\n");
    offers(TRY("ps", "--state", "Ca"), "CancelRequested\nCanceled\n");
    offers(TRY("ps", "-s", "Qu"), "Queued\n");
    offers(TRY("run", "--target", ""), "box\n");
    offers(TRY("run", "--target", "box", "--cp"), "--cpus\n");
    offers(TRY("run", "--target", "box", "--", "python3", "--cp"), "@files\n");
    offers(TRY("run", "python3", "tr"), "@files\n");
    offers(TRY("submit", "--dir", ""), "@files\n");
    offers(TRY("target", "show", "b"), "box\n");
    offers(TRY("data", "rm", ""), "sets\nblobs\n");
    offers(TRY("data", "ls", "s"), "sets\n");
    offers(TRY("data", "add", "new", "--root", ""), "@files\n");
    offers(TRY("secret", "get", ""), "key\n");
    offers(TRY("ps", "--experiment", ""), ""); /* the service is in trouble */
    offers(TRY("nonsense", ""), "");
    offers(TRY("version", ""), "");
    fake_stop(f);
}

static void test_scripts(void **state)
{
    static const char *const shells[][2] = { { "bash", "complete -F _trainyard trainyard\n" },
                                             { "zsh", "#compdef trainyard\n" },
                                             { "fish", "complete -c trainyard " } };
    struct captured c;

    (void)state;
    for (int i = 0; i < 3; i++) {
        c = CAPTURE(NULL, "completion", shells[i][0]);
        assert_int_equal(c.code, 0);
        assert_non_null(strstr(c.out, shells[i][1]));
        assert_non_null(strstr(c.out, "trainyard completion words"));
        captured_done(&c);
    }
    c = CAPTURE(NULL, "completion", "tcsh");
    assert_int_equal(c.code, 2);
    assert_non_null(strstr(c.err, "there are bash, zsh and fish"));
    captured_done(&c);
    c = CAPTURE("/no/such/folder", "completion", "words", "show",
                "fi"); /* no daemon, and none is started */
    offers(c, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_scripts),
    };

    return cmocka_run_group_tests_name("cmd_completion", tests, NULL, NULL);
}
