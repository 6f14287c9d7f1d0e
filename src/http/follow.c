/* follow.c - the stream of server-sent events of one run
 *
 * The server asks for bytes (stream_read); the stream then reads what is new from the store: events
 * first, then the log and the rows, so that once an event says that the run has ended, all its log bytes
 * and rows are seen.  When nothing is new the connection is suspended, and the hub's wake or the beat resumes
 * it: a slow reader costs nothing.
 *
 * States are made by folding the run's events, which are the truth; a cursor (seq, offset, and how far it is with each
 * writer's rows) is all that a stream remembers, and it is the id of every event it sends.
 */
#include "base/conf.h"
#include "base/fs.h"
#include "http/stream.h"
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <string.h>

#define DRIVER_LOG "azureml-logs/70_driver_log.txt"
#define EVENTS_PER_READ 200
#define ROWS_PER_READ 500
#define BLOCK (64 * 1024)

/* Other names of logs: the older and the later ones of Azure ML. */
static const char *const aliases[] = { "user_logs/std_log_process_",
                                       "azureml-logs/70_driver_log_rank_" };

const char *log_name(const char *asked, char buf[TY_DRIVER_LOG_MAX])
{
    if (strcmp(asked, "user_logs/std_log.txt") == 0)
        return DRIVER_LOG;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        size_t n = strlen(aliases[i]), digits = 0;
        int rank = 0;

        if (strncmp(asked, aliases[i], n) != 0)
            continue;
        for (; asked[n] >= '0' && asked[n] <= '9' && digits < 9; n++, digits++)
            rank = rank * 10 + asked[n] - '0';
        if (digits > 0 && strcmp(asked + n, ".txt") == 0)
            return ty_driver_log(rank, 2, buf);
    }
    return asked;
}

/* ---- waking ---- */

static void stream_resume(struct stream *s)
{
    if (s->suspended) {
        s->suspended = false;
        server_resume(s->http, s->conn);
    }
}

static void on_wake(struct ty_follower *f)
{
    stream_resume((struct stream *)f);
}

void streams_beat(struct ty_http *h)
{
    for (struct stream *s = h->streams; s; s = s->next) {
        s->beat = s->suspended;
        stream_resume(s);
    }
}

void streams_stop(struct ty_http *h)
{
    for (struct stream *s = h->streams; s; s = s->next) {
        ty_follow_remove(h->o.hub, &s->follower);
        s->finished = true;
        stream_resume(s);
    }
}

/* A suspended connection is not watched: give up the places of clients that went away.  (One that
 * closed its sending side alone still reads; poll does not tell of it unasked.) */
static void drop_dead(struct ty_http *h)
{
    for (struct stream *s = h->streams; s; s = s->next) {
        struct pollfd p = { .fd = s->fd };

        if (s->suspended && poll(&p, 1, 0) > 0) {
            ty_follow_remove(h->o.hub, &s->follower);
            s->finished = true;
            stream_resume(s);
        }
    }
}

/* ---- what is new ---- */

static bool is_waiting(enum ty_run_state state)
{
    return !ty_run_state_ended(state) && state != TY_RUN_RUNNING;
}

/* Why the run waits, if it does: a new reference, or NULL. */
static json_t *read_why(struct stream *s)
{
    CLEANUP_JSON json_t *run = NULL;

    if (!is_waiting(s->state.state) || ty_store_run(s->http->o.store, s->run, false, &run) < 0)
        return NULL;
    ty_sched_annotate(s->http->o.sched, run);
    return json_incref(json_object_get(run, "why"));
}

static void send_state(struct stream *s, bool latest)
{
    json_decref(s->why);
    s->why = latest ? read_why(s) : NULL;
    sse_state(&s->out, &s->cursor, ty_run_state_word(s->state.state), s->moved, s->why);
}

/* The same state once more when its reason is another one: an environment that is built, a place in the queue. */
static void send_why(struct stream *s)
{
    CLEANUP_JSON json_t *why = read_why(s);

    if (json_is_string(why) && !(s->why && json_equal(why, s->why)))
        send_state(s, true);
}

