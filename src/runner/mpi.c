/* mpi.c - MPI jobs: the PMIx helper of this machine in the life of the runner
 *
 * For communicator Mpi alone.  The helper starts while the job is prepared, so that it costs no time; ranks wait for it,
 * but not without end.  Where it cannot be had the job runs all the same: what needs no MPI does not miss it.
 *
 * All logical nodes that this runner keeps on its machine are one node for MPI when they are all that the job has.
 * Otherwise each node of the job has a helper of its own, and their fences go through the leader: `fenced` and `came`
 * of struct ty_mpi lead there.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/str.h"
#include "runner/runner_internal.h"
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define CANNOT_MEET_KILL_US (1000 * 1000)
#define READY_US (10 * 1000 * 1000) /* what a busy machine may take; the helper needs some 15 ms */

static bool wanted(const struct ty_runner *r)
{
    return r->job->spec->comm == TY_COMM_MPI && r->job->size > 1;
}

/* Is the whole job on this machine? */
static bool one_machine(const struct ty_jobfile *j)
{
    return j->own_nodes == j->nnodes;
}

static int cpus_of(const struct ty_jobfile *j)
{
    cpu_set_t mine;
    int n = 0;

    for (int i = j->node; i < j->node + j->own_nodes; i++) {
        if (j->nodes[i].ncpus == 0)
            return sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : 0;
        n += j->nodes[i].ncpus;
    }
    return n;
}

/* Names are for people; what the library cannot take is replaced.  malloc'ed. */
static char *name_of(const struct ty_jobfile *j, int i)
{
    const char *name = j->nodes[i].name;

    return *name && !strpbrk(name, ",;") ? strdup(name) : ty_strf("node-%d", i);
}

struct layout {
    struct ty_pmix_node *nodes;
    int n;
};

static void layout_done(struct layout *l)
{
    for (int i = 0; i < l->n; i++)
        free((char *)l->nodes[i].name);
    free(l->nodes);
}

static int lay_out(const struct ty_jobfile *j, struct layout *l)
{
    int n = one_machine(j) ? 1 : j->nnodes;

    l->nodes = calloc((size_t)n, sizeof *l->nodes);
    for (; l->nodes && l->n < n; l->n++) {
        struct ty_pmix_node *to = &l->nodes[l->n];

        to->name = name_of(j, l->n);
        to->ranks = one_machine(j) ? j->size : j->nodes[l->n].ranks;
        if (!to->name)
            return -ENOMEM;
    }
    return l->nodes ? 0 : -ENOMEM;
}

static int start(struct ty_runner *r, struct ty_error *err)
{
    const struct ty_jobfile *j = r->job;
    CLEANUP(layout_done) struct layout l = { 0 };
    CLEANUP_FREE char *name = ty_strf("trainyard-%s-%lld", j->run, (long long)j->attempt);
    CLEANUP_FREE char *tmp = ty_strf("%s/pmix", j->tmp);
    struct ty_pmix_spec s = { .job_dir = j->dir,
                              .name_space = name,
                              .tmp = tmp,
                              .node = one_machine(j) ? 0 : j->node,
                              .cpus = cpus_of(j),
                              .owner = j->owner,
                              .err = STDERR_FILENO };

    if (!name || !tmp || lay_out(j, &l) < 0)
        return ty_error_oom(err);
    s.nodes = l.nodes;
    s.nnodes = l.n;
    if (j->leads && !one_machine(j) && !(r->mpi.fences = ty_fences_new(j->nnodes)))
        return ty_error_oom(err);
    return ty_pmix_start(&s, &r->mpi.helper, err);
}

/* The job goes on without. */
static void go_without(struct ty_runner *r, const char *why)
{
    r->mpi.settled = true;
    ty_runner_note(r, "no PMIx server for MPI programs: %s", why);
}

void ty_mpi_start(struct ty_runner *r)
{
    struct ty_error err = { 0 };

    if (!wanted(r))
        return;
    r->mpi.due_us = r->now_us + READY_US;
    if (start(r, &err) < 0)
        go_without(r, err.text);
}

