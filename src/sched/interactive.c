/* interactive.c - runs without a program: whoever submits one logs, and ends it
 *
 * Such a run is Running from the unit that submits it, holds no slots and has no runner.  It ends when
 * it is told to, when its parent ends, or when the process it belongs to is gone.
 */
#include "base/proc.h"
#include "core/row.h"
#include "sched/sched_internal.h"
#include <errno.h>
#include <string.h>

void interactive_begin(struct live *l, struct ty_unit *u)
{
    CLEANUP_JSON json_t *data = json_pack("{s:i}", "pid", (int)l->spec->process.pid);

    run_event(l, u, TY_EV_STARTED, 0, l->spec->process.pid ? data : NULL);
    keep_ticking(l->sched);
}

/* ---- ending ---- */

void interactive_end(struct live *l, enum ty_run_state outcome, json_t *error, ty_sched_done done,
                     void *ctx)
{
    CLEANUP_JSON json_t *good = json_pack("{s:i}", "exit_code", 0), *bad = json_object();
    CLEANUP_JSON json_t *why = json_pack("{s:s}", "reason", "user");
    struct ty_unit *u = ty_unit_new();

    if (error)
        json_object_set(bad, "error", error);
    if (outcome == TY_RUN_CANCELED)
        run_event(l, u, TY_EV_CANCEL, 0, why);
    if (outcome == TY_RUN_COMPLETED)
        run_event(l, u, TY_EV_EXITED_OK, 0, good);
    else
        run_event(l, u, TY_EV_EXITED_BAD, 0, bad);
    run_event(l, u, TY_EV_COLLECTED, 0, NULL);
    run_commit(l, u, done, ctx);
}

static int read_end(const json_t *o, enum ty_run_state *outcome, json_t **error,
                    struct ty_error *err)
{
    static const char *const known[] = { "state", "code", "message", NULL };
    const char *what = "the end of a run", *word = NULL, *code = "Failed", *message = NULL;
    int r = json_is_object(o) ? ty_json_only(o, what, known, err)
                              : ty_error_set(err, -EINVAL, "%s is not a JSON object", what);

    if (r == 0)
        r = ty_json_get_str(o, what, "state", &word, err);
    if (r == 0)
        r = ty_json_get_str(o, what, "code", &code, err);
    if (r == 0)
        r = ty_json_get_str(o, what, "message", &message, err);
    if (r < 0)
        return r;
    *outcome = word ? ty_run_state_parse(word) : TY_RUN_STATE_INVALID;
    if (!ty_run_state_ended(*outcome))
        return ty_error_set(err, -EINVAL,
                            "%s: 'state' is '%.40s', and may be Completed, Failed or Canceled",
                            what, word ? word : "");
    *error =
        json_pack("{s:s s:s s:n}", "code", code, "message", message ? message : "", "log_tail");
    return *error ? 0 : ty_error_oom(err);
}

int ty_sched_end(struct ty_sched *s, const char *run, const json_t *how, ty_sched_done done,
                 void *ctx, struct ty_error *err)
{
    CLEANUP_JSON json_t *error = NULL;
    struct ty_error none = { 0 };
    enum ty_run_state outcome;
    struct live *l;
    int r = read_end(how, &outcome, &error, err);

    if (r == 0)
        r = live_load(s, run, &l, err);
    if (r < 0)
        return r;
    if (!l->spec->interactive) {
        run_act(l); /* it may have been loaded for this only */
        return ty_error_set(err, -EINVAL,
                            "run '%s' ends when its program does; cancel it to end it now", run);
    }
    if (ty_run_state_ended(l->run.state) && l->units == 0) {
        run_act(l);
        done(ctx, 0, run, &none);
        return 0;
    }
    if (ty_run_state_ended(l->run.state)) { /* answered when that end is stored */
        run_commit(l, ty_unit_new(), done, ctx);
        return 0;
    }
    interactive_end(l, outcome, outcome == TY_RUN_FAILED ? error : NULL, done, ctx);
    return 0;
}

static json_t *parent_failed(void)
{
    return json_pack("{s:s s:s s:n}", "code", "ParentFailed", "message",
                     "the run that this is a child of has failed", "log_tail");
}

