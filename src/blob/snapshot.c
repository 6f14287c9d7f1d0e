/* snapshot.c - manifests: from a directory, from bytes
 *
 * A directory is walked first (names and sizes, so that a limit is met before anything is read), then hashed.  Entries are
 * kept sorted by path; the manifest is written from them, and one that is read must come out byte for byte the same:
 * there is one way to write a snapshot.
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
#include <stdio.h>
#include <string.h>

#define HEADER "trainyard-snapshot 1\n"
#define BYTES_MAX (300ull * 1000 * 1000)
#define FILES_MAX 100000
#define DEPTH_MAX 64
#define IGNORE_FILE_MAX (1u << 20)

struct walk {
    struct ty_snapshot *s;
    struct ty_ignore *ignore;
    const char *top, *ignore_name; /* .amlignore or .gitignore */
    struct ty_snapshot_limits limits;
    struct stat *stats;            /* of the entries, same index */
    size_t stats_cap;
    struct ty_error *err;
};

/* ---- entries ---- */

struct ty_snapshot *ty_snapshot_free(struct ty_snapshot *s)
{
    if (s) {
        for (size_t i = 0; i < s->n; i++) {
            free(s->entries[i].path);
            free(s->entries[i].target);
        }
        free(s->entries);
        free(s->regular);
        free(s->manifest);
        free(s);
    }
    return NULL;
}

static struct entry *add_entry(struct ty_snapshot *s, char type, const char *path)
{
    struct entry *e;

    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct entry *p = realloc(s->entries, cap * sizeof *p);

        if (!p)
            return NULL;
        s->entries = p;
        s->cap = cap;
    }
    e = &s->entries[s->n];
    *e = (struct entry){ .type = type, .path = strdup(path), .order = s->n };
    if (!e->path)
        return NULL;
    s->n++;
    return e;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static void add_encoded(struct ty_str *out, const char *text, bool link)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x20 || c == 0x7f || c == '%' || (link && c == '>'))
            ty_str_addf(out, "%%%02X", c);
        else
            ty_str_addn(out, text, 1);
    }
}

/* Write the manifest, count, and name the snapshot. */
static int seal(struct ty_snapshot *s)
{
    struct ty_str out = { 0 };

    ty_str_add(&out, HEADER);
    s->bytes = s->files = 0;
    s->regular = calloc(s->n + 1, sizeof *s->regular);
    if (!s->regular)
        return -ENOMEM;
    for (const struct entry *e = s->entries; e < s->entries + s->n; e++) {
        if (e->type == 'f') {
            ty_str_addf(&out, "f %s %" PRIu64 " %s ", e->executable ? "755" : "644", e->bytes, e->sha);
            s->bytes += e->bytes;
            s->regular[s->files++] = (size_t)(e - s->entries);
        } else if (e->type == 'l') {
            ty_str_addf(&out, "l - %zu - ", strlen(e->target));
        } else {
            ty_str_add(&out, "d - - - ");
        }
        add_encoded(&out, e->path, e->type == 'l');
        if (e->type == 'l') {
            ty_str_add(&out, " -> ");
            add_encoded(&out, e->target, true);
        }
        ty_str_add(&out, "\n");
    }
    s->manifest_len = out.len;
    s->manifest = ty_str_take(&out);
    if (!s->manifest)
        return -ENOMEM;
    ty_sha256_hex(s->manifest, s->manifest_len, s->id);
    return 0;
}

/* Relative, without "", "." and ".." parts. */
static bool safe_path(const char *path)
{
    CLEANUP_FREE char *clean = NULL;

    return *path && ty_path_clean(path, &clean) == 0 && strcmp(clean, path) == 0;
}

/* Does the link at `path` stay inside?  Judged by the names alone. */
static bool stays_inside(const char *path, const char *target)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *joined = ty_strf("%.*s%s", slash ? (int)(slash - path + 1) : 0, path, target);
    CLEANUP_FREE char *clean = NULL;

    return *target && *target != '/' && joined && ty_path_clean(joined, &clean) == 0;
}

