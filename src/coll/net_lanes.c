/* net_lanes.c - open lanes, who is left and who is lost, and the thread that watches them
 *
 * The verdict over a rank is found on its small lanes alone: a goodbye before the end of one means that it left, an end
 * without it that it is lost.  A broken data lane only raises a suspicion, because what says why it broke comes on
 * another connection: the small lane's verdict is waited for, and after SUSPECT_MS the rank is lost.
 *
 * Leaving: a goodbye behind what waits on every small lane, in its own direction or against it; then the end of sending.
 * The others answer with the end of theirs.  Only then sockets are closed: closing one with unread bytes would reset it and
 * could overtake the goodbye.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "coll/net_impl.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SUSPECT_MS 500
#define IN_BYTES 4096
#define EVENTS 64
#define FOREVER INT64_MAX

void ty_net_signal(int fd)
{
    uint64_t one = 1;
    ssize_t k = write(fd, &one, sizeof one);

    (void)k; /* a full counter is as good a signal */
}

void ty_net_drain(int fd)
{
    uint64_t count;
    ssize_t k = read(fd, &count, sizeof count);

    (void)k;
}

int ty_net_watch(struct ty_net *n, int op, int fd, uint32_t events, enum event_kind kind,
                 uint64_t what)
{
    struct epoll_event e = { .events = events, .data.u64 = (uint64_t)kind << 56 | what };

    return FAULT("net.watch", -1, epoll_ctl(n->epoll, op, fd, &e)) < 0 ? -errno : 0;
}

uint64_t ty_net_lane_id(const struct lane *l)
{
    return (uint64_t)l->rank << 8 | (uint64_t)l->index << 1 | (uint64_t)l->out;
}

static struct lane *lane_of(struct ty_net *n, uint64_t id)
{
    struct peer *p = &n->peers[id >> 8];

    return id & 1 ? &p->out[id >> 1 & 0x7f] : &p->in[id >> 1 & 0x7f];
}

static void fire(struct ty_net *n)
{
    if (n->armed)
        n->fire = true;
    n->armed = false;
}

/* ---- verdicts ---- */

static void end_lane(struct ty_net *n, struct lane *l, enum peer_end end)
{
    if (lane_state(l) < LANE_OPEN) {
        ty_net_abandon(n, l);
        return;
    }
    /* What a rank that left has sent before can still be read. */
    shutdown(l->fd, end == PEER_LEFT ? SHUT_WR : SHUT_RDWR);
    if (l->index == TY_NET_LANES)
        atomic_store(&l->state, LANE_BROKEN);
}

void ty_net_end_peer(struct ty_net *n, int rank, enum peer_end end, const char *why)
{
    struct peer *p = &n->peers[rank];

    if (peer_end(p) != PEER_FINE)
        return;
    if (p->suspect_us) {
        p->suspect_us = 0;
        n->suspects--;
    }
    snprintf(p->why, sizeof p->why, "%s", why);
    atomic_store(&p->end, (int)end);
    for (int k = 0; k <= TY_NET_LANES; k++) {
        end_lane(n, &p->out[k], end);
        end_lane(n, &p->in[k], end);
    }
    n->untold++;
    fire(n);
    ty_net_signal(n->wake);
}

void ty_net_suspect(struct ty_net *n, struct peer *p, int error)
{
    if (peer_end(p) != PEER_FINE || p->suspect_us)
        return;
    p->suspect_us = ty_mono_us() + SUSPECT_MS * 1000;
    p->suspect_error = error;
    n->suspects++;
    ty_net_signal(n->kick);
}

static int64_t tick_suspects(struct ty_net *n, int64_t now, int64_t next)
{
    for (int r = 0; n->suspects > 0 && r < n->o.size; r++) {
        struct peer *p = &n->peers[r];
        char why[sizeof p->why];

        if (!p->suspect_us)
            continue;
        if (p->suspect_us <= now) {
            snprintf(why, sizeof why, "a connection to it broke: %s", strerror(-p->suspect_error));
            ty_net_end_peer(n, r, PEER_LOST, why);
        } else if (p->suspect_us < next) {
            next = p->suspect_us;
        }
    }
    return next;
}

