/* rclone.h - an object store as a folder, by rclone and FUSE
 *
 * rclone is a process of its own.  Credentials go by its environment, never by its command line, and of an Azure account's
 * key only a SAS of the container.  Files that are written are cached
 * beside the mount, and sent when they are closed; whoever unmounts waits for that.
 */
#ifndef TY_RCLONE_H
#define TY_RCLONE_H
#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
struct ty_error;

/* NULL: object stores can be mounted by rclone here; else why not, a clause. */
const char *ty_rclone_why_not(void);
struct ty_rclone {
    const json_t *access;
    const char *path;  /* below the store's root; "" */
    const char *at;    /* the mount point, absolute; it is made */
    const char *cache; /* a folder for what is written */
    const char *log;   /* a file */
};
/* Mounts; waits until the mount stands, at most 20 s.  The caller's child runs on; *pid is its. */
int ty_rclone_mount(const struct ty_rclone *m, pid_t *pid, struct ty_error *err);
/* Waits until all that was written there is sent, as long as that goes on; 0, or how many files are not (they are lost when it is
 * unmounted), or a negative errno. */
int ty_rclone_flush(const char *cache);
/* Whatever is mounted below `dir` is taken away, whether it still works or not.  0, or a negative errno: something is left. */
int ty_unmount_below(const char *dir);
bool ty_is_mounted(const char *path);
#endif
