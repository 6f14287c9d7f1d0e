/* stream_ranks.c - the logs of all ranks of a run in one stream, line by line
 *
 * Lines come whole, so that those of different ranks never mix, and by the time at which the daemon stored them: to the
 * second for what was there before the stream began, and as they come for what comes later.
 */
#include "http/stream.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define OUT_MAX LOG_PER_READ /* put into s->out at a time */

int stream_ranks_open(struct stream *s, int64_t size)
{
    int n = size > STREAM_RANKS_MAX ? STREAM_RANKS_MAX : (int)size;

    s->ranks = calloc((size_t)n, sizeof *s->ranks);
    s->cursor.ranks = calloc((size_t)n, sizeof *s->cursor.ranks);
    if (!s->ranks || !s->cursor.ranks)
        return -ENOMEM;
    s->cursor.nranks = n;
    for (int i = 0; i < n; i++) {
        s->ranks[i].at_us = -1;
        ty_driver_log(i, 2, s->ranks[i].name);
    }
    return 0;
}

void stream_ranks_done(struct stream *s)
{
    free(s->ranks);
    free(s->cursor.ranks);
}

/* Find out when the byte at the cursor came, and up to where others came then. */
static void look_up(struct stream *s, int rank)
{
    struct rank_log *l = &s->ranks[rank];
    uint64_t at = (uint64_t)s->cursor.ranks[rank], from;
    int64_t next;

    if (l->at_us < 0 &&
        ty_store_log_time_at(s->http->o.store, s->run_id, l->name, at, &l->at_us) < 0)
        l->at_us = 0;
    l->until = (int64_t)l->size;
    while (ty_store_log_time_next(s->http->o.store, s->run_id, l->name, l->at_us, &next, &from) ==
           0) {
        if (from > at) {
            l->until = (int64_t)from;
            return;
        }
        l->at_us = next;
    }
}

/* Bytes of a rank's log from the cursor on; -ENOENT: they are gone; another negative errno: they cannot be had now. */
static ssize_t read_bytes(struct stream *s, int rank, char *buf)
{
    uint64_t at = (uint64_t)s->cursor.ranks[rank], size = s->ranks[rank].size,
             n = size - at < LOG_PER_READ ? size - at : LOG_PER_READ;
    CLEANUP_FREE char *path = ty_store_log_path(s->http->o.store, s->run, s->ranks[rank].name);
    CLEANUP_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t got = fd < 0 ? -1 : pread(fd, buf, n, (off_t)at);

    if (!path)
        return -ENOMEM;
    if (got < 0)
        return -errno;
    return got == (ssize_t)n ? got : -ENOENT;
}

/* How many of buf[0..n) are whole lines that came up to now's second, `soon` bytes of them; at least one line.  0: there is none. */
static size_t whole_lines(const char *buf, size_t n, size_t soon, bool all)
{
    const char *end = memrchr(buf, '\n', soon < n ? soon : n);

    if (!end)
        end = memchr(buf, '\n', n);
    if (end)
        return (size_t)(end + 1 - buf);
    return all || n == LOG_PER_READ ? n : 0;
}

/* The next piece of a rank; false when it has no whole line, or the stream ends since its log cannot be read now. */
static bool send_piece(struct stream *s, int rank)
{
    static char buf[LOG_PER_READ]; /* the loop thread alone comes here */
    struct rank_log *l = &s->ranks[rank];
    int64_t at = s->cursor.ranks[rank];
    bool last = s->now || ty_run_state_ended(s->state.state);
    ssize_t n = read_bytes(s, rank, buf);
    size_t send;

    if (n < 0) {
        l->gone = n == -ENOENT;
        s->finished |= n != -ENOENT;
        return false;
    }
    last = last && (uint64_t)at + (uint64_t)n == l->size;
    send = whole_lines(buf, (size_t)n, (size_t)(l->until - at), last);
    return send > 0 && sse_log(&s->out, &s->cursor, l->name, rank, buf, send, last) > 0;
}

static void look_at_sizes(struct stream *s)
{
    for (int i = 0; i < s->cursor.nranks; i++) {
        struct rank_log *l = &s->ranks[i];
        uint64_t bytes;

        if (ty_store_log_size(s->http->o.store, s->run_id, l->name, &bytes) < 0)
            continue;
        if (bytes > l->size && s->cursor.ranks[i] >= l->until)
            l->until = -1; /* more came than was known of */
        l->size = bytes;
    }
}

/* The rank whose next bytes came first among those with `waits` unset; -1: none has any. */
static int pick(struct stream *s, const bool *waits)
{
    int best = -1;

    for (int i = 0; i < s->cursor.nranks; i++) {
        struct rank_log *l = &s->ranks[i];

        if (waits[i] || l->gone || l->size <= (uint64_t)s->cursor.ranks[i])
            continue;
        if (l->at_us < 0 || s->cursor.ranks[i] >= l->until)
            look_up(s, i);
        if (best < 0 || l->at_us < s->ranks[best].at_us)
            best = i;
    }
    return best;
}

bool stream_ranks_send(struct stream *s)
{
    bool waits[STREAM_RANKS_MAX] = { false };
    int rank;

    look_at_sizes(s);
    while (s->out.len < OUT_MAX && !s->out.failed && !s->finished) {
        rank = pick(s, waits);
        if (rank < 0)
            return true;
        if (!send_piece(s, rank))
            waits[rank] = true;
    }
    return false;
}
