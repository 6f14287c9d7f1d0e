/* unpack.c - a snapshot becomes a directory again
 *
 * Files are copied (by reflink where the file system can), never hard-linked: a script may write to its own files.  Links
 * are made last, so that no file is ever written through one.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/snapshot_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct unpack {
    struct ty_blobs *blobs;
    const char *dir;
    int dirfd;
    struct ty_error *err;
};

static int failed(const struct unpack *u, const struct entry *e, int r)
{
    errno = -r;
    return ty_error_set(u->err, r, "cannot unpack '%s' of the snapshot into '%s': %m", e->path, u->dir);
}

/* The folders that a path lies in.  Most entries share theirs with the one before. */
static int make_parents(const struct unpack *u, const char *path, const char *before)
{
    const char *slash = strrchr(path, '/'), *other = before ? strrchr(before, '/') : NULL;
    CLEANUP_FREE char *full = NULL;

    if (!slash || (other && other - before == slash - path && memcmp(path, before, (size_t)(slash - path)) == 0))
        return 0;
    full = ty_strf("%s/%.*s", u->dir, (int)(slash - path), path);
    return full ? ty_mkdir_p(full, 0755) : -ENOMEM;
}

static int unpack_file(const struct unpack *u, const struct entry *e)
{
    CLEANUP_CLOSE int from = ty_blob_open(u->blobs, e->sha);
    CLEANUP_CLOSE int to = -1;

    if (from < 0)
        return from;
    to = openat(u->dirfd, e->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0)
        return -errno;
    int r = ty_copy_fd(from, to);
    if (r < 0)
        return r;
    return fchmod(to, e->executable ? 0755 : 0644) < 0 ? -errno : 0;
}

static int unpack_entry(const struct unpack *u, const struct entry *e)
{
    if (e->type == 'f')
        return unpack_file(u, e);
    if (e->type == 'l')
        return symlinkat(e->target, u->dirfd, e->path) < 0 ? -errno : 0;
    return mkdirat(u->dirfd, e->path, 0755) < 0 ? -errno : 0;
}

int ty_snapshot_unpack(const struct ty_snapshot *s, struct ty_blobs *b, const char *dir, struct ty_error *err)
{
    CLEANUP_CLOSE int dirfd = -1;
    struct unpack u = { .blobs = b, .dir = dir, .err = err };
    int r = ty_mkdir_p(dir, 0755);

    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot make the folder '%s': %m", dir);
    }
    u.dirfd = dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return ty_error_set(err, -errno, "cannot open the folder '%s': %m", dir);
    for (int links = 0; links < 2; links++) {
        const char *before = NULL;

        for (const struct entry *e = s->entries; e < s->entries + s->n; e++) {
            if ((e->type == 'l') != links)
                continue;
            r = make_parents(&u, e->path, before);
            if (r == 0)
                r = unpack_entry(&u, e);
            if (r < 0)
                return failed(&u, e, r);
            before = e->path;
        }
    }
    return 0;
}
