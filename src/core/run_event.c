/* run_event.c - folding a run's event log into what it says */
#include "core/run_event.h"
#include "base/error.h"
#include <errno.h>
#include <string.h>

static const char *const note_words[] = {
#define X(name, word) [TY_NOTE_##name] = word,
    TY_NOTES(X)
#undef X
};

const char *ty_note_word(enum ty_note n) { return note_words[n]; }

enum ty_note ty_note_parse(const char *word)
{
    for (int i = 0; i < TY_NOTE_COUNT; i++)
        if (strcmp(note_words[i], word) == 0)
            return (enum ty_note)i;
    return TY_NOTE_INVALID;
}

int ty_run_view_init(struct ty_run_view *v)
{
    *v = (struct ty_run_view){ .run = TY_RUN_INIT, .warnings = json_array(), .tags = json_object(),
                               .properties = json_object(), .artifacts = json_object() };
    if (v->warnings && v->tags && v->properties && v->artifacts)
        return 0;
    ty_run_view_done(v);
    return -ENOMEM;
}

void ty_run_view_done(struct ty_run_view *v)
{
    json_decref(v->error);
    json_decref(v->warnings);
    json_decref(v->tags);
    json_decref(v->properties);
    json_decref(v->artifacts);
    *v = (struct ty_run_view){ .run = TY_RUN_INIT };
}

static int malformed(struct ty_error *err, const char *kind)
{
    return ty_error_set(err, -EINVAL, "the data of an event '%s' is malformed", kind);
}

static int take_note(struct ty_run_view *v, enum ty_note note, const char *kind, const json_t *data, struct ty_error *err)
{
    const char *key = json_string_value(json_object_get(data, note == TY_NOTE_ARTIFACT ? "path" : "key"));
    json_t *value = json_object_get(data, "value"), *text = json_object_get(data, "text");
    int r = 0;

    if (note == TY_NOTE_WARNED)
        return !json_is_string(text) ? malformed(err, kind) : json_array_append(v->warnings, text) ? -ENOMEM : 0;
    if (!key)
        return malformed(err, kind);
    if (note == TY_NOTE_TAGGED)
        r = json_object_set_new(v->tags, key, value ? json_incref(value) : json_null());
    else if (note == TY_NOTE_UNTAGGED)
        json_object_del(v->tags, key);
    else if (note == TY_NOTE_PROPERTY && !json_object_get(v->properties, key))
        r = value ? json_object_set(v->properties, key, value) : malformed(err, kind);
    else if (note == TY_NOTE_ARTIFACT)
        r = json_object_set_new(v->artifacts, key,
                                json_pack("{s:O? s:O?}", "sha256", json_object_get(data, "sha256"), "bytes",
                                          json_object_get(data, "bytes")));
    return r == 0 ? 0 : r == -EINVAL ? r : -ENOMEM;
}

/* The error of a run is what its end brought, or the message of a limit that canceled it. */
static void take_error(struct ty_run_view *v, enum ty_run_event ev, const json_t *data)
{
    json_t *error = json_object_get(data, "error"), *message = json_object_get(data, "message");
    const char *reason = json_string_value(json_object_get(data, "reason"));

    if (ev == TY_EV_REQUEUED) {
        json_decref(v->error);
        v->error = NULL;
    } else if (json_is_object(error)) {
        json_decref(v->error);
        v->error = json_incref(error);
    } else if (ev == TY_EV_CANCEL && json_is_string(message)) {
        json_decref(v->error);
        v->error = json_pack("{s:s s:O s:n}", "code", reason && strcmp(reason, "time_limit") == 0 ? "TimeLimit" : "Canceled",
                             "message", message, "log_tail");
    }
}

int ty_run_view_apply(struct ty_run_view *v, int64_t seq, int64_t at_us, const char *kind, const json_t *data,
                      struct ty_error *err)
{
    const json_t *code = json_object_get(data, "exit_code");
    struct ty_event_note note = { .at_us = at_us, .exit_code = json_is_integer(code) ? (int)json_integer_value(code) : -1,
                                  .exit_signal = (int)json_integer_value(json_object_get(data, "exit_signal")) };
    enum ty_run_event ev = ty_run_event_parse(kind);
    enum ty_note n = ty_note_parse(kind);
    int r;

    if (seq != v->last_seq + 1)
        return ty_error_set(err, -EPROTO, "event %lld follows event %lld", (long long)seq, (long long)v->last_seq);
    if (ev == TY_EV_INVALID && n == TY_NOTE_INVALID)
        return ty_error_set(err, -EINVAL, "no event is of the kind '%.40s'", kind);
    if (ev == TY_EV_INVALID) {
        r = take_note(v, n, kind, data, err);
    } else {
        r = ty_run_apply(&v->run, ev, &note);
        if (r < 0)
            return ty_error_set(err, r, "event '%s' cannot follow state %s", kind, ty_run_state_word(v->run.state));
        take_error(v, ev, data);
    }
    if (r == 0)
        v->last_seq = seq;
    return r;
}
