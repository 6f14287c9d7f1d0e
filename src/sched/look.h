/* look.h - everything that waits, in its order, and everything that goes on, as a plan sees it; for queue.c and why.c */
#ifndef TY_SCHED_LOOK_H
#define TY_SCHED_LOOK_H
#include "sched/node.h"
#include "sched/plan.h"
struct live;
struct target;
struct ty_run_spec;

/* Why a run waits, beside what a plan says (enum plan_verdict). */
enum { WAITS_DRAINED = 100, WAITS_SHARE };

struct look {
    int64_t now_us; /* wall clock */
    bool guess;     /* runs have guess_us */
    struct plan *plan;
    struct plan_node *nodes;
    struct node **table; /* by index in the plan */
    struct plan_set *sets;
    int *members, *chosen, nnodes, nsets, nruns;
    struct plan_run *runs;
    struct plan_use *uses;
    struct live **waiting; /* in order */
    size_t nwaiting;
};
int look_open(struct ty_sched *s, bool guess, struct look *k); /* 0 or -ENOMEM; k needs look_close after 0 only */
void look_close(struct look *k);
int look_at(struct ty_sched *s, struct look *k, struct live *l, struct plan_need *need);
int64_t gang_slots(const struct target *t, const struct plan_need *need, const struct ty_run_spec *spec);
#endif
