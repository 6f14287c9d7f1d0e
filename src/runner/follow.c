/* follow.c - what becomes of the ranks, up to the end of the last
 *
 * The first that ends badly ends the job: a moment is given to find out who was the first (verdict.h), then the others get
 * SIGTERM, and SIGKILL soon after.  A rank that ends well ends nothing.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/proc.h"
#include "base/str.h"
#include "runner/oom.h"
#include "runner/runner_internal.h"
#include "runner/verdict.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define NAMES_BYTES_MAX (16 * 1024) /* of nodes, in one record; a name may grow when it is quoted */
#define OTHERS_KILL_US (1000 * 1000) /* what is left to those that can do no more than end */
#define WRAPPER_END_US (1000 * 1000) /* from the end of a wrapper's line to that of the wrapper */

const char *ty_follow_who(const struct ty_runner *r, int i, char buf[320])
{
    const struct ty_rank_plan *p = &r->ranks.at[i].plan;

    if (r->job->size == 1)
        snprintf(buf, 320, "the %s", ty_life_program(r));
    else
        snprintf(buf, 320, "rank %d (node %.256s)", p->rank, r->job->nodes[p->node].name);
    return buf;
}

/* --- beginning --- */

/* As many as a record takes. */
static json_t *node_names(const struct ty_runner *r)
{
    json_t *list = json_array();
    size_t bytes = 0;

    for (int i = 0; i < r->job->nnodes && bytes < NAMES_BYTES_MAX; i++) {
        json_array_append_new(list, json_string(r->job->nodes[i].name));
        bytes += strlen(r->job->nodes[i].name) + sizeof "\"\",";
    }
    return list;
}

/* The job runs when all of its ranks do; one that ended before is told of all the same. */
static void tell_started(struct ty_runner *r)
{
    json_t *o;

    if (r->started_told || r->ranks.started == 0 || !r->job->leads)
        return;
    r->started_told = true;
    o = json_pack("{s:s, s:i}", "kind", "started", "pid", (int)r->ranks.at[0].pid);
    if (o && r->job->size > 1) {
        json_object_set_new(o, "ranks", json_integer(r->job->size));
        json_object_set_new(o, "nodes", node_names(r));
    }
    ty_runner_record(r, o);
    if (r->job->spec->max_run_seconds > 0 && r->ending == TY_ENDING_SCRIPT && r->culprit < 0)
        r->limit_us = r->now_us + r->job->spec->max_run_seconds * 1000000;
}

void ty_follow_started(struct ty_runner *r, int i, pid_t pid)
{
    ty_ranks_started(&r->ranks, i, pid);
    ty_node_rank_started(r, i);
    if (r->job->size == 1)
        ty_runner_note(r, "the %s is running as process %d", ty_life_program(r), (int)pid);
    else if (r->ranks.started == r->job->size)
        ty_runner_note(r, "all %d processes are running", r->ranks.n);
    else if (r->ranks.started == r->ranks.n)
        ty_runner_note(r, "%d of %d processes are running here", r->ranks.n, r->job->size);
    if (r->ranks.started == r->ranks.n) {
        tell_started(r);
        ty_sampling_begin(r);
    }
    if (r->ending != TY_ENDING_SCRIPT || r->culprit >= 0)
        ty_tree_signal(SIGTERM); /* it is over already, and there was nobody to tell */
}

/* --- ending --- */

/* " (the kernel has killed ...)", or "": what it killed may have been a child of the rank, or somebody else's. */
static const char *memory_text(const struct ty_member *m, char buf[128])
{
    *buf = '\0';
    if (m->oom_kills > 0)
        snprintf(buf, 128,
                 "; the kernel has killed %d process%s on its machine for want of memory since the "
                 "job began",
                 m->oom_kills, m->oom_kills == 1 ? "" : "es");
    return buf;
}

