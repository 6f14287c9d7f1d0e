/* run_event.h - the lines of a run's event log
 *
 * Every change of a run is an event: those that move the state (run_state.h) and notes, which add a
 * fact.  An event is (run, seq, time, kind, data): seq counts from 1 without gaps, data is a JSON
 * object whose keys stand in docs/spec/event-log.md.
 */
#ifndef TY_RUN_EVENT_H
#define TY_RUN_EVENT_H
#include "base/json.h"
#include "core/run_state.h"
struct ty_error;

/*   kind        data */
#define TY_NOTES(X) \
    X(WARNED,    "warned")    /* text */ \
    X(TAGGED,    "tagged")    /* key, value (null: no value) */ \
    X(UNTAGGED,  "untagged")  /* key */ \
    X(PROPERTY,  "property")  /* key, value */ \
    X(ARTIFACT,  "artifact")  /* path, sha256, bytes */ \
    X(ENVIRONMENT, "environment") /* node, hash, built, seconds */
#define X(name, word) TY_NOTE_##name,
enum ty_note { TY_NOTES(X) TY_NOTE_COUNT, TY_NOTE_INVALID = -22 };
#undef X
const char *ty_note_word(enum ty_note n);
enum ty_note ty_note_parse(const char *word);

/* Everything that the log of one run says.  Owned: free with ty_run_view_done. */
struct ty_run_view {
    struct ty_run run;
    json_t *error;      /* {"code", "message", "log_tail"}, or NULL */
    json_t *warnings;   /* array of texts */
    json_t *tags;       /* object */
    json_t *properties; /* object */
    json_t *artifacts;  /* object: path -> {"sha256", "bytes"} */
    int64_t last_seq;
};
int ty_run_view_init(struct ty_run_view *v);
void ty_run_view_done(struct ty_run_view *v);
/* Fold the next event in; `data` NULL is an empty object.  -EPROTO: it cannot follow (wrong seq, or the
 * table forbids it); -EINVAL: unknown kind or malformed data; -ENOMEM.  On an error the view is
 * unchanged. */
int ty_run_view_apply(struct ty_run_view *v, int64_t seq, int64_t at_us, const char *kind, const json_t *data,
                      struct ty_error *err);
#endif
