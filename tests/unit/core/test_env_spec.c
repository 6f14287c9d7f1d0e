/* test_env_spec.c - environments as they are asked for, and the form by which equal ones are known */
#include "base/error.h"
#include "core/env_spec.h"
#include "tests.h"

static struct ty_env_spec *parse(const char *text, json_t **keep)
{
    struct ty_env_spec *s = NULL;
    struct ty_error err = { 0 };

    *keep = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(*keep);
    if (ty_env_spec_parse(*keep, &s, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return s;
}

static void expect_refused(const char *text, const char *part)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    struct ty_env_spec *s = NULL;
    struct ty_error err = { 0 };

    assert_non_null(json);
    assert_int_equal(ty_env_spec_parse(json, &s, &err), -EINVAL);
    assert_null(s);
    if (!strstr(err.text, part))
        fail_msg("%s: '%s' lacks '%s'", text, err.text, part);
    json_decref(json);
}

static void test_nothing_is_asked_for(void **state)
{
    struct ty_env_spec *s = NULL;
    struct ty_error err = { 0 };
    json_t *json;

    (void)state;
    assert_int_equal(ty_env_spec_parse(NULL, &s, &err), 0);
    assert_true(ty_env_spec_is_empty(s));
    assert_null(s->pip[0]);
    assert_null(s->image_arguments[0]);
    ty_env_spec_free(s);
    s = parse(
        "{\"name\": \"mine\", \"conda\": null, \"pip\": {\"index_url\": \"http://a/simple\"}}",
        &json);
    assert_true(ty_env_spec_is_empty(s));
    assert_string_equal(s->name, "mine");
    ty_env_spec_free(s);
    json_decref(json);
    ty_env_spec_free(NULL);
}

static void test_all_keys(void **state)
{
    json_t *json;
    struct ty_env_spec *s = parse(
        "{\"name\": \"n\", \"version\": \"3\", \"python\": \"3.8\", \"torch\": \"\", \"torchvision\": \"0.14\","
        " \"conda\": {\"packages\": [\"numpy=1.24\"], \"channels\": [\"file:///c\", \"conda-forge\"]},"
        " \"pip\": {\"packages\": [\"a>=1\"], \"index_url\": \"http://i\", \"extra_index_urls\": [\"http://e\"],"
        "  \"find_links\": [\"/w\"], \"constraints\": [\"b<2\"], \"pre\": true}, \"user_managed\": true,"
        " \"image\": {\"name\": \"team/torch:2\", \"user\": \"u\", \"password_secret\": \"p\", \"shm_size\": \"2g\","
        "  \"arguments\": [\"--cap-add\", \"SYS_NICE\"]}}",
        &json);

    (void)state;
    assert_string_equal(s->python, "3.8");
    assert_string_equal(s->torch, "");
    assert_string_equal(s->torchvision, "0.14");
    assert_string_equal(s->conda[0], "numpy=1.24");
    assert_string_equal(s->channels[1], "conda-forge");
    assert_string_equal(s->pip[0], "a>=1");
    assert_string_equal(s->index_url, "http://i");
    assert_string_equal(s->extra_index_urls[0], "http://e");
    assert_string_equal(s->find_links[0], "/w");
    assert_string_equal(s->constraints[0], "b<2");
    assert_true(s->pre && s->user_managed);
    assert_int_equal(s->view, TY_VIEW_IMAGE);
    assert_string_equal(s->image_secret, "p");
    assert_true(s->shm_bytes == 2LL << 30);
    assert_string_equal(s->image_arguments[0], "--cap-add");
    assert_false(ty_env_spec_is_empty(s));
    ty_env_spec_free(s);
    json_decref(json);
}

static void test_sizes_as_docker_has_them(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = { { "64m", 64LL << 20 }, { "64M", 64LL << 20 }, { "64mb", 64LL << 20 },
                  { "1g", 1LL << 30 },   { "1GB", 1LL << 30 },  { "8k", 8 << 10 },
                  { "4096", 4096 },      { "4096b", 4096 },     { "2gb", 2LL << 30 } };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        json_t *json;
        struct ty_env_spec *s;

        snprintf(text, sizeof text, "{\"image\": {\"name\": \"i\", \"shm_size\": \"%s\"}}",
                 cases[i].text);
        s = parse(text, &json);
        if (s->shm_bytes != cases[i].bytes)
            fail_msg("%s gave %lld", cases[i].text, (long long)s->shm_bytes);
        ty_env_spec_free(s);
        json_decref(json);
    }
    expect_refused("{\"image\": {\"name\": \"i\", \"shm_size\": \"much\"}}", "shm_size 'much'");
    expect_refused("{\"image\": {\"name\": \"i\", \"shm_size\": \"0\"}}", "shm_size '0'");
}

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static void test_what_is_refused(void **state)
{
    (void)state;
    expect_refused("[]", "not an object");
    expect_refused("{\"packages\": []}", "packages");
    expect_refused("{\"pip\": {\"packages\": \"a\"}}", "not a list");
    expect_refused("{\"pip\": {\"packages\": [1]}}", "entry 1");
    expect_refused("{\"pip\": {\"packages\": [\"a\", \"--index-url=http://evil\"]}}",
                   "begins with '-'");
    expect_refused("{\"pip\": {\"packages\": [\"a\\nb\"]}}", "line break");
    expect_refused("{\"pip\": {\"packages\": [\"\"]}}", "1 to 65536");
    expect_refused("{\"conda\": {\"packages\": [\"\"]}}", "1 to 4096");
    expect_refused("{\"pip\": {\"packages\": [\"a==1 --index-url=http://evil\"]}}",
                   "'--index-url=http://evil' is no hash");
    expect_refused("{\"pip\": {\"packages\": [\"a==1 -i http://evil\"]}}", "'-i' is no hash");
    expect_refused("{\"pip\": {\"packages\": [\"a==1 --hash=sha256:00\"]}}", "is no hash");
    expect_refused("{\"pip\": {\"constraints\": [\"a==1 --hash=sha256:" ZEROS " b\"]}}",
                   "'b' is no hash");
    expect_refused("{\"conda\": {\"channels\": [\"-c\"]}}", "begins with '-'");
    expect_refused("{\"conda\": {\"pip\": []}}", "pip");
    expect_refused("{\"python\": \"3.8; rm\"}", "no version");
    expect_refused("{\"torch\": \"a/b\"}", "no version");
    expect_refused("{\"image\": {}}", "no 'name'");
    expect_refused("{\"image\": {\"name\": \"a b\"}}", "name of an image");
    expect_refused("{\"image\": {\"name\": \"a\", \"user\": \"u\"}}", "together");
    expect_refused("{\"image\": {\"name\": \"a\"}, \"sandbox\": true}", "sandbox");
    expect_refused("{\"user_managed\": true, \"lock\": {}}", "contradict");
}

