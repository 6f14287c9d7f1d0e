/* net.c - the life of a net, and its small messages
 *
 * A small message is written to the socket by whoever posts it when nothing waits before it; else it waits in the lane's
 * queue and the net's thread sends it.  What comes lies in the inbox of its rank until it is taken.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/net_impl.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define SPIN_US 20
#define CONNECT_MS 30000
#define HELLO_MS 5000
#define BACKLOG 4096

static void close_lane(struct lane *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    free(l->shake);
    free(l->in);
    free(l->q);
}

static void free_peer(struct peer *p)
{
    for (int k = 0; k <= TY_NET_LANES; k++) {
        close_lane(&p->out[k]);
        close_lane(&p->in[k]);
    }
    for (struct letter *m = p->inbox, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    free(p->addresses);
}

static void close_all(struct ty_net *n)
{
    const int fds[] = { n->listener, n->epoll, n->kick, n->wake };

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (int i = 0; i < TY_NET_STRANGERS; i++)
        if (n->strangers[i].fd >= 0)
            close(n->strangers[i].fd);
}

struct ty_net *ty_net_free(struct ty_net *n)
{
    if (!n)
        return NULL;
    if (n->started) {
        pthread_mutex_lock(&n->lock);
        n->stopping = true;
        pthread_mutex_unlock(&n->lock);
        ty_net_signal(n->kick);
        pthread_join(n->thread, NULL);
    }
    for (int r = 0; n->peers && r < n->o.size; r++)
        free_peer(&n->peers[r]);
    for (struct letter *l = n->notices, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    free(n->peers);
    close_all(n);
    pthread_mutex_destroy(&n->lock);
    sodium_memzero(n->key, sizeof n->key);
    free(n);
    return NULL;
}

static void freep(struct ty_net **n)
{
    ty_net_free(*n);
}

void ty_net_forked(struct ty_net *n)
{
    for (int r = 0; r < n->o.size; r++)
        for (int k = 0; k <= TY_NET_LANES; k++) {
            if (n->peers[r].out[k].fd >= 0)
                close(n->peers[r].out[k].fd);
            if (n->peers[r].in[k].fd >= 0)
                close(n->peers[r].in[k].fd);
        }
    close_all(n);
}

/* ---- opening ---- */

