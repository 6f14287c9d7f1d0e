/* tune.h - which way private tensors take through the slots of a node, found by trying */
#ifndef TY_COLL_TUNE_H
#define TY_COLL_TUNE_H
#include <stdint.h>
struct ty_coll;

/* At the start of a world, and again when all have agreed to: every way at some sizes, for some milliseconds; all ranks choose
 * the same.  Fills c->paths and c->drift.  Returns what move.h's functions do. */
int ty_tune(struct ty_coll *c);
/* An allreduce through slots took so long.  After a row of strange ones c->drift.again is set. */
void ty_tune_watch(struct ty_coll *c, int64_t bytes, int64_t took_us);
#endif
