/* net_wire.h - the bytes of lanes: hello, proofs and frames (docs/spec/coll-wire.md)
 *
 * Pure.  Integers are little-endian.
 */
#ifndef TY_COLL_NET_WIRE_H
#define TY_COLL_NET_WIRE_H
#include "coll/net.h"

#define TY_LANE_HELLO_BYTES 64
#define TY_LANE_NONCE_BYTES 32
#define TY_LANE_PROOF_BYTES 32
#define TY_LANE_CHALLENGE_BYTES (TY_LANE_NONCE_BYTES + TY_LANE_PROOF_BYTES)
#define TY_LANE_FRAME_BYTES 16

#define TY_LANE_GOODBYE UINT64_MAX       /* tag of the last frame on a small lane, in either direction; empty */
#define TY_LANE_WELCOME (UINT64_MAX - 1) /* tag of the frame that ends a hello; empty */

/* What the opener says first. */
struct ty_lane_hello {
    uint32_t from, to; /* ranks */
    uint32_t size;     /* of the world */
    uint32_t lane;     /* 0 .. TY_NET_LANES - 1: data; TY_NET_LANES: small messages */
    unsigned char nonce[TY_LANE_NONCE_BYTES];
};
void ty_lane_hello_encode(const struct ty_lane_hello *h, unsigned char out[TY_LANE_HELLO_BYTES]);
/* 0, or -EBADMSG: no hello of this version, or numbers that cannot be. */
int ty_lane_hello_decode(const unsigned char in[TY_LANE_HELLO_BYTES], struct ty_lane_hello *ret);

/* Who proves; a proof of one is none of the other. */
enum ty_lane_role { TY_LANE_ACCEPTS, TY_LANE_OPENS };
void ty_lane_proof(const unsigned char key[TY_NET_KEY_BYTES], enum ty_lane_role who,
                   const unsigned char hello[TY_LANE_HELLO_BYTES], const unsigned char nonce[TY_LANE_NONCE_BYTES],
                   unsigned char out[TY_LANE_PROOF_BYTES]);
/* In constant time. */
bool ty_lane_proof_holds(const unsigned char key[TY_NET_KEY_BYTES], enum ty_lane_role who,
                         const unsigned char hello[TY_LANE_HELLO_BYTES], const unsigned char nonce[TY_LANE_NONCE_BYTES],
                         const unsigned char proof[TY_LANE_PROOF_BYTES]);

void ty_lane_frame_encode(uint64_t tag, uint64_t bytes, unsigned char out[TY_LANE_FRAME_BYTES]);
void ty_lane_frame_decode(const unsigned char in[TY_LANE_FRAME_BYTES], uint64_t *tag, uint64_t *bytes);

struct ty_lane_small {
    uint64_t tag; /* at most TY_NET_TAG_MAX, or TY_LANE_GOODBYE */
    const unsigned char *bytes; /* in the input */
    size_t len;
};
/* The first message of a small lane in bytes[0..n): how many bytes it takes, -EAGAIN: it is not whole, -EBADMSG. */
ptrdiff_t ty_lane_small_decode(const unsigned char *bytes, size_t n, struct ty_lane_small *ret);

/* Which bytes [*at, *at + *len) of a message of `bytes` lane `lane` carries; false: none, not even a frame. */
bool ty_lane_stripe(uint64_t bytes, int lane, uint64_t *at, uint64_t *len);
#endif
