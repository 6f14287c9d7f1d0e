/* relay.c - the runner's stream, from its host to the daemon
 *
 *   runner -> far end -> channel -> up (frames) -> [files that a frame names come first] -> runner.sock
 *
 * Whole frames are passed on, in order and unchanged.  A record `artifact` waits until its blob lies in the daemon's store,
 * safe on disk; the blobs of those behind it are asked for meanwhile.  While something waits, a PING now and then tells the
 * daemon that the runner lives.  A break on either side ends the connection on the other: the runner comes back, and WELCOME tells it
 * where to go on.
 */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "core/wire.h"
#include "courier/courier_internal.h"
#include "runner/child.h"
#include <errno.h>
#include <string.h>
#include <uthash.h>

#define DAEMON_UNSENT_MAX (1 << 20)
#define CREDIT_STEP (64 * 1024)
#define PING_US (2 * 1000 * 1000)

struct ty_wanted {
    unsigned char sha[TY_CHANNEL_SHA];
    bool gone;
    json_t *data; /* owned; the record of a file of a data reference; NULL: a file of the run */
    uint64_t seq; /* of that record */
    bool landed;  /* its file has come, */
    char *why;    /* or could not be put where it belongs: malloc'ed */
    UT_hash_handle hh;
};

static struct ty_courier_host *leader(struct ty_courier *c)
{
    return &c->hosts[0];
}

static struct ty_wanted *wanted_find(const struct ty_relay *r, const unsigned char *sha)
{
    struct ty_wanted *w;

    HASH_FIND(hh, r->wanted, sha, TY_CHANNEL_SHA, w);
    return w;
}

static void wanted_drop(struct ty_relay *r, struct ty_wanted *w)
{
    HASH_DEL(r->wanted, w);
    json_decref(w->data);
    free(w->why);
    free(w);
}

void ty_relay_close(struct ty_courier *c, bool tell)
{
    struct ty_relay *r = &c->relay;
    struct ty_wanted *w, *next;

    if (ty_flow_is_open(&r->daemon) && tell && ty_host_up(leader(c)))
        ty_channel_send_conn(&leader(c)->ssh.flow, TY_CHANNEL_CLOSE, r->serial, NULL, 0);
    ty_flow_close(&r->daemon);
    ty_str_done(&r->up);
    r->up_at = r->seen_at = 0;
    r->owed = 0;
    r->held = false;
    if (!ty_host_up(
            leader(c))) { /* what is on its way keeps coming as long as the channel is there */
        if (r->put)
            ty_blob_abort(r->put);
        r->put = NULL;
        ty_data_land_abort(TAKE(r->landing));
        r->put_left = 0;
        HASH_ITER (hh, r->wanted, w, next)
            wanted_drop(r, w);
    }
}

void ty_relay_open(struct ty_courier *c, uint32_t serial)
{
    struct ty_relay *r = &c->relay;
    int fd = -1;

    ty_relay_close(c, false);
    r->serial = serial;
    if (!c->verdict)
        fd = ty_voice_connect(c->socket);
    if (fd < 0) { /* no daemon: the runner comes back with a growing delay */
        ty_channel_send_conn(&leader(c)->ssh.flow, TY_CHANNEL_CLOSE, serial, NULL, 0);
        return;
    }
    ty_voice_stop(c);
    ty_flow_open(&r->daemon, fd, fd);
    r->passed_us = c->now_us;
}

int ty_relay_data(struct ty_courier *c, uint32_t serial, const char *bytes, size_t n)
{
    struct ty_relay *r = &c->relay;

    if (!ty_flow_is_open(&r->daemon) || serial != r->serial)
        return 0; /* of one that is over */
    if (r->up.len - r->up_at + n > TY_CHANNEL_WINDOW)
        return -EBADMSG;
    ty_str_addn(&r->up, bytes, n);
    return 0;
}

/* --- files --- */

static int blob_gone(struct ty_relay *r, const struct ty_channel_frame *f)
{
    struct ty_wanted *w =
        f->n == TY_CHANNEL_SHA ? wanted_find(r, (const unsigned char *)f->body) : NULL;

    if (!w)
        return -EBADMSG;
    w->gone = true;
    return 0;
}

/* A host may fill our disk with nothing but what was asked for. */
static int blob_begins(struct ty_courier *c, const struct ty_channel_frame *f)
{
    struct ty_relay *r = &c->relay;
    CLEANUP_JSON json_t *o = NULL;
    unsigned char key[TY_CHANNEL_SHA];
    json_int_t bytes;
    const char *hex;

    if (r->put_left > 0 || ty_channel_json(f, &o) < 0 ||
        !(hex = json_string_value(json_object_get(o, "sha256"))) || ty_sha_to_bytes(hex, key) < 0 ||
        !wanted_find(r, key))
        return -EBADMSG;
    bytes = json_integer_value(json_object_get(o, "bytes"));
    if (bytes < 0)
        return -EBADMSG;
    memcpy(r->put_sha, hex, sizeof r->put_sha);
    r->put_left = (uint64_t)bytes;
    return 0;
}