/* ---- sending small messages ---- */

int ty_net_enqueue(struct lane *l, uint64_t tag, const void *bytes, size_t len)
{
    size_t need = l->q_len + TY_LANE_FRAME_BYTES + len;
    unsigned char *q;

    if (l->q_at > 0) {
        memmove(l->q, l->q + l->q_at, l->q_len);
        l->q_at = 0;
    }
    if (need > TY_NET_OUTBOX)
        return -ENOBUFS;
    q = FAULT("net.alloc", NULL, realloc(l->q, need > IN_BYTES ? TY_NET_OUTBOX : IN_BYTES));
    if (!q)
        return -ENOMEM;
    l->q = q;
    ty_lane_frame_encode(tag, len, q + l->q_len);
    if (len > 0)
        memcpy(q + l->q_len + TY_LANE_FRAME_BYTES, bytes, len);
    l->q_len = need;
    return 0;
}

/* An error is only a suspicion: the reading side finds the same, and knows whether there was a goodbye. */
void ty_net_flush(struct ty_net *n, struct lane *l)
{
    while (l->q_len > 0) {
        ssize_t k = FAULT("net.send", -1,
                          send(l->fd, l->q + l->q_at, l->q_len, MSG_DONTWAIT | MSG_NOSIGNAL));

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno != EAGAIN)
            ty_net_suspect(n, &n->peers[l->rank], -errno);
        if (k < 0)
            return;
        l->q_at += (size_t)k;
        l->q_len -= (size_t)k;
        atomic_fetch_add_explicit(&n->sent, (uint64_t)k, memory_order_relaxed);
    }
    l->q_at = 0;
    if (l->bye)
        shutdown(l->fd, SHUT_WR);
}

static void say_goodbye(struct ty_net *n, struct lane *l)
{
    if (l->bye || ty_net_enqueue(l, TY_LANE_GOODBYE, NULL, 0) < 0)
        return;
    l->bye = true;
    ty_net_flush(n, l);
}

/* ---- receiving small messages ---- */

/* 0, or why this rank cannot be listened to any longer. */
static const char *deliver(struct ty_net *n, struct peer *p, const struct ty_lane_small *m)
{
    struct letter *l;

    if (p->letters >= TY_NET_INBOX)
        return "it sent more small messages than are taken";
    l = FAULT("net.letter", NULL, malloc(sizeof *l + m->len));
    if (!l)
        return "no memory for a message of it";
    l->next = NULL;
    l->tag = m->tag;
    l->len = m->len;
    l->rank = (int)(p - n->peers);
    memcpy(l->bytes, m->bytes, m->len);
    if (m->tag == TY_NET_TAG_NOTICE) {
        struct letter **end = &n->notices;

        while (*end)
            end = &(*end)->next;
        *end = l;
        return NULL;
    }
    *p->inbox_end = l;
    p->inbox_end = &l->next;
    p->letters++;
    if (p->epoch != n->epoch) {
        p->epoch = n->epoch;
        p->unseen = 0;
    }
    p->unseen++;
    n->unseen++;
    fire(n);
    return NULL;
}

/* Take the whole messages out of what has been read. */
static void parse_small(struct ty_net *n, struct lane *l)
{
    struct peer *p = &n->peers[l->rank];
    size_t at = 0;

    while (lane_state(l) == LANE_OPEN) {
        struct ty_lane_small m;
        ptrdiff_t used = ty_lane_small_decode(l->in + at, l->in_len - at, &m);
        const char *why = NULL;

        if (used == -EAGAIN)
            break;
        if (used < 0 || (l->out && m.tag != TY_LANE_GOODBYE && m.tag != TY_NET_TAG_NOTICE))
            why = "it sent what is no message";
        else if (m.tag == TY_LANE_GOODBYE && l->out && lane_state(&p->in[l->index]) == LANE_OPEN)
            l->heard_bye = true; /* the one that it says there comes after all that it has posted */
        else if (m.tag == TY_LANE_GOODBYE)
            ty_net_end_peer(n, l->rank, PEER_LEFT, "it has said goodbye");
        else
            why = deliver(n, p, &m);
        if (why)
            ty_net_end_peer(n, l->rank, PEER_LOST, why);
        at += used > 0 ? (size_t)used : 0;
    }
    memmove(l->in, l->in + at, l->in_len - at);
    l->in_len -= at;
}

