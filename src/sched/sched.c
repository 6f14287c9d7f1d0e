/* sched.c - the table of live runs: taking it up, time, recovering from a failed store */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "sched/ask.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"
#include "track/ingest.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- targets ---- */

struct target *target_any(struct ty_sched *s, const char *name)
{
    struct target *t;

    HASH_FIND_STR(s->targets, name, t);
    return t;
}

struct target *target_find(struct ty_sched *s, const char *name)
{
    struct target *t = target_any(s, name);

    return t && !t->going ? t : NULL;
}

static void forget_nodes(struct node **nodes, int n)
{
    for (int i = 0; i < n; i++)
        if (*nodes[i]->key)
            node_unuse(nodes[i]);
    free(nodes);
}

/* This box, or the hosts; *n is 0 for an engine that places by itself. */
static int find_nodes(struct ty_sched *s, const struct ty_target_spec *spec, struct node ***ret,
                      int *n)
{
    struct node **nodes = calloc((size_t)spec->nhosts + 1, sizeof *nodes);

    *n = 0;
    if (!nodes)
        return -ENOMEM;
    if (strcmp(spec->kind, "local") == 0)
        nodes[(*n)++] = s->box;
    for (int i = 0; i < spec->nhosts; i++) {
        nodes[*n] = node_use(s, &spec->hosts[i]);
        if (!nodes[*n]) {
            forget_nodes(nodes, *n);
            return -ENOMEM;
        }
        (*n)++;
    }
    *ret = nodes;
    return 0;
}

bool target_drains_node(const struct target *t, int i)
{
    const char *name = t->spec->nhosts ? t->spec->hosts[i].host : t->nodes[i]->name;
    const json_t *drained;
    size_t k;

    json_array_foreach (t->spec->drained_nodes, k, drained)
        if (strcmp(json_string_value(drained), name) == 0)
            return true;
    return false;
}

bool node_is_drained(const struct node *n)
{
    for (const struct target *t = n->sched->targets; t; t = t->hh.next)
        for (int i = 0; i < t->nnodes; i++)
            if (t->nodes[i] == n && target_drains_node(t, i))
                return true;
    return false;
}

void target_drop(struct ty_sched *s, struct target *t)
{
    HASH_DEL(s->targets, t);
    forget_nodes(t->nodes, t->nnodes);
    ty_target_spec_free(t->spec);
    json_decref(t->facts);
    free(t->name);
    free(t);
    queue_changed(s);
}

int target_has_kind(const char *kind, struct ty_error *err)
{
    if (ty_target_kind(kind))
        return 0;
    return ty_error_set(err, -EINVAL,
                        "compute targets of kind '%s' are not part of this build of "
                        "Trainyard",
                        kind);
}

/* What the engine behind it said of its nodes when it was asked. */
static void recall_facts(struct ty_sched *s, struct target *t)
{
    CLEANUP_FREE char *setting = t->nnodes == 0 ? ty_strf(TARGET_SETTING "%s", t->name) : NULL;
    CLEANUP_FREE char *text = NULL;
    struct ty_error none = { 0 };
    json_t *facts = NULL;

    if (setting && ty_store_setting(s->o.store, setting, &text) == 0 &&
        ty_json_parse(text, strlen(text), &facts, &none) == 0) {
        json_decref(t->facts);
        t->facts = facts;
    }
}

/* What it keeps without a run; `spec` NULL: it is gone.  A daemon for all users does not know for whom. */
void target_keep(struct ty_sched *s, const struct target *t, const struct ty_target_spec *spec)
{
    const struct ty_target_kind *now = spec ? ty_target_kind(spec->kind) : NULL;
    bool same = t->kind == now;

    if (s->o.system)
        return;
    if (t->kind && t->kind->keep)
        t->kind->keep(s->o.agent, s->o.home, t->name, t->spec, same ? spec : NULL);
    if (!same && now && now->keep)
        now->keep(s->o.agent, s->o.home, t->name, NULL, spec);
}

