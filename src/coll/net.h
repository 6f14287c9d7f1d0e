/* net.h - one-way lanes of bytes between ranks that share no memory
 *
 * A lane is a TCP connection from one rank to another, opened by the sender when it first sends; what two ranks say to each
 * other takes lanes of both.  To one rank lead TY_NET_LANES data lanes, which carry stripes of large messages, and one
 * more for small messages, so that a stray small message is never in the way of data.  A lane begins with a mutual
 * proof of the world's key (docs/spec/coll-wire.md); who lacks it is turned away and costs nobody anything.
 *
 * One thread of the net opens and accepts lanes and is the only one that reads and judges small lanes; data lanes are
 * read and written by the thread in ty_net_exchange alone.  Where there are data lanes there is a small lane too, and it
 * carries the proof of life: its peer reads at all times, so that its kernel must answer (keepalive, TCP_USER_TIMEOUT)
 * however late the peer's program is.  A rank whose small lane breaks without a goodbye, or is silent for
 * TY_NET_LOST_MS, is lost; nothing polls.
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
#define TY_NET_STRIPE_BYTES (256 << 10) /* messages of this size and above are striped over all lanes */
#define TY_NET_LOST_MS 8000
#define TY_NET_KEY_BYTES 32
#define TY_NET_SMALL_BYTES 256 /* most in a small message */
#define TY_NET_BYE_MS 1000     /* most that ty_net_free waits for the others */
#define TY_NET_STRANGERS 256   /* most connections at a time that have not proved the key; the oldest makes room */
#define TY_NET_INBOX 4096      /* most small messages from one rank that nobody has taken; one more and it is lost */
#define TY_NET_OUTBOX (1 << 20) /* most bytes of small messages waiting for one rank's socket */
#define TY_NET_TAG_MAX (UINT64_MAX - 16) /* larger tags are the lanes' own */
#define TY_NET_TAG_NOTICE TY_NET_TAG_MAX /* handed to notice(), never to ty_net_check */

struct ty_net_options {
    int rank, size;
    const unsigned char *key; /* TY_NET_KEY_BYTES */
    const char *interfaces;   /* "eth0,lo" or "10.0.0.1": what others are told to connect to; NULL: every one that is up */
    int connect_timeout_ms;   /* for reaching a rank, addresses and retries together; 0: 30000 */
    int hello_timeout_ms;     /* for a stranger to prove the key; 0: 5000 */
    int spin_us;              /* how long an exchange spins before it sleeps, unless that did not pay lately; 0: 20 where there
                               * are two cores; -1: not at all */
    void *ctx;
    /* Called on the net's thread, never with a lock of the net held; each may be NULL.
     * lost: that rank is gone (why: a sentence's end, "cannot be reached at 10.0.0.1:4711: Connection refused"); once.
     * left: it has said goodbye; once, and never both.
     * heard: a small message came, or a rank left or was lost, after ty_net_arm. */
    void (*lost)(void *ctx, int rank, const char *why);
    void (*left)(void *ctx, int rank);
    void (*heard)(void *ctx);
    /* A small message with the tag TY_NET_TAG_NOTICE: news that must not wait until somebody checks. */
    void (*notice)(void *ctx, int rank, const void *bytes, size_t len);
};
/* Listen.  *address: malloc'ed text that others give to ty_net_peers ("10.0.0.1:4711 [2001:db8::1]:4711 127.0.0.1:4711":
 * addresses of this host that are up; those of container bridges late, loopback last).
 * -ENODEV: `interfaces` names none that is up. */
int ty_net_open(const struct ty_net_options *o, struct ty_net **ret, char **address, struct ty_error *err);
/* The addresses of all ranks, by rank (NULL: shares memory with us, never connected).  Once, before any message.  -EINVAL: the
 * text of a rank's addresses is none. */
