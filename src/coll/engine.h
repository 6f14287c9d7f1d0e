/* engine.h - a context: its process sets, its operations, and the one thread at a time that drives them
 *
 * The driver.  Whoever waits for an operation drives all of them, while nobody else does; it holds `driving`.  A thread of
 * the engine's own takes over when something is pending and nobody waits: at once where there are cores to spare or
 * a post is out, else after a while (TY_COLL_GRACE_US), because what a training script submits one by one from the hooks of
 * its backward pass is best run together when it waits for all of it.
 *
 * Locking.  `lock` guards requests, the lists of the channels, and sets.  What a channel has of rounds and phases is the
 * driver's alone.  The lock is not held while data move; a request that moves is RUNNING and in no list.
 */
#ifndef TY_COLL_ENGINE_H
#define TY_COLL_ENGINE_H
#include "coll/arena.h"
#include "coll/chan.h"
#include "coll/move.h"
#include <pthread.h>
#include <trainyard/coll.h>
#include <trainyard/error.h>

#define TY_COLL_PATIENCE_US 2000 /* how long a predicted operation is waited for */
#define TY_COLL_GRACE_US 5000

struct ty_gpu;
struct ty_memo;
struct ty_notes;
struct ty_stall;
struct ty_timeline;

struct ty_set {
    int id, n, slot;
    int *ranks;         /* of the world, sorted */
    struct ty_chan *ch; /* NULL: this rank is no member */
};

struct ty_coll {
    int rank, size, local_rank, local_size, cross_rank, cross_size;
    bool homogeneous;
    int *node_of, *local_of; /* [size] */
    struct ty_node *node;
    struct ty_net *net; /* NULL: one node */
    struct ty_select *select;
    struct ty_coll_boot boot;
    struct ty_arena arena;
    unsigned char paths[64]; /* enum ty_path of private tensors by log2 of their bytes */
    struct ty_drift {
        float expected_us[64]; /* the same; 0: not known */
        int strange;           /* operations in a row that took far more or less */
        int64_t tuned_us;      /* when it was measured last */
        bool again;            /* this rank wants it measured again */
    } drift;
    void (*warn)(void *ctx, const char *line);
    void *warn_ctx;
    int stall_warning_s, stall_shutdown_s;
    char *stall_file;       /* NULL: none */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* an operation is done, or nobody drives */
    bool driving;
    bool own_turn;          /* the driver is the engine's thread */
    int waiters;            /* threads that wait for an operation */
    int wanting;            /* of them, those that drive or would */
    int sleepers;           /* threads that wait for `changed` */
    _Atomic uint32_t submits; /* raised when the driver should look again */
    int64_t handles;
    struct ty_map by_handle;
    int pending; /* submitted and not done */
    int64_t pending_since_us;
    struct ty_req *spare;
    struct ty_memo *memo; /* [TY_MEMOS] */
    struct ty_timeline *timeline; /* NULL: off */
    struct ty_stall *stall;
    struct ty_notes *notes;
    struct ty_chan *blocked;        /* where the driver is in what may wait for other ranks */
    struct ty_req *const *running;  /* [nrunning] what it does there */
    int nrunning;
    struct ty_moved {               /* of that: */
        uint64_t runs;              /* how many there were */
        uint64_t seen_runs, phase, bytes, first_runs; /* what was seen of it last */
        int64_t since_us, first_us; /* since then; it was first seen */
        int64_t busy_until_us;
    } moved;
    char stall_text[700]; /* why this rank has given up */
    struct ty_set *set[TY_NODE_SETS]; /* the first nsets */
    int nsets, next_set;
    struct ty_chan *entered; /* the driver's: the set that this rank has committed itself to */
    uint64_t slots;      /* in use, a bit each */
    uint64_t epoch;      /* of the next set */

    int64_t linger_until_us; /* the driver's; 0: no rank has left */

    bool threaded, stop;
    bool cores; /* to spare for a thread of the engine */
    pthread_t thread;
    pthread_cond_t work;

    struct ty_gpu *gpu;      /* NULL until a call has a tensor on one; made under the lock, then the driver's */
    char *cuda_path;
    int no_gpu;              /* 0, or why there is none: a negative errno */
    struct ty_error no_gpu_why;
    char trouble[300];       /* the driver's: why an operation broke on this rank; "": its errno says it */

    int ended;          /* 0, or the negative errno of every operation from now on */
    char end_text[900];
    bool forked;        /* this is a child */
    struct ty_coll_stats stats;
    _Atomic uint64_t *late_us; /* [size] */
    struct ty_coll *next_context;
};

