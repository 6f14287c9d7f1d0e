#include "base/clock.h"
#include "tests.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void test_iso(void **state)
{
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        { 0, "1970-01-01T00:00:00.000000Z" },
        { 1, "1970-01-01T00:00:00.000001Z" },
        { -1, "1969-12-31T23:59:59.999999Z" },
        { INT64_C(1795434723123456), "2026-11-23T11:52:03.123456Z" },
        { INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z" },
        { INT64_MAX, "0000-00-00T00:00:00.000000Z" },
        { INT64_MIN, "0000-00-00T00:00:00.000000Z" },
    };
    char buf[32];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(ty_time_iso(cases[i].us, buf), cases[i].text);
}

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "1969-12-31T23:59:59.999999Z", -1 },
        { "2026-11-23T11:52:03.123456Z", INT64_C(1795434723123456) },
        { "2026-11-23 12:52:03.5+01:00", INT64_C(1795434723500000) },
        { "2026-11-23T06:22:03-0530", INT64_C(1795434723000000) },
        { "2026-11-23T11:52Z", INT64_C(1795434720000000) },
        { "2000-02-29T00:00:00.0000009Z", INT64_C(951782400000000) },
        { "2016-12-31T23:59:60Z", INT64_C(1483228800000000) },
    };
    static const char *const bad[] = {
        "",
        "now",
        "2026",
        "2026-11",
        "2026-13-01T00:00Z",
        "2026-02-30T00:00Z",
        "2026-00-01T00:00Z",
        "2026-11-00T00:00Z",
        "2026-11-23T",
        "2026-11-23Z",
        "2026-11-23T24:00Z",
        "2026-11-23T11Z",
        "2026-11-23T11:60Z",
        "2026-11-23T11:52:61Z",
        "2026-11-23T11:52:03.Z",
        "2026-11-23T11:52:03+1",
        "2026-11-23T11:52:03+01:60",
        "2026-11-23T11:52:03ZZ",
        " 2026-11-23T11:52Z",
        "26-11-23T11:52Z",
        "2026-11-23T11:52:03 Z",
    };
    int64_t us = 7;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ty_time_parse(good[i].text, false, &us), 0);
        assert_int_equal(us, good[i].us);
    }
    us = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_time_parse(bad[i], true, &us), -EINVAL);
    assert_int_equal(ty_time_parse("2026-11-23T11:52:03", false, &us), -EINVAL);
    assert_int_equal(ty_time_parse("2026-11-23", false, &us), -EINVAL);
    assert_int_equal(us, 7);
}

static void test_local_time(void **state)
{
    int64_t us;

    (void)state;
    setenv("TZ", "TEST-2", 1); /* two hours east */
    tzset();
    assert_int_equal(ty_time_parse("2026-11-23T13:52:03", true, &us), 0);
    assert_int_equal(us, INT64_C(1795434723000000));
    assert_int_equal(ty_time_parse("2026-11-23", true, &us), 0);
    assert_int_equal(us, INT64_C(1795384800000000));
    assert_int_equal(ty_time_parse("2026-11-23T11:52:03Z", true, &us), 0);
    assert_int_equal(us, INT64_C(1795434723000000));
}

static void test_clocks(void **state)
{
    int64_t wall = ty_wall_us(), mono = ty_mono_us();

    (void)state;
    assert_true(wall > INT64_C(1600000000000000) && wall < INT64_C(4000000000000000));
    assert_true(ty_mono_us() >= mono && mono > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_iso), cmocka_unit_test(test_parse),
                                        cmocka_unit_test(test_local_time),
                                        cmocka_unit_test(test_clocks) };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
