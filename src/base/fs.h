/* fs.h - files and folders, done carefully
 *
 * Every descriptor is close-on-exec from birth.  Functions return 0 (or a count) or a negative errno.
 */
#ifndef TY_FS_H
#define TY_FS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
struct ty_error;

char *ty_path_join(const char *a, const char *b); /* malloc'ed a/b, or NULL */
/* `path` seen from the working directory, without slashes at its end, malloc'ed; links and ".." stay.  -ENOENT: that folder is gone. */
int ty_path_absolute(const char *path, char **ret);
/* True when `path` is relative, not empty, and has no empty, "." or ".." part and no control character:
 * a name that can only lie inside the folder it is looked up in (links aside). */
bool ty_path_is_inside(const char *path);
/* Write `path` in its plain form ("./a//b/" becomes "a/b", "." becomes "") into a malloc'ed string; -EINVAL where ".."
 * leads out or the path is absolute. */
int ty_path_clean(const char *path, char **ret);

int ty_mkdir_p(const char *path, mode_t mode); /* of "": -ENOENT */
/* mkdir -p of the folder that `path` lies in. */
int ty_mkdir_parent(const char *path, mode_t mode);
/* Remove a file or a whole folder, following no link; 0 when there was nothing.  What is mounted below it is not touched: -EBUSY. */
int ty_rm_rf(const char *path);
/* May this thread list and enter the folder `name` of `dirfd`, with the rights that it opens files with?  (access(2) asks for the
 * real user instead.)  0 or a negative errno; a link is no folder. */
int ty_fs_can_enter(int dirfd, const char *name);
/* At most `limit` bytes (-EFBIG beyond) into a malloc'ed, NUL-terminated buffer; len may be NULL. */
int ty_read_file(const char *path, size_t limit, char **ret, size_t *len);
/* The same of a file that somebody else has put there: -EBADMSG when it is no regular file, at once. */
int ty_read_foreign(const char *path, size_t limit, char **ret, size_t *len);
/* Replace `path` at once: temporary file, fsync, rename.  A reader sees the old or the new content. */
int ty_write_file(const char *path, const void *bytes, size_t n, mode_t mode);
/* renameat(2) that never replaces: -EEXIST.  Also where the file system cannot do it in one step. */
int ty_rename_noreplace(int olddir, const char *from, int newdir, const char *to);
int ty_write_all(int fd, const void *bytes, size_t n);
int ty_pwrite_all(int fd, const void *bytes, size_t n, off_t at);
ssize_t ty_read_full(int fd, void *buf, size_t n); /* until n bytes or the end */
/* Copy the content of a file: reflink, else copy_file_range, else read and write; never a hard link. */
int ty_copy_fd(int from, int to);
/* Open `path` below the folder `dirfd` with openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS): a link or ".." that leads out
 * gives -EXDEV.  `flags` as open(2). */
int ty_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
#define TY_WALK_DEPTH_MAX 200 /* folders in folders: one descriptor each */
/* Walk every file, link and folder below `dir`, the names of a folder sorted, a folder before its content, no link
 * followed.  fn gets the path relative to dir; a negative return stops the walk and is returned, a positive one
 * keeps out of the folder it was told of. */
struct stat;
int ty_walk(const char *dir, int (*fn)(const char *rel, const struct stat *st, void *ctx), void *ctx,
            struct ty_error *err);
/* The network file system that `path` lies on ("nfs", "cifs", ...), or NULL when it is a local one. */
const char *ty_fs_network_kind(const char *path);
uint64_t ty_fs_free_bytes(const char *path); /* 0 when unknown */
#endif
