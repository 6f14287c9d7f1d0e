/* host.c - one host of a job: its channel, what is brought there, what comes from it
 *
 *   DOWN -> GREETING (ssh, sh, our agent) -> HELLO -> ATTACHING -> ASKING -> SENDING -> READY
 *        -> STARTING -> RUNNING; CLEANING -> CLEAN from wherever the end of the job finds it
 *
 * A connection that breaks leads back to DOWN and forgets everything but what the far end will tell again.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "courier/courier_internal.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define DELAY_MIN_US (500 * 1000)
#define DELAY_MAX_US (15 * 1000 * 1000)
#define GREETING_US (30 * 1000 * 1000) /* for a shell to come on; ssh itself gives up sooner */
#define NOTE_FIRST_US (3 * 1000 * 1000)
#define NOTE_US (10 * 1000 * 1000)
#define ASK_MAX 16384 /* hashes in one frame */

void ty_host_init(struct ty_courier_host *h, struct ty_courier *c, const struct ty_host *spec,
                  int index)
{
    *h = (struct ty_courier_host){ .c = c,
                                   .spec = spec,
                                   .index = index,
                                   .ssh = TY_SSH_INIT,
                                   .wanted = true,
                                   .delay_us = DELAY_MIN_US,
                                   .lacked = SIZE_MAX,
                                   .sending = -1 };
}

static void forget(struct ty_courier_host *h)
{
    if (h->sending >= 0)
        close(h->sending);
    h->sending = -1;
    h->asked = h->answers_due = h->nmissing = h->sent = 0;
    h->waits_for_data = false;
    h->list = 0;
    h->sending_left = 0;
    ty_ssh_end(&h->ssh);
}

void ty_host_done(struct ty_courier_host *h)
{
    forget(h);
    free(h->missing);
    free(h->brings);
}

const char *ty_host_job(const struct ty_courier_host *h, char *buf, size_t n)
{
    if (h->index == 0)
        return h->c->run;
    snprintf(buf, n, "%s.%d", h->c->run, h->index);
    return buf;
}

bool ty_host_up(const struct ty_courier_host *h)
{
    return h->state >= TY_HOST_ATTACHING && h->state < TY_HOST_CLEAN;
}

void ty_host_let_go(struct ty_courier_host *h)
{
    forget(h);
    h->wanted = false;
    h->state = TY_HOST_DOWN;
}

void ty_host_break(struct ty_courier_host *h, const char *why)
{
    bool was_up = ty_host_up(h);

    snprintf(h->why, sizeof h->why, "%s", why);
    ty_log(TY_LOG_WARN, "host %s: %s", h->spec->host, why);
    h->fruitless += was_up && h->state < TY_HOST_READY;
    forget(h);
    h->state = TY_HOST_DOWN;
    h->failures = was_up ? 0 : h->failures + 1;
    if (was_up)
        h->delay_us = DELAY_MIN_US;
    h->retry_us = h->c->now_us + h->delay_us;
    h->delay_us = h->delay_us * 2 < DELAY_MAX_US ? h->delay_us * 2 : DELAY_MAX_US;
    ty_way_broken(h);
}

/* The connection ended by itself: ssh knows why. */
static void broken(struct ty_courier_host *h)
{
    char why[sizeof h->why];

    ty_ssh_why(&h->ssh, why, sizeof why);
    ty_host_break(h, why);
}

static void connect_host(struct ty_courier_host *h)
{
    struct ty_courier *c = h->c;
    struct ty_error err = { 0 };

    if (c->phase == TY_COURIER_CLEANING && ty_slurm_over(h))
        return;
    if ((ty_courier_slurm(c)
             ? ty_slurm_start(h, &err)
             : ty_ssh_start(&h->ssh, c->target, h->spec, c->sha, c->owner, &err)) < 0) {
        h->failures = INT16_MAX; /* nothing that comes again will mend it */
        ty_host_break(h, err.text);
        return;
    }
    /* It is not heard yet: trying does not put off the time when it counts as lost. */
    h->state = TY_HOST_GREETING;
    h->greet_us = c->now_us;
}

