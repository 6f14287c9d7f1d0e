/* reply.c - replies and error codes */
#include "http/reply.h"
#include <errno.h>
#include <microhttpd.h>

/* clang-format off */
static const struct {
    int r;
    unsigned status;
} statuses[] = {
    { -EINVAL, 400 },  { -EBADMSG, 400 }, { -EXDEV, 400 },    { -ELOOP, 400 },     { -ENAMETOOLONG, 400 },
    { -EACCES, 403 },  { -EPERM, 403 },   { -ENOENT, 404 },   { -ENOTDIR, 404 },   { -ENOTSUP, 405 },
    { -EEXIST, 409 },  { -EBUSY, 409 },   { -EISDIR, 409 },   { -EPROTO, 409 },    { -EFBIG, 413 },
    { -E2BIG, 413 },   { -EPROTONOSUPPORT, 426 }, { -EUSERS, 429 }, { -ENOSPC, 507 }, { -EDQUOT, 507 },
    { -EROFS, 503 },   { -EAGAIN, 503 },  { -ESHUTDOWN, 503 }, { -ECANCELED, 503 },
};

static const struct {
    unsigned status;
    const char *code;
} codes[] = {
    { 400, "bad_request" }, { 403, "forbidden" }, { 404, "not_found" }, { 405, "method_not_allowed" },
    { 409, "conflict" },    { 413, "too_large" }, { 426, "wrong_version" }, { 429, "too_many" },
    { 500, "internal" },    { 503, "unavailable" }, { 507, "no_space" },
};
/* clang-format on */

unsigned reply_status(int r)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].r == r)
            return statuses[i].status;
    return 500;
}

const char *reply_code(unsigned status)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].status == status)
            return codes[i].code;
    return "internal";
}

void reply_done(struct reply *rep)
{
    if (rep->response)
        MHD_destroy_response(rep->response);
    *rep = (struct reply){ 0 };
}

int reply_header(struct reply *rep, const char *name, const char *value)
{
    return MHD_add_response_header(rep->response, name, value) == MHD_YES ? 0 : -ENOMEM;
}

/* Takes the response over. */
static int reply_set(struct reply *rep, unsigned status, struct MHD_Response *response,
                     const char *type)
{
    if (!response)
        return -ENOMEM;
    reply_done(rep);
    *rep = (struct reply){ .status = status, .response = response };
    if (type && reply_header(rep, MHD_HTTP_HEADER_CONTENT_TYPE, type) < 0) {
        reply_done(rep);
        return -ENOMEM;
    }
    return 0;
}

/* Takes the bytes over; NULL: out of memory. */
static int reply_bytes(struct reply *rep, unsigned status, const char *type, char *bytes, size_t n)
{
    struct MHD_Response *response =
        bytes ? MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE) : NULL;

    if (!response)
        free(bytes);
    return reply_set(rep, status, response, type);
}

int reply_json(struct reply *rep, unsigned status, json_t *j)
{
    char *text = j ? ty_json_text(j) : NULL;

    json_decref(j);
    return reply_bytes(rep, status, "application/json", text, text ? strlen(text) : 0);
}

int reply_text(struct reply *rep, const char *type, struct ty_str *text)
{
    size_t n = text->len;

    return reply_bytes(rep, 200, type, ty_str_take(text), n);
}

int reply_nothing(struct reply *rep)
{
    return reply_set(rep, 204,
                     MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT), NULL);
}

int reply_fd(struct reply *rep, int fd, uint64_t offset, uint64_t n, const char *type)
{
    struct MHD_Response *response;

    if (n == 0) {
        close(fd);
        return reply_set(
            rep, 200, MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT), type);
    }
    response = MHD_create_response_from_fd_at_offset64(n, fd, offset);
    if (!response)
        close(fd);
    return reply_set(rep, 200, response, type);
}

void reply_error_body(struct ty_str *s, unsigned status, const char *sentence, bool plain)
{
    if (plain) {
        ty_str_add(s, sentence);
        ty_str_add(s, "\n");
        return;
    }
    ty_str_addf(s, "{\"error\":{\"code\":\"%s\",\"message\":", reply_code(status));
    ty_str_add_json(s, sentence, strlen(sentence));
    ty_str_add(s, "}}");
}

int reply_error(struct reply *rep, int r, const char *sentence, bool plain)
{
    struct ty_str s = { 0 };
    unsigned status = reply_status(r);
    size_t n;

    reply_error_body(&s, status, sentence, plain);
    n = s.len;
    return reply_bytes(rep, status, plain ? "text/plain; charset=utf-8" : "application/json",
                       ty_str_take(&s), n);
}
