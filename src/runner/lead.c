/* lead.c - the nodes of a job: who is there, in which state, since when
 *
 * All connections are in one epoll set, and everybody who is waited for stands in a queue whose first is the next whose time is
 * over: a turn looks at what has happened, and at the first of each queue.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/log.h"
#include "runner/lead_internal.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS 256
#define GUEST_US (5 * 1000 * 1000)
#define STALL_US (50 * 1000)
#define TURNS_MAX 8 /* of one connection, until it is the others' turn */

static const char *const words[TY_NODE_STATE_COUNT] = {
#define X(name, word) [TY_NODE_##name] = word,
    TY_NODE_STATES(X)
#undef X
};

const char *ty_node_state_word(enum ty_node_state s)
{
    return words[s];
}

/* --- queues --- */

static void leave(struct ty_lead *l, struct ty_wait *w)
{
    if (!w->waits)
        return;
    *(w->before ? &w->before->next : &l->queue[w->in].first) = w->next;
    *(w->next ? &w->next->before : &l->queue[w->in].last) = w->before;
    w->waits = false;
}

/* At the end of that queue. */
static void enter(struct ty_lead *l, struct ty_wait *w, enum ty_queue_id in, int64_t since_us)
{
    leave(l, w);
    w->in = in;
    w->since_us = since_us;
    w->next = NULL;
    w->before = l->queue[in].last;
    *(w->before ? &w->before->next : &l->queue[in].first) = w;
    l->queue[in].last = w;
    w->waits = true;
}

static int64_t due_of(const struct ty_lead *l, enum ty_queue_id q)
{
    const struct ty_wait *w = l->queue[q].first;

    return w ? w->since_us + l->patience[q] : INT64_MAX;
}

/* --- states --- */

static void drop(struct ty_lead *l, struct ty_conn *c);

void ty_lead_set(struct ty_node *n, enum ty_node_state s)
{
    struct ty_lead *l = n->lead;

    if (n->state == s || n->state >= TY_NODE_DONE || s < n->state)
        return;
    l->count[n->state]--;
    l->count[s]++;
    n->state = s;
    if (s >= TY_NODE_DONE)
        leave(l, &n->wait);
    l->hooks->state(l->ctx, n->index, s);
}

static void send_text(struct ty_node *n, enum ty_frame_type type, const char *text, uint32_t count)
{
    struct ty_frame f = {
        .type = type, .count = count, .body = text, .body_len = text ? strlen(text) : 0
    };

    if (n->conn && ty_stream_connected(n->conn->stream))
        ty_stream_send(n->conn->stream, &f);
}

/* What is to be sent goes as far as it goes; the rest when the socket takes it. */
static void watch(struct ty_lead *l, struct ty_conn *c)
{
    struct epoll_event e = { .data.u64 = (uint64_t)c->serial << 32 | (c->slot + TY_EVENT_CONN) };
    short events = 0;
    int fd;

    ty_stream_flush(c->stream, l->now_us);
    fd = ty_stream_fd(c->stream, &events);
    if (fd < 0)
        return;
    e.events = (uint32_t)events;
    if (c->wait.waits && c->wait.in == TY_Q_STALL)
        e.events &= ~(uint32_t)EPOLLIN;
    if ((!c->watched || e.events != c->events) &&
        epoll_ctl(l->epoll, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) == 0) {
        c->events = e.events;
        c->watched = true;
    }
}

void ty_lead_watch(struct ty_node *n)
{
    if (n->conn)
        watch(n->lead, n->conn);
}

static void lost(struct ty_node *n)
{
    ty_lead_set(n, TY_NODE_LOST);
    if (n->conn) {
        send_text(n, TY_FRAME_REFUSED, "{\"message\": \"this node was given up\"}", 0);
        ty_stream_flush(n->conn->stream, n->lead->now_us);
        drop(n->lead, n->conn);
    }
}

static void heard(struct ty_node *n)
{
    struct ty_lead *l = n->lead;

    if (n->state >= TY_NODE_DONE)
        return;
    enter(l, &n->wait, TY_Q_HEARD, l->now_us);
    if (n->silent) {
        n->silent = false;
        l->hooks->silent(l->ctx, n->index, false);
    }
}

