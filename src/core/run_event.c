/* run_event.c - folding a run's event log into what it says */
#include "core/run_event.h"
#include "base/error.h"
#include "base/fs.h"
#include <errno.h>
#include <string.h>

#define EXIT_CODE_MAX 255
#define EXIT_SIGNAL_MAX 127

static const char *const note_words[] = {
#define X(name, word) [TY_NOTE_##name] = word,
    TY_NOTES(X)
#undef X
};

const char *ty_note_word(enum ty_note n)
{
    return note_words[n];
}

enum ty_note ty_note_parse(const char *word)
{
    for (int i = 0; i < TY_NOTE_COUNT; i++)
        if (strcmp(note_words[i], word) == 0)
            return (enum ty_note)i;
    return TY_NOTE_INVALID;
}

int ty_run_view_init(struct ty_run_view *v)
{
    *v = (struct ty_run_view){ .run = TY_RUN_INIT,
                               .warnings = json_array(),
                               .tags = json_object(),
                               .properties = json_object(),
                               .artifacts = json_object() };
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

/* ---- notes ---- */

static json_t *artifact_of(const json_t *data)
{
    json_t *sha = json_object_get(data, "sha256"), *bytes = json_object_get(data, "bytes");

    return json_pack("{s:O s:O}", "sha256", sha, "bytes", bytes);
}

static bool is_artifact(const json_t *data, const char *path)
{
    const char *sha = json_string_value(json_object_get(data, "sha256"));
    const json_t *bytes = json_object_get(data, "bytes");

    return ty_path_is_inside(path) && sha && *sha && json_is_integer(bytes) &&
           json_integer_value(bytes) >= 0;
}

static int put_note(struct ty_run_view *v, enum ty_note note, const char *key, json_t *value,
                    const json_t *data)
{
    switch (note) {
    case TY_NOTE_WARNED:
        return json_array_append(v->warnings, json_object_get(data, "text"));
    case TY_NOTE_TAGGED:
        return value ? json_object_set(v->tags, key, value)
                     : json_object_set_new(v->tags, key, json_null());
    case TY_NOTE_UNTAGGED:
        json_object_del(v->tags, key);
        return 0;
    case TY_NOTE_PROPERTY: /* set once: what is there stays */
        return json_object_get(v->properties, key) ? 0 : json_object_set(v->properties, key, value);
    case TY_NOTE_ARTIFACT:
        return json_object_set_new(v->artifacts, key, artifact_of(data));
    case TY_NOTE_ENVIRONMENT: /* what it came to stands in a table of its own */
        return 0;
    default:
        return -1;
    }
}

static bool is_environment(const json_t *data)
{
    const json_t *node = json_object_get(data, "node");

    return json_is_integer(node) && json_integer_value(node) >= 0 &&
           json_is_string(json_object_get(data, "hash")) &&
           json_is_boolean(json_object_get(data, "built")) &&
           json_is_number(json_object_get(data, "seconds"));
}

static int apply_note(struct ty_run_view *v, enum ty_note note, const json_t *data,
                      struct ty_error *err)
{
    const char *key =
        json_string_value(json_object_get(data, note == TY_NOTE_ARTIFACT ? "path" : "key"));
    json_t *value = json_object_get(data, "value");
    bool good = note == TY_NOTE_WARNED        ? json_is_string(json_object_get(data, "text"))
                : note == TY_NOTE_ENVIRONMENT ? is_environment(data)
                                              : key && *key;

    if (good && note == TY_NOTE_TAGGED)
        good = !value || json_is_null(value) || json_is_string(value);
    if (good && note == TY_NOTE_PROPERTY)
        good = json_is_string(value);
    if (good && note == TY_NOTE_ARTIFACT)
        good = is_artifact(data, key);
    if (!good)
        return malformed(err, note_words[note]);
    return put_note(v, note, key, value, data) < 0 ? ty_error_oom(err) : 0;
}

/* ---- events that move the state ---- */

/* A whole number from 0 to max; *ret stays where there is none. */
static bool get_small(const json_t *data, const char *key, int max, int *ret)
{
    const json_t *n = json_object_get(data, key);

    if (!n || json_is_null(n))
        return true;
    if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > max)
        return false;
    *ret = (int)json_integer_value(n);
    return true;
}

/* The error of a run is what its end brought, or the message of a limit that canceled it.  1: *ret (a new reference, or
 * NULL) replaces it; 0: it stays; or a negative errno. */
static int error_of(enum ty_run_event ev, const json_t *data, json_t **ret)
{
    json_t *error = json_object_get(data, "error"), *message = json_object_get(data, "message");
    const char *reason = json_string_value(json_object_get(data, "reason"));
    bool limit = reason && strcmp(reason, "time_limit") == 0;

    if (ev == TY_EV_REQUEUED)
        return 1;
    if (error && !json_is_null(error)) {
        *ret = json_incref(error);
        return json_is_object(error) ? 1 : -EINVAL;
    }
    if (ev != TY_EV_CANCEL || !json_is_string(message))
        return 0;
    *ret = json_pack("{s:s s:O s:n}", "code", limit ? "TimeLimit" : "Canceled", "message", message,
                     "log_tail");
    return *ret ? 1 : -ENOMEM;
}

static int apply_move(struct ty_run_view *v, enum ty_run_event ev, int64_t at_us,
                      const json_t *data, struct ty_error *err)
{
    struct ty_event_note note = { .at_us = at_us, .exit_code = -1 };
    CLEANUP_JSON json_t *error = NULL;
    int replace = error_of(ev, data, &error), r;

    if (replace == -ENOMEM)
        return ty_error_oom(err);
    if (replace < 0 || !get_small(data, "exit_code", EXIT_CODE_MAX, &note.exit_code) ||
        !get_small(data, "exit_signal", EXIT_SIGNAL_MAX, &note.exit_signal))
        return malformed(err, ty_run_event_word(ev));
    r = ty_run_apply(&v->run, ev, &note);
    if (r < 0)
        return ty_error_set(err, r, "event '%s' cannot follow state %s", ty_run_event_word(ev),
                            ty_run_state_word(v->run.state));
    if (replace) {
        json_decref(v->error);
        v->error = TAKE(error);
    }
    return 0;
}

int ty_run_view_apply(struct ty_run_view *v, int64_t seq, int64_t at_us, const char *kind,
                      const json_t *data, struct ty_error *err)
{
    enum ty_run_event ev = ty_run_event_parse(kind);
    enum ty_note note = ty_note_parse(kind);
    int r;

    if (seq != v->last_seq + 1)
        return ty_error_set(err, -EPROTO, "event %lld follows event %lld", (long long)seq,
                            (long long)v->last_seq);
    if (ev == TY_EV_INVALID && note == TY_NOTE_INVALID)
        return ty_error_set(err, -EINVAL, "no event is of the kind '%.40s'", kind);
    if (data && !json_is_object(data))
        return malformed(err, kind);
    r = ev == TY_EV_INVALID ? apply_note(v, note, data, err) : apply_move(v, ev, at_us, data, err);
    if (r == 0)
        v->last_seq = seq;
    return r;
}