/* For questions that a forked child may ask, too: there it is alone, and the lock may be held by a thread that it has not. */
static inline void ty_engine_lock(struct ty_coll *c)
{
    if (!c->forked)
        pthread_mutex_lock(&c->lock);
}
static inline void ty_engine_unlock(struct ty_coll *c)
{
    if (!c->forked)
        pthread_mutex_unlock(&c->lock);
}

/* ---- for open.c ---- */

/* The context without threads and sets; node, net, ranks are there already.  -ENOMEM. */
int ty_engine_init(struct ty_coll *c);
int ty_engine_add_world(struct ty_coll *c);
/* A first round, about nothing: afterwards each leader can be reached by those that wait for it, and has a lane to say goodbye
 * on. */
int ty_engine_meet(struct ty_coll *c, int timeout_ms, struct ty_error *err);
/* Something of the start went wrong here with `code`: says who is gone, or else tells the others that this rank cannot go on. */
int ty_engine_cannot_start(struct ty_coll *c, int code, struct ty_error *err);
/* Fail everything, end the thread, wait for those who wait. */
void ty_engine_stop(struct ty_coll *c);
void ty_engine_done(struct ty_coll *c);
/* A rank of another node is gone: told by the net's thread. */
void ty_engine_lost(struct ty_coll *c, int rank, enum ty_end why);
/* open.c: tell the other nodes. */
void ty_engine_tell(struct ty_coll *c, int rank, enum ty_end why);

/* ---- between engine.c, submit.c, ends.c ---- */

void ty_engine_complete(struct ty_coll *c, struct ty_req *r, int status, const char *error);
/* The history of a channel: this was executed. */
void ty_engine_remember(struct ty_chan *ch, uint64_t digest);
/* Take a pending request out of its channel's lists. */
void ty_engine_unlink(struct ty_req *r);
/* Run one request whose turn it is: called without the lock. */
int ty_engine_execute(struct ty_coll *c, struct ty_req *r);
/* Complete with "allreduce 'x' failed: text". */
void ty_engine_fail(struct ty_coll *c, struct ty_req *r, int code, const char *text);
/* Every pending operation of a channel fails; text: why.  With the lock. */
void ty_engine_fail_pending(struct ty_coll *c, struct ty_chan *ch, int code, const char *text);
/* Everything fails from now on.  With the lock. */
void ty_engine_end(struct ty_coll *c, int code, const char *text);
/* The same, for what a poison word says. */
void ty_engine_end_by(struct ty_coll *c, uint64_t word);
/* The same, because an operation that had begun broke on this rank. */
void ty_engine_end_by_failure(struct ty_coll *c, int code);
/* The same, because this rank closes. */
void ty_engine_leave(struct ty_coll *c);
/* Nobody may wait any more for what has begun, for `rank` is gone: tell the node, and the others. */
void ty_engine_break(struct ty_coll *c, int rank, enum ty_end why);
/* A rank has left: may what this rank has posted yet run?  With the lock, by the driver. */
bool ty_engine_lingers(struct ty_coll *c);

/* One look at every channel; true when a round has been run.  With the lock and `driving`. */
bool ty_engine_step(struct ty_coll *c);
/* Wait for r, driving when nobody else does, until a time of ty_mono_us (< 0: without end).  False: time is up.  With the
 * lock. */
bool ty_engine_await(struct ty_coll *c, struct ty_req *r, int64_t until_us);
void ty_engine_stop_driving(struct ty_coll *c);
int ty_engine_start_thread(struct ty_coll *c, struct ty_error *err);
/* The oldest pending request of that digest, or NULL. */
struct ty_req *ty_engine_pending(const struct ty_chan *ch, uint64_t digest);
/* submit.c: a request that its caller has done with. */
void ty_engine_give_back(struct ty_coll *c, struct ty_req *r);

/* report.c: tell a person; without the lock. */
void ty_engine_warn(struct ty_coll *c, const char *line);
void ty_engine_close_timeline(struct ty_coll *c);

/* compare.c: gather the lists of all members, and do what they say.  With the lock; 0 or a negative errno that ends the
 * world. */
int ty_engine_compare(struct ty_coll *c, struct ty_chan *ch);

/* sets.c: called by ty_engine_execute. */
int ty_engine_set_add(struct ty_coll *c, struct ty_req *r);
int ty_engine_set_remove(struct ty_coll *c, struct ty_req *r);
struct ty_set *ty_engine_set(struct ty_coll *c, int id);
#endif
