/* data.h - the data references of a job on its node: brought before the script, sent back after it
 *
 *   <job folder>/data/<i>.list   what the reference consisted of when it was brought (data/listing.h)
 *   <job folder>/data/<i>/NAME   what came from another machine or an object store; a mount is that itself
 *
 * Where a reference lies in a folder that this machine sees, that is used as it is.  Where not, `data_sent` of job.json names the listing of
 * what the courier has brought into the blob store; files that the job leaves go back through the stream, as records `data`.
 */
#ifndef TY_RUNNER_DATA_H
#define TY_RUNNER_DATA_H
#include "runner/jobfile.h"
struct ty_error;

/* As the runner, before the job's owner takes over: the folder `data`. */
int ty_data_begin(const struct ty_jobfile *j, struct ty_error *err);
/* In the preparing child.  Tells notes and warnings. */
int ty_data_in(const struct ty_jobfile *j, int out, struct ty_error *err);
/* In the collecting child, as the owner.  `keep` puts a file into the blob store and tells its record, to which it adds
 * sha256 and bytes; a negative return stops.  `tell` tells a record at once.  What fails is a warning. */
struct ty_data_back {
    int out;
    int (*keep)(void *ctx, const char *real, json_t *record);
    int (*tell)(void *ctx, json_t *record);
    void *ctx;
};
int ty_data_out(const struct ty_jobfile *j, const struct ty_data_back *back);
/* Where reference i lies for ty_stage_place() and its like: malloc'ed. */
char *ty_data_dir(const struct ty_jobfile *j, int i);
#endif
