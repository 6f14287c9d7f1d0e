/* snapshot.c - from a directory to a snapshot
 *
 * The directory is walked first (names and sizes, so that a limit is met before anything is read), then hashed.
 */
#include "blob/snapshot.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/ignore.h"
#include "blob/snapshot_internal.h"
#include "blob/statcache.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define BYTES_MAX (300ull * 1000 * 1000)
#define FILES_MAX 100000
#define IGNORE_FILE_MAX (1u << 20)
#define AMLIGNORE ".amlignore"
#define TAKING "While attempting to take snapshot of '%s': "
#define WALK_FACTOR 4 /* so many times the limit of files are counted, then the walk stops */

struct walk {
    struct ty_snapshot *s;
    struct ty_ignore *ignore;
    const char *top, *ignore_name; /* .amlignore or .gitignore */
    struct ty_snapshot_limits limits;
    struct stat *stats; /* of the entries, same index */
    size_t stats_cap;
    struct ty_error *err;
};

/* ---- from a directory: the walk ---- */

static int ignore_file_failed(const struct walk *w, const char *rel, int r)
{
    errno = -r;
    return ty_error_set(w->err, r, "cannot read '%s/%s%s%s': %m", w->top, rel, *rel ? "/" : "",
                        w->ignore_name);
}

/* As in git, a .gitignore that is a link does not count; a .amlignore may be one.  What is there and cannot be read is an
 * error: without it, everything would be uploaded. */
static int read_ignore_file(struct walk *w, int dirfd, const char *rel)
{
    bool follow = strcmp(w->ignore_name, AMLIGNORE) == 0;
    CLEANUP_CLOSE int fd = openat(dirfd, w->ignore_name,
                                  O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW));
    CLEANUP_FREE char *text = NULL;
    struct stat st;
    ssize_t n;

    if (fd < 0 && errno == ENOENT && follow &&
        fstatat(dirfd, w->ignore_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return ignore_file_failed(w, rel, -ENOENT); /* a link to nowhere */
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : ignore_file_failed(w, rel, -errno);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    text = malloc(IGNORE_FILE_MAX + 1);
    if (!text)
        return ty_error_oom(w->err);
    n = ty_read_full(fd, text, IGNORE_FILE_MAX + 1);
    if (n < 0 || n > IGNORE_FILE_MAX)
        return ignore_file_failed(w, rel, n < 0 ? (int)n : -EFBIG);
    return ty_ignore_add(w->ignore, rel, text, (size_t)n) < 0 ? ty_error_oom(w->err) : 0;
}

/* Is it plain that the target lies outside?  Its parts are counted as they stand. */
static bool leads_out(const char *path, const char *target)
{
    int depth = 0;
    size_t n;

    if (*target == '/' || !*target)
        return true;
    for (const char *c = path; *c; c++)
        depth += *c == '/';
    for (const char *part = target; *part; part += n + (part[n] == '/')) {
        n = strcspn(part, "/");
        if (n == 2 && memcmp(part, "..", 2) == 0)
            depth--;
        else if (n > 0 && (n != 1 || *part != '.'))
            depth++;
        if (depth < 0)
            return true;
    }
    return false;
}

static int add_link(struct walk *w, int dirfd, const char *name, const char *path)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);
    struct entry *e;

    if (n < 0)
        return ty_error_set(w->err, -errno, "cannot read the link '%s/%s': %m", w->top, path);
    target[n] = '\0';
    if (!ty_snapshot_link_fits(path, target) && leads_out(path, target))
        return ty_error_set(
            w->err, -EINVAL,
            "the link '%s' in source_directory leads out of it (to '%s'), and the job would find "
            "something else there; copy what it names, or leave it out with the line '/%s' in "
            ".amlignore",
            path, target, path);
    if (!ty_snapshot_link_fits(path, target))
        return ty_error_set(
            w->err, -EINVAL,
            "the link '%s' in source_directory has a '..' behind a name (it leads to '%s'), so nobody "
            "knows where it ends; write it without, or leave it out with the line '/%s' in .amlignore",
            path, target, path);
    e = ty_snapshot_add(w->s, 'l', path);
    return e && (e->target = strdup(target)) ? 0 : ty_error_oom(w->err);
}

static int add_file(struct walk *w, const char *path, const struct stat *st)
{
    struct entry *e = ty_snapshot_add(w->s, 'f', path);

    if (!e)
        return ty_error_oom(w->err);
    e->bytes = (uint64_t)st->st_size;
    e->executable = (st->st_mode & 0100) != 0;
    w->s->bytes += e->bytes;
    w->s->files++;
    if (w->s->n > w->stats_cap) {
        size_t cap = w->s->cap;
        struct stat *p = realloc(w->stats, cap * sizeof *p);

        if (!p)
            return ty_error_oom(w->err);
        w->stats = p;
        w->stats_cap = cap;
    }
    w->stats[w->s->n - 1] = *st;
    return 0;
}

