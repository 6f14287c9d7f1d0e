/* record.c - what a runner says of its run: who it is, that it lives, and the records of what happened
 *
 * A record becomes events of the run, in the unit that stores that it was heard: each once, in order.
 */
#include "base/clock.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "sched/ask.h"
#include "sched/sched_internal.h"
#include "track/ingest.h"
#include <errno.h>
#include <string.h>

#define EVENTS_PER_READ 1000

static int on_hello(void *ctx, const char *run, const char *token, int64_t attempt, int64_t *run_id,
                    struct ty_error *err)
{
    struct ty_sched *s = ctx;
    struct live *l = live_find(s, run);

    if (l && l->token && strcmp(token, l->token) == 0)
        l->heard_us = ty_mono_us();                      /* it lives, whatever it is told */
    if (s->recovering || (l && l->stored_seq != l->seq)) /* what is in memory may not come true */
        return ty_error_set(err, -EAGAIN, "the state of run '%s' is being stored", run);
    if (!l || ty_run_state_ended(l->run.state))
        return ty_error_set(err, -ENOENT, "run '%s' is not known here, or has ended", run);
    if (attempt != (l->launched ? l->folder_attempt : l->run.attempt) || !l->token ||
        strcmp(token, l->token) != 0)
        return ty_error_set(err, -EACCES, "this is not the runner of run '%s'", run);
    *run_id = l->id;
    return 0;
}

static bool on_cancel_wanted(void *ctx, const char *run)
{
    struct live *l = live_find(ctx, run);

    return l && l->run.state == TY_RUN_CANCEL_REQUESTED;
}

static void on_heard(void *ctx, const char *run)
{
    struct live *l = live_find(ctx, run);
    int64_t now = ty_mono_us(), before;
    struct ty_unit *u;

    if (!l)
        return;
    before = l->heard_us;
    l->heard_us = now;
    if (l->run.state != TY_RUN_NOT_RESPONDING || json_object_size(l->silent) > 0)
        return;
    CLEANUP_JSON json_t *data =
        json_pack("{s:I}", "seconds", (json_int_t)((now - before) / 1000000));
    u = ty_unit_new();
    run_event(l, u, TY_EV_HEARD, 0, data);
    run_commit(l, u, NULL, NULL);
}

/* {"exit_code" | "exit_signal", "rank", "node", "error": {...}} from an `exited` record. */
static json_t *exit_data(const char *code, const json_t *record)
{
    static const char *const same[] = { "exit_code", "exit_signal", "rank", "node" };
    json_t *data = json_object(), *v;
    const char *message = json_string_value(json_object_get(record, "message"));

    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if ((v = json_object_get(record, same[i])))
            json_object_set(data, same[i], v);
    if (code)
        json_object_set_new(data, "error",
                            json_pack("{s:s s:s s:O?}", "code", code, "message",
                                      message ? message : code, "log_tail",
                                      json_object_get(record, "log_tail")));
    return data;
}

static void exited_by_limit(struct live *l, struct ty_unit *u, int64_t at_us, const json_t *record,
                            bool limit)
{
    CLEANUP_JSON json_t *why = json_pack("{s:s s:O?}", "reason", limit ? "time_limit" : "user",
                                         "message", json_object_get(record, "message"));
    CLEANUP_JSON json_t *data = exit_data(NULL, record);

    if (l->run.state != TY_RUN_CANCEL_REQUESTED)
        run_event(l, u, TY_EV_CANCEL, at_us, why);
    run_event(l, u, TY_EV_EXITED_BAD, at_us, data);
}

