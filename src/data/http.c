/* http.c - requests by libcurl's multi interface
 *
 * A struct ty_http_running is a libcurl handle with what one transfer needs; it is used again for the next
 * request, as the connections are.  What goes into a file is collected first, because libcurl hands it
 * over in pieces of 16 kB at most.
 */
#include "data/http.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "data/http_lib.h"
#include <errno.h>
#include <string.h>
#include <strings.h>

#define CONNECT_S 10
#define STALL_S 30
#define SMALL_BYTES (64 << 10)
#define BUFFER_BYTES (256 << 10)
#define ERROR_TEXT_MAX (64 << 10) /* of answers that are no 2xx: the rest is not kept */
#define PARALLEL_MAX 256

struct ty_http_running {
    struct ty_http *h;
    struct ty_http_req *r;
    CURL *easy;
    struct curl_slist
        *list; /* an array, linked as libcurl wants it; its texts are lines of `lines` */
    char **lines;
    size_t nlines;
    uint64_t body_at; /* of the body, what libcurl has taken */
    char *buffer;     /* BUFFER_BYTES, made when it is first needed */
    size_t buffered;
    int result;                          /* why a callback broke it off */
    char detail[CURL_ERROR_SIZE];        /* libcurl's own words */
    struct ty_http_running *next, *prev; /* of those under way, or `next` of the idle ones */
};

struct ty_http {
    const struct ty_curl *curl;
    CURLM *multi;
    struct ty_http_running *busy, *idle;
    unsigned nbusy;
    const char *authorities; /* file, or NULL: libcurl's own */
    long stall_s;
};

/* ---- headers ---- */

static void headers_done(struct ty_http_headers *h)
{
    for (size_t i = 0; i < h->n; i++) {
        free(h->at[i].name);
        free(h->at[i].value);
    }
    free(h->at);
    *h = (struct ty_http_headers){ 0 };
}

/* Takes over both texts. */
static int headers_add(struct ty_http_headers *h, char *name, char *value)
{
    struct ty_http_header *more =
        name && value ? reallocarray(h->at, h->n + 1, sizeof *more) : NULL;

    if (!more) {
        free(name);
        free(value);
        return -ENOMEM;
    }
    h->at = more;
    h->at[h->n++] = (struct ty_http_header){ name, value };
    return 0;
}

static const char *headers_find(const struct ty_http_headers *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++)
        if (strcasecmp(h->at[i].name, name) == 0)
            return h->at[i].value;
    return NULL;
}

int ty_http_header(struct ty_http_req *r, const char *name, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str value = { 0 };
    va_list ap;
    char *text;

    va_start(ap, fmt);
    ty_str_addv(&value, fmt, ap);
    va_end(ap);
    text = ty_str_take(&value);
    if (text && strpbrk(text, "\r\n")) {
        free(text);
        return -EINVAL;
    }
    return headers_add(&r->headers, strdup(name), text);
}

const char *ty_http_asked(const struct ty_http_req *r, const char *name)
{
    return headers_find(&r->headers, name);
}

const char *ty_http_answer(const struct ty_http_req *r, const char *name)
{
    return headers_find(&r->answer, name);
}

int ty_http_retry_after_ms(const struct ty_http_req *r)
{
    const char *text = ty_http_answer(r, "Retry-After");
    int64_t s;

    if (!text || ty_parse_i64(text, &s) < 0 || s < 0)
        return -1;
    return (int)(s < 120 ? s : 120) * 1000;
}

void ty_http_req_again(struct ty_http_req *r)
{
    free(r->url);
    free(r->body);
    headers_done(&r->headers);
    headers_done(&r->answer);
    ty_str_done(&r->text);
    r->method = NULL;
    r->url = r->body = NULL;
    r->result = 0;
    r->why[0] = '\0';
    r->status = 0;
    r->sent = r->got = 0;
}

void ty_http_req_done(struct ty_http_req *r)
{
    ty_http_req_again(r);
    *r = (struct ty_http_req){ 0 };
}

/* ---- what libcurl calls ---- */

static bool is_good(const struct ty_http_req *r)
{
    return r->status >= 200 && r->status < 300;
}

