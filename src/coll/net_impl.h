/* net_impl.h - what net.c, net_lanes.c and net_move.c share; nobody else includes this
 *
 * Who touches what.  `lock` guards everything but what is marked.  The net's thread alone opens, reads and writes while a
 * lane is made; from LANE_OPEN on a data lane's socket belongs to the thread in ty_net_exchange, and a small lane's is
 * read by the net's thread and written under the lock by anybody.  A socket of an open lane stays open until ty_net_free:
 * nobody can meet another file under its number.  `end` of a peer goes from FINE to LEFT or LOST once.
 */
#ifndef TY_COLL_NET_IMPL_H
#define TY_COLL_NET_IMPL_H
#include "coll/net.h"
#include "coll/net_addr.h"
#include "coll/net_wire.h"
#include <pthread.h>
#include <stdatomic.h>

enum lane_state {
    LANE_NONE,
    LANE_WANTED,     /* to be connected at next_us; no socket */
    LANE_CONNECTING,
    LANE_HELLO,      /* waits for the challenge */
    LANE_PROVEN,     /* waits for the welcome */
    LANE_OPEN,
    LANE_BROKEN      /* or closed by one end; no more reading or writing by the net's thread */
};

/* While a lane is opened. */
struct shake {
    unsigned char hello[TY_LANE_HELLO_BYTES];
    unsigned char in[TY_LANE_CHALLENGE_BYTES];
    size_t got;
};

struct lane {
    int rank, index; /* index TY_NET_LANES: small messages */
    bool out;
    _Atomic int state; /* read without the lock by exchanges; fd is valid from LANE_OPEN on */
    int fd;
    bool torn; /* exchanges only: half a message is on its way */
    /* opening (out) */
    struct shake *shake;
    int address, tried, refused, passes;
    int64_t next_us, give_up_us;
    int error; /* why the last attempt failed */
    /* small: bytes that came and make no whole message; bytes that wait for the socket */
    unsigned char *in;
    size_t in_len;
    unsigned char *q;
    size_t q_at, q_len;
    bool bye;       /* goodbye is the last in q */
    bool heard_bye; /* out: the other end has said it here, and will say it on its own lane too */
};

/* A small message that nobody has taken. */
struct letter {
    struct letter *next;
    uint64_t tag;
    size_t len;
    int rank; /* of the sender */
    unsigned char bytes[];
};

enum peer_end { PEER_FINE, PEER_LEFT, PEER_LOST };

struct peer {
    struct lane out[TY_NET_LANES + 1], in[TY_NET_LANES + 1];
    union ty_address *addresses;
    int naddresses, address; /* which to try first: the one that worked */
    _Atomic int end;         /* read without the lock by exchanges */
    bool told;
    char why[192];
    int64_t suspect_us; /* a lane broke: when it is lost unless its small lane says why before; 0: no suspicion */
    int suspect_error;
    struct letter *inbox, **inbox_end;
    int letters;
    uint32_t unseen, epoch; /* letters that no check has passed since heard() was last called; counted in this epoch */
};

struct stranger {
    int fd; /* -1: free */
    int64_t since_us, deadline_us;
    bool challenged;
    size_t got;
    unsigned char bytes[TY_LANE_HELLO_BYTES], proof[TY_LANE_PROOF_BYTES], nonce[TY_LANE_NONCE_BYTES];
    struct ty_lane_hello hello;
};

struct ty_net {
    struct ty_net_options o; /* key and interfaces are not in it */
    unsigned char key[TY_NET_KEY_BYTES];
    pthread_mutex_t lock;
    pthread_t thread;
    bool started;
    int listener, epoll;
    int kick; /* eventfd: the net's thread has something to do */
    int wake; /* eventfd: an exchange has something to look at */
    bool stopping;
    int64_t stop_us;   /* when leaving ends at the latest */
    int64_t accept_us; /* the listener rests until then; 0: it does not */
    struct peer *peers; /* [size] */
    bool has_addresses;
    int opening, suspects, untold; /* how many lanes, peers, peers */
    bool armed, fire;
    struct letter *notices; /* to be told, the latest first */
    uint32_t unseen, epoch;
    int nstrangers;
    struct stranger strangers[TY_NET_STRANGERS];
    int spin_fails, spin_skips; /* exchanges only */
    _Atomic uint64_t sent, received;
    _Atomic uint64_t moved; /* both, by exchanges */
};

/* What an event of the epoll is about. */
enum event_kind { EV_LISTENER, EV_KICK, EV_STRANGER, EV_LANE };

/* All of these but the last three with the lock held. */

/* ---- net_hello.c: opening and accepting lanes ---- */

void ty_net_want(struct ty_net *n, struct lane *l);       /* open it, unless that is under way */
void ty_net_want_watch(struct ty_net *n, struct peer *p); /* there shall be a small lane with p in some direction */
void ty_net_shake(struct ty_net *n, struct lane *l);      /* go on opening it: its socket has news, or its time has come */
void ty_net_abandon(struct ty_net *n, struct lane *l);    /* stop opening it */
void ty_net_accept(struct ty_net *n);
void ty_net_stranger(struct ty_net *n, int slot);         /* it has said something */
void ty_net_dismiss(struct ty_net *n, int slot);
/* What time brings: attempts, strangers that took too long.  Returns the next time in microseconds, or `next`. */
int64_t ty_net_tick_hello(struct ty_net *n, int64_t now, int64_t next);

/* ---- net_lanes.c: open lanes, the life of peers, and the net's thread ---- */

/* A lane has become open: watch it, send what waits. */
void ty_net_opened(struct ty_net *n, struct lane *l);
void ty_net_end_peer(struct ty_net *n, int rank, enum peer_end end, const char *why);
void ty_net_suspect(struct ty_net *n, struct peer *p, int error);
void ty_net_flush(struct ty_net *n, struct lane *l); /* send what waits in its queue */
/* Append to a small lane's queue; -ENOBUFS, -ENOMEM. */
int ty_net_enqueue(struct lane *l, uint64_t tag, const void *bytes, size_t len);
int ty_net_watch(struct ty_net *n, int op, int fd, uint32_t events, enum event_kind kind, uint64_t what);
uint64_t ty_net_lane_id(const struct lane *l); /* `what` for EV_LANE */

void *ty_net_thread(void *net);
void ty_net_signal(int eventfd);
void ty_net_drain(int eventfd);

static inline int lane_state(const struct lane *l)
{
    return atomic_load_explicit(&l->state, memory_order_acquire);
}
static inline int peer_end(const struct peer *p)
{
    return atomic_load_explicit(&p->end, memory_order_acquire);
}
#endif
