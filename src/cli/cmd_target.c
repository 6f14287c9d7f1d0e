/* cmd_target.c - trainyard target ls, show: compute targets, what they have and what is in use */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <stdio.h>

static long long number(const json_t *o, const char *part, const char *key)
{
    return json_integer_value(json_object_get(part ? json_object_get(o, part) : o, key));
}

/* Those of runs: they prepare, run, or are drained and still run. */
static long long in_use(const json_t *target)
{
    return number(target, "nodes", "preparing") + number(target, "nodes", "running") +
           number(target, "nodes", "leaving");
}

/* "up", or what keeps runs away from it. */
static const char *state_of(const json_t *target, char *buf, size_t n)
{
    long long bad = number(target, "nodes", "unusable"), max = number(target, "nodes", "max");

    if (json_is_true(json_object_get(json_object_get(target, "spec"), "drained")))
        return "drained";
    if (bad == 0)
        return "up";
    if (bad >= max)
        return "unusable";
    snprintf(buf, n, "%lld unusable", bad);
    return buf;
}

static int ls(struct ty_cli *cli)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "TARGET", "KIND", "NODES", "IN USE", "VM SIZE",
                                                   "STATE" },
                                        .state_column = -1,
                                        .right = 12 };
    CLEANUP_JSON json_t *reply = NULL;
    struct ty_error err = { 0 };
    const json_t *target;
    size_t i;
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_target_list, NULL, &reply, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, reply);
    json_array_foreach (json_object_get(reply, "targets"), i, target) {
        const json_t *spec = json_object_get(target, "spec");
        const char *size = ty_out_str(spec, "vm_size");
        long long nodes = number(target, "nodes", "max"); /* 0: nobody has been asked */
        char max[24], used[24], state[40];
        const char *cells[] = { ty_out_str(target, "name"), ty_out_str(spec, "kind"),
                                nodes > 0 ? max : NULL,     used,
                                *size ? size : NULL,        state_of(target, state, sizeof state) };

        snprintf(max, sizeof max, "%lld", nodes);
        snprintf(used, sizeof used, "%lld", in_use(target));
        ty_table_row(&t, cells);
    }
    return ty_table_print(cli, &t);
}

static void add_plain(struct ty_str *out, const json_t *value)
{
    CLEANUP_FREE char *text =
        json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    ty_str_add(out, json_is_string(value) ? json_string_value(value) : text ? text : "");
}

/* A host as `target add` takes it, and what is known of it beyond that as JSON. */
static void add_host(struct ty_str *out, const json_t *host)
{
    static const char *const told[] = { "host", "user", "port" };
    CLEANUP_JSON json_t *rest = json_copy((json_t *)host);
    const char *user = ty_out_str(host, "user");

    ty_str_addf(out, "%s%s%s", user, *user ? "@" : "", ty_out_str(host, "host"));
    if (json_is_integer(json_object_get(host, "port")))
        ty_str_addf(out, ":%lld", number(host, NULL, "port"));
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        json_object_del(rest, told[i]);
    if (json_object_size(rest) > 0) {
        ty_str_add(out, " ");
        add_plain(out, rest);
    }
}

static void add_value(struct ty_str *out, const json_t *value)
{
    const char *name;
    const json_t *one;
    size_t i = 0;

    if (json_is_array(value)) {
        json_array_foreach (value, i, one) {
            ty_str_add(out, i ? ", " : "");
            add_value(out, one);
        }
    } else if (json_object_get(value, "host")) {
        add_host(out, value);
    } else if (json_is_object(value)) {
        json_object_foreach ((json_t *)value, name, one) {
            ty_str_addf(out, "%s%s=", i++ ? ", " : "", name);
            add_plain(out, one);
        }
    } else {
        add_plain(out, value);
    }
}

/* What the specification says; nothing of what it leaves open. */
static void print_spec(json_t *spec)
{
    const char *key;
    json_t *value;

    json_object_foreach (spec, key, value) {
        CLEANUP_STR struct ty_str text = { 0 };
        CLEANUP_FREE char *safe = NULL;

        if (!json_is_null(value))
            add_value(&text, value);
        safe = text.len ? ty_out_safe(text.text) : NULL;
        if (safe)
            printf("%-12s %s\n", key, safe);
    }
}

static void print_target(const json_t *target)
{
    static const char *const words[] = { "preparing", "idle", "leaving", "unusable", "preempted" };
    long long max = number(target, "nodes", "max");

    printf("%-12s %s\n", "target", ty_out_str(target, "name"));
    printf("%-12s %s\n", "created", ty_out_str(target, "created"));
    printf("%-12s %lld", "nodes", in_use(target));
    if (max > 0)
        printf(" of %lld", max);
    printf(" in use");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (number(target, "nodes", words[i]) > 0)
            printf(", %lld %s", number(target, "nodes", words[i]), words[i]);
    putchar('\n');
    printf("%-12s %lld\n", "cpus", number(target, NULL, "cpus"));
    printf("%-12s %lld\n", "gpus", number(target, NULL, "gpus"));
    print_spec(json_object_get(target, "spec"));
}

static int show(struct ty_cli *cli)
{
    const struct ty_call call = { .args = { cli->args[0] } };
    CLEANUP_JSON json_t *target = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_target_get, &call, &target, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, target);
    print_target(target);
    return TY_EXIT_OK;
}

static const struct ty_cli_option ls_options[] = { TY_OPT_JSON, TY_OPT_PLAIN, TY_OPT_QUIET,
                                                   TY_OPT_END };
static const struct ty_cli_option show_options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_target_ls = {
    .name = "target ls",
    .usage = "",
    .summary = "List compute targets, and how many of their nodes are in use",
    .options = ls_options,
    .run = ls,
};
const struct ty_cli_command ty_cmd_target_show = {
    .name = "target show",
    .usage = "NAME",
    .summary = "Show one compute target",
    .examples = "  trainyard target show local\n",
    .options = show_options,
    .min = 1,
    .max = 1,
    .run = show,
};
