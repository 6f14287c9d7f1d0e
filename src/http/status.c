/* status.c - the daemon itself: how it is, checking its store, collecting garbage, stopping */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>
#include <trainyard/client.h>
#include <unistd.h>

static json_t *store_word(const struct ty_store *st)
{
    int r = ty_store_failed(st);

    return r == 0         ? json_string("ok")
           : r == -ENOSPC ? json_string("the disk is full")
                          : json_string(strerror(-r));
}

int ty_http_status_get(struct request *req, struct reply *reply)
{
    const struct ty_http_options *o = &req->http->o;
    CLEANUP_JSON json_t *counts = NULL;
    char started[32];
    json_t *j;
    int r = ty_store_counts(o->store, &counts);

    if (r < 0) {
        errno = -r;
        return ty_error_set(&req->err, r, "cannot read the state folder '%s': %m", o->home);
    }
    j = json_pack("{s:s s:i s:i s:s s:s s:O? s:I s:o}", "version", TY_VERSION, "api", TY_API, "pid",
                  (int)getpid(), "home", o->home, "started", ty_time_iso(o->started_us, started),
                  "db_bytes", json_object_get(counts, "db_bytes"), "free_bytes",
                  (json_int_t)ty_fs_free_bytes(o->home), "store", store_word(o->store));
    ty_sched_status(o->sched, j);
    json_object_set_new(j, "limits",
                        json_pack("{s:I s:I}", "snapshot_bytes",
                                  (json_int_t)ty_conf_number(o->conf, "limits.snapshot_bytes"),
                                  "snapshot_files",
                                  (json_int_t)ty_conf_number(o->conf, "limits.snapshot_files")));
    json_object_set(json_object_get(j, "runs"), "total", json_object_get(counts, "runs"));
    return reply_json(reply, 200, j);
}

static int check_on_pool(struct request *req)
{
    int64_t runs = 0;
    struct ty_error first = { 0 };
    int differ = ty_store_check(req->http->o.home, &runs, &first);

    if (differ < 0) {
        req->err = first;
        return differ;
    }
    return reply_json(&req->reply, 200,
                      json_pack("{s:I s:i s:s?}", "runs", (json_int_t)runs, "differ", differ,
                                "first", differ ? first.text : NULL));
}

int ty_http_store_check(struct request *req, struct reply *reply)
{
    (void)reply;
    return request_work(req, check_on_pool, NULL);
}

/* One copy at a time lies in backup/: whoever asks again wants a fresh one. */
static int copy_on_pool(struct request *req)
{
    CLEANUP_FREE char *folder = ty_path_join(req->http->o.home, "backup");
    CLEANUP_FREE char *path = folder ? ty_path_join(folder, "state.db") : NULL;
    CLEANUP_JSON json_t *counts = req->data ? json_incref(req->data) : NULL;
    int r = path ? ty_rm_rf(folder) : -ENOMEM;

    if (r == 0)
        r = ty_mkdir_p(folder, 0700);
    if (r < 0)
        return ty_error_set(&req->err, r, "cannot make the folder '%s': %s",
                            folder ? folder : "backup", strerror(-r));
    r = ty_store_copy(req->http->o.home, path, &req->err);
    if (r < 0) {
        ty_rm_rf(folder);
        return r;
    }
    return reply_json(&req->reply, 200,
                      json_pack("{s:s s:s s:O}", "home", req->http->o.home, "database",
                                "backup/state.db", "runs", json_object_get(counts, "runs")));
}

static void forget(void *counts)
{
    json_decref(counts);
}

int ty_http_backup_begin(struct request *req, struct reply *reply)
{
    json_t *counts = NULL;
    int r = ty_store_counts(req->http->o.store, &counts);

    (void)reply;
    if (r < 0)
        return ty_error_set(&req->err, r, "cannot read the state folder '%s': %s",
                            req->http->o.home, strerror(-r));
    request_keep(req, counts, forget);
    return request_work(req, copy_on_pool, NULL);
}

int ty_http_daemon_stop(struct request *req, struct reply *reply)
{
    req->stop_after = true;
    return reply_nothing(reply);
}

static void on_collected(void *ctx, int r, json_t *report, const struct ty_error *err)
{
    struct request *req = ctx;

    if (r == 0)
        r = reply_json(&req->reply, 200, json_incref(report));
    request_answer(req, r, err); /* the store may be closed by now */
    request_release(req);
}

int ty_http_gc_run(struct request *req, struct reply *reply)
{
    (void)reply;
    request_hold(req);
    return request_held(req, ty_sched_gc(req->http->o.sched, on_collected, req, &req->err));
}
