/* snapshot.h - an immutable copy of a source directory, named by its content (docs/spec/snapshot.md)
 *
 * A manifest lists every file; its SHA-256 is the snapshot's id.  Two directories with equal files have equal
 * ids, so resubmitting copies nothing.  Manifest, one line per entry, sorted by path bytes:
 *
 *     trainyard-snapshot 1
 *     f 644 1234 <sha256> path/of/file       (mode is 644 or 755)
 *     l - 7 - path/of/link -> target         (only links that stay inside)
 *     d - - - empty/folder
 *
 * In paths, bytes below 0x20, 0x7f, '%' and, in link lines, '>' are percent-encoded.
 */
#ifndef TY_SNAPSHOT_H
#define TY_SNAPSHOT_H
#include "blob/blob.h"
struct ty_error;
struct ty_snapshot;

struct ty_snapshot_limits {
    uint64_t bytes, files; /* 0: the defaults, 300 MB and 100,000 */
};

/* Walk `dir`, honouring .amlignore, else .gitignore (at the top and in sub-folders), and hash what is left; .git and the
 * ignore rules' own files are treated as docs/snapshots.md says.  `cache` (NULL: none) is a file that remembers
 * (path, size, mtime, inode) -> hash, so that unchanged files are not read again.  Links that lead outside are refused by name,
 * sockets, pipes and devices are left out.
 * 0 and *ret, or: -ENOENT no such directory, -ENOTDIR, -EFBIG over a limit (the text names the size, the limit, the
 * largest entries and .amlignore). */
int ty_snapshot_from_dir(const char *dir, const char *cache, const struct ty_snapshot_limits *limits,
                         struct ty_snapshot **ret, struct ty_error *err);
/* From manifest bytes; -EBADMSG, with the line, for anything that is not exactly what from_dir writes. */
int ty_snapshot_parse(const char *manifest, size_t n, struct ty_snapshot **ret, struct ty_error *err);
struct ty_snapshot *ty_snapshot_free(struct ty_snapshot *s);

const char *ty_snapshot_id(const struct ty_snapshot *s);                 /* 64 hex digits, owned by s */
const char *ty_snapshot_manifest(const struct ty_snapshot *s, size_t *n); /* owned by s */
uint64_t ty_snapshot_bytes(const struct ty_snapshot *s);
size_t ty_snapshot_files(const struct ty_snapshot *s);
/* The i-th regular file: its hash and its path relative to the directory; false after the last. */
bool ty_snapshot_file(const struct ty_snapshot *s, size_t i, const char **path, const char **sha, uint64_t *bytes);

/* Unpack below `dir` (made, must be empty) from the store: reflink or copy, never a hard link, so that a script that
 * writes to its own files cannot change the store. */
int ty_snapshot_unpack(const struct ty_snapshot *s, struct ty_blobs *b, const char *dir, struct ty_error *err);
#endif
