/* server.h - the HTTP API on the daemon's Unix socket
 *
 * libmicrohttpd with an external epoll inside the libuv loop: no thread of its own, nothing
 * blocks.  A handler answers at once or suspends the connection until a stored change or a
 * follower's wake resumes it.
 */
#ifndef TY_HTTP_SERVER_H
#define TY_HTTP_SERVER_H
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
struct ty_blobs;
struct ty_conf;
struct ty_error;
struct ty_follow_hub;
struct ty_http;
struct ty_sched;
struct ty_store;

struct ty_http_options {
    uv_loop_t *loop;
    int listen_fd; /* bound and listening Unix socket; taken over */
    struct ty_store *store;
    struct ty_sched *sched;
    struct ty_blobs *blobs;
    const struct ty_conf *conf;
    struct ty_follow_hub *hub;
    const char *home;
    const char *agent; /* absolute path of trainyard-agent, whose `data` asks object stores */
    bool system; /* serves every user of the machine, each with what is theirs; else its own and root */
    int64_t started_us;
    void (*stop)(void *ctx); /* POST /shutdown was answered */
    void *ctx;
};
int ty_http_open(const struct ty_http_options *o, struct ty_http **ret, struct ty_error *err);
/* Refuse new requests, end followers' streams; ty_http_done after the loop has run its close
 * callbacks. */
void ty_http_stop(struct ty_http *h);
struct ty_http *ty_http_done(struct ty_http *h);
#endif
