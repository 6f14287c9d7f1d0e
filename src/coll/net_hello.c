/* net_hello.c - how a lane comes to be: the side that opens it, and the side that accepts it
 *
 *     opens                                   accepts
 *     HELLO: who, to whom, lane, nonce  --->
 *                                       <---  CHALLENGE: nonce, proof over both
 *     PROOF over both                   --->
 *                                       <---  WELCOME: an empty frame; from here on the lane is open at both ends
 *
 * Nobody reads a byte beyond the message that is due, so that nothing unproved is ever in a buffer of a lane.
 *
 * A rank listens before it tells its addresses.  So a full round of refusals, some times over, says that it is gone; all
 * else (no answer, an answer from something else that has that address here) is tried again until the time is up.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "coll/net_impl.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ATTEMPT_MS 3000 /* for one address to answer and to prove itself */
#define PAUSE_MS 50     /* after all addresses failed; grows to */
#define PAUSE_MAX_MS 500
#define REFUSED_PASSES 5   /* rounds in which every address refused: nobody listens any more */
#define ACCEPT_REST_MS 100 /* without descriptors or memory */

/* Read towards `want` bytes: 1 they are there, 0 not yet, -ECONNRESET the end, or an error. */
static int read_due(int fd, unsigned char *buf, size_t want, size_t *got)
{
    while (*got < want) {
        ssize_t k = FAULT("net.hello", -1, recv(fd, buf + *got, want - *got, MSG_DONTWAIT));

        if (k > 0)
            *got += (size_t)k;
        else if (k == 0)
            return -ECONNRESET;
        else if (errno == EAGAIN)
            return 0;
        else if (errno != EINTR)
            return -errno;
    }
    return 1;
}

/* A new socket's buffer takes a hello whole or is broken. */
static int send_whole(int fd, const void *bytes, size_t len)
{
    ssize_t k = send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    return k == (ssize_t)len ? 0 : k < 0 ? -errno : -EIO;
}

/* Silence on a small lane ends it within TY_NET_LOST_MS; the receiver of a data lane may be late for as long as it likes with
 * its window closed, which TCP_USER_TIMEOUT would take for death, so there it is not set. */
static void set_up(int fd, bool small)
{
    const struct {
        int level, name, value;
    } set[] = {
        { IPPROTO_TCP, TCP_NODELAY, 1 },
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, 3 },
        { IPPROTO_TCP, TCP_KEEPINTVL, 1 },
        { IPPROTO_TCP, TCP_KEEPCNT, 4 },
        { IPPROTO_TCP, TCP_USER_TIMEOUT, small ? TY_NET_LOST_MS - 1000 : 0 },
    };

    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        setsockopt(fd, set[i].level, set[i].name, &set[i].value, sizeof set[i].value);
}

/* ---- the side that opens ---- */

static const char *show(const union ty_address *a, char text[64])
{
    char host[INET6_ADDRSTRLEN];
    bool six = a->any.sa_family == AF_INET6;

    inet_ntop(a->any.sa_family,
              six ? (const void *)&a->v6.sin6_addr : (const void *)&a->v4.sin_addr, host,
              sizeof host);
    snprintf(text, 64, six ? "[%s]:%d" : "%s:%d", host,
             ntohs(six ? a->v6.sin6_port : a->v4.sin_port));
    return text;
}

/* What cannot be reached, and where it was tried. */
static void give_up(struct ty_net *n, struct lane *l)
{
    struct peer *p = &n->peers[l->rank];
    char where[112] = "", text[64], why[sizeof p->why];
    size_t at = 0;

    for (int i = 0; i < p->naddresses && at < sizeof where - 1; i++)
        at += (size_t)snprintf(where + at, sizeof where - at, "%s%s", i ? ", " : "",
                               show(&p->addresses[i], text));
    snprintf(why, sizeof why, "cannot be reached at %s: %s", where,
             l->error == ECONNRESET     ? "we were turned away"
             : l->error == EKEYREJECTED ? "what answers there has another key"
                                        : strerror(l->error));
    ty_net_end_peer(n, l->rank, PEER_LOST, why);
}

void ty_net_abandon(struct ty_net *n, struct lane *l)
{
    int s = lane_state(l);

    if (s == LANE_NONE || s >= LANE_OPEN)
        return;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    free(l->shake);
    l->shake = NULL;
    atomic_store(&l->state, LANE_BROKEN);
    n->opening--;
}

