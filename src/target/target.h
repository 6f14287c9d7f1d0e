/* target.h - where jobs run: one table of kinds behind one vtable
 *
 * A target starts a runner for a job folder and says when that runner has ended; what the runner
 * has to tell comes over its stream (track/ingest.h).  Starting is taking up: when a runner of that folder lives, it is
 * watched instead, so that the daemon may call start again after its own restart.
 */
#ifndef TY_TARGET_H
#define TY_TARGET_H
#include "core/run_spec.h"
#include "core/target_spec.h"
#include <uv.h>
struct ty_error;
struct ty_gpu;
struct ty_job;
struct ty_str;

/* The runner is gone: `code` is its exit code, or -1 where it cannot be known (a signal, or not our child). */
typedef void (*ty_job_ended)(void *ctx, int code);

struct ty_job_start {
    uv_loop_t *loop;
    const char *agent;   /* path of trainyard-agent */
    const char *job_dir; /* absolute, made by ty_jobdir_make */
    ty_job_ended ended;  /* called once, on the loop, unless the job is freed first */
    void *ctx;
};

/* Asking a machine, or a cluster, what it has.  `target` and `host` stay as they are until done is called or the probe freed. */
struct ty_probe_start {
    uv_loop_t *loop;
    const char *agent, *home;            /* path of trainyard-agent; the state folder */
    const struct ty_target_spec *target;
    const struct ty_host *host;          /* one of the target's; NULL where the kind has no hosts */
    const char *user;                    /* whose ssh asks; NULL: that of the daemon's own user */
    /* Called once, on the loop, unless the probe is freed first; it may free the probe.  `facts` (docs/spec/target-spec.md) is the
     * callee's to keep with json_incref; NULL when r is negative, and then the sentence names the host and why. */
    void (*done)(void *ctx, int r, json_t *facts, const struct ty_error *err);
    void *ctx;
};
struct ty_probe;

/* Nodes that an elastic target holds, beside those that the scheduler's own table knows. */
struct ty_node_counts { int preparing, running, idle, leaving, unusable, preempted; };

struct ty_target_kind {
    const char *name;
    /* May this run be placed here?  -EINVAL and a sentence; or 0, and a warning for the user in *warning (else empty). */
    int (*check)(const struct ty_target_spec *target, const struct ty_run_spec *run, struct ty_str *warning,
                 struct ty_error *err);
    int (*start)(const struct ty_job_start *how, struct ty_job **ret, struct ty_error *err);
    void (*cancel)(struct ty_job *job); /* ask the runner to end the job */
    void (*kill)(struct ty_job *job);   /* end the runner itself, at once */
    struct ty_job *(*free)(struct ty_job *job); /* stop watching; the runner goes on */
    /* The rest may be NULL. */
    int (*probe)(const struct ty_probe_start *how, struct ty_probe **ret, struct ty_error *err); /* returns at once */
    struct ty_probe *(*probe_free)(struct ty_probe *p); /* stop asking; NULL is nothing */
    void (*counts)(const char *home, const char *target, const struct ty_target_spec *spec, struct ty_node_counts *ret);
    /* The target has come, has changed, or (`spec` NULL) is gone: what it keeps without a run is asked for or given back.
     * Returns at once; what goes wrong is logged where it happens. */
    void (*keep)(const char *agent, const char *home, const char *target, const struct ty_target_spec *before,
                 const struct ty_target_spec *spec);
    /* Is it known to have no GPU, by the facts of its probe (NULL: none), and is none asked for by its own options? */
    bool (*lacks_gpus)(const struct ty_target_spec *target, const json_t *facts);
    bool couriers;  /* its job.json holds the target, and the hosts of the placement */
    bool places;    /* the engine behind it places nodes itself: only max_nodes is counted here */
};
const struct ty_target_kind *ty_target_kind(const char *name); /* NULL: no such kind */

int ty_target_cpus(void); /* of this box: what the process may use */
int64_t ty_target_memory_mb(void); /* of this box: what is installed */
/* GPUs of this box (base/gpu.h), as NVML found them some seconds ago: only the first call waits for the driver.  Like ty_gpu_list. */
int ty_target_gpu_list(struct ty_gpu **ret, int *n);
int ty_target_gpus(void); /* how many; 0 without a driver */
#endif
