/* timeline.c - a bounded list of records, and the thread that writes them
 *
 * Every tensor is a "process" of the trace: rows are found by its name.  In it an operation is three nested intervals: from
 * its submission (NEGOTIATE_ALLREDUCE) until all ranks had it, with a tick for each rank; then the operation
 * (ALLREDUCE), and in it the way it took (SHM_DIRECT).
 *
 * There are two lists of records: the driver fills one while the writer writes the other down.
 */
#include "coll/timeline.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/chan.h"
#include "coll/map.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORDS 16384
#define TICKS 65536
#define FLUSH_US 200000 /* records wait so long for others */
#define END "\n]\n"
#define END_BYTES 3

struct tick {
    int rank;
    int64_t at_us;
};
struct record {
    char name[120];
    uint64_t key; /* of the tensor's row; 0: a cycle */
    enum ty_coll_kind kind;
    enum ty_coll_dtype dtype;
    const char *path;
    int64_t submitted_us, begun_us, done_us; /* begun_us 0: it failed before it could begin */
    int ndims;                               /* -1: it has no tensor */
    int64_t dims[TY_COLL_DIMS];
    int tick, nticks;
    int status;
};
struct list {
    struct record *record; /* [RECORDS] */
    struct tick *tick;     /* [TICKS] */
    int n, nticks;
};

struct ty_timeline {
    int64_t start_us;
    bool cycles;
    pthread_mutex_t lock;
    pthread_cond_t more, written;
    pthread_t thread;
    struct list queued; /* under the lock, as what follows */
    bool stop, hurry;
    uint64_t dropped;
    uint64_t done; /* lists written */

    /* the writer's */
    int fd;
    off_t end; /* where the closing bracket is */
    int error; /* the first; nothing is written after it */
    struct list writing;
    struct ty_map rows; /* key -> number of the row */
    int nrows, room;
    int64_t *row_end_us; /* [nrows + 1] when the last operation of a row was done */
    struct ty_str text;
};

/* ---- records ---- */

static struct record *next_record(struct ty_timeline *t)
{
    struct list *q = &t->queued;

    if (q->n == RECORDS) {
        t->dropped++;
        return NULL;
    }
    if (q->n == 0 || q->n == RECORDS / 2)
        pthread_cond_signal(&t->more);
    return &q->record[q->n++];
}

/* When the members on this node posted the round in which r ran. */
static void add_ticks(struct list *q, struct record *e, const struct ty_chan *ch)
{
    e->tick = q->nticks;
    for (int l = 0; ch && l < ch->nlocal && q->nticks < TICKS; l++) {
        const struct ty_post *p = ty_chan_post(ch, l, ch->round);

        if (atomic_load_explicit(&p->seq, memory_order_acquire) == ch->round && p->at_us)
            q->tick[q->nticks++] = (struct tick){ ch->world[ch->member[l]], p->at_us };
    }
    e->nticks = q->nticks - e->tick;
}

void ty_timeline_record(struct ty_timeline *t, const struct ty_req *r, const char *path)
{
    int64_t now_us = ty_mono_us();
    const struct ty_seg *s = r->nsegs ? &r->seg[0] : NULL;
    struct record *e;

    pthread_mutex_lock(&t->lock);
    e = next_record(t);
    if (e) {
        if (r->name)
            snprintf(e->name, sizeof e->name, "%s", r->name);
        else
            snprintf(e->name, sizeof e->name, "%s.noname", ty_coll_kind_name(r->kind));
        e->key = r->name ? r->name_key : (uint64_t)r->kind + 1;
        e->kind = r->kind;
        e->dtype = r->dtype;
        e->path = path;
        e->done_us = now_us;
        e->begun_us = r->begun_us || r->status < 0 ? r->begun_us : now_us;
        e->submitted_us = r->submitted_us   ? r->submitted_us
                          : r->begun_us > 0 ? r->begun_us
                                            : now_us;
        e->ndims = s ? s->ndims : -1;
        if (s && s->ndims)
            memcpy(e->dims, s->dims, (size_t)s->ndims * sizeof *e->dims);
        e->status = r->status;
        add_ticks(&t->queued, e, r->ch);
    }
    pthread_mutex_unlock(&t->lock);
}

