/* ingest.c - the daemon's end of the runner stream
 *
 *   bytes -> frames -> units for the store -> acknowledgements
 *
 * A connection greets (HELLO), is welcomed once nothing older of its run is in flight, and from then on each frame becomes
 * one unit.  `flying` counts units that the store has not answered yet; above FLYING_MAX bytes reading pauses.
 * A unit that fails ends the connection without an acknowledgement: the runner comes back and sends it again.
 *
 * A connection lives until its handle is closed and its last unit has come back.
 */
#include "track/ingest.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/str.h"
#include "core/row.h"
#include "core/wire.h"
#include "store/store.h"
#include "track/follow.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define FLYING_MAX (8u << 20)
#define READ_CHUNK (256 * 1024)
#define WRITERS_MAX 4096

enum phase { GREETING, WAITING, STREAMING, ENDED };

struct conn {
    struct ty_ingest *in;
    uv_pipe_t pipe;
    enum phase phase;
    struct stream *stream; /* the run's; NULL before HELLO was accepted */
    char *buf;             /* bytes not decoded yet */
    size_t len, cap;
    size_t flying_bytes;
    int flying; /* units in the store, and writes in the pipe */
    bool reading, closed;
    struct conn *next; /* of in->conns */
};

/* What one run has going on. */
struct stream {
    char *run;
    int64_t run_id;
    struct conn *conn;    /* that speaks now */
    struct conn *waiting; /* said HELLO while units of an earlier connection fly */
    int flying;           /* units of every connection of this run */
    uint64_t record_next;
    uint64_t *row_next; /* by writer */
    uint32_t writers;
    UT_hash_handle hh;
};

struct ty_ingest {
    struct ty_ingest_options o;
    uv_pipe_t listener;
    struct stream *streams;
    struct conn *conns;
    bool stopping;
};

/* One frame on its way to the store. */
struct flight {
    struct conn *conn;
    struct stream *stream;
    size_t bytes;
    struct ty_str ack; /* encoded, sent once it is stored */
    int64_t ticket;    /* of ops->queued */
};

static void conn_close(struct conn *c);
static void welcome(struct conn *c);

/* ---- streams ---- */

static struct stream *stream_get(struct ty_ingest *in, const char *run, int64_t run_id)
{
    struct stream *s;

    HASH_FIND_STR(in->streams, run, s);
    if (s)
        return s;
    s = calloc(1, sizeof *s);
    if (!s || !(s->run = strdup(run))) {
        free(s);
        return NULL;
    }
    s->run_id = run_id;
    HASH_ADD_KEYPTR(hh, in->streams, s->run, strlen(s->run), s);
    return s;
}

static void stream_drop(struct ty_ingest *in, struct stream *s)
{
    if (s->conn || s->waiting || s->flying)
        return;
    HASH_DEL(in->streams, s);
    free(s->row_next);
    free(s->run);
    free(s);
}

static uint64_t *row_next(struct stream *s, uint32_t writer)
{
    if (writer >= WRITERS_MAX)
        return NULL;
    if (writer >= s->writers) {
        uint32_t n = writer + 8;
        uint64_t *p = realloc(s->row_next, n * sizeof *p);

        if (!p)
            return NULL;
        memset(p + s->writers, 0, (n - s->writers) * sizeof *p);
        s->row_next = p;
        s->writers = n;
    }
    return &s->row_next[writer];
}

/* ---- connections ---- */

static void conn_free(struct conn *c)
{
    struct conn **at = &c->in->conns;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c->buf);
    free(c);
}

static void conn_unref(struct conn *c)
{
    if (c->closed && c->flying == 0)
        conn_free(c);
}

static void on_closed(uv_handle_t *h)
{
    struct conn *c = h->data;

    c->closed = true;
    conn_unref(c);
}

static void conn_close(struct conn *c)
{
    struct stream *s = c->stream;

    if (c->phase == ENDED)
        return;
    c->phase = ENDED;
    if (s) {
        if (s->conn == c)
            s->conn = NULL;
        if (s->waiting == c)
            s->waiting = NULL;
        c->stream = NULL;
        stream_drop(c->in, s);
    }
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}

struct write {
    uv_write_t req;
    struct conn *conn;
    char *bytes;
    bool last;
};

