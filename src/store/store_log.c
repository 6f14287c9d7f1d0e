/* store_log.c - log files, and what the stream of a run wants next
 *
 *   <home>/logs/<run name>/<log>      the bytes; the table `log` says how many of them are stored
 *
 * Bytes are written before the commit that counts them, at the offset that the table says: what
 * lies beyond the stored size came from a commit that failed, is never read, and is
 * overwritten.  Bytes reach the disk with the run's last event (store_log_sync); should the
 * machine lose power before, store_log_recover() sets the stored size back to what the file has,
 * and the runner, which keeps its copy until then, sends the rest again.
 */
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "store/store_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct op_log {
    struct op op;
    int64_t run;
    const char *run_name, *log;
    uint64_t offset;
    const void *bytes;
    size_t n;
    int64_t at_us;
};

/* ---- descriptors ---- */

static void slot_close(struct log_fd *f)
{
    if (f->log)
        close(f->fd);
    free(f->log);
    *f = (struct log_fd){ 0 };
}

void store_log_close(struct ty_store *st, int64_t run)
{
    for (int i = 0; i < STORE_LOG_FDS; i++)
        if (run == 0 || st->log_fds[i].run == run)
            slot_close(&st->log_fds[i]);
}

/* A full disk or a system without descriptors is everybody's trouble; a name that cannot be a
 * file is its own. */
static int file_errno(int e)
{
    if (e == EDQUOT)
        return -ENOSPC;
    if (e == ENOTDIR || e == EISDIR || e == ELOOP || e == ENAMETOOLONG || e == EXDEV)
        return -EINVAL;
    return e == ENOENT || e == EEXIST || e == 0 ? -EIO : -e;
}

static bool names_ok(const char *run_name, const char *log)
{
    return run_name && log && ty_path_is_inside(run_name) && !strchr(run_name, '/') &&
           ty_path_is_inside(log) && strlen(log) <= STORE_LOG_NAME_MAX;
}

static char *path_of(const struct ty_store *st, const char *run_name, const char *log)
{
    return ty_strf("%s/%s/%s", st->logs, run_name, log);
}

static int open_log(const struct ty_store *st, const char *run_name, const char *log, int *ret)
{
    CLEANUP_FREE char *path = path_of(st, run_name, log);
    int fd = -1, r;

    if (!path)
        return -ENOMEM;
    fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == ENOENT) {
        r = ty_mkdir_parent(path, 0700);
        if (r < 0)
            return file_errno(-r);
        fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    if (fd < 0)
        return file_errno(errno);
    *ret = fd;
    return 0;
}

static int cached_fd(struct ty_store *st, const struct op_log *o, int *ret)
{
    struct log_fd *oldest = &st->log_fds[0];
    char *log;
    int fd = -1, r;

    for (int i = 0; i < STORE_LOG_FDS; i++) {
        struct log_fd *f = &st->log_fds[i];

        if (f->log && f->run == o->run && strcmp(f->log, o->log) == 0) {
            f->used = ++st->tick;
            *ret = f->fd;
            return 0;
        }
        if (f->used < oldest->used)
            oldest = f;
    }
    log = strdup(o->log);
    r = log ? open_log(st, o->run_name, o->log, &fd) : -ENOMEM;
    if (r < 0) {
        free(log);
        return r;
    }
    slot_close(oldest);
    *oldest = (struct log_fd){ .run = o->run, .log = log, .fd = fd, .used = ++st->tick };
    *ret = fd;
    return 0;
}

/* ---- appending ---- */

static int write_bytes(struct ty_store *st, const struct op_log *o, uint64_t skip)
{
    int fd = -1, r = cached_fd(st, o, &fd);

    if (r < 0)
        return r;
    r = FAULT(
        "store.log", -errno,
        ty_pwrite_all(fd, (const char *)o->bytes + skip, o->n - skip, (off_t)(o->offset + skip)));
    return r < 0 ? file_errno(-r) : 0;
}

/* Keep when the bytes behind the first `have` came.  A clock that was set back adds no times until it has caught up: what
 * comes meanwhile counts as come with the last ones before. */
