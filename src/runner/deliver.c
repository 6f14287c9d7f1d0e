/* deliver.c - records, logs and rows to the daemon
 *
 * Each source remembers what was sent and what is stored, and keeps a bounded amount in flight.
 * WELCOME sets both to what the daemon has; nothing else does, so whatever was lost with a
 * connection is sent again. The record `collected` waits until everything else was sent: the daemon
 * closes the run's books with it.
 */
#include "base/error.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/str.h"
#include "runner/runner_internal.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

#define RECORDS_IN_FLIGHT 1024
#define BUF_BYTES (TY_SPOOL_ROW_MAX + 16 * 1024)
static_assert(BUF_BYTES >= TY_WIRE_LOG_CHUNK && BUF_BYTES < TY_WIRE_PAYLOAD_MAX,
              "one buffer for both");

/* May anything be sent?  A connection that came after the one that was welcomed has to be welcomed
 * itself. */
static bool welcomed(const struct ty_runner *r)
{
    return r->welcomed != 0 && r->welcomed == ty_stream_serial(r->stream);
}

static struct ty_logtail *log_named(struct ty_runner *r, const struct ty_frame *f)
{
    for (int i = 0; i < r->logs.n; i++)
        if (strlen(r->logs.at[i].name) == f->name_len &&
            memcmp(r->logs.at[i].name, f->name, f->name_len) == 0)
            return &r->logs.at[i].tail;
    return NULL;
}

static int64_t number(const json_t *o, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(o, key));

    return n > 0 ? n : 0;
}

/* The daemon counts the records of all attempts, the spool those of this one. */
static uint64_t record_here(const struct ty_runner *r, uint64_t seq)
{
    uint64_t base = (uint64_t)r->job->record_base;

    return seq > base ? seq - base : 1;
}

static void welcome(struct ty_runner *r, const struct ty_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    uint64_t next;

    if (ty_json_parse(f->body, f->body_len, &o, NULL) < 0 || !json_is_object(o)) {
        ty_log(TY_LOG_ERROR, "the daemon's WELCOME is not JSON; connecting again");
        ty_stream_break(r->stream, r->now_us);
        return;
    }
    next = record_here(r, (uint64_t)number(o, "record_next"));
    if (ty_records_seek(r->records, next) < 0) {
        ty_log(TY_LOG_ERROR,
               "the daemon has records up to %llu, more than there are here; connecting again",
               (unsigned long long)next);
        ty_stream_break(r->stream, r->now_us);
        return;
    }
    r->records_acked = next;
    if (r->phase == TY_PHASE_collected && r->collected_seq && next > r->collected_seq)
        r->over = true; /* it has the last record: only RELEASE was lost */
    for (int i = 0; i < r->logs.n; i++)
        ty_logtail_seek(&r->logs.at[i].tail,
                        (uint64_t)number(json_object_get(o, "logs"), r->logs.at[i].name));
    ty_rows_seek(r->rows, json_object_get(o, "rows"));
    r->welcomed = ty_stream_serial(r->stream);
    r->rescan = true;
    r->hold_us = r->rows_due_us = 0;
    if (!r->job->leads)
        ty_node_welcome(r, o);
    if (json_is_true(json_object_get(o, "cancel")))
        ty_life_cancel(r, TY_ENDING_CANCEL);
}

static void refused(struct ty_runner *r, const struct ty_frame *f)
{
    ty_log(TY_LOG_WARN, "the daemon refused this run: %.*s", (int)f->body_len,
           (const char *)f->body);
    r->over = true;
}

static void frame(struct ty_runner *r, const struct ty_frame *f)
{
    struct ty_logtail *t;

    switch (f->type) {
    case TY_FRAME_WELCOME:
        welcome(r, f);
        break;
    case TY_FRAME_RECORD_ACK:
        if (record_here(r, f->seq) > r->records_acked)
            r->records_acked = record_here(r, f->seq);
        ty_stream_progress(r->stream);
        break;
    case TY_FRAME_LOG_ACK:
        t = log_named(r, f);
        if (t)
            ty_logtail_ack(t, f->seq);
        ty_stream_progress(r->stream);
        break;
    case TY_FRAME_ROWS_ACK:
        ty_rows_ack(r->rows, f->writer, f->seq);
        r->rows_due_us =
            r->rows_due_us > r->now_us && ty_rows_pending(r->rows) ? r->now_us : r->rows_due_us;
        ty_stream_progress(r->stream);
        break;
    case TY_FRAME_CANCEL:
        ty_life_cancel(r, TY_ENDING_CANCEL);
        break;
    case TY_FRAME_REFUSED:
        refused(r, f);
        break;
    case TY_FRAME_RELEASE:
        if (r->phase == TY_PHASE_collected)
            r->over = true;
        break;
    default:
        ty_node_frame(r, f);
        break; /* PONG, and what later daemons may add */
    }
}

void ty_deliver_frames(struct ty_runner *r)
{
    struct ty_frame f;

    while (!r->over && ty_stream_next(r->stream, &f) == 0) {
        ty_node_heard(r);
        frame(r, &f);
    }
}

static bool all_sent(struct ty_runner *r)
{
    for (int i = 0; i < r->logs.n; i++)
        if (ty_logtail_pending(&r->logs.at[i].tail))
            return false;
    return !ty_rows_pending(r->rows);
}

