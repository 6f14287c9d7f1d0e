/* plan.c - gangs and back-filling
 *
 * The future is told by letting the runs end in the order of their ends, and counting on how many of its nodes a run would fit; a
 * run whose end makes that enough is the one that it waits for.
 */
#include "sched/plan.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN_MAX 16 /* verdicts remembered: many of those that wait ask for the same */

struct head {
    struct plan_need need;
    bool gpus;
    int64_t shadow_us;
};

/* A need that has been refused: the next one like it is, too, for what is there only gets less. */
struct known {
    struct plan_need need;
    int verdict;
    void *behind;
};

struct plan {
    struct plan_node *nodes;
    const struct plan_set *given;
    int nnodes, nsets, nruns, heads_size, nknown;
    int *used;             /* by set: nodes that its runs hold */
    struct plan_run *runs; /* by ends_us */
    int runs_size;
    struct plan_use **own; /* of runs that were added: freed with p */
    int nown;
    struct head *heads;
    int nheads;
    int64_t now_us;
    struct known known[KNOWN_MAX];
    /* What is being imagined. */
    struct plan_room *imagined;
    bool *fits;
    int *stamp, round; /* which nodes belong to the set in question */
    struct choice *choice;
    bool guessing; /* runs are by guess_us now, and *used as imagined */
};

struct choice {
    int node;
    bool harms;
    int64_t gpus, cpus_left;
};

/* ---- rooms ---- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct plan_room plan_room_on(const struct plan_node *node, const struct plan_need *need)
{
    struct plan_room room = need->piece;

    if (need->few_cpus)
        room.cpus = least(room.cpus, node->all.cpus);
    if (need->few_gpus && node->all.gpus > 0)
        room.gpus = least(room.gpus, node->all.gpus);
    return room;
}

/* What is not asked for is not missed, however much of it is held. */
static bool has(int64_t all, int64_t used, int64_t wanted)
{
    return wanted == 0 || used + wanted <= all;
}

static bool has_room(const struct plan_room *all, const struct plan_room *used,
                     const struct plan_room *wanted)
{
    return has(all->cpus, used->cpus, wanted->cpus) && has(all->gpus, used->gpus, wanted->gpus) &&
           has(all->memory_mb, used->memory_mb, wanted->memory_mb);
}

static void room_change(struct plan_room *room, const struct plan_room *by, int sign)
{
    room->cpus += sign * by->cpus;
    room->gpus += sign * by->gpus;
    room->memory_mb += sign * by->memory_mb;
}

bool plan_could_hold(const struct plan_node *node, const struct plan_need *need)
{
    const struct plan_room none = { 0 };
    struct plan_room room = plan_room_on(node, need);

    return has_room(&node->all, &none, &room);
}

static bool fits_now(const struct plan_node *node, const struct plan_room *used,
                     const struct plan_need *need)
{
    struct plan_room room = plan_room_on(node, need);

    return node->up && has_room(&node->all, used, &room);
}

/* ---- what goes on ---- */

static int64_t end_of(const struct plan *p, const struct plan_run *run)
{
    return p->guessing ? run->guess_us : run->ends_us;
}

static int by_end(const void *a, const void *b)
{
    int64_t x = ((const struct plan_run *)a)->ends_us, y = ((const struct plan_run *)b)->ends_us;

    return x < y ? -1 : x > y;
}

static int by_guess(const void *a, const void *b)
{
    int64_t x = ((const struct plan_run *)a)->guess_us, y = ((const struct plan_run *)b)->guess_us;

    return x < y ? -1 : x > y;
}

struct plan *plan_free(struct plan *p)
{
    if (p) {
        for (int i = 0; i < p->nown; i++)
            free(p->own[i]);
        free(p->own);
        free(p->nodes);
        free(p->used);
        free(p->runs);
        free(p->heads);
        free(p->imagined);
        free(p->fits);
        free(p->stamp);
        free(p->choice);
        free(p);
    }
    return NULL;
}

static void *copy_of(const void *from, int n, size_t size)
{
    void *to = calloc((size_t)n + 1, size);

    if (to && n > 0)
        memcpy(to, from, (size_t)n * size);
    return to;
}

