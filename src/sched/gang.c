/* gang.c - what a run needs, what it holds, and how its job folder says so
 *
 * On this box the logical nodes of a run share what the run holds of the one machine; on hosts each node is a machine; an engine that
 * places by itself is told of nodes without names.  What a run holds stands in its job folder, too ("holds" in job.json), from
 * where the next daemon takes it again.
 */
#include "base/conf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define JOB_JSON_MAX (64 << 20)

bool target_on_box(const struct target *t)
{
    return t->nnodes == 1 && t->nodes[0] == t->nodes[0]->sched->box;
}

static bool target_places(const struct target *t)
{
    return t->nnodes == 0;
}

/* Has one of its nodes a GPU, or had one since this daemon began? */
bool target_has_gpus(const struct target *t)
{
    for (int i = 0; i < t->nnodes; i++)
        if (t->nodes[i]->ngpus > 0)
            return true;
    return false;
}

/* ---- what it needs ---- */

bool run_says_gpus(const struct ty_run_spec *spec)
{
    return json_is_integer(json_object_get(json_object_get(spec->json, "resources"), "gpus"));
}

int64_t run_limit_us(const struct ty_sched *s, const struct ty_run_spec *spec)
{
    int64_t most = ty_conf_number(s->o.conf, "run.max_run_duration_seconds");
    int64_t grace = ty_conf_number(s->o.conf, "run.cancel_grace_seconds");

    /* The limit of those that name none says nothing about when they end. */
    if (spec->max_run_seconds == 0 || spec->max_run_seconds == most)
        return PLAN_NEVER;
    return (spec->max_run_seconds + grace) * 1000000;
}

void gang_need(const struct ty_sched *s, const struct target *t, const struct ty_run_spec *spec,
               struct plan_need *ret)
{
    bool box = target_on_box(t);
    int64_t ranks = (int64_t)spec->process_count_per_node * (box ? spec->node_count : 1);

    *ret = (struct plan_need){
        .set = t->index,
        .count = spec->node_count,
        .pieces = target_places(t) ? 0
                  : box            ? 1
                                   : spec->node_count,
        .piece = { .cpus = spec->cpus * ranks, .memory_mb = spec->memory_mb * ranks },
        .few_cpus = ranks > 1,
        .few_gpus = !run_says_gpus(spec),
        .lasts_us = run_limit_us(s, spec),
    };
    if (spec->use_gpu && target_has_gpus(t))
        ret->piece.gpus = spec->gpus * ranks;
}

/* ---- what it holds ---- */

static int64_t slots_held(const struct live *l)
{
    int64_t n = 0;

    for (int i = 0; i < l->nholds; i++)
        n += l->holds[i].nslots;
    return n;
}

/* The engine behind the target places it: it is counted as what it asks for. */
static int64_t slots_asked(const struct live *l)
{
    return (int64_t)l->spec->cpus * ty_run_spec_size(l->spec);
}

static void note_placed(struct live *l, bool placed)
{
    struct target *t = target_any(l->sched, l->spec->target);
    int change = (int)placed - (int)l->placed;
    int64_t slots = l->nholds ? slots_held(l) : slots_asked(l);

    l->placed = placed;
    share_change(l->sched, l->share, (int)(change * slots));
    if (t)
        t->in_use += change * l->spec->node_count;
    queue_changed(l->sched);
}

void gang_give(struct live *l)
{
    if (l->placed)
        note_placed(l, false);
    for (int i = 0; i < l->nholds; i++)
        node_give(&l->holds[i]);
    free(l->holds);
    l->holds = NULL;
    l->nholds = 0;
}

/* node[i]: where the i-th piece goes. */
int gang_take(struct live *l, const struct plan_need *need, struct node *const *node)
{
    l->holds = calloc((size_t)need->pieces + 1, sizeof *l->holds);
    if (!l->holds)
        return -ENOMEM;
    for (int i = 0; i < need->pieces; i++) {
        struct plan_node p = node_plan(node[i]);
        struct plan_room room = plan_room_on(&p, need);

        if (node_take(node[i], &room, &l->holds[i]) < 0) {
            gang_give(l);
            return -ENOMEM;
        }
        l->nholds++;
    }
    note_placed(l, true);
    return 0;
}

/* ---- the job folder ---- */

