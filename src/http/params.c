/* params.c - the query of a request: one table of what each route knows
 *
 * The table is also where /openapi.json has its parameters from.  What it does not know is refused
 * by name: a filter that was misspelt must not list everything.
 */
#include "base/clock.h"
#include "core/row.h"
#include "http/request.h"
#include <errno.h>
#include <string.h>

#define TEXT(route, name, help) \
    { \
        TY_ROUTE_##route, name, PARAM_TEXT, 0, 0, help \
    }
#define COUNT(route, name, min, max, help) \
    { \
        TY_ROUTE_##route, name, PARAM_COUNT, min, max, help \
    }
#define TIME(route, name, help) \
    { \
        TY_ROUTE_##route, name, PARAM_TIME, 0, 0, help \
    }
#define SWITCH(route, name, help) \
    { \
        TY_ROUTE_##route, name, PARAM_SWITCH, 0, 1, help \
    }

/* clang-format off */
static const struct param_rule rules[] = {
    TEXT(page_list, "experiment", "Runs of this experiment"),
    TEXT(page_list, "state", "Runs in this state, or 'active' or 'ended'"),
    TEXT(page_list, "before", "Runs older than the one with this id"),
    TEXT(page_run, "part", "'metrics': the curves alone, for a page that is shown already; 'system': those of the machines"),
    COUNT(page_run, "rank", 0, 65535, "The log of this process; of process 0 when not given"),
    TEXT(link_get, "run", "To the page of this run, not to the list"),
    TEXT(link_get, "experiment", "To the list of the runs of this experiment"),
    TEXT(run_list, "experiment", "Runs of this experiment"),
    TEXT(run_list, "target", "Runs on this compute target"),
    TEXT(run_list, "state", "Runs in this state, or 'active' or 'ended'"),
    TEXT(run_list, "user", "Runs of this user"),
    TEXT(run_list, "tag", "Runs with this tag: 'key' or 'key=value'"),
    TEXT(run_list, "parent", "Children of the run with this id"),
    SWITCH(run_list, "top", "1: only runs that are nobody's children"),
    TEXT(run_list, "before", "Runs older than the one with this id"),
    COUNT(run_list, "limit", 1, 1000, "At most so many; 100 when not given"),
    COUNT(rows_add, "writer", TY_ROW_WRITER_OUTSIDE, UINT32_MAX, "Number of the writer, chosen by it"),
    COUNT(rows_add, "first", 0, INT64_MAX, "Number of the first row, counted from 0 by the writer"),
    COUNT(run_events, "after", 0, INT64_MAX, "Events after this number"),
    COUNT(run_events, "limit", 1, 1000, "At most so many; 1000 when not given"),
    TEXT(run_follow, "log", "The log to follow; empty for none; azureml-logs/70_driver_log.txt when not given"),
    TEXT(run_follow, "after", "The id of the last event that was seen: <event seq>:<log offset>[:<row>.<row>...]"),
    SWITCH(run_follow, "ranks", "1: of a run of several processes the logs of all, instead of one; whole lines, with 'rank'"),
    SWITCH(run_follow, "now", "1: end with what there is now"),
    SWITCH(run_follow, "rows", "1: also what is logged as metrics, as events 'rows'"),
    SWITCH(run_follow, "system", "1: these rows are what is sampled of the machines, in place of what is logged"),
    TIME(run_follow, "since", "Without 'after': only log bytes that came at this time or later"),
    TEXT(metrics_get, "name", "This metric only"),
    SWITCH(metrics_get, "system", "1: what was sampled of the machines, in place of what was logged"),
    TEXT(metrics_get, "form", "'rows' for rows as they were logged; 'azureml', the default, for Azure ML's shapes"),
    COUNT(metrics_get, "limit", 1, 100000, "With form=rows, at most so many; 10000 when not given"),
    TIME(file_list, "since", "Say of each log where that begins which came at this time or later"),
    TIME(file_get, "since", "Of a log: only what came at this time or later; 'offset' counts from there"),
    COUNT(file_get, "offset", 0, INT64_MAX, "Bytes to leave out at the beginning"),
    COUNT(snapshot_file, "offset", 0, INT64_MAX, "Bytes to leave out at the beginning"),
    SWITCH(target_put, "ask", "1: only if its hosts, or the engine behind it, answer; what they say of themselves is kept"),
    TEXT(data_list, "prefix", "Files whose path begins so"),
    COUNT(data_get, "offset", 0, INT64_MAX, "Bytes to leave out at the beginning"),
    SWITCH(data_put, "overwrite", "1: replace a file that exists"),
};
/* clang-format on */
#define RULES ((int)(sizeof rules / sizeof *rules))

