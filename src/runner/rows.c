/* rows.c - the set of row spools */
#include "runner/rows.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct source {
    struct ty_spool_reader *reader; /* NULL: not open */
    bool given_up, told;
    bool quiet;                          /* it says itself when there is something */
    uint64_t flying[TY_ROWS_FRAMES_MAX]; /* last row + 1 of each frame in flight, oldest first */
    int nflying;
};

struct ty_rows {
    char *dir;
    json_t *next;          /* the daemon's word at the last WELCOME; NULL: not connected yet */
    struct source *source; /* by writer number */
    uint32_t n;
    uint32_t base; /* added to the number of a spool when the daemon is spoken to */
    uint32_t turn; /* whose rows are sent next */
    int open;
};

struct ty_rows *ty_rows_new(const char *dir)
{
    struct ty_rows *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->dir = strdup(dir);
    return r->dir ? r : ty_rows_free(r);
}

void ty_rows_base(struct ty_rows *r, uint32_t base)
{
    r->base = base;
}

struct ty_rows *ty_rows_free(struct ty_rows *r)
{
    if (!r)
        return NULL;
    for (uint32_t i = 0; i < r->n; i++)
        ty_spool_reader_free(r->source[i].reader);
    json_decref(r->next);
    free(r->source);
    free(r->dir);
    free(r);
    return NULL;
}

static void give_up(struct source *s, uint32_t writer)
{
    ty_log(TY_LOG_ERROR, "the row spool of writer %u is damaged; the rest of it is not delivered",
           writer);
    s->given_up = true;
    s->nflying = 0;
}

static void place(struct ty_rows *r, uint32_t writer)
{
    struct source *s = &r->source[writer];
    json_int_t next = 0;
    char key[16];

    if (!r->next || !s->reader || s->given_up)
        return;
    snprintf(key, sizeof key, "%u", r->base + writer);
    next = json_integer_value(json_object_get(r->next, key));
    s->nflying = 0;
    if (next < 0 || ty_spool_reader_seek(s->reader, (uint64_t)next) < 0)
        give_up(s, writer);
}

/* "rows-<n>.spool" -> n, or -1 */
static int64_t writer_of(const char *name)
{
    CLEANUP_FREE char *number = NULL;
    int64_t n;

    if (!ty_starts_with(name, "rows-") || !ty_ends_with(name, ".spool") || strlen(name) < 12)
        return -1;
    number = strndup(name + 5, strlen(name) - 11);
    if (!number || ty_parse_i64(number, &n) < 0 || n < 0 || n >= TY_SPOOL_WRITERS_MAX)
        return -1;
    return n;
}

static bool make_source(struct ty_rows *r, uint32_t writer)
{
    if (writer >= r->n) {
        struct source *more = realloc(r->source, (writer + 1) * sizeof *more);

        if (!more)
            return false;
        memset(more + r->n, 0, (writer + 1 - r->n) * sizeof *more);
        r->source = more;
        r->n = writer + 1;
    }
    return true;
}

/* True: try again later. */
static bool take_up(struct ty_rows *r, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(r->dir, name);
    int64_t writer = writer_of(name);
    struct ty_error err;
    struct source *s;
    int got;

    if (writer < 0 || !path || !make_source(r, (uint32_t)writer))
        return false;
    s = &r->source[writer];
    if (s->reader || s->given_up)
        return false;
    got = ty_spool_reader_open(path, &s->reader, &err);
    if (got < 0 && got != -EBADMSG && got != -ENOENT)
        return true; /* not ready yet, or no descriptor or memory just now */
    if (got == 0 && ty_spool_reader_writer(s->reader) != (uint32_t)writer)
        got = -EBADMSG;
    if (got < 0) {
        give_up(s, (uint32_t)writer);
        return false;
    }
    r->open += !s->quiet;
    place(r, (uint32_t)writer);
    return false;
}

bool ty_rows_scan(struct ty_rows *r)
{
    CLEANUP_DIR DIR *d = opendir(r->dir);
    bool again = false;

    for (struct dirent *e; d && (e = readdir(d));)
        if (take_up(r, e->d_name))
            again = true;
    return again;
}

void ty_rows_quiet(struct ty_rows *r, uint32_t writer)
{
    struct source *s;

    if (writer >= TY_SPOOL_WRITERS_MAX || !make_source(r, writer))
        return;
    s = &r->source[writer];
    r->open -= s->reader && !s->quiet;
    s->quiet = true;
}

int ty_rows_count(const struct ty_rows *r)
{
    return r->open;
}

void ty_rows_seek(struct ty_rows *r, const json_t *next)
{
    json_decref(r->next);
    r->next = json_is_object(next) ? json_deep_copy(next) : json_object();
    for (uint32_t i = 0; i < r->n; i++)
        place(r, i);
}

ptrdiff_t ty_rows_read(struct ty_rows *r, void *buf, size_t cap, uint32_t *writer, uint64_t *first,
                       uint32_t *count)
{
    for (uint32_t k = 0; k < r->n; k++) {
        uint32_t i = (r->turn + k) % r->n;
        struct source *s = &r->source[i];
        ptrdiff_t n;

        if (!s->reader || s->given_up || s->nflying == TY_ROWS_FRAMES_MAX)
            continue;
        n = ty_spool_read(s->reader, buf, cap, first, count);
        if (n < 0)
            give_up(s, i);
        if (n <= 0)
            continue;
        s->flying[s->nflying++] = *first + *count;
        r->turn = i + 1;
        *writer = r->base + i;
        return n;
    }
    return 0;
}

void ty_rows_ack(struct ty_rows *r, uint32_t writer, uint64_t next)
{
    struct source *s =
        writer >= r->base && writer - r->base < r->n ? &r->source[writer - r->base] : NULL;
    int done = 0;

    if (!s || !s->reader)
        return;
    while (done < s->nflying && s->flying[done] <= next)
        done++;
    s->nflying -= done;
    memmove(s->flying, s->flying + done, (size_t)s->nflying * sizeof *s->flying);
    ty_spool_ack(s->reader, next);
}

bool ty_rows_pending(const struct ty_rows *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->source[i].reader && !r->source[i].given_up &&
            ty_spool_reader_pending(r->source[i].reader))
            return true;
    return false;
}

uint64_t ty_rows_dropped(const struct ty_rows *r)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < r->n; i++)
        if (r->source[i].reader)
            sum += ty_spool_reader_dropped(r->source[i].reader);
    return sum;
}

bool ty_rows_damaged(struct ty_rows *r, uint32_t *writer)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->source[i].given_up && !r->source[i].told) {
            r->source[i].told = true;
            *writer = r->base + i;
            return true;
        }
    return false;
}
