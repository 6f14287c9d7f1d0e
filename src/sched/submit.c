/* submit.c - from a run spec to a live run
 *
 * Everything that can be refused is refused here, before anything is stored; then the run and its first
 * events are one unit: a submission is there whole, or not at all.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/str.h"
#include "core/datastore_spec.h"
#include "core/ids.h"
#include "core/launch_plan.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define COMMAND_LINE_MAX 4096
#define TARGETS_NAMED_MAX 10

int data_dirs(struct ty_sched *s, const struct ty_run_spec *spec, char ***ret, struct ty_error *err)
{
    char **dirs = calloc((size_t)spec->ndata + 1, sizeof *dirs);

    if (!dirs)
        return ty_error_oom(err);
    for (int i = 0; i < spec->ndata; i++) {
        const struct ty_data_ref *d = &spec->data[i];
        CLEANUP_JSON json_t *store = NULL;

        if (ty_store_datastore(s->o.store, d->datastore, &store) < 0) {
            ty_strv_free(dirs);
            return ty_error_set(
                err, -ENOENT,
                "data reference '%s' names the datastore '%s', which does not exist; "
                "`trainyard data ls` lists those that do",
                d->name, d->datastore);
        }
        const char *root = json_string_value(json_object_get(store, "root"));
        dirs[i] = !root ? strdup("") : *d->path ? ty_path_join(root, d->path) : strdup(root);
        if (!dirs[i]) {
            ty_strv_free(dirs);
            return ty_error_oom(err);
        }
    }
    *ret = dirs;
    return 0;
}

int data_access(struct ty_sched *s, const struct ty_run_spec *spec, json_t *extra,
                struct ty_error *err)
{
    CLEANUP_JSON json_t *list = json_array();

    for (int i = 0; i < spec->ndata; i++) {
        const struct ty_data_ref *d = &spec->data[i];
        json_t *access = NULL;
        int r = ty_store_datastore_access(s->o.store, d->datastore, &access, err);

        if (r < 0)
            return ty_error_prefix(err, "data reference '%s'", d->name);
        if (!ty_datastore_is_object(json_string_value(json_object_get(access, "kind")))) {
            json_decref(access);
            access = json_null();
        }
        if (json_array_append_new(list, access) < 0)
            return ty_error_oom(err);
    }
    return spec->ndata && json_object_set(extra, "data_access", list) < 0 ? ty_error_oom(err) : 0;
}

static int check_queue(struct ty_sched *s, struct ty_error *err)
{
    int64_t max = ty_conf_number(s->o.conf, "limits.queued_runs");

    if (max > 0 && (int64_t)HASH_COUNT(s->runs) >= max)
        return ty_error_set(
            err, -EUSERS,
            "%lld runs are waiting or running already (limits.queued_runs); submit again when some have "
            "ended, or raise the limit",
            (long long)max);
    return 0;
}

static int check_user(struct ty_sched *s, const struct ty_user *who, struct ty_error *err)
{
    int64_t max = ty_conf_number(s->o.conf, "limits.user_runs"), n = 0;

    for (const struct live *l = s->runs; max > 0 && l; l = l->hh.next)
        n += !ty_run_state_ended(l->run.state) && strcmp(l->user, who->name) == 0;
    if (max == 0 || n < max)
        return 0;
    return ty_error_set(
        err, -EUSERS,
        "user '%s' has %lld runs that have not ended, the most that one user may have "
        "(limits.user_runs); submit again when some have ended",
        who->name, (long long)n);
}

static int no_target(struct ty_sched *s, const char *name, struct ty_error *err)
{
    CLEANUP_STR struct ty_str known = { 0 };
    int n = 0;

    for (const struct target *t = s->targets; t && n < TARGETS_NAMED_MAX; t = t->hh.next)
        ty_str_addf(&known, "%s'%s'", n++ ? ", " : "", t->name);
    return ty_error_set(err, -ENOENT, "there is no compute target '%s'; there are %s%s", name,
                        known.text ? known.text : "none",
                        (int)HASH_COUNT(s->targets) > n ? " and more" : "");
}

static int check_names(struct ty_sched *s, const struct ty_run_spec *spec, struct ty_error *err)
{
    char **dirs = NULL;
    int64_t parent;
    int r;

    if (!target_find(s, spec->target))
        return no_target(s, spec->target, err);
    if (spec->parent && ty_store_run_id(s->o.store, spec->parent, &parent) < 0)
        return ty_error_set(err, -ENOENT,
                            "there is no run '%.255s' that this one could be a child of (parent)",
                            spec->parent);
    if (spec->snapshot && !ty_store_snapshot_has(s->o.store, spec->snapshot))
        return ty_error_set(err, -ENOENT,
                            "snapshot '%s' is not stored; upload it before the run is submitted",
                            spec->snapshot);
    r = data_dirs(s, spec, &dirs, err);
    ty_strv_free(dirs);
    return r;
}

/* The interpreter and program must exist here: on this box that can be known before the run is accepted.  Under a daemon of the
 * whole machine only its user can know it: root sees more, or on a network file system less. */