static char *canonical(const char *text)
{
    json_t *json;
    struct ty_env_spec *s = parse(text, &json);
    char *c = ty_env_spec_canonical(s);

    assert_non_null(c);
    ty_env_spec_free(s);
    json_decref(json);
    return c;
}

static void expect_alike(const char *a, const char *b, bool alike)
{
    char *x = canonical(a), *y = canonical(b);

    if ((strcmp(x, y) == 0) != alike)
        fail_msg("%s\n%s", x, y);
    free(x);
    free(y);
}

static void test_the_canonical_form(void **state)
{
    char *c = canonical(
        "{\"pip\": {\"packages\": [\"Zope.Interface >= 5\", \"A__b[x]==1 ; python_version < '4'\"]}}");

    (void)state;
    assert_string_equal(c, "{\"pip\":[\"a-b[x]==1; python_version < '4'\",\"zope-interface>=5\"]}");
    free(c);
    expect_alike("{\"pip\": {\"packages\": [\"b\", \"a\", \"b\"]}}",
                 "{\"pip\": {\"packages\": [\"A\", \"b\"]}}", true);
    expect_alike("{\"name\": \"x\", \"pip\": {\"packages\": [\"a\"]}}",
                 "{\"pip\": {\"packages\": [\"a\"]}}", true);
    expect_alike("{\"pip\": {\"packages\": [\"a==1\"]}}", "{\"pip\": {\"packages\": [\"a==1.0\"]}}",
                 false);
    expect_alike("{\"conda\": {\"channels\": [\"a\", \"b\"]}}",
                 "{\"conda\": {\"channels\": [\"b\", \"a\"]}}", false);
    expect_alike("{\"pip\": {\"packages\": [\"P @ http://h/P.whl\"]}}",
                 "{\"pip\": {\"packages\": [\"P @ http://h/p.whl\"]}}", false);
    expect_alike("{\"pip\": {\"packages\": [\"a == 1 --hash=sha256:" ZEROS "\"]}}",
                 "{\"pip\": {\"packages\": [\"A==1 --hash=sha256:" ZEROS "\"]}}", true);
    expect_alike("{\"pip\": {\"packages\": [\"a==1 --hash=sha256:" ZEROS "\"]}}",
                 "{\"pip\": {\"packages\": [\"a==1\"]}}", false);
    expect_alike("{\"sandbox\": true}", "{}", true);
    expect_alike("{\"image\": {\"name\": \"a\", \"shm_size\": \"1g\"}}",
                 "{\"image\": {\"name\": \"a\"}}", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_asked_for),     cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_sizes_as_docker_has_them), cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_the_canonical_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