static int note_time(struct ty_store *st, const struct op_log *o, uint64_t have)
{
    int64_t last = 0;
    int r = store_get_i64(&st->writer, &last, STMT_log_time_last, "it", o->run, o->log);

    if (r < 0 || (last > 0 && o->at_us < last + STORE_LOG_TIME_US))
        return r;
    return store_exec(&st->writer, STMT_log_time_add, "itii", o->run, o->log, o->at_us,
                      (int64_t)have);
}

static int apply_log(struct ty_store *st, const struct op *op)
{
    const struct op_log *o = (const struct op_log *)op;
    int64_t stored = 0;
    uint64_t have, end = o->offset + o->n;
    int r = names_ok(o->run_name, o->log) && end >= o->offset && end <= INT64_MAX ? 0 : -EINVAL;

    if (r == 0)
        r = store_get_i64(&st->writer, &stored, STMT_log_size_w, "it", o->run, o->log);
    if (r < 0 && r != -ENOENT)
        return r;
    have = (uint64_t)stored;
    if (o->offset > have)
        return -EPROTO;
    if (r == 0 && end <= have)
        return 0;
    r = store_exec(&st->writer, STMT_log_put, "iti", o->run, o->log,
                   (int64_t)end); /* first: is there such a run? */
    if (r == 0 && end > have)
        r = note_time(st, o, have);
    return r < 0 ? r : write_bytes(st, o, have - o->offset);
}

void ty_unit_log(struct ty_unit *u, int64_t run_id, const char *run_name, const char *log,
                 uint64_t offset, const void *bytes, size_t n, int64_t at_us)
{
    struct op_log *o = unit_op(u, sizeof *o, apply_log);

    if (!o)
        return;
    o->run = run_id;
    o->run_name = unit_text(u, run_name);
    o->log = unit_text(u, log);
    o->offset = offset;
    o->bytes = unit_bytes(u, bytes, n);
    o->n = n;
    o->at_us = at_us;
    u->rows += (int64_t)(n / 1024);
}

/* ---- the disk ---- */

static int sync_path(const char *path, int flags)
{
    CLEANUP_CLOSE int fd = open(path, flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : file_errno(errno);
    return fsync(fd) < 0 ? file_errno(errno) : 0;
}

/* The log's file, and each folder from it up to the run's. */
static int sync_log(struct ty_store *st, const char *run_name, const char *log)
{
    CLEANUP_FREE char *path = path_of(st, run_name, log);
    size_t stop = strlen(st->logs);
    int r = path ? sync_path(path, 0) : -ENOMEM;
    char *slash;

    while (r == 0 && (slash = strrchr(path, '/')) && (size_t)(slash - path) >= stop) {
        *slash = '\0';
        r = sync_path(path, O_DIRECTORY);
    }
    return r;
}

int store_log_sync(struct ty_store *st, int64_t run)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->writer, STMT_log_names_w, "i", run);
    int r;

    while ((r = store_step(q)) == 1) {
        r = sync_log(st, store_text(q, 1), store_text(q, 0));
        if (r < 0)
            break;
    }
    return r;
}

/* Logs of active runs whose file is shorter than what is stored: 1 and the first of them, 0: none. */
static int next_short(struct ty_store *st, int64_t *run, char **log, int64_t *bytes)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->writer, STMT_log_active, "");
    int r;

    while ((r = store_step(q)) == 1) {
        CLEANUP_FREE char *path = path_of(st, store_text(q, 1), store_text(q, 2));
        struct stat sb = { 0 };

        if (!path)
            return -ENOMEM;
        if (stat(path, &sb) < 0 && errno != ENOENT)
            return -errno;
        if ((int64_t)sb.st_size >= sqlite3_column_int64(q, 3))
            continue;
        *run = sqlite3_column_int64(q, 0);
        *log = strdup(store_text(q, 2));
        *bytes = (int64_t)sb.st_size;
        return *log ? 1 : -ENOMEM;
    }
    return r;
}

int store_log_recover(struct ty_store *st)
{
    int r;

    for (;;) {
        CLEANUP_FREE char *log = NULL;
        int64_t run = 0, bytes = 0;

        r = next_short(st, &run, &log, &bytes);
        if (r != 1)
            return r;
        r = store_exec(&st->writer, STMT_log_put, "iti", run, log, bytes);
        if (r == 0)
            r = store_exec(&st->writer, STMT_log_time_cut, "iti", run, log, bytes);
        if (r < 0)
            return r;
    }
}

