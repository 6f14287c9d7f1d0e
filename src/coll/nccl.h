/* nccl.h - NCCL, found at run time: its functions, and a communicator for each process set
 *
 * Communicators are non-blocking ones: every call returns at once, and this rank looks whether the world still
 * stands while it waits.  NCCL has had that since 2.14; an older one is not used, for nothing would end its waiting
 * for a rank that has died.
 */
#ifndef TY_COLL_NCCL_H
#define TY_COLL_NCCL_H
#include "coll/req.h"
#include <stddef.h>
#include <trainyard/error.h>

#define TY_NCCL_OLDEST 21400
#define TY_NCCL_ID_BYTES 128
enum { TY_NCCL_IN_PROGRESS = 7 };

struct ty_nccl_id {
    char bytes[TY_NCCL_ID_BYTES];
};
/* ncclConfig_t as 2.14 had it: later versions read its size and version, and fill in the rest. */
struct ty_nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking;
};

#define TY_NCCL_CALLS(X) \
    X(const char *, GetErrorString, (int error)) \
    X(int, GetVersion, (int *version)) \
    X(int, GetUniqueId, (struct ty_nccl_id *id)) \
    X(int, CommInitRankConfig, (void **comm, int n, struct ty_nccl_id id, int rank, struct ty_nccl_config *config)) \
    X(int, CommGetAsyncError, (void *comm, int *error)) \
    X(int, CommAbort, (void *comm)) \
    X(int, GroupStart, (void)) \
    X(int, GroupEnd, (void)) \
    X(int, AllReduce, (const void *in, void *out, size_t n, int type, int op, void *comm, void *stream)) \
    X(int, Reduce, (const void *in, void *out, size_t n, int type, int op, int root, void *comm, void *stream)) \
    X(int, ReduceScatter, (const void *in, void *out, size_t n, int type, int op, void *comm, void *stream)) \
    X(int, Broadcast, (const void *in, void *out, size_t n, int type, int root, void *comm, void *stream)) \
    X(int, AllGather, (const void *in, void *out, size_t n, int type, void *comm, void *stream)) \
    X(int, Send, (const void *in, size_t n, int type, int peer, void *comm, void *stream)) \
    X(int, Recv, (void *out, size_t n, int type, int peer, void *comm, void *stream)) \
    X(int, RedOpCreatePreMulSum, (int *op, void *scalar, int type, int residence, void *comm)) \
    X(int, RedOpDestroy, (int op, void *comm))

struct ty_nccl {
#define X(type, name, args) type(*name) args;
    TY_NCCL_CALLS(X)
#undef X
    int version; /* 22105 */
};

/* paths: as for ty_so_open.  -ENOENT with text: no NCCL, or one that is too old. */
int ty_nccl_open(const char *paths, struct ty_nccl *ret, struct ty_error *err);

/* ---- communicators ---- */

struct ty_chan;
struct ty_comm;
struct ty_gpu;

/* Can NCCL do what `r` asks, among n ranks?  Depends on what the digest covers alone: all ranks say the same.  It cannot
 * where its arithmetic differs from the engine's: int16, averages and scales of integers, scales with min, max and
 * product, Adasum, and scales that a 16-bit type cannot hold. */
bool ty_nccl_serves(const struct ty_req *r, int n);

/* Agree with the other members whether NCCL serves this channel (all have it in one version, and each a GPU of its own), and
 * make the communicator: ch->comm.  `device` is this rank's GPU, -1 when it has joined and does not know one.  All
 * members call it in the same round, until ch->comm_settled.  why: the reason, when it is settled that NCCL does not serve.
 * A negative errno ends the world. */
struct ty_comm_why {
    char text[200];
};
int ty_comm_settle(struct ty_gpu *g, struct ty_chan *ch, int device, struct ty_comm_why *why);
/* Run requests that NCCL serves: allreduces, or one of another kind.  0 when they are done; -EOWNERDEAD: the world has
 * ended, and NCCL was aborted; -EIO with g->text. */
int ty_comm_run(struct ty_gpu *g, struct ty_chan *ch, struct ty_req *const *req, int m);
/* NULL is fine; returns NULL.  Waits for nobody. */
struct ty_comm *ty_comm_free(struct ty_comm *comm);
#endif