/* This address did not do: the next one, after a pause when all were tried. */
static void attempt_failed(struct ty_net *n, struct lane *l, int error)
{
    struct peer *p = &n->peers[l->rank];
    int64_t now = ty_mono_us();
    int pause_ms = 0;

    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    free(l->shake);
    l->shake = NULL;
    l->error = -error;
    l->tried++;
    l->refused += error == -ECONNREFUSED;
    l->address = (l->address + 1) % p->naddresses;
    if (l->tried % p->naddresses == 0) {
        l->passes = l->refused == p->naddresses ? l->passes + 1 : 0;
        l->refused = 0;
        pause_ms = PAUSE_MS * (l->tried / p->naddresses);
        if (pause_ms > PAUSE_MAX_MS)
            pause_ms = PAUSE_MAX_MS;
    }
    l->next_us = now + (int64_t)pause_ms * 1000;
    atomic_store(&l->state, LANE_WANTED);
    if (l->passes >= REFUSED_PASSES || l->next_us >= l->give_up_us)
        give_up(n, l);
}

static int begin_hello(struct ty_net *n, struct lane *l)
{
    struct ty_lane_hello h = {
        (uint32_t)n->o.rank, (uint32_t)l->rank, (uint32_t)n->o.size, (uint32_t)l->index, { 0 }
    };

    l->shake = FAULT("net.alloc", NULL, calloc(1, sizeof *l->shake));
    if (!l->shake)
        return -ENOMEM;
    randombytes_buf(h.nonce, sizeof h.nonce);
    ty_lane_hello_encode(&h, l->shake->hello);
    atomic_store(&l->state, LANE_HELLO);
    return send_whole(l->fd, l->shake->hello, sizeof l->shake->hello);
}

static int try_address(struct ty_net *n, struct lane *l)
{
    struct peer *p = &n->peers[l->rank];
    const union ty_address *a = &p->addresses[l->address];
    int64_t now = ty_mono_us();

    l->next_us = now + ATTEMPT_MS * 1000;
    if (l->next_us > l->give_up_us)
        l->next_us = l->give_up_us;
    atomic_store(&l->state, LANE_CONNECTING);
    l->fd = FAULT("net.socket", -1,
                  socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (l->fd < 0)
        return -errno;
    set_up(l->fd, l->index == TY_NET_LANES);
    if (FAULT("net.connect", -1, connect(l->fd, &a->any, ty_address_bytes(a))) < 0 &&
        errno != EINPROGRESS)
        return -errno;
    return ty_net_watch(n, EPOLL_CTL_ADD, l->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, EV_LANE,
                        ty_net_lane_id(l));
}

/* 1: connected, 0: not yet. */
static int connected(const struct lane *l)
{
    union ty_address a;
    socklen_t len = sizeof a;
    int e = 0;
    socklen_t elen = sizeof e;

    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &e, &elen) < 0)
        return -errno;
    if (e)
        return -e;
    if (getpeername(l->fd, &a.any, &len) < 0)
        return errno == ENOTCONN ? 0 : -errno;
    return 1;
}

/* The other end's proof has come: does it hold?  Then give ours. */
static int answer_challenge(struct ty_net *n, struct lane *l)
{
    const struct shake *s = l->shake;
    unsigned char proof[TY_LANE_PROOF_BYTES];

    if (!ty_lane_proof_holds(n->key, TY_LANE_ACCEPTS, s->hello, s->in, s->in + TY_LANE_NONCE_BYTES))
        return -EKEYREJECTED;
    ty_lane_proof(n->key, TY_LANE_OPENS, s->hello, s->in, proof);
    l->shake->got = 0;
    l->next_us =
        l->give_up_us; /* the other end may take the lane for open from now on: no second attempt beside it */
    atomic_store(&l->state, LANE_PROVEN);
    return send_whole(l->fd, proof, sizeof proof);
}

static int take_welcome(struct lane *l)
{
    uint64_t tag, bytes;

    ty_lane_frame_decode(l->shake->in, &tag, &bytes);
    return tag == TY_LANE_WELCOME && bytes == 0 ? 1 : -EBADMSG;
}

static int done(int r)
{
    return r < 0 ? r : 1;
}