static int check_place(const struct walk *w, const char *path)
{
    size_t most =
        w->limits.files < SIZE_MAX / WALK_FACTOR ? (size_t)w->limits.files * WALK_FACTOR : SIZE_MAX;

    if (!ty_snapshot_path_fits(path))
        return ty_error_set(
            w->err, -ENAMETOOLONG,
            "'%s/%.300s' has a path of more than %d bytes or lies more than %d folders deep; leave it out with "
            ".amlignore",
            w->top, path, TY_SNAPSHOT_PATH_MAX, TY_SNAPSHOT_DEPTH_MAX);
    if (w->s->n >= most)
        return ty_error_set(w->err, -EFBIG,
                            TAKING
                            "it has more than %zu files, and the limit (limits.snapshot_files) is "
                            "%" PRIu64 "; leave files out with .amlignore",
                            w->top, most, w->limits.files);
    return 0;
}

static int walk_folder(struct walk *w, int at, const char *name, const char *rel, int depth);

/* What no job needs, whatever the ignore files say: a virtual environment is one of this place alone. */
static bool is_left_out(int dirfd, const char *name)
{
    static const char *const names[] = { ".git", "__pycache__", ".ipynb_checkpoints" };
    char mark[NAME_MAX + sizeof "/pyvenv.cfg"];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    snprintf(mark, sizeof mark, "%s/pyvenv.cfg", name);
    return faccessat(dirfd, mark, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int walk_entry(struct walk *w, int dirfd, const char *name, const char *rel, int depth)
{
    CLEANUP_FREE char *path = *rel ? ty_path_join(rel, name) : strdup(name);
    struct stat st;
    int r;

    if (!path)
        return ty_error_oom(w->err);
    if (is_left_out(dirfd, name))
        return 0;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT
                   ? 0
                   : ty_error_set(w->err, -errno, "cannot read '%s/%s': %m", w->top, path);
    if (ty_ignore_match(w->ignore, path, S_ISDIR(st.st_mode)))
        return 0;
    r = check_place(w, path);
    if (r < 0)
        return r;
    if (S_ISDIR(st.st_mode))
        return walk_folder(w, dirfd, name, path, depth + 1);
    if (S_ISLNK(st.st_mode))
        return add_link(w, dirfd, name, path);
    return S_ISREG(st.st_mode) ? add_file(w, path, &st)
                               : 0; /* sockets, pipes and devices have no content to keep */
}

static int read_folder(struct walk *w, DIR *dir, const char *rel, int depth)
{
    struct dirent *e;
    int r = read_ignore_file(w, dirfd(dir), rel);

    while (r == 0) {
        errno = 0;
        e = readdir(dir);
        if (!e)
            return errno ? ty_error_set(w->err, -errno, "cannot read the folder '%s/%s': %m",
                                        w->top, rel)
                         : 0;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = walk_entry(w, dirfd(dir), e->d_name, rel, depth);
    }
    return r;
}

static int walk_folder(struct walk *w, int at, const char *name, const char *rel, int depth)
{
    CLEANUP_DIR DIR *dir = NULL;
    size_t before = w->s->n, patterns = ty_ignore_count(w->ignore);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth ? O_NOFOLLOW : 0)), r;

    if (fd < 0 && depth == 0)
        return ty_error_set(
            w->err, -errno,
            "cannot open source_directory '%s': %m; give the path of an existing folder", w->top);
    if (fd < 0)
        return errno == ENOENT ? 0
                               : ty_error_set(w->err, -errno, "cannot read the folder '%s/%s': %m",
                                              w->top, rel);
    dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return ty_error_oom(w->err);
    }
    r = read_folder(w, dir, rel, depth);
    ty_ignore_cut(w->ignore, patterns);
    if (r == 0 && w->s->n == before && depth > 0 && !ty_snapshot_add(w->s, 'd', rel))
        r = ty_error_oom(w->err);
    return r;
}

/* ---- limits ---- */

static int by_bytes(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;

    return (*x)->bytes < (*y)->bytes ? 1 : -((*x)->bytes > (*y)->bytes);
}

