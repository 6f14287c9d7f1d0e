/* gc.h - remove the blobs that nothing refers to */
#ifndef TY_GC_H
#define TY_GC_H
#include "blob/blob.h"
struct ty_gc_report { uint64_t kept, kept_bytes, removed, removed_bytes; };
/* Is this blob referred to?  Asked once per blob, if at all. */
typedef bool (*ty_gc_live)(const char *sha, void *ctx);
/* Blobs, and leftovers in tmp/, not touched for `grace_s` seconds and not live are removed.  What is not a blob's name
 * is left alone and not counted.  0 or a negative errno; *ret is filled in any case. */
int ty_gc(struct ty_blobs *b, int64_t grace_s, ty_gc_live live, void *ctx, struct ty_gc_report *ret, struct ty_error *err);
#endif
