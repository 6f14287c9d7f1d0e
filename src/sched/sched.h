/* sched.h - the direction: which runs there are, which one is next, and what has to be done for it
 *
 * One table of live runs (those that have not ended), one writer of their state: run_event() in run.c.  It applies
 * the event, queues it for the store, and only when it is stored acts on the new state, idempotently, so that acting again after
 * a restart is harmless.  Loop thread only.
 */
#ifndef TY_SCHED_H
#define TY_SCHED_H
#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
struct ty_blobs;
struct ty_conf;
struct ty_error;
struct ty_follow_hub;
struct ty_sched;
struct ty_store;

struct ty_sched_options {
    uv_loop_t *loop;
    struct ty_store *store;
    struct ty_blobs *blobs;
    const struct ty_conf *conf;
    struct ty_follow_hub *hub;
    const char *home;        /* the state folder */
    bool system;             /* each job runs as the user who submitted it */
    const char *agent;       /* absolute path of trainyard-agent */
    const char *python_path; /* folder with our Python packages, or NULL */
    int runner_fd;           /* listening Unix socket for runners; taken over */
};
/* Load the runs that had not ended and take up each where it is. */
int ty_sched_open(const struct ty_sched_options *o, struct ty_sched **ret, struct ty_error *err);
/* Stop placing and listening; runners go on by themselves. */
void ty_sched_stop(struct ty_sched *s);
struct ty_sched *ty_sched_free(struct ty_sched *s); /* after the loop has run its close callbacks */

/* Somebody else's unit has made the store refuse: read everything again, and let it go on.  Safe to call too often. */
void ty_sched_recover(struct ty_sched *s);

struct ty_user { int64_t uid; const char *name; };
/* The answer to a change, once it is stored (r 0) or refused (negative, and a sentence).  `run` is the user's id. */
typedef void (*ty_sched_done)(void *ctx, int r, const char *run, const struct ty_error *err);

/* Each returns 0 when done will be called later, or a negative errno and a sentence at once (then done is not called).
 * submit: body as in docs/spec/run-spec.md; -EINVAL refused, -ENOENT unknown target, snapshot, datastore, -EUSERS queue full. */
int ty_sched_submit(struct ty_sched *s, const char *experiment, const json_t *spec, const struct ty_user *who,
                    ty_sched_done done, void *ctx, struct ty_error *err);
int ty_sched_cancel(struct ty_sched *s, const char *run, ty_sched_done done, void *ctx, struct ty_error *err); /* ended: 0 and done(0) */
int ty_sched_tag(struct ty_sched *s, const char *run, const json_t *change, ty_sched_done done, void *ctx,
                 struct ty_error *err); /* change: TAG_CHANGE */
int ty_sched_artifact(struct ty_sched *s, const char *run, const char *path, const char *sha, uint64_t bytes,
                      ty_sched_done done, void *ctx, struct ty_error *err);
int ty_sched_properties(struct ty_sched *s, const char *run, const json_t *change, ty_sched_done done, void *ctx,
                        struct ty_error *err); /* change: PROPERTY_CHANGE; -EEXIST: one of them is set already */
/* Rows (core/row.h, metrics only) of a writer outside of any job, from its number `first` on; known ones are skipped, a gap is
 * -EEXIST in done.  Writers from TY_ROW_WRITER_OUTSIDE on; -EUSERS for too many of them. */
int ty_sched_rows(struct ty_sched *s, const char *run, uint32_t writer, uint64_t first, const void *rows, size_t n,
                  ty_sched_done done, void *ctx, struct ty_error *err);
/* End an interactive run; outcome: RUN_END.  -EINVAL: the run has a program, and ends with it.  Ended: 0 and done(0). */
int ty_sched_end(struct ty_sched *s, const char *run, const json_t *end, ty_sched_done done, void *ctx, struct ty_error *err);
/* -EBUSY: it, or a child of it, has not ended.  Its children go with it. */
int ty_sched_delete(struct ty_sched *s, const char *run, ty_sched_done done, void *ctx, struct ty_error *err);
/* ask: only if its hosts, or the engine behind it, answer (-EINVAL in done, naming them).  "drained" and "drained_nodes" stay
 * as they were where the spec does not name them. */
int ty_sched_target_put(struct ty_sched *s, const char *name, const json_t *spec, bool ask, ty_sched_done done, void *ctx,
                        struct ty_error *err);
/* Place nothing new on the target, or on its node of that name (NULL: all of it); or do so again. */
int ty_sched_drain(struct ty_sched *s, const char *target, const char *node, bool drained, ty_sched_done done, void *ctx,
                   struct ty_error *err);
int ty_sched_nodes(struct ty_sched *s, json_t **ret); /* NODES; 0 or -ENOMEM */
int ty_sched_target_delete(struct ty_sched *s, const char *name, ty_sched_done done, void *ctx, struct ty_error *err);
/* A run that has not ended and names the datastore; NULL: none does. */
const char *ty_sched_uses_datastore(struct ty_sched *s, const char *name);
/* Remove what nothing refers to and what retention says; *report (GC_REPORT) belongs to the callee of done's ctx. */
int ty_sched_gc(struct ty_sched *s, void (*done)(void *ctx, int r, json_t *report, const struct ty_error *err), void *ctx,
                struct ty_error *err);

int ty_sched_queue(struct ty_sched *s, json_t **ret); /* QUEUE; 0 or -ENOMEM */
/* Place no run any more, until it is resumed; kept across restarts. */
int ty_sched_pause(struct ty_sched *s, bool paused, ty_sched_done done, void *ctx, struct ty_error *err);
/* Add "why" and "queue_place" to a RUN. */
void ty_sched_annotate(struct ty_sched *s, json_t *run);
/* The same to each of an array of them: the order is made once. */
void ty_sched_annotate_all(struct ty_sched *s, json_t *runs);
/* Add "nodes", "cpus" and "gpus" to a TARGET. */
void ty_sched_annotate_target(struct ty_sched *s, json_t *target);
/* Add "runs" {"active","queued"} and "slots" to a STATUS. */
void ty_sched_status(struct ty_sched *s, json_t *status);
#endif
