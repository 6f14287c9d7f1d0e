/* cache.h - objects that were downloaded, shared between the runs of a node (<cache>/data)
 *
 *   data/<store>/<ab>/<name>      one object: <store> is the hash of what the store is, <name> that of path, etag and size; mode 0444,
 *                                 its mtime is the one that the store said, its atime when it was used last
 *   data/<store>/lock             of its bytes (OFD locks) one stands for each object, and is locked while that is fetched
 *   data/<store>/about            what the store is, without credentials: {"kind", "config"}
 *   data/<store>/<ab>/.<name>.trainyard-part, .state   a download that was broken off; the next one goes on with it
 *   data/lock-grown, lock-kept    touched when something was fetched, and when it was looked for what may go
 *
 * A file is used when size, mtime and mode are what they should be; any other is thrown away and brought anew.  It appears under its
 * name when it is whole and checked.  A file with a second name belongs to a run: removing it would free nothing.
 */
#ifndef TY_DATA_CACHE_H
#define TY_DATA_CACHE_H
#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

#define TY_DATA_CACHE_ABOUT "about"
#define TY_DATA_CACHE_GRACE_US ((int64_t)3600 * 1000000) /* what was used since is never collected */

/* Remove what was not used for unused_us, then the longest unused until at most max_bytes are left; INT64_MAX and UINT64_MAX: no such
 * limit.  What a run has, or somebody used within the grace, stays.  Broken downloads go after a day.  `dry`: only count.  *freed:
 * bytes.  `cache` need not exist.  0 or a negative errno with a text; what could be removed is. */
int ty_data_cache_collect(const char *cache, uint64_t max_bytes, int64_t unused_us, bool dry, uint64_t *freed, struct ty_error *err);

/* Something was fetched into it. */
void ty_data_cache_grown(const char *cache);
/* After a run: what was not used for a month goes, looked for once a day, and what is over max_bytes (0: no limit) if it has grown. */
void ty_data_cache_keep(const char *cache, int64_t max_bytes);

/* What it has of one store. */
struct ty_data_cache_store {
    const char *id;
    const json_t *about; /* NULL: nobody has said */
    uint64_t files, bytes;
    int64_t used_us; /* the latest use of any */
};
/* fn is told of each, by id; a negative return ends it and is returned.  As ty_data_cache_collect() otherwise. */
int ty_data_cache_list(const char *cache, int (*fn)(const struct ty_data_cache_store *s, void *ctx), void *ctx, struct ty_error *err);
#endif
