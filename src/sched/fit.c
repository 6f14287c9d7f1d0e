/* fit.c - can this run be placed at all?  What would wait for ever is refused at submission, by name
 *
 * A machine that nobody could ask yet may have anything: nothing is refused on its account.
 */
#include "base/str.h"
#include "sched/look.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <string.h>

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static bool is_known(const struct target *t, int i)
{
    return t->nodes[i]->known;
}

static bool all_known(const struct target *t)
{
    for (int i = 0; i < t->nnodes; i++)
        if (!is_known(t, i))
            return false;
    return true;
}

/* Nodes that can hold such a piece when they are empty, those that nobody knows included. */
static int able(const struct target *t, const struct plan_need *need)
{
    int n = 0;

    for (int i = 0; i < t->nnodes; i++) {
        struct plan_node p = node_plan(t->nodes[i]);

        p.all.gpus = t->nodes[i]->ngpus; /* one that is away may come back */
        n += !is_known(t, i) || plan_could_hold(&p, need);
    }
    return n;
}

static int check_count(const struct target *t, const struct ty_run_spec *spec, struct ty_error *err)
{
    int max = t->spec->max_nodes, hosts = t->spec->nhosts;
    json_int_t nodes = json_integer_value(json_object_get(t->facts, "nodes"));

    if (max > 0 && spec->node_count > max)
        return ty_error_set(
            err, -EINVAL,
            "node_count is %d, and target '%s' has at most %d node%s (max_nodes); ask "
            "for fewer, or change the target",
            spec->node_count, t->name, max, plural(max));
    if (hosts > 0 && spec->node_count > hosts)
        return ty_error_set(
            err, -EINVAL,
            "node_count is %d, and target '%s' has %d host%s; ask for fewer, or add "
            "hosts to the target",
            spec->node_count, t->name, hosts, plural(hosts));
    if (nodes > 0 && spec->node_count > nodes)
        return ty_error_set(err, -EINVAL,
                            "node_count is %d, and target '%s' has %lld node%s; ask for fewer",
                            spec->node_count, t->name, (long long)nodes, plural(nodes));
    return 0;
}

/* More than start while a daemon waits to hear from their runner: twice that took a minute on two CPUs. */
#define PROCESSES_PER_CPU 512

/* On this box: the words that were always used. */
static int too_much_for_box(const struct ty_run_spec *spec, const struct plan_need *need,
                            const struct plan_node *box, struct ty_error *err)
{
    if (spec->cpus > box->all.cpus)
        return ty_error_set(
            err, -EINVAL,
            "the run asks for %d CPU slots, and this box has %lld (sched.cpus): it would wait for "
            "ever; ask for fewer (--cpus)",
            spec->cpus, (long long)box->all.cpus);
    if (ty_run_spec_size(spec) > PROCESSES_PER_CPU * box->all.cpus)
        return ty_error_set(
            err, -EINVAL,
            "the run asks for %lld processes, and this box, with %lld CPU slots, may start %lld of "
            "one run; ask for fewer (node_count, process_count_per_node)",
            (long long)ty_run_spec_size(spec), (long long)box->all.cpus,
            (long long)(PROCESSES_PER_CPU * box->all.cpus));
    if (need->piece.memory_mb > box->all.memory_mb)
        return ty_error_set(err, -EINVAL,
                            "the run asks for %lld MB of memory, and this box has %lld "
                            "(sched.memory_mb): it would wait for ever; ask for less (--memory)",
                            (long long)need->piece.memory_mb, (long long)box->all.memory_mb);
    if (need->piece.gpus > box->all.gpus && !need->few_gpus)
        return ty_error_set(err, -EINVAL,
                            "the run asks for %lld GPUs, and this box has %lld: it would wait for "
                            "ever; ask for fewer (--gpus)",
                            (long long)need->piece.gpus, (long long)box->all.gpus);
    return 0;
}

static int too_much(const struct target *t, const struct ty_run_spec *spec,
                    const struct plan_need *need, struct ty_error *err)
{
    struct plan_need part = *need;
    const char *what = "CPU slots";
    int64_t n = need->piece.cpus;
    int have;

    part.piece.memory_mb = part.piece.gpus = 0;
    have = able(t, &part);
    if (have >= need->pieces) {
        part = *need;
        part.piece.gpus = 0;
        have = able(t, &part);
        what = "MB of memory";
        n = need->piece.memory_mb;
    }
    if (have >= need->pieces) {
        have = able(t, need);
        what = need->piece.gpus == 1 ? "GPU" : "GPUs";
        n = need->piece.gpus;
    }
    if (need->few_gpus && n == need->piece.gpus)
        return ty_error_set(err, -EINVAL,
                            "the run asks for %d node%s with a GPU (use_gpu), and target '%s' has "
                            "%d: it would wait for ever; ask for fewer nodes, or set use_gpu=False",
                            need->pieces, plural(need->pieces), t->name, have);
    return ty_error_set(err, -EINVAL,
                        "the run asks for %d node%s with %lld %s each, and target '%s' has %d such "
                        "node%s: it would wait for ever; ask for less (%d process%s a node)",
                        need->pieces, plural(need->pieces), (long long)n, what, t->name, have,
                        plural(have), spec->process_count_per_node,
                        spec->process_count_per_node == 1 ? "" : "es");
}

/* One process needs as many slots as it asks for, wherever it comes to lie. */
static int check_process(const struct target *t, const struct ty_run_spec *spec,
                         struct ty_error *err)
{
    int64_t most = json_integer_value(json_object_get(t->facts, "cpus"));