static void end_of_small(struct ty_net *n, struct lane *l, int error)
{
    char why[96];

    snprintf(why, sizeof why, "%s",
             error == -ETIMEDOUT || error == -EHOSTUNREACH || error == -ENETUNREACH
                 ? "it does not answer any more"
                 : "its connection ended");
    if (error < 0)
        snprintf(why + strlen(why), sizeof why - strlen(why), " (%s)", strerror(-error));
    ty_net_end_peer(n, l->rank, PEER_LOST, why);
    atomic_store(&l->state, LANE_BROKEN);
}

static void read_small(struct ty_net *n, struct lane *l)
{
    while (lane_state(l) == LANE_OPEN) {
        ssize_t k = FAULT("net.recv", -1,
                          recv(l->fd, l->in + l->in_len, IN_BYTES - l->in_len, MSG_DONTWAIT));

        if (k > 0) {
            l->in_len += (size_t)k;
            atomic_fetch_add_explicit(&n->received, (uint64_t)k, memory_order_relaxed);
            parse_small(n, l);
        } else if (k == 0 && l->heard_bye) {
            return;
        } else if (k == 0) {
            end_of_small(n, l, 0);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            end_of_small(n, l, -errno);
        }
    }
}

/* ---- events ---- */

void ty_net_opened(struct ty_net *n, struct lane *l)
{
    bool small = l->index == TY_NET_LANES;

    if (small) {
        l->in = FAULT("net.alloc", NULL, malloc(IN_BYTES));
        if (!l->in) {
            ty_net_end_peer(n, l->rank, PEER_LOST, "no memory for a connection to it");
            return;
        }
    }
    atomic_store(&l->state, LANE_OPEN);
    if (!small) {
        ty_net_watch(n, EPOLL_CTL_MOD, l->fd, EPOLLRDHUP | EPOLLET, EV_LANE, ty_net_lane_id(l));
        ty_net_signal(n->wake);
        return;
    }
    ty_net_flush(n, l);
    for (int k = 0; l->out && k < TY_NET_LANES; k++) /* they waited for this one */
        if (lane_state(&n->peers[l->rank].out[k]) == LANE_WANTED)
            ty_net_shake(n, &n->peers[l->rank].out[k]);
    if (n->stopping)
        say_goodbye(n, l);
    if (n->stopping && l->out && lane_state(&n->peers[l->rank].in[TY_NET_LANES]) == LANE_OPEN)
        say_goodbye(n, &n->peers[l->rank].in[TY_NET_LANES]);
    read_small(n, l);
}

static void lane_event(struct ty_net *n, struct lane *l, uint32_t events)
{
    int s = lane_state(l);

    if (s == LANE_NONE || s == LANE_BROKEN)
        return;
    if (s < LANE_OPEN) {
        ty_net_shake(n, l);
    } else if (l->index == TY_NET_LANES) {
        ty_net_flush(n, l);
        read_small(n, l);
    } else if (events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) {
        ty_net_suspect(n, &n->peers[l->rank], -ECONNRESET);
    }
}

static void handle(struct ty_net *n, const struct epoll_event *e)
{
    uint64_t what = e->data.u64 & (((uint64_t)1 << 56) - 1);

    switch ((enum event_kind)(e->data.u64 >> 56)) {
    case EV_LISTENER:
        if (!n->stopping)
            ty_net_accept(n);
        break;
    case EV_KICK:
        ty_net_drain(n->kick);
        break;
    case EV_STRANGER:
        ty_net_stranger(n, (int)what);
        break;
    case EV_LANE:
        lane_event(n, lane_of(n, what), e->events);
        break;
    }
}

