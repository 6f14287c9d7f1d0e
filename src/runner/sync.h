/* sync.h - getting a job folder onto the disk; in a child of the runner, because a busy disk takes
 * its time
 *
 * What is on disk afterwards: every byte that was in records.spool, and that `phase` and runner.id
 * exist.
 */
#ifndef TY_SYNC_H
#define TY_SYNC_H
/* For ty_child_start; ctx is the path of the job folder. */
int ty_sync(int out, void *ctx);
#endif
