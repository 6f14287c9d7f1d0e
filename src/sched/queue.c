/* queue.c - which run is next, and starting those that may
 *
 * The order: higher priority first; among equals the run whose user holds the fewest CPU slots, and then has used the
 * least of them lately (share.c); then the order of submission.  Each is offered to a plan (plan.c) in that order, which knows what is
 * free, and whom starting it would delay.  One that waits for something that nobody can tell the time of (a drained target, its
 * user's share) holds up nobody but those of its own user.
 */
#include "base/clock.h"
#include "base/log.h"
#include "sched/look.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <string.h>

#define GPUS_MS 5000          /* half of what a list of them may be old (target/target.c) */
#define PAUSED "queue.paused" /* the setting: since when, in microseconds; "" when it is not */

bool queue_waits(const struct live *l)
{
    return l->run.state == TY_RUN_QUEUED && !l->placed && l->stored_seq == l->seq;
}

bool queue_is_before(const struct live *a, const struct live *b)
{
    int order = share_compare(a->share, b->share);

    if (a->spec->priority != b->spec->priority)
        return a->spec->priority > b->spec->priority;
    return order != 0 ? order < 0 : a->id < b->id;
}

static int by_order(const void *a, const void *b)
{
    const struct live *const *p = a, *const *q = b;

    return queue_is_before(*p, *q) ? -1 : 1;
}

/* ---- a look at everything ---- */

void look_close(struct look *k)
{
    k->plan = plan_free(k->plan);
    free(k->nodes);
    free(k->table);
    free(k->sets);
    free(k->members);
    free(k->runs);
    free(k->uses);
    free(k->waiting);
    free(k->chosen);
    *k = (struct look){ 0 };
}

static int see_nodes(struct ty_sched *s, struct look *k)
{
    int n = 0;

    node_look_for_gpus(s);
    k->nodes = calloc(HASH_COUNT(s->nodes) + 1, sizeof *k->nodes);
    k->table = calloc(HASH_COUNT(s->nodes) + 1, sizeof *k->table);
    k->chosen = calloc(HASH_COUNT(s->nodes) + 1, sizeof *k->chosen);
    if (!k->nodes || !k->table || !k->chosen)
        return -ENOMEM;
    for (struct node *node = s->nodes; node; node = node->hh.next) {
        node->index = n;
        k->table[n] = node;
        k->nodes[n++] = node_plan(node);
    }
    k->nnodes = n;
    return 0;
}

/* A node that one target has drained is drained for all that name it: it is one machine. */
static int see_targets(struct ty_sched *s, struct look *k)
{
    int n = 0, members = 0;

    for (const struct target *t = s->targets; t; t = t->hh.next)
        members += t->nnodes;
    k->sets = calloc(HASH_COUNT(s->targets) + 1, sizeof *k->sets);
    k->members = calloc((size_t)members + 1, sizeof *k->members);
    if (!k->sets || !k->members)
        return -ENOMEM;
    members = 0;
    for (struct target *t = s->targets; t; t = t->hh.next) {
        t->index = n;
        k->sets[n++] = (struct plan_set){ .nodes = k->members + members,
                                          .nnodes = t->nnodes,
                                          .max = t->spec->max_nodes,
                                          .used = t->in_use };
        for (int i = 0; i < t->nnodes; i++) {
            k->members[members++] = t->nodes[i]->index;
            if (target_drains_node(t, i))
                k->nodes[t->nodes[i]->index].up = false;
        }
    }
    k->nsets = n;
    return 0;
}

/* When a run that is placed ends at the latest, in microseconds of the wall clock. */
static int64_t ends_us(const struct ty_sched *s, const struct live *l, int64_t now_us)
{
    int64_t limit = run_limit_us(s, l->spec);

    if (limit == PLAN_NEVER)
        return PLAN_NEVER;
    return (l->run.started_us ? l->run.started_us : now_us) + limit;
}

static int see_runs(struct ty_sched *s, struct look *k)
{
    int n = 0, uses = 0;

    for (const struct live *l = s->runs; l; l = l->hh.next) {
        uses += l->nholds;
        n += l->placed;
    }
    k->runs = calloc((size_t)n + 1, sizeof *k->runs);
    k->uses = calloc((size_t)uses + 1, sizeof *k->uses);
    k->waiting = calloc(HASH_COUNT(s->runs) + 1, sizeof *k->waiting);
    if (!k->runs || !k->uses || !k->waiting)
        return -ENOMEM;
    n = uses = 0;
    for (struct live *l = s->runs; l; l = l->hh.next) {
        const struct target *t = target_any(s, l->spec->target);

        if (queue_waits(l))
            k->waiting[k->nwaiting++] = l;
        if (!l->placed)
            continue;
        k->runs[n] = (struct plan_run){ .set = t ? t->index : -1,
                                        .count = l->spec->node_count,
                                        .use = k->uses + uses,
                                        .nuse = l->nholds,
                                        .ends_us = ends_us(s, l, k->now_us),
                                        .who = l };
        k->runs[n].guess_us = k->guess ? guess_end(s, l, k->runs[n].ends_us, k->now_us) : 0;
        n++;
        for (int i = 0; i < l->nholds; i++)
            k->uses[uses++] = (struct plan_use){ l->holds[i].node->index,
                                                 { l->holds[i].nslots, l->holds[i].ngpus,
                                                   l->holds[i].memory_mb } };
    }
    k->nruns = n;
    return 0;
}

