/* coll.h - collectives between the processes of a training job
 *
 * A world is `size` ranks, each a process (or, in tests, a thread).  Each opens one `struct ty_coll`, submits
 * operations by name, in any order, and waits for them; an operation runs when every rank of its process set has
 * submitted it.  Ranks that can share memory do; others speak TCP.  Nothing here knows of Python, MPI or HTTP, and
 * there are no globals: several contexts live in one process.
 *
 *     struct ty_coll *c;
 *     struct ty_coll_buf b = { grad, count };
 *     struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE, .name = "layer1.weight", .dtype = TY_COLL_F32,
 *                                  .op = TY_COLL_AVERAGE, .in = &b, .out = &b, .nbufs = 1 };
 *     if (ty_coll_open(NULL, &c, &err) < 0) ...            (rank and size from mpirun's, srun's, torchrun's variables)
 *     if (ty_coll_do(c, &call, NULL, &err) < 0) ...
 *     c = ty_coll_close(c);
 *
 * Every call returns 0 (or a count, or a handle > 0) or a negative errno with a sentence in *err (may be NULL):
 *   -EINVAL     a mistake of this caller, found here; nothing was submitted
 *   -EEXIST     an operation of that name is in flight
 *   -ENOTSUP    a dtype or an operation that this kind cannot do
 *   -EPROTO     the ranks disagree (shape, dtype, operation, root, scale); the sentence names ranks and both values
 *   -EOWNERDEAD a rank has died or was cut off; the sentence names it
 *   -ESHUTDOWN  a rank has shut down, or this one
 *   -ETIMEDOUT  ranks are missing at start, or an operation was stalled for `stall_shutdown_s`; they are named
 *   -ENOMEM, -EIO and the like from the system
 * After -EPROTO the world goes on.  After -EOWNERDEAD, -ESHUTDOWN and -ETIMEDOUT every further operation fails with
 * the same error; close, and open again with the ranks that are left.
 *
 * Threads: all calls but open and close may be made from any thread at any time.  Memory of a call (buffers, not the
 * struct itself) must stay valid and untouched from submit until wait or poll has reported the end.
 */
