/* collect.c - what the cache of environments holds, and what of it goes
 *
 * A prefix goes under its exclusive lock, so never while a run or a builder has it.  It is first renamed to the name of what a
 * killed builder leaves, which nobody uses and everybody removes: whoever ends this process half way leaves nothing that looks
 * whole.  Unpacked packages go when no prefix that stays was made of them, and no builder is at work: one that is counts on what
 * it has seen in wheels/ (env_lock_wheels).
 *
 * Order: prefixes that are too old; then, while there is too much, the packages that nobody needs, and then the prefix that was
 * not used for the longest time, with the packages that are not needed after that.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "core/ascii.h"
#include "env/env_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ABOUT_MAX (16u << 20)
#define WHEELS "wheels"
#define LEFT_OVER_US \
    ((int64_t)24 * 3600 * \
     1000000) /* what a program of ours makes aside is older only when that was killed */

struct prefix {
    char key[TY_ENV_HASH + 1];
    json_t *about; /* owned; NULL: unreadable */
    int64_t bytes; /* of its own */
    int64_t used_us;
    bool busy, gone;
};

/* A package that prefixes share: of pip in wheels/, of conda in conda/pkgs/ (folders there, and archives). */
struct wheel {
    const char *folder;
    char *id; /* owned: its name in that folder */
    int64_t bytes, used_us;
    int needed; /* by how many prefixes that are not gone */
    bool gone;
};

struct cache {
    const char *path;
    struct ty_env_gc *gc; /* NULL: only looking */
    struct prefix *prefixes;
    struct wheel *wheels;
    size_t nprefixes, nwheels;
    int64_t bytes;
    bool wheels_busy; /* a builder is at work */
};

static void cache_done(struct cache *c)
{
    for (size_t i = 0; i < c->nprefixes; i++)
        json_decref(c->prefixes[i].about);
    for (size_t i = 0; i < c->nwheels; i++)
        free(c->wheels[i].id);
    free(c->prefixes);
    free(c->wheels);
}

/* ---- what there is ---- */

static int add_bytes(const char *rel, const struct stat *st, void *ctx)
{
    int64_t *sum = ctx;

    (void)rel;
    if (S_ISDIR(st->st_mode) || st->st_nlink == 1)
        *sum += (int64_t)st->st_blocks * 512;
    return 0;
}

static int add_shared_bytes(const char *rel, const struct stat *st, void *ctx)
{
    int64_t *sum = ctx;

    (void)rel;
    *sum += (int64_t)st->st_blocks * 512;
    return 0;
}

/* The names in a folder (none, when there is no such folder), each malloc'ed, with NULL behind the last.  *failed: 0 or a negative
 * errno. */
static char **names_of(const char *folder, int *failed)
{
    CLEANUP_DIR DIR *d = opendir(folder);
    size_t n = 0, cap = 64;
    char **v = calloc(cap, sizeof *v);
    const struct dirent *e;

    *failed = !v ? -ENOMEM : !d && errno != ENOENT ? -errno : 0;
    while (v && d && *failed == 0 && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (n + 1 == cap) {
            char **more = reallocarray(v, 2 * cap, sizeof *v);

            if (!more) {
                *failed = -ENOMEM;
                break;
            }
            memset(more + cap, 0, cap * sizeof *v);
            v = more;
            cap *= 2;
        }
        v[n] = strdup(e->d_name);
        *failed = v[n++] ? 0 : -ENOMEM;
    }
    return v;
}

static void names_free(char ***v)
{
    for (char **p = *v; p && *p; p++)
        free(*p);
    free(*v);
}

static bool is_key(const char *name)
{
    return ty_ascii_hex(name, TY_ENV_HASH);
}

static json_t *read_about(const char *cache, const char *key)
{
    CLEANUP_FREE char *path = env_path(cache, "envs", key, ".json"), *text = NULL;
    json_t *about = NULL;
    size_t n;

    if (path && ty_read_foreign(path, ABOUT_MAX, &text, &n) == 0)
        ty_json_parse(text, n, &about, NULL);
    return about;
}

static int look_at_prefix(struct cache *c, const char *key)
{
    struct prefix *p = &c->prefixes[c->nprefixes];
    CLEANUP_FREE char *path = env_path(c->path, "envs", key, "");
    CLEANUP_FREE char *lock = env_path(c->path, "envs", key, ".lock");
    struct stat st = { 0 };
    int fd;

    if (!path || !lock)
        return -ENOMEM;
    *p = (struct prefix){ 0 };
    memcpy(p->key, key, TY_ENV_HASH);
    if (stat(lock, &st) < 0 && stat(path, &st) < 0)
        return 0; /* removed meanwhile */
    p->used_us = ty_time_us(st.st_mtim);
    fd = env_lock_now(c->path, key, LOCK_EX);
    p->busy = fd < 0;
    if (fd >= 0)
        close(fd);
    p->about = read_about(c->path, key);
    ty_walk(path, add_bytes, &p->bytes, NULL);
    c->bytes += p->bytes;
    c->nprefixes++;
    return 0;
}

