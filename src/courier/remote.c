/* remote.c - the far end of a channel
 *
 *   channel in -> frames -> what they ask for
 *   runner ~ daemon.sock -> DATA, as far as there is credit
 *   blobs that were asked for -> BLOB, CHUNK..., as far as the channel takes them
 *
 * One thread, one poll loop.  What fails is told with FAILED; what to do about it is the courier's business.  When the
 * channel ends, this ends, and the runner waits at its socket for the next one.
 */
#include "courier/remote.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "blob/blob.h"
#include "core/target_spec.h"
#include "courier/channel.h"
#include "courier/facts.h"
#include "courier/farjob.h"
#include "data/marker.h"
#include "runner/child.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef TY_VERSION
#define TY_VERSION "0"
#endif
/* A leader listens a few milliseconds after its start, and all other nodes wait for that: at first it is looked for often. */
#define LINK_LOOK_US 1000
#define LINK_LOOK_MAX_US (20 * 1000)
#define RELEASED_US (5 * 1000 * 1000) /* for a released runner to remove its folder */
#define FETCHES_MAX 65536

struct remote {
    struct ty_flow ch;
    struct ty_far far;
    int64_t now_us, heard_us, spoken_us;
    bool over;

    /* a blob that comes */
    struct ty_blob_put *put; /* NULL: none, or it failed and its rest is skipped */
    uint64_t put_left;
    char put_sha[TY_SHA256_HEX + 1];

    /* blobs that are asked for: want[fetched..nwant) */
    unsigned char (*want)[TY_CHANNEL_SHA];
    size_t nwant, fetched;
    int fetch; /* -1: none is being sent */
    uint64_t fetch_left;

    /* the runner */
    int listener;
    struct ty_flow conn;
    uint32_t serial; /* of its present connection */
    uint32_t credit;
    bool conn_open; /* the courier knows of it */
    int pidfd;
    pid_t child; /* 0: not our child */
    struct ty_proc_id runner;
    bool awaits_link;
    int64_t link_us, link_wait_us; /* when to look for it, and how long to wait after that */
};

static void fail(struct remote *r, const char *text)
{
    ty_channel_send_json(&r->ch, TY_CHANNEL_FAILED,
                         json_pack("{s:o}", "message", ty_lossy_text(text, strlen(text))));
}

/* --- content that comes --- */

static void ask(struct remote *r, const struct ty_channel_frame *f)
{
    struct ty_str missing = { 0 };

    for (size_t i = 0; i + TY_CHANNEL_SHA <= f->n; i += TY_CHANNEL_SHA) {
        char hex[TY_SHA256_HEX + 1];

        ty_sha_to_hex((const unsigned char *)f->body + i, hex);
        if (!ty_blob_has(r->far.blobs, hex))
            ty_str_addn(&missing, f->body + i, TY_CHANNEL_SHA);
    }
    r->ch.unsent.failed |= missing.failed;
    ty_channel_send(&r->ch, TY_CHANNEL_MISSING, missing.text, missing.len);
    ty_str_done(&missing);
}

/* Which of these folders are the courier's own, by their words? */
static int look(struct remote *r, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    json_t *seen = json_array(), *folder;
    size_t i;

    if (ty_channel_json(f, &o) < 0) {
        json_decref(seen);
        return -EBADMSG;
    }
    json_array_foreach (json_object_get(o, "folders"), i, folder) {
        const char *path = json_string_value(json_object_get(folder, "path")),
                   *token = json_string_value(json_object_get(folder, "token"));

        json_array_append_new(seen, json_boolean(path && token && path[0] == '/' && *token &&
                                                 ty_marker_fits(path, token)));
    }
    ty_channel_send_json(&r->ch, TY_CHANNEL_SEEN, json_pack("{s:o}", "seen", seen));
    return 0;
}

static void put_failed(struct remote *r, const struct ty_error *err)
{
    if (r->put)
        ty_blob_abort(r->put);
    r->put = NULL;
    fail(r, err->text);
}

static void put_done(struct remote *r)
{
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];

    if (!r->put)
        return;
    if (ty_blob_finish(TAKE(r->put), r->put_sha, sha, &err) < 0)
        fail(r, err.text);
}

