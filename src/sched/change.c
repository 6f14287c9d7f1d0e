/* change.c - changes that people ask for: cancel, tag, artifact, delete; compute targets
 *
 * A run that has ended is not in the table of live runs.  To change it, it is loaded into the table, changed like any other,
 * and dropped again when the change is stored: two changes at once number their events one after the other.
 */
#include "base/clock.h"
#include "base/str.h"
#include "sched/ask.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"
#include "track/follow.h"
#include <errno.h>
#include <string.h>

#define KEY_MAX 1024
#define CHILDREN_PER_READ 1000
#define GENERATIONS_MAX 64

struct loading {
    struct ty_sched *sched;
    struct live *live;
    struct ty_error *err;
};

static int load(const struct ty_active_run *a, void *ctx)
{
    struct loading *w = ctx;

    w->live = live_add(w->sched, a, w->err);
    return w->live ? 0 : -EIO;
}

int live_load(struct ty_sched *s, const char *run, struct live **ret, struct ty_error *err)
{
    struct loading w = { .sched = s, .live = live_find(s, run), .err = err };
    int r = w.live ? 0 : ty_store_with_run(s->o.store, run, load, &w);

    if (r == -ENOENT || (r == 0 && w.live->gone))
        return ty_error_set(err, -ENOENT, "there is no run '%s'; `trainyard ps -a` lists all runs",
                            run);
    if (r < 0)
        return ty_error_set(err, r, "cannot read run '%s' from the state folder", run);
    *ret = w.live;
    return 0;
}

int ty_sched_cancel(struct ty_sched *s, const char *run, ty_sched_done done, void *ctx,
                    struct ty_error *err)
{
    CLEANUP_JSON json_t *data = json_pack("{s:s}", "reason", "user");
    struct ty_error none = { 0 };
    struct ty_unit *u;
    struct live *l;
    int r = live_load(s, run, &l, err);

    if (r < 0)
        return r;
    if (l->spec->interactive && !ty_run_state_ended(l->run.state)) {
        interactive_end(l, TY_RUN_CANCELED, NULL, done, ctx); /* nobody has to be asked */
        return 0;
    }
    u = ty_unit_new();
    if (l->run.state == TY_RUN_CANCEL_REQUESTED ||
        (l->run.outcome != TY_RUN_NOT_STARTED && !ty_run_state_ended(l->run.state))) {
        /* Nothing to add; it is answered when what came before is stored. */
        run_commit(l, u, done, ctx);
        return 0;
    }
    if (run_event(l, u, TY_EV_CANCEL, 0, data) < 0) {
        ty_unit_free(u);
        run_act(l); /* it was loaded for this only */
        done(ctx, 0, run, &none);
        return 0;
    }
    run_commit(l, u, done, ctx);
    return 0;
}

static int check_change(const json_t *change, struct ty_error *err)
{
    static const char *const known[] = { "set", "remove", NULL };
    const json_t *set = json_object_get(change, "set"), *remove = json_object_get(change, "remove");
    const char *key;
    json_t *value;
    size_t i;

    if (!json_is_object(change))
        return ty_error_set(err, -EINVAL, "a change of tags is not a JSON object");
    if (ty_json_only(change, "a change of tags", known, err) < 0)
        return err->code;
    if ((set && !json_is_object(set)) || (remove && !json_is_array(remove)))
        return ty_error_set(err, -EINVAL,
                            "in a change of tags, 'set' is an object and 'remove' a list");
    json_object_foreach ((json_t *)set, key, value)
        if (!*key || strlen(key) > KEY_MAX || !(json_is_string(value) || json_is_null(value)))
            return ty_error_set(err, -EINVAL,
                                "tag '%.80s': a key has 1 to %d bytes, a value is text or null",
                                key, KEY_MAX);
    json_array_foreach (remove, i, value)
        if (!json_is_string(value))
            return ty_error_set(err, -EINVAL, "in a change of tags, 'remove' lists keys");
    return 0;
}

