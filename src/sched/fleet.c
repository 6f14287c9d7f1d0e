/* fleet.c - what people are told of targets and their nodes, and draining
 *
 * Draining is a part of a target's spec: it lasts until somebody resumes what was drained, also across restarts and
 * changes of the target.
 */
#include "base/clock.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <string.h>

/* ---- nodes ---- */

static void note_hold(const struct live *l, const struct hold *h)
{
    json_array_append_new(h->node->told, json_string(l->name));
    for (int k = 0; k < h->ngpus; k++)
        h->node->gpus[h->gpus[k]].told = l->name;
}

/* What runs hold, in one pass over them: there may be thousands of both. */
static void note_holds(struct ty_sched *s)
{
    for (struct node *n = s->nodes; n; n = n->hh.next) {
        n->told = json_array();
        for (int i = 0; i < n->ngpus; i++)
            n->gpus[i].told = NULL;
    }
    for (const struct live *l = s->runs; l; l = l->hh.next)
        for (int i = 0; i < l->nholds; i++)
            note_hold(l, &l->holds[i]);
}

static json_t *gpus_of(const struct node *n)
{
    json_t *gpus = json_array();

    for (int i = 0; i < n->ngpus; i++) {
        json_t *gpu = json_object();

        if (!n->gpus[i].there && n->gpus[i].runs == 0) {
            json_decref(gpu);
            continue;
        }
        json_object_update(gpu, n->gpus[i].info);
        json_object_set_new(gpu, "id", json_string(n->gpus[i].id));
        json_object_set_new(gpu, "run",
                            n->gpus[i].told ? json_string(n->gpus[i].told) : json_null());
        json_array_append_new(gpus, gpu);
    }
    return gpus;
}

static json_t *targets_of(const struct ty_sched *s, const struct node *n)
{
    json_t *names = json_array();

    for (const struct target *t = s->targets; t; t = t->hh.next)
        for (int i = 0; i < t->nnodes; i++)
            if (t->nodes[i] == n)
                json_array_append_new(names, json_string(t->name));
    return names;
}

/* Which target has drained it: *alone, or with all targets that name it. */
static const char *drained_by(const struct ty_sched *s, const struct node *n, bool *alone)
{
    const char *whole = NULL;
    int targets = 0, drained = 0;

    for (const struct target *t = s->targets; t; t = t->hh.next)
        for (int i = 0; i < t->nnodes; i++) {
            if (t->nodes[i] != n)
                continue;
            *alone = target_drains_node(t, i);
            if (*alone)
                return t->name;
            targets++;
            drained += t->spec->drained;
            whole = t->spec->drained ? t->name : whole;
        }
    return targets > 0 && targets == drained ? whole : NULL;
}

static json_t *node_json(const struct ty_sched *s, struct node *n)
{
    bool alone = false;
    const char *by = drained_by(s, n, &alone);
    json_t *why = json_null();

    if (n->trouble)
        why = json_string(n->trouble);
    else if (by)
        why = json_sprintf("drained by target '%s'; 'trainyard target resume %s%s%s' ends that", by,
                           by, alone ? " --node " : "", alone ? n->name : "");
    return json_pack("{s:s s:s s:o s:s s:s s:o s:i s:i s:I s:I s:o s:o s:O?}", "name", n->name,
                     "address", *n->key ? n->key : n->name, "targets", targets_of(s, n), "kind",
                     n == s->box ? "local" : "hosts", "state",
                     n->trouble ? "unusable"
                     : by       ? "drained"
                                : "up",
                     "why", why, "cpus", n->cpus, "cpus_used", n->cpus_used, "memory_mb",
                     (json_int_t)n->memory_mb, "memory_used_mb", (json_int_t)n->memory_used_mb,
                     "gpus", gpus_of(n), "runs", n->told, "facts", n->facts);
}

int ty_sched_nodes(struct ty_sched *s, json_t **ret)
{
    json_t *nodes = json_array(), *j;

    node_look_for_gpus(s);
    note_holds(s);
    for (struct node *n = s->nodes; n; n = n->hh.next) {
        json_array_append_new(nodes, node_json(s, n)); /* takes over what was noted */
        n->told = NULL;
    }
    j = json_pack("{s:o}", "nodes", nodes);
    if (!j)
        return -ENOMEM;
    *ret = j;
    return 0;
}

/* ---- targets ---- */

static bool uses(const struct live *l, const struct target *t)
{
    return l->placed && strcmp(l->spec->target, t->name) == 0;
}

static void count_runs(const struct ty_sched *s, const struct target *t, struct ty_node_counts *n)
{
    for (const struct live *l = s->runs; l; l = l->hh.next) {
        if (!uses(l, t))
            continue;
        if (l->run.state == TY_RUN_QUEUED)
            n->preparing += l->spec->node_count;
        else
            n->running += l->spec->node_count;
    }
}

/* NotStarted: no run of this target holds it. */
static void note_states(const struct ty_sched *s, const struct target *t)
{
    for (int i = 0; i < t->nnodes; i++)
        t->nodes[i]->told_state = TY_RUN_NOT_STARTED;
    for (const struct live *l = s->runs; l; l = l->hh.next)
        for (int i = 0; uses(l, t) && i < l->nholds; i++)
            l->holds[i].node->told_state = l->run.state;
}

static void count_hosts(const struct ty_sched *s, const struct target *t, int max,
                        struct ty_node_counts *n)
{
    int left;

