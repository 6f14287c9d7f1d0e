/* ignore.h - gitignore patterns (.amlignore, .gitignore) */
#ifndef TY_IGNORE_H
#define TY_IGNORE_H
#include <stdbool.h>
#include <stddef.h>
struct ty_ignore;

struct ty_ignore *ty_ignore_new(void); /* NULL: out of memory */
struct ty_ignore *ty_ignore_free(struct ty_ignore *g);
/* Add the patterns of one file whose folder is `base` ("" is the top, else "a/b").  Later files win. */
int ty_ignore_add(struct ty_ignore *g, const char *base, const char *text, size_t n);
/* Is `path` (relative to the top) excluded?  Parents are the caller's business: an excluded folder is not entered. */
bool ty_ignore_match(const struct ty_ignore *g, const char *path, bool is_dir);
#endif