int store_log_remove(struct ty_store *st, const char *run_name)
{
    CLEANUP_FREE char *path = NULL;

    if (!names_ok(run_name, "x"))
        return 0;
    path = ty_path_join(st->logs, run_name);
    return path ? ty_rm_rf(path) : -ENOMEM;
}

/* ---- reading ---- */

char *ty_store_log_path(struct ty_store *st, const char *run_name, const char *log)
{
    return names_ok(run_name, log) ? path_of(st, run_name, log) : NULL;
}

int ty_store_log_size(struct ty_store *st, int64_t run_id, const char *log, uint64_t *bytes)
{
    int64_t n;
    int r = store_get_i64(&st->reader, &n, STMT_log_size, "it", run_id, log);

    if (r == 0)
        *bytes = (uint64_t)n;
    return r;
}

/* Where the line begins that the byte at `offset` is in. */
static uint64_t line_start(struct ty_store *st, const char *run_name, const char *log,
                           uint64_t offset)
{
    uint64_t from = offset > STORE_LOG_LINE_MAX ? offset - STORE_LOG_LINE_MAX : 0;
    CLEANUP_FREE char *path = ty_store_log_path(st, run_name, log);
    CLEANUP_FREE char *text = malloc(offset - from + 1);
    CLEANUP_CLOSE int fd = path && text ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : pread(fd, text, offset - from, (off_t)from);
    const char *nl;

    if (n != (ssize_t)(offset - from))
        return offset;
    nl = memrchr(text, '\n', (size_t)n);
    if (!nl)
        return from > 0 ? offset : 0;
    return from + (uint64_t)(nl + 1 - text);
}

int ty_store_log_since(struct ty_store *st, int64_t run_id, const char *run_name, const char *log,
                       int64_t at_us, uint64_t *offset)
{
    int64_t first = 0, from = 0;
    uint64_t size = 0;
    int r = ty_store_log_size(st, run_id, log, &size);

    if (r == 0)
        r = store_get_i64(&st->reader, &first, STMT_log_time_first, "it", run_id, log);
    if (r < 0)
        return r;
    at_us -= STORE_LOG_TIME_US;
    if (first > 0 && first <= at_us) {
        r = store_get_i64(&st->reader, &from, STMT_log_since, "iti", run_id, log, at_us);
        if (r == -ENOENT)
            from = (int64_t)size;
        else if (r < 0)
            return r;
    }
    *offset = (uint64_t)from < size ? line_start(st, run_name, log, (uint64_t)from) : size;
    return 0;
}

int ty_store_log_time_at(struct ty_store *st, int64_t run_id, const char *log, uint64_t offset,
                         int64_t *at_us)
{
    return store_get_i64(&st->reader, at_us, STMT_log_time_at, "iti", run_id, log, (int64_t)offset);
}

int ty_store_log_time_next(struct ty_store *st, int64_t run_id, const char *log, int64_t at_us,
                           int64_t *next_us, uint64_t *offset)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_log_time_next, "iti", run_id, log, at_us);
    int r = store_step(q);

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    *next_us = sqlite3_column_int64(q, 0);
    *offset = (uint64_t)sqlite3_column_int64(q, 1);
    return 0;
}

/* {column 0 as text: column 1} */
static json_t *numbers(struct ty_store *st, enum stmt id, int64_t run)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, id, "i", run);
    CLEANUP_JSON json_t *o = json_object();
    int r;

    while ((r = store_step(q)) == 1) {
        CLEANUP_JSON json_t *key = store_json_text(q, 0);

        if (!key || json_object_set_new(o, json_string_value(key),
                                        json_integer(sqlite3_column_int64(q, 1))) < 0)
            return NULL;
    }
    return r < 0 ? NULL : TAKE(o);
}

int ty_store_resume_point(struct ty_store *st, int64_t run_id, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_resume_run, "i", run_id);
    int r = store_step(q);
    json_t *j;

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    j = json_pack("{s:I s:o s:o}", "record_next", (json_int_t)sqlite3_column_int64(q, 0), "logs",
                  numbers(st, STMT_resume_logs, run_id), "rows",
                  numbers(st, STMT_resume_rows, run_id));
    if (!j)
        return -ENOMEM;
    *ret = j;
    return 0;
}
