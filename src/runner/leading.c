/* leading.c - the job's other nodes, as its runner sees them: what lead.h tells, and what follows for the job
 *
 * Ranks of other nodes stand in the same table as those of this one (ranks.h); what is told of them comes from their agents.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/link_ends.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "runner/lead.h"
#include "runner/master.h"
#include "runner/runner_internal.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define OTHERS_KILL_MS 1000
#define SENTENCE_MAX 4096 /* bytes of what a node says of an end: a record has room for it */

static const char *name_of(const struct ty_runner *r, int node)
{
    return r->job->nodes[node].name;
}

static void tell_node(struct ty_runner *r, int node, const char *word)
{
    if (r->collected_seq)
        return; /* that was the last word */
    ty_runner_record(
        r, json_pack("{s:s, s:s, s:s}", "kind", "node", "node", name_of(r, node), "state", word));
}

/* --- ends --- */

/* Nobody will say any more how the ranks of that node ended. */
static void forget_ranks(struct ty_runner *r, int node)
{
    const struct ty_job_node *n = &r->job->nodes[node];

    for (int i = n->first; i < n->first + n->ranks && i < r->ranks.n; i++)
        if (!r->ranks.at[i].ended)
            ty_ranks_ended(&r->ranks, i, NULL, false, r->now_us);
}

static void end_all(struct ty_runner *r)
{
    r->limit_us = r->verdict_us = TY_NEVER;
    ty_leading_end(r, OTHERS_KILL_MS);
    ty_tree_signal(SIGTERM);
    if (r->kill_us > r->now_us + OTHERS_KILL_MS * 1000)
        r->kill_us = r->now_us + OTHERS_KILL_MS * 1000;
}

/* The job cannot go on, and `failure` says why, if it did not end before. */
static void give_up(struct ty_runner *r, int node)
{
    if (r->phase == TY_PHASE_preparing && r->failure)
        ty_life_ready(r);
    if (r->phase != TY_PHASE_running)
        return;
    if (r->failure)
        end_all(r);
    forget_ranks(r, node);
    ty_follow_judge(r);
}

static char *how_it_was_lost(const struct ty_runner *r, int node)
{
    const char *name = name_of(r, node);
    int64_t seconds = r->job->node_lost_seconds;

    if (!ty_lead_came(r->lead, node))
        return ty_strf("node '%s' did not come within %" PRId64 " s", name, seconds);
    if (ty_lead_closed(r->lead, node))
        return ty_strf("node '%s' was lost: Trainyard's agent on it has ended", name);
    return ty_strf("node '%s' was lost: it was not heard for %" PRId64 " s", name, seconds);
}

static void node_lost(struct ty_runner *r, int node)
{
    bool first = r->ending == TY_ENDING_SCRIPT && r->culprit < 0;

    ty_runner_note(r, "node '%s' is lost", name_of(r, node));
    if (r->phase > TY_PHASE_running) {
        if (r->phase < TY_PHASE_collected) {
            CLEANUP_FREE char *text = ty_strf(
                "node '%s' was lost before everything that it had was here; its files are not complete",
                name_of(r, node));

            if (text)
                ty_runner_warning(r, text);
        }
        ty_life_conclude(r);
        return;
    }
    if (first && !r->failure) {
        r->ending = TY_ENDING_NODE_LOST;
        r->lost_node = node;
        r->failure = how_it_was_lost(r, node);
    }
    give_up(r, node);
}

/* Somebody has ended the agent there, and its ranks with it or before they began. */
static void node_done(struct ty_runner *r, int node)
{
    const struct ty_job_node *n = &r->job->nodes[node];
    bool whole = r->phase > TY_PHASE_running;

    for (int i = n->first; i < n->first + n->ranks && i < r->ranks.n && !whole; i++)
        whole = r->ranks.at[i].ended;
    if (!whole && r->ending == TY_ENDING_SCRIPT && r->culprit < 0 && !r->failure)
        r->failure = ty_strf("node '%s' was ended before its processes had started", n->name);
    if (!whole)
        give_up(r, node);
    ty_life_conclude(r);
}

/* --- hooks --- */

static void on_state(void *ctx, int node, enum ty_node_state s)
{
    struct ty_runner *r = ctx;

    tell_node(r, node, ty_node_state_word(s));
    if (s == TY_NODE_READY) {
        ty_life_ready(r);
    } else if (s == TY_NODE_DONE) {
        node_done(r, node);
    }
    if (s == TY_NODE_LOST)
        node_lost(r, node);
}

static void on_silent(void *ctx, int node, bool silent)
{
    tell_node(ctx, node, silent ? "silent" : "heard");
}

