/* test_object.c - what is the same for all object stores */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "data/http.h"
#include "data/object.h"
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static struct ty_object_store store = { .kind = &ty_s3, .where = (char *)"bucket 'b'" };

static void test_paths(void **state)
{
    static const char *const good[] = { "a", "a/b", "a b", "..a", "\xe6\x97\xa5" };
    static const char *const bad[] = { "",   "/a",     "a/",   "a//b",  ".",
                                       "..", "a/../b", "a\nb", "a\x7f", "\xff" };
    struct ty_error err;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(ty_object_path_check(good[i], &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_object_path_check(bad[i], &err), -EINVAL);
    ty_object_path_check("a\nb", &err);
    assert_non_null(strstr(err.text, "\"a\\nb\" cannot be the path")); /* shown in one line */
}

static void test_open(void **state)
{
    static const char *const bad[] = { "{}", "{\"name\":\"d\",\"kind\":\"tape\",\"config\":{}}",
                                       "{\"name\":\"d\",\"kind\":\"s3\"}",
                                       "{\"name\":\"d\",\"kind\":\"s3\",\"config\":{}}" };
    static const char *const says[] = { "kind ''", "kind 'tape'", "no \"config\"",
                                        "datastore 'd': there is no \"bucket\"" };
    struct ty_object_store *s = NULL;
    struct ty_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_JSON json_t *j = json_loads(bad[i], 0, NULL);

        assert_int_equal(ty_object_open(j, &s, &err), -EINVAL);
        assert_non_null(strstr(err.text, says[i]));
    }
    assert_null(ty_object_kind_of("file"));
    assert_ptr_equal(ty_object_kind_of("s3"), &ty_s3);
    assert_null(ty_object_close(NULL));
}

static void test_pauses(void **state)
{
    (void)state;
    unsetenv("TRAINYARD_TEST_RETRY_MS");
    for (unsigned tries = 1; tries < 40; tries++) {
        int ms = ty_object_pause_ms(tries, 0), full = tries > 6 ? 20000 : 500 << (tries - 1);

        if (full > 20000)
            full = 20000;
        assert_true(ms >= full - full / 10 && ms <= full + full / 10 + 1);
    }
    assert_int_equal(ty_object_pause_ms(1, 60000), 60000); /* what the store asks for */
    setenv("TRAINYARD_TEST_RETRY_MS", "2", 1);
    assert_true(ty_object_pause_ms(1, 0) <= 2);
    unsetenv("TRAINYARD_TEST_RETRY_MS");
}

static void test_clock(void **state)
{
    struct ty_http_req r = { 0 };
    struct ty_error err;
    char date[64];
    time_t now = time(NULL);
    struct tm tm;

    (void)state;
    gmtime_r(&now, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    assert_int_equal(ty_object_judge_clock(&store, &r, "list", NULL, NULL, &err), 0);
    assert_int_equal(ty_object_judge_clock(&store, &r, "list", NULL, date, &err), 0);
    assert_int_equal(ty_object_judge_clock(&store, &r, "list", NULL, "nonsense", &err), 0);
    setenv("TRAINYARD_TEST_CLOCK_SHIFT", "-1200", 1);
    assert_int_equal(ty_object_judge_clock(&store, &r, "list", NULL, date, &err), -ETIME);
    assert_non_null(strstr(err.text, "cannot list bucket 'b': the clock of this machine says 20"));
    assert_int_equal(ty_object_judge_clock(&store, &r, "upload", "x", "2013-05-24T00:00:00Z", &err),
                     -ETIME);
    assert_non_null(strstr(err.text, "that of the store 2013-05-24T00:00:00Z"));
    assert_non_null(strstr(err.text, "cannot upload 'x' in bucket 'b'"));
    unsetenv("TRAINYARD_TEST_CLOCK_SHIFT");
}

static void test_results(void **state)
{
    static const struct {
        int result, again;
    } cases[] = { { -ECONNREFUSED, 0 },  { -ECONNRESET, 0 },    { -ETIMEDOUT, 0 },
                  { -EHOSTUNREACH, -1 }, { -EKEYREJECTED, -1 }, { -ENOSPC, -1 } };
    struct ty_error err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_http_req r = { .result = cases[i].result, .why = "because" };
        int again = 7;

        assert_int_equal(ty_object_judge_result(&store, &r, "upload", "x", &again, &err),
                         cases[i].result);
        assert_int_equal(again, cases[i].again);
        assert_string_equal(err.text, "cannot upload 'x' in bucket 'b': because");
    }
}

/* A core file of who moves data would have the key in it. */
static void test_no_core(void **state)
{
    CLEANUP_JSON json_t *access =
        json_pack("{s:s s:s s:{s:s}}", "name", "d", "kind", "s3", "config", "bucket", "open");
    struct ty_object_store *opened = NULL;
    struct ty_error err = { 0 };
    struct rlimit now;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_CORE, &now), 0);
    now.rlim_cur = now.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_CORE, &now), 0);
    if (ty_object_open(access, &opened, &err) < 0)
        fail_msg("%s", err.text);
    ty_object_close(opened);
    assert_int_equal(getrlimit(RLIMIT_CORE, &now), 0);
    assert_int_equal(now.rlim_cur, 0);
    assert_int_equal(now.rlim_max, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),   cmocka_unit_test(test_open),
        cmocka_unit_test(test_pauses),  cmocka_unit_test(test_clock),
        cmocka_unit_test(test_results), cmocka_unit_test(test_no_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