static int blob(struct remote *r, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_error err = { 0 };
    const char *sha;
    json_int_t bytes;

    if (r->put_left > 0 || ty_channel_json(f, &o) < 0)
        return -EBADMSG;
    sha = json_string_value(json_object_get(o, "sha256"));
    bytes = json_integer_value(json_object_get(o, "bytes"));
    if (!sha || strlen(sha) != TY_SHA256_HEX || bytes < 0)
        return -EBADMSG;
    memcpy(r->put_sha, sha, sizeof r->put_sha);
    r->put_left = (uint64_t)bytes;
    if (ty_blob_begin(r->far.blobs, &r->put, &err) < 0)
        put_failed(r, &err);
    else if (r->put_left == 0)
        put_done(r);
    return 0;
}

static int chunk(struct remote *r, const struct ty_channel_frame *f)
{
    struct ty_error err = { 0 };

    if (f->n > r->put_left)
        return -EBADMSG;
    r->put_left -= f->n;
    if (r->put && ty_blob_write(r->put, f->body, f->n, &err) < 0)
        put_failed(r, &err);
    if (r->put_left == 0)
        put_done(r);
    return 0;
}

/* --- content that goes --- */

static int want(struct remote *r, const struct ty_channel_frame *f)
{
    void *more;

    if (f->n != TY_CHANNEL_SHA || r->nwant - r->fetched >= FETCHES_MAX)
        return -EBADMSG;
    if (r->fetched == r->nwant)
        r->fetched = r->nwant = 0;
    more = realloc(r->want, (r->nwant + 1) * sizeof *r->want);
    if (!more)
        return -ENOMEM;
    r->want = more;
    memcpy(r->want[r->nwant++], f->body, TY_CHANNEL_SHA);
    return 0;
}

static void fetch_next(struct remote *r)
{
    const unsigned char *sha = r->want[r->fetched++];
    char hex[TY_SHA256_HEX + 1];
    int64_t bytes;

    ty_sha_to_hex(sha, hex);
    bytes = ty_blob_bytes(r->far.blobs, hex);
    r->fetch = bytes < 0 ? -1 : ty_blob_open(r->far.blobs, hex);
    if (r->fetch < 0) {
        ty_channel_send(&r->ch, TY_CHANNEL_GONE, sha, TY_CHANNEL_SHA);
        return;
    }
    r->fetch_left = (uint64_t)bytes;
    ty_channel_send_json(&r->ch, TY_CHANNEL_BLOB,
                         json_pack("{s:s, s:I}", "sha256", hex, "bytes", (json_int_t)bytes));
}

static void fetch_some(struct remote *r, char *buf)
{
    while (ty_flow_unsent(&r->ch) < TY_CHANNEL_UNSENT_MAX) {
        size_t n = r->fetch_left < TY_CHANNEL_PART ? (size_t)r->fetch_left : TY_CHANNEL_PART;

        if (r->fetch < 0 && r->fetched == r->nwant)
            return;
        if (r->fetch < 0) {
            fetch_next(r);
            continue;
        }
        ssize_t got = n ? read(r->fetch, buf, n) : 0;
        if (got > 0) {
            ty_channel_send(&r->ch, TY_CHANNEL_CHUNK, buf, (size_t)got);
            r->fetch_left -= (uint64_t)got;
        } else if (n > 0) {
            ty_log(TY_LOG_ERROR, "a blob cannot be read"); /* half of it is sent: begin anew */
            r->over = true;
            return;
        }
        if (r->fetch_left == 0) {
            close(r->fetch);
            r->fetch = -1;
        }
    }
}

/* --- the runner --- */

static void watch_runner(struct remote *r, pid_t child, bool leads)
{
    if (r->pidfd >= 0)
        close(r->pidfd);
    r->child = child;
    r->pidfd = child ? (int)syscall(SYS_pidfd_open, child, 0) : ty_proc_open(&r->runner);
    r->awaits_link = leads;
    r->link_us = 0;
    r->link_wait_us = LINK_LOOK_US;
}

static int listen_at_job(struct remote *r)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "daemon.sock" };
    int got = 0;

    if (r->listener >= 0)
        return 0;
    r->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (r->listener < 0)
        return -errno;
    /* From inside the folder: its whole path may be too long for an address. */
    if (chdir(r->far.dir) < 0) {
        got = -errno;
    } else {
        unlink(a.sun_path);
        if (bind(r->listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(r->listener, 8) < 0)
            got = -errno;
    }
    if (chdir("/") < 0)
        ty_log(TY_LOG_WARN, "cannot leave the job folder: %m");
    if (got < 0) {
        close(r->listener);
        r->listener = -1;
    }
    return got;
}

static const char *verb_of(const json_t *o)
{
    const char *verb = json_string_value(json_object_get(o, "verb"));

    return verb && strcmp(verb, "node") == 0 ? "node" : "runner";
}

