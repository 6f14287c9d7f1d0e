/* queue.c - which run is next, and why the others wait
 *
 * The order: higher priority first; among equals the run whose user holds the fewest CPU slots, and then has used the
 * least of them lately (share.c); then the order of submission.  Placement is all or nothing: the first run of that order which may start now, but finds too few CPU slots
 * or too little memory, is not overtaken.  One that waits for something of its own (a node of its target, its
 * user's share) lets others pass.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <string.h>

#define PAUSED "queue.paused" /* the setting: since when, in microseconds; "" when it is not */

void set_placed(struct live *l, bool placed)
{
    struct target *t = target_any(l->sched, l->spec->target);
    int change = (int)placed - (int)l->placed;

    l->placed = placed;
    l->sched->cpus_used += change * run_slots(l->sched, l->spec);
    l->sched->memory_used_mb += change * run_memory(l->spec);
    share_change(l->sched, l->share, change * run_slots(l->sched, l->spec));
    if (t)
        t->in_use += change;
}

bool queue_waits(const struct live *l)
{
    return l->run.state == TY_RUN_QUEUED && !l->placed && l->stored_seq == l->seq;
}

/* ---- who is next ---- */

enum fit { FITS, NO_NODE, NO_SHARE, NO_CPU, NO_MEMORY };

static enum fit fit(struct ty_sched *s, const struct live *l)
{
    const struct target *t = target_find(s, l->spec->target);

    if (t && t->spec->max_nodes > 0 && t->in_use >= t->spec->max_nodes)
        return NO_NODE;
    if (s->user_cpus > 0 && l->share->cpus + run_slots(s, l->spec) > s->user_cpus)
        return NO_SHARE;
    if (s->cpus_used + run_slots(s, l->spec) > s->cpus)
        return NO_CPU;
    return s->memory_used_mb + run_memory(l->spec) > s->memory_mb ? NO_MEMORY : FITS;
}

static bool is_before(const struct live *a, const struct live *b)
{
    int order = share_compare(a->share, b->share);

    if (a->spec->priority != b->spec->priority)
        return a->spec->priority > b->spec->priority;
    return order != 0 ? order < 0 : a->id < b->id;
}

/* The first that waits for nothing of its own, or NULL. */
static struct live *next_of(struct ty_sched *s, int64_t round)
{
    struct live *best = NULL;

    for (struct live *l = s->runs; l; l = l->hh.next) {
        enum fit f;

        if (!queue_waits(l) || l->round == round || (best && !is_before(l, best)))
            continue;
        f = fit(s, l);
        if (f != NO_NODE && f != NO_SHARE)
            best = l;
    }
    return best;
}

void place(struct ty_sched *s)
{
    int64_t round = ++s->round;
    struct live *l;

    if (s->stopping || s->recovering || s->paused)
        return;
    share_account(s);
    while ((l = next_of(s, round)) && fit(s, l) == FITS) {
        struct ty_error err = { 0 };

        l->round = round; /* not again, should it not start */
        set_placed(l, true);
        if (run_start_job(l, &err) < 0) {
            ty_log(TY_LOG_WARN, "cannot start run %s: %s", l->name, err.text);
            if (!l->launched)
                set_placed(l, false);
        }
    }
}

/* ---- what people are told ---- */

static int place_of(struct ty_sched *s, const struct live *l)
{
    int n = 1;

    for (const struct live *o = s->runs; o; o = o->hh.next)
        n += o != l && queue_waits(o) && is_before(o, l);
    return n;
}

static void say_what(struct ty_sched *s, const struct live *l, struct ty_str *why)
{
    const struct target *t = target_find(s, l->spec->target);

    switch (fit(s, l)) {
    case NO_NODE:
        ty_str_addf(why, "waits for a node of target '%s' (%d of %d in use)", t->name, t->in_use,
                    t->spec->max_nodes);
        return;
    case NO_SHARE:
        ty_str_addf(why,
                    "waits until user '%s' has fewer CPU slots in use (%d of %d, sched.user_cpus)",
                    l->user, l->share->cpus, s->user_cpus);
        return;
    case NO_CPU:
        ty_str_addf(why, "waits for %d CPU slot%s of this box (%d of %d in use)",
                    run_slots(s, l->spec), run_slots(s, l->spec) == 1 ? "" : "s", s->cpus_used,
                    s->cpus);
        return;
    case NO_MEMORY:
        ty_str_addf(why, "waits for %lld MB of memory of this box (%lld of %lld in use)",
                    (long long)run_memory(l->spec), (long long)s->memory_used_mb,
                    (long long)s->memory_mb);
        return;
    case FITS:
        ty_str_add(why, "waits for its turn");
    }
}

static json_t *why_of(struct ty_sched *s, const struct live *l, int n)
{
    CLEANUP_STR struct ty_str why = { 0 };

    if (l->trouble)
        ty_str_addf(&why, "%s; tried again every 2 seconds", l->trouble);
    else if (s->paused)
        ty_str_add(&why, "the queue is paused ('trainyard queue resume' lets it go on)");
    else
        say_what(s, l, &why);
    if (n > 1)
        ty_str_addf(&why, ", behind %d other run%s", n - 1, n == 2 ? "" : "s");
    return json_string(why.text);
}

