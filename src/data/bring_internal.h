/* bring_internal.h - what the files of bring.h share
 *
 *   bring.c       what there is, and what of it changes
 *   bring_down.c  through the cache to the job
 *   bring_up.c    what goes back
 */
#ifndef TY_BRING_INTERNAL_H
#define TY_BRING_INTERNAL_H
#include "data/bring.h"
#include "data/http.h"
#include "data/listing.h"
#include "data/move.h"

#define TY_BRING_ID 16 /* hex digits */

struct ty_bring {
    struct ty_bring_options o;
    struct ty_object_store *store;
    struct ty_http *http;
    char id[TY_BRING_ID + 1]; /* of the store, in the cache */
    char *about;              /* owned; JSON: what the store is, without its credentials */
    struct ty_progress progress;
    struct ty_listing_out list;
    bool file;
    uint64_t files_all, bytes_all; /* of the reference */
    uint64_t files, bytes;         /* that are done with */
};

void ty_bring_warn(const struct ty_bring *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What a line of the listing knows of its object, borrowing from it.  Its path is the one below the reference. */
void ty_bring_object(const struct ty_listed *f, struct ty_object *o);
/* The path below the reference; NULL: it does not lie there. */
const char *ty_bring_below(const struct ty_bring *b, const char *path);
#endif