static void rank_ended(struct ty_runner *r, int rank, const json_t *o)
{
    const json_t *status = json_object_get(o, "status");
    const char *failed = json_string_value(json_object_get(o, "failed")),
               *declared = json_string_value(json_object_get(o, "declared"));
    const json_t *wrapper = json_object_get(o, "wrapper");
    int value = (int)json_integer_value(status);

    if (failed && !r->failure)
        r->failure = strndup(failed, SENTENCE_MAX);
    if (declared && !r->declared)
        r->declared = strndup(declared, SENTENCE_MAX);
    if (json_is_integer(wrapper)) {
        r->ranks.at[rank].reaped = true;
        r->ranks.at[rank].wrapper_status = (int)json_integer_value(wrapper);
    }
    r->ranks.at[rank].oom_kills = (int)json_integer_value(json_object_get(o, "oom_kills"));
    ty_ranks_ended(&r->ranks, rank, json_is_integer(status) ? &value : NULL,
                   json_is_true(json_object_get(o, "victim")), r->now_us);
    ty_follow_judge(r);
}

/* The node's own word on its end matters only where it could not do its part. */
static void node_exited(struct ty_runner *r, int node, const json_t *o)
{
    const char *reason = json_string_value(json_object_get(o, "reason")),
               *message = json_string_value(json_object_get(o, "message"));

    bool build = reason && strcmp(reason, "environment") == 0;

    if (!reason || (!build && strcmp(reason, "prepare") != 0) || r->ending != TY_ENDING_SCRIPT ||
        r->culprit >= 0)
        return;
    if (!r->failure) {
        r->failure = ty_strf("node '%s': %.*s", name_of(r, node), SENTENCE_MAX,
                             message ? message : "it failed");
        r->env.failed = build;
        r->env.failed_node = node;
    }
    give_up(r, node);
}

static void on_told(void *ctx, int node, const json_t *o)
{
    struct ty_runner *r = ctx;
    const struct ty_job_node *n = &r->job->nodes[node];
    const char *kind = json_string_value(json_object_get(o, "kind")),
               *text = json_string_value(json_object_get(o, "text"));
    json_int_t rank = json_integer_value(json_object_get(o, "rank"));
    bool its_rank = rank >= n->first && rank < n->first + n->ranks && rank < r->ranks.n;

    if (!kind)
        return;
    if (strcmp(kind, "warning") == 0 && text) {
        CLEANUP_FREE char *whole = ty_strf("node '%s': %s", n->name, text);

        if (whole && !r->collected_seq)
            ty_runner_warning(r, whole);
    } else if (strcmp(kind, "rank_started") == 0 && its_rank) {
        ty_follow_started(r, (int)rank, (pid_t)json_integer_value(json_object_get(o, "pid")));
    } else if (strcmp(kind, "rank_ended") == 0 && its_rank) {
        rank_ended(r, (int)rank, o);
    } else if (strcmp(kind, "abort") == 0 && its_rank) {
        ty_follow_abort(r, (int)rank, (int)json_integer_value(json_object_get(o, "code")));
    } else if (strcmp(kind, "mpi") == 0) {
        const char *version = json_string_value(json_object_get(o, "version"));

        ty_mpi_has(r, node, version ? version : "");
    } else if (strcmp(kind, "building") == 0) {
        ty_environment_building(r, node, o);
    } else if (strcmp(kind, "environment") == 0) {
        CLEANUP_JSON json_t *record = json_deep_copy(json_object_get(o, "record"));

        ty_environment_there(r, node, record);
    } else if (strcmp(kind, "stalled") == 0) {
        ty_hang_told(r, node, o);
    } else if (strcmp(kind, "data") == 0 && !r->collected_seq) {
        ty_runner_record(r, json_copy((json_t *)o));
    } else if (strcmp(kind, "exited") == 0) {
        node_exited(r, node, o);
    }
}

static void on_artifact(void *ctx, int node, const char *path, const char *sha, uint64_t bytes)
{
    (void)node;
    ty_runner_record(ctx, json_pack("{s:s, s:s, s:s, s:I}", "kind", "artifact", "path", path,
                                    "sha256", sha, "bytes", (json_int_t)bytes));
}

static void on_warning(void *ctx, const char *text)
{
    struct ty_runner *r = ctx;

    if (!r->collected_seq)
        ty_runner_warning(r, text);
}

static void on_line(void *ctx, int node, const char *text, size_t n)
{
    struct ty_runner *r = ctx;
    CLEANUP_STR struct ty_str line = { 0 };

    ty_str_addf(&line, "[node %s] ", name_of(r, node));
    ty_str_addn(&line, text, n);
    ty_str_add(&line, "\n");
    if (!line.failed && write(r->logs.at[TY_LOG_CONTROL].tail.fd, line.text, line.len) < 0)
        ty_log(TY_LOG_WARN, "cannot write to the control log: %m");
}

