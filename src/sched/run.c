/* run.c - one run: its events, what follows from them, and what its runner says
 *
 *   run_event    applies an event to the run in memory and adds it to a unit (pure, but for the unit)
 *   run_commit   gives the unit to the store
 *   run_act      called when it is stored: does what the state asks for.  Idempotent: called again after
 *                a restart of the daemon, or after the store had failed, it does no harm
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "sched/ask.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"
#include "track/follow.h"
#include "track/ingest.h"
#include <errno.h>
#include <string.h>

/* Exit codes of runners. */
#define RUNNER_BUSY 3      /* another one is at work in the job folder */
#define RUNNER_NOT_BEGUN 4 /* it could not begin; runner.log says why */
#define RUNNER_LOG_MAX (1 << 20)

int run_event(struct live *l, struct ty_unit *u, enum ty_run_event ev, int64_t at_us,
              const json_t *data)
{
    const json_t *code = json_object_get(data, "exit_code"),
                 *sig = json_object_get(data, "exit_signal");
    struct ty_event_note note = {
        .at_us = at_us ? at_us : ty_wall_us(),
        .exit_code = json_is_integer(code) ? (int)json_integer_value(code) : -1,
        .exit_signal = (int)json_integer_value(sig),
    };
    int r = ty_run_apply(&l->run, ev, &note);

    if (r < 0)
        return r;
    ty_unit_event(u, l->id, ++l->seq, note.at_us, ty_run_event_word(ev), data, &l->run);
    queue_changed(l->sched);
    if (ty_run_state_ended(l->run.state))
        history_forget(l->sched, l->spec->experiment);
    return 0;
}

void run_note(struct live *l, struct ty_unit *u, enum ty_note note, json_t *data)
{
    ty_unit_event(u, l->id, ++l->seq, ty_wall_us(), ty_note_word(note), data, &l->run);
    queue_changed(l->sched);
    if (note == TY_NOTE_TAGGED || note == TY_NOTE_UNTAGGED)
        limits_tagged(l, json_string_value(json_object_get(data, "key")), note == TY_NOTE_TAGGED);
    if (note == TY_NOTE_PROPERTY && l->properties >= 0)
        l->properties++;
    json_decref(data);
}

int run_reload(const struct ty_active_run *a, void *ctx)
{
    struct live *l = live_find(ctx, a->row.name);

    if (l) {
        queue_changed(l->sched);
        l->run = a->row.run;
        l->seq = l->stored_seq = a->last_seq;
        l->limits_told = 0;
        l->properties = -1;
        json_decref(l->tags);
        l->tags = NULL;
    }
    return 0;
}

/* What is in memory is ahead of the store: when a unit was not stored, what rests on it is read again. */
static void unit_back(struct live *l, int r, int64_t seq)
{
    queue_changed(l->sched);
    if (--l->units == 0 && l->pending)
        json_object_clear(l->pending);
    if (r == 0)
        l->stored_seq = seq;
    else if (ty_store_failed(l->sched->o.store))
        recover_soon(l->sched);
    else
        l->stale = true;
    if (l->stale && l->units == 0) {
        l->stale = false;
        ty_store_with_run(l->sched->o.store, l->name, run_reload, l->sched);
    }
}

static void on_stored(void *ctx, int r)
{
    struct waiter *w = ctx;
    struct ty_error err = { 0 };

    unit_back(w->live, r, w->seq);
    if (r < 0) {
        errno = -r;
        ty_error_set(&err, r,
                     r == -ENOSPC
                         ? "cannot store the change of run '%s': %m; free some space, for example "
                           "with `trainyard gc`"
                         : "cannot store the change of run '%s': %m",
                     w->run);
    } else {
        ty_follow_notify(w->sched->o.hub, w->run);
    }
    if (w->done)
        w->done(w->ctx, r, w->run, &err);
    run_act(w->live);
    free(w->run);
    free(w);
}

void run_commit(struct live *l, struct ty_unit *u, ty_sched_done done, void *ctx)
{
    struct waiter *w = calloc(1, sizeof *w);
    struct ty_error err = { 0 };

    if (!w || !(w->run = strdup(l->name))) {
        free(w);
        ty_unit_free(u);
        ty_error_oom(&err);
        if (done)
            done(ctx, -ENOMEM, l->name, &err);
        recover_soon(l->sched); /* the event was applied in memory, but will not be stored */
        return;
    }
    *w = (struct waiter){
        .sched = l->sched, .live = l, .done = done, .ctx = ctx, .run = w->run, .seq = l->seq
    };
    l->units++;
    ty_store_commit(l->sched->o.store, u, on_stored, w);
}

/* ---- acting ---- */

/* Canceled before any runner was started: nothing has to end, so the two last events follow at once. */
static void finish_unstarted(struct live *l)
{
    struct ty_unit *u = ty_unit_new();

    run_event(l, u, TY_EV_EXITED_BAD, 0, NULL);
    run_event(l, u, TY_EV_COLLECTED, 0, NULL);
    run_commit(l, u, NULL, NULL);
}

