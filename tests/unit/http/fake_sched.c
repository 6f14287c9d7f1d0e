/* fake_sched.c - a double of sched that only stores what it is asked for
 *
 * Answers come when the change is stored, as sched's do, or when the test releases them.
 */
#include "base/error.h"
#include "kit.h"
#include "store/store.h"
#include "track/follow.h"
#include <errno.h>
#include <string.h>

struct pending {
    struct ty_sched *s;
    ty_sched_done done;
    void *ctx;
    char *run;
};

static void on_stored(void *ctx, int r)
{
    struct pending *p = ctx;
    struct ty_error err = { 0 };

    if (r < 0)
        ty_error_set(&err, r, "cannot store it");
    ty_follow_notify(p->s->hub, p->run);
    if (p->s->hold && r == 0) {
        p->s->held[p->s->nheld].done = p->done;
        p->s->held[p->s->nheld].ctx = p->ctx;
        p->s->held[p->s->nheld++].run = p->run;
    } else {
        p->done(p->ctx, r, p->run, &err);
        free(p->run);
    }
    free(p);
}

void fake_release(struct ty_sched *s)
{
    struct ty_error err = { 0 };

    for (int i = 0; i < s->nheld; i++) {
        s->held[i].done(s->held[i].ctx, 0, s->held[i].run, &err);
        free(s->held[i].run);
    }
    s->nheld = 0;
}

static int commit(struct ty_sched *s, struct ty_unit *u, const char *run, ty_sched_done done,
                  void *ctx, struct ty_error *err)
{
    struct pending *p;

    if (s->refuse) {
        ty_unit_free(u);
        return ty_error_set(err, s->refuse, "refused on purpose");
    }
    p = calloc(1, sizeof *p);
    *p = (struct pending){ .s = s, .done = done, .ctx = ctx, .run = strdup(run) };
    ty_store_commit(s->store, u, on_stored, p);
    return 0;
}

struct found {
    int64_t id, seq;
    struct ty_run run;
};

static int take(const struct ty_active_run *a, void *ctx)
{
    *(struct found *)ctx = (struct found){ .id = a->row.id, .seq = a->last_seq, .run = a->row.run };
    return 0;
}

static int find(struct ty_sched *s, const char *run, struct found *ret, struct ty_error *err)
{
    return ty_store_with_run(s->store, run, take, ret) < 0
               ? ty_error_set(err, -ENOENT, "there is no run '%s'", run)
               : 0;
}

void ty_sched_recover(struct ty_sched *s)
{
    s->recoveries++;
}

int ty_sched_submit(struct ty_sched *s, const char *experiment, const json_t *spec,
                    const struct ty_user *who, ty_sched_done done, void *ctx, struct ty_error *err)
{
    const char *name = json_string_value(json_object_get(spec, "display_name"));
    CLEANUP_FREE char *text = json_dumps(spec, 0);
    struct ty_run_row row = { .id = ty_store_next_id(s->store),
                              .name = name,
                              .experiment = experiment,
                              .target = "local",
                              .user = who->name,
                              .uid = who->uid,
                              .command_line = "true",
                              .token = "t",
                              .spec = text,
                              .run = TY_RUN_INIT };
    struct ty_event_note note = { .at_us = 1780000000000000, .exit_code = -1 };
    struct ty_unit *u;
    struct found f;

    if (!name || !*name || find(s, name, &f, NULL) == 0)
        return ty_error_set(err, -EINVAL, "the double names a run by its display_name, once");
    u = ty_unit_new();
    ty_unit_run_add(u, &row);
    ty_run_apply(&row.run, TY_EV_SUBMITTED, &note);
    ty_unit_event(u, row.id, 1, note.at_us, "submitted", NULL, &row.run);
    return commit(s, u, name, done, ctx, err);
}

int ty_sched_cancel(struct ty_sched *s, const char *run, ty_sched_done done, void *ctx,
                    struct ty_error *err)
{
    struct ty_event_note note = { .at_us = 1780000003000000, .exit_code = -1 };
    struct found f;
    struct ty_unit *u;
    struct ty_error none = { 0 };

