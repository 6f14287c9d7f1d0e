/* cross.h - the part of an operation that is between nodes
 *
 * Called on channels that have a net alone.  Return what move.h's functions do.
 */
#ifndef TY_COLL_CROSS_H
#define TY_COLL_CROSS_H
#include "coll/chan.h"

/* p[0..count) = the reduction of the members of rail `rail`, in place; this rank is one of them. */
int ty_cross_allreduce(struct ty_chan *ch, int rail, enum ty_coll_dtype t, enum ty_coll_op op, void *p, int64_t count);
/* Send to one member and receive from another at the same time; -1: no part.  Ranges of bytes. */
int ty_cross_exchange(struct ty_chan *ch, int to, const void *send, int64_t nsend, int from, void *recv, int64_t nrecv);
#endif
