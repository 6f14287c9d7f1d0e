/* http.h - one HTTP/1.1 connection, the asking side
 *
 * Sends a request and reads its reply: Content-Length, chunked or until the end; keep-alive.
 * Knows nothing of daemons, routes or JSON.  The socket is non-blocking; every wait is bounded
 * by the exchange's limits.
 */
#ifndef TY_CLIENT_HTTP_H
#define TY_CLIENT_HTTP_H
#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct ty_error;

#define TY_HTTP_HEAD_MAX (64 * 1024)
#define TY_HTTP_BUFFER (64 * 1024)

struct ty_http_conn {
    int fd; /* -1: closed */
    char in[TY_HTTP_BUFFER];
    size_t at, end; /* bytes not yet consumed: in[at..end) */
};

/* One exchange.  The caller fills the first part. */
struct ty_http_exchange {
    const char *head; /* request line and headers, with the empty line */
    size_t head_len;
    const void *body; /* or body_fd > 0; body_len bytes */
    size_t body_len;
    int body_fd;
    int (*on_data)(const char *bytes, size_t n,
                   void *ctx); /* pieces of a 2xx body; non-zero ends the exchange */
    void *ctx;
    size_t body_max; /* of a collected body */
    const volatile int *stop;
    int silence_ms;      /* -1: no bound */
    int64_t deadline_us; /* 0: none */

    int status;            /* out; 0: no byte of a reply came */
    int api;               /* out: Trainyard-Api, 0 when missing */
    char version[32];      /* out: Trainyard-Version */
    bool text;             /* out: the body is text/plain */
    bool callers;          /* out: the result is what on_data returned */
    struct ty_str body_in; /* out, owned by the caller: the body, unless on_data took it */
};

/* 0, or: what on_data returned; -EINTR stopped; -ETIMEDOUT; -ECONNRESET the other side went away
 * (status says how far it got); -EBADMSG not HTTP; -EFBIG over body_max; -ENODATA
 * body_fd could not be read to body_len.  After a failure the connection is closed. */
int ty_http_ask(struct ty_http_conn *c, struct ty_http_exchange *x);
void ty_http_close(struct ty_http_conn *c);
/* True when an idle connection can still be used: open, and nothing unasked has come on it. */
bool ty_http_idle_ok(const struct ty_http_conn *c);
/* Wait until `fd` is ready for `events`: > 0 poll's revents, -ETIMEDOUT or -EINTR, by the limits
 * of x. */
int ty_http_wait(int fd, short events, const struct ty_http_exchange *x);
#endif