static int on_log_fd(void *ctx, int rank)
{
    struct ty_runner *r = ctx;
    const struct ty_log *log = ty_logs_of_rank(&r->logs, rank);
    struct ty_error err;
    int got = log ? 0 : ty_logs_add(&r->logs, r->job, rank, &err);

    if (got < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.text);
        return got;
    }
    return ty_logs_of_rank(&r->logs, rank)->tail.fd;
}

static void on_fence(void *ctx, int node, const struct ty_frame *f)
{
    ty_mpi_fence(ctx, node, f);
}

static void fenced(struct ty_runner *r, const int *nodes, int n, const struct ty_frame *f)
{
    if (r->lead)
        ty_lead_fenced(r->lead, nodes, n, f);
}

static const struct ty_lead_hooks hooks = {
    .state = on_state,
    .silent = on_silent,
    .told = on_told,
    .artifact = on_artifact,
    .warning = on_warning,
    .line = on_line,
    .log_fd = on_log_fd,
    .fence = on_fence,
};

/* --- what life.c asks for --- */

bool ty_leading_trouble(const struct ty_runner *r)
{
    return r->lead && ty_lead_trouble(r->lead);
}

int ty_leading_open(struct ty_runner *r, struct ty_error *err)
{
    if (!r->job->leads || r->job->own_nodes == r->job->nnodes)
        return 0;
    r->mpi.fenced = fenced;
    return ty_lead_open(r->job, r->job->node_lost_seconds * 1000000, &hooks, r, r->now_us, &r->lead,
                        err);
}

bool ty_leading_ready(const struct ty_runner *r)
{
    return !r->lead || ty_lead_count(r->lead, TY_NODE_READY) == ty_lead_nodes(r->lead);
}

void ty_leading_go(struct ty_runner *r)
{
    struct ty_meeting *m = &r->meeting;

    if (!r->lead)
        return;
    m->port = ty_master_claim(&m->hold);
    snprintf(m->addr, sizeof m->addr, "%s", ty_lead_address(r->lead));
    if (ty_link_interface(m->addr, m->interface) < 0)
        *m->interface = '\0';
    ty_lead_go(r->lead, json_pack("{s:s, s:i, s:i, s:s}", "addr", m->addr, "port", m->port,
                                  "rendezvous", m->rendezvous, "secret", m->secret));
}

void ty_leading_end(struct ty_runner *r, int64_t grace_ms)
{
    if (r->lead)
        ty_lead_end(r->lead, grace_ms < UINT32_MAX ? (uint32_t)grace_ms : UINT32_MAX);
}

void ty_leading_artifact(struct ty_runner *r, const json_t *o)
{
    const char *path = json_string_value(json_object_get(o, "path")),
               *sha = json_string_value(json_object_get(o, "sha256"));

    if (r->lead && path && sha)
        ty_lead_own_artifact(r->lead, path, sha,
                             (uint64_t)json_integer_value(json_object_get(o, "bytes")));
}

void ty_leading_take(struct ty_runner *r)
{
    if (r->lead)
        ty_lead_take_artifacts(r->lead);
}

/* One that has not even come when the job is over has nothing, and finds nobody when it comes. */
bool ty_leading_over(const struct ty_runner *r)
{
    int over = 0;

    for (int s = 0; r->lead && s < TY_NODE_STATE_COUNT; s++)
        if (s == TY_NODE_WAITING || s == TY_NODE_DONE || s == TY_NODE_LOST)
            over += ty_lead_count(r->lead, (enum ty_node_state)s);
    return !r->lead || over == ty_lead_nodes(r->lead);
}

#define NODES_NAMED 3

/* What they had not sent is lost with the runner that gathered it, and they have ended as it has. */
void ty_leading_after(struct ty_runner *r, const json_t *settled)
{
    CLEANUP_STR struct ty_str names = { 0 };
    CLEANUP_FREE char *text = NULL;
    int n = 0;

    for (int i = r->job->own_nodes; i < r->job->nnodes; i++) {
        if (json_object_get(settled, name_of(r, i)))
            continue;
        if (n++ < NODES_NAMED)
            ty_str_addf(&names, "%s'%s'", n > 1 ? ", " : "", name_of(r, i));
        tell_node(r, i, ty_node_state_word(TY_NODE_LOST));
    }
    if (n > NODES_NAMED)
        ty_str_addf(&names, " and %d more", n - NODES_NAMED);
    if (n == 0 || names.failed)
        return;
    text = ty_strf("the files and logs of node%s %s may not be complete: the runner that gathered "
                   "them was killed",
                   n == 1 ? "" : "s", names.text);
    if (text)
        ty_runner_warning(r, text);
}

/* What the nodes had is on the disk here: they may go. */
void ty_leading_release(struct ty_runner *r)
{
    if (!r->lead || r->released || r->phase != TY_PHASE_collected ||
        ty_records_waiting(r->records) || ty_records_unsynced(r->records))
        return;
    r->released = true;
    ty_lead_release(r->lead);
}
