/* web.c - the port for browsers: who may come in, and with what
 *
 * A browser has no uid.  `trainyard link` and get_portal_url() give it a link with a token, once and over the Unix socket, where
 * the kernel says who asks; the first page takes the token out of the address and leaves a cookie.  A token is
 *
 *     <uid>-<keyed hash of uid and generation>
 *
 * with a key made from secret.key: nothing that opens a door is stored, links stay good over restarts, and a new generation makes
 * the old ones void.  Requests must name this host, so that no other name can be made to lead here; a cookie alone changes
 * nothing unless the request comes from these pages.
 */
#include "base/conf.h"
#include "base/log.h"
#include "base/owner.h"
#include "http/request.h"
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_SETTING "http.port"
#define GENERATION_SETTING "http.links/"
#define HASH_BYTES 32
#define HASH_TEXT 44 /* base64url of it, with its NUL */
#define TOKEN_MAX 64
#define BASE64 sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define COOKIE_SECONDS 31536000
#define HTTP_PORT 80
#define ACCEPT_MAX 64 /* connections at one wake */
#define BROWSERS_MAX \
    128 /* at a time: everybody on this machine can knock, and the socket needs places, too */
#define PAGE_CSP \
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; " \
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

struct web {
    struct ty_http *http;
    int fd, port;
    unsigned char key[TY_STORE_KEY_BYTES];
    uv_poll_t poll;
    bool closed;
};

/* ---- tokens ---- */

static int64_t generation(struct ty_http *h, uid_t uid)
{
    CLEANUP_FREE char *name = ty_strf(GENERATION_SETTING "%u", (unsigned)uid), *text = NULL;
    int64_t n = 0;

    if (name && ty_store_setting(h->o.store, name, &text) == 0)
        ty_parse_i64(text, &n);
    return n;
}

static void make_token(struct ty_http *h, uid_t uid, char token[TOKEN_MAX])
{
    unsigned char hash[HASH_BYTES];
    char text[HASH_TEXT], what[64];

    snprintf(what, sizeof what, "%u/%lld", (unsigned)uid, (long long)generation(h, uid));
    crypto_generichash(hash, sizeof hash, (const unsigned char *)what, strlen(what), h->web->key,
                       sizeof h->web->key);
    sodium_bin2base64(text, sizeof text, hash, sizeof hash, BASE64);
    snprintf(token, TOKEN_MAX, "%u-%s", (unsigned)uid, text);
}

static bool is_good(struct ty_http *h, const char *token, size_t n, uid_t *ret)
{
    char right[TOKEN_MAX], given[TOKEN_MAX];
    int64_t uid;
    char *dash;

    if (n >= sizeof given)
        return false;
    memcpy(given, token, n);
    given[n] = '\0';
    dash = strchr(given, '-');
    if (!dash)
        return false;
    *dash = '\0';
    if (ty_parse_i64(given, &uid) < 0 || uid < 0 || uid >= (uid_t)-1)
        return false;
    *dash = '-';
    make_token(h, (uid_t)uid, right);
    if (strlen(right) != n || sodium_memcmp(right, given, n) != 0)
        return false;
    *ret = (uid_t)uid;
    return true;
}

/* ---- what a request brings along ---- */

/* Two daemons on one host share their cookies: the name tells them apart. */
static void cookie_name(const struct web *w, char name[32])
{
    snprintf(name, 32, "trainyard-%d", w->port);
}

/* The token in "token=...&..."; it is taken out of the query. */
static bool token_of_query(struct ty_http *h, char *query, uid_t *ret)
{
    for (char *at = query; at && *at;) {
        char *end = strchrnul(at, '&');
        size_t n = (size_t)(end - at);

        if (n > 6 && strncmp(at, "token=", 6) == 0) {
            bool good = is_good(h, at + 6, n - 6, ret);

            if (*end)
                memmove(at, end + 1, strlen(end + 1) + 1);
            else if (at > query)
                at[-1] = '\0';
            else
                *at = '\0';
            return good;
        }
        at = *end ? end + 1 : NULL;
    }
    return false;
}