static int check_program(const struct ty_sched *s, const struct ty_run_spec *spec,
                         struct ty_error *err)
{
    const char *path = spec->script ? spec->interpreter : spec->command ? spec->command[0] : "";
    const char *word = spec->script ? "interpreter" : "command";

    if (spec->env->view == TY_VIEW_IMAGE)
        return 0;
    if (*path == '/' && !s->o.system && access(path, X_OK) < 0)
        return ty_error_set(err, -EINVAL, "the %s '%s' cannot be run on target '%s': %m", word,
                            path, spec->target);
    return 0;
}

/* The spec as it will be stored: with the experiment of the path and the defaults of the configuration. */
static json_t *complete(struct ty_sched *s, const char *experiment, const json_t *given)
{
    json_t *spec = json_is_object(given) ? json_copy((json_t *)given) : NULL;

    if (spec && experiment)
        json_object_set_new(spec, "experiment", json_string(experiment));
    if (spec && !json_object_get(spec, "max_run_duration_seconds"))
        json_object_set_new(
            spec, "max_run_duration_seconds",
            json_integer(ty_conf_number(s->o.conf, "run.max_run_duration_seconds")));
    return spec;
}

static int parse(struct ty_sched *s, const char *experiment, const json_t *given, json_t *secrets,
                 struct ty_run_spec **ret, struct ty_str *warning, struct ty_error *err)
{
    CLEANUP_JSON json_t *json = complete(s, experiment, given);
    struct ty_run_spec *spec = NULL;
    struct target *t;
    int r;

    if (!json)
        return ty_error_set(err, -EINVAL, "the run spec is not a JSON object");
    r = addresses_mask(json, secrets, err);
    if (r == 0)
        r = ty_run_spec_parse(json, &spec, err);
    if (r == 0)
        r = check_names(s, spec, err);
    if (r == 0)
        r = check_program(s, spec, err);
    if (r == 0)
        r = limits_spec(s, spec, err);
    if (r == 0) {
        t = target_find(s, spec->target);
        r = target_has_kind(t->spec->kind, err);
        if (r == 0)
            r = t->kind->check(t->spec, spec, warning, err);
        if (r == 0)
            r = fit_check(s, t, spec, warning, err);
        if (r == 0)
            r = view_check(t, spec, err);
    }
    if (r < 0) {
        ty_run_spec_free(spec);
        return r;
    }
    *ret = spec;
    return 0;
}

static void make_token(char token[65])
{
    unsigned char bytes[32];

    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(token, 65, bytes, sizeof bytes);
}

static const char *kind_of(const struct ty_run_spec *spec)
{
    return spec->interactive ? "interactive" : spec->script ? "script" : "command";
}

