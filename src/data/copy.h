/* copy.h - copying files and folders of data */
#ifndef TY_COPY_H
#define TY_COPY_H
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

/* Copy one file so that it appears whole under `to`, folders made.  With `overwrite` it replaces
 * what is there; else 0 when the file there has the same content, and -EEXIST. */
int ty_copy_file(const char *from, const char *to, bool overwrite);
/* Copy what lies below `from` to below `to`.  Links to files are copied as files; links to folders,
 * sockets, pipes and devices are left out, and so are our own files (".trainyard-...").  fn is told of each path (relative) that
 * was not copied, and why (a negative errno); a negative return of fn stops the copying and is returned.  `done` (may be NULL) is told of
 * the bytes of each file that is there. */
int ty_copy_tree(const char *from, const char *to, bool overwrite,
                 int (*fn)(const char *rel, int why, void *ctx),
                 void (*done)(uint64_t bytes, void *ctx), void *ctx, struct ty_error *err);
#endif
