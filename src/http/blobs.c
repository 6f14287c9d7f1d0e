/* blobs.c - blobs and snapshots
 *
 * A blob's bytes go to the blob store while they come in; hashing, renaming, syncing and looking
 * for many blobs is work for the pool.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "blob/snapshot.h"
#include "core/ids.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* ---- putting one ---- */

static void abort_put(void *put)
{
    ty_blob_abort(put);
}

int blob_sink_begin(struct request *req)
{
    struct ty_blob_put *put = NULL;
    int r = ty_blob_begin(req->http->o.blobs, &put, &req->err);

    if (r == 0)
        request_keep(req, put, abort_put);
    return r;
}

int blob_sink_write(struct request *req, const void *bytes, size_t n)
{
    return req->data ? ty_blob_write(req->data, bytes, n, &req->err) : 0;
}

int blob_sink_finish(struct request *req, const char *expect, bool sync)
{
    struct ty_blob_put *put = TAKE(req->data);
    int r = ty_blob_finish(put, expect, req->sha, &req->err);

    if (r == 0 && sync) {
        r = ty_blobs_sync(req->http->o.blobs);
        if (r < 0) {
            errno = -r;
            ty_error_set(&req->err, r, "cannot make the blob store last: %m");
        }
    }
    return r;
}

static int check_sha(struct request *req, const char *what)
{
    return ty_sha256_valid(req->args[0])
               ? 0
               : ty_error_set(
                     &req->err, -EINVAL,
                     "'%.80s' cannot be the name of a %s, which is 64 lower-case hex digits (a SHA-256)",
                     req->args[0], what);
}

/* One that is there already needs no second copy: its bytes are read and forgotten. */
static int blob_put_begin(struct request *req)
{
    int r = check_sha(req, "blob");

    if (r < 0 || ty_blob_has(req->http->o.blobs, req->args[0]))
        return r;
    return blob_sink_begin(req);
}

const struct sink blob_put_sink = { .begin = blob_put_begin, .write = blob_sink_write };

static int finish_blob(struct request *req)
{
    int r = blob_sink_finish(req, req->args[0], false);

    return r < 0 ? r : reply_nothing(&req->reply);
}

int ty_http_blob_put(struct request *req, struct reply *reply)
{
    return req->data ? request_work(req, finish_blob, NULL) : reply_nothing(reply);
}

/* ---- which are missing ---- */

static int look_for_blobs(struct request *req)
{
    CLEANUP_STR struct ty_str missing = { 0 };
    char *rest = req->body.text, *line;

    while (rest && (line = strsep(&rest, "\n"))) {
        size_t n = strlen(line);

        if (n > 0 && line[n - 1] == '\r')
            line[n - 1] = '\0';
        if (!*line)
            continue;
        if (!ty_sha256_valid(line))
            return ty_error_set(&req->err, -EINVAL,
                                "the list of blobs has the line '%.80s', which is no SHA-256",
                                line);
        if (!ty_blob_has(req->http->o.blobs, line))
            ty_str_addf(&missing, "%s\n", line);
    }
    return missing.failed ? ty_error_oom(&req->err)
                          : reply_text(&req->reply, "text/plain; charset=utf-8", &missing);
}

int ty_http_blobs_missing(struct request *req, struct reply *reply)
{
    (void)reply;
    return request_work(req, look_for_blobs, NULL);
}

/* ---- snapshots ---- */

static int check_files(struct request *req, const struct ty_snapshot *s)
{
    const char *path, *sha;
    uint64_t bytes;

    for (size_t i = 0; ty_snapshot_file(s, i, &path, &sha, &bytes); i++) {
        int64_t have =
            ty_blob_has(req->http->o.blobs, sha) ? ty_blob_bytes(req->http->o.blobs, sha) : -ENOENT;

        if (have < 0)
            return ty_error_set(
                &req->err, -EEXIST,
                "the snapshot cannot be stored: the blob of '%.200s' (%s) is not there; put "
                "it first",
                path, sha);
        if ((uint64_t)have != bytes)
            return ty_error_set(&req->err, -EINVAL,
                                "the manifest says that '%.200s' has %llu bytes; its blob has %lld",
                                path, (unsigned long long)bytes, (long long)have);
    }
    return 0;
}

struct counted {
    uint64_t files, bytes;
};

static int keep_snapshot(struct request *req, const struct ty_snapshot *s)
{
    struct counted *c;
    int r =
        ty_blob_put_bytes(req->http->o.blobs, req->body.text, req->body.len, req->sha, &req->err);

    if (r < 0)
        return r;
    r = ty_blobs_sync(req->http->o.blobs);
    if (r < 0) {
        errno = -r;
        return ty_error_set(&req->err, r, "cannot make the snapshot last: %m");
    }
    c = malloc(sizeof *c);
    if (!c)
        return ty_error_oom(&req->err);
    *c = (struct counted){ .files = ty_snapshot_files(s), .bytes = ty_snapshot_bytes(s) };
    request_keep(req, c, free);
    return 0;
}

