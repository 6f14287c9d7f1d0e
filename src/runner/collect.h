/* collect.h - what a job leaves: upload references, outputs/ and logs/; runs in a child of the runner */
#ifndef TY_COLLECT_H
#define TY_COLLECT_H
#include "runner/jobfile.h"

#define TY_COLLECT_TRIES 3          /* for a file that the store does not take */
#define TY_COLLECT_NAMED_MAX 20     /* files named in warnings; the rest is counted */

/* For ty_child_start; ctx is a struct ty_jobfile.  Tells "artifact" (path, sha256, bytes),
 * "warning" and "note".  Each artifact is told only when its blob would survive a power cut, or when the disk
 * has refused to confirm that TY_COLLECT_TRIES times, which gives a warning.  What
 * records.spool already names as an artifact is left out, so that a collection that was cut short
 * can be done again.  Fails for no reason of the files: those give warnings. */
int ty_collect(int out, void *ctx);
#endif
