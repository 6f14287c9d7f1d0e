/* kit.h - a server on a Unix socket in this process, with a real store, blob store and hub, and a
 * double of sched
 *
 * Client and server share one loop: waiting for a reply runs the loop, with a bound.
 */
#ifndef TY_TEST_HTTP_KIT_H
#define TY_TEST_HTTP_KIT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/str.h"
#include "core/run_event.h"
#include "http/server.h"
#include "sched/sched.h"
#include <stdbool.h>
#include <uv.h>

#define WAIT_MS 20000

/* The double: keeps its answers until they are asked for when `hold` is set. */
struct ty_sched {
    struct ty_store *store;
    struct ty_follow_hub *hub;
    bool hold;
    bool paused;
    int recoveries; /* asked for */
    int refuse; /* a negative errno for the next change */
    const char *uses; /* the datastore that a run uses */
    struct {
        ty_sched_done done;
        void *ctx;
        char *run;
    } held[8];
    int nheld;
};
void fake_release(struct ty_sched *s);

struct kit {
    char dir[64];
    char *agent; /* the program that is asked of object stores; a test may write one there */
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t bound;
    bool late, stopped;
    int64_t log_at_us; /* when log bytes come; 0: now */
    const char *spec;  /* of the runs that kit_run makes; NULL: one process */
    struct ty_conf *conf;
    struct ty_store *store;
    struct ty_blobs *blobs;
    struct ty_follow_hub *hub;
    struct ty_sched sched;
    struct ty_http *http;
};
int kit_open(void **state);  /* cmocka's setup: *state is a struct kit */
int kit_close(void **state); /* fails when a handle, a follower or a connection is left */
void kit_stop(struct kit *k);
/* Run the loop until fn says true; fails the test after WAIT_MS. */
void kit_until(struct kit *k, bool (*fn)(void *ctx), void *ctx);

/* A run in the store: its number, and more of it. */
int64_t kit_run(struct kit *k, const char *name);
void kit_event(struct kit *k, const char *name, enum ty_run_event ev);
void kit_note(struct kit *k, const char *name, int count);
void kit_log(struct kit *k, const char *name, const char *log, uint64_t offset, const void *bytes,
             size_t n);
/* `count` rows of a metric, from number `first` of the writer on; the values are the numbers. */
void kit_rows(struct kit *k, const char *name, uint32_t writer, uint64_t first, uint32_t count,
              const char *metric);

/* One connection. */
struct client {
    struct kit *k;
    int fd;
    uv_poll_t poll;
    struct ty_str in;
    bool eof;
};
struct client *client_open(struct kit *k);
void client_send(struct client *c, const void *bytes, size_t n);
void client_sendf(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void client_until(struct client *c, const char *text); /* comes in, or the test fails */
void client_eof(struct client *c);
struct client *client_close(struct client *c);

struct answer {
    int status;
    char *head, *body; /* body: NUL-terminated, chunks put together */
    size_t len;
    json_t *json; /* when the body is JSON */
};
/* One exchange on a connection of its own.  headers: whole lines, or NULL. */
struct answer ask(struct kit *k, const char *method, const char *path, const char *headers,
                  const void *body, size_t n);
void answer_done(struct answer *a);
/* The same with the checks that most tests want: the status, and the error's sentence (or body)
 * holds `text`. */
void expect(struct kit *k, const char *method, const char *path, const char *body, int status,
            const char *text);
/* A JSON answer, checked against the schema (NULL: none). */
json_t *expect_json(struct kit *k, const char *method, const char *path, const char *body,
                    int status, const char *schema);
const char *header_of(const struct answer *a, const char *name, char *buf,
                      size_t size); /* NULL: none */
void check_schema(const char *schema, const json_t *j);
#endif
