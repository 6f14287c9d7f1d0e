/* fs.c - files and folders, done carefully */
#include "base/fs.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum {
    COPY_CHUNK = 1 << 30,      /* bytes in one copy_file_range(2) */
    OPEN_TRIES = 32,           /* openat2(2) gives EAGAIN while somebody renames beside it */
    WALK_NAMES_MAX = 10000000, /* in one folder */
    REMOVE_DEPTH_MAX = 64,     /* deeper folders are first moved to the top */
    REMOVE_PASSES_MAX = 1000,  /* over one folder that keeps being filled */
};

/* ---- paths ---- */

char *ty_path_join(const char *a, const char *b)
{
    size_t n = strlen(a);

    return ty_strf("%s%s%s", a, n > 0 && a[n - 1] != '/' ? "/" : "", b);
}

int ty_path_absolute(const char *path, char **ret)
{
    CLEANUP_FREE char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *full;

    if (path[0] != '/' && !here)
        return -errno;
    full = here ? ty_path_join(here, path) : strdup(path);
    if (!full)
        return -ENOMEM;
    for (size_t n = strlen(full); n > 1 && full[n - 1] == '/'; n--)
        full[n - 1] = 0;
    *ret = full;
    return 0;
}

bool ty_path_is_inside(const char *path)
{
    const char *part = path;

    if (!*path)
        return false;
    for (const char *c = path;; c++) {
        size_t n = (size_t)(c - part);

        if (*c && *c != '/') {
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                return false;
            continue;
        }
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (!*c)
            return true;
        part = c + 1;
    }
}

/* Take the last part of text[0..n) off; the new length. */
static size_t without_last(const char *text, size_t n)
{
    while (n > 0 && text[n - 1] != '/')
        n--;
    return n > 0 ? n - 1 : 0;
}

int ty_path_clean(const char *path, char **ret)
{
    CLEANUP_FREE char *out = NULL;
    size_t len = 0, n;

    if (path[0] == '/')
        return -EINVAL;
    out = malloc(strlen(path) + 1);
    if (!out)
        return -ENOMEM;
    for (const char *part = path; *part; part += n + (part[n] == '/')) {
        n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.'))
            continue;
        if (n == 2 && part[0] == '.' && part[1] == '.') {
            if (len == 0)
                return -EINVAL;
            len = without_last(out, len);
            continue;
        }
        if (len > 0)
            out[len++] = '/';
        memcpy(out + len, part, n);
        len += n;
    }
    out[len] = 0;
    *ret = TAKE(out);
    return 0;
}

/* ---- folders ---- */

static int make_one(const char *path, mode_t mode)
{
    struct stat st;

    if (FAULT("fs.mkdir", -1, mkdir(path, mode)) == 0)
        return 0;
    if (errno == ENOENT)
        return -ENOENT;
    /* A read-only or foreign parent answers EROFS or EACCES also for what is there already. */
    int r = -errno;
    if (stat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    return r;
}

int ty_mkdir_p(const char *path, mode_t mode)
{
    CLEANUP_FREE char *part = strdup(path);
    int r;

    if (!part)
        return -ENOMEM;
    r = make_one(part, mode);
    if (r != -ENOENT || !*part)
        return r;
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        r = make_one(part, mode);
        *slash = '/';
        if (r < 0)
            return r;
    }
    return make_one(part, mode);
}

int ty_mkdir_parent(const char *path, mode_t mode)
{
    CLEANUP_FREE char *parent = strdup(path);
    size_t n;

    if (!parent)
        return -ENOMEM;
    n = without_last(parent, strlen(parent));
    parent[n] = 0;
    return n == 0 ? 0 : ty_mkdir_p(parent, mode);
}

/* What ty_rm_rf is removing.  Folders below REMOVE_DEPTH_MAX are moved up into `top` and met again there, so that
 * neither descriptors nor stack run out. */
struct removal {
    int top;
    unsigned moved;
};

static int remove_entry(struct removal *job, int dirfd, const char *name, int depth);

