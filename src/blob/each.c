/* each.c - the 256 folders of a store, and tmp/ */
#include "blob/each.h"
#include "base/cleanup.h"
#include "blob/blob.h"
#include "core/ascii.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define NAME_DIGITS (TY_SHA256_HEX - 2)

static int each_in(int storefd, const char *prefix, bool blobs, ty_each_fn fn, void *ctx)
{
    CLEANUP_DIR DIR *dir = NULL;
    struct dirent *e;
    int fd = openat(storefd, prefix, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
    dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return -ENOMEM;
    }
    for (errno = 0; (e = readdir(dir)); errno = 0) {
        if (blobs ? !ty_ascii_hex(e->d_name, NAME_DIGITS) : e->d_name[0] == '.')
            continue;
        r = fn(fd, prefix, e->d_name, ctx);
        if (r < 0)
            return r;
    }
    return -errno;
}

int ty_each_blob(int storefd, ty_each_fn fn, void *ctx)
{
    char prefix[3];
    int r = 0;

    for (unsigned i = 0; r == 0 && i < 256; i++) {
        snprintf(prefix, sizeof prefix, "%02x", i & 0xff);
        r = each_in(storefd, prefix, true, fn, ctx);
    }
    return r;
}

int ty_each_tmp(int storefd, ty_each_fn fn, void *ctx)
{
    return each_in(storefd, "tmp", false, fn, ctx);
}
