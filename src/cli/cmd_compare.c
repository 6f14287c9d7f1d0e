/* cmd_compare.c - trainyard compare: runs as the rows of a table
 *
 * Its columns are the parameters in which the runs differ and the numbers that they logged.
 */
#include "base/clock.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/params.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>
#include <math.h>

#define RUNS_DEFAULT 20 /* that a filter chooses */
#define RUNS_MAX 1000
#define CELL_MAX 24 /* characters of a parameter on a terminal */
#define GAP 2       /* between the columns of a table */

/* All that is to be shown.  A row: {"id", "state", "duration_seconds", "parameters", "metrics":
 * {name: {"last", "best"}}}. */
struct sheet {
    json_t *rows, *parameters, *metrics; /* the latter two: names, in the order of the columns */
    const char *best;                    /* "min", "max" or NULL */
};

static void sheet_done(struct sheet *s)
{
    json_decref(s->rows);
    json_decref(s->parameters);
    json_decref(s->metrics);
}

/* ---- which runs ---- */

static bool has_filter(const struct ty_cli *cli)
{
    return ty_cli_flag(cli, "experiment") || ty_cli_flag(cli, "tag") || ty_cli_flag(cli, "limit");
}

static int add_id(json_t *ids, const char *id)
{
    const json_t *other;
    size_t i;

    json_array_foreach (ids, i, other)
        if (!strcmp(json_string_value(other), id))
            return 0;
    return json_array_append_new(ids, json_string(id));
}

static int add_filtered(struct ty_cli *cli, int64_t limit, json_t *ids, struct ty_error *err)
{
    static const char *const filters[] = { "experiment", "tag" };
    CLEANUP_STR struct ty_str query = { 0 };
    CLEANUP_JSON json_t *page = NULL;
    struct ty_call call = { 0 };
    const json_t *run;
    size_t i;
    int r;

    ty_str_addf(&query, "limit=%lld", (long long)limit);
    for (i = 0; i < sizeof filters / sizeof *filters; i++)
        if (ty_cli_flag(cli, filters[i])) {
            ty_str_addf(&query, "&%s=", filters[i]);
            ty_str_add_url(&query, ty_cli_value(cli, filters[i]), false);
        }
    if (query.failed)
        return ty_error_oom(err);
    call.query = query.text;
    r = ty_cli_get(cli, TY_ROUTE_run_list, &call, &page, err);
    json_array_foreach (json_object_get(page, "runs"), i, run)
        if (r == 0 && add_id(ids, ty_out_str(run, "id")) < 0)
            r = ty_error_oom(err);
    return r;
}

static int choose(struct ty_cli *cli, int64_t limit, json_t *ids, struct ty_error *err)
{
    int i, r = 0;

    for (i = 0; i < cli->nargs && r == 0; i++) {
        CLEANUP_FREE char *id = NULL;

        r = ty_cli_run_id(cli, cli->args[i], &id, err);
        if (r == 0 && add_id(ids, id) < 0)
            r = ty_error_oom(err);
    }
    return r == 0 && has_filter(cli) ? add_filtered(cli, limit, ids, err) : r;
}

/* ---- what is known of them ---- */

static json_t *seconds(const json_t *run)
{
    int64_t from = ty_out_time(json_object_get(run, "started")),
            to = ty_out_time(json_object_get(run, "ended"));

    return from ? json_real((double)((to ? to : ty_wall_us()) - from) / 1e6) : json_null();
}