static int later_first(const void *a, const void *b)
{
    const struct prefix *pa = a, *pb = b;

    return pa->used_us != pb->used_us ? (pa->used_us < pb->used_us ? 1 : -1)
                                      : strcmp(pa->key, pb->key);
}

static int look_at_prefixes(struct cache *c)
{
    CLEANUP_FREE char *folder = ty_strf("%s/envs", c->path);
    int r = folder ? 0 : -ENOMEM;
    CLEANUP(names_free) char **names = folder ? names_of(folder, &r) : NULL;
    size_t n = 0;

    for (char **p = names; p && *p; p++)
        n += is_key(*p);
    c->prefixes = calloc(n + 1, sizeof *c->prefixes);
    if (!c->prefixes || !names)
        return -ENOMEM;
    for (char **p = names; r == 0 && *p; p++)
        if (is_key(*p))
            r = look_at_prefix(c, *p);
    qsort(c->prefixes, c->nprefixes, sizeof *c->prefixes, later_first);
    return r;
}

static int look_at_packages(struct cache *c, const char *in, bool keys)
{
    CLEANUP_FREE char *folder = ty_strf("%s/%s", c->path, in);
    int r = folder ? 0 : -ENOMEM;
    CLEANUP(names_free) char **names = folder ? names_of(folder, &r) : NULL;
    size_t n = 0;

    for (char **p = names; p && *p; p++)
        n += keys ? is_key(*p) : **p != '.';
    struct wheel *more = reallocarray(c->wheels, c->nwheels + n + 1, sizeof *more);
    if (!more || !names)
        return -ENOMEM;
    c->wheels = more;
    for (char **p = names; r == 0 && *p; p++) {
        CLEANUP_FREE char *path = env_path(c->path, in, *p, "");
        struct wheel *w = &c->wheels[c->nwheels];
        struct stat st;

        if (!path)
            return -ENOMEM;
        if (!(keys ? is_key(*p) : **p != '.') || lstat(path, &st) < 0)
            continue;
        *w = (struct wheel){ .folder = in, .id = strdup(*p), .used_us = ty_time_us(st.st_mtim) };
        if (!w->id)
            return -ENOMEM;
        if (S_ISDIR(st.st_mode))
            ty_walk(path, add_shared_bytes, &w->bytes, NULL);
        else
            w->bytes = (int64_t)st.st_blocks * 512;
        c->bytes += w->bytes;
        c->nwheels++;
    }
    return r;
}

static int is_linked(const char *rel, const struct stat *st, void *ctx)
{
    (void)rel;
    (void)ctx;
    return S_ISREG(st->st_mode) && st->st_nlink > 1 ? -EBUSY : 0;
}

/* Of pip's packages the locks of prefixes tell; of conda's the links do, which a dry run cannot foresee. */
static bool is_needed(const struct cache *c, const struct wheel *w)
{
    CLEANUP_FREE char *path = env_path(c->path, w->folder, w->id, "");
    struct stat st;

    if (w->needed > 0 || strcmp(w->folder, WHEELS) == 0 || !path)
        return w->needed > 0;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && ty_walk(path, is_linked, NULL, NULL) < 0;
}

static struct wheel *wheel_of(struct cache *c, const char *id)
{
    for (size_t i = 0; id && i < c->nwheels; i++)
        if (strcmp(c->wheels[i].id, id) == 0)
            return &c->wheels[i];
    return NULL;
}

/* Which packages a prefix was made of stands in its lock. */
static const json_t *packages_of(const struct prefix *p)
{
    const json_t *record = json_object_get(p->about, "record");

    return json_object_get(json_object_get(record, "lock"), "pip");
}

static void need(struct cache *c, const struct prefix *p, int by)
{
    const json_t *item;
    size_t i;

    json_array_foreach (packages_of(p), i, item) {
        struct wheel *w = wheel_of(c, json_string_value(json_object_get(item, "id")));

        if (w)
            w->needed += by;
    }
}

static int look(struct cache *c, struct ty_error *err)
{
    int r = look_at_prefixes(c);

    if (r == 0)
        r = look_at_packages(c, WHEELS, true);
    if (r == 0)
        r = look_at_packages(c, "conda/pkgs", false);
    for (size_t i = 0; r == 0 && i < c->nprefixes; i++)
        need(c, &c->prefixes[i], 1);
    return r < 0 ? ty_error_set(err, r, "cannot look through the cache of environments '%s': %s",
                                c->path, strerror(-r))
                 : 0;
}

