/* cmd_show.c - trainyard show: what is known of a run, and what to do next */
#include "base/clock.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/run_state.h"

static void line(const char *name, const char *text)
{
    CLEANUP_FREE char *safe = text[0] ? ty_out_safe(text) : NULL;

    if (safe)
        printf("%-12s %s\n", name, safe);
}

static void time_line(const char *name, const json_t *iso)
{
    char ago[16];

    if (json_is_string(iso))
        printf("%-12s %s (%s ago)\n", name, json_string_value(iso),
               ty_out_duration(ty_wall_us() - ty_out_time(iso), ago));
}

static void pairs(const char *name, json_t *object)
{
    CLEANUP_STR struct ty_str all = { 0 };
    const char *key;
    json_t *value;

    json_object_foreach (object, key, value)
        ty_str_addf(&all, "%s%s%s%s", all.len ? ", " : "", key, json_is_string(value) ? "=" : "",
                    json_is_string(value) ? json_string_value(value) : "");
    if (all.len && !all.failed)
        line(name, all.text);
}

static void print_state(const struct ty_cli *cli, const json_t *run)
{
    const char *state = ty_out_str(run, "state");
    json_int_t attempt = json_integer_value(json_object_get(run, "attempt"));
    const json_t *code = json_object_get(run, "exit_code"),
                 *sig = json_object_get(run, "exit_signal");
    const char *color = cli->color ? ty_out_state_color(state) : "";

    printf("%-12s %s%s%s", "state", color, state, color[0] ? "\033[0m" : "");
    if (json_is_integer(code))
        printf(", exit code %lld", (long long)json_integer_value(code));
    if (json_is_integer(sig))
        printf(", ended by signal %lld", (long long)json_integer_value(sig));
    if (attempt > 1)
        printf(", attempt %lld", (long long)attempt);
    putchar('\n');
    line("why", ty_out_str(run, "why"));
}

static void print_trouble(const json_t *run)
{
    const json_t *error = json_object_get(run, "error"), *text;
    const char *tail = ty_out_str(error, "log_tail"), *end;
    size_t i;

    line("error", ty_out_str(error, "message"));
    for (; *tail; tail = *end ? end + 1 : end) {
        CLEANUP_FREE char *one = NULL;

        end = strchr(tail, '\n');
        end = end ? end : tail + strlen(tail);
        one = ty_strf("%.*s", (int)(end - tail), tail);
        line("  |", one ? one : "");
    }
    json_array_foreach (json_object_get(run, "warnings"), i, text)
        line("warning", json_is_string(text) ? json_string_value(text) : "");
}

static void suggest(const char *id, const char *state)
{
    bool ended = ty_run_state_ended(ty_run_state_parse(state));

    if (ended)
        fprintf(stderr, "\n  trainyard logs %s\n  trainyard artifacts get %s\n", id, id);
    else
        fprintf(stderr, "\n  trainyard logs -f %s\n  trainyard cancel %s\n", id, id);
}

/* The command line alone is not enough: the files may have changed since. */
static void reproduce(const json_t *run)
{
    CLEANUP_FREE char *command = ty_strf("trainyard rerun --exact %s", ty_out_str(run, "id"));

    line("reproduce", command ? command : "");
}

static void processes_line(const json_t *run)
{
    json_int_t nodes = json_integer_value(json_object_get(run, "node_count")),
               each = json_integer_value(json_object_get(run, "process_count_per_node"));

    if (nodes * each > 1)
        printf("%-12s %lld: %lld node%s x %lld (%s)\n", "processes", (long long)(nodes * each),
               (long long)nodes, nodes == 1 ? "" : "s", (long long)each,
               ty_out_str(json_object_get(run, "spec"), "communicator"));
}

static size_t packages_of(const json_t *record)
{
    const json_t *lock = json_object_get(record, "lock");

    return json_array_size(json_object_get(lock, "pip")) +
           json_array_size(json_object_get(lock, "conda"));
}