/* Fold one event; true when it moved the state. */
static bool fold(struct stream *s, json_t *event)
{
    enum ty_run_event ev = ty_run_event_parse(json_string_value(json_object_get(event, "kind")));
    enum ty_run_state before = s->state.state;
    struct ty_event_note note = { .exit_code = -1 };

    s->cursor.seq = json_integer_value(json_object_get(event, "seq"));
    if (ev < 0 || ty_run_apply(&s->state, ev, &note) < 0 || s->state.state == before)
        return false;
    json_decref(s->moved);
    s->moved = json_incref(event);
    return true;
}

/* Read a page of events.  1: there may be more; 0: none is left; negative: the run is gone or
 * cannot be read. */
static int read_events(struct stream *s)
{
    CLEANUP_JSON json_t *events = NULL;
    json_t *event;
    int64_t id;
    size_t i;
    int r = ty_store_run_id(s->http->o.store, s->run, &id);

    if (r == 0)
        r = id == s->run_id
                ? ty_store_events(s->http->o.store, id, s->cursor.seq, EVENTS_PER_READ, &events)
                : -ENOENT;
    if (r < 0)
        return r;
    json_array_foreach (events, i, event)
        if (fold(s, event) && !s->fresh && s->cursor.seq > s->resume_seq)
            send_state(s, i + 1 == json_array_size(events));
    return json_array_size(events) == EVENTS_PER_READ;
}

/* Log bytes from the cursor on; how many, 0 when there are none; -ENOENT: the log is gone. */
static ssize_t read_log(struct stream *s, char *buf, uint64_t *size)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_CLOSE int fd = -1;
    uint64_t offset = (uint64_t)s->cursor.offset, n;
    char other[TY_DRIVER_LOG_MAX];
    const char *log = log_name(s->log, other);
    ssize_t got;

    if (ty_store_log_size(s->http->o.store, s->run_id, log, size) < 0 || *size <= offset)
        return 0;
    n = *size - offset < LOG_PER_READ ? *size - offset : LOG_PER_READ;
    path = ty_store_log_path(s->http->o.store, s->run, log);
    if (!path)
        return -ENOMEM;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    got = pread(fd, buf, n, (off_t)offset);
    return got < 0 ? -errno : got;
}

/* The next piece of the log, if there is one; true when the log is at its end, or gone.  What cannot be read now ends the stream:
 * the client comes back. */
static bool send_log(struct stream *s)
{
    static char buf[LOG_PER_READ]; /* the loop thread alone comes here */
    uint64_t size = 0;
    ssize_t n;

    if (!s->log || s->log_done)
        return true;
    n = read_log(s, buf, &size);
    if (n == -ENOENT || (n == 0 && size > (uint64_t)s->cursor.offset)) {
        s->log_done = true;
        return true;
    }
    if (n < 0) {
        s->finished = true;
        return false;
    }
    if (n > 0)
        sse_log(&s->out, &s->cursor, s->log, -1, buf, (size_t)n,
                (s->now || ty_run_state_ended(s->state.state)) &&
                    (uint64_t)s->cursor.offset + (uint64_t)n == size);
    return (uint64_t)s->cursor.offset >= size;
}

/* The next rows, if there are any; true when no more are stored.  What cannot be read ends the stream: the client comes
 * back. */
static bool send_rows(struct stream *s)
{
    CLEANUP_JSON json_t *rows = NULL;
    CLEANUP_JSON json_t *data = NULL;
    bool more = false;

    if (!s->cursor.rows)
        return true;
    if (ty_store_rows_from(s->http->o.store, s->run_id, &s->rows, s->system, ROWS_PER_READ, &rows,
                           &more) < 0) {
        s->finished = true;
        return false;
    }
    if (json_array_size(rows) > 0) {
        data = json_pack("{s:O}", "rows", rows);
        sse_json(&s->out, &s->cursor, "rows", data);
    }
    return !more;
}

