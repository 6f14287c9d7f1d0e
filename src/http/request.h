/* request.h - one request, from its first line to its reply
 *
 *   server.c     the socket, the loop, when what is called
 *   dispatch.c   which route, who may, which limits; then the route's handler
 *   request.c    the life of a request: its body, its holds, work on the pool
 *   params.c     the query: one table of what each route knows
 *   reply.c      replies and error codes
 *   the others   handlers, by subject
 *
 * A handler returns 0 when req->reply is made, a negative errno with a sentence in req->err, or
 * REQUEST_HELD: then request_answer() comes later and the connection is suspended meanwhile.  A
 * request lives until its connection is done with it and every hold is released: who waits for a
 * callback keeps a hold, so a client that goes away harms nobody.
 */
#ifndef TY_HTTP_REQUEST_H
#define TY_HTTP_REQUEST_H
#include "base/error.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "core/routes.h"
#include "http/reply.h"
#include "http/server.h"
#include "sched/sched.h"
#include "store/store.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define REQUEST_HELD 1
#define PARAMS_MAX 16       /* in one query */
#define BODY_SWALLOW 65536u /* of a refused request: beyond it the connection is closed instead */

struct MHD_Connection;
struct request;
struct stream;

/* clang-format off */
/* A client's connection. */
struct peer {
    int fd;
    uid_t uid;
    bool known; /* the kernel said who it is */
    bool web;   /* came in over TCP: a token says who it is */
    struct peer *next, **slot;
};

struct ty_http {
    struct ty_http_options o;
    struct MHD_Daemon *mhd;
    uv_poll_t poll;     /* of the server's epoll descriptor */
    uv_timer_t due;     /* its next time-out */
    uv_timer_t beat;    /* comment lines for quiet followers */
    uv_timer_t grace;   /* after ty_http_stop */
    struct peer *peers;
    struct stream *streams;
    struct request *requests;
    char *openapi;
    size_t openapi_len;
    char user[64];      /* name of the uid that is served */
    struct account *accounts; /* who has asked so far */
    struct web *web;    /* NULL: no port is open to browsers */
    struct helper *helpers; /* at work */
    bool resumed;       /* a connection was, and the server was not driven since */
    bool stop_wanted;   /* POST /shutdown is answered */
    bool stopping;
    bool closed;        /* the handles are */
};

/* A user of the machine, as far as the daemon has met them. */
struct account {
    uid_t uid;
    char name[64];
    struct ty_owner *owner; /* NULL: in user mode, or not looked up */
    struct account *next;
};

/* Where the body of a BYTES route goes while it comes in. */
struct sink {
    int (*begin)(struct request *req);
    int (*write)(struct request *req, const void *bytes, size_t n);
};

struct request {
    struct ty_http *http;
    struct MHD_Connection *conn; /* NULL: the connection is done with it */
    struct peer *peer;
    struct ty_user who;
    char *uri;                   /* path and query are cut out of it */
    struct ty_route_match match;
    const char **args;           /* values of the braces */
    struct { const char *name, *value; } params[PARAMS_MAX];
    int nparams;
    bool plain;                  /* errors as text */
    bool token_in_query;         /* a link: answered by web_welcome */
    struct ty_str body;
    uint64_t received, body_max;
    const struct sink *sink;
    void *data;                  /* the handler's; freed with data_free */
    void (*data_free)(void *data);
    uint64_t bytes;              /* for the handler */
    char sha[65];                /* for the handler */
    struct ty_error err;
    struct reply reply;
    struct request *next, **slot; /* of http->requests, while there is a connection */
    int refs;
    bool begun, called, suspended, stop_after;

    uv_work_t work;
    int (*on_pool)(struct request *req);
    int (*after)(struct request *req);
    int pool_r;
};

/* clang-format on */

/* Life cycle: a new one is held once, by its connection. */
struct request *request_new(struct ty_http *h, const char *uri);
void request_disconnect(struct request *req); /* the connection is done with it */
/* Let every suspended connection go on, answered or not: nobody will answer any more. */
void requests_abandon(struct ty_http *h);
void request_hold(struct request *req);
void request_release(struct request *req);

/* The reply of a held request: r 0 when req->reply is made, else an error with err's sentence
 * (or req->err's). Releases nothing. */
void request_answer(struct request *req, int r, const struct ty_error *err);
/* The end of a change: answer, and release the hold.  A store that refuses is no fault of the
 * request (503). */
void request_changed(struct request *req, int r, const struct ty_error *err);
/* A change was begun with r (a hold was taken for it): REQUEST_HELD, or the error. */
int request_held(struct request *req, int r);
/* Run on_pool on the thread pool, then after (NULL: none; req->reply is made) on the loop; both
 * return as handlers do. While it runs, on_pool alone may touch the request.  Once the daemon
 * stops, `after` is not called any more. REQUEST_HELD or a negative errno. */
int request_work(struct request *req, int (*on_pool)(struct request *req),
                 int (*after)(struct request *req));
/* Hand data over to the request. */
void request_keep(struct request *req, void *data, void (*data_free)(void *data));
const char *request_header(const struct request *req, const char *name); /* NULL: none */
int request_json(struct request *req, const char *what, json_t **ret);   /* the body */

