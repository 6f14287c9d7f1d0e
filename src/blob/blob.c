/* blob.c - the content-addressed store: a folder of read-only files named by their SHA-256 */
#include "blob/blob.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/recover.h"
#include "core/ascii.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_CAP 96
#define SYNC_GRAIN_US 1000000 /* file times come from a coarser clock than ours */

struct ty_blobs {
    char *dir;
    int dirfd, tmpfd;
    int mark;    /* recover.h */
    bool shared; /* it lies on a network file system: other machines may use it at the same time */
};

struct ty_blob_put {
    struct ty_blobs *blobs;
    int fd;
    int failed; /* of the first write that did not work: what is in the file is unknown then */
    uint64_t bytes;
    char name[32]; /* in tmp/ */
    crypto_hash_sha256_state hash;
};

/* ---- hashes ---- */

static void to_hex(const unsigned char digest[32], char sha[TY_SHA256_HEX + 1])
{
    sodium_bin2hex(sha, TY_SHA256_HEX + 1, digest, 32);
}

void ty_sha256_hex(const void *bytes, size_t n, char sha[TY_SHA256_HEX + 1])
{
    unsigned char digest[32];

    crypto_hash_sha256(digest, bytes, n);
    to_hex(digest, sha);
}

int ty_sha256_file(int fd, char sha[TY_SHA256_HEX + 1], uint64_t *bytes)
{
    crypto_hash_sha256_state hash;
    unsigned char digest[32];
    CLEANUP_FREE char *buf = malloc(1 << 17);
    uint64_t total = 0;
    ssize_t n;

    if (!buf)
        return -ENOMEM;
    crypto_hash_sha256_init(&hash);
    while ((n = ty_read_full(fd, buf, 1 << 17)) > 0) {
        crypto_hash_sha256_update(&hash, (unsigned char *)buf, (unsigned long long)n);
        total += (uint64_t)n;
    }
    if (n < 0)
        return (int)n;
    crypto_hash_sha256_final(&hash, digest);
    to_hex(digest, sha);
    *bytes = total;
    return 0;
}

/* ---- the store ---- */

/* "ab/cdef..." for "abcdef...". */
static int blob_path(const char *sha, char path[PATH_CAP])
{
    if (!ty_ascii_hex(sha, TY_SHA256_HEX))
        return -EINVAL;
    snprintf(path, PATH_CAP, "%.2s/%s", sha, sha + 2);
    return 0;
}

