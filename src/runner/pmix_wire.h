/* pmix_wire.h - what the runner and the PMIx helper of a node say to each other
 * (docs/spec/pmix-helper.md); pure encoding
 *
 * Frames: u32 payload bytes (little-endian), u8 type, payload.  The runner speaks first (SETUP).
 */
#ifndef TY_PMIX_WIRE_H
#define TY_PMIX_WIRE_H
#include "base/str.h"
#include <stddef.h>
#include <stdint.h>

#define TY_PMIX_PROTOCOL 1
#define TY_PMIX_HEAD 5
#define TY_PMIX_PAYLOAD_MAX (256 << 20)
#define TY_PMIX_KEY_MAX 255

/*     type        value  payload */
#define TY_PMIX_FRAMES(X) \
    X(SETUP,       1) /* JSON: protocol, namespace, node, nodes [{name, ranks}], cpus, tmp, shm */ \
    X(FENCE_DONE,  2) /* u32 nodes, u8 key_len, key, blobs of all nodes, joined */ \
    X(READY,      65) /* JSON: env [[NAME=value] of each rank of this node], pmix (version) */ \
    X(FAILED,     66) /* JSON: error (errno, positive), text */ \
    X(FENCE,      67) /* u32 nodes that take part, u8 key_len, key, blob of this node */ \
    X(ABORT,      68) /* JSON: rank, code, text */ \
    X(NOTE,       69) /* JSON: text */ \
    X(MPI,        70) /* JSON: version ("" when there is no Open MPI) */
#define X(name, value) TY_PMIX_##name = value,
enum ty_pmix_frame_type { TY_PMIX_FRAMES(X) };
#undef X

struct ty_pmix_frame {
    enum ty_pmix_frame_type type;
    uint32_t nodes;     /* FENCE, FENCE_DONE */
    const char *key;    /* the same; not NUL-terminated, 1 to TY_PMIX_KEY_MAX bytes */
    size_t key_len;
    const void *body;   /* JSON text or blob */
    size_t body_len;
};

/* Append the encoded frame.  0; -EINVAL: no such type, or a part that is too long; -ENOMEM. */
int ty_pmix_encode(const struct ty_pmix_frame *f, struct ty_str *out);
/* Decode the frame at the start of in[0..n): bytes used; -EAGAIN: more is needed; -EBADMSG: not a
 * frame of this protocol.  The parts of *ret point into `in`. */
ptrdiff_t ty_pmix_decode(const void *in, size_t n, struct ty_pmix_frame *ret);
#endif