static void name_largest(const struct ty_snapshot *s, struct ty_str *out)
{
    const struct entry **all = calloc(s->n + 1, sizeof *all);
    char size[16];

    for (size_t i = 0; all && i < s->n; i++)
        all[i] = &s->entries[i];
    if (all)
        qsort(all, s->n, sizeof *all, by_bytes);
    for (size_t i = 0; all && i < 3 && i < s->n && all[i]->bytes > 0; i++)
        ty_str_addf(out, "%s'%.100s' (%s)", i ? ", " : "", all[i]->path,
                    ty_show_bytes(all[i]->bytes, size));
    free(all);
}

static int check_limits(const struct walk *w)
{
    CLEANUP_STR struct ty_str largest = { 0 };
    char has[16], may[16];

    if (w->s->n > w->limits.files)
        return ty_error_set(w->err, -EFBIG,
                            TAKING
                            "it has %zu files, and the limit (limits.snapshot_files) is %" PRIu64
                            "; leave files out with .amlignore",
                            w->top, w->s->n, w->limits.files);
    if (w->s->bytes <= w->limits.bytes)
        return 0;
    name_largest(w->s, &largest);
    return ty_error_set(
        w->err, -EFBIG,
        TAKING
        "your total snapshot size %s exceeds the limit of %s (limits.snapshot_bytes). The largest files "
        "are %s; leave them out with .amlignore, put data into a datastore, or raise the limit",
        w->top, ty_show_bytes(w->s->bytes, has), ty_show_bytes(w->limits.bytes, may),
        largest.text ? largest.text : "");
}

/* ---- hashing ---- */

static int hash_entry(struct walk *w, int topfd, struct entry *e, const struct stat *st,
                      struct ty_statcache *cache)
{
    const char *known = ty_statcache_get(cache, e->path, st);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (known) {
        memcpy(e->sha, known, sizeof e->sha);
        return 0;
    }
    fd = openat(topfd, e->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return ty_error_set(w->err, -errno, "cannot read '%s/%s': %m", w->top, e->path);
    r = ty_sha256_file(fd, e->sha, &e->bytes);
    if (r < 0) {
        errno = -r;
        return ty_error_set(w->err, r, "cannot read '%s/%s': %m", w->top, e->path);
    }
    if (e->bytes == (uint64_t)st->st_size)
        ty_statcache_put(cache, e->path, st, e->sha);
    return 0;
}

static int hash_all(struct walk *w, const char *cache_file)
{
    struct ty_statcache *cache = ty_statcache_load(cache_file);
    CLEANUP_CLOSE int topfd = open(w->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = !cache      ? ty_error_oom(w->err)
            : topfd < 0 ? ty_error_set(w->err, -errno, "cannot open '%s': %m", w->top)
                        : 0;

    for (size_t i = 0; r == 0 && i < w->s->n; i++)
        if (w->s->entries[i].type == 'f')
            r = hash_entry(w, topfd, &w->s->entries[i], &w->stats[w->s->entries[i].order], cache);
    if (r == 0 && cache_file)
        ty_statcache_save(cache, cache_file);
    ty_statcache_free(cache);
    return r;
}

static const char *choose_ignore_file(const char *dir)
{
    CLEANUP_FREE char *path = ty_path_join(dir, AMLIGNORE);
    struct stat st;

    return path && lstat(path, &st) == 0 && !S_ISDIR(st.st_mode) ? AMLIGNORE : ".gitignore";
}

static int take(struct walk *w, const char *cache_file)
{
    int r;

    if (!w->s || !w->ignore)
        return ty_error_oom(w->err);
    w->ignore_name = choose_ignore_file(w->top);
    r = walk_folder(w, AT_FDCWD, w->top, "", 0);
    if (r == 0)
        r = check_limits(w);
    if (r == 0) {
        ty_snapshot_sort(w->s);
        r = hash_all(w, cache_file);
    }
    if (r == 0 && ty_snapshot_seal(w->s) < 0)
        r = ty_error_oom(w->err);
    return r == 0 ? check_limits(w) : r; /* files may have grown since the walk */
}

int ty_snapshot_from_dir(const char *dir, const char *cache,
                         const struct ty_snapshot_limits *limits, struct ty_snapshot **ret,
                         struct ty_error *err)
{
    struct walk w = {
        .s = calloc(1, sizeof *w.s), .ignore = ty_ignore_new(), .top = dir, .err = err
    };
    int r;

    w.limits.bytes = limits && limits->bytes ? limits->bytes : BYTES_MAX;
    w.limits.files = limits && limits->files ? limits->files : FILES_MAX;
    r = take(&w, cache);
    ty_ignore_free(w.ignore);
    free(w.stats);
    if (r < 0) {
        ty_snapshot_free(w.s);
        return r;
    }
    *ret = w.s;
    return 0;
}