/* The i-th of n parts of a list of `count`: as even as can be. */
static int part(int count, int i, int n)
{
    return (int)((int64_t)count * i / n);
}

static bool is_bound(const struct ty_run_spec *spec)
{
    return spec->cpus_said || ty_run_spec_size(spec) > 1;
}

/* Of n logical nodes that share the hold the i-th's CPUs: its own part, or all where that would be less than one for a rank. */
static json_t *cpus_of(const struct live *l, const struct hold *h, int i, int n)
{
    json_t *cpus = json_array();
    int from = part(h->nslots, i, n), to = part(h->nslots, i + 1, n);

    if (!h->node->cpu_of_slot || !is_bound(l->spec))
        return cpus;
    if (h->nslots < n * l->spec->process_count_per_node) {
        from = 0;
        to = h->nslots;
    }
    for (; from < to; from++)
        if (h->slots[from] < h->node->cpus)
            json_array_append_new(cpus, json_integer(h->node->cpu_of_slot[h->slots[from]]));
    return cpus;
}

static const json_t *index_of(const struct gpu_slot *g)
{
    const json_t *index = json_object_get(g->info, "index");

    return json_is_integer(index) ? index : NULL;
}

/* Scripts read CUDA_VISIBLE_DEVICES as numbers.  Those of the driver are CUDA's, too (in the order of the bus), where all GPUs
 * answer and none is divided. */
static bool has_numbers(const struct node *n)
{
    int64_t there = 0, sum = 0;

    for (int i = 0; i < n->ngpus; i++) {
        const struct gpu_slot *g = &n->gpus[i];

        if (!g->there && g->runs == 0)
            continue;
        if (!g->there || !index_of(g) || ty_starts_with(g->id, "MIG-") ||
            json_integer_value(index_of(g)) >= n->ngpus)
            return false;
        there++;
        sum += json_integer_value(index_of(g)) + 1;
    }
    return sum == there * (there + 1) / 2; /* 0, 1, 2, ... without a hole: they are different */
}

/* And its GPUs; where there are fewer than nodes, some share one.  By number where CUDA has the same; by id when that is asked for. */
static json_t *gpus_of(const struct hold *h, int i, int n, bool by_id)
{
    json_t *gpus = json_array();
    int from = part(h->ngpus, i, n), to = part(h->ngpus, i + 1, n);

    by_id = by_id || !has_numbers(h->node);
    if (from == to && h->ngpus > 0)
        to = from + 1;
    for (; from < to; from++) {
        const struct gpu_slot *g = &h->node->gpus[h->gpus[from]];

        json_array_append_new(
            gpus, by_id ? json_string(g->id)
                        : json_sprintf("%lld", (long long)json_integer_value(index_of(g))));
    }
    return gpus;
}

static json_t *node_json(const struct live *l, const char *name, json_t *cpus, json_t *gpus)
{
    return json_pack("{s:s s:i s:o s:o}", "name", name, "ranks", l->spec->process_count_per_node,
                     "cpus", cpus, "gpus", gpus);
}

static json_t *nodes_json(const struct live *l)
{
    int n = l->spec->node_count;
    bool box = l->nholds == 1 && l->holds[0].node == l->sched->box;
    json_t *nodes = json_array();

    for (int i = 0; i < n && nodes; i++) {
        const struct hold *h = box ? &l->holds[0] : i < l->nholds ? &l->holds[i] : NULL;
        char logical[32];

        snprintf(logical, sizeof logical, "node-%d", i);
        json_array_append_new(nodes, !h    ? node_json(l, logical, json_array(), json_array())
                                     : box ? node_json(l, n > 1 ? logical : h->node->name,
                                                       cpus_of(l, h, i, n), gpus_of(h, i, n, false))
                                           : node_json(l, h->node->name, cpus_of(l, h, 0, 1),
                                                       gpus_of(h, 0, 1, false)));
    }
    return nodes;
}

static json_t *holds_json(const struct live *l)
{
    json_t *holds = json_array();

    for (int i = 0; i < l->nholds && holds; i++) {
        const struct hold *h = &l->holds[i];
        json_t *slots = json_array();

        for (int k = 0; k < h->nslots; k++)
            json_array_append_new(slots, json_integer(h->slots[k]));
        json_array_append_new(holds, json_pack("{s:s s:o s:o s:I}", "node", h->node->key, "slots",
                                               slots, "gpus", gpus_of(h, 0, 1, true), "memory_mb",
                                               (json_int_t)h->memory_mb));
    }
    return holds;
}

