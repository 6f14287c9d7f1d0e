/* ingest.h - the daemon's end of the runner stream (docs/spec/runner-stream.md)
 *
 * Applies frames in order, each stored before it is acknowledged.  What a frame means for the run's state is
 * the business of the callbacks (sched).  Loop thread only.
 *
 * One stream per run: a second HELLO of the same run waits until everything of the first is stored or has failed, so that WELCOME
 * tells the truth and nothing is applied twice.
 */
#ifndef TY_INGEST_H
#define TY_INGEST_H
#include "base/json.h"
#include <stdint.h>
#include <uv.h>
struct ty_error;
struct ty_follow_hub;
struct ty_ingest;
struct ty_store;
struct ty_unit;

struct ty_ingest_ops {
    /* May this runner speak for that run?  0 and the run's number; -EAGAIN: it shall come back later; else a negative errno
     * and the sentence of REFUSED. */
    int (*hello)(void *ctx, const char *run, const char *token, int64_t attempt, int64_t *run_id, struct ty_error *err);
    bool (*cancel_wanted)(void *ctx, const char *run);
    /* Add what the record means to the unit that stores it; a malformed one is -EINVAL. */
    int (*record)(void *ctx, const char *run, struct ty_unit *u, const json_t *record, struct ty_error *err);
    /* The script set a tag or property: add the event. */
    void (*note)(void *ctx, const char *run, struct ty_unit *u, bool property, const char *key, const json_t *value);
    /* A unit of this run was given to the store, and has come back with the ticket that queued() gave. */
    int64_t (*queued)(void *ctx, const char *run);
    void (*stored)(void *ctx, const char *run, int r, int64_t ticket);
    void (*heard)(void *ctx, const char *run); /* any frame */
};

struct ty_ingest_options {
    uv_loop_t *loop;
    int listen_fd; /* bound and listening Unix socket; taken over */
    struct ty_store *store;
    struct ty_follow_hub *hub;
    const struct ty_ingest_ops *ops;
    void *ctx;
};
int ty_ingest_open(const struct ty_ingest_options *o, struct ty_ingest **ret, struct ty_error *err);
void ty_ingest_stop(struct ty_ingest *in);                     /* close everything */
struct ty_ingest *ty_ingest_free(struct ty_ingest *in);        /* after the loop has run its close callbacks */
/* Tell the run's runner to end the job; false when no runner is connected. */
bool ty_ingest_cancel(struct ty_ingest *in, const char *run);
bool ty_ingest_connected(const struct ty_ingest *in, const char *run);
#endif
