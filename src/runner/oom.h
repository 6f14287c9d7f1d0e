/* oom.h - who the kernel kills first when memory runs out: the job, not its runner */
#ifndef TY_OOM_H
#define TY_OOM_H
#include <stdint.h>
int ty_oom_get(void);         /* /proc/self/oom_score_adj; 0 when unknown */
void ty_oom_set(int adjust);  /* where that is allowed: lowering takes a privilege */
/* Processes that the kernel has killed for want of memory, on this machine since it was started; -1: it does not count them. */
int64_t ty_oom_kills(void);
#endif