/* params.c.  The query, checked against the route's table. */
int request_params(struct request *req, char *query);
const char *request_param(const struct request *req, const char *name); /* NULL: not given */
int64_t request_count(const struct request *req, const char *name,
                      int64_t fallback); /* checked to be in range */
int64_t request_time(const struct request *req, const char *name,
                     int64_t fallback); /* checked to be a time */
bool request_switch(const struct request *req, const char *name);
struct param_rule {
    enum ty_route_id route;
    const char *name;
    enum { PARAM_TEXT, PARAM_COUNT, PARAM_SWITCH, PARAM_TIME } kind;
    int64_t min, max; /* of a count */
    const char *help;
};
const struct param_rule *param_rule(int n); /* the n-th; NULL after the last */

/* server.c */
void server_drive(struct ty_http *h); /* let the server do what can be done now */
void server_resume(struct ty_http *h, struct MHD_Connection *conn);

/* dispatch.c */
void request_begin(
    struct request *req,
    const char *method); /* the head is there: everything that can be refused now is */
int request_take(struct request *req, const void *bytes,
                 size_t n);             /* a piece of the body; negative: close the connection */
void request_call(struct request *req); /* the request is there whole */
bool request_too_big_to_swallow(const struct request *req);
#define X(m, p, r, h, i, o, s) int ty_http_##h(struct request *req, struct reply *reply);
TY_ROUTES(X)
#undef X

/* runs.c */
int run_missing(struct request *req, int r, const char *run); /* the error of a read: returns r */

/* target_default.c */
/* Put into a target's specification that names no kind what the configuration says of such ones (target.template,
 * target.slurm_partition); what it says itself stays.  -EIO for a template that cannot be used, -ENOMEM. */
int target_fill(const struct ty_conf *conf, json_t *spec, struct ty_error *err);

/* follow.c: the log that a name stands for, as it is or put into buf */
const char *log_name(const char *asked, char buf[TY_DRIVER_LOG_MAX]);
void streams_beat(struct ty_http *h);
void streams_stop(struct ty_http *h);

/* datastores.c */
int datastore_missing(struct request *req, int r); /* the error of a read: returns r */

/* files.c, blobs.c, datastores.c */
extern const struct sink file_put_sink, blob_put_sink, data_put_sink;
/* What is there of a file with `bytes` bytes, from the wanted offset behind `from` on; takes fd over. */
int reply_file(struct request *req, struct reply *reply, int fd, uint64_t from, uint64_t bytes,
               const char *type);
int blob_sink_begin(struct request *req);
int blob_sink_write(struct request *req, const void *bytes, size_t n);
/* Finish the blob that is being put, on the pool: req->sha; make it last when `sync`. */
int blob_sink_finish(struct request *req, const char *expect, bool sync);

/* helper.c.  Ask the data helper (docs/spec/data-helper.md); `after` is called on the loop when it has ended: r 0, or a negative errno and
 * its sentence in req->err.  It returns as a handler does, and is not called any more once the daemon stops.  REQUEST_HELD or
 * a negative errno. */
int request_helper(struct request *req, const json_t *asked, int (*after)(struct request *req, int r));
void helpers_stop(struct ty_http *h);

/* openapi.c: the document, malloc'ed. */
int openapi_make(char **ret, size_t *n, struct ty_error *err);

/* runs.c: under a daemon of the whole machine a list shows what its reader may read; 0 or -EACCES */
int runs_only_own(struct request *req, struct ty_run_filter *f);

/* web.c.  The port on 127.0.0.1 for browsers, which is opened when the first link is asked for. */
int web_open(struct ty_http *h, struct ty_error *err); /* at the start: when there is one already */
void web_stop(struct ty_http *h);                      /* no new connections */
struct web *web_free(struct web *w);
/* Who asks, over TCP: the token in the Authorization header, the cookie or (for a page) the query, which is taken out of `query`
 * (may be NULL).  0, or -EACCES. */
int web_who(struct request *req, const char *method, char *query, uid_t *ret);
/* A reply that sends the browser to the page without the token, and leaves it the cookie. */
int web_welcome(struct request *req, const char *path, const char *query);
/* Headers without which no reply goes to a browser. */
int web_headers(const struct request *req, struct reply *rep);

/* auth.c */
int auth_peer(int fd,
              uid_t *ret); /* who is at the other end of a Unix socket; 0 or a negative errno */
int auth_check(struct request *req, const char *method, char *query /* NULL: none */); /* req->who */
/* May they do what the route does, to the run that it names?  In user mode whoever may ask, may. */
int auth_may(struct request *req);
bool auth_is_admin(const struct request *req); /* root, or the user whose daemon it is */
/* For changes that are an administrator's: 0 or -EACCES, "only an administrator (root) can <what>". */
int auth_need_admin(struct request *req, const char *what);
/* May they read (or change) this run?  -ENOENT is no refusal: the handler says that better. */
int auth_run(struct request *req, const char *run, bool change);
/* In system mode: as whom the files of a datastore are touched; *ret NULL in user mode. */
int auth_owner(struct request *req, const struct ty_owner **ret);
void auth_user_name(uid_t uid, char *ret, size_t n);
void auth_done(struct ty_http *h);
#endif
