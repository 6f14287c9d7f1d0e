/* chan.h - a process set's way of talking: posts, phases, and who its members are
 *
 * Control memory of a set, for each of its ranks on this node:
 *
 *     post of even rounds | post of odd rounds | phase, verdict
 *
 * A post says what its rank would do in a round.  A rank writes the post of round k + 1 when it has seen all posts of
 * round k, that is when all have read those of k - 1: two posts are enough.  A phase is a counter that all members
 * raise in the same order; waiting for all phases is a barrier.  On a set that spans nodes the first member of each
 * node (its leader) agrees with the other leaders and publishes the verdict for its node.
 *
 * What follows an agreement may block until all members do their part.  Where sets overlap, two ranks could each be in the
 * part of another set and wait for the other for ever.  So with more than one set a rank first commits itself to a
 * round, to one at a time, and goes on when all members have.  Members commit in their order (by node, then by place on
 * the node), each after the one before it: like locks that are always taken in one order, this cannot end in a circle.
 *
 * Indices: "member" is 0..n-1 in the set by rank of the world; "local" is 0..nlocal-1 among the members on this node.
 */
#ifndef TY_COLL_CHAN_H
#define TY_COLL_CHAN_H
#include "coll/map.h"
#include "coll/node.h"
#include "coll/req.h"
#include <trainyard/coll.h>

struct ty_comm;
struct ty_net;
struct ty_select;

enum {
    TY_POST_JOINED = 1,
    TY_POST_LISTS = 2,  /* compare lists, whatever the digests say */
    TY_POST_INLINE = 4, /* the tensors are in the payload */
    TY_POST_DIRECT = 8, /* the payload has arena offsets */
    TY_POST_DIFFER = 16, /* of a verdict: the digests are not all equal */
    TY_POST_TUNE = 32    /* what was measured at the start does not hold any more: measure again after this round */
};
#define TY_POST_ALL (TY_POST_INLINE | TY_POST_DIRECT)    /* of a verdict: when all have it */
#define TY_POST_COMPARE (TY_POST_JOINED | TY_POST_LISTS | TY_POST_DIFFER)
#define TY_POST_ANY (TY_POST_COMPARE | TY_POST_TUNE) /* when any has it */

/* What the posts of a round add up to, the same on every member. */
struct ty_verdict {
    uint64_t digest;
    uint32_t ready; /* the smallest */
    uint32_t flags;
};
struct ty_post {
    _Atomic uint64_t seq; /* the round; stored last */
    struct ty_verdict v;
    int64_t at_us; /* when it was posted, by CLOCK_MONOTONIC, while a timeline is being written; else 0 */
    unsigned char payload[TY_POST_BYTES - 32];
};
struct ty_phase {
    _Atomic uint64_t phase;
    _Atomic uint64_t committed;        /* the round that this rank has committed itself to */
    _Atomic uint32_t waits_for;        /* in an exchange between nodes: 1 + the rank of the world that is to send, or to take */
    _Atomic uint64_t late;             /* of the leader, when it has waited for long: 1 + a late rank of another node, | round << 32 */
    _Atomic uint64_t no_comm;          /* the round in which NCCL's communicator did not come up on it */
    _Alignas(64) _Atomic uint64_t seq; /* of the leader: the round of the verdict */
    struct ty_verdict v;
    _Atomic uint64_t go;               /* of the leader: the round that all have committed themselves to */
};
_Static_assert(sizeof(struct ty_post) == TY_POST_BYTES, "posts fill their place");
_Static_assert(sizeof(struct ty_phase) == TY_LINE, "phases fill their place");

#define TY_BATCH 1000 /* most operations in a round */

struct ty_chan {
    int id, slot; /* of the set; its place in the memory of the node */
    struct ty_node *node;
    struct ty_net *net;             /* NULL: the set is on this node */
    const struct ty_select *select; /* with net */
    uint64_t epoch;                 /* sets that use one slot after each other: in the tags of messages */

    int n, me;      /* members; my index, -1: not one of them */
    int *world;     /* [n] ranks of the world, ascending */
    int *node_of;   /* [n] which node of the set */
    int nlocal, lme;
    int *local;     /* [nlocal] node ranks of the members here */
    int *member;    /* [nlocal] their indices */
    int nnodes, my_node;
    int *leader;    /* [nnodes] ranks of the world */
    int rails;      /* the fewest members that a node has: so many take part in exchanges between nodes */
    int *rail;      /* [nnodes * rails] ranks of the world: member i of each node */

