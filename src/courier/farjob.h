/* farjob.h - a job folder on a host: made, taken up, removed
 *
 * Below the node's folder: jobs/<run>/ as docs/spec/runner-stream.md has it, blobs/, packages/<hash>/, checkpoints/<run>/.
 */
#ifndef TY_FARJOB_H
#define TY_FARJOB_H
#include "base/json.h"
#include "base/proc.h"
#include <stdbool.h>
struct ty_blobs;
struct ty_error;

struct ty_far {
    char *folder;            /* malloc'ed: of our files on this host, absolute */
    struct ty_blobs *blobs;
    char *run, *dir;         /* malloc'ed; the job and its folder; NULL: none is attached */
};
int ty_far_open(struct ty_far *f, const char *folder, struct ty_error *err);
void ty_far_done(struct ty_far *f);

/* Look for the job, and end a channel to it that somebody else has left behind.  1: it is here; 0: it is not (what is here of
 * an earlier attempt is ended and removed; a later one is left alone, and f->dir is NULL: there is nothing to be done for this one). */
int ty_far_attach(struct ty_far *f, const char *run, int64_t attempt, const char *token, struct ty_error *err);
/* Make the job folder from what START brought.  `notes` (array) gets sentences for users. */
int ty_far_make(struct ty_far *f, const json_t *start, json_t *notes, struct ty_error *err);
/* The process that holds the folder, when one lives. */
int ty_far_running(const struct ty_far *f, struct ty_proc_id *ret);
/* Start it: `trainyard-agent <verb> <dir>`.  The process is our child, and in a session of its own. */
int ty_far_start(const struct ty_far *f, const char *verb, pid_t *ret, struct ty_error *err);
/* End what is left of the job and remove its folder; `wait_us`: how long it may take to end by itself. */
int ty_far_clean(struct ty_far *f, int64_t wait_us, struct ty_error *err);
/* What nobody has used for a month goes: job folders, agents, packages, blobs; nothing that a job may need which is still here.  At most
 * once a day, by a process of its own. */
void ty_far_keep(const struct ty_far *f);
#endif