static size_t take_header(char *line, size_t size, size_t n, void *ctx)
{
    struct ty_http_running *t = ctx;
    struct ty_http_req *r = t->r;
    const char *colon = memchr(line, ':', n), *value;
    size_t len = n;

    (void)size;
    if (n > 9 && memcmp(line, "HTTP/", 5) == 0) { /* of 100 Continue, of a proxy, or the answer's */
        const char *blank = memchr(line, ' ', n);

        headers_done(&r->answer);
        ty_str_done(&r->text);
        r->status = 0;
        for (const char *p = blank ? blank + 1 : ""; p < line + n && *p >= '0' && *p <= '9'; p++)
            r->status = r->status * 10 + (*p - '0');
        return n;
    }
    while (len > 0 && strchr(" \t\r\n", line[len - 1]))
        len--;
    if (!colon || colon >= line + len)
        return n;
    for (value = colon + 1; value < line + len && (*value == ' ' || *value == '\t');)
        value++;
    if (headers_add(&r->answer, strndup(line, (size_t)(colon - line)),
                    strndup(value, (size_t)(line + len - value))) == 0)
        return n;
    t->result = -ENOMEM;
    return 0;
}

static int flush(struct ty_http_running *t)
{
    struct ty_http_req *r = t->r;
    off_t at = (off_t)(r->sink_offset + r->got - t->buffered);
    int w = t->buffered > 0 ? FAULT("http.pwrite", -errno,
                                    ty_pwrite_all(r->sink_fd, t->buffer, t->buffered, at))
                            : 0;

    t->buffered = 0;
    return w;
}

static int keep_in_file(struct ty_http_running *t, const char *bytes, size_t n)
{
    struct ty_http_req *r = t->r;
    int w = 0;

    if (n > r->sink_max - r->got)
        return -EMSGSIZE;
    if (!t->buffer && !(t->buffer = malloc(BUFFER_BYTES)))
        return -ENOMEM;
    if (n > BUFFER_BYTES - t->buffered)
        w = flush(t);
    if (w < 0)
        return w;
    memcpy(t->buffer + t->buffered, bytes, n);
    t->buffered += n;
    r->got += n;
    return 0;
}

static int keep_in_memory(struct ty_http_running *t, const char *bytes, size_t n)
{
    struct ty_http_req *r = t->r;

    if (!is_good(r) && r->text.len + n > ERROR_TEXT_MAX)
        n = r->text.len < ERROR_TEXT_MAX ? ERROR_TEXT_MAX - r->text.len : 0;
    if (r->text.len + n > TY_HTTP_TEXT_MAX)
        return -EMSGSIZE;
    ty_str_addn(&r->text, bytes, n);
    if (is_good(r))
        r->got += n;
    return r->text.failed ? -ENOMEM : 0;
}

static size_t take_body(char *bytes, size_t size, size_t n, void *ctx)
{
    struct ty_http_running *t = ctx;
    struct ty_http_req *r = t->r;

    (void)size;
    t->result = is_good(r) && r->to_file ? keep_in_file(t, bytes, n) : keep_in_memory(t, bytes, n);
    if (t->result < 0)
        return 0;
    if (is_good(r) && r->want_md5)
        ty_md5_add(&r->md5, bytes, n);
    return n;
}

static size_t give_body(char *bytes, size_t size, size_t n, void *ctx)
{
    struct ty_http_running *t = ctx;
    struct ty_http_req *r = t->r;
    uint64_t left = r->body_bytes - t->body_at;
    ssize_t got;

    n *= size;
    if (n > left)
        n = (size_t)left;
    if (n == 0)
        return 0;
    if (r->body) {
        memcpy(bytes, r->body + t->body_at, n);
        got = (ssize_t)n;
    } else {
        do
            got = FAULT("http.pread", -1,
                        pread(r->body_fd, bytes, n, (off_t)(r->body_offset + t->body_at)));
        while (got < 0 && errno == EINTR);
        if (got <= 0) {
            t->result = got == 0 ? -ENODATA : -errno;
            return CURL_READFUNC_ABORT;
        }
    }
    t->body_at += (uint64_t)got;
    r->sent += (uint64_t)got;
    return (size_t)got;
}

/* A kept connection turned out to be dead: libcurl sends the body again on a new one. */
static int seek_body(void *ctx, curl_off_t offset, int origin)
{
    struct ty_http_running *t = ctx;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->r->body_bytes)
        return CURL_SEEKFUNC_CANTSEEK;
    t->r->sent -= t->body_at - (uint64_t)offset;
    t->body_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- one transfer ---- */

static void forget_lines(struct ty_http_running *t)
{
    for (size_t i = 0; i < t->nlines; i++)
        free(t->lines[i]);
    free(t->lines);
    free(t->list);
    t->lines = NULL;
    t->list = NULL;
    t->nlines = 0;
}

