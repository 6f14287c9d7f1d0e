/* params.c - what a run was asked to do and what numbers it logged, in a form that can be compared */
#include "cli/params.h"
#include "base/str.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <math.h>

/* What a spec that lacks the key means (docs/spec/run-spec.md). */
static const struct {
    const char *key, *usual;
} plain_keys[] = {
    { "target", "local" },      { "node_count", "1" },  { "process_count_per_node", "1" },
    { "communicator", "None" }, { "use_gpu", "false" }, { "max_run_duration_seconds", NULL },
};

/* ---- the words of the command ---- */

static bool is_flag(const char *word)
{
    if (word[0] != '-' || !word[1])
        return false;
    return !(word[1] == '.' || (word[1] >= '0' && word[1] <= '9')); /* a negative number */
}

/* python3 -u train.py: the script is nobody's value. */
static bool is_value(const char *flag, const char *word)
{
    return word && (!is_flag(word)) && !(flag[1] != '-' && ty_ends_with(word, ".py"));
}

/* A flag that is given again adds to its text. */
static int put_word(json_t *params, const char *name, const char *value)
{
    const char *before = json_string_value(json_object_get(params, name));
    CLEANUP_FREE char *joined = before ? ty_strf("%s %s", before, value) : strdup(value);

    return joined ? json_object_set_new(params, name, json_string(joined)) : -1;
}

/* Take the flag at words[i], and its value; how many words, or -1. */
static int put_flag(json_t *params, const json_t *words, size_t i)
{
    const char *word = json_string_value(json_array_get(words, i)), *eq = strchr(word, '='),
               *next = json_string_value(json_array_get(words, i + 1));
    CLEANUP_FREE char *name = eq ? ty_strf("%.*s", (int)(eq - word), word) : strdup(word);

    if (!name)
        return -1;
    if (eq)
        return put_word(params, name, eq + 1) < 0 ? -1 : 1;
    if (is_value(word, next))
        return put_word(params, name, next) < 0 ? -1 : 2;
    return put_word(params, name, "true") < 0 ? -1 : 1;
}

static int put_words(json_t *params, const json_t *words)
{
    bool flags = true;
    int n = 0, used = 1;
    size_t i;

    for (i = 0; i < json_array_size(words); i += (size_t)used) {
        const char *word = json_string_value(json_array_get(words, i));
        char name[24];

        used = 1;
        if (!word || (flags && !strcmp(word, "--"))) {
            flags = flags && !word;
            continue;
        }
        if (flags && is_flag(word)) {
            used = put_flag(params, words, i);
        } else {
            snprintf(name, sizeof name, "arg.%d", ++n);
            used = put_word(params, name, word) < 0 ? -1 : 1;
        }
        if (used < 0)
            return -1;
    }
    return 0;
}

static int put_command(json_t *params, const json_t *spec)
{
    const json_t *command = json_object_get(spec, "command"),
                 *script = json_object_get(spec, "script"), *word;
    const json_t *program =
        json_is_string(script) ? json_object_get(spec, "interpreter") : json_array_get(command, 0);
    CLEANUP_JSON json_t *words = json_array();
    size_t i;

    if (json_is_string(program))
        json_object_set(params, "program", (json_t *)program);
    if (json_is_string(script))
        json_array_append(words, (json_t *)script);
    json_array_foreach (command, i, word)
        if (i > 0)
            json_array_append(words, (json_t *)word);
    json_array_extend(words, json_object_get(spec, "arguments"));
    return put_words(params, words);
}

/* ---- the rest of the spec ---- */

static int put(json_t *params, const char *prefix, const char *name, const json_t *value)
{
    CLEANUP_FREE char *key = ty_strf("%s%s", prefix, name);
    CLEANUP_FREE char *text = ty_out_value(value);

    return key && text ? json_object_set_new(params, key, json_string(text)) : -1;
}

static int put_object(json_t *params, const char *prefix, json_t *object)
{
    const char *name;
    json_t *value;

    json_object_foreach (object, name, value)
        if (put(params, prefix, name, value) < 0)
            return -1;
    return 0;
}

