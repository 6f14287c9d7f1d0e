/* stream.c - connecting, framing and coming back */
#include "runner/stream.h"
#include "base/cleanup.h"
#include "base/link_ends.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PING_US (2 * 1000 * 1000)
#define READ_STEP (16 * 1024)
#define IN_MAX (TY_WIRE_PAYLOAD_MAX + TY_WIRE_HEAD)

struct ty_stream {
    char *socket, *hello; /* of the side that opens the stream */
    struct ty_call *call; /* in place of a socket; NULL: none */
    struct ty_link *link; /* what carries the stream; NULL: the socket itself */
    bool called;          /* the other side opens the stream */
    bool closed;          /* by the other side, and not by a cut */
    bool refused,
        calling;       /* calling: the call has begun and is neither answered nor has it failed */
    int fd;            /* -1: not connected; that of the link, if there is one */
    uint64_t serial;   /* connections so far */
    int64_t retry_us;  /* when to connect next */
    int64_t delay_us;  /* before the connection after that */
    int64_t spoken_us; /* when something was sent last */
    struct ty_str out; /* frames; out.text[out_at..] is not sent yet */
    size_t out_at;
    char *in; /* in[in_at..in_len) is not decoded yet */
    size_t in_at, in_len, in_cap;
    size_t peeked; /* bytes of the frame that was looked at */
    bool ended;    /* the other side closed; what it said before is still to be heard */
};

static struct ty_stream *fresh(void)
{
    struct ty_stream *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->fd = -1;
    s->delay_us = TY_STREAM_DELAY_MIN_US;
    return s;
}

struct ty_stream *ty_stream_new(const char *socket, const char *hello)
{
    struct ty_stream *s = fresh();

    if (!s)
        return NULL;
    s->socket = strdup(socket);
    s->hello = strdup(hello);
    return s->socket && s->hello ? s : ty_stream_free(s);
}

struct ty_stream *ty_stream_new_call(struct ty_call *call, const char *hello)
{
    struct ty_stream *s = fresh();

    if (!s) {
        ty_call_free(call);
        return NULL;
    }
    s->call = call;
    s->hello = strdup(hello);
    return s->hello ? s : ty_stream_free(s);
}

struct ty_stream *ty_stream_new_called(struct ty_link *link)
{
    struct ty_stream *s = fresh();

    if (!s) {
        ty_link_free(link);
        return NULL;
    }
    s->called = true;
    s->link = link;
    s->fd = ty_link_fd(link);
    s->serial = 1;
    return s;
}

