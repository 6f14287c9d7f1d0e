/* dispatch.c - from a request line to a handler
 *
 * Everything that the head tells is checked before the body is read: who asks, the version of the
 * API, the route, the query, and how long the body may become.
 */
#include "base/conf.h"
#include "http/request.h"
#include <errno.h>
#include <microhttpd.h>
#include <string.h>
#include <trainyard/client.h>

typedef int (*handler_f)(struct request *req, struct reply *reply);

static const handler_f handlers[TY_ROUTE_COUNT] = {
#define X(m, p, r, h, i, o, s) [TY_ROUTE_##h] = ty_http_##h,
    TY_ROUTES(X)
#undef X
};

/* One for each route whose body is BYTES; a test checks that none is missing. */
static const struct sink *const sinks[TY_ROUTE_COUNT] = {
    [TY_ROUTE_file_put] = &file_put_sink,
    [TY_ROUTE_blob_put] = &blob_put_sink,
    [TY_ROUTE_data_put] = &data_put_sink,
};

static const char *limit_name(const struct request *req)
{
    return ty_routes[req->match.route].in == TY_SCHEMA_BYTES ? "limits.upload_bytes"
                                                             : "limits.request_bytes";
}

static int too_large(struct request *req)
{
    char most[16];

    return ty_error_set(
        &req->err, -EFBIG,
        "the body of the request is larger than %s (%s); raise the limit in the daemon's "
        "configuration, or send less",
        ty_show_bytes(req->body_max, most), limit_name(req));
}

static int check_version(struct request *req)
{
    const char *wanted = request_header(req, "Trainyard-Api");
    int64_t n;

    if (!wanted || (ty_parse_i64(wanted, &n) == 0 && n == TY_API))
        return 0;
    return ty_error_set(
        &req->err, -EPROTONOSUPPORT,
        "the request is for version '%.20s' of the API, and this daemon (%s) speaks "
        "version %d; `trainyard down` and `trainyard up` start one that fits",
        wanted, TY_VERSION, TY_API);
}

/* The methods that the path has, for the Allow header. */
static void allowed(const char *path, struct ty_str *ret)
{
    static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };

    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        CLEANUP_FREE char *copy = strdup(path);
        struct ty_route_match match;

        if (copy && ty_route_find(methods[i], copy, &match) == 0)
            ty_str_addf(ret, "%s%s%s", ret->len ? ", " : "", methods[i], i == 0 ? ", HEAD" : "");
    }
}

static int refuse_method(struct request *req, const char *method, const char *path)
{
    CLEANUP_STR struct ty_str allow = { 0 };
    int r;

    allowed(path, &allow);
    if (!allow.text || allow.failed)
        return ty_error_oom(&req->err);
    r = ty_error_set(&req->err, -ENOTSUP, "'%.100s' has no method %.20s; it has %s", path, method,
                     allow.text);
    reply_error(&req->reply, r, req->err.text, req->plain);
    if (req->reply.response)
        reply_header(&req->reply, MHD_HTTP_HEADER_ALLOW, allow.text);
    return r;
}

/* A part of the path does not decode to a name. */
static int refuse_name(struct request *req, const char *given)
{
    const char *slash = strcasestr(given, "%2f");

    while (slash && slash > given && slash[-1] != '/')
        slash--;
    CLEANUP_FREE char *name = slash ? strndup(slash, strcspn(slash, "/")) : NULL;
    if (name && ty_url_decode(name) == 0)
        return ty_error_set(&req->err, -EINVAL,
                            "'%.100s' cannot be a name: no name has a '/' (the path is '%.200s')",
                            name, given);
    return ty_error_set(&req->err, -EINVAL, "the path '%.200s' has a bad percent-escape", given);
}

static int find_route(struct request *req, const char *method, char *path)
{
    CLEANUP_FREE char *given = strdup(path);
    int r = ty_route_find(strcmp(method, "HEAD") == 0 ? "GET" : method, path, &req->match);

    if (!given)
        return ty_error_oom(&req->err);
    if (r == -ENOTSUP)
        return refuse_method(req, method, given);
    if (r == -EINVAL)
        return refuse_name(req, given);
    if (r < 0)
        return ty_error_set(
            &req->err, r, "there is nothing at '%.200s'; /openapi.json lists what there is", given);
    for (int i = 0; i < req->match.nargs; i++)
        if (!ty_utf8_valid(req->match.args[i], strlen(req->match.args[i])))
            return ty_error_set(&req->err, -EINVAL, "the path '%.200s' is not UTF-8", given);
    req->args = (const char **)req->match.args;
    return 0;
}