/* Tell what the batch of events has brought, without the lock.  Notices first: they may say why a rank then left. */
static void tell(struct ty_net *n)
{
    while (n->notices) {
        struct letter *l = n->notices;

        n->notices = l->next;
        pthread_mutex_unlock(&n->lock);
        if (n->o.notice)
            n->o.notice(n->o.ctx, l->rank, l->bytes, l->len);
        free(l);
        pthread_mutex_lock(&n->lock);
    }
    for (int r = 0; n->untold > 0 && r < n->o.size; r++) {
        struct peer *p = &n->peers[r];
        int end = peer_end(p);

        if (end == PEER_FINE || p->told)
            continue;
        p->told = true;
        n->untold--;
        if (n->stopping)
            continue;
        pthread_mutex_unlock(&n->lock);
        if (end == PEER_LOST && n->o.lost)
            n->o.lost(n->o.ctx, r, p->why);
        if (end == PEER_LEFT && n->o.left)
            n->o.left(n->o.ctx, r);
        pthread_mutex_lock(&n->lock);
    }
    if (!n->fire)
        return;
    n->fire = false;
    n->unseen = 0;
    n->epoch++;
    pthread_mutex_unlock(&n->lock);
    if (n->o.heard)
        n->o.heard(n->o.ctx);
    pthread_mutex_lock(&n->lock);
}

/* ---- leaving ---- */

static void begin_leaving(struct ty_net *n, int64_t now)
{
    n->stop_us = now + TY_NET_BYE_MS * 1000;
    ty_net_watch(n, EPOLL_CTL_DEL, n->listener, 0, EV_LISTENER, 0);
    for (int i = 0; i < TY_NET_STRANGERS; i++)
        ty_net_dismiss(n, i);
    for (int r = 0; r < n->o.size; r++) {
        struct peer *p = &n->peers[r];

        for (int k = 0; k < TY_NET_LANES; k++)
            ty_net_abandon(n, &p->out[k]);
        /* One that has proved itself may be open at the other end: it is opened here too, and ends with a goodbye. */
        if (p->out[TY_NET_LANES].q_len == 0 && lane_state(&p->out[TY_NET_LANES]) < LANE_PROVEN)
            ty_net_abandon(n, &p->out[TY_NET_LANES]);
        if (lane_state(&p->out[TY_NET_LANES]) == LANE_OPEN)
            say_goodbye(n, &p->out[TY_NET_LANES]);
        /* Not while there is something to say on a lane of ours that is being opened. */
        if (lane_state(&p->in[TY_NET_LANES]) == LANE_OPEN &&
            (lane_state(&p->out[TY_NET_LANES]) == LANE_NONE ||
             lane_state(&p->out[TY_NET_LANES]) >= LANE_OPEN))
            say_goodbye(n, &p->in[TY_NET_LANES]);
    }
}

/* Every small lane has ended at both ends; none is being opened. */
static bool has_left(const struct ty_net *n)
{
    for (int r = 0; r < n->o.size; r++) {
        int out = lane_state(&n->peers[r].out[TY_NET_LANES]),
            in = lane_state(&n->peers[r].in[TY_NET_LANES]);

        if ((out != LANE_NONE && out != LANE_BROKEN) || in == LANE_OPEN)
            return false;
    }
    return true;
}

/* True: the thread shall end. */
static bool leave(struct ty_net *n, int64_t now)
{
    if (!n->stopping)
        return false;
    if (!n->stop_us)
        begin_leaving(n, now);
    return now >= n->stop_us || has_left(n);
}

void *ty_net_thread(void *net)
{
    struct ty_net *n = net;
    struct epoll_event events[EVENTS];
    int64_t next;

    pthread_mutex_lock(&n->lock);
    while (!leave(n, ty_mono_us())) {
        int64_t now = ty_mono_us();
        int k, wait_ms = -1;

        next = ty_net_tick_hello(n, now, n->stopping ? n->stop_us : FOREVER);
        next = tick_suspects(n, now, next);
        tell(n);
        if (next != FOREVER)
            wait_ms = next <= now ? 0 : (int)((next - now) / 1000) + 1;
        pthread_mutex_unlock(&n->lock);
        k = epoll_wait(n->epoll, events, EVENTS, wait_ms);
        pthread_mutex_lock(&n->lock);
        for (int i = 0; i < k; i++)
            handle(n, &events[i]);
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}
