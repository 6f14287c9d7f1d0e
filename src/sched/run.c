/* run.c - one run: its events, and what follows from them
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
        l->restarts_known = false;
        json_decref(l->tags);
        l->tags = NULL;
    }
    return 0;
}

/* What is in memory is ahead of the store: when a unit was not stored, what rests on it is read again. */
void run_unit_back(struct live *l, int r, int64_t seq)
{
    queue_changed(l->sched);
    if (--l->units == 0 && l->pending)
        json_object_clear(l->pending);
    l->unstored = r;
    if (r < 0)
        l->unstored_us = ty_mono_us();
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

    run_unit_back(w->live, r, w->seq);
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

        if (was_placed)
            gang_give(l);
        if (was_placed || l->run.attempt > 1) /* canceled between two attempts */
            attempt_ended(l);
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
    ty_jobdir_give_up(s->o.home, run);
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
        ty_jobdir_give_up(s->o.home, run);
}

/* Of a machine or a runner, rather than of the run's own files or specification. */
static bool is_loss(const char *code)
{
    return strcmp(code, "RunnerLost") == 0 || strcmp(code, "NodeLost") == 0;
}

/* Nobody can deliver what an earlier attempt has left: the run goes on without that. */
static void attempt_lost(struct live *l, const char *message)
{
    struct ty_unit *u = ty_unit_new();
    CLEANUP_FREE char *text =
        ty_strf("what attempt %d left is not complete: %s; the run goes on without it",
                l->folder_attempt, message);

    if (text)
        run_note(l, u, TY_NOTE_WARNED, json_pack("{s:s}", "text", text));
    run_commit(l, u, on_lost_again, l->sched);
}

void run_lost(struct live *l, const char *code, const char *message)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(l->sched->o.home, l->name);
    CLEANUP_JSON json_t *data =
        json_pack("{s:{s:s s:s s:n}}", "error", "code", code, "message", message, "log_tail");
    struct ty_unit *u;

    if (dir && !l->spec->interactive)
        ty_marked_kill("TRAINYARD_JOB", dir);
    if (is_loss(code) && attempt_leaves(l)) {
        attempt_lost(l, message);
        return;
    }
    u = ty_unit_new();
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

static void runner_ended(void *ctx, int code);

/* In its job folder, which is there. */
static int start_kind(struct live *l, const char *dir, struct ty_error *err)
{
    struct ty_job_start how = { .loop = l->sched->o.loop,
                                .agent = l->sched->o.agent,
                                .job_dir = dir,
                                .ended = runner_ended,
                                .ctx = l };

    return l->kind->start(&how, &l->job, err);
}

/* The courier of a run that has ended was killed before its hosts were clean: another goes on with that. */
static bool go_on_cleaning(struct live *l)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(l->sched->o.home, l->name);
    struct ty_error err;

    return dir && l->kind->couriers && l->salvages++ < SALVAGES_MAX &&
           ty_jobdir_exists(l->sched->o.home, l->name) && start_kind(l, dir, &err) == 0;
}

static void runner_ended(void *ctx, int code)
{
    struct live *l = ctx;
    struct ty_error err = { 0 };

    l->job = l->kind->free(l->job);
    if (ty_run_state_ended(l->run.state)) {
        if (code != 0 && go_on_cleaning(l))
            return;
        ty_jobdir_give_up(l->sched->o.home, l->name);
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

/* What building the job's environment needs to know, and what the caches of its nodes may hold. */
static int describe_caches(const struct ty_sched *s, json_t *extra, struct ty_error *err)
{
    const char *index = ty_conf_text(s->o.conf, "env.torch_index");
    int r = json_object_set_new(extra, "env_cache_bytes",
                                json_integer(ty_conf_number(s->o.conf, "env.cache_bytes")));

    if (r == 0)
        r = json_object_set_new(extra, "data_cache_bytes",
                                json_integer(ty_conf_number(s->o.conf, "data.cache_bytes")));
    if (r == 0 && strcmp(index, "none") != 0)
        r = json_object_set_new(extra, "torch_index", json_string(index));
    return r < 0 ? ty_error_oom(err) : 0;
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
        r = data_access(s, l->spec, extra, err);
    if (r == 0)
        r = view_secret(s, l, extra, err);
    if (r == 0)
        r = addresses_give(s, l->user, l->spec->json, extra, err);
    if (r == 0)
        r = describe_caches(s, extra, err);
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
        r = start_kind(l, dir, err);
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
    if (ty_run_state_ended(l->run.state) && l->kind->couriers)
        return; /* it cleans hosts, for a day if need be, and has nothing to say here */
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