static void run(struct remote *r, const json_t *how, json_t *notes)
{
    struct ty_error err = { 0 };
    pid_t child = 0;
    int got = listen_at_job(r);

    if (got < 0)
        ty_error_set(&err, got, "cannot listen in the job folder '%s': %s", r->far.dir,
                     strerror(-got));
    else if (ty_far_running(&r->far, &r->runner) < 0)
        got = ty_far_start(&r->far, verb_of(how), &child, &err);
    if (got < 0) {
        json_decref(notes);
        fail(r, err.text);
        return;
    }
    watch_runner(r, child, json_is_true(json_object_get(how, "link")));
    ty_channel_send_json(&r->ch, TY_CHANNEL_STARTED,
                         json_pack("{s:i, s:o}", "pid", (int)(child ? child : r->runner.pid),
                                   "notes", notes ? notes : json_array()));
}

static int start(struct remote *r, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_error err = { 0 };
    json_t *notes = json_array();

    if (ty_channel_json(f, &o) < 0) {
        json_decref(notes);
        return -EBADMSG;
    }
    if (ty_far_make(&r->far, o, notes, &err) < 0) {
        json_decref(notes);
        fail(r, err.text);
    } else {
        run(r, o, notes);
    }
    return 0;
}

static int resume(struct remote *r, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;

    if (!r->far.dir || ty_channel_json(f, &o) < 0)
        return -EBADMSG;
    run(r, o, NULL);
    return 0;
}

static void hear_end(struct remote *r)
{
    int status = 0, code = -1;

    if (r->child && waitpid(r->child, &status, WNOHANG) == r->child && WIFEXITED(status))
        code = WEXITSTATUS(status);
    close(r->pidfd);
    r->pidfd = -1;
    r->child = 0;
    r->awaits_link = false;
    ty_channel_send_json(&r->ch, TY_CHANNEL_ENDED, json_pack("{s:i}", "code", code));
}

static void look_for_link(struct remote *r)
{
    CLEANUP_FREE char *path = ty_path_join(r->far.dir, "link");
    CLEANUP_FREE char *text = NULL;
    size_t n;

    r->link_us = r->now_us + r->link_wait_us;
    r->link_wait_us += r->link_wait_us / 10;
    if (r->link_wait_us > LINK_LOOK_MAX_US)
        r->link_wait_us = LINK_LOOK_MAX_US;
    if (!path || ty_read_file(path, 64 * 1024, &text, &n) < 0 || n == 0 || text[n - 1] != '\n')
        return;
    r->awaits_link = false;
    ty_channel_send(&r->ch, TY_CHANNEL_LINK, text, n - 1);
}

/* --- its connection --- */

static void conn_end(struct remote *r, bool tell)
{
    if (ty_flow_is_open(&r->conn) && tell && r->conn_open)
        ty_channel_send_conn(&r->ch, TY_CHANNEL_CLOSE, r->serial, NULL, 0);
    ty_flow_close(&r->conn);
    r->conn_open = false;
}

static void conn_accept(struct remote *r)
{
    int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    conn_end(r, true); /* the runner has one at a time */
    ty_flow_open(&r->conn, fd, fd);
    r->serial++;
    r->credit = TY_CHANNEL_WINDOW;
    r->conn_open = true;
    ty_channel_send_conn(&r->ch, TY_CHANNEL_OPEN, r->serial, NULL, 0);
}

static bool conn_reads(const struct remote *r)
{
    return ty_flow_is_open(&r->conn) && r->credit > 0 &&
           ty_flow_unsent(&r->ch) < TY_CHANNEL_UNSENT_MAX;
}

static void conn_pump(struct remote *r)
{
    int got = 0;

    if (!ty_flow_is_open(&r->conn))
        return;
    while (conn_reads(r)) {
        size_t n;

        got = ty_flow_read(&r->conn, r->credit < TY_CHANNEL_PART ? r->credit : TY_CHANNEL_PART);
        n = ty_flow_waiting(&r->conn);
        n = n < r->credit ? n : r->credit;
        n = n < TY_CHANNEL_PART ? n : TY_CHANNEL_PART;
        if (n == 0)
            break;
        ty_channel_send_conn(&r->ch, TY_CHANNEL_DATA, r->serial, ty_flow_bytes(&r->conn), n);
        ty_flow_use(&r->conn, n);
        r->credit -= (uint32_t)n;
    }
    if (got == 0)
        got = ty_flow_write(&r->conn);
    if (got < 0 && ty_flow_waiting(&r->conn) == 0)
        conn_end(r, true);
}