int ty_sched_tag(struct ty_sched *s, const char *run, const json_t *change, ty_sched_done done,
                 void *ctx, struct ty_error *err)
{
    struct ty_unit *u;
    struct live *l;
    const char *key;
    json_t *value;
    size_t i;
    int r = check_change(change, err);

    if (r == 0)
        r = live_load(s, run, &l, err);
    if (r < 0)
        return r;
    r = limits_tags(l, json_object_get(change, "set"), err);
    if (r < 0) {
        run_act(l); /* it may have been loaded for this only */
        return r;
    }
    u = ty_unit_new();
    json_object_foreach (json_object_get(change, "set"), key, value)
        run_note(l, u, TY_NOTE_TAGGED, json_pack("{s:s s:O}", "key", key, "value", value));
    json_array_foreach (json_object_get(change, "remove"), i, value)
        run_note(l, u, TY_NOTE_UNTAGGED, json_pack("{s:O}", "key", value));
    run_commit(l, u, done, ctx);
    return 0;
}

static int check_properties(const json_t *change, struct ty_error *err)
{
    static const char *const known[] = { "set", NULL };
    const json_t *set = json_object_get(change, "set");
    const char *key;
    json_t *value;

    if (!json_is_object(set))
        return ty_error_set(err, -EINVAL,
                            "a change of properties is an object with an object 'set'");
    if (ty_json_only(change, "a change of properties", known, err) < 0)
        return err->code;
    json_object_foreach ((json_t *)set, key, value)
        if (!*key || strlen(key) > KEY_MAX || !json_is_string(value))
            return ty_error_set(err, -EINVAL,
                                "property '%.80s': a key has 1 to %d bytes, a value is text", key,
                                KEY_MAX);
    return 0;
}

int ty_sched_properties(struct ty_sched *s, const char *run, const json_t *change,
                        ty_sched_done done, void *ctx, struct ty_error *err)
{
    struct ty_unit *u;
    struct live *l;
    const char *key;
    json_t *value;
    int r = check_properties(change, err);

    if (r == 0)
        r = live_load(s, run, &l, err);
    if (r < 0)
        return r;
    r = limits_properties(l, json_object_get(change, "set"), err);
    if (r < 0) {
        run_act(l); /* it may have been loaded for this only */
        return r;
    }
    u = ty_unit_new();
    json_object_foreach (json_object_get(change, "set"), key, value)
        run_note(l, u, TY_NOTE_PROPERTY, json_pack("{s:s s:O}", "key", key, "value", value));
    run_commit(l, u, done, ctx);
    return 0;
}

int ty_sched_artifact(struct ty_sched *s, const char *run, const char *path, const char *sha,
                      uint64_t bytes, ty_sched_done done, void *ctx, struct ty_error *err)
{
    struct ty_unit *u;
    struct live *l;
    int r = live_load(s, run, &l, err);

    if (r < 0)
        return r;
    r = limits_artifact(l, path, sha, err);
    if (r < 0) {
        run_act(l); /* it may have been loaded for this only */
        return r;
    }
    u = ty_unit_new();
    run_note(l, u, TY_NOTE_ARTIFACT,
             json_pack("{s:s s:s s:I}", "path", path, "sha256", sha, "bytes", (json_int_t)bytes));
    run_commit(l, u, done, ctx);
    return 0;
}

/* ---- delete ---- */

static void on_deleted(void *ctx, int r)
{
    struct waiter *w = ctx;
    struct ty_error err = { 0 };

    if (r < 0) {
        errno = -r;
        ty_error_set(&err, r, "cannot remove run '%s': %m", w->run);
        if (ty_store_failed(w->sched->o.store))
            recover_soon(w->sched);
    } else {
        attempt_deleted(w->sched, w->run);
    }
    ty_follow_notify(w->sched->o.hub, w->run);
    w->done(w->ctx, r, w->run, &err);
    free(w->run);
    free(w);
}

/* The run and everything below it, children first; -EBUSY when one has not ended. */
static int delete_below(struct ty_sched *s, const char *run, struct ty_unit *u, int depth,
                        struct ty_error *err)
{
    struct ty_run_filter children = { .parent = run, .limit = CHILDREN_PER_READ };
    const struct live *l = live_find(s, run);
    CLEANUP_JSON json_t *found = NULL;
    json_t *child;
    int64_t id;
    size_t i;
    int r;

    if (l && (!ty_run_state_ended(l->run.state) || l->units > 0))
        return ty_error_set(
            err, -EBUSY,
            "run '%s' is %s; cancel it first (`trainyard cancel %s`), or wait for its end", run,
            ty_run_state_word(l->run.state), run);
    do {
        json_decref(found);
        found = NULL;
        r = depth < GENERATIONS_MAX ? ty_store_runs(s->o.store, &children, &found, NULL) : -ELOOP;
        if (r < 0)
            return ty_error_set(err, r, "cannot read the children of run '%s'", run);
        json_array_foreach (found, i, child) {
            children.before = json_string_value(json_object_get(child, "id"));
            r = delete_below(s, children.before, u, depth + 1, err);
            if (r < 0)
                return r;
        }
    } while (json_array_size(found) == CHILDREN_PER_READ);
    r = ty_store_run_id(s->o.store, run, &id);
    if (r < 0)
        return ty_error_set(err, r, "cannot read run '%s' from the state folder", run);
    ty_unit_run_delete(u, id);
    return 0;
}

