/* client.c - requests to the daemon, which is started when none answers
 *
 * One keep-alive connection per client.  The daemon may end at any time, so a request whose
 * connection breaks is sent again on a new one, when that can do no harm: no byte of a reply has
 * come, and either the method is idempotent or the connection was already closed when the request
 * was to be sent.  A new connection breaks too when the daemon was dying as it was made: hence
 * REPEATS.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "client/http.h"
#include "client/start_daemon.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <trainyard/client.h>
#include <unistd.h>

#define ERROR_BODY_MAX (64 * 1024)
#define REPEATS 2

struct ty_client {
    char *home, *daemon; /* daemon may be NULL */
    bool no_start;
    struct ty_http_conn conn;
};

static void client_freep(struct ty_client **c)
{
    ty_client_free(*c);
}

struct ty_client *ty_client_free(struct ty_client *c)
{
    if (c) {
        ty_http_close(&c->conn);
        free(c->home);
        free(c->daemon);
        free(c);
    }
    return NULL;
}

static int connect_or_start(struct ty_client *c, struct ty_error *err)
{
    int fd;

    ty_http_close(&c->conn);
    fd = ty_daemon_connect(c->home, err);
    if (fd == -ECONNREFUSED && !c->no_start) {
        int r = ty_daemon_start(c->home, c->daemon, err);

        if (r < 0)
            return r;
        fd = ty_daemon_connect(c->home, err);
    }
    if (fd < 0)
        return fd;
    c->conn.fd = fd;
    return 0;
}

int ty_client_open(const struct ty_client_options *o, struct ty_client **ret, struct ty_error *err)
{
    CLEANUP(client_freep) struct ty_client *c = FAULT("client.alloc", NULL, calloc(1, sizeof *c));
    int r;

    if (!c)
        return ty_error_oom(err);
    c->conn.fd = -1;
    c->no_start = o && o->no_start;
    if (o && o->daemon && !(c->daemon = strdup(o->daemon)))
        return ty_error_oom(err);
    r = ty_client_find_home(o ? o->home : NULL, &c->home, err);
    if (r == 0)
        r = connect_or_start(c, err);
    if (r < 0)
        return r;
    *ret = TAKE(c);
    return 0;
}

const char *ty_client_home(const struct ty_client *c)
{
    return c->home;
}

int ty_client_daemon_pid(struct ty_client *c, struct ty_error *err)
{
    CLEANUP_CLOSE int fd = ty_daemon_connect(c->home, err);
    struct ucred peer;
    socklen_t n = sizeof peer;

    if (fd < 0)
        return fd;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
        return ty_error_set(err, -errno, "cannot tell which process serves '%s': %m", c->home);
    return peer.pid;
}

void ty_reply_done(struct ty_reply *r)
{
    free(r->body);
    *r = (struct ty_reply){ 0 };
}

static void add_head(struct ty_str *s, const char *method, const char *path,
                     const struct ty_call *call, bool stream)
{
    ty_str_addf(
        s,
        "%s %s%s%s HTTP/1.1\r\nHost: trainyard\r\nTrainyard-Api: %d\r\nUser-Agent: trainyard/%s\r\n",
        method, path, call->query ? "?" : "", call->query ? call->query : "", TY_API, TY_VERSION);
    ty_str_addf(s, "Accept: application/json, %stext/plain\r\n",
                stream ? "text/event-stream, " : "");
    if (call->last_event_id)
        ty_str_addf(s, "Last-Event-ID: %s\r\n", call->last_event_id);
    if (call->body || call->body_fd > 0)
        ty_str_addf(s, "Content-Type: %s\r\n",
                    call->body_type ? call->body_type : "application/json");
    if (call->body || call->body_fd > 0 || (strcmp(method, "GET") && strcmp(method, "DELETE")))
        ty_str_addf(s, "Content-Length: %zu\r\n", call->body_len);
    ty_str_add(s, "\r\n");
}

