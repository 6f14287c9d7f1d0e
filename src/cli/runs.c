/* runs.c - runs as commands see them: found by a name or part of one, fetched, their outcome */
#include "cli/runs.h"
#include "base/str.h"
#include "cli/out.h"
#include "client/stubs.h"
#include <errno.h>

#define PAGE 1000
#define PAGES_MAX 100 /* a prefix is looked for in this many pages of runs */
#define EVENT_PAGES_MAX 10000
#define SHOWN_MAX 5 /* candidates in the text about an ambiguous prefix */

int ty_cli_get(struct ty_cli *cli, int route, const struct ty_call *call, json_t **ret,
               struct ty_error *err)
{
    struct ty_reply reply = { 0 };
    int r = ty_client_route(cli->client, (enum ty_route_id)route, call, &reply, err);

    if (r == 0)
        r = ty_json_parse(reply.body, reply.len, ret, err);
    ty_reply_done(&reply);
    return r;
}

int ty_cli_remove_each(struct ty_cli *cli, int route, const char *said, const char *more)
{
    struct ty_error err = { 0 };
    int code = TY_EXIT_OK;

    if (ty_cli_client(cli, true, &err) < 0)
        return ty_cli_fail(cli, &err);
    for (int i = 0; i < cli->nargs; i++) {
        const struct ty_call call = { .args = { cli->args[i] } };

        if (ty_client_route(cli->client, (enum ty_route_id)route, &call, NULL, &err) == 0) {
            fprintf(stderr, "%s '%s'%s\n", said, cli->args[i], more);
        } else {
            int one = ty_cli_fail(cli, &err);

            code = code ? code : one;
        }
    }
    return code;
}

int ty_cli_run(struct ty_cli *cli, const char *id, json_t **ret, struct ty_error *err)
{
    struct ty_call call = { .args = { id } };

    return ty_cli_get(cli, TY_ROUTE_run_get, &call, ret, err);
}

/* <experiment>_<seconds>_<8 hex>: as long as an id is, so it is no prefix. */
static bool is_whole_id(const char *ref)
{
    size_t n = strlen(ref);

    return n > 20 && ref[n - 9] == '_' && strspn(ref + n - 8, "0123456789abcdef") == 8;
}

static int last_run(struct ty_cli *cli, char **ret, struct ty_error *err)
{
    struct ty_call call = { .query = "limit=1" };
    CLEANUP_JSON json_t *page = NULL;
    const char *id;
    int r = ty_cli_get(cli, TY_ROUTE_run_list, &call, &page, err);

    if (r < 0)
        return r;
    id = json_string_value(json_object_get(json_array_get(json_object_get(page, "runs"), 0), "id"));
    if (!id)
        return ty_error_set(
            err, -ENOENT, "there is no run yet that '@last' could name; 'trainyard run' makes one");
    *ret = strdup(id);
    return *ret ? 0 : ty_error_oom(err);
}

/* What a prefix has met so far. */
struct candidates {
    const char *prefix;
    struct ty_str list;
    char *first;
    int n;
    bool exact;
};

static void look_at(struct candidates *c, const json_t *runs)
{
    const json_t *run;
    size_t i;

    json_array_foreach (runs, i, run) {
        const char *id = ty_out_str(run, "id");

        if (c->exact || !ty_starts_with(id, c->prefix))
            continue;
        c->exact = strcmp(id, c->prefix) == 0;
        if (c->exact || c->n == 0) {
            free(c->first);
            c->first = strdup(id);
        }
        c->n = c->exact ? 1 : c->n + 1;
        if (c->n <= SHOWN_MAX)
            ty_str_addf(&c->list, "%s%s", c->n > 1 ? ", " : "", id);
    }
}

static int look_through(struct ty_cli *cli, struct candidates *c, struct ty_error *err)
{
    CLEANUP_FREE char *query = ty_strf("limit=%d", PAGE);
    int i;

    for (i = 0; i < PAGES_MAX && query && !c->exact; i++) {
        struct ty_call call = { .query = query };
        CLEANUP_JSON json_t *page = NULL;
        CLEANUP_STR struct ty_str next = { 0 };
        int r = ty_cli_get(cli, TY_ROUTE_run_list, &call, &page, err);

        if (r < 0)
            return r;
        look_at(c, json_object_get(page, "runs"));
        if (!json_is_string(json_object_get(page, "next")))
            return 0;
        ty_str_addf(&next, "limit=%d&before=", PAGE);
        ty_str_add_url(&next, ty_out_str(page, "next"), false);
        free(query);
        query = ty_str_take(&next);
    }
    return query ? 0 : ty_error_oom(err);
}

