/* jobfile.h - what a job folder says of its job, and how far the job has come
 * (docs/spec/runner-stream.md) */
#ifndef TY_JOBFILE_H
#define TY_JOBFILE_H
#include "core/run_spec.h"
struct ty_error;
struct ty_owner;

/* A node of a job: a machine, or on target `local` a part of one. */
struct ty_job_node {
    const char *name;  /* as users know it */
    int ranks, first;  /* how many processes it runs, from 1, and the number of the first */
    int *cpus, ncpus;  /* malloc'ed; the CPUs that the job has here; none: it is not bound */
    char *gpus;        /* malloc'ed; for CUDA_VISIBLE_DEVICES; "": none */
};

struct ty_jobfile {
    json_t *json; /* owned; what follows borrows from it, except where it says malloc'ed */
    struct ty_run_spec *spec; /* owned */
    char *dir, *work, *tmp, *spool, *log; /* malloc'ed, absolute */
    char *cache; /* malloc'ed, absolute: of environments and data, the job's owner's own (docs/spec/environment.md) */
    const char *run, *token, *socket, *blobs, *home, *workspace, *manifest /* NULL */, *user, *user_home,
        *python_path /* NULL */;
    struct ty_owner *owner;   /* owned; who the job runs as; NULL: as the runner does */
    const char **data_dirs; /* malloc'ed; where each of spec->data lies in its datastore; NULL: in an object store */
    const json_t **data_access; /* malloc'ed; ACCESS (docs/spec/data-helper.md) of those stores, with credentials; NULL: a folder */
    int64_t attempt, cancel_grace_seconds, log_bytes_max;
    int64_t artifact_files_max, artifact_bytes_max; /* of outputs/ and logs/ together */
    int64_t system_metrics_seconds; /* 0: none are sampled */
    int64_t env_cache_bytes;        /* what the cache of environments may hold; 0: no limit */
    int64_t data_cache_bytes;       /* that of downloaded data; 0: no limit */
    const char *torch_index;        /* NULL: PyTorch's own */
    json_t *warnings; /* array of texts */
    const char *checkpoint_dir; /* NULL: none */
    struct ty_job_node *nodes;  /* owned; ranks are dealt node by node */
    int nnodes, size;           /* nodes and processes of the whole job */
    bool leads;                 /* this is the folder of the job's first node, whose runner leads the others */
    int node;                   /* index of the node that the folder belongs to */
    int64_t node_lost_seconds;  /* silence after which a node is lost */
    int own_nodes;              /* how many nodes, from `node` on, this runner runs itself */
    /* What earlier attempts have told: records, bytes by name of log (object or NULL), writers of rows. */
    int64_t record_base, writer_base;
    const json_t *log_base;
};
/* The ranks that this runner starts itself: *first, and how many. */
int ty_jobfile_own_ranks(const struct ty_jobfile *j, int *first);
/* The node of a rank. */
const struct ty_job_node *ty_jobfile_node_of(const struct ty_jobfile *j, int rank);
int ty_jobfile_read(const char *dir, struct ty_jobfile **ret, struct ty_error *err);
struct ty_jobfile *ty_jobfile_free(struct ty_jobfile *j);
static inline void ty_jobfile_freep(struct ty_jobfile **j) { ty_jobfile_free(*j); }

#define TY_PHASES(X) X(preparing) X(running) X(exited) X(collecting) X(collected)
#define X(word) TY_PHASE_##word,
enum ty_phase { TY_PHASE_none, TY_PHASES(X) TY_PHASE_COUNT };
#undef X
const char *ty_phase_word(enum ty_phase p); /* "" for none */
/* Replace the file `phase` at once.  Not synced: after a power cut a run is over anyway. */
int ty_phase_write(const char *dir, enum ty_phase p);
/* TY_PHASE_none: no file.  A file with another word in it is `preparing`: the job may have been
 * started. */
enum ty_phase ty_phase_read(const char *dir);
#endif
