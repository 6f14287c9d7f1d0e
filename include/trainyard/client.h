/* client.h - the Trainyard client library
 *
 * Speaks HTTP/1.1 to the daemon over its Unix socket, starting a daemon when none answers.
 *
 * Every call returns 0 (or a count) or a negative errno, with a sentence in *err (may be NULL):
 * -ENOENT not found, -EINVAL refused by a rule, -EEXIST conflict, -EACCES another user, -EFBIG
 * and -EBUSY limits, -ENOSPC disk full, -ECONNREFUSED no daemon answers, -ETIMEDOUT it went
 * silent, -EPROTO another version, -EAGAIN it cannot write now, -ECONNRESET it went away in the
 * middle of a reply, -EIO the rest.
 *
 * A daemon that has ended is started again by the next request, unless no_start was given.
 * A client belongs to one thread at a time; open as many as you like.
 */
#ifndef TRAINYARD_CLIENT_H
#define TRAINYARD_CLIENT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <trainyard/error.h>
#ifdef __cplusplus
extern "C" {
#endif

#define TY_VERSION "0.1.0"
#define TY_API 1
#define TY_PUBLIC __attribute__((visibility("default")))
#define TY_CLIENT_SILENCE_MS 30000 /* of silence: the daemon is unreachable */

struct ty_client;

/* Options of ty_client_open; zero-initialise. */
struct ty_client_options {
    const char *home;   /* state folder; NULL: $TRAINYARD_HOME or the default */
    bool no_start;      /* do not start a daemon: -ECONNREFUSED when none answers */
    const char *daemon; /* path of trainyardd; NULL: beside this program or library, then PATH */
};
TY_PUBLIC int ty_client_open(const struct ty_client_options *o, struct ty_client **ret,
                             struct ty_error *err);
TY_PUBLIC struct ty_client *ty_client_free(struct ty_client *c);
TY_PUBLIC const char *ty_client_home(const struct ty_client *c); /* absolute, owned by c */
/* The process that serves the state folder: its pid, or -ECONNREFUSED.  Asks the kernel, not the
 * daemon: it works with one of another version. */
TY_PUBLIC int ty_client_daemon_pid(struct ty_client *c, struct ty_error *err);

/* A request. */
struct ty_call {
    const char *args[4]; /* for client/stubs.h: what fills the braces of the route's path, in order */
    const char *query;   /* "a=b&c=d", encoded; NULL: none */
    const void *body;    /* sent as it is; NULL: none */
    size_t body_len;
    int body_fd; /* > 0: the body is this file from its present place on, body_len bytes */
    const char *body_type; /* NULL: application/json */
    const char *last_event_id;
    /* Called with pieces of a successful reply's body as they come, instead of collecting it; a
     * non-zero return stops reading and becomes the call's result. */
    int (*on_data)(const char *bytes, size_t n, void *ctx);
    void *ctx;
    const volatile int *stop; /* when not NULL and *stop becomes non-zero: give up with -EINTR */
    int silence_ms; /* longest silence: 0 is TY_CLIENT_SILENCE_MS, -1 no bound; then -ETIMEDOUT */
    int64_t deadline_us; /* of the whole call, CLOCK_MONOTONIC; 0: none; then -ETIMEDOUT */
};
struct ty_reply {
    int status;
    char *body; /* NUL-terminated, at most TY_CLIENT_BODY_MAX bytes; NULL when on_data took it */
    size_t len;
};
#define TY_CLIENT_BODY_MAX (256u << 20)
TY_PUBLIC void ty_reply_done(struct ty_reply *r);

/* Any request of docs/spec/http-api.md: "GET", "/api/v1/status".  (Inside of Trainyard client/stubs.h has one
 * call per route.)  `path` is encoded and has no query.  *reply is written only on success (ty_reply_done). */
TY_PUBLIC int ty_client_request(struct ty_client *c, const char *method, const char *path,
                                const struct ty_call *call, struct ty_reply *reply,
                                struct ty_error *err);

/* Snapshot `dir` and store what the daemon lacks.  max_bytes and max_files 0: 300 MB, 100,000.
 * What was hashed once is remembered in $XDG_CACHE_HOME/trainyard. */
struct ty_upload_progress {
    uint64_t files, bytes;           /* in the snapshot */
    uint64_t sent_files, sent_bytes; /* of those the daemon lacked */
    uint64_t to_send_files, to_send_bytes;
};
TY_PUBLIC int ty_client_snapshot(struct ty_client *c, const char *dir, uint64_t max_bytes,
                                 uint64_t max_files,
                                 void (*progress)(const struct ty_upload_progress *p, void *ctx),
                                 void *ctx, char id[65], struct ty_error *err);
#ifdef __cplusplus
}
#endif
#endif