/* Of our program, as long as it is sent. */
static uint64_t to_send(const struct ty_ssh *s)
{
    return s->agent_left + ty_flow_unsent(&s->flow);
}

static void greet(struct ty_courier_host *h)
{
    struct ty_error err = { 0 };
    uint64_t before = to_send(&h->ssh);
    int r = ty_ssh_greet(&h->ssh, &err);

    if (to_send(&h->ssh) < before)
        h->greet_us = h->c->now_us;
    if (r < 0) {
        if (err.code)
            ty_host_break(h, err.text);
        else
            broken(h);
    } else if (r > 0 && ty_courier_slurm(h->c) && ty_slurm_allocated(h->c) < 0) {
        ty_host_break(h, "what Slurm has given is not what the run asked for");
    } else if (r > 0) {
        h->state = TY_HOST_HELLO;
        h->touched = true;
        h->heard_us = h->spoken_us = h->c->now_us;
    }
}

/* --- bringing content --- */

static const struct ty_content *list_of(const struct ty_courier_host *h, int list)
{
    return list == 0 ? &h->c->content : &h->c->data.refs[list - 1].content;
}

/* The next list that has something for this host, from `list` on; -1: none. */
static int next_list(const struct ty_courier_host *h, int list)
{
    for (; list <= h->c->spec->ndata; list++)
        if (list_of(h, list)->n > 0 && (list == 0 || (h->brings && h->brings[list - 1])))
            return list;
    return -1;
}

static void ask(struct ty_courier_host *h, int from)
{
    const struct ty_content *content;

    h->state = TY_HOST_ASKING;
    h->list = next_list(h, from);
    h->asked = 0;
    if (h->list < 0) {
        h->state = TY_HOST_SENDING; /* what is missing, be it nothing */
        if (h->nmissing < h->lacked)
            h->fruitless = 0;
        h->lacked = h->nmissing;
        return;
    }
    content = list_of(h, h->list);
    while (h->asked < content->n) {
        struct ty_str hashes = { 0 };

        for (size_t k = 0; k < ASK_MAX && h->asked < content->n; k++)
            ty_str_addn(&hashes, content->items[h->asked++].sha, TY_CHANNEL_SHA);
        h->ssh.flow.unsent.failed |= hashes.failed;
        ty_channel_send(&h->ssh.flow, TY_CHANNEL_ASK, hashes.text, hashes.len);
        ty_str_done(&hashes);
        h->answers_due++;
    }
}

