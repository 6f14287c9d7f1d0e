/* voice.c - the courier as the runner of its job
 *
 * While it brings content it says that it lives, and hears of a cancellation; when no runner can tell how the job ended, it
 * tells.  The daemon knows no difference (docs/spec/runner-stream.md).
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "core/wire.h"
#include "courier/courier_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DELAY_MIN_US (50 * 1000)
#define DELAY_MAX_US (2 * 1000 * 1000)
#define PING_US (2 * 1000 * 1000)

int ty_voice_connect(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    CLEANUP_CLOSE int dirfd = -1, fd = -1;
    int n;

    if (strlen(path) < sizeof a.sun_path || !slash) {
        n = snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    } else { /* too long for an address: through its folder */
        CLEANUP_FREE char *dir = strndup(path, (size_t)(slash - path));

        dirfd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        if (dirfd < 0)
            return dir ? -errno : -ENOMEM;
        n = snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dirfd, slash + 1);
    }
    if (n <= 0 || (size_t)n >= sizeof a.sun_path)
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static void send_frame(struct ty_voice *v, enum ty_frame_type type, uint64_t seq, json_t *body)
{
    CLEANUP_FREE char *text = body ? ty_json_text(body) : NULL;
    struct ty_frame f = {
        .type = type, .seq = seq, .body = text, .body_len = text ? strlen(text) : 0
    };

    if (body && !text)
        v->daemon.unsent.failed = true;
    else
        ty_frame_encode(&f, &v->daemon.unsent);
    json_decref(body);
}

static void stop(struct ty_courier *c)
{
    struct ty_voice *v = &c->voice;

    ty_flow_close(&v->daemon);
    v->welcomed = false;
    v->retry_us = c->now_us + v->delay_us;
    v->delay_us = v->delay_us * 2 < DELAY_MAX_US ? v->delay_us * 2 : DELAY_MAX_US;
}

void ty_voice_stop(struct ty_courier *c)
{
    ty_flow_close(&c->voice.daemon);
    c->voice.wanted = c->voice.welcomed = false;
}

static void begin(struct ty_courier *c)
{
    struct ty_voice *v = &c->voice;
    struct ty_proc_id me = { 0 };
    int fd = ty_voice_connect(c->socket);

    if (v->delay_us < DELAY_MIN_US)
        v->delay_us = DELAY_MIN_US;
    if (fd < 0) {
        stop(c);
        return;
    }
    ty_proc_identify(getpid(), &me);
    ty_flow_open(&v->daemon, fd, fd);
    v->spoken_us = c->now_us;
    send_frame(v, TY_FRAME_HELLO, 0,
               json_pack("{s:i, s:s, s:I, s:s, s:s, s:i, s:I}", "protocol", TY_WIRE_PROTOCOL, "run",
                         c->run, "attempt", (json_int_t)c->attempt, "token", c->token, "boot",
                         me.boot, "pid", (int)me.pid, "start", (json_int_t)me.start));
}

/* What a runner would have told: how it ended, and that nothing more comes. */
static void tell(struct ty_courier *c, uint64_t next)
{
    send_frame(&c->voice, TY_FRAME_RECORD, next, json_incref(c->verdict));
    send_frame(&c->voice, TY_FRAME_RECORD, next + 1,
               json_pack("{s:s, s:I}", "kind", "collected", "at_us", (json_int_t)ty_wall_us()));
}

static void welcome(struct ty_courier *c, const struct ty_frame *f)
{
    struct ty_voice *v = &c->voice;
    CLEANUP_JSON json_t *o = NULL;
    json_int_t next;

    if (ty_json_parse(f->body, f->body_len, &o, NULL) < 0)
        return;
    v->welcomed = true;
    v->delay_us = DELAY_MIN_US;
    next = json_integer_value(json_object_get(o, "record_next"));
    v->log_sent = v->log_stored =
        (uint64_t)json_integer_value(json_object_get(json_object_get(o, "logs"), TY_CONTROL_LOG));
    if (json_is_true(json_object_get(o, "cancel")))
        c->cancel = true;
    if (c->verdict)
        tell(c, next > 0 ? (uint64_t)next : 1);
}