static const struct ty_host *host_of(const struct target *t, const struct node *node)
{
    for (int i = 0; i < t->nnodes; i++)
        if (t->nodes[i] == node)
            return &t->spec->hosts[i];
    return NULL;
}

/* Where there is no GPU, the engine behind the target is asked for none: it would refuse. */
static void leave_gpus_out(const struct live *l, json_t *job)
{
    json_t *spec = json_copy(l->spec->json);

    json_object_set_new(spec, "use_gpu", json_false());
    json_object_set_new(job, "spec", spec);
}

/* What a courier needs, to bring the job to other machines. */
static void add_target(const struct live *l, const struct target *t, json_t *job)
{
    json_t *hosts = json_array();
    unsigned char bytes[32];
    char key[65];

    for (int i = 0; i < l->nholds; i++) {
        const struct ty_host *host = host_of(t, l->holds[i].node);

        json_array_append(hosts, host ? host->json : json_null());
    }
    json_object_set(job, "target", t->spec->json);
    json_object_set_new(job, "hosts", hosts);
    json_object_set_new(job, "local_nodes", json_integer(1));
    if (target_places(t) && l->spec->use_gpu && target_lacks_gpus(t))
        leave_gpus_out(l, job);
    if (l->spec->node_count == 1)
        return;
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(key, sizeof key, bytes, sizeof bytes);
    json_object_set_new(job, "link", json_pack("{s:s}", "key", key));
}

int gang_describe(const struct live *l, const struct target *t, json_t *job)
{
    json_t *nodes = nodes_json(l), *holds = holds_json(l);

    if (json_object_set_new(job, "nodes", nodes) < 0 ||
        json_object_set_new(job, "holds", holds) < 0 ||
        json_object_set_new(
            job, "node_lost_seconds",
            json_integer(ty_conf_number(l->sched->o.conf, "sched.node_lost_seconds"))) < 0)
        return -ENOMEM;
    if (t->kind && t->kind->couriers)
        add_target(l, t, job);
    return 0;
}

/* ---- after a restart ---- */

static json_t *job_json(const struct live *l)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(l->sched->o.home, l->name);
    CLEANUP_FREE char *path = dir ? ty_path_join(dir, "job.json") : NULL;
    CLEANUP_FREE char *text = NULL;
    struct ty_error none = { 0 };
    json_t *job = NULL;
    size_t n;

    if (path && ty_read_file(path, JOB_JSON_MAX, &text, &n) == 0)
        ty_json_parse(text, n, &job, &none);
    return job;
}

/* A job folder of a version that had one process a run. */
static int take_plain(struct live *l)
{
    const struct plan_room room = { .cpus = l->spec->cpus, .memory_mb = l->spec->memory_mb };

    l->holds = calloc(1, sizeof *l->holds);
    if (!l->holds)
        return -ENOMEM;
    l->nholds = 1;
    return node_take(l->sched->box, &room, &l->holds[0]);
}

int gang_take_again(struct live *l)
{
    CLEANUP_JSON json_t *job = job_json(l);
    const json_t *holds = json_object_get(job, "holds"), *h;
    size_t i;
    int r = 0;

    if (!holds) {
        const struct target *t = target_any(l->sched, l->spec->target);

        if (!t || target_on_box(t)) /* else nobody knows where it is */
            r = take_plain(l);
    } else {
        l->holds = calloc(json_array_size(holds) + 1, sizeof *l->holds);
        if (!l->holds)
            return -ENOMEM;
        json_array_foreach (holds, i, h) {
            const char *key = json_string_value(json_object_get(h, "node"));
            struct node *n = key ? node_find(l->sched, key) : NULL;

            if (key && !n) /* its target has lost that host since, and may have it again */
                n = node_keep(l->sched, key);
            if (n && r == 0)
                r = node_take_again(n, json_object_get(h, "slots"), json_object_get(h, "gpus"),
                                    json_integer_value(json_object_get(h, "memory_mb")),
                                    &l->holds[l->nholds]);
            l->nholds += n && r == 0;
        }
    }
    if (r == 0)
        note_placed(l, true);
    return r;
}
