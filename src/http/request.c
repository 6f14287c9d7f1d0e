/* request.c - the life of a request: holds, the suspended connection, work on the thread pool */
#include "http/request.h"
#include "base/json.h"
#include "store/store.h"
#include <errno.h>
#include <microhttpd.h>
#include <string.h>

struct request *request_new(struct ty_http *h, const char *uri)
{
    struct request *req = calloc(1, sizeof *req);

    if (req && !(req->uri = strdup(uri))) {
        free(req);
        return NULL;
    }
    if (req) {
        req->http = h;
        req->refs = 1;
        req->work.data = req;
        req->next = h->requests;
        req->slot = &h->requests;
        if (req->next)
            req->next->slot = &req->next;
        h->requests = req;
    }
    return req;
}

void request_disconnect(struct request *req)
{
    *req->slot = req->next;
    if (req->next)
        req->next->slot = req->slot;
    req->next = NULL;
    req->slot = NULL;
    req->conn = NULL;
    req->peer = NULL;
    request_release(req);
}

static void resume(struct request *req)
{
    if (req->suspended) {
        req->suspended = false;
        server_resume(req->http, req->conn);
    }
}

void requests_abandon(struct ty_http *h)
{
    for (struct request *req = h->requests; req; req = req->next)
        resume(req);
}

void request_hold(struct request *req)
{
    req->refs++;
}

void request_release(struct request *req)
{
    if (--req->refs > 0)
        return;
    request_keep(req, NULL, NULL);
    reply_done(&req->reply);
    ty_str_done(&req->body);
    free(req->uri);
    free(req);
}

void request_keep(struct request *req, void *data, void (*data_free)(void *data))
{
    if (req->data)
        req->data_free(req->data);
    req->data = data;
    req->data_free = data_free;
}

const char *request_header(const struct request *req, const char *name)
{
    return MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, name);
}

int request_json(struct request *req, const char *what, json_t **ret)
{
    int r = ty_json_parse(req->body.text ? req->body.text : "", req->body.len, ret, &req->err);

    return r < 0 ? ty_error_prefix(&req->err, "cannot read the %s", what) : 0;
}

/* The sentence for a code that came without one. */
static const char *sentence(struct request *req, int r, const struct ty_error *err)
{
    if (err && err->text[0])
        return err->text;
    if (req->err.text[0])
        return req->err.text;
    errno = -r;
    ty_error_set(&req->err, r, "the request cannot be done: %m");
    return req->err.text;
}

void request_answer(struct request *req, int r, const struct ty_error *err)
{
    if (!req->conn)
        return;
    if (r < 0)
        reply_error(&req->reply, r, sentence(req, r, err), req->plain);
    resume(req);
}

void request_changed(struct request *req, int r, const struct ty_error *err)
{
    bool refuses = r < 0 && !req->http->stopping && ty_store_failed(req->http->o.store);

    if (refuses)
        ty_sched_recover(req->http->o.sched);
    if (refuses && req->conn && r != -ENOMEM && reply_status(r) == 500)
        r = -EAGAIN;
    request_answer(req, r, err);
    request_release(req);
}

int request_held(struct request *req, int r)
{
    if (r == 0)
        return REQUEST_HELD;
    request_release(req);
    return r;
}

static void on_pool(uv_work_t *w)
{
    struct request *req = w->data;

    req->pool_r = req->on_pool(req);
}

static void on_pool_done(uv_work_t *w, int status)
{
    struct request *req = w->data;
    int r = status < 0 ? -ECANCELED : req->pool_r;

    if (r == 0 && req->after) {
        if (req->http->stopping)
            r = ty_error_set(&req->err, -ESHUTDOWN,
                             "the daemon is stopping; ask again when it is back");
        else
            r = req->after(req);
    }
    if (r != REQUEST_HELD)
        request_answer(req, r, NULL);
    request_release(req);
}

int request_work(struct request *req, int (*pool)(struct request *req),
                 int (*after)(struct request *req))
{
    int r;

    req->on_pool = pool;
    req->after = after;
    r = uv_queue_work(req->http->o.loop, &req->work, on_pool, on_pool_done);
    if (r < 0)
        return ty_error_set(&req->err, r, "cannot start the work of this request: %s",
                            uv_strerror(r));
    request_hold(req);
    return REQUEST_HELD;
}
