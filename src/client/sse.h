/* sse.h - server-sent events out of the pieces of a stream
 *
 * Pieces may end anywhere, also inside a line or a character.  An event is told of when the
 * empty line after it has come: what a broken stream leaves half-sent is never told of, so a
 * client that resumes after the last id misses and repeats nothing.
 */
#ifndef TY_CLIENT_SSE_H
#define TY_CLIENT_SSE_H
#include "base/str.h"

#define TY_SSE_EVENT_MAX (16u << 20) /* bytes of one event */

struct ty_sse {
    struct ty_str line, event, data, id; /* id: of the last event told of */
    struct ty_str next_id;               /* of the event being read */
    bool has_id, has_data;
};
void ty_sse_done(struct ty_sse *s); /* frees, and leaves it empty again */
/* Forget the half event of a broken stream; the last id stays. */
void ty_sse_restart(struct ty_sse *s);
const char *ty_sse_last_id(const struct ty_sse *s); /* NULL before the first */
/* Feed a piece.  fn gets each whole event (event "message" when it has no name); its non-zero
 * return stops the feeding and is returned.  0, -ENOMEM, -EFBIG. */
typedef int (*ty_sse_fn)(const char *event, const char *data, size_t n, void *ctx);
int ty_sse_feed(struct ty_sse *s, const char *bytes, size_t n, ty_sse_fn fn, void *ctx);
#endif
