/* pmix.h - the runner's side of the PMIx helper of its node (pmix_helper.h)
 *
 * With it MPI programs whose ranks we start find each other, as they do under mpirun.  The helper is started
 * while the job is being prepared; when READY comes, each rank of this node gets its environment.  Nothing
 * here waits, but ty_pmix_free.
 *
 *     ty_pmix_start -> READY, MPI -> (FENCE -> ty_pmix_fence_done)* -> ty_pmix_stop -> ty_pmix_free
 *                   -> FAILED: MPI programs cannot be served on this node; all other jobs can
 */
#ifndef TY_PMIX_H
#define TY_PMIX_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
struct ty_error;
struct ty_owner;
struct ty_pmix;

struct ty_pmix_node {
    const char *name;
    int ranks;
};
/* Processes are dealt node by node.  Nodes whose ranks may share memory are one node here. */
struct ty_pmix_spec {
    const char *job_dir;    /* marks the process: TRAINYARD_JOB */
    const char *name_space; /* of this attempt of this run, the same on all nodes */
    const char *tmp;        /* a folder for it, made here */
    const struct ty_pmix_node *nodes;
    int nnodes, node;       /* node: this one */
    int cpus;               /* for the ranks of this node; fewer than ranks: they yield.  0: not known */
    const struct ty_owner *owner; /* who helper and ranks run as; NULL: as the runner.  Outlives the helper */
    int err;                /* the helper's stderr */
};

enum ty_pmix_event_kind {
    TY_PMIX_IS_READY,
    TY_PMIX_IS_FAILED, /* code: negative errno, -ENOENT where there is no libpmix that can be used; text: why */
    TY_PMIX_HAS_MPI,   /* text: version of Open MPI, "" for none */
    TY_PMIX_HAS_FENCE, /* key, nodes, blob: see fence.h */
    TY_PMIX_HAS_ABORT, /* rank, code, text: MPI_Abort; the job is to end */
    TY_PMIX_HAS_NOTE   /* text: a sentence for the user */
};
/* What it points to is valid until the next call. */
struct ty_pmix_event {
    enum ty_pmix_event_kind kind;
    int rank, code;
    const char *text; /* NUL-terminated */
    const char *key;  /* key_len bytes */
    size_t key_len;
    uint32_t nodes;
    const void *blob;
    size_t len;
};

int ty_pmix_start(const struct ty_pmix_spec *s, struct ty_pmix **ret, struct ty_error *err);
/* The descriptor to wait for, -1 when the helper has gone; *events as for poll(2). */
int ty_pmix_fd(const struct ty_pmix *p, short *events);
/* What the helper says next.  0 and *ret; -EAGAIN: nothing now; -EPIPE: it has gone. */
int ty_pmix_next(struct ty_pmix *p, struct ty_pmix_event *ret);
/* What rank `local` of this node needs besides its environment: "NAME=value", NULL-terminated, owned by p;
 * NULL before READY and for a rank that this node does not have. */
char *const *ty_pmix_env(const struct ty_pmix *p, int local);
/* Version texts; "" until they are known. */
const char *ty_pmix_version(const struct ty_pmix *p);
const char *ty_pmix_mpi(const struct ty_pmix *p);
/* All nodes have come to a fence: `blob` is theirs, joined in the order of nodes. */
int ty_pmix_fence_done(struct ty_pmix *p, const char *key, size_t key_len, uint32_t nodes,
                       const void *blob, size_t len);
/* Whoever waits for any child says so here; a pid that is not the helper's is ignored. */
void ty_pmix_reaped(struct ty_pmix *p, pid_t pid, int status);
/* No rank needs it any more: it cleans up and ends. */
void ty_pmix_stop(struct ty_pmix *p);
/* Wait for its end (it is killed after TY_PMIX_END_MS) and remove what it may have left. */
#define TY_PMIX_END_MS 1000
struct ty_pmix *ty_pmix_free(struct ty_pmix *p);
#endif
