/* program.h - which file the name of a program stands for */
#ifndef TY_PROGRAM_H
#define TY_PROGRAM_H
#include <stdbool.h>

bool ty_program_is(const char *path); /* a regular file, links followed, that this process may run: no folder */
/* The first program `name` in the folders of `path` ("/a:/b"; NULL: $PATH), malloc'ed; those that are not absolute, which mean another
 * folder wherever one stands, are passed over.  NULL: there is none, or no memory. */
char *ty_program_find(const char *name, const char *path);
#endif