struct plan *plan_new(const struct plan_node *nodes, int nnodes, const struct plan_set *sets,
                      int nsets, const struct plan_run *runs, int nruns, int64_t now_us)
{
    struct plan *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->nnodes = nnodes;
    p->given = sets;
    p->nsets = nsets;
    p->nruns = p->runs_size = nruns;
    p->now_us = now_us;
    p->nodes = copy_of(nodes, nnodes, sizeof *nodes);
    p->runs = copy_of(runs, nruns, sizeof *runs);
    p->used = calloc((size_t)nsets + 1, sizeof *p->used);
    p->imagined = calloc((size_t)nnodes + 1, sizeof *p->imagined);
    p->fits = calloc((size_t)nnodes + 1, sizeof *p->fits);
    p->stamp = calloc((size_t)nnodes + 1, sizeof *p->stamp);
    p->choice = calloc((size_t)nnodes + 1, sizeof *p->choice);
    if (!p->nodes || !p->runs || !p->used || !p->imagined || !p->fits || !p->stamp || !p->choice)
        return plan_free(p);
    for (int i = 0; i < nsets; i++)
        p->used[i] = sets[i].used;
    if (nruns > 0)
        qsort(p->runs, (size_t)nruns, sizeof *p->runs, by_end);
    return p;
}

/* Something starts: its use of the nodes is p's own.  0 or -ENOMEM. */
static int add_run(struct plan *p, const struct plan_need *need, const int *nodes, int64_t ends_us,
                   int64_t guess_us)
{
    struct plan_use *use = calloc((size_t)need->pieces + 1, sizeof *use);
    struct plan_run *run;
    void *more;
    int i;

    if (!use)
        return -ENOMEM;
    more = realloc(p->own, ((size_t)p->nown + 1) * sizeof *p->own);
    if (!more) {
        free(use);
        return -ENOMEM;
    }
    p->own = more;
    p->own[p->nown++] = use;
    if (p->nruns == p->runs_size) {
        more = realloc(p->runs, ((size_t)p->runs_size * 2 + 8) * sizeof *p->runs);
        if (!more)
            return -ENOMEM;
        p->runs = more;
        p->runs_size = p->runs_size * 2 + 8;
    }
    for (i = 0; i < need->pieces; i++)
        use[i] =
            (struct plan_use){ .node = nodes[i], .room = plan_room_on(&p->nodes[nodes[i]], need) };
    for (i = 0; i < p->nruns; i++)
        if (end_of(p, &p->runs[i]) > (p->guessing ? guess_us : ends_us))
            break;
    run = &p->runs[i];
    memmove(run + 1, run, (size_t)(p->nruns - i) * sizeof *run);
    *run = (struct plan_run){ .set = need->set,
                              .count = need->count,
                              .use = use,
                              .nuse = need->pieces,
                              .ends_us = ends_us,
                              .guess_us = guess_us,
                              .who = need->who };
    p->nruns++;
    for (i = 0; i < need->pieces; i++)
        room_change(&p->nodes[nodes[i]].used, &use[i].room, 1);
    p->used[need->set] += need->count;
    return 0;
}

/* ---- the future ---- */

struct future {
    const struct plan_need *need;
    int nfit; /* nodes on which it would fit */
    int used; /* nodes that runs of its set would hold */
};

static bool may_start(const struct plan *p, const struct future *f)
{
    int max = p->given[f->need->set].max;

    return f->nfit >= f->need->pieces && (max == 0 || f->used + f->need->count <= max);
}

static void imagine_now(struct plan *p, const struct plan_need *need, struct future *f)
{
    const struct plan_set *set = &p->given[need->set];

    *f = (struct future){ .need = need, .used = p->used[need->set] };
    p->round++;
    for (int i = 0; need->pieces > 0 && i < set->nnodes; i++) {
        int n = set->nodes[i];

        p->stamp[n] = p->round;
        p->imagined[n] = p->nodes[n].used;
        p->fits[n] = fits_now(&p->nodes[n], &p->imagined[n], need);
        f->nfit += p->fits[n];
    }
}

/* sign -1: the run ends; 1: it is back again. */
static void imagine_move(struct plan *p, const struct plan_run *run, struct future *f, int sign)
{
    if (run->set == f->need->set)
        f->used += sign * run->count;
    for (int i = 0; i < run->nuse; i++) {
        int n = run->use[i].node;
        bool fits;

        if (p->stamp[n] != p->round)
            continue;
        room_change(&p->imagined[n], &run->use[i].room, sign);
        fits = fits_now(&p->nodes[n], &p->imagined[n], f->need);
        f->nfit += (int)fits - (int)p->fits[n];
        p->fits[n] = fits;
    }
}

