/* yamlfile.c - libyaml's events, built up to JSON */
#include "cli/yamlfile.h"
#include "base/cleanup.h"
#include "base/error.h"
#include <errno.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 50

struct reader {
    yaml_parser_t parser;
    const char *what;
    struct ty_error *err;
};

static int refuse(const struct reader *y, const yaml_event_t *e, const char *why)
{
    return ty_error_set(y->err, -EINVAL, "%s cannot be read: line %zu: %s", y->what,
                        e->start_mark.line + 1, why);
}

static int next(struct reader *y, yaml_event_t *e)
{
    if (yaml_parser_parse(&y->parser, e))
        return 0;
    return ty_error_set(y->err, -EINVAL, "%s cannot be read: line %zu: %s", y->what,
                        y->parser.problem_mark.line + 1,
                        y->parser.problem ? y->parser.problem : "it is not YAML");
}

/* Words that mean something else than themselves to other readers of YAML. */
static bool is_null(const yaml_event_t *e)
{
    static const char *const words[] = { "", "~", "null", "Null", "NULL" };
    const char *text = (const char *)e->data.scalar.value;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strcmp(text, words[i]) == 0)
            return true;
    return false;
}

static int value(struct reader *y, const yaml_event_t *e, int depth, json_t **ret);

static int list(struct reader *y, int depth, json_t **ret)
{
    CLEANUP_JSON json_t *all = json_array();

    for (;;) {
        yaml_event_t e;
        json_t *one = NULL;
        int r = next(y, &e);

        if (r < 0)
            return r;
        if (e.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&e);
            *ret = TAKE(all);
            return 0;
        }
        r = value(y, &e, depth + 1, &one);
        yaml_event_delete(&e);
        if (r == 0 && json_array_append_new(all, one) < 0)
            r = ty_error_oom(y->err);
        if (r < 0)
            return r;
    }
}

static int pair(struct reader *y, const yaml_event_t *key, int depth, json_t *all)
{
    yaml_event_t e;
    json_t *one = NULL;
    const char *name;
    int r;

    if (key->type != YAML_SCALAR_EVENT)
        return refuse(y, key, "a key is not a text");
    name = (const char *)key->data.scalar.value;
    if (json_object_get(all, name))
        return refuse(y, key, "a key is there twice");
    r = next(y, &e);
    if (r < 0)
        return r;
    r = value(y, &e, depth + 1, &one);
    if (r == 0 && json_object_set_new(all, name, one) < 0)
        r = refuse(y, &e, "it is not valid UTF-8");
    yaml_event_delete(&e);
    return r;
}

static int mapping(struct reader *y, int depth, json_t **ret)
{
    CLEANUP_JSON json_t *all = json_object();

    for (;;) {
        yaml_event_t e;
        int r = next(y, &e);

        if (r < 0)
            return r;
        if (e.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&e);
            *ret = TAKE(all);
            return 0;
        }
        r = pair(y, &e, depth, all);
        yaml_event_delete(&e);
        if (r < 0)
            return r;
    }
}

static int scalar(struct reader *y, const yaml_event_t *e, json_t **ret)
{
    if (e->data.scalar.anchor || e->data.scalar.tag)
        return refuse(y, e, "anchors and tags are not read here");
    *ret = is_null(e) ? json_null()
                      : json_stringn((const char *)e->data.scalar.value, e->data.scalar.length);
    return *ret ? 0 : refuse(y, e, "a text is not valid UTF-8");
}

static int value(struct reader *y, const yaml_event_t *e, int depth, json_t **ret)
{
    if (depth > DEPTH_MAX)
        return refuse(y, e, "it is nested too deeply");
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return scalar(y, e, ret);
    case YAML_SEQUENCE_START_EVENT:
        if (e->data.sequence_start.anchor || e->data.sequence_start.tag)
            return refuse(y, e, "anchors and tags are not read here");
        return list(y, depth, ret);
    case YAML_MAPPING_START_EVENT:
        if (e->data.mapping_start.anchor || e->data.mapping_start.tag)
            return refuse(y, e, "anchors and tags are not read here");
        return mapping(y, depth, ret);
    default:
        return refuse(y, e, "aliases are not read here");
    }
}

static int expect(struct reader *y, yaml_event_type_t type, const char *why)
{
    yaml_event_t e;
    int r = next(y, &e);

    if (r == 0 && e.type != type)
        r = refuse(y, &e, why);
    if (r != -EINVAL || y->parser.error == YAML_NO_ERROR)
        yaml_event_delete(&e);
    return r;
}

static int read_all(struct reader *y, json_t **ret)
{
    CLEANUP_JSON json_t *found = NULL;
    yaml_event_t e;
    int r = expect(y, YAML_STREAM_START_EVENT, "it is not YAML");

    if (r == 0)
        r = next(y, &e);
    if (r < 0)
        return r;
    if (e.type == YAML_STREAM_END_EVENT) {
        yaml_event_delete(&e);
        *ret = json_object();
        return *ret ? 0 : ty_error_oom(y->err);
    }
    yaml_event_delete(&e);
    r = next(y, &e);
    if (r < 0)
        return r;
    r = e.type == YAML_MAPPING_START_EVENT ? value(y, &e, 0, &found)
                                           : refuse(y, &e, "it does not hold 'key: value'");
    yaml_event_delete(&e);
    if (r == 0)
        r = expect(y, YAML_DOCUMENT_END_EVENT, "something follows what it holds");
    if (r == 0)
        r = expect(y, YAML_STREAM_END_EVENT, "it holds a second document");
    if (r == 0)
        *ret = TAKE(found);
    return r;
}

int ty_yaml_parse(const char *text, size_t n, const char *what, json_t **ret, struct ty_error *err)
{
    struct reader y = { .what = what, .err = err };
    int r;

    if (!yaml_parser_initialize(&y.parser))
        return ty_error_oom(err);
    yaml_parser_set_input_string(&y.parser, (const unsigned char *)text, n);
    r = read_all(&y, ret);
    yaml_parser_delete(&y.parser);
    return r;
}