static struct ty_wanted *wanted_now(const struct ty_relay *r)
{
    unsigned char key[TY_CHANNEL_SHA];

    return ty_sha_to_bytes(r->put_sha, key) == 0 ? wanted_find(r, key) : NULL;
}

static void blob_ended(struct ty_relay *r)
{
    struct ty_wanted *w = wanted_now(r);

    if (w && w->data) {
        w->landed = true;
        return;
    }
    r->unsynced = true;
    if (w)
        wanted_drop(r, w);
}

/* A piece of a file of a data reference goes straight to where it belongs.  What cannot be put there is skipped; its record says why. */
static void land(struct ty_courier *c, struct ty_wanted *w, const struct ty_channel_frame *f)
{
    struct ty_relay *r = &c->relay;
    int got = 0;

    if (f->type == TY_CHANNEL_BLOB)
        r->landing = ty_data_land(c, w->data, &w->why);
    else if (r->landing)
        got = ty_data_land_write(r->landing, f->body, f->n, &w->why);
    if (got < 0)
        ty_data_land_abort(TAKE(r->landing));
    if (r->put_left == 0 && r->landing)
        (void)ty_data_land_end(TAKE(r->landing), &w->why);
    if (r->put_left == 0)
        blob_ended(r);
}

int ty_relay_blob(struct ty_courier *c, const struct ty_channel_frame *f)
{
    struct ty_relay *r = &c->relay;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];
    struct ty_wanted *w;
    int got = 0;

    if (f->type == TY_CHANNEL_GONE)
        return blob_gone(r, f);
    if (f->type == TY_CHANNEL_BLOB && blob_begins(c, f) < 0)
        return -EBADMSG;
    if (f->type == TY_CHANNEL_CHUNK) {
        if (f->n == 0 || f->n > r->put_left)
            return -EBADMSG;
        r->put_left -= f->n;
    }
    w = wanted_now(r);
    if (w && w->data) {
        land(c, w, f);
        return 0;
    }
    if (f->type == TY_CHANNEL_BLOB)
        got = ty_blob_begin(c->blobs, &r->put, &err);
    else if (r->put)
        got = ty_blob_write(r->put, f->body, f->n, &err);
    if (got == 0 && r->put && r->put_left == 0)
        got = ty_blob_finish(TAKE(r->put), r->put_sha, sha, &err);
    if (r->put_left == 0)
        blob_ended(r);
    if (got < 0) { /* a full disk: the runner comes back, and it is tried again */
        ty_log(TY_LOG_ERROR, "a file of the run cannot be kept: %s", err.text);
        if (r->put)
            ty_blob_abort(r->put);
        r->put = NULL;
        ty_relay_close(c, true);
    }
    return 0;
}

/* A record of that kind?  Then it (json_decref), else NULL. */
static json_t *record_of(const struct ty_frame *f, const char *kind)
{
    CLEANUP_JSON json_t *o = NULL;
    const char *its;

    if (f->type != TY_FRAME_RECORD || !memmem(f->body, f->body_len, kind, strlen(kind)) ||
        ty_json_parse(f->body, f->body_len, &o, NULL) < 0)
        return NULL;
    its = json_string_value(json_object_get(o, "kind"));
    return its && strcmp(its, kind) == 0 ? TAKE(o) : NULL;
}

static bool hash_of(const json_t *o, char sha[TY_SHA256_HEX + 1])
{
    const char *hex = json_string_value(json_object_get(o, "sha256"));

    if (!hex || strlen(hex) != TY_SHA256_HEX)
        return false;
    memcpy(sha, hex, TY_SHA256_HEX + 1);
    return true;
}

/* Is this a record of a file of the run?  Then its hash. */
static bool names_file(const struct ty_frame *f, char sha[TY_SHA256_HEX + 1])
{
    CLEANUP_JSON json_t *o = record_of(f, "artifact");

    return o && hash_of(o, sha);
}

/* Ask for a blob that is not here, once.  False: it is nowhere.  `data`, `seq`: of a file of a data reference. */
static bool fetch(struct ty_courier *c, const char *sha, json_t *data, uint64_t seq)
{
    unsigned char key[TY_CHANNEL_SHA];
    struct ty_wanted *w;

    if (ty_sha_to_bytes(sha, key) < 0)
        return false;
    w = wanted_find(&c->relay, key);
    if (w)
        return !w->gone;
    w = calloc(1, sizeof *w);
    if (!w)
        return true;
    memcpy(w->sha, key, sizeof key);
    w->data = json_incref(data);
    w->seq = seq;
    HASH_ADD(hh, c->relay.wanted, sha, TY_CHANNEL_SHA, w);
    ty_channel_send(&leader(c)->ssh.flow, TY_CHANNEL_FETCH, key, sizeof key);
    return true;
}