static int add_row(struct ty_cli *cli, struct sheet *s, const char *id, struct ty_error *err)
{
    CLEANUP_JSON json_t *run = NULL;
    CLEANUP_JSON json_t *scalars = NULL;
    CLEANUP_JSON json_t *metrics = json_object();
    json_t *params, *one;
    const char *name;
    int r = ty_cli_run(cli, id, &run, err);

    if (r == 0)
        r = ty_run_scalars(cli, id, &scalars, err);
    if (r < 0)
        return r;
    json_object_foreach (scalars, name, one) {
        json_t *both = json_pack("{s:O}", "last", json_object_get(one, "last"));

        if (s->best)
            json_object_set(both, "best", json_object_get(one, s->best));
        if (json_object_set_new(metrics, name, both) < 0)
            return ty_error_oom(err);
    }
    params = ty_run_params(run);
    if (params && json_object_set_new(params, "code",
                                      ty_out_str(run, "snapshot")[0]
                                          ? json_stringn(ty_out_str(run, "snapshot"), 8)
                                          : json_string("none")) < 0)
        return ty_error_oom(err);
    one = json_pack("{s:s s:s s:o s:o? s:O}", "id", id, "state", ty_out_str(run, "state"),
                    "duration_seconds", seconds(run), "parameters", params, "metrics", metrics);
    return !params || json_array_append_new(s->rows, one) < 0 ? ty_error_oom(err) : 0;
}

/* The names that any row has in its object `key`, in the order in which they come. */
static json_t *names_of(const struct sheet *s, const char *key)
{
    CLEANUP_JSON json_t *seen = json_object();
    json_t *names = json_array(), *value;
    const json_t *row;
    const char *name;
    size_t i;

    json_array_foreach (s->rows, i, row)
        json_object_foreach (json_object_get(row, key), name, value)
            if (!json_object_get(seen, name)) {
                json_object_set_new(seen, name, json_true());
                json_array_append_new(names, json_string(name));
            }
    return names;
}

static bool differs(const struct sheet *s, const char *name)
{
    const json_t *first =
        json_object_get(json_object_get(json_array_get(s->rows, 0), "parameters"), name);
    const json_t *row;
    size_t i;

    json_array_foreach (s->rows, i, row) {
        const json_t *other = json_object_get(json_object_get(row, "parameters"), name);

        if (first != other && !(first && other && json_equal(first, other)))
            return true;
    }
    return false;
}

/* Only what differs is kept, in the rows too. */
static int choose_parameters(struct sheet *s)
{
    CLEANUP_JSON json_t *all = names_of(s, "parameters");
    const json_t *name, *row;
    size_t i, k;

    s->parameters = json_array();
    json_array_foreach (all, i, name) {
        if (differs(s, json_string_value(name))) {
            if (json_array_append(s->parameters, (json_t *)name) < 0)
                return -ENOMEM;
            continue;
        }
        json_array_foreach (s->rows, k, row)
            json_object_del(json_object_get(row, "parameters"), json_string_value(name));
    }
    return s->parameters ? 0 : -ENOMEM;
}

static bool has_name(const json_t *names, const char *name)
{
    const json_t *other;
    size_t i;

    json_array_foreach (names, i, other)
        if (!strcmp(json_string_value(other), name))
            return true;
    return false;
}

static int no_metric(const char *name, struct ty_error *err)
{
    return ty_error_set(
        err, -ENOENT,
        "none of these runs has logged numbers as '%s'; 'trainyard metrics RUN' lists what one has",
        name);
}

static int choose_metrics(struct ty_cli *cli, struct sheet *s, struct ty_error *err)
{
    CLEANUP_JSON json_t *all = names_of(s, "metrics");
    const char *name, *sort = ty_cli_value(cli, "sort");
    int i;

    if (sort && !has_name(all, sort))
        return no_metric(sort, err);
    if (!ty_cli_flag(cli, "metric")) {
        s->metrics = TAKE(all);
        return 0;
    }
    s->metrics = json_array();
    for (i = 0; (name = ty_cli_nth(cli, "metric", i)) != NULL; i++) {
        if (!has_name(all, name))
            return no_metric(name, err);
        if (!has_name(s->metrics, name) && json_array_append_new(s->metrics, json_string(name)) < 0)
            return ty_error_oom(err);
    }
    return 0;
}

