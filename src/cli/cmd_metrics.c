/* cmd_metrics.c - trainyard metrics: what a run logged, at once or as it comes */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/live.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/row.h"
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
        fputs(
            ty_cli_flag(cli, "system")
                ? "no system metrics were sampled; the first come two seconds after a run's start "
                  "(run.system_metrics_seconds)\n"
                : "no metrics were logged\n",
            stderr);
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

/* Of the machines, in place of what the script logged? */
static bool is_system(const struct ty_cli *cli)
{
    const char *name = ty_cli_value(cli, "name");

    return ty_cli_flag(cli, "system") || (name && ty_starts_with(name, TY_ROW_SYSTEM));
}

static char *query_of(const struct ty_cli *cli)
{
    struct ty_str q = { 0 };

    ty_str_add(&q, ty_cli_flag(cli, "rows") ? "form=rows" : "form=azureml");
    if (ty_cli_flag(cli, "name")) {
        ty_str_add(&q, "&name=");
        ty_str_add_url(&q, ty_cli_value(cli, "name"), false);
    }
    if (is_system(cli))
        ty_str_add(&q, "&system=1");
    return ty_str_take(&q);
}

static bool is_empty(const json_t *reply)
{
    return json_object_size(json_object_get(reply, "metrics")) == 0 &&
           json_array_size(json_object_get(reply, "rows")) == 0;
}

static int show(struct ty_cli *cli, const char *id, struct ty_error *err)
{
    CLEANUP_JSON json_t *reply = NULL;
    CLEANUP_FREE char *query = query_of(cli);
    struct ty_call call = { .args = { id }, .query = query };
    int r = query ? ty_cli_get(cli, TY_ROUTE_metrics_get, &call, &reply, err) : ty_error_oom(err);

    if (r == 0 && ty_cli_flag(cli, "name") && is_empty(reply))
        r = ty_error_set(err, -ENOENT,
                         "run '%s' has no metric '%s'; 'trainyard metrics %s' lists those it has",
                         id, ty_cli_value(cli, "name"), id);
    if (r < 0)
        return ty_cli_fail(cli, err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, reply);
    if (ty_cli_flag(cli, "rows"))
        return print_rows(cli, json_object_get(reply, "rows"));
    return print_last(cli, json_object_get(reply, "metrics"));
}

/* ---- following ---- */

/* Where rows go: to the board, or to stdout line by line. */
struct sink {
    struct ty_cli *cli;
    struct ty_live *live;
    struct ty_error *err;
};

static int print_row_json(const json_t *row)
{
    return json_dumpf(row, stdout, JSON_COMPACT) < 0 || putchar('\n') == EOF ? -EIO : 0;
}

/* As --rows --plain has it: name, step, time, value. */
static int print_row_text(const json_t *row)
{
    CLEANUP_FREE char *name = ty_out_safe(ty_out_str(row, "name"));
    CLEANUP_FREE char *value = ty_out_value(json_object_get(row, "value"));
    CLEANUP_FREE char *safe = value ? ty_out_safe(value) : NULL;
    const json_t *step = json_object_get(row, "step");
    char number[24] = "-";

    if (!name || !safe)
        return -ENOMEM;
    if (json_is_integer(step))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(step));
    return printf("%s\t%s\t%s\t%s\n", name, number, ty_out_str(row, "at"), safe) < 0 ? -EIO : 0;
}

static int print_new(struct sink *k, const json_t *rows)
{
    const char *only = ty_cli_value(k->cli, "name");
    bool json = ty_cli_flag(k->cli, "json");
    const json_t *row;
    size_t i;
    int r = 0;

    json_array_foreach (rows, i, row)
        if (r == 0 && (!only || !strcmp(only, ty_out_str(row, "name"))))
            r = json ? print_row_json(row) : print_row_text(row);
    return r == 0 && fflush(stdout) != 0 ? -EIO : r;
}

static int hear(const char *event, const json_t *data, void *ctx)
{
    struct sink *k = ctx;
    const json_t *rows = json_object_get(data, "rows");
    int r = 0;

    if (k->live && strcmp(event, "rows"))
        ty_live_state(k->live, ty_out_str(data, "state"));
    else if (k->live)
        r = ty_live_rows(k->live, rows);
    else if (!strcmp(event, "rows"))
        r = print_new(k, rows);
    return r < 0 ? ty_error_set(k->err, r,
                                r == -ENOMEM ? "out of memory" : "cannot write to standard output")
                 : 0;
}

/* A picture needs a terminal that can go back to its first line. */
static bool wants_picture(const struct ty_cli *cli)
{
    const char *term = getenv("TERM");

    return cli->terminal && term && *term && strcmp(term, "dumb") && !ty_cli_flag(cli, "json") &&
           !ty_cli_flag(cli, "plain") && !ty_cli_flag(cli, "rows");
}

static int follow(struct ty_cli *cli, const char *id, struct ty_error *err)
{
    struct sink k = { .cli = cli, .err = err };
    struct ty_cli_follow f = {
        .run = id, .rows = true, .system = is_system(cli), .hear = hear, .hear_ctx = &k
    };
    CLEANUP_JSON json_t *run = NULL;
    int r = ty_cli_run(cli, id, &run, err); /* before the screen is taken: is there such a run? */

    ty_cli_catch_signals();
    if (r == 0 && wants_picture(cli)) {
        k.live = ty_live_open(cli, id, ty_cli_value(cli, "name"), err);
        r = k.live ? 0 : err->code;
    }
    if (r == 0)
        r = ty_cli_follow(cli, &f, err);
    k.live = ty_live_close(k.live);
    if (r == -EINTR) {
        ty_cli_detached(id);
        return TY_EXIT_INTERRUPTED;
    }
    if (r < 0)
        return ty_cli_fail(cli, err);
    if (ty_cli_run_code(f.end) != TY_EXIT_OK)
        ty_cli_run_outcome(f.end);
    json_decref(f.end);
    return TY_EXIT_OK;
}

static int run(struct ty_cli *cli)
{
    CLEANUP_FREE char *id = NULL;
    struct ty_error err = { 0 };

    if (ty_cli_flag(cli, "follow") && ty_cli_flag(cli, "quiet"))
        return ty_cli_usage(cli, "--quiet lists names, and --follow shows values");
    if (ty_cli_client(cli, true, &err) < 0 || ty_cli_run_id(cli, cli->args[0], &id, &err) < 0)
        return ty_cli_fail(cli, &err);
    return ty_cli_flag(cli, "follow") ? follow(cli, id, &err) : show(cli, id, &err);
}

static const struct ty_cli_option options[] = {
    { 'f', "follow", NULL,
      "go on until the run ends: curves on a terminal, else a line for each row" },
    { 0, "name", "NAME", "this metric only" },
    { 0, "system", NULL,
      "what was sampled of its machines: CPU, memory, network, disk, GPUs, each rank" },
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
                "  trainyard metrics -f @last\n"
                "  trainyard metrics -f --json @last | jq 'select(.name == \"loss\").value'\n"
                "  trainyard metrics -f --system @last\n"
                "  trainyard metrics --name loss --rows --plain first_17 | cut -f2,4\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  Ctrl-C ends the following, not the run.  A line of -f has "
        "name, step,\ntime and value between tabs; with --json it is one object of --rows.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .run = run,
};
