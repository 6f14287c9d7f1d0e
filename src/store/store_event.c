/* store_event.c - events, and what follows from them in the tables
 *
 * The event log is the truth; the other tables are its fold, kept so that it need not be read.
 * What an event means is decided on the loop, where its data is JSON: the writer thread only
 * binds texts.  The fold must be the one of ty_run_view_apply(): ty_store_check() compares.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "store/store_internal.h"
#include <errno.h>
#include <string.h>

struct op_event {
    struct op op;
    int64_t run, seq, at_us;
    const char *kind, *data;
    bool moves; /* the state; otherwise a note */
    struct ty_run after;
    bool has_error;
    const char *error; /* JSON; NULL: none any more */
};
struct op_note {
    struct op op;
    enum ty_note note;
    int64_t run, seq, bytes;
    const char *key, *value; /* a tag or property; a path and its SHA-256 */
};

/* ---- on the writer thread ---- */

static int move_run(struct ty_store *st, const struct op_event *o)
{
    const struct ty_run *run = &o->after;

    return store_exec(&st->writer, STMT_run_move, "iitttiiiiiii", o->run, o->seq,
                      ty_run_state_word(run->state), ty_run_state_word(run->outcome),
                      ty_run_state_word(run->heard), (int64_t)!ty_run_state_ended(run->state),
                      (int64_t)run->attempt, (int64_t)run->exit_code, (int64_t)run->exit_signal,
                      run->created_us, run->started_us, run->ended_us);
}

static int put_event(struct ty_store *st, const struct op_event *o)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->writer, STMT_event_add, "iiitt", o->run, o->seq,
                                               o->at_us, o->kind, o->data);
    int rc = FAULT("store.event", -1, sqlite3_step(q));

    return store_errno(st->writer.db, rc);
}

/* 0 when the event is the next one of its run. */
static int check_place(struct ty_store *st, const struct op_event *o, bool *active)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->writer, STMT_run_where, "i", o->run);
    int r = store_step(q);
    int64_t last;

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    last = sqlite3_column_int64(q, 0);
    *active = sqlite3_column_int(q, 1);
    return o->seq == last + 1 ? 0 : o->seq <= last ? -EEXIST : -EPROTO;
}

static int apply_event(struct ty_store *st, const struct op *op)
{
    const struct op_event *o = (const struct op_event *)op;
    bool active = false;
    int r = check_place(st, o, &active);

    if (r == 0)
        r = put_event(st, o);
    if (r == 0)
        r = o->moves ? move_run(st, o)
                     : store_exec(&st->writer, STMT_run_note, "ii", o->run, o->seq);
    if (r == 0 && o->has_error)
        r = store_exec(&st->writer, STMT_run_error, "it", o->run, o->error);
    if (r == 0 && o->moves && active && ty_run_state_ended(o->after.state))
        r = store_log_sync(st, o->run);
    return r;
}

static int apply_note(struct ty_store *st, const struct op *op)
{
    const struct op_note *o = (const struct op_note *)op;

    switch (o->note) {
    case TY_NOTE_WARNED:
        return store_exec(&st->writer, STMT_warning_add, "iit", o->run, o->seq, o->value);
    case TY_NOTE_TAGGED:
        return store_exec(&st->writer, STMT_tag_put, "itt", o->run, o->key, o->value);
    case TY_NOTE_UNTAGGED:
        return store_exec(&st->writer, STMT_tag_delete, "it", o->run, o->key);
    case TY_NOTE_PROPERTY:
        return store_exec(&st->writer, STMT_property_add, "itt", o->run, o->key, o->value);
    case TY_NOTE_ARTIFACT:
        return store_exec(&st->writer, STMT_artifact_put, "itti", o->run, o->key, o->value,
                          o->bytes);
    case TY_NOTE_ENVIRONMENT:
        return 0;
    default:
        return -EINVAL;
    }
}

/* ---- on the loop ---- */

static const char *text_of(const json_t *data, const char *key)
{
    return json_string_value(json_object_get(data, key));
}

static void add_note(struct ty_unit *u, enum ty_note note, int64_t run, int64_t seq,
                     const json_t *data)
{
    struct op_note *o = unit_op(u, sizeof *o, apply_note);

    if (!o)
        return;
    o->note = note;
    o->run = run;
    o->seq = seq;
    o->key = unit_text(u, text_of(data, note == TY_NOTE_ARTIFACT ? "path" : "key"));
    o->value = unit_text(u, text_of(data, note == TY_NOTE_WARNED     ? "text"
                                          : note == TY_NOTE_ARTIFACT ? "sha256"
                                                                     : "value"));
    o->bytes = json_integer_value(json_object_get(data, "bytes"));
}

/* What the event makes of the run's error, as in ty_run_view_apply(): 1 and a new reference; -1:
 * it is gone; 0: it stays. 1 with NULL: out of memory. */
static int error_of(enum ty_run_event ev, const json_t *data, json_t **ret)
{
    json_t *error = json_object_get(data, "error");
    const char *reason = text_of(data, "reason"), *message = text_of(data, "message");

    if (ev == TY_EV_REQUEUED)
        return -1;
    if (json_is_object(error)) {
        *ret = json_incref(error);
        return 1;
    }
    if (ev == TY_EV_CANCEL && message) {
        *ret = json_pack("{s:s s:s s:n}", "code",
                         reason && strcmp(reason, "time_limit") == 0 ? "TimeLimit" : "Canceled",
                         "message", message, "log_tail");
        return 1;
    }
    return 0;
}

static void add_error(struct ty_unit *u, struct op_event *o, enum ty_run_event ev,
                      const json_t *data)
{
    CLEANUP_JSON json_t *error = NULL;
    CLEANUP_FREE char *text = NULL;
    int what = error_of(ev, data, &error);

    o->has_error = what != 0;
    if (what != 1)
        return;
    text = error ? ty_json_text(error) : NULL;
    if (!text)
        unit_failed(u);
    o->error = unit_text(u, text);
}

void ty_unit_event(struct ty_unit *u, int64_t run_id, int64_t seq, int64_t at_us, const char *kind,
                   const json_t *data, const struct ty_run *run)
{
    CLEANUP_FREE char *text = data ? ty_json_text(data) : strdup("{}");
    enum ty_run_event ev = ty_run_event_parse(kind);
    enum ty_note note = ty_note_parse(kind);
    struct op_event *o = unit_op(u, sizeof *o, apply_event);

    if (!text)
        unit_failed(u);
    if (!o || !text)
        return;
    o->run = run_id;
    o->seq = seq;
    o->at_us = at_us;
    o->kind = unit_text(u, kind);
    o->data = unit_text(u, text);
    o->moves = ev != TY_EV_INVALID;
    o->after = *run;
    if (o->moves)
        add_error(u, o, ev, data);
    else
        add_note(u, note, run_id, seq, data);
}

/* ---- reading ---- */

int ty_store_events(struct ty_store *st, int64_t run_id, int64_t after_seq, int limit, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_event_list, "iii", run_id, after_seq, (int64_t)limit);
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a,
                       json_pack("{s:I s:o s:o s:o}", "seq", (json_int_t)sqlite3_column_int64(q, 0),
                                 "at", store_json_time(q, 1), "kind", store_json_text(q, 2), "data",
                                 store_json_value(q, 3))) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}