/* What an attempt ended by, beside a cancel and a limit. */
static const struct end {
    const char *reason, *code;
    enum ty_run_event event;
    enum ty_cause cause; /* TY_CAUSE_COUNT: no further attempt */
} ends[] = {
    { "prepare", "PreparationFailed", TY_EV_EXITED_BAD, TY_CAUSE_COUNT },
    { "environment", "EnvironmentBuildFailed", TY_EV_EXITED_BAD, TY_CAUSE_COUNT },
    { "lost", "RunnerLost", TY_EV_LOST, TY_CAUSE_node_lost },
    { "node_lost", "NodeLost", TY_EV_LOST, TY_CAUSE_node_lost },
    { "preempted", "Preempted", TY_EV_LOST, TY_CAUSE_preempted },
    { "out_of_memory", "OutOfMemory", TY_EV_EXITED_BAD, TY_CAUSE_error },
    { "hang", "Hang", TY_EV_EXITED_BAD, TY_CAUSE_error },
    { "signal", "ScriptKilled", TY_EV_EXITED_BAD, TY_CAUSE_error },
    { "script", "ScriptFailed", TY_EV_EXITED_BAD, TY_CAUSE_error },
};

static const struct end *end_of(const char *reason, const json_t *record)
{
    size_t n = sizeof ends / sizeof *ends;

    if (strcmp(reason, "script") == 0 && json_object_get(record, "exit_signal"))
        reason = "signal";
    for (size_t i = 0; i < n; i++)
        if (strcmp(ends[i].reason, reason) == 0)
            return &ends[i];
    return &ends[n - 1];
}

static void exited_badly(struct live *l, struct ty_unit *u, int64_t at_us, const char *reason,
                         const json_t *record)
{
    const struct end *end = end_of(reason, record);
    bool rebooted = strcmp(reason, "lost") == 0 &&
                    (l->rebooted || json_is_true(json_object_get(record, "rebooted")));
    CLEANUP_JSON json_t *data = exit_data(rebooted ? "Rebooted" : end->code, record);
    json_t *error = json_object_get(data, "error");

    if (rebooted)
        json_object_set_new(error, "message",
                            json_string("the machine was restarted while the run was going on"));
    if (end->cause != TY_CAUSE_COUNT &&
        attempt_again(l, u, end->cause, at_us,
                      json_string_value(json_object_get(error, "message"))))
        return;
    run_event(l, u, end->event, at_us, data);
}

static void record_exited(struct live *l, struct ty_unit *u, int64_t at_us, const json_t *record)
{
    const char *reason = json_string_value(json_object_get(record, "reason"));
    bool bad = json_object_get(record, "exit_signal") ||
               json_integer_value(json_object_get(record, "exit_code")) != 0 ||
               json_is_true(json_object_get(record, "failed"));

    if (!reason)
        reason = "script";
    /* An end is an end, whichever of its nodes is not heard. */
    json_object_clear(l->silent);
    if (l->run.state == TY_RUN_NOT_RESPONDING)
        run_event(l, u, TY_EV_HEARD, at_us, NULL);
    if (strcmp(reason, "time_limit") == 0 || strcmp(reason, "cancel") == 0) {
        exited_by_limit(l, u, at_us, record, *reason == 't');
    } else if (bad || strcmp(reason, "script") != 0) {
        exited_badly(l, u, at_us, reason, record);
    } else {
        CLEANUP_JSON json_t *data = exit_data(NULL, record);

        run_event(l, u, TY_EV_EXITED_OK, at_us, data);
    }
}

static void record_collected(struct live *l, struct ty_unit *u, int64_t at_us)
{
    if (attempt_leaves(l))
        return; /* of the attempt before: the run goes on */
    if (l->run.state != TY_RUN_FINALIZING)
        run_event(l, u, TY_EV_LOST, at_us, NULL);
    run_event(l, u, TY_EV_COLLECTED, at_us, NULL);
}

static json_t *pick(const json_t *record, const char *a, const char *b, const char *c)
{
    const char *const keys[] = { a, b, c };
    json_t *o = json_object();

    for (size_t i = 0; i < 3; i++)
        if (keys[i] && json_object_get(record, keys[i]))
            json_object_set(o, keys[i], json_object_get(record, keys[i]));
    return o;
}

/* How far a build is, for people: nothing of it is kept. */
static void building(struct live *l, const json_t *record)
{
    const char *doing = json_string_value(json_object_get(record, "doing")),
               *node = json_string_value(json_object_get(record, "node"));
    bool named = node && *node && l->spec->node_count > 1;

    free(l->building);
    l->building = !doing
                      ? NULL
                      : ty_strf("%s%s%s(%d %%, %.80s)", named ? "on node '" : "", named ? node : "",
                                named ? "' " : "",
                                (int)json_integer_value(json_object_get(record, "percent")), doing);
}