/* Rows keep what is shown alone. */
static void drop_metrics(struct sheet *s)
{
    const json_t *row;
    const char *name;
    json_t *value;
    void *next;
    size_t i;

    json_array_foreach (s->rows, i, row) {
        json_t *metrics = json_object_get(row, "metrics");

        json_object_foreach_safe(metrics, next, name, value) if (!has_name(s->metrics, name))
            json_object_del(metrics, name);
    }
}

/* ---- order ---- */

struct place {
    json_t *row;
    double value; /* NaN: none */
    size_t at;    /* before the sorting */
    bool most;    /* the largest first */
};

static int by_value(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    int order = isnan(a->value) - isnan(b->value);

    if (!order && !isnan(a->value) && a->value != b->value)
        order = (a->value < b->value) != a->most ? -1 : 1;
    return order ? order : a->at < b->at ? -1 : 1;
}

/* By the best value where --best says what that is, the best first; else by the last one. */
static int sort_rows(struct sheet *s, const char *metric)
{
    size_t n = json_array_size(s->rows), i;
    struct place *places = calloc(n + 1, sizeof *places);
    json_t *sorted = json_array();

    if (!places || !sorted) {
        free(places);
        json_decref(sorted);
        return -ENOMEM;
    }
    for (i = 0; i < n; i++) {
        json_t *row = json_array_get(s->rows, i);
        const json_t *one = json_object_get(json_object_get(row, "metrics"), metric);

        places[i] = (struct place){
            .row = row, .value = NAN, .at = i, .most = s->best && !strcmp(s->best, "max")
        };
        ty_scalar(json_object_get(one, s->best ? "best" : "last"), &places[i].value);
    }
    qsort(places, n, sizeof *places, by_value);
    for (i = 0; i < n; i++)
        json_array_append(sorted, places[i].row);
    free(places);
    json_decref(s->rows);
    s->rows = sorted;
    return json_array_size(sorted) == n ? 0 : -ENOMEM;
}

/* ---- the table ---- */

enum kind { ID, STATE, DURATION, PARAMETER, LAST, BEST };
struct column {
    enum kind kind;
    const char *name; /* of a parameter or metric */
    char *head;
    size_t width;
};
struct columns {
    struct column at[TY_TABLE_COLUMNS_MAX];
    int n;
    struct ty_str left_out; /* names */
};

static void columns_done(struct columns *c)
{
    while (c->n > 0)
        free(c->at[--c->n].head);
    ty_str_done(&c->left_out);
}

static char *cell(const struct ty_cli *cli, const json_t *row, const struct column *c)
{
    const json_t *metric = json_object_get(json_object_get(row, "metrics"), c->name ? c->name : "");
    const json_t *value = json_object_get(row, "duration_seconds");
    char took[16];

    switch (c->kind) {
    case ID:
        return strdup(ty_out_str(row, "id"));
    case STATE:
        return strdup(ty_out_str(row, "state"));
    case DURATION:
        return strdup(json_is_null(value)
                          ? ""
                          : ty_out_duration((int64_t)(json_number_value(value) * 1e6), took));
    case PARAMETER:
        value = json_object_get(json_object_get(row, "parameters"), c->name);
        break;
    case LAST:
        value = json_object_get(metric, "last");
        break;
    case BEST:
        value = json_object_get(metric, "best");
        break;
    }
    if (!value || json_is_null(value))
        return strdup("");
    return c->kind == PARAMETER && cli->terminal ? ty_out_cut(ty_out_value(value), CELL_MAX)
                                                 : ty_out_value(value);
}

static size_t width_of(const struct ty_cli *cli, const struct sheet *s, const struct column *c)
{
    size_t most = ty_out_width(c->head), i;
    const json_t *row;

    json_array_foreach (s->rows, i, row) {
        CLEANUP_FREE char *text = cell(cli, row, c);
        size_t n = text ? ty_out_width(text) : 0;

        most = n > most ? n : most;
    }
    return most;
}

