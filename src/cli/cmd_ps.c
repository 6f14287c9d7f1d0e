/* cmd_ps.c - trainyard ps: active runs and the last ones; with filters or -a, page by page */
#include "base/clock.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/run_state.h"
#include <errno.h>
#include <strings.h>

#define RECENT 20
#define PAGE 1000
#define PAGES_MAX 10000

static int64_t duration(const json_t *run, int64_t now)
{
    int64_t from = ty_out_time(json_object_get(run, "started")),
            to = ty_out_time(json_object_get(run, "ended"));

    return from ? (to ? to : now) - from : 0;
}

/* The command without the folders of its program: in a narrow column they would hide the rest. */
static const char *short_command(const json_t *run)
{
    const char *command = ty_out_str(run, "command_line"), *slash = command;

    for (const char *c = command; *command == '/' && *c && *c != ' '; c++)
        if (*c == '/')
            slash = c + 1;
    return slash;
}

/* "local", and of several processes "local 2x4": nodes and the processes of each. */
static char *place(const json_t *run)
{
    json_int_t nodes = json_integer_value(json_object_get(run, "node_count")),
               each = json_integer_value(json_object_get(run, "process_count_per_node"));

    if (nodes * each > 1)
        return ty_strf("%s %lldx%lld", ty_out_str(run, "target"), (long long)nodes,
                       (long long)each);
    return strdup(ty_out_str(run, "target"));
}

static int print_table(const struct ty_cli *cli, const json_t *runs, bool filtered)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "ID", "EXPERIMENT", "STATE", "AGE", "DURATION",
                                                   "TARGET", "COMMAND" },
                                        .state_column = 2,
                                        .right = 1 << 3 | 1 << 4 };
    int64_t now = ty_wall_us();
    const json_t *run;
    size_t i;

    json_array_foreach (runs, i, run) {
        CLEANUP_FREE char *where = place(run);
        char age[16], took[16];
        int64_t us = duration(run, now);
        const char *cells[] = { ty_out_str(run, "id"),
                                ty_out_str(run, "experiment"),
                                ty_out_str(run, "state"),
                                ty_out_duration(now - ty_out_time(json_object_get(run, "created")),
                                                age),
                                us ? ty_out_duration(us, took) : "",
                                where ? where : "",
                                short_command(run) };

        ty_table_row(&t, cells);
    }
    if (t.rows == 0 && !ty_cli_flag(cli, "quiet") && !ty_cli_flag(cli, "plain"))
        fputs(filtered ? "no run matches\n" : "no runs; 'trainyard run -- COMMAND' makes one\n",
              stderr);
    return ty_table_print(cli, &t);
}

static int fetch(struct ty_cli *cli, const char *query, json_t **page, struct ty_error *err)
{
    struct ty_call call = { .query = query };

    return ty_cli_get(cli, TY_ROUTE_run_list, &call, page, err);
}

static bool has(const json_t *runs, const json_t *run)
{
    const json_t *other;
    size_t i;

    json_array_foreach (runs, i, other)
        if (!strcmp(ty_out_str(other, "id"), ty_out_str(run, "id")))
            return true;
    return false;
}

/* Those that are active, wherever they stand, after the newest. */
static int fetch_default(struct ty_cli *cli, json_t *all, struct ty_error *err)
{
    CLEANUP_JSON json_t *recent = NULL;
    CLEANUP_JSON json_t *active = NULL;
    CLEANUP_FREE char *newest = ty_strf("limit=%d", RECENT),
                      *others = ty_strf("state=active&limit=%d", PAGE);
    json_t *run;
    size_t i;
    int r = newest && others ? fetch(cli, newest, &recent, err) : ty_error_oom(err);

    if (r == 0 && json_is_string(json_object_get(recent, "next")))
        r = fetch(cli, others, &active, err);
    if (r < 0)
        return r;
    json_array_extend(all, json_object_get(recent, "runs"));
    json_array_foreach (json_object_get(active, "runs"), i, run)
        if (!has(json_object_get(recent, "runs"), run))
            json_array_append(all, run);
    return 0;
}