/* ---- from a directory: the walk ---- */

static int read_ignore_file(struct walk *w, int dirfd, const char *rel)
{
    CLEANUP_CLOSE int fd = openat(dirfd, w->ignore_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CLEANUP_FREE char *text = fd < 0 ? NULL : malloc(IGNORE_FILE_MAX);
    ssize_t n;

    if (fd < 0)
        return 0;
    if (!text)
        return ty_error_oom(w->err);
    n = ty_read_full(fd, text, IGNORE_FILE_MAX);
    if (n < 0)
        return ty_error_set(w->err, (int)n, "cannot read '%s/%s%s%s'", w->top, rel, *rel ? "/" : "", w->ignore_name);
    return ty_ignore_add(w->ignore, rel, text, (size_t)n) < 0 ? ty_error_oom(w->err) : 0;
}

static int add_link(struct walk *w, int dirfd, const char *name, const char *path)
{
    char target[4096];
    ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);
    struct entry *e;

    if (n < 0)
        return ty_error_set(w->err, -errno, "cannot read the link '%s/%s': %m", w->top, path);
    target[n] = '\0';
    if (!stays_inside(path, target))
        return ty_error_set(w->err, -EINVAL,
                            "the link '%s' in source_directory leads outside it (to '%s'); copy what it names into "
                            "source_directory, or leave the link out with .amlignore", path, target);
    e = add_entry(w->s, 'l', path);
    return e && (e->target = strdup(target)) ? 0 : ty_error_oom(w->err);
}