/* One pass over the entries of `dir`; *removed counts those that went. */
static int remove_pass(struct removal *job, DIR *dir, int depth, unsigned *removed)
{
    struct dirent *e;
    int r = 0, one;

    for (errno = 0; (e = readdir(dir)); errno = 0) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        one = remove_entry(job, dirfd(dir), e->d_name, depth);
        if (one < 0)
            r = one;
        else
            (*removed)++;
    }
    return r < 0 ? r : -errno;
}

/* Empty the folder behind `fd`, which this call owns.  What was created or moved in meanwhile goes in the next pass. */
static int remove_content(struct removal *job, int fd, int depth)
{
    CLEANUP_DIR DIR *dir = NULL;
    unsigned removed = 1;
    struct stat st;
    int r = 0;

    if (fstat(fd, &st) == 0 && (st.st_mode & S_IRWXU) != S_IRWXU)
        (void)fchmod(fd, S_IRWXU);
    dir = fdopendir(fd);
    if (!dir) {
        r = -errno;
        close(fd);
        return r;
    }
    for (int pass = 0; removed > 0 && pass < REMOVE_PASSES_MAX; pass++) {
        removed = 0;
        rewinddir(dir);
        r = remove_pass(job, dir, depth, &removed);
    }
    return r;
}

static int open_folder(int dirfd, const char *name)
{
    enum { FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };
    int fd = FAULT("fs.remove", -1, openat(dirfd, name, FLAGS));

    if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, S_IRWXU, 0) == 0)
        fd = openat(dirfd, name, FLAGS);
    return fd;
}

/* What is mounted there is somebody else's, a whole store of data perhaps: its content is no part of what is removed. */
static bool is_mount(int fd)
{
    struct statx s;

    return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE, &s) == 0 &&
           (s.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

static int remove_entry(struct removal *job, int dirfd, const char *name, int depth)
{
    char other[32];
    int fd, r;

    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno == ENOTDIR)
        return -EPERM;
    if (depth >= REMOVE_DEPTH_MAX) {
        snprintf(other, sizeof other, ".rm-%d-%u", (int)getpid(), job->moved++);
        return renameat(dirfd, name, job->top, other) < 0 ? -errno : 0;
    }
    fd = open_folder(dirfd, name);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (depth == 0)
        job->top = fd;
    else if (is_mount(fd)) {
        close(fd);
        return -EBUSY;
    }
    r = remove_content(job, fd, depth + 1);
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    return r < 0 ? r : -errno;
}

int ty_rm_rf(const char *path)
{
    struct removal job = { .top = -1 };

    return remove_entry(&job, AT_FDCWD, path, 0);
}

int ty_fs_can_enter(int dirfd, const char *name)
{
    CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    return fd < 0 || fstatat(fd, ".", &st, 0) < 0 ? -errno : 0;
}

/* ---- content ---- */

