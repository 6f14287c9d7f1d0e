/* cmd_metrics.c - trainyard metrics: what a run logged */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>

static int print_last(const struct ty_cli *cli, json_t *metrics)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "METRIC", "COUNT", "LAST" },
                                        .state_column = -1,
                                        .right = 1 << 1 };
    const char *name;
    json_t *value;

    json_object_foreach (metrics, name, value) {
        size_t n = json_is_array(value) ? json_array_size(value) : 1;
        CLEANUP_FREE char *last =
            ty_out_value(json_is_array(value) && n > 0 ? json_array_get(value, n - 1) : value);
        char count[24];
        const char *cells[] = { name, count, last };

        snprintf(count, sizeof count, "%zu", n);
        ty_table_row(&t, cells);
    }
    if (t.rows == 0 && !ty_cli_flag(cli, "plain"))
        fputs("no metrics were logged\n", stderr);
    return ty_table_print(cli, &t);
}

static int print_rows(const struct ty_cli *cli, const json_t *rows)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "METRIC", "STEP", "AT", "VALUE" },
                                        .state_column = -1,
                                        .right = 1 << 1 };
    const json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        CLEANUP_FREE char *value = ty_out_value(json_object_get(row, "value"));
        const json_t *step = json_object_get(row, "step");
        char number[24] = "";
        const char *cells[] = { ty_out_str(row, "name"), number, ty_out_str(row, "at"), value };

        if (json_is_integer(step))
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(step));
        ty_table_row(&t, cells);
    }
    return ty_table_print(cli, &t);
}

static char *query_of(const struct ty_cli *cli)
{
    struct ty_str q = { 0 };

    ty_str_add(&q, ty_cli_flag(cli, "rows") ? "form=rows" : "form=azureml");
    if (ty_cli_flag(cli, "name")) {
        ty_str_add(&q, "&name=");
        ty_str_add_url(&q, ty_cli_value(cli, "name"), false);
    }
    return ty_str_take(&q);
}

static bool is_empty(const json_t *reply)
{
    return json_object_size(json_object_get(reply, "metrics")) == 0 &&
           json_array_size(json_object_get(reply, "rows")) == 0;
}

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *reply = NULL;
    CLEANUP_FREE char *id = NULL;
    CLEANUP_FREE char *query = query_of(cli);
    struct ty_error err = { 0 };
    struct ty_call call = { .query = query };
    int r = query ? ty_cli_client(cli, true, &err) : ty_error_oom(&err);

    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, &err);
    call.args[0] = id;
    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_metrics_get, &call, &reply, &err);
    if (r == 0 && ty_cli_flag(cli, "name") && is_empty(reply))
        r = ty_error_set(&err, -ENOENT,
                         "run '%s' has no metric '%s'; 'trainyard metrics %s' lists those it has",
                         id, ty_cli_value(cli, "name"), id);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, reply);
    if (ty_cli_flag(cli, "rows"))
        return print_rows(cli, json_object_get(reply, "rows"));
    return print_last(cli, json_object_get(reply, "metrics"));
}

static const struct ty_cli_option options[] = {
    { 0, "name", "NAME", "this metric only" },
    { 0, "rows", NULL, "every row that was logged" },
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    TY_OPT_QUIET,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_metrics = {
    .name = "metrics",
    .usage = "[OPTIONS] RUN",
    .summary = "Show what a run logged",
    .examples = "  trainyard metrics @last\n"
                "  trainyard metrics --name loss --rows --plain first_17 | cut -f2,4\n",
    .text = "RUN is an id, the beginning of one, or @last.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .run = run,
};
