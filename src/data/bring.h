/* bring.h - data references in object stores, on the node of a job
 *
 *   download   listed; what <cache>/data lacks is fetched (cache.h); each file is cloned, linked or copied to its place
 *   mount      the same, as a folder of the job's own, of which new and changed files go back after the script
 *   upload     what the script leaves goes up after it
 *
 * A listing (listing.h) of what there was is kept, to name what changes while the job runs.  Everything waits for the network.
 */
#ifndef TY_BRING_H
#define TY_BRING_H
#include "core/run_spec.h"
#include "data/progress.h"
struct ty_error;
struct ty_bring;

struct ty_bring_options {
    const struct ty_data_ref *ref;
    const json_t *access; /* ACCESS of its store */
    const char *cache;    /* absolute */
    const char *listing;  /* the file to keep it in */
    void (*warn)(const char *text, void *ctx);
    void (*note)(const char *text, void *ctx);
    void *ctx;
};
/* -ENOPKG: there is no libcurl.  The options must live as long. */
int ty_bring_open(const struct ty_bring_options *o, struct ty_bring **ret, struct ty_error *err);
struct ty_bring *ty_bring_close(struct ty_bring *b);

/* What there is: the listing.  *file: the reference is one object, not what lies below it.  0, also when there is nothing. */
int ty_bring_list(struct ty_bring *b, bool *file, uint64_t *files, struct ty_error *err);
/* All that is listed to below `to`.  `own`: each file is the job's own, and may be written to; else it may share its bytes with the cache,
 * and cannot.  -ENOSPC says how much is needed. */
int ty_bring_down(struct ty_bring *b, const char *to, bool own, struct ty_error *err);
/* Files of a mount that are new or not what the listing has; what cannot be put is a warning. */
int ty_bring_back(struct ty_bring *b, const char *from, struct ty_error *err);
/* Every file of an upload; what cannot be put is a warning.  `from` may be a file. */
int ty_bring_up(struct ty_bring *b, const char *from, struct ty_error *err);
/* Warns of what is different in the store now. */
int ty_bring_compare(struct ty_bring *b, struct ty_error *err);
#endif
