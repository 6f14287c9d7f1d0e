/* ignore.h - gitignore patterns (.amlignore, .gitignore), with the meaning that git gives them */
#ifndef TY_IGNORE_H
#define TY_IGNORE_H
#include <stdbool.h>
#include <stddef.h>
struct ty_ignore;

struct ty_ignore *ty_ignore_new(void); /* NULL: out of memory */
struct ty_ignore *ty_ignore_free(struct ty_ignore *g);
/* Add the patterns of one file whose folder is `base` ("" is the top, else "a/b").  Later files win.  0 or -ENOMEM. */
int ty_ignore_add(struct ty_ignore *g, const char *base, const char *text, size_t n);
/* Is `path` (relative to the top) excluded?  Parents are the caller's business: an excluded folder is not entered. */
bool ty_ignore_match(const struct ty_ignore *g, const char *path, bool is_dir);
/* How many patterns there are, and back to that many: a walk forgets a folder's patterns when it leaves the folder. */
size_t ty_ignore_count(const struct ty_ignore *g);
void ty_ignore_cut(struct ty_ignore *g, size_t count);
#endif
