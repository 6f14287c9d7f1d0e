/* timeline.c - a bounded list of records, and the thread that writes them
 *
 * Every tensor is a "process" of the trace: rows are found by its name.  In it an operation is three nested intervals: from its
 * submission on this rank (NEGOTIATE_ALLREDUCE) until all ranks had it, then the operation (ALLREDUCE), and in it the
 * way it took (SHM_DIRECT).
 */
#include "coll/timeline.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/map.h"
#include "coll/names.h"
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define RECORDS 16384
#define FLUSH_US 200000

struct record {
    char name[120];
    uint64_t key; /* of the tensor's row; 0: a cycle */
    enum ty_coll_kind kind;
    enum ty_coll_dtype dtype;
    const char *path;
    int64_t submitted_us, begun_us, done_us;
    int ndims;
    int64_t dims[8];
    bool failed;
};

struct ty_timeline {
    FILE *f;
    int64_t start_us;
    bool cycles, first;
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t thread;
    bool stop;
    struct record *queued, *writing;
    int n;
    uint64_t dropped;
    struct ty_map rows; /* key -> number of the row */
    int nrows;
    struct ty_str text; /* the writer's */
};

/* ---- records ---- */

static struct record *next_record(struct ty_timeline *t)
{
    if (t->n == RECORDS) {
        t->dropped++;
        return NULL;
    }
    if (t->n == RECORDS / 2)
        pthread_cond_signal(&t->more);
    return &t->queued[t->n++];
}

