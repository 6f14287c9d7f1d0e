/* snapshot_internal.h - what snapshot.c and unpack.c share */
#ifndef TY_SNAPSHOT_INTERNAL_H
#define TY_SNAPSHOT_INTERNAL_H
#include "blob/snapshot.h"

struct entry {
    char type; /* f file, l link, d empty folder */
    bool executable;
    char *path, *target; /* target: of a link */
    uint64_t bytes;
    size_t order; /* in the walk, before sorting */
    char sha[TY_SHA256_HEX + 1];
};

struct ty_snapshot {
    struct entry *entries; /* sorted by path */
    size_t n, cap;
    size_t *regular; /* indices of the files, `files` of them */
    size_t files;
    uint64_t bytes;
    char *manifest;
    size_t manifest_len;
    char id[TY_SHA256_HEX + 1];
};
#endif
