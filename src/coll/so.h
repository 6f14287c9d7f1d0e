/* so.h - finding a library that belongs to the system or to an installed torch, at run time
 *
 * Looked for, in this order: the file that a variable names; what is loaded in this process already, for torch has brought its
 * own; the folders and files that the caller knows; what the system finds.  A library is never unloaded.
 */
#ifndef TY_COLL_SO_H
#define TY_COLL_SO_H
#include <stddef.h>
#include <trainyard/error.h>

struct ty_so {
    const char *what;         /* "the CUDA runtime" */
    const char *env;          /* the variable; "none" as its value: it is not wanted */
    const char *stem;         /* "libcudart": a file of `paths` counts when its name begins with it */
    const char *const *names; /* "libcudart.so.12", ...; NULL at the end */
};
/* paths: folders and files with ':' between them; may be NULL.  -ENOENT, and the text says what was tried. */
int ty_so_open(const struct ty_so *so, const char *paths, void **ret, struct ty_error *err);

/* One function of a library: where its address is stored. */
struct ty_so_call {
    const char *name;
    size_t at; /* offset in the table of the caller */
};
/* Fill the table.  -ENOENT: a function is missing, the text names it. */
int ty_so_fill(const struct ty_so *so, void *handle, const struct ty_so_call *calls, size_t n, void *table,
               struct ty_error *err);
#endif
