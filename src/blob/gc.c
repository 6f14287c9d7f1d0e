/* gc.c - one walk over the store: what is old and not live goes */
#include "blob/gc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct sweep {
    struct ty_blobs *blobs;
    int64_t before_s; /* touched later than that: spared */
    ty_gc_live live;
    void *ctx;
    struct ty_gc_report *report;
};

static void consider(struct sweep *g, int dirfd, const char *prefix, const char *name)
{
    char sha[512];
    struct stat st;
    bool tmp = strcmp(prefix, "tmp") == 0;

    snprintf(sha, sizeof sha, "%s%s", prefix, name);
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return;
    if (st.st_mtim.tv_sec > g->before_s || (!tmp && g->live(sha, g->ctx)) || unlinkat(dirfd, name, 0) < 0) {
        g->report->kept++;
        g->report->kept_bytes += (uint64_t)st.st_size;
    } else {
        g->report->removed++;
        g->report->removed_bytes += (uint64_t)st.st_size;
    }
}

static int sweep_folder(struct sweep *g, int top, const char *name)
{
    CLEANUP_DIR DIR *dir = NULL;
    struct dirent *e;
    int fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOTDIR ? 0 : -errno;
    dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return -ENOMEM;
    }
    while ((e = readdir(dir)))
        if (e->d_name[0] != '.')
            consider(g, fd, name, e->d_name);
    return 0;
}

int ty_gc(struct ty_blobs *b, int64_t grace_s, ty_gc_live live, void *ctx, struct ty_gc_report *ret, struct ty_error *err)
{
    struct sweep g = { .blobs = b, .before_s = ty_wall_us() / 1000000 - grace_s, .live = live, .ctx = ctx, .report = ret };
    CLEANUP_DIR DIR *dir = opendir(ty_blobs_dir(b));
    struct dirent *e;
    int r = 0;

    *ret = (struct ty_gc_report){ 0 };
    if (!dir)
        return ty_error_set(err, -errno, "cannot read the blob store '%s': %m", ty_blobs_dir(b));
    while (r == 0 && (e = readdir(dir)))
        if (e->d_name[0] != '.')
            r = sweep_folder(&g, dirfd(dir), e->d_name);
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot read the blob store '%s': %m", ty_blobs_dir(b));
    }
    return 0;
}