static int by_order(const void *a, const void *b)
{
    const struct live *const *p = a, *const *q = b;

    return is_before(*p, *q) ? -1 : 1;
}

/* Those that wait, in their order, each with its place; *n of them, malloc'ed.  NULL: out of memory. */
static struct live **in_order(struct ty_sched *s, size_t *n)
{
    struct live **waiting = calloc(HASH_COUNT(s->runs) + 1, sizeof *waiting);

    if (!waiting)
        return NULL;
    *n = 0;
    for (struct live *l = s->runs; l; l = l->hh.next)
        if (queue_waits(l))
            waiting[(*n)++] = l;
    share_account(s);
    qsort(waiting, *n, sizeof *waiting, by_order);
    for (size_t i = 0; i < *n; i++)
        waiting[i]->place = (int)i + 1;
    return waiting;
}

/* Look at those that wait for one run, which takes as long as they are many. */
static int find_place(struct ty_sched *s, struct live *l)
{
    share_account(s);
    return place_of(s, l);
}

static void annotate(struct ty_sched *s, json_t *run, int (*find)(struct ty_sched *, struct live *))
{
    const char *name = json_string_value(json_object_get(run, "id"));
    struct live *l = name ? live_find(s, name) : NULL;
    bool waits = l && (queue_waits(l) || (l->trouble && !l->job));
    int n = waits ? find(s, l) : 0;

    json_object_set_new(run, "why", waits ? why_of(s, l, n) : json_null());
    json_object_set_new(run, "queue_place", waits ? json_integer(n) : json_null());
}

void ty_sched_annotate(struct ty_sched *s, json_t *run)
{
    annotate(s, run, find_place);
}

/* in_order has noted it, but for one whose runner cannot be started. */
static int noted_place(struct ty_sched *s, struct live *l)
{
    return queue_waits(l) ? l->place : place_of(s, l);
}

void ty_sched_annotate_all(struct ty_sched *s, json_t *runs)
{
    size_t n = 0, i;
    struct live **waiting = in_order(s, &n);
    json_t *run;

    json_array_foreach (runs, i, run)
        annotate(s, run, waiting ? noted_place : find_place);
    free(waiting);
}

int ty_sched_queue(struct ty_sched *s, json_t **ret)
{
    size_t n = 0;
    struct live **waiting = in_order(s, &n);
    CLEANUP_JSON json_t *runs = json_array();

    if (!waiting || !runs) {
        free(waiting);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const struct live *l = waiting[i];

        json_array_append_new(runs, json_pack("{s:s s:s s:I s:i s:I s:o}", "id", l->name, "user",
                                              l->user, "priority", (json_int_t)l->spec->priority,
                                              "cpus", run_slots(s, l->spec), "memory_mb",
                                              (json_int_t)run_memory(l->spec), "why",
                                              why_of(s, l, l->place)));
    }
    free(waiting);
    *ret = json_pack("{s:b s:O}", "paused", s->paused, "runs", runs);
    return *ret ? 0 : -ENOMEM;
}

/* ---- pausing ---- */

void queue_open(struct ty_sched *s)
{
    CLEANUP_FREE char *since = NULL;

    s->paused = ty_store_setting(s->o.store, PAUSED, &since) == 0 && *since;
}

void queue_stop(struct ty_sched *s)
{
    struct ty_unit *u = ty_unit_new();
    char since[24];

    snprintf(since, sizeof since, "%lld", (long long)ty_wall_us());
    ty_unit_setting(u, PAUSED, since);
    ty_store_commit(s->o.store, u, NULL, NULL);
    s->paused = true;
}

struct pause {
    struct ty_sched *sched;
    bool paused;
    ty_sched_done done;
    void *ctx;
};

static void on_paused(void *ctx, int r)
{
    struct pause *p = ctx;
    struct ty_error err = { 0 };

    if (r == 0)
        p->sched->paused = p->paused;
    else
        ty_error_set(&err, r, "cannot store that the queue is %s: %s",
                     p->paused ? "paused" : "resumed", strerror(-r));
    p->done(p->ctx, r, "", &err);
    place(p->sched);
    free(p);
}

int ty_sched_pause(struct ty_sched *s, bool paused, ty_sched_done done, void *ctx,
                   struct ty_error *err)
{
    struct pause *p = malloc(sizeof *p);
    struct ty_unit *u;
    char since[24] = "";

    if (!p)
        return ty_error_oom(err);
    *p = (struct pause){ .sched = s, .paused = paused, .done = done, .ctx = ctx };
    if (paused)
        snprintf(since, sizeof since, "%lld", (long long)ty_wall_us());
    u = ty_unit_new();
    ty_unit_setting(u, PAUSED, since);
    ty_store_commit(s->o.store, u, on_paused, p);
    return 0;
}
