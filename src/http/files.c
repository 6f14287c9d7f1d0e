/* files.c - the files of a run: its logs, as far as they are stored, and its artifacts */
#include "base/fs.h"
#include "blob/blob.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FILES_ON_LOOP 1000

/* Where in the log that begins which came since the time that is asked for. */
static int log_since(struct request *req, int64_t id, const char *log, uint64_t *ret)
{
    int64_t at_us = request_time(req, "since", INT64_MIN);

    *ret = 0;
    return at_us == INT64_MIN
               ? 0
               : ty_store_log_since(req->http->o.store, id, req->args[0], log, at_us, ret);
}

static int add_offsets(struct request *req, int64_t id, json_t *files)
{
    json_t *file;
    size_t i;
    int r = 0;

    json_array_foreach (files, i, file) {
        const char *kind = json_string_value(json_object_get(file, "kind"));
        uint64_t offset;

        if (!kind || strcmp(kind, "log") != 0 || r < 0)
            continue;
        r = log_since(req, id, json_string_value(json_object_get(file, "path")), &offset);
        if (r == 0)
            json_object_set_new(file, "offset", json_integer((json_int_t)offset));
    }
    return r;
}

static int list_on_pool(struct request *req)
{
    json_t *files = NULL;
    int r = ty_store_read_files(req->http->o.home, *(const int64_t *)req->data, &files);

    return r < 0 ? run_missing(req, r, req->args[0])
                 : reply_json(&req->reply, 200, json_pack("{s:o}", "files", files));
}

/* Many files would keep everybody else waiting. */
static int list_many(struct request *req, int64_t run)
{
    int64_t *kept = malloc(sizeof *kept);

    if (!kept)
        return ty_error_oom(&req->err);
    *kept = run;
    request_keep(req, kept, free);
    return request_work(req, list_on_pool, NULL);
}

int ty_http_file_list(struct request *req, struct reply *reply)
{
    json_t *files = NULL;
    int64_t id, count = 0;
    int r = ty_store_run_id(req->http->o.store, req->args[0], &id);

    if (r == 0)
        r = ty_store_artifact_count(req->http->o.store, id, &count);
    if (r == 0 && count > FILES_ON_LOOP && !request_param(req, "since"))
        return list_many(req, id);
    if (r == 0)
        r = ty_store_files(req->http->o.store, id, &files);
    if (r == 0 && request_param(req, "since")) {
        r = add_offsets(req, id, files);
        if (r < 0)
            json_decref(files);
    }
    return r < 0 ? run_missing(req, r, req->args[0])
                 : reply_json(reply, 200, json_pack("{s:o}", "files", files));
}

static int check_path(struct request *req)
{
    if (ty_path_is_inside(req->args[1]))
        return 0;
    return ty_error_set(
        &req->err, -EINVAL,
        "'%.200s' cannot be the path of a file of a run: it is relative, without empty "
        "parts, '.' and '..'",
        req->args[1]);
}

/* ---- reading ---- */

int reply_file(struct request *req, struct reply *reply, int fd, uint64_t from, uint64_t bytes,
               const char *type)
{
    uint64_t offset = from + (uint64_t)request_count(req, "offset", 0);

    if (offset > bytes) {
        close(fd);
        return ty_error_set(&req->err, -EINVAL,
                            "'%.200s' has %llu bytes; the offset %llu is behind its end",
                            req->args[1], (unsigned long long)bytes, (unsigned long long)offset);
    }
    return reply_fd(reply, fd, offset, bytes - offset, type);
}

/* A log has as many bytes as the store says: what lies behind them in the file is not committed
 * yet. */
static int get_log(struct request *req, struct reply *reply, int64_t id, const char *log,
                   uint64_t bytes)
{
    uint64_t from;
    int r = log_since(req, id, log, &from);
    CLEANUP_FREE char *path = ty_store_log_path(req->http->o.store, req->args[0], log);
    int fd;

    if (r < 0)
        return run_missing(req, r, req->args[0]);
    if (!path)
        return ty_error_oom(&req->err);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && bytes == 0) /* nothing was written to it yet */
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ty_error_set(&req->err, -EIO, "cannot open the log '%.200s' of run '%s': %m",
                            req->args[1], req->args[0]);
    return reply_file(req, reply, fd, from, bytes, "text/plain; charset=utf-8");
}

static int get_artifact(struct request *req, struct reply *reply, int64_t id)
{
    uint64_t bytes;
    char sha[65];
    int r = ty_store_artifact(req->http->o.store, id, req->args[1], sha, &bytes), fd;

    if (r == -ENOENT)
        return ty_error_set(
            &req->err, r,
            "run '%s' has no file '%.200s'; `trainyard artifacts ls %s` lists those it has",
            req->args[0], req->args[1], req->args[0]);
    if (r < 0)
        return run_missing(req, r, req->args[0]);
    fd = ty_blob_open(req->http->o.blobs, sha);
    if (fd < 0) {
        errno = -fd;
        return ty_error_set(&req->err, -EIO,
                            "the content of '%.200s' of run '%s' cannot be read (blob %s): %m",
                            req->args[1], req->args[0], sha);
    }
    return reply_file(req, reply, fd, 0, bytes, "application/octet-stream");
}

int ty_http_file_get(struct request *req, struct reply *reply)
{
    char buf[TY_DRIVER_LOG_MAX];
    const char *log = log_name(req->args[1], buf);
    uint64_t bytes;
    int64_t id;
    int r = check_path(req);

    if (r < 0)
        return r;
    r = ty_store_run_id(req->http->o.store, req->args[0], &id);
    if (r < 0)
        return run_missing(req, r, req->args[0]);
    r = ty_store_log_size(req->http->o.store, id, log, &bytes);
    if (r == 0)
        return get_log(req, reply, id, log, bytes);
    if (request_param(req, "since"))
        return ty_error_set(&req->err, -EINVAL,
                            "run '%s' has no log '%.200s'; the query parameter 'since' is for logs",
                            req->args[0], req->args[1]);
    return get_artifact(req, reply, id);
}

/* ---- adding an artifact ---- */

static int file_put_begin(struct request *req)
{
    char buf[TY_DRIVER_LOG_MAX];
    uint64_t bytes;
    int64_t id;
    int r = check_path(req);

    if (r < 0)
        return r;
    r = ty_store_run_id(req->http->o.store, req->args[0], &id);
    if (r < 0)
        return run_missing(req, r, req->args[0]);
    if (ty_store_log_size(req->http->o.store, id, log_name(req->args[1], buf), &bytes) == 0)
        return ty_error_set(&req->err, -EEXIST,
                            "'%.200s' is a log of run '%s'; give the artifact another path",
                            req->args[1], req->args[0]);
    return blob_sink_begin(req);
}

const struct sink file_put_sink = { .begin = file_put_begin, .write = blob_sink_write };

static int finish_artifact(struct request *req)
{
    return blob_sink_finish(req, NULL, true);
}

static void on_added(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct request *req = ctx;

    (void)run;
    if (r == 0)
        r = reply_json(&req->reply, 201,
                       json_pack("{s:s s:I s:s s:s}", "path", req->args[1], "bytes",
                                 (json_int_t)req->received, "kind", "artifact", "sha256",
                                 req->sha));
    request_changed(req, r, err);
}

static int add_artifact(struct request *req)
{
    request_hold(req);
    return request_held(req, ty_sched_artifact(req->http->o.sched, req->args[0], req->args[1],
                                               req->sha, req->received, on_added, req, &req->err));
}

int ty_http_file_put(struct request *req, struct reply *reply)
{
    (void)reply;
    return request_work(req, finish_artifact, add_artifact);
}
