/* ds_file.c - a datastore that is a folder
 *
 * Everything is opened beneath the folder's descriptor.  A file that is being put is
 * `.trainyard-put-<number>` in the folder where it will be; what a killed daemon left of such files
 * is no data and is not listed.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/datastore.h"
#include "data/marker.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define PUT_PREFIX ".trainyard-put-"
#define PATH_CAP 4096

struct file_put {
    struct ty_data_put base; /* first */
    char *path;              /* as it was given */
    const char *name;        /* its last part */
    char temp[64];
    int folder, fd;
    bool overwrite;
};

static int file_open(struct ty_datastore *d, const char *root, struct ty_error *err)
{
    d->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->root < 0)
        return ty_error_set(err, -errno, "cannot open the folder '%s' of datastore '%s': %m", root,
                            d->name);
    return 0;
}

/* The root once more, for a caller that closes what it was given; or a negative errno. */
static int root_again(const struct ty_datastore *d)
{
    int fd = fcntl(d->root, F_DUPFD_CLOEXEC, 3);

    return fd < 0 ? -errno : fd;
}

static void file_close(struct ty_datastore *d)
{
    if (d->root >= 0)
        close(d->root);
}

/* ---- list ---- */

struct listing {
    struct ty_datastore *d;
    const char *prefix; /* whole, from the root on */
    const char *folder; /* the part of it that is a folder; "" or ending in '/' */
    ty_data_fn fn;
    void *ctx;
    int fd; /* of the folder that is walked */
};

/* Is a link one to a file inside the datastore?  Then its size is that file's. */
static bool link_is_file(const struct ty_datastore *d, const char *path, uint64_t *bytes)
{
    CLEANUP_CLOSE int fd = ty_open_beneath(d->root, path, O_PATH | O_CLOEXEC, 0);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    *bytes = (uint64_t)st.st_size;
    return true;
}

static bool is_being_put(const char *path)
{
    const char *slash = strrchr(path, '/');

    return ty_starts_with(slash ? slash + 1 : path, PUT_PREFIX);
}

/* Also the mark by which other machines know the folder. */
static bool is_ours(const char *path)
{
    return is_being_put(path) || strcmp(path, TY_MARKER_NAME) == 0;
}

static int on_entry(const char *rel, const struct stat *st, void *ctx)
{
    struct listing *l = ctx;
    char path[PATH_CAP];
    uint64_t bytes = (uint64_t)st->st_size;
    int n = snprintf(path, sizeof path, "%s%s", l->folder, rel);

    if (S_ISDIR(
            st->st_mode)) /* one that is closed to us, such as lost+found, has nothing of ours */
        return ty_fs_can_enter(l->fd, rel) < 0;
    if (n >= (int)sizeof path || !ty_starts_with(path, l->prefix))
        return 0;
    if (is_ours(path) || !ty_utf8_valid(path, (size_t)n))
        return 0;
    if (S_ISLNK(st->st_mode) ? !link_is_file(l->d, path, &bytes) : !S_ISREG(st->st_mode))
        return 0;
    return l->fn(path, bytes, l->ctx);
}

/* Folders are entered from the last '/' of the prefix on: what lies elsewhere is not read. */
static int file_list(struct ty_datastore *d, const char *prefix, ty_data_fn fn, void *ctx,
                     struct ty_error *err)
{
    const char *slash = strrchr(prefix, '/');
    CLEANUP_FREE char *folder = strndup(prefix, slash ? (size_t)(slash - prefix) + 1 : 0);
    struct listing l = { .d = d, .prefix = prefix, .folder = folder, .fn = fn, .ctx = ctx };
    CLEANUP_CLOSE int fd = -1;
    char walked[64];
    int r;

    if (!folder)
        return ty_error_oom(err);
    if (*folder) {
        folder[strlen(folder) - 1] = '\0';
        if (!ty_path_is_inside(folder))
            return ty_error_set(
                err, -EINVAL,
                "the prefix '%.200s' cannot begin a path in datastore '%s': paths are relative, "
                "without empty parts, '.' and '..'",
                prefix, d->name);
    }
    fd = *folder ? ty_open_beneath(d->root, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0)
                 : root_again(d);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR
                   ? 0
                   : ty_error_set(err, fd, "cannot read '%.200s' of datastore '%s': %s", folder,
                                  d->name, strerror(-fd));
    if (*folder)
        folder[strlen(folder)] = '/';
    snprintf(walked, sizeof walked, "/proc/self/fd/%d/.", fd);
    l.fd = fd;
    r = ty_walk(walked, on_entry, &l, NULL);
    return r < 0 ? ty_error_set(err, r, "cannot list datastore '%s': %s", d->name, strerror(-r))
                 : r;
}

/* ---- read ---- */

static int path_failed(const struct ty_datastore *d, const char *doing, const char *path, int r,
                       struct ty_error *err)
{
    if ((r == -ENOENT || r == -ENOTDIR) && strcmp(doing, "read") == 0)
        return ty_error_set(
            err, -ENOENT,
            "datastore '%s' has no file '%.200s'; `trainyard data ls` lists those it has", d->name,
            path);
    if (r == -EXDEV || r == -ELOOP)
        return ty_error_set(err, r, "'%.200s' leads out of datastore '%s' through a link", path,
                            d->name);
    return ty_error_set(err, r, "cannot %s '%.200s' of datastore '%s': %s", doing, path, d->name,
                        strerror(-r));
}

