/* statcache.h - remember the hash of files that have not changed (docs/spec/snapshot.md)
 *
 * A file is taken as unchanged when size, inode, mtime and ctime are what they were.  ctime is what a program cannot set
 * back.  One that was touched in the two seconds before it was hashed is not remembered: it could change once more within the
 * clock's grain.  A damaged cache file counts as none.
 */
#ifndef TY_STATCACHE_H
#define TY_STATCACHE_H
#include <sys/stat.h>
struct ty_statcache;

struct ty_statcache *ty_statcache_load(const char *file); /* NULL: out of memory; else never fails */
struct ty_statcache *ty_statcache_free(struct ty_statcache *c);
const char *ty_statcache_get(struct ty_statcache *c, const char *path, const struct stat *st); /* 64 hex digits or NULL */
void ty_statcache_put(struct ty_statcache *c, const char *path, const struct stat *st, const char *sha);
/* Write what was asked for or put since loading; nothing when nothing changed. */
void ty_statcache_save(struct ty_statcache *c, const char *file);
#endif
