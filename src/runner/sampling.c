/* sampling.c - the runner's side of the helper that samples system metrics (sysmetrics.h)
 *
 * It begins a second after the ranks run: a job that is over by then costs nothing.  When it has written rows it says so; nobody
 * polls its spool.  A helper that fails is not started again: a run goes on without its system metrics.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "runner/runner_internal.h"
#include "runner/sysmetrics.h"
#include <errno.h>
#include <string.h>

#define BEGIN_US (1000 * 1000)
#define FIRST_SAMPLE_US (1000 * 1000)

void ty_sampling_begin(struct ty_runner *r)
{
    if (r->job->system_metrics_seconds > 0)
        r->sampler_due_us = r->now_us + BEGIN_US;
}

/* Of the ranks that run here: malloc'ed. */
static int wrappers(const struct ty_runner *r, struct ty_systree_rank **ret)
{
    struct ty_systree_rank *list = calloc((size_t)r->ranks.n + 1, sizeof *list);
    int n = 0;

    for (int i = 0; list && i < r->ranks.n; i++) {
        const struct ty_member *m = &r->ranks.at[i];

        if (m->wrapper.line >= 0 && !m->ended)
            list[n++] = (struct ty_systree_rank){ .rank = m->plan.rank, .wrapper = m->wrapper.pid };
    }
    *ret = list;
    return list ? n : -ENOMEM;
}

/* Those of all nodes that this runner runs; NULL: all of the machine, where nobody has chosen. */
static char *gpus_of(const struct ty_jobfile *j, bool *all)
{
    CLEANUP_STR struct ty_str s = { 0 };

    *all = json_array_size(json_object_get(j->json, "nodes")) == 0 && j->spec->use_gpu;
    for (int i = 0; i < j->own_nodes; i++)
        if (*j->nodes[j->node + i].gpus)
            ty_str_addf(&s, "%s%s", s.len ? "," : "", j->nodes[j->node + i].gpus);
    return s.len || s.failed ? ty_str_take(&s) : strdup("");
}

static void start(struct ty_runner *r)
{
    const struct ty_jobfile *j = r->job;
    struct ty_systree_rank *ranks = NULL;
    int n = wrappers(r, &ranks);
    struct ty_error err = { 0 };
    bool all = false;
    CLEANUP_FREE char *gpus = gpus_of(j, &all);

    if (n > 0 && gpus) {
        struct ty_sysmetrics m = {
            .spool = j->spool,
            .node = j->own_nodes < j->nnodes ? j->nodes[j->node].name : "",
            .gpus = all ? NULL : gpus,
            .seconds = j->system_metrics_seconds,
            .first_us = FIRST_SAMPLE_US,
            .owner = j->owner,
            .ranks = ranks,
            .nranks = n,
        };

        if (ty_child_start(&r->sampler, ty_sysmetrics_main, &m, &err) < 0)
            ty_log(TY_LOG_WARN, "system metrics are not sampled: %s", err.text);
    }
    free(ranks);
}

void ty_sampling_timers(struct ty_runner *r)
{
    if (r->now_us < r->sampler_due_us)
        return;
    r->sampler_due_us = TY_NEVER;
    if (r->phase == TY_PHASE_running && !r->sampler.pid)
        start(r);
}

static void told(json_t *line, void *ctx)
{
    const char *kind = json_string_value(json_object_get(line, "kind"));
    const json_t *writer = json_object_get(line, "writer");
    struct ty_runner *r = ctx;

    if (kind && strcmp(kind, "sampler") == 0 && json_is_integer(writer))
        ty_rows_quiet(r->rows, (uint32_t)json_integer_value(writer));
    r->rows_due_us = 0;
}

void ty_sampling_hear(struct ty_runner *r)
{
    bool failed = false;

    if (ty_child_read(&r->sampler, told, r, &failed) < 0 && failed)
        ty_log(TY_LOG_WARN, "the helper that samples system metrics has failed");
}

void ty_sampling_end(struct ty_runner *r)
{
    r->sampler_due_us = TY_NEVER;
    ty_child_kill(&r->sampler);
}
