/* report.c - what the engine did, and what it waits for */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/engine.h"
#include "coll/stall.h"
#include "coll/timeline.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ty_coll_path_name(int path)
{
    static const char *const names[] = {
#define X(id, word, what) [TY_PATH_##id] = word,
        TY_PATHS(X)
#undef X
    };

    return path >= 0 && path < TY_PATH_COUNT ? names[path] : NULL;
}
_Static_assert(TY_PATH_COUNT <= sizeof((struct ty_coll_stats *)0)->path_ops / sizeof(uint64_t),
               "room for every path");

void ty_coll_stats(struct ty_coll *c, struct ty_coll_stats *ret)
{
    ty_engine_lock(c);
    *ret = c->stats;
    ret->late_rank = -1;
    ret->late_us = 0;
    for (int i = 0; i < c->size; i++) {
        uint64_t late_us = c->late_us[i];

        if (late_us > ret->late_us) {
            ret->late_us = late_us;
            ret->late_rank = i;
        }
    }
    ty_engine_unlock(c);
}

void ty_engine_warn(struct ty_coll *c, const char *line)
{
    if (c->warn)
        c->warn(c->warn_ctx, line);
    else
        fprintf(stderr, "trainyard: rank %d: %s\n", c->rank, line);
}

struct stalled {
    struct ty_str text;
    int64_t older_us;
    int *ranks; /* [size] */
};

static void add_stalled(struct ty_coll *c, const struct ty_req *r, int64_t waits_us, void *ctx)
{
    struct stalled *out = ctx;
    struct ty_str *s = &out->text;
    int n;

    if (waits_us < out->older_us)
        return;
    n = ty_stall_missing(c, r, out->ranks);
    ty_str_addf(s, "%s{\"name\": ", s->len > 1 ? ", " : "");
    if (r->name)
        ty_str_add_json(s, r->name, strlen(r->name));
    else
        ty_str_add(s, "null");
    ty_str_addf(s,
                ", \"kind\": \"%s\", \"set\": %d, \"waiting_s\": %.3f, \"moving\": %s, "
                "\"missing\": [",
                ty_coll_kind_name(r->kind), r->ch->id, (double)waits_us / 1e6,
                r->state == TY_REQ_RUNNING ? "true" : "false");
    for (int i = 0; i < n; i++)
        ty_str_addf(s, "%s%d", i ? ", " : "", out->ranks[i]);
    ty_str_add(s, "]}");
}

int ty_coll_stalled(struct ty_coll *c, int older_ms, char **ret, struct ty_error *err)
{
    struct stalled out = { .older_us = (int64_t)older_ms * 1000 };
    char *text;

    out.ranks = FAULT("stalled.alloc", NULL, malloc((size_t)c->size * sizeof *out.ranks));
    if (!out.ranks)
        return ty_error_oom(err);
    ty_str_add(&out.text, "[");
    if (!c->forked) {
        pthread_mutex_lock(&c->lock);
        ty_stall_each(c, add_stalled, &out);
        pthread_mutex_unlock(&c->lock);
    }
    free(out.ranks);
    ty_str_add(&out.text, "]");
    text = ty_str_take(&out.text);
    if (!text)
        return ty_error_oom(err);
    *ret = text;
    return 0;
}

/* ---- the timeline ---- */

static int refuse_timeline(const char *path, struct ty_error *err)
{
    return ty_error_set(
        err, -EEXIST, "cannot start the timeline '%s': one is being written; stop it first", path);
}

int ty_coll_timeline_start(struct ty_coll *c, const char *path, bool cycles, struct ty_error *err)
{
    struct ty_timeline *t = NULL;
    bool running;
    int r;

    if (c->rank != 0 || c->forked)
        return 0;
    pthread_mutex_lock(&c->lock);
    running = c->timeline != NULL;
    pthread_mutex_unlock(&c->lock);
    if (running)
        return refuse_timeline(path, err);
    r = ty_timeline_open(path, cycles, &t, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&c->lock);
    running = c->timeline != NULL; /* started by another thread meanwhile */
    if (!running)
        c->timeline = t;
    atomic_store(&c->node->head->timed, 1);
    pthread_mutex_unlock(&c->lock);
    if (!running)
        return 0;
    ty_timeline_close(t, NULL);
    return refuse_timeline(path, err);
}

int ty_coll_timeline_stop(struct ty_coll *c, struct ty_error *err)
{
    struct ty_timeline *t;

    if (c->rank != 0 || c->forked)
        return 0;
    pthread_mutex_lock(&c->lock);
    t = c->timeline;
    c->timeline = NULL;
    atomic_store(&c->node->head->timed, 0);
    pthread_mutex_unlock(&c->lock);
    if (!t)
        return ty_error_set(err, -ENOENT, "cannot stop the timeline: none is being written");
    return ty_timeline_close(t, err);
}

void ty_engine_close_timeline(struct ty_coll *c)
{
    struct ty_error err = { 0 };

    if (ty_timeline_close(c->timeline, &err) < 0)
        ty_engine_warn(c, err.text);
    c->timeline = NULL;
}
