/* cache.c - the cache of objects: which of its files go */
#include "data/cache.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_US ((int64_t)24 * 3600 * 1000000)

struct kept {
    char *path; /* relative */
    uint64_t bytes;
    int64_t used_us;
};
struct collection {
    const char *root;
    bool dry;
    int64_t now_us, unused_us;
    uint64_t left, freed;
    struct kept *at;
    size_t n, cap;
    int failed;
};

static int64_t us_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void drop(struct collection *c, const char *rel, uint64_t bytes)
{
    CLEANUP_FREE char *path = ty_path_join(c->root, rel);

    if (!path || (!c->dry && unlink(path) < 0 && errno != ENOENT)) {
        c->failed = path ? -errno : -ENOMEM;
        return;
    }
    c->freed += bytes;
}

static int remember(struct collection *c, const char *rel, const struct stat *st)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 256;
        struct kept *more = realloc(c->at, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        c->at = more;
        c->cap = cap;
    }
    c->at[c->n] = (struct kept){ .path = strdup(rel),
                                 .bytes = (uint64_t)st->st_blocks * 512,
                                 .used_us = us_of(st->st_atim) };
    if (!c->at[c->n].path)
        return -ENOMEM;
    c->left += c->at[c->n++].bytes;
    return 0;
}

static int visit(const char *rel, const struct stat *st, void *ctx)
{
    struct collection *c = ctx;
    const char *slash = strrchr(rel, '/'), *name = slash ? slash + 1 : rel;
    int64_t used = us_of(st->st_atim);

    if (!S_ISREG(st->st_mode) || ty_starts_with(name, "lock-"))
        return 0;
    if (name[0] == '.') { /* a download that was broken off, or is under way */
        if (c->now_us - us_of(st->st_mtim) > PART_US)
            drop(c, rel, (uint64_t)st->st_blocks * 512);
        return 0;
    }
    if (c->now_us - used > c->unused_us && c->now_us - used > TY_DATA_CACHE_GRACE_US) {
        drop(c, rel, (uint64_t)st->st_blocks * 512);
        return 0;
    }
    return remember(c, rel, st);
}

static int by_use(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;

    return (x->used_us > y->used_us) - (x->used_us < y->used_us);
}

int ty_data_cache_collect(const char *cache, uint64_t max_bytes, int64_t unused_us, bool dry,
                          uint64_t *freed, struct ty_error *err)
{
    CLEANUP_FREE char *root = ty_path_join(cache, "data");
    struct collection c = {
        .root = root, .dry = dry, .now_us = ty_wall_us(), .unused_us = unused_us
    };
    int r;

    if (!root)
        return ty_error_oom(err);
    if (access(root, F_OK) < 0) {
        *freed = 0;
        return 0;
    }
    r = ty_walk(root, visit, &c, err);
    if (c.n > 0)
        qsort(c.at, c.n, sizeof *c.at, by_use);
    for (size_t i = 0; r == 0 && i < c.n && c.left > max_bytes; i++) {
        if (c.now_us - c.at[i].used_us <= TY_DATA_CACHE_GRACE_US)
            break;
        drop(&c, c.at[i].path, c.at[i].bytes);
        c.left -= c.at[i].bytes;
    }
    for (size_t i = 0; i < c.n; i++)
        free(c.at[i].path);
    free(c.at);
    if (r < 0)
        return err && err->code
                   ? r
                   : ty_error_set(err, r, "cannot look through '%s': %s", root, strerror(-r));
    *freed = c.freed;
    return c.failed < 0 ? ty_error_set(err, c.failed, "cannot remove files of the cache '%s': %s",
                                       root, strerror(-c.failed))
                        : 0;
}