/* Ask early for what is named further behind. */
static void look_ahead(struct ty_courier *c)
{
    struct ty_relay *r = &c->relay;
    char sha[TY_SHA256_HEX + 1];
    struct ty_frame f;
    ptrdiff_t n;

    if (r->seen_at < r->up_at)
        r->seen_at = r->up_at;
    while (r->seen_at < r->up.len &&
           (n = ty_frame_decode(r->up.text + r->seen_at, r->up.len - r->seen_at, &f)) > 0) {
        CLEANUP_JSON json_t *data = record_of(&f, "data");
        char *why = NULL;

        if (data && f.seq > r->landed_seq && !json_object_get(data, "end") && hash_of(data, sha) &&
            ty_data_pass(c, data, &why) == 2)
            fetch(c, sha, data, f.seq);
        else if (!data && names_file(&f, sha) && !ty_blob_has(c->blobs, sha))
            fetch(c, sha, NULL, 0);
        free(why);
        r->seen_at += (size_t)n;
    }
}

/* --- from the runner to the daemon --- */

/* The record of a file that could not be had becomes a warning of the same number. */
static void pass_warning(struct ty_relay *r, const struct ty_frame *f, const char *why)
{
    CLEANUP_JSON json_t *o = NULL, *warning = NULL;
    CLEANUP_FREE char *text = why ? strdup(why) : NULL, *body = NULL;
    struct ty_frame instead = *f;
    const char *path;

    if (ty_json_parse(f->body, f->body_len, &o, NULL) == 0 &&
        (text ||
         ((path = json_string_value(json_object_get(o, "path"))) &&
          (text = ty_strf("'%s' could not be brought from its host: it is not there any more",
                          path)))) &&
        (warning =
             json_pack("{s:s s:O? s:o}", "kind", "warning", "at_us", json_object_get(o, "at_us"),
                       "text", ty_lossy_text(text, strlen(text)))))
        body = ty_json_text(warning);
    instead.body = body;
    instead.body_len = body ? strlen(body) : 0;
    if (!body || ty_frame_encode(&instead, &r->daemon.unsent) < 0)
        r->daemon.unsent.failed = true;
}

/* The same content is on its way for another record, or was.  True: it is not any more, and is to be asked for again. */
static bool take_over_wanted(struct ty_relay *r, struct ty_wanted *w, const struct ty_frame *f,
                             json_t *o)
{
    char sha[TY_SHA256_HEX + 1];

    ty_sha_to_hex(w->sha, sha);
    if (w->gone || w->landed) {
        wanted_drop(r, w);
        return true;
    }
    if (!w->data || (r->put_left > 0 && strcmp(r->put_sha, sha) == 0))
        return false; /* it will have gone when that has come */
    json_decref(w->data);
    w->data = json_incref(o);
    w->seq = f->seq;
    return false;
}

/* A record of a data reference: 1 it goes on, 0 it has to wait, -1 *why goes on in its place. */
static int pass_data(struct ty_courier *c, const struct ty_frame *f, json_t *o, char **why)
{
    struct ty_relay *r = &c->relay;
    unsigned char key[TY_CHANNEL_SHA];
    char sha[TY_SHA256_HEX + 1] = "";
    struct ty_wanted *w = NULL;
    int got;

    if (f->seq <= r->landed_seq)
        return 1;
    if (hash_of(o, sha) && ty_sha_to_bytes(sha, key) == 0)
        w = wanted_find(r, key);
    if (w && w->data && w->seq == f->seq) {
        if (!w->landed && !w->gone && !w->why)
            return 0;
        *why = w->gone ? strdup("a file of a data reference could not be brought back: it is not "
                                "there any more")
                       : TAKE(w->why);
        wanted_drop(r, w);
        r->landed_seq = f->seq;
        return *why ? -1 : 1;
    }
    if (w && !take_over_wanted(r, w, f, o))
        return 0;
    got = ty_data_pass(c, o, why);
    if (got == 2 && !fetch(c, sha, o, f->seq)) {
        *why = strdup("a file of a data reference was not brought back: its record has no hash");
        got = 0;
    }
    if (got == 0)
        r->landed_seq = f->seq;
    return got != 0 ? 0 : *why ? -1 : 1;
}

