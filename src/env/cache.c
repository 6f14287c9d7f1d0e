/* cache.c - folders, names and locks of the cache (docs/spec/environment.md) */
#include "base/cleanup.h"
#include "base/fs.h"
#include "env/env_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

char *env_path(const char *cache, const char *a, const char *b, const char *suffix)
{
    return ty_strf("%s/%s/%s%s", cache, a, b, suffix);
}

int env_cache_make(const char *cache, struct ty_error *err)
{
    static const char *const folders[] = { "envs/known", "wheels", "tools", NULL };

    for (const char *const *f = folders; *f; f++) {
        CLEANUP_FREE char *path = ty_strf("%s/%s", cache, *f);
        int r = path ? ty_mkdir_p(path, 0700) : -ENOMEM;

        if (r < 0)
            return ty_error_set(err, r,
                                "cannot make the folder '%s' of the cache of environments: %s",
                                path ? path : cache, strerror(-r));
    }
    return 0;
}

static int open_lock(const char *cache, const char *key)
{
    CLEANUP_FREE char *path = env_path(cache, "envs", key, ".lock");
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

    return fd < 0 ? (path ? -errno : -ENOMEM) : fd;
}

/* The file that was locked may have been removed since, by who collected the cache: then it guards nothing. */
static bool still_there(int fd, const char *cache, const char *key)
{
    CLEANUP_FREE char *path = env_path(cache, "envs", key, ".lock");
    struct stat a, b;

    return path && fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* `b`: whose waiting may be stopped; NULL: nobody's. */
static int lock(const struct env_build *b, int fd, int how)
{
    while (flock(fd, how) < 0) {
        if (errno != EINTR)
            return -errno;
        if (b && env_stopped(b))
            return -ECANCELED;
    }
    return 0;
}

int env_lock(struct env_build *b, int how, struct ty_error *err)
{
    if (b->lock >= 0)
        close(TAKE_FD(b->lock));
    for (;;) {
        CLEANUP_CLOSE int fd = open_lock(b->q->cache, b->key);
        int r = fd < 0 ? fd : lock(b, fd, how | LOCK_NB);

        if (r == -EWOULDBLOCK) {
            env_log(b, "another process is building this environment; waiting for it");
            r = lock(b, fd, how);
        }
        if (r < 0)
            return ty_error_set(err, r, "cannot lock the environment %.12s in '%s': %s", b->key,
                                b->q->cache, strerror(-r));
        if (!still_there(fd, b->q->cache, b->key))
            continue;
        b->lock = TAKE_FD(fd);
        return 0;
    }
}

int env_lock_now(const char *cache, const char *key, int how)
{
    for (;;) {
        CLEANUP_CLOSE int fd = open_lock(cache, key);
        int r = fd < 0 ? fd : lock(NULL, fd, how | LOCK_NB);

        if (r < 0)
            return r;
        if (still_there(fd, cache, key))
            return TAKE_FD(fd);
    }
}

int env_lock_wheels(const char *cache, int how)
{
    CLEANUP_FREE char *path = ty_strf("%s/wheels/.lock", cache);
    CLEANUP_CLOSE int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    int r = fd < 0 ? (path ? -errno : -ENOMEM) : lock(NULL, fd, how);

    return r < 0 ? r : TAKE_FD(fd);
}
