/* process.h - runners and couriers: processes of this box that outlive the daemon
 *
 * What struct ty_job (target.h) is, for kinds whose jobs have such a process.  It signs its job folder with runner.id; who
 * finds one there that lives watches it instead of starting another.
 */
#ifndef TY_TARGET_PROCESS_H
#define TY_TARGET_PROCESS_H
#include "target/target.h"

/* Start `trainyard-agent <verb> <job folder>`, or take up the one that lives. */
int ty_process_start(const struct ty_job_start *how, const char *verb, struct ty_job **ret, struct ty_error *err);
void ty_process_cancel(struct ty_job *job); /* SIGTERM */
void ty_process_kill(struct ty_job *job);   /* SIGKILL */
int ty_process_kills(struct ty_job *job);   /* counts: how often this was called */
struct ty_job *ty_process_free(struct ty_job *job);
#endif
