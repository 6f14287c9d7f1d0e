/* run_state.c - the life of a run, as one table
 *
 *   NotStarted > Starting > [Provisioning] > Preparing > Queued > Running > Finalizing
 *                                                          > Completed | Failed | Canceled
 *
 * Whatever happens once preparing has begun passes through Finalizing, so that the outputs and logs of
 * failed and canceled runs are kept too; `outcome` says where Finalizing leads.  A run whose node is
 * silent is NotResponding and returns to where it was (`heard`).  A requeued run starts a new attempt.
 *
 * Invariants: `outcome` is known in Finalizing, in a NotResponding that returns there, and in the three
 * ends, where it is the state; `heard` is known in NotResponding alone; `ended_us` is set in the three
 * ends alone.
 */
#include "core/run_state.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

static_assert(TY_RUN_STATE_COUNT == 12 && TY_EV_COUNT == 13,
              "extend next[], docs/spec/event-log.md and the SDK's list of states");

static const char *const state_words[] = {
#define X(name, word) [TY_RUN_##name] = word,
    TY_RUN_STATES(X)
#undef X
};
static const char *const event_words[] = {
#define X(name, word) [TY_EV_##name] = word,
    TY_RUN_EVENTS(X)
#undef X
};

/* next[state][event]; 0 (NotStarted is never a target) means "cannot follow". */
/* clang-format off */
#define TO(event, name) [TY_EV_##event] = TY_RUN_##name
static const unsigned char next[TY_RUN_STATE_COUNT][TY_EV_COUNT] = {
    [TY_RUN_NOT_STARTED]      = { TO(SUBMITTED, STARTING) },
    [TY_RUN_STARTING]         = { TO(NODES_WANTED, PROVISIONING), TO(PREPARE, PREPARING), TO(CANCEL, CANCELED),
                                  TO(LOST, FAILED) },
    [TY_RUN_PROVISIONING]     = { TO(PREPARE, PREPARING), TO(CANCEL, CANCELED), TO(LOST, FAILED) },
    [TY_RUN_PREPARING]        = { TO(READY, QUEUED), TO(EXITED_BAD, FINALIZING), TO(CANCEL, CANCEL_REQUESTED),
                                  TO(LOST, FINALIZING) },
    [TY_RUN_QUEUED]           = { TO(STARTED, RUNNING), TO(EXITED_BAD, FINALIZING), TO(CANCEL, CANCEL_REQUESTED),
                                  TO(LOST, FINALIZING), TO(REQUEUED, QUEUED) },
    [TY_RUN_RUNNING]          = { TO(EXITED_OK, FINALIZING), TO(EXITED_BAD, FINALIZING), TO(LOST, FINALIZING),
                                  TO(SILENT, NOT_RESPONDING), TO(REQUEUED, QUEUED), TO(CANCEL, CANCEL_REQUESTED) },
    [TY_RUN_NOT_RESPONDING]   = { TO(HEARD, NOT_RESPONDING), TO(LOST, FINALIZING), TO(REQUEUED, QUEUED),
                                  TO(CANCEL, CANCEL_REQUESTED) },
    [TY_RUN_CANCEL_REQUESTED] = { TO(STARTED, CANCEL_REQUESTED), TO(EXITED_OK, FINALIZING), TO(EXITED_BAD, FINALIZING),
                                  TO(LOST, FINALIZING), TO(CANCEL, CANCEL_REQUESTED) },
    [TY_RUN_FINALIZING]       = { TO(COLLECTED, FINALIZING), TO(LOST, FINALIZING), TO(SILENT, NOT_RESPONDING),
                                  TO(CANCEL, FINALIZING) },
};
/* clang-format on */

static enum ty_run_state outcome_of(const struct ty_run *run, enum ty_run_event ev)
{
    if (run->state == TY_RUN_CANCEL_REQUESTED)
        return TY_RUN_CANCELED;
    return ev == TY_EV_EXITED_OK ? TY_RUN_COMPLETED : TY_RUN_FAILED;
}

static bool is_end_of_program(enum ty_run_event ev)
{
    return ev == TY_EV_EXITED_OK || ev == TY_EV_EXITED_BAD || ev == TY_EV_LOST;
}

/* Where the event leads; NotStarted: it cannot follow. */
static enum ty_run_state target_of(const struct ty_run *run, enum ty_run_event ev)
{
    enum ty_run_state to = (enum ty_run_state)next[run->state][ev];
    bool program_ended = run->outcome != TY_RUN_NOT_STARTED;

    if (to == TY_RUN_NOT_STARTED)
        return to;
    if (ev == TY_EV_HEARD)
        return run->heard;
    /* What has ended is neither canceled nor started again, though its node may be silent. */
    if (program_ended && ev == TY_EV_CANCEL)
        return run->state;
    if (program_ended && ev == TY_EV_REQUEUED)
        return TY_RUN_NOT_STARTED;
    /* Finalizing ends in the outcome whether everything was collected or not: what was lost is a warning. */
    if (run->state == TY_RUN_FINALIZING && (ev == TY_EV_COLLECTED || ev == TY_EV_LOST))
        return run->outcome;
    return to;
}

/* The facts that come with an event, beside the state. */
static void take_note(struct ty_run *run, enum ty_run_event ev, const struct ty_event_note *note)
{
    if (ev == TY_EV_SUBMITTED)
        run->created_us = note->at_us;
    if (ev == TY_EV_SUBMITTED || ev == TY_EV_REQUEUED)
        run->attempt++;
    if (ev == TY_EV_STARTED)
        run->started_us = note->at_us;
    if (ev == TY_EV_REQUEUED)
        run->started_us = 0;
    if (ev == TY_EV_EXITED_OK || ev == TY_EV_EXITED_BAD) {
        run->exit_code = note->exit_code;
        run->exit_signal = note->exit_signal;
    }
}

int ty_run_apply(struct ty_run *run, enum ty_run_event ev, const struct ty_event_note *note)
{
    enum ty_run_state to;

    if ((unsigned)run->state >= TY_RUN_STATE_COUNT || (unsigned)ev >= TY_EV_COUNT)
        return -EPROTO;
    to = target_of(run, ev);
    if (to == TY_RUN_NOT_STARTED)
        return -EPROTO;
    if (is_end_of_program(ev) && to == TY_RUN_FINALIZING && run->outcome == TY_RUN_NOT_STARTED)
        run->outcome = outcome_of(run, ev);
    if (ev == TY_EV_SILENT)
        run->heard = run->state;
    else if (to != TY_RUN_NOT_RESPONDING)
        run->heard = TY_RUN_NOT_STARTED;
    take_note(run, ev, note);
    run->state = to;
    if (ty_run_state_ended(to)) {
        run->outcome = to;
        run->ended_us = note->at_us;
    }
    return 0;
}

const char *ty_run_state_word(enum ty_run_state s)
{
    return state_words[s];
}
const char *ty_run_event_word(enum ty_run_event ev)
{
    return event_words[ev];
}

enum ty_run_state ty_run_state_parse(const char *word)
{
    for (int i = 0; i < TY_RUN_STATE_COUNT; i++)
        if (strcmp(state_words[i], word) == 0)
            return (enum ty_run_state)i;
    return TY_RUN_STATE_INVALID;
}

enum ty_run_event ty_run_event_parse(const char *word)
{
    for (int i = 0; i < TY_EV_COUNT; i++)
        if (strcmp(event_words[i], word) == 0)
            return (enum ty_run_event)i;
    return TY_EV_INVALID;
}