static void on_written(uv_write_t *req, int status)
{
    struct write *w = ty_container(req, struct write, req);
    struct conn *c = w->conn;

    c->flying--;
    if (status < 0 || w->last)
        conn_close(c);
    free(w->bytes);
    free(w);
    conn_unref(c);
}

/* Send encoded frames; takes the text over.  `last`: close when they are out. */
static void send_bytes(struct conn *c, struct ty_str *bytes, bool last)
{
    struct write *w;
    uv_buf_t buf;

    if (c->phase == ENDED) {
        ty_str_done(bytes);
        return;
    }
    w = calloc(1, sizeof *w);
    buf.len = bytes->len;
    buf.base = w ? w->bytes = ty_str_take(bytes) : NULL;
    if (!buf.base) {
        free(w);
        ty_str_done(bytes);
        conn_close(c);
        return;
    }
    w->conn = c;
    w->last = last;
    c->flying++;
    if (uv_write(&w->req, (uv_stream_t *)&c->pipe, &buf, 1, on_written) < 0) {
        c->flying--;
        free(w->bytes);
        free(w);
        conn_close(c);
    }
}

static void send_frame(struct conn *c, const struct ty_frame *f, bool last)
{
    struct ty_str out = { 0 };

    ty_frame_encode(f, &out);
    send_bytes(c, &out, last);
}

static void send_json(struct conn *c, enum ty_frame_type type, const json_t *o, bool last)
{
    CLEANUP_FREE char *text = ty_json_text(o);
    struct ty_frame f = { .type = type, .body = text, .body_len = text ? strlen(text) : 0 };

    if (!text) {
        conn_close(c);
        return;
    }
    send_frame(c, &f, last);
}

static void refuse(struct conn *c, const char *why)
{
    CLEANUP_JSON json_t *o = json_pack("{s:s}", "message", why);

    if (o)
        send_json(c, TY_FRAME_REFUSED, o, true);
    else
        conn_close(c);
}

/* ---- reading ---- */

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);
static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf);

static void set_reading(struct conn *c, bool on)
{
    if (c->reading == on || c->phase == ENDED)
        return;
    c->reading = on;
    if (on && uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_bytes) < 0)
        conn_close(c);
    else if (!on)
        uv_read_stop((uv_stream_t *)&c->pipe);
}

/* ---- from frames to the store ---- */

static struct flight *flight_free(struct flight *f)
{
    if (f) {
        ty_str_done(&f->ack);
        free(f);
    }
    return NULL;
}

static void on_unit(void *ctx, int r)
{
    struct flight *f = ctx;
    struct conn *c = f->conn;
    struct stream *s = f->stream;
    struct ty_ingest *in = c->in;

    c->flying--;
    c->flying_bytes -= f->bytes;
    in->o.ops->stored(in->o.ctx, s->run, r, f->ticket);
    if (r < 0) {
        if (r != -ENOSPC)
            ty_log(TY_LOG_WARN, "cannot store what run %s sent: %s", s->run, strerror(-r));
        conn_close(c);
    } else {
        ty_follow_notify(in->o.hub, s->run);
        if (c->phase == STREAMING)
            send_bytes(c, &f->ack, false);
        if (c->phase == STREAMING && c->flying_bytes < FLYING_MAX / 4)
            set_reading(c, true);
    }
    s->flying--; /* not earlier: it keeps the stream while its connection is closed above */
    if (s->flying == 0 && s->waiting)
        welcome(s->waiting);
    else
        stream_drop(in, s);
    flight_free(f);
    conn_unref(c);
}

static struct flight *flight_new(struct conn *c, size_t bytes, const struct ty_frame *ack)
{
    struct flight *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->conn = c;
    f->stream = c->stream;
    f->bytes = bytes;
    ty_frame_encode(ack, &f->ack);
    return f;
}

static void take_off(struct conn *c, struct ty_unit *u, struct flight *f)
{
    c->flying++;
    c->flying_bytes += f->bytes;
    c->stream->flying++;
    f->ticket = c->in->o.ops->queued(c->in->o.ctx, c->stream->run);
    ty_store_commit(c->in->o.store, u, on_unit, f);
    if (c->flying_bytes > FLYING_MAX)
        set_reading(c, false);
}

