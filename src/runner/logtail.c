/* logtail.c - reading a log behind its writer */
#include "runner/logtail.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u
#define PUNCH_STEP (1u << 20)

int ty_logtail_open(struct ty_logtail *t, const char *log_dir, const char *name, uint64_t limit,
                    struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(log_dir, name);
    int fd;

    if (!path)
        return ty_error_oom(err);
    fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ty_error_set(err, -errno, "cannot open the log '%s': %m", path);
    *t = (struct ty_logtail){ .name = name, .fd = fd, .limit = limit };
    return 0;
}

void ty_logtail_done(struct ty_logtail *t)
{
    if (t->name)
        close(t->fd);
    t->name = NULL;
}

static uint64_t size_of(const struct ty_logtail *t)
{
    struct stat st;

    return fstat(t->fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

void ty_logtail_base(struct ty_logtail *t, uint64_t base)
{
    t->base = base;
    t->limit = t->limit > base ? t->limit - base : 0;
}

static uint64_t in_file(const struct ty_logtail *t, uint64_t stored)
{
    return stored > t->base ? stored - t->base : 0;
}

void ty_logtail_seek(struct ty_logtail *t, uint64_t stored)
{
    t->sent = t->acked = in_file(t, stored);
}

void ty_logtail_ack(struct ty_logtail *t, uint64_t stored)
{
    uint64_t at = in_file(t, stored);

    if (at > t->acked && at <= t->sent)
        t->acked = at;
    ty_logtail_trim(t);
}

bool ty_logtail_over(struct ty_logtail *t)
{
    t->over |= size_of(t) > t->limit;
    return t->over;
}

/* How many bytes may be sent now. */
static uint64_t ready(struct ty_logtail *t)
{
    uint64_t size = size_of(t), end = size < t->limit ? size : t->limit;

    ty_logtail_over(t);
    return end > t->sent ? end - t->sent : 0;
}

bool ty_logtail_pending(struct ty_logtail *t)
{
    return ready(t) > 0;
}

ssize_t ty_logtail_read(struct ty_logtail *t, void *buf, size_t cap, uint64_t *offset)
{
    uint64_t n = ready(t);
    ssize_t got;

    if (t->sent - t->acked >= TY_LOGTAIL_WINDOW)
        return 0;
    if (n > cap)
        n = cap;
    if (n == 0)
        return 0;
    got = pread(t->fd, buf, n, (off_t)t->sent);
    if (got < 0)
        return -errno;
    *offset = t->base + t->sent;
    t->sent += (uint64_t)got;
    return got;
}

/* Give back whole blocks from *at to `end`, but never the last that an error quotes; *at moves. */
static void punch(struct ty_logtail *t, uint64_t *at, uint64_t end)
{
    uint64_t size = size_of(t);

    if (end + TY_LOGTAIL_KEEP > size)
        end = size > TY_LOGTAIL_KEEP ? size - TY_LOGTAIL_KEEP : 0;
    end &= ~(uint64_t)(BLOCK - 1);
    if (end < *at + PUNCH_STEP)
        return;
    /* Where the file system has no holes, the bytes stay until the folder goes. */
    fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)*at, (off_t)(end - *at));
    *at = end;
}

void ty_logtail_trim(struct ty_logtail *t)
{
    punch(t, &t->punched, t->acked);
    /* What lies beyond the limit is never sent, whatever the daemon has: it need not fill the disk. */
    if (!ty_logtail_over(t))
        return;
    if (t->beyond == 0)
        t->beyond = (t->limit + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
    punch(t, &t->beyond, size_of(t));
}

size_t ty_logtail_quote(const struct ty_logtail *t, char buf[TY_LOGTAIL_QUOTE])
{
    uint64_t size = size_of(t), at = size > TY_LOGTAIL_QUOTE ? size - TY_LOGTAIL_QUOTE : 0;
    ssize_t n = pread(t->fd, buf, TY_LOGTAIL_QUOTE, (off_t)at);
    char *line;

    if (n <= 0)
        return 0;
    line = at > 0 ? memchr(buf, '\n', (size_t)n) : NULL;
    if (!line || line + 1 == buf + n)
        return (size_t)n;
    n -= line + 1 - buf;
    memmove(buf, line + 1, (size_t)n);
    return (size_t)n;
}
