/* lists.h - what the ranks of a set do when they do not want the same: compare what each has pending
 *
 * Each member writes down its pending operations (ty_list_write), all get all of them, and ty_lists_decide, a pure
 * function, says the same on each: these run now, in this order; these fail, for this reason; the others wait.
 * An operation runs when every member has it that has not joined.
 */
#ifndef TY_COLL_LISTS_H
#define TY_COLL_LISTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <trainyard/coll.h>

struct ty_req;

/* An operation as another rank describes it.  What it points to lies in the list's bytes. */
struct ty_entry {
    uint64_t pairing; /* equal for those that belong together: kind and name, or kind and how many of it came before */
    uint64_t base;    /* of the name alone; 0 when unnamed */
    uint64_t digest;
    uint8_t kind, dtype, op, device; /* device: 1 on a GPU */
    int32_t root, nsegs, ndims;      /* ndims, dims: of the first tensor */
    double prescale, postscale;
    int64_t age_us;
    const int64_t *counts; /* [nsegs] */
    const int64_t *dims;
    const char *name; /* NULL: unnamed */
};
struct ty_list {
    struct ty_entry *entry;
    int n;
    bool joined;
    int64_t joined_us; /* ago */
    void *block;
};

/* The operations of a rank, oldest first (req->next), as bytes.  *ret is malloc'ed.  -ENOMEM. */
int ty_list_write(const struct ty_req *oldest, int64_t now_us, void **ret, size_t *n);
/* -EPROTO: these bytes are no list; -ENOMEM. */
int ty_list_read(const void *bytes, size_t n, struct ty_list *ret);
void ty_list_done(struct ty_list *l);

struct ty_decision {
    const struct ty_entry *entry; /* of the first member that has it */
    char *error; /* NULL: it runs.  malloc'ed */
    bool every_kind; /* what fails is whatever has this name */
};
struct ty_decisions {
    struct ty_decision *at;
    int n;
    int last_joined; /* member that joined last, when all have; else -1 */
    int waiting;     /* entries that wait for somebody */
};
/* world[i]: the rank of the world of member i, for texts.  -ENOMEM. */
int ty_lists_decide(const struct ty_list *lists, int n, const int *world, struct ty_decisions *ret);
void ty_decisions_done(struct ty_decisions *d);
/* Members that have not joined and do not have this operation: how many, their ranks in ranks[]. */
int ty_lists_missing(const struct ty_list *lists, int n, const int *world, uint64_t pairing, int *ranks);
/* The pairing of a request: `before` older pending ones of its kind are unnamed, too. */
uint64_t ty_list_pairing(const struct ty_req *r, int before);
#endif
