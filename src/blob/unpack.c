/* unpack.c - a snapshot becomes a directory again
 *
 * Files are copied (by reflink where the file system can), never hard-linked: a script may write to its own files.  Links
 * are made last, so that no file is ever written through one.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/snapshot_internal.h"
#include <dirent.h>
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
    char room[16];

    if (r == -EBADMSG)
        return ty_error_set(
            u->err, r,
            "cannot unpack '%s' of the snapshot into '%s': its stored content (%s) is damaged",
            e->path, u->dir, e->sha);
    if (r == -ENOSPC)
        return ty_error_set(
            u->err, r,
            "cannot unpack '%s' of the snapshot into '%s': %s (%s free); make room there "
            "(in a state folder `trainyard gc` does)",
            e->path, u->dir, strerror(-r), ty_show_bytes(ty_fs_free_bytes(u->dir), room));
    return ty_error_set(u->err, r, "cannot unpack '%s' of the snapshot into '%s': %s", e->path,
                        u->dir, strerror(-r));
}

/* The folders that a path lies in.  Most entries share theirs with the one before. */
static int make_parents(const struct unpack *u, const char *path, const char *before)
{
    const char *last = strrchr(path, '/'), *other = before ? strrchr(before, '/') : NULL;
    CLEANUP_FREE char *part = NULL;

    if (!last || (other && other - before == last - path &&
                  memcmp(path, before, (size_t)(last - path)) == 0))
        return 0;
    part = strndup(path, (size_t)(last - path) + 1);
    if (!part)
        return -ENOMEM;
    for (char *slash = strchr(part, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(u->dirfd, part, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

static int open_blob(const struct unpack *u, const struct entry *e)
{
    int fd = ty_blob_open(u->blobs, e->sha);

    if (fd == -ENOENT)
        return ty_error_set(
            u->err, fd,
            "cannot unpack '%s' of the snapshot: its content (%s) is not in the store '%s'",
            e->path, e->sha, ty_blobs_dir(u->blobs));
    return fd < 0 ? failed(u, e, fd) : fd;
}

static int unpack_file(const struct unpack *u, const struct entry *e)
{
    CLEANUP_CLOSE int from = open_blob(u, e);
    CLEANUP_CLOSE int to = -1;
    struct stat st;
    int r;

    if (from < 0)
        return from;
    to = openat(u->dirfd, e->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0)
        return failed(u, e, -errno);
    r = FAULT("unpack.copy", -errno, ty_copy_fd(from, to));
    if (r == 0 && (fchmod(to, e->executable ? 0755 : 0644) < 0 || fstat(to, &st) < 0))
        r = -errno;
    if (r == 0 && (uint64_t)st.st_size != e->bytes)
        r = -EBADMSG;
    return r < 0 ? failed(u, e, r) : 0;
}

static int unpack_entry(const struct unpack *u, const struct entry *e, const char *before)
{
    int r = make_parents(u, e->path, before);

    if (r < 0)
        return failed(u, e, r);
    if (e->type == 'f')
        return unpack_file(u, e);
    if (e->type == 'l')
        r = FAULT("unpack.link", -1, symlinkat(e->target, u->dirfd, e->path));
    else
        r = FAULT("unpack.mkdir", -1, mkdirat(u->dirfd, e->path, 0755));
    return r < 0 ? failed(u, e, -errno) : 0;
}

/* A descriptor of the folder, which is made if need be.  One that is not empty could hold links that lead out. */
static int open_empty(const char *dir, struct ty_error *err)
{
    CLEANUP_DIR DIR *d = NULL;
    struct dirent *e;
    int r = ty_mkdir_p(dir, 0755), fd;

    if (r < 0)
        return ty_error_set(err, r, "cannot make the folder '%s': %s", dir, strerror(-r));
    d = opendir(dir);
    if (!d)
        return ty_error_set(err, -errno, "cannot open the folder '%s': %m", dir);
    while ((e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            return ty_error_set(err, -ENOTEMPTY,
                                "cannot unpack a snapshot into '%s': it is not empty", dir);
    fd = fcntl(dirfd(d), F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? ty_error_set(err, -errno, "cannot open the folder '%s': %m", dir) : fd;
}

int ty_snapshot_unpack(const struct ty_snapshot *s, struct ty_blobs *b, const char *dir,
                       struct ty_error *err)
{
    CLEANUP_CLOSE int dirfd = open_empty(dir, err);
    struct unpack u = { .blobs = b, .dir = dir, .dirfd = dirfd, .err = err };

    if (dirfd < 0)
        return dirfd;
    for (int links = 0; links < 2; links++) {
        const char *before = NULL;

        for (const struct entry *e = s->entries; e < s->entries + s->n; e++) {
            int r = (e->type == 'l') == links ? unpack_entry(&u, e, before) : 0;

            if (r < 0)
                return r;
            if ((e->type == 'l') == links)
                before = e->path;
        }
    }
    return 0;
}