/* When it can start, if nothing else does; *last: the run whose end lets it, where there is one. */
static int64_t start_of(struct plan *p, const struct plan_need *need, const struct plan_run **last)
{
    struct future f;

    *last = NULL;
    imagine_now(p, need, &f);
    if (may_start(p, &f))
        return p->now_us;
    for (int i = 0; i < p->nruns; i++) {
        int64_t end = end_of(p, &p->runs[i]);

        if (end == PLAN_NEVER)
            return PLAN_NEVER;
        imagine_move(p, &p->runs[i], &f, -1);
        if (may_start(p, &f)) {
            *last = &p->runs[i];
            return end > p->now_us ? end : p->now_us;
        }
    }
    return PLAN_NEVER;
}

/* ---- heads ---- */

static bool same_nodes(const struct plan_set *a, const struct plan_set *b)
{
    return a == b || (a->nnodes > 0 && a->nnodes == b->nnodes &&
                      memcmp(a->nodes, b->nodes, (size_t)a->nnodes * sizeof *a->nodes) == 0 &&
                      a->max == 0 && b->max == 0);
}

/* Those that ask for GPUs wait for other nodes than those that do not: each sort has its head. */
static struct head *head_of(const struct plan *p, const struct plan_need *need)
{
    for (int i = 0; i < p->nheads; i++)
        if (same_nodes(&p->given[p->heads[i].need.set], &p->given[need->set]) &&
            p->heads[i].gpus == (need->piece.gpus > 0))
            return &p->heads[i];
    return NULL;
}

static int head_add(struct plan *p, const struct plan_need *need)
{
    const struct plan_run *last;

    if (p->nheads == p->heads_size) {
        void *more = realloc(p->heads, ((size_t)p->heads_size + 8) * sizeof *p->heads);

        if (!more)
            return -ENOMEM;
        p->heads = more;
        p->heads_size += 8;
    }
    p->heads[p->nheads++] = (struct head){ .need = *need,
                                           .gpus = need->piece.gpus > 0,
                                           .shadow_us = start_of(p, need, &last) };
    return 0;
}

/* In each thing that it takes there is room for the head, too, or the head does not use it. */
static bool leaves_room(const struct plan_node *node, const struct plan_room *takes,
                        const struct plan_need *head)
{
    struct plan_room room;

    if (!node->up || !plan_could_hold(node, head))
        return true;
    room = plan_room_on(node, head);
    return (takes->cpus == 0 || room.cpus == 0 ||
            node->used.cpus + takes->cpus + room.cpus <= node->all.cpus) &&
           (takes->gpus == 0 || room.gpus == 0 ||
            node->used.gpus + takes->gpus + room.gpus <= node->all.gpus) &&
           (takes->memory_mb == 0 || room.memory_mb == 0 ||
            node->used.memory_mb + takes->memory_mb + room.memory_mb <= node->all.memory_mb);
}

static bool in_set(const struct plan_set *set, int node)
{
    for (int i = 0; i < set->nnodes; i++)
        if (set->nodes[i] == node)
            return true;
    return false;
}

/* Is that node one which the head could miss? */
static bool harms(const struct plan *p, const struct head *h, const struct plan_need *need, int n)
{
    struct plan_room takes = plan_room_on(&p->nodes[n], need);

    return h->need.pieces > 0 && !leaves_room(&p->nodes[n], &takes, &h->need) &&
           in_set(&p->given[h->need.set], n);
}

static bool harms_count(const struct plan *p, const struct head *h, const struct plan_need *need)
{
    int max = p->given[need->set].max;

    return h->need.set == need->set && max > 0 &&
           p->used[need->set] + need->count + h->need.count > max;
}

static int64_t after(int64_t now_us, int64_t lasts_us)
{
    return lasts_us >= PLAN_NEVER - now_us ? PLAN_NEVER : now_us + lasts_us;
}

/* As if it had started; undone by unpretend.  0 or -ENOMEM. */
static int pretend(struct plan *p, const struct plan_need *need, const int *nodes)
{
    int64_t ends = after(p->now_us, need->lasts_us);

    return add_run(p, need, nodes, ends, ends);
}

static void unpretend(struct plan *p)
{
    struct plan_run *run = p->runs;

    while (run->use != p->own[p->nown - 1])
        run++;
    for (int k = 0; k < run->nuse; k++)
        room_change(&p->nodes[run->use[k].node].used, &run->use[k].room, -1);
    p->used[run->set] -= run->count;
    memmove(run, run + 1, (size_t)(p->runs + --p->nruns - run) * sizeof *run);
    free(p->own[--p->nown]);
}

