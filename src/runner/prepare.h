/* prepare.h - the snapshot, the folders, the environment and the data of a job; runs in a child of the runner */
#ifndef TY_PREPARE_H
#define TY_PREPARE_H
#include "runner/jobfile.h"

/* For ty_child_start; ctx is a struct ty_jobfile.  Tells "note", "warning" and, when it fails,
 * "failed". */
int ty_prepare(int out, void *ctx);
/* Where each data reference of the job lies: NULL-terminated; free with ty_strv_free. */
int ty_prepare_places(const struct ty_jobfile *j, char ***ret, struct ty_error *err);
#endif
