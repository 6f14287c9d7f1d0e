/* slurm_lines.h - JSON objects, one a line, over a link or a Unix socket (docs/spec/slurm.md)
 *
 * What comes is kept until a line is whole; what is behind the last line may be the first bytes of another protocol, and can be
 * had with ty_lines_rest.
 */
#ifndef TY_SLURM_LINES_H
#define TY_SLURM_LINES_H
#include "base/json.h"
#include "base/link.h"
#include "base/str.h"

#define TY_LINE_MAX (8 << 20) /* a run specification has up to some MB */

struct ty_lines {
    struct ty_str in;
    size_t at; /* in.text[at..] is not read yet */
    struct ty_str out;
    size_t sent;
};
void ty_lines_done(struct ty_lines *l);
/* One of the two is used: fd -1, or link NULL.  Reads what is there: 0; -EPIPE: the other side has closed; else why it broke. */
int ty_lines_read(struct ty_lines *l, int fd, struct ty_link *link);
/* The next line; -EAGAIN: none is whole; -EBADMSG: it is no JSON object, or longer than TY_LINE_MAX. */
int ty_lines_next(struct ty_lines *l, json_t **ret);
/* What was read beyond the lines taken so far; it counts as taken.  The bytes are l's. */
const char *ty_lines_rest(struct ty_lines *l, size_t *n);
/* Queue a line (consumed; NULL is out of memory). */
void ty_lines_add(struct ty_lines *l, json_t *o);
/* Send what is queued as far as goes: 0 or why it broke. */
int ty_lines_send(struct ty_lines *l, int fd, struct ty_link *link);
static inline bool ty_lines_waiting(const struct ty_lines *l) { return l->out.len > l->sent; }
#endif
