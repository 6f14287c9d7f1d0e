/* cleanup.h - what a scope owns is given back when the scope ends
 *
 *     CLEANUP_FREE char *text = NULL;
 *     ...
 *     *ret = TAKE(text);          (ownership moves; the scope's end frees NULL)
 */
#ifndef TY_CLEANUP_H
#define TY_CLEANUP_H
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(f) __attribute__((cleanup(f)))
#define TAKE(p) \
    ({ \
        __typeof__(p) taken_ = (p); \
        (p) = NULL; \
        taken_; \
    })
/* The same for a file descriptor: the variable becomes -1. */
#define TAKE_FD(fd) \
    ({ \
        int taken_ = (fd); \
        (fd) = -1; \
        taken_; \
    })

static inline void ty_freep(char **p) { free(*p); }
static inline void ty_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
static inline void ty_closedirp(DIR **d)
{
    if (*d)
        closedir(*d);
}
#define CLEANUP_FREE CLEANUP(ty_freep)
#define CLEANUP_CLOSE CLEANUP(ty_closep)
#define CLEANUP_DIR CLEANUP(ty_closedirp)
#endif
