/* wire.h - the stream between a runner and the daemon, and between a node agent and the runner that leads it
 * (docs/spec/runner-stream.md); pure encoding
 *
 * Frames: u32 payload bytes (little-endian), u8 type, payload.  The runner speaks first (HELLO), the daemon
 * answers WELCOME with what it already has; from there the runner sends what is missing, in order, and keeps
 * it until the daemon says that it is stored.  A frame that is sent twice changes nothing.
 */
#ifndef TY_WIRE_H
#define TY_WIRE_H
#include "base/str.h"
#include <stddef.h>
#include <stdint.h>

#define TY_WIRE_PROTOCOL 1
#define TY_WIRE_HEAD 5
#define TY_WIRE_PAYLOAD_MAX (1 << 20)
#define TY_WIRE_LOG_CHUNK (128 * 1024)
/* A BLOB has this many bytes, but for the last one of its blob, which has fewer (none where they come out even). */
#define TY_WIRE_BLOB_CHUNK (256 * 1024)
#define TY_WIRE_BLOB_NONE UINT64_MAX /* as the offset of a BLOB without bytes: there is no such blob */

/*     type            value  payload */
#define TY_FRAMES(X) \
    X(HELLO,       1) /* JSON: protocol, run, attempt, token, boot, pid, start */ \
    X(RECORD,      2) /* u64 seq, JSON: kind, at_us, ... */ \
    X(LOG,         3) /* u64 offset, u16 name_len, name, bytes */ \
    X(ROWS,        4) /* u32 writer, u64 first_seq, u32 count, rows (row.h) */ \
    X(PING,        5) /* nothing */ \
    X(WANT,        6) /* u64 offset, u16 name_len, name: the blob of that SHA-256 from there on; both ways */ \
    X(BLOB,        7) /* u64 offset, u16 name_len, name, bytes: the answer; both ways */ \
    X(FENCE,       8) /* u32 nodes, u16 name_len, name, bytes: this node has come to the fence */ \
    X(WELCOME,    65) /* JSON: protocol, record_next, logs {name: bytes}, rows {writer: next_seq}, cancel */ \
    X(RECORD_ACK, 66) /* u64 next seq wanted */ \
    X(LOG_ACK,    67) /* u64 bytes stored, u16 name_len, name */ \
    X(ROWS_ACK,   68) /* u32 writer, u64 next seq wanted */ \
    X(CANCEL,     69) /* nothing: end the job */ \
    X(PONG,       70) /* nothing */ \
    X(REFUSED,    71) /* JSON: message.  The run is gone: end everything and remove the job folder */ \
    X(RELEASE,    72) /* nothing: the end is stored; remove the job folder and exit */ \
    X(GO,         73) /* JSON: what all nodes have in common; start the ranks */ \
    X(END,        74) /* u32 ms: SIGTERM to all ranks now, SIGKILL after that time */ \
    X(FENCED,     75) /* u16 name_len, name, bytes: all nodes have come */
#define X(name, value) TY_FRAME_##name = value,
enum ty_frame_type { TY_FRAMES(X) };
#undef X

struct ty_frame {
    enum ty_frame_type type;
    uint64_t seq;       /* RECORD, RECORD_ACK, ROWS (first), ROWS_ACK: sequence; LOG, LOG_ACK, WANT, BLOB: offset */
    uint32_t writer;    /* ROWS, ROWS_ACK */
    uint32_t count;     /* ROWS: rows; FENCE: nodes that take part; END: milliseconds */
    const char *name;   /* LOG, LOG_ACK, WANT, BLOB, FENCE, FENCED; not NUL-terminated */
    size_t name_len;
    const void *body;   /* JSON text, bytes or rows */
    size_t body_len;
};

/* Append the encoded frame.  0; -EINVAL: no such type, a part that is too long, or a body where none
 * can be; -ENOMEM. */
int ty_frame_encode(const struct ty_frame *f, struct ty_str *out);
/* Decode the frame at the start of in[0..n): bytes used; -EAGAIN: more is needed; -EBADMSG: not a frame of this
 * protocol.  The parts of *ret point into `in`. */
ptrdiff_t ty_frame_decode(const void *in, size_t n, struct ty_frame *ret);
#endif