int target_add(struct ty_sched *s, const char *name, const json_t *json, struct ty_error *err)
{
    struct ty_target_spec *spec = NULL;
    struct target *t = target_any(s, name);
    struct node **nodes = NULL;
    int n = 0, r = ty_target_spec_parse(json, &spec, err);

    if (r < 0)
        return r;
    if (find_nodes(s, spec, &nodes, &n) < 0) {
        ty_target_spec_free(spec);
        return ty_error_oom(err);
    }
    if (!json_object_get(json, "require_gpu"))
        spec->require_gpu = ty_conf_bool(s->o.conf, "target.require_gpu");
    if (!t) {
        t = calloc(1, sizeof *t);
        if (!t || !(t->name = strdup(name))) {
            free(t);
            forget_nodes(nodes, n);
            ty_target_spec_free(spec);
            return ty_error_oom(err);
        }
        HASH_ADD_KEYPTR(hh, s->targets, t->name, strlen(t->name), t);
    }
    target_keep(s, t, spec);
    forget_nodes(t->nodes, t->nnodes);
    ty_target_spec_free(t->spec);
    t->spec = spec;
    t->kind = ty_target_kind(spec->kind);
    t->nodes = nodes;
    t->nnodes = n;
    recall_facts(s, t);
    queue_changed(s);
    return 0;
}

static int load_targets(struct ty_sched *s, struct ty_error *err)
{
    CLEANUP_JSON json_t *list = NULL;
    size_t i;
    json_t *t;
    int r = ty_store_targets(s->o.store, &list);

    if (r < 0)
        return ty_error_set(err, r, "cannot read the compute targets from the state folder");
    json_array_foreach (list, i, t) {
        const char *name = json_string_value(json_object_get(t, "name"));

        r = target_add(s, name, json_object_get(t, "spec"), err);
        if (r < 0)
            return ty_error_prefix(err, "compute target '%s'", name);
    }
    if (target_find(s, "local"))
        return 0;
    CLEANUP_JSON json_t *local = json_pack("{s:s}", "kind", "local");
    struct ty_unit *u = ty_unit_new();

    ty_unit_target_put(u, "local", "{\"kind\":\"local\"}", ty_wall_us());
    ty_store_commit(s->o.store, u, NULL, NULL);
    return target_add(s, "local", local, err);
}

/* They lie in the state folder, also after that was moved or restored elsewhere.  The first is the default one. */
static void put_own_datastore(struct ty_sched *s, const char *name)
{
    CLEANUP_JSON json_t *known = NULL;
    CLEANUP_FREE char *root = ty_strf("%s/data/%s", s->o.home, name);
    CLEANUP_STR struct ty_str config = { 0 };
    const char *now;
    struct ty_unit *u;

    if (!root)
        return;
    ty_mkdir_p(root, 0700);
    if (ty_store_datastore(s->o.store, name, &known) == 0 &&
        (now = json_string_value(json_object_get(known, "root"))) && strcmp(now, root) == 0)
        return;
    ty_str_add(&config, "{\"root\":");
    ty_str_add_json(&config, root, strlen(root));
    ty_str_add(&config, "}");
    u = ty_unit_new();
    ty_unit_datastore_put(u, name, "file", config.text, ty_wall_us());
    ty_store_commit(s->o.store, u, NULL, NULL);
}

const char *ty_sched_uses_datastore(struct ty_sched *s, const char *name)
{
    for (const struct live *l = s->runs; l; l = l->hh.next)
        for (int i = 0; i < l->spec->ndata; i++)
            if (!ty_run_state_ended(l->run.state) && strcmp(l->spec->data[i].datastore, name) == 0)
                return l->name;
    return NULL;
}

/* ---- live runs ---- */

struct live *live_find(struct ty_sched *s, const char *name)
{
    struct live *l;

    HASH_FIND_STR(s->runs, name, l);
    return l;
}

static void live_free(struct live *l)
{
    gang_give(l);
    ty_run_spec_free(l->spec);
    json_decref(l->warnings);
    json_decref(l->tags);
    json_decref(l->pending);
    json_decref(l->silent);
    free(l->trouble);
    free(l->building);
    free(l->token);
    free(l->user);
    free(l->name);
    free(l);
}

