/* runs.c - runs: submit, list, show, change, remove; what they logged
 *
 * A change is given to sched and the request is held until it is stored.  What the reply shows is
 * read from the store after that.
 */
#include "base/conf.h"
#include "core/ids.h"
#include "core/row.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

#define RUNS_DEFAULT 100
#define EVENTS_DEFAULT 1000
#define ROWS_DEFAULT 10000
#define METRICS_ON_LOOP 2000 /* rows */

int run_missing(struct request *req, int r, const char *run)
{
    if (r == -ENOENT)
        return ty_error_set(&req->err, r,
                            "there is no run '%.255s'; `trainyard ps -a` lists all runs", run);
    errno = -r;
    return ty_error_set(&req->err, r, "cannot read run '%.255s' from the state folder: %m", run);
}

static int read_failed(struct request *req, int r, const char *what)
{
    errno = -r;
    return ty_error_set(&req->err, r, "cannot read the %s from the state folder: %m", what);
}

static int reply_run(struct request *req, struct reply *reply, unsigned status, const char *run,
                     bool with_spec)
{
    json_t *j = NULL;
    int r;

    if (!req->conn)
        return 0; /* nobody is left to be told, and the store may be closed */
    r = ty_store_run(req->http->o.store, run, with_spec, &j);
    if (r < 0)
        return run_missing(req, r, run);
    ty_sched_annotate(req->http->o.sched, j);
    return reply_json(reply, status, j);
}

/* ---- changes ---- */

static void on_submitted(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct request *req = ctx;

    if (r == 0) {
        r = reply_run(req, &req->reply, 201, run, true);
        err = NULL;
    }
    request_changed(req, r, err);
}

static void on_changed(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct request *req = ctx;

    if (r == 0) {
        r = reply_run(req, &req->reply, 200, run, false);
        err = NULL;
    }
    request_changed(req, r, err);
}

static void on_gone(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct request *req = ctx;

    (void)run;
    if (r == 0)
        r = reply_nothing(&req->reply);
    request_changed(req, r, err);
}

/* A user of many may let others pass, and not pass them. */
static int check_priority(struct request *req, const json_t *spec)
{
    return json_integer_value(json_object_get(spec, "priority")) > 0
               ? auth_need_admin(req, "give a run a priority above 0")
               : 0;
}

int ty_http_run_submit(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *spec = NULL;
    int r = request_json(req, "run spec", &spec);

    (void)reply;
    if (r == 0)
        r = check_priority(req, spec);
    if (r == 0 && json_is_string(json_object_get(spec, "parent")))
        r = auth_run(req, json_string_value(json_object_get(spec, "parent")), true);
    if (r < 0)
        return r;
    request_hold(req);
    return request_held(req, ty_sched_submit(req->http->o.sched, req->args[0], spec, &req->who,
                                             on_submitted, req, &req->err));
}

int ty_http_run_cancel(struct request *req, struct reply *reply)
{
    (void)reply;
    request_hold(req);
    return request_held(
        req, ty_sched_cancel(req->http->o.sched, req->args[0], on_changed, req, &req->err));
}

int ty_http_run_tag(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *change = NULL;
    int r = request_json(req, "change of tags", &change);

    (void)reply;
    if (r < 0)
        return r;
    request_hold(req);
    return request_held(
        req, ty_sched_tag(req->http->o.sched, req->args[0], change, on_changed, req, &req->err));
}

int ty_http_run_properties(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *change = NULL;
    int r = request_json(req, "change of properties", &change);

    (void)reply;
    if (r < 0)
        return r;
    request_hold(req);
    return request_held(req, ty_sched_properties(req->http->o.sched, req->args[0], change,
                                                 on_changed, req, &req->err));
}

int ty_http_run_end(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *end = NULL;
    int r = request_json(req, "end of a run", &end);

    (void)reply;
    if (r < 0)
        return r;
    request_hold(req);
    return request_held(
        req, ty_sched_end(req->http->o.sched, req->args[0], end, on_changed, req, &req->err));
}