#ifndef TRAINYARD_COLL_H
#define TRAINYARD_COLL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <trainyard/error.h>
#ifdef __cplusplus
extern "C" {
#endif

#define TY_COLL_PUBLIC __attribute__((visibility("default")))

struct ty_coll;

/* ---- what is computed ---- */

/* Wire values: append only. */
enum ty_coll_dtype {
    TY_COLL_U8,
    TY_COLL_I8,
    TY_COLL_I16,
    TY_COLL_I32,
    TY_COLL_I64,
    TY_COLL_BOOL, /* one byte, 0 or 1; sum and max are "or", product and min are "and" */
    TY_COLL_F16,  /* IEEE binary16 */
    TY_COLL_BF16,
    TY_COLL_F32,
    TY_COLL_F64,
    TY_COLL_DTYPES
};
TY_COLL_PUBLIC size_t ty_coll_dtype_size(enum ty_coll_dtype t); /* bytes; 0 for no dtype */
TY_COLL_PUBLIC const char *ty_coll_dtype_name(enum ty_coll_dtype t); /* "float32" */

/* Horovod's values. */
enum ty_coll_op {
    TY_COLL_AVERAGE, /* sum / size of the process set; integers are divided as doubles and cut toward zero */
    TY_COLL_SUM,
    TY_COLL_ADASUM, /* floating types; process sets of 2^k ranks */
    TY_COLL_MIN,
    TY_COLL_MAX,
    TY_COLL_PRODUCT,
    TY_COLL_OPS
};

enum ty_coll_kind {
    TY_COLL_ALLREDUCE,
    TY_COLL_REDUCESCATTER, /* rank i gets rows block i of dimension 0; the first ranks get the rows left over */
    TY_COLL_ALLGATHER,     /* joined on dimension 0, which may differ between ranks */
    TY_COLL_BROADCAST,
    TY_COLL_ALLTOALL,
    TY_COLL_BARRIER,
    TY_COLL_JOIN, /* this rank has no more data: it takes part in allreduces with zeros until all have joined */
    TY_COLL_SET_ADD,
    TY_COLL_SET_REMOVE,
    TY_COLL_KINDS
};
TY_COLL_PUBLIC const char *ty_coll_kind_name(enum ty_coll_kind k); /* "allreduce" */

#define TY_COLL_DIMS 16 /* most dimensions of a tensor */

/* One tensor: `count` elements at `data`.  dims (ndims of them; ndims 0: a scalar or unknown, then dims is not read)
 * are compared between the ranks and shown in errors; allgather, alltoall and reducescatter cut along dims[0]. */
struct ty_coll_buf {
    void *data;
    int64_t count;
    int ndims;
    const int64_t *dims;
};

/* One operation; zero-initialise.  Copied by submit, the arrays too; the tensors' memory is not. */
struct ty_coll_call {
    enum ty_coll_kind kind;
    const char *name; /* pairs the calls of different ranks; NULL: by call order among unnamed calls of that kind and set */
    int set;          /* process set; 0 is the world */
    enum ty_coll_dtype dtype;
    enum ty_coll_op op;
    double prescale, postscale; /* 0 counts as 1; applied before and after the reduction */
    int root;                   /* broadcast: a rank of the world */
    int device;                 /* 0 or -1: memory of this host; TY_COLL_GPU(i): of CUDA's device i, see "GPUs" below */
    int nbufs;                  /* more than one: a group, submitted and finished as one */
    const struct ty_coll_buf *in;
    const struct ty_coll_buf *out; /* allreduce, broadcast, reducescatter: may be equal to in; else not read (see result) */
    const int64_t *splits; /* alltoall: rows of dimension 0 for each rank of the set; NULL: even */
    const int *ranks;      /* set_add: ranks of the world, any order */
    int nranks;
    void *ready;           /* with a GPU: a cudaEvent_t after which the tensors may be read and written; see "GPUs" */
};

/* GPUs.  `device` says where the tensors of a call are, all of them, in and out; every rank gives a GPU or none does (-EPROTO).
 * The CUDA runtime and NCCL are looked for when the first such call is submitted: -ENOTSUP when there is no CUDA, -EINVAL for
 * a GPU that this process does not see.  What must be finished before the engine touches the tensors stands before the event
 * `ready` in its stream; the event lives until the operation's end.  NULL: all work on them has ended.  When the end is
 * reported, the tensors are complete: any stream may use them at once.
 * What allgather and alltoall make lies in device memory (of cudaMalloc), and ty_coll_result.device says where. */
#define TY_COLL_GPU(i) ((i) + 1)

/* What an operation gives back, apart from out[]. */
struct ty_coll_result {
    void **data;        /* allgather, alltoall: nbufs blocks, each malloc'ed and (like the array) the caller's to free */
    int64_t *rows;      /* allgather: rows of each rank, buffer after buffer; alltoall: rows received from each rank */
    int nrows;          /* entries of rows */
    int value;          /* join: the rank that joined last; set_add: the id of the new set */
    int device;         /* 0: data[] is memory of this host; TY_COLL_GPU(i): of that GPU, not malloc'ed */
    int (*device_free)(void *data); /* then: cudaFree, for each block */
};
TY_COLL_PUBLIC void ty_coll_result_done(struct ty_coll_result *r); /* frees what is in it */

/* Submit.  A handle > 0, which ty_coll_wait() gives back. */
TY_COLL_PUBLIC int64_t ty_coll_submit(struct ty_coll *c, const struct ty_coll_call *call, struct ty_error *err);
/* 1 finished (or failed), 0 not yet, -ENOENT no such handle.  Helps the engine along; never waits for a rank. */
TY_COLL_PUBLIC int ty_coll_poll(struct ty_coll *c, int64_t handle);
/* Wait for the end, hand out the result (*ret, may be NULL, on success alone) and give the handle back; -ENOENT. */
TY_COLL_PUBLIC int ty_coll_wait(struct ty_coll *c, int64_t handle, struct ty_coll_result *ret, struct ty_error *err);
/* The same for at most `timeout_ms`: -EAGAIN when it is not finished by then, and the handle stays. */
TY_COLL_PUBLIC int ty_coll_wait_ms(struct ty_coll *c, int64_t handle, int timeout_ms, struct ty_coll_result *ret,
                                   struct ty_error *err);
/* Submit and wait, on the caller's own thread where it can be. */
TY_COLL_PUBLIC int ty_coll_do(struct ty_coll *c, const struct ty_coll_call *call, struct ty_coll_result *ret,
                              struct ty_error *err);
/* The same, waiting for at most `timeout_ms`: -EAGAIN when it is not finished by then; it goes on under *handle. */
TY_COLL_PUBLIC int ty_coll_do_ms(struct ty_coll *c, const struct ty_coll_call *call, int timeout_ms,
                                 struct ty_coll_result *ret, int64_t *handle, struct ty_error *err);

/* ---- finding each other ---- */

/* How ranks exchange a few hundred bytes before they can talk.  Given by the caller, or found from the environment.
 * Each returns 0 or a negative errno with text; `fence` waits until every rank has called it (`timeout_ms`). */
struct ty_coll_boot {
    void *ctx;
    int (*put)(void *ctx, const char *key, const void *value, size_t n, struct ty_error *err);
    int (*fence)(void *ctx, int timeout_ms, struct ty_error *err);
    /* The value that `rank` has put; *ret is malloc'ed, the caller's.  -ENOENT (after a fence): it has not. */
    int (*get)(void *ctx, int rank, const char *key, void **ret, size_t *n, struct ty_error *err);
    void (*close)(void *ctx); /* at the end of the context; may be NULL */
};

/* Options of ty_coll_open; zero-initialise.  What is 0 or NULL is taken from the environment, then from the default. */
struct ty_coll_options {
    int size;                        /* > 0: rank and size are given here; 0: from the launcher's variables */
    int rank;
    const struct ty_coll_boot *boot; /* NULL: PMIx, or the rendezvous that the environment names */
    const char *node;       /* ranks with equal names may share memory; NULL: found out.  TRAINYARD_COLL_NODE */
    int start_timeout_s;    /* 30.  HOROVOD_START_TIMEOUT */
    size_t arena_bytes;     /* address space for gradients, per rank; memory is taken when touched.  64 GiB */
    const char *select;     /* algorithms by size and nodes, see docs/collectives.md.  TRAINYARD_COLL_SELECT */
    int stall_warning_s;    /* 60; -1: never.  HOROVOD_STALL_CHECK_TIME_SECONDS */
    int stall_shutdown_s;   /* 0: never.  HOROVOD_STALL_SHUTDOWN_TIME_SECONDS */
    const char *timeline;   /* a path, on rank 0.  HOROVOD_TIMELINE */
    bool timeline_cycles;
    /* Told of what a person should look at (a late rank, a slow path): one line, no newline.  NULL: stderr. */
    void (*warn)(void *ctx, const char *line);
    void *warn_ctx;
    /* Where the CUDA runtime and NCCL may be, beside what is loaded and what the system finds: folders and files with ':'
     * between them, for example lib/ of an installed torch.  TRAINYARD_COLL_CUDA_PATH */
    const char *cuda_path;
    /* A file that is there while operations have waited for longer than stall_warning_s, and that this rank reports: what
     * they are and who is late, as JSON (docs/collectives.md).  TRAINYARD_COLL_STALL_FILE */
    const char *stall_file;
};

/* Join the world.  Waits for every rank, `start_timeout_s` at most, then names who is missing (-ETIMEDOUT). */
TY_COLL_PUBLIC int ty_coll_open(const struct ty_coll_options *o, struct ty_coll **ret, struct ty_error *err);
/* Leave: operations in flight fail on every rank with -ESHUTDOWN.  NULL is fine; returns NULL. */
TY_COLL_PUBLIC struct ty_coll *ty_coll_close(struct ty_coll *c);

TY_COLL_PUBLIC int ty_coll_rank(const struct ty_coll *c);
TY_COLL_PUBLIC int ty_coll_size(const struct ty_coll *c);
TY_COLL_PUBLIC int ty_coll_local_rank(const struct ty_coll *c); /* among the ranks of this node */
TY_COLL_PUBLIC int ty_coll_local_size(const struct ty_coll *c);
TY_COLL_PUBLIC int ty_coll_cross_rank(const struct ty_coll *c); /* among the ranks with this local rank */
TY_COLL_PUBLIC int ty_coll_cross_size(const struct ty_coll *c);
TY_COLL_PUBLIC bool ty_coll_homogeneous(const struct ty_coll *c); /* every node has as many ranks */

/* ---- GPUs ---- */

/* Can this context take tensors on GPUs?  0, or -ENOTSUP with the reason.  Opens the CUDA runtime when it is not yet. */
TY_COLL_PUBLIC int ty_coll_gpu_ready(struct ty_coll *c, struct ty_error *err);
/* Can the libraries be opened, GPU or not?  0 or -ENOENT with what was tried.  cuda_path: as in the options. */
TY_COLL_PUBLIC int ty_coll_cuda_found(const char *cuda_path, struct ty_error *err);
TY_COLL_PUBLIC int ty_coll_nccl_found(const char *cuda_path, int *version, struct ty_error *err); /* 22105 */

/* ---- process sets ---- */

/* Sets are made and removed by TY_COLL_SET_ADD and TY_COLL_SET_REMOVE, operations of the world. */
TY_COLL_PUBLIC int ty_coll_set_size(struct ty_coll *c, int set);             /* -ENOENT */
TY_COLL_PUBLIC int ty_coll_set_rank(struct ty_coll *c, int set);             /* -ENOENT; -EINVAL: not a member */
TY_COLL_PUBLIC int ty_coll_set_ranks(struct ty_coll *c, int set, int *ranks, int n); /* how many; sorted */

/* ---- the gradient arena ---- */

/* Memory that every rank of the node can reach: operations on it copy nothing.  Zeroed, 64-byte aligned, the
 * context's; it lasts until ty_coll_close, and its bytes until ty_coll_arena_free.  NULL when none is left.
 * In a forked child it is private: what the child writes stays its own, what it has not written is as its parent has it. */
TY_COLL_PUBLIC void *ty_coll_arena_alloc(struct ty_coll *c, size_t bytes);
TY_COLL_PUBLIC void ty_coll_arena_free(struct ty_coll *c, void *p);
TY_COLL_PUBLIC bool ty_coll_arena_has(const struct ty_coll *c, const void *p);

/* ---- what it did ---- */

/* Counters since open. */
struct ty_coll_stats {
    uint64_t ops, bytes;           /* operations finished; bytes of their inputs */
    uint64_t wait_us;              /* time that callers spent in wait: communication they could see */
    uint64_t busy_us;              /* time spent moving and adding data */
    uint64_t negotiations;         /* rounds in which the ranks had to compare lists */
    uint64_t path_ops[16];         /* operations by path: TY_COLL_PATHS in its order */
    int late_rank;                 /* the rank that came last most often; -1: none */
    uint64_t late_us;              /* time that was spent waiting for it */
};
TY_COLL_PUBLIC void ty_coll_stats(struct ty_coll *c, struct ty_coll_stats *ret);
TY_COLL_PUBLIC const char *ty_coll_path_name(int path); /* "direct", "staged", ...; NULL past the last */

/* Operations that have waited for other ranks for `older_ms`: a JSON array, malloc'ed:
 * [{"name": .., "kind": .., "set": .., "waiting_s": .., "moving": .., "missing": [ranks]}].  moving: it has begun, and waits for
 * data of those ranks; else they have not submitted it.  missing is empty where this rank cannot tell. */
TY_COLL_PUBLIC int ty_coll_stalled(struct ty_coll *c, int older_ms, char **ret, struct ty_error *err);

/* Chrome's trace format, written by rank 0 alone; nothing happens on the others. */
TY_COLL_PUBLIC int ty_coll_timeline_start(struct ty_coll *c, const char *path, bool cycles, struct ty_error *err);
TY_COLL_PUBLIC int ty_coll_timeline_stop(struct ty_coll *c, struct ty_error *err);

#ifdef __cplusplus
}
#endif
#endif