    if (find(s, run, &f, err) < 0)
        return err->code;
    if (ty_run_apply(&f.run, TY_EV_CANCEL, &note) < 0) {
        done(ctx, 0, run, &none);
        return 0;
    }
    u = ty_unit_new();
    ty_unit_event(u, f.id, f.seq + 1, note.at_us, "cancel", NULL, &f.run);
    return commit(s, u, run, done, ctx, err);
}

int ty_sched_tag(struct ty_sched *s, const char *run, const json_t *change, ty_sched_done done,
                 void *ctx, struct ty_error *err)
{
    struct found f;
    struct ty_unit *u;
    const char *key;
    json_t *value;

    if (find(s, run, &f, err) < 0)
        return err->code;
    u = ty_unit_new();
    json_object_foreach (json_object_get(change, "set"), key, value) {
        CLEANUP_JSON json_t *data = json_pack("{s:s s:O}", "key", key, "value", value);

        ty_unit_event(u, f.id, ++f.seq, 1780000004000000, "tagged", data, &f.run);
    }
    return commit(s, u, run, done, ctx, err);
}

int ty_sched_properties(struct ty_sched *s, const char *run, const json_t *change,
                        ty_sched_done done, void *ctx, struct ty_error *err)
{
    struct found f;
    struct ty_unit *u;
    const char *key;
    json_t *value;

    if (find(s, run, &f, err) < 0)
        return err->code;
    u = ty_unit_new();
    json_object_foreach (json_object_get(change, "set"), key, value) {
        CLEANUP_JSON json_t *data = json_pack("{s:s s:O}", "key", key, "value", value);

        ty_unit_event(u, f.id, ++f.seq, 1780000004000000, "property", data, &f.run);
    }
    return commit(s, u, run, done, ctx, err);
}

int ty_sched_rows(struct ty_sched *s, const char *run, uint32_t writer, uint64_t first,
                  const void *rows, size_t n, ty_sched_done done, void *ctx, struct ty_error *err)
{
    struct found f;
    struct ty_unit *u;
    struct ty_row row;
    uint32_t count = 0;

    if (find(s, run, &f, err) < 0)
        return err->code;
    for (size_t at = 0; at < n; count++)
        at += (size_t)ty_row_decode((const char *)rows + at, n - at, &row);
    u = ty_unit_new();
    ty_unit_rows(u, f.id, writer, first, count, rows, n);
    return commit(s, u, run, done, ctx, err);
}

int ty_sched_end(struct ty_sched *s, const char *run, const json_t *end, ty_sched_done done,
                 void *ctx, struct ty_error *err)
{
    (void)end;
    return ty_sched_cancel(s, run, done, ctx, err);
}

int ty_sched_artifact(struct ty_sched *s, const char *run, const char *path, const char *sha,
                      uint64_t bytes, ty_sched_done done, void *ctx, struct ty_error *err)
{
    CLEANUP_JSON json_t *data =
        json_pack("{s:s s:s s:I}", "path", path, "sha256", sha, "bytes", (json_int_t)bytes);
    struct found f;
    struct ty_unit *u;

    if (find(s, run, &f, err) < 0)
        return err->code;
    u = ty_unit_new();
    ty_unit_event(u, f.id, f.seq + 1, 1780000005000000, "artifact", data, &f.run);
    return commit(s, u, run, done, ctx, err);
}

const char *ty_sched_uses_datastore(struct ty_sched *s, const char *name)
{
    return s->uses && strcmp(s->uses, name) == 0 ? "busy_1" : NULL;
}

int ty_sched_delete(struct ty_sched *s, const char *run, ty_sched_done done, void *ctx,
                    struct ty_error *err)
{
    struct found f;
    struct ty_unit *u;

    if (find(s, run, &f, err) < 0)
        return err->code;
    if (!ty_run_state_ended(f.run.state))
        return ty_error_set(err, -EBUSY, "run '%s' has not ended", run);
    u = ty_unit_new();
    ty_unit_run_delete(u, f.id);
    return commit(s, u, run, done, ctx, err);
}

int ty_sched_target_put(struct ty_sched *s, const char *name, const json_t *spec, bool ask,
                        ty_sched_done done, void *ctx, struct ty_error *err)
{
    if (ask)
        return ty_error_set(err, -EINVAL, "host 'h1' does not answer");
    CLEANUP_FREE char *text = json_dumps(spec, 0);
    struct ty_unit *u = ty_unit_new();

    ty_unit_target_put(u, name, text, 1780000000000000);
    return commit(s, u, name, done, ctx, err);
}