static int file_read(struct ty_datastore *d, const char *path, int *ret, uint64_t *bytes,
                     struct ty_error *err)
{
    CLEANUP_CLOSE int fd =
        ty_open_beneath(d->root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    struct stat st;

    if (fd < 0)
        return path_failed(d, "read", path, fd, err);
    if (fstat(fd, &st) < 0)
        return path_failed(d, "read", path, -errno, err);
    if (!S_ISREG(st.st_mode))
        return ty_error_set(err, -EISDIR, "'%.200s' of datastore '%s' is %s, not a file", path,
                            d->name, S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    *bytes = (uint64_t)st.st_size;
    *ret = TAKE_FD(fd);
    return 0;
}

/* ---- put ---- */

/* The folder of `path`, made where it is missing, one part after the other beneath the root. */
static int open_folder(const struct ty_datastore *d, char *path)
{
    int folder = root_again(d);

    for (char *slash = strchr(path, '/'); folder >= 0 && slash; slash = strchr(slash + 1, '/')) {
        char *part = slash;
        int next;

        while (part > path && part[-1] != '/')
            part--;
        *slash = '\0';
        next = ty_open_beneath(d->root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        if (next == -ENOENT) {
            next = mkdirat(folder, part, 0777) < 0 && errno != EEXIST
                       ? -errno
                       : ty_open_beneath(d->root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        }
        *slash = '/';
        close(folder);
        folder = next;
    }
    return folder;
}

static void file_put_free(struct file_put *p)
{
    if (p->fd >= 0)
        close(p->fd);
    if (p->folder >= 0)
        close(p->folder);
    free(p->path);
    free(p);
}

static void file_put_abort(struct ty_data_put *base)
{
    struct file_put *p = (struct file_put *)base;

    if (p->fd >= 0)
        unlinkat(p->folder, p->temp, 0);
    file_put_free(p);
}

static int exists(const struct ty_datastore *d, const char *path, struct ty_error *err)
{
    return ty_error_set(
        err, -EEXIST,
        "datastore '%s' has a file '%.200s' already; ask for it to be overwritten (--overwrite), or choose "
        "another path",
        d->name, path);
}

static int open_put(struct ty_datastore *d, struct file_put *p, struct ty_error *err)
{
    uint64_t number; /* others, on other machines too, put files here */
    struct stat st;

    p->folder = open_folder(d, p->path);
    if (p->folder == -ENOTDIR)
        return ty_error_set(err, -EEXIST,
                            "cannot put '%.200s' into datastore '%s': a part of its path is a file",
                            p->path, d->name);
    if (p->folder < 0)
        return path_failed(d, "write", p->path, p->folder, err);
    if (fstatat(p->folder, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(st.st_mode))
            return ty_error_set(err, -EISDIR,
                                "'%.200s' is a folder of datastore '%s'; choose another path",
                                p->path, d->name);
        if (!p->overwrite)
            return exists(d, p->path, err);
    }
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return path_failed(d, "write", p->path, -EIO, err);
    snprintf(p->temp, sizeof p->temp, PUT_PREFIX "%016" PRIx64, number);
    p->fd = FAULT(
        "data.open", -1,
        openat(p->folder, p->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
    return p->fd < 0 ? path_failed(d, "write", p->path, -errno, err) : 0;
}

static int file_put_begin(struct ty_datastore *d, const char *path, bool overwrite,
                          struct ty_data_put **ret, struct ty_error *err)
{
    struct file_put *p = calloc(1, sizeof *p);
    const char *slash;
    int r;

    if (!p || !(p->path = strdup(path))) {
        free(p);
        return ty_error_oom(err);
    }
    slash = strrchr(p->path, '/');
    p->base.store = d;
    p->name = slash ? slash + 1 : p->path;
    p->overwrite = overwrite;
    p->folder = p->fd = -1;
    r = is_being_put(path)
            ? ty_error_set(err, -EINVAL,
                           "names that begin with '" PUT_PREFIX "' are the service's own")
            : open_put(d, p, err);
    if (r < 0) {
        file_put_free(p);
        return r;
    }
    *ret = &p->base;
    return 0;
}

static int file_put_write(struct ty_data_put *base, const void *bytes, size_t n,
                          struct ty_error *err)
{
    struct file_put *p = (struct file_put *)base;
    int r = FAULT("data.write", -errno, ty_write_all(p->fd, bytes, n));

    return r < 0 ? path_failed(base->store, "write", p->path, r, err) : 0;
}

/* Give the file its name, without taking that of another when that is not wanted. */
static int settle(const struct file_put *p)
{
    if (p->overwrite)
        return renameat(p->folder, p->temp, p->folder, p->name) < 0 ? -errno : 0;
    return ty_rename_noreplace(p->folder, p->temp, p->folder, p->name);
}

/* The folder's descriptor was opened for looking up alone, which fsync refuses. */
static int sync_folder(const struct file_put *p)
{
    CLEANUP_CLOSE int fd = openat(p->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int file_put_finish(struct ty_data_put *base, struct ty_error *err)
{
    struct file_put *p = (struct file_put *)base;
    int r = FAULT("data.sync", -1, fsync(p->fd)) < 0 ? -errno : settle(p);

    if (r == -EEXIST)
        exists(base->store, p->path, err);
    else if (r < 0)
        path_failed(base->store, "write", p->path, r, err);
    if (r < 0) {
        file_put_abort(base);
        return r;
    }
    r = sync_folder(p);
    if (r < 0)
        path_failed(base->store, "write", p->path, r, err);
    file_put_free(p);
    return r;
}

const struct ty_datastore_kind ty_ds_file = {
    .name = "file",
    .open = file_open,
    .close = file_close,
    .list = file_list,
    .read = file_read,
    .put_begin = file_put_begin,
    .put_write = file_put_write,
    .put_finish = file_put_finish,
    .put_abort = file_put_abort,
};
