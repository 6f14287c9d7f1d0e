/* snapshot_internal.h - what manifest.c, snapshot.c and unpack.c share */
#ifndef TY_SNAPSHOT_INTERNAL_H
#define TY_SNAPSHOT_INTERNAL_H
#include "blob/snapshot.h"

enum {
    TY_SNAPSHOT_PATH_MAX = 4000, /* bytes of a path */
    TY_SNAPSHOT_DEPTH_MAX = 64,  /* folders that an entry lies in */
};

struct entry {
    char type; /* f file, l link, d empty folder */
    bool executable;
    char *path, *target; /* target: of a link */
    uint64_t bytes;
    size_t order; /* in which they were added, before sorting */
    char sha[TY_SHA256_HEX + 1];
};

struct ty_snapshot {
    struct entry *entries; /* sorted by path, once it is sealed */
    size_t n, cap;
    size_t *regular; /* indices of the files, `files` of them */
    size_t files;
    uint64_t bytes;
    char *manifest;
    size_t manifest_len;
    char id[TY_SHA256_HEX + 1];
};

/* A further entry, owned by s; NULL: out of memory. */
struct entry *ty_snapshot_add(struct ty_snapshot *s, char type, const char *path);
void ty_snapshot_sort(struct ty_snapshot *s);
/* Write the manifest of the sorted entries, count, and name the snapshot.  0 or -ENOMEM. */
int ty_snapshot_seal(struct ty_snapshot *s);
/* Short enough, and neither absolute nor with empty, "." or ".." parts. */
bool ty_snapshot_path_fits(const char *path);
/* Does the link at `path` stay inside wherever other links of the snapshot lead?  So ".." may only come first: behind a
 * name, which may be a link itself, nobody knows where it leads. */
bool ty_snapshot_link_fits(const char *path, const char *target);
#endif
