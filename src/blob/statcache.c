/* statcache.c - one line per file: size, inode, mtime, ctime (nanoseconds), hash, percent-encoded path
 *
 * The last line holds the hash of all before it, so that a file that is cut or damaged counts as none.
 */
#include "blob/statcache.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define HEADER "trainyard-statcache 1\n"
#define LAST "sum "
#define LAST_LEN (strlen(LAST) + TY_SHA256_HEX + 1)
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
    int64_t began_ns; /* nothing was hashed before that */
    bool changed;
};

static int64_t ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct known *find(struct ty_statcache *c, const char *path)
{
    struct known *k;

    HASH_FIND_STR(c->files, path, k);
    return k;
}

static struct known *add(struct ty_statcache *c, const char *path)
{
    struct known *k = calloc(1, sizeof *k);

    if (!k || !(k->path = strdup(path))) {
        free(k);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, c->files, k->path, strlen(k->path), k);
    if (k->hh.tbl)
        return k;
    free(k->path);
    free(k);
    return NULL;
}

static void read_line(struct ty_statcache *c, char *line)
{
    struct known found, *k;
    int at = 0;

    if (sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %64[0-9a-f] %n", &found.size,
               &found.inode, &found.mtime_ns, &found.ctime_ns, found.sha, &at) != 5 ||
        at == 0 || strlen(found.sha) != TY_SHA256_HEX || ty_url_decode(line + at) < 0 ||
        find(c, line + at) || !(k = add(c, line + at)))
        return;
    k->size = found.size;
    k->inode = found.inode;
    k->mtime_ns = found.mtime_ns;
    k->ctime_ns = found.ctime_ns;
    memcpy(k->sha, found.sha, sizeof k->sha);
    c->loaded++;
}

/* Whole, and ours?  Its last line is taken off. */
static bool check(char *text, size_t n)
{
    char sha[TY_SHA256_HEX + 1], *last;

    if (n < strlen(HEADER) + LAST_LEN || strlen(text) != n || !ty_starts_with(text, HEADER))
        return false;
    last = text + n - LAST_LEN;
    if (!ty_starts_with(last, LAST))
        return false;
    ty_sha256_hex(text, n - LAST_LEN, sha);
    if (memcmp(last + strlen(LAST), sha, TY_SHA256_HEX) != 0)
        return false;
    *last = '\0';
    return true;
}

struct ty_statcache *ty_statcache_load(const char *file)
{
    struct ty_statcache *c = calloc(1, sizeof *c);
    CLEANUP_FREE char *text = NULL;
    char *line, *rest;
    size_t n;

    if (!c)
        return NULL;
    c->began_ns = ty_wall_us() * 1000;
    if (!file || ty_read_file(file, FILE_MAX, &text, &n) < 0 || !check(text, n))
        return c;
    rest = text + strlen(HEADER);
    while ((line = strsep(&rest, "\n")))
        read_line(c, line);
    return c;
}

struct ty_statcache *ty_statcache_free(struct ty_statcache *c)
{
    struct known *k, *next;

    if (c)
        HASH_ITER (hh, c->files, k, next) {
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

    if (!k || k->size != (uint64_t)st->st_size || k->inode != st->st_ino ||
        k->mtime_ns != ns(st->st_mtim) || k->ctime_ns != ns(st->st_ctim))
        return NULL;
    k->used = true;
    return k->sha;
}

void ty_statcache_put(struct ty_statcache *c, const char *path, const struct stat *st,
                      const char *sha)
{
    struct known *k = find(c, path);

    if (c->began_ns - ns(st->st_ctim) < GRAIN_NS || c->began_ns - ns(st->st_mtim) < GRAIN_NS)
        return;
    if (!k && !(k = add(c, path)))
        return;
    k->size = (uint64_t)st->st_size;
    k->inode = st->st_ino;
    k->mtime_ns = ns(st->st_mtim);
    k->ctime_ns = ns(st->st_ctim);
    memcpy(k->sha, sha, sizeof k->sha);
    k->used = c->changed = true;
}

static char *write_lines(const struct ty_statcache *c, size_t *len)
{
    char sha[TY_SHA256_HEX + 1];
    struct ty_str out = { 0 };

    ty_str_add(&out, HEADER);
    for (const struct known *k = c->files; k; k = k->hh.next) {
        if (!k->used)
            continue;
        ty_str_addf(&out, "%" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %s ", k->size, k->inode,
                    k->mtime_ns, k->ctime_ns, k->sha);
        ty_str_add_url(&out, k->path, true);
        ty_str_add(&out, "\n");
    }
    if (!out.failed) {
        ty_sha256_hex(out.text, out.len, sha);
        ty_str_addf(&out, LAST "%s\n", sha);
    }
    *len = out.len;
    return ty_str_take(&out);
}

static size_t count_used(const struct ty_statcache *c)
{
    size_t n = 0;

    for (const struct known *k = c->files; k; k = k->hh.next)
        n += k->used;
    return n;
}

void ty_statcache_save(struct ty_statcache *c, const char *file)
{
    CLEANUP_FREE char *text = NULL, *tmp = NULL;
    CLEANUP_CLOSE int fd = -1;
    size_t len;

    if (!c->changed && count_used(c) == c->loaded)
        return;
    text = write_lines(c, &len);
    tmp = ty_strf("%s.XXXXXX", file);
    if (!text || !tmp || len > FILE_MAX || ty_mkdir_parent(file, 0700) < 0)
        return;
    fd = mkostemp(tmp, O_CLOEXEC);
    /* No fsync: a cache that a power cut damages is a cache that is made again. */
    if (fd >= 0 && (ty_write_all(fd, text, len) < 0 || rename(tmp, file) < 0))
        unlink(tmp);
}
