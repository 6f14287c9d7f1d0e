/* build.h - the environment of a job is got, in the preparing child of its runner */
#ifndef TY_BUILD_H
#define TY_BUILD_H
#include "runner/jobfile.h"
struct ty_error;

/* Does the job ask for one that is got?  Of an image it is got in the image, which has to be here (ty_view_prepare). */
bool ty_build_wanted(const struct ty_jobfile *j);
/* Get it: tells "log", "building" and "environment" (environment.c).  `runner` is the process that this one was started by:
 * when that ends, whatever builds ends at once.  On an error "failed" is told. */
int ty_build(const struct ty_jobfile *j, int out, pid_t runner);
/* Put those variables of the job into this process's environment that tools understand as well: proxies, certificates, settings of pip, uv
 * and conda.  0 or -ENOMEM. */
int ty_build_variables(const struct ty_jobfile *j);
#endif
