/* each.h - go over what lies in a store */
#ifndef TY_EACH_H
#define TY_EACH_H

/* `folder` is open, `prefix` its name in the store, `name` a regular file in it.  A negative return stops. */
typedef int (*ty_each_fn)(int folder, const char *prefix, const char *name, void *ctx);

/* Every blob: its prefix is the first two digits, its name the other 62.  What is called otherwise is nobody's
 * business.  0, or the first negative errno of fn or of reading. */
int ty_each_blob(int storefd, ty_each_fn fn, void *ctx);
/* Everything in tmp/. */
int ty_each_tmp(int storefd, ty_each_fn fn, void *ctx);
#endif