int ty_cli_run_id(struct ty_cli *cli, const char *ref, char **ret, struct ty_error *err)
{
    struct candidates c = { .prefix = ref };
    int r;

    if (!strcmp(ref, "@last"))
        return last_run(cli, ret, err);
    if (is_whole_id(ref)) {
        *ret = strdup(ref);
        return *ret ? 0 : ty_error_oom(err);
    }
    r = ref[0] ? look_through(cli, &c, err) : 0;
    if (r == 0 && c.n == 0)
        r = ty_error_set(err, -ENOENT,
                         "no run is named '%s' or begins so; 'trainyard ps -a' lists all", ref);
    if (r == 0 && c.n > 1)
        r = ty_error_set(err, -EINVAL,
                         "'%s' is the beginning of %d runs: %s%s; write more of the name", ref, c.n,
                         c.list.text ? c.list.text : "", c.n > SHOWN_MAX ? ", ..." : "");
    if (r == 0 && !c.first)
        r = ty_error_oom(err);
    if (r == 0)
        *ret = TAKE(c.first);
    free(c.first);
    ty_str_done(&c.list);
    return r;
}

int ty_cli_run_events(struct ty_cli *cli, const char *id,
                      void (*fn)(const json_t *event, void *ctx), void *ctx, struct ty_error *err)
{
    json_int_t seq = 0;
    size_t n = PAGE;
    int i;

    for (i = 0; i < EVENT_PAGES_MAX && n == PAGE; i++) {
        CLEANUP_FREE char *query = ty_strf("after=%lld&limit=%d", (long long)seq, PAGE);
        struct ty_call call = { .args = { id }, .query = query };
        CLEANUP_JSON json_t *page = NULL;
        const json_t *event;
        size_t k;
        int r = query ? ty_cli_get(cli, TY_ROUTE_run_events, &call, &page, err) : ty_error_oom(err);

        if (r < 0)
            return r;
        n = json_array_size(json_object_get(page, "events"));
        json_array_foreach (json_object_get(page, "events"), k, event) {
            seq = json_integer_value(json_object_get(event, "seq"));
            fn(event, ctx);
        }
    }
    return 0;
}

int64_t ty_cli_run_size(const json_t *run)
{
    int64_t nodes = json_integer_value(json_object_get(run, "node_count")),
            each = json_integer_value(json_object_get(run, "process_count_per_node"));

    return (nodes > 1 ? nodes : 1) * (each > 1 ? each : 1);
}

int ty_cli_run_code(const json_t *run)
{
    const json_t *code = json_object_get(run, "exit_code"),
                 *sig = json_object_get(run, "exit_signal");
    bool completed = strcmp(ty_out_str(run, "state"), "Completed") == 0;

    if (completed)
        return TY_EXIT_OK;
    if (json_is_integer(sig) && json_integer_value(sig) > 0)
        return 128 + (int)json_integer_value(sig);
    if (json_is_integer(code) && json_integer_value(code) > 0)
        return (int)json_integer_value(code);
    return TY_EXIT_OWN;
}

char *ty_cli_run_advice(const json_t *run)
{
    static const char said[] = "ModuleNotFoundError: No module named '";
    const char *at = NULL,
               *next = strstr(ty_out_str(json_object_get(run, "error"), "log_tail"), said);
    size_t n;

    for (; next; next = strstr(at, said))
        at = next + strlen(said);
    n = at ? strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") : 0;
    if (n == 0 || n > 64)
        return NULL;
    if (n == 5 && !strncmp(at, "torch", n))
        return strdup(
            "its Python has no torch: 'trainyard doctor' shows those that have it, to be named in "
            "the command, and 'trainyard run --torch any' installs one");
    return ty_strf(
        "if '%.*s' is a package, 'trainyard run --pip PACKAGE' brings it; if it is a file of yours, "
        "it has to lie in the folder that is submitted",
        (int)n, at);
}

void ty_cli_run_outcome(const json_t *run)
{
    CLEANUP_FREE char *advice = ty_cli_run_advice(run);
    const char *message = ty_out_str(json_object_get(run, "error"), "message");
    CLEANUP_FREE char *safe = ty_out_safe(message);

    fflush(stdout);
    fprintf(stderr, "trainyard: run '%s' %s%s%s\n", ty_out_str(run, "id"), ty_out_str(run, "state"),
            message[0] ? ": " : "", safe ? safe : "");
    if (advice)
        fprintf(stderr, "  %s\n", advice);
}
