/* kit.h - a courier whose hosts and whose daemon are the test: their sides of the real sockets
 *
 * The clock is the test's: c.now_us moves when the test says so.  What cannot be had aborts.
 */
#ifndef TY_TEST_COURIER_KIT_H
#define TY_TEST_COURIER_KIT_H
#include "courier/courier_internal.h"
#include <stdbool.h>

#define KIT_HOSTS 2
#define KIT_SECOND 1000000

struct kit {
    struct ty_courier c;
    char dir[64];                  /* job/, blobs/ and runner.sock */
    char socket[100];
    int listener;
    struct ty_flow daemon;         /* the connection to runner.sock that came last */
    struct ty_flow far[KIT_HOSTS]; /* the hosts' sides of their channels */
};

/* `base`: folder to make ours in.  `target` is the JSON of a target with as many hosts. */
void kit_begin(struct kit *k, const char *base, int nhosts, const char *target);
void kit_end(struct kit *k);
/* A channel to host `i`, behind its greeting. */
void kit_connect(struct kit *k, int i);
/* All that a courier does between two waits, then all that has come is taken in. */
void kit_turn(struct kit *k);
/* The daemon's side of what connects. */
bool kit_accept(struct kit *k);
bool kit_has(const struct kit *k, const char *name); /* a file in the job folder */
#endif