static struct ty_http_running *running_free(struct ty_http_running *t)
{
    if (t) {
        if (t->easy)
            t->h->curl->easy_cleanup(t->easy);
        forget_lines(t);
        free(t->buffer);
        free(t);
    }
    return NULL;
}

static struct ty_http_running *running_take(struct ty_http *h)
{
    struct ty_http_running *t = h->idle;

    if (t) {
        h->idle = t->next;
    } else {
        t = calloc(1, sizeof *t);
        if (!t)
            return NULL;
        t->h = h;
        t->easy = h->curl->easy_init();
        if (!t->easy)
            return running_free(t);
    }
    t->next = t->prev = NULL;
    t->body_at = 0;
    t->buffered = 0;
    t->result = 0;
    t->detail[0] = '\0';
    return t;
}

/* Expect: 100-continue would cost a round trip for each file; "Name;" is how libcurl sends an empty value. */
static int make_lines(struct ty_http_running *t)
{
    const struct ty_http_headers *h = &t->r->headers;
    size_t n = h->n + 1;

    t->lines = calloc(n, sizeof *t->lines);
    t->list = calloc(n, sizeof *t->list);
    if (!t->lines || !t->list)
        return -ENOMEM;
    t->nlines = n;
    for (size_t i = 0; i < n; i++) {
        if (i == h->n)
            t->lines[i] = strdup("Expect:");
        else if (*h->at[i].value)
            t->lines[i] = ty_strf("%s: %s", h->at[i].name, h->at[i].value);
        else
            t->lines[i] = ty_strf("%s;", h->at[i].name);
        if (!t->lines[i])
            return -ENOMEM;
        t->list[i] =
            (struct curl_slist){ .data = t->lines[i], .next = i + 1 < n ? &t->list[i + 1] : NULL };
    }
    return 0;
}

#define SET(option, value) \
    do { \
        if (h->curl->easy_setopt(t->easy, option, value) != CURLE_OK) \
            return -EINVAL; \
    } while (0)

/* What is the same for every request. */
static int set_common(struct ty_http *h, struct ty_http_running *t)
{
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_ERRORBUFFER, t->detail);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PATH_AS_IS, 1L);
    /* Before 7.85 it is unknown; URLs are ours, and begin with http anyway. */
    h->curl->easy_setopt(t->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_USERAGENT, "trainyard/" TY_VERSION);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, h->stall_s);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_HEADERFUNCTION, take_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, take_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_READFUNCTION, give_body);
    SET(CURLOPT_READDATA, t);
    SET(CURLOPT_SEEKFUNCTION, seek_body);
    SET(CURLOPT_SEEKDATA, t);
    if (h->authorities)
        SET(CURLOPT_CAINFO, h->authorities);
    return 0;
}

