/* listing.h - what the data of a reference consisted of at one time, as a file (docs/spec/data-listing.md)
 *
 *   trainyard-data 1
 *   644 1024 1700000000000000 <SHA-256, etag, or "-"> sets/cat%201.png
 *
 * Read and written line by line: a listing of a million files costs no memory.  Our own files in a datastore
 * (".trainyard-...") are in none.
 */
#ifndef TY_LISTING_H
#define TY_LISTING_H
#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct ty_error;

#define TY_LISTING_LINE_MAX 16384
#define TY_LISTING_WATCHED_MAX 100000 /* files whose changes are looked for */

struct ty_listed {
    const char *path; /* relative; of a reference that is a file: its name */
    const char *mark; /* SHA-256 (64 digits), etag, or "": none */
    uint64_t bytes;
    int64_t mtime_us;
    unsigned mode;   /* 0644 or 0755 */
    uint64_t offset; /* of its line, where it is read */
};
/* A negative return stops, and is returned. */
typedef int (*ty_listed_fn)(const struct ty_listed *f, void *ctx);

/* Writing: open (or a descriptor, which stays the caller's), add..., finish. */
struct ty_listing_out {
    int fd;
    struct ty_str unsent;
    uint64_t files, bytes;
};
int ty_listing_begin(struct ty_listing_out *o, int fd);
int ty_listing_add(struct ty_listing_out *o, const struct ty_listed *f);
int ty_listing_finish(struct ty_listing_out *o); /* frees also where adding has failed */

/* Every line of a listing.  -EBADMSG: it is none; -ENOENT. */
int ty_listing_read(const char *file, ty_listed_fn fn, void *ctx);
/* The line at an offset of the open file. */
int ty_listing_at(int fd, uint64_t offset, ty_listed_fn fn, void *ctx);

/* Every regular file below `dir`, links to files among them, or `dir` itself when it is a file; as it is now.  What cannot be
 * used (links to folders, devices, folders that are closed) is told to `left` (may be NULL) with a negative errno; a negative return
 * of it stops. */
int ty_listing_walk(const char *dir, ty_listed_fn fn, int (*left)(const char *path, int why, void *ctx), void *ctx,
                    struct ty_error *err);

/* A whole listing in memory, to be asked by path: about 150 bytes a file. */
struct ty_listing_known;
int ty_listing_load(const char *file, struct ty_listing_known **ret);
const struct ty_listed *ty_listing_find(const struct ty_listing_known *k, const char *path); /* NULL: it has none */
struct ty_listing_known *ty_listing_forget(struct ty_listing_known *k); /* NULL is fine; returns NULL */

/* What is different now: files of the listing that have another size or time, or are gone; with `added` also new ones. */
struct ty_changes {
    uint64_t changed, gone, added;
    struct ty_str names; /* of the first few: "a, b, c and 4 more"; ty_str_done() */
};
int ty_listing_compare(const char *file, const char *dir, bool added, struct ty_changes *ret, struct ty_error *err);
/* The same with what `each` tells of in place of a folder: a file with another mark is another one. */
int ty_listing_compare_with(const char *file, int (*each)(ty_listed_fn fn, void *to, void *from), void *from, bool added,
                            struct ty_changes *ret);
/* "3 files of datastore 'd' changed while the run was running: a, b, c" (malloc'ed), or NULL: nothing is different (or out of memory). */
char *ty_changes_text(const struct ty_changes *c, const char *datastore);
/* Of a mount that is not the folder itself, whose files go back while what is removed there stays: "2 files that the run has removed stay in
 * datastore 'd': a, b" (malloc'ed), or NULL: `dir` has all of the listing (or out of memory). */
char *ty_listing_removed(const char *file, const char *dir, const char *datastore);
/* One of our own files in a datastore? (".trainyard-..." as the last part) */
bool ty_listing_hides(const char *path);
#endif