int look_open(struct ty_sched *s, bool guess, struct look *k)
{
    int r;

    *k = (struct look){ .now_us = ty_wall_us(), .guess = guess };
    share_account(s);
    r = see_nodes(s, k);
    if (r == 0)
        r = see_targets(s, k);
    if (r == 0)
        r = see_runs(s, k);
    if (r == 0) {
        qsort(k->waiting, k->nwaiting, sizeof *k->waiting, by_order);
        k->plan = plan_new(k->nodes, k->nnodes, k->sets, k->nsets, k->runs, k->nruns, k->now_us);
        s->round++;
    }
    if (r < 0 || !k->plan) {
        look_close(k);
        return -ENOMEM;
    }
    return 0;
}

/* ---- one that waits ---- */

/* The most slots that it may come to hold. */
int64_t gang_slots(const struct target *t, const struct plan_need *need,
                   const struct ty_run_spec *spec)
{
    int64_t most = 0;

    if (need->pieces == 0)
        return (int64_t)spec->cpus * ty_run_spec_size(spec);
    for (int i = 0; i < t->nnodes; i++) {
        struct plan_node p = node_plan(t->nodes[i]);
        int64_t slots = plan_room_on(&p, need).cpus;

        most = slots > most ? slots : most;
    }
    return most * need->pieces;
}

/* May it start now, and where (k->chosen)?  Else why not. */
int look_at(struct ty_sched *s, struct look *k, struct live *l, struct plan_need *need)
{
    const struct target *t = target_find(s, l->spec->target);
    void *behind = NULL;

    l->behind = NULL;
    *need = (struct plan_need){ 0 };
    if (!t) /* its target is gone: starting it says so */
        return l->verdict = PLAN_STARTS;
    if (t->spec->drained)
        return l->verdict = WAITS_DRAINED;
    gang_need(s, t, l->spec, need);
    need->who = l;
    /* A user's own order is kept: what is small does not pass what is large for ever. */
    if (s->user_cpus > 0 && (l->share->full_round == s->round ||
                             l->share->cpus + gang_slots(t, need, l->spec) > s->user_cpus)) {
        l->share->full_round = s->round;
        return l->verdict = WAITS_SHARE;
    }
    l->verdict = plan_next(k->plan, need, k->chosen, &behind);
    l->behind = behind;
    return l->verdict;
}

static void start(struct look *k, struct live *l, const struct plan_need *need)
{
    struct ty_error err = { 0 };
    struct node **where = calloc((size_t)need->pieces + 1, sizeof *where);
    int r = where ? 0 : -ENOMEM;

    for (int i = 0; i < need->pieces && r == 0; i++)
        where[i] = k->table[k->chosen[i]];
    if (r == 0)
        r = gang_take(l, need, where);
    free(where);
    if (r < 0) {
        ty_log(TY_LOG_WARN, "cannot start run %s: out of memory", l->name);
        retry_soon(l->sched);
        return;
    }
    r = run_start_job(l, &err);
    if (r == -ENOMEM)
        retry_soon(l->sched);
    if (r < 0) {
        ty_log(TY_LOG_WARN, "cannot start run %s: %s", l->name, err.text);
        if (!l->launched)
            gang_give(l);
    }
}

/* GPUs come and go without a word: as long as somebody waits for one of this box, they are looked at again. */
static void on_gpus(uv_timer_t *t)
{
    struct ty_sched *s = t->data;

    if (!node_look_for_gpus(s))
        return;
    queue_changed(s);
    place(s);
}

static bool wants_gpu_here(struct ty_sched *s, const struct live *l)
{
    const struct target *t = target_find(s, l->spec->target);

    return l->spec->use_gpu && t && target_on_box(t);
}

static void watch_gpus(struct ty_sched *s, bool wanted)
{
    if (!wanted)
        uv_timer_stop(&s->gpus);
    else if (!uv_is_active((uv_handle_t *)&s->gpus))
        uv_timer_start(&s->gpus, on_gpus, GPUS_MS, GPUS_MS);
}

void place(struct ty_sched *s)
{
    bool gpus = false;
    struct look k;

    if (s->stopping || s->recovering || s->paused)
        return;
    if (look_open(s, false, &k) < 0) {
        retry_soon(s);
        return;
    }
    for (size_t i = 0; i < k.nwaiting; i++) {
        struct plan_need need;

        if (look_at(s, &k, k.waiting[i], &need) != PLAN_STARTS) {
            gpus |= wants_gpu_here(s, k.waiting[i]);
            continue;
        }
        start(&k, k.waiting[i], &need);
        /* Its user holds more now: those behind may change places. */
        qsort(&k.waiting[i + 1], k.nwaiting - i - 1, sizeof *k.waiting, by_order);
    }
    watch_gpus(s, gpus);
    look_close(&k);
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
    queue_changed(s);
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
        p->sched->paused = p->paused, queue_changed(p->sched);
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
