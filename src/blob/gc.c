/* gc.c - one walk over the store: what is old and not live goes
 *
 * Somebody may ask for a blob (ty_blob_has touches it) just when it is about to go.  So it is first taken aside, into
 * tmp/, and looked at again: one that was touched meanwhile is put back.
 */
#include "blob/gc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "blob/each.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct sweep {
    int storefd;
    int64_t before_us; /* touched then or later: spared */
    ty_gc_live live;
    void *ctx;
    struct ty_gc_report *report;
    int failed; /* of the first that could not be removed */
};

static bool is_old(const struct sweep *g, const struct stat *st)
{
    return ty_time_us(st->st_mtim) < g->before_us;
}

static void count(struct sweep *g, const struct stat *st, bool removed)
{
    *(removed ? &g->report->removed : &g->report->kept) += 1;
    *(removed ? &g->report->removed_bytes : &g->report->kept_bytes) += (uint64_t)st->st_size;
}

static int failure(struct sweep *g)
{
    if (g->failed == 0)
        g->failed = -errno;
    return -1;
}

/* 1: gone; 0: it was touched and is there again; -1: it cannot be removed. */
static int remove_blob(struct sweep *g, int folder, const char *name, const char *sha)
{
    char aside[80];
    struct stat st;

    snprintf(aside, sizeof aside, "tmp/gc-%s", sha);
    if (FAULT("gc.remove", -1, renameat(folder, name, g->storefd, aside)) < 0)
        return failure(g);
    if (fstatat(g->storefd, aside, &st, AT_SYMLINK_NOFOLLOW) == 0 && !is_old(g, &st))
        return renameat(g->storefd, aside, folder, name) < 0 ? failure(g) : 0;
    return unlinkat(g->storefd, aside, 0) < 0 ? failure(g) : 1;
}

static int consider_blob(int folder, const char *prefix, const char *name, void *ctx)
{
    char sha[TY_SHA256_HEX + 1];
    struct sweep *g = ctx;
    struct stat st;

    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0;
    snprintf(sha, sizeof sha, "%.2s%.62s", prefix, name);
    count(g, &st, is_old(g, &st) && !g->live(sha, g->ctx) && remove_blob(g, folder, name, sha) > 0);
    return 0;
}

static int consider_leftover(int folder, const char *prefix, const char *name, void *ctx)
{
    struct sweep *g = ctx;
    struct stat st;
    bool gone;

    (void)prefix;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0;
    gone = is_old(g, &st) && unlinkat(folder, name, 0) == 0;
    if (is_old(g, &st) && !gone)
        failure(g);
    count(g, &st, gone);
    return 0;
}

int ty_gc(struct ty_blobs *b, int64_t grace_s, ty_gc_live live, void *ctx, struct ty_gc_report *ret,
          struct ty_error *err)
{
    CLEANUP_CLOSE int storefd = open(ty_blobs_dir(b), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct sweep g = { .storefd = storefd,
                       .before_us = ty_wall_us() - grace_s * 1000000,
                       .live = live,
                       .ctx = ctx,
                       .report = ret };
    int r;

    *ret = (struct ty_gc_report){ 0 };
    if (storefd < 0)
        return ty_error_set(err, -errno, "cannot read the blob store '%s': %m", ty_blobs_dir(b));
    r = ty_each_blob(storefd, consider_blob, &g);
    if (r == 0)
        r = ty_each_tmp(storefd, consider_leftover, &g);
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot read the blob store '%s': %m", ty_blobs_dir(b));
    }
    errno = -g.failed;
    return g.failed == 0
               ? 0
               : ty_error_set(err, g.failed,
                              "cannot remove what is not used from the blob store '%s': %m",
                              ty_blobs_dir(b));
}
