/* why.c - what people are told of those that wait: the place, the reason, and when it may be expected to end
 *
 * All of it comes from one look at the queue, which is kept until something changes.  An estimate rests on what runs of the same
 * experiment took before, and on time limits; it is told for the first ESTIMATES_MAX of the queue, and never used to place anything.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "sched/look.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"
#include <errno.h>
#include <string.h>

#define ESTIMATES_MAX 32
#define FRESH_US (2 * 1000 * 1000)
#define UNSTORED_US (10 * 1000 * 1000) /* a runner tells again sooner what was not stored */
#define HISTORIES_MAX 1000
#define COURIER_WHY_MAX 4096

/* ---- how long runs take ---- */

struct history {
    char *experiment;
    int64_t median_us; /* 0: none has ended well */
    UT_hash_handle hh;
};

void history_close(struct ty_sched *s)
{
    struct history *h, *next;

    HASH_ITER (hh, s->histories, h, next) {
        HASH_DEL(s->histories, h);
        free(h->experiment);
        free(h);
    }
}

void history_forget(struct ty_sched *s, const char *experiment)
{
    struct history *h;

    HASH_FIND_STR(s->histories, experiment, h);
    if (h) {
        HASH_DEL(s->histories, h);
        free(h->experiment);
        free(h);
    }
}

