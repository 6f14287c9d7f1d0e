/* test_xml.c - answers of object stores */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/str.h"
#include "data/xml.h"
#include <errno.h>
#include <string.h>

static int add(const char *path, const char *text, void *ctx)
{
    ty_str_addf(ctx, "%s=%s;", path, text);
    return strcmp(text, "stop") == 0 ? -ECANCELED : 0;
}

static int parse(const char *text, struct ty_str *s, struct ty_error *err)
{
    return ty_xml_each(text, strlen(text), add, s, err);
}

static void test_elements(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 };
    struct ty_error err;

    (void)state;
    assert_int_equal(parse("<?xml version=\"1.0\"?><a xmlns=\"http://x/\"><b>1 &amp; 2</b><b/>"
                           "<n:c q=\"1\"><d>&#xe4;</d></n:c></a>",
                           &s, &err),
                     0);
    assert_string_equal(s.text, "a/b=1 & 2;a/b=;a/c/d=\xc3\xa4;a/c=;a=;");
}

static void test_what_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "<a>",
        "<a></b>",
        "nothing",
        "<a>\x01</a>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>x</a></a></a></a></a></a></a></a></a></a>"
        "</a></a></a></a></a></a></a>"
    };
    struct ty_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_STR struct ty_str s = { 0 };

        err.text[0] = '\0';
        assert_int_equal(parse(bad[i], &s, &err), -EINVAL);
        assert_non_null(strstr(err.text, "no XML"));
    }
}

static void test_stop(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 };
    struct ty_error err;

    (void)state;
    assert_int_equal(parse("<a><b>stop</b><b>more</b></a>", &s, &err), -ECANCELED);
    assert_string_equal(s.text, "a/b=stop;");
}

static void test_add(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 };

    (void)state;
    ty_xml_add(&s, "a<b>&\"c\"");
    assert_string_equal(s.text, "a&lt;b&gt;&amp;&quot;c&quot;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
