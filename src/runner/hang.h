/* hang.h - ranks that keep others waiting, as the engine of the collectives tells it in files (docs/collectives.md)
 *
 * Each rank has the file spool/stall.<rank>, there while it has reason to complain.  The runner is woken when one comes, changes
 * or goes.  A node agent tells the leader; the leader tells people once a hang, and once when it is over, and ends the job
 * when it lasts for as long as the run allows.
 */
#ifndef TY_HANG_H
#define TY_HANG_H
#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_runner;

#define TY_STALLED_LATE 4 /* how many ranks of it are named */

/* What a node says that waits for the longest there. */
struct ty_stalled {
    int node;
    int64_t since_us; /* monotonic, of this machine */
    int late[TY_STALLED_LATE], nlate; /* ranks; nlate counts also those that are not named; 0: it is not known who */
    char what[160];   /* "allreduce 'grad.3'", UTF-8 */
};

struct ty_hang {
    int inotify;            /* of the folder of stall files; -1: they are looked for now and then */
    int64_t look_us;        /* when, then */
    struct ty_stalled *at;  /* one for each node that has something to say */
    int n;
    bool told;              /* people were, and not yet that it is over */
    struct ty_stalled was;  /* of what they were told, the latest */
    int64_t over_us;        /* when it is taken for over, if nothing more is heard */
    int count;              /* of those that were told */
    char *message;          /* malloc'ed: why it ended the job; NULL: it did not */
};

void ty_hang_init(struct ty_hang *h);
void ty_hang_done(struct ty_hang *h);
/* The ranks are about to start: watch the folder. */
void ty_hang_open(struct ty_runner *r);
void ty_hang_hear(struct ty_runner *r); /* inotify has something */
/* Node `node` has told of it (record `stalled`). */
void ty_hang_told(struct ty_runner *r, int node, const json_t *record);
int64_t ty_hang_due(const struct ty_runner *r); /* when to call ty_hang_timers without an event */
void ty_hang_timers(struct ty_runner *r);
#endif