static void act_cancel(struct live *l)
{
    if (!l->launched)
        finish_unstarted(l);
    else if (!ty_ingest_cancel(l->sched->ingest, l->name) && l->job)
        l->kind->cancel(l->job);
}

void run_act(struct live *l)
{
    struct ty_sched *s = l->sched;

    if (l->forgotten && !l->units) {
        live_drop(l);
        return;
    }
    if (l->stored_seq != l->seq || s->stopping || s->recovering)
        return;
    if (ty_run_state_ended(l->run.state)) {
        bool was_placed = l->placed;

        if (was_placed) {
            gang_give(l);
            attempt_ended(l);
        }
        interactive_end_children(l);
        if (!l->job && !l->units)
            live_drop(l);
        if (was_placed)
            place(s);
    } else if (l->run.state == TY_RUN_CANCEL_REQUESTED) {
        act_cancel(l);
    } else if (l->run.state == TY_RUN_QUEUED && !l->placed) {
        place(s);
    }
}

/* The folder of the attempt that was lost goes; the run waits for its next one. */
static void on_lost_again(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct ty_sched *s = ctx;
    struct live *l = live_find(s, run);

    (void)err;
    if (r < 0 || !l)
        return;
    ty_jobdir_remove(s->o.home, run);
    if (l->job)
        l->job = l->kind->free(l->job);
    attempt_left(l);
}

/* Not earlier: a run whose folder is gone, and whose loss is not stored, would be started again after a restart. */
static void on_lost(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct ty_sched *s = ctx;

    (void)err;
    if (r == 0)
        ty_jobdir_remove(s->o.home, run);
}

/* Of a machine or a runner, rather than of the run's own files or specification. */
static bool is_loss(const char *code)
{
    return strcmp(code, "RunnerLost") == 0 || strcmp(code, "NodeLost") == 0;
}

void run_lost(struct live *l, const char *code, const char *message)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(l->sched->o.home, l->name);
    CLEANUP_JSON json_t *data =
        json_pack("{s:{s:s s:s s:n}}", "error", "code", code, "message", message, "log_tail");
    struct ty_unit *u = ty_unit_new();

    if (dir && !l->spec->interactive)
        ty_marked_kill("TRAINYARD_JOB", dir);
    if (is_loss(code) && attempt_again(l, u, TY_CAUSE_node_lost, 0, message)) {
        run_commit(l, u, on_lost_again, l->sched);
        return;
    }
    run_event(l, u, TY_EV_LOST, 0, data);
    run_event(l, u, TY_EV_COLLECTED, 0, NULL);
    run_commit(l, u, on_lost, l->sched);
}

/* ---- the runner's process ---- */

/* The last line that the runner left, or NULL. */
static char *last_words(const struct live *l)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(l->sched->o.home, l->name);
    CLEANUP_FREE char *path = dir ? ty_path_join(dir, "runner.log") : NULL;
    CLEANUP_FREE char *text = NULL;
    char *end, *line;
    size_t n;

    if (!path || ty_read_file(path, RUNNER_LOG_MAX, &text, &n) < 0)
        return NULL;
    for (end = text + n; end > text && end[-1] == '\n'; end--)
        end[-1] = '\0';
    line = strrchr(text, '\n');
    return *text ? strdup(line ? line + 1 : text) : NULL;
}

/* A full disk, or too few descriptors: that may pass, and what the job has left must not be given up for it. */
static void not_begun(struct live *l)
{
    CLEANUP_FREE char *words = last_words(l);
    CLEANUP_FREE char *why =
        ty_strf("its runner cannot begin: %s", words ? words : "it left no word");

    if (!l->not_begun_us) {
        l->not_begun_us = ty_mono_us();
        ty_log(TY_LOG_WARN, "run %s: %s; tried again", l->name, why ? why : "");
    } else if (ty_mono_us() - l->not_begun_us > l->sched->begin_us) {
        run_lost(l, "RunnerLost", why ? why : "its runner cannot begin");
        return;
    }
    free(l->trouble);
    l->trouble = TAKE(why);
    retry_soon(l->sched);
}

static void runner_ended(void *ctx, int code)
{
    struct live *l = ctx;
    struct ty_error err = { 0 };

    l->job = l->kind->free(l->job);
    if (ty_run_state_ended(l->run.state)) {
        ty_jobdir_remove(l->sched->o.home, l->name);
        run_act(l);
        return;
    }
    if (attempt_leaves(l) && !ty_jobdir_exists(l->sched->o.home, l->name)) {
        attempt_left(l);
        return;
    }
    if (code == RUNNER_NOT_BEGUN) {
        not_begun(l);
        return;
    }
    l->not_begun_us = 0;
    if (code != 0)
        ty_log(TY_LOG_WARN,
               "the runner of %s has ended (%d) before its run; its job folder is taken up again",
               l->name, code);
    if (code != RUNNER_BUSY)
        l->salvages++;
    if (l->salvages > SALVAGES_MAX)
        run_lost(l, "RunnerLost",
                 "the runner was killed, and so were those that were to take its job up");
    else if (run_start_job(l, &err) < 0)
        ty_log(TY_LOG_WARN, "%s; tried again soon", err.text);
}