static void send_end(struct stream *s)
{
    CLEANUP_JSON json_t *run = NULL;

    s->finished = true;
    if (ty_store_run(s->http->o.store, s->run, false, &run) < 0)
        return;
    ty_sched_annotate(s->http->o.sched, run);
    sse_json(&s->out, &s->cursor, "end", run);
}

/* Put into s->out what is new, if anything is. */
static void produce(struct stream *s)
{
    int r = read_events(s);
    bool all;

    if (r < 0) {
        s->finished = true; /* removed: nothing more can be said of it */
        return;
    }
    if (r > 0) {
        if (!s->out.len)
            ty_str_add(&s->out,
                       ":\n\n"); /* the page brought nothing: one page a turn keeps the loop free */
        return;
    }
    if (s->fresh) {
        s->fresh = false;
        if (s->cursor.seq > s->resume_seq || s->resume_seq == 0)
            send_state(s, true);
    } else if (is_waiting(s->state.state) && !s->out.len) {
        send_why(s);
    }
    all = s->ranks ? stream_ranks_send(s) : send_log(s);
    all = send_rows(s) && all;
    if (all && ty_run_state_ended(s->state.state))
        send_end(s);
    else if (all && s->now)
        s->finished = true;
}

static ssize_t stream_read(void *ctx, uint64_t pos, char *buf, size_t max)
{
    struct stream *s = ctx;
    size_t n;

    (void)pos;
    if (s->sent == s->out.len) {
        ty_str_done(&s->out);
        s->sent = 0;
        if (!s->finished)
            produce(s);
        if (s->out.failed)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (!s->out.len && s->beat)
            ty_str_add(&s->out, ":\n\n");
        s->beat = false;
    }
    n = s->out.len - s->sent < max ? s->out.len - s->sent : max;
    if (n == 0 && s->finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        s->suspended = true;
        MHD_suspend_connection(s->conn);
        return 0;
    }
    memcpy(buf, s->out.text + s->sent, n);
    s->sent += n;
    return (ssize_t)n;
}

/* ---- life cycle ---- */

static void stream_free(void *ctx)
{
    struct stream *s = ctx;

    if (!s)
        return;
    ty_follow_remove(s->http->o.hub, &s->follower);
    if (s->slot) {
        *s->slot = s->next;
        if (s->next)
            s->next->slot = s->slot;
    }
    json_decref(s->moved);
    json_decref(s->why);
    ty_row_places_done(&s->rows);
    stream_ranks_done(s);
    ty_str_done(&s->out);
    free(s->run);
    free(s->log);
    free(s);
}

static void stream_freep(struct stream **s)
{
    stream_free(*s);
}

static struct stream *stream_new(struct request *req, int64_t run_id, const char *log)
{
    struct ty_http *h = req->http;
    struct stream *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    *s = (struct stream){ .follower = { .wake = on_wake },
                          .http = h,
                          .conn = req->conn,
                          .fd = req->peer->fd,
                          .run = strdup(req->args[0]),
                          .run_id = run_id,
                          .log = *log ? strdup(log) : NULL,
                          .state = TY_RUN_INIT,
                          .fresh = true,
                          .next = h->streams,
                          .slot = &h->streams };
    if (s->next)
        s->next->slot = &s->next;
    h->streams = s;
    if (!s->run || (*log && !s->log)) {
        stream_free(s);
        return NULL;
    }
    return s;
}

static int follow_add(struct request *req, struct stream *s)
{
    struct ty_http *h = req->http;
    size_t limit = (size_t)ty_conf_number(h->o.conf, "limits.followers");
    int r = ty_follow_add(h->o.hub, s->run, &s->follower, limit);

    if (r == -EUSERS) {
        drop_dead(h);
        r = ty_follow_add(h->o.hub, s->run, &s->follower, limit);
    }
    if (r == -EUSERS)
        return ty_error_set(
            &req->err, r,
            "%zu followers are connected already (limits.followers); end one, or raise the limit",
            limit);
    return r < 0 ? ty_error_oom(&req->err) : 0;
}