static char *query_of(const struct ty_cli *cli, const char *state, int64_t limit,
                      const char *before)
{
    static const char *const filters[] = { "experiment", "target", "tag" };
    struct ty_str q = { 0 };
    size_t i;

    ty_str_addf(&q, "limit=%lld", (long long)(limit < PAGE ? limit : PAGE));
    if (state)
        ty_str_addf(&q, "&state=%s", state);
    for (i = 0; i < sizeof filters / sizeof *filters; i++)
        if (ty_cli_flag(cli, filters[i])) {
            ty_str_addf(&q, "&%s=", filters[i]);
            ty_str_add_url(&q, ty_cli_value(cli, filters[i]), false);
        }
    if (before) {
        ty_str_add(&q, "&before=");
        ty_str_add_url(&q, before, false);
    }
    return ty_str_take(&q);
}

static int fetch_pages(struct ty_cli *cli, const char *state, int64_t limit, json_t *all,
                       struct ty_error *err)
{
    CLEANUP_FREE char *before = NULL;
    int i;

    for (i = 0; i < PAGES_MAX && limit > 0; i++) {
        CLEANUP_FREE char *query = query_of(cli, state, limit, before);
        CLEANUP_JSON json_t *page = NULL;
        int r = query ? fetch(cli, query, &page, err) : ty_error_oom(err);

        if (r < 0)
            return r;
        json_array_extend(all, json_object_get(page, "runs"));
        limit -= (int64_t)json_array_size(json_object_get(page, "runs"));
        free(before);
        before =
            json_is_string(json_object_get(page, "next")) ? strdup(ty_out_str(page, "next")) : NULL;
        if (!before)
            break;
    }
    return 0;
}

/* The state as it is written, however it was typed.  0 or an exit code. */
static int check_state(struct ty_cli *cli, const char *given, const char **state)
{
    const char *words[TY_RUN_STATE_COUNT + 3] = { "active", "ended" };
    const char *near;

    for (int i = 0; i < TY_RUN_STATE_COUNT; i++)
        words[i + 2] = ty_run_state_word((enum ty_run_state)i);
    for (size_t i = 0; words[i]; i++)
        if (!strcasecmp(words[i], given)) {
            *state = words[i];
            return 0;
        }
    near = ty_nearest(given, words);
    if (near)
        return ty_cli_usage(cli, "no state '%s'; did you mean '%s'?", given, near);
    return ty_cli_usage(
        cli, "no state '%s'; it is 'active', 'ended' or a word like 'Running' (docs/runs.md)",
        given);
}

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *all = json_pack("{s[]}", "runs");
    const char *text = ty_cli_value(cli, "limit"), *state = ty_cli_value(cli, "state");
    bool filtered = ty_cli_flag(cli, "state") || ty_cli_flag(cli, "experiment") ||
                    ty_cli_flag(cli, "target") || ty_cli_flag(cli, "tag");
    struct ty_error err = { 0 };
    int64_t limit = ty_cli_flag(cli, "all") ? INT64_MAX : RECENT;
    json_t *runs = json_object_get(all, "runs");
    int r = state ? check_state(cli, state, &state) : 0;

    if (r)
        return r;
    if (text && (ty_parse_i64(text, &limit) < 0 || limit < 1))
        return ty_cli_usage(cli, "--limit '%s' is not a number from 1 on", text);
    r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = text || filtered || ty_cli_flag(cli, "all") ? fetch_pages(cli, state, limit, runs, &err)
                                                        : fetch_default(cli, runs, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    return ty_cli_flag(cli, "json") ? ty_out_json(cli, all) : print_table(cli, runs, filtered);
}

static const struct ty_cli_option options[] = {
    { 'a', "all", NULL, "every run" },
    { 's', "state", "STATE", "only runs in this state; also 'active' and 'ended'" },
    { 'e', "experiment", "NAME", "only runs of this experiment" },
    { 't', "target", "NAME", "only runs on this target" },
    { 0, "tag", "KEY[=VALUE]", "only runs with this tag" },
    { 'n', "limit", "N", "at most so many, newest first (default: 20)" },
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    TY_OPT_QUIET,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_ps = {
    .name = "ps",
    .usage = "[OPTIONS]",
    .summary = "List runs: the last 20 and all that are active",
    .examples = "  trainyard ps\n"
                "  trainyard ps -a -e mnist -s Failed\n"
                "  trainyard rm $(trainyard ps -a -q -s Failed)\n",
    .options = options,
    .run = run,
};
