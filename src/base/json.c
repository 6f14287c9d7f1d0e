/* json.c - jansson, with the checks that input from outside needs */
#include "base/json.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { DEPTH_MAX = 64, KNOWN_SHOWN = 24 };

/* jansson's own bound is far deeper than a stack of ours should go: count the brackets outside strings first. */
static bool too_deep(const char *text, size_t n)
{
    int depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];

        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']'))
            depth--;
        if (depth > DEPTH_MAX)
            return true;
    }
    return false;
}

int ty_json_parse(const char *text, size_t n, json_t **ret, struct ty_error *err)
{
    json_error_t why = { .line = 1 };
    json_t *j;

    if (too_deep(text, n))
        return ty_error_set(err, -EINVAL,
                            "cannot read the JSON text: it is nested more than %d deep", DEPTH_MAX);
    if (n > 0 && memchr(text, 0, n))
        return ty_error_set(err, -EINVAL, "cannot read the JSON text: it holds a NUL byte");
    j = FAULT("json.parse", NULL, json_loadb(text, n, JSON_REJECT_DUPLICATES, &why));
    if (!j && json_error_code(&why) == json_error_out_of_memory)
        return ty_error_oom(err);
    if (!j)
        return ty_error_set(err, -EINVAL, "cannot read the JSON text: line %d, column %d: %s",
                            why.line, why.column, why.text);
    *ret = j;
    return 0;
}

char *ty_json_text(const json_t *j)
{
    return FAULT("json.text", NULL, json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY));
}

/* ---- getters ---- */

static const char *type_word(const json_t *v)
{
    static const char *const words[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",
        [JSON_STRING] = "a string",  [JSON_INTEGER] = "a whole number",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null",
    };

    return v ? words[json_typeof(v)] : "nothing";
}

static int wrong_type(const char *what, const char *key, const char *wanted, const json_t *v,
                      struct ty_error *err)
{
    return ty_error_set(err, -EINVAL, "%s: '%s' must be %s, not %s", what, key, wanted,
                        type_word(v));
}

/* 1 and the value, 0 when it is missing or null, or -EINVAL when o is no object. */
static int look_up(const json_t *o, const char *what, const char *key, json_t **ret,
                   struct ty_error *err)
{
    json_t *v;

    if (!json_is_object(o))
        return ty_error_set(err, -EINVAL, "%s must be a JSON object, not %s", what, type_word(o));
    v = json_object_get(o, key);
    if (!v || json_is_null(v))
        return 0;
    *ret = v;
    return 1;
}

int ty_json_get_str(const json_t *o, const char *what, const char *key, const char **ret,
                    struct ty_error *err)
{
    json_t *v;
    int r = look_up(o, what, key, &v, err);

    if (r <= 0)
        return r;
    if (!json_is_string(v))
        return wrong_type(what, key, "a string", v, err);
    *ret = json_string_value(v);
    return 0;
}

int ty_json_get_i64(const json_t *o, const char *what, const char *key, int64_t min, int64_t max,
                    int64_t *ret, struct ty_error *err)
{
    json_t *v;
    int64_t n;
    int r = look_up(o, what, key, &v, err);

    if (r <= 0)
        return r;
    if (!json_is_integer(v))
        return wrong_type(what, key, "a whole number", v, err);
    n = json_integer_value(v);
    if (n < min)
        return ty_error_set(err, -EINVAL, "%s: '%s' must be at least %" PRId64 ", not %" PRId64,
                            what, key, min, n);
    if (n > max)
        return ty_error_set(err, -EINVAL, "%s: '%s' must be at most %" PRId64 ", not %" PRId64,
                            what, key, max, n);
    *ret = n;
    return 0;
}

int ty_json_get_bool(const json_t *o, const char *what, const char *key, bool *ret,
                     struct ty_error *err)
{
    json_t *v;
    int r = look_up(o, what, key, &v, err);

    if (r <= 0)
        return r;
    if (!json_is_boolean(v))
        return wrong_type(what, key, "true or false", v, err);
    *ret = json_is_true(v);
    return 0;
}

int ty_json_get_strings(const json_t *o, const char *what, const char *key, json_t **ret,
                        struct ty_error *err)
{
    const char *name;
    json_t *v, *item;
    int r = look_up(o, what, key, &v, err);

    if (r <= 0)
        return r;
    if (!json_is_object(v))
        return wrong_type(what, key, "an object of strings", v, err);
    json_object_foreach (v, name, item)
        if (!json_is_string(item))
            return ty_error_set(err, -EINVAL, "%s: '%s' in '%s' must be a string, not %s", what,
                                name, key, type_word(item));
    *ret = v;
    return 0;
}

/* "a, b, c", as far as an error text has room. */
static char *list_known(const char *const *known)
{
    CLEANUP_STR struct ty_str s = { 0 };

    for (int i = 0; known[i] && i < KNOWN_SHOWN; i++)
        ty_str_addf(&s, "%s%s", i ? ", " : "", known[i]);
    return ty_str_take(&s);
}

static int unknown_key(const char *what, const char *key, const char *const *known,
                       struct ty_error *err)
{
    const char *near = ty_nearest(key, known);
    CLEANUP_FREE char *list = NULL;

    if (near)
        return ty_error_set(err, -EINVAL, "%s: there is no key '%s'; did you mean '%s'?", what, key,
                            near);
    list = list_known(known);
    return ty_error_set(err, -EINVAL, "%s: there is no key '%s'; it knows %s", what, key,
                        list ? list : "others");
}

int ty_json_only(const json_t *o, const char *what, const char *const *known, struct ty_error *err)
{
    json_t *unused;
    const char *key;
    json_t *item;
    int r = look_up(o, what, "", &unused, err);

    if (r < 0)
        return r;
    json_object_foreach ((json_t *)o, key, item) {
        const char *const *k = known;

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (!*k)
            return unknown_key(what, key, known, err);
    }
    return 0;
}

/* Of one that stands in another: what takes its place, if anything. */
static int look_into(json_t *one, const char *but,
                     int (*fn)(const char *text, json_t **instead, void *ctx), void *ctx,
                     json_t **instead)
{
    *instead = NULL;
    return json_is_string(one) ? fn(json_string_value(one), instead, ctx)
                               : ty_json_each_text(one, but, fn, ctx);
}

int ty_json_each_text(json_t *value, const char *but,
                      int (*fn)(const char *text, json_t **instead, void *ctx), void *ctx)
{
    const char *key;
    json_t *one, *instead;
    void *next;
    size_t i;
    int r = 0;

    json_object_foreach_safe(value, next, key, one)
    {
        if (r < 0 || (but && strcmp(key, but) == 0))
            continue;
        r = look_into(one, but, fn, ctx, &instead);
        if (instead && json_object_set_new(value, key, instead) < 0)
            r = -ENOMEM;
    }
    json_array_foreach (value, i, one) {
        if (r < 0)
            break;
        r = look_into(one, but, fn, ctx, &instead);
        if (instead && json_array_set_new(value, i, instead) < 0)
            r = -ENOMEM;
    }
    return r < 0 ? r : 0;
}