static int add_file(struct walk *w, const char *path, const struct stat *st)
{
    struct entry *e = add_entry(w->s, 'f', path);

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

static int walk_folder(struct walk *w, int at, const char *name, const char *rel, int depth);

static int walk_entry(struct walk *w, int dirfd, const char *name, const char *rel, int depth)
{
    CLEANUP_FREE char *path = *rel ? ty_path_join(rel, name) : strdup(name);
    struct stat st;

    if (!path)
        return ty_error_oom(w->err);
    if (strcmp(name, ".git") == 0)
        return 0;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : ty_error_set(w->err, -errno, "cannot read '%s/%s': %m", w->top, path);
    if (ty_ignore_match(w->ignore, path, S_ISDIR(st.st_mode)))
        return 0;
    if (S_ISDIR(st.st_mode))
        return walk_folder(w, dirfd, name, path, depth + 1);
    if (S_ISLNK(st.st_mode))
        return add_link(w, dirfd, name, path);
    return S_ISREG(st.st_mode) ? add_file(w, path, &st) : 0; /* sockets, pipes and devices have no content to keep */
}

static int walk_folder(struct walk *w, int at, const char *name, const char *rel, int depth)
{
    CLEANUP_DIR DIR *dir = NULL;
    size_t before = w->s->n;
    struct dirent *e;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth ? O_NOFOLLOW : 0)), r;

    if (fd < 0)
        return ty_error_set(w->err, -errno, depth ? "cannot read the folder '%s/%s': %m" : "cannot open source_directory '%s%s': %m; "
                            "give the path of an existing folder", w->top, rel);
    dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return ty_error_oom(w->err);
    }
    if (depth > DEPTH_MAX)
        return ty_error_set(w->err, -ELOOP, "'%s/%s' lies more than %d folders deep", w->top, rel, DEPTH_MAX);
    r = read_ignore_file(w, fd, rel);
    while (r == 0 && (e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = walk_entry(w, fd, e->d_name, rel, depth);
    if (r == 0 && w->s->n == before && depth > 0 && !add_entry(w->s, 'd', rel))
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
        ty_str_addf(out, "%s'%.100s' (%s)", i ? ", " : "", all[i]->path, ty_show_bytes(all[i]->bytes, size));
    free(all);
}

static int check_limits(const struct walk *w)
{
    uint64_t max_bytes = w->limits.bytes ? w->limits.bytes : BYTES_MAX;
    uint64_t max_files = w->limits.files ? w->limits.files : FILES_MAX;
    CLEANUP_STR struct ty_str largest = { 0 };
    char has[16], may[16];

    if (w->s->files > max_files)
        return ty_error_set(w->err, -EFBIG, "While attempting to take snapshot of '%s': it has %zu files, and the limit "
                                            "(limits.snapshot_files) is %" PRIu64 "; leave files out with .amlignore", w->top,
                            w->s->files, max_files);
    if (w->s->bytes <= max_bytes)
        return 0;
    name_largest(w->s, &largest);
    return ty_error_set(w->err, -EFBIG,
                        "While attempting to take snapshot of '%s': your total snapshot size %s exceeds the limit of %s "
                        "(limits.snapshot_bytes). The largest files are %s; leave them out with .amlignore, put data into a "
                        "datastore, or raise the limit", w->top, ty_show_bytes(w->s->bytes, has),
                        ty_show_bytes(max_bytes, may), largest.text ? largest.text : "");
}

/* ---- hashing ---- */

static int hash_entry(struct walk *w, int topfd, struct entry *e, const struct stat *st, struct ty_statcache *cache)
{
    const char *known = ty_statcache_get(cache, e->path, st);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (known) {
        memcpy(e->sha, known, sizeof e->sha);
        return 0;
    }
    fd = openat(topfd, e->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
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
    int r = !cache ? ty_error_oom(w->err) : topfd < 0 ? ty_error_set(w->err, -errno, "cannot open '%s': %m", w->top) : 0;

    for (size_t i = 0; r == 0 && i < w->s->n; i++)
        if (w->s->entries[i].type == 'f')
            r = hash_entry(w, topfd, &w->s->entries[i], &w->stats[w->s->entries[i].order], cache);
    if (r == 0 && cache_file)
        ty_statcache_save(cache, cache_file);
    ty_statcache_free(cache);
    return r;
}

static int take(struct walk *w, const char *dir, const char *cache_file)
{
    CLEANUP_FREE char *amlignore = ty_path_join(dir, ".amlignore");
    int r;

    if (!w->s || !w->ignore || !amlignore)
        return ty_error_oom(w->err);
    w->ignore_name = access(amlignore, F_OK) == 0 ? ".amlignore" : ".gitignore";
    r = walk_folder(w, AT_FDCWD, dir, "", 0);
    if (r == 0)
        r = check_limits(w);
    if (r == 0 && w->s->n)
        qsort(w->s->entries, w->s->n, sizeof *w->s->entries, by_path);
    if (r == 0)
        r = hash_all(w, cache_file);
    if (r == 0 && seal(w->s) < 0)
        r = ty_error_oom(w->err);
    return r;
}

int ty_snapshot_from_dir(const char *dir, const char *cache, const struct ty_snapshot_limits *limits,
                         struct ty_snapshot **ret, struct ty_error *err)
{
    struct walk w = { .s = calloc(1, sizeof *w.s), .ignore = ty_ignore_new(), .top = dir, .err = err };
    int r;

    if (limits)
        w.limits = *limits;
    r = take(&w, dir, cache);
    ty_ignore_free(w.ignore);
    free(w.stats);
    if (r < 0) {
        ty_snapshot_free(w.s);
        return r;
    }
    *ret = w.s;
    return 0;
}

/* ---- from bytes ---- */

/* One line without its end.  0, or -1 for anything that is not a line of a manifest. */
static int parse_line(struct ty_snapshot *s, char *line)
{
    char sha[TY_SHA256_HEX + 1];
    unsigned mode;
    uint64_t bytes;
    struct entry *e;
    char *target;
    int at = 0;

    if (sscanf(line, "f %3u %" SCNu64 " %64[0-9a-f] %n", &mode, &bytes, sha, &at) == 3 && at > 0) {
        if (strlen(sha) != TY_SHA256_HEX || ty_url_decode(line + at) < 0 || !(e = add_entry(s, 'f', line + at)))
            return -1;
        e->bytes = bytes;
        e->executable = mode == 755;
        memcpy(e->sha, sha, sizeof sha);
    } else if (sscanf(line, "l - %" SCNu64 " - %n", &bytes, &at) == 1 && at > 0 && (target = strstr(line + at, " -> "))) {
        *target = '\0';
        target += 4;
        if (ty_url_decode(line + at) < 0 || ty_url_decode(target) < 0 || !(e = add_entry(s, 'l', line + at)) ||
            !(e->target = strdup(target)) || !stays_inside(e->path, e->target))
            return -1;
    } else if (ty_starts_with(line, "d - - - ")) {
        if (ty_url_decode(line + 8) < 0 || !(e = add_entry(s, 'd', line + 8)))
            return -1;
    } else {
        return -1;
    }
    return safe_path(e->path) && (s->n < 2 || strcmp(s->entries[s->n - 2].path, e->path) < 0) ? 0 : -1;
}

/* No entry lies inside another: only folders have content, and only empty ones are listed. */
static bool is_tree(const struct ty_snapshot *s)
{
    for (size_t i = 0; i < s->n; i++) {
        CLEANUP_FREE char *path = strdup(s->entries[i].path);

        for (char *slash = path ? strrchr(path, '/') : NULL; slash; slash = strrchr(path, '/')) {
            struct entry key = { .path = path };

            *slash = '\0';
            if (bsearch(&key, s->entries, s->n, sizeof key, by_path))
                return false;
        }
        if (!path)
            return false;
    }
    return true;
}

static int parse(struct ty_snapshot *s, char *text, size_t n, struct ty_error *err)
{
    char *line, *rest = text + strlen(HEADER);
    int number = 1;

    if (strlen(text) != n || !ty_starts_with(text, HEADER) || text[n - 1] != '\n')
        return ty_error_set(err, -EBADMSG, "these bytes are not a snapshot manifest");
    while (*rest) {
        line = rest;
        rest = strchr(rest, '\n');
        *rest++ = '\0';
        number++;
        if (parse_line(s, line) < 0)
            return ty_error_set(err, -EBADMSG, "line %d of the snapshot manifest is malformed or out of order", number);
    }
    if (!is_tree(s))
        return ty_error_set(err, -EBADMSG, "the snapshot manifest lists a file below another file");
    return seal(s) < 0 ? ty_error_oom(err) : 0;
}

int ty_snapshot_parse(const char *manifest, size_t n, struct ty_snapshot **ret, struct ty_error *err)
{
    CLEANUP_FREE char *text = malloc(n + 1);
    struct ty_snapshot *s = calloc(1, sizeof *s);
    int r;

    if (!text || !s) {
        free(s);
        return ty_error_oom(err);
    }
    memcpy(text, manifest, n);
    text[n] = '\0';
    r = parse(s, text, n, err);
    if (r == 0 && (s->manifest_len != n || memcmp(s->manifest, manifest, n) != 0))
        r = ty_error_set(err, -EBADMSG, "the snapshot manifest is not written as Trainyard writes it");
    if (r < 0) {
        ty_snapshot_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

/* ---- questions ---- */

const char *ty_snapshot_id(const struct ty_snapshot *s) { return s->id; }
uint64_t ty_snapshot_bytes(const struct ty_snapshot *s) { return s->bytes; }
size_t ty_snapshot_files(const struct ty_snapshot *s) { return s->files; }

const char *ty_snapshot_manifest(const struct ty_snapshot *s, size_t *n)
{
    *n = s->manifest_len;
    return s->manifest;
}

bool ty_snapshot_file(const struct ty_snapshot *s, size_t i, const char **path, const char **sha, uint64_t *bytes)
{
    const struct entry *e;

    if (i >= s->files)
        return false;
    e = &s->entries[s->regular[i]];
    *path = e->path;
    *sha = e->sha;
    *bytes = e->bytes;
    return true;
}
