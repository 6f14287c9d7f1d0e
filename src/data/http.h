/* http.h - HTTP to other servers, many transfers at once
 *
 * libcurl is opened when it is first needed (libcurl.so.4, else libcurl-gnutls.so.4): a machine that
 * moves no object data does without it.  Connections are kept and used again.  Certificates are verified
 * (CURL_CA_BUNDLE and SSL_CERT_FILE name another list of authorities), redirects are not followed,
 * HTTP_PROXY and its sisters are honoured, and no text that comes from here has a query, a password or
 * a header of a request in it.
 *
 * One thread uses a struct ty_http.  Connecting may take 10 s; a transfer that moves less than 1 byte/s
 * for 30 s is broken off as -ETIMEDOUT.
 */
#ifndef TY_HTTP_H
#define TY_HTTP_H
#include "base/str.h"
#include "data/md5.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct ty_error;
struct ty_http;

#define TY_HTTP_TEXT_MAX (64 << 20) /* of an answer that is kept in memory */

struct ty_http_header {
    char *name, *value; /* malloc'ed */
};
struct ty_http_headers {
    struct ty_http_header *at;
    size_t n;
};

/* One request and its answer.  Zero-initialise, fill in what is asked, hand it to ty_http_add() or
 * ty_http_do(), read the answer, then ty_http_req_done() (or _again()). */
struct ty_http_req {
    /* what is asked: owned by the request, as text and headers of the answer are */
    const char *method; /* a literal: "GET", "PUT", "POST", "HEAD", "DELETE" */
    char *url;          /* malloc'ed, complete and encoded */
    struct ty_http_headers headers;
    /* The body: `body_bytes` of memory (`body`, malloc'ed), or of the file body_fd from body_offset on (the
     * caller's, must stay open).  A file that ends before that breaks the transfer: result is -ENODATA. */
    char *body;
    int body_fd; /* counts only without `body` and with body_bytes > 0 */
    uint64_t body_offset, body_bytes;
    /* Where the body of a 2xx answer goes: with `to_file` to sink_fd (the caller's) from sink_offset on,
     * at most sink_max bytes (more: -EMSGSIZE); else to `text`.  Bodies of other answers always go to `text`. */
    bool to_file;
    int sink_fd;
    uint64_t sink_offset, sink_max;
    bool want_md5;         /* of the body of a 2xx answer, computed as it comes in */
    int64_t timeout_ms;    /* of the whole request; 0: none */
    void (*done)(struct ty_http_req *r);            /* may be NULL: told at the end, by ty_http_step() */
    void *ctx;                                      /* the caller's */

    /* the answer */
    int result;   /* 0: an answer came, whatever its status; or a negative errno: -ECONNREFUSED, -EHOSTUNREACH
                   * (no such host), -ETIMEDOUT, -ECONNRESET, -EKEYREJECTED (certificate), -ENODATA (the file
                   * shrank), -ENOSPC and others of writing, -EMSGSIZE, -ENOMEM, -EIO; -ECANCELED */
    char why[200]; /* with result < 0: a clause for people, "connection refused", without secrets */
    long status;
    struct ty_http_headers answer;
    struct ty_str text;
    uint64_t sent, got; /* bytes of bodies; they grow while it is under way */
    struct ty_md5 md5;  /* with want_md5; ty_md5_end() is the reader's */

    struct ty_http_running *running; /* private: NULL when it is not under way */
};

/* Add a header to what is asked.  0 or -ENOMEM; -EINVAL: a line break in it. */
int ty_http_header(struct ty_http_req *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The value of a header of what is asked, or NULL.  Names of headers have no case. */
const char *ty_http_asked(const struct ty_http_req *r, const char *name);
/* The value of a header of the answer, or NULL. */
const char *ty_http_answer(const struct ty_http_req *r, const char *name);
/* Milliseconds that the answer's Retry-After asks to wait, at most 2 minutes; -1: it does not say. */
int ty_http_retry_after_ms(const struct ty_http_req *r);
/* Free what the request owns and make it all zero again.  It must not be under way. */
void ty_http_req_done(struct ty_http_req *r);
#define CLEANUP_HTTP_REQ CLEANUP(ty_http_req_done)
/* Drop URL, headers, memory body and answer, and keep what the caller has set: for the next try, which is built anew. */
void ty_http_req_again(struct ty_http_req *r);

/* `parallel`: connections that are kept (1 to 256).  -ENOPKG: there is no libcurl; the text says which package has it. */
int ty_http_new(unsigned parallel, struct ty_http **ret, struct ty_error *err);
/* Requests under way are cancelled (done is not called). */
struct ty_http *ty_http_free(struct ty_http *h);
/* Start a request; it must stay where it is until `done`. */
int ty_http_add(struct ty_http *h, struct ty_http_req *r, struct ty_error *err);
/* Move bytes; waits up to timeout_ms for something to happen; calls `done` of what is complete.  Returns how many
 * requests are under way, or a negative errno. */
int ty_http_step(struct ty_http *h, int timeout_ms, struct ty_error *err);
/* From any thread: end the waiting of ty_http_step(). */
void ty_http_wake(struct ty_http *h);
/* Take a request that is under way out; done is not called, result is -ECANCELED. */
void ty_http_cancel(struct ty_http *h, struct ty_http_req *r);
/* Add it and step until it is complete (others go on meanwhile).  0 when there is an answer or a result in r. */
int ty_http_do(struct ty_http *h, struct ty_http_req *r, struct ty_error *err);
#endif