static int verify_snapshot(struct request *req)
{
    struct ty_snapshot *s = NULL;
    int r = ty_snapshot_parse(req->body.text ? req->body.text : "", req->body.len, &s, &req->err);

    if (r == 0 && strcmp(ty_snapshot_id(s), req->args[0]) != 0)
        r = ty_error_set(&req->err, -EINVAL, "the manifest is that of snapshot '%s', not of '%s'",
                         ty_snapshot_id(s), req->args[0]);
    if (r == 0)
        r = check_files(req, s);
    if (r == 0)
        r = keep_snapshot(req, s);
    ty_snapshot_free(s);
    return r;
}

static void on_stored(void *ctx, int r)
{
    struct request *req = ctx;

    if (r == 0)
        r = reply_nothing(&req->reply);
    else {
        errno = -r;
        ty_error_set(&req->err, r, "cannot store snapshot '%s': %m", req->args[0]);
    }
    request_changed(req, r, NULL);
}

static int store_snapshot(struct request *req)
{
    const struct counted *c = req->data;
    struct ty_unit *u = ty_unit_new();

    ty_unit_snapshot_put(u, req->args[0], c->files, c->bytes, ty_wall_us());
    request_hold(req);
    ty_store_commit(req->http->o.store, u, on_stored, req);
    return REQUEST_HELD;
}

int ty_http_snapshot_put(struct request *req, struct reply *reply)
{
    int r = check_sha(req, "snapshot");

    (void)reply;
    return r < 0 ? r : request_work(req, verify_snapshot, store_snapshot);
}

static int check_snapshot(struct request *req)
{
    int r = check_sha(req, "snapshot");

    if (r == 0 && !ty_store_snapshot_has(req->http->o.store, req->args[0]))
        r = ty_error_set(&req->err, -ENOENT, "there is no snapshot '%s'", req->args[0]);
    return r;
}

static int manifest_unreadable(struct request *req)
{
    return ty_error_set(
        &req->err, -EIO,
        "the manifest of snapshot '%s' cannot be read; `trainyard doctor` says more", req->args[0]);
}

static int open_manifest(struct request *req, size_t *bytes)
{
    CLEANUP_CLOSE int fd = ty_blob_open(req->http->o.blobs, req->args[0]);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return manifest_unreadable(req);
    *bytes = (size_t)st.st_size;
    return TAKE_FD(fd);
}

int ty_http_snapshot_get(struct request *req, struct reply *reply)
{
    size_t bytes = 0;
    int r = check_snapshot(req), fd = r < 0 ? r : open_manifest(req, &bytes);

    return fd < 0 ? fd : reply_fd(reply, fd, 0, bytes, "text/plain; charset=utf-8");
}

/* ---- one file of a snapshot ---- */

static int read_manifest(struct request *req, struct ty_snapshot **ret)
{
    size_t n = 0;
    CLEANUP_CLOSE int fd = open_manifest(req, &n);
    CLEANUP_FREE char *text = fd < 0 ? NULL : malloc(n + 1);

    if (fd < 0)
        return fd;
    if (!text)
        return ty_error_oom(&req->err);
    if (ty_read_full(fd, text, n) != (ssize_t)n)
        return manifest_unreadable(req);
    return ty_snapshot_parse(text, n, ret, &req->err);
}

/* The hash of the file that is asked for, to req->sha. */
static int find_in_snapshot(struct request *req, uint64_t *bytes)
{
    struct ty_snapshot *s = NULL;
    const char *path, *sha;
    int r = read_manifest(req, &s);
    bool found = false;

    for (size_t i = 0; r == 0 && !found && ty_snapshot_file(s, i, &path, &sha, bytes); i++)
        if ((found = strcmp(path, req->args[1]) == 0))
            snprintf(req->sha, sizeof req->sha, "%s", sha);
    ty_snapshot_free(s);
    if (r == 0 && !found)
        r = ty_error_set(&req->err, -ENOENT, "snapshot '%s' has no file '%.200s'", req->args[0],
                         req->args[1]);
    return r;
}

static int send_snapshot_file(struct request *req)
{
    uint64_t bytes = 0;
    int r = find_in_snapshot(req, &bytes), fd;

    if (r < 0)
        return r;
    fd = ty_blob_open(req->http->o.blobs, req->sha);
    if (fd < 0) {
        errno = -fd;
        return ty_error_set(&req->err, -EIO,
                            "the content of '%.200s' of snapshot '%s' cannot be read (blob %s): %m",
                            req->args[1], req->args[0], req->sha);
    }
    return reply_file(req, &req->reply, fd, 0, bytes, "application/octet-stream");
}

int ty_http_snapshot_file(struct request *req, struct reply *reply)
{
    int r = check_snapshot(req);

    (void)reply;
    return r < 0 ? r : request_work(req, send_snapshot_file, NULL);
}