bool ty_mpi_ready(const struct ty_runner *r)
{
    return !wanted(r) || r->mpi.settled;
}

int ty_mpi_fd(const struct ty_runner *r, short *events)
{
    *events = 0;
    return r->mpi.helper ? ty_pmix_fd(r->mpi.helper, events) : -1;
}

const char *const *ty_mpi_env(const struct ty_runner *r, const struct ty_rank_plan *p)
{
    int local = one_machine(r->job) ? p->rank : p->local_rank;

    return r->mpi.helper ? (const char *const *)ty_pmix_env(r->mpi.helper, local) : NULL;
}

/* ---- fences ---- */

static void fence_joined(struct ty_runner *r, const struct ty_fence_joined *j)
{
    struct ty_frame f = { .type = TY_FRAME_FENCED,
                          .name = j->key,
                          .name_len = strlen(j->key),
                          .body = j->blob,
                          .body_len = j->len };
    int first = j->nodes[0] == r->job->node;

    if (first && r->mpi.helper)
        ty_mpi_fenced(r, &f);
    if (r->mpi.fenced && j->nnodes > first)
        r->mpi.fenced(r, j->nodes + first, j->nnodes - first, &f);
}

/* They would wait for each other without end. */
static void cannot_meet(struct ty_runner *r, const char *node, int error)
{
    if (!r->failure)
        r->failure = ty_strf(
            "the MPI processes cannot meet: node '%s': %s", node,
            error == -ENOSPC
                ? "what they tell each other at the start is more than 1 MiB in all; use fewer "
                  "processes, or another backend (gloo, nccl)"
                : strerror(-error));
    ty_life_end(r, TY_ENDING_PREPARE, CANNOT_MEET_KILL_US);
}

void ty_mpi_fence(struct ty_runner *r, int node, const struct ty_frame *f)
{
    struct ty_fence_joined joined;
    int got = r->mpi.fences ? ty_fences_add(r->mpi.fences, node, f->name, f->name_len, f->count,
                                            f->body, f->body_len, &joined)
                            : -EINVAL;

    if (got == 1)
        fence_joined(r, &joined);
    else if (got < 0 && got != -EEXIST) /* a node that was away says again where it is */
        cannot_meet(r, r->job->nodes[node].name, got);
}

void ty_mpi_fenced(struct ty_runner *r, const struct ty_frame *f)
{
    int got = r->mpi.helper
                  ? ty_pmix_fence_done(r->mpi.helper, f->name, f->name_len, 1, f->body, f->body_len)
                  : -EPIPE;

    if (got < 0)
        ty_log(TY_LOG_ERROR, "the end of a fence of MPI is lost: %s", strerror(-got));
}

static void on_fence(struct ty_runner *r, const struct ty_pmix_event *ev)
{
    struct ty_frame f = { .type = TY_FRAME_FENCE,
                          .count = ev->nodes,
                          .name = ev->key,
                          .name_len = ev->key_len,
                          .body = ev->blob,
                          .body_len = ev->len };

    if (r->job->leads)
        ty_mpi_fence(r, r->job->node, &f);
    else if (ev->len > TY_FENCES_BYTES_MAX)
        cannot_meet(r, r->job->nodes[r->job->node].name, -ENOSPC);
    else if (r->mpi.came)
        r->mpi.came(r, &f);
}

/* ---- what the helper says ---- */

static void on_ready(struct ty_runner *r)
{
    r->mpi.settled = true;
    ty_runner_note(r, "MPI programs find each other through %s", ty_pmix_version(r->mpi.helper));
}

/* "Open MPI v4.1.4" of "Open MPI v4.1.4, package: ..."; how it was built does not matter. */
static size_t release(const char *version)
{
    return strcspn(version, ",");
}

static bool same_release(const char *a, const char *b)
{
    return release(a) == release(b) && strncmp(a, b, release(a)) == 0;
}

