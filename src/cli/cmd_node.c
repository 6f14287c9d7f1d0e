/* cmd_node.c - trainyard node ls: the machines that runs are placed on, and what is in use of each */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <stdio.h>

static long long number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

/* "box,lab" */
static char *joined(const json_t *names)
{
    CLEANUP_STR struct ty_str s = { 0 };
    const json_t *name;
    size_t i;

    json_array_foreach (names, i, name)
        ty_str_addf(&s, "%s%s", i ? "," : "", json_string_value(name));
    return s.len ? ty_str_take(&s) : NULL;
}

static int gpus_used(const json_t *gpus)
{
    const json_t *gpu;
    size_t i;
    int n = 0;

    json_array_foreach (gpus, i, gpu)
        n += json_is_string(json_object_get(gpu, "run"));
    return n;
}

static void add_row(struct ty_table *t, const json_t *node)
{
    const json_t *gpu_list = json_object_get(node, "gpus");
    CLEANUP_FREE char *targets = joined(json_object_get(node, "targets"));
    CLEANUP_FREE char *runs = joined(json_object_get(node, "runs"));
    const char *why = ty_out_str(node, "why");
    char cpus[48], memory[48], gpus[48];
    const char *cells[] = {
        ty_out_str(node, "name"), ty_out_str(node, "state"), cpus, memory, gpus, targets, runs,
        *why ? why : NULL
    };

    snprintf(cpus, sizeof cpus, "%lld/%lld", number(node, "cpus_used"), number(node, "cpus"));
    snprintf(memory, sizeof memory, "%lld/%lld", number(node, "memory_used_mb"),
             number(node, "memory_mb"));
    snprintf(gpus, sizeof gpus, "%d/%zu", gpus_used(gpu_list), json_array_size(gpu_list));
    ty_table_row(t, cells);
}

static int ls(struct ty_cli *cli)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "NODE", "STATE", "CPUS", "MEMORY MB", "GPUS",
                                                   "TARGETS", "RUNS", "WHY" },
                                        .state_column = -1,
                                        .right = 28 };
    CLEANUP_JSON json_t *reply = NULL;
    struct ty_error err = { 0 };
    const json_t *node;
    size_t i;
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_node_list, NULL, &reply, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, reply);
    json_array_foreach (json_object_get(reply, "nodes"), i, node)
        add_row(&t, node);
    return ty_table_print(cli, &t);
}

static const struct ty_cli_option ls_options[] = { TY_OPT_JSON, TY_OPT_PLAIN, TY_OPT_QUIET,
                                                   TY_OPT_END };

const struct ty_cli_command ty_cmd_node_ls = {
    .name = "node ls",
    .usage = "",
    .summary = "List the machines that runs are placed on, and what is in use of each",
    .options = ls_options,
    .run = ls,
};
