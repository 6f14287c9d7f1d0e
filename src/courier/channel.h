/* channel.h - what a courier and the far ends on its hosts say to each other (docs/spec/channel.md)
 *
 * Frames: u32 payload bytes (little-endian), u8 type, payload.  One channel per host; it begins when the far end has said
 * HELLO.
 */
#ifndef TY_CHANNEL_H
#define TY_CHANNEL_H
#include "base/json.h"
#include "courier/flow.h"
#include <stddef.h>
#include <stdint.h>

#define TY_CHANNEL_VERSION 1
#define TY_CHANNEL_PAYLOAD_MAX (1 << 20)
#define TY_CHANNEL_PART (128 * 1024)       /* of blobs and of relayed bytes */
#define TY_CHANNEL_WINDOW (3 << 20)        /* relayed bytes that the courier has not passed on yet, at most */
#define TY_CHANNEL_UNSENT_MAX (512 * 1024) /* then nothing is added that can wait */
#define TY_CHANNEL_PING_US (2 * 1000 * 1000)
#define TY_CHANNEL_DEAD_US (20 * 1000 * 1000) /* not heard for so long: the channel is broken */
#define TY_CHANNEL_SHA 32                  /* bytes of a hash in ASK, MISSING, FETCH and GONE */

/*     type      value  payload                                                  (from the courier) */
#define TY_CHANNEL_FRAMES(X) \
    X(ATTACH,     1) /* JSON: run, attempt, token */ \
    X(ASK,        2) /* hashes: which of these are missing? */ \
    X(BLOB,       3) /* JSON: sha256, bytes; then so many bytes in CHUNKs (both ways) */ \
    X(CHUNK,      4) /* bytes */ \
    X(START,      5) /* JSON: job (a job.json), verb, manifest, packages, mpi */ \
    X(RESUME,     6) /* JSON: verb: go on with the job that is here */ \
    X(FETCH,      7) /* one hash */ \
    X(DATA,       8) /* u32 connection, bytes (both ways) */ \
    X(CLOSE,      9) /* u32 connection (both ways) */ \
    X(CREDIT,    10) /* u32 connection, u32 bytes: so many more may be sent */ \
    X(CANCEL,    11) /* nothing: SIGTERM to the runner */ \
    X(CLEAN,     12) /* nothing: end what is left of the job, and remove its folder */ \
    X(PROBE,     13) /* nothing */ \
    X(PING,      14) /* nothing (both ways) */ \
    X(LOOK,      15) /* JSON: folders: [{path, token}]: are these the same there? */ \
    /*                                                                      (from the far end) */ \
    X(HELLO,     65) /* JSON: version, agent, host, boot, folder, libpmix, openmpi */ \
    X(STATE,     66) /* JSON: job: "here" | "none" */ \
    X(MISSING,   67) /* hashes, the answer to one ASK */ \
    X(STARTED,   68) /* JSON: pid, notes: the runner is started, or lives */ \
    X(FAILED,    69) /* JSON: message.  What was asked for cannot be done */ \
    X(LINK,      70) /* text: the line of the file `link` */ \
    X(ENDED,     71) /* JSON: code (-1: not known): the runner is gone */ \
    X(OPEN,      72) /* u32 connection: the runner has connected */ \
    X(GONE,      73) /* one hash: it cannot be fetched */ \
    X(CLEANED,   74) /* nothing */ \
    X(FACTS,     75) /* JSON: docs/spec/target-spec.md */ \
    X(SEEN,      76) /* JSON: seen: [true or false], the answer to LOOK */
#define X(name, value) TY_CHANNEL_##name = value,
enum ty_channel_type { TY_CHANNEL_FRAMES(X) };
#undef X

struct ty_channel_frame {
    enum ty_channel_type type;
    const char *body; /* valid until the flow is read again or a frame is used */
    size_t n;
};

/* Queue a frame; a lack of memory shows in the next ty_flow_write. */
void ty_channel_send(struct ty_flow *f, enum ty_channel_type type, const void *body, size_t n);
void ty_channel_send_json(struct ty_flow *f, enum ty_channel_type type, json_t *o); /* o is taken over */
void ty_channel_send_conn(struct ty_flow *f, enum ty_channel_type type, uint32_t conn, const void *body, size_t n);
/* The next frame, which is then used.  0; -EAGAIN: none that is whole; -EBADMSG. */
int ty_channel_next(struct ty_flow *f, struct ty_channel_frame *ret);
/* The number that a body begins with (then *f is what follows it); -EBADMSG. */
int ty_channel_u32(struct ty_channel_frame *f, uint32_t *ret);
/* -EBADMSG: no JSON object. */
int ty_channel_json(const struct ty_channel_frame *f, json_t **ret);

/* Hashes as 64 digits and as 32 bytes. */
int ty_sha_to_bytes(const char *hex, unsigned char bytes[TY_CHANNEL_SHA]);
void ty_sha_to_hex(const unsigned char bytes[TY_CHANNEL_SHA], char hex[2 * TY_CHANNEL_SHA + 1]);
#endif