static int on_log(struct conn *c, const struct ty_frame *in)
{
    struct ty_frame ack = { .type = TY_FRAME_LOG_ACK,
                            .seq = in->seq + in->body_len,
                            .name = in->name,
                            .name_len = in->name_len };
    CLEANUP_FREE char *name = strndup(in->name, in->name_len);
    struct ty_unit *u = ty_unit_new();
    struct flight *f = flight_new(c, in->body_len + 256, &ack);

    if (!name || !f) {
        flight_free(f);
        ty_unit_free(u);
        return -ENOMEM;
    }
    ty_unit_log(u, c->stream->run_id, c->stream->run, name, in->seq, in->body, in->body_len,
                ty_wall_us());
    take_off(c, u, f);
    return 0;
}

/* Tags and properties travel as rows, so that scripts can set them while no daemon runs; here they become events. */
static void note_row(struct conn *c, struct ty_unit *u, const struct ty_row *row)
{
    CLEANUP_FREE char *key = strndup(row->name, row->name_len);
    CLEANUP_JSON json_t *value = json_loadb(row->value, row->value_len, JSON_DECODE_ANY, NULL);

    if (!key || !value || !(json_is_string(value) || json_is_null(value))) {
        ty_log(TY_LOG_WARN, "run %s sent a malformed tag; it is dropped", c->stream->run);
        return;
    }
    c->in->o.ops->note(c->in->o.ctx, c->stream->run, u, row->kind == TY_ROW_PROPERTY, key, value);
}

/* Every row is well formed: a note that was added cannot be taken back when a later one is not. */
static bool are_rows(const char *p, size_t left)
{
    struct ty_row row;
    ptrdiff_t used;

    for (; left > 0; p += used, left -= (size_t)used) {
        used = ty_row_decode(p, left, &row);
        if (used < 0)
            return false;
    }
    return true;
}

static void add_notes(struct conn *c, struct ty_unit *u, const struct ty_frame *in, uint64_t known)
{
    const char *p = in->body;
    size_t left = in->body_len;

    for (uint64_t seq = in->seq; left > 0 && seq < in->seq + in->count;) {
        struct ty_row row;
        ptrdiff_t used = ty_row_decode(p, left, &row);

        p += used;
        left -= (size_t)used;
        if (row.kind == TY_ROW_PAD)
            continue;
        if (seq++ >= known && (row.kind == TY_ROW_TAG || row.kind == TY_ROW_PROPERTY))
            note_row(c, u, &row);
    }
}

static int on_rows(struct conn *c, const struct ty_frame *in)
{
    struct ty_frame ack = { .type = TY_FRAME_ROWS_ACK,
                            .writer = in->writer,
                            .seq = in->seq + in->count };
    uint64_t *next = row_next(c->stream, in->writer);
    struct flight *f;
    struct ty_unit *u;

    if (!next || in->seq > *next || !are_rows(in->body, in->body_len))
        return -EBADMSG;
    f = flight_new(c, in->body_len + 256, &ack);
    if (!f)
        return -ENOMEM;
    u = ty_unit_new();
    add_notes(c, u, in, *next);
    ty_unit_rows(u, c->stream->run_id, in->writer, in->seq, in->count, in->body, in->body_len);
    if (in->seq + in->count > *next)
        *next = in->seq + in->count;
    take_off(c, u, f);
    return 0;
}

static int on_record(struct conn *c, const struct ty_frame *in)
{
    struct stream *s = c->stream;
    struct ty_frame ack = { .type = TY_FRAME_RECORD_ACK, .seq = in->seq + 1 };
    struct ty_error err = { 0 };
    CLEANUP_JSON json_t *record = NULL;
    struct flight *f;
    struct ty_unit *u;

    if (in->seq > s->record_next || ty_json_parse(in->body, in->body_len, &record, &err) < 0)
        return -EBADMSG;
    if (in->seq < s->record_next) { /* known: only the acknowledgement was lost */
        ack.seq = s->record_next;
        send_frame(c, &ack, false);
        return 0;
    }
    u = ty_unit_new();
    f = flight_new(c, in->body_len + 256, &ack);
    if (!f || c->in->o.ops->record(c->in->o.ctx, s->run, u, record, &err) < 0) {
        ty_log(TY_LOG_ERROR, "run %s: cannot use a record of its runner: %s", s->run, err.text);
        flight_free(f);
        ty_unit_free(u);
        return -EBADMSG;
    }
    s->record_next = in->seq + 1;
    ty_unit_record_next(u, s->run_id, s->record_next);
    const char *kind = json_string_value(json_object_get(record, "kind"));
    if (kind && strcmp(kind, "collected") == 0) {
        struct ty_frame release = { .type = TY_FRAME_RELEASE };
        ty_frame_encode(&release, &f->ack);
    }
    take_off(c, u, f);
    return 0;
}