static struct live *make_live(struct ty_sched *s, const struct ty_run_spec *spec,
                              const struct ty_user *who, struct ty_unit *u, struct ty_error *err)
{
    CLEANUP_FREE char *json = ty_json_text(spec->json);
    CLEANUP_FREE char *command = ty_run_spec_command_line(spec, COMMAND_LINE_MAX);
    char name[TY_RUN_ID_MAX + 1], token[65];
    struct ty_active_run a = { .row = { .id = ty_store_next_id(s->o.store),
                                        .name = name,
                                        .experiment = spec->experiment,
                                        .display_name = spec->display_name,
                                        .target = spec->target,
                                        .user = who->name,
                                        .uid = who->uid,
                                        .command_line = command && *command ? command : NULL,
                                        .kind = kind_of(spec),
                                        .parent = spec->parent,
                                        .snapshot = spec->snapshot,
                                        .token = token,
                                        .spec = json,
                                        .run = TY_RUN_INIT } };
    struct live *l;

    if (!json || !command) {
        ty_error_oom(err);
        return NULL;
    }
    make_token(token);
    ty_run_id_make(spec->experiment, ty_wall_us() / 1000000, randombytes_random(), name);
    l = live_add(s, &a, err);
    if (l)
        ty_unit_run_add(u, &a.row);
    return l;
}

static void first_events(struct live *l, struct ty_unit *u, const char *warning)
{
    CLEANUP_JSON json_t *submitted =
        json_pack("{s:s s:s}", "target", l->spec->target, "user", l->user);
    const char *key;
    json_t *value;
    size_t i;

    run_event(l, u, TY_EV_SUBMITTED, 0, submitted);
    json_object_foreach (l->spec->tags, key, value)
        run_note(l, u, TY_NOTE_TAGGED, json_pack("{s:s s:O}", "key", key, "value", value));
    json_object_foreach (l->spec->properties, key, value)
        run_note(l, u, TY_NOTE_PROPERTY, json_pack("{s:s s:O}", "key", key, "value", value));
    run_event(l, u, TY_EV_PREPARE, 0, NULL);
    if (warning) /* first, so that it is the first line of the log */
        json_array_insert_new(l->warnings, 0, json_string(warning));
    json_array_foreach (l->warnings, i, value)
        run_note(l, u, TY_NOTE_WARNED, json_pack("{s:O}", "text", value));
    run_event(l, u, TY_EV_READY, 0, NULL);
    if (l->spec->interactive)
        interactive_begin(l, u);
}

/* What a submission waits for, so that a run which could not be stored is forgotten. */
struct submission {
    struct ty_sched *sched;
    ty_sched_done done;
    void *ctx;
};

static void on_submitted(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct submission *sub = ctx;
    struct live *l = live_find(sub->sched, run);

    sub->done(sub->ctx, r, run, err);
    if (r < 0 && l)
        l->forgotten = true;
    free(sub);
}

int ty_sched_submit(struct ty_sched *s, const char *experiment, const json_t *json,
                    const struct ty_user *who, ty_sched_done done, void *ctx, struct ty_error *err)
{
    CLEANUP_STR struct ty_str warning = { 0 };
    CLEANUP_JSON json_t *secrets = json_object();
    struct ty_run_spec *spec = NULL;
    struct submission *sub;
    struct ty_unit *u;
    struct live *l;
    int r = secrets ? check_queue(s, err) : ty_error_oom(err);

    if (r == 0)
        r = check_user(s, who, err);
    if (r == 0)
        r = parse(s, experiment, json, secrets, &spec, &warning, err);
    if (r < 0)
        return r;
    u = ty_unit_new();
    r = addresses_seal(s, who->name, spec->json, secrets, u, err);
    if (r < 0) {
        ty_unit_free(u);
        ty_run_spec_free(spec);
        return r;
    }
    sub = calloc(1, sizeof *sub);
    l = sub ? make_live(s, spec, who, u, err) : NULL;
    ty_run_spec_free(spec);
    if (!l) {
        ty_unit_free(u);
        free(sub);
        return ty_error_oom(err);
    }
    *sub = (struct submission){ .sched = s, .done = done, .ctx = ctx };
    first_events(l, u, warning.len ? warning.text : NULL);
    run_commit(l, u, on_submitted, sub);
    return 0;
}
