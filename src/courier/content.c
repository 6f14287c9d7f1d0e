/* content.c - the files of a snapshot and of our Python packages, as a list of hashes */
#include "courier/content.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "blob/snapshot.h"
#include "blob/statcache.h"
#include "data/listing.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX (512 << 20)

void ty_content_done(struct ty_content *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->items[i].path);
    free(c->items);
    if (c->folder && c->listing >= 0)
        close(c->listing);
    *c = (struct ty_content){ 0 };
}

static int add(struct ty_content *c, const char *hex, char *path)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 256;
        struct ty_item *more = realloc(c->items, cap * sizeof *more);

        if (!more) {
            free(path);
            return -ENOMEM;
        }
        c->items = more;
        c->cap = cap;
    }
    c->items[c->n] = (struct ty_item){ .path = path };
    return ty_sha_to_bytes(hex, c->items[c->n++].sha);
}

/* Every file of a manifest; `root` NULL: in the blob store. */
static int add_files(struct ty_content *c, const char *text, size_t n, const char *root,
                     struct ty_error *err)
{
    struct ty_snapshot *s = NULL;
    const char *path, *sha;
    uint64_t bytes;
    int r = ty_snapshot_parse(text, n, &s, err);

    for (size_t i = 0; r == 0 && ty_snapshot_file(s, i, &path, &sha, &bytes); i++) {
        char *whole = root ? ty_path_join(root, path) : NULL;

        r = root && !whole ? ty_error_oom(err) : add(c, sha, whole);
    }
    ty_snapshot_free(s);
    return r;
}

static int add_snapshot(struct ty_content *c, const char *manifest, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;
    size_t n;
    int r = ty_read_file(manifest, MANIFEST_MAX, &text, &n);

    if (r < 0)
        return ty_error_set(err, r, "cannot read the snapshot's manifest '%s': %s", manifest,
                            strerror(-r));
    ty_sha256_hex(text, n, c->manifest);
    r = add(c, c->manifest, strdup(manifest));
    return r == 0 ? add_files(c, text, n, NULL, err) : r;
}

/* --- our Python packages --- */

struct package_file {
    char *path; /* relative */
    mode_t mode;
    uint64_t bytes;
    char sha[TY_SHA256_HEX + 1];
};
struct package_files {
    struct package_file *at;
    size_t n, cap;
};

static void files_done(struct package_files *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->at[i].path);
    free(f->at);
}

static int hash(struct package_file *p, const FTSENT *e, struct ty_statcache *known)
{
    const char *sha = ty_statcache_get(known, e->fts_path, e->fts_statp);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (sha) {
        memcpy(p->sha, sha, sizeof p->sha);
        p->bytes = (uint64_t)e->fts_statp->st_size;
        return 0;
    }
    fd = open(e->fts_accpath, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = ty_sha256_file(fd, p->sha, &p->bytes);
    if (r == 0 && p->bytes == (uint64_t)e->fts_statp->st_size)
        ty_statcache_put(known, e->fts_path, e->fts_statp, p->sha);
    return r;
}

static int files_add(struct package_files *f, const char *rel, const FTSENT *e,
                     struct ty_statcache *known)
{
    struct package_file *p;
    int r;

    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 128;
        struct package_file *more = realloc(f->at, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        f->at = more;
        f->cap = cap;
    }
    p = &f->at[f->n];
    r = hash(p, e, known);
    if (r < 0)
        return r;
    p->mode = e->fts_statp->st_mode & 0111 ? 0755 : 0644;
    p->path = strdup(rel);
    if (!p->path)
        return -ENOMEM;
    f->n++;
    return 0;
}

/* What an interpreter or a build leaves beside the packages is nobody's content; nor is a name that a manifest would write
 * in another way. */
static bool is_litter(const char *name)
{
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '%')
            return true;
    return strcmp(name, "__pycache__") == 0 || ty_ends_with(name, ".p") ||
           ty_ends_with(name, ".pyc") || ty_ends_with(name, ".stamp");
}

/* Links are followed: in a build the packages are links to the sources. */
static int list_files(const char *root, struct package_files *f, struct ty_statcache *known)
{
    char *roots[] = { (char *)root, NULL };
    FTS *fts = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    FTSENT *e;
    int r = 0;

    if (!fts)
        return -errno;
    while (r == 0 && (errno = 0, e = fts_read(fts))) {
        if (e->fts_level > 0 && is_litter(e->fts_name))
            fts_set(fts, e, FTS_SKIP);
        else if (e->fts_info == FTS_F)
            r = files_add(f, e->fts_path + strlen(root) + 1, e, known);
        else if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS)
            r = -e->fts_errno;
    }
    if (r == 0 && errno)
        r = -errno;
    fts_close(fts);
    return r;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct package_file *)a)->path, ((const struct package_file *)b)->path);
}

static int add_packages(struct ty_content *c, struct ty_blobs *blobs, const char *root,
                        struct ty_statcache *known, struct ty_error *err)
{
    CLEANUP_STR struct ty_str text = { 0 };
    struct package_files f = { 0 };
    int r = list_files(root, &f, known);

    if (r < 0) {
        files_done(&f);
        return ty_error_set(err, r, "cannot read Trainyard's Python packages in '%s': %s", root,
                            strerror(-r));
    }
    qsort(f.at, f.n, sizeof *f.at, by_path);
    ty_str_add(&text, "trainyard-snapshot 1\n");
    for (size_t i = 0; i < f.n; i++)
        ty_str_addf(&text, "f %o %" PRIu64 " %s %s\n", (unsigned)f.at[i].mode, f.at[i].bytes,
                    f.at[i].sha, f.at[i].path);
    files_done(&f);
    if (text.failed)
        return ty_error_oom(err);
    r = ty_blob_put_bytes(blobs, text.text, text.len, c->packages, err);
    if (r == 0)
        r = add(c, c->packages, NULL);
    return r == 0 ? add_files(c, text.text, text.len, root, err) : r;
}

