/* jobdir.h - the folder in which a job lives on its first node (docs/spec/runner-stream.md) */
#ifndef TY_JOBDIR_H
#define TY_JOBDIR_H
#include "base/json.h"
#include <stdbool.h>
struct ty_blobs;
struct ty_error;

struct ty_jobdir {
    const char *home;        /* state folder */
    const char *run, *token, *user;
    bool run_as_user;        /* the runner is root, and its job runs as `user` */
    int attempt;
    const json_t *spec;      /* run spec */
    const char *snapshot;    /* NULL: none */
    const char *const *data_dirs; /* one per data reference, absolute; "": it lies in an object store ("data_access" of extra) */
    int ndata;
    const char *python_path; /* NULL: none */
    int64_t cancel_grace_seconds, log_bytes_max, artifact_files_max, artifact_bytes_max;
    int64_t system_metrics_seconds; /* 0: none */
    const json_t *warnings;  /* array */
    const json_t *extra;     /* object: further keys of job.json (placement, earlier attempts); NULL: none */
};
char *ty_jobdir_path(const char *home, const char *run); /* malloc'ed; NULL: out of memory */
bool ty_jobdir_exists(const char *home, const char *run);
/* The attempt that the folder was made for; 1 where it cannot be read. */
int ty_jobdir_attempt(const char *home, const char *run);
/* Make the folder, whole or not at all; 0 when it exists already. */
int ty_jobdir_make(const struct ty_jobdir *j, struct ty_blobs *blobs, struct ty_error *err);
int ty_jobdir_remove(const char *home, const char *run);
/* The same where nobody knows what is left of the job: the folder of one on hosts goes to lost/, from where the next courier of any
 * job goes on to clean them (courier/lost.c). */
int ty_jobdir_give_up(const char *home, const char *run);
#endif