static void record_environment(struct live *l, struct ty_unit *u, const json_t *record)
{
    const json_t *node = json_object_get(record, "node"), *what = json_object_get(record, "record"),
                 *hash = json_object_get(what, "hash"), *seconds = json_object_get(what, "seconds"),
                 *torch = json_object_get(what, "torch");

    if (!json_is_integer(node) || json_integer_value(node) < 0 ||
        json_integer_value(node) >= TY_NODES_MAX || !json_is_object(what))
        return;
    ty_unit_environment(u, l->id, (int)json_integer_value(node), what);
    run_note(l, u, TY_NOTE_ENVIRONMENT,
             json_pack("{s:O s:s s:b s:f}", "node", node, "hash",
                       json_is_string(hash) ? json_string_value(hash) : "", "built",
                       json_is_true(json_object_get(what, "built")), "seconds",
                       json_number_value(seconds)));
    /* Another PyTorch than the one that was asked for; nodes of a kind say the same. */
    if (json_integer_value(node) == 0 && json_is_true(json_object_get(torch, "warning")))
        run_note(l, u, TY_NOTE_WARNED,
                 json_pack("{s:O}", "text", json_object_get(torch, "reason")));
}

static void record_started(struct live *l, struct ty_unit *u, int64_t at_us, const json_t *record)
{
    CLEANUP_JSON json_t *data = pick(record, "pid", "ranks", "nodes");
    int size = (int)ty_run_spec_size(l->spec);
    char name[TY_DRIVER_LOG_MAX];

    run_event(l, u, TY_EV_STARTED, at_us, data);
    /* There, even if the program never writes a byte. */
    for (int rank = 0; rank < size; rank++)
        ty_unit_log(u, l->id, l->name, ty_driver_log(rank, size, name), 0, "", 0, at_us);
}

/* The runner does not hear a node, or hears it again: so does whoever looks at the run. */
static void record_node(struct live *l, struct ty_unit *u, int64_t at_us, const json_t *record)
{
    const char *state = json_string_value(json_object_get(record, "state"));
    const char *node = json_string_value(json_object_get(record, "node"));
    CLEANUP_JSON json_t *data = pick(record, "node", "seconds", NULL);

    if (!state || !node)
        return;
    if (strcmp(state, "silent") == 0) {
        if (!l->silent)
            l->silent = json_object();
        json_object_set_new(l->silent, node, json_true());
        run_event(l, u, TY_EV_SILENT, at_us, data); /* nothing, when another is silent already */
    } else {
        json_object_del(l->silent, node);
        if (strcmp(state, "heard") == 0 && json_object_size(l->silent) == 0)
            run_event(l, u, TY_EV_HEARD, at_us, data);
    }
}

/* After a restart of the daemon: from which node does the runner hear nothing?  It tells of changes alone. */
void record_silence(struct live *l)
{
    CLEANUP_FREE char *name = NULL;
    int64_t after = 0;
    size_t n = EVENTS_PER_READ;

    while (n == EVENTS_PER_READ) {
        CLEANUP_JSON json_t *events = NULL;
        const json_t *e;
        size_t i;

        if (ty_store_events(l->sched->o.store, l->id, after, EVENTS_PER_READ, &events) < 0)
            return;
        n = json_array_size(events);
        json_array_foreach (events, i, e) {
            const char *kind = json_string_value(json_object_get(e, "kind")), *node;

            after = json_integer_value(json_object_get(e, "seq"));
            if (!kind || strcmp(kind, ty_run_event_word(TY_EV_SILENT)) != 0)
                continue;
            node = json_string_value(json_object_get(json_object_get(e, "data"), "node"));
            free(name);
            name = node ? strdup(node) : NULL;
        }
    }
    if (name)
        l->silent = json_pack("{s:b}", name, 1);
}

