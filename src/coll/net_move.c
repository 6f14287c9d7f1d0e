/* net_move.c - ty_net_exchange: one message out and one in, at the same time, between user memory and sockets
 *
 * A message is cut into stripes, one for each lane that it uses; each has a frame with the tag and the whole length, and a
 * cursor into the iov.  Every turn gives each stripe that is not whole one system call.  When none of them moved anything
 * the thread spins for a moment, then sleeps in poll on the sockets and the eventfd that tells of all else: a lane was
 * opened, a rank ended, somebody wants *stop to be looked at.
 *
 * A socket that fails says nothing about its rank: the net's thread finds the verdict (net_lanes.c), and is waited for.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "coll/futex.h"
#include "coll/net_impl.h"
#include <errno.h>
#include <poll.h>
#include <string.h>

#define PIECES 32     /* most parts of an iov in one system call */
#define SKIPS_MAX 255 /* most waits in a row without spinning first */

struct stripe {
    struct lane *lane;
    unsigned char frame[TY_LANE_FRAME_BYTES];
    size_t framed; /* of the frame */
    int piece;     /* of the iov, and where in it */
    size_t at;
    uint64_t left; /* of this stripe's bytes */
    uint64_t end;  /* of this stripe in the message */
    uint64_t told; /* from here on, what has come was not told of */
    bool whole;
};

/* One direction of an exchange. */
struct half {
    struct peer *peer;
    const struct ty_net_msg *msg;
    uint64_t bytes;
    bool out;
    int nstripes, open; /* stripes, those that are not whole */
    bool broken;        /* a socket failed: the verdict is waited for */
    void (*got)(void *arg, size_t at, size_t bytes); /* may be NULL */
    void *arg;
    struct stripe s[TY_NET_LANES];
};

/* ---- setting up ---- */

/* Move a stripe's cursor on by n bytes of the iov. */
static void advance(struct stripe *s, const struct ty_net_msg *m, uint64_t n)
{
    while (n > 0) {
        size_t here = m->iov[s->piece].iov_len - s->at;

        if (n < here) {
            s->at += (size_t)n;
            return;
        }
        n -= here;
        s->piece++;
        s->at = 0;
    }
}

static int set_up_half(struct ty_net *n, struct half *h, const struct ty_net_msg *m, bool out)
{
    uint64_t at, len;

    if (!m || m->rank == -1)
        return 0;
    if (m->rank < 0 || m->rank >= n->o.size || m->tag > TY_NET_TAG_MAX ||
        n->peers[m->rank].naddresses == 0)
        return -EINVAL;
    h->peer = &n->peers[m->rank];
    h->msg = m;
    h->out = out;
    for (int i = 0; i < m->niov; i++)
        h->bytes += m->iov[i].iov_len;
    for (int k = 0; k < TY_NET_LANES && ty_lane_stripe(h->bytes, k, &at, &len); k++) {
        struct stripe *s = &h->s[h->nstripes++];

        s->lane = out ? &h->peer->out[k] : &h->peer->in[k];
        if (s->lane->torn)
            return -EPIPE;
        s->left = len;
        s->told = at;
        s->end = at + len;
        advance(s, m, at);
        if (out)
            ty_lane_frame_encode(m->tag, h->bytes, s->frame);
    }
    h->open = h->nstripes;
    return 0;
}

/* Ask for the lanes that it needs, if they are not there. */
static void want_lanes(struct ty_net *n, struct half *h)
{
    bool missing = false;

    for (int k = 0; k < h->nstripes; k++)
        missing |= lane_state(h->s[k].lane) == LANE_NONE;
    if (!missing)
        return;
    pthread_mutex_lock(&n->lock);
    for (int k = 0; k < h->nstripes && h->out; k++)
        ty_net_want(n, h->s[k].lane);
    ty_net_want_watch(n, h->peer);
    pthread_mutex_unlock(&n->lock);
}

/* ---- moving ---- */