    /* rounds: of the driving thread */
    uint64_t round; /* the next one, from 1 */
    bool posted;
    struct ty_verdict mine, sum;
    struct ty_req **batch; /* [TY_BATCH] what is in the post */
    int step;       /* of the leaders' dissemination; -1: the node's posts are not all there */
    bool sent;
    bool agreed;    /* sum is the verdict */
    bool committed, passed; /* this rank has; as a leader it has told the next node */
    uint64_t phase;
    uint64_t windows; /* pairs of slots used */
    bool comparing; /* the last comparison of lists let nothing run */
    bool fresh;     /* something was submitted since */
    void *scratch;  /* of the exchanges between nodes */
    size_t scratch_bytes;
    struct ty_comm *comm; /* NCCL's, of the driver; NULL: GPUs' tensors go through the host */
    bool comm_settled;    /* the members have agreed which */

    /* operations: under the engine's lock */
    struct ty_req *oldest, *youngest;
    int pending;
    struct ty_map by_digest; /* -> the oldest pending request of that digest */
    struct ty_map by_name;   /* name_key -> any request that is not done */
    struct ty_map next;      /* history: what followed a digest */
    uint64_t last;           /* the digest executed last */
    int64_t waiting_since_us; /* since when something is pending but not what was predicted; 0: no */
    struct ty_req *join;     /* this rank has joined */
    uint64_t *joined_at;     /* [n] the round in which a member was first seen to have joined; 0: it has not */
};

/* A channel of the ranks `world` (sorted, n of them).  node_of_world[rank of the world] is a number for its node;
 * local_of_world its local rank there.  0 or -ENOMEM. */
int ty_chan_new(struct ty_node *node, struct ty_net *net, const struct ty_select *select, int id, int slot, uint64_t epoch,
                const int *world, int n, const int *node_of_world, const int *local_of_world, int rank,
                struct ty_chan **ret);
struct ty_chan *ty_chan_free(struct ty_chan *ch);

static inline struct ty_post *ty_chan_post(const struct ty_chan *ch, int local, uint64_t round)
{
    unsigned char *control = ty_node_control(ch->node, ch->slot, ch->local[local]);

    return (struct ty_post *)(control + (round & 1) * TY_POST_BYTES);
}
static inline struct ty_phase *ty_chan_phase(const struct ty_chan *ch, int local)
{
    return (struct ty_phase *)(ty_node_control(ch->node, ch->slot, ch->local[local]) + 2 * TY_POST_BYTES);
}
/* The staging slot of a local member for window `w`. */
static inline unsigned char *ty_chan_slot(const struct ty_chan *ch, int local, uint64_t w)
{
    return ty_node_slot(ch->node, ch->slot, ch->local[local], w & 1);
}

static inline int ty_chan_leader(const struct ty_chan *ch, int node) /* its index */
{
    for (int i = 0; i < ch->n; i++)
        if (ch->world[i] == ch->leader[node])
            return i;
    return -1;
}
static inline int ty_chan_member(const struct ty_chan *ch, int world) /* index of a rank of the world, or -1 */
{
    for (int i = 0; i < ch->n; i++)
        if (ch->world[i] == world)
            return i;
    return -1;
}

/* Publish the post whose payload is written, for the round ch->round. */
void ty_chan_publish(struct ty_chan *ch, const struct ty_verdict *v);
/* Has any other member published a post for this round (as far as this rank can see)? */
bool ty_chan_peer_posted(struct ty_chan *ch);
/* After publish: 1 and the verdict when all members have; 0 not yet; -EIO and the like when messages cannot be sent. */
int ty_chan_agreed(struct ty_chan *ch, struct ty_verdict *ret);
/* A cheap look, for those about to sleep: could _peer_posted, _agreed or _enter (with `may`) give more than the last time? */
bool ty_chan_news(struct ty_chan *ch, bool may);
/* After the verdict: commit this rank, when its turn has come and `may` (it is committed to nothing else), and look whether all
 * have: 1; 0 not yet (see ch->committed); or a negative errno. */
int ty_chan_enter(struct ty_chan *ch, bool may);
/* Local members that have not posted in this round: how many, their ranks of the world in ranks[]. */
int ty_chan_missing(const struct ty_chan *ch, int *ranks);
/* Has a rank of the world posted in this round?  1 yes; 0 no, or it is no member; -1 not known here, for it is on another node. */
int ty_chan_has_posted(const struct ty_chan *ch, int world);
/* The next round begins. */
void ty_chan_next(struct ty_chan *ch);

/* Wait for all local members: -EOWNERDEAD when the world has ended. */
int ty_chan_barrier(struct ty_chan *ch);
/* The tag of this round's messages between nodes: lanes keep the order within it. */
uint64_t ty_chan_tag(const struct ty_chan *ch);
/* What to look at while in an exchange: not 0 when the world has ended. */
static inline const volatile uint32_t *ty_chan_stop(const struct ty_chan *ch)
{
    return (const volatile uint32_t *)&ch->node->head->broken;
}
#endif
