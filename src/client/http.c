/* http.c - one HTTP/1.1 connection, the asking side
 *
 * ty_http_ask() sends head and body, then reads a head and a body.  A server may answer before it
 * has read the whole request (413, 507): while the body is sent, the socket is watched for
 * reading too, and an early answer ends the sending; the connection is closed after it, because
 * what is left of the body would be taken for a request.
 */
#include "client/http.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include <errno.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define STOP_LOOK_MS \
    200 /* a signal between the look at *stop and poll() is seen this late at most */
#define LINE_MAX_BYTES 8192

/* How the body of a reply ends. */
struct framing {
    bool chunked, until_end, keep;
    uint64_t length;
};

void ty_http_close(struct ty_http_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->at = c->end = 0;
}

bool ty_http_idle_ok(const struct ty_http_conn *c)
{
    char byte;
    ssize_t n;

    if (c->fd < 0 || c->at != c->end)
        return false;
    n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Milliseconds to wait in one poll, so that no limit is overslept; -ETIMEDOUT when one has passed. */
static int slice_ms(int64_t since, const struct ty_http_exchange *x)
{
    int64_t now = ty_mono_us(), left = INT64_MAX;

    if (x->silence_ms >= 0)
        left = since + (int64_t)x->silence_ms * 1000 - now;
    if (x->deadline_us && x->deadline_us - now < left)
        left = x->deadline_us - now;
    if (left <= 0)
        return -ETIMEDOUT;
    left = left == INT64_MAX ? 3600 * 1000 : left / 1000 + 1;
    if (x->stop && left > STOP_LOOK_MS)
        left = STOP_LOOK_MS;
    return left > 3600 * 1000 ? 3600 * 1000 : (int)left;
}

int ty_http_wait(int fd, short events, const struct ty_http_exchange *x)
{
    struct pollfd p = { .fd = fd, .events = events };
    int64_t since = ty_mono_us();

    for (;;) {
        int ms, n;

        if (x->stop && *x->stop)
            return -EINTR;
        ms = slice_ms(since, x);
        if (ms < 0)
            return ms;
        n = poll(&p, 1, ms);
        if (n > 0)
            return p.revents;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
    }
}

/* Send n bytes.  0, 1 when an answer came first (only looked for when `early`), or a negative
 * errno. */
static int send_bytes(struct ty_http_conn *c, const char *bytes, size_t n,
                      const struct ty_http_exchange *x, bool early)
{
    while (n > 0) {
        ssize_t done = FAULT("client.send", -1, send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT));
        int r;

        if (done >= 0) {
            bytes += done;
            n -= (size_t)done;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return errno == EPIPE ? -ECONNRESET : -errno;
        r = ty_http_wait(c->fd, POLLOUT | (early ? POLLIN : 0), x);
        if (r < 0)
            return r;
        if (early && (r & POLLIN))
            return 1;
    }
    return 0;
}

static int send_file(struct ty_http_conn *c, struct ty_http_exchange *x)
{
    size_t left = x->body_len;
    int r = 0;

    /* the input buffer is empty before a reply: it serves as the copy buffer */
    while (left > 0 && r == 0) {
        ssize_t n = read(x->body_fd, c->in, left < sizeof c->in ? left : sizeof c->in);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -ENODATA;
        left -= (size_t)n;
        r = send_bytes(c, c->in, (size_t)n, x, true);
    }
    return r;
}

/* 0 sent; 1 an answer came first or the other side closed while we sent (there may be an answer
 * to read). */
static int send_request(struct ty_http_conn *c, struct ty_http_exchange *x)
{
    int r = send_bytes(c, x->head, x->head_len, x, false);

    if (r == 0 && x->body_len && x->body_fd > 0)
        r = send_file(c, x);
    else if (r == 0 && x->body_len)
        r = send_bytes(c, x->body, x->body_len, x, true);
    return r == -ECONNRESET ? 1 : r;
}

/* Read more into the buffer: bytes, 0 at the end, or a negative errno. */
static ssize_t fill(struct ty_http_conn *c, const struct ty_http_exchange *x)
{
    if (c->at == c->end)
        c->at = c->end = 0;
    for (;;) {
        ssize_t n = FAULT("client.recv", -1,
                          recv(c->fd, c->in + c->end, sizeof c->in - c->end, MSG_DONTWAIT));
        int r;

        if (n >= 0) {
            c->end += (size_t)n;
            return n;
        }
        if (errno == EINTR)
            continue;
        if (errno == ECONNRESET)
            return 0;
        if (errno != EAGAIN)
            return -errno;
        r = ty_http_wait(c->fd, POLLIN, x);
        if (r < 0)
            return r;
    }
}

/* One line without its end into line[]; its length or a negative errno. */
static int read_line(struct ty_http_conn *c, const struct ty_http_exchange *x, char *line,
                     size_t size)
{
    size_t n = 0;

    for (;;) {
        const char *from = c->in + c->at, *nl;
        size_t have = c->end - c->at, part;
        ssize_t r;

        nl = memchr(from, '\n', have);
        part = nl ? (size_t)(nl - from) : have;
        if (n + part >= size)
            return -EBADMSG;
        memcpy(line + n, from, part);
        n += part;
        c->at += part + (nl ? 1 : 0);
        if (nl)
            break;
        r = fill(c, x);
        if (r <= 0)
            return r < 0 ? (int)r : -ECONNRESET;
    }
    if (n > 0 && line[n - 1] == '\r')
        n--;
    line[n] = '\0';
    return (int)n;
}

static int parse_number(const char *s, int base, uint64_t *ret)
{
    char *end;
    unsigned long long v;

    if (!*s || strchr("+- ", *s))
        return -EBADMSG;
    errno = 0;
    v = strtoull(s, &end, base);
    if (errno || end == s || (*end && *end != ';' && *end != ' '))
        return -EBADMSG;
    *ret = v;
    return 0;
}

static int take_header(char *line, struct ty_http_exchange *x, struct framing *f)
{
    char *value = strchr(line, ':');
    uint64_t n;

    if (!value || value == line)
        return -EBADMSG;
    *value++ = '\0';
    value += strspn(value, " \t");
    if (!strcasecmp(line, "Content-Length")) {
        f->until_end = false;
        return parse_number(value, 10, &f->length);
    }
    if (!strcasecmp(line, "Transfer-Encoding"))
        f->chunked = strcasecmp(value, "chunked") == 0;
    else if (!strcasecmp(line, "Connection"))
        f->keep = f->keep && strcasecmp(value, "close") != 0;
    else if (!strcasecmp(line, "Content-Type"))
        x->text = strncasecmp(value, "text/plain", 10) == 0;
    else if (!strcasecmp(line, "Trainyard-Version"))
        snprintf(x->version, sizeof x->version, "%s", value);
    else if (!strcasecmp(line, "Trainyard-Api") && parse_number(value, 10, &n) == 0 && n < 1000000)
        x->api = (int)n;
    return 0;
}

static int read_head(struct ty_http_conn *c, struct ty_http_exchange *x, struct framing *f)
{
    char line[LINE_MAX_BYTES];
    size_t total = 0;
    uint64_t status;
    int n = read_line(c, x, line, sizeof line);

    if (n < 0)
        return n;
    if (n < 12 || strncmp(line, "HTTP/1.", 7) || line[8] != ' ' ||
        parse_number(line + 9, 10, &status) < 0 || status < 100 || status > 999)
        return -EBADMSG;
    x->status = (int)status;
    *f = (struct framing){ .until_end = true, .keep = line[7] == '1' };
    while ((n = read_line(c, x, line, sizeof line)) > 0) {
        int r;

        total += (size_t)n;
        if (total > TY_HTTP_HEAD_MAX)
            return -EBADMSG;
        r = take_header(line, x, f);
        if (r < 0)
            return r;
    }
    return n;
}

static int deliver(struct ty_http_exchange *x, const char *bytes, size_t n)
{
    if (x->on_data && x->status >= 200 && x->status < 300) {
        int r = x->on_data(bytes, n, x->ctx);

        x->callers = r != 0;
        return r;
    }
    if (x->body_in.len + n > x->body_max)
        return -EFBIG;
    ty_str_addn(&x->body_in, bytes, n);
    return x->body_in.failed ? -ENOMEM : 0;
}

/* Deliver `left` bytes, or all there are until the end. */
static int read_bytes(struct ty_http_conn *c, struct ty_http_exchange *x, uint64_t left,
                      bool until_end)
{
    while (until_end || left > 0) {
        size_t n = c->end - c->at;
        int r;

        if (n == 0) {
            ssize_t got = fill(c, x);

            if (got < 0)
                return (int)got;
            if (got == 0)
                return until_end ? 0 : -ECONNRESET;
            continue;
        }
        if (!until_end && n > left)
            n = (size_t)left;
        r = deliver(x, c->in + c->at, n);
        if (r)
            return r;
        c->at += n;
        left -= until_end ? 0 : n;
    }
    return 0;
}

static int read_chunks(struct ty_http_conn *c, struct ty_http_exchange *x)
{
    char line[LINE_MAX_BYTES];
    uint64_t n;
    int r;

    for (;;) {
        r = read_line(c, x, line, sizeof line);
        if (r < 0)
            return r;
        if (parse_number(line, 16, &n) < 0)
            return -EBADMSG;
        if (n == 0)
            break;
        r = read_bytes(c, x, n, false);
        if (r)
            return r;
        r = read_line(c, x, line, sizeof line);
        if (r != 0)
            return r < 0 ? r : -EBADMSG;
    }
    while ((r = read_line(c, x, line, sizeof line)) > 0)
        ; /* trailers say nothing that we use */
    return r;
}

static int read_body(struct ty_http_conn *c, struct ty_http_exchange *x, const struct framing *f)
{
    if (x->status == 204 || x->status == 304)
        return 0;
    if (f->chunked)
        return read_chunks(c, x);
    return read_bytes(c, x, f->length, f->until_end);
}

static int read_reply(struct ty_http_conn *c, struct ty_http_exchange *x, struct framing *f)
{
    int r;

    do {
        r = read_head(c, x, f);
    } while (r == 0 && x->status < 200); /* 100 Continue and the like */
    return r ? r : read_body(c, x, f);
}

int ty_http_ask(struct ty_http_conn *c, struct ty_http_exchange *x)
{
    struct framing f = { 0 };
    int sent, r;

    x->status = 0;
    sent = send_request(c, x);
    if (sent < 0) {
        ty_http_close(c);
        return sent;
    }
    r = read_reply(c, x, &f);
    if (r || sent == 1 || !f.keep ||
        (!f.chunked && f.until_end && x->status != 204 && x->status != 304))
        ty_http_close(c);
    return r;
}