static void not_heard(struct ty_node *n)
{
    struct ty_lead *l = n->lead;
    int64_t since = n->wait.since_us;

    if (l->patience[TY_Q_SILENT] <= TY_LEAD_SILENT_US) {
        lost(n);
        return;
    }
    enter(l, &n->wait, TY_Q_SILENT, since);
    n->silent = true;
    l->hooks->silent(l->ctx, n->index, true);
}

/* --- connections --- */

static void drop(struct ty_lead *l, struct ty_conn *c)
{
    if (c->node && c->node->conn == c)
        c->node->conn = NULL;
    leave(l, &c->wait);
    l->conn[c->slot] = NULL;
    l->free[l->nfree++] = c->slot;
    ty_stream_free(c->stream);
    free(c);
}

static bool take_slot(struct ty_lead *l, struct ty_conn *c)
{
    if (l->nfree == 0) {
        uint32_t n = l->nconn ? 2 * l->nconn : 16;
        struct ty_conn **conn = realloc(l->conn, n * sizeof(void *));
        uint32_t *spare = conn ? realloc(l->free, n * sizeof *spare) : NULL;

        l->conn = conn ? conn : l->conn;
        if (!spare)
            return false;
        l->free = spare;
        for (; l->nconn < n; l->nconn++) {
            l->conn[l->nconn] = NULL;
            l->free[l->nfree++] = l->nconn;
        }
    }
    c->slot = l->free[--l->nfree];
    c->serial = ++l->serial;
    l->conn[c->slot] = c;
    return true;
}

static struct ty_conn *conn_of(const struct ty_lead *l, uint64_t event)
{
    uint32_t slot = (uint32_t)event - TY_EVENT_CONN;
    struct ty_conn *c = slot < l->nconn ? l->conn[slot] : NULL;

    return c && c->serial == event >> 32 ? c : NULL;
}

static void come(struct ty_lead *l, struct ty_link *link)
{
    struct ty_conn *c = calloc(1, sizeof *c);

    if (!c) {
        ty_link_free(link);
        return;
    }
    c->stream = ty_stream_new_called(link);
    if (!c->stream || !take_slot(l, c)) {
        ty_stream_free(c->stream);
        free(c);
        return;
    }
    c->wait.who = c;
    enter(l, &c->wait, TY_Q_GUEST, l->now_us);
    watch(l, c);
}

static char *welcome_text(struct ty_node *n)
{
    struct ty_lead *l = n->lead;
    CLEANUP_JSON json_t *o = ty_lead_taken(n);

    if (o && l->go)
        json_object_set_new(o, "go", json_loads(l->go, 0, NULL));
    if (o && l->end_ms >= 0)
        json_object_set_new(o, "end_ms", json_integer(l->end_ms));
    return o ? ty_json_text(o) : NULL;
}

static void refuse(struct ty_conn *c, const char *why)
{
    CLEANUP_JSON json_t *o = json_pack("{s:s}", "message", why);
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;
    struct ty_frame f = { .type = TY_FRAME_REFUSED,
                          .body = text,
                          .body_len = text ? strlen(text) : 0 };

    if (text)
        ty_stream_send(c->stream, &f);
}

/* Who says hello: the agent of which node, and why not (NULL: welcome). */
static const char *identify(struct ty_lead *l, const json_t *o, struct ty_node **ret, char **who)
{
    const char *run = json_string_value(json_object_get(o, "run")),
               *boot = json_string_value(json_object_get(o, "boot"));
    json_int_t node = json_integer_value(json_object_get(o, "node"));
    struct ty_node *n;

    if (!run || strcmp(run, l->job->run) != 0 ||
        json_integer_value(json_object_get(o, "attempt")) != l->job->attempt)
        return "this is another run, or another attempt";
    if (node < l->first || node >= l->first + l->n)
        return "the runner does not lead that node";
    n = &l->node[node - l->first];
    *who = ty_strf("%.40s %lld %lld", boot ? boot : "",
                   (long long)json_integer_value(json_object_get(o, "pid")),
                   (long long)json_integer_value(json_object_get(o, "start")));
    *ret = n;
    if (n->state == TY_NODE_LOST)
        return "this node was given up";
    if (n->who && *who && strcmp(n->who, *who) != 0)
        return "another agent of this node was here before";
    return NULL;
}