/* How long the body may become, and what is known of its length. */
static int check_length(struct request *req, int64_t length)
{
    const struct ty_route *route = &ty_routes[req->match.route];

    if (route->in == TY_SCHEMA_NONE)
        return length == 0 ? 0
                           : ty_error_set(&req->err, -EINVAL, "%s %s takes no body", route->method,
                                          route->path);
    req->body_max = (uint64_t)ty_conf_number(req->http->o.conf, limit_name(req));
    return length > 0 && (uint64_t)length > req->body_max ? too_large(req) : 0;
}

static bool wants_text(const struct request *req)
{
    const char *accept = request_header(req, MHD_HTTP_HEADER_ACCEPT);

    return accept && strcasestr(accept, "text/plain");
}

/* What is behind the handlers may be closed already. */
static int check_stopping(struct request *req)
{
    return req->http->stopping ? ty_error_set(&req->err, -ESHUTDOWN,
                                              "the daemon is stopping; ask again when it is back")
                               : 0;
}

/* A link that somebody follows: the browser gets its cookie, and an address that can be shown to others. */
static int welcome(struct request *req, const char *path, const char *query)
{
    return req->token_in_query && ty_routes[req->match.route].out == TY_SCHEMA_HTML
               ? web_welcome(req, path, query)
               : 0;
}

static int begin(struct request *req, const char *method, int64_t length)
{
    char *rest = req->uri, *path = strsep(&rest, "?");
    CLEANUP_FREE char *given = strdup(path);
    int r;

    r = given ? check_stopping(req) : ty_error_oom(&req->err);
    if (r == 0)
        r = auth_check(req, method, rest);
    if (r == 0)
        r = check_version(req);
    if (r == 0)
        r = find_route(req, method, path);
    if (r == 0)
        r = auth_may(req);
    if (r == 0)
        r = welcome(req, given, rest);
    if (r == 0 && rest && *rest)
        r = request_params(req, rest);
    if (r == 0)
        r = check_length(req, length);
    if (r == 0 && ty_routes[req->match.route].in == TY_SCHEMA_BYTES) {
        req->sink = sinks[req->match.route];
        r = req->sink->begin(req);
    }
    return r;
}

/* Bytes that will come; -1: not known. */
static int64_t body_length(const struct request *req)
{
    const char *text = request_header(req, MHD_HTTP_HEADER_CONTENT_LENGTH);
    int64_t n;

    if (request_header(req, MHD_HTTP_HEADER_TRANSFER_ENCODING))
        return -1;
    return text && ty_parse_i64(text, &n) == 0 ? n : 0;
}

void request_begin(struct request *req, const char *method)
{
    int64_t length = body_length(req);
    int r;

    req->plain = wants_text(req);
    r = begin(req, method, length);
    if (r < 0 && !req->reply.response)
        request_answer(req, r, NULL);
}

bool request_too_big_to_swallow(const struct request *req)
{
    int64_t length = body_length(req);

    return length > BODY_SWALLOW || req->received > BODY_SWALLOW;
}

int request_take(struct request *req, const void *bytes, size_t n)
{
    int r = 0;

    req->received += n;
    if (req->reply.response) /* refused already: what is short is read and forgotten */
        return req->received > BODY_SWALLOW ? -EFBIG : 0;
    if (req->received > req->body_max)
        r = too_large(req);
    else if (req->http->stopping)
        r = check_stopping(req);
    else if (req->sink)
        r = req->sink->write(req, bytes, n);
    else
        ty_str_addn(&req->body, bytes, n);
    if (r == 0 && req->body.failed)
        r = ty_error_oom(&req->err);
    if (r < 0) {
        request_answer(req, r, NULL);
        request_keep(req, NULL, NULL);
        ty_str_done(&req->body);
    }
    return r;
}

void request_call(struct request *req)
{
    int r;

    req->called = true;
    if (req->reply.response)
        return;
    r = check_stopping(req);
    if (r == 0)
        r = handlers[req->match.route](req, &req->reply);
    if (r < 0)
        request_answer(req, r, NULL);
}
