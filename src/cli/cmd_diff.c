/* cmd_diff.c - trainyard diff: what differs between two runs */
#include "base/str.h"
#include "cli/code.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/params.h"
#include "cli/runs.h"
#include <errno.h>
#include <math.h>

#define CELL_MAX 48 /* characters of a value on a terminal */

/* What is known of both runs, and what differs. */
struct pair {
    char *id[2];
    json_t *run[2];
    json_t *params, *files, *metrics; /* arrays of what differs */
    struct ty_str lines;              /* with --code */
};

static void pair_done(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        free(p->id[i]);
        json_decref(p->run[i]);
    }
    json_decref(p->params);
    json_decref(p->files);
    json_decref(p->metrics);
    ty_str_done(&p->lines);
}

/* ---- finding out ---- */

static int compare_params(struct pair *p)
{
    CLEANUP_JSON json_t *a = ty_run_params(p->run[0]);
    CLEANUP_JSON json_t *b = ty_run_params(p->run[1]);
    const char *name;
    json_t *value;

    p->params = json_array();
    if (!a || !b || !p->params)
        return -ENOMEM;
    json_object_foreach (a, name, value)
        if (!json_equal(value, json_object_get(b, name)) &&
            json_array_append_new(p->params, json_pack("{s:s s:[O O?]}", "name", name, "values",
                                                       value, json_object_get(b, name))) < 0)
            return -ENOMEM;
    json_object_foreach (b, name, value)
        if (!json_object_get(a, name) &&
            json_array_append_new(p->params,
                                  json_pack("{s:s s:[n O]}", "name", name, "values", value)) < 0)
            return -ENOMEM;
    return 0;
}

/* The second number less the first; null unless both are finite. */
static json_t *difference(const json_t *a, const json_t *b)
{
    double x, y;
    json_int_t n;

    if (json_is_integer(a) && json_is_integer(b) &&
        !__builtin_sub_overflow(json_integer_value(b), json_integer_value(a), &n))
        return json_integer(n);
    if (!ty_scalar(a, &x) || !ty_scalar(b, &y) || !isfinite(y - x))
        return json_null();
    return json_real(y - x);
}

static int add_metric(struct pair *p, const char *name, json_t *a, json_t *b)
{
    json_t *last[2] = { json_object_get(a, "last"), json_object_get(b, "last") };

    if (last[0] && last[1] && json_equal(last[0], last[1]))
        return 0;
    return json_array_append_new(p->metrics,
                                 json_pack("{s:s s:[O? O?] s:o}", "name", name, "values", last[0],
                                           last[1], "difference", difference(last[0], last[1])));
}

static int compare_metrics(struct ty_cli *cli, struct pair *p, struct ty_error *err)
{
    CLEANUP_JSON json_t *a = NULL;
    CLEANUP_JSON json_t *b = NULL;
    const char *name;
    json_t *value;
    int r = ty_run_scalars(cli, p->id[0], &a, err);

    if (r == 0)
        r = ty_run_scalars(cli, p->id[1], &b, err);
    if (r < 0)
        return r;
    p->metrics = json_array();
    json_object_foreach (a, name, value)
        if (r == 0)
            r = add_metric(p, name, value, json_object_get(b, name));
    json_object_foreach (b, name, value)
        if (r == 0 && !json_object_get(a, name))
            r = add_metric(p, name, NULL, value);
    return r < 0 ? ty_error_oom(err) : 0;
}

