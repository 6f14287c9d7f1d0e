/* run_state.h - the states of a run, in Azure ML's own words, and the events that lead between them
 *
 * Users' scripts compare against these words.  The table itself stands in run_state.c.
 */
#ifndef TY_RUN_STATE_H
#define TY_RUN_STATE_H
#include <stdbool.h>
#include <stdint.h>

#define TY_RUN_STATES(X) \
    X(NOT_STARTED, "NotStarted") X(STARTING, "Starting") X(PROVISIONING, "Provisioning") \
    X(PREPARING, "Preparing") X(QUEUED, "Queued") X(RUNNING, "Running") \
    X(NOT_RESPONDING, "NotResponding") X(CANCEL_REQUESTED, "CancelRequested") X(FINALIZING, "Finalizing") \
    X(COMPLETED, "Completed") X(FAILED, "Failed") X(CANCELED, "Canceled")

/* Events that move the state.  The second word is how the event log spells it. */
#define TY_RUN_EVENTS(X) \
    X(SUBMITTED, "submitted") X(NODES_WANTED, "nodes_wanted") X(PREPARE, "prepare") X(READY, "ready") \
    X(STARTED, "started") X(SILENT, "silent") X(HEARD, "heard") X(REQUEUED, "requeued") \
    X(CANCEL, "cancel") X(EXITED_OK, "exited_ok") X(EXITED_BAD, "exited_bad") X(LOST, "lost") \
    X(COLLECTED, "collected")

#define X(name, word) TY_RUN_##name,
enum ty_run_state { TY_RUN_STATES(X) TY_RUN_STATE_COUNT, TY_RUN_STATE_INVALID = -22 };
#undef X
#define X(name, word) TY_EV_##name,
enum ty_run_event { TY_RUN_EVENTS(X) TY_EV_COUNT, TY_EV_INVALID = -22 };
#undef X

/* What the events of a run add up to.  ty_run_apply() is the only writer. */
struct ty_run {
    enum ty_run_state state;
    enum ty_run_state outcome; /* where Finalizing leads; NotStarted while unknown */
    enum ty_run_state heard;   /* where NotResponding returns to; NotStarted in every other state */
    int attempt;               /* from 1 */
    int exit_code;             /* of the user's program; -1: none (not ended, or a signal) */
    int exit_signal;           /* that ended it; 0: none */
    int64_t created_us, started_us, ended_us; /* wall clock; 0: not yet; started_us is of this attempt */
};
#define TY_RUN_INIT { .exit_code = -1 }

/* What came with an event. */
struct ty_event_note {
    int64_t at_us;   /* wall clock */
    int exit_code;   /* with EXITED_*: as above, else -1 */
    int exit_signal; /* with EXITED_*: as above, else 0 */
};

/* Apply one event.  0, or -EPROTO with the run unchanged when `ev` cannot follow its state.
 * Reads nothing but its arguments: replaying the event log gives the same run. */
int ty_run_apply(struct ty_run *run, enum ty_run_event ev, const struct ty_event_note *note);

const char *ty_run_state_word(enum ty_run_state s);
enum ty_run_state ty_run_state_parse(const char *word); /* TY_RUN_STATE_INVALID for another word */
const char *ty_run_event_word(enum ty_run_event ev);
enum ty_run_event ty_run_event_parse(const char *word); /* TY_EV_INVALID for another word */
static inline bool ty_run_state_ended(enum ty_run_state s)
{
    return s == TY_RUN_COMPLETED || s == TY_RUN_FAILED || s == TY_RUN_CANCELED;
}
#endif