void live_drop(struct live *l)
{
    HASH_DEL(l->sched->runs, l);
    queue_changed(l->sched);
    live_free(l);
}

/* The spec of a run that this version cannot read: what its row says, and a program that is never started. */
static int bare_spec(const struct ty_active_run *a, struct ty_run_spec **ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:i s:s s:s? s:[s]}", "version", TY_RUN_SPEC_VERSION, "experiment",
                  a->row.experiment, "target", a->row.target, "command", "/nonexistent");

    return o ? ty_run_spec_parse(o, ret, err) : ty_error_oom(err);
}

static int read_spec(struct live *l, const struct ty_active_run *a, struct ty_error *err)
{
    CLEANUP_JSON json_t *spec = NULL;
    const char *text = a->row.spec ? a->row.spec : "";
    int r = ty_json_parse(text, strlen(text), &spec, err);

    if (r == 0)
        r = ty_run_spec_parse(spec, &l->spec, err);
    if (r == 0 || r == -ENOMEM)
        return r;
    ty_log(TY_LOG_ERROR, "run %s has a specification that this version cannot read: %s", l->name,
           err->text);
    l->unreadable = true;
    return bare_spec(a, &l->spec, err);
}

struct live *live_add(struct ty_sched *s, const struct ty_active_run *a, struct ty_error *err)
{
    struct live *l = calloc(1, sizeof *l);

    if (!l) {
        ty_error_oom(err);
        return NULL;
    }
    l->sched = s;
    l->properties = -1;
    l->id = a->row.id;
    l->run = a->row.run;
    l->seq = l->stored_seq = a->last_seq;
    l->name = strdup(a->row.name);
    l->token = strdup(a->row.token ? a->row.token : "");
    l->user = strdup(a->row.user ? a->row.user : "");
    if (!l->name || !l->token || !l->user || read_spec(l, a, err) < 0) {
        live_free(l);
        return NULL;
    }
    l->share = share_of(s, l->user);
    l->warnings = l->share ? json_deep_copy(l->spec->warnings) : NULL;
    if (!l->warnings) {
        live_free(l);
        ty_error_oom(err);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, s->runs, l->name, strlen(l->name), l);
    queue_changed(s);
    return l;
}

void ty_sched_status(struct ty_sched *s, json_t *status)
{
    int active = 0, queued = 0;

    for (const struct live *l = s->runs; l; l = l->hh.next) {
        active +=
            !ty_run_state_ended(l->run.state) || l->stored_seq != l->seq; /* may not come true */
        queued += queue_waits(l);
    }
    json_object_set_new(status, "runs", json_pack("{s:i s:i}", "active", active, "queued", queued));
    json_object_set_new(status, "slots",
                        json_pack("{s:i s:i s:I s:I}", "cpus", s->box->cpus, "used",
                                  s->box->cpus_used, "memory_mb", (json_int_t)s->box->memory_mb,
                                  "memory_used_mb", (json_int_t)s->box->memory_used_mb));
    json_object_set_new(status, "queue_paused", json_boolean(s->paused));
}

/* ---- time ---- */

static void on_tick(uv_timer_t *t)
{
    struct ty_sched *s = t->data;
    int64_t now = ty_mono_us(), gap = now - s->last_tick_us;
    bool watching = false;

    s->last_tick_us = now;
    for (struct live *l = s->runs, *next; l; l = next) {
        next = l->hh.next;
        if (gap > 3 * TICK_MS * 1000) /* it was this daemon that did not listen */
            l->heard_us += gap;
        watching |= l->job != NULL || interactive_look(l);
        run_check_silence(l, now);
    }
    if (!watching)
        uv_timer_stop(t);
}

/* Ticks only while a runner, or the process of an interactive run, is watched: an idle daemon sleeps. */
void keep_ticking(struct ty_sched *s)
{
    if (!uv_is_active((uv_handle_t *)&s->tick)) {
        s->last_tick_us = ty_mono_us();
        uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    }
}