void ty_timeline_record(struct ty_timeline *t, const struct ty_req *r, const char *path)
{
    struct record *e;

    pthread_mutex_lock(&t->lock);
    e = next_record(t);
    if (e) {
        const struct ty_seg *s = r->nsegs ? &r->seg[0] : NULL;

        if (r->name)
            snprintf(e->name, sizeof e->name, "%s", r->name);
        else
            snprintf(e->name, sizeof e->name, "%s.noname", ty_coll_kind_name(r->kind));
        e->key = r->name ? r->name_key : (uint64_t)r->kind + 1;
        e->kind = r->kind;
        e->dtype = r->dtype;
        e->path = path;
        e->done_us = ty_mono_us();
        e->begun_us = r->begun_us ? r->begun_us : e->done_us;
        e->submitted_us = r->submitted_us ? r->submitted_us : e->begun_us;
        e->ndims = s ? s->ndims < 8 ? s->ndims : 8 : 0;
        if (e->ndims)
            memcpy(e->dims, s->dims, (size_t)e->ndims * sizeof *e->dims);
        e->failed = r->status < 0;
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

/* ---- writing ---- */

static void comma(struct ty_timeline *t)
{
    ty_str_add(&t->text, t->first ? "\n" : ",\n");
    t->first = false;
}

static int row_of(struct ty_timeline *t, const struct record *e)
{
    uint64_t row;

    if (ty_map_get(&t->rows, e->key, &row))
        return (int)row;
    if (ty_map_reserve(&t->rows) < 0)
        return 0;
    row = (uint64_t)++t->nrows;
    ty_map_put(&t->rows, e->key, row);
    comma(t);
    ty_str_addf(
        &t->text,
        "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": %d, \"args\": {\"name\": ", (int)row);
    ty_str_add_json(&t->text, e->name, strlen(e->name));
    ty_str_addf(
        &t->text,
        "}},\n{\"name\": \"process_sort_index\", \"ph\": \"M\", \"pid\": %d, \"args\": {\"sort_index\": %d}}",
        (int)row, (int)row);
    return (int)row;
}

static void upper(char *buf, size_t cap, const char *prefix, const char *word)
{
    snprintf(buf, cap, "%s%s", prefix, word);
    for (char *p = buf; *p; p++)
        *p = (char)(*p == '-' ? '_' : toupper((unsigned char)*p));
}

static void add_event(struct ty_timeline *t, const char *name, char ph, int64_t ts_us, int row)
{
    comma(t);
    ty_str_addf(&t->text, "{\"name\": \"%s\", \"ph\": \"%c\", \"ts\": %lld, \"pid\": %d", name, ph,
                (long long)(ts_us - t->start_us), row);
}

static void write_record(struct ty_timeline *t, const struct record *e)
{
    char negotiate[48], op[32], activity[48];
    int row;

    if (!e->key) {
        add_event(t, "CYCLE_START", 'i', e->done_us, 0);
        ty_str_add(&t->text, ", \"s\": \"g\"}");
        return;
    }
    row = row_of(t, e);
    upper(negotiate, sizeof negotiate, "NEGOTIATE_", ty_coll_kind_name(e->kind));
    upper(op, sizeof op, "", ty_coll_kind_name(e->kind));
    upper(activity, sizeof activity, strcmp(e->path, "net") == 0 ? "TCP_" : "SHM_", e->path);
    add_event(t, negotiate, 'B', e->submitted_us, row);
    ty_str_add(&t->text, "}");
    add_event(t, negotiate, 'E', e->begun_us, row);
    ty_str_add(&t->text, "}");
    add_event(t, op, 'B', e->begun_us, row);
    ty_str_add(&t->text, "}");
    add_event(t, activity, 'B', e->begun_us, row);
    ty_str_add(&t->text, "}");
    add_event(t, activity, 'E', e->done_us, row);
    ty_str_add(&t->text, "}");
    add_event(t, op, 'E', e->done_us, row);
    ty_str_addf(&t->text, ", \"args\": {\"dtype\": \"%s\", \"shape\": \"[",
                ty_coll_dtype_name(e->dtype));
    for (int d = 0; d < e->ndims; d++)
        ty_str_addf(&t->text, "%s%lld", d ? ", " : "", (long long)e->dims[d]);
    ty_str_addf(&t->text, "]\"%s}}", e->failed ? ", \"failed\": true" : "");
}

/* The closing bracket is written over by what comes next. */
static void flush(struct ty_timeline *t)
{
    ty_str_add(&t->text, "\n]\n");
    if (!t->text.failed) {
        fwrite(t->text.text, 1, t->text.len, t->f);
        fflush(t->f);
        fseek(t->f, -3, SEEK_CUR);
    }
    ty_str_done(&t->text);
}

static void *writer(void *arg)
{
    struct ty_timeline *t = arg;
    uint64_t dropped = 0;
    bool stop = false;

    while (!stop) {
        int64_t until = ty_mono_us() + FLUSH_US;
        struct timespec at = { until / 1000000, until % 1000000 * 1000 };
        struct record *swap;
        uint64_t now_dropped;
        int n;

        pthread_mutex_lock(&t->lock);
        if (!t->stop && t->n < RECORDS / 2)
            pthread_cond_timedwait(&t->more, &t->lock, &at);
        n = t->n;
        swap = t->queued;
        t->queued = t->writing;
        t->writing = swap;
        t->n = 0;
        stop = t->stop;
        now_dropped = t->dropped;
        pthread_mutex_unlock(&t->lock);
        for (int i = 0; i < n; i++)
            write_record(t, &t->writing[i]);
        if (now_dropped != dropped) {
            add_event(t, "DROPPED", 'i', ty_mono_us(), 0);
            ty_str_addf(&t->text, ", \"s\": \"g\", \"args\": {\"operations\": %llu}}",
                        (unsigned long long)(now_dropped - dropped));
            dropped = now_dropped;
        }
        if (n || t->text.len)
            flush(t);
    }
    return NULL;
}

/* ---- life ---- */

static void timeline_free(struct ty_timeline *t)
{
    if (t->f)
        fclose(t->f);
    free(t->queued);
    free(t->writing);
    ty_map_done(&t->rows);
    ty_str_done(&t->text);
    free(t);
}

static int start_writer(struct ty_timeline *t)
{
    pthread_condattr_t a;
    sigset_t all, old;
    int r;

    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&t->more, &a);
    pthread_condattr_destroy(&a);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = -FAULT("timeline.thread", EAGAIN, pthread_create(&t->thread, NULL, writer, t));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r;
}

int ty_timeline_open(const char *path, bool cycles, struct ty_timeline **ret, struct ty_error *err)
{
    struct ty_timeline *t = FAULT("timeline.alloc", NULL, calloc(1, sizeof *t));
    int r;

    if (!t)
        return ty_error_oom(err);
    t->cycles = cycles;
    t->first = true;
    t->start_us = ty_mono_us();
    t->queued = malloc(RECORDS * sizeof *t->queued);
    t->writing = malloc(RECORDS * sizeof *t->writing);
    if (!t->queued || !t->writing) {
        timeline_free(t);
        return ty_error_oom(err);
    }
    t->f = FAULT("timeline.file", NULL, fopen(path, "we"));
    if (!t->f) {
        r = -errno;
        timeline_free(t);
        return ty_error_set(err, r, "cannot write the timeline '%s': %s", path, strerror(-r));
    }
    fputs("[", t->f);
    comma(t);
    ty_str_addf(
        &t->text,
        "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": 0, \"args\": {\"name\": \"engine\", "
        "\"start_time_since_epoch_in_micros\": %lld}}",
        (long long)ty_wall_us());
    flush(t);
    r = start_writer(t);
    if (r < 0) {
        timeline_free(t);
        return ty_error_set(err, r, "cannot start the thread that writes the timeline: %s",
                            strerror(-r));
    }
    *ret = t;
    return 0;
}

struct ty_timeline *ty_timeline_close(struct ty_timeline *t)
{
    if (!t)
        return NULL;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->more);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->more);
    pthread_mutex_destroy(&t->lock);
    timeline_free(t);
    return NULL;
}
