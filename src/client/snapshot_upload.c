/* snapshot_upload.c - snapshot a directory and store what the daemon lacks
 *
 *   1. hash what the directory holds (unchanged files from the stat cache)
 *   2. ask which of the hashes the store lacks, ASK_MAX at a time
 *   3. send those files, each once
 *   4. send the manifest; the daemon checks that everything it names is there
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "blob/snapshot.h"
#include "client/stubs.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <trainyard/client.h>
#include <unistd.h>

#define ASK_MAX 1000         /* hashes in one request */
#define SLOW_MS (10 * 60000) /* the daemon may have to look for 100,000 blobs on a slow disk */

struct piece {
    const char *sha, *path; /* owned by the snapshot */
    uint64_t bytes;
    bool missing;
};
struct upload {
    struct ty_client *c;
    int dir;
    const char *dir_name;
    struct piece *pieces; /* sorted by sha, each once */
    size_t n;
    struct ty_upload_progress at;
    void (*progress)(const struct ty_upload_progress *p, void *ctx);
    void *ctx;
};

static void snapshot_freep(struct ty_snapshot **s)
{
    ty_snapshot_free(*s);
}

static void tell(const struct upload *u)
{
    if (u->progress)
        u->progress(&u->at, u->ctx);
}

static int by_sha(const void *a, const void *b)
{
    return strcmp(((const struct piece *)a)->sha, ((const struct piece *)b)->sha);
}

static int list_pieces(const struct ty_snapshot *s, struct upload *u, struct ty_error *err)
{
    size_t files = ty_snapshot_files(s), i, n = 0;

    u->pieces = calloc(files ? files : 1, sizeof *u->pieces);
    if (!u->pieces)
        return ty_error_oom(err);
    for (i = 0; i < files; i++)
        if (!ty_snapshot_file(s, i, &u->pieces[i].path, &u->pieces[i].sha, &u->pieces[i].bytes))
            break;
    u->n = i;
    qsort(u->pieces, u->n, sizeof *u->pieces, by_sha);
    for (i = 0; i < u->n; i++)
        if (n == 0 || strcmp(u->pieces[n - 1].sha, u->pieces[i].sha))
            u->pieces[n++] = u->pieces[i];
    u->n = n;
    return 0;
}

/* Mark the pieces that the reply names. */
static int mark_missing(struct upload *u, char *text, struct ty_error *err)
{
    char *line, *save = NULL;

    for (line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        struct piece key = { .sha = line };
        struct piece *p = bsearch(&key, u->pieces, u->n, sizeof *u->pieces, by_sha);

        if (!p)
            return ty_error_set(err, -EIO,
                                "the daemon asked for the blob '%.80s', which is no part of '%s'",
                                line, u->dir_name);
        if (p->missing)
            continue;
        p->missing = true;
        u->at.to_send_files++;
        u->at.to_send_bytes += p->bytes;
    }
    return 0;
}