void ty_timeline_cycle(struct ty_timeline *t, int64_t now_us)
{
    struct record *e;

    if (!t->cycles)
        return;
    pthread_mutex_lock(&t->lock);
    e = next_record(t);
    if (e)
        *e = (struct record){ .done_us = now_us };
    pthread_mutex_unlock(&t->lock);
}

/* ---- events ---- */

/* Every event but the first: the one that is written when the file is made. */
static void add_event(struct ty_timeline *t, const char *name, char ph, int64_t ts_us, int row)
{
    ty_str_addf(&t->text, ",\n{\"name\": \"%s\", \"ph\": \"%c\", \"ts\": %lld, \"pid\": %d", name,
                ph, (long long)(ts_us - t->start_us), row);
}

/* A row for a tensor that has none; 0, the engine's own, when memory is short. */
static int new_row(struct ty_timeline *t, const struct record *e)
{
    int row = t->nrows + 1;

    if (row >= t->room) {
        int room = t->room * 2 + 64;
        int64_t *more = realloc(t->row_end_us, (size_t)room * sizeof *more);

        if (!more)
            return 0;
        t->row_end_us = more;
        t->room = room;
    }
    if (ty_map_reserve(&t->rows) < 0)
        return 0;
    t->nrows = row;
    t->row_end_us[row] = 0;
    ty_map_put(&t->rows, e->key, (uint64_t)row);
    ty_str_addf(
        &t->text,
        ",\n{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": %d, \"args\": {\"name\": ", row);
    ty_str_add_json(&t->text, e->name, strlen(e->name));
    ty_str_addf(&t->text,
                "}},\n{\"name\": \"process_sort_index\", \"ph\": \"M\", \"pid\": %d, "
                "\"args\": {\"sort_index\": %d}}",
                row, row);
    return row;
}

static void upper(char *buf, size_t cap, const char *prefix, const char *word)
{
    snprintf(buf, cap, "%s%s", prefix, word);
    for (char *p = buf; *p; p++)
        *p = (char)(*p == '-' ? '_' : toupper((unsigned char)*p));
}

static void add_negotiation(struct ty_timeline *t, const struct record *e, int row)
{
    const struct tick *tick = &t->writing.tick[e->tick];
    int64_t end = e->begun_us ? e->begun_us : e->done_us, begin = e->submitted_us;
    /* Another rank may post its next before this one has noted the end of its last: rows stay in order. */
    int64_t floor = row ? t->row_end_us[row] : 0;
    char name[48], rank[16];

    for (int i = 0; i < e->nticks; i++)
        begin = tick[i].at_us < begin ? tick[i].at_us : begin;
    begin = begin < floor ? floor : begin;
    begin = begin > end ? end : begin;
    upper(name, sizeof name, "NEGOTIATE_", ty_coll_kind_name(e->kind));
    add_event(t, name, 'B', begin, row);
    ty_str_add(&t->text, "}");
    for (int i = 0; i < e->nticks; i++) {
        int64_t at = tick[i].at_us < begin ? begin : tick[i].at_us > end ? end : tick[i].at_us;

        snprintf(rank, sizeof rank, "%d", tick[i].rank);
        add_event(t, rank, 'X', at, row);
        ty_str_add(&t->text, ", \"dur\": 0}");
    }
    add_event(t, name, 'E', end, row);
    ty_str_add(&t->text, !e->begun_us ? ", \"args\": {\"failed\": true}}" : "}");
}

static const char *prefix_of(const char *path)
{
    if (strcmp(path, "nccl") == 0 || strcmp(path, "host") == 0)
        return "GPU_";
    return strcmp(path, "net") == 0 ? "TCP_" : "SHM_";
}

