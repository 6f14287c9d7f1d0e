/* plan.h - which of those that wait may start now: gangs, all or nothing, and back-filling that never delays a head
 *
 * Pure: no clock, no store, nothing but its arguments.  The caller describes the nodes, the sets of nodes that targets are, and what
 * goes on, and then asks for one waiting run after the other, in the order of the queue.
 *
 * The first that has to wait for what others hold, of each set of nodes, is a head.  Its shadow is when it can start at the latest: when
 * enough of what goes on has met its time limit.  Whoever comes behind may start at once only if no head is the worse for it:
 *   - it ends by the shadow, by its own limit; or
 *   - the head can start at the same shadow with it there; or
 *   - there is room for both of them on each node that both could use, in everything that it takes.
 * A head whose shadow nobody knows, because something goes on without a limit, is passed by the third rule only.
 * Times are microseconds of any clock that goes on evenly.
 */
#ifndef TY_PLAN_H
#define TY_PLAN_H
#include <stdbool.h>
#include <stdint.h>

#define PLAN_NEVER INT64_MAX

struct plan_room { int64_t cpus, gpus, memory_mb; };
struct plan_node {
    struct plan_room all, used;
    bool up; /* something may be placed on it */
};
struct plan_use { int node; struct plan_room room; };
/* What goes on.  `use` is borrowed. */
struct plan_run {
    int set, count; /* nodes that it counts for in its set */
    const struct plan_use *use;
    int nuse;
    int64_t ends_us;  /* at the latest, by its time limit; PLAN_NEVER: it has none */
    int64_t guess_us; /* when it may be expected to end; PLAN_NEVER: nobody knows.  For plan_estimate alone */
    void *who;
};
/* A target. */
struct plan_set {
    const int *nodes; /* borrowed; indices of its nodes; those that are not up included */
    int nnodes;
    int max, used;    /* nodes that its runs may hold at a time (0: no limit), and hold */
};
struct plan_need {
    int set, count;         /* as in plan_run */
    int pieces;             /* nodes of the set that it takes, each with `piece`; 0: the set places by itself */
    struct plan_room piece;
    bool few_cpus, few_gpus; /* all that a node has will do, where that is less (but a GPU is a GPU) */
    int64_t lasts_us;       /* by its time limit; PLAN_NEVER */
    void *who;
};

enum plan_verdict {
    PLAN_STARTS,
    PLAN_MAX,    /* its set holds as many nodes as it may */
    PLAN_FEW,    /* it takes more nodes than are up, or than its set may hold: it is no head, for nobody knows when that changes */
    PLAN_CPUS, PLAN_MEMORY, PLAN_GPUS, /* what its nodes lack, as far as one thing can be named */
    PLAN_BEHIND, /* it would fit, and delay a head */
};

struct plan;
/* nodes: `used` is what the runs hold, and maybe more.  NULL: out of memory. */
struct plan *plan_new(const struct plan_node *nodes, int nnodes, const struct plan_set *sets, int nsets,
                      const struct plan_run *runs, int nruns, int64_t now_us);
struct plan *plan_free(struct plan *p);

/* PLAN_STARTS: nodes[0..pieces) are where, and p takes it as started.  *behind: the head that it would delay, or that is before it
 * (who), else NULL. -ENOMEM. */
int plan_next(struct plan *p, const struct plan_need *need, int *nodes, void **behind);
/* The shadow of the head of this set (its `who`), if there is one; else 0. */
int64_t plan_shadow(const struct plan *p, int set, void **who);

/* When it can be expected to start, if all that were asked about before it start first: a time from now_us on, or PLAN_NEVER.  *last: whose end
 * it waits for (NULL: that of one that waits itself).  It is taken to last guess_us (PLAN_NEVER: nobody knows). Call it after all
 * plan_next; -ENOMEM is PLAN_NEVER, too. */
int64_t plan_estimate(struct plan *p, const struct plan_need *need, int64_t guess_us, void **last);

/* Does the piece fit the node when nothing else is there?  For refusing what would wait for ever. */
bool plan_could_hold(const struct plan_node *node, const struct plan_need *need);
/* What the piece takes there. */
struct plan_room plan_room_on(const struct plan_node *node, const struct plan_need *need);
#endif
