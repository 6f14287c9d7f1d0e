/* life.c - prepare -> run -> collect -> deliver
 *
 *   preparing   a child unpacks the snapshot and brings the data
 *   running     the wrapper runs the program
 *   exited      nothing of the job is left running; the record `exited` is there
 *   collecting  a child keeps the files
 *   collected   the record `collected` is there; what remains is delivery
 *
 * The word is in the file `phase` before what it names begins: a job is started once at most.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/proc.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "data/rclone.h"
#include "runner/allocation.h"
#include "runner/collect.h"
#include "runner/prepare.h"
#include "runner/rank.h"
#include "runner/runner_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARKED_KILL_US (5 * 1000 * 1000)
#define WRAPPER_END_US (6 * 1000 * 1000) /* a little more than it takes itself */
#define FAILED_MAX 4096                  /* bytes of what run.fail() says */
#define COLLECTIONS_MAX 3                /* times that a collection which was killed is begun */

static const char *const reasons[TY_ENDING_COUNT] = {
    [TY_ENDING_SCRIPT] = "script",           [TY_ENDING_CANCEL] = "cancel",
    [TY_ENDING_TIME_LIMIT] = "time_limit",   [TY_ENDING_PREPARE] = "prepare",
    [TY_ENDING_ENVIRONMENT] = "environment", [TY_ENDING_LOST] = "lost",
    [TY_ENDING_NODE_LOST] = "node_lost",     [TY_ENDING_HANG] = "hang",
};

void ty_life_phase(struct ty_runner *r, enum ty_phase p)
{
    int got = ty_phase_write(r->job->dir, p);

    /* Behind `preparing`, the records say how far the job is: the word is for people then. */
    if (got < 0)
        ty_log(TY_LOG_WARN, "cannot write the phase '%s': %s", ty_phase_word(p), strerror(-got));
    r->phase = p;
}

const char *ty_life_program(const struct ty_runner *r)
{
    return r->job->spec->script ? "script" : "command";
}

static void collect(struct ty_runner *r)
{
    struct ty_error err;

    ty_life_phase(r, TY_PHASE_collecting);
    if (ty_child_start(&r->child, ty_collect, r->job, &err) == 0)
        return;
    ty_runner_warning(r, err.text);
    ty_life_child(r);
}

/* The end of the log of whoever ended the job, else of the first rank. */
static json_t *quote(const struct ty_runner *r)
{
    const struct ty_log *log = &r->logs.at[TY_LOG_DRIVER];
    const struct ty_log *its =
        r->culprit >= 0 ? ty_logs_of_rank(&r->logs, r->ranks.at[r->culprit].plan.rank)
        : r->env.failed ? ty_logs_of_rank(&r->logs, TY_LOG_BUILD(r->env.failed_node))
                        : NULL;
    char buf[TY_LOGTAIL_QUOTE];
    size_t n = ty_logtail_quote(&(its ? its : log)->tail, buf);

    return ty_lossy_text(buf, n);
}

/* Which rank ended the job, where there are several. */
static void name_culprit(const struct ty_runner *r, json_t *o)
{
    const struct ty_rank_plan *who = r->culprit >= 0 ? &r->ranks.at[r->culprit].plan : NULL;

    if (!who || r->job->size == 1)
        return;
    json_object_set_new(o, "rank", json_integer(who->rank));
    json_object_set_new(o, "node", json_string(r->job->nodes[who->node].name));
}

/* Everything that descends from the runner ends.  The helpers too: the one that syncs is started anew. */
int ty_life_kill_all(struct ty_runner *r)
{
    int got = ty_tree_kill(TY_TREE_KILL_MS, ty_runner_reaped, r);

    ty_child_kill(&r->syncer);
    ty_sampling_end(r);
    return got;
}