/* Runs whose runner could not be started are tried again. */
static void on_retry(uv_timer_t *t)
{
    struct ty_sched *s = t->data;

    for (struct live *l = s->runs, *next; l; l = next) {
        struct ty_error err = { 0 };

        next = l->hh.next;
        if (l->launched && l->placed && !l->job && !ty_run_state_ended(l->run.state))
            run_start_job(l, &err);
    }
    place(s);
}

void retry_soon(struct ty_sched *s)
{
    uv_timer_start(&s->retry, on_retry, RETRY_MS, 0);
}

/* ---- recovering ---- */

/* Also those that have ended, and were loaded to be changed. */
static bool reload_all(struct ty_sched *s)
{
    for (const struct live *l = s->runs; l; l = l->hh.next) {
        int r = l->seq == l->stored_seq ? 0 : ty_store_with_run(s->o.store, l->name, run_reload, s);

        if (r < 0 && r != -ENOENT)
            return false;
    }
    return true;
}

/* Everything in memory may be ahead of the store: read it again, then let the store write.  Runs whose submission failed are
 * not there, and are dropped (run_act). */
static void on_recover(uv_timer_t *t)
{
    struct ty_sched *s = t->data;

    for (const struct live *l = s->runs; l; l = l->hh.next)
        if (l->units > 0) {
            uv_timer_start(t, on_recover, 50, 0);
            return;
        }
    if (!reload_all(s) || ty_store_resume(s->o.store) < 0) {
        uv_timer_start(t, on_recover, 1000, 0);
        return;
    }
    s->recovering = false;
    keep_ticking(s);
    for (struct live *l = s->runs, *next; l; l = next) {
        next = l->hh.next;
        run_act(l);
    }
    on_retry(&s->retry); /* what could not be done while nothing could be stored */
}

void ty_sched_recover(struct ty_sched *s)
{
    recover_soon(s);
}

void recover_soon(struct ty_sched *s)
{
    if (s->recovering || s->stopping)
        return;
    s->recovering = true;
    uv_timer_start(&s->recover, on_recover, 200, 0);
}

/* ---- life cycle ---- */

static bool boot_changed(struct ty_sched *s, const char *run)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(s->o.home, run);
    CLEANUP_FREE char *path = dir ? ty_path_join(dir, "runner.id") : NULL;
    CLEANUP_FREE char *text = NULL;
    struct ty_proc_id self;
    size_t n;

    if (!path || ty_read_file(path, 256, &text, &n) < 0 || ty_proc_identify(getpid(), &self) < 0)
        return false;
    return strncmp(text, self.boot, strlen(self.boot)) != 0;
}

static int take_up(const struct ty_active_run *a, void *ctx)
{
    struct ty_sched *s = ctx;
    struct ty_error err = { 0 };
    struct live *l = live_add(s, a, &err);

    if (!l)
        return ty_error_set(&err, -ENOMEM, "run %s cannot be taken up: %s", a->row.name, err.text);
    l->launched = ty_jobdir_exists(s->o.home, l->name);
    if (l->launched && gang_take_again(l) < 0)
        return ty_error_set(&err, -ENOMEM, "run %s cannot be taken up: out of memory", l->name);
    l->rebooted = l->launched && boot_changed(s, l->name);
    l->folder_attempt = l->launched ? ty_jobdir_attempt(s->o.home, l->name) : 0;
    return 0;
}

/* What a backup says of processes was true of another folder, and maybe of another machine. */
static bool lost_by_restore(const struct live *l)
{
    return l->sched->restored && l->run.state != TY_RUN_QUEUED;
}

static void resume_run(struct live *l)
{
    struct ty_error err = { 0 };

    if (l->launched && l->run.state == TY_RUN_NOT_RESPONDING)
        record_silence(l);
    if (lost_by_restore(l)) {
        run_lost(l, "Restored",
                 "the service was restored from a backup that was made while this run went on");
    } else if (l->spec->interactive) {
        interactive_resume(l);
    } else if (l->unreadable && !l->launched) {
        run_lost(l, "PreparationFailed",
                 "its run specification is not one that this version of Trainyard can read");
    } else if (l->launched && run_start_job(l, &err) < 0)
        ty_log(TY_LOG_WARN, "run %s: %s", l->name, err.text);
    else if (!l->launched && l->run.state != TY_RUN_QUEUED &&
             l->run.state != TY_RUN_CANCEL_REQUESTED)
        run_lost(l, "RunnerLost", "the job's folder vanished from the state folder");
    else
        run_act(l);
}