/* As far as it goes without waiting: 1 it is open, 0 not yet. */
static int go_on(struct ty_net *n, struct lane *l)
{
    int r = 1;

    if (lane_state(l) == LANE_WANTED)
        r = done(try_address(n, l));
    if (r > 0 && lane_state(l) == LANE_CONNECTING && (r = connected(l)) > 0)
        r = done(begin_hello(n, l));
    if (r > 0 && lane_state(l) == LANE_HELLO &&
        (r = read_due(l->fd, l->shake->in, TY_LANE_CHALLENGE_BYTES, &l->shake->got)) > 0)
        r = done(answer_challenge(n, l));
    if (r > 0 && lane_state(l) == LANE_PROVEN &&
        (r = read_due(l->fd, l->shake->in, TY_LANE_FRAME_BYTES, &l->shake->got)) > 0)
        r = take_welcome(l);
    return r;
}

/* Data lanes follow the small one: then there is proof of life, and an address that works. */
static bool must_wait(const struct ty_net *n, const struct lane *l)
{
    return lane_state(l) == LANE_WANTED && l->index != TY_NET_LANES &&
           lane_state(&n->peers[l->rank].out[TY_NET_LANES]) != LANE_OPEN;
}

void ty_net_shake(struct ty_net *n, struct lane *l)
{
    struct peer *p = &n->peers[l->rank];
    int r;

    if (must_wait(n, l))
        return;
    if (lane_state(l) == LANE_WANTED && l->tried == 0)
        l->address = p->address;
    r = go_on(n, l);
    if (r < 0) {
        attempt_failed(n, l, r);
    } else if (r > 0) {
        p->address = l->address;
        free(l->shake);
        l->shake = NULL;
        n->opening--;
        ty_net_opened(n, l);
    }
}

void ty_net_want(struct ty_net *n, struct lane *l)
{
    struct peer *p = &n->peers[l->rank];

    if (lane_state(l) != LANE_NONE || peer_end(p) != PEER_FINE)
        return;
    if (l->index != TY_NET_LANES)
        ty_net_want(n, &p->out[TY_NET_LANES]);
    l->next_us = 0;
    l->give_up_us = ty_mono_us() + (int64_t)n->o.connect_timeout_ms * 1000;
    atomic_store(&l->state, LANE_WANTED);
    n->opening++;
    ty_net_signal(n->kick);
}

void ty_net_want_watch(struct ty_net *n, struct peer *p)
{
    if (lane_state(&p->in[TY_NET_LANES]) == LANE_NONE)
        ty_net_want(n, &p->out[TY_NET_LANES]);
}

/* ---- the side that accepts ---- */

void ty_net_dismiss(struct ty_net *n, int slot)
{
    struct stranger *s = &n->strangers[slot];

    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    n->nstrangers--;
}

/* A free place, or that of the one that has been here longest without a proof. */
static int make_room(struct ty_net *n)
{
    int oldest = 0;

    for (int i = 0; i < TY_NET_STRANGERS; i++) {
        if (n->strangers[i].fd < 0)
            return i;
        if (n->strangers[i].since_us < n->strangers[oldest].since_us)
            oldest = i;
    }
    ty_net_dismiss(n, oldest);
    return oldest;
}

static void take_in(struct ty_net *n, int fd)
{
    int slot = make_room(n);
    struct stranger *s = &n->strangers[slot];

    memset(s, 0, sizeof *s);
    s->fd = fd;
    n->nstrangers++;
    s->since_us = ty_mono_us();
    s->deadline_us = s->since_us + (int64_t)n->o.hello_timeout_ms * 1000;
    if (ty_net_watch(n, EPOLL_CTL_ADD, fd, EPOLLIN, EV_STRANGER, (uint64_t)slot) < 0)
        ty_net_dismiss(n, slot);
}