static int bind_any(int family)
{
    union ty_address a;
    CLEANUP_CLOSE int fd =
        FAULT("net.listen", -1, socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int off = 0;

    memset(&a, 0, sizeof a);
    a.any.sa_family = (sa_family_t)family;
    if (fd < 0)
        return -errno;
    if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
        return -errno;
    if (bind(fd, &a.any, ty_address_bytes(&a)) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* On every address, IPv6 too where this host has it; *port is what the system chose. */
static int listen_any(struct ty_net *n, int *port, struct ty_error *err)
{
    union ty_address a;
    socklen_t len = sizeof a;
    int fd = bind_any(AF_INET6);

    if (fd < 0)
        fd = bind_any(AF_INET);
    if (fd < 0)
        return ty_error_set(err, fd, "cannot listen for other ranks: %s", strerror(-fd));
    n->listener = fd;
    if (getsockname(fd, &a.any, &len) < 0)
        return ty_error_set(err, -errno, "cannot listen for other ranks: %m");
    *port = ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
    return 0;
}

static void init_lane(struct lane *l, int rank, int index, bool out)
{
    l->rank = rank;
    l->index = index;
    l->out = out;
    l->fd = -1;
}

static int init_peers(struct ty_net *n)
{
    n->peers = FAULT("net.alloc", NULL, calloc((size_t)n->o.size, sizeof *n->peers));
    if (!n->peers)
        return -ENOMEM;
    for (int r = 0; r < n->o.size; r++) {
        n->peers[r].inbox_end = &n->peers[r].inbox;
        for (int k = 0; k <= TY_NET_LANES; k++) {
            init_lane(&n->peers[r].out[k], r, k, true);
            init_lane(&n->peers[r].in[k], r, k, false);
        }
    }
    return 0;
}

static void init(struct ty_net *n, const struct ty_net_options *o)
{
    cpu_set_t cores;

    pthread_mutex_init(&n->lock, NULL);
    n->o = *o;
    memcpy(n->key, o->key, sizeof n->key);
    n->o.key = NULL;
    n->o.interfaces = NULL;
    n->listener = n->epoll = n->kick = n->wake = -1;
    for (int i = 0; i < TY_NET_STRANGERS; i++)
        n->strangers[i].fd = -1;
    if (o->connect_timeout_ms <= 0)
        n->o.connect_timeout_ms = CONNECT_MS;
    if (o->hello_timeout_ms <= 0)
        n->o.hello_timeout_ms = HELLO_MS;
    if (o->spin_us == 0 && sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) > 1)
        n->o.spin_us = SPIN_US;
}

static int make_events(struct ty_net *n, struct ty_error *err)
{
    n->epoll = FAULT("net.epoll", -1, epoll_create1(EPOLL_CLOEXEC));
    n->kick = FAULT("net.eventfd", -1, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    n->wake = FAULT("net.eventfd", -1, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (n->epoll < 0 || n->kick < 0 || n->wake < 0 ||
        ty_net_watch(n, EPOLL_CTL_ADD, n->kick, EPOLLIN, EV_KICK, 0) < 0 ||
        ty_net_watch(n, EPOLL_CTL_ADD, n->listener, EPOLLIN, EV_LISTENER, 0) < 0)
        return ty_error_set(err, -errno, "cannot make an epoll for the network: %m");
    return 0;
}

/* Signals of the program are for its own threads. */
static int start_thread(struct ty_net *n, struct ty_error *err)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = -FAULT("net.thread", EAGAIN, pthread_create(&n->thread, NULL, ty_net_thread, n));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r < 0)
        return ty_error_set(err, r, "cannot start a thread for the network: %s", strerror(-r));
    pthread_setname_np(n->thread, "ty-net");
    n->started = true;
    return 0;
}

int ty_net_open(const struct ty_net_options *o, struct ty_net **ret, char **address,
                struct ty_error *err)
{
    CLEANUP(freep) struct ty_net *n = NULL;
    CLEANUP_FREE char *text = NULL;
    int port = 0, r;

    if (o->size < 1 || o->rank < 0 || o->rank >= o->size || !o->key)
        return ty_error_set(err, -EINVAL,
                            "cannot open a network for rank %d of %d without a key for it", o->rank,
                            o->size);
    if (sodium_init() < 0)
        return ty_error_set(err, -EIO, "cannot start libsodium: no source of random numbers");
    n = FAULT("net.alloc", NULL, calloc(1, sizeof *n));
    if (!n)
        return ty_error_oom(err);
    init(n, o);
    if (init_peers(n) < 0)
        return ty_error_oom(err);
    r = listen_any(n, &port, err);
    if (r == 0)
        r = ty_addresses_here(o->interfaces, port, &text, err);
    if (r == 0)
        r = make_events(n, err);
    if (r == 0)
        r = start_thread(n, err);
    if (r < 0)
        return r;
    *ret = TAKE(n);
    *address = TAKE(text);
    return 0;
}

int ty_net_peers(struct ty_net *n, const char *const *addresses, struct ty_error *err)
{
    union ty_address a[TY_NET_ADDRESSES];

    if (n->has_addresses)
        return ty_error_set(err, -EINVAL, "cannot give the addresses of the ranks twice");
    for (int r = 0; r < n->o.size; r++) {
        struct peer *p = &n->peers[r];
        int k = addresses[r] && r != n->o.rank
                    ? ty_addresses_parse(addresses[r], a, TY_NET_ADDRESSES)
                    : 0;

        if (k < 0)
            return ty_error_set(err, k, "cannot read the addresses of rank %d: '%.100s'", r,
                                addresses[r]);
        if (k == 0)
            continue;
        free(p->addresses);
        p->addresses = FAULT("net.alloc", NULL, malloc((size_t)k * sizeof *a));
        if (!p->addresses)
            return ty_error_oom(err);
        memcpy(p->addresses, a, (size_t)k * sizeof *a);
        p->naddresses = k;
    }
    n->has_addresses = true;
    return 0;
}

/* ---- small messages ---- */

static int end_code(const struct peer *p)
{
    static const int codes[] = {
        [PEER_FINE] = 0, [PEER_LEFT] = -ESHUTDOWN, [PEER_LOST] = -ECONNRESET
    };

    return codes[peer_end(p)];
}

static struct peer *find_peer(struct ty_net *n, int rank)
{
    if (rank < 0 || rank >= n->o.size || n->peers[rank].naddresses == 0)
        return NULL;
    return &n->peers[rank];
}

static int post(struct ty_net *n, struct peer *p, uint64_t tag, const void *bytes, size_t len)
{
    struct lane *l = &p->out[TY_NET_LANES];
    int r = end_code(p);

    if (r < 0)
        return r;
    r = ty_net_enqueue(l, tag, bytes, len);
    if (r < 0)
        return r;
    if (lane_state(l) == LANE_OPEN)
        ty_net_flush(n, l);
    else
        ty_net_want(n, l);
    return 0;
}

int ty_net_post(struct ty_net *n, int rank, uint64_t tag, const void *bytes, size_t len)
{
    struct peer *p = find_peer(n, rank);
    int r;

    if (!p || tag > TY_NET_TAG_MAX)
        return -EINVAL;
    if (len > TY_NET_SMALL_BYTES)
        return -EMSGSIZE;
    pthread_mutex_lock(&n->lock);
    r = post(n, p, tag, bytes, len);
    pthread_mutex_unlock(&n->lock);
    return r;
}

void ty_net_tell(struct ty_net *n, const void *bytes, size_t len)
{
    pthread_mutex_lock(&n->lock);
    for (int r = 0; r < n->o.size; r++) {
        struct lane *small[] = { &n->peers[r].out[TY_NET_LANES], &n->peers[r].in[TY_NET_LANES] };

        for (int i = 0; i < 2 && peer_end(&n->peers[r]) == PEER_FINE; i++)
            if (lane_state(small[i]) == LANE_OPEN && !small[i]->bye &&
                ty_net_enqueue(small[i], TY_NET_TAG_NOTICE, bytes, len) == 0)
                ty_net_flush(n, small[i]);
    }
    pthread_mutex_unlock(&n->lock);
}

/* The letters of p have been looked at. */
static void seen(struct ty_net *n, struct peer *p)
{
    if (p->epoch == n->epoch)
        n->unseen -= p->unseen;
    p->unseen = 0;
}

static int check(struct ty_net *n, struct peer *p, uint64_t tag, void *buf, size_t cap, size_t *len)
{
    struct letter **at = &p->inbox, *m;
    int r;

    seen(n, p);
    while (*at && (*at)->tag != tag)
        at = &(*at)->next;
    m = *at;
    if (!m) {
        r = end_code(p);
        if (r == 0)
            ty_net_want_watch(n, p);
        return r;
    }
    if (m->len > cap)
        return -EMSGSIZE;
    memcpy(buf, m->bytes, m->len);
    *len = m->len;
    *at = m->next;
    if (p->inbox_end == &m->next)
        p->inbox_end = at;
    p->letters--;
    free(m);
    return 1;
}

int ty_net_check(struct ty_net *n, int rank, uint64_t tag, void *buf, size_t cap, size_t *len)
{
    struct peer *p = find_peer(n, rank);
    int r;

    if (!p || tag > TY_NET_TAG_MAX)
        return -EINVAL;
    pthread_mutex_lock(&n->lock);
    r = check(n, p, tag, buf, cap, len);
    pthread_mutex_unlock(&n->lock);
    return r;
}

bool ty_net_peek(struct ty_net *n, int rank, uint64_t tag)
{
    struct peer *p = find_peer(n, rank);
    const struct letter *m;

    if (!p)
        return false;
    pthread_mutex_lock(&n->lock);
    m = p->inbox;
    while (m && m->tag != tag)
        m = m->next;
    pthread_mutex_unlock(&n->lock);
    return m != NULL;
}

void ty_net_arm(struct ty_net *n)
{
    bool now;

    pthread_mutex_lock(&n->lock);
    now = n->unseen > 0;
    n->armed = !now;
    if (now)
        n->fire = true;
    pthread_mutex_unlock(&n->lock);
    if (now)
        ty_net_signal(n->kick);
}

void ty_net_wake(struct ty_net *n)
{
    ty_net_signal(n->wake);
}

uint64_t ty_net_moved(const struct ty_net *n)
{
    return atomic_load_explicit(&n->moved, memory_order_relaxed);
}

void ty_net_bytes(const struct ty_net *n, uint64_t *sent, uint64_t *received)
{
    if (sent)
        *sent = atomic_load_explicit(&n->sent, memory_order_relaxed);
    if (received)
        *received = atomic_load_explicit(&n->received, memory_order_relaxed);
}