static int by_sha(const void *a, const void *b)
{
    return memcmp(((const struct ty_item *)a)->sha, ((const struct ty_item *)b)->sha,
                  TY_CHANNEL_SHA);
}

/* Sorted, each content once. */
static void sort(struct ty_content *c)
{
    size_t kept = 0;

    qsort(c->items, c->n, sizeof *c->items, by_sha);
    for (size_t i = 0; i < c->n; i++) {
        if (kept > 0 && by_sha(&c->items[kept - 1], &c->items[i]) == 0)
            free(c->items[i].path);
        else
            c->items[kept++] = c->items[i];
    }
    c->n = kept;
}

int ty_content_open(struct ty_content *c, struct ty_blobs *blobs, const char *manifest,
                    const char *packages, struct ty_statcache *known, struct ty_error *err)
{
    int r = manifest ? add_snapshot(c, manifest, err) : 0;

    if (r == 0 && packages)
        r = add_packages(c, blobs, packages, known, err);
    if (r < 0) {
        ty_content_done(c);
        return err->code ? r : ty_error_oom(err);
    }
    if (c->n > 0)
        sort(c);
    return 0;
}

/* --- files of a data reference --- */

static int add_listed(const struct ty_listed *f, void *ctx)
{
    struct ty_content *c = ctx;
    int r = add(c, f->mark, NULL);

    if (r == 0)
        c->items[c->n - 1].offset = f->offset;
    return r;
}

int ty_content_open_listing(struct ty_content *c, const char *listing, const char *folder,
                            const struct ty_owner *owner, struct ty_error *err)
{
    uint64_t bytes;
    int r;

    *c = (struct ty_content){ .folder = folder, .owner = owner };
    c->listing = open(listing, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    r = c->listing < 0 ? -errno : ty_sha256_file(c->listing, c->manifest, &bytes);
    if (r == 0)
        r = add(c, c->manifest, strdup(listing));
    if (r == 0)
        r = ty_listing_read(listing, add_listed, c);
    if (r < 0) {
        ty_content_done(c);
        return ty_error_set(err, r, "cannot read '%s': %s", listing, strerror(-r));
    }
    sort(c);
    return 0;
}

struct wanted_line {
    char *path;
    uint64_t bytes;
    int64_t mtime_us;
};

static int take_line(const struct ty_listed *f, void *ctx)
{
    struct wanted_line *w = ctx;

    w->path = strdup(f->path);
    w->bytes = f->bytes;
    w->mtime_us = f->mtime_us;
    return w->path ? 0 : -ENOMEM;
}

static bool fits(const struct wanted_line *w, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == w->bytes &&
           ty_time_us(st.st_mtim) == w->mtime_us;
}

int ty_content_check(const struct ty_content *c, size_t i, int fd)
{
    struct wanted_line w = { 0 };
    int r = c->items[i].offset ? ty_listing_at(c->listing, c->items[i].offset, take_line, &w) : 0;

    if (r == 0 && w.path && !fits(&w, fd))
        r = -ESTALE;
    free(w.path);
    return r;
}

char *ty_content_name(const struct ty_content *c, size_t i)
{
    char hex[TY_SHA256_HEX + 1];
    struct wanted_line w = { 0 };

    if (c->items[i].offset && ty_listing_at(c->listing, c->items[i].offset, take_line, &w) == 0)
        return w.path;
    ty_sha_to_hex(c->items[i].sha, hex);
    return strdup(c->items[i].path ? c->items[i].path : hex);
}

/* From its place, as it was when it was hashed. */
static int read_listed(const struct ty_content *c, size_t i, uint64_t *bytes)
{
    struct wanted_line w = { 0 };
    int r = ty_listing_at(c->listing, c->items[i].offset, take_line, &w);
    CLEANUP_FREE char *owned = w.path, *path = r < 0 ? NULL : ty_path_join(c->folder, w.path);
    CLEANUP_CLOSE int fd = -1;

    if (r < 0 || !path)
        return r < 0 ? r : -ENOMEM;
    ty_owner_enter(c->owner);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    r = fd < 0 ? -errno : 0;
    ty_owner_leave(c->owner);
    if (r == 0 && !fits(&w, fd))
        r = -ESTALE;
    *bytes = w.bytes;
    return r < 0 ? r : TAKE_FD(fd);
}

int ty_content_read(const struct ty_content *c, struct ty_blobs *blobs, size_t i, uint64_t *bytes)
{
    char hex[TY_SHA256_HEX + 1];
    CLEANUP_CLOSE int fd = -1;
    struct stat st;

    if (c->items[i].offset)
        return read_listed(c, i, bytes);
    ty_sha_to_hex(c->items[i].sha, hex);
    fd = c->items[i].path ? open(c->items[i].path, O_RDONLY | O_CLOEXEC) : ty_blob_open(blobs, hex);
    if (fd < 0)
        return c->items[i].path ? -errno : fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.st_size;
    return TAKE_FD(fd);
}

size_t ty_content_find(const struct ty_content *c, const unsigned char *sha, size_t from)
{
    size_t low = from, high = c->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (memcmp(c->items[mid].sha, sha, TY_CHANNEL_SHA) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < c->n && memcmp(c->items[low].sha, sha, TY_CHANNEL_SHA) == 0 ? low : c->n;
}
