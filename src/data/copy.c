/* copy.c - copying files and folders of data */
#include "data/copy.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/listing.h"
#include "data/stage.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 3 /* for a file that is written while it is copied */

static bool same_content(const char *a, const char *b)
{
    CLEANUP_CLOSE int fa = open(a, O_RDONLY | O_CLOEXEC | O_NONBLOCK),
                      fb = open(b, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    CLEANUP_FREE char *buf = malloc(2 * 65536);
    struct stat sa, sb;
    ssize_t n;

    if (fa < 0 || fb < 0 || !buf || fstat(fa, &sa) < 0 || fstat(fb, &sb) < 0 ||
        !S_ISREG(sb.st_mode) || sa.st_size != sb.st_size)
        return false;
    while ((n = ty_read_full(fa, buf, 65536)) > 0)
        if (ty_read_full(fb, buf + 65536, (size_t)n) != n ||
            memcmp(buf, buf + 65536, (size_t)n) != 0)
            return false;
    return n == 0;
}

/* Beside `to`.  Processes of many machines copy to one folder, in containers with equal numbers: no two may have one name. */
static char *temporary_name(const char *to)
{
    const char *slash = strrchr(to, '/');
    uint64_t number;

    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return NULL;
    return ty_strf("%.*s.trainyard-%016" PRIx64, slash ? (int)(slash + 1 - to) : 0, to, number);
}

static int copy_to_temporary(const char *from, const char *to, char **tmp)
{
    CLEANUP_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK), out = -1;
    CLEANUP_FREE char *path = NULL;
    struct stat st, after;
    int r;

    if (in < 0)
        return -errno;
    path = temporary_name(to);
    if (!path)
        return -ENOMEM;
    if (fstat(in, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (out < 0)
        return -errno;
    r = ty_copy_fd(in, out);
    if (r >= 0 && fstat(in, &after) == 0 &&
        (after.st_size != st.st_size || after.st_mtim.tv_sec != st.st_mtim.tv_sec ||
         after.st_mtim.tv_nsec != st.st_mtim.tv_nsec))
        r = -EBUSY;
    if (r >= 0 && fchmod(out, (st.st_mode & 0777) | 0600) < 0)
        r = -errno;
    if (r < 0) {
        unlink(path);
        return r;
    }
    *tmp = TAKE(path);
    return 0;
}

/* What is written while it is copied would be half old and half new: it is copied anew. */
static int copy_whole(const char *from, const char *to, char **tmp)
{
    int r = -EBUSY;

    for (int try = 0; r == -EBUSY && try < TRIES; try++)
        r = copy_to_temporary(from, to, tmp);
    return r;
}

int ty_copy_file(const char *from, const char *to, bool overwrite)
{
    CLEANUP_FREE char *tmp = NULL;
    struct stat st;
    int r;

    if (!overwrite && lstat(to, &st) == 0)
        return same_content(from, to) ? 0 : -EEXIST;
    r = ty_mkdir_parent(to, 0777);
    if (r == 0)
        r = copy_whole(from, to, &tmp);
    if (r < 0)
        return r;
    r = overwrite ? (rename(tmp, to) < 0 ? -errno : 0)
                  : ty_rename_noreplace(AT_FDCWD, tmp, AT_FDCWD, to);
    if (r < 0)
        unlink(tmp);
    return r;
}

struct copying {
    const char *from, *to;
    bool overwrite;
    int (*fn)(const char *rel, int why, void *ctx);
    void (*done)(uint64_t bytes, void *ctx);
    void *ctx;
    uint64_t files;
};

static int visit(const char *rel, const struct stat *lst, void *ctx)
{
    struct copying *c = ctx;
    CLEANUP_FREE char *from = ty_path_join(c->from, rel);
    CLEANUP_FREE char *to = ty_path_join(c->to, rel);
    struct stat st = *lst;
    int r = 0;

    if (!from || !to)
        return -ENOMEM;
    if (ty_listing_hides(rel))
        return S_ISDIR(st.st_mode);
    if (++c->files > TY_STAGE_FILES_MAX)
        return -EFBIG;
    if (S_ISLNK(st.st_mode) && stat(from, &st) < 0)
        r = -errno;
    else if (S_ISDIR(lst->st_mode)) {
        r = ty_fs_can_enter(AT_FDCWD, from);
        if (r == 0)
            r = ty_mkdir_p(to, 0777);
    } else if (S_ISREG(st.st_mode))
        r = ty_copy_file(from, to, c->overwrite);
    else
        r = S_ISLNK(lst->st_mode) ? -ELOOP : -ENOTSUP;
    if (r == 0 && c->done && S_ISREG(st.st_mode))
        c->done((uint64_t)st.st_size, c->ctx);
    if (r == 0)
        return 0;
    r = c->fn(rel, r, c->ctx);
    return r == 0 && S_ISDIR(lst->st_mode) ? 1 : r; /* what cannot be entered is left out */
}

int ty_copy_tree(const char *from, const char *to, bool overwrite,
                 int (*fn)(const char *rel, int why, void *ctx),
                 void (*done)(uint64_t bytes, void *ctx), void *ctx, struct ty_error *err)
{
    struct copying c = {
        .from = from, .to = to, .overwrite = overwrite, .fn = fn, .done = done, .ctx = ctx
    };
    int r = ty_mkdir_p(to, 0777);

    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot make the folder '%s': %m", to);
    }
    r = ty_walk(from, visit, &c, err);
    if (r == -EFBIG)
        return ty_error_set(err, r, "'%s' has more than %d files", from, TY_STAGE_FILES_MAX);
    return r;
}
