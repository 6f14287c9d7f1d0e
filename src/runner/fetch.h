/* fetch.h - content that a node lacks comes through its stream (frames WANT and BLOB)
 *
 * The side that asks keeps account of what it has; the side that answers keeps none: each WANT is answered by one BLOB.  So a
 * stream that breaks costs what was under way, and a slow reader costs the other side nothing.
 */
#ifndef TY_FETCH_H
#define TY_FETCH_H
#include "blob/blob.h"
#include "core/wire.h"
struct ty_stream;
struct ty_fetch;

#define TY_FETCH_AT_ONCE 16 /* blobs that are asked for at the same time */

/* The blobs stay the caller's.  NULL: out of memory. */
struct ty_fetch *ty_fetch_new(struct ty_blobs *into);
struct ty_fetch *ty_fetch_free(struct ty_fetch *f); /* what is not whole is thrown away */
/* That blob is wanted.  1; 0: the store has it; -EINVAL: no SHA-256; -ENOMEM. */
int ty_fetch_add(struct ty_fetch *f, const char *sha);
/* A new connection: what was asked on the last one is asked again, from where it came to. */
void ty_fetch_again(struct ty_fetch *f);
/* Ask for what may be asked for. */
void ty_fetch_pump(struct ty_fetch *f, struct ty_stream *s);
/* A BLOB came.  1: that blob is whole, and in the store (not synced); 0: more of it is to come, or nobody had asked; -ENOENT: the
 * other side lacks it; -EBADMSG: it is not what it should be; or what the disk says.  A blob that failed is not asked for
 * again, and *err says why. */
int ty_fetch_hear(struct ty_fetch *f, const struct ty_frame *blob, struct ty_error *err);
size_t ty_fetch_left(const struct ty_fetch *f); /* blobs that are neither whole nor failed */

/* The other side: answer a WANT. */
void ty_fetch_answer(struct ty_blobs *from, const struct ty_frame *want, struct ty_stream *s);
/* Are these the 64 digits of a SHA-256? */
bool ty_fetch_is_sha(const char *name, size_t n);
#endif