/* One more column, unless it would not fit: the first ones always do, and a table for programs has no width. */
static int add_column(const struct ty_cli *cli, const struct sheet *s, struct columns *all,
                      enum kind kind, const char *name, char *head)
{
    struct column c = { .kind = kind, .name = name, .head = head };
    size_t used = 0;

    if (!head)
        return -ENOMEM;
    c.width = width_of(cli, s, &c);
    for (int i = 0; i < all->n; i++)
        used += all->at[i].width + GAP;
    if (all->n == TY_TABLE_COLUMNS_MAX ||
        (kind > DURATION && cli->width && !ty_cli_flag(cli, "plain") &&
         used + c.width > (size_t)cli->width)) {
        ty_str_addf(&all->left_out, "%s%s", all->left_out.len ? ", " : "", head);
        free(head);
        return 0;
    }
    all->at[all->n++] = c;
    return 0;
}

static int add_parameters(const struct ty_cli *cli, const struct sheet *s, struct columns *all)
{
    const json_t *name;
    size_t i;
    int r = 0;

    json_array_foreach (s->parameters, i, name)
        if (r == 0)
            r = add_column(cli, s, all, PARAMETER, json_string_value(name),
                           ty_out_safe(json_string_value(name)));
    return r;
}

static int add_metrics(const struct ty_cli *cli, const struct sheet *s, struct columns *all)
{
    const json_t *name;
    size_t i;
    int r = 0;

    json_array_foreach (s->metrics, i, name) {
        CLEANUP_FREE char *safe = ty_out_safe(json_string_value(name));

        if (r == 0)
            r = add_column(cli, s, all, LAST, json_string_value(name), safe ? strdup(safe) : NULL);
        if (r == 0 && s->best)
            r = add_column(cli, s, all, BEST, json_string_value(name),
                           safe ? ty_strf("%s %s", s->best, safe) : NULL);
    }
    return r;
}

/* Metrics that were asked for by name come first, so that there is room for them. */
static int make_columns(const struct ty_cli *cli, const struct sheet *s, struct columns *all)
{
    bool named = ty_cli_flag(cli, "metric");
    int r = add_column(cli, s, all, ID, NULL, strdup("ID"));

    if (r == 0)
        r = add_column(cli, s, all, STATE, NULL, strdup("STATE"));
    if (r == 0)
        r = add_column(cli, s, all, DURATION, NULL, strdup("DURATION"));
    if (r == 0 && named)
        r = add_metrics(cli, s, all);
    if (r == 0)
        r = add_parameters(cli, s, all);
    return r == 0 && !named ? add_metrics(cli, s, all) : r;
}

static void fill_row(const struct ty_cli *cli, const struct columns *all, const json_t *row,
                     struct ty_table *t)
{
    char *cells[TY_TABLE_COLUMNS_MAX] = { 0 };
    int i;

    for (i = 0; i < all->n; i++)
        cells[i] = cell(cli, row, &all->at[i]);
    ty_table_row(t, (const char *const *)cells);
    for (i = 0; i < all->n; i++)
        free(cells[i]);
}

static int print_table(const struct ty_cli *cli, const struct sheet *s)
{
    CLEANUP(columns_done) struct columns all = { 0 };
    CLEANUP_TABLE struct ty_table t = { .state_column = 1 };
    const json_t *row;
    size_t k;
    int i, code;

    if (make_columns(cli, s, &all) < 0)
        return ty_cli_fail(cli, &(struct ty_error){ .code = -ENOMEM, .text = "out of memory" });
    for (i = 0; i < all.n; i++) {
        t.heads[i] = all.at[i].head;
        if (all.at[i].kind == DURATION || all.at[i].kind > PARAMETER)
            t.right |= UINT64_C(1) << i;
    }
    json_array_foreach (s->rows, k, row)
        fill_row(cli, &all, row, &t);
    code = ty_table_print(cli, &t);
    fflush(stdout);
    if (all.left_out.len && !ty_cli_flag(cli, "quiet"))
        fprintf(stderr, "no room for %s; --json shows all, --metric NAME chooses\n",
                all.left_out.text);
    return code;
}

