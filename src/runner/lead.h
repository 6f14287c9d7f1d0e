/* lead.h - the runner's side of the node agents that it leads (docs/spec/runner-stream.md)
 *
 * A job on several boxes has its runner on the first, the leader, and a node agent on each of the others.  They come through
 * links (base/link_ends.h).  Here is what each of them has told, what it is owed, and whether it is there at all.  What
 * follows from that for the job is not decided here: the hooks are told, and life.c decides.
 *
 * Nothing waits, and what an event costs does not depend on the number of nodes.
 */
#ifndef TY_LEAD_H
#define TY_LEAD_H
#include "base/json.h"
#include "core/wire.h"
#include "runner/jobfile.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_error;
struct ty_lead;

#define TY_LEAD_SILENT_US (10 * 1000 * 1000) /* a node that is not heard for so long is silent */
#define TY_LEAD_CLOSED_US (10 * 1000 * 1000) /* an agent whose connection was closed over there, and that does not come back, has ended */

/*            state       it is */
#define TY_NODE_STATES(X) \
    X(WAITING,   "waiting")   /* not here yet */ \
    X(PREPARING, "preparing") /* bringing content and data */ \
    X(READY,     "ready")     /* its ranks can be started */ \
    X(RUNNING,   "running")   /* its ranks were started */ \
    X(DONE,      "done")      /* nothing of it runs, and all that it had is here */ \
    X(LOST,      "lost")
#define X(name, word) TY_NODE_##name,
enum ty_node_state { TY_NODE_STATES(X) TY_NODE_STATE_COUNT };
#undef X
const char *ty_node_state_word(enum ty_node_state s);

/* Nodes have their index in job.json. */
struct ty_lead_hooks {
    /* The node has come to that state; not called for WAITING. */
    void (*state)(void *ctx, int node, enum ty_node_state s);
    /* It is not heard any more (`silent`), or again. */
    void (*silent)(void *ctx, int node, bool silent);
    /* It has told that record, each once and in their order; artifacts and `collected` are not among them. */
    void (*told)(void *ctx, int node, const json_t *record);
    /* A file of it that is to be kept, and whose content is in the store and on the disk. */
    void (*artifact)(void *ctx, int node, const char *path, const char *sha, uint64_t bytes);
    void (*warning)(void *ctx, const char *text);
    /* A line of its control log, without the newline. */
    void (*line)(void *ctx, int node, const char *text, size_t n);
    /* The file that holds the log of that rank (or TY_LOG_BUILD, logs.h), O_APPEND; or a negative errno. */
    int (*log_fd)(void *ctx, int rank);
    /* It has come to a fence (FENCE). */
    void (*fence)(void *ctx, int node, const struct ty_frame *f);
};

/* Listen, and say where in the file JOBDIR/link.  The job stays the caller's and outlives the lead; `lost_us`: a node that is
 * not heard for so long is lost, also one that has never come. */
int ty_lead_open(const struct ty_jobfile *job, int64_t lost_us, const struct ty_lead_hooks *hooks, void *ctx,
                 int64_t now_us, struct ty_lead **ret, struct ty_error *err);
struct ty_lead *ty_lead_free(struct ty_lead *l);
int ty_lead_fd(const struct ty_lead *l); /* to poll(2) for POLLIN */
int64_t ty_lead_due(const struct ty_lead *l); /* when to call ty_lead_turn without an event */
void ty_lead_turn(struct ty_lead *l, int64_t now_us);
/* Whoever waits for any child says so here. */
void ty_lead_reaped(struct ty_lead *l, pid_t pid, int status);

int ty_lead_port(const struct ty_lead *l);
/* The address of this box that the first node used, or "": then nobody has come yet. */
const char *ty_lead_address(const struct ty_lead *l);
/* How many nodes are in that state. */
int ty_lead_count(const struct ty_lead *l, enum ty_node_state s);
int ty_lead_nodes(const struct ty_lead *l); /* how many it leads */
/* Is there one that may be lost: not heard, or its connection was closed and it has not come back? */
bool ty_lead_trouble(const struct ty_lead *l);
bool ty_lead_came(const struct ty_lead *l, int node); /* its agent was here */
/* Of one that is lost: its agent had closed the connection, so it has ended; false: it was not heard. */
bool ty_lead_closed(const struct ty_lead *l, int node);

/* To all nodes, also those that come back later.  `what` is consumed: the JSON of GO. */
void ty_lead_go(struct ty_lead *l, json_t *what);
/* SIGTERM to all ranks there, SIGKILL after `grace_ms`; a shorter time replaces a longer one. */
void ty_lead_end(struct ty_lead *l, uint32_t grace_ms);
/* To each of those nodes: the fence is complete.  A node that was away is told when it comes to the same fence again. */
void ty_lead_fenced(struct ty_lead *l, const int *nodes, int n, const struct ty_frame *f);
/* A file of the leader's own was kept: it has its name first. */
void ty_lead_own_artifact(struct ty_lead *l, const char *path, const char *sha, uint64_t bytes);
/* All of the leader's own were: those of the nodes are told of from now on. */
void ty_lead_take_artifacts(struct ty_lead *l);
/* All is on the disk here: nodes that are done may go, and are told so as far as that goes without waiting. */
void ty_lead_release(struct ty_lead *l);
#endif