int ty_http_rows_add(struct request *req, struct reply *reply)
{
    int64_t writer = request_count(req, "writer", -1), first = request_count(req, "first", -1);

    (void)reply;
    if (writer < 0 || first < 0)
        return ty_error_set(&req->err, -EINVAL, "the query lacks '%s'",
                            writer < 0 ? "writer" : "first");
    request_hold(req);
    return request_held(req, ty_sched_rows(req->http->o.sched, req->args[0], (uint32_t)writer,
                                           (uint64_t)first, req->body.text, req->body.len, on_gone,
                                           req, &req->err));
}

int ty_http_run_delete(struct request *req, struct reply *reply)
{
    (void)reply;
    request_hold(req);
    return request_held(req,
                        ty_sched_delete(req->http->o.sched, req->args[0], on_gone, req, &req->err));
}

/* ---- reads ---- */

int ty_http_run_get(struct request *req, struct reply *reply)
{
    return reply_run(req, reply, 200, req->args[0], true);
}

int ty_http_experiment_list(struct request *req, struct reply *reply)
{
    json_t *list = NULL;
    int r = ty_store_experiments(req->http->o.store, &list);

    return r < 0 ? read_failed(req, r, "experiments")
                 : reply_json(reply, 200, json_pack("{s:o}", "experiments", list));
}

static int check_state(struct request *req, const char *state)
{
    CLEANUP_STR struct ty_str known = { 0 };

    if (!state || strcmp(state, "active") == 0 || strcmp(state, "ended") == 0 ||
        ty_run_state_parse(state) >= 0)
        return 0;
    for (int i = 0; i < TY_RUN_STATE_COUNT; i++)
        ty_str_addf(&known, "%s, ", ty_run_state_word(i));
    return ty_error_set(&req->err, -EINVAL,
                        "the query parameter 'state' is '%.80s'; it can be %sactive or ended",
                        state, known.text ? known.text : "");
}

static int read_filter(struct request *req, struct ty_run_filter *f, char **tag)
{
    const char *given = request_param(req, "tag");
    char *value;
    int64_t id;
    int r;

    *f = (struct ty_run_filter){ .experiment = request_param(req, "experiment"),
                                 .target = request_param(req, "target"),
                                 .state = request_param(req, "state"),
                                 .user = request_param(req, "user"),
                                 .parent = request_param(req, "parent"),
                                 .top = request_switch(req, "top"),
                                 .before = request_param(req, "before"),
                                 .limit = (int)request_count(req, "limit", RUNS_DEFAULT) };
    if (given) {
        *tag = strdup(given);
        if (!*tag)
            return ty_error_oom(&req->err);
        value = strchr(*tag, '=');
        if (value)
            *value++ = '\0';
        f->tag = *tag;
        f->tag_value = value;
    }
    if (f->before) {
        r = ty_store_run_id(req->http->o.store, f->before, &id);
        if (r < 0)
            return run_missing(req, r, f->before);
    }
    return check_state(req, f->state);
}

int runs_only_own(struct request *req, struct ty_run_filter *f)
{
    if (auth_is_admin(req) || ty_conf_bool(req->http->o.conf, "system.shared"))
        return 0;
    if (f->user && strcmp(f->user, req->who.name) != 0)
        return ty_error_set(&req->err, -EACCES,
                            "the runs of user '%.80s' can be read by them and by an administrator "
                            "(root) only",
                            f->user);
    f->user = req->who.name;
    return 0;
}

int ty_http_run_list(struct request *req, struct reply *reply)
{
    CLEANUP_FREE char *tag = NULL, *next = NULL;
    struct ty_run_filter f;
    CLEANUP_JSON json_t *runs = NULL;
    int r = read_filter(req, &f, &tag);

    if (r < 0)
        return r;
    r = runs_only_own(req, &f);
    if (r < 0)
        return r;
    r = ty_store_runs(req->http->o.store, &f, &runs, &next);
    if (r < 0)
        return read_failed(req, r, "runs");
    ty_sched_annotate_all(req->http->o.sched, runs);
    return reply_json(reply, 200, json_pack("{s:O s:s?}", "runs", runs, "next", next));
}

