/* move.h - the operations themselves: tensors through shared memory and between nodes
 *
 * All members of the channel call the same function at the same time with requests of equal digests; each blocks until
 * this rank's part is done (others may still read what it has published: slots alternate, and a slot is written again
 * only after a barrier that its readers have passed).  0; -EOWNERDEAD when the world has ended meanwhile; -ENOMEM.
 */
#ifndef TY_COLL_MOVE_H
#define TY_COLL_MOVE_H
#include "coll/chan.h"

#define TY_PATHS(X) \
    X(INLINE, "inline", "in the post of the round") \
    X(DIRECT, "direct", "in the arena: each rank reduces its slice of all ranks' tensors and stores it to all") \
    X(EACH, "each", "through slots, each rank reduces all of it") \
    X(EACH_STREAM, "each-stream", "the same, slots written past the caches") \
    X(SLICES, "slices", "through slots, each rank reduces its slice") \
    X(SLICES_STREAM, "slices-stream", "the same, slots written past the caches") \
    X(CMA, "cma", "each rank reads its slice of the others' tensors from their processes' memory") \
    X(COPY, "copy", "through slots, nothing reduced") \
    X(NET, "net", "between nodes") \
    X(NCCL, "nccl", "tensors on GPUs, by NCCL") \
    X(HOST, "host", "tensors on GPUs, through pinned memory of the host")
#define X(id, word, what) TY_PATH_##id,
enum ty_path { TY_PATHS(X) TY_PATH_COUNT };
#undef X

#define TY_INLINE_BYTES 8000 /* largest tensor that travels in a post */
#define TY_DIRECT_BYTES 2048 /* in the arena: from here on it is better left where it is */

/* What a reduction is multiplied by at the end: for averages, 1/n.  The reciprocals of some n are a bit too small, and
 * integers are cut: 49 * (1 / 49.) must not become 0. */
double ty_average(enum ty_coll_dtype t, enum ty_coll_op op, double postscale, int n);

/* Where the share of owner `i` of `owners` begins in `count` elements of `size` bytes: at whole lines. */
int64_t ty_share(int64_t count, size_t size, int i, int owners);

/* ---- allreduce ---- */

/* Requests that are in the payloads of the posts (ty_inline_pack), m of them. */
int ty_allreduce_inline(struct ty_chan *ch, struct ty_req *const *req, int m);
/* Write requests to this rank's post; how many fit. */
int ty_inline_pack(struct ty_chan *ch, struct ty_req *const *req, int m);
/* Requests whose offsets in the arenas are in the payloads of the posts (ty_direct_pack), m of them. */
int ty_allreduce_direct(struct ty_chan *ch, struct ty_req *const *req, int m);
int ty_direct_pack(struct ty_chan *ch, struct ty_req *const *req, int m);
/* Any other.  path: one of the four that go through slots, or CMA, which takes SLICES for groups. */
int ty_allreduce_staged(struct ty_chan *ch, struct ty_req *req, enum ty_path path);
/* Can this rank read the memory of all others of the node?  All members call it; it says the same on all. */
int ty_cma_probe(struct ty_chan *ch, bool *ret);
int ty_allreduce_cma(struct ty_chan *ch, struct ty_req *req);
int ty_adasum(struct ty_chan *ch, struct ty_req *req);

/* ---- the others ---- */

int ty_broadcast(struct ty_chan *ch, struct ty_req *req);
int ty_reducescatter(struct ty_chan *ch, struct ty_req *req);
int ty_allgather(struct ty_chan *ch, struct ty_req *req); /* fills req->got */
int ty_alltoall(struct ty_chan *ch, struct ty_req *req);  /* fills req->got */
/* What both begin with: got.rows from all members, and got.data without blocks.  all: [n * n] the splits. */
int ty_allgather_rows(struct ty_chan *ch, struct ty_req *req);
int ty_alltoall_rows(struct ty_chan *ch, struct ty_req *req, int64_t *all);
/* Rows of a sum before those of member i of n: the first members have one more where they do not come out even. */
static inline int64_t ty_first_row(int64_t rows, int n, int i)
{
    return rows / n * i + (i < rows % n ? i : rows % n);
}
int ty_barrier(struct ty_chan *ch);                       /* all members, not those of this node alone */

/* ---- bytes from all to all, for the engine itself ---- */

/* out[n * bytes]: what each member has given. */
int ty_gather_fixed(struct ty_chan *ch, const void *in, size_t bytes, void *out);
/* sizes[n], known to all; out: one after another. */
int ty_gather(struct ty_chan *ch, const void *in, const int64_t *sizes, void *out);
#endif