/* Where the log begins that came since the time that is asked for.  One that is not there yet comes whole. */
static int read_since(struct request *req, struct stream *s, const char *log, int64_t *ret)
{
    uint64_t offset = 0;
    int r = ty_store_log_since(req->http->o.store, s->run_id, s->run, log,
                               request_time(req, "since", 0), &offset);

    if (r < 0 && r != -ENOENT)
        return run_missing(req, r, s->run);
    *ret = (int64_t)offset;
    return 0;
}

static int all_since(struct request *req, struct stream *s)
{
    char buf[TY_DRIVER_LOG_MAX];
    int r = 0;

    if (!s->ranks)
        return s->log ? read_since(req, s, log_name(s->log, buf), &s->cursor.offset) : 0;
    for (int i = 0; i < s->cursor.nranks && r == 0; i++)
        r = read_since(req, s, s->ranks[i].name, &s->cursor.ranks[i]);
    return r;
}

/* Where to go on: the id of the last event that was seen, else the time that is asked for. */
static int read_place(struct request *req, struct stream *s)
{
    const char *header = request_header(req, "Last-Event-ID");
    const char *text = header ? header : request_param(req, "after");
    struct sse_cursor from = s->cursor;
    int r;

    if (!text)
        return request_param(req, "since") ? all_since(req, s) : 0;
    r = *text ? sse_cursor_parse(text, &from, &s->rows) : 0;
    if (r == -ENOMEM)
        return ty_error_oom(&req->err);
    if (r < 0)
        return ty_error_set(
            &req->err, -EINVAL,
            "'%.80s' is not the id of an event of this stream, which is <event seq>:<log offset> (with ranks=1 "
            "<offset>.<offset>...), and :<writer>-<row>.<writer>-<row>... where it has rows",
            text);
    s->resume_seq = from.seq;
    s->cursor.offset = from.offset;
    return 0;
}

/* The logs of all its processes, if the run has several. */
static int open_ranks(struct request *req, struct stream *s)
{
    CLEANUP_JSON json_t *run = NULL;
    int r = ty_store_run(s->http->o.store, s->run, true, &run);
    const json_t *spec = json_object_get(run, "spec"), *nodes = json_object_get(spec, "node_count"),
                 *each = json_object_get(spec, "process_count_per_node");
    int64_t size = (json_is_integer(nodes) ? json_integer_value(nodes) : 1) *
                   (json_is_integer(each) ? json_integer_value(each) : 1);

    if (r < 0)
        return run_missing(req, r, s->run);
    return size > 1 && stream_ranks_open(s, size) < 0 ? ty_error_oom(&req->err) : 0;
}

int ty_http_run_follow(struct request *req, struct reply *reply)
{
    const char *asked = request_param(req, "log"), *log = asked ? asked : DRIVER_LOG;
    CLEANUP(stream_freep) struct stream *s = NULL;
    int64_t id;
    int r;

    if (*log && !ty_path_is_inside(log))
        return ty_error_set(&req->err, -EINVAL, "'%.200s' cannot be the name of a log", log);
    r = ty_store_run_id(req->http->o.store, req->args[0], &id);
    if (r < 0)
        return run_missing(req, r, req->args[0]);
    s = stream_new(req, id, log);
    if (!s)
        return ty_error_oom(&req->err);
    s->system = request_switch(req, "system");
    s->now = request_switch(req, "now");
    r = request_switch(req, "ranks") ? open_ranks(req, s) : 0;
    if (r == 0)
        r = read_place(req, s);
    if (r == 0)
        r = follow_add(req, s);
    if (r < 0)
        return r;
    if (request_switch(req, "rows"))
        s->cursor.rows = &s->rows;
    reply->response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, stream_read, s, stream_free);
    if (!reply->response)
        return ty_error_oom(&req->err);
    s = NULL; /* the response's */
    reply->status = 200;
    r = reply_header(reply, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
    return r < 0 ? r : reply_header(reply, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
}
