/* cmd_tag.c - trainyard tag: set and remove tags of a run, or list them */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>

/* "KEY" or "KEY=VALUE" into `set`. */
static int add_set(const char *word, json_t *set, struct ty_error *err)
{
    const char *eq = strchr(word, '=');
    CLEANUP_FREE char *key = ty_strf("%.*s", (int)(eq ? eq - word : (ptrdiff_t)strlen(word)), word);

    if (!key)
        return ty_error_oom(err);
    if (!*key)
        return ty_error_set(err, -EINVAL, "the tag '%s' has no key; write KEY=VALUE, or KEY alone",
                            word);
    if (json_object_set_new(set, key, eq ? json_string(eq + 1) : json_null()) < 0)
        return ty_error_set(err, -EINVAL, "the tag '%s' is not valid UTF-8", word);
    return 0;
}

static int add_remove(const char *key, const json_t *set, json_t *remove, struct ty_error *err)
{
    if (!*key)
        return ty_error_set(err, -EINVAL, "--remove '' names no tag");
    if (json_object_get(set, key))
        return ty_error_set(err, -EINVAL, "the tag '%s' is both set and removed", key);
    if (json_array_append_new(remove, json_string(key)) < 0)
        return ty_error_set(err, -EINVAL, "--remove '%s' is not valid UTF-8", key);
    return 0;
}

/* TAG_CHANGE, or NULL in *ret when nothing is to be changed. */
static int read_change(const struct ty_cli *cli, json_t **ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *change = json_pack("{s:{} s:[]}", "set", "remove");
    json_t *set = json_object_get(change, "set"), *remove = json_object_get(change, "remove");
    const char *key;
    int i, r = 0;

    if (!change)
        return ty_error_oom(err);
    for (i = 1; i < cli->nargs && r == 0; i++)
        r = add_set(cli->args[i], set, err);
    for (i = 0; r == 0 && (key = ty_cli_nth(cli, "remove", i)) != NULL; i++)
        r = add_remove(key, set, remove, err);
    if (r == 0 && (json_object_size(set) > 0 || json_array_size(remove) > 0))
        *ret = TAKE(change);
    return r;
}

static int send_change(struct ty_cli *cli, const char *id, const json_t *change, json_t **run,
                       struct ty_error *err)
{
    CLEANUP_FREE char *body = ty_json_text(change);
    struct ty_call call = { .args = { id }, .body = body, .body_len = body ? strlen(body) : 0 };

    return body ? ty_cli_get(cli, TY_ROUTE_run_tag, &call, run, err) : ty_error_oom(err);
}

static int print_json(const struct ty_cli *cli, const char *id, json_t *tags)
{
    CLEANUP_JSON json_t *out = json_pack("{s:s s:O?}", "run", id, "tags", tags);

    return ty_out_json(cli, out);
}

static int list(const struct ty_cli *cli, const char *id, json_t *tags)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "KEY", "VALUE" }, .state_column = -1 };
    const char *key;
    json_t *value;

    json_object_foreach (tags, key, value) {
        const char *cells[] = { key, json_string_value(value) };

        ty_table_row(&t, cells);
    }
    if (t.rows == 0 && !ty_cli_flag(cli, "quiet") && !ty_cli_flag(cli, "plain"))
        fprintf(stderr, "run '%s' has no tags; 'trainyard tag %s KEY=VALUE' sets one\n", id, id);
    return ty_table_print(cli, &t);
}

static int run_tag(struct ty_cli *cli)
{
    CLEANUP_FREE char *id = NULL;
    CLEANUP_JSON json_t *change = NULL;
    CLEANUP_JSON json_t *run = NULL;
    struct ty_error err = { 0 };
    json_t *tags;
    size_t n;
    int r;

    if (read_change(cli, &change, &err) < 0)
        return ty_cli_usage(cli, "%s", err.text);
    r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, &err);
    if (r == 0)
        r = change ? send_change(cli, id, change, &run, &err) : ty_cli_run(cli, id, &run, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    tags = json_object_get(run, "tags");
    if (ty_cli_flag(cli, "json"))
        return print_json(cli, id, tags);
    if (!change)
        return list(cli, id, tags);
    n = json_object_size(tags);
    if (!ty_cli_flag(cli, "quiet"))
        fprintf(stderr, "run '%s' has %zu tag%s now\n", id, n, n == 1 ? "" : "s");
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = {
    { 0, "remove", "KEY", "remove this tag (repeat)" },
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    { 'q', "quiet", NULL, "print keys only; of a change, nothing" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_tag = {
    .name = "tag",
    .usage = "[OPTIONS] RUN [KEY[=VALUE]...]",
    .summary = "Set and remove tags of a run, or list them",
    .examples = "  trainyard tag @last                        list its tags\n"
                "  trainyard tag @last baseline lr=0.01       set two, one without a value\n"
                "  trainyard tag @last --remove baseline\n"
                "  trainyard ps --tag lr=0.01                 find runs by a tag\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  A tag that is there gets the new value.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .run = run_tag,
};
