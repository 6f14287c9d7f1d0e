/* slurm_ask.h - what is asked of Slurm, and what it answers: command lines, the batch script, lists (pure)
 *
 * Slurm is driven through its commands alone, which are started without a shell (slurm_command.h).  An allocation is named by
 * its comment, "trainyard:<owner>": what asked for it can find it again when it died before it had learned the number.
 */
#ifndef TY_SLURM_ASK_H
#define TY_SLURM_ASK_H
#include "core/run_spec.h"
#include "core/target_spec.h"
#include "base/str.h"
struct ty_error;

#define TY_SLURM_COMMENT "trainyard:"
#define TY_SLURM_WARNING_SECONDS 60 /* before the limit of an allocation its batch process gets SIGUSR1 */
#define TY_SLURM_NODES_MAX 10000

/* ---- asking ---- */

/* What one allocation must have.  Runs that need the same may follow each other in it. */
struct ty_slurm_shape {
    int nodes;
    int cpus;           /* of each node */
    int64_t memory_mb;  /* of each node; 0: what the partition gives */
    int gpus;           /* of each node; 0: none, or what gres says */
    int64_t minutes;    /* limit; 0: the partition's */
    const char *partition, *gres, *constraint; /* NULL: not said; borrowed from the target */
};
/* `lasting`: the allocation is to serve further runs, so the time limit of this one is not its limit. */
void ty_slurm_shape(const struct ty_target_spec *target, const struct ty_run_spec *run, bool lasting,
                    struct ty_slurm_shape *ret);
/* One line that is equal for equal shapes.  malloc'ed; NULL: out of memory. */
char *ty_slurm_shape_text(const struct ty_slurm_shape *s);
/* Does an allocation of that shape do for one that is asked for?  It may have more CPUs and memory, and another limit. */
bool ty_slurm_shape_fits(const char *shape, const char *asked);
/* Arguments of sbatch, NULL-terminated (ty_strv_free); argv[0] is `sbatch`.  0 or -ENOMEM. */
int ty_slurm_args(const char *sbatch, const struct ty_target_spec *target, const struct ty_slurm_shape *shape,
                  const char *name, const char *owner, char ***ret);

/* The batch script.  It goes to sbatch's standard input: no command line shows what is in it. */
struct ty_slurm_script {
    const char *agent;   /* shared: the path of the agent on every node; else below the folder, "~/" first where that is the home */
    const char *path;    /* PATH on the nodes; NULL: the usual one */
    const char *config;  /* what `trainyard-agent hold` reads: one line of JSON */
    const void *packed;  /* NULL: shared; else the agent, packed by gzip */
    size_t packed_bytes;
};
int ty_slurm_script(const struct ty_slurm_script *s, struct ty_str *ret); /* 0, -ENOMEM, or -E2BIG: more than Slurm takes */

/* ---- answers ---- */

enum ty_slurm_state {
    TY_SLURM_PENDING,  /* waits, or waits again */
    TY_SLURM_STARTING, /* has nodes, which are being made ready */
    TY_SLURM_RUNNING,
    TY_SLURM_ENDING,   /* its processes are being ended */
    TY_SLURM_ENDED,    /* by itself */
    TY_SLURM_CANCELED, /* by scancel */
    TY_SLURM_TIMEOUT, TY_SLURM_PREEMPTED, TY_SLURM_NODE_FAIL, TY_SLURM_OOM,
    TY_SLURM_FAILED,   /* its batch process ended badly, or could not be started */
};
/* Is nothing of it left to come? */
static inline bool ty_slurm_over(enum ty_slurm_state s) { return s >= TY_SLURM_ENDED; }
enum ty_slurm_state ty_slurm_state(const char *word); /* as squeue's %T says it; an unknown word: FAILED */

/* What sbatch --parsable says: "123" or "123;cluster" and the end of the line.  0 and the number; -EBADMSG. */
int ty_slurm_job_number(const char *text, uint32_t *ret);

#define TY_SLURM_QUEUE_FORMAT "%i|%T|%r|%D|%N|%L|%k"
struct ty_slurm_job {
    uint32_t number;
    enum ty_slurm_state state;
    int nodes;
    /* parts of the line, cut off by NULs */
    const char *word, *reason, *node_list, *comment;
    int64_t left_seconds; /* until its limit; -1: without end, or not known */
};
/* Read one line of `squeue -h -o TY_SLURM_QUEUE_FORMAT`, which is written to.  0; -EBADMSG: it is none. */
int ty_slurm_queue_line(char *line, struct ty_slurm_job *ret);

/* The value of NAME= in a line of `scontrol show ... -o` into buf[n]; false: there is none, or it is longer. */
bool ty_slurm_value(const char *line, const char *name, char *buf, size_t n);

#define TY_SLURM_PARTITION_FORMAT "%P|%a|%D|%c|%m|%G|%l|%T"
struct ty_slurm_partition {
    const char *name, *limit, *gres, *state; /* parts of the line; a limit is "infinite" or "1-00:00:00" */
    bool up, is_default;
    int nodes, cpus;   /* of each; the least where they differ ("2+") */
    int64_t memory_mb;
};
/* One line of `sinfo -h -o TY_SLURM_PARTITION_FORMAT`, which is written to. */
int ty_slurm_partition_line(char *line, struct ty_slurm_partition *ret);

/* What a target may have of a cluster.  Of partitions that list the same nodes only those count that a job of it goes to. */
struct ty_slurm_have {
    int nodes, cpus, gpus; /* all nodes; the most that one of them has */
    int64_t memory_mb;
    int64_t limit_seconds; /* -1: a job may take as long as it likes */
    bool up;               /* one of the partitions */
    struct ty_str names;   /* of all partitions of the cluster, "main, small"; the caller's */
};
/* `text` is what `sinfo -h -o TY_SLURM_PARTITION_FORMAT` printed; it is written to.  `wanted`: names with commas between;
 * NULL: the default partition, and where there is none, all. */
void ty_slurm_have(char *text, const char *wanted, struct ty_slurm_have *ret);
/* Does the target itself say which generic resources, GPUs for one, its jobs get? */
bool ty_slurm_names_resources(const struct ty_target_spec *target);
/* The partitions that jobs of a target go to, as sbatch takes them; NULL: the cluster's own choice. */
const char *ty_slurm_partition_of(const struct ty_target_spec *target);

/* "n[1-3,7],m01" as names, NULL-terminated (ty_strv_free), at most TY_SLURM_NODES_MAX.  -EBADMSG, -E2BIG, -ENOMEM. */
int ty_slurm_node_names(const char *list, char ***ret);

/* What a person is told of a word of Slurm's for why a job waits: a phrase, or NULL for one that speaks for itself. */
const char *ty_slurm_reason(const char *reason);
/* What a command of Slurm's said, without "sbatch: error: " and the like, its lines joined by "; ", in buf[n]; returns buf. */
const char *ty_slurm_sentence(const char *said, char *buf, size_t n);
#endif