/* One frame.  False: it has to wait. */
static bool pass(struct ty_courier *c, const struct ty_frame *f, size_t n)
{
    struct ty_relay *r = &c->relay;
    CLEANUP_JSON json_t *data = record_of(f, "data");
    CLEANUP_FREE char *why = NULL;
    char sha[TY_SHA256_HEX + 1];
    int got = data ? pass_data(c, f, data, &why) : 1;

    if (got == 0)
        return false;
    if (got < 0) {
        pass_warning(r, f, why);
        return true;
    }

    if (names_file(f, sha)) {
        if (!ty_blob_has(c->blobs, sha)) {
            if (fetch(c, sha, NULL, 0))
                return false;
            pass_warning(r, f, NULL);
            return true;
        }
        if (r->unsynced && ty_blobs_sync(c->blobs) < 0)
            ty_log(TY_LOG_WARN, "the disk did not confirm the files of the run");
        r->unsynced = false;
    }
    ty_str_addn(&r->daemon.unsent, r->up.text + r->up_at, n);
    return true;
}

static int pump_up(struct ty_courier *c)
{
    struct ty_relay *r = &c->relay;
    struct ty_frame f;
    ptrdiff_t n = 0;

    r->held = false;
    while (r->up_at < r->up.len && ty_flow_unsent(&r->daemon) < DAEMON_UNSENT_MAX &&
           (n = ty_frame_decode(r->up.text + r->up_at, r->up.len - r->up_at, &f)) > 0) {
        if (!pass(c, &f, (size_t)n)) {
            r->held = true;
            break;
        }
        r->up_at += (size_t)n;
        r->owed += (uint32_t)n;
        r->passed_us = c->now_us;
    }
    if (r->up.failed || (n < 0 && n != -EAGAIN))
        return -EBADMSG;
    look_ahead(c);
    if (r->up_at > 0 && (r->up_at == r->up.len || r->up_at >= CREDIT_STEP)) {
        memmove(r->up.text, r->up.text + r->up_at, r->up.len - r->up_at);
        r->up.len -= r->up_at;
        r->seen_at -= r->up_at;
        r->up_at = 0;
    }
    return 0;
}

static void give_credit(struct ty_courier *c)
{
    struct ty_relay *r = &c->relay;
    unsigned char b[4];

    if (r->owed < CREDIT_STEP)
        return;
    ty_put_u32(b, r->owed);
    ty_channel_send_conn(&leader(c)->ssh.flow, TY_CHANNEL_CREDIT, r->serial, b, sizeof b);
    r->owed = 0;
}

/* --- from the daemon to the runner --- */

static int pump_down(struct ty_courier *c)
{
    struct ty_relay *r = &c->relay;
    struct ty_flow *to = &leader(c)->ssh.flow;
    struct ty_frame f;
    ptrdiff_t n = 0;

    while (ty_flow_waiting(&r->daemon) &&
           (n = ty_frame_decode(ty_flow_bytes(&r->daemon), ty_flow_waiting(&r->daemon), &f)) > 0) {
        bool over = f.type == TY_FRAME_RELEASE || f.type == TY_FRAME_REFUSED;

        for (size_t at = 0; at < (size_t)n; at += TY_CHANNEL_PART)
            ty_channel_send_conn(to, TY_CHANNEL_DATA, r->serial, ty_flow_bytes(&r->daemon) + at,
                                 (size_t)n - at < TY_CHANNEL_PART ? (size_t)n - at
                                                                  : TY_CHANNEL_PART);
        ty_flow_use(&r->daemon, (size_t)n);
        if (over)
            ty_way_released(c);
    }
    return n < 0 && n != -EAGAIN ? -EBADMSG : 0;
}

void ty_relay_turn(struct ty_courier *c)
{
    struct ty_relay *r = &c->relay;
    static const struct ty_frame ping = { .type = TY_FRAME_PING };
    int up, down, got = 0;

    if (!ty_flow_is_open(&r->daemon))
        return;
    if (ty_flow_unsent(&leader(c)->ssh.flow) < TY_CHANNEL_UNSENT_MAX)
        got = ty_flow_read(&r->daemon, TY_WIRE_PAYLOAD_MAX + TY_WIRE_HEAD);
    down = pump_down(c);
    up = pump_up(c);
    if (r->held && c->now_us >= r->passed_us + PING_US) {
        ty_frame_encode(&ping, &r->daemon.unsent);
        r->passed_us = c->now_us;
    }
    give_credit(c);
    if (got == 0)
        got = ty_flow_write(&r->daemon);
    if (up < 0 || down < 0)
        ty_log(TY_LOG_ERROR, "the stream of the runner is not understood");
    if (up < 0 || down < 0 || got < 0)
        ty_relay_close(c, true);
}

int ty_relay_poll(const struct ty_courier *c, struct pollfd *p)
{
    return ty_flow_is_open(&c->relay.daemon) ? ty_flow_poll(&c->relay.daemon, p, true) : 0;
}

int64_t ty_relay_due(const struct ty_courier *c)
{
    return ty_flow_is_open(&c->relay.daemon) && c->relay.held ? c->relay.passed_us + PING_US
                                                              : TY_NEVER;
}
