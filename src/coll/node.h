/* node.h - the memory that the ranks of one node share, and the news of a rank's death
 *
 *     offset 0        head: how many ranks, who is dead, how many sleep
 *                     one struct ty_node_rank for each rank: its bell, its life
 *     + control       sets: for each process set and rank, the posts of its rounds (chan.h)
 *     + staging       for each process set and rank, two slots that tensors pass through
 *     + arena         for each rank, memory for gradients
 *
 * All of it is one sparse memory file, mapped once; a page costs nothing until it is touched.
 *
 * Bells.  A rank has one thread at a time that drives its operations; when it finds nothing to do it sleeps on its bell.
 * Who publishes something others may wait for calls ty_node_ring(); that costs one load of a shared word while
 * nobody sleeps.  No wake-up is lost: a sleeper says that it sleeps before it looks for the last time.
 *
 * Death.  A thread of each rank holds a robust mutex; the kernel marks its word when that thread dies, before it frees the
 * process's memory.  Each rank watches the next one: the ring closes, so any death has a living witness.  The
 * witness poisons the node: a word that everybody looks at while waiting, and all bells ring.  The first poison stays.
 */
#ifndef TY_COLL_NODE_H
#define TY_COLL_NODE_H
#include "coll/futex.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
struct ty_error;

#define TY_NODE_RANKS 256     /* most ranks on a node */
#define TY_NODE_SETS 64       /* most process sets at a time */
#define TY_LINE 128           /* what two cores fight over: a pair of cache lines */
#define TY_POST_BYTES 8192    /* of a post, its head included */
#define TY_SLOT_BYTES (1 << 20)
#define TY_KEY_BYTES 32

/* Why a world ended; in a poison word: (rank of the world + 1) | why << 32. */
/* LEFT: after it has done its part in what it had posted; QUIT: before. */
enum ty_end { TY_END_DIED = 1, TY_END_CUT, TY_END_LEFT, TY_END_STALLED, TY_END_FAILED, TY_END_QUIT };

struct ty_node_head {
    uint64_t magic;
    uint32_t ranks;
    uint64_t arena_bytes, bytes;
    _Alignas(TY_LINE) _Atomic uint64_t poison; /* 0: all is well; else nothing new begins */
    _Atomic uint64_t broken; /* 0: what has begun ends (a rank that leaves has done its part); else it does not */
    _Atomic uint32_t timed;  /* a timeline is being written: posts say when */
    _Alignas(TY_LINE) _Atomic uint32_t sleepers;
    _Alignas(TY_LINE) _Atomic uint32_t ready; /* ranks that hold their life; a futex, at start alone */
    _Atomic uint32_t users; /* contexts of the leader's process that use its mapping */
};
struct ty_node_rank {
    _Alignas(TY_LINE) _Atomic uint32_t bell;
    _Atomic uint32_t asleep;
    _Alignas(TY_LINE) pthread_mutex_t life;
    int32_t world;         /* its rank in the world */
    pid_t pid;             /* in its own name space */
};

/* This rank's view.  Read-only but for node.c, the words that are atomic, and what the maps point to. */
struct ty_node {
    struct ty_node_head *head;
    struct ty_node_rank *rank; /* [ranks] */
    unsigned char *base;       /* of the mapping */
    size_t bytes;
    int me, ranks;
    bool cores;      /* there is a core for each rank of this node: spinning is no theft */
    int spins, yields; /* how long to spin and to yield before sleeping */
    size_t control_at, staging_at, arena_at, arena_bytes;
    int fd;          /* the memory file; -1 where the leader's mapping is used */
    bool borrowed;   /* the mapping is the leader's, of this process */
    pthread_t watcher;
    bool watched;    /* it runs */
    _Atomic uint32_t watching, stop, ended;
    void (*lost)(void *ctx, int world, enum ty_end why); /* see below */
    void *ctx;
};

struct ty_node_options {
    int me, ranks;       /* local rank and how many share this node */
    const int *world;    /* their ranks in the world, ascending */
    const unsigned char *key; /* TY_KEY_BYTES: who does not know it gets no memory */
    const char *socket;  /* name of the leader's abstract socket (ty_node_listen) */
    int listener;        /* the leader's listening socket; others -1.  Closed by ty_node_open in any case */
    size_t arena_bytes;  /* for each rank */
    int timeout_ms;
    /* Told on the watcher's thread of every rank: that a rank has left, and that the node is broken; once each.  May be NULL. */
    void (*lost)(void *ctx, int world, enum ty_end why);
    void *ctx;
};
/* Listen under a random name: the descriptor, and the name in name[32]. */
int ty_node_listen(char name[32], struct ty_error *err);
/* The leader (me 0) makes the memory and hands it out; the others ask for it.  Returns when all are there. */
int ty_node_open(const struct ty_node_options *o, struct ty_node **ret, struct ty_error *err);
/* Give up this rank's life: the others see that it has left, and `lost` is not called any more.  NULL is fine. */
void ty_node_leave(struct ty_node *n);
/* The same, and give up the mapping.  What others wait for on it fails from now on. */
struct ty_node *ty_node_free(struct ty_node *n);
/* In a forked child: the arena becomes a private copy, the rest goes, descriptors are closed. */
void ty_node_forked(struct ty_node *n);

/* ---- places ---- */

static inline unsigned char *ty_node_control(const struct ty_node *n, int set, int rank)
{
    return n->base + n->control_at + ((size_t)set * (size_t)n->ranks + (size_t)rank) * (2 * TY_POST_BYTES + TY_LINE);
}
static inline unsigned char *ty_node_slot(const struct ty_node *n, int set, int rank, unsigned parity)
{
    return n->base + n->staging_at + (((size_t)set * (size_t)n->ranks + (size_t)rank) * 2 + parity) * TY_SLOT_BYTES;
}
static inline unsigned char *ty_node_arena(const struct ty_node *n, int rank)
{
    return n->base + n->arena_at + (size_t)rank * n->arena_bytes;
}

/* ---- bells and death ---- */

/* Ring every rank that sleeps; after the publication that they may wait for. */
static inline void ty_node_ring(struct ty_node *n)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&n->head->sleepers, memory_order_relaxed) == 0)
        return;
    for (int r = 0; r < n->ranks; r++)
        if (r != n->me && atomic_load_explicit(&n->rank[r].asleep, memory_order_relaxed)) {
            atomic_fetch_add_explicit(&n->rank[r].bell, 1, memory_order_seq_cst);
            ty_futex_wake(&n->rank[r].bell, 1);
        }
}
/* Ring one rank, asleep or not: the next sleep on it ends at once. */
void ty_node_ring_one(struct ty_node *n, int rank);
/* Sleep until this rank's bell rings (it does when the node is poisoned), or `ready(ctx)` says before sleeping that there
 * is no need to.  timeout_us < 0: no end. */
void ty_node_sleep(struct ty_node *n, bool (*ready)(void *ctx), void *ctx, int64_t timeout_us);

/* End the world for this node: the first one counts.  True when this was the first. */
bool ty_node_poison(struct ty_node *n, int world, enum ty_end why);
static inline uint64_t ty_node_broken(const struct ty_node *n)
{
    return atomic_load_explicit(&n->head->broken, memory_order_acquire);
}
static inline uint64_t ty_node_poisoned(const struct ty_node *n)
{
    return atomic_load_explicit(&n->head->poison, memory_order_acquire);
}
/* Look at the life of a rank; poisons when it is over.  For those who have spun for a while. */
void ty_node_look(struct ty_node *n, int rank);
#endif
