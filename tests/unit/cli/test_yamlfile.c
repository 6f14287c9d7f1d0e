/* test_yamlfile.c - what conda files are made of, as JSON */
#include "base/cleanup.h"
#include "base/error.h"
#include "cli/yamlfile.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_reads(void **state)
{
    static const struct {
        const char *text, *json;
    } cases[] = {
        { "", "{}" },
        { "# nothing\n", "{}" },
        { "name: a\nversion: 3.10\nnone: ~\nempty:\ntold: 'null'\n",
          "{\"name\":\"a\",\"version\":\"3.10\",\"none\":null,\"empty\":null,\"told\":\"null\"}" },
        { "---\nlist:\n- a=1\n- pip:\n  - b>=2 # why\n  - 'c[d]'\nflow: [x, {y: z}]\n",
          "{\"list\":[\"a=1\",{\"pip\":[\"b>=2\",\"c[d]\"]}],\"flow\":[\"x\",{\"y\":\"z\"}]}" },
        { "text: |\n  one\n  two\n", "{\"text\":\"one\\ntwo\\n\"}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_JSON json_t *got = NULL, *want = json_loads(cases[i].json, 0, NULL);
        struct ty_error err = { 0 };

        if (ty_yaml_parse(cases[i].text, strlen(cases[i].text), "f", &got, &err) < 0)
            fail_msg("%s", err.text);
        assert_true(json_equal(got, want));
    }
}

static void test_refuses(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        { "- a\n- b\n", "f cannot be read: line 1: it does not hold 'key: value'" },
        { "a: &x 1\n", "line 1: anchors and tags" },
        { "a: 1\nb: *x\n", "line 2: aliases" },
        { "a: !int 1\n", "anchors and tags" },
        { "a: 1\na: 2\n", "line 2: a key is there twice" },
        { "[a]: 1\n", "a key is not a text" },
        { "a: [1, 2\n", "line " },
        { "a: 1\n---\nb: 2\n", "second document" },
        { "a: \"x\n", "line " },
        { "\x01: 1\n", "line " },
        { "a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
          "nested too deeply" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *got = NULL;
        struct ty_error err = { 0 };

        assert_int_equal(ty_yaml_parse(cases[i].text, strlen(cases[i].text), "f", &got, &err),
                         -EINVAL);
        if (!strstr(err.text, cases[i].why))
            fail_msg("'%s' gives: %s", cases[i].text, err.text);
        assert_null(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_reads),
                                        cmocka_unit_test(test_refuses) };

    return cmocka_run_group_tests_name("yamlfile", tests, NULL, NULL);
}