    note_states(s, t);
    for (int i = 0; i < t->nnodes; i++) {
        enum ty_run_state state = t->nodes[i]->told_state;
        bool drained = t->spec->drained || node_is_drained(t->nodes[i]);

        if (t->nodes[i]->trouble)
            n->unusable++;
        else if (state == TY_RUN_NOT_STARTED)
            *(drained ? &n->unusable : &n->idle) += 1;
        else if (drained)
            n->leaving++;
        else
            *(state == TY_RUN_QUEUED ? &n->preparing : &n->running) += 1;
    }
    left = max - n->preparing - n->running - n->leaving; /* max_nodes may be fewer than there are */
    n->idle = n->idle > left ? (left > 0 ? left : 0) : n->idle;
}

/* Logical nodes of this box are there when they are wanted: those that nobody uses are idle. */
static void count_box(const struct ty_sched *s, const struct target *t, int max,
                      struct ty_node_counts *n)
{
    int left;

    count_runs(s, t, n);
    left = max - n->preparing - n->running;
    if (t->spec->drained || node_is_drained(s->box)) {
        n->leaving = n->preparing + n->running;
        n->preparing = n->running = 0;
        n->unusable = left > 0 ? left : 0;
    } else {
        n->idle = left > 0 ? left : 0;
    }
}

static void count(const struct ty_sched *s, const struct target *t, int max,
                  struct ty_node_counts *n)
{
    struct ty_node_counts runs = { 0 };
    int more;

    *n = (struct ty_node_counts){ 0 };
    if (target_on_box(t)) {
        count_box(s, t, max, n);
    } else if (t->nnodes > 0) {
        count_hosts(s, t, max, n);
    } else {
        if (t->kind && t->kind->counts)
            t->kind->counts(s->o.home, t->name, t->spec, n);
        /* What has been asked of the engine, and is not there yet. */
        count_runs(s, t, &runs);
        more = runs.preparing + runs.running - n->preparing - n->running;
        n->preparing += more > 0 ? more : 0;
    }
}

static void sum_up(const struct target *t, int64_t *cpus, int64_t *gpus)
{
    const json_t *nodes = json_object_get(t->facts, "nodes");

    *cpus = json_integer_value(json_object_get(t->facts, "cpus")) * json_integer_value(nodes);
    *gpus = json_integer_value(json_object_get(t->facts, "gpus")) * json_integer_value(nodes);
    for (int i = 0; i < t->nnodes; i++) {
        *cpus += t->nodes[i]->cpus;
        *gpus += node_gpus(t->nodes[i]);
    }
}

void ty_sched_annotate_target(struct ty_sched *s, json_t *target)
{
    const char *name = json_string_value(json_object_get(target, "name"));
    const struct target *t = name ? target_find(s, name) : NULL;
    struct ty_node_counts n = { 0 };
    int64_t cpus = 0, gpus = 0;
    int max = 0;

    node_look_for_gpus(s);
    if (t) {
        max = t->spec->max_nodes ? t->spec->max_nodes
              : target_on_box(t) ? s->box->cpus
              : t->nnodes        ? t->nnodes
                                 : (int)json_integer_value(json_object_get(t->facts, "nodes"));
        count(s, t, max, &n);
        sum_up(t, &cpus, &gpus);
    }
    json_object_set_new(target, "nodes",
                        json_pack("{s:i s:i s:i s:i s:i s:i s:i s:s}", "max", max, "preparing",
                                  n.preparing, "running", n.running, "idle", n.idle, "leaving",
                                  n.leaving, "unusable", n.unusable, "preempted", n.preempted,
                                  "allocation_state",
                                  n.preparing + n.leaving > 0 ? "Resizing" : "Steady"));
    json_object_set_new(target, "cpus", json_integer(cpus));
    json_object_set_new(target, "gpus", json_integer(gpus));
}

/* ---- draining ---- */

static int find_in_list(const json_t *list, const char *name)
{
    const json_t *v;
    size_t i;

    json_array_foreach (list, i, v)
        if (strcmp(json_string_value(v), name) == 0)
            return (int)i;
    return -1;
}

static bool has_node(const struct target *t, const char *name)
{
    for (int i = 0; i < t->nnodes; i++)
        if (strcmp(t->nodes[i]->name, name) == 0)
            return true;
    return t->nnodes == 0; /* those of an engine are not known here */
}

/* The spec with it drained, or not any more. */
static json_t *drained_spec(const struct target *t, const char *node, bool drained)
{
    json_t *spec = json_deep_copy(t->spec->json);
    json_t *list = json_object_get(spec, "drained_nodes");
    int at;

    if (!spec)
        return NULL;
    if (!node) {
        json_object_set_new(spec, "drained", json_boolean(drained));
        return spec;
    }
    at = find_in_list(list, node);
    if (drained && at < 0)
        json_array_append_new(list, json_string(node));
    else if (!drained && at >= 0)
        json_array_remove(list, (size_t)at);
    return spec;
}

int ty_sched_drain(struct ty_sched *s, const char *target, const char *node, bool drained,
                   ty_sched_done done, void *ctx, struct ty_error *err)
{
    const struct target *t = target_find(s, target);
    CLEANUP_JSON json_t *spec = NULL;

    if (!t)
        return ty_error_set(
            err, -ENOENT,
            "there is no compute target '%s'; `trainyard target ls` shows those that are", target);
    if (node && !has_node(t, node))
        return ty_error_set(err, -ENOENT,
                            "target '%s' has no node '%s'; `trainyard node ls` lists those it has",
                            target, node);
    spec = drained_spec(t, node, drained);
    return spec ? ty_sched_target_put(s, target, spec, false, done, ctx, err) : ty_error_oom(err);
}