static int conn_frame(struct remote *r, struct ty_channel_frame *f)
{
    uint32_t serial, n;

    if (ty_channel_u32(f, &serial) < 0)
        return -EBADMSG;
    if (serial != r->serial || !r->conn_open)
        return 0; /* of one that is over */
    if (f->type == TY_CHANNEL_DATA)
        ty_str_addn(&r->conn.unsent, f->body, f->n);
    else if (f->type == TY_CHANNEL_CREDIT && ty_channel_u32(f, &n) == 0)
        r->credit += n;
    else if (f->type == TY_CHANNEL_CLOSE) {
        (void)ty_flow_write(&r->conn);
        conn_end(r, false);
    }
    return 0;
}

/* --- frames --- */

static void say_hello(struct remote *r)
{
    struct ty_proc_id me = { 0 };
    char host[256] = "";

    ty_proc_identify(getpid(), &me);
    gethostname(host, sizeof host - 1);
    ty_channel_send_json(&r->ch, TY_CHANNEL_HELLO,
                         json_pack("{s:i s:s s:o s:s s:o}", "version", TY_CHANNEL_VERSION, "agent",
                                   TY_VERSION, "host", ty_lossy_text(host, strlen(host)), "boot",
                                   me.boot, "folder",
                                   ty_lossy_text(r->far.folder, strlen(r->far.folder))));
}

static int attach(struct remote *r, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_error err = { 0 };
    const char *run, *token;
    char openmpi[64] = "";
    int got;

    if (ty_channel_json(f, &o) < 0)
        return -EBADMSG;
    run = json_string_value(json_object_get(o, "run"));
    token = json_string_value(json_object_get(o, "token"));
    if (!run || !token)
        return -EBADMSG;
    got =
        ty_far_attach(&r->far, run, json_integer_value(json_object_get(o, "attempt")), token, &err);
    if (got < 0) {
        fail(r, err.text);
        return 0;
    }
    if (json_is_true(json_object_get(o, "mpi")))
        ty_facts_openmpi(openmpi);
    ty_channel_send_json(&r->ch, TY_CHANNEL_STATE,
                         json_pack("{s:s s:s}", "job", got ? "here" : "none", "openmpi", openmpi));
    return 0;
}

static void clean(struct remote *r, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_error err = { 0 };
    bool at_once = ty_channel_json(f, &o) < 0 || json_is_true(json_object_get(o, "kill"));

    conn_pump(r); /* RELEASE may still be in our hands */
    if (r->pidfd >= 0 && r->child)
        waitpid(r->child, NULL, WNOHANG);
    if (r->far.dir && ty_far_clean(&r->far, at_once ? 0 : RELEASED_US, &err) < 0)
        fail(r, err.text);
    else
        ty_channel_send(&r->ch, TY_CHANNEL_CLEANED, NULL, 0);
    conn_end(r, false);
    ty_far_keep(&r->far);
}

static int frame(struct remote *r, struct ty_channel_frame *f)
{
    switch (f->type) {
    case TY_CHANNEL_ATTACH:
        return attach(r, f);
    case TY_CHANNEL_ASK:
        ask(r, f);
        return 0;
    case TY_CHANNEL_LOOK:
        return look(r, f);
    case TY_CHANNEL_BLOB:
        return blob(r, f);
    case TY_CHANNEL_CHUNK:
        return chunk(r, f);
    case TY_CHANNEL_START:
        return start(r, f);
    case TY_CHANNEL_RESUME:
        return resume(r, f);
    case TY_CHANNEL_FETCH:
        return want(r, f);
    case TY_CHANNEL_DATA:
    case TY_CHANNEL_CLOSE:
    case TY_CHANNEL_CREDIT:
        return conn_frame(r, f);
    case TY_CHANNEL_CANCEL:
        if (r->far.dir && ty_far_running(&r->far, &r->runner) == 0)
            ty_proc_signal(&r->runner, SIGTERM);
        return 0;
    case TY_CHANNEL_CLEAN:
        clean(r, f);
        return 0;
    case TY_CHANNEL_PROBE:
        ty_channel_send_json(&r->ch, TY_CHANNEL_FACTS, ty_facts());
        return 0;
    case TY_CHANNEL_PING:
        return 0;
    default:
        return -EBADMSG;
    }
}

static int frames(struct remote *r)
{
    int broken = ty_flow_read(&r->ch, TY_CHANNEL_PAYLOAD_MAX + 16), got = 0;
    struct ty_channel_frame f;

    while (got == 0 && (got = ty_channel_next(&r->ch, &f)) == 0) {
        r->heard_us = r->now_us;
        got = frame(r, &f);
    }
    if (got < 0 && got != -EAGAIN)
        ty_log(TY_LOG_ERROR, "the channel is not understood, and is closed: %s", strerror(-got));
    return got < 0 && got != -EAGAIN ? got : broken;
}

