#include "base/fault.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>

static void test_growing(void **state)
{
    struct ty_str s = { 0 };
    char *text;

    (void)state;
    text = ty_str_take(&s);
    assert_string_equal(text, "");
    free(text);
    for (int i = 0; i < 1000; i++)
        ty_str_addf(&s, "%d,", i);
    assert_int_equal(s.len, 3890);
    assert_int_equal(strlen(s.text), 3890);
    assert_true(ty_starts_with(s.text, "0,1,2,") && ty_ends_with(s.text, ",998,999,"));
    ty_str_addn(&s, "a\0b", 3);
    assert_int_equal(s.len, 3893);
    text = ty_str_take(&s);
    assert_null(s.text);
    assert_int_equal(s.len, 0);
    assert_memory_equal(text + 3890, "a\0b", 4);
    free(text);
}

static void test_failure_is_sticky(void **state)
{
#ifdef TY_FAULTS
    struct ty_str s = { 0 };

    (void)state;
    ty_fault_arm("str.alloc", 2, ENOMEM);
    for (int i = 0; i < 20; i++)
        ty_str_add(&s, "0123456789");
    assert_true(s.failed);
    assert_int_equal(s.len, 60);
    assert_null(ty_str_take(&s));
    assert_false(s.failed);
    ty_fault_arm("str.alloc", 1, ENOMEM);
    assert_null(ty_strf("%d", 1));
    ty_fault_arm(NULL, 0, 0);
#else
    struct ty_str s = { .failed = true };

    (void)state;
    ty_str_add(&s, "x");
    ty_str_addf(&s, "%d", 1);
    assert_null(ty_str_take(&s));
#endif
}

static void json(const char *in, size_t n, const char *out)
{
    struct ty_str s = { 0 };

    ty_str_add_json(&s, in, n);
    assert_string_equal(s.text, out);
    ty_str_done(&s);
}

static void test_json(void **state)
{
    (void)state;
    json("", 0, "\"\"");
    json("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
    json("\n\t\r\b\f\x01\x1f\x7f", 8, "\"\\n\\t\\r\\b\\f\\u0001\\u001f\x7f\"");
    json("a\0b", 3, "\"a\\u0000b\"");
    json("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
    json("x\xff\xc3y\xc3", 5, "\"x\xef\xbf\xbd\xef\xbf\xbdy\xef\xbf\xbd\"");
    json("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void test_utf8(void **state)
{
    static const char *const bad[] = {
        "\x80", "\xc0\xaf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "\xf5", "\xe2\x82", "a\xc3"
    };
    static const char euro[] = "a\xe2\x82\xac";

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ty_utf8_valid(bad[i], strlen(bad[i])));
    assert_true(ty_utf8_valid(euro, 4) && ty_utf8_valid("\xf0\x9f\x98\x80", 4) &&
                ty_utf8_valid("", 0));
    assert_int_equal(ty_utf8_whole(euro, 4), 4);
    assert_int_equal(ty_utf8_whole(euro, 3), 1);
    assert_int_equal(ty_utf8_whole(euro, 2), 1);
    assert_int_equal(ty_utf8_whole(euro, 1), 1);
    assert_int_equal(ty_utf8_whole("", 0), 0);
    assert_int_equal(ty_utf8_whole("\xf0\x9f\x98", 3), 0);
    assert_int_equal(ty_utf8_whole("\x80\x80\x80\x80", 4), 4);
}

static void test_url(void **state)
{
    static const char *const bad[] = { "%", "%4", "%zz", "a%00b", "%4g" };
    struct ty_str s = { 0 };
    char text[32];

    (void)state;
    ty_str_add_url(&s, "a b/\xc3\xa4?+%~", true);
    assert_string_equal(s.text, "a%20b/%C3%A4%3F%2B%25~");
    assert_int_equal(ty_url_decode(s.text), 0);
    assert_string_equal(s.text, "a b/\xc3\xa4?+%~");
    ty_str_done(&s);
    ty_str_add_url(&s, "a/b", false);
    assert_string_equal(s.text, "a%2Fb");
    ty_str_done(&s);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "%s", bad[i]);
        assert_int_equal(ty_url_decode(text), -EINVAL);
    }
}

static void test_base64(void **state)
{
    static const char *const pairs[][2] = {
        { "", "" },        { "f", "Zg==" },          { "fo", "Zm8=" },
        { "foo", "Zm9v" }, { "foobar", "Zm9vYmFy" }, { "\xff\xfe\xfd\xfc", "//79/A==" }
    };

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct ty_str s = { 0 };

        ty_str_add_base64(&s, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(s.text ? s.text : "", pairs[i][1]);
        ty_str_done(&s);
    }
}

static void test_numbers(void **state)
{
    static const char *const bad[] = { "", "-", "+1", " 1", "1 ", "0x1", "1.0", "--1" };
    int64_t n = 77;

    (void)state;
    assert_int_equal(ty_parse_i64("0", &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(ty_parse_i64("-9223372036854775808", &n), 0);
    assert_true(n == INT64_MIN);
    assert_int_equal(ty_parse_i64("9223372036854775807", &n), 0);
    assert_true(n == INT64_MAX);
    assert_int_equal(ty_parse_i64("9223372036854775808", &n), -ERANGE);
    assert_int_equal(ty_parse_i64("-9223372036854775809", &n), -ERANGE);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_parse_i64(bad[i], &n), -EINVAL);
    assert_true(n == INT64_MAX);
}

static void test_bytes(void **state)
{
    static const struct {
        const char *text;
        uint64_t n;
        const char *shown;
    } good[] = {
        { "0", 0, "0 B" },
        { "999", 999, "999 B" },
        { "1k", 1000, "1.0 kB" },
        { "300MB", 300000000, "300.0 MB" },
        { "1.5GiB", 1610612736, "1.6 GB" },
        { "1024B", 1024, "1.0 kB" },
        { "12.3 MB", 12300000, "12.3 MB" },
        { "2KiB", 2048, "2.0 kB" },
        { "1TB", 1000000000000, "1.0 TB" },
        { "999999", 999999, "1.0 MB" },
        { "18446744073709551615", UINT64_MAX, "18.4 EB" },
    };
    static const char *const bad[] = { "",     "x",    "-1",   "1X",  "1.MB",
                                       ".5MB", "1  B", "1MBs", "1e3", "MB" };
    char buf[16];
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ty_parse_bytes(good[i].text, &n), 0);
        assert_true(n == good[i].n);
        assert_string_equal(ty_show_bytes(n, buf), good[i].shown);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_parse_bytes(bad[i], &n), -EINVAL);
    assert_int_equal(ty_parse_bytes("18446744073709551616", &n), -ERANGE);
    assert_int_equal(ty_parse_bytes("99999999999TB", &n), -ERANGE);
}

static void test_nearest(void **state)
{
    static const char *const words[] = { "show", "submit", "status", "ps", NULL };

    (void)state;
    assert_string_equal(ty_nearest("shwo", words), "show");
    assert_string_equal(ty_nearest("sumbit", words), "submit");
    assert_string_equal(ty_nearest("statuss", words), "status");
    assert_null(ty_nearest("frobnicate", words));
    assert_null(ty_nearest("xy", words));
    assert_null(ty_nearest("", words));
    assert_null(ty_nearest(
        "a-word-that-is-much-longer-than-any-command-will-ever-be-in-this-program", words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growing), cmocka_unit_test(test_failure_is_sticky),
        cmocka_unit_test(test_json),    cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_url),     cmocka_unit_test(test_base64),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_nearest),
    };

    return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
