/* cmd_queue.c - trainyard queue ls, pause, resume: what waits, and whether it may start */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <string.h>

static int print_queue(const struct ty_cli *cli, const json_t *queue)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "RUN", "USER", "PRIORITY", "CPUS", "MEMORY",
                                                   "WHY" },
                                        .state_column = -1,
                                        .right = 1 << 2 | 1 << 3 | 1 << 4 };
    const json_t *run;
    size_t i;

    json_array_foreach (json_object_get(queue, "runs"), i, run) {
        json_int_t megabytes = json_integer_value(json_object_get(run, "memory_mb"));
        char priority[24], cpus[24], memory[32];
        const char *cells[] = { ty_out_str(run, "id"),     ty_out_str(run, "user"), priority, cpus,
                                megabytes ? memory : NULL, ty_out_str(run, "why") };

        snprintf(priority, sizeof priority, "%lld",
                 json_integer_value(json_object_get(run, "priority")));
        snprintf(cpus, sizeof cpus, "%lld", json_integer_value(json_object_get(run, "cpus")));
        snprintf(memory, sizeof memory, "%lld MB", megabytes);
        ty_table_row(&t, cells);
    }
    if (json_is_true(json_object_get(queue, "paused")))
        fprintf(stderr, "the queue is paused: no run starts until 'trainyard queue resume'\n");
    return ty_table_print(cli, &t);
}

static int ls(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *queue = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_queue_get, NULL, &queue, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    return ty_cli_flag(cli, "json") ? ty_out_json(cli, queue) : print_queue(cli, queue);
}

static int change(struct ty_cli *cli, const char *body, const char *said)
{
    const struct ty_call call = { .body = body, .body_len = strlen(body) };
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_client_queue_change(cli->client, &call, NULL, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "%s\n", said);
    return TY_EXIT_OK;
}

static int pause_queue(struct ty_cli *cli)
{
    return change(cli, "{\"paused\":true}",
                  "the queue is paused: what runs goes on, what waits does not start");
}

static int resume_queue(struct ty_cli *cli)
{
    return change(cli, "{\"paused\":false}", "the queue goes on");
}

static const struct ty_cli_option ls_options[] = { TY_OPT_JSON, TY_OPT_PLAIN, TY_OPT_QUIET,
                                                   TY_OPT_END };
static const struct ty_cli_option no_options[] = { TY_OPT_END };

const struct ty_cli_command ty_cmd_queue_ls = {
    .name = "queue ls",
    .usage = "",
    .summary = "List the runs that wait, in the order in which they will start, and why",
    .options = ls_options,
    .run = ls,
};
const struct ty_cli_command ty_cmd_queue_pause = {
    .name = "queue pause",
    .usage = "",
    .summary = "Let no waiting run start; what runs goes on",
    .text =
        "It stays paused when the daemon is stopped and started, until 'trainyard queue resume'.\n",
    .options = no_options,
    .run = pause_queue,
};
const struct ty_cli_command ty_cmd_queue_resume = {
    .name = "queue resume",
    .usage = "",
    .summary = "Let waiting runs start again",
    .options = no_options,
    .run = resume_queue,
};
