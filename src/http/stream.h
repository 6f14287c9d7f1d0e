/* stream.h - the insides of a stream that follows a run: follow.c makes and reads it, stream_ranks.c the logs of several ranks */
#ifndef TY_HTTP_STREAM_H
#define TY_HTTP_STREAM_H
#include "core/run_state.h"
#include "http/request.h"
#include "http/sse.h"
#include "track/follow.h"

#define LOG_PER_READ (64 * 1024)
#define STREAM_RANKS_MAX 256 /* whose logs one stream has: each event's id says how far each is */

/* How far the log of a rank is. */
struct rank_log {
    char name[TY_DRIVER_LOG_MAX];
    int64_t at_us;  /* when the byte at the cursor came, to a second; -1: not looked up */
    int64_t until;  /* where the bytes begin that came later; -1: there are none yet */
    uint64_t size;  /* when it was last looked at */
    bool gone;      /* its file is: nothing more comes of it */
};

struct stream {
    struct ty_follower follower;
    struct ty_http *http;
    struct MHD_Connection *conn;
    int fd;
    struct stream *next, **slot;
    char *run, *log; /* log: as it was asked for; NULL: none */
    int64_t run_id;
    struct sse_cursor cursor;  /* of what was folded and sent */
    struct ty_row_places rows; /* the cursor's, with ?rows=1 */
    bool system;               /* with ?system=1: rows of this kind */
    int64_t resume_seq;        /* events up to here were seen by the client before */
    struct ty_run state;
    bool fresh;    /* the present state was not sent yet */
    json_t *moved; /* the last event that moved the state */
    json_t *why;   /* as it was told last with the present state; NULL: nothing was */
    bool log_done; /* its file is gone: nothing more comes of it */
    struct rank_log *ranks; /* of a stream of several logs, cursor.nranks; NULL: one log, or none */
    bool now;      /* ends with what there is now */
    struct ty_str out;
    size_t sent; /* of out */
    bool suspended, finished, beat;
};

/* Get ready for the logs of all ranks of a run of `size` processes.  0 or -ENOMEM. */
int stream_ranks_open(struct stream *s, int64_t size);
void stream_ranks_done(struct stream *s);
/* Put whole lines of what is new into s->out, by the time at which they came; true when there are none left. */
bool stream_ranks_send(struct stream *s);
#endif
