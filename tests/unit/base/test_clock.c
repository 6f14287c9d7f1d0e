#include "base/clock.h"
#include "tests.h"

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

static void test_clocks(void **state)
{
    int64_t wall = ty_wall_us(), mono = ty_mono_us();

    (void)state;
    assert_true(wall > INT64_C(1600000000000000) && wall < INT64_C(4000000000000000));
    assert_true(ty_mono_us() >= mono && mono > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_iso), cmocka_unit_test(test_clocks) };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
