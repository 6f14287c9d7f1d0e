/* test_openapi.c - the description covers every route, and its references lead somewhere */
#include "http/request.h"
#include "kit.h"
#include <ctype.h>
#include <string.h>

static json_t *document(void)
{
    CLEANUP_FREE char *text = NULL;
    size_t n = 0;
    json_t *doc;

    assert_int_equal(openapi_make(&text, &n, NULL), 0);
    doc = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(doc);
    return doc;
}

static json_t *operation_of(const json_t *doc, const struct ty_route *r)
{
    char path[128], method[16];
    size_t n = 0;

    for (const char *p = r->path; *p; p++)
        if (*p != '+')
            path[n++] = *p;
    path[n] = '\0';
    for (n = 0; r->method[n]; n++)
        method[n] = (char)tolower((unsigned char)r->method[n]);
    method[n] = '\0';
    return json_object_get(json_object_get(json_object_get(doc, "paths"), path), method);
}

static void test_routes(void **state)
{
    CLEANUP_JSON json_t *doc = document();

    (void)state;
    for (int i = 0; i < TY_ROUTE_COUNT; i++) {
        const json_t *o = operation_of(doc, &ty_routes[i]);

        if (!o)
            fail_msg("%s is not described", ty_routes[i].name);
        assert_string_equal(json_string_value(json_object_get(o, "operationId")),
                            ty_routes[i].name);
        assert_int_equal(!!json_object_get(o, "requestBody"), ty_routes[i].in != TY_SCHEMA_NONE);
    }
}

static bool has_param(const json_t *operation, const char *name, const char *where)
{
    const json_t *p;
    size_t i;

    json_array_foreach (json_object_get(operation, "parameters"), i, p)
        if (strcmp(json_string_value(json_object_get(p, "name")), name) == 0)
            return strcmp(json_string_value(json_object_get(p, "in")), where) == 0;
    return false;
}

static void test_parameters(void **state)
{
    CLEANUP_JSON json_t *doc = document();
    const json_t *get = operation_of(doc, &ty_routes[TY_ROUTE_file_get]);

    (void)state;
    assert_true(has_param(get, "run", "path"));
    assert_true(has_param(get, "path", "path"));
    for (int i = 0; param_rule(i); i++)
        assert_true(has_param(operation_of(doc, &ty_routes[param_rule(i)->route]),
                              param_rule(i)->name, "query"));
}

static void check_refs(const json_t *doc, const json_t *node)
{
    const char *ref = json_string_value(json_object_get(node, "$ref")), *key;
    json_t *value;
    size_t i;

    if (ref && !json_object_get(json_object_get(json_object_get(doc, "components"), "schemas"),
                                strrchr(ref, '/') + 1))
        fail_msg("%s leads nowhere", ref);
    json_object_foreach ((json_t *)node, key, value)
        check_refs(doc, value);
    json_array_foreach (node, i, value)
        check_refs(doc, value);
}

static void test_references(void **state)
{
    CLEANUP_JSON json_t *doc = document();

    (void)state;
    check_refs(doc, doc);
    assert_non_null(
        json_object_get(json_object_get(json_object_get(doc, "components"), "schemas"), "run"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_routes),
                                        cmocka_unit_test(test_parameters),
                                        cmocka_unit_test(test_references) };

    return cmocka_run_group_tests_name("openapi", tests, NULL, NULL);
}