int ty_env_each(const char *cache, int (*fn)(const struct ty_env_item *item, void *ctx), void *ctx,
                struct ty_error *err)
{
    CLEANUP(cache_done) struct cache c = { .path = cache };
    int r = look(&c, err);

    for (size_t i = 0; r >= 0 && i < c.nprefixes; i++) {
        const struct prefix *p = &c.prefixes[i];
        CLEANUP_FREE char *path = env_path(cache, "envs", p->key, "");
        struct ty_env_item item = { .key = p->key,
                                    .prefix = path,
                                    .about = p->about,
                                    .bytes = p->bytes,
                                    .used_us = p->used_us,
                                    .busy = p->busy };
        const json_t *one;
        size_t j;

        if (!path)
            return ty_error_oom(err);
        json_array_foreach (packages_of(p), j, one) {
            const struct wheel *w = wheel_of(&c, json_string_value(json_object_get(one, "id")));

            if (w && w->needed == 1)
                item.bytes += w->bytes;
        }
        r = fn(&item, ctx);
    }
    return r < 0 ? r : 0;
}

/* ---- what goes ---- */

static void freed(struct cache *c, int64_t bytes)
{
    c->bytes -= bytes;
    c->gc->freed_bytes += bytes;
}

/* 1: gone; 0: somebody has it. */
static int remove_prefix(struct cache *c, struct prefix *p, struct ty_error *err)
{
    CLEANUP_FREE char *path = env_path(c->path, "envs", p->key, "");
    CLEANUP_FREE char *aside = env_path(c->path, "envs", p->key, ".building");
    CLEANUP_FREE char *about = env_path(c->path, "envs", p->key, ".json");
    CLEANUP_FREE char *lock = env_path(c->path, "envs", p->key, ".lock");
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!path || !aside || !about || !lock)
        return ty_error_oom(err);
    if (!c->gc->dry) {
        fd = env_lock_now(c->path, p->key, LOCK_EX);
        if (fd < 0) {
            p->busy = true;
            return 0;
        }
        ty_rm_rf(aside);
        r = rename(path, aside) < 0 && errno != ENOENT ? -errno : ty_rm_rf(aside);
        if (r < 0)
            return ty_error_set(err, r, "cannot remove the environment '%s': %s", path,
                                strerror(-r));
        unlink(about);
        unlink(lock);
    } else if (p->busy) {
        return 0;
    }
    p->gone = true;
    need(c, p, -1);
    c->gc->removed++;
    freed(c, p->bytes);
    return 1;
}

static int remove_wheel(struct cache *c, struct wheel *w, struct ty_error *err)
{
    CLEANUP_FREE char *path = env_path(c->path, w->folder, w->id, "");
    CLEANUP_FREE char *aside = env_path(c->path, w->folder, w->id, ".gone");
    int r = path && aside ? 0 : -ENOMEM;

    if (r == 0 && !c->gc->dry) {
        ty_rm_rf(aside);
        r = rename(path, aside) < 0 && errno != ENOENT ? -errno : ty_rm_rf(aside);
    }
    if (r < 0)
        return ty_error_set(err, r, "cannot remove the package '%s': %s", path ? path : w->id,
                            strerror(-r));
    w->gone = true;
    freed(c, w->bytes);
    return 0;
}

static bool too_much(const struct cache *c)
{
    return c->gc->all || (c->gc->max_bytes >= 0 && c->bytes > c->gc->max_bytes);
}

/* Those that nobody needs: all of them, the old ones, or the oldest until no more than wanted is left. */
static int collect_wheels(struct cache *c, int64_t now_us, struct ty_error *err)
{
    int64_t unused_us = c->gc->unused_us;
    int r = 0;

    if (c->wheels_busy)
        return 0;
    for (size_t i = 0; r == 0 && i < c->nwheels; i++) {
        struct wheel *w = &c->wheels[i];

        if (!w->gone && unused_us >= 0 && now_us - w->used_us > unused_us && !is_needed(c, w))
            r = remove_wheel(c, w, err);
    }
    while (r == 0 && too_much(c)) {
        struct wheel *oldest = NULL;

        for (size_t i = 0; i < c->nwheels; i++) {
            struct wheel *w = &c->wheels[i];

            if (!w->gone && (!oldest || w->used_us < oldest->used_us) && !is_needed(c, w))
                oldest = w;
        }
        if (!oldest)
            break;
        r = remove_wheel(c, oldest, err);
    }
    return r;
}

static int collect_prefixes(struct cache *c, int64_t now_us, struct ty_error *err)
{
    int64_t unused_us = c->gc->unused_us;
    int r = 0;

    for (size_t i = c->nprefixes; r >= 0 && i-- > 0;)
        if (unused_us >= 0 && now_us - c->prefixes[i].used_us > unused_us)
            r = remove_prefix(c, &c->prefixes[i], err);
    if (r >= 0)
        r = collect_wheels(c, now_us, err);
    for (size_t i = c->nprefixes; r >= 0 && i-- > 0 && too_much(c);) {
        if (c->prefixes[i].gone)
            continue;
        r = remove_prefix(c, &c->prefixes[i], err);
        if (r > 0)
            r = collect_wheels(c, now_us, err);
    }
    return r < 0 ? r : 0;
}