static bool from_header(const struct request *req, uid_t *ret)
{
    const char *given = request_header(req, MHD_HTTP_HEADER_AUTHORIZATION);

    return given && strncasecmp(given, "Bearer ", 7) == 0 &&
           is_good(req->http, given + 7, strlen(given + 7), ret);
}

static bool from_cookie(const struct request *req, uid_t *ret)
{
    const char *given;
    char name[32];

    cookie_name(req->http->web, name);
    given = MHD_lookup_connection_value(req->conn, MHD_COOKIE_KIND, name);
    return given && is_good(req->http, given, strlen(given), ret);
}

/* "<this host>:<our port>", by one of its names; browsers leave out the port of http itself. */
static bool is_our_name(const struct web *w, const char *name)
{
    static const char *const hosts[] = { "127.0.0.1", "localhost", "[::1]" };
    char ours[64];

    for (size_t i = 0; name && i < sizeof hosts / sizeof *hosts; i++) {
        snprintf(ours, sizeof ours, "%s:%d", hosts[i], w->port);
        if (strcasecmp(name, ours) == 0 ||
            (w->port == HTTP_PORT && strcasecmp(name, hosts[i]) == 0))
            return true;
    }
    return false;
}

/* Browsers say where a request comes from that may change something. */
static bool is_from_our_pages(const struct request *req)
{
    const char *origin = request_header(req, "Origin");

    return origin && strncmp(origin, "http://", 7) == 0 && is_our_name(req->http->web, origin + 7);
}

int web_who(struct request *req, const char *method, char *query, uid_t *ret)
{
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    if (!is_our_name(req->http->web, request_header(req, MHD_HTTP_HEADER_HOST)))
        return ty_error_set(
            &req->err, -EACCES,
            "this address serves http://127.0.0.1:%d only, and the request names another host",
            req->http->web->port);
    if (from_header(req, ret))
        return 0;
    if (reads && token_of_query(req->http, query, ret)) {
        req->token_in_query = true;
        return 0;
    }
    if (!from_cookie(req, ret))
        return ty_error_set(&req->err, -EACCES,
                            "this page needs a link: `trainyard link` prints one, and so does "
                            "run.get_portal_url()");
    if (!reads && !is_from_our_pages(req))
        return ty_error_set(&req->err, -EACCES,
                            "a change that comes from another site's page is refused");
    return 0;
}

/* ---- replies ---- */

int web_welcome(struct request *req, const char *path, const char *query)
{
    CLEANUP_FREE char *place =
        ty_strf("%s%s%s", path, query && *query ? "?" : "", query ? query : "");
    CLEANUP_FREE char *cookie = NULL;
    char token[TOKEN_MAX], name[32];
    struct ty_str none = { 0 };
    int r;

    make_token(req->http, (uid_t)req->who.uid, token);
    cookie_name(req->http->web, name);
    cookie =
        ty_strf("%s=%s; Path=/; HttpOnly; SameSite=Lax; Max-Age=%d", name, token, COOKIE_SECONDS);
    if (!place || !cookie)
        return ty_error_oom(&req->err);
    ty_str_add(&none, "\n");
    r = reply_text(&req->reply, "text/plain", &none);
    req->reply.status = 303;
    if (r == 0)
        r = reply_header(&req->reply, MHD_HTTP_HEADER_LOCATION, place);
    return r == 0 ? reply_header(&req->reply, MHD_HTTP_HEADER_SET_COOKIE, cookie) : r;
}

