/* req.h - one operation that a rank has asked for, from submit to wait
 *
 * A request is a checked copy of a call.  Its digest covers everything that must be equal on all ranks; the lengths that
 * may differ (rows of allgather, splits of alltoall) are not in it.  Two requests of two ranks belong together when
 * they are of one kind and have one name; unnamed ones pair in the order of their submission.
 */
#ifndef TY_COLL_REQ_H
#define TY_COLL_REQ_H
#include <stdbool.h>
#include <stdint.h>
#include <trainyard/coll.h>

struct ty_chan;

enum ty_req_state { TY_REQ_PENDING, TY_REQ_RUNNING, TY_REQ_DONE };

/* One tensor: its elements are number `at` to at + count of the request. */
struct ty_seg {
    unsigned char *in, *out; /* out NULL: the engine makes it (allgather, alltoall) */
    int64_t count, at;
    int ndims;
    const int64_t *dims;
};

struct ty_req {
    struct ty_req *prev, *next; /* in the channel, by age */
    struct ty_req *same;        /* the next younger one of equal digest: unnamed ones alone */
    struct ty_chan *ch;
    int64_t handle;
    int waiters; /* calls of wait with this handle: the last one gives it back */
    enum ty_req_state state;
    int status;  /* DONE: 0 or a negative errno */
    char *error; /* with status < 0, may be NULL when memory was short */
    enum ty_coll_kind kind;
    enum ty_coll_dtype dtype;
    enum ty_coll_op op;
    int root, device; /* device: -1 for memory of the host */
    void *ready;      /* with a device: a cudaEvent_t, or NULL */
    double prescale, postscale;
    double load_scale; /* prescale, until the inputs have been scaled in place */
    const char *name; /* NULL: unnamed */
    uint64_t digest;
    uint64_t name_key; /* of (kind, name); 0 when unnamed */
    int nsegs;
    struct ty_seg *seg;
    size_t size;   /* of an element */
    int64_t count; /* elements in all */
    const int64_t *splits;
    const int *ranks;
    int nranks;
    bool arena;    /* every out is in the arena */
    uint64_t marked; /* the round in whose post it is */
    void *zeros; /* made by this rank because it has joined: the tensors, in memory of the host, freed when done */
    int path; /* enum ty_path that it took */
    int64_t submitted_us, begun_us;
    int *missing; /* ranks of the world that had not submitted it when lists were last compared */
    int nmissing;
    struct ty_coll_result got;
    void *block; /* what the pointers above point into; NULL: `room` */
    uint64_t room[48];
};

/* Check and copy `call` for a channel of `size` ranks.  *r is overwritten (give it back with ty_req_done).  `in_set(rank)` is
 * asked whether a broadcast's root is a member.
 * -EINVAL and -ENOTSUP with text. */
int ty_req_init(struct ty_req *r, const struct ty_coll_call *call, int size, bool (*in_set)(void *ctx, int rank), void *ctx,
                struct ty_error *err);
void ty_req_done(struct ty_req *r); /* frees what is in it, the result too */
/* What an operation computes, without what callers of the same request write meanwhile: to run it on other memory.  Owns
 * nothing; its tensors are r's until seg is set. */
void ty_req_alias(struct ty_req *ret, const struct ty_req *r);

static inline int64_t ty_req_bytes(const struct ty_req *r) { return r->count * (int64_t)r->size; }
/* Elements of one row of tensor s (its dims but the first). */
int64_t ty_seg_row(const struct ty_seg *s);
/* "allreduce 'layer1.weight'", "an unnamed allreduce"; into buf, which is returned. */
const char *ty_req_title(enum ty_coll_kind kind, const char *name, char *buf, size_t cap);

/* ---- elements of all tensors, one after another ---- */

/* dst = elements [from, from + n) of the inputs, times factor.  stream: with stores past the caches. */
void ty_req_load(const struct ty_req *r, int64_t from, int64_t n, void *dst, double factor, bool stream);
/* Elements [from, from + n) of the outputs = src. */
void ty_req_store(const struct ty_req *r, int64_t from, int64_t n, const void *src);
/* The tensor that element `at` (< count) belongs to. */
int ty_req_seg(const struct ty_req *r, int64_t at);
#endif
