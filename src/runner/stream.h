/* stream.h - one end of a stream of frames (docs/spec/runner-stream.md)
 *
 * From a runner to the daemon over a Unix socket, from a node agent to the runner that leads it over a link, and the other end
 * of such a link.  Nothing here waits.  A stream that breaks, for whatever reason, is opened again after a growing
 * delay, by the side that has opened it; what was in flight is forgotten, because WELCOME says what the other side has.
 */
#ifndef TY_STREAM_H
#define TY_STREAM_H
#include "core/wire.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_stream;
struct ty_call;
struct ty_link;

#define TY_STREAM_DELAY_MIN_US (50 * 1000)
#define TY_STREAM_DELAY_MAX_US (2 * 1000 * 1000)
#define TY_STREAM_OUT_MAX (512 * 1024) /* bytes that wait for the socket; beyond it ty_stream_room is false */

/* `hello`: the JSON of HELLO.  Both are copied.  NULL: out of memory. */
struct ty_stream *ty_stream_new(const char *socket, const char *hello);
/* Over a link that `call` makes, which becomes the stream's, also where this fails. */
struct ty_stream *ty_stream_new_call(struct ty_call *call, const char *hello);
/* The end of one that has called here: it becomes the stream's, also where this fails.  Once broken, it stays so; it sends no
 * HELLO and no PING of itself. */
struct ty_stream *ty_stream_new_called(struct ty_link *link);
struct ty_stream *ty_stream_free(struct ty_stream *s);
/* The descriptor to wait for, or -1 while there is no connection; *events as for poll(2). */
int ty_stream_fd(const struct ty_stream *s, short *events);
/* When to call ty_stream_turn without an event: monotonic microseconds. */
int64_t ty_stream_due(const struct ty_stream *s);
/* Connect, read, write and ping as far as goes without waiting. */
void ty_stream_turn(struct ty_stream *s, int64_t now_us);
/* Write as far as goes; a failure shows in the next turn, after what the daemon had said before. */
void ty_stream_flush(struct ty_stream *s, int64_t now_us);
/* The next frame from the other side, valid until the next ty_stream_turn or ty_stream_flush; -EAGAIN: none. */
int ty_stream_next(struct ty_stream *s, struct ty_frame *ret);
/* The same in two steps: look at it, and go past the one that was looked at. */
int ty_stream_peek(struct ty_stream *s, struct ty_frame *ret);
void ty_stream_skip(struct ty_stream *s);
bool ty_stream_connected(const struct ty_stream *s);
/* Nobody listens where the other side was: its process has ended.  Until the next connection. */
bool ty_stream_refused(const struct ty_stream *s);
/* The connection was closed, or reset, by the other side.  Until the next one. */
bool ty_stream_closed(const struct ty_stream *s);
/* The link that carries the stream, owned by it; NULL: none, or there is no connection. */
const struct ty_link *ty_stream_link(const struct ty_stream *s);
/* The number of the present connection, from 1; 0: there is none. */
uint64_t ty_stream_serial(const struct ty_stream *s);
bool ty_stream_room(const struct ty_stream *s);
/* Queue a frame; a failure breaks the stream. */
void ty_stream_send(struct ty_stream *s, const struct ty_frame *f);
/* The other side stored something: the next delay starts small again. */
void ty_stream_progress(struct ty_stream *s);
void ty_stream_break(struct ty_stream *s, int64_t now_us);
#endif