/* A few at a time, so that those who are here get on. */
void ty_net_accept(struct ty_net *n)
{
    for (int i = 0; i < 16; i++) {
        int fd =
            FAULT("net.accept", -1, accept4(n->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));

        if (fd >= 0) {
            take_in(n, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            n->accept_us = ty_mono_us() + ACCEPT_REST_MS * 1000;
            ty_net_watch(n, EPOLL_CTL_MOD, n->listener, 0, EV_LISTENER, 0);
            return;
        }
    }
}

/* The lane that a hello asks for, if it can be: not open already, of a rank that is not lost. */
static struct lane *asked_for(struct ty_net *n, const struct ty_lane_hello *h)
{
    struct peer *p;

    if (h->to != (uint32_t)n->o.rank || h->size != (uint32_t)n->o.size)
        return NULL;
    p = &n->peers[h->from];
    if (peer_end(p) != PEER_FINE || lane_state(&p->in[h->lane]) != LANE_NONE)
        return NULL;
    return &p->in[h->lane];
}

static int challenge(struct ty_net *n, struct stranger *s)
{
    unsigned char out[TY_LANE_CHALLENGE_BYTES];

    if (ty_lane_hello_decode(s->bytes, &s->hello) < 0 || !asked_for(n, &s->hello))
        return -EACCES;
    randombytes_buf(s->nonce, sizeof s->nonce);
    memcpy(out, s->nonce, sizeof s->nonce);
    ty_lane_proof(n->key, TY_LANE_ACCEPTS, s->bytes, s->nonce, out + TY_LANE_NONCE_BYTES);
    s->challenged = true;
    s->got = 0;
    return send_whole(s->fd, out, sizeof out);
}

static int admit(struct ty_net *n, struct stranger *s)
{
    unsigned char welcome[TY_LANE_FRAME_BYTES];
    struct lane *l = asked_for(n, &s->hello);
    int r;

    if (!l || !ty_lane_proof_holds(n->key, TY_LANE_OPENS, s->bytes, s->nonce, s->proof))
        return -EACCES;
    set_up(s->fd, l->index == TY_NET_LANES);
    ty_lane_frame_encode(TY_LANE_WELCOME, 0, welcome);
    r = send_whole(s->fd, welcome, sizeof welcome);
    if (r < 0)
        return r;
    r = ty_net_watch(n, EPOLL_CTL_MOD, s->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, EV_LANE,
                     ty_net_lane_id(l));
    if (r < 0)
        return r;
    l->fd = s->fd;
    s->fd = -1;
    n->nstrangers--;
    ty_net_opened(n, l);
    return 0;
}

void ty_net_stranger(struct ty_net *n, int slot)
{
    struct stranger *s = &n->strangers[slot];
    int r = 1;

    if (s->fd < 0)
        return;
    if (!s->challenged) {
        r = read_due(s->fd, s->bytes, sizeof s->bytes, &s->got);
        if (r > 0)
            r = challenge(n, s);
    } else {
        r = read_due(s->fd, s->proof, sizeof s->proof, &s->got);
        if (r > 0)
            r = admit(n, s);
    }
    if (r < 0)
        ty_net_dismiss(n, slot);
}

/* ---- time ---- */

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Lanes that are being opened: a new attempt, or the end of one. */
static int64_t tick_lane(struct ty_net *n, struct lane *l, int64_t now, int64_t next)
{
    int s = lane_state(l);

    if (s == LANE_NONE || s >= LANE_OPEN)
        return next;
    if (l->next_us <= now && s == LANE_WANTED)
        ty_net_shake(n, l);
    else if (l->next_us <= now)
        attempt_failed(n, l, -ETIMEDOUT);
    s = lane_state(l);
    return s > LANE_NONE && s < LANE_OPEN && !must_wait(n, l) ? sooner(next, l->next_us) : next;
}

int64_t ty_net_tick_hello(struct ty_net *n, int64_t now, int64_t next)
{
    for (int i = 0; n->nstrangers > 0 && i < TY_NET_STRANGERS; i++) {
        if (n->strangers[i].fd >= 0 && n->strangers[i].deadline_us <= now)
            ty_net_dismiss(n, i);
        if (n->strangers[i].fd >= 0)
            next = sooner(next, n->strangers[i].deadline_us);
    }
    for (int r = 0; n->opening > 0 && r < n->o.size; r++)
        for (int k = TY_NET_LANES; k >= 0; k--)
            next = tick_lane(n, &n->peers[r].out[k], now, next);
    if (n->accept_us && n->accept_us <= now && !n->stopping) {
        n->accept_us = 0;
        ty_net_watch(n, EPOLL_CTL_MOD, n->listener, EPOLLIN, EV_LISTENER, 0);
    }
    return n->accept_us ? sooner(next, n->accept_us) : next;
}
