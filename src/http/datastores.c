/* datastores.c - datastores and their files
 *
 * The bytes of an upload are written while they come in; making them last, and walking folders, is
 * work for the pool.
 */
#include "base/owner.h"
#include "core/datastore_spec.h"
#include "data/datastore.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

#define LIST_MAX 100000 /* files in one answer: docs/spec/http-api.md */

int datastore_missing(struct request *req, int r)
{
    if (r == -ENOENT)
        return ty_error_set(
            &req->err, r, "there is no datastore '%.80s'; `trainyard data ls` lists those that are",
            req->args[0]);
    errno = -r;
    return ty_error_set(&req->err, r, "cannot read the datastore '%.80s' from the state folder: %m",
                        req->args[0]);
}

int ty_http_datastore_list(struct request *req, struct reply *reply)
{
    json_t *list = NULL;
    int r = ty_store_datastores(req->http->o.store, &list);

    if (r < 0) {
        errno = -r;
        return ty_error_set(&req->err, r, "cannot read the datastores from the state folder: %m");
    }
    return reply_json(reply, 200, json_pack("{s:o}", "datastores", list));
}

int ty_http_datastore_get(struct request *req, struct reply *reply)
{
    json_t *j = NULL;
    int r = ty_store_datastore(req->http->o.store, req->args[0], &j);

    if (r < 0)
        return datastore_missing(req, r);
    return reply_json(reply, 200, j);
}

/* ---- its files ---- */

/* What the request has at work. */
struct work {
    struct ty_datastore *store;
    struct ty_data_put *put;      /* NULL: none */
    json_t *files;                /* NULL: none */
    const struct ty_owner *owner; /* whose files they are touched as; NULL: the daemon's */
};

static void work_free(void *data)
{
    struct work *w = data;

    ty_owner_enter(w->owner);
    ty_data_put_abort(w->put);
    ty_owner_leave(w->owner);
    ty_datastore_free(w->store);
    json_decref(w->files);
    free(w);
}

/* Open the datastore of the request; req->data is its struct work. */
static int open_store(struct request *req, struct work **ret)
{
    CLEANUP_JSON json_t *j = NULL;
    struct ty_datastore *d = NULL;
    const struct ty_owner *owner;
    const char *kind;
    struct work *w;
    int r = ty_store_datastore(req->http->o.store, req->args[0], &j);

    if (r < 0)
        return datastore_missing(req, r);
    kind = json_string_value(json_object_get(j, "kind"));
    if (ty_datastore_is_object(kind))
        return ty_error_set(
            &req->err, -EBUSY,
            "datastore '%s' is of kind '%s', whose files do not pass through the daemon; "
            "`trainyard data` reaches them, and so does the Python SDK",
            req->args[0], kind);
    r = auth_owner(req, &owner);
    if (r < 0)
        return r;
    r = ty_datastore_open(req->args[0], kind, json_string_value(json_object_get(j, "root")), &d,
                          &req->err);
    if (r < 0)
        return r;
    w = calloc(1, sizeof *w);
    if (!w) {
        ty_datastore_free(d);
        return ty_error_oom(&req->err);
    }
    w->store = d;
    w->owner = owner;
    request_keep(req, w, work_free);
    *ret = w;
    return 0;
}

static json_t *file_json(const char *path, uint64_t bytes)
{
    return json_pack("{s:s s:I s:s s:n}", "path", path, "bytes", (json_int_t)bytes, "kind", "data",
                     "sha256");
}

static int on_file(const char *path, uint64_t bytes, void *ctx)
{
    struct work *w = ctx;

    if (json_array_size(w->files) == LIST_MAX)
        return -EFBIG;
    return json_array_append_new(w->files, file_json(path, bytes)) < 0 ? -ENOMEM : 0;
}

static int list_files(struct request *req)
{
    struct work *w = req->data;
    int r;

    ty_owner_enter(w->owner);
    r = ty_datastore_list(w->store, request_param(req, "prefix"), on_file, w, &req->err);
    ty_owner_leave(w->owner);
    if (r == -EFBIG)
        return ty_error_set(
            &req->err, r,
            "datastore '%s' has more than %d files there, the most that one answer lists; give a "
            "longer prefix",
            req->args[0], LIST_MAX);
    return r < 0 ? r : reply_json(&req->reply, 200, json_pack("{s:o}", "files", TAKE(w->files)));
}

int ty_http_data_list(struct request *req, struct reply *reply)
{
    struct work *w;
    int r = open_store(req, &w);

    (void)reply;
    if (r < 0)
        return r;
    w->files = json_array();
    return w->files ? request_work(req, list_files, NULL) : ty_error_oom(&req->err);
}

int ty_http_data_get(struct request *req, struct reply *reply)
{
    struct work *w;
    uint64_t bytes;
    int fd = -1;
    int r = open_store(req, &w);

    if (r < 0)
        return r;
    ty_owner_enter(w->owner);
    r = ty_datastore_read(w->store, req->args[1], &fd, &bytes, &req->err);
    ty_owner_leave(w->owner);
    return r < 0 ? r : reply_file(req, reply, fd, 0, bytes, "application/octet-stream");
}

static int data_put_begin(struct request *req)
{
    struct work *w;
    int r = open_store(req, &w);

    if (r < 0)
        return r;
    ty_owner_enter(w->owner);
    r = ty_datastore_put(w->store, req->args[1], request_switch(req, "overwrite"), &w->put,
                         &req->err);
    ty_owner_leave(w->owner);
    return r;
}

static int data_put_write(struct request *req, const void *bytes, size_t n)
{
    return ty_data_put_write(((struct work *)req->data)->put, bytes, n, &req->err);
}

const struct sink data_put_sink = { .begin = data_put_begin, .write = data_put_write };

static int finish_file(struct request *req)
{
    struct work *w = req->data;
    int r;

    ty_owner_enter(w->owner);
    r = ty_data_put_finish(TAKE(w->put), &req->err);
    ty_owner_leave(w->owner);
    return r < 0 ? r : reply_json(&req->reply, 201, file_json(req->args[1], req->received));
}

int ty_http_data_put(struct request *req, struct reply *reply)
{
    (void)reply;
    return request_work(req, finish_file, NULL);
}