static bool waits_for_count(const struct plan *p, const struct plan_need *need)
{
    int max = p->given[need->set].max;

    return max > 0 && p->used[need->set] + need->count > max;
}

/* The head cannot start before a run of its own set ends: with each of them gone, does it fit?  With it there. */
static bool fits_after_each(struct plan *p, const struct plan_need *head)
{
    struct future f;
    bool fits = true;

    imagine_now(p, head, &f);
    for (int i = 0; i < p->nruns && fits && f.nfit < head->pieces; i++) {
        if (p->runs[i].set != head->set)
            continue;
        imagine_move(p, &p->runs[i], &f, -1);
        fits = f.nfit >= head->pieces;
        imagine_move(p, &p->runs[i], &f, 1);
    }
    return fits;
}

static bool delays(struct plan *p, const struct head *h, const struct plan_need *need,
                   const int *nodes)
{
    const struct plan_run *last;
    bool harm = harms_count(p, h, need), apart = h->need.set != need->set;

    for (int i = 0; i < need->pieces && !harm; i++)
        harm = harms(p, h, need, nodes[i]);
    if (!harm || (h->shadow_us != PLAN_NEVER && after(p->now_us, need->lasts_us) <= h->shadow_us))
        return false;
    if (pretend(p, need, nodes) < 0)
        return true;
    if (apart && waits_for_count(p, &h->need) && fits_after_each(p, &h->need))
        harm = false;
    else if (h->shadow_us != PLAN_NEVER)
        harm = start_of(p, &h->need, &last) > h->shadow_us;
    unpretend(p);
    return harm;
}

/* ---- one that waits ---- */

static int by_choice(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;

    if (x->harms != y->harms)
        return x->harms ? 1 : -1;
    if (x->gpus != y->gpus)
        return x->gpus < y->gpus ? -1 : 1;
    if (x->cpus_left != y->cpus_left)
        return x->cpus_left < y->cpus_left ? -1 : 1;
    return x->node - y->node;
}

/* Where no head misses it, then where no GPU is wasted, then where it fits most tightly: large holes stay large. */
static void choose(struct plan *p, const struct plan_need *need, int *nodes)
{
    const struct plan_set *set = &p->given[need->set];
    int n = 0;

    for (int i = 0; i < set->nnodes; i++) {
        const struct plan_node *node = &p->nodes[set->nodes[i]];
        struct choice c = { .node = set->nodes[i] };

        if (!p->fits[c.node])
            continue;
        for (int h = 0; h < p->nheads && !c.harms; h++)
            c.harms = harms(p, &p->heads[h], need, c.node);
        c.gpus = need->piece.gpus ? 0 : node->all.gpus - node->used.gpus;
        c.cpus_left = node->all.cpus - node->used.cpus - plan_room_on(node, need).cpus;
        p->choice[n++] = c;
    }
    qsort(p->choice, (size_t)n, sizeof *p->choice, by_choice);
    for (int i = 0; i < need->pieces; i++)
        nodes[i] = p->choice[i].node;
}

/* How many nodes would do if only this were asked for. */
static int nodes_with(const struct plan *p, const struct plan_need *need, bool cpus, bool memory,
                      bool gpus)
{
    const struct plan_set *set = &p->given[need->set];
    int n = 0;

    for (int i = 0; i < set->nnodes; i++) {
        const struct plan_node *node = &p->nodes[set->nodes[i]];
        struct plan_room room = plan_room_on(node, need);

        if (!node->up || !plan_could_hold(node, need))
            continue;
        n += (!cpus || has(node->all.cpus, node->used.cpus, room.cpus)) &&
             (!memory || has(node->all.memory_mb, node->used.memory_mb, room.memory_mb)) &&
             (!gpus || has(node->all.gpus, node->used.gpus, room.gpus));
    }
    return n;
}

static int reason(const struct plan *p, const struct plan_need *need)
{
    int max = p->given[need->set].max;

    if (nodes_with(p, need, false, false, false) < need->pieces || (max > 0 && need->count > max))
        return PLAN_FEW;
    if (waits_for_count(p, need))
        return PLAN_MAX;
    if (nodes_with(p, need, false, false, true) < need->pieces)
        return PLAN_GPUS;
    if (nodes_with(p, need, false, true, false) < need->pieces &&
        nodes_with(p, need, true, false, false) >= need->pieces)
        return PLAN_MEMORY;
    return PLAN_CPUS;
}