int ty_sched_target_delete(struct ty_sched *s, const char *name, ty_sched_done done, void *ctx,
                           struct ty_error *err)
{
    struct ty_unit *u = ty_unit_new();

    ty_unit_target_delete(u, name);
    return commit(s, u, name, done, ctx, err);
}

int ty_sched_gc(struct ty_sched *s,
                void (*done)(void *ctx, int r, json_t *report, const struct ty_error *err),
                void *ctx, struct ty_error *err)
{
    CLEANUP_JSON json_t *report = NULL;
    struct ty_error none = { 0 };

    if (s->refuse)
        return ty_error_set(err, s->refuse, "a collection is going on already");
    report =
        json_pack("{s:i s:i s:i s:i s:i s:i}", "blobs_kept", 1, "bytes_kept", 2, "blobs_removed", 3,
                  "bytes_removed", 4, "runs_removed", 5, "snapshots_removed", 6);
    done(ctx, 0, report, &none);
    return 0;
}

void ty_sched_annotate(struct ty_sched *s, json_t *run)
{
    (void)s;
    if (strcmp(json_string_value(json_object_get(run, "state")), "Queued") != 0)
        return;
    json_object_set_new(run, "why", json_string("waits for 1 CPU slot"));
    json_object_set_new(run, "queue_place", json_integer(1));
}

void ty_sched_annotate_all(struct ty_sched *s, json_t *runs)
{
    json_t *run;
    size_t i;

    json_array_foreach (runs, i, run)
        ty_sched_annotate(s, run);
}

void ty_sched_annotate_target(struct ty_sched *s, json_t *target)
{
    (void)s;
    json_object_set_new(target, "nodes",
                        json_pack("{s:i s:i s:i s:i s:i s:i s:i s:s}", "max", 2, "preparing", 0,
                                  "running", 0, "idle", 2, "leaving", 0, "unusable", 0, "preempted",
                                  0, "allocation_state", "Steady"));
    json_object_set_new(target, "cpus", json_integer(2));
    json_object_set_new(target, "gpus", json_integer(0));
}

int ty_sched_nodes(struct ty_sched *s, json_t **ret)
{
    (void)s;
    *ret = json_pack("{s:[{s:s s:s s:[s] s:s s:s s:n s:i s:i s:i s:i s:[{s:s s:s}] s:[s] s:n}]}",
                     "nodes", "name", "box", "address", "box", "targets", "local", "kind", "local",
                     "state", "up", "why", "cpus", 2, "cpus_used", 1, "memory_mb", 100,
                     "memory_used_mb", 0, "gpus", "id", "GPU-1", "run", "first_1", "runs",
                     "first_1", "facts");
    return *ret ? 0 : -ENOMEM;
}

int ty_sched_drain(struct ty_sched *s, const char *target, const char *node, bool drained,
                   ty_sched_done done, void *ctx, struct ty_error *err)
{
    CLEANUP_JSON json_t *spec =
        json_pack("{s:s s:b s:s*}", "kind", "local", "drained", drained, "description", node);

    return ty_sched_target_put(s, target, spec, false, done, ctx, err);
}

void ty_sched_status(struct ty_sched *s, json_t *status)
{

    json_object_set_new(status, "runs", json_pack("{s:i s:i}", "active", 0, "queued", 0));
    json_object_set_new(status, "slots",
                        json_pack("{s:i s:i s:i s:i}", "cpus", 2, "used", 0, "memory_mb", 1000,
                                  "memory_used_mb", 0));
    json_object_set_new(status, "queue_paused", json_boolean(s->paused));
}

int ty_sched_queue(struct ty_sched *s, json_t **ret)
{
    *ret = json_pack("{s:b s:[]}", "paused", s->paused, "runs");
    return 0;
}

int ty_sched_pause(struct ty_sched *s, bool paused, ty_sched_done done, void *ctx,
                   struct ty_error *err)
{
    struct ty_unit *u = ty_unit_new();

    s->paused = paused;
    ty_unit_setting(u, "queue.paused", paused ? "1" : "");
    return commit(s, u, "", done, ctx, err);
}
