/* flow.h - bytes that come and go over two descriptors which do not block: pipes of ssh, or a socket twice */
#ifndef TY_FLOW_H
#define TY_FLOW_H
#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ty_flow {
    int in, out;          /* -1: none */
    struct ty_str unsent; /* unsent.text[unsent_at..] is still to be written */
    size_t unsent_at;
    char *got;            /* got[at..len) was read and not used yet */
    size_t at, len, cap;
    bool ended;           /* nothing more comes */
};
#define TY_FLOW_INIT { .in = -1, .out = -1 }

/* The descriptors become the flow's.  `in` and `out` may be the same. */
void ty_flow_open(struct ty_flow *f, int in, int out);
void ty_flow_close(struct ty_flow *f); /* and forget what was read and not sent; it may be opened again */
bool ty_flow_is_open(const struct ty_flow *f);

/* Read what is there, until `most` bytes wait to be used.  0, or a negative errno when the flow is broken (-EPIPE: the other side has
 * closed; what it sent before can still be used). */
int ty_flow_read(struct ty_flow *f, size_t most);
/* Write what goes without waiting.  0, or a negative errno. */
int ty_flow_write(struct ty_flow *f);
size_t ty_flow_unsent(const struct ty_flow *f);
static inline size_t ty_flow_waiting(const struct ty_flow *f) { return f->len - f->at; }
static inline const char *ty_flow_bytes(const struct ty_flow *f) { return f->got + f->at; }
void ty_flow_use(struct ty_flow *f, size_t n); /* the first n bytes that wait are done with */

/* For poll(2): fills in at most two entries; returns how many.  `reads`: also when bytes can be read. */
struct pollfd;
int ty_flow_poll(const struct ty_flow *f, struct pollfd *p, bool reads);
#endif
