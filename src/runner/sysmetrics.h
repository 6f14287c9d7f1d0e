/* sysmetrics.h - what a job uses of its machine, as metrics (docs/metrics.md)
 *
 * A helper of the runner (child.h) samples from time to time and writes rows into a spool of its own, as a script would.  It is a
 * process of its own because a driver or a file system may keep it waiting, and because it acts as the job's owner.
 * It tells {"kind": "sampler", "writer": n} when it has its spool, and {"kind": "sampled"} after each sample.
 */
#ifndef TY_SYSMETRICS_H
#define TY_SYSMETRICS_H
#include "runner/systree.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_owner;

struct ty_sysmetrics {
    const char *spool;  /* the folder of the row spools; the disk that it lies on is looked at */
    const char *node;   /* stands in the names; "": one machine */
    const char *gpus;   /* as of CUDA_VISIBLE_DEVICES: numbers or uuids with commas between them; "": none; NULL: all */
    int64_t seconds;    /* between two samples; a long job has fewer, see ty_sysmetrics_wait */
    int64_t first_us;   /* from the beginning to the first sample */
    const struct ty_owner *owner; /* NULL: as the runner */
    struct ty_systree_rank *ranks; /* those of this machine */
    int nranks;
};
/* The helper's life, for ty_child_start: `ctx` is a struct ty_sysmetrics. */
int ty_sysmetrics_main(int out, void *ctx);

/* From one sample to the next, when a job has run for `age_us`: more and more, up to a minute, so that a month of them is not
 * ten times what it has to be.  Microseconds. */
int64_t ty_sysmetrics_wait(int64_t seconds, int64_t age_us);
/* Is this GPU one of `gpus`? */
bool ty_sysmetrics_has_gpu(const char *gpus, int index, const char *uuid);
#endif