/* A machine that was lost, or could not be reached, gets no other run until it answers. */
static void blame_node(struct live *l, const char *reason, const json_t *record)
{
    const char *name = json_string_value(json_object_get(record, "node"));
    const char *message = json_string_value(json_object_get(record, "message"));
    CLEANUP_FREE char *why = ty_strf("was lost by run %s", l->name);

    if (!name ||
        (strcmp(reason, "node_lost") != 0 && !json_is_true(json_object_get(record, "unreachable"))))
        return;
    if (strcmp(reason, "node_lost") == 0)
        message = why;
    for (int i = 0; i < l->nholds; i++)
        if (strcmp(l->holds[i].node->name, name) == 0)
            node_fails(l->holds[i].node, message ? message : "cannot be reached", l->user);
}

static int on_record(void *ctx, const char *run, struct ty_unit *u, const json_t *record,
                     struct ty_error *err)
{
    struct live *l = live_find(ctx, run);
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const char *reason = json_string_value(json_object_get(record, "reason"));
    int64_t at_us = json_integer_value(json_object_get(record, "at_us"));

    if (!l || !kind)
        return ty_error_set(err, -EINVAL, "the record has no kind, or its run is gone");
    if (strcmp(kind, "started") == 0 || strcmp(kind, "exited") == 0 ||
        strcmp(kind, "environment") == 0) {
        free(l->building);
        l->building = NULL;
    }
    if (strcmp(kind, "started") == 0) {
        record_started(l, u, at_us, record);
    } else if (strcmp(kind, "exited") == 0) {
        record_exited(l, u, at_us, record);
        blame_node(l, reason ? reason : "", record);
    } else if (strcmp(kind, "node") == 0) {
        record_node(l, u, at_us, record);
    } else if (strcmp(kind, "warning") == 0) {
        run_note(l, u, TY_NOTE_WARNED, pick(record, "text", "hang", NULL));
    } else if (strcmp(kind, "artifact") == 0) {
        run_note(l, u, TY_NOTE_ARTIFACT, pick(record, "path", "sha256", "bytes"));
    } else if (strcmp(kind, "environment") == 0) {
        record_environment(l, u, record);
    } else if (strcmp(kind, "building") == 0) {
        building(l, record);
    } else if (strcmp(kind, "data") == 0) {
        /* A file of a data reference: whoever brought the record has brought the file to its datastore. */
    } else if (strcmp(kind, "collected") == 0) {
        record_collected(l, u, at_us);
    } else {
        return ty_error_set(err, -EINVAL, "no record has the kind '%s'", kind);
    }
    return 0;
}

static void on_note(void *ctx, const char *run, struct ty_unit *u, bool property, const char *key,
                    const json_t *value)
{
    struct live *l = live_find(ctx, run);

    if (!l)
        return;
    if (property ? !limits_property_fits(l) : !limits_tag_fits(l, key))
        limits_tell(l, u, property ? LIMIT_PROPERTIES : LIMIT_TAGS);
    else
        run_note(l, u, property ? TY_NOTE_PROPERTY : TY_NOTE_TAGGED,
                 json_pack("{s:s s:O}", "key", key, "value", value));
}

static int64_t on_queued(void *ctx, const char *run)
{
    struct live *l = live_find(ctx, run);

    if (!l)
        return 0;
    l->units++;
    return l->seq;
}

static void on_unit(void *ctx, const char *run, int r, int64_t seq)
{
    struct live *l = live_find(ctx, run);

    if (!l)
        return;
    run_unit_back(l, r, seq);
    if (r == 0)
        limits_look(l);
    run_act(l);
}

int run_open_ingest(struct ty_sched *s, struct ty_error *err)
{
    static const struct ty_ingest_ops ops = {
        .hello = on_hello,
        .cancel_wanted = on_cancel_wanted,
        .record = on_record,
        .note = on_note,
        .queued = on_queued,
        .stored = on_unit,
        .heard = on_heard,
    };
    struct ty_ingest_options o = { .loop = s->o.loop,
                                   .listen_fd = s->o.runner_fd,
                                   .store = s->o.store,
                                   .hub = s->o.hub,
                                   .ops = &ops,
                                   .ctx = s };

    return ty_ingest_open(&o, &s->ingest, err);
}