int ty_sched_delete(struct ty_sched *s, const char *run, ty_sched_done done, void *ctx,
                    struct ty_error *err)
{
    struct ty_unit *u = ty_unit_new();
    struct waiter *w;
    struct live *l;
    int r = live_load(s, run, &l, err);

    if (r == 0) {
        r = delete_below(s, run, u, 0, err);
        if (r < 0)
            run_act(l); /* it may have been loaded for this only */
    }
    w = r < 0 ? NULL : calloc(1, sizeof *w);
    if (!w || !(w->run = strdup(run))) {
        ty_unit_free(u);
        free(w);
        return r < 0 ? r : ty_error_oom(err);
    }
    l->gone = true; /* its runner may still be clearing away: dropped when that has ended */
    if (!l->job)
        live_drop(l);
    *w = (struct waiter){ .sched = s, .done = done, .ctx = ctx, .run = w->run };
    ty_store_commit(s->o.store, u, on_deleted, w);
    return 0;
}

/* ---- targets ----
 *
 * In memory a target changes when the change is stored: what was refused for a full disk never was.
 */

struct target_wait {
    struct ty_sched *sched;
    ty_sched_done done;
    void *ctx;
    json_t *spec;  /* NULL: it is removed */
    json_t *facts; /* setting -> what asking has given; NULL: nobody was asked */
    char name[];
};

/* Nodes that were known before are told what they have said now. */
static void learn(const struct target *t, const json_t *facts)
{
    for (int i = 0; t && facts && i < t->spec->nhosts; i++) {
        CLEANUP_FREE char *setting = ty_strf(NODE_SETTING "%s", t->nodes[i]->key);
        json_t *said = setting ? json_object_get(facts, setting) : NULL;

        if (said) {
            node_learn(t->nodes[i], said, &t->spec->hosts[i]);
            free(t->nodes[i]->trouble);
            t->nodes[i]->trouble = NULL;
        }
    }
}

static void on_target(void *ctx, int r)
{
    struct target_wait *w = ctx;
    struct ty_sched *s = w->sched;
    struct target *t;
    struct ty_error err = { 0 };

    t = target_any(s, w->name);
    if (r < 0) {
        errno = -r;
        ty_error_set(&err, r, "cannot store compute target '%s': %m", w->name);
        if (t)
            t->going = false;
        if (ty_store_failed(s->o.store))
            recover_soon(s);
    } else if (!w->spec && t) {
        target_keep(s, t, NULL);
        target_drop(s, t);
    } else if (w->spec) {
        r = target_add(s, w->name, w->spec, &err);
        if (r == 0)
            learn(target_find(s, w->name), w->facts);
    }
    w->done(w->ctx, r, w->name, &err);
    place(s); /* more nodes may be there now */
    json_decref(w->spec);
    json_decref(w->facts);
    free(w);
}

static int target_commit(struct ty_sched *s, const char *name, const json_t *spec,
                         const json_t *facts, struct ty_unit *u, ty_sched_done done, void *ctx,
                         struct ty_error *err)
{
    size_t n = strlen(name) + 1;
    struct target_wait *w = malloc(sizeof *w + n);

    if (!w) {
        ty_unit_free(u);
        return ty_error_oom(err);
    }
    *w = (struct target_wait){ .sched = s,
                               .done = done,
                               .ctx = ctx,
                               .spec = json_incref((json_t *)spec),
                               .facts = json_incref((json_t *)facts) };
    memcpy(w->name, name, n);
    ty_store_commit(s->o.store, u, on_target, w);
    return 0;
}

/* Who changes a target says nothing of draining, as a rule: that stays. */
static json_t *keep_drained(const struct target *t, const json_t *given)
{
    static const char *const keys[] = { "drained", "drained_nodes" };
    json_t *spec = json_is_object(given) ? json_copy((json_t *)given) : json_null();

    for (size_t i = 0; i < 2 && t && json_is_object(spec); i++)
        if (!json_object_get(spec, keys[i]) && json_object_get(t->spec->json, keys[i]))
            json_object_set(spec, keys[i], json_object_get(t->spec->json, keys[i]));
    return spec;
}