/* ---- the command ---- */

static int fill(struct ty_cli *cli, int64_t limit, struct sheet *s, struct ty_error *err)
{
    CLEANUP_JSON json_t *ids = json_array();
    const json_t *id;
    size_t i;
    int r = ty_cli_client(cli, true, err);

    s->rows = json_array();
    if (r == 0)
        r = choose(cli, limit, ids, err);
    json_array_foreach (ids, i, id)
        if (r == 0)
            r = add_row(cli, s, json_string_value(id), err);
    if (r == 0 && choose_parameters(s) < 0)
        r = ty_error_oom(err);
    if (r == 0)
        r = choose_metrics(cli, s, err);
    if (r == 0 && ty_cli_flag(cli, "sort") && sort_rows(s, ty_cli_value(cli, "sort")) < 0)
        r = ty_error_oom(err);
    if (r == 0 && ty_cli_flag(cli, "metric"))
        drop_metrics(s);
    return r;
}

static int run(struct ty_cli *cli)
{
    CLEANUP(sheet_done) struct sheet s = { .best = ty_cli_value(cli, "best") };
    const char *text = ty_cli_value(cli, "limit");
    CLEANUP_JSON json_t *all = NULL;
    struct ty_error err = { 0 };
    int64_t limit = RUNS_DEFAULT;
    int r;

    if (cli->nargs == 0 && !has_filter(cli))
        return ty_cli_usage(cli, "'compare' needs runs, or --experiment, --tag or --limit");
    if (cli->nargs == 1 && !has_filter(cli))
        return ty_cli_usage(cli, "'compare' needs another run to compare '%s' with", cli->args[0]);
    if (cli->nargs > RUNS_MAX)
        return ty_cli_usage(cli, "'compare' takes at most %d runs", RUNS_MAX);
    if (text && (ty_parse_i64(text, &limit) < 0 || limit < 1 || limit > RUNS_MAX))
        return ty_cli_usage(cli, "--limit '%s' is not a number from 1 to %d", text, RUNS_MAX);
    if (s.best && strcmp(s.best, "min") && strcmp(s.best, "max"))
        return ty_cli_usage(cli, "--best '%s' is neither min nor max", s.best);
    r = fill(cli, limit, &s, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json")) {
        all = json_pack("{s:O s:O s:O}", "runs", s.rows, "parameters", s.parameters, "metrics",
                        s.metrics);
        return ty_out_json(cli, all);
    }
    if (json_array_size(s.rows) == 0 && !ty_cli_flag(cli, "quiet") && !ty_cli_flag(cli, "plain"))
        fputs("no run matches\n", stderr);
    return print_table(cli, &s);
}

static const struct ty_cli_option options[] = {
    { 'e', "experiment", "NAME", "runs of this experiment" },
    { 0, "tag", "KEY[=VALUE]", "runs with this tag" },
    { 'n', "limit", "N", "at most so many that these choose, newest first (default: 20)" },
    { 'm', "metric", "NAME", "only this metric, before the parameters (repeat)" },
    { 0, "best", "min|max", "also the least or largest value of each metric" },
    { 0, "sort", "METRIC", "least first, by its last value, or by its best one, best first" },
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    TY_OPT_QUIET,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_compare = {
    .name = "compare",
    .usage = "[OPTIONS] [RUN...]",
    .summary = "Show runs side by side: the parameters that differ, and metrics",
    .examples = "  trainyard compare first_17 first_18 @last\n"
                "  trainyard compare -e mnist --metric loss --best min --sort loss\n"
                "  trainyard compare -q -e mnist --best max --sort accuracy | head -1\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  Metrics are those with numbers, each with "
        "its last value.\n",
    .options = options,
    .min = 0,
    .max = -1,
    .run = run,
};