int web_headers(const struct request *req, struct reply *rep)
{
    const struct ty_route *route =
        req->match.route >= 0 && req->args ? &ty_routes[req->match.route] : NULL;
    bool page = route && route->out == TY_SCHEMA_HTML && rep->status == 200;
    int r = reply_header(rep, "X-Content-Type-Options", "nosniff");

    if (r == 0)
        r = reply_header(rep, "Referrer-Policy", "no-referrer");
    /* A file that a job wrote must not run as a page of ours. */
    if (r == 0)
        r = reply_header(rep, "Content-Security-Policy",
                         page ? PAGE_CSP : "default-src 'none'; sandbox");
    return r == 0 && page ? reply_header(rep, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") : r;
}

/* ---- the port ---- */

static int browsers(const struct ty_http *h)
{
    int n = 0;

    for (const struct peer *p = h->peers; p; p = p->next)
        n += p->web;
    return n;
}

static void on_incoming(uv_poll_t *poll, int status, int events)
{
    struct web *w = poll->data;

    (void)status, (void)events;
    for (int i = 0; i < ACCEPT_MAX; i++) {
        struct sockaddr_in a;
        socklen_t n = sizeof a;
        int fd = accept4(w->fd, (struct sockaddr *)&a, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
            break;
        if (browsers(w->http) >= BROWSERS_MAX) {
            close(fd);
            continue;
        }
        /* It closes the connection itself when it does not take it. */
        if (MHD_add_connection(w->http->mhd, fd, (struct sockaddr *)&a, n) != MHD_YES)
            break;
    }
    server_drive(w->http);
}

static int listen_on(int port, int *ret)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int yes = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 128) < 0)
        return -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

static int port_of(int fd)
{
    struct sockaddr_in a;
    socklen_t n = sizeof a;

    return getsockname(fd, (struct sockaddr *)&a, &n) < 0 ? 0 : ntohs(a.sin_port);
}

static int start(struct ty_http *h, int port, struct ty_error *err)
{
    struct web *w = calloc(1, sizeof *w);
    int r = w ? ty_store_derived_key(h->o.store, "http.links", w->key, err) : ty_error_oom(err);

    if (r == 0) {
        w->fd = -1;
        r = listen_on(port, &w->fd);
        if (r < 0)
            ty_error_set(err, r, "cannot listen on 127.0.0.1:%d for browsers: %s", port,
                         strerror(-r));
    }
    if (r < 0) {
        free(w);
        return r;
    }
    w->http = h;
    w->port = port_of(w->fd);
    uv_poll_init(h->o.loop, &w->poll, w->fd);
    w->poll.data = w;
    uv_poll_start(&w->poll, UV_READABLE, on_incoming);
    h->web = w;
    return 0;
}

static void keep_port(struct ty_http *h)
{
    char text[16];
    struct ty_unit *u = ty_unit_new();

    snprintf(text, sizeof text, "%d", h->web->port);
    ty_unit_setting(u, PORT_SETTING, text);
    ty_store_commit(h->o.store, u, NULL, NULL);
}

/* The port of the configuration, or the one that links were given with, or any. */
static int open_port(struct ty_http *h, int kept, struct ty_error *err)
{
    int64_t wanted = ty_conf_number(h->o.conf, "http.port");
    int r;

    if (wanted > UINT16_MAX)
        return ty_error_set(err, -EIO,
                            "cannot open a port for browsers: http.port is %lld in the daemon's "
                            "configuration, and a port is at most %d; 0 takes a free one",
                            (long long)wanted, UINT16_MAX);
    r = start(h, wanted ? (int)wanted : kept, err);
    if (r == -EADDRINUSE && !wanted && kept) {
        ty_log(TY_LOG_WARN,
               "port %d, for browsers, is taken by another program: old links lead there", kept);
        r = start(h, 0, err);
    }
    if (r == 0 && !wanted && h->web->port != kept)
        keep_port(h);
    return r;
}

static int kept_port(struct ty_http *h)
{
    CLEANUP_FREE char *text = NULL;
    int64_t port;

    return ty_store_setting(h->o.store, PORT_SETTING, &text) == 0 &&
                   ty_parse_i64(text, &port) == 0 && port > 0 && port < 65536
               ? (int)port
               : 0;
}

