/* collect.c - keeping the files of a job
 *
 * Everything in the working directory is looked at and opened as the job's owner, the blob store as the runner:
 * under a daemon of the whole machine those differ, and a link that a user planted leads where the user may go.
 */
#include "runner/collect.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "blob/blob.h"
#include "runner/child.h"
#include "runner/data.h"
#include "runner/records.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH_BYTES (64 * 1024)
#define BATCH_US (1000 * 1000)
#define RETRY_FIRST_US (100 * 1000)
#define RETRY_BUDGET_US (10 * 1000 * 1000) /* over all files: a full disk must not take hours */
#define LINKS_DEEP 4                       /* links to folders within links to folders */

struct collecting {
    const struct ty_jobfile *job;
    struct ty_blobs *blobs;
    char work[PATH_MAX]; /* real path */
    int out;
    struct ty_str batch; /* artifact lines whose blobs are not synced yet */
    int64_t batch_us;    /* when its first line came */
    char **known;        /* sorted: artifacts that records.spool has */
    size_t nknown, known_cap;
    uint64_t files, bytes, failed;
    int64_t retried_us;
    int deep;
};

__attribute__((format(printf, 2, 3))) static void warn(struct collecting *c, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    if (++c->failed <= TY_COLLECT_NAMED_MAX && !text.failed)
        ty_child_tell(c->out, "warning", text.text);
}

static void pause_us(int64_t us)
{
    struct timespec t = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };

    nanosleep(&t, NULL);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_known(const struct collecting *c, const char *path)
{
    return c->nknown > 0 && bsearch(&path, c->known, c->nknown, sizeof *c->known, by_text);
}

static void learn(uint64_t seq, const json_t *o, void *ctx)
{
    struct collecting *c = ctx;
    const char *kind = json_string_value(json_object_get(o, "kind")),
               *path = json_string_value(json_object_get(o, "path"));

    (void)seq;
    if (!kind || !path || strcmp(kind, "artifact") != 0)
        return;
    if (c->nknown == c->known_cap) {
        size_t cap = c->known_cap ? 2 * c->known_cap : 64;
        char **more = realloc(c->known, cap * sizeof *more);

        if (!more)
            return;
        c->known = more;
        c->known_cap = cap;
    }
    c->known[c->nknown] = strdup(path);
    if (c->known[c->nknown])
        c->nknown++;
    c->bytes += (uint64_t)json_integer_value(json_object_get(o, "bytes"));
}

static int flush(struct collecting *c)
{
    int r = 0;

    if (c->batch.len == 0)
        return 0;
    ty_owner_leave(c->job->owner);
    for (int try = 1; (r = ty_blobs_sync(c->blobs)) < 0 && try < TY_COLLECT_TRIES; try++)
        pause_us(RETRY_FIRST_US);
    ty_owner_enter(c->job->owner);
    if (r < 0)
        warn(c, "the disk did not confirm the files of the run: %s", strerror(-r));
    r = c->batch.failed ? -ENOMEM : ty_write_all(c->out, c->batch.text, c->batch.len);
    ty_str_done(&c->batch);
    return r;
}

static int tell(struct collecting *c, const char *path, const char *sha, uint64_t bytes)
{
    CLEANUP_JSON json_t *o = json_pack("{s:s, s:s, s:s, s:I}", "kind", "artifact", "path", path,
                                       "sha256", sha, "bytes", (json_int_t)bytes);
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;

    if (!text)
        return -ENOMEM;
    if (c->batch.len == 0)
        c->batch_us = ty_mono_us();
    ty_str_add(&c->batch, text);
    ty_str_add(&c->batch, "\n");
    c->files++;
    c->bytes += bytes;
    return c->batch.len >= BATCH_BYTES || ty_mono_us() - c->batch_us >= BATCH_US ? flush(c) : 0;
}

static bool worth_retrying(int r)
{
    return r != -ENOENT && r != -EACCES && r != -EPERM && r != -EFBIG && r != -ENOMEM;
}

