/* server.c - libmicrohttpd inside the loop
 *
 * The server has no thread: its own epoll descriptor is polled by the loop, and what it says of its
 * next time-out sets a timer. A request is seen in steps, each one call of on_request():
 *
 *     head        request_begin: refused here, or its body is wanted
 *     body...     request_take
 *     end         request_call: a reply, or none yet: then the connection is suspended
 *     resumed     the reply is there
 *
 * A reply cannot be queued while a body is coming in (the library allows it before and after only),
 * so a request that is refused in between gets its answer written to the socket directly, and the
 * connection ends.
 *
 * Stopping: no new connections; each connection's reading side is closed, so the idle ones end at
 * once and the others after their reply.  When none is left, or GRACE_MS later, the handles are
 * closed.
 */
#include "base/conf.h"
#include "base/log.h"
#include "http/request.h"
#include <errno.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/socket.h>
#include <trainyard/client.h>

#define IDLE_SECONDS 60      /* a connection on which nothing moves */
#define CONNECTIONS_MORE 256 /* beside the followers' */
#define FOLLOWERS_MAX (1 << 20)
#define CONNECTION_MEMORY (128 * 1024)
#define BEAT_MS 15000
#define GRACE_MS 2000

#define TEXT_(n) #n
#define TEXT(n) TEXT_(n)

/* ---- connections ---- */

static void peer_link(struct ty_http *h, struct peer *p)
{
    p->next = h->peers;
    p->slot = &h->peers;
    if (p->next)
        p->next->slot = &p->next;
    h->peers = p;
}

static void peer_free(struct peer *p)
{
    *p->slot = p->next;
    if (p->next)
        p->next->slot = p->slot;
    free(p);
}

static bool is_web(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;

    return getsockname(fd, (struct sockaddr *)&a, &n) == 0 && a.ss_family != AF_UNIX;
}

static void on_connection(void *ctx, struct MHD_Connection *conn, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    const union MHD_ConnectionInfo *info;
    struct peer *p = *slot;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (p)
            peer_free(p);
        *slot = NULL;
        return;
    }
    info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    p = calloc(1, sizeof *p);
    if (!p)
        return;
    p->fd = info->connect_fd;
    p->web = is_web(p->fd);
    p->known = p->web || auth_peer(p->fd, &p->uid) == 0;
    peer_link(ctx, p);
    *slot = p;
}

static struct peer *peer_of(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

/* ---- requests ---- */

/* The escapes of paths and queries are undone later, strictly. */
static size_t keep_escapes(void *ctx, struct MHD_Connection *conn, char *s)
{
    (void)ctx;
    (void)conn;
    return strlen(s);
}

static void *on_uri(void *ctx, const char *uri, struct MHD_Connection *conn)
{
    struct request *req = request_new(ctx, uri);

    if (req) {
        req->conn = conn;
        req->peer = peer_of(conn);
    }
    return req;
}

/* Answer at once and let the connection end: see above. */
static enum MHD_Result refuse_abruptly(struct request *req)
{
    CLEANUP_STR struct ty_str body = { 0 };
    CLEANUP_STR struct ty_str s = { 0 };
    unsigned status = req->reply.status;

    reply_error_body(&body, status, req->err.text, req->plain);
    ty_str_addf(&s,
                "HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                "Trainyard-Version: %s\r\nTrainyard-Api: %d\r\n\r\n",
                status, MHD_get_reason_phrase_for(status),
                req->plain ? "text/plain; charset=utf-8" : "application/json", body.len, TY_VERSION,
                TY_API);
    ty_str_addn(&s, body.text, body.len);
    if (!s.failed && !body.failed)
        send(req->peer->fd, s.text, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return MHD_NO;
}

static enum MHD_Result queue_reply(struct request *req)
{
    struct reply *rep = &req->reply;

    if (!rep->response || reply_header(rep, "Trainyard-Version", TY_VERSION) < 0 ||
        reply_header(rep, "Trainyard-Api", TEXT(TY_API)) < 0)
        return MHD_NO;
    if (req->peer->web && web_headers(req, rep) < 0)
        return MHD_NO;
    if (req->http->stopping && reply_header(rep, MHD_HTTP_HEADER_CONNECTION, "close") < 0)
        return MHD_NO;
    /* A reader may take its time: somebody looks at a long log through a pager. */
    MHD_set_connection_option(req->conn, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    return MHD_queue_response(req->conn, rep->status, rep->response);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n, void **slot)
{
    struct request *req = *slot;

    (void)ctx;
    (void)url;
    (void)version;
    if (!req || !req->peer)
        return MHD_NO;
    if (!req->begun) {
        req->begun = true;
        MHD_set_connection_option(conn, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)IDLE_SECONDS);
        request_begin(req, method);
        return req->reply.response && request_too_big_to_swallow(req) ? refuse_abruptly(req)
                                                                      : MHD_YES;
    }
    if (*n > 0) {
        size_t piece = *n;

        *n = 0;
        return request_take(req, bytes, piece) < 0 ? refuse_abruptly(req) : MHD_YES;
    }
    if (!req->called) {
        request_call(req);
        if (!req->reply.response && req->refs > 1) {
            req->suspended = true;
            MHD_suspend_connection(conn);
            return MHD_YES;
        }
    }
    return queue_reply(req);
}

static void on_completed(void *ctx, struct MHD_Connection *conn, void **slot,
                         enum MHD_RequestTerminationCode why)
{
    struct ty_http *h = ctx;
    struct request *req = *slot;

    *slot = NULL;
    /* The connection may be used again, but not be idle for ever. */
    if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        MHD_set_connection_option(conn, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)IDLE_SECONDS);
    if (!req)
        return;
    if (req->stop_after)
        h->stop_wanted = true;
    request_disconnect(req);
}

/* ---- the loop ---- */

static void close_handles(struct ty_http *h)
{
    if (h->closed)
        return;
    h->closed = true;
    uv_close((uv_handle_t *)&h->poll, NULL);
    uv_close((uv_handle_t *)&h->due, NULL);
    uv_close((uv_handle_t *)&h->beat, NULL);
    uv_close((uv_handle_t *)&h->grace, NULL);
}

static void on_due(uv_timer_t *t);

/* Let the server do what can be done now, and come back when it wants to. */
void server_drive(struct ty_http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;

    h->resumed = false;
    MHD_run(h->mhd);
    if (h->stop_wanted && !h->stopping) {
        h->stop_wanted = false;
        h->o.stop(h->o.ctx);
    }
    if (h->closed)
        return;
    if (h->stopping && !h->peers)
        close_handles(h);
    else if (h->resumed || MHD_get_timeout(h->mhd, &ms) == MHD_YES)
        uv_timer_start(&h->due, on_due, h->resumed ? 0 : ms, 0);
    else
        uv_timer_stop(&h->due);
}

static void on_due(uv_timer_t *t)
{
    server_drive(t->data);
}

/* Without a thread of its own the library does not notice a resumed connection by itself: it is
 * driven once more. */
void server_resume(struct ty_http *h, struct MHD_Connection *conn)
{
    MHD_resume_connection(conn);
    h->resumed = true;
    if (!h->closed)
        uv_timer_start(&h->due, on_due, 0, 0);
}

static void on_beat(uv_timer_t *t)
{
    streams_beat(t->data);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    server_drive(p->data);
}

static void on_grace(uv_timer_t *t)
{
    close_handles(t->data);
}

/* ---- opening, stopping ---- */

static unsigned connections_max(const struct ty_conf *conf)
{
    int64_t followers = ty_conf_number(conf, "limits.followers");

    return CONNECTIONS_MORE + (unsigned)(followers < FOLLOWERS_MAX ? followers : FOLLOWERS_MAX);
}

static struct MHD_Daemon *start_server(struct ty_http *h, unsigned connections)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, h,
        MHD_OPTION_LISTEN_SOCKET, h->o.listen_fd, MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_URI_LOG_CALLBACK,
        on_uri, h, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, h, MHD_OPTION_END);
}

