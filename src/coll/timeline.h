/* timeline.h - what operations did and when, as a trace for Chrome's tracing view (and Perfetto)
 *
 * Written by rank 0 alone.  The driver leaves a record of each finished operation; a thread of its own writes them, a few
 * times a second while there are any.  The file is a valid JSON array after every write.  When records come faster than
 * they are written, some are dropped and counted in the trace.
 *
 * Ranks that share memory with rank 0 say in their posts when they posted, while a timeline is being written; that is what the
 * ticks of a negotiation are.  Of ranks on other nodes it is not known.
 */
#ifndef TY_COLL_TIMELINE_H
#define TY_COLL_TIMELINE_H
#include "coll/req.h"
struct ty_timeline;

/* -EACCES and the like: the file cannot be made. */
int ty_timeline_open(const char *path, bool cycles, struct ty_timeline **ret, struct ty_error *err);
/* Writes what is left, and frees t in any case.  NULL is fine.  -ENOSPC, -EIO and the like: records are missing at the end; what
 * was written before is a valid trace. */
int ty_timeline_close(struct ty_timeline *t, struct ty_error *err);
/* r is done; path: the word for the way it took, "direct".  Never waits for the file. */
void ty_timeline_record(struct ty_timeline *t, const struct ty_req *r, const char *path);
/* A round has begun. */
void ty_timeline_cycle(struct ty_timeline *t, int64_t now_us);
/* Returns when what was recorded before is in the file (or cannot be). */
void ty_timeline_sync(struct ty_timeline *t);
#endif