const struct param_rule *param_rule(int n)
{
    return n >= 0 && n < RULES ? &rules[n] : NULL;
}

static const struct param_rule *find_rule(enum ty_route_id route, const char *name)
{
    for (int i = 0; i < RULES; i++)
        if (rules[i].route == route && strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return NULL;
}

static int refuse_unknown(struct request *req, const char *name)
{
    CLEANUP_STR struct ty_str known = { 0 };

    for (int i = 0; i < RULES; i++)
        if (rules[i].route == req->match.route)
            ty_str_addf(&known, "%s%s", known.len ? ", " : "", rules[i].name);
    return ty_error_set(&req->err, -EINVAL, "the query parameter '%.80s' is not known here; %s%s",
                        name, known.len ? "known are " : "this request takes none",
                        known.len && known.text ? known.text : "");
}

static int check_value(struct request *req, const struct param_rule *rule, const char *value)
{
    int64_t n;

    if (rule->kind == PARAM_SWITCH && strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
        return ty_error_set(&req->err, -EINVAL,
                            "the query parameter '%s' is '%.80s'; it can be 0 or 1", rule->name,
                            value);
    if (rule->kind == PARAM_COUNT &&
        (ty_parse_i64(value, &n) < 0 || n < rule->min || n > rule->max))
        return ty_error_set(
            &req->err, -EINVAL,
            "the query parameter '%s' is '%.80s'; it must be a number from %lld to %lld",
            rule->name, value, (long long)rule->min, (long long)rule->max);
    if (rule->kind == PARAM_TIME && ty_time_parse(value, false, &n) < 0)
        return ty_error_set(
            &req->err, -EINVAL,
            "the query parameter '%s' is '%.80s'; it must be a time like 2026-11-23T11:52:03Z",
            rule->name, value);
    return 0;
}

/* Undo the query's encoding, in which a blank may be '+'. */
static int decode(struct request *req, char *s)
{
    for (char *c = s; *c; c++)
        if (*c == '+')
            *c = ' ';
    if (ty_url_decode(s) < 0 || !ty_utf8_valid(s, strlen(s)))
        return ty_error_set(&req->err, -EINVAL,
                            "the query of the request has a bad percent-escape or is not UTF-8");
    return 0;
}

static int add_param(struct request *req, char *part)
{
    char *value = strchr(part, '=');
    const struct param_rule *rule;
    int r;

    if (value)
        *value++ = '\0';
    else
        value = part + strlen(part);
    r = decode(req, part);
    if (r == 0)
        r = decode(req, value);
    if (r < 0)
        return r;
    rule = find_rule(req->match.route, part);
    if (!rule)
        return refuse_unknown(req, part);
    if (request_param(req, part))
        return ty_error_set(&req->err, -EINVAL, "the query parameter '%s' is given twice", part);
    if (req->nparams == PARAMS_MAX)
        return ty_error_set(&req->err, -EINVAL, "the query has more than %d parameters",
                            PARAMS_MAX);
    req->params[req->nparams].name = part;
    req->params[req->nparams++].value = value;
    return check_value(req, rule, value);
}

int request_params(struct request *req, char *query)
{
    char *rest = query, *part;
    int r = 0;

    while (r == 0 && (part = strsep(&rest, "&")))
        if (*part)
            r = add_param(req, part);
    return r;
}

const char *request_param(const struct request *req, const char *name)
{
    for (int i = 0; i < req->nparams; i++)
        if (strcmp(req->params[i].name, name) == 0)
            return req->params[i].value;
    return NULL;
}

int64_t request_count(const struct request *req, const char *name, int64_t fallback)
{
    const char *value = request_param(req, name);
    int64_t n = fallback;

    if (value)
        ty_parse_i64(value, &n);
    return n;
}

int64_t request_time(const struct request *req, const char *name, int64_t fallback)
{
    const char *value = request_param(req, name);
    int64_t at_us = fallback;

    if (value)
        ty_time_parse(value, false, &at_us);
    return at_us;
}

bool request_switch(const struct request *req, const char *name)
{
    const char *value = request_param(req, name);

    return value && *value == '1';
}