    for (int i = 0; i < t->nnodes; i++)
        if (t->nodes[i]->cpus > most)
            most = t->nodes[i]->cpus;
    if (most == 0 || spec->cpus <= most || !all_known(t))
        return 0;
    return ty_error_set(err, -EINVAL,
                        "the run asks for %d CPU slots a process, and no node of target '%s' has "
                        "more than %lld: it would wait for ever; ask for fewer (--cpus)",
                        spec->cpus, t->name, (long long)most);
}

/* ---- GPUs ---- */

bool target_lacks_gpus(const struct target *t)
{
    if (t->kind && t->kind->lacks_gpus)
        return t->kind->lacks_gpus(t->spec, t->facts);
    return t->spec->nhosts > 0 && !target_has_gpus(t) && all_known(t);
}

static int check_gpus(const struct target *t, const struct ty_run_spec *spec,
                      struct ty_str *warning, struct ty_error *err)
{
    const char *where = t->spec->nhosts > 0 ? "host" : "node";

    if (!spec->use_gpu || !target_lacks_gpus(t))
        return 0;
    if (t->spec->require_gpu)
        return ty_error_set(
            err, -EINVAL,
            "use_gpu is true, and no %s of target '%s' has a GPU, but it requires one "
            "(require_gpu); set use_gpu=False, or require_gpu=false on the target to run on CPUs",
            where, t->name);
    if (run_says_gpus(spec))
        return ty_error_set(
            err, -EINVAL,
            "the run asks for %d GPU%s a process, and no %s of target '%s' has one; "
            "leave them out (--gpus), or change the target",
            spec->gpus, plural(spec->gpus), where, t->name);
    ty_str_addf(warning, "use_gpu is true, but no %s of target '%s' has a GPU: the run uses CPUs",
                where, t->name);
    return 0;
}

/* ---- what shares what ---- */

static void add_warning(struct ty_str *warning, const char *text)
{
    ty_str_addf(warning, "%s%s", warning->len ? "; " : "", text);
}

/* On the node that has most of it, and is needed all the same: nobody has more than that. */
static void warn_shared(const struct target *t, const struct ty_run_spec *spec,
                        const struct plan_need *need, struct ty_str *warning)
{
    int64_t ranks = need->piece.cpus / spec->cpus, cpus = 0, gpus = 0;
    const char *where = target_on_box(t) ? "" : " on each node";
    CLEANUP_FREE char *text = NULL, *more = NULL;

    for (int i = 0; i < t->nnodes; i++) {
        cpus = t->nodes[i]->cpus > cpus ? t->nodes[i]->cpus : cpus;
        gpus = t->nodes[i]->ngpus > gpus ? t->nodes[i]->ngpus : gpus;
    }
    if (ranks > 1 && need->piece.cpus > cpus && all_known(t) &&
        (text = ty_strf("%lld processes share %lld CPU slot%s%s", (long long)ranks, (long long)cpus,
                        plural(cpus), where)))
        add_warning(warning, text);
    if (ranks > 1 && need->piece.gpus > gpus && gpus > 0 && need->few_gpus &&
        (more = ty_strf("%lld processes share %lld GPU%s%s", (long long)ranks, (long long)gpus,
                        plural(gpus), where)))
        add_warning(warning, more);
}

/* What cannot be used now keeps it waiting: said at once, and again by `why`. */
static void warn_unusable(const struct target *t, const struct plan_need *need,
                          struct ty_str *warning)
{
    const struct node *bad = NULL;
    CLEANUP_FREE char *text = NULL;
    int usable = 0;

    for (int i = 0; i < t->nnodes; i++) {
        usable += !t->nodes[i]->trouble;
        bad = t->nodes[i]->trouble && !bad ? t->nodes[i] : bad;
    }
    if (bad && usable < need->pieces &&
        (text = ty_strf("node '%s' of target '%s' %s; the run waits until it can be used",
                        bad->name, t->name, bad->trouble)))
        add_warning(warning, text);
}

int fit_check(const struct ty_sched *s, const struct target *t, const struct ty_run_spec *spec,
              struct ty_str *warning, struct ty_error *err)
{
    struct plan_node box = node_plan(s->box);
    struct plan_need need;
    int64_t slots;
    int r;

    if (spec->interactive)
        return 0;
    gang_need(s, t, spec, &need);
    box.all.gpus = s->box->ngpus;
    r = check_count(t, spec, err);
    if (r == 0 && target_on_box(t))
        r = too_much_for_box(spec, &need, &box, err);
    if (r == 0)
        r = check_process(t, spec, err);
    if (r == 0 && need.pieces > 0 && able(t, &need) < need.pieces)
        r = too_much(t, spec, &need, err);
    if (r == 0)
        r = check_gpus(t, spec, warning, err);
    if (r < 0)
        return r;
    slots = gang_slots(t, &need, spec);
    if (s->user_cpus > 0 && slots > s->user_cpus)
        return ty_error_set(err, -EINVAL,
                            "the run asks for %lld CPU slots, and one user may have %d "
                            "(sched.user_cpus): it would wait for ever; ask for fewer (--cpus)",
                            (long long)slots, s->user_cpus);
    if (need.pieces > 0) {
        warn_shared(t, spec, &need, warning);
        warn_unusable(t, &need, warning);
    }
    return 0;
}
