/* stall.h - who keeps others waiting: reports, and the end of a world that waits for too long
 *
 * A thread of each context looks at its operations every now and then, as long as something is pending; when nothing is, it
 * sleeps without end.  It sees all waits, whoever does the waiting: for posts, for lists, for a rank that does not move data.
 *
 * An operation that is not under way has waited since it was submitted; one that is, since data last moved: on a slow
 * network it may take as long as it likes.  A join waits for as long as the others have data, and counts for nothing.
 *
 * On one node all ranks see who is missing.  Between nodes a rank that waits tells the leaders of the other nodes, in a
 * notice, in which round it is and whom it waits for; a node from which nothing is heard is late itself.  One rank of
 * those that wait reports: the first of its node, and no other node's before it.
 */
#ifndef TY_COLL_STALL_H
#define TY_COLL_STALL_H
#include "coll/engine.h"

/* A notice of this length is one of ours; anything may be in it. */
#define TY_NOTE_BYTES 232

struct ty_stall {
    pthread_t thread;
    pthread_cond_t wake; /* with the engine's lock, as all of this */
    bool started, stop, dormant;
    int64_t warned_us; /* when it last did */
    int64_t deaf_us;   /* nobody is called late before */
    int *ranks;        /* [size] room for those who are missing */
    unsigned char note[TY_NOTE_BYTES]; /* what other nodes were told last */
    int64_t looked_us; /* when ty_stall_each was called last */
    const char *file;  /* borrowed: what waits is written there; NULL: nowhere */
    char *told;        /* what it says; NULL: there is none */
};

/* What other nodes' ranks have said; it has a lock of its own and outlives the engine. */
struct ty_notes;
struct ty_notes *ty_notes_new(void); /* NULL: no memory */
struct ty_notes *ty_notes_free(struct ty_notes *n);
void ty_notes_heard(struct ty_notes *n, const void *bytes);

/* Start to look, unless neither reports nor an end are wanted.  0 or a negative errno. */
int ty_stall_start(struct ty_coll *c);
void ty_stall_stop(struct ty_coll *c);
/* Something is pending.  With the lock. */
static inline void ty_stall_arm(struct ty_coll *c)
{
    if (!c->stall || !c->stall->dormant)
        return;
    c->stall->dormant = false;
    pthread_cond_signal(&c->stall->wake);
}

/* The driver is about to do what may block for members of ch, with these operations (NULL: it compares lists, or measures), and
 * is done with it.  With the lock. */
void ty_stall_enter(struct ty_coll *c, struct ty_chan *ch, struct ty_req *const *running, int n);
void ty_stall_leave(struct ty_coll *c);

/* Call fn for each operation that is not done but joins: how long it has waited.  With the lock. */
void ty_stall_each(struct ty_coll *c, void (*fn)(struct ty_coll *c, const struct ty_req *r, int64_t waits_us, void *ctx),
                   void *ctx);
/* Ranks of the world that keep r waiting, as far as this rank knows: how many; ranks has room for all.  With the lock. */
int ty_stall_missing(struct ty_coll *c, const struct ty_req *r, int *ranks);
/* "allreduce 'a' (61 s; missing: ranks 1, 2), ...": what has waited for older_us, into buf; how many.  mine: only those of
 * which this rank is to report.  With the lock. */
int ty_stall_text(struct ty_coll *c, int64_t older_us, bool mine, char *buf, size_t cap);
/* Is it for this rank to report that these n keep members of ch waiting?  With the lock. */
bool ty_stall_mine(const struct ty_coll *c, const struct ty_chan *ch, const int *ranks, int n);

/* stall_file.c.  Write what has waited for older_us, and is for this rank to report, to the file, or remove it: nothing has.
 * With the lock, which is given back while that is done. */
void ty_stall_file(struct ty_coll *c, int64_t older_us);
void ty_stall_file_over(struct ty_coll *c); /* nothing waits any more */
#endif
