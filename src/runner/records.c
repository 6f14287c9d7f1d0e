/* records.c - records.spool: one line "<seq> <json>\n" a record
 *
 * Appended in groups.  A write that fails half-way is cut off again, so that the file is whole
 * lines at all times except after a power cut, and then only its end is torn.
 */
#include "runner/records.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

struct ty_records {
    int fd;
    uint64_t next;      /* number of the next record added */
    off_t size;         /* whole lines in the file */
    struct ty_str wait; /* lines that are not written yet */
    off_t synced;       /* of that, on disk for good */
    /* Sending: window[0..window_len) is the file's content from window_at on. */
    char window[TY_RECORD_MAX];
    size_t window_len;
    off_t window_at, send_at;
    uint64_t send_seq; /* of the line at send_at */
    size_t line_len;   /* of the line that was peeked, newline included; 0: none */
};

struct ty_records *ty_records_free(struct ty_records *r)
{
    if (!r)
        return NULL;
    if (r->fd >= 0)
        close(r->fd);
    ty_str_done(&r->wait);
    free(r);
    return NULL;
}

static void records_freep(struct ty_records **r)
{
    ty_records_free(*r);
}

/* The line at send_at without going past it: its start, or NULL when none is whole. */
static const char *line_here(struct ty_records *r)
{
    for (int again = 0; again < 2; again++) {
        off_t skip = r->send_at - r->window_at;

        if (skip >= 0 && skip < (off_t)r->window_len) {
            char *start = r->window + skip,
                 *end = memchr(start, '\n', r->window_len - (size_t)skip);

            if (end) {
                r->line_len = (size_t)(end - start) + 1;
                return start;
            }
        }
        if (again == 0) {
            size_t want = r->size - r->send_at < (off_t)sizeof r->window
                              ? (size_t)(r->size - r->send_at)
                              : sizeof r->window;
            ssize_t got = want ? pread(r->fd, r->window, want, r->send_at) : 0;

            r->window_at = r->send_at;
            r->window_len = got > 0 ? (size_t)got : 0;
        }
    }
    return NULL;
}

/* "<seq> <json>" with the number that must come: the JSON's start, or NULL. */
static const char *line_json(const struct ty_records *r, const char *line)
{
    char number[24];
    int n = snprintf(number, sizeof number, "%" PRIu64 " ", r->send_seq);

    return r->line_len > (size_t)n + 1 && memcmp(line, number, (size_t)n) == 0 ? line + n : NULL;
}

/* Read all lines up to the first that is not whole. */
static int load(struct ty_records *r, ty_record_fn fn, void *ctx)
{
    off_t end = lseek(r->fd, 0, SEEK_END);

    if (end < 0)
        return -errno;
    r->size = end;
    r->send_seq = 1;
    for (const char *line; (line = line_here(r));) {
        CLEANUP_JSON json_t *o = NULL;
        const char *json = line_json(r, line);

        if (!json || ty_json_parse(json, r->line_len - 1 - (size_t)(json - line), &o, NULL) < 0)
            break;
        if (fn)
            fn(r->send_seq, o, ctx);
        ty_records_skip(r);
    }
    r->size = r->send_at;
    r->next = r->send_seq;
    return 0;
}

static int cut(struct ty_records *r)
{
    return ftruncate(r->fd, r->size) < 0 ? -errno : ty_records_seek(r, 1);
}

int ty_records_each(const char *path, ty_record_fn fn, void *ctx)
{
    CLEANUP(records_freep) struct ty_records *r = calloc(1, sizeof *r);

    if (!r)
        return -ENOMEM;
    r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return r->fd < 0 ? -errno : load(r, fn, ctx);
}

int ty_records_open(const char *path, ty_record_fn fn, void *ctx, struct ty_records **ret,
                    struct ty_error *err)
{
    CLEANUP(records_freep) struct ty_records *r = calloc(1, sizeof *r);
    int got;

    if (!r)
        return ty_error_oom(err);
    r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    got = r->fd < 0 ? -errno : load(r, fn, ctx);
    if (got == 0)
        got = cut(r);
    if (got < 0) {
        errno = -got;
        return ty_error_set(err, got, "cannot open the records '%s': %m", path);
    }
    *ret = TAKE(r);
    return 0;
}

uint64_t ty_records_add(struct ty_records *r, json_t *o)
{
    CLEANUP_JSON json_t *mine = o;
    CLEANUP_FREE char *text = NULL;

    if (!o || json_object_set_new(o, "at_us", json_integer(ty_wall_us())) < 0)
        return 0;
    text = ty_json_text(o);
    if (!text || strlen(text) > TY_RECORD_MAX - 32)
        return 0;
    ty_str_addf(&r->wait, "%" PRIu64 " %s\n", r->next, text);
    return r->wait.failed ? 0 : r->next++;
}

bool ty_records_waiting(const struct ty_records *r)
{
    return r->wait.len > 0;
}
bool ty_records_unsynced(const struct ty_records *r)
{
    return r->synced < r->size;
}
uint64_t ty_records_mark(const struct ty_records *r)
{
    return (uint64_t)r->size;
}
uint64_t ty_records_next(const struct ty_records *r)
{
    return r->next;
}

int ty_records_write(struct ty_records *r)
{
    int got = 0;

    if (r->wait.len > 0)
        got = FAULT("runner.record", -errno,
                    ty_pwrite_all(r->fd, r->wait.text, r->wait.len, r->size));
    if (got < 0)
        return ftruncate(r->fd, r->size) < 0 ? -errno : got;
    r->size += (off_t)r->wait.len;
    ty_str_done(&r->wait);
    return 0;
}

void ty_records_synced(struct ty_records *r, uint64_t mark)
{
    if ((off_t)mark > r->synced && (off_t)mark <= r->size)
        r->synced = (off_t)mark;
}

int ty_records_seek(struct ty_records *r, uint64_t seq)
{
    if (seq < 1 || seq > r->next)
        return -EINVAL;
    if (seq < r->send_seq) {
        r->send_seq = 1;
        r->send_at = 0;
    }
    r->line_len = 0;
    while (r->send_seq < seq) {
        if (!line_here(r))
            return -EINVAL;
        ty_records_skip(r);
    }
    return 0;
}

int ty_records_peek(struct ty_records *r, uint64_t *seq, const char **json, size_t *n)
{
    const char *line, *text;

    if (r->send_at >= r->synced)
        return -EAGAIN;
    line = line_here(r);
    text = line ? line_json(r, line) : NULL;
    if (!text)
        return -EAGAIN;
    *seq = r->send_seq;
    *json = text;
    *n = r->line_len - 1 - (size_t)(text - line);
    return 0;
}

void ty_records_skip(struct ty_records *r)
{
    r->send_at += (off_t)r->line_len;
    r->send_seq++;
    r->line_len = 0;
}