static void add_operation(struct ty_timeline *t, const struct record *e, int row)
{
    char op[32], activity[48];

    upper(op, sizeof op, "", ty_coll_kind_name(e->kind));
    upper(activity, sizeof activity, prefix_of(e->path), e->path);
    add_event(t, op, 'B', e->begun_us, row);
    ty_str_add(&t->text, "}");
    if (e->ndims >= 0) {
        add_event(t, activity, 'B', e->begun_us, row);
        ty_str_add(&t->text, "}");
        add_event(t, activity, 'E', e->done_us, row);
        ty_str_add(&t->text, "}");
    }
    add_event(t, op, 'E', e->done_us, row);
    ty_str_add(&t->text, ", \"args\": {");
    if (e->ndims >= 0) {
        ty_str_addf(&t->text, "\"dtype\": \"%s\", \"shape\": \"[", ty_coll_dtype_name(e->dtype));
        for (int d = 0; d < e->ndims; d++)
            ty_str_addf(&t->text, "%s%lld", d ? ", " : "", (long long)e->dims[d]);
        ty_str_add(&t->text, "]\"");
    }
    if (e->status < 0)
        ty_str_addf(&t->text, "%s\"failed\": true", e->ndims >= 0 ? ", " : "");
    ty_str_add(&t->text, "}}");
}

static void add_record(struct ty_timeline *t, const struct record *e)
{
    uint64_t row;

    if (!e->key) {
        add_event(t, "CYCLE_START", 'i', e->done_us, 0);
        ty_str_add(&t->text, ", \"s\": \"g\"}");
        return;
    }
    if (!ty_map_get(&t->rows, e->key, &row))
        row = (uint64_t)new_row(t, e);
    add_negotiation(t, e, (int)row);
    if (e->begun_us)
        add_operation(t, e, (int)row);
    if (row)
        t->row_end_us[row] = e->done_us;
}

/* ---- writing ---- */

/* All of it, at `at`; 0 or a negative errno. */
static int put(int fd, const char *bytes, size_t n, off_t at)
{
    while (n > 0) {
        ssize_t k = FAULT("timeline.write", -1, pwrite(fd, bytes, n, at));

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EIO;
        bytes += k;
        n -= (size_t)k;
        at += k;
    }
    return 0;
}

/* Whatever part was written: end the file where it did, on blocks that it has already.  Returns `error`, or why not even
 * that can be done. */
static int mend(struct ty_timeline *t, int error)
{
    if (pwrite(t->fd, END, END_BYTES, t->end) != END_BYTES ||
        ftruncate(t->fd, t->end + END_BYTES) < 0)
        return errno ? -errno : -EIO;
    return error;
}

/* Write the text over the closing bracket, and a new one behind it. */
static void flush(struct ty_timeline *t)
{
    size_t n = t->text.len;
    int e;

    if (t->error == 0 && (n || t->text.failed)) {
        ty_str_add(&t->text, END);
        e = t->text.failed ? -ENOMEM : put(t->fd, t->text.text, t->text.len, t->end);
        if (e == 0)
            t->end += (off_t)n;
        else
            t->error = mend(t, e);
    }
    ty_str_done(&t->text);
}

static void sleep_for_more(struct ty_timeline *t)
{
    int64_t until = ty_mono_us() + FLUSH_US;
    struct timespec at = { until / 1000000, until % 1000000 * 1000 };

    while (!t->stop && !t->hurry && t->queued.n == 0)
        pthread_cond_wait(&t->more, &t->lock);
    while (!t->stop && !t->hurry && t->queued.n < RECORDS / 2 &&
           pthread_cond_timedwait(&t->more, &t->lock, &at) == 0)
        ;
}