/* ---- greeting ---- */

static int load_resume_point(struct ty_ingest *in, struct stream *s, json_t **ret)
{
    CLEANUP_JSON json_t *at = NULL;
    const char *writer;
    json_t *next;
    int r = ty_store_resume_point(in->o.store, s->run_id, &at);

    if (r < 0)
        return r;
    s->record_next = (uint64_t)json_integer_value(json_object_get(at, "record_next"));
    if (s->writers)
        memset(s->row_next, 0, s->writers * sizeof *s->row_next);
    json_object_foreach (json_object_get(at, "rows"), writer, next) {
        int64_t w;
        uint64_t *slot = ty_parse_i64(writer, &w) == 0 && w >= 0 ? row_next(s, (uint32_t)w) : NULL;

        if (slot)
            *slot = (uint64_t)json_integer_value(next);
    }
    *ret = TAKE(at);
    return 0;
}

static void welcome(struct conn *c)
{
    struct stream *s = c->stream;
    CLEANUP_JSON json_t *at = NULL;

    if (s->flying) {
        if (s->waiting && s->waiting != c)
            conn_close(s->waiting);
        s->waiting = c;
        c->phase = WAITING;
        return;
    }
    if (s->waiting == c)
        s->waiting = NULL;
    if (load_resume_point(c->in, s, &at) < 0 ||
        json_object_set_new(at, "protocol", json_integer(TY_WIRE_PROTOCOL)) < 0 ||
        json_object_set_new(at, "cancel",
                            json_boolean(c->in->o.ops->cancel_wanted(c->in->o.ctx, s->run))) < 0) {
        conn_close(c);
        return;
    }
    s->conn = c;
    c->phase = STREAMING;
    send_json(c, TY_FRAME_WELCOME, at, false);
}

static int on_hello(struct conn *c, const struct ty_frame *f)
{
    struct ty_error err = { 0 };
    CLEANUP_JSON json_t *o = NULL;
    const char *run = NULL, *token = NULL;
    int64_t protocol = 0, attempt = 1, run_id;
    int r;

    if (ty_json_parse(f->body, f->body_len, &o, &err) < 0 ||
        ty_json_get_i64(o, "HELLO", "protocol", 1, INT32_MAX, &protocol, &err) < 0 ||
        ty_json_get_i64(o, "HELLO", "attempt", 1, INT32_MAX, &attempt, &err) < 0 ||
        ty_json_get_str(o, "HELLO", "run", &run, &err) < 0 ||
        ty_json_get_str(o, "HELLO", "token", &token, &err) < 0 || !run || !token)
        return -EBADMSG;
    if (protocol > TY_WIRE_PROTOCOL) {
        /* Not refused: its job goes on, and a newer daemon will take what it spools meanwhile. */
        ty_log(TY_LOG_WARN,
               "the runner of %s is newer than this daemon, which it waits for to be replaced",
               run);
        conn_close(c);
        return 0;
    }
    r = c->in->o.ops->hello(c->in->o.ctx, run, token, attempt, &run_id, &err);
    if (r == -EAGAIN)
        conn_close(c);
    else if (r < 0)
        refuse(c, err.text);
    if (r < 0)
        return 0;
    c->stream = stream_get(c->in, run, run_id);
    if (!c->stream)
        return -ENOMEM;
    if (c->stream->conn) { /* the runner lost that connection before we did */
        struct conn *old = c->stream->conn;
        c->stream->waiting = c;
        conn_close(old);
    }
    welcome(c);
    return 0;
}