static bool asks_the_same(const struct plan_need *a, const struct plan_need *b)
{
    return a->set == b->set && a->count == b->count && a->pieces == b->pieces &&
           a->piece.cpus == b->piece.cpus && a->piece.gpus == b->piece.gpus &&
           a->piece.memory_mb == b->piece.memory_mb && a->few_cpus == b->few_cpus &&
           a->few_gpus == b->few_gpus;
}

static const struct known *known_of(const struct plan *p, const struct plan_need *need)
{
    for (int i = 0; i < p->nknown; i++) {
        const struct known *k = &p->known[i];

        if (asks_the_same(&k->need, need) &&
            (k->verdict != PLAN_BEHIND || k->need.lasts_us <= need->lasts_us))
            return k;
    }
    return NULL;
}

static int refuse(struct plan *p, const struct plan_need *need, int verdict, void **behind)
{
    if (p->nknown < KNOWN_MAX)
        p->known[p->nknown++] =
            (struct known){ .need = *need, .verdict = verdict, .behind = *behind };
    return verdict;
}

/* Does not fit now: a head, if the first of its sort. */
static int blocked(struct plan *p, const struct plan_need *need, void **behind)
{
    int why = reason(p, need);
    const struct head *first = why == PLAN_FEW ? NULL : head_of(p, need);

    if (why != PLAN_FEW && !first && head_add(p, need) < 0)
        return -ENOMEM;
    *behind = first ? first->need.who : NULL;
    return refuse(p, need, why, behind);
}

int plan_next(struct plan *p, const struct plan_need *need, int *nodes, void **behind)
{
    const struct known *known = known_of(p, need);
    struct future f;

    *behind = NULL;
    if (known) {
        const struct head *h = known->verdict == PLAN_FEW ? NULL : head_of(p, need);

        *behind = known->behind ? known->behind : h ? h->need.who : NULL;
        return known->verdict;
    }
    imagine_now(p, need, &f);
    if (!may_start(p, &f))
        return blocked(p, need, behind);
    if (need->pieces > 0)
        choose(p, need, nodes);
    for (int i = 0; i < p->nheads; i++)
        if (delays(p, &p->heads[i], need, nodes)) {
            *behind = p->heads[i].need.who;
            return refuse(p, need, PLAN_BEHIND, behind);
        }
    int64_t ends = after(p->now_us, need->lasts_us);
    int r = add_run(p, need, nodes, ends, ends);

    return r < 0 ? r : PLAN_STARTS;
}

int64_t plan_shadow(const struct plan *p, int set, void **who)
{
    for (int i = 0; i < p->nheads; i++)
        if (p->heads[i].need.set == set) {
            *who = p->heads[i].need.who;
            return p->heads[i].shadow_us;
        }
    return 0;
}

/* ---- estimates ---- */

/* The first nodes on which it fits, as they were imagined last. */
static bool pick(const struct plan *p, const struct plan_need *need, int *nodes)
{
    const struct plan_set *set = &p->given[need->set];
    int n = 0;

    for (int i = 0; i < set->nnodes && n < need->pieces; i++)
        if (p->fits[set->nodes[i]])
            nodes[n++] = set->nodes[i];
    return n == need->pieces;
}

/* Those that wait are taken to hold their nodes from now on: what is told is rather late than early. */
int64_t plan_estimate(struct plan *p, const struct plan_need *need, int64_t guess_us, void **last)
{
    const struct plan_set *set = &p->given[need->set];
    const struct plan_run *run;
    int64_t at;
    int *nodes;

    *last = NULL;
    if (!p->guessing && p->nruns > 0)
        qsort(p->runs, (size_t)p->nruns, sizeof *p->runs, by_guess);
    p->guessing = true;
    at = start_of(p, need, &run);
    if (at == PLAN_NEVER) { /* and so nobody knows of those behind it */
        for (int i = 0; i < set->nnodes; i++)
            p->nodes[set->nodes[i]].up = false;
        p->used[need->set] = set->max;
        return at;
    }
    *last = run ? run->who : NULL;
    nodes = calloc((size_t)need->pieces + 1, sizeof *nodes);
    if (nodes && pick(p, need, nodes))
        add_run(p, need, nodes, PLAN_NEVER, after(at, guess_us));
    free(nodes);
    return at;
}