void interactive_end_children(const struct live *parent)
{
    for (struct live *l = parent->sched->runs, *next; l; l = next) {
        CLEANUP_JSON json_t *error = NULL;

        next = l->hh.next;
        if (!l->spec->interactive || !l->spec->parent || ty_run_state_ended(l->run.state) ||
            strcmp(l->spec->parent, parent->name) != 0)
            continue;
        error = parent_failed();
        interactive_end(l, parent->run.state, parent->run.state == TY_RUN_FAILED ? error : NULL,
                        NULL, NULL);
    }
}

bool interactive_look(struct live *l)
{
    if (!l->spec->interactive || l->spec->process.pid == 0 || ty_run_state_ended(l->run.state))
        return false;
    if (l->stored_seq == l->seq && !l->sched->recovering && !ty_proc_alive(&l->spec->process))
        run_lost(l, "ProcessLost",
                 "the process that logged to this run has ended without completing it; call "
                 "run.complete(), or use the run in a 'with' statement");
    return true;
}

static int take_run(const struct ty_active_run *a, void *ctx)
{
    *(struct ty_run *)ctx = a->row.run;
    return 0;
}

void interactive_resume(struct live *l)
{
    CLEANUP_JSON json_t *error = NULL;
    struct ty_run parent = TY_RUN_INIT;

    keep_ticking(l->sched);
    /* A daemon that died between the ends of both left this one. */
    if (l->spec->parent && !ty_run_state_ended(l->run.state) &&
        ty_store_with_run(l->sched->o.store, l->spec->parent, take_run, &parent) == 0 &&
        ty_run_state_ended(parent.state) && parent.ended_us >= l->run.created_us) {
        error = parent_failed();
        interactive_end(l, parent.state, parent.state == TY_RUN_FAILED ? error : NULL, NULL, NULL);
        return;
    }
    run_act(l);
}

/* ---- rows ---- */

/* 0 and how many there are. */
static int count_rows(const char *p, size_t n, uint32_t *count, struct ty_error *err)
{
    uint32_t found = 0;

    while (n > 0) {
        struct ty_row row;
        ptrdiff_t used = ty_row_decode(p, n, &row);

        if (used < 0)
            return ty_error_set(err, -EINVAL, "row %u of the batch is malformed", found + 1);
        if (row.kind == TY_ROW_PAD || row.kind == TY_ROW_TAG || row.kind == TY_ROW_PROPERTY)
            return ty_error_set(err, -EINVAL,
                                "row %u of the batch is of the kind '%s'; only metrics are taken",
                                found + 1, ty_row_kind_word(row.kind));
        p += used;
        n -= (size_t)used;
        found++;
    }
    *count = found;
    return 0;
}

/* What the store dropped is known when the rows are stored. */
struct rows_wait {
    struct ty_sched *sched;
    ty_sched_done done;
    void *ctx;
};

static void on_rows(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct rows_wait *w = ctx;
    struct live *l = live_find(w->sched, run);
    struct ty_error gap = { 0 };

    if (r == 0 && l)
        limits_look(l);
    if (r == -EPROTO)
        r = ty_error_set(&gap, -EEXIST,
                         "the rows cannot be stored: the batch begins beyond the next row that is "
                         "wanted of its writer; send the rows before it first");
    w->done(w->ctx, r, run, gap.code ? &gap : err);
    free(w);
}

int ty_sched_rows(struct ty_sched *s, const char *run, uint32_t writer, uint64_t first,
                  const void *rows, size_t n, ty_sched_done done, void *ctx, struct ty_error *err)
{
    struct rows_wait *w;
    struct ty_unit *u;
    struct live *l;
    uint32_t count = 0;
    int r = count_rows(rows, n, &count, err);

    if (r == 0)
        r = live_load(s, run, &l, err);
    if (r < 0)
        return r;
    r = limits_writer(l, writer, err);
    w = r == 0 ? malloc(sizeof *w) : NULL;
    if (!w) {
        run_act(l); /* it may have been loaded for this only */
        return r < 0 ? r : ty_error_oom(err);
    }
    *w = (struct rows_wait){ .sched = s, .done = done, .ctx = ctx };
    u = ty_unit_new();
    ty_unit_rows(u, l->id, writer, first, count, rows, n);
    run_commit(l, u, on_rows, w);
    return 0;
}
