/* fake.h - an HTTP server on a Unix socket that says what a test wrote down
 *
 * One thread serves any number of connections.  Every request is kept, head and body.
 */
#ifndef TY_TEST_FAKE_H
#define TY_TEST_FAKE_H
#include <stdbool.h>
#include <stddef.h>

#define FAKE_ANSWERS 32
#define FAKE_REQUESTS 256

struct fake_answer {
    const char *match; /* the beginning of the request line, "GET /api/v1/status" */
    const char *raw;   /* bytes of the answer (see fake_reply); "" for none */
    size_t raw_len;    /* 0: strlen(raw) */
    int times;         /* so often, then the next that matches; 0: always */
    bool close;        /* close after it */
    bool early;        /* answer when the head has come, without reading the body */
};
struct fake;

/* Listen in a new folder below /tmp, whose name is fake_home(). */
struct fake *fake_start(const struct fake_answer *answers); /* ends with match NULL; copied */
void fake_stop(struct fake *f);                             /* also removes the folder */
const char *fake_home(const struct fake *f);
int fake_count(struct fake *f);               /* requests so far */
const char *fake_head(struct fake *f, int i); /* of the i-th */
const char *fake_body(struct fake *f, int i, size_t *n);
int fake_connections(struct fake *f);
void fake_drop_all(struct fake *f); /* close every connection, and wait until that is done */
/* "HTTP/1.1 200 OK ... Content-Length ..., body"; malloc'ed, freed by fake_stop. */
const char *fake_reply(int status, const char *type, const char *body);
const char *fake_json(const char *body); /* 200 */
#endif