int ty_blobs_open(const char *dir, struct ty_blobs **ret, struct ty_error *err)
{
    CLEANUP_FREE char *tmp = ty_path_join(dir, "tmp");
    struct ty_blobs *b = tmp ? calloc(1, sizeof *b) : NULL;
    int r = b ? ty_mkdir_p(tmp, 0700) : -ENOMEM;

    if (r < 0) {
        free(b);
        errno = -r;
        return ty_error_set(err, r, "cannot make the blob store '%s': %m", dir);
    }
    b->dir = strdup(dir);
    b->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    b->tmpfd = open(tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    b->mark = -1;
    if (!b->dir || b->dirfd < 0 || b->tmpfd < 0 || sodium_init() < 0) {
        r = ty_error_set(err, errno ? -errno : -ENOMEM, "cannot open the blob store '%s': %m", dir);
        ty_blobs_free(b);
        return r;
    }
    b->shared = ty_fs_network_kind(dir) != NULL;
    if (!b->shared)
        b->mark = ty_blobs_recover(b->dirfd);
    *ret = b;
    return 0;
}

struct ty_blobs *ty_blobs_free(struct ty_blobs *b)
{
    if (b) {
        if (b->dirfd >= 0)
            close(b->dirfd);
        if (b->tmpfd >= 0)
            close(b->tmpfd);
        if (b->mark >= 0)
            close(b->mark);
        free(b->dir);
        free(b);
    }
    return NULL;
}

const char *ty_blobs_dir(const struct ty_blobs *b)
{
    return b->dir;
}

bool ty_blob_has(struct ty_blobs *b, const char *sha)
{
    char path[PATH_CAP];

    if (blob_path(sha, path) < 0)
        return false;
    /* Where a store cannot be written to, nothing is collected either. */
    return utimensat(b->dirfd, path, NULL, 0) == 0 ||
           (errno != ENOENT && faccessat(b->dirfd, path, R_OK, 0) == 0);
}

int ty_blob_open(struct ty_blobs *b, const char *sha)
{
    char path[PATH_CAP];
    int fd, r = blob_path(sha, path);

    if (r < 0)
        return r;
    fd = openat(b->dirfd, path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int64_t ty_blob_bytes(struct ty_blobs *b, const char *sha)
{
    char path[PATH_CAP];
    struct stat st;
    int r = blob_path(sha, path);

    if (r < 0)
        return r;
    return fstatat(b->dirfd, path, &st, 0) < 0 ? -errno : st.st_size;
}

int ty_blob_remove(struct ty_blobs *b, const char *sha)
{
    char path[PATH_CAP];
    int r = blob_path(sha, path);

    if (r < 0)
        return r;
    return unlinkat(b->dirfd, path, 0) < 0 ? -errno : 0;
}

int ty_blobs_sync(struct ty_blobs *b)
{
    int64_t began_us = ty_wall_us() - SYNC_GRAIN_US;

    if (FAULT("blob.sync", -1, syncfs(b->dirfd)) < 0)
        return -errno;
    ty_blobs_synced(b->mark, began_us);
    return 0;
}

/* ---- putting ---- */

/* `path` is the user's file, or NULL. */
static int put_failed(const struct ty_blobs *b, const char *path, int r, struct ty_error *err)
{
    CLEANUP_FREE char *quoted = path ? ty_strf("'%s'", path) : NULL;
    const char *what = quoted ? quoted : "a file";
    char room[16];

    if (r == -ENOSPC)
        return ty_error_set(
            err, r,
            "cannot store %s in '%s': %s (%s free); make room there (in a state folder `trainyard gc` does)",
            what, b->dir, strerror(-r), ty_show_bytes(ty_fs_free_bytes(b->dir), room));
    return ty_error_set(err, r, "cannot store %s in '%s': %s", what, b->dir, strerror(-r));
}

int ty_blob_begin(struct ty_blobs *b, struct ty_blob_put **ret, struct ty_error *err)
{
    struct ty_blob_put *p = calloc(1, sizeof *p);

    if (!p)
        return ty_error_oom(err);
    p->blobs = b;
    snprintf(p->name, sizeof p->name, "%08x%08x%08x", randombytes_random(), randombytes_random(),
             (unsigned)getpid());
    p->fd = FAULT("blob.open", -1,
                  openat(b->tmpfd, p->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (p->fd < 0) {
        int r = -errno;

        free(p);
        return put_failed(b, NULL, r, err);
    }
    crypto_hash_sha256_init(&p->hash);
    *ret = p;
    return 0;
}

int ty_blob_write(struct ty_blob_put *p, const void *bytes, size_t n, struct ty_error *err)
{
    int r = p->failed ? p->failed : FAULT("blob.write", -errno, ty_write_all(p->fd, bytes, n));

    if (r < 0) {
        p->failed = r;
        return put_failed(p->blobs, NULL, r, err);
    }
    crypto_hash_sha256_update(&p->hash, bytes, n);
    p->bytes += n;
    return 0;
}

void ty_blob_abort(struct ty_blob_put *p)
{
    if (p) {
        unlinkat(p->blobs->tmpfd, p->name, 0);
        close(p->fd);
        free(p);
    }
}

/* Give the finished file its name.  When the blob is there already, that one stays, and is touched; unless something has
 * cut it, then this one takes its place. */
static int settle(struct ty_blob_put *p, const char *sha)
{
    char path[PATH_CAP], folder[3] = { sha[0], sha[1], 0 };
    struct ty_blobs *b = p->blobs;
    int r = blob_path(sha, path);

    if (r < 0)
        return r;
    if (ty_blob_has(b, sha) && ty_blob_bytes(b, sha) == (int64_t)p->bytes) {
        unlinkat(b->tmpfd, p->name, 0);
        return 0;
    }
    /* There the name could be seen before the bytes, which wait for close(2) at the machine that wrote them. */
    if (b->shared && FAULT("blob.fsync", -1, fsync(p->fd)) < 0)
        return -errno;
    if (fchmod(p->fd, 0444) < 0 || (mkdirat(b->dirfd, folder, 0700) < 0 && errno != EEXIST) ||
        FAULT("blob.rename", -1, renameat(b->tmpfd, p->name, b->dirfd, path)) < 0)
        return -errno;
    return 0;
}

static int finish_as(struct ty_blob_put *p, const char *what, const char *found, const char *expect,
                     char sha[TY_SHA256_HEX + 1], struct ty_error *err)
{
    struct ty_blobs *b = p->blobs;
    int r = p->failed;

    if (r == 0 && expect && strcmp(expect, found) != 0) {
        ty_blob_abort(p);
        return ty_error_set(
            err, -EBADMSG,
            "the content has the SHA-256 %s, not %s as announced: it was changed or cut on the way",
            found, expect);
    }
    if (r == 0)
        r = settle(p, found);
    if (r < 0) {
        ty_blob_abort(p);
        return put_failed(b, what, r, err);
    }
    close(p->fd);
    free(p);
    memcpy(sha, found, TY_SHA256_HEX + 1);
    return 0;
}

int ty_blob_finish(struct ty_blob_put *p, const char *expect, char sha[TY_SHA256_HEX + 1],
                   struct ty_error *err)
{
    unsigned char digest[32];
    char found[TY_SHA256_HEX + 1];

    crypto_hash_sha256_final(&p->hash, digest);
    to_hex(digest, found);
    return finish_as(p, NULL, found, expect, sha, err);
}

int ty_blob_put_bytes(struct ty_blobs *b, const void *bytes, size_t n, char sha[TY_SHA256_HEX + 1],
                      struct ty_error *err)
{
    struct ty_blob_put *p;
    int r = ty_blob_begin(b, &p, err);

    if (r < 0)
        return r;
    r = ty_blob_write(p, bytes, n, err);
    if (r < 0) {
        ty_blob_abort(p);
        return r;
    }
    return ty_blob_finish(p, NULL, sha, err);
}

/* The copy is hashed, not the file: one that changes meanwhile cannot get a wrong name. */
static int copy_and_hash(struct ty_blob_put *p, int from, char sha[TY_SHA256_HEX + 1])
{
    int r = FAULT("blob.write", -errno, ty_copy_fd(from, p->fd));

    if (r == 0 && lseek(p->fd, 0, SEEK_SET) < 0)
        r = -errno;
    return r < 0 ? r : ty_sha256_file(p->fd, sha, &p->bytes);
}

int ty_blob_put_file(struct ty_blobs *b, const char *path, char sha[TY_SHA256_HEX + 1],
                     uint64_t *bytes, struct ty_error *err)
{
    /* O_NONBLOCK: the open of a pipe must not wait for its other end. */
    CLEANUP_CLOSE int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return from < 0 ? ty_error_set(err, -errno, "cannot read '%s': %m", path)
                    : ty_blob_put_fd(b, from, path, sha, bytes, err);
}

int ty_blob_put_fd(struct ty_blobs *b, int from, const char *path, char sha[TY_SHA256_HEX + 1],
                   uint64_t *bytes, struct ty_error *err)
{
    char found[TY_SHA256_HEX + 1];
    struct ty_blob_put *p;
    struct stat st;
    uint64_t size;
    int r;

    if (fstat(from, &st) < 0)
        return ty_error_set(err, -errno, "cannot read '%s': %m", path);
    if (!S_ISREG(st.st_mode))
        return ty_error_set(err, -EINVAL, "cannot store '%s': it is not a file", path);
    r = ty_blob_begin(b, &p, err);
    if (r < 0)
        return r;
    r = copy_and_hash(p, from, found);
    if (r < 0) {
        ty_blob_abort(p);
        return put_failed(b, path, r, err);
    }
    size = p->bytes;
    r = finish_as(p, path, found, NULL, sha, err);
    if (r == 0)
        *bytes = size;
    return r;
}