/* What the next system call moves: the rest of the frame, then bytes of the stripe. */
static int fill(struct stripe *s, const struct ty_net_msg *m, struct iovec v[PIECES])
{
    uint64_t left = s->left;
    size_t at = s->at;
    int k = 0;

    if (s->framed < sizeof s->frame)
        v[k++] = (struct iovec){ s->frame + s->framed, sizeof s->frame - s->framed };
    for (int i = s->piece; left > 0 && k < PIECES; i++, at = 0) {
        size_t here = m->iov[i].iov_len - at;

        if (here > left)
            here = (size_t)left;
        if (here > 0)
            v[k++] = (struct iovec){ (unsigned char *)m->iov[i].iov_base + at, here };
        left -= here;
    }
    return k;
}

/* Stripes begin at multiples of 64, and what is told of ends there. */
static void tell(struct half *h, struct stripe *s)
{
    uint64_t come = s->end - s->left;

    if (s->left > 0)
        come &= ~(uint64_t)63;
    if (come <= s->told || (s->left > 0 && come - s->told < TY_NET_TELL_BYTES))
        return;
    h->got(h->arg, (size_t)s->told, (size_t)(come - s->told));
    s->told = come;
}

/* `k` bytes have moved.  -EPROTO: the frame that came is not the one that was expected. */
static int account(struct half *h, struct stripe *s, size_t k)
{
    size_t frame = sizeof s->frame - s->framed;
    bool complete = frame > 0 && k >= frame;
    uint64_t tag, bytes;

    if (frame > k)
        frame = k;
    s->framed += frame;
    advance(s, h->msg, k - frame);
    s->left -= k - frame;
    if (complete && !h->out) {
        ty_lane_frame_decode(s->frame, &tag, &bytes);
        if (tag != h->msg->tag || bytes != h->bytes)
            return -EPROTO;
    }
    if (h->got && s->framed == sizeof s->frame)
        tell(h, s);
    if (s->framed == sizeof s->frame && s->left == 0) {
        s->whole = true;
        h->open--;
    }
    return 0;
}

