/* environment.c - the job's environment: what its preparing child tells of it (build.c), and what becomes of that
 *
 *   building     how far it is: a record for people, at most one a second unless something else is done
 *   log          a line of the build log, which is there once something is built
 *   environment  it is there: held until the runner ends, told, and used when the ranks start
 *
 * Of other nodes the same comes as records of theirs (leading.c).
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "env/env.h"
#include "runner/runner_internal.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TOLD_US (1000 * 1000)

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* ---- the log ---- */

static void log_line(struct ty_runner *r, const char *text)
{
    CLEANUP_STR struct ty_str line = { 0 };
    struct ty_log *log = ty_logs_of_rank(&r->logs, TY_LOG_BUILD(r->job->node));
    struct ty_error err;

    if (!log && ty_logs_add(&r->logs, r->job, TY_LOG_BUILD(r->job->node), &err) < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.text);
        return;
    }
    log = ty_logs_of_rank(&r->logs, TY_LOG_BUILD(r->job->node));
    ty_str_addf(&line, "%s\n", text);
    if (!line.failed && ty_write_all(log->tail.fd, line.text, line.len) < 0)
        ty_log(TY_LOG_WARN, "cannot write to the build log: %m");
}

/* ---- how far it is ---- */

static void building(struct ty_runner *r, const json_t *line)
{
    struct ty_job_env *e = &r->env;
    const char *doing = text_of(line, "doing");
    int percent = (int)json_integer_value(json_object_get(line, "percent"));

    if (!doing || (strcmp(doing, e->doing) == 0 &&
                   (percent == e->percent || r->now_us < e->told_us + TOLD_US)))
        return;
    snprintf(e->doing, sizeof e->doing, "%s", doing);
    e->percent = percent;
    e->told_us = r->now_us;
    ty_environment_building(r, r->job->node, line);
}

void ty_environment_building(struct ty_runner *r, int node, const json_t *told)
{
    const char *doing = text_of(told, "doing");

    if (doing)
        ty_runner_record(r, json_pack("{s:s, s:O?, s:s, s:s}", "kind", "building", "percent",
                                      json_object_get(told, "percent"), "doing", doing, "node",
                                      r->job->nodes[node].name));
}

/* ---- it is there, or it will not be ---- */

static void fail(struct ty_runner *r)
{
    r->env.failed = true;
    r->env.failed_node = r->job->node;
}

/* In words, for the control log. */
static void note(struct ty_runner *r, const json_t *record)
{
    const json_t *torch = json_object_get(record, "torch");
    CLEANUP_STR struct ty_str s = { 0 };

    ty_str_addf(&s, "environment: python %s (%s)",
                text_of(record, "python") ? text_of(record, "python") : "?", r->env.interpreter);
    if (text_of(torch, "version"))
        ty_str_addf(&s, ", torch %s", text_of(torch, "version"));
    if (json_is_true(json_object_get(record, "built")))
        ty_str_addf(&s, ", built in %.1f s", json_number_value(json_object_get(record, "seconds")));
    else if (r->env.prefix)
        ty_str_add(&s, ", from the cache");
    if (!s.failed)
        ty_runner_note(r, "%s", s.text);
}

/* The builder's own hold came with its word: in between nobody can have removed the prefix. */
static int hold(struct ty_runner *r)
{
    if (!r->env.prefix)
        return 0;
    if (r->child.passed < 0)
        return -EPROTO;
    r->env.hold = TAKE_FD(r->child.passed);
    return access(r->env.prefix, F_OK) < 0 ? -errno : 0;
}

/* Which PyTorch is used is not always the one that was asked for.  Of the first node the daemon warns, which gets its record. */
static void warn(struct ty_runner *r, const json_t *record)
{
    const json_t *torch = json_object_get(record, "torch");
    const char *reason = text_of(torch, "reason");

    if (!reason || !json_is_true(json_object_get(torch, "warning")))
        return;
    if (r->job->node == 0)
        ty_runner_note(r, "warning: %s", reason);
    else
        ty_runner_warning(r, reason);
}

static char *copy(const json_t *line, const char *key)
{
    const char *text = text_of(line, key);

    return text ? strdup(text) : NULL;
}

static void there(struct ty_runner *r, const json_t *line)
{
    json_t *record = json_object_get(line, "record");
    int got;

    ty_environment_done(r);
    r->env.interpreter = copy(line, "interpreter");
    r->env.prefix = copy(line, "prefix");
    r->env.path = copy(line, "path");
    r->env.variables = json_incref(json_object_get(line, "variables"));
    got = r->env.interpreter ? hold(r) : -EPROTO;
    if (got < 0) {
        free(r->failure);
        fail(r);
        r->failure =
            ty_strf("the environment '%s' was there and cannot be used: %s; submit the run "
                    "again, and it is built anew",
                    r->env.prefix ? r->env.prefix : "(none)", strerror(-got));
        return;
    }
    note(r, record);
    warn(r, record);
    ty_environment_there(r, r->job->node, record);
}

void ty_environment_there(struct ty_runner *r, int node, json_t *record)
{
    static const char *const bulky[] = { "satisfied", "lock" };

    if (!json_is_object(record))
        return;
    json_object_set_new(record, "node", json_string(r->job->nodes[node].name));
    for (size_t i = 0;; i++) {
        if (ty_runner_record(r, json_pack("{s:s, s:i, s:O}", "kind", "environment", "node", node,
                                          "record", record)) ||
            i == sizeof bulky / sizeof *bulky)
            return;
        /* Longer than a record may be: people see the rest. */
        json_object_del(record, bulky[i]);
        if (i == 0)
            ty_runner_warning(r, "the record of the environment is too long, and not complete");
    }
}

void ty_environment_hear(struct ty_runner *r, const char *kind, json_t *line)
{
    const char *text = text_of(line, "text");

    if (strcmp(kind, "log") == 0 && text)
        log_line(r, text);
    else if (strcmp(kind, "building") == 0)
        building(r, line);
    else if (strcmp(kind, "environment") == 0)
        there(r, line);
    else if (strcmp(kind, "failed") == 0 && text_of(line, "of") &&
             strcmp(text_of(line, "of"), "environment") == 0)
        fail(r);
}

void ty_environment_done(struct ty_runner *r)
{
    struct ty_job_env *e = &r->env;

    if (e->hold >= 0)
        close(e->hold);
    free(e->interpreter);
    free(e->prefix);
    free(e->path);
    json_decref(e->variables);
    e->interpreter = e->prefix = e->path = NULL;
    e->variables = NULL;
    e->hold = -1;
}