/* As the owner what is the owner's, as the runner what is the store's. */
static int put_blob(struct collecting *c, const char *real, char sha[TY_SHA256_HEX + 1],
                    uint64_t *bytes, struct ty_error *err)
{
    CLEANUP_CLOSE int fd = open(real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r;

    if (fd < 0)
        return ty_error_set(err, -errno, "cannot read '%s': %m", real);
    ty_owner_leave(c->job->owner);
    r = ty_blob_put_fd(c->blobs, fd, real, sha, bytes, err);
    ty_owner_enter(c->job->owner);
    return r;
}

/* Put one regular file: `path` is its name as an artifact, `real` where it lies. */
static int put(struct collecting *c, const char *path, const char *real)
{
    char sha[TY_SHA256_HEX + 1];
    struct ty_error err = { 0 };
    int64_t delay = RETRY_FIRST_US;
    struct stat st;
    uint64_t bytes = 0;
    int r;

    if (is_known(c, path))
        return 0;
    if (!ty_utf8_valid(path, strlen(path))) {
        warn(c, "a file in '%.*s' is not kept: its name is not UTF-8", (int)strcspn(path, "/"),
             path);
        return 0;
    }
    if ((int64_t)(c->files + c->nknown) >= c->job->artifact_files_max) {
        warn(c, "'%s' is not kept: a run keeps at most %" PRId64 " files (limits.artifacts)", path,
             c->job->artifact_files_max);
        return 0;
    }
    if (stat(real, &st) == 0 && (int64_t)c->bytes + st.st_size > c->job->artifact_bytes_max) {
        warn(c,
             "'%s' is not kept: the files of a run have at most %" PRId64
             " bytes (limits.artifact_bytes)",
             path, c->job->artifact_bytes_max);
        return 0;
    }
    for (int try = 1;; try++) {
        r = FAULT("runner.collect", -errno, put_blob(c, real, sha, &bytes, &err));
        if (r >= 0 || try == TY_COLLECT_TRIES || !worth_retrying(r) ||
            c->retried_us > RETRY_BUDGET_US)
            break;
        pause_us(delay);
        c->retried_us += delay;
        delay *= 4;
    }
    if (r >= 0)
        return tell(c, path, sha, bytes);
    warn(c, "'%s' could not be kept: %s", path, err.code ? err.text : strerror(-r));
    return 0;
}

static bool lies_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static int folder(struct collecting *c, const char *name);

static int follow_link(struct collecting *c, const char *name, const char *path)
{
    char real[PATH_MAX], parent[PATH_MAX];
    CLEANUP_FREE char *dir = strndup(path, (size_t)(strrchr(path, '/') - path));
    struct stat st;
    int r;

    if (!dir)
        return -ENOMEM;
    if (!realpath(path, real) || !realpath(dir, parent) || stat(real, &st) < 0) {
        warn(c, "'%s' is not kept: the link leads nowhere", name);
        return 0;
    }
    if (!lies_in(real, c->work)) {
        warn(c,
             "'%s' is not kept: the link leads out of the working directory; copy the file instead",
             name);
        return 0;
    }
    if (S_ISREG(st.st_mode))
        return put(c, name, real);
    if (!S_ISDIR(st.st_mode))
        return 0;
    if (lies_in(parent, real) || c->deep == LINKS_DEEP) {
        warn(c, "'%s' is not kept: the link leads in a circle", name);
        return 0;
    }
    c->deep++;
    r = folder(c, name);
    c->deep--;
    return r;
}

struct level {
    struct collecting *c;
    const char *name; /* of the folder, relative to the working directory */
};

/* A folder that cannot be entered is named and left out; the rest is kept.  Its owner may have closed it: it is opened. */
static int enter(struct collecting *c, const char *name, const char *rel, const char *path,
                 const struct stat *st)
{
    int depth = 1;

    for (const char *p = rel; *p; p++)
        depth += *p == '/';
    if ((st->st_mode & 0500) != 0500 && chmod(path, (st->st_mode & 07777) | 0500) < 0 &&
        ty_fs_can_enter(AT_FDCWD, path) < 0)
        warn(c, "the folder '%s' is not kept: it cannot be read (%s)", name, strerror(errno));
    else if (depth >= TY_WALK_DEPTH_MAX)
        warn(c, "the folder '%s' is not kept: folders are nested more than %d deep", name,
             TY_WALK_DEPTH_MAX);
    else if (strlen(path) + NAME_MAX + 1 >= PATH_MAX)
        warn(c, "the folder '%s' is not kept: its path is too long", name);
    else
        return 0;
    return 1;
}

static int visit(const char *rel, const struct stat *st, void *ctx)
{
    const struct level *l = ctx;
    CLEANUP_FREE char *name = ty_path_join(l->name, rel);
    CLEANUP_FREE char *path = name ? ty_path_join(l->c->job->work, name) : NULL;

    if (!path)
        return -ENOMEM;
    if (S_ISREG(st->st_mode))
        return put(l->c, name, path);
    if (S_ISDIR(st->st_mode))
        return enter(l->c, name, rel, path, st);
    return S_ISLNK(st->st_mode) ? follow_link(l->c, name, path) : 0;
}

static int folder(struct collecting *c, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(c->job->work, name);
    struct level l = { .c = c, .name = name };
    struct ty_error err = { 0 };
    int r;

    if (!path)
        return -ENOMEM;
    r = ty_walk(path, visit, &l, &err);
    if (r < 0 && r != -ENOMEM && r != -EPIPE) {
        warn(c, "'%s' could not be read whole: %s", name, err.code ? err.text : strerror(-r));
        return 0;
    }
    return r;
}

static int top(struct collecting *c, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(c->job->work, name);
    struct stat st;

    if (!path)
        return -ENOMEM;
    if (lstat(path, &st) < 0)
        return 0;
    if (S_ISLNK(st.st_mode))
        return follow_link(c, name, path);
    return S_ISDIR(st.st_mode) ? folder(c, name) : 0;
}

/* A file of a data reference that goes back to where the daemon is: into the store, and its record into the batch. */
static int keep_data(void *ctx, const char *real, json_t *record)
{
    struct collecting *c = ctx;
    CLEANUP_FREE char *text = NULL;
    char sha[TY_SHA256_HEX + 1];
    struct ty_error err = { 0 };
    uint64_t bytes = 0;
    int r = c->blobs ? put_blob(c, real, sha, &bytes, &err) : -EIO;

    if (r < 0) {
        warn(c, "'%s' could not be sent back to its datastore: %s", real,
             err.code ? err.text : strerror(-r));
        return 0;
    }
    json_object_set_new(record, "sha256", json_string(sha));
    json_object_set_new(record, "bytes", json_integer((json_int_t)bytes));
    text = ty_json_text(record);
    if (!text)
        return -ENOMEM;
    ty_str_add(&c->batch, text);
    ty_str_add(&c->batch, "\n");
    return c->batch.len >= BATCH_BYTES ? flush(c) : 0;
}

static int tell_data(void *ctx, json_t *record)
{
    struct collecting *c = ctx;
    int r = flush(c);

    return r < 0 ? r : ty_child_send(c->out, record);
}

/* As the owner: the data that goes back, then the files that are kept. */
static int keep(struct collecting *c)
{
    const struct ty_data_back back = {
        .out = c->out, .keep = keep_data, .tell = tell_data, .ctx = c
    };
    int r = ty_data_out(c->job, &back);

    if (r == 0)
        r = flush(c);
    if (!c->blobs || r < 0)
        return r;
    r = top(c, "outputs");
    if (r == 0)
        r = top(c, "logs");
    return r == 0 ? flush(c) : r;
}

static int collect(struct collecting *c)
{
    CLEANUP_FREE char *spool = ty_path_join(c->job->dir, "records.spool");
    struct ty_error err;
    int r;

    if (!spool || !realpath(c->job->work, c->work))
        return 0; /* nothing was unpacked */
    if (ty_records_each(spool, learn, c) == 0 && c->nknown > 0)
        qsort(c->known, c->nknown, sizeof *c->known, by_text);
    if (ty_blobs_open(c->job->blobs, &c->blobs, &err) < 0)
        warn(c, "the files of the run could not be kept: %s", err.text);
    ty_owner_enter(c->job->owner);
    r = keep(c);
    ty_owner_leave(c->job->owner);
    return r;
}

static void conclude(struct collecting *c)
{
    CLEANUP_FREE char *note = NULL, *more = NULL;
    char size[16];

    note =
        ty_strf("%llu files kept, %s", (unsigned long long)c->files, ty_show_bytes(c->bytes, size));
    if (note)
        ty_child_tell(c->out, "note", note);
    if (c->failed <= TY_COLLECT_NAMED_MAX)
        return;
    more = ty_strf("%llu more files could not be kept",
                   (unsigned long long)(c->failed - TY_COLLECT_NAMED_MAX));
    if (more)
        ty_child_tell(c->out, "warning", more);
}

int ty_collect(int out, void *ctx)
{
    struct collecting *c = calloc(1, sizeof *c);
    int r;

    if (!c)
        return -ENOMEM;
    c->job = ctx;
    c->out = out;
    r = collect(c);
    if (r == 0)
        conclude(c);
    ty_blobs_free(c->blobs);
    ty_str_done(&c->batch);
    for (size_t i = 0; i < c->nknown; i++)
        free(c->known[i]);
    free(c->known);
    free(c);
    return r;
}