static int on_frame(struct conn *c, const struct ty_frame *f)
{
    struct ty_frame pong = { .type = TY_FRAME_PONG };

    if (c->phase == GREETING)
        return f->type == TY_FRAME_HELLO ? on_hello(c, f) : -EBADMSG;
    c->in->o.ops->heard(c->in->o.ctx, c->stream->run);
    if (f->type == TY_FRAME_PING) {
        send_frame(c, &pong, false);
        return 0;
    }
    if (c->phase != STREAMING)
        return -EBADMSG;
    switch (f->type) {
    case TY_FRAME_LOG:
        return on_log(c, f);
    case TY_FRAME_ROWS:
        return on_rows(c, f);
    case TY_FRAME_RECORD:
        return on_record(c, f);
    default:
        return -EBADMSG;
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = h->data;

    (void)suggested;
    if (c->cap - c->len < READ_CHUNK) {
        char *p = realloc(c->buf, c->len + READ_CHUNK);

        if (p) {
            c->buf = p;
            c->cap = c->len + READ_CHUNK;
        }
    }
    *buf = uv_buf_init(c->buf + c->len,
                       (unsigned)(c->cap - c->len)); /* 0 bytes: libuv reports ENOBUFS */
}

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    size_t used = 0;

    (void)buf;
    if (n < 0) {
        conn_close(c);
        return;
    }
    c->len += (size_t)n;
    while (c->phase != ENDED) {
        struct ty_frame f;
        ptrdiff_t r = ty_frame_decode(c->buf + used, c->len - used, &f);

        if (r == -EAGAIN)
            break;
        if (r > 0) {
            used += (size_t)r;
            r = on_frame(c, &f);
        }
        if (r < 0) {
            ty_log(TY_LOG_WARN, "a runner's stream is not understood and is closed%s%s",
                   c->stream ? ": run " : "", c->stream ? c->stream->run : "");
            conn_close(c);
        }
    }
    memmove(c->buf, c->buf + used, c->len - used);
    c->len -= used;
    if (c->len == 0 && c->cap > READ_CHUNK) {
        free(c->buf);
        c->buf = NULL;
        c->cap = 0;
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct ty_ingest *in = listener->data;
    struct conn *c = status < 0 ? NULL : calloc(1, sizeof *c);

    if (!c)
        return;
    c->in = in;
    c->pipe.data = c;
    c->next = in->conns;
    in->conns = c;
    uv_pipe_init(in->o.loop, &c->pipe, 0);
    if (uv_accept(listener, (uv_stream_t *)&c->pipe) < 0)
        conn_close(c);
    else
        set_reading(c, true);
}

/* ---- life cycle ---- */

int ty_ingest_open(const struct ty_ingest_options *o, struct ty_ingest **ret, struct ty_error *err)
{
    struct ty_ingest *in = calloc(1, sizeof *in);

    if (!in)
        return ty_error_oom(err);
    in->o = *o;
    in->listener.data = in;
    uv_pipe_init(o->loop, &in->listener, 0);
    if (uv_pipe_open(&in->listener, o->listen_fd) < 0 ||
        uv_listen((uv_stream_t *)&in->listener, 128, on_connection) < 0) {
        uv_close((uv_handle_t *)&in->listener, NULL);
        uv_run(o->loop, UV_RUN_NOWAIT);
        free(in);
        return ty_error_set(err, -EIO, "cannot listen for runners");
    }
    *ret = in;
    return 0;
}

void ty_ingest_stop(struct ty_ingest *in)
{
    if (in->stopping)
        return;
    in->stopping = true;
    uv_close((uv_handle_t *)&in->listener, NULL);
    for (struct conn *c = in->conns, *next; c; c = next) {
        next = c->next;
        conn_close(c);
    }
}

struct ty_ingest *ty_ingest_free(struct ty_ingest *in)
{
    free(in);
    return NULL;
}

bool ty_ingest_connected(const struct ty_ingest *in, const char *run)
{
    struct stream *s;

    HASH_FIND_STR(in->streams, run, s);
    return s && s->conn;
}

bool ty_ingest_cancel(struct ty_ingest *in, const char *run)
{
    struct ty_frame f = { .type = TY_FRAME_CANCEL };
    struct stream *s;

    HASH_FIND_STR(in->streams, run, s);
    if (!s || !s->conn)
        return false;
    send_frame(s->conn, &f, false);
    return true;
}
