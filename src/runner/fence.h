/* fence.h - the leader's side of PMIx fences over several nodes: blobs of the nodes, joined; pure
 *
 * Each node gives the blob of its own ranks under a key that names the fence; when all that take
 * part have given theirs, each of them gets all blobs back, one behind the other in the order of the
 * nodes.  Several fences may be open at once.  The joined bytes mean nothing to us: libpmix reads them.
 */
#ifndef TY_FENCE_H
#define TY_FENCE_H
#include "core/wire.h"
#include <stddef.h>
#include <stdint.h>
struct ty_fences;

#define TY_FENCES_BYTES_MAX (TY_WIRE_PAYLOAD_MAX - 1024) /* of the blobs of one fence: they go in one frame */
#define TY_FENCES_OPEN_MAX 4096 /* fences that wait at the same time */

/* What a fence that is complete gives; owned by the fences until the next call. */
struct ty_fence_joined {
    const char *key;  /* NUL-terminated */
    const int *nodes; /* who took part, ascending: each of them gets the blob */
    int nnodes;
    const void *blob;
    size_t len;
};

/* `nodes`: how many the job has, 1 and up.  NULL: out of memory. */
struct ty_fences *ty_fences_new(int nodes);
struct ty_fences *ty_fences_free(struct ty_fences *f); /* NULL is fine; returns NULL */
/* Node `node` came to the fence `key` (key_len bytes, not NUL-terminated) in which `parts` nodes take
 * part.  1 and *ret: all have come, and the fence is forgotten; 0: others are to come; -EINVAL: no
 * such node, more parts than nodes or another number of them than was said before, a bad key; -EEXIST:
 * it has come before; -ENOSPC: too many fences are open, or more bytes than a frame holds; -ENOMEM. */
int ty_fences_add(struct ty_fences *f, int node, const char *key, size_t key_len, uint32_t parts,
                  const void *blob, size_t len, struct ty_fence_joined *ret);
/* How many fences wait for nodes. */
int ty_fences_open(const struct ty_fences *f);
#endif
