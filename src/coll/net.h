/* net.h - one-way lanes of bytes between ranks that share no memory
 *
 * A lane goes from one rank to another and is opened by the sender when it first sends; what two ranks say to each other
 * takes two lanes.  Several lanes to one rank (`TY_NET_LANES`) carry stripes of large messages.  A lane begins with a
 * mutual proof of the world's key (docs/spec/coll-wire.md); who lacks it is turned away and costs nobody anything.
 *
 * One thread of the net accepts lanes, and watches all of them: a lane that breaks without a goodbye, or whose peer is
 * silent for TY_NET_LOST_MS (kernel keepalive and TCP_USER_TIMEOUT), is told to `lost` once.  Nothing polls.
 *
 * Messages on a lane are framed: {tag, bytes}; tags come from the rounds, so that a message for another round is an
 * error and not data.
 */
#ifndef TY_COLL_NET_H
#define TY_COLL_NET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
struct ty_error;
struct ty_net;

#define TY_NET_LANES 2
#define TY_NET_LOST_MS 8000
#define TY_NET_KEY_BYTES 32

struct ty_net_options {
    int rank, size;
    const unsigned char *key; /* TY_NET_KEY_BYTES */
    void *ctx;
    /* Called on the net's thread.  lost: that rank is gone (why: a few words).  heard: bytes came on a lane that was
     * armed with ty_net_arm. */
    void (*lost)(void *ctx, int rank, const char *why);
    void (*heard)(void *ctx);
};
/* Listen.  *address: malloc'ed text that others give to ty_net_peers ("10.0.0.1:4711 10.0.1.1:4711": every address of
 * this host that is up; loopback last). */
int ty_net_open(const struct ty_net_options *o, struct ty_net **ret, char **address, struct ty_error *err);
/* The addresses of all ranks, by rank (NULL: shares memory with us, never connected). */
int ty_net_peers(struct ty_net *n, const char *const *addresses, struct ty_error *err);
/* Say goodbye on every lane and close; the net's thread has ended when this returns. */
struct ty_net *ty_net_free(struct ty_net *n);
/* In a forked child: close all descriptors, touch nothing else. */
void ty_net_forked(struct ty_net *n);

/* ---- messages: blocking ---- */

/* Send and receive at the same time, either may be absent (rank -1), until both are whole.  Large messages are striped.
 * `stop` is looked at while waiting: when *stop is non-zero, -ECANCELED.  -ECONNRESET: the peer is gone (and lost() was
 * or will be told).  -EPROTO: another tag or length came. */
struct ty_net_msg {
    int rank;
    uint64_t tag;
    struct iovec *iov; /* consumed */
    int niov;
};
int ty_net_exchange(struct ty_net *n, struct ty_net_msg *send, struct ty_net_msg *recv, const volatile uint32_t *stop);

/* ---- small messages: never wait for a peer ---- */

/* Queue at most 256 bytes to `rank`; the net's thread sends what the socket does not take at once. */
int ty_net_post(struct ty_net *n, int rank, uint64_t tag, const void *bytes, size_t len);
/* Has the message `tag` from `rank` come?  1 and it is in buf (its length in *len), 0 not yet.  Small messages travel on a
 * lane of their own, never mixed with ty_net_exchange's. */
int ty_net_check(struct ty_net *n, int rank, uint64_t tag, void *buf, size_t cap, size_t *len);
/* Has it come?  Takes nothing. */
bool ty_net_peek(struct ty_net *n, int rank, uint64_t tag);
/* Every exchange that waits looks at its *stop now. */
void ty_net_wake(struct ty_net *n);
/* Call heard() once when the next small message has come from anybody (at once if one is there that was not taken). */
void ty_net_arm(struct ty_net *n);
#endif
