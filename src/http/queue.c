/* queue.c - the queue: what waits, pausing and resuming */
#include "http/request.h"
#include <errno.h>

static int reply_queue(struct request *req, struct reply *reply)
{
    json_t *queue = NULL;

    if (!req->conn)
        return 0; /* nobody is left to be told */
    if (ty_sched_queue(req->http->o.sched, &queue) < 0)
        return ty_error_oom(&req->err);
    return reply_json(reply, 200, queue);
}

int ty_http_queue_get(struct request *req, struct reply *reply)
{
    return reply_queue(req, reply);
}

static void on_changed(void *ctx, int r, const char *name, const struct ty_error *err)
{
    struct request *req = ctx;

    (void)name;
    if (r == 0) {
        r = reply_queue(req, &req->reply);
        err = NULL;
    }
    request_changed(req, r, err);
}

int ty_http_queue_change(struct request *req, struct reply *reply)
{
    static const char *const known[] = { "paused", NULL };
    CLEANUP_JSON json_t *change = NULL;
    const json_t *paused;
    int r = request_json(req, "change of the queue", &change);

    (void)reply;
    if (r < 0)
        return r;
    paused = json_object_get(change, "paused");
    if (!json_is_boolean(paused))
        return ty_error_set(&req->err, -EINVAL,
                            "a change of the queue is an object with 'paused', true or false");
    r = ty_json_only(change, "a change of the queue", known, &req->err);
    if (r < 0)
        return r;
    request_hold(req);
    return request_held(
        req, ty_sched_pause(req->http->o.sched, json_is_true(paused), on_changed, req, &req->err));
}