/* As `--data` has it: STORE[/PATH]:MODE, and what else there is. */
static int put_data(json_t *params, json_t *refs)
{
    const char *name;
    json_t *ref;

    json_object_foreach (refs, name, ref) {
        const char *path = ty_out_str(ref, "path"), *mode = ty_out_str(ref, "mode"),
                   *on = ty_out_str(ref, "path_on_compute");
        CLEANUP_FREE char *text =
            ty_strf("%s%s%s:%s%s%s%s", ty_out_str(ref, "datastore"), path[0] ? "/" : "", path,
                    mode[0] ? mode : "mount", on[0] ? " on " : "", on,
                    json_is_true(json_object_get(ref, "overwrite")) ? " overwrite" : "");
        CLEANUP_JSON json_t *value = text ? json_string(text) : NULL;

        if (!value || put(params, "data.", name, value) < 0)
            return -1;
    }
    return 0;
}

static int put_plain(json_t *params, const json_t *spec)
{
    json_t *expand = json_object_get(spec, "expand");
    size_t i;

    for (i = 0; i < sizeof plain_keys / sizeof *plain_keys; i++) {
        const json_t *value = json_object_get(spec, plain_keys[i].key);
        CLEANUP_FREE char *text = value && !json_is_null(value) ? ty_out_value(value)
                                  : plain_keys[i].usual         ? strdup(plain_keys[i].usual)
                                                                : NULL;

        if (text && json_object_set_new(params, plain_keys[i].key, json_string(text)) < 0)
            return -1;
    }
    if (!json_is_boolean(expand))
        expand = json_boolean(json_is_string(json_object_get(spec, "script")));
    if (put(params, "", "expand", expand) < 0 ||
        json_object_set_new(params, "resources.cpus", json_string("1")) < 0)
        return -1;
    return put_object(params, "resources.", json_object_get(spec, "resources"));
}

json_t *ty_run_params(const json_t *run)
{
    const json_t *spec = json_object_get(run, "spec");
    CLEANUP_JSON json_t *params = json_object();

    if (!params || put_command(params, spec) < 0 || put_plain(params, spec) < 0 ||
        put_object(params, "env.", json_object_get(spec, "environment_variables")) < 0 ||
        put_data(params, json_object_get(spec, "data_references")) < 0 ||
        put_object(params, "tag.", json_object_get(run, "tags")) < 0)
        return NULL;
    return TAKE(params);
}

/* ---- numbers that were logged ---- */

bool ty_scalar(const json_t *value, double *ret)
{
    const char *word = ty_out_str(value, "$float");

    if (json_is_number(value))
        *ret = json_number_value(value);
    else if (!strcmp(word, "NaN"))
        *ret = NAN;
    else if (!strcmp(word, "Infinity"))
        *ret = INFINITY;
    else if (!strcmp(word, "-Infinity"))
        *ret = -INFINITY;
    else
        return false;
    return true;
}

/* {"count", "last", "min", "max"}; NULL when one of the values is no number. */
static json_t *series(const json_t *values)
{
    const json_t *value, *least = NULL, *most = NULL;
    double d, min = 0, max = 0;
    size_t i;

    json_array_foreach (values, i, value) {
        if (!ty_scalar(value, &d))
            return NULL;
        if (!isnan(d) && (!least || d < min)) {
            least = value;
            min = d;
        }
        if (!isnan(d) && (!most || d > max)) {
            most = value;
            max = d;
        }
    }
    return json_pack("{s:I s:O? s:O? s:O?}", "count", (json_int_t)json_array_size(values), "last",
                     json_array_get(values, json_array_size(values) - 1), "min", least, "max",
                     most);
}

json_t *ty_scalars_of(const json_t *metrics)
{
    CLEANUP_JSON json_t *all = json_object();
    const char *name;
    json_t *value;

    json_object_foreach ((json_t *)metrics, name, value) {
        CLEANUP_JSON json_t *list =
            json_is_array(value) ? json_incref(value) : json_pack("[O]", value);
        json_t *one = json_array_size(list) ? series(list) : NULL;

        if (one && json_object_set_new(all, name, one) < 0)
            return NULL;
    }
    return TAKE(all);
}

int ty_run_scalars(struct ty_cli *cli, const char *id, json_t **ret, struct ty_error *err)
{
    struct ty_call call = { .args = { id } };
    CLEANUP_JSON json_t *reply = NULL;
    json_t *found;
    int r = ty_cli_get(cli, TY_ROUTE_metrics_get, &call, &reply, err);

    if (r < 0)
        return r;
    found = ty_scalars_of(json_object_get(reply, "metrics"));
    if (!found)
        return ty_error_oom(err);
    *ret = found;
    return 0;
}
