/* cache.c - the cache of objects: what it has, and which of its files go */
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
#include <time.h>
#include <unistd.h>

#define DAY_S (24 * 3600)
#define PART_US ((int64_t)DAY_S * 1000000)
#define KEEP_US (30 * PART_US)
#define ABOUT_MAX (64 << 10)

struct kept {
    char *path; /* relative */
    uint64_t bytes;
    int64_t used_us;
    bool held; /* a run has it under a name of its own */
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
                                 .used_us = ty_time_us(st->st_atim),
                                 .held = st->st_nlink > 1 };
    if (!c->at[c->n].path)
        return -ENOMEM;
    c->left += c->at[c->n++].bytes;
    return 0;
}

/* Of the cache, not of what it keeps. */
static bool is_own(const char *name)
{
    return ty_starts_with(name, "lock") || strcmp(name, TY_DATA_CACHE_ABOUT) == 0;
}

static int visit(const char *rel, const struct stat *st, void *ctx)
{
    struct collection *c = ctx;
    const char *slash = strrchr(rel, '/'), *name = slash ? slash + 1 : rel;
    int64_t used = ty_time_us(st->st_atim);

    if (!S_ISREG(st->st_mode) || is_own(name))
        return 0;
    if (name[0] == '.') { /* a download that was broken off, or is under way */
        if (c->now_us - ty_time_us(st->st_mtim) > PART_US)
            drop(c, rel, (uint64_t)st->st_blocks * 512);
        return 0;
    }
    if (st->st_nlink == 1 && c->now_us - used > c->unused_us &&
        c->now_us - used > TY_DATA_CACHE_GRACE_US) {
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
        if (c.at[i].held)
            continue;
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

/* --- upkeep --- */

static void touch(const char *cache, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(cache, name);

    if (path)
        (void)ty_write_file(path, "", 0, 0600);
}

static time_t touched(const char *cache, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(cache, name);
    struct stat st;

    return path && stat(path, &st) == 0 ? st.st_mtime : 0;
}

void ty_data_cache_grown(const char *cache)
{
    touch(cache, "data/lock-grown");
}

void ty_data_cache_keep(const char *cache, int64_t max_bytes)
{
    time_t kept = touched(cache, "data/lock-kept"), grown = touched(cache, "data/lock-grown");
    bool over = max_bytes > 0 && grown >= kept;
    uint64_t freed;

    if (!over && kept + DAY_S > time(NULL))
        return;
    touch(cache, "data/lock-kept");
    (void)ty_data_cache_collect(cache, max_bytes > 0 ? (uint64_t)max_bytes : UINT64_MAX, KEEP_US,
                                false, &freed, NULL);
}

/* --- what it has --- */

struct inventory {
    const char *root;
    int (*fn)(const struct ty_data_cache_store *s, void *ctx);
    void *ctx;
    char id[256];
    struct ty_data_cache_store store;
};

static int tell(struct inventory *v)
{
    CLEANUP_FREE char *path = ty_strf("%s/%s/" TY_DATA_CACHE_ABOUT, v->root, v->id), *text = NULL;
    CLEANUP_JSON json_t *about = NULL;
    size_t n;

    if (!path)
        return -ENOMEM;
    if (v->store.files == 0)
        return 0;
    if (ty_read_foreign(path, ABOUT_MAX, &text, &n) == 0)
        (void)ty_json_parse(text, n, &about, NULL);
    v->store.id = v->id;
    v->store.about = json_is_object(about) ? about : NULL;
    return v->fn(&v->store, v->ctx);
}

static int take_stock(const char *rel, const struct stat *st, void *ctx)
{
    struct inventory *v = ctx;
    const char *slash = strchr(rel, '/'), *name = strrchr(rel, '/');
    size_t n = slash ? (size_t)(slash - rel) : strlen(rel);
    int r = 0;

    if (n >= sizeof v->id)
        return 0;
    if (strncmp(v->id, rel, n) != 0 || v->id[n] != '\0') {
        r = *v->id ? tell(v) : 0;
        snprintf(v->id, sizeof v->id, "%.*s", (int)n, rel);
        v->store = (struct ty_data_cache_store){ 0 };
    }
    if (r < 0 || !slash || !S_ISREG(st->st_mode) || is_own(name + 1))
        return r;
    v->store.files += name[1] != '.';
    v->store.bytes += (uint64_t)st->st_blocks * 512;
    if (ty_time_us(st->st_atim) > v->store.used_us)
        v->store.used_us = ty_time_us(st->st_atim);
    return 0;
}

int ty_data_cache_list(const char *cache, int (*fn)(const struct ty_data_cache_store *s, void *ctx),
                       void *ctx, struct ty_error *err)
{
    CLEANUP_FREE char *root = ty_path_join(cache, "data");
    struct inventory v = { .root = root, .fn = fn, .ctx = ctx };
    int r;

    if (!root)
        return ty_error_oom(err);
    if (access(root, F_OK) < 0)
        return 0;
    r = ty_walk(root, take_stock, &v, err);
    if (r == 0 && *v.id)
        r = tell(&v);
    return r < 0 && err && !err->code
               ? ty_error_set(err, r, "cannot look through '%s': %s", root, strerror(-r))
               : r;
}
