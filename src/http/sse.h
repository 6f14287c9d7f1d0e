/* sse.h - server-sent events as bytes; pure
 *
 * Every event carries the cursor as its id, where a client that lost the stream goes on:
 * `<event seq>:<log offset>`, and in a stream with rows `:<n>.<n>...`, the numbers of the rows that writers 0, 1 ... send
 * next.  In a stream of several logs the second part is `<offset>.<offset>...`, of the logs of ranks 0, 1 ...; zeros at
 * its end are left out.
 */
#ifndef TY_HTTP_SSE_H
#define TY_HTTP_SSE_H
#include "base/json.h"
#include "base/str.h"
#include <stddef.h>
#include <stdint.h>

struct ty_row_places;

struct sse_cursor {
    int64_t seq;                      /* of the last event of the run */
    int64_t offset;                   /* bytes of the log before the next piece */
    int64_t *ranks;                   /* NULL: one log; else the same of each rank's log, borrowed; offset is not used */
    int nranks;
    const struct ty_row_places *rows; /* NULL: a stream without them; borrowed */
};
/* The id of an event; `rows` (empty before) gets its third part, if there is one.  ret->rows is left alone.
 * ret->ranks is filled in place.  0, -EINVAL or -ENOMEM. */
int sse_cursor_parse(const char *text, struct sse_cursor *ret, struct ty_row_places *rows);

void sse_json(struct ty_str *out, const struct sse_cursor *c, const char *event,
              const json_t *data);
/* `moved`: the event that led to the state (NULL: none); `why`: text or NULL. */
void sse_state(struct ty_str *out, const struct sse_cursor *c, const char *state,
               const json_t *moved, const json_t *why);
/* A piece of the log that begins at c->offset (that of `rank` in a stream of several; else -1), which moves on by what was sent: text as far as
 * it is UTF-8 to its last character's end, or base64.  A character that is cut by the end of the
 * piece waits for its rest, unless the log ends here (`last`).  Bytes sent; 0: wait. */
size_t sse_log(struct ty_str *out, struct sse_cursor *c, const char *name, int rank,
               const char *bytes, size_t n, bool last);
#endif