int web_open(struct ty_http *h, struct ty_error *err)
{
    int kept = kept_port(h);

    if (!ty_conf_bool(h->o.conf, "http.pages") ||
        (!kept && !ty_conf_number(h->o.conf, "http.port")))
        return 0;
    return open_port(h, kept, err);
}

static void on_closed(uv_handle_t *handle)
{
    ((struct web *)handle->data)->closed = true;
}

void web_stop(struct ty_http *h)
{
    if (!h->web || h->web->fd < 0)
        return;
    uv_close((uv_handle_t *)&h->web->poll, on_closed);
    close(h->web->fd);
    h->web->fd = -1;
}

struct web *web_free(struct web *w)
{
    if (w)
        sodium_memzero(w->key, sizeof w->key);
    free(w);
    return NULL;
}

/* ---- links ---- */

static int check_place(struct request *req)
{
    return req->peer->web
               ? ty_error_set(&req->err, -EACCES,
                              "links are given over the Unix socket only: use `trainyard link`")
               : 0;
}

static int link_path(struct request *req, struct ty_str *ret)
{
    const char *run = request_param(req, "run"), *experiment = request_param(req, "experiment");
    CLEANUP_FREE char *path = NULL;
    int64_t id;
    int r;

    if (!run) {
        ty_str_add(ret, "/");
        if (experiment) {
            ty_str_add(ret, "?experiment=");
            ty_str_add_url(ret, experiment, false);
        }
        return 0;
    }
    r = ty_store_run_id(req->http->o.store, run, &id);
    if (r == 0)
        r = auth_run(req, run, false);
    else
        r = run_missing(req, r, run);
    if (r < 0)
        return r;
    path = ty_route_path(TY_ROUTE_page_run, (const char *const[]){ run, NULL });
    if (!path)
        return ty_error_oom(&req->err);
    ty_str_add(ret, path);
    return 0;
}

int ty_http_link_get(struct request *req, struct reply *reply)
{
    struct ty_http *h = req->http;
    CLEANUP_STR struct ty_str path = { 0 };
    CLEANUP_FREE char *url = NULL;
    char token[TOKEN_MAX];
    int r = check_place(req);

    if (r == 0 && !ty_conf_bool(h->o.conf, "http.pages"))
        r = ty_error_set(&req->err, -EACCES,
                         "pages are switched off (http.pages in the daemon's configuration)");
    if (r == 0)
        r = link_path(req, &path);
    if (r == 0 && !h->web)
        r = open_port(h, 0, &req->err);
    if (r < 0)
        return r;
    make_token(h, (uid_t)req->who.uid, token);
    url = ty_strf("http://127.0.0.1:%d%s%ctoken=%s", h->web->port, path.text,
                  strchr(path.text, '?') ? '&' : '?', token);
    return url ? reply_json(reply, 200, json_pack("{s:s}", "url", url)) : ty_error_oom(&req->err);
}

static void on_revoked(void *ctx, int r)
{
    struct request *req = ctx;

    if (r == 0)
        r = reply_nothing(&req->reply);
    else
        ty_error_set(&req->err, r, "cannot store that the links are void: %s", strerror(-r));
    request_changed(req, r, NULL);
}

int ty_http_link_revoke(struct request *req, struct reply *reply)
{
    CLEANUP_FREE char *name = ty_strf(GENERATION_SETTING "%u", (unsigned)req->who.uid);
    struct ty_unit *u;
    char next[24];

    (void)reply;
    if (!name)
        return ty_error_oom(&req->err);
    snprintf(next, sizeof next, "%lld", (long long)generation(req->http, (uid_t)req->who.uid) + 1);
    u = ty_unit_new();
    ty_unit_setting(u, name, next);
    request_hold(req);
    ty_store_commit(req->http->o.store, u, on_revoked, req);
    return REQUEST_HELD;
}