/* ---- what was left behind ---- */

/* "<key>.building" and "<key>.lock" without a prefix: of a builder that was killed, if the lock can be had. */
static void clean_envs(const struct cache *c)
{
    CLEANUP_FREE char *folder = ty_strf("%s/envs", c->path);
    int failed = 0;
    CLEANUP(names_free) char **names = folder ? names_of(folder, &failed) : NULL;

    for (char **p = names; p && *p; p++) {
        char *dot = strchr(*p, '.');
        CLEANUP_FREE char *key = dot ? strndup(*p, (size_t)(dot - *p)) : NULL;
        CLEANUP_FREE char *path = key ? env_path(c->path, "envs", key, "") : NULL;
        CLEANUP_FREE char *this = env_path(c->path, "envs", *p, "");
        CLEANUP_FREE char *lock = key ? env_path(c->path, "envs", key, ".lock") : NULL;
        bool building = dot && strcmp(dot, ".building") == 0;
        CLEANUP_CLOSE int fd = -1;

        if (!path || !this || !lock || !is_key(key) || (!building && access(path, F_OK) == 0))
            continue;
        fd = env_lock_now(c->path, key, LOCK_EX);
        if (fd < 0)
            continue;
        ty_rm_rf(this);
        if (access(path, F_OK) < 0)
            unlink(lock);
    }
}

/* What is being made beside its place in wheels/ and tools/ has a '.' in its name. */
static void clean_folder(const struct cache *c, const char *folder, int64_t older_us)
{
    CLEANUP_FREE char *path = ty_strf("%s/%s", c->path, folder);
    int failed = 0;
    CLEANUP(names_free) char **names = path ? names_of(path, &failed) : NULL;
    int64_t now_us = ty_wall_us();

    for (char **p = names; p && *p; p++) {
        CLEANUP_FREE char *one = ty_strf("%s/%s", path, *p);
        const char *end = strrchr(*p, '.');
        struct stat st;

        if (!one || **p == '.' || !end || !end[1] ||
            (strcmp(end, ".gone") != 0 && end[1 + strspn(end + 1, "0123456789")]))
            continue;
        if (lstat(one, &st) == 0 && now_us - ty_time_us(st.st_ctim) >= older_us)
            ty_rm_rf(one);
    }
}

/* Answers that lead to a prefix which is gone, or to none and are old. */
static void clean_known(const struct cache *c, int64_t now_us)
{
    CLEANUP_FREE char *folder = ty_strf("%s/envs/known", c->path);
    int failed = 0;
    CLEANUP(names_free) char **names = folder ? names_of(folder, &failed) : NULL;
    int64_t unused_us = c->gc->all ? 0 : c->gc->unused_us;

    for (char **p = names; p && *p; p++) {
        CLEANUP_FREE char *path = ty_strf("%s/%s", folder, *p), *text = NULL;
        CLEANUP_JSON json_t *known = NULL;
        const char *prefix;
        struct stat st;
        size_t n;

        if (!path || ty_read_foreign(path, ABOUT_MAX, &text, &n) < 0 || stat(path, &st) < 0)
            continue;
        ty_json_parse(text, n, &known, NULL);
        prefix = json_string_value(json_object_get(json_object_get(known, "record"), "prefix"));
        if (prefix ? access(prefix, F_OK) < 0
                   : !known || (unused_us >= 0 && now_us - ty_time_us(st.st_mtim) >= unused_us))
            unlink(path);
    }
}

int ty_env_collect(const char *cache, struct ty_env_gc *gc, struct ty_error *err)
{
    CLEANUP(cache_done) struct cache c = { .path = cache, .gc = gc };
    CLEANUP_CLOSE int wheels = -1;
    int64_t now_us = ty_wall_us();
    int r;

    gc->removed = 0;
    gc->freed_bytes = 0;
    if (access(cache, F_OK) < 0 && errno == ENOENT)
        return 0;
    wheels = env_lock_wheels(cache, LOCK_EX | LOCK_NB);
    c.wheels_busy = wheels < 0;
    if (!gc->dry) {
        clean_envs(&c);
        if (!c.wheels_busy)
            clean_folder(&c, WHEELS, 0);
        clean_folder(&c, "tools", LEFT_OVER_US);
    }
    r = look(&c, err);
    if (r == 0)
        r = collect_prefixes(&c, now_us, err);
    if (r == 0 && !gc->dry)
        clean_known(&c, now_us);
    return r;
}
