/* verdict.h - which rank has ended the job; pure
 *
 * When one rank dies, the others soon follow: their calls fail because it has gone.  So a little time is given to whoever
 * was first, and the one to name is, in this order:
 *   1. a rank that was killed by a signal, or is lost without a word.  It is named at once: nobody kills himself over others,
 *      except with SIGABRT, which is what libraries do
 *   2. the first that ended badly of itself
 *   3. the first that ended badly and said that it does because another has gone
 */
#ifndef TY_VERDICT_H
#define TY_VERDICT_H
#include "runner/ranks.h"

#define TY_VERDICT_WAIT_US (200 * 1000)
/* As long as there are but such that say that another has gone: whoever leaves tells the others first, and may have much to put
 * away before it ends. */
#define TY_VERDICT_VICTIM_US (5 * 1000 * 1000)
/* The index of that rank, or -1: none yet.  Then *due_us (untouched otherwise) is when to ask again without further news,
 * INT64_MAX if nobody has ended badly. */
int ty_verdict(const struct ty_ranks *s, int64_t now_us, int64_t *due_us);
#endif