int ty_write_all(int fd, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n > 0) {
        ssize_t w = FAULT("fs.write", -1, write(fd, at, n));

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? -errno : -EIO;
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

int ty_pwrite_all(int fd, const void *bytes, size_t n, off_t at)
{
    const char *from = bytes;

    while (n > 0) {
        ssize_t w = FAULT("fs.write", -1, pwrite(fd, from, n, at));

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? -errno : -EIO;
        from += w;
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

ssize_t ty_read_full(int fd, void *buf, size_t n)
{
    size_t have = 0;

    while (have < n) {
        ssize_t got = FAULT("fs.read", -1, read(fd, (char *)buf + have, n - have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

static int read_fd(int fd, size_t limit, char **ret, size_t *len)
{
    CLEANUP_FREE char *text = NULL;
    size_t have = 0, cap = 0;
    struct stat st;
    ssize_t got;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > limit)
        return -EFBIG;
    /* The size is a first guess only: files in /proc say 0, and a file may grow. */
    do {
        size_t want = cap ? cap * 2 : (size_t)(st.st_size > 0 ? st.st_size : 4096) + 2;
        char *more = realloc(text, want);

        if (!more)
            return -ENOMEM;
        text = more;
        cap = want;
        got = ty_read_full(fd, text + have, cap - 1 - have);
        if (got < 0)
            return (int)got;
        have += (size_t)got;
        if (have > limit)
            return -EFBIG;
    } while (have == cap - 1);
    text[have] = 0;
    if (len)
        *len = have;
    *ret = TAKE(text);
    return 0;
}

int ty_read_file(const char *path, size_t limit, char **ret, size_t *len)
{
    CLEANUP_CLOSE int fd = FAULT("fs.open", -1, open(path, O_RDONLY | O_CLOEXEC));

    return fd < 0 ? -errno : read_fd(fd, limit, ret, len);
}

int ty_read_foreign(const char *path, size_t limit, char **ret, size_t *len)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    return S_ISREG(st.st_mode) ? read_fd(fd, limit, ret, len) : -EBADMSG;
}

/* A rename is safe only when the folder that holds the name is on the disk too. */
static int sync_parent(const char *path)
{
    CLEANUP_FREE char *parent = strdup(path);
    CLEANUP_CLOSE int fd = -1;
    size_t n;

    if (!parent)
        return -ENOMEM;
    n = without_last(parent, strlen(parent));
    parent[n] = 0;
    fd = open(n > 0 ? parent : path[0] == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || FAULT("fs.fsync", -1, fsync(fd)) < 0)
        return -errno;
    return 0;
}

static int fill_and_sync(int fd, const void *bytes, size_t n, mode_t mode)
{
    int r = ty_write_all(fd, bytes, n);

    if (r < 0)
        return r;
    if (fchmod(fd, mode) < 0 || FAULT("fs.fsync", -1, fsync(fd)) < 0)
        return -errno;
    return 0;
}

int ty_rename_noreplace(int olddir, const char *from, int newdir, const char *to)
{
    if (renameat2(olddir, from, newdir, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    /* A second name cannot replace anything either. */
    if (linkat(olddir, from, newdir, to, 0) < 0)
        return -errno;
    unlinkat(olddir, from, 0);
    return 0;
}

int ty_write_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
    CLEANUP_FREE char *fresh = ty_strf("%s.XXXXXX", path);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!fresh)
        return -ENOMEM;
    fd = FAULT("fs.open", -1, mkostemp(fresh, O_CLOEXEC));
    if (fd < 0)
        return -errno;
    r = fill_and_sync(fd, bytes, n, mode);
    if (r == 0 && FAULT("fs.rename", -1, rename(fresh, path)) < 0)
        r = -errno;
    if (r < 0) {
        unlink(fresh);
        return r;
    }
    return sync_parent(path);
}

/* The copy that works between any two files. */
static int copy_by_reading(int from, int to, off_t at)
{
    enum { CHUNK = 256 * 1024 };
    CLEANUP_FREE char *buf = malloc(CHUNK);
    int r;

    if (!buf)
        return -ENOMEM;
    for (;;) {
        ssize_t got = FAULT("fs.read", -1, pread(from, buf, CHUNK, at));

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : 0;
        r = ty_pwrite_all(to, buf, (size_t)got, at);
        if (r < 0)
            return r;
        at += got;
    }
}

int ty_copy_fd(int from, int to)
{
    off_t in = 0, out = 0;
    ssize_t n;

    if (FAULT("fs.reflink", -1, ioctl(to, FICLONE, from)) == 0)
        return 0;
    for (;;) {
        n = FAULT("fs.copy_range", -1, copy_file_range(from, &in, to, &out, COPY_CHUNK, 0));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
            return -errno;
        /* Some file systems cannot do this, and some kernels answer 0 for files that are not empty. */
        if (n < 0 || in == 0)
            return copy_by_reading(from, to, in);
        if (n == 0)
            return 0;
    }
}

int ty_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;

    for (int i = 0; i < OPEN_TRIES; i++) {
        fd = FAULT("fs.open_beneath", -1, syscall(SYS_openat2, dirfd, path, &how, sizeof how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd < 0 ? -errno : (int)fd;
}

/* ---- walking ---- */

struct walk {
    const char *dir;
    int (*fn)(const char *rel, const struct stat *st, void *ctx);
    void *ctx;
    struct ty_error *err;
    char rel[PATH_MAX];
};

struct names {
    char **name;
    size_t n, cap;
};

static void names_done(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->name[i]);
    free(names->name);
}

static int names_add(struct names *names, const char *name)
{
    if (names->n == WALK_NAMES_MAX)
        return -EFBIG;
    if (names->n == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 32;
        char **more = realloc(names->name, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        names->name = more;
        names->cap = cap;
    }
    names->name[names->n] = strdup(name);
    if (!names->name[names->n])
        return -ENOMEM;
    names->n++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *dir, struct names *names)
{
    struct dirent *e;
    int r;

    for (errno = 0; (e = readdir(dir)); errno = 0) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        r = names_add(names, e->d_name);
        if (r < 0)
            return r;
    }
    if (errno)
        return -errno;
    if (names->n > 1)
        qsort(names->name, names->n, sizeof *names->name, by_name);
    return 0;
}

static int walk_error(struct walk *w, int code, const char *doing)
{
    return ty_error_set(w->err, code, "cannot %s '%s%s%s': %s", doing, w->dir, w->rel[0] ? "/" : "",
                        w->rel, strerror(-code));
}

static int walk_folder(struct walk *w, int fd, size_t len, int depth);

/* w->rel is the entry's path, `len` bytes long, and `name` its last part. */
static int walk_entry(struct walk *w, int dirfd, const char *name, size_t len, int depth)
{
    struct stat st;
    int fd, r;

    if (FAULT("fs.walk", -1, fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW)) < 0)
        return errno == ENOENT ? 0 : walk_error(w, -errno, "look at");
    r = w->fn(w->rel, &st, w->ctx);
    if (r != 0 || !S_ISDIR(st.st_mode))
        return r < 0 ? r : 0;
    if (depth == TY_WALK_DEPTH_MAX)
        return ty_error_set(w->err, -ELOOP,
                            "cannot read '%s/%s': folders are nested more than %d deep", w->dir,
                            w->rel, TY_WALK_DEPTH_MAX);
    fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : walk_error(w, -errno, "read the folder");
    return walk_folder(w, fd, len, depth + 1);
}

/* The folder behind `fd`, which this call owns; w->rel is its path, `len` bytes long. */
static int walk_folder(struct walk *w, int fd, size_t len, int depth)
{
    CLEANUP(names_done) struct names names = { 0 };
    CLEANUP_DIR DIR *dir = fdopendir(fd);
    int r = dir ? read_names(dir, &names) : -errno;

    if (!dir)
        close(fd);
    if (r < 0)
        return walk_error(w, r, "read the folder");
    for (size_t i = 0; i < names.n && r == 0; i++) {
        int n = snprintf(w->rel + len, sizeof w->rel - len, "%s%s", len ? "/" : "", names.name[i]);

        if ((size_t)n >= sizeof w->rel - len)
            r = walk_error(w, -ENAMETOOLONG, "look at");
        else
            r = walk_entry(w, dirfd(dir), names.name[i], len + (size_t)n, depth);
        w->rel[len] = 0;
    }
    return r;
}

int ty_walk(const char *dir, int (*fn)(const char *rel, const struct stat *st, void *ctx),
            void *ctx, struct ty_error *err)
{
    struct walk *w = calloc(1, sizeof *w);
    int fd, r;

    if (!w)
        return ty_error_oom(err);
    w->dir = dir;
    w->fn = fn;
    w->ctx = ctx;
    w->err = err;
    fd = FAULT("fs.walk", -1, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    r = fd < 0 ? walk_error(w, -errno, "open the folder") : walk_folder(w, fd, 0, 1);
    free(w);
    return r;
}