static int on_hello(struct ty_lead *l, struct ty_conn *c, const struct ty_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    CLEANUP_FREE char *who = NULL, *text = NULL;
    struct ty_node *n = NULL;
    const char *why;

    if (f->type != TY_FRAME_HELLO || ty_json_parse(f->body, f->body_len, &o, NULL) < 0)
        return -EBADMSG;
    why = identify(l, o, &n, &who);
    if (why) {
        ty_log(TY_LOG_WARN, "a node agent was refused: %s", why);
        refuse(c, why);
        return -EACCES;
    }
    if (n->conn)
        drop(l, n->conn); /* the agent knows best which of its connections lives */
    leave(l, &c->wait);
    c->node = n;
    n->conn = c;
    if (!n->who)
        n->who = TAKE(who);
    if (!*l->address)
        ty_link_local(ty_stream_link(c->stream), l->address);
    ty_fetch_again(n->fetch);
    text = welcome_text(n);
    if (!text)
        return -ENOMEM;
    send_text(n, TY_FRAME_WELCOME, text, 0);
    heard(n);
    ty_lead_set(n, TY_NODE_PREPARING);
    if (l->released)
        send_text(n, TY_FRAME_RELEASE, NULL, 0);
    return 0;
}

/* What has come, as long as there is room for answers.  0; -EAGAIN: one frame has to wait; else it ends here. */
static int hear(struct ty_lead *l, struct ty_conn *c)
{
    struct ty_frame f;
    int r = 0;

    while (r == 0 && ty_stream_room(c->stream) && ty_stream_peek(c->stream, &f) == 0) {
        r = c->node ? ty_lead_take(c->node, &f) : on_hello(l, c, &f);
        if (r != -EAGAIN)
            ty_stream_skip(c->stream);
        if (c->node)
            heard(c->node);
    }
    return r;
}

static void closed(struct ty_lead *l, struct ty_conn *c)
{
    struct ty_node *n = c->node;

    /* A cut would say nothing; so the agent has ended, or it comes back at once. */
    if (n && n->conn == c && n->state < TY_NODE_DONE && n->wait.in == TY_Q_HEARD &&
        ty_stream_closed(c->stream) && l->patience[TY_Q_CLOSED] < l->patience[TY_Q_SILENT])
        enter(l, &n->wait, TY_Q_CLOSED, l->now_us);
    drop(l, c);
}

static void serve(struct ty_lead *l, struct ty_conn *c)
{
    int r = 0;

    leave(l, &c->wait);
    if (!c->node)
        enter(l, &c->wait, TY_Q_GUEST, l->now_us);
    for (int i = 0; i < TURNS_MAX; i++) {
        ty_stream_turn(c->stream, l->now_us);
        r = hear(l, c);
        if (r != 0 || ty_stream_due(c->stream) != 0 || !ty_stream_connected(c->stream))
            break;
        r = -EAGAIN; /* there is more, after the others */
    }
    if (r < 0 && r != -EAGAIN) {
        ty_stream_flush(c->stream, l->now_us);
        drop(l, c);
        return;
    }
    if (!ty_stream_connected(c->stream)) {
        closed(l, c);
        return;
    }
    if (c->node)
        ty_fetch_pump(c->node->fetch, c->stream);
    if (r == -EAGAIN)
        enter(l, &c->wait, TY_Q_STALL, l->now_us);
    watch(l, c);
}

/* --- turns --- */

static void timers(struct ty_lead *l)
{
    while (due_of(l, TY_Q_GUEST) <= l->now_us)
        drop(l, l->queue[TY_Q_GUEST].first->who);
    while (due_of(l, TY_Q_STALL) <= l->now_us)
        serve(l, l->queue[TY_Q_STALL].first->who);
    while (due_of(l, TY_Q_HEARD) <= l->now_us)
        not_heard(l->queue[TY_Q_HEARD].first->who);
    while (due_of(l, TY_Q_CLOSED) <= l->now_us)
        lost(l->queue[TY_Q_CLOSED].first->who);
    while (due_of(l, TY_Q_SILENT) <= l->now_us)
        lost(l->queue[TY_Q_SILENT].first->who);
}

void ty_lead_turn(struct ty_lead *l, int64_t now_us)
{
    struct epoll_event e;
    struct ty_link *link;
    struct ty_conn *c;

    l->now_us = now_us;
    if (ty_gate_due(l->gate) <= now_us)
        while ((link = ty_gate_next(l->gate, now_us)))
            come(l, link);
    for (int i = 0; i < EVENTS && epoll_wait(l->epoll, &e, 1, 0) > 0; i++)
        if (e.data.u64 == TY_EVENT_GATE)
            while ((link = ty_gate_next(l->gate, now_us)))
                come(l, link);
        else if (e.data.u64 == TY_EVENT_SYNCER)
            ty_lead_sync_heard(l);
        else if ((c = conn_of(l, e.data.u64)))
            serve(l, c);
    timers(l);
    ty_lead_sync(l);
}