/* A program that speaks MPI would hang or break, and one that does not will not mind: so it is a warning. */
static void compare(struct ty_runner *r, int node)
{
    const struct ty_mpi *m = &r->mpi;

    for (int i = 0; i < r->job->nnodes && !r->mpi.differ; i++) {
        CLEANUP_FREE char *text = NULL;
        const char *a = m->versions[i], *b = m->versions[node];

        if (!a || same_release(a, b))
            continue;
        r->mpi.differ = true;
        text = ty_strf(
            "MPI programs need the same Open MPI on all nodes: node '%s' has %.*s, node '%s' has %.*s; "
            "install one version on both, or choose other nodes",
            r->job->nodes[i].name, *a ? (int)release(a) : 4, *a ? a : "none",
            r->job->nodes[node].name, *b ? (int)release(b) : 4, *b ? b : "none");
        if (text)
            ty_runner_warning(r, text);
    }
}

void ty_mpi_has(struct ty_runner *r, int node, const char *version)
{
    char *copy;

    if (!r->mpi.versions)
        r->mpi.versions = calloc((size_t)r->job->nnodes, sizeof *r->mpi.versions);
    copy = r->mpi.versions ? strdup(version) : NULL;
    if (!copy || node < 0 || node >= r->job->nnodes) {
        free(copy);
        return;
    }
    free(r->mpi.versions[node]);
    r->mpi.versions[node] = copy;
    compare(r, node);
}

static void on_mpi(struct ty_runner *r, const char *version)
{
    if (*version)
        ty_runner_note(r, "MPI on this machine: %s", version);
    else
        ty_runner_note(r, "there is no Open MPI 4 in the system's libraries of this machine");
    if (r->job->leads)
        ty_mpi_has(r, r->job->node, version);
    else
        ty_runner_record(r, json_pack("{s:s, s:s}", "kind", "mpi", "version", version));
}

static void on_event(struct ty_runner *r, const struct ty_pmix_event *ev)
{
    switch (ev->kind) {
    case TY_PMIX_IS_READY:
        on_ready(r);
        break;
    case TY_PMIX_IS_FAILED:
        go_without(r, ev->text);
        break;
    case TY_PMIX_HAS_MPI:
        on_mpi(r, ev->text);
        break;
    case TY_PMIX_HAS_FENCE:
        on_fence(r, ev);
        break;
    case TY_PMIX_HAS_ABORT:
        ty_follow_abort(r, ev->rank, ev->code);
        break;
    case TY_PMIX_HAS_NOTE:
        ty_runner_note(r, "%s", ev->text);
        break;
    }
}

void ty_mpi_hear(struct ty_runner *r)
{
    struct ty_pmix_event ev;
    int got = -EAGAIN;

    while (r->mpi.helper && (got = ty_pmix_next(r->mpi.helper, &ev)) == 0)
        on_event(r, &ev); /* it may have been the end of all */
    if (got == -EPIPE && !r->mpi.settled)
        go_without(r, "its process ended before it was ready (runner.log may say why)");
    else if (got == -EPIPE && r->phase == TY_PHASE_running && r->ending == TY_ENDING_SCRIPT &&
             r->culprit < 0)
        ty_runner_warning(
            r,
            "the PMIx server of this machine has ended before its time; MPI programs that still need it fail");
    ty_life_ready(r);
}

int64_t ty_mpi_due(const struct ty_runner *r)
{
    return r->mpi.helper && !r->mpi.settled ? r->mpi.due_us : TY_NEVER;
}

void ty_mpi_timer(struct ty_runner *r)
{
    if (r->now_us < ty_mpi_due(r))
        return;
    go_without(r, "its process is not ready after 10 seconds");
    ty_life_ready(r);
}

void ty_mpi_reaped(struct ty_runner *r, pid_t pid, int status)
{
    if (r->mpi.helper)
        ty_pmix_reaped(r->mpi.helper, pid, status);
}

void ty_mpi_stop(struct ty_runner *r)
{
    r->mpi.helper = ty_pmix_free(r->mpi.helper);
    r->mpi.fences = ty_fences_free(r->mpi.fences);
    for (int i = 0; r->mpi.versions && i < r->job->nnodes; i++)
        free(r->mpi.versions[i]);
    free(r->mpi.versions);
    r->mpi.versions = NULL;
}
