/* recover.c - one look, once a boot, at what the last boot had not synced */
#include "blob/recover.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "blob/blob.h"
#include "blob/each.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* File times come from a clock that is read a few times a second at worst. */
#define GRAIN_US 1000000

/* Remove a blob that changed since *ctx and is not what its name says.  One that cannot be read stays. */
static int verify(int folder, const char *prefix, const char *name, void *ctx)
{
    const int64_t *since_us = ctx;
    CLEANUP_CLOSE int fd = -1;
    char sha[TY_SHA256_HEX + 1];
    struct stat st;
    uint64_t bytes;

    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
        ty_time_us(st.st_ctim) < *since_us)
        return 0;
    fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && ty_sha256_file(fd, sha, &bytes) == 0 &&
        (strncmp(sha, prefix, 2) != 0 || strcmp(sha + 2, name) != 0))
        unlinkat(folder, name, 0);
    return 0;
}

int ty_blobs_recover(int dirfd)
{
    int fd = openat(dirfd, "synced", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    char was[sizeof((struct ty_proc_id *)0)->boot] = "";
    struct ty_proc_id me;
    int64_t since_us;
    struct stat st;

    if (fd < 0 || flock(fd, LOCK_EX) < 0 || ty_proc_identify(getpid(), &me) < 0 ||
        fstat(fd, &st) < 0 || pread(fd, was, sizeof was - 1, 0) < 0) {
        ty_closep(&fd);
        return -1;
    }
    if (strcmp(was, me.boot) != 0) {
        since_us = was[0] ? ty_time_us(st.st_mtim) - GRAIN_US : 0;
        ty_each_blob(dirfd, verify, &since_us);
        /* Left empty by a full disk, it makes the next boot read everything. */
        if (ftruncate(fd, 0) == 0)
            (void)ty_pwrite_all(fd, me.boot, strlen(me.boot), 0);
    }
    flock(fd, LOCK_UN);
    return fd;
}

void ty_blobs_synced(int mark, int64_t began_us)
{
    const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
                                       { .tv_sec = began_us / 1000000,
                                         .tv_nsec = began_us % 1000000 * 1000 } };

    if (mark >= 0)
        (void)futimens(mark, times);
}