/* One system call for one stripe: 1 something moved, 0 nothing. */
static int move_stripe(struct ty_net *n, struct half *h, struct stripe *s)
{
    struct iovec v[PIECES];
    struct msghdr m = { .msg_iov = v };
    _Atomic uint64_t *counter = h->out ? &n->sent : &n->received;
    ssize_t k;
    int r;

    m.msg_iovlen = (size_t)fill(s, h->msg, v);
    if (h->out)
        k = FAULT("net.move", -1, sendmsg(s->lane->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL));
    else
        k = FAULT("net.move", -1, recvmsg(s->lane->fd, &m, MSG_DONTWAIT));
    if (k < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (k <= 0) {
        h->broken = true;
        pthread_mutex_lock(&n->lock);
        ty_net_suspect(n, h->peer, k < 0 ? -errno : -ECONNRESET);
        pthread_mutex_unlock(&n->lock);
        return 0;
    }
    atomic_fetch_add_explicit(counter, (uint64_t)k, memory_order_relaxed);
    atomic_fetch_add_explicit(&n->moved, (uint64_t)k, memory_order_relaxed);
    r = account(h, s, (size_t)k);
    return r < 0 ? r : 1;
}

/* What the end of a rank means for this half: 0 nothing yet. */
static int verdict(const struct half *h)
{
    int end = peer_end(h->peer);

    if (end == PEER_LOST)
        return -ECONNRESET;
    if (end == PEER_FINE)
        return 0;
    if (h->out || h->broken)
        return -ESHUTDOWN;
    for (int k = 0; k < h->nstripes; k++)
        if (lane_state(h->s[k].lane) != LANE_OPEN)
            return -ESHUTDOWN;
    return 0; /* what it sent before it left can still come */
}

static int move_half(struct ty_net *n, struct half *h)
{
    int r, moved = 0;

    if (h->open == 0)
        return 0;
    r = verdict(h);
    if (r < 0 || h->broken)
        return r;
    for (int k = 0; k < h->nstripes; k++) {
        if (h->s[k].whole || lane_state(h->s[k].lane) != LANE_OPEN)
            continue;
        r = move_stripe(n, h, &h->s[k]);
        if (r < 0)
            return r;
        moved |= r;
    }
    /* A lane has ended: of a rank whose end is known already nothing more will be told. */
    r = h->broken ? verdict(h) : 0;
    return r < 0 ? r : moved;
}

/* ---- waiting ---- */

static int add_polled(const struct half *h, struct pollfd *p, int k)
{
    for (int i = 0; i < h->nstripes && h->open > 0 && !h->broken; i++)
        if (!h->s[i].whole && lane_state(h->s[i].lane) == LANE_OPEN)
            p[k++] = (struct pollfd){ h->s[i].lane->fd, h->out ? POLLOUT : POLLIN, 0 };
    return k;
}

static void sleep_on(struct ty_net *n, const struct half *send, const struct half *recv)
{
    struct pollfd p[1 + 2 * TY_NET_LANES] = { { n->wake, POLLIN, 0 } };
    int k = add_polled(recv, p, add_polled(send, p, 1));

    if (poll(p, (nfds_t)k, -1) > 0 && p[0].revents)
        ty_net_drain(n->wake);
}

/* Some of a message is on its way, or came wrong: nothing that follows on its lanes would be understood. */
static void tear(const struct half *h, bool wrong)
{
    bool moved = wrong;

    for (int k = 0; k < h->nstripes; k++)
        moved |= h->s[k].framed > 0;
    for (int k = 0; k < h->nstripes && moved && h->open > 0; k++)
        h->s[k].lane->torn = true;
}

/* Spinning pays where the peer runs on another core and answers soon.  Where it did not, it is left out the next time, then the
 * next three times, and so on: a peer that needs this core is not kept from it for long. */
static void learn(struct ty_net *n, bool paid)
{
    n->spin_fails = paid ? 0 : n->spin_fails < SKIPS_MAX / 2 ? n->spin_fails * 2 + 1 : SKIPS_MAX;
    n->spin_skips = n->spin_fails;
}

/* Nothing moved: spin on, or sleep.  *spin_until is 0 when this is the first time since something did. */
static void wait_a_little(struct ty_net *n, const struct half *send, const struct half *recv,
                          int64_t *spin_until)
{
    int64_t now;

    if (*spin_until == 0 && (n->o.spin_us <= 0 || n->spin_skips > 0)) {
        n->spin_skips -= n->spin_skips > 0;
        sleep_on(n, send, recv);
        return;
    }
    now = ty_mono_us();
    if (*spin_until == 0)
        *spin_until = now + n->o.spin_us;
    if (now < *spin_until) {
        ty_cpu_pause();
        return;
    }
    learn(n, false);
    *spin_until = 0;
    sleep_on(n, send, recv);
}

static int run(struct ty_net *n, struct half *send, struct half *recv,
               const volatile uint32_t *stop)
{
    int64_t spin_until = 0;

    while (send->open > 0 || recv->open > 0) {
        int s, r;

        if (stop && __atomic_load_n(stop, __ATOMIC_ACQUIRE))
            return -ECANCELED;
        s = move_half(n, send);
        if (s < 0)
            return s;
        r = move_half(n, recv);
        if (r < 0)
            return r;
        if (!s && !r) {
            wait_a_little(n, send, recv, &spin_until);
            continue;
        }
        if (spin_until)
            learn(n, true);
        spin_until = 0;
    }
    return 0;
}

int ty_net_exchange_told(struct ty_net *n, const struct ty_net_msg *send,
                         const struct ty_net_msg *recv, const volatile uint32_t *stop,
                         void (*got)(void *arg, size_t at, size_t bytes), void *arg)
{
    struct half out = { 0 }, in = { .got = got, .arg = arg };
    int r = set_up_half(n, &out, send, true);

    if (r == 0)
        r = set_up_half(n, &in, recv, false);
    if (r < 0)
        return r;
    want_lanes(n, &out);
    want_lanes(n, &in);
    r = run(n, &out, &in, stop);
    if (r < 0) {
        tear(&out, false);
        tear(&in, r == -EPROTO);
    }
    return r;
}

int ty_net_exchange(struct ty_net *n, const struct ty_net_msg *send, const struct ty_net_msg *recv,
                    const volatile uint32_t *stop)
{
    return ty_net_exchange_told(n, send, recv, stop, NULL, NULL);
}
