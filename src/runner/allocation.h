/* allocation.h - was it Slurm that ended the job?
 *
 * When Slurm ends an allocation, all processes in it get SIGTERM at once, the ranks before their runner perhaps: what they die of
 * says nothing.  So the end of a job in an allocation (`allocation` in job.json) is looked up with Slurm, which takes
 * milliseconds, before it is told.
 */
#ifndef TY_ALLOCATION_H
#define TY_ALLOCATION_H
#include "base/json.h"

/* The reason for the record `exited` (docs/spec/runner-stream.md), and a sentence (malloc'ed) in *message; NULL: there is no
 * allocation, it goes on, or Slurm does not answer within two seconds. */
const char *ty_allocation_end(const json_t *job, char **message);
#endif
