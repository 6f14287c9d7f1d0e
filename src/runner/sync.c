/* sync.c - fsync of what the daemon is about to be told */
#include "runner/sync.h"
#include "base/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int ty_sync(int out, void *ctx)
{
    CLEANUP_CLOSE int dir = open(ctx, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int spool =
        dir >= 0 ? openat(dir, "records.spool", O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

    (void)out;
    if (spool < 0 || fdatasync(spool) < 0 || fsync(dir) < 0)
        return -errno;
    return 0;
}
