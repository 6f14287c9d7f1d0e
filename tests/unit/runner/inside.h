/* inside.h - a runner's state inside the test, without its loop: one part of it at a time
 *
 * The job folder and the daemon are those of job.h; what the runner starts are children of the
 * test.
 */
#ifndef TEST_INSIDE_H
#define TEST_INSIDE_H
#include "job.h"
#include "runner/runner_internal.h"

struct inside {
    struct job j;
    struct ty_runner r;
};
/* After job_make, and whatever was changed in its JSON. */
void inside_open(struct inside *in);
void inside_done(struct inside *in); /* also what it started, and the job */
/* What was added is on the disk. */
void inside_sync(struct inside *in);
/* One turn of delivery on both sides. */
void inside_deliver(struct inside *in);
/* Until nothing moves any more: no frame has come for some turns. */
void inside_settle(struct inside *in);
/* Hear children until the runner is in that phase; fails the test after 20 seconds. */
void inside_until(struct inside *in, enum ty_phase phase);
/* Of the n-th record of that kind that was added: the text, or "". */
const char *inside_text(struct inside *in, const char *kind, int n, const char *key);
int inside_number(struct inside *in, const char *kind, int n, const char *key); /* -1: none */
int inside_count(struct inside *in, const char *kind);
/* What a log of the runner says; malloc'ed. */
char *inside_log(struct inside *in, enum ty_log_id log);
#endif