int ty_net_peers(struct ty_net *n, const char *const *addresses, struct ty_error *err);
/* Say goodbye to every rank that there is a lane with, after what was posted, and close; the net's thread has ended when this
 * returns, TY_NET_BYE_MS later at most.  No exchange may be running.  NULL is fine; returns NULL. */
struct ty_net *ty_net_free(struct ty_net *n);
/* In a forked child: close all descriptors, touch nothing else. */
void ty_net_forked(struct ty_net *n);

/* ---- messages: blocking ---- */

/* Send and receive at the same time, either may be absent (NULL, or rank -1), until both are whole.  One thread at a time.
 * Nothing is copied: bytes go from and to the memory that the iov names (niov 0: an empty message).
 * `stop` (may be NULL) is looked at while waiting: when *stop is non-zero, -ECANCELED.
 * -ECONNRESET  the peer is gone (and lost() was or will be told), or could not be reached
 * -ESHUTDOWN   it has said goodbye; what it sent before can still be received
 * -EPROTO      another tag or length came
 * -EPIPE       an earlier exchange in that direction with that rank failed in the middle of a message
 * -EINVAL      no such rank, or one without addresses
 * After a failure the received bytes are undefined. */
struct ty_net_msg {
    int rank;
    uint64_t tag; /* at most TY_NET_TAG_MAX */
    const struct iovec *iov;
    int niov;
};
int ty_net_exchange(struct ty_net *n, const struct ty_net_msg *send, const struct ty_net_msg *recv,
                    const volatile uint32_t *stop);
/* The same; got(arg, at, bytes) is called from within, on this thread, for parts of what is received that have come: in any
 * order, each byte once, in parts of TY_NET_TELL_BYTES and more whose ends are multiples of 64 or the message's. */
#define TY_NET_TELL_BYTES (32 << 10)
int ty_net_exchange_told(struct ty_net *n, const struct ty_net_msg *send, const struct ty_net_msg *recv,
                         const volatile uint32_t *stop, void (*got)(void *arg, size_t at, size_t bytes), void *arg);
/* Makes a blocked exchange look at its `stop`; from any thread. */
void ty_net_wake(struct ty_net *n);

/* ---- small messages: never wait for a peer; from any thread ---- */

/* Queue at most TY_NET_SMALL_BYTES to `rank`; the net's thread sends what the socket does not take at once, and opens the lane.
 * Messages to one rank arrive in order.  -ENOBUFS: TY_NET_OUTBOX is full; -EMSGSIZE; -ECONNRESET, -ESHUTDOWN, -EINVAL as above. */
int ty_net_post(struct ty_net *n, int rank, uint64_t tag, const void *bytes, size_t len);
/* A notice to every rank that there is a small lane with, whichever of the two opened it: it comes before our goodbye. */
void ty_net_tell(struct ty_net *n, const void *bytes, size_t len);
/* Has the message `tag` from `rank` come?  1: it is in buf (its length in *len) and taken, the oldest of that tag; 0: not yet.
 * -EMSGSIZE: it has more than `cap` bytes, and stays.  -ECONNRESET, -ESHUTDOWN: it has not come and will not. */
int ty_net_check(struct ty_net *n, int rank, uint64_t tag, void *buf, size_t cap, size_t *len);
/* Has it come?  Takes nothing, and does not count as a check. */
bool ty_net_peek(struct ty_net *n, int rank, uint64_t tag);
/* Call heard() once when the next small message has come from anybody.  At once if one came that neither a
 * ty_net_check of its rank nor a call of heard() has followed: checking and then arming loses none, and a message for later
 * that lies there wakes nobody twice. */
void ty_net_arm(struct ty_net *n);

/* ---- what it did ---- */

/* Bytes on lanes since open, frames included; either may be NULL. */
void ty_net_bytes(const struct ty_net *n, uint64_t *sent, uint64_t *received);
/* Those of exchanges alone, both ways: while one runs, it tells whether data still move. */
uint64_t ty_net_moved(const struct ty_net *n);
#endif