/* What would break the request's lines must not get into them. */
static bool one_line(const char *s)
{
    for (; s && *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}

static int transport_error(const struct ty_client *c, int r, const struct ty_http_exchange *x,
                           struct ty_error *err)
{
    switch (r) {
    case -ETIMEDOUT:
        return ty_error_set(err, r,
                            "the daemon of '%s' did not answer in time; see '%s/daemon.log'",
                            c->home, c->home);
    case -EINTR:
        return ty_error_set(err, r, "interrupted");
    case -ECONNRESET:
        return ty_error_set(err, r, "the daemon of '%s' went away %s", c->home,
                            x->status ? "in the middle of its reply" : "before it replied");
    case -EBADMSG:
        return ty_error_set(err, -EIO, "what listens in '%s/sock' does not speak HTTP/1.1",
                            c->home);
    case -EFBIG:
        return ty_error_set(err, r, "the daemon's reply is larger than %zu bytes", x->body_max);
    case -ENODATA:
        return ty_error_set(
            err, -EIO,
            "what was being sent could not be read to its end: it became shorter, or the disk failed");
    case -ENOMEM:
        return ty_error_oom(err);
    default:
        errno = -r;
        return ty_error_set(err, r, "cannot talk to the daemon of '%s': %m", c->home);
    }
}

static int errno_of_status(int status)
{
    static const struct {
        int status, code;
    } table[] = {
        { 400, -EINVAL }, { 403, -EACCES }, { 404, -ENOENT }, { 405, -ENOTSUP },
        { 409, -EEXIST }, { 413, -EFBIG },  { 426, -EPROTO }, { 429, -EBUSY },
        { 500, -EIO },    { 503, -EAGAIN }, { 507, -ENOSPC },
    };
    size_t i;

    for (i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status)
            return table[i].code;
    return -EIO;
}

/* A daemon of another version: say which, and how to get one that fits. */
static int check_version(const struct ty_client *c, const struct ty_http_exchange *x,
                         struct ty_error *err)
{
    if (x->status != 426 && (x->api == TY_API || x->api == 0))
        return 0;
    return ty_error_set(
        err, -EPROTO,
        "this is Trainyard %s (API %d), but the daemon of '%s' is Trainyard %s (API %d): replace it with "
        "'trainyard down && trainyard up'; runs go on meanwhile",
        TY_VERSION, TY_API, c->home, x->version[0] ? x->version : "of an unknown version", x->api);
}

static int status_error(const struct ty_http_exchange *x, const char *method, const char *path,
                        struct ty_error *err)
{
    const char *text = x->body_in.text ? x->body_in.text : "";
    size_t n = strlen(text);

    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    if (n > 0 && x->text)
        return ty_error_set(err, errno_of_status(x->status), "%.*s", (int)n, text);
    return ty_error_set(err, errno_of_status(x->status), "the daemon answered %d to %s %s",
                        x->status, method, path);
}

static int take_reply(struct ty_http_exchange *x, const struct ty_call *call,
                      struct ty_reply *reply, struct ty_error *err)
{
    struct ty_reply r = { .status = x->status, .len = x->body_in.len };

    if (!call->on_data) {
        r.body = ty_str_take(&x->body_in);
        if (!r.body)
            return ty_error_oom(err);
    }
    if (reply)
        *reply = r;
    else
        ty_reply_done(&r);
    return 0;
}

static bool may_repeat(const char *method, const struct ty_http_exchange *x)
{
    return x->status == 0 && strcmp(method, "POST") != 0 && strcmp(method, "PATCH") != 0;
}

/* Send and read; again on a new connection when the old one turns out to be dead (see above). */
static int exchange(struct ty_client *c, const char *method, struct ty_http_exchange *x,
                    struct ty_error *err)
{
    off_t start = x->body_fd > 0 ? lseek(x->body_fd, 0, SEEK_CUR) : 0;
    int r;

    for (int repeats = 0;; repeats++) {
        if (!ty_http_idle_ok(&c->conn)) {
            r = connect_or_start(c, err);
            if (r < 0)
                return r;
        }
        r = ty_http_ask(&c->conn, x);
        if (r != -ECONNRESET || repeats == REPEATS || start < 0 || !may_repeat(method, x))
            break;
        if (x->body_fd > 0 && lseek(x->body_fd, start, SEEK_SET) < 0)
            return ty_error_set(err, -errno, "cannot read again what was being sent: %m");
    }
    return r && !x->callers ? transport_error(c, r, x, err) : r;
}

int ty_client_request(struct ty_client *c, const char *method, const char *path,
                      const struct ty_call *call, struct ty_reply *reply, struct ty_error *err)
{
    static const struct ty_call nothing = { 0 };
    CLEANUP_STR struct ty_str head = { 0 };
    struct ty_http_exchange x = { 0 };
    int r;

    if (!call)
        call = &nothing;
    if (path[0] != '/' || !one_line(path) || !one_line(call->query) ||
        !one_line(call->last_event_id))
        return ty_error_set(
            err, -EINVAL, "cannot ask the daemon for '%s': it holds a blank or a control character",
            path);
    add_head(&head, method, path, call, call->on_data != NULL);
    if (head.failed)
        return ty_error_oom(err);
    x = (struct ty_http_exchange){ .head = head.text,
                                   .head_len = head.len,
                                   .body = call->body,
                                   .body_len = call->body_len,
                                   .body_fd = call->body_fd,
                                   .on_data = call->on_data,
                                   .ctx = call->ctx,
                                   .body_max = TY_CLIENT_BODY_MAX,
                                   .stop = call->stop,
                                   .silence_ms =
                                       call->silence_ms ? call->silence_ms : TY_CLIENT_SILENCE_MS,
                                   .deadline_us = call->deadline_us };
    if (call->on_data)
        x.body_max = ERROR_BODY_MAX;
    r = exchange(c, method, &x, err);
    if (r == 0)
        r = check_version(c, &x, err);
    if (r == 0 && x.status / 100 != 2)
        r = status_error(&x, method, path, err);
    if (r == 0)
        r = take_reply(&x, call, reply, err);
    ty_str_done(&x.body_in);
    return r;
}