/* Why it ends although nobody let it; the rest of the sentence is how. */
static void how_it_ended(struct ty_runner *r, int status, char *buf, size_t n)
{
    char how[64], who[320], memory[128];

    if (r->culprit >= 0) {
        snprintf(buf, n, "%s %s%s%s", ty_follow_who(r, r->culprit, who),
                 r->culprit == r->mpi.aborted ? "called MPI_Abort and " : "",
                 ty_status_text(status, how), memory_text(&r->ranks.at[r->culprit], memory));
        return;
    }
    if (r->job->size == 1)
        snprintf(who, sizeof who, "the %s %s", ty_life_program(r), ty_status_text(status, how));
    else if (r->job->leads)
        snprintf(who, sizeof who, "its %d processes have ended", r->job->size);
    else /* what became of the others only the leader knows */
        snprintf(who, sizeof who, "its %d process%s here ha%s ended", r->ranks.n,
                 r->ranks.n == 1 ? "" : "es", r->ranks.n == 1 ? "s" : "ve");
    if (r->ending == TY_ENDING_CANCEL)
        snprintf(buf, n, "the run was canceled; %s", who);
    else if (r->ending == TY_ENDING_TIME_LIMIT)
        snprintf(buf, n,
                 "the run reached its time limit of %" PRId64 " s (max_run_duration_seconds); %s",
                 r->job->spec->max_run_seconds, who);
    else if (r->job->size == 1 || !r->job->leads)
        snprintf(buf, n, "%s", who);
    else
        snprintf(buf, n, "all %d processes ended well", r->job->size);
}

/* The wrapper is the last of its rank to go, unless it was killed itself. */
static void lost(struct ty_runner *r, int i)
{
    char text[800], how[64] = "is gone", who[320];

    ty_follow_who(r, i, who);
    if (r->ranks.at[i].reaped)
        ty_status_text(r->ranks.at[i].wrapper_status, how);
    r->ending = TY_ENDING_LOST;
    if (r->job->size == 1)
        snprintf(text, sizeof text, "the process that watched %s %s; %s was ended with it", who,
                 how, who);
    else
        snprintf(text, sizeof text,
                 "the process that watched %s %s; all processes were ended with it", who, how);
    ty_life_finish(r, NULL, text);
}

/* What to call the status of a job that somebody else ended: the first rank's, if anybody knows it. */
static int any_status(const struct ty_runner *r)
{
    for (int i = 0; i < r->ranks.n; i++)
        if (r->ranks.at[i].reported)
            return r->ranks.at[i].status;
    return SIGKILL; /* as a wait status: killed by it */
}

static void all_ended(struct ty_runner *r)
{
    char text[640];
    int status;

    if (ty_life_kill_all(r) < 0)
        ty_runner_warning(r, "some processes of the run did not end within 5 seconds of SIGKILL");
    if (r->failure) {
        ty_life_fail(r, r->failure);
        return;
    }
    tell_started(r);
    if (r->ending == TY_ENDING_HANG) {
        ty_life_finish(r, NULL, r->hang.message ? r->hang.message : "the processes hung");
        return;
    }
    if (r->culprit >= 0 && !r->ranks.at[r->culprit].reported) {
        lost(r, r->culprit);
        return;
    }
    status = r->culprit >= 0 ? r->ranks.at[r->culprit].status : any_status(r);
    how_it_ended(r, status, text, sizeof text);
    ty_life_finish(r, &status, text);
}

static void end_others(struct ty_runner *r)
{
    char who[320];

    r->limit_us = r->verdict_us = TY_NEVER;
    if (r->ranks.ended == r->ranks.n)
        return;
    ty_runner_note(r, "%s has ended the job: SIGTERM to the other processes",
                   ty_follow_who(r, r->culprit, who));
    ty_leading_end(r, OTHERS_KILL_US / 1000);
    ty_tree_signal(SIGTERM);
    r->kill_us = r->now_us + OTHERS_KILL_US;
}

/* Who called MPI_Abort ends by itself, with the code that it gave; that is waited for, but not without end. */
static int judge_abort(struct ty_runner *r)
{
    int64_t due = r->mpi.aborted_us + TY_VERDICT_WAIT_US;

    if (r->ranks.at[r->mpi.aborted].ended || r->now_us >= due)
        return r->mpi.aborted;
    r->verdict_us = due;
    return -1;
}