int64_t ty_lead_due(const struct ty_lead *l)
{
    int64_t due = ty_gate_due(l->gate);

    for (int q = 0; q < TY_Q_COUNT; q++)
        if (due_of(l, (enum ty_queue_id)q) < due)
            due = due_of(l, (enum ty_queue_id)q);
    if (l->sync_wanted && !l->syncer.pid && l->sync_due_us < due)
        due = l->sync_due_us;
    return due;
}

int ty_lead_fd(const struct ty_lead *l)
{
    return l->epoll;
}

/* --- to all --- */

static void to_all(struct ty_lead *l, enum ty_frame_type type, const char *text, uint32_t count)
{
    for (int i = 0; i < l->n; i++)
        if (l->node[i].conn) {
            send_text(&l->node[i], type, text, count);
            ty_lead_watch(&l->node[i]);
        }
}

void ty_lead_go(struct ty_lead *l, json_t *what)
{
    free(l->go);
    l->go = what ? ty_json_text(what) : NULL;
    json_decref(what);
    if (l->go)
        to_all(l, TY_FRAME_GO, l->go, 0);
}

void ty_lead_end(struct ty_lead *l, uint32_t grace_ms)
{
    if (l->end_ms >= 0 && l->end_ms <= grace_ms)
        return;
    l->end_ms = grace_ms;
    to_all(l, TY_FRAME_END, NULL, grace_ms);
}

void ty_lead_fenced(struct ty_lead *l, const int *nodes, int n, const struct ty_frame *f)
{
    struct ty_fence_told *t = &l->fence[l->nfences++ % TY_LEAD_FENCES];

    free(t->name);
    ty_str_done(&t->frame);
    t->name = strndup(f->name, f->name_len);
    if (ty_frame_encode(f, &t->frame) < 0)
        ty_str_done(&t->frame);
    for (int i = 0; i < n; i++) {
        int k = nodes[i] - l->first;

        if (k < 0 || k >= l->n || !l->node[k].conn)
            continue;
        ty_stream_send(l->node[k].conn->stream, f);
        watch(l, l->node[k].conn);
    }
}

void ty_lead_take_artifacts(struct ty_lead *l)
{
    l->take = true;
    for (int i = 0; i < l->n; i++) {
        ty_lead_tell(&l->node[i]);
        ty_lead_watch(&l->node[i]);
    }
}

void ty_lead_release(struct ty_lead *l)
{
    l->released = true;
    to_all(l, TY_FRAME_RELEASE, NULL, 0);
}

/* --- beginning and end --- */

static int write_link(const struct ty_lead *l, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(l->job->dir, "link");
    CLEANUP_STR struct ty_str s = { 0 };
    char **list = NULL;
    int r = ty_link_addresses(&list, err);

    if (r < 0)
        return r;
    ty_str_addf(&s, "%d", ty_gate_port(l->gate));
    for (char **p = list; *p; p++)
        ty_str_addf(&s, " %s", *p);
    ty_str_add(&s, "\n");
    ty_link_addresses_free(list);
    r = !path || s.failed ? -ENOMEM : ty_write_file(path, s.text, s.len, 0600);
    return r < 0 ? ty_error_set(err, r, "cannot write where the other nodes find the first one: %s",
                                strerror(-r))
                 : 0;
}

static int watch_gate(struct ty_lead *l)
{
    struct epoll_event e = { .events = EPOLLIN, .data.u64 = TY_EVENT_GATE };

    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, ty_gate_fd(l->gate), &e) < 0 ? -errno : 0;
}