static void hang_up(struct ty_stream *s)
{
    if (s->link)
        s->link = ty_link_free(s->link);
    else if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

struct ty_stream *ty_stream_free(struct ty_stream *s)
{
    if (!s)
        return NULL;
    hang_up(s);
    ty_call_free(s->call);
    ty_str_done(&s->out);
    free(s->in);
    free(s->socket);
    free(s->hello);
    free(s);
    return NULL;
}

bool ty_stream_connected(const struct ty_stream *s)
{
    return s->fd >= 0;
}
bool ty_stream_refused(const struct ty_stream *s)
{
    return s->refused;
}
bool ty_stream_closed(const struct ty_stream *s)
{
    return s->closed;
}
const struct ty_link *ty_stream_link(const struct ty_stream *s)
{
    return s->link;
}
uint64_t ty_stream_serial(const struct ty_stream *s)
{
    return s->fd >= 0 ? s->serial : 0;
}
bool ty_stream_room(const struct ty_stream *s)
{
    return s->fd >= 0 && !s->ended && s->out.len - s->out_at < TY_STREAM_OUT_MAX;
}

/* Bytes that wait for the socket. */
static bool waits(const struct ty_stream *s)
{
    return s->out.len > s->out_at || (s->link && ty_link_unsent(s->link) > 0);
}

int ty_stream_fd(const struct ty_stream *s, short *events)
{
    *events = waits(s) ? POLLIN | POLLOUT : POLLIN;
    if (s->fd < 0 && s->call)
        return ty_call_fd(s->call);
    return s->fd;
}

int64_t ty_stream_due(const struct ty_stream *s)
{
    if (s->ended || (s->link && ty_link_holds(s->link)))
        return 0;
    if (s->fd < 0) {
        int64_t due = s->called ? INT64_MAX : s->retry_us;

        return s->calling && ty_call_due(s->call) < INT64_MAX ? ty_call_due(s->call) : due;
    }
    /* What waits to be sent is as good as a ping; the socket says when it takes more. */
    return s->called || waits(s) ? INT64_MAX : s->spoken_us + PING_US;
}

void ty_stream_progress(struct ty_stream *s)
{
    s->delay_us = TY_STREAM_DELAY_MIN_US;
}

void ty_stream_break(struct ty_stream *s, int64_t now_us)
{
    hang_up(s);
    s->ended = false;
    ty_str_done(&s->out);
    s->out_at = s->in_at = s->in_len = 0;
    s->retry_us = now_us + s->delay_us;
    s->delay_us =
        s->delay_us * 2 < TY_STREAM_DELAY_MAX_US ? s->delay_us * 2 : TY_STREAM_DELAY_MAX_US;
}

/* A path that is too long for a socket address is reached through its folder's descriptor. */
static int socket_address(const char *path, struct sockaddr_un *a, int *dirfd)
{
    const char *slash = strrchr(path, '/');
    int n;

    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) < sizeof a->sun_path || !slash) {
        n = snprintf(a->sun_path, sizeof a->sun_path, "%s", path);
    } else {
        CLEANUP_FREE char *dir = strndup(path, (size_t)(slash - path));

        *dirfd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        if (*dirfd < 0)
            return dir ? -errno : -ENOMEM;
        n = snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", *dirfd, slash + 1);
    }
    return n > 0 && (size_t)n < sizeof a->sun_path ? 0 : -ENAMETOOLONG;
}

/* True: connected. */
static bool socket_connect(struct ty_stream *s)
{
    CLEANUP_CLOSE int dirfd = -1;
    struct sockaddr_un a;

    if (socket_address(s->socket, &a, &dirfd) < 0)
        return false;
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return s->fd >= 0 && connect(s->fd, (struct sockaddr *)&a, sizeof a) == 0;
}

/* 0; -EAGAIN: nobody has answered yet. */
static int call_connect(struct ty_stream *s, int64_t now_us)
{
    int got = ty_call_turn(s->call, now_us, &s->link);

    s->calling = got == -EAGAIN;
    if (got == 0)
        s->fd = ty_link_fd(s->link);
    if (got != -EAGAIN)
        s->refused = got == -ECONNREFUSED;
    return got;
}

static void stream_connect(struct ty_stream *s, int64_t now_us)
{
    struct ty_frame hello = { .type = TY_FRAME_HELLO,
                              .body = s->hello,
                              .body_len = strlen(s->hello) };
    int got = s->call ? call_connect(s, now_us) : socket_connect(s) ? 0 : -ENOTCONN;

    if (got == -EAGAIN)
        return;
    if (got < 0) {
        ty_stream_break(s, now_us);
        return;
    }
    s->serial++;
    s->spoken_us = now_us;
    ty_stream_send(s, &hello);
}

void ty_stream_send(struct ty_stream *s, const struct ty_frame *f)
{
    if (s->fd < 0)
        return;
    if (ty_frame_encode(f, &s->out) < 0) {
        ty_log(TY_LOG_ERROR, "a frame of type %d could not be encoded; connecting again",
               (int)f->type);
        ty_stream_break(s, s->spoken_us);
    }
}