static int ask_missing(struct upload *u, struct ty_error *err)
{
    size_t from, i;

    for (from = 0; from < u->n; from += ASK_MAX) {
        CLEANUP_STR struct ty_str body = { 0 };
        struct ty_reply reply = { 0 };
        struct ty_call call = { .body_type = "text/plain", .silence_ms = SLOW_MS };
        int r;

        for (i = from; i < u->n && i < from + ASK_MAX; i++)
            ty_str_addf(&body, "%s\n", u->pieces[i].sha);
        if (body.failed)
            return ty_error_oom(err);
        call.body = body.text;
        call.body_len = body.len;
        r = ty_client_blobs_missing(u->c, &call, &reply, err);
        if (r == 0)
            r = mark_missing(u, reply.body, err);
        ty_reply_done(&reply);
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_piece(struct upload *u, const struct piece *p, struct ty_error *err)
{
    struct ty_call call = { .args = { p->sha },
                            .body_len = p->bytes,
                            .body_type = "application/octet-stream" };
    CLEANUP_CLOSE int fd = ty_open_beneath(u->dir, p->path, O_RDONLY | O_CLOEXEC, 0);
    struct stat st;
    int r;

    if (fd < 0) {
        errno = -fd;
        return ty_error_set(err, fd, "cannot read '%s' of '%s': %m", p->path, u->dir_name);
    }
    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != p->bytes)
        return ty_error_set(
            err, -EAGAIN,
            "'%s' of '%s' changed while it was being sent; submit again when nothing writes to it",
            p->path, u->dir_name);
    call.body_fd = fd;
    r = ty_client_blob_put(u->c, &call, NULL, err);
    return r < 0 ? ty_error_prefix(err, "cannot store '%s' of '%s'", p->path, u->dir_name) : 0;
}

static int send_missing(struct upload *u, struct ty_error *err)
{
    size_t i;

    for (i = 0; i < u->n; i++) {
        int r;

        if (!u->pieces[i].missing)
            continue;
        r = send_piece(u, &u->pieces[i], err);
        if (r < 0)
            return r;
        u->at.sent_files++;
        u->at.sent_bytes += u->pieces[i].bytes;
        tell(u);
    }
    return 0;
}

static int send_manifest(struct upload *u, const struct ty_snapshot *s, struct ty_error *err)
{
    struct ty_call call = { .args = { ty_snapshot_id(s) },
                            .body_type = "text/plain",
                            .silence_ms = SLOW_MS };

    call.body = ty_snapshot_manifest(s, &call.body_len);
    return ty_client_snapshot_put(u->c, &call, NULL, err);
}

/* The file that remembers the hashes of `dir`; NULL when there is no place for one, which only
 * costs time. */
static char *cache_file(const char *home, const char *dir)
{
    const char *base = getenv("XDG_CACHE_HOME"), *user = getenv("HOME");
    CLEANUP_FREE char *path = NULL;
    char real[PATH_MAX], name[TY_SHA256_HEX + 1];

    if (!realpath(dir, real))
        return NULL;
    ty_sha256_hex(real, strlen(real), name);
    if (base && base[0] == '/')
        path = ty_strf("%s/trainyard/stat/%s", base, name);
    else if (user && user[0] == '/')
        path = ty_strf("%s/.cache/trainyard/stat/%s", user, name);
    if (!path || ty_mkdir_parent(path, 0700) < 0) {
        free(path);
        path = ty_strf("%s/cache/stat/%s", home, name);
        if (!path || ty_mkdir_parent(path, 0700) < 0)
            return NULL;
    }
    return TAKE(path);
}

int ty_client_snapshot(struct ty_client *c, const char *dir, uint64_t max_bytes, uint64_t max_files,
                       void (*progress)(const struct ty_upload_progress *p, void *ctx), void *ctx,
                       char id[65], struct ty_error *err)
{
    struct ty_snapshot_limits limits = { .bytes = max_bytes, .files = max_files };
    CLEANUP(snapshot_freep) struct ty_snapshot *s = NULL;
    CLEANUP_FREE char *cache = cache_file(ty_client_home(c), dir);
    CLEANUP_CLOSE int fd = -1;
    struct upload u = { .c = c, .dir_name = dir, .progress = progress, .ctx = ctx };
    int r;

    r = ty_snapshot_from_dir(dir, cache, &limits, &s, err);
    if (r < 0)
        return r;
    fd = FAULT("client.snapshot_dir", -1, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return ty_error_set(err, -errno, "cannot open source_directory '%s': %m", dir);
    u.dir = fd;
    u.at =
        (struct ty_upload_progress){ .files = ty_snapshot_files(s), .bytes = ty_snapshot_bytes(s) };
    r = list_pieces(s, &u, err);
    if (r == 0)
        r = ask_missing(&u, err);
    if (r == 0)
        tell(&u);
    if (r == 0)
        r = send_missing(&u, err);
    if (r == 0)
        r = send_manifest(&u, s, err);
    free(u.pieces);
    if (r < 0)
        return r;
    snprintf(id, 65, "%s", ty_snapshot_id(s));
    return 0;
}