static int make_nodes(struct ty_lead *l, int64_t now_us)
{
    l->first = l->job->own_nodes;
    l->n = l->job->nnodes - l->first;
    l->node = calloc(l->n > 0 ? (size_t)l->n : 1, sizeof *l->node);
    if (!l->node)
        return -ENOMEM;
    for (int i = 0; i < l->n; i++) {
        struct ty_node *n = &l->node[i];

        *n = (struct ty_node){ .lead = l, .index = l->first + i, .record_next = 1, .wait.who = n };
        n->logged = calloc((size_t)l->job->nodes[n->index].ranks, sizeof *n->logged);
        n->fetch = ty_fetch_new(l->blobs);
        if (!n->logged || !n->fetch)
            return -ENOMEM;
        enter(l, &n->wait, TY_Q_SILENT, now_us);
    }
    l->count[TY_NODE_WAITING] = l->n;
    return 0;
}

static int open_gate(struct ty_lead *l, struct ty_error *err)
{
    unsigned char key[TY_LINK_KEY];
    const char *hex =
        json_string_value(json_object_get(json_object_get(l->job->json, "link"), "key"));
    int r;

    if (!hex || ty_link_key_parse(hex, key) < 0)
        return ty_error_set(err, -EINVAL, "job.json: 'link' has no 'key' of 64 hexadecimal digits");
    r = ty_gate_open(key, &l->gate, err);
    if (r == 0 && (r = watch_gate(l)) < 0)
        return ty_error_set(err, r, "cannot wait for other nodes: %s", strerror(-r));
    return r;
}

int ty_lead_open(const struct ty_jobfile *job, int64_t lost_us, const struct ty_lead_hooks *hooks,
                 void *ctx, int64_t now_us, struct ty_lead **ret, struct ty_error *err)
{
    struct ty_lead *l = calloc(1, sizeof *l);
    int r;

    if (!l)
        return ty_error_oom(err);
    *l = (struct ty_lead){
        .job = job,
        .hooks = hooks,
        .ctx = ctx,
        .now_us = now_us,
        .end_ms = -1,
        .syncer = TY_CHILD_INIT,
        .files = json_object(),
        .epoll = epoll_create1(EPOLL_CLOEXEC),
        .patience = { [TY_Q_GUEST] = GUEST_US,
                      [TY_Q_STALL] = STALL_US,
                      [TY_Q_HEARD] = lost_us < TY_LEAD_SILENT_US ? lost_us : TY_LEAD_SILENT_US,
                      [TY_Q_SILENT] = lost_us,
                      [TY_Q_CLOSED] = TY_LEAD_CLOSED_US }
    };
    r = l->epoll < 0 ? ty_error_set(err, -errno, "cannot wait for other nodes: %m")
                     : ty_blobs_open(job->blobs, &l->blobs, err);
    if (r == 0 && (!l->files || make_nodes(l, now_us) < 0))
        r = ty_error_oom(err);
    if (r == 0)
        r = open_gate(l, err);
    if (r == 0)
        r = write_link(l, err);
    if (r < 0) {
        ty_lead_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

struct ty_lead *ty_lead_free(struct ty_lead *l)
{
    if (!l)
        return NULL;
    for (int i = 0; i < l->n && l->node; i++) {
        if (l->node[i].conn)
            drop(l, l->node[i].conn);
        ty_lead_take_free(&l->node[i]);
    }
    while (l->queue[TY_Q_GUEST].first)
        drop(l, l->queue[TY_Q_GUEST].first->who);
    ty_child_kill(&l->syncer);
    for (int i = 0; i < TY_LEAD_FENCES; i++) {
        free(l->fence[i].name);
        ty_str_done(&l->fence[i].frame);
    }
    ty_gate_free(l->gate);
    ty_blobs_free(l->blobs);
    json_decref(l->files);
    if (l->epoll >= 0)
        close(l->epoll);
    free(l->node);
    free(l->conn);
    free(l->free);
    free(l->go);
    free(l);
    return NULL;
}

int ty_lead_port(const struct ty_lead *l)
{
    return ty_gate_port(l->gate);
}
const char *ty_lead_address(const struct ty_lead *l)
{
    return l->address;
}
int ty_lead_count(const struct ty_lead *l, enum ty_node_state s)
{
    return l->count[s];
}
int ty_lead_nodes(const struct ty_lead *l)
{
    return l->n;
}
bool ty_lead_came(const struct ty_lead *l, int node)
{
    return l->node[node - l->first].who;
}
bool ty_lead_closed(const struct ty_lead *l, int node)
{
    return l->node[node - l->first].wait.in == TY_Q_CLOSED;
}
bool ty_lead_trouble(const struct ty_lead *l)
{
    return l->queue[TY_Q_CLOSED].first || l->queue[TY_Q_SILENT].first;
}