static void init_timers(struct ty_sched *s)
{
    uv_timer_t *const timers[] = { &s->tick, &s->retry, &s->recover, &s->ask, &s->gpus };

    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(s->o.loop, timers[i]);
        timers[i]->data = s;
    }
}

/* `trainyard restore` leaves a mark: then nothing goes on by itself, and nothing starts until somebody says so. */
static char *restore_mark(const struct ty_sched *s)
{
    return ty_path_join(s->o.home, TY_RESTORED_MARK);
}

static void note_restore(struct ty_sched *s)
{
    CLEANUP_FREE char *mark = restore_mark(s);

    s->restored = mark && access(mark, F_OK) == 0;
    if (s->restored)
        queue_stop(s);
}

/* The runs that were lost are stored first: a daemon that is killed here begins anew. */
static void forget_restore(struct ty_sched *s)
{
    CLEANUP_FREE char *mark = restore_mark(s);

    if (mark && ty_store_settle(s->o.store) == 0)
        unlink(mark);
    ty_log(TY_LOG_INFO, "restored from a backup: the queue is paused");
}

int ty_sched_open(const struct ty_sched_options *o, struct ty_sched **ret, struct ty_error *err)
{
    struct ty_sched *s = calloc(1, sizeof *s);
    int r;

    if (!s)
        return ty_error_oom(err);
    s->o = *o;
    s->user_cpus = (int)ty_conf_number(o->conf, "sched.user_cpus");
    s->begin_us = ty_conf_number(o->conf, "sched.begin_seconds") * 1000000;
    s->silent_us = ty_conf_number(o->conf, "sched.silent_seconds") * 1000000;
    s->node_lost_us = ty_conf_number(o->conf, "sched.node_lost_seconds") * 1000000;
    init_timers(s);
    r = nodes_open(s, err);
    if (r < 0)
        return r;
    r = run_open_ingest(s, err);
    if (r < 0)
        return r; /* the daemon ends: the process gives everything back */
    r = load_targets(s, err);
    if (r < 0)
        return r;
    put_own_datastore(s, "workspaceblobstore");
    put_own_datastore(s, "workspacefilestore");
    queue_open(s);
    note_restore(s);
    r = ty_store_settle(o->store); /* the first request finds them */
    if (r < 0)
        return ty_error_set(err, r, "cannot write in the state folder '%s': %s", o->home,
                            strerror(-r));
    if (ty_store_each_active(o->store, take_up, s) < 0)
        return ty_error_set(err, -EIO, "cannot read the runs from the state folder");
    keep_open(s);
    for (struct live *l = s->runs, *next; l; l = next) {
        next = l->hh.next;
        resume_run(l);
    }
    if (s->restored)
        forget_restore(s);
    place(s);
    *ret = s;
    return 0;
}

void ty_sched_stop(struct ty_sched *s)
{
    if (s->stopping)
        return;
    share_note(s);
    s->stopping = true;
    ty_ingest_stop(s->ingest);
    ask_close(s);
    for (struct live *l = s->runs; l; l = l->hh.next)
        if (l->job)
            l->job = l->kind->free(l->job);
    keep_close(s);
    uv_close((uv_handle_t *)&s->tick, NULL);
    uv_close((uv_handle_t *)&s->retry, NULL);
    uv_close((uv_handle_t *)&s->recover, NULL);
    uv_close((uv_handle_t *)&s->ask, NULL);
    uv_close((uv_handle_t *)&s->gpus, NULL);
}

struct ty_sched *ty_sched_free(struct ty_sched *s)
{
    struct live *l, *next;
    struct target *t, *tnext;

    HASH_ITER (hh, s->runs, l, next)
        live_drop(l);
    HASH_ITER (hh, s->targets, t, tnext)
        target_drop(s, t);
    nodes_close(s);
    history_close(s);
    share_close(s);
    ty_ingest_free(s->ingest);
    free(s);
    return NULL;
}
