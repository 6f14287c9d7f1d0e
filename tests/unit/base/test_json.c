#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>

static void refused(const char *text, size_t n, const char *word)
{
    struct ty_error err = { 0 };
    json_t *j = NULL;

    assert_int_equal(ty_json_parse(text, n, &j, &err), -EINVAL);
    assert_null(j);
    assert_non_null(strstr(err.text, word));
}

static json_t *parsed(const char *text)
{
    json_t *j = NULL;

    assert_int_equal(ty_json_parse(text, strlen(text), &j, NULL), 0);
    return j;
}

static void test_parse(void **state)
{
    CLEANUP_FREE char *text = NULL, *deep = NULL;
    CLEANUP_JSON json_t *j =
        parsed(" {\"b\": [1, 2.5, null, true], \"a\": {\"x\": \"\\u00e4{[\\\"\"}} ");
    struct ty_str s = { 0 };

    (void)state;
    text = ty_json_text(j);
    assert_string_equal(text, "{\"b\":[1,2.5,null,true],\"a\":{\"x\":\"\xc3\xa4{[\\\"\"}}");
    refused("{\"a\": 1, \"a\": 2}", 16, "duplicate");
    refused("{\"a\":\n 1,}", 10, "line 2, column");
    refused("{\"a\": \"\\u0000\"}", 15, "line 1");
    refused("{\"a\": 1\0}", 9, "NUL");
    refused("{} x", 4, "line 1");
    refused("", 0, "'[' or '{' expected");
    refused("{\"a\": \"\xff\"}", 10, "line 1");
    refused("{\"a\": 99999999999999999999}", 27, "line 1");
    for (int i = 0; i < 65; i++)
        ty_str_add(&s, "[");
    refused(s.text, s.len, "nested");
    for (int i = 0; i < 65; i++)
        ty_str_add(&s, "]");
    deep = ty_str_take(&s);
    json_decref(parsed((deep[129] = 0, deep + 1)));
}

static void test_getters(void **state)
{
    CLEANUP_JSON json_t *o =
        parsed("{\"s\": \"text\", \"n\": 5, \"f\": 1.5, \"t\": true, \"z\": null,"
               " \"env\": {\"A\": \"1\"}, \"mix\": {\"A\": 1}}");
    struct ty_error err = { 0 };
    const char *s = "before";
    json_t *env = NULL;
    int64_t n = -1;
    bool b = false;

    (void)state;
    assert_int_equal(ty_json_get_str(o, "run spec", "s", &s, &err), 0);
    assert_string_equal(s, "text");
    assert_int_equal(ty_json_get_str(o, "run spec", "none", &s, &err), 0);
    assert_int_equal(ty_json_get_str(o, "run spec", "z", &s, &err), 0);
    assert_string_equal(s, "text");
    assert_int_equal(ty_json_get_str(o, "run spec", "n", &s, &err), -EINVAL);
    assert_string_equal(err.text, "run spec: 'n' must be a string, not a whole number");
    assert_int_equal(ty_json_get_i64(o, "run spec", "n", 5, 5, &n, &err), 0);
    assert_int_equal(n, 5);
    assert_int_equal(ty_json_get_i64(o, "run spec", "n", 6, 9, &n, &err), -EINVAL);
    assert_string_equal(err.text, "run spec: 'n' must be at least 6, not 5");
    assert_int_equal(ty_json_get_i64(o, "run spec", "n", 0, 4, &n, &err), -EINVAL);
    assert_string_equal(err.text, "run spec: 'n' must be at most 4, not 5");
    assert_int_equal(ty_json_get_i64(o, "run spec", "f", 0, 4, &n, &err), -EINVAL);
    assert_int_equal(ty_json_get_bool(o, "run spec", "t", &b, &err), 0);
    assert_true(b);
    assert_int_equal(ty_json_get_bool(o, "run spec", "n", &b, &err), -EINVAL);
    assert_int_equal(ty_json_get_strings(o, "run spec", "env", &env, &err), 0);
    assert_ptr_equal(env, json_object_get(o, "env"));
    assert_int_equal(ty_json_get_strings(o, "run spec", "mix", &env, &err), -EINVAL);
    assert_non_null(strstr(err.text, "'A' in 'mix'"));
    assert_int_equal(ty_json_get_strings(o, "run spec", "s", &env, &err), -EINVAL);
}

static void test_only(void **state)
{
    static const char *const known[] = { "name", "target", NULL };
    CLEANUP_JSON json_t *good = parsed("{\"target\": 1}"), *near = parsed("{\"taget\": 1}"),
                        *far = parsed("{\"other\": 1}"), *list = parsed("[1]");
    struct ty_error err = { 0 };
    bool b;

    (void)state;
    assert_int_equal(ty_json_only(good, "run spec", known, &err), 0);
    assert_int_equal(ty_json_only(near, "run spec", known, &err), -EINVAL);
    assert_string_equal(err.text, "run spec: there is no key 'taget'; did you mean 'target'?");
    assert_int_equal(ty_json_only(far, "run spec", known, &err), -EINVAL);
    assert_string_equal(err.text, "run spec: there is no key 'other'; it knows name, target");
    assert_int_equal(ty_json_only(list, "run spec", known, &err), -EINVAL);
    assert_string_equal(err.text, "run spec must be a JSON object, not an array");
    assert_int_equal(ty_json_get_bool(NULL, "run spec", "x", &b, &err), -EINVAL);
}

static int shout(const char *text, json_t **instead, void *ctx)
{
    if (++*(int *)ctx > 5)
        return -E2BIG;
    *instead = *text == 'a' ? json_string("A") : NULL;
    return 0;
}

static void test_each_text(void **state)
{
    const char text[] = "{\"x\":[\"a\",1,\"b\",{\"y\":\"a\",\"not\":[\"a\"]}],\"z\":\"a\"}";
    CLEANUP_JSON json_t *o = json_loads(text, 0, NULL);
    CLEANUP_FREE char *after = NULL;
    int n = 0;

    (void)state;
    assert_int_equal(ty_json_each_text(o, "not", shout, &n), 0);
    assert_int_equal(n, 4);
    after = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(after, "{\"x\":[\"A\",1,\"b\",{\"not\":[\"a\"],\"y\":\"A\"}],\"z\":\"A\"}");
    assert_int_equal(ty_json_each_text(o, NULL, shout, &n), -E2BIG);
    assert_int_equal(n, 6);
    assert_int_equal(ty_json_each_text(NULL, NULL, shout, &n), 0);
}

#ifdef TY_FAULTS
/* A library that fails: no text is read half, and nothing is left in the result. */
static void test_failures(void **state)
{
    CLEANUP_JSON json_t *good = parsed("{\"a\": [1]}");
    CLEANUP_FREE char *text = NULL;
    struct ty_error err = { 0 };
    json_t *j = NULL;

    (void)state;
    ty_fault_arm("json.parse", 1, ENOMEM);
    assert_int_equal(ty_json_parse("{}", 2, &j, &err), -EINVAL);
    assert_null(j);
    assert_true(ty_starts_with(err.text, "cannot read the JSON text: line 1, "));
    ty_fault_arm("json.text", 1, ENOMEM);
    assert_null(ty_json_text(good));
    ty_fault_arm(NULL, 0, 0);
    text = ty_json_text(good);
    assert_string_equal(text, "{\"a\":[1]}");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),    cmocka_unit_test(test_getters),
        cmocka_unit_test(test_only),     cmocka_unit_test(test_each_text),
#ifdef TY_FAULTS
        cmocka_unit_test(test_failures),
#endif
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
