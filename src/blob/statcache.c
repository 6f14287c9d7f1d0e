/* statcache.c - one line per file: size, inode, mtime, ctime (nanoseconds), hash, percent-encoded path */
#include "blob/statcache.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#define HEADER "trainyard-statcache 1\n"
#define FILE_MAX (256u << 20)
#define GRAIN_NS 2000000000LL

struct known {
    char *path;
    uint64_t size, inode;
    int64_t mtime_ns, ctime_ns;
    char sha[TY_SHA256_HEX + 1];
    bool used; /* of this walk: the rest is forgotten on save */
    UT_hash_handle hh;
};

struct ty_statcache {
    struct known *files;
    size_t loaded;
    bool changed;
};

static int64_t ns(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }

static struct known *find(struct ty_statcache *c, const char *path)
{
    struct known *k;

    HASH_FIND_STR(c->files, path, k);
    return k;
}

static void read_line(struct ty_statcache *c, char *line)
{
    struct known *k = calloc(1, sizeof *k);
    int at = 0;

    if (k && sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %64[0-9a-f] %n", &k->size, &k->inode, &k->mtime_ns,
                    &k->ctime_ns, k->sha, &at) == 5 &&
        at > 0 && strlen(k->sha) == TY_SHA256_HEX && ty_url_decode(line + at) == 0 && !find(c, line + at) &&
        (k->path = strdup(line + at))) {
        HASH_ADD_KEYPTR(hh, c->files, k->path, strlen(k->path), k);
        c->loaded++;
    } else {
        free(k);
    }
}

struct ty_statcache *ty_statcache_load(const char *file)
{
    struct ty_statcache *c = calloc(1, sizeof *c);
    CLEANUP_FREE char *text = NULL;
    char *line, *rest;
    size_t n;

    if (!c || !file || ty_read_file(file, FILE_MAX, &text, &n) < 0 || strlen(text) != n || !ty_starts_with(text, HEADER) ||
        !ty_ends_with(text, "\n"))
        return c;
    rest = text + strlen(HEADER);
    while ((line = strtok_r(NULL, "\n", &rest)))
        read_line(c, line);
    return c;
}

struct ty_statcache *ty_statcache_free(struct ty_statcache *c)
{
    struct known *k, *next;

    if (c)
        HASH_ITER(hh, c->files, k, next)
        {
            HASH_DEL(c->files, k);
            free(k->path);
            free(k);
        }
    free(c);
    return NULL;
}

const char *ty_statcache_get(struct ty_statcache *c, const char *path, const struct stat *st)
{
    struct known *k = find(c, path);

    if (!k || k->size != (uint64_t)st->st_size || k->inode != st->st_ino || k->mtime_ns != ns(st->st_mtim) ||
        k->ctime_ns != ns(st->st_ctim))
        return NULL;
    k->used = true;
    return k->sha;
}

void ty_statcache_put(struct ty_statcache *c, const char *path, const struct stat *st, const char *sha)
{
    struct known *k = find(c, path);
    int64_t now = ty_wall_us() * 1000;

    if (now - ns(st->st_ctim) < GRAIN_NS || now - ns(st->st_mtim) < GRAIN_NS)
        return;
    if (!k) {
        k = calloc(1, sizeof *k);
        if (!k || !(k->path = strdup(path))) {
            free(k);
            return;
        }
        HASH_ADD_KEYPTR(hh, c->files, k->path, strlen(k->path), k);
    }
    k->size = (uint64_t)st->st_size;
    k->inode = st->st_ino;
    k->mtime_ns = ns(st->st_mtim);
    k->ctime_ns = ns(st->st_ctim);
    memcpy(k->sha, sha, sizeof k->sha);
    k->used = c->changed = true;
}

void ty_statcache_save(struct ty_statcache *c, const char *file)
{
    CLEANUP_STR struct ty_str out = { 0 };
    CLEANUP_FREE char *tmp = ty_strf("%s.%d", file, (int)getpid());
    CLEANUP_FILE FILE *f = NULL;
    size_t used = 0;

    ty_str_add(&out, HEADER);
    for (struct known *k = c->files; k; k = k->hh.next) {
        if (!k->used)
            continue;
        used++;
        ty_str_addf(&out, "%" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %s ", k->size, k->inode, k->mtime_ns, k->ctime_ns,
                    k->sha);
        ty_str_add_url(&out, k->path, true);
        ty_str_add(&out, "\n");
    }
    if ((!c->changed && used == c->loaded) || !tmp || out.failed || ty_mkdir_parent(file, 0700) < 0)
        return;
    /* No fsync: a cache that a power cut damages is a cache that is made again. */
    f = fopen(tmp, "we");
    if (!f || fwrite(out.text, 1, out.len, f) != out.len || fflush(f) != 0 || rename(tmp, file) < 0)
        unlink(tmp);
}