static int find_out(struct ty_cli *cli, struct pair *p, struct ty_error *err)
{
    const char *snapshot[2];
    int i, r = 0;

    for (i = 0; i < 2 && r == 0; i++) {
        r = ty_cli_run_id(cli, cli->args[i], &p->id[i], err);
        if (r == 0)
            r = ty_cli_run(cli, p->id[i], &p->run[i], err);
        snapshot[i] = ty_out_str(p->run[i], "snapshot");
    }
    if (r == 0 && compare_params(p) < 0)
        r = ty_error_oom(err);
    if (r == 0)
        r = ty_code_files(cli, snapshot[0], snapshot[1], &p->files, err);
    if (r == 0 && ty_cli_flag(cli, "code") && json_array_size(p->files))
        r = ty_code_lines(cli, snapshot[0], snapshot[1], p->files, &p->lines, err);
    return r < 0 ? r : compare_metrics(cli, p, err);
}

/* ---- telling ---- */

static bool is_same(const struct pair *p)
{
    return !json_array_size(p->params) && !json_array_size(p->files) &&
           !json_array_size(p->metrics);
}

static const char *source(const struct pair *p, int i)
{
    return ty_out_str(json_object_get(p->run[i], "spec"), "source_directory");
}

static int print_json(const struct ty_cli *cli, const struct pair *p)
{
    CLEANUP_JSON json_t *all = json_pack(
        "{s:[s s] s:b s:O s:[O? O?] s:O s:O}", "runs", p->id[0], p->id[1], "same", is_same(p),
        "parameters", p->params, "snapshots", json_object_get(p->run[0], "snapshot"),
        json_object_get(p->run[1], "snapshot"), "files", p->files, "metrics", p->metrics);
    CLEANUP_STR struct ty_str quoted = { 0 };

    if (all && is_same(p) && strcmp(source(p, 0), source(p, 1)))
        json_object_set_new(all, "source_directories",
                            json_pack("[s s]", source(p, 0), source(p, 1)));
    if (all && ty_cli_flag(cli, "code")) {
        ty_str_add_json(&quoted, p->lines.text ? p->lines.text : "", p->lines.len);
        json_object_set_new(
            all, "diff",
            quoted.text ? json_loads(quoted.text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL);
    }
    return all ? ty_out_json(cli, all)
               : ty_cli_fail(cli, &(struct ty_error){ .code = -ENOMEM, .text = "out of memory" });
}

/* A value as a cell: one line, and on a terminal not so wide that it hides the others. */
static char *cell(const struct ty_cli *cli, const json_t *value)
{
    char *text = value && !json_is_null(value) ? ty_out_value(value) : strdup("");

    return text && cli->terminal ? ty_out_cut(text, CELL_MAX) : text;
}

static const char *change_of(const json_t *a, const json_t *b)
{
    return json_is_null(a) ? "added" : json_is_null(b) ? "removed" : "changed";
}

static void add_values(const struct ty_cli *cli, struct ty_table *t, const char *what,
                       const json_t *one)
{
    const json_t *values = json_object_get(one, "values"), *a = json_array_get(values, 0),
                 *b = json_array_get(values, 1), *by = json_object_get(one, "difference");
    CLEANUP_FREE char *left = cell(cli, a);
    CLEANUP_FREE char *right = cell(cli, b);
    CLEANUP_FREE char *number = by && !json_is_null(by) ? ty_out_value(by) : NULL;
    CLEANUP_FREE char *sign =
        number ? ty_strf("%s%s", json_number_value(by) > 0 ? "+" : "", number) : NULL;
    const char *cells[] = { what, ty_out_str(one, "name"), left, right,
                            sign ? sign : change_of(a, b) };

    ty_table_row(t, cells);
}

/* "1.2 kB", "1.2 kB 755", "-> target" */
static char *side_text(const json_t *side)
{
    const char *type = ty_out_str(side, "type");
    char bytes[16];

    if (!strcmp(type, "link"))
        return ty_strf("-> %s", ty_out_str(side, "target"));
    if (strcmp(type, "file"))
        return strdup(type);
    return ty_strf(
        "%s%s", ty_show_bytes((uint64_t)json_integer_value(json_object_get(side, "bytes")), bytes),
        strcmp(ty_out_str(side, "mode"), "755") ? "" : " executable");
}

static void add_file(struct ty_table *t, const json_t *file)
{
    CLEANUP_FREE char *before = side_text(json_object_get(file, "before"));
    CLEANUP_FREE char *after = side_text(json_object_get(file, "after"));
    const char *cells[] = { "file", ty_out_str(file, "path"), before, after,
                            ty_out_str(file, "change") };

    ty_table_row(t, cells);
}

/* On a terminal coloured and with control characters replaced; elsewhere as it is, so that it can be a patch. */
static void print_lines(const struct ty_cli *cli, const struct ty_str *lines)
{
    const char *at = lines->text, *end = at + lines->len, *nl;

    if (!cli->terminal) {
        fwrite(lines->text, 1, lines->len, stdout);
        return;
    }
    for (; at < end; at = nl + 1) {
        const char *color = *at == '+'   ? "\033[32m"
                            : *at == '-' ? "\033[31m"
                            : *at == '@' ? "\033[36m"
                                         : "";
        CLEANUP_FREE char *raw = NULL;
        CLEANUP_FREE char *safe = NULL;

        nl = memchr(at, '\n', (size_t)(end - at));
        nl = nl ? nl : end;
        raw = ty_strf("%.*s", (int)(nl - at), at);
        safe = raw ? ty_out_safe(raw) : NULL;
        color = cli->color ? color : "";
        printf("%s%s%s\n", color, safe ? safe : "", color[0] ? "\033[0m" : "");
    }
}

static int print_text(const struct ty_cli *cli, const struct pair *p)
{
    CLEANUP_TABLE struct ty_table t = {
        .heads = { "WHAT", "NAME", p->id[0], p->id[1], "DIFFERENCE" }, .state_column = -1
    };
    const json_t *one;
    size_t i;
    int code;

    json_array_foreach (p->params, i, one)
        add_values(cli, &t, "parameter", one);
    json_array_foreach (p->files, i, one)
        add_file(&t, one);
    json_array_foreach (p->metrics, i, one)
        add_values(cli, &t, "metric", one);
    code = ty_table_print(cli, &t);
    if (p->lines.len) {
        putchar('\n');
        print_lines(cli, &p->lines);
    }
    fflush(stdout);
    if (is_same(p))
        fprintf(stderr, "no difference in parameters, code and metrics\n");
    if (is_same(p) && strcmp(source(p, 0), source(p, 1))) {
        CLEANUP_FREE char *a = ty_out_safe(source(p, 0));
        CLEANUP_FREE char *b = ty_out_safe(source(p, 1));

        fprintf(stderr, "the code was taken from '%s' and '%s'\n", a ? a : "", b ? b : "");
    }
    if (cli->terminal && json_array_size(p->files) && !ty_cli_flag(cli, "code"))
        fprintf(stderr, "\n  trainyard diff --code %s %s\n", p->id[0], p->id[1]);
    return code;
}

static int run(struct ty_cli *cli)
{
    CLEANUP(pair_done) struct pair p = { 0 };
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    ty_cli_catch_signals(); /* a folder of copies is removed on the way out */
    if (r == 0)
        r = find_out(cli, &p, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    return ty_cli_flag(cli, "json") ? print_json(cli, &p) : print_text(cli, &p);
}

static const struct ty_cli_option options[] = {
    { 0, "code", NULL, "also the lines that differ, as 'diff -u' shows them" },
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_diff = {
    .name = "diff",
    .usage = "[OPTIONS] RUN RUN",
    .summary = "Show what differs between two runs: parameters, code, metrics",
    .examples = "  trainyard diff first_17 @last\n"
                "  trainyard diff --code first_17 first_18 | less\n"
                "  trainyard diff --json first_17 first_18 | jq .same\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  Arguments are compared flag by flag "
        "(--lr), other words of the\ncommand by their place (arg.1); metrics by the last value of each.\n",
    .options = options,
    .min = 2,
    .max = 2,
    .run = run,
};