/* As send and recv, but the error is what they return. */
static ssize_t put(struct ty_stream *s, const void *bytes, size_t n)
{
    ssize_t got;

    if (s->link)
        return ty_link_send(s->link, bytes, n);
    do
        got = send(s->fd, bytes, n, MSG_NOSIGNAL);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t get(struct ty_stream *s, void *buf, size_t cap)
{
    ssize_t got;

    if (s->link)
        return ty_link_recv(s->link, buf, cap);
    do
        got = recv(s->fd, buf, cap, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static bool flush(struct ty_stream *s, int64_t now_us)
{
    if (s->link && ty_link_turn(s->link, now_us) < 0)
        return false;
    while (s->out.len > s->out_at) {
        ssize_t n = put(s, s->out.text + s->out_at, s->out.len - s->out_at);

        if (n < 0)
            return n == -EAGAIN;
        s->spoken_us = now_us;
        s->out_at += (size_t)n;
    }
    s->out_at = s->out.len = 0;
    if (s->out.cap > TY_STREAM_OUT_MAX / 4)
        ty_str_done(&s->out);
    return true;
}

/* One of a thousand idle streams holds no memory. */
static void drop_in(struct ty_stream *s)
{
    if (s->called && s->in_at == s->in_len) {
        free(s->in);
        s->in = NULL;
        s->in_at = s->in_len = s->in_cap = 0;
    }
}

static bool grow_in(struct ty_stream *s)
{
    if (s->in_at > 0) {
        memmove(s->in, s->in + s->in_at, s->in_len - s->in_at);
        s->in_len -= s->in_at;
        s->in_at = 0;
    }
    if (s->in_cap - s->in_len >= READ_STEP)
        return true;
    char *more = realloc(s->in, s->in_cap + 2 * READ_STEP);
    if (!more)
        return false;
    s->in = more;
    s->in_cap += 2 * READ_STEP;
    return true;
}

/* False: the connection is over. */
static bool fill(struct ty_stream *s)
{
    while (s->in_len - s->in_at < IN_MAX) {
        ssize_t n;

        if (!grow_in(s))
            return false;
        n = get(s, s->in + s->in_len, s->in_cap - s->in_len);
        s->closed = n == 0 || n == -ECONNRESET || n == -EPIPE;
        if (n <= 0)
            return n == -EAGAIN;
        s->in_len += (size_t)n;
    }
    return true;
}

void ty_stream_turn(struct ty_stream *s, int64_t now_us)
{
    static const struct ty_frame ping = { .type = TY_FRAME_PING };

    if (s->fd < 0 && !s->called && (s->calling || now_us >= s->retry_us))
        stream_connect(s, now_us);
    if (s->ended)
        ty_stream_break(s, now_us);
    if (s->fd < 0)
        return;
    if (!s->called && now_us >= s->spoken_us + PING_US && !waits(s))
        ty_stream_send(s, &ping);
    /* A peer that is gone fails the sending first; what it had said before (RELEASE) is read all the same. */
    bool sent = flush(s, now_us);
    s->ended = !fill(s) || !sent;
    if (s->ended && s->in_len == s->in_at)
        ty_stream_break(s, now_us);
}

void ty_stream_flush(struct ty_stream *s, int64_t now_us)
{
    drop_in(s);
    if (s->fd >= 0 && !s->ended)
        (void)flush(s, now_us);
}

int ty_stream_peek(struct ty_stream *s, struct ty_frame *ret)
{
    ptrdiff_t n;

    s->peeked = 0;
    if (s->fd < 0 || s->in_at == s->in_len)
        return -EAGAIN;
    n = ty_frame_decode(s->in + s->in_at, s->in_len - s->in_at, ret);
    if (n == -EAGAIN)
        return -EAGAIN;
    if (n <= 0) {
        ty_log(TY_LOG_ERROR, "what came is not a frame; the connection ends");
        ty_stream_break(s, s->spoken_us);
        return -EAGAIN;
    }
    s->peeked = (size_t)n;
    return 0;
}

void ty_stream_skip(struct ty_stream *s)
{
    if (s->fd >= 0)
        s->in_at += s->peeked;
    s->peeked = 0;
}

int ty_stream_next(struct ty_stream *s, struct ty_frame *ret)
{
    int r = ty_stream_peek(s, ret);

    if (r == 0)
        ty_stream_skip(s);
    return r;
}