static void *writer(void *arg)
{
    struct ty_timeline *t = arg;
    uint64_t told = 0, dropped;
    bool stop = false;

    pthread_mutex_lock(&t->lock);
    while (!stop) {
        struct list swap;

        sleep_for_more(t);
        swap = t->queued;
        t->queued = t->writing;
        t->writing = swap;
        t->queued.n = t->queued.nticks = 0;
        stop = t->stop;
        t->hurry = false;
        dropped = t->dropped;
        pthread_mutex_unlock(&t->lock);
        for (int i = 0; i < t->writing.n; i++)
            add_record(t, &t->writing.record[i]);
        if (dropped != told) {
            add_event(t, "DROPPED", 'i', ty_mono_us(), 0);
            ty_str_addf(&t->text, ", \"s\": \"g\", \"args\": {\"records\": %llu}}",
                        (unsigned long long)(dropped - told));
            told = dropped;
        }
        flush(t);
        pthread_mutex_lock(&t->lock);
        t->done++;
        pthread_cond_broadcast(&t->written);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

void ty_timeline_sync(struct ty_timeline *t)
{
    uint64_t until;

    pthread_mutex_lock(&t->lock);
    /* The list that is being written may have been taken before the last record: the next one has it. */
    until = t->done + 2;
    while (t->done < until) {
        t->hurry = true;
        pthread_cond_signal(&t->more);
        pthread_cond_wait(&t->written, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

/* ---- life ---- */

static void list_free(struct list *l)
{
    free(l->record);
    free(l->tick);
}

static int list_init(struct list *l)
{
    l->record = FAULT("timeline.alloc", NULL, malloc(RECORDS * sizeof *l->record));
    l->tick = FAULT("timeline.alloc", NULL, malloc(TICKS * sizeof *l->tick));
    return l->record && l->tick ? 0 : -ENOMEM;
}

static void timeline_free(struct ty_timeline *t)
{
    if (t->fd >= 0)
        close(t->fd);
    list_free(&t->queued);
    list_free(&t->writing);
    free(t->row_end_us);
    ty_map_done(&t->rows);
    ty_str_done(&t->text);
    pthread_cond_destroy(&t->more);
    pthread_cond_destroy(&t->written);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void init_waiting(struct ty_timeline *t)
{
    pthread_condattr_t a;

    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&t->more, &a);
    pthread_cond_init(&t->written, &a);
    pthread_condattr_destroy(&a);
}

static int start_writer(struct ty_timeline *t)
{
    sigset_t all, old;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = -FAULT("timeline.thread", EAGAIN, pthread_create(&t->thread, NULL, writer, t));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r;
}

/* The file with its first event: what the engine's own row is called, and when the trace begins. */
static int make_file(struct ty_timeline *t, const char *path)
{
    char first[200];
    int n, r;

    t->fd = FAULT("timeline.file", -1,
                  open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666));
    if (t->fd < 0)
        return -errno;
    n = snprintf(first, sizeof first,
                 "[\n{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": 0, \"args\": "
                 "{\"name\": \"engine\", \"start_time_since_epoch_in_micros\": %lld}}" END,
                 (long long)ty_wall_us());
    r = put(t->fd, first, (size_t)n, 0);
    t->end = n - END_BYTES;
    return r;
}

int ty_timeline_open(const char *path, bool cycles, struct ty_timeline **ret, struct ty_error *err)
{
    struct ty_timeline *t = FAULT("timeline.alloc", NULL, calloc(1, sizeof *t));
    int r;

    if (!t)
        return ty_error_oom(err);
    t->fd = -1;
    t->cycles = cycles;
    t->start_us = ty_mono_us();
    init_waiting(t);
    if (list_init(&t->queued) < 0 || list_init(&t->writing) < 0) {
        timeline_free(t);
        return ty_error_oom(err);
    }
    r = make_file(t, path);
    if (r < 0) {
        timeline_free(t);
        return ty_error_set(err, r, "cannot write the timeline '%s': %s", path, strerror(-r));
    }
    r = start_writer(t);
    if (r < 0) {
        timeline_free(t);
        return ty_error_set(err, r, "cannot start the thread that writes the timeline: %s",
                            strerror(-r));
    }
    *ret = t;
    return 0;
}

int ty_timeline_close(struct ty_timeline *t, struct ty_error *err)
{
    int e;

    if (!t)
        return 0;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->more);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    e = t->error;
    timeline_free(t);
    return e < 0 ? ty_error_set(err, e, "the timeline lacks its end, it cannot be written: %s",
                                strerror(-e))
                 : 0;
}
