/* fake_daemon.h - the daemon's end of the runner stream, for tests
 *
 * It keeps what it is sent and checks on the way that everything comes in order and that what comes
 * again is the same as before.  It acknowledges what it keeps, and releases the runner after
 * `collected` unless told otherwise.
 */
#ifndef FAKE_DAEMON_H
#define FAKE_DAEMON_H
#include "base/json.h"
#include "base/str.h"
#include "core/wire.h"
#include <stdbool.h>
#include <stdint.h>

#define FAKE_LOGS 8
#define FAKE_WRITERS 8

struct fake {
    char *socket;
    int listen, conn; /* -1: none */
    struct ty_str in;
    json_t *records; /* what is stored, from number 1 */
    char *log_name[FAKE_LOGS];
    struct ty_str log[FAKE_LOGS];
    struct ty_str rows[FAKE_WRITERS]; /* bytes */
    uint64_t nrows[FAKE_WRITERS];
    json_t *hello; /* of the last connection */
    int welcomes, frames;
    bool cancel; /* in WELCOME */
    bool refuse;
    bool hold;           /* no RELEASE */
    bool mute;           /* keep nothing, acknowledge nothing */
    const char *welcome; /* the text of WELCOME; NULL: what is true */
    int break_every;     /* close the connection after that many frames; 0: never */
};
void fake_open(struct fake *f, const char *socket);
void fake_away(struct fake *f); /* close everything; what was kept stays */
void fake_back(struct fake *f);
void fake_done(struct fake *f);
void fake_turn(struct fake *f, int timeout_ms);
void fake_say(struct fake *f, const struct ty_frame *frame);
void fake_cancel(struct fake *f); /* send CANCEL now */
/* The n-th record (from 0) of that kind, or NULL. */
const json_t *fake_record(const struct fake *f, const char *kind, int n);
const struct ty_str *fake_log(const struct fake *f, const char *name);
#endif