static int add_missing(struct ty_courier_host *h, size_t item)
{
    if (h->nmissing == h->missing_cap) {
        size_t cap = h->missing_cap ? 2 * h->missing_cap : 64;
        struct ty_missing *more = realloc(h->missing, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        h->missing = more;
        h->missing_cap = cap;
    }
    h->missing[h->nmissing++] = (struct ty_missing){ .list = h->list, .item = item };
    return 0;
}

static int learn_missing(struct ty_courier_host *h, const struct ty_channel_frame *f)
{
    const struct ty_content *content;

    if (h->answers_due == 0)
        return -EBADMSG;
    content = list_of(h, h->list);
    for (size_t i = 0; i + TY_CHANNEL_SHA <= f->n; i += TY_CHANNEL_SHA) {
        size_t item = ty_content_find(content, (const unsigned char *)f->body + i, 0);
        int r = item == content->n ? -EBADMSG : add_missing(h, item);

        if (r < 0)
            return r;
    }
    /* The end of the job may have overtaken the answer. */
    if (--h->answers_due == 0 && h->state == TY_HOST_ASKING)
        ask(h, h->list + 1);
    return 0;
}

/* The hashes of what has to be brought are there, or cannot be had. */
static void stop_waiting(struct ty_courier_host *h)
{
    struct ty_courier *c = h->c;

    if (c->data.failure)
        ty_way_failed(h, c->data.failure);
    else if (ty_data_ready(h))
        ask(h, 0);
}

/* It ends the job, and nothing more is sent; CLEAN may come in the middle of a blob. */
static void cannot_send(struct ty_courier_host *h, const char *why)
{
    if (h->sending >= 0)
        close(h->sending);
    h->sending = -1;
    h->sent = h->nmissing;
    h->state = TY_HOST_READY;
    ty_way_failed(h, why);
}

static void cannot_read(struct ty_courier_host *h, const struct ty_missing *m, int r)
{
    CLEANUP_FREE char *text = NULL, *name = NULL;

    if (m->list > 0)
        text = ty_data_why(h->c, m->list - 1, m->item, r);
    else if ((name = ty_content_name(&h->c->content, m->item)))
        text = ty_strf("cannot read %s of the job's files: %s", name, strerror(-r));
    cannot_send(h, text ? text : strerror(-r));
}

static void begin_item(struct ty_courier_host *h)
{
    struct ty_courier *c = h->c;
    const struct ty_missing *m = &h->missing[h->sent];
    const struct ty_content *content = list_of(h, m->list);
    uint64_t bytes = 0;
    char hex[TY_SHA256_HEX + 1];

    ty_sha_to_hex(content->items[m->item].sha, hex);
    h->sending = ty_content_read(content, c->blobs, m->item, &bytes);
    if (h->sending < 0) {
        cannot_read(h, m, h->sending);
        return;
    }
    h->sending_left = bytes;
    h->sent_bytes += bytes;
    ty_channel_send_json(&h->ssh.flow, TY_CHANNEL_BLOB,
                         json_pack("{s:s, s:I}", "sha256", hex, "bytes", (json_int_t)bytes));
}

/* All of it was read: was it what it should be? */
static void end_item(struct ty_courier_host *h)
{
    const struct ty_missing *m = &h->missing[h->sent];

    if (ty_content_check(list_of(h, m->list), m->item, h->sending) < 0) {
        cannot_read(h, m, -ESTALE);
        return;
    }
    close(h->sending);
    h->sending = -1;
    h->sent++;
}

/* What takes long is told: first after 3 s, then every 10 s. */
static void tell_progress(struct ty_courier_host *h)
{
    CLEANUP_FREE char *text = NULL;
    int64_t now = h->c->now_us;
    char size[16];

    if (h->note_us == 0)
        h->note_us = now + NOTE_FIRST_US;
    if (now < h->note_us)
        return;
    h->note_us = now + NOTE_US;
    text = ty_strf("bringing files to %s '%s': %s, %zu of %zu files",
                   ty_courier_slurm(h->c) ? "node" : "host", h->spec->host,
                   ty_show_bytes(h->sent_bytes - h->sending_left, size), h->sent, h->nmissing);
    if (text)
        ty_voice_note(h->c, text);
}

static void send_content(struct ty_courier_host *h)
{
    char buf[TY_CHANNEL_PART];

    while (h->state == TY_HOST_SENDING && ty_flow_unsent(&h->ssh.flow) < TY_CHANNEL_UNSENT_MAX) {
        size_t n = h->sending_left < sizeof buf ? (size_t)h->sending_left : sizeof buf;
        ssize_t got;

        if (h->sending < 0 && h->sent == h->nmissing) {
            if (h->nmissing)
                ty_log(TY_LOG_INFO, "host %s: %zu files, %llu bytes sent", h->spec->host,
                       h->nmissing, (unsigned long long)h->sent_bytes);
            h->fruitless = 0;
            h->state = TY_HOST_READY;
            return;
        }
        if (h->sending < 0) {
            begin_item(h);
            continue;
        }
        got = n ? read(h->sending, buf, n) : 0;
        if (n > 0 && got <= 0) {
            cannot_read(h, &h->missing[h->sent], -ESTALE);
            return;
        }
        if (got > 0)
            ty_channel_send(&h->ssh.flow, TY_CHANNEL_CHUNK, buf, (size_t)got);
        h->sending_left -= (uint64_t)got;
        if (h->sending_left == 0)
            end_item(h);
    }
}

/* --- starting --- */

static json_t *link_of(const struct ty_courier_host *h)
{
    const struct ty_courier *c = h->c;

    if (c->nhosts < 2)
        return NULL;
    if (h->index == 0)
        return json_pack("{s:s}", "key", c->link_key);
    return json_pack("{s:s s:O s:O}", "key", c->link_key, "addresses",
                     json_object_get(c->link, "addresses"), "port",
                     json_object_get(c->link, "port"));
}

/* The runner's lines of the control log come behind ours. */
static json_t *log_base_of(const struct ty_courier *c)
{
    json_t *base = json_copy(json_object_get(c->job, "log_base"));

    if (!base)
        base = json_object();
    json_object_set_new(base, TY_CONTROL_LOG, json_integer((json_int_t)c->voice.log_stored));
    return base;
}

/* The job.json of this node.  What is different on its machine the far end sets itself. */
static json_t *job_of(const struct ty_courier_host *h)
{
    const struct ty_courier *c = h->c;
    json_t *job = json_copy(c->job), *link = link_of(h);

    json_object_del(job, "target");
    json_object_del(job, "hosts");
    json_object_set(job, "nodes", c->nodes);
    json_object_set_new(job, "node", json_integer(h->index));
    json_object_set_new(job, "role", json_string(h->index == 0 ? "leader" : "node"));
    json_object_set_new(job, "local_nodes", json_integer(1));
    if (c->data.any)
        json_object_set_new(job, "data_sent", ty_data_sent(h));
    if (h->index == 0 && c->voice.log_stored > 0)
        json_object_set_new(job, "log_base", log_base_of(c));
    if (link)
        json_object_set_new(job, "link", link);
    return job;
}

void ty_host_start(struct ty_courier_host *h)
{
    const struct ty_courier *c = h->c;
    const char *verb = h->index == 0 ? "runner" : "node";
    bool link = h->index == 0 && c->nhosts > 1;

    if (h->here)
        ty_channel_send_json(&h->ssh.flow, TY_CHANNEL_RESUME,
                             json_pack("{s:s s:b}", "verb", verb, "link", (int)link));
    else
        ty_channel_send_json(
            &h->ssh.flow, TY_CHANNEL_START,
            json_pack("{s:s s:b s:o s:s? s:s?}", "verb", verb, "link", (int)link, "job", job_of(h),
                      "manifest", c->content.manifest[0] ? c->content.manifest : NULL, "packages",
                      c->content.packages[0] ? c->content.packages : NULL));
    h->here = true;
    h->state = TY_HOST_STARTING;
}

void ty_host_clean(struct ty_courier_host *h, bool kill)
{
    ty_channel_send_json(&h->ssh.flow, TY_CHANNEL_CLEAN, json_pack("{s:b}", "kill", (int)kill));
    h->state = TY_HOST_CLEANING;
}

/* --- frames --- */

static int hello(struct ty_courier_host *h, const struct ty_channel_frame *f)
{
    const struct ty_courier *c = h->c;
    CLEANUP_JSON json_t *o = NULL;
    char name[256];

    if (h->state != TY_HOST_HELLO || ty_channel_json(f, &o) < 0 ||
        json_integer_value(json_object_get(o, "version")) != TY_CHANNEL_VERSION)
        return -EBADMSG;
    ty_channel_send_json(&h->ssh.flow, TY_CHANNEL_ATTACH,
                         json_pack("{s:s s:I s:s s:b}", "run", ty_host_job(h, name, sizeof name),
                                   "attempt", (json_int_t)c->attempt, "token", c->token, "mpi",
                                   c->spec->comm == TY_COMM_MPI && c->nhosts > 1));
    h->state = TY_HOST_ATTACHING;
    h->delay_us = DELAY_MIN_US;
    h->failures = 0;
    return 0;
}

static int state(struct ty_courier_host *h, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    const char *job, *openmpi;

    if (h->state != TY_HOST_ATTACHING || ty_channel_json(f, &o) < 0 ||
        !(job = json_string_value(json_object_get(o, "job"))))
        return -EBADMSG;
    openmpi = json_string_value(json_object_get(o, "openmpi"));
    snprintf(h->openmpi, sizeof h->openmpi, "%s", openmpi ? openmpi : "");
    h->here = strcmp(job, "here") == 0;
    if (h->here) {
        h->state = TY_HOST_READY;
    } else if (h->c->data.any) {
        ty_channel_send_json(&h->ssh.flow, TY_CHANNEL_LOOK, ty_data_look(h->c));
        h->state = TY_HOST_LOOKING;
    } else {
        ask(h, 0);
    }
    return 0;
}

static int seen(struct ty_courier_host *h, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    int r;

    if (ty_channel_json(f, &o) < 0)
        return -EBADMSG;
    if (h->state != TY_HOST_LOOKING) /* the end of the job has overtaken it */
        return 0;
    r = ty_data_seen(h, o);
    if (r == 0 && h->waits_for_data)
        h->state = TY_HOST_WAITING;
    else if (r == 0)
        ask(h, 0);
    return r;
}

static int failed(struct ty_courier_host *h, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    const char *text;

    if (ty_channel_json(f, &o) < 0)
        return -EBADMSG;
    text = json_string_value(json_object_get(o, "message"));
    ty_way_failed(h, text ? text : "it does not say why");
    return 0;
}

static int started(struct ty_courier_host *h, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    const json_t *note;
    size_t i;

    if (ty_channel_json(f, &o) < 0)
        return -EBADMSG;
    json_array_foreach (json_object_get(o, "notes"), i, note)
        if (json_is_string(note))
            ty_log(TY_LOG_INFO, "host %s: %s", h->spec->host, json_string_value(note));
    h->begun = true;
    if (h->state == TY_HOST_STARTING)
        h->state = TY_HOST_RUNNING;
    return 0;
}

static int ended(struct ty_courier_host *h, const struct ty_channel_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;

    if (ty_channel_json(f, &o) < 0)
        return -EBADMSG;
    ty_way_ended(h, (int)json_integer_value(json_object_get(o, "code")));
    return 0;
}

static int relayed(struct ty_courier_host *h, struct ty_channel_frame *f)
{
    uint32_t serial;

    if (h->index != 0 || ty_channel_u32(f, &serial) < 0)
        return -EBADMSG;
    if (f->type == TY_CHANNEL_OPEN)
        ty_relay_open(h->c, serial);
    else if (f->type == TY_CHANNEL_DATA)
        return ty_relay_data(h->c, serial, f->body, f->n);
    else if (serial == h->c->relay.serial)
        ty_relay_close(h->c, false);
    return 0;
}

static int frame(struct ty_courier_host *h, struct ty_channel_frame *f)
{
    bool leads = h->index == 0;

    switch (f->type) {
    case TY_CHANNEL_HELLO:
        return hello(h, f);
    case TY_CHANNEL_STATE:
        return state(h, f);
    case TY_CHANNEL_SEEN:
        return seen(h, f);
    case TY_CHANNEL_MISSING:
        return learn_missing(h, f);
    case TY_CHANNEL_STARTED:
        return started(h, f);
    case TY_CHANNEL_FAILED:
        return failed(h, f);
    case TY_CHANNEL_LINK:
        return leads ? ty_way_linked(h->c, f->body, f->n) : -EBADMSG;
    case TY_CHANNEL_ENDED:
        return ended(h, f);
    case TY_CHANNEL_OPEN:
    case TY_CHANNEL_DATA:
    case TY_CHANNEL_CLOSE:
        return relayed(h, f);
    case TY_CHANNEL_BLOB:
    case TY_CHANNEL_CHUNK:
    case TY_CHANNEL_GONE:
        return leads ? ty_relay_blob(h->c, f) : -EBADMSG;
    case TY_CHANNEL_CLEANED:
        ty_host_let_go(h);
        h->state = TY_HOST_CLEAN;
        return 0;
    case TY_CHANNEL_PING:
        return 0;
    default:
        return -EBADMSG;
    }
}

/* 0, or the connection is over. */
static int frames(struct ty_courier_host *h)
{
    int end = ty_flow_read(&h->ssh.flow, TY_CHANNEL_PAYLOAD_MAX + 16), r = 0;
    struct ty_channel_frame f;

    while (r == 0 && h->ssh.pid && (r = ty_channel_next(&h->ssh.flow, &f)) == 0) {
        h->heard_us = h->c->now_us;
        r = frame(h, &f);
    }
    if (!h->ssh.pid)
        return 0; /* a frame has ended it */
    if (r < 0 && r != -EAGAIN) {
        ty_host_break(h, r == -EBADMSG ? "what it says is not understood" : strerror(-r));
        return 0;
    }
    return end;
}

static void talk(struct ty_courier_host *h)
{
    size_t before;

    if (frames(h) < 0) {
        broken(h);
        return;
    }
    if (!h->ssh.pid)
        return;
    if (h->state == TY_HOST_WAITING)
        stop_waiting(h);
    if (h->state == TY_HOST_SENDING) {
        send_content(h);
        tell_progress(h);
    }
    if (!h->ssh.pid)
        return;
    if (h->c->now_us >= h->spoken_us + TY_CHANNEL_PING_US && ty_flow_unsent(&h->ssh.flow) == 0)
        ty_channel_send(&h->ssh.flow, TY_CHANNEL_PING, NULL, 0);
    before = ty_flow_unsent(&h->ssh.flow);
    if (ty_flow_write(&h->ssh.flow) < 0) {
        broken(h);
        return;
    }
    if (ty_flow_unsent(&h->ssh.flow) < before)
        h->spoken_us = h->c->now_us;
}

/* A queue of Slurm may take days before it gives a node. */
static int64_t greeted_by(const struct ty_courier_host *h)
{
    return ty_courier_slurm(h->c) ? TY_NEVER : h->greet_us + GREETING_US;
}

void ty_host_turn(struct ty_courier_host *h)
{
    int64_t now = h->c->now_us;

    if (h->state == TY_HOST_DOWN && h->wanted && now >= h->retry_us)
        connect_host(h);
    if (!h->ssh.pid)
        return;
    ty_ssh_listen(&h->ssh);
    if (h->state == TY_HOST_GREETING)
        greet(h);
    if (h->state > TY_HOST_GREETING && h->ssh.pid)
        talk(h);
    if (h->ssh.pid && h->state > TY_HOST_GREETING && now > h->heard_us + TY_CHANNEL_DEAD_US)
        ty_host_break(h, "it is not heard any more");
    else if (h->ssh.pid && h->state == TY_HOST_GREETING && now >= greeted_by(h))
        ty_host_break(h,
                      "its shell does not begin: nothing came of it in half a minute; what do its "
                      "start-up files (~/.bashrc) wait for?");
}

int ty_host_poll(const struct ty_courier_host *h, struct pollfd *p)
{
    int n;

    if (!h->ssh.pid)
        return 0;
    n = ty_flow_poll(&h->ssh.flow, p, true);
    if (h->ssh.err.in >= 0 && !h->ssh.err.ended)
        p[n++] = (struct pollfd){ .fd = h->ssh.err.in, .events = POLLIN };
    return n;
}

int64_t ty_host_due(const struct ty_courier_host *h)
{
    if (h->state == TY_HOST_DOWN)
        return h->wanted ? h->retry_us : TY_NEVER;
    if (!h->ssh.pid)
        return TY_NEVER;
    if (h->state == TY_HOST_GREETING)
        return greeted_by(h);
    if (h->state == TY_HOST_SENDING && ty_flow_unsent(&h->ssh.flow) < TY_CHANNEL_UNSENT_MAX)
        return 0;
    if (h->state == TY_HOST_WAITING && ty_data_ready(h))
        return 0;
    return h->spoken_us + TY_CHANNEL_PING_US;
}