void ty_voice_note(struct ty_courier *c, const char *text)
{
    struct ty_voice *v = &c->voice;
    CLEANUP_STR struct ty_str line = { 0 };
    struct ty_frame f = { .type = TY_FRAME_LOG,
                          .seq = v->log_sent,
                          .name = TY_CONTROL_LOG,
                          .name_len = strlen(TY_CONTROL_LOG) };
    char time[32];

    ty_log(TY_LOG_INFO, "%s", text);
    if (!v->welcomed || !ty_flow_is_open(&v->daemon) || c->verdict)
        return;
    ty_str_addf(&line, "%s %s\n", ty_time_iso(ty_wall_us(), time), text);
    if (line.failed)
        return;
    f.body = line.text;
    f.body_len = line.len;
    if (ty_frame_encode(&f, &v->daemon.unsent) == 0)
        v->log_sent += line.len;
}

bool ty_voice_settled(const struct ty_courier *c)
{
    const struct ty_voice *v = &c->voice;

    return !v->welcomed || !ty_flow_is_open(&v->daemon) || v->log_stored >= v->log_sent;
}

static void hear(struct ty_courier *c)
{
    struct ty_voice *v = &c->voice;
    struct ty_frame f;
    ptrdiff_t n;

    while (ty_flow_is_open(&v->daemon) &&
           (n = ty_frame_decode(ty_flow_bytes(&v->daemon), ty_flow_waiting(&v->daemon), &f)) !=
               -EAGAIN) {
        if (n < 0) {
            stop(c);
            return;
        }
        if (f.type == TY_FRAME_WELCOME)
            welcome(c, &f);
        if (f.type == TY_FRAME_LOG_ACK)
            v->log_stored = f.seq;
        if (f.type == TY_FRAME_CANCEL)
            c->cancel = true;
        if (f.type == TY_FRAME_REFUSED)
            ty_log(TY_LOG_WARN, "the daemon refused this run: %.*s", (int)f.body_len,
                   (const char *)f.body);
        if (f.type == TY_FRAME_REFUSED || f.type == TY_FRAME_RELEASE) {
            ty_voice_stop(c);
            ty_way_released(c);
            return;
        }
        ty_flow_use(&v->daemon, (size_t)n);
    }
}

void ty_voice_turn(struct ty_courier *c)
{
    struct ty_voice *v = &c->voice;
    int r;

    if (!v->wanted)
        return;
    if (!ty_flow_is_open(&v->daemon) && c->now_us >= v->retry_us)
        begin(c);
    if (!ty_flow_is_open(&v->daemon))
        return;
    r = ty_flow_read(&v->daemon, TY_WIRE_PAYLOAD_MAX + TY_WIRE_HEAD);
    hear(c);
    if (!ty_flow_is_open(&v->daemon))
        return;
    if (v->welcomed && c->now_us >= v->spoken_us + PING_US) {
        send_frame(v, TY_FRAME_PING, 0, NULL);
        v->spoken_us = c->now_us;
    }
    if (r == 0)
        r = ty_flow_write(&v->daemon);
    if (r < 0)
        stop(c);
}

int ty_voice_poll(const struct ty_courier *c, struct pollfd *p)
{
    return c->voice.wanted && ty_flow_is_open(&c->voice.daemon)
               ? ty_flow_poll(&c->voice.daemon, p, true)
               : 0;
}

int64_t ty_voice_due(const struct ty_courier *c)
{
    if (!c->voice.wanted)
        return TY_NEVER;
    return ty_flow_is_open(&c->voice.daemon) ? c->voice.spoken_us + PING_US : c->voice.retry_us;
}
