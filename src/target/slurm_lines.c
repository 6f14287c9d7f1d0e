/* slurm_lines.c - lines over a link or a socket */
#include "target/slurm_lines.h"
#include "base/error.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define STEP (64 * 1024)

void ty_lines_done(struct ty_lines *l)
{
    ty_str_done(&l->in);
    ty_str_done(&l->out);
    l->at = l->sent = 0;
}

static ssize_t receive(int fd, struct ty_link *link, char *buf, size_t n)
{
    ssize_t got;

    if (link)
        return ty_link_recv(link, buf, n);
    do
        got = recv(fd, buf, n, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

int ty_lines_read(struct ty_lines *l, int fd, struct ty_link *link)
{
    char buf[STEP];

    if (l->at > 0) {
        memmove(l->in.text, l->in.text + l->at, l->in.len - l->at + 1);
        l->in.len -= l->at;
        l->at = 0;
    }
    while (l->in.len <= TY_LINE_MAX) {
        ssize_t n = receive(fd, link, buf, sizeof buf);

        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return n < 0 ? (int)n : -EPIPE;
        ty_str_addn(&l->in, buf, (size_t)n);
        if (l->in.failed)
            return -ENOMEM;
        /* What follows a line may be another's bytes: no more is taken than comes at once. */
        if (memchr(buf, '\n', (size_t)n))
            return 0;
    }
    return 0;
}

int ty_lines_next(struct ty_lines *l, json_t **ret)
{
    size_t left = l->in.len - l->at;
    const char *line = l->in.text ? l->in.text + l->at : "";
    const char *end = left ? memchr(line, '\n', left) : NULL;
    struct ty_error err;
    json_t *o = NULL;

    if (!end)
        return left > TY_LINE_MAX ? -EBADMSG : -EAGAIN;
    l->at += (size_t)(end - line) + 1;
    if (ty_json_parse(line, (size_t)(end - line), &o, &err) < 0)
        return -EBADMSG;
    if (!json_is_object(o)) {
        json_decref(o);
        return -EBADMSG;
    }
    *ret = o;
    return 0;
}

const char *ty_lines_rest(struct ty_lines *l, size_t *n)
{
    const char *rest = l->in.text ? l->in.text + l->at : "";

    *n = l->in.len - l->at;
    l->at = l->in.len;
    return rest;
}

void ty_lines_add(struct ty_lines *l, json_t *o)
{
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;

    json_decref(o);
    if (!text) {
        l->out.failed = true;
        return;
    }
    ty_str_add(&l->out, text);
    ty_str_add(&l->out, "\n");
}

int ty_lines_send(struct ty_lines *l, int fd, struct ty_link *link)
{
    if (l->out.failed)
        return -ENOMEM;
    while (l->out.len > l->sent) {
        ssize_t n = link ? ty_link_send(link, l->out.text + l->sent, l->out.len - l->sent)
                         : send(fd, l->out.text + l->sent, l->out.len - l->sent, MSG_NOSIGNAL);

        if (!link && n < 0)
            n = -errno;
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN)
            return 0;
        if (n < 0)
            return (int)n;
        l->sent += (size_t)n;
    }
    ty_str_done(&l->out);
    l->sent = 0;
    return 0;
}