/* What run.fail() in the script has left in the folder of the row spools: a sentence; NULL: it was not called. */
char *ty_life_declared(const struct ty_runner *r)
{
    CLEANUP_FREE char *path = ty_path_join(r->job->spool, "failed");
    CLEANUP_FREE char *text = NULL;
    int got = -ENOMEM;

    ty_owner_enter(r->job->owner);
    if (path)
        got = ty_read_foreign(path, FAILED_MAX, &text, NULL);
    ty_owner_leave(r->job->owner);
    if (got < 0)
        return NULL;
    text[strcspn(text, "\n")] = '\0';
    return ty_strf("the script called run.fail()%s%s", *text ? ": " : "", text);
}

/* Nothing of the job runs any more: say how it ended (status NULL: it never ran, or nobody knows). */
void ty_life_finish(struct ty_runner *r, const int *status, const char *message)
{
    bool good =
        status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0 && r->ending == TY_ENDING_SCRIPT;
    CLEANUP_FREE char *declared = !good         ? NULL
                                  : r->declared ? strdup(r->declared)
                                                : ty_life_declared(r);
    CLEANUP_FREE char *ended = NULL;
    const char *by_slurm = good || !r->job->leads ? NULL : ty_allocation_end(r->job->json, &ended);
    json_t *o = json_pack("{s:s, s:s}", "kind", "exited", "reason",
                          by_slurm ? by_slurm : reasons[r->ending]);

    if (status && WIFEXITED(*status))
        json_object_set_new(o, "exit_code", json_integer(WEXITSTATUS(*status)));
    else if (status)
        json_object_set_new(o, "exit_signal", json_integer(WTERMSIG(*status)));
    if (by_slurm && ended)
        message = ended;
    if (declared) {
        good = false;
        message = declared;
        json_object_set_new(o, "failed", json_true());
    }
    if (!good) {
        json_object_set_new(o, "message", ty_lossy_text(message, strlen(message)));
        json_object_set_new(o, "log_tail", quote(r));
    }
    if (r->ending == TY_ENDING_LOST && r->rebooted)
        json_object_set_new(o, "rebooted", json_true());
    if (r->ending == TY_ENDING_NODE_LOST)
        json_object_set_new(o, "node", json_string(r->job->nodes[r->lost_node].name));
    name_culprit(r, o);
    ty_leading_end(r, 0);
    r->limit_us = r->kill_us = r->verdict_us = TY_NEVER;
    r->rescan = true;
    r->rows_due_us = r->hold_us = 0;
    ty_helpers_stop(r);
    ty_runner_note(r, "%s", message);
    if (ty_runner_record(r, o) == 0)
        ty_log(TY_LOG_ERROR, "the record of the job's end could not be made: out of memory");
    ty_life_phase(r, TY_PHASE_exited);
    collect(r);
}

void ty_life_fail(struct ty_runner *r, const char *message)
{
    if (r->ending == TY_ENDING_SCRIPT)
        r->ending = r->env.failed ? TY_ENDING_ENVIRONMENT : TY_ENDING_PREPARE;
    ty_life_finish(r, NULL,
                   r->ending == TY_ENDING_CANCEL ? "the run was canceled before it started"
                                                 : message);
}

void ty_life_begin(struct ty_runner *r)
{
    int got = ty_phase_write(r->job->dir, TY_PHASE_preparing);
    struct ty_error err;

    r->phase = TY_PHASE_preparing;
    if (r->job->attempt > 1)
        ty_runner_note(r, "preparing run %s, attempt %" PRId64, r->job->run, r->job->attempt);
    else
        ty_runner_note(r, "preparing run %s", r->job->run);
    if (got < 0) {
        ty_error_set(&err, got, "cannot write to the job folder '%s': %s", r->job->dir,
                     strerror(-got));
        ty_life_fail(r, err.text);
    } else if ((r->job->leads ? ty_child_start(&r->child, ty_prepare, r->job, &err)
                              : ty_node_prepare(r, &err)) < 0 ||
               ty_helpers_start(r, &err) < 0) {
        ty_child_kill(&r->child);
        ty_life_fail(r, err.text);
    }
}

/* --- the child: preparing or collecting --- */