static int make_job_folder(struct live *l, const struct target *t, struct ty_error *err)
{
    struct ty_sched *s = l->sched;
    CLEANUP_JSON json_t *extra = json_object();
    char **dirs = NULL;
    int r = extra ? attempt_past(l, extra, err) : ty_error_oom(err);

    if (r == 0)
        r = attempt_checkpoints(l, extra, err);
    if (r == 0 && gang_describe(l, t, extra) < 0)
        r = ty_error_oom(err);
    if (r == 0)
        r = data_dirs(s, l->spec, &dirs, err);
    if (r < 0)
        return r;
    struct ty_jobdir j = {
        .home = s->o.home,
        .run = l->name,
        .token = l->token,
        .user = l->user,
        .run_as_user = s->o.system,
        .attempt = l->run.attempt,
        .spec = l->spec->json,
        .snapshot = l->spec->snapshot,
        .data_dirs = (const char *const *)dirs,
        .ndata = l->spec->ndata,
        .python_path = s->o.python_path,
        .cancel_grace_seconds = ty_conf_number(s->o.conf, "run.cancel_grace_seconds"),
        .system_metrics_seconds = ty_conf_number(s->o.conf, "run.system_metrics_seconds"),
        .log_bytes_max = ty_conf_number(s->o.conf, "limits.log_bytes"),
        .artifact_files_max = ty_conf_number(s->o.conf, "limits.artifacts"),
        .artifact_bytes_max = ty_conf_number(s->o.conf, "limits.artifact_bytes"),
        .warnings = l->warnings,
        .extra = extra,
    };
    r = ty_jobdir_make(&j, s->o.blobs, err);
    l->folder_attempt = l->run.attempt;
    ty_strv_free(dirs);
    return r;
}

/* Start the runner of a placed run, or take up the one that lives.  On an error `trouble` says why, and
 * the retry timer comes back to it. */
int run_start_job(struct live *l, struct ty_error *err)
{
    struct target *t = target_find(l->sched, l->spec->target);
    CLEANUP_FREE char *dir = ty_jobdir_path(l->sched->o.home, l->name);
    struct ty_job_start how = { .loop = l->sched->o.loop,
                                .agent = l->sched->o.agent,
                                .job_dir = dir,
                                .ended = runner_ended,
                                .ctx = l };
    int r;

    if (!dir)
        return ty_error_oom(err);
    if (!t) {
        run_lost(l, "RunnerLost", "its compute target is not known any more");
        return 0;
    }
    if (attempt_leaves(l) && !ty_jobdir_exists(l->sched->o.home, l->name)) {
        attempt_left(l);
        return 0;
    }
    if (l->launched && !ty_jobdir_exists(l->sched->o.home, l->name)) {
        run_lost(l, "RunnerLost", "the job's folder vanished from the state folder");
        return 0;
    }
    r = target_has_kind(t->spec->kind, err);
    if (r == 0 && !l->launched)
        r = make_job_folder(l, t, err);
    if (r == 0) {
        l->launched = true;
        l->heard_us = ty_mono_us();
        l->kind = t->kind;
        r = l->kind->start(&how, &l->job, err);
    }
    free(l->trouble);
    l->trouble = r < 0 ? strdup(err->text) : NULL;
    if (r < 0)
        retry_soon(l->sched);
    keep_ticking(l->sched);
    return r;
}

void run_check_silence(struct live *l, int64_t now_us)
{
    int64_t silent = now_us - l->heard_us;
    struct ty_unit *u;

    if (!l->job || silent < l->sched->silent_us)
        return;
    if (silent > l->sched->node_lost_us)
        l->kind->kill(l->job); /* its end is noticed, and the job taken up by a new runner */
    if (l->stored_seq != l->seq ||
        (l->run.state != TY_RUN_RUNNING && l->run.state != TY_RUN_FINALIZING))
        return;
    CLEANUP_JSON json_t *data = json_pack("{s:I}", "seconds", (json_int_t)(silent / 1000000));
    u = ty_unit_new();
    run_event(l, u, TY_EV_SILENT, 0, data);
    run_commit(l, u, NULL, NULL);
}

/* ---- what the runner says ---- */

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
    CLEANUP_JSON json_t *why =
        json_pack("{s:s s:O?}", "reason", limit ? "time_limit" : "user", "message",
                  limit ? json_object_get(record, "message") : NULL);
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
            node_fails(l->holds[i].node, message ? message : "cannot be reached");
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
    if (strcmp(kind, "started") == 0) {
        record_started(l, u, at_us, record);
    } else if (strcmp(kind, "exited") == 0) {
        record_exited(l, u, at_us, record);
        blame_node(l, reason ? reason : "", record);
    } else if (strcmp(kind, "node") == 0) {
        record_node(l, u, at_us, record);
    } else if (strcmp(kind, "warning") == 0) {
        run_note(l, u, TY_NOTE_WARNED, pick(record, "text", NULL, NULL));
    } else if (strcmp(kind, "artifact") == 0) {
        run_note(l, u, TY_NOTE_ARTIFACT, pick(record, "path", "sha256", "bytes"));
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
    unit_back(l, r, seq);
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
