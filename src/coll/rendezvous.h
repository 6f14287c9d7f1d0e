/* rendezvous.h - what the server (rendezvous.c) and the client (boot_rendezvous.c) of a rendezvous share
 *
 *   hello   each side sends a fresh public key, and proves that it knows the secret, before anything else is read
 *   frames  every later message is encrypted and authenticated under keys of that connection and that direction alone
 *   message one layout for all kinds, docs/spec/rendezvous.md
 *
 * Everything here works on bytes in memory and never waits.
 */
#ifndef TY_COLL_RENDEZVOUS_H
#define TY_COLL_RENDEZVOUS_H
#include "base/str.h"
#include "coll/boot.h"

#define TY_RDV_KEY 32
#define TY_RDV_GREETING_BYTES 40 /* server: 8 bytes of magic, public key */
#define TY_RDV_HELLO_BYTES 72    /* client: the same, and its proof */
#define TY_RDV_PROOF_BYTES 32    /* server: its proof */
#define TY_RDV_NAME_MAX 63       /* bytes of a key */
#define TY_RDV_VALUE_MAX 65536   /* bytes of a value */
#define TY_RDV_RANK_BYTES (1 << 20) /* bytes that one rank may put into one world */
#define TY_RDV_FRAME_MAX (10 + TY_RDV_NAME_MAX + TY_RDV_VALUE_MAX + 16)
#define TY_RDV_MISSING_MAX 64 /* ranks that are named */

/* ---- hello ---- */

struct ty_rdv_side {
    unsigned char secret[TY_RDV_KEY]; /* made from the user's text */
    unsigned char pk[32], sk[32];     /* of this connection */
};
struct ty_rdv_keys {
    unsigned char rx[32], tx[32];
    uint64_t received, sent;
};
int ty_rdv_side_init(struct ty_rdv_side *s, const char *secret); /* -EIO: no source of random bytes */
void ty_rdv_greet(const struct ty_rdv_side *server, unsigned char greeting[TY_RDV_GREETING_BYTES]);
/* Client: answer a greeting.  -EPROTO: it is none; -EPROTONOSUPPORT: one of another version. */
int ty_rdv_hello(const struct ty_rdv_side *client, const unsigned char greeting[TY_RDV_GREETING_BYTES],
                 unsigned char hello[TY_RDV_HELLO_BYTES]);
/* Server: can the first n bytes of a hello still become one? */
bool ty_rdv_hello_begins(const unsigned char *hello, size_t n);
/* Server: -EACCES without knowledge of the secret. */
int ty_rdv_accept(const struct ty_rdv_side *server, const unsigned char hello[TY_RDV_HELLO_BYTES],
                  unsigned char proof[TY_RDV_PROOF_BYTES], struct ty_rdv_keys *ret);
/* Client: -EACCES when the server has no knowledge of the secret. */
int ty_rdv_confirm(const struct ty_rdv_side *client, const unsigned char greeting[TY_RDV_GREETING_BYTES],
                   const unsigned char proof[TY_RDV_PROOF_BYTES], struct ty_rdv_keys *ret);

/* ---- messages ---- */

/* Wire values: append only. */
enum ty_rdv_type {
    TY_RDV_JOIN = 1, /* a: rank, b: size */
    TY_RDV_PUT,      /* key, value */
    TY_RDV_FENCE,    /* a: ms to wait */
    TY_RDV_JOINED,   /* a: number of the world */
    TY_RDV_REFUSED,  /* a: enum ty_rdv_refusal; value: a sentence; the connection ends */
    TY_RDV_VALUE,    /* a: rank; key, value */
    TY_RDV_FENCED,   /* after all values */
    TY_RDV_MISSING,  /* the time of a fence is over.  a: ranks that have not come, b: ranks that have come, but not to
                        this fence; value: their numbers in this order, u32 each, TY_RDV_MISSING_MAX at most of each */
    TY_RDV_GONE,     /* a fence that cannot be reached any more.  a: a rank that has left this world */
};
enum ty_rdv_refusal { TY_RDV_TWICE = 1, TY_RDV_SIZE, TY_RDV_LIMIT, TY_RDV_ORDER };
struct ty_rdv_message {
    enum ty_rdv_type type;
    uint32_t a, b;
    char key[TY_RDV_NAME_MAX + 1]; /* "": none */
    const void *value;             /* points into what was decoded */
    size_t value_len;
};
/* 0 or -EPROTO. */
int ty_rdv_decode(const void *bytes, size_t n, struct ty_rdv_message *ret);
void ty_rdv_encode(const struct ty_rdv_message *m, struct ty_str *out);

/* Append m as a frame.  Failure is that of ty_str. */
void ty_rdv_seal(struct ty_rdv_keys *k, const struct ty_rdv_message *m, struct ty_str *out);
/* Take one frame from the front of bytes, decrypting it in place; m->value points into bytes.  How many bytes it took, 0 when
 * it is not whole yet, -EPROTO, or -EBADMSG for one that the other side has not made. */
ptrdiff_t ty_rdv_open(struct ty_rdv_keys *k, unsigned char *bytes, size_t n, struct ty_rdv_message *ret);

/* ---- the client, with what only ty_boot_from_env needs ---- */

struct ty_rdv_place {
    const char *host;   /* as the user knows it, for messages */
    const char *dial;   /* where to connect to; NULL: host */
    int port, nports;   /* the server is at one of port, port + 1, ... */
    const char *secret;
    const char *who_serves; /* for messages: "rank 0", "the launcher" */
    struct ty_rendezvous *own; /* of this process: freed with the exchange, also when opening it fails */
};
int ty_boot_rendezvous_at(const struct ty_rdv_place *p, const struct ty_world *w, int timeout_ms,
                          struct ty_coll_boot *ret, struct ty_error *err);
void ty_boot_rendezvous_forked(const struct ty_coll_boot *b); /* also for other kinds: does nothing then */
/* In a forked child: close the server's descriptors. */
void ty_rendezvous_forked(struct ty_rendezvous *s);
#endif
