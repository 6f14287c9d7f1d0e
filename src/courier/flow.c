/* flow.c - buffers on both sides of descriptors that do not block */
#include "courier/flow.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP (64 * 1024)

static void set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void ty_flow_open(struct ty_flow *f, int in, int out)
{
    *f = (struct ty_flow){ .in = in, .out = out };
    set_nonblocking(in);
    if (out != in)
        set_nonblocking(out);
}

void ty_flow_close(struct ty_flow *f)
{
    if (f->in >= 0)
        close(f->in);
    if (f->out >= 0 && f->out != f->in)
        close(f->out);
    ty_str_done(&f->unsent);
    free(f->got);
    *f = (struct ty_flow)TY_FLOW_INIT;
}

bool ty_flow_is_open(const struct ty_flow *f)
{
    return f->in >= 0;
}

static bool make_room(struct ty_flow *f)
{
    char *more;

    if (f->at > 0) {
        memmove(f->got, f->got + f->at, f->len - f->at);
        f->len -= f->at;
        f->at = 0;
    }
    if (f->cap - f->len >= STEP)
        return true;
    more = realloc(f->got, f->cap + 2 * STEP);
    if (!more)
        return false;
    f->got = more;
    f->cap += 2 * STEP;
    return true;
}

static ssize_t read_some(struct ty_flow *f)
{
    ssize_t n;

    do
        n = read(f->in, f->got + f->len, f->cap - f->len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int ty_flow_read(struct ty_flow *f, size_t most)
{
    while (f->len - f->at < most) {
        ssize_t n;

        if (f->ended)
            return -EPIPE;
        if (!make_room(f))
            return -ENOMEM;
        n = read_some(f);
        if (n == -EAGAIN)
            return 0;
        if (n == 0)
            f->ended = true;
        if (n <= 0)
            return n == 0 ? -EPIPE : (int)n;
        f->len += (size_t)n;
    }
    return 0;
}

static ssize_t write_some(struct ty_flow *f)
{
    const char *at = f->unsent.text + f->unsent_at;
    size_t left = f->unsent.len - f->unsent_at;
    ssize_t n;

    do
        n = write(f->out, at, left);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int ty_flow_write(struct ty_flow *f)
{
    if (f->unsent.failed)
        return -ENOMEM;
    while (f->unsent.len > f->unsent_at) {
        ssize_t n = write_some(f);

        if (n == -EAGAIN)
            break;
        if (n < 0)
            return (int)n;
        f->unsent_at += (size_t)n;
    }
    if (f->unsent_at == f->unsent.len) {
        f->unsent_at = f->unsent.len = 0;
    } else if (f->unsent_at >= STEP) {
        memmove(f->unsent.text, f->unsent.text + f->unsent_at, f->unsent.len - f->unsent_at + 1);
        f->unsent.len -= f->unsent_at;
        f->unsent_at = 0;
    }
    return 0;
}

size_t ty_flow_unsent(const struct ty_flow *f)
{
    return f->unsent.len - f->unsent_at;
}

void ty_flow_use(struct ty_flow *f, size_t n)
{
    f->at += n;
    if (f->at == f->len)
        f->at = f->len = 0;
}

int ty_flow_poll(const struct ty_flow *f, struct pollfd *p, bool reads)
{
    bool writes = ty_flow_unsent(f) > 0;
    int n = 0;

    if (reads && !f->ended)
        p[n++] = (struct pollfd){ .fd = f->in, .events = POLLIN };
    if (writes)
        p[n++] = (struct pollfd){ .fd = f->out, .events = POLLOUT };
    return n;
}
