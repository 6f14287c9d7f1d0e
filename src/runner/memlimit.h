/* memlimit.h - the memory that the groups of this process (cgroups of either version) leave it */
#ifndef TY_MEMLIMIT_H
#define TY_MEMLIMIT_H
#include <stdbool.h>
#include <stdint.h>

struct ty_memlimit {
    char folder[512]; /* of the group whose limit is the least; "": no group has one */
    bool unified;     /* second version */
};
/* Look for it, from this process's group up. */
void ty_memlimit_find(struct ty_memlimit *ret);
/* Replace what the machine has and uses by what the group may have and uses, where that is less.  Bytes. */
void ty_memlimit_apply(const struct ty_memlimit *l, int64_t *used, int64_t *total);
/* The same below another folder than /sys/fs/cgroup, for a group path as of /proc/self/cgroup. */
void ty_memlimit_find_below(const char *root, const char *path, bool unified, struct ty_memlimit *ret);
#endif
