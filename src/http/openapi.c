/* openapi.c - /openapi.json: the route table, the table of query parameters and the schemas, told
 * to machines
 *
 * Made once, when the server opens; what it says is what dispatch does, because both come from the
 * same tables.
 */
#include "http/request.h"
#include "http/schemas.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <trainyard/client.h>

/* Bodies that are not JSON. */
static const struct {
    enum ty_schema schema;
    const char *type;
} types[] = {
    { TY_SCHEMA_BYTES, "application/octet-stream" },
    { TY_SCHEMA_ROWS, "application/octet-stream" },
    { TY_SCHEMA_STREAM, "text/event-stream" },
    { TY_SCHEMA_HTML, "text/html" },
    { TY_SCHEMA_PROMETHEUS, "text/plain" },
    { TY_SCHEMA_HASHES, "text/plain" },
    { TY_SCHEMA_MANIFEST, "text/plain" },
};

static const char *const roles[] = {
    [TY_ROLE_READER] = "reader", [TY_ROLE_SUBMITTER] = "submitter", [TY_ROLE_OWNER] = "owner"
};

/* {"content": {type: {"schema": ...}}} */
static json_t *body_json(enum ty_schema s)
{
    CLEANUP_FREE char *ref = ty_strf("#/components/schemas/%s", ty_schema_name(s));

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].schema == s)
            return json_pack("{s:{s:{s:{s:s}}}}", "content", types[i].type, "schema", "type",
                             "string");
    if (s == TY_SCHEMA_OPENAPI)
        return json_pack("{s:{s:{s:{s:s}}}}", "content", "application/json", "schema", "type",
                         "object");
    return ref ? json_pack("{s:{s:{s:{s:s}}}}", "content", "application/json", "schema", "$ref",
                           ref)
               : NULL;
}

static json_t *path_param(const char *name, size_t n)
{
    return json_pack("{s:s% s:s s:b s:{s:s}}", "name", name, n, "in", "path", "required", 1,
                     "schema", "type", "string");
}

static json_t *query_param(const struct param_rule *rule)
{
    json_t *schema = rule->kind == PARAM_TIME
                         ? json_pack("{s:s s:s}", "type", "string", "format", "date-time")
                     : rule->kind == PARAM_TEXT ? json_pack("{s:s}", "type", "string")
                     : rule->kind == PARAM_SWITCH
                         ? json_pack("{s:[ss]}", "enum", "0", "1")
                         : json_pack("{s:s s:I s:I}", "type", "integer", "minimum",
                                     (json_int_t)rule->min, "maximum", (json_int_t)rule->max);

    return json_pack("{s:s s:s s:s s:o}", "name", rule->name, "in", "query", "description",
                     rule->help, "schema", schema);
}

static json_t *params_json(enum ty_route_id id)
{
    json_t *params = json_array();
    const char *open = ty_routes[id].path;

    while (params && (open = strchr(open, '{'))) {
        size_t n = strcspn(++open, "+}");

        json_array_append_new(params, path_param(open, n));
    }
    for (int i = 0; params && param_rule(i); i++)
        if (param_rule(i)->route == id)
            json_array_append_new(params, query_param(param_rule(i)));
    return params;
}

static json_t *responses_json(const struct ty_route *r)
{
    json_t *error =
        json_pack("{s:s s:{s:{s:{s:s}}}}", "description", "Refused: one sentence that says why",
                  "content", "application/json", "schema", "$ref", "#/components/schemas/error");
    json_t *good = r->out == TY_SCHEMA_NONE ? json_object() : body_json(r->out);

    if (good)
        json_object_set_new(good, "description",
                            json_string(r->out == TY_SCHEMA_NONE ? "Done" : "The answer"));
    return json_pack("{s:o s:o}", r->out == TY_SCHEMA_NONE ? "204" : "2XX", good, "default", error);
}

static json_t *operation_json(enum ty_route_id id)
{
    const struct ty_route *r = &ty_routes[id];
    json_t *o =
        json_pack("{s:s s:s s:s s:o s:o}", "operationId", r->name, "summary", r->summary, "x-role",
                  roles[r->role], "parameters", params_json(id), "responses", responses_json(r));
    json_t *body;

    if (o && r->in != TY_SCHEMA_NONE) {
        body = body_json(r->in);
        if (body)
            json_object_set_new(body, "required", json_true());
        json_object_set_new(o, "requestBody", body);
    }
    return o;
}

/* OpenAPI's braces have no '+'. */
static void plain_path(const char *path, char *ret, size_t size)
{
    size_t n = 0;

    for (; *path && n + 1 < size; path++)
        if (*path != '+')
            ret[n++] = *path;
    ret[n] = '\0';
}

static json_t *paths_json(void)
{
    json_t *paths = json_object();

    for (int i = 0; paths && i < TY_ROUTE_COUNT; i++) {
        char path[128], method[16];
        json_t *item;
        size_t n = 0;

        plain_path(ty_routes[i].path, path, sizeof path);
        for (const char *m = ty_routes[i].method; *m && n + 1 < sizeof method; m++)
            method[n++] = (char)tolower((unsigned char)*m);
        method[n] = '\0';
        if (!json_object_get(paths, path))
            json_object_set_new(paths, path, json_object());
        item = json_object_get(paths, path);
        json_object_set_new(item, method, operation_json(i));
    }
    return paths;
}

static json_t *schemas_json(struct ty_error *err)
{
    json_t *schemas = json_object();

    for (const struct schema_text *s = schema_texts; schemas && s->name; s++) {
        json_t *one = NULL;

        if (ty_json_parse(s->json, strlen(s->json), &one, err) < 0) {
            ty_error_prefix(err, "cannot read the schema '%s'", s->name);
            json_decref(schemas);
            return NULL;
        }
        json_object_set_new(schemas, s->name, one);
    }
    if (!schemas)
        ty_error_oom(err);
    return schemas;
}

int openapi_make(char **ret, size_t *n, struct ty_error *err)
{
    CLEANUP_JSON json_t *doc = NULL;
    struct ty_error why = { 0 };
    json_t *schemas = schemas_json(&why);
    char *text;

    if (!schemas)
        return ty_error_set(err, why.code, "%s", why.text);
    doc = json_pack("{s:s s:{s:s s:s s:s} s:o s:{s:o}}", "openapi", "3.1.0", "info", "title",
                    "Trainyard", "version", TY_VERSION, "description",
                    "A training service on machines of your own: docs/spec/http-api.md", "paths",
                    paths_json(), "components", "schemas", schemas);
    text = doc ? ty_json_text(doc) : NULL;
    if (!text)
        return ty_error_oom(err);
    *n = strlen(text);
    *ret = text;
    return 0;
}

int ty_http_openapi_get(struct request *req, struct reply *reply)
{
    struct ty_str copy = { 0 };

    ty_str_addn(&copy, req->http->openapi, req->http->openapi_len);
    return reply_text(reply, "application/json", &copy);
}