static int set_request(struct ty_http *h, struct ty_http_running *t)
{
    struct ty_http_req *r = t->r;
    bool sends = strcmp(r->method, "PUT") == 0 || strcmp(r->method, "POST") == 0;

    SET(CURLOPT_URL, r->url);
    SET(CURLOPT_HTTPHEADER, t->list);
    SET(CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    if (!r->to_file || r->sink_max > SMALL_BYTES)
        SET(CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    if (strcmp(r->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (sends) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_bytes);
        if (r->body_bytes > SMALL_BYTES)
            SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER_BYTES);
        if (strcmp(r->method, "PUT") != 0)
            SET(CURLOPT_CUSTOMREQUEST, r->method);
    } else if (strcmp(r->method, "GET") != 0) {
        SET(CURLOPT_CUSTOMREQUEST, r->method);
    }
    return 0;
}

/* A handle whose transfer did not come to its end is not used again: it may keep a buffer, and refuse another size. */
static void give_back(struct ty_http *h, struct ty_http_running *t, bool good)
{
    if (t->prev)
        t->prev->next = t->next;
    else if (h->busy == t)
        h->busy = t->next;
    if (t->next)
        t->next->prev = t->prev;
    if (!good) {
        running_free(t);
        return;
    }
    h->curl->easy_reset(t->easy);
    forget_lines(t);
    t->r = NULL;
    t->prev = NULL;
    t->next = h->idle;
    h->idle = t;
}

int ty_http_add(struct ty_http *h, struct ty_http_req *r, struct ty_error *err)
{
    struct ty_http_running *t = running_take(h);
    int w;

    if (!t)
        return ty_error_oom(err);
    t->r = r;
    w = make_lines(t);
    if (w == 0)
        w = set_common(h, t);
    if (w == 0)
        w = set_request(h, t);
    if (w == 0 && h->curl->multi_add(h->multi, t->easy) != CURLM_OK)
        w = -EINVAL;
    if (w < 0) {
        give_back(h, t, false);
        return ty_error_set(err, w, "cannot start a %s request: %s", r->method,
                            w == -ENOMEM ? "out of memory" : "libcurl refuses it");
    }
    t->next = h->busy;
    if (h->busy)
        h->busy->prev = t;
    h->busy = t;
    h->nbusy++;
    r->running = t;
    if (r->want_md5)
        ty_md5_begin(&r->md5);
    return 0;
}

/* ---- how it ended ---- */

/* "host:9000" of the URL, without user and password, into buf. */
static const char *host_of(const char *url, char *buf, size_t size)
{
    const char *at = strstr(url, "://"), *user;
    size_t n, len;

    at = at ? at + 3 : url;
    n = strcspn(at, "/?#");
    user = memrchr(at, '@', n);
    if (user) {
        n -= (size_t)(user + 1 - at);
        at = user + 1;
    }
    len = n < size - 1 ? n : size - 1;
    memcpy(buf, at, len);
    buf[len] = '\0';
    return buf;
}

static const struct {
    CURLcode code;
    int result;
    const char *why; /* %s: the host */
} endings[] = {
    { CURLE_COULDNT_RESOLVE_HOST, -EHOSTUNREACH, "there is no host '%s'" },
    { CURLE_COULDNT_RESOLVE_PROXY, -EHOSTUNREACH,
      "there is no such host as the proxy for '%s' (HTTP_PROXY, HTTPS_PROXY)" },
    { CURLE_COULDNT_CONNECT, -ECONNREFUSED, "'%s' cannot be connected to" },
    { CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT, "'%s' does not answer" },
    { CURLE_SEND_ERROR, -ECONNRESET, "the connection to '%s' broke" },
    { CURLE_RECV_ERROR, -ECONNRESET, "the connection to '%s' broke" },
    { CURLE_GOT_NOTHING, -ECONNRESET, "'%s' closed the connection without an answer" },
    { CURLE_PARTIAL_FILE, -ECONNRESET, "the connection to '%s' ended in the middle" },
    { CURLE_WEIRD_SERVER_REPLY, -EPROTO, "'%s' does not speak HTTP" },
    { CURLE_UNSUPPORTED_PROTOCOL, -EINVAL, "'%s' is not reached by http or https" },
    { CURLE_URL_MALFORMAT, -EINVAL, "'%s' is no address" },
    { CURLE_SSL_CONNECT_ERROR, -EPROTO, "'%s' does not speak TLS as it should" },
    { CURLE_PEER_FAILED_VERIFICATION, -EKEYREJECTED,
      "the certificate of '%s' is not one that this machine trusts (CURL_CA_BUNDLE names another "
      "list of authorities)" },
    { CURLE_SSL_CACERT_BADFILE, -EKEYREJECTED,
      "the list of authorities for '%s' cannot be read (CURL_CA_BUNDLE, SSL_CERT_FILE)" },
    { CURLE_OUT_OF_MEMORY, -ENOMEM, "out of memory for '%s'" },
};

static void say_ending(struct ty_http_running *t, CURLcode code)
{
    struct ty_http_req *r = t->r;
    char host[100], why[160];
    const char *fmt = "the transfer from or to '%s' failed";

    host_of(r->url, host, sizeof host);
    r->result = -EIO;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (endings[i].code == code) {
            r->result = endings[i].result;
            fmt = endings[i].why;
        }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(why, sizeof why, fmt, host);
#pragma GCC diagnostic pop
    /* libcurl's words name no more than the host, but say which of its time-outs it was. */
    snprintf(r->why, sizeof r->why, t->detail[0] && !strstr(t->detail, "://") ? "%s (%.90s)" : "%s",
             why, t->detail);
}

static void say_own(struct ty_http_running *t)
{
    struct ty_http_req *r = t->r;

    r->result = t->result;
    if (t->result == -ENODATA)
        snprintf(r->why, sizeof r->why, "the file became shorter while it was sent");
    else if (t->result == -EMSGSIZE)
        snprintf(r->why, sizeof r->why, "more came than was asked for");
    else
        snprintf(r->why, sizeof r->why, "%s", strerror(-t->result));
}

static void finish(struct ty_http *h, struct ty_http_running *t, CURLcode code)
{
    struct ty_http_req *r = t->r;

    if (t->result == 0 && t->buffered > 0)
        t->result = flush(t);
    r->result = 0;
    if (t->result < 0)
        say_own(t);
    else if (code != CURLE_OK && (is_good(r) || r->status < 300))
        say_ending(t, code);
    /* An error answer counts also when the connection broke while the body was still being sent. */
    h->curl->multi_remove(h->multi, t->easy);
    h->nbusy--;
    give_back(h, t, code == CURLE_OK);
    r->running = NULL;
}

/* ---- all of them ---- */

static int finish_complete(struct ty_http *h)
{
    CURLMsg *m;
    int left, n = 0;

    while ((m = h->curl->multi_info_read(h->multi, &left))) {
        struct ty_http_running *t = NULL;
        struct ty_http_req *r;
        CURLcode code = m->data.result;

        if (m->msg != CURLMSG_DONE)
            continue;
        h->curl->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
        r = t->r;
        finish(h, t, code);
        n++;
        if (r->done)
            r->done(r);
    }
    return n;
}

static int perform(struct ty_http *h, struct ty_error *err)
{
    int running;
    CURLMcode m = h->curl->multi_perform(h->multi, &running);

    if (m != CURLM_OK)
        return ty_error_set(err, -EIO, "libcurl: %s", h->curl->multi_strerror(m));
    return finish_complete(h);
}

int ty_http_step(struct ty_http *h, int timeout_ms, struct ty_error *err)
{
    int r = perform(h, err);

    if (r == 0 && timeout_ms > 0) {
        CURLMcode m = h->curl->multi_poll(h->multi, NULL, 0, timeout_ms, NULL);

        if (m != CURLM_OK)
            return ty_error_set(err, -EIO, "libcurl: %s", h->curl->multi_strerror(m));
        r = perform(h, err);
    }
    return r < 0 ? r : (int)h->nbusy;
}

void ty_http_wake(struct ty_http *h)
{
    h->curl->multi_wakeup(h->multi);
}

void ty_http_cancel(struct ty_http *h, struct ty_http_req *r)
{
    struct ty_http_running *t = r->running;

    if (!t)
        return;
    h->curl->multi_remove(h->multi, t->easy);
    h->nbusy--;
    give_back(h, t, false);
    r->running = NULL;
    r->result = -ECANCELED;
    snprintf(r->why, sizeof r->why, "it was cancelled");
}

int ty_http_do(struct ty_http *h, struct ty_http_req *r, struct ty_error *err)
{
    int w = ty_http_add(h, r, err);

    while (w >= 0 && r->running)
        w = ty_http_step(h, 1000, err);
    if (w < 0)
        ty_http_cancel(h, r);
    return w < 0 ? w : 0;
}

static const char *authorities(void)
{
    const char *file = getenv("CURL_CA_BUNDLE");

    if (!file || !*file)
        file = getenv("SSL_CERT_FILE");
    return file && *file ? file : NULL;
}

int ty_http_new(unsigned parallel, struct ty_http **ret, struct ty_error *err)
{
    const char *stall = getenv("TRAINYARD_TEST_STALL_S");
    struct ty_http *h;
    int64_t s;
    const struct ty_curl *curl;
    int r = ty_curl_open(&curl, err);

    if (r < 0)
        return r;
    h = calloc(1, sizeof *h);
    if (!h)
        return ty_error_oom(err);
    h->curl = curl;
    h->authorities = authorities();
    h->stall_s = stall && ty_parse_i64(stall, &s) == 0 && s > 0 && s < 3600 ? (long)s : STALL_S;
    h->multi = curl->multi_init();
    if (!h->multi) {
        free(h);
        return ty_error_oom(err);
    }
    if (parallel < 1 || parallel > PARALLEL_MAX)
        parallel = parallel < 1 ? 1 : PARALLEL_MAX;
    curl->multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)parallel);
    *ret = h;
    return 0;
}

struct ty_http *ty_http_free(struct ty_http *h)
{
    if (!h)
        return NULL;
    while (h->busy)
        ty_http_cancel(h, h->busy->r);
    for (struct ty_http_running *t = h->idle, *next; t; t = next) {
        next = t->next;
        running_free(t);
    }
    h->curl->multi_cleanup(h->multi);
    free(h);
    return NULL;
}