/* The median of what the last runs of that experiment took; 0: not known. */
static int64_t usual_us(struct ty_sched *s, const char *experiment)
{
    struct history *h;

    HASH_FIND_STR(s->histories, experiment, h);
    if (h)
        return h->median_us;
    if (HASH_COUNT(s->histories) >= HISTORIES_MAX)
        history_close(s);
    h = calloc(1, sizeof *h);
    if (!h || !(h->experiment = strdup(experiment))) {
        free(h);
        return 0;
    }
    ty_store_median_us(s->o.store, experiment, &h->median_us);
    HASH_ADD_KEYPTR(hh, s->histories, h->experiment, strlen(h->experiment), h);
    return h->median_us;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t guess_end(struct ty_sched *s, const struct live *l, int64_t ends_us, int64_t now_us)
{
    int64_t usual = usual_us(s, l->spec->experiment);
    int64_t end = (l->run.started_us ? l->run.started_us : now_us) + usual;

    return usual == 0 || end <= now_us ? ends_us : least(end, ends_us);
}

/* ---- looking ---- */

static bool waits_for_others(int verdict)
{
    return verdict == PLAN_MAX || verdict == PLAN_CPUS || verdict == PLAN_MEMORY ||
           verdict == PLAN_GPUS || verdict == PLAN_BEHIND;
}

static void estimate(struct ty_sched *s, struct look *k)
{
    for (size_t i = 0; i < k->nwaiting && i < ESTIMATES_MAX && !s->paused; i++) {
        struct live *l = k->waiting[i];
        const struct target *t = target_find(s, l->spec->target);
        int64_t usual = usual_us(s, l->spec->experiment), limit = run_limit_us(s, l->spec);
        struct plan_need need;
        void *last = NULL;

        if (!t || !waits_for_others(l->verdict))
            continue;
        gang_need(s, t, l->spec, &need);
        need.who = l;
        l->expected_us =
            plan_estimate(k->plan, &need, usual > 0 ? least(usual, limit) : limit, &last);
        l->last = last;
    }
}

/* Those that wait are told their place and why, unless nothing has changed since that was done last. */
static void look(struct ty_sched *s)
{
    int64_t now = ty_mono_us();
    struct look k;

    if (s->looked == s->changes && s->looked_us && now - s->looked_us < FRESH_US)
        return;
    if (look_open(s, true, &k) < 0)
        return; /* what was told before is told again */
    for (size_t i = 0; i < k.nwaiting; i++) {
        struct plan_need need;

        k.waiting[i]->place = (int)i + 1;
        k.waiting[i]->expected_us = PLAN_NEVER;
        k.waiting[i]->last = NULL;
        look_at(s, &k, k.waiting[i], &need);
    }
    estimate(s, &k);
    look_close(&k);
    s->looked = s->changes;
    s->looked_us = now;
}

/* ---- words ---- */

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static void say_max(const struct live *l, const struct target *t, struct ty_str *why)
{
    int n = l->spec->node_count;

    if (n == 1)
        ty_str_addf(why, "waits for a node of target '%s'", t->name);
    else
        ty_str_addf(why, "waits for %d nodes of target '%s'", n, t->name);
    ty_str_addf(why, " (%d of %d in use)", t->in_use, t->spec->max_nodes);
}

static void say_unusable(const struct node *n, bool drained, int64_t gpus, const char *comma,
                         struct ty_str *out)
{
    int there = node_gpus(n);

    ty_str_addf(out, "%s'%s' ", comma, n->name);
    if (drained || n->trouble)
        ty_str_add(out, drained ? "is drained" : n->trouble);
    else if (gpus > there && there < n->ngpus)
        ty_str_addf(out, "has %d of its %d GPU%s", there, n->ngpus, plural(n->ngpus));
    else
        ty_str_add(out, "is too small");
}

/* Fewer nodes can be used than it takes: which cannot, and why. */
static void say_few(const struct live *l, const struct target *t, struct ty_str *why)
{
    struct plan_need need;
    int usable = 0, told = 0, troubled = 0;
    CLEANUP_STR struct ty_str names = { 0 };

    if (t->spec->max_nodes > 0 && l->spec->node_count > t->spec->max_nodes) {
        ty_str_addf(why, "waits for %d nodes, and target '%s' may have %d (max_nodes)",
                    l->spec->node_count, t->name, t->spec->max_nodes);
        return;
    }
    gang_need(l->sched, t, l->spec, &need);
    for (int i = 0; i < t->nnodes; i++) {
        const struct node *n = t->nodes[i];
        struct plan_node p = node_plan(n);
        bool drained = node_is_drained(n);

        usable += !drained && !n->trouble && plan_could_hold(&p, &need);
        troubled += n->trouble != NULL;
        if (told < 3 && (drained || n->trouble || !plan_could_hold(&p, &need)))
            say_unusable(n, drained, need.piece.gpus, told++ ? ", " : "", &names);
    }
    ty_str_addf(why, "waits for %d node%s of target '%s', of which %d can be used", need.pieces,
                plural(need.pieces), t->name, usable);
    if (names.len)
        ty_str_addf(why, ": %s", names.text);
    if (troubled > 0)
        ty_str_add(why, "; what has failed is asked every 10 seconds, and used when it answers");
}

static void say_lack(const struct live *l, const struct target *t, struct ty_str *why)
{
    struct plan_need need;
    struct plan_node box = node_plan(l->sched->box);
    struct plan_room room;
    int64_t n, all, used;
    const char *what;

    gang_need(l->sched, t, l->spec, &need);
    room = target_on_box(t) ? plan_room_on(&box, &need) : need.piece;
    if (l->verdict == PLAN_MEMORY)
        n = room.memory_mb, all = box.all.memory_mb, used = box.used.memory_mb, what = "memory";
    else if (l->verdict == PLAN_GPUS)
        n = room.gpus, all = box.all.gpus, used = box.used.gpus, what = "GPU";
    else
        n = room.cpus, all = box.all.cpus, used = box.used.cpus, what = "CPU slot";
    ty_str_add(why, "waits for ");
    if (!target_on_box(t))
        ty_str_addf(why, "%d node%s of target '%s' with ", need.pieces, plural(need.pieces),
                    t->name);
    if (l->verdict == PLAN_MEMORY)
        ty_str_addf(why, "%lld MB of %s", (long long)n, what);
    else
        ty_str_addf(why, "%lld %s%s", (long long)n, what, plural(n));
    if (target_on_box(t))
        ty_str_addf(why, " of this box (%lld of %lld in use)", (long long)used, (long long)all);
    else
        ty_str_addf(why, " free%s", need.pieces > 1 ? " on each, at the same time" : "");
}

static void say_what(struct ty_sched *s, const struct live *l, struct ty_str *why)
{
    const struct target *t = target_find(s, l->spec->target);

    if (!t || l->verdict == PLAN_STARTS || l->verdict == PLAN_BEHIND)
        ty_str_add(why, "waits for its turn");
    else if (l->verdict == WAITS_DRAINED)
        ty_str_addf(why,
                    "target '%s' is drained: nothing new is placed on it ('trainyard target resume "
                    "%s' ends that)",
                    t->name, t->name);
    else if (l->verdict == WAITS_SHARE)
        ty_str_addf(why,
                    "waits until user '%s' has fewer CPU slots in use (%d of %d, sched.user_cpus)",
                    l->user, l->share->cpus, s->user_cpus);
    else if (l->verdict == PLAN_MAX)
        say_max(l, t, why);
    else if (l->verdict == PLAN_FEW)
        say_few(l, t, why);
    else
        say_lack(l, t, why);
}

static void say_when(const struct live *l, struct ty_str *why)
{
    int64_t minutes;

    if (l->expected_us == PLAN_NEVER)
        return;
    minutes = (l->expected_us - ty_wall_us() + 59999999) / 60000000;
    minutes = minutes < 1 ? 1 : minutes;
    if (minutes < 120)
        ty_str_addf(why, "; expected to start within about %lld min", (long long)minutes);
    else
        ty_str_addf(why, "; expected to start within about %lld h", (long long)(minutes + 59) / 60);
    if (l->last && l->last->placed)
        ty_str_addf(why, ": run %s ends by then", l->last->name);
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
    if (!l->trouble && !s->paused && l->verdict == PLAN_BEHIND && l->behind)
        ty_str_addf(&why, "; what is free is kept for run %s", l->behind->name);
    if (!l->trouble && !s->paused)
        say_when(l, &why);
    return json_string(why.text);
}

/* ---- answers ---- */

/* Of one whose runner cannot be started: it waits, and holds its place. */
static int place_of(struct ty_sched *s, const struct live *l)
{
    int n = 1;

    for (const struct live *o = s->runs; o; o = o->hh.next)
        n += o != l && queue_waits(o) && queue_is_before(o, l);
    return n;
}

/* One that is started again waits until the attempt before has gone. */
static json_t *why_of_leaving(const struct live *l)
{
    return json_sprintf("waits until what attempt %d has left is collected: attempt %d begins then",
                        l->folder_attempt, l->run.attempt);
}

/* What the courier of a run that is placed, and has not begun, waits for: the file `why` in its job folder. */
static json_t *why_of_courier(const struct live *l)
{
    CLEANUP_FREE char *dir = NULL, *path = NULL, *text = NULL;

    if (!l->job || !l->kind->couriers || l->run.state != TY_RUN_QUEUED)
        return json_null();
    dir = ty_jobdir_path(l->sched->o.home, l->name);
    path = dir ? ty_path_join(dir, "why") : NULL;
    if (!path || ty_read_file(path, COURIER_WHY_MAX, &text, NULL) < 0)
        return json_null();
    return json_string(text);
}

/* It has its place, and its packages are not there yet. */
static json_t *why_of_building(const struct live *l)
{
    return json_sprintf("building its environment %s", l->building);
}

/* What a runner tells of it does not come into the database: the state is one that it had. */
static json_t *why_of_unstored(const struct live *l)
{
    if (l->unstored == 0 || ty_mono_us() - l->unstored_us > UNSTORED_US)
        return NULL;
    return json_sprintf("what becomes of it cannot be stored: %s; it is kept, and stored when that "
                        "is over",
                        l->unstored == -ENOSPC ? "the disk of the state folder is full"
                                               : strerror(-l->unstored));
}

static json_t *why_of_active(const struct live *l)
{
    json_t *unstored = why_of_unstored(l);

    if (unstored)
        return unstored;
    if (l->run.state == TY_RUN_QUEUED && attempt_leaves(l))
        return why_of_leaving(l);
    if (l->run.state == TY_RUN_QUEUED && l->building)
        return why_of_building(l);
    return why_of_courier(l);
}

void ty_sched_annotate(struct ty_sched *s, json_t *run)
{
    const char *name = json_string_value(json_object_get(run, "id"));
    struct live *l = name ? live_find(s, name) : NULL;
    bool waits = l && (queue_waits(l) || (l->trouble && !l->job));
    int n = 0;

    if (waits) {
        look(s);
        n = queue_waits(l) ? l->place : place_of(s, l);
    }
    json_object_set_new(run, "why", waits ? why_of(s, l, n) : l ? why_of_active(l) : json_null());
    json_object_set_new(run, "queue_place", waits ? json_integer(n) : json_null());
}

void ty_sched_annotate_all(struct ty_sched *s, json_t *runs)
{
    json_t *run;
    size_t i;

    json_array_foreach (runs, i, run)
        ty_sched_annotate(s, run);
}

static int by_place(const void *a, const void *b)
{
    const struct live *const *p = a, *const *q = b;

    return (*p)->place - (*q)->place;
}

int ty_sched_queue(struct ty_sched *s, json_t **ret)
{
    struct live **waiting = calloc(HASH_COUNT(s->runs) + 1, sizeof *waiting);
    CLEANUP_JSON json_t *runs = json_array();
    size_t n = 0;

    if (!waiting || !runs) {
        free(waiting);
        return -ENOMEM;
    }
    look(s);
    for (struct live *l = s->runs; l; l = l->hh.next)
        if (queue_waits(l))
            waiting[n++] = l;
    qsort(waiting, n, sizeof *waiting, by_place);
    for (size_t i = 0; i < n; i++) {
        const struct live *l = waiting[i];
        int64_t ranks = ty_run_spec_size(l->spec);

        json_array_append_new(
            runs,
            json_pack("{s:s s:s s:I s:i s:I s:I s:o}", "id", l->name, "user", l->user, "priority",
                      (json_int_t)l->spec->priority, "nodes", l->spec->node_count, "cpus",
                      (json_int_t)(l->spec->cpus * ranks), "memory_mb",
                      (json_int_t)(l->spec->memory_mb * ranks), "why", why_of(s, l, l->place)));
    }
    free(waiting);
    *ret = json_pack("{s:b s:O}", "paused", s->paused, "runs", runs);
    return *ret ? 0 : -ENOMEM;
}