static int open_handles(struct ty_http *h, struct ty_error *err)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    int r = uv_poll_init(h->o.loop, &h->poll, info->epoll_fd);

    if (r < 0)
        return ty_error_set(err, r, "cannot watch the daemon's socket: %s", uv_strerror(r));
    uv_timer_init(h->o.loop, &h->due);
    uv_timer_init(h->o.loop, &h->beat);
    uv_timer_init(h->o.loop, &h->grace);
    h->poll.data = h->due.data = h->beat.data = h->grace.data = h;
    uv_poll_start(&h->poll, UV_READABLE, on_readable);
    uv_timer_start(&h->beat, on_beat, BEAT_MS, BEAT_MS);
    return 0;
}

/* A daemon that cannot be reached by browsers is a daemon all the same. */
static void open_web(struct ty_http *h)
{
    struct ty_error err = { 0 };

    if (web_open(h, &err) < 0)
        ty_log(TY_LOG_WARN, "%s", err.text);
}

int ty_http_open(const struct ty_http_options *o, struct ty_http **ret, struct ty_error *err)
{
    struct ty_http *h = calloc(1, sizeof *h);
    int r;

    if (!h)
        return ty_error_oom(err);
    h->o = *o;
    h->closed = true;
    auth_user_name(geteuid(), h->user, sizeof h->user);
    r = openapi_make(&h->openapi, &h->openapi_len, err);
    if (r == 0) {
        h->mhd = start_server(h, connections_max(o->conf));
        if (!h->mhd)
            r = ty_error_set(err, -EIO, "cannot start the HTTP server: %m");
    }
    if (r == 0)
        r = open_handles(h, err);
    if (r < 0) {
        ty_http_done(h);
        return r;
    }
    h->closed = false;
    *ret = h;
    open_web(h);
    server_drive(h);
    return 0;
}

void ty_http_stop(struct ty_http *h)
{
    int fd;

    if (!h || h->stopping)
        return;
    h->stopping = true;
    fd = MHD_quiesce_daemon(h->mhd);
    if (fd >= 0)
        close(fd);
    web_stop(h);
    streams_stop(h);
    helpers_stop(h);
    for (struct peer *p = h->peers; p; p = p->next)
        shutdown(p->fd, SHUT_RD);
    uv_timer_stop(&h->beat);
    if (!h->peers)
        close_handles(h);
    else
        uv_timer_start(&h->grace, on_grace, GRACE_MS, 0);
}

struct ty_http *ty_http_done(struct ty_http *h)
{
    if (h) {
        if (h->mhd) {
            streams_stop(h);
            requests_abandon(h);
            MHD_stop_daemon(h->mhd);
        }
        web_free(h->web);
        auth_done(h);
        free(h->openapi);
        free(h);
    }
    return NULL;
}
