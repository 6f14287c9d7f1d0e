/* slurm_pump.c - moving bytes between a link and a socket */
#include "target/slurm_pump.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int ty_pump_open(struct ty_pump *p, struct ty_link *link, int fd, const char *first, size_t n)
{
    *p = (struct ty_pump){ .link = link, .fd = fd };
    p->out = malloc(TY_PUMP_BUFFER);
    p->in = malloc(TY_PUMP_BUFFER);
    if (!p->out || !p->in || n > TY_PUMP_BUFFER) {
        ty_pump_close(p);
        return -ENOMEM;
    }
    if (n > 0)
        memcpy(p->in, first, n);
    p->in_len = n;
    return 0;
}

void ty_pump_close(struct ty_pump *p)
{
    ty_link_free(p->link);
    if (p->fd >= 0)
        close(p->fd);
    free(p->out);
    free(p->in);
    *p = (struct ty_pump){ .fd = -1 };
}

void ty_pump_events(const struct ty_pump *p, struct pollfd to[2])
{
    short local = 0;

    to[0] = (struct pollfd){ .fd = ty_link_fd(p->link), .events = ty_link_events(p->link) };
    if (p->in_len > p->in_at) /* full: what the link brings has to wait */
        to[0].events &= (short)~POLLIN;
    if (p->out_len > p->out_at)
        to[0].events |= POLLOUT;
    if (p->out_len == p->out_at && !p->out_ended)
        local |= POLLIN;
    if (p->in_len > p->in_at)
        local |= POLLOUT;
    to[1] = (struct pollfd){ .fd = local ? p->fd : -1, .events = local };
}

bool ty_pump_busy(const struct ty_pump *p)
{
    return p->in_len == p->in_at && !p->in_ended && ty_link_holds(p->link);
}

/* From the socket to the link. */
static int move_out(struct ty_pump *p)
{
    for (;;) {
        ssize_t n;

        if (p->out_at == p->out_len) {
            if (p->out_ended)
                return 0;
            n = recv(p->fd, p->out, TY_PUMP_BUFFER, 0);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return errno == EAGAIN ? 0 : -EPIPE;
            p->out_ended = n == 0;
            p->out_at = 0;
            p->out_len = (size_t)n;
            if (n == 0)
                return 0;
        }
        n = ty_link_send(p->link, p->out + p->out_at, p->out_len - p->out_at);
        if (n == -EAGAIN)
            return 0;
        if (n < 0)
            return (int)n;
        p->out_at += (size_t)n;
    }
}

static int move_in(struct ty_pump *p)
{
    for (;;) {
        ssize_t n;

        if (p->in_at == p->in_len) {
            if (p->in_ended)
                return 0;
            n = ty_link_recv(p->link, p->in, TY_PUMP_BUFFER);
            if (n == -EAGAIN)
                return 0;
            if (n < 0)
                return (int)n;
            p->in_at = 0;
            p->in_len = (size_t)n;
            if (n == 0) {
                p->in_ended = true;
                shutdown(p->fd, SHUT_WR);
                return 0;
            }
        }
        n = send(p->fd, p->in + p->in_at, p->in_len - p->in_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -EPIPE;
        p->in_at += (size_t)n;
    }
}

int ty_pump_turn(struct ty_pump *p, int64_t now_us)
{
    int r = ty_link_turn(p->link, now_us);
    int in = move_in(p); /* what came before the end is not lost with it */

    if (r == 0)
        r = in;
    if (r == 0)
        r = move_out(p);
    if (r < 0)
        return r;
    /* A link ends whole: when the socket's side is done and sent, nothing more can be heard of the other either. */
    if (p->out_ended && p->out_at == p->out_len && ty_link_unsent(p->link) == 0)
        return 1;
    return p->in_ended && p->in_at == p->in_len ? 1 : 0;
}