static int check_kind(const struct target *t, const char *kind, struct ty_error *err)
{
    if (!t || t->in_use == 0 || strcmp(t->spec->kind, kind) == 0)
        return 0;
    return ty_error_set(err, -EBUSY,
                        "compute target '%s' is of kind '%s' and has runs that have not ended; "
                        "wait for them before its kind is changed",
                        t->name, t->spec->kind);
}

/* Asking may have taken a minute: the target is looked at again. */
int target_store(struct ty_sched *s, const char *name, const json_t *given, const json_t *facts,
                 ty_sched_done done, void *ctx, struct ty_error *err)
{
    const struct target *t = target_find(s, name);
    CLEANUP_JSON json_t *spec = keep_drained(t, given);
    CLEANUP_FREE char *text = spec ? ty_json_text(spec) : NULL;
    const char *setting;
    json_t *said;
    struct ty_unit *u;

    if (!text)
        return ty_error_oom(err);
    if (check_kind(t, json_string_value(json_object_get(spec, "kind")), err) < 0)
        return err->code;
    u = ty_unit_new();
    ty_unit_target_put(u, name, text, ty_wall_us());
    json_object_foreach ((json_t *)facts, setting, said) {
        CLEANUP_FREE char *value = ty_json_text(said);

        if (value)
            ty_unit_setting(u, setting, value);
    }
    return target_commit(s, name, spec, facts, u, done, ctx, err);
}

static int check_target_change(const struct ty_sched *s, const char *name,
                               const struct ty_target_spec *spec, struct ty_error *err)
{
    const struct target *t = target_find((struct ty_sched *)s, name);
    int r = target_has_kind(spec->kind, err);

    if (r == 0)
        r = check_kind(t, spec->kind, err);
    if (r == 0 && strcmp(name, "local") == 0 && strcmp(spec->kind, "local") != 0)
        r = ty_error_set(err, -EINVAL, "'local' is this box, and cannot be of kind '%s'",
                         spec->kind);
    if (r == 0 && s->o.system && (spec->ssh_config || json_array_size(spec->ssh_options) > 0))
        r = ty_error_set(
            err, -EINVAL,
            "a service of the whole machine runs ssh as the user of each run, and takes no "
            "ssh_config and ssh_options from a target; put them into the user's ~/.ssh/config");
    return r == 0 ? limits_target(s, name, err) : r;
}

int ty_sched_target_put(struct ty_sched *s, const char *name, const json_t *given, bool ask,
                        ty_sched_done done, void *ctx, struct ty_error *err)
{
    CLEANUP_JSON json_t *spec = keep_drained(target_find(s, name), given);
    struct ty_target_spec *checked = NULL;
    int r = ty_check_target_name(name, err);

    if (r == 0)
        r = ty_target_spec_parse(spec, &checked, err);
    if (r == 0)
        r = check_target_change(s, name, checked, err);
    if (r == 0 && ask && ty_target_kind(checked->kind)->probe)
        return ask_target(s, name, given, checked, done, ctx, err);
    ty_target_spec_free(checked);
    return r == 0 ? target_store(s, name, given, NULL, done, ctx, err) : r;
}

int ty_sched_target_delete(struct ty_sched *s, const char *name, ty_sched_done done, void *ctx,
                           struct ty_error *err)
{
    struct target *t = target_find(s, name);
    struct ty_unit *u;
    int r;

    if (!t)
        return ty_error_set(
            err, -ENOENT,
            "there is no compute target '%s'; `trainyard target ls` shows those that are", name);
    if (strcmp(name, "local") == 0)
        return ty_error_set(err, -EINVAL, "'local' is this box and cannot be removed");
    for (const struct live *l = s->runs; l; l = l->hh.next)
        if (!ty_run_state_ended(l->run.state) && strcmp(l->spec->target, name) == 0)
            return ty_error_set(
                err, -EBUSY,
                "compute target '%s' has runs that have not ended, '%s' for one; cancel them "
                "first, or wait",
                name, l->name);
    u = ty_unit_new();
    ty_unit_target_delete(u, name);
    t->going = true;
    r = target_commit(s, name, NULL, NULL, u, done, ctx, err);
    if (r < 0)
        t->going = false;
    return r;
}
