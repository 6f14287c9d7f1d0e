/* exec.h - runs a plan: its messages over an exchange that the caller gives, its sums with reduce.h
 *
 * A step's message is cut into segments, each an exchange of its own: segment j is sent and received in call j of that
 * step on every rank, so that blocking exchanges cannot wait for each other in a circle.  What is to be added is received
 * into scratch memory that is used again and again, what is to be stored goes straight into place.
 */
#ifndef TY_COLL_EXEC_H
#define TY_COLL_EXEC_H
#include "coll/net.h"
#include "coll/plan.h"
#include <trainyard/coll.h>

/* Bytes of a message at most, unless the caller says another size.  Each segment costs a latency, for the next is sent
 * when the last has come; what comes early is added early (got), however long the segment is. */
#define TY_EXEC_SEGMENT (4 << 20)

/* Sends and receives at the same time, either may be NULL, and returns when both are whole, like ty_net_exchange_told(): 0
 * or a negative errno.  If got is not NULL it may call got(arg, at, bytes) while it waits, on this thread: that part of
 * what is received has come, and is added while the rest arrives.  Then it tells of every byte, once, in any order, in
 * parts whose ends are multiples of 64 or the message's.  An exchange that never calls it works as well, only without that
 * overlap. */
struct ty_exec_io {
    void *ctx;
    int (*exchange)(void *ctx, struct ty_net_msg *send, struct ty_net_msg *recv,
                    void (*got)(void *arg, size_t at, size_t bytes), void *arg);
};

struct ty_exec {
    const struct ty_exec_io *io;
    enum ty_coll_dtype dtype;
    enum ty_coll_op op; /* SUM, MIN, MAX, PRODUCT; AVERAGE sums */
    uint64_t tag;       /* messages of step k carry tag + k */
    size_t segment;     /* bytes, cut to a multiple of 64, the same on all ranks; 0: TY_EXEC_SEGMENT */
    void *scratch;      /* ty_exec_scratch() bytes, aligned to 64; not read before and worthless after */
};

/* How much scratch memory a run of this plan takes; 0 when it adds nothing. */
size_t ty_exec_scratch(const struct ty_exec *e, const struct ty_plan *p);
/* Reduce data, p->count elements, in place.  Not 0: the exchange's error, and data is a mix of operands and sums. */
int ty_exec_run(const struct ty_exec *e, const struct ty_plan *p, void *data);
#endif
