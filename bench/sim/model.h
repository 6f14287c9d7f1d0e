/* model.h - how long an allreduce takes: a discrete-event simulation of the engine's own plans
 *
 * Each node runs ty_plan_step()'s steps as exec.c does: a step's message goes in segments, one exchange after another.
 * A segment leaves through the node's sending side, arrives `alpha` later through the receiver's receiving side (each
 * begins with one segment after the other, at the node's bandwidth, cut-through), and is added at `reduce` bytes a second, while it
 * arrives if `part` says so.  With racks, what leaves a rack passes the uplink of both racks, in chunks.
 * Receivers buffer without limit; nothing is lost; a switch inside a rack is never full.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H
#include "coll/plan.h"
#include <stddef.h>

struct sim_net {
    double alpha;     /* seconds from the beginning of sending to the beginning of receiving */
    double bandwidth; /* bytes a second, in each direction at once */
    double receive;   /* bytes a second that a node can take; 0: bandwidth */
    double burst;     /* bytes that a node may send at once: a bucket that fills at its bandwidth while it sends less */
    double reduce;    /* bytes a second; 0: adding costs nothing */
    size_t segment;   /* bytes; 0: TY_EXEC_SEGMENT */
    size_t part;      /* bytes: adding follows arrival by so much; 0: it begins when the segment is there */
    double jitter;    /* seconds: mean of an exponential delay added to every message */
    double slow_share, slow_factor; /* so many of the nodes have 1/slow_factor of the bandwidth */
    uint64_t seed;                  /* of jitter, and of who is slow */
    int rack;                       /* nodes in a rack, ranks in order; 0: one switch for all */
    double oversubscription;        /* bandwidth of a rack's nodes / bandwidth of its uplink */
};

/* Seconds until the last node has finished, if all begin at 0; negative: out of memory. */
double sim_allreduce(const struct sim_net *net, enum ty_plan_kind kind, int nodes, int64_t bytes);
#endif
