/* node.h - the machines that runs are placed on, and what runs hold of each
 *
 * One entry for this box, one for each host, shared by all targets that name it.  What a machine has comes from its target's spec
 * where that says so, else from what asking it gave (its facts, kept in the store as the setting "node/KEY").
 * A CPU slot is a CPU of the machine as long as there are no more slots than CPUs; else slots are only counted.
 */
#ifndef TY_SCHED_NODE_H
#define TY_SCHED_NODE_H
#include "core/run_state.h"
#include "core/target_spec.h"
#include "sched/plan.h"
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
struct ty_error;
struct ty_probe;
struct ty_sched;
struct ty_target_kind;

#define NODE_SETTING "node/" /* and its key: the setting with its facts */

struct gpu_slot {
    char *id;      /* for CUDA_VISIBLE_DEVICES */
    json_t *info;  /* {"index", "uuid", "name", "memory_mb"} as far as known */
    int runs;      /* that hold it: 0 or 1, but for what was placed by hand or before a crash */
    bool there;    /* when it was looked for last */
    const char *told; /* a run that holds it, while nodes are told of (fleet.c) */
};

struct node {
    struct ty_sched *sched;
    char *key;        /* ty_host_key; "" for this box */
    char *name;       /* the host as its target names it; this box's host name */
    int targets;      /* that name it */
    json_t *facts;    /* NULL: nobody knows */
    char *trouble;    /* why nothing can be placed on it; NULL: it can */
    char *asker;      /* the user whose ssh asks it again, under a daemon of the whole machine; NULL: the daemon's own */
    struct ty_probe *probe; /* it is being asked whether the trouble is over: by probe_kind, as probe_spec says */
    const struct ty_target_kind *probe_kind;
    struct ty_target_spec *probe_spec;
    bool known;       /* what it has; else one run at a time may have all of it */
    int cpus, cpus_used;
    int *runs_of_slot; /* by slot: runs that hold it */
    int *cpu_of_slot;  /* by slot: the CPU's number; NULL: slots are only counted */
    int64_t memory_mb, memory_used_mb;
    struct gpu_slot *gpus; /* those that went away stay, as not there: they may come back */
    int ngpus;
    int index;         /* in the plan that is being made */
    json_t *told;      /* the runs that hold it, and a state of theirs, while they are told of (fleet.c) */
    enum ty_run_state told_state;
    UT_hash_handle hh; /* by key */
};

/* What a run holds of a node. */
struct hold {
    struct node *node;
    int *slots, nslots, *gpus, ngpus; /* owned; numbers of slots, indices of GPUs */
    int64_t memory_mb;
};

int nodes_open(struct ty_sched *s, struct ty_error *err); /* this box */
void nodes_close(struct ty_sched *s);
struct node *node_find(struct ty_sched *s, const char *key);
/* The node of a host, made if it is not there; one target more has it.  NULL: out of memory. */
struct node *node_use(struct ty_sched *s, const struct ty_host *host);
/* One that no target names any more, and runs still hold; gone with the last of them, unless a target names it again.  NULL: out of memory. */
struct node *node_keep(struct ty_sched *s, const char *key);
void node_unuse(struct node *n); /* one target fewer; the last one takes it away, unless runs hold it */
/* What asking the machine gave; in memory only.  0 or -ENOMEM. */
int node_learn(struct node *n, json_t *facts, const struct ty_host *host);
bool node_look_for_gpus(struct ty_sched *s); /* of this box; true: others are there than before */
int node_gpus(const struct node *n);         /* that are there */
struct plan_node node_plan(const struct node *n); /* what it has, and what is held of it */

/* Take so much of it: what is free first.  0 or -ENOMEM. */
int node_take(struct node *n, const struct plan_room *room, struct hold *ret);
/* Take exactly that again, after a restart; slots and gpus are borrowed. */
int node_take_again(struct node *n, const json_t *slots, const json_t *gpus, int64_t memory_mb, struct hold *ret);
void node_give(struct hold *h); /* and free what h owns */

#endif
