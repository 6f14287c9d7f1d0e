/* cache.h - objects that were downloaded, shared between the runs of a node (<cache>/data)
 *
 *   data/<store>/<ab>/<name>      one object: <store> is the hash of what the store is, <name> that of path, etag and size; mode 0444,
 *                                 its mtime is the one that the store said, its atime when it was used last
 *   data/<store>/lock-<hash>      held (flock) by who downloads the objects of one reference: two runs download once
 *   data/<store>/<ab>/.<name>.trainyard-part, .state   a download that was broken off; the next one goes on with it
 *
 * A file is used when size, mtime and mode are what they should be; any other is thrown away and brought anew.  It appears under its
 * name when it is whole and checked.
 */
#ifndef TY_DATA_CACHE_H
#define TY_DATA_CACHE_H
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

#define TY_DATA_CACHE_GRACE_US ((int64_t)3600 * 1000000) /* what was used since is never collected */

/* Remove what was not used for unused_us, then the longest unused until at most max_bytes are left; INT64_MAX and UINT64_MAX: no such
 * limit.  Broken downloads go after a day.  `dry`: only count.  *freed: bytes.  `cache` need not exist.  0 or a negative errno with a
 * text; what could be removed is. */
int ty_data_cache_collect(const char *cache, uint64_t max_bytes, int64_t unused_us, bool dry, uint64_t *freed, struct ty_error *err);
#endif