static void told(json_t *line, void *ctx)
{
    struct ty_runner *r = ctx;
    const char *kind = json_string_value(json_object_get(line, "kind"));
    const char *text = json_string_value(json_object_get(line, "text"));

    if (!kind)
        return;
    ty_environment_hear(r, kind, line);
    if (text && strcmp(kind, "note") == 0)
        ty_runner_note(r, "%s", text);
    else if (text && strcmp(kind, "warning") == 0)
        ty_runner_warning(r, text);
    else if (text && strcmp(kind, "failed") == 0 && !r->failure)
        r->failure = strdup(text);
    else if (strcmp(kind, "artifact") == 0) {
        ty_runner_record(r, json_incref(line));
        ty_leading_artifact(r, line);
    } else if (strcmp(kind, "mount") == 0) {
        /* It serves the job, and is ended when what was written there is sent. */
        (void)ty_tree_spare((pid_t)json_integer_value(json_object_get(line, "pid")));
    } else if (strcmp(kind, "data") == 0) {
        ty_runner_record(r, json_incref(line));
    }
}

static void prepared(struct ty_runner *r, bool failed)
{
    if (failed || r->failure || r->ending != TY_ENDING_SCRIPT) {
        ty_life_fail(r, r->failure ? r->failure : "the process that prepared the run was killed");
        return;
    }
    r->prepared = true;
    ty_life_ready(r);
}

/* The child, and all that it has started to build the environment. */
static void stop_preparing(struct ty_runner *r)
{
    bool there = r->child.pid != 0;

    ty_child_kill(&r->child);
    if (there)
        ty_life_kill_all(r);
}

/* The files are there, and so are the helpers, on every node: then the ranks start. */
void ty_life_ready(struct ty_runner *r)
{
    if (r->phase != TY_PHASE_preparing)
        return;
    if (r->failure) {
        stop_preparing(r);
        ty_life_fail(r, r->failure);
    } else if (r->prepared && ty_helpers_ready(r)) {
        if (!r->job->leads)
            ty_node_ready(r);
        if (r->job->leads ? !ty_leading_ready(r) : !r->gone)
            return;
        ty_leading_go(r);
        ty_start_ranks(r);
    }
}

void ty_life_conclude(struct ty_runner *r)
{
    uint64_t dropped = ty_rows_dropped(r->rows);
    CLEANUP_FREE char *text = NULL;

    if (!r->own_collected || r->phase == TY_PHASE_collected || !ty_leading_over(r))
        return;
    if (dropped > 0 &&
        (text =
             ty_strf("%" PRIu64 " logged values were dropped: more than %u MiB waited to be stored",
                     dropped, TY_SPOOL_UNACKED_MAX >> 20)))
        ty_runner_warning(r, text);
    ty_deliver_limits(r);
    ty_runner_note(r, "done");
    r->collected_seq = ty_runner_record(r, json_pack("{s:s}", "kind", "collected"));
    r->rescan = true;
    r->rows_due_us = r->hold_us = 0;
    ty_life_phase(r, TY_PHASE_collected);
}

static void collected(struct ty_runner *r, bool failed)
{
    if (failed && ++r->collections < COLLECTIONS_MAX) {
        ty_runner_note(r, "the process that collects files has ended early; it is started again");
        collect(r); /* it leaves out what is kept already */
        return;
    }
    if (failed)
        ty_runner_warning(
            r, "the files of the run are not complete: the process that collects them was killed");
    r->own_collected = true;
    ty_leading_take(r);
    ty_life_conclude(r);
}

void ty_life_child(struct ty_runner *r)
{
    bool failed = true;

    if (r->child.pid && ty_child_read(&r->child, told, r, &failed) == 0)
        return;
    if (r->phase == TY_PHASE_preparing)
        prepared(r, failed);
    else
        collected(r, failed);
}

/* --- ending it early --- */

static void kill_tree(struct ty_runner *r)
{
    ty_runner_note(r, "ending what is left with SIGKILL");
    r->kill_us = TY_NEVER;
    /* The wrappers go too; their lines end, and whoever follows them finds nothing left. */
    ty_life_kill_all(r);
}

