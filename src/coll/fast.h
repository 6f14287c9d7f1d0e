/* fast.h - the shortest way through the engine: one small allreduce of one tensor on one node, with nothing else pending
 *
 * What a blocking call does in its usual case, without a request, a list or a map: publish, see the others' posts, reduce.
 * When the others do not come soon, or come with something else, the post that is out becomes that of a
 * request, and the usual way goes on from there; nobody can tell the difference.
 */
#ifndef TY_COLL_FAST_H
#define TY_COLL_FAST_H
#include "coll/engine.h"

/* Calls whose digest is known, by the address of their name: a training loop makes the same ones again and again.  What
 * was given is compared in full, for addresses are used again. */
#define TY_MEMOS 64
#define TY_MEMO_NAME 80
#define TY_MEMO_DIMS 4
struct ty_memo {
    uint64_t digest;
    int64_t count, dims[TY_MEMO_DIMS];
    double prescale, postscale;
    int set, dtype, op, ndims, device;
    char name[TY_MEMO_NAME];
};

/* With the lock.  1: done; 0: this call is not for this way, nothing has happened; 2: the post is out (ch->posted), the caller
 * must enter the request, put it into ch->batch and wait for it. */
int ty_fast_allreduce(struct ty_coll *c, const struct ty_coll_call *call, struct ty_chan **ch);
/* Note the digest of a call that went the usual way. */
void ty_fast_note(struct ty_coll *c, const struct ty_coll_call *call, uint64_t digest);
#endif