static bool send_record(struct ty_runner *r)
{
    struct ty_frame f = { .type = TY_FRAME_RECORD };
    const char *json;

    if (ty_records_peek(r->records, &f.seq, &json, &f.body_len) < 0 ||
        f.seq >= r->records_acked + RECORDS_IN_FLIGHT)
        return false;
    if (f.seq == r->collected_seq && !all_sent(r))
        return false;
    f.body = json;
    f.seq += (uint64_t)r->job->record_base;
    ty_stream_send(r->stream, &f);
    ty_records_skip(r->records);
    return true;
}

static void tell_log_limit(struct ty_runner *r, struct ty_log *l)
{
    CLEANUP_FREE char *text = NULL;
    char size[16];

    if (!l->tail.over || l->limit_told || r->collected_seq)
        return;
    l->limit_told = true;
    text = ty_strf(
        "the log '%s' reached its limit of %s (limits.log_bytes); what came after that was not kept",
        l->name, ty_show_bytes(l->tail.limit, size));
    if (text)
        ty_runner_warning(r, text);
}

/* Also while no daemon takes the log: what is too much shall neither fill the disk nor go unsaid. */
void ty_deliver_limits(struct ty_runner *r)
{
    for (int i = 0; i < r->logs.n; i++)
        if (ty_logtail_over(&r->logs.at[i].tail)) {
            tell_log_limit(r, &r->logs.at[i]);
            ty_logtail_trim(&r->logs.at[i].tail);
        }
}

static bool send_log(struct ty_runner *r, struct ty_log *l)
{
    struct ty_logtail *t = &l->tail;
    struct ty_frame f = {
        .type = TY_FRAME_LOG, .name = t->name, .name_len = strlen(t->name), .body = r->buf
    };
    ssize_t n = ty_logtail_read(t, r->buf, TY_WIRE_LOG_CHUNK, &f.seq);

    tell_log_limit(r, l);
    if (n <= 0) {
        if (t->over)
            ty_logtail_trim(t);
        return false;
    }
    f.body_len = (size_t)n;
    ty_stream_send(r->stream, &f);
    return true;
}

/* A piece of each, as long as there is room; then it goes on with the next, so that a loud rank hushes nobody. */
static bool send_logs(struct ty_runner *r)
{
    struct ty_logs *l = &r->logs;
    bool sent = false;
    int k;

    for (k = 0; k < l->n && ty_stream_room(r->stream); k++)
        if (send_log(r, &l->at[(l->turn + k) % l->n]))
            sent = true;
    if (l->n > 0)
        l->turn = (l->turn + k) % l->n;
    return sent;
}

static bool send_rows(struct ty_runner *r)
{
    struct ty_frame f = { .type = TY_FRAME_ROWS, .body = r->buf };
    ptrdiff_t n = ty_rows_read(r->rows, r->buf, BUF_BYTES, &f.writer, &f.seq, &f.count);
    uint32_t writer;

    while (ty_rows_damaged(r->rows, &writer)) {
        CLEANUP_FREE char *text =
            ty_strf("logged values of writer %u could not be read and are not complete", writer);

        if (text && !r->collected_seq)
            ty_runner_warning(r, text);
    }
    if (n <= 0)
        return false;
    f.body_len = (size_t)n;
    ty_stream_send(r->stream, &f);
    return true;
}

bool ty_deliver_listens(const struct ty_runner *r)
{
    return welcomed(r) && r->now_us >= r->hold_us && ty_stream_room(r->stream);
}

/* The spools lie in the owner's hands: they are found and opened as the owner. */
static bool scan(struct ty_runner *r)
{
    bool again;

    ty_owner_enter(r->job->owner);
    again = ty_rows_scan(r->rows);
    ty_owner_leave(r->job->owner);
    return again;
}

/* Row spools are looked at while somebody may write to them and somebody takes what they hold. */
static bool polls(const struct ty_runner *r)
{
    return welcomed(r) && ty_stream_room(r->stream) && r->phase == TY_PHASE_running &&
           (r->rescan || ty_rows_count(r->rows) > 0 || r->inotify < 0);
}

void ty_deliver_pump(struct ty_runner *r)
{
    bool logs = r->now_us >= r->hold_us, rows = r->now_us >= r->rows_due_us, more = true,
         logged = false;

    if (rows && (r->rescan || r->inotify < 0))
        r->rescan = scan(r);
    if (rows)
        r->rows_due_us = r->now_us + TY_ROWS_POLL_US;
    if (!welcomed(r) || !ty_stream_room(r->stream))
        ty_deliver_limits(r);
    if (!welcomed(r) || (!r->buf && !(r->buf = malloc(BUF_BYTES))))
        return;
    ty_node_pump(r);
    while (more && ty_stream_room(r->stream)) {
        more = send_record(r);
        if (logs && send_logs(r))
            more = logged = true;
        if (rows && send_rows(r))
            more = true;
    }
    if (logged)
        r->hold_us = r->now_us + TY_LOG_HOLD_US;
    if (more)
        r->hold_us = r->rows_due_us = 0; /* the socket is full; go on as soon as it takes more */
}

int64_t ty_deliver_due(const struct ty_runner *r)
{
    int64_t due = ty_stream_due(r->stream);

    if (r->now_us < r->hold_us && r->hold_us < due)
        due = r->hold_us;
    if (polls(r) && r->rows_due_us < due)
        due = r->rows_due_us;
    return due;
}