void ty_life_end(struct ty_runner *r, enum ty_ending why, int64_t grace_us)
{
    if (r->phase > TY_PHASE_running)
        return;
    if (r->ending != TY_ENDING_SCRIPT || r->culprit >= 0) {
        if (!r->job->leads && r->kill_us > r->now_us + grace_us)
            r->kill_us = r->now_us + grace_us;
        return;
    }
    r->ending = why;
    r->limit_us = r->verdict_us = TY_NEVER;
    if (r->phase == TY_PHASE_preparing) {
        stop_preparing(r);
        ty_life_fail(r, "");
        return;
    }
    ty_runner_note(r, "%s: SIGTERM to all processes, SIGKILL in %" PRId64 " %s",
                   why == TY_ENDING_CANCEL       ? "canceled"
                   : why == TY_ENDING_HANG       ? r->hang.message
                   : why == TY_ENDING_TIME_LIMIT ? "time limit reached"
                                                 : "the job cannot go on",
                   grace_us % 1000000 ? grace_us / 1000 : grace_us / 1000000,
                   grace_us % 1000000 ? "ms" : "seconds");
    ty_leading_end(r, grace_us / 1000);
    ty_tree_signal(SIGTERM);
    r->kill_us = r->now_us + grace_us;
}

void ty_life_cancel(struct ty_runner *r, enum ty_ending why)
{
    ty_life_end(r, why, r->job->cancel_grace_seconds * 1000000);
}

void ty_life_timers(struct ty_runner *r)
{
    if (r->now_us >= r->limit_us)
        ty_life_cancel(r, TY_ENDING_TIME_LIMIT);
    if (r->now_us >= r->verdict_us)
        ty_follow_judge(r);
    if (r->now_us >= r->kill_us)
        kill_tree(r);
}

int64_t ty_life_due(const struct ty_runner *r)
{
    int64_t us = r->limit_us < r->kill_us ? r->limit_us : r->kill_us;

    return us < r->verdict_us ? us : r->verdict_us;
}

void ty_life_stop(struct ty_runner *r)
{
    CLEANUP_FREE char *data = ty_path_join(r->job->dir, "data");

    ty_child_kill(&r->child);
    if (data && r->job->spec->ndata > 0 && ty_unmount_below(data) < 0)
        ty_log(TY_LOG_ERROR, "a mount below '%s' cannot be taken away", data);
    ty_tree_spare_none();
    ty_helpers_stop(r);
    ty_ranks_done(&r->ranks);
    ty_life_kill_all(r);
}

/* --- after another runner --- */

static void kill_marked(const struct ty_runner *r)
{
    int64_t end = ty_mono_us() + WRAPPER_END_US;

    /* The wrapper ends its whole tree when its runner is gone, also what has no mark: it is left the time for it. */
    while (ty_marked_count("TRAINYARD_JOB", r->job->dir, TY_RANK_COMM) > 0 && ty_mono_us() < end)
        usleep(2000);
    end = ty_mono_us() + MARKED_KILL_US;
    /* Not our children: all that can be done is to look until they are gone. */
    while (ty_marked_kill("TRAINYARD_JOB", r->job->dir) > 0 && ty_mono_us() < end)
        usleep(2000);
}

void ty_life_salvage(struct ty_runner *r, bool exited)
{
    char text[400];

    kill_marked(r);
    if (r->collected_seq) {
        ty_life_phase(r, TY_PHASE_collected);
        return;
    }
    if (exited) {
        collect(r);
        return;
    }
    r->ending = TY_ENDING_LOST;
    if (r->rebooted)
        snprintf(text, sizeof text, "the machine was restarted while the run was active");
    else if (r->job->size == 1)
        snprintf(text, sizeof text, "the runner was killed; the %s was ended with it",
                 ty_life_program(r));
    else if (r->job->own_nodes == r->job->nnodes)
        snprintf(text, sizeof text, "the runner was killed; all %d processes were ended with it",
                 r->job->size);
    else
        snprintf(text, sizeof text,
                 "the runner on node '%.256s' was killed; all %d processes were ended with it",
                 r->job->nodes[r->job->node].name, r->job->size);
    ty_life_finish(r, NULL, text);
}