/* --- the loop --- */

static int wait_ms(const struct remote *r)
{
    int64_t due = r->spoken_us + TY_CHANNEL_PING_US;

    if (r->heard_us + TY_CHANNEL_DEAD_US < due)
        due = r->heard_us + TY_CHANNEL_DEAD_US;
    if (r->awaits_link && r->link_us < due)
        due = r->link_us;
    return due <= r->now_us ? 0 : (int)((due - r->now_us + 999) / 1000);
}

static void wait_for_something(struct remote *r)
{
    struct pollfd p[8];
    bool fetching =
        r->fetch >= 0 || r->fetched < r->nwant; /* it goes on as soon as the channel takes more */
    int n = ty_flow_poll(&r->ch, p, true), conn = -1, listener = -1, runner = -1;

    if (ty_flow_is_open(&r->conn)) {
        conn = n;
        n += ty_flow_poll(&r->conn, p + n, conn_reads(r));
        if (n == conn) /* neither: but its end is to be heard */
            p[n++] = (struct pollfd){ .fd = -1 };
    }
    if (r->listener >= 0) {
        listener = n;
        p[n++] = (struct pollfd){ .fd = r->listener, .events = POLLIN };
    }
    if (r->pidfd >= 0) {
        runner = n;
        p[n++] = (struct pollfd){ .fd = r->pidfd, .events = POLLIN };
    }
    if (poll(p, (nfds_t)n,
             fetching && ty_flow_unsent(&r->ch) < TY_CHANNEL_UNSENT_MAX ? 0 : wait_ms(r)) < 0 &&
        errno != EINTR)
        ty_log(TY_LOG_ERROR, "poll: %m");
    r->now_us = ty_mono_us();
    if (listener >= 0 && p[listener].revents)
        conn_accept(r);
    if (runner >= 0 && p[runner].revents)
        hear_end(r);
}

static int turn(struct remote *r, char *buf)
{
    size_t before;
    int got;

    wait_for_something(r);
    got = frames(r);
    if (got < 0)
        return got;
    if (r->awaits_link && r->now_us >= r->link_us)
        look_for_link(r);
    conn_pump(r);
    fetch_some(r, buf);
    if (r->now_us >= r->spoken_us + TY_CHANNEL_PING_US && ty_flow_unsent(&r->ch) == 0)
        ty_channel_send(&r->ch, TY_CHANNEL_PING, NULL, 0);
    before = ty_flow_unsent(&r->ch);
    got = ty_flow_write(&r->ch);
    if (ty_flow_unsent(&r->ch) < before)
        r->spoken_us = r->now_us;
    /* A peer that is asleep is not heard, and neither is one whose cable was cut. */
    if (r->now_us > r->heard_us + TY_CHANNEL_DEAD_US)
        return -ETIMEDOUT;
    return got;
}

static void done(struct remote *r)
{
    ty_flow_close(&r->conn);
    ty_flow_close(&r->ch);
    if (r->put)
        ty_blob_abort(r->put);
    ty_far_done(&r->far);
    free(r->want);
}

static int serve(struct remote *r, const char *folder)
{
    CLEANUP_FREE char *buf = malloc(TY_CHANNEL_PART);
    struct ty_error err = { 0 };
    int got = 0;

    r->fetch = r->listener = r->pidfd = -1;
    r->conn = (struct ty_flow)TY_FLOW_INIT;
    r->now_us = r->heard_us = r->spoken_us = ty_mono_us();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* the end of the channel says the same */
    umask(0077);
    prctl(PR_SET_NAME, "trainyard-far");
    if (chdir("/") < 0 || !buf || ty_far_open(&r->far, folder, &err) < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.code ? err.text : strerror(errno));
        fail(r, err.code ? err.text : strerror(errno));
        (void)ty_flow_write(&r->ch);
        done(r);
        return 1;
    }
    say_hello(r);
    while (got == 0 && !r->over)
        got = turn(r, buf);
    done(r);
    return 0;
}

int ty_remote_main(const char *folder)
{
    struct remote r = { 0 };

    /* Copies: what it starts gets the standard descriptors of nobody. */
    ty_flow_open(&r.ch, fcntl(0, F_DUPFD_CLOEXEC, 3), fcntl(1, F_DUPFD_CLOEXEC, 3));
    return serve(&r, folder);
}