void ty_follow_abort(struct ty_runner *r, int rank, int code)
{
    int i = 0;

    while (i < r->ranks.n && r->ranks.at[i].plan.rank != rank)
        i++;
    if (i == r->ranks.n || r->mpi.aborted >= 0 || r->phase != TY_PHASE_running)
        return;
    if (!r->job->leads) {
        ty_runner_record(r,
                         json_pack("{s:s, s:i, s:i}", "kind", "abort", "rank", rank, "code", code));
        return;
    }
    ty_runner_note(r, "rank %d called MPI_Abort with code %d", rank, code);
    r->mpi.aborted = i;
    r->mpi.aborted_us = r->now_us;
    ty_follow_judge(r);
}

void ty_follow_judge(struct ty_runner *r)
{
    r->verdict_us = TY_NEVER;
    if (r->phase != TY_PHASE_running)
        return;
    if (r->job->leads && r->ending == TY_ENDING_SCRIPT && r->culprit < 0 &&
        (r->ranks.bad > 0 || r->mpi.aborted >= 0)) {
        r->culprit =
            r->mpi.aborted >= 0 ? judge_abort(r) : ty_verdict(&r->ranks, r->now_us, &r->verdict_us);
        /* One that is to blame has not ended yet, as far as is known. */
        if (r->culprit >= 0 && r->ranks.at[r->culprit].victim && r->ranks.ended < r->ranks.n &&
            ty_leading_trouble(r)) {
            r->culprit = -1;
            r->verdict_us = r->now_us + TY_VERDICT_WAIT_US;
        }
        if (r->culprit >= 0)
            end_others(r);
    }
    if (r->ranks.ended == r->ranks.n)
        all_ended(r);
}

/* Did it leave word that it ends because another rank has gone? */
static bool is_victim(const struct ty_runner *r, int i)
{
    CLEANUP_FREE char *path = ty_strf("%s/victim.%d", r->job->spool, r->ranks.at[i].plan.rank);
    struct stat st;
    bool is;

    ty_owner_enter(r->job->owner);
    is = path && lstat(path, &st) == 0;
    ty_owner_leave(r->job->owner);
    return is;
}

/* How did the wrapper end?  A process that dies closes its line a moment before it can be waited for. */
static void reap_wrapper(struct ty_runner *r, const struct ty_member *m)
{
    int64_t end = ty_mono_us() + WRAPPER_END_US;

    for (;;) {
        ty_runner_reap(r);
        if (m->reaped || ty_mono_us() >= end)
            return;
        poll(NULL, 0, 1);
    }
}

/* Nothing else tells a rank that was killed by somebody from one that had taken too much memory. */
static void look_at_memory(const struct ty_runner *r, struct ty_member *m)
{
    int64_t kills = m->reported && m->status != 0 ? ty_oom_kills() : -1;

    if (kills >= 0 && kills > r->oom_kills)
        m->oom_kills = (int)(kills - r->oom_kills);
}

/* What one machine has, another may lack. */
static char *why_not_started(const struct ty_runner *r, int i, const char *text)
{
    const char *mends = strstr(text, strerror(ENOENT))
                            ? "; it has to be there, under this path, on "
                              "each machine that the run uses"
                            : "";
    char who[320];

    return r->job->size == 1 ? ty_strf("%s%s", text, mends)
                             : ty_strf("%s: %s%s", ty_follow_who(r, i, who), text, mends);
}

static void told(int i, const struct ty_report *report, void *ctx)
{
    struct ty_runner *r = ctx;
    struct ty_member *m = &r->ranks.at[i];

    if (!report) {
        if (!m->reported)
            reap_wrapper(r, m);
        look_at_memory(r, m);
        ty_ranks_ended(&r->ranks, i, m->reported ? &m->status : NULL, is_victim(r, i), r->now_us);
        ty_node_rank_ended(r, i);
    } else if (report->kind == TY_REPORT_STARTED) {
        ty_follow_started(r, i, report->value);
    } else if (report->kind == TY_REPORT_EXITED) {
        m->reported = true;
        m->status = report->value;
    } else if (!r->failure) {
        r->failure = why_not_started(r, i, report->text);
    }
}

void ty_follow_ranks(struct ty_runner *r)
{
    ty_ranks_hear(&r->ranks, told, r);
    ty_follow_judge(r);
}
