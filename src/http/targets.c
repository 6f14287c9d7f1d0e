/* targets.c - compute targets */
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

static int target_missing(struct request *req, int r)
{
    if (r == -ENOENT)
        return ty_error_set(
            &req->err, r,
            "there is no compute target '%.80s'; `trainyard target ls` shows those that are, and "
            "`trainyard target add` or ComputeTarget.create make others",
            req->args[0]);
    errno = -r;
    return ty_error_set(&req->err, r,
                        "cannot read the compute target '%.80s' from the state folder: %m",
                        req->args[0]);
}

int ty_http_target_list(struct request *req, struct reply *reply)
{
    json_t *list = NULL, *target;
    size_t i;
    int r = ty_store_targets(req->http->o.store, &list);

    if (r < 0) {
        errno = -r;
        return ty_error_set(&req->err, r,
                            "cannot read the compute targets from the state folder: %m");
    }
    json_array_foreach (list, i, target)
        ty_sched_annotate_target(req->http->o.sched, target);
    return reply_json(reply, 200, json_pack("{s:o}", "targets", list));
}

static int reply_target(struct request *req, struct reply *reply, unsigned status)
{
    json_t *j = NULL;
    int r;

    if (!req->conn)
        return 0; /* nobody is left to be told, and the store may be closed */
    r = ty_store_target(req->http->o.store, req->args[0], &j);

    if (r < 0)
        return target_missing(req, r);
    ty_sched_annotate_target(req->http->o.sched, j);
    return reply_json(reply, status, j);
}

int ty_http_target_get(struct request *req, struct reply *reply)
{
    return reply_target(req, reply, 200);
}

static void on_put(void *ctx, int r, const char *name, const struct ty_error *err)
{
    struct request *req = ctx;

    (void)name;
    if (r == 0) {
        r = reply_target(req, &req->reply, req->bytes ? 200 : 201);
        err = NULL;
    }
    request_changed(req, r, err);
}

static void on_deleted(void *ctx, int r, const char *name, const struct ty_error *err)
{
    struct request *req = ctx;

    (void)name;
    if (r == 0)
        r = reply_nothing(&req->reply);
    request_changed(req, r, err);
}

/* Under a daemon of the whole machine a user may make targets of this box, or of what the configuration names.  A machine or
 * cluster of their own choice would get the jobs of whoever takes the name for the service's, and commands of their
 * own choice would be started for others. */
static int may_make(struct request *req, const json_t *spec)
{
    static const char *const all[] = { "vm_size",     "min_nodes",
                                       "max_nodes",   "idle_seconds_before_scaledown",
                                       "vm_priority", "require_gpu",
                                       "description", "tags" };
    const char *key, *kind = json_string_value(json_object_get(spec, "kind"));
    json_t *value;

    if (auth_is_admin(req))
        return 0;
    json_object_foreach ((json_t *)spec, key, value) {
        bool plain =
            json_is_null(value) || (strcmp(key, "kind") == 0 && kind && strcmp(kind, "local") == 0);

        for (size_t i = 0; i < sizeof all / sizeof *all && !plain; i++)
            plain = strcmp(key, all[i]) == 0;
        if (!plain)
            return ty_error_set(&req->err, -EACCES,
                                "only an administrator (root) can make a compute target with its "
                                "own '%.40s': this daemon serves all users of the machine; leave "
                                "it out, or ask them",
                                key);
    }
    return 0;
}

int ty_http_target_put(struct request *req, struct reply *reply)
{
    CLEANUP_JSON json_t *spec = NULL;
    CLEANUP_JSON json_t *before = NULL;
    int r = request_json(req, "target spec", &spec);

    (void)reply;
    if (r == 0)
        r = may_make(req, spec);
    if (r == 0)
        r = target_fill(req->http->o.conf, spec, &req->err);
    if (r < 0)
        return r;
    req->bytes = ty_store_target(req->http->o.store, req->args[0], &before) ==
                 0; /* it exists: 200, not 201 */
    if (req->bytes && (r = auth_need_admin(req, "change a compute target that exists")) < 0)
        return r;
    request_hold(req);
    return request_held(req,
                        ty_sched_target_put(req->http->o.sched, req->args[0], spec,
                                            request_switch(req, "ask"), on_put, req, &req->err));
}

int ty_http_target_delete(struct request *req, struct reply *reply)
{
    (void)reply;
    request_hold(req);
    return request_held(
        req, ty_sched_target_delete(req->http->o.sched, req->args[0], on_deleted, req, &req->err));
}

static void on_drained(void *ctx, int r, const char *name, const struct ty_error *err)
{
    struct request *req = ctx;

    (void)name;
    if (r == 0) {
        r = reply_target(req, &req->reply, 200);
        err = NULL;
    }
    request_changed(req, r, err);
}

static int change_drain(struct request *req, bool drained)
{
    static const char *const known[] = { "node", NULL };
    CLEANUP_JSON json_t *body = NULL;
    const char *node = NULL;
    int r = request_json(req, "node to drain or to resume", &body);

    if (r == 0)
        r = ty_json_only(body, "what to drain or resume", known, &req->err);
    if (r == 0)
        r = ty_json_get_str(body, "what to drain or resume", "node", &node, &req->err);
    if (r < 0)
        return r;
    request_hold(req);
    return request_held(req, ty_sched_drain(req->http->o.sched, req->args[0], node, drained,
                                            on_drained, req, &req->err));
}

int ty_http_target_drain(struct request *req, struct reply *reply)
{
    (void)reply;
    return change_drain(req, true);
}

int ty_http_target_resume(struct request *req, struct reply *reply)
{
    (void)reply;
    return change_drain(req, false);
}

int ty_http_node_list(struct request *req, struct reply *reply)
{
    json_t *nodes = NULL;

    if (ty_sched_nodes(req->http->o.sched, &nodes) < 0)
        return ty_error_oom(&req->err);
    return reply_json(reply, 200, nodes);
}