int ty_http_run_events(struct request *req, struct reply *reply)
{
    json_t *events = NULL;
    int64_t id;
    int r = ty_store_run_id(req->http->o.store, req->args[0], &id);

    if (r < 0)
        return run_missing(req, r, req->args[0]);
    r = ty_store_events(req->http->o.store, id, request_count(req, "after", 0),
                        (int)request_count(req, "limit", EVENTS_DEFAULT), &events);
    return r < 0 ? read_failed(req, r, "events")
                 : reply_json(reply, 200, json_pack("{s:o}", "events", events));
}

int ty_http_run_environments(struct request *req, struct reply *reply)
{
    json_t *list = NULL;
    int64_t id;
    int r = ty_store_run_id(req->http->o.store, req->args[0], &id);

    if (r < 0)
        return run_missing(req, r, req->args[0]);
    r = ty_store_environments(req->http->o.store, id, &list);
    return r < 0 ? read_failed(req, r, "environments")
                 : reply_json(reply, 200, json_pack("{s:o}", "environments", list));
}

/* ---- what was logged ---- */

/* What is asked for; kept with a request that the pool answers. */
struct metrics_query {
    int64_t run, rows; /* rows 0: in Azure ML's shapes */
    const char *name;
    bool system; /* how many there are is not counted */
};

static int reply_metrics(struct request *req, const struct metrics_query *m, int r, json_t *found)
{
    if (r == -EFBIG)
        return ty_error_set(&req->err, r,
                            "the run has logged more than the %d values that one reply holds; ask "
                            "for one metric (name)",
                            TY_STORE_VALUES_MAX);
    return r < 0 ? read_failed(req, r, "metrics")
                 : reply_json(&req->reply, 200,
                              json_pack("{s:o}", m->rows > 0 ? "rows" : "metrics", found));
}

static int metrics_on_pool(struct request *req)
{
    const struct metrics_query *m = req->data;
    json_t *found = NULL;
    int r = ty_store_read_metrics(req->http->o.home, m->run, m->name, m->rows, &found);

    return reply_metrics(req, m, r, found);
}

/* Few rows are read at once; more would keep everybody else waiting. */
static int read_metrics(struct request *req, const struct metrics_query *m)
{
    struct ty_store *store = req->http->o.store;
    struct metrics_query *kept;
    json_t *found = NULL;
    int64_t count = 0;
    int r = ty_store_row_count(store, m->run, &count);

    if (r == 0 && (count > METRICS_ON_LOOP || m->system)) {
        kept = malloc(sizeof *kept);
        if (!kept)
            return ty_error_oom(&req->err);
        *kept = *m;
        request_keep(req, kept, free);
        return request_work(req, metrics_on_pool, NULL);
    }
    if (r == 0)
        r = m->rows > 0 ? ty_store_rows_json(store, m->run, m->name, m->rows, &found)
                        : ty_store_metrics(store, m->run, m->name, &found);
    return reply_metrics(req, m, r, found);
}

int ty_http_metrics_get(struct request *req, struct reply *reply)
{
    const char *form = request_param(req, "form");
    bool rows = form && strcmp(form, "rows") == 0;
    struct metrics_query m = { .name = request_param(req, "name") };
    int r;

    (void)reply;
    m.system =
        request_switch(req, "system") || (m.name && ty_row_is_system(m.name, strlen(m.name)));
    if (m.system && !m.name)
        m.name = TY_ROW_SYSTEM;
    if (form && !rows && strcmp(form, "azureml") != 0)
        return ty_error_set(&req->err, -EINVAL,
                            "the query parameter 'form' is '%.80s'; it can be rows or azureml",
                            form);
    if (!rows && request_param(req, "limit"))
        return ty_error_set(&req->err, -EINVAL, "the query parameter 'limit' needs form=rows");
    r = ty_store_run_id(req->http->o.store, req->args[0], &m.run);
    if (r < 0)
        return run_missing(req, r, req->args[0]);
    if (rows)
        m.rows = request_count(req, "limit", ROWS_DEFAULT);
    return read_metrics(req, &m);
}