static void environment_line(const json_t *record)
{
    const json_t *torch = json_object_get(record, "torch");
    CLEANUP_STR struct ty_str s = { 0 };
    size_t n = packages_of(record);
    char took[16];

    if (!json_is_object(record))
        return;
    ty_str_addf(&s, "python %s", ty_out_str(record, "python"));
    if (*ty_out_str(torch, "version"))
        ty_str_addf(&s, ", torch %s (%s)", ty_out_str(torch, "version"), ty_out_str(torch, "from"));
    if (n > 0)
        ty_str_addf(&s, ", %zu package%s", n, n == 1 ? "" : "s");
    if (json_is_true(json_object_get(record, "built")))
        ty_str_addf(
            &s, ", built in %s",
            ty_out_duration((int64_t)(json_number_value(json_object_get(record, "seconds")) * 1e6),
                            took));
    else if (json_is_string(json_object_get(record, "prefix")))
        ty_str_add(&s, ", from the cache");
    if (!s.failed)
        line("environment", s.text);
    line("", ty_out_str(torch, "reason"));
}

static void print_run(const struct ty_cli *cli, const json_t *run)
{
    int64_t started = ty_out_time(json_object_get(run, "started")),
            ended = ty_out_time(json_object_get(run, "ended"));
    char took[16];

    line("run", ty_out_str(run, "id"));
    line("name", ty_out_str(run, "display_name"));
    line("experiment", ty_out_str(run, "experiment"));
    line("parent", ty_out_str(run, "parent"));
    if (strcmp(ty_out_str(run, "kind"), "interactive") == 0)
        line("kind", "interactive: it has no program");
    print_state(cli, run);
    print_trouble(run);
    line("command", ty_out_str(run, "command_line"));
    line("target", ty_out_str(run, "target"));
    processes_line(run);
    environment_line(json_object_get(run, "environment"));
    line("source", ty_out_str(json_object_get(run, "spec"), "source_directory"));
    line("snapshot", ty_out_str(run, "snapshot"));
    line("user", ty_out_str(run, "user"));
    time_line("created", json_object_get(run, "created"));
    time_line("started", json_object_get(run, "started"));
    time_line("ended", json_object_get(run, "ended"));
    if (started && ended)
        printf("%-12s %s\n", "duration", ty_out_duration(ended - started, took));
    pairs("tags", json_object_get(run, "tags"));
    pairs("properties", json_object_get(run, "properties"));
    reproduce(run);
}

static int show(struct ty_cli *cli, int i, struct ty_error *err)
{
    CLEANUP_FREE char *id = NULL;
    CLEANUP_JSON json_t *run = NULL;
    int r = ty_cli_run_id(cli, cli->args[i], &id, err);

    if (r == 0)
        r = ty_cli_run(cli, id, &run, err);
    if (r < 0)
        return ty_cli_fail(cli, err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, run);
    if (i > 0)
        putchar('\n');
    print_run(cli, run);
    fflush(stdout);
    if (cli->terminal && cli->nargs == 1)
        suggest(id, ty_out_str(run, "state"));
    return TY_EXIT_OK;
}

static int run_show(struct ty_cli *cli)
{
    struct ty_error err = { 0 };
    int code = TY_EXIT_OK, i;

    if (ty_cli_client(cli, true, &err) < 0)
        return ty_cli_fail(cli, &err);
    for (i = 0; i < cli->nargs; i++) {
        int one = show(cli, i, &err);

        code = code ? code : one;
    }
    return code;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_show = {
    .name = "show",
    .usage = "RUN...",
    .summary = "Show what is known of runs: state, error, why one waits",
    .examples = "  trainyard show @last\n"
                "  trainyard show --json first_17 | jq .spec\n",
    .text = "RUN is an id, the beginning of one, or @last.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .run = run_show,
};
