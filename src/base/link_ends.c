/* link_ends.c - listening for links, and calling
 *
 * Both sides keep their sockets in an epoll set, whose descriptor is what a poll loop waits for: what an event costs does not
 * depend on how many others there are.
 */
#include "base/link_ends.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/netif.h"
#include "base/str.h"
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define BACKLOG 4096
#define EVENTS 64
#define ACCEPT_RETRY_US (100 * 1000)

/* --- addresses of this box --- */

void ty_link_addresses_free(char **list)
{
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

int ty_link_addresses(char ***ret, struct ty_error *err)
{
    CLEANUP(ty_ifaddrs_freep) struct ifaddrs *all = NULL;
    char text[TY_NETIF_TEXT];
    char **list;
    int n = 0;

    if (FAULT("link.interfaces", -1, getifaddrs(&all)) < 0)
        return ty_error_set(err, -errno, "cannot list the network interfaces of this box: %m");
    list = calloc(TY_LINK_ADDRESSES_MAX + 1, sizeof *list);
    if (!list)
        return ty_error_oom(err);
    for (int c = 0; c < TY_NETIF_CLASSES && (c < TY_NETIF_LOOPBACK || n == 0); c++)
        for (const struct ifaddrs *i = all; i && n < TY_LINK_ADDRESSES_MAX; i = i->ifa_next)
            if (ty_netif_text(i, text) && (int)ty_netif_class(i) == c &&
                !(list[n++] = strdup(text))) {
                ty_link_addresses_free(list);
                return ty_error_oom(err);
            }
    if (n == 0) {
        free(list);
        return ty_error_set(err, -ENODEV,
                            "no network interface of this box is up: other boxes cannot reach it");
    }
    *ret = list;
    return 0;
}

int ty_link_interface(const char *text, char name[IF_NAMESIZE])
{
    CLEANUP(ty_ifaddrs_freep) struct ifaddrs *all = NULL;
    char have[TY_NETIF_TEXT];

    if (getifaddrs(&all) < 0)
        return -errno;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        if (ty_netif_text(i, have) && strcmp(have, text) == 0) {
            snprintf(name, IF_NAMESIZE, "%s", i->ifa_name);
            return 0;
        }
    return -ENODEV;
}

/* --- gate --- */

struct stranger {
    struct ty_link *link;
    struct stranger *next, *before; /* in the order in which they came */
    uint32_t events;
};

struct ty_gate {
    unsigned char key[TY_LINK_KEY];
    int listen, epoll, port;
    struct stranger *first, *last;
    int n;
    int64_t accept_us; /* no one is accepted before: descriptors ran out */
};

static int listen_on(int family, int *port)
{
    CLEANUP_CLOSE int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    union ty_link_address a = { .any.sa_family = (sa_family_t)family };
    socklen_t n = family == AF_INET6 ? sizeof a.v6 : sizeof a.v4;
    int off = 0, on = 1;

    if (fd < 0)
        return -errno;
    if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
        return -errno;
    *(family == AF_INET6 ? &a.v6.sin6_port : &a.v4.sin_port) = htons((uint16_t)*port);
    /* Connections of whoever listened there before may not be quite over. */
    if (*port && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    if (bind(fd, &a.any, n) < 0 || listen(fd, BACKLOG) < 0 || getsockname(fd, &a.any, &n) < 0)
        return -errno;
    *port = ntohs(family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
    return TAKE_FD(fd);
}

static int watch(int epoll, int op, int fd, uint32_t events, void *ptr)
{
    struct epoll_event e = { .events = events, .data.ptr = ptr };

    return epoll_ctl(epoll, op, fd, &e) < 0 ? -errno : 0;
}

int ty_gate_open(const unsigned char key[TY_LINK_KEY], struct ty_gate **ret, struct ty_error *err)
{
    return ty_gate_open_at(key, 0, ret, err);
}

int ty_gate_open_at(const unsigned char key[TY_LINK_KEY], int port, struct ty_gate **ret,
                    struct ty_error *err)
{
    struct ty_gate *g = calloc(1, sizeof *g);
    int r;

    if (!g)
        return ty_error_oom(err);
    memcpy(g->key, key, TY_LINK_KEY);
    g->port = port;
    g->epoll = epoll_create1(EPOLL_CLOEXEC);
    g->listen = FAULT("link.listen", -errno, listen_on(AF_INET6, &g->port));
    if (g->listen < 0)
        g->listen = FAULT("link.listen", -errno, listen_on(AF_INET, &g->port));
    r = g->epoll < 0    ? -errno
        : g->listen < 0 ? g->listen
                        : watch(g->epoll, EPOLL_CTL_ADD, g->listen, EPOLLIN, NULL);
    if (r < 0) {
        ty_gate_free(g);
        return ty_error_set(err, r, "cannot listen for other nodes: %s", strerror(-r));
    }
    *ret = g;
    return 0;
}

/* Takes it out of the gate; its link goes to the caller. */
static struct ty_link *leave(struct ty_gate *g, struct stranger *s)
{
    struct ty_link *l = s->link;

    *(s->before ? &s->before->next : &g->first) = s->next;
    *(s->next ? &s->next->before : &g->last) = s->before;
    g->n--;
    epoll_ctl(g->epoll, EPOLL_CTL_DEL, ty_link_fd(l), NULL);
    free(s);
    return l;
}

struct ty_gate *ty_gate_free(struct ty_gate *g)
{
    if (!g)
        return NULL;
    while (g->first)
        ty_link_free(leave(g, g->first));
    if (g->listen >= 0)
        close(g->listen);
    if (g->epoll >= 0)
        close(g->epoll);
    free(g);
    return NULL;
}

int ty_gate_port(const struct ty_gate *g)
{
    return g->port;
}
int ty_gate_fd(const struct ty_gate *g)
{
    return g->epoll;
}

int64_t ty_gate_due(const struct ty_gate *g)
{
    int64_t due = g->first ? ty_link_due(g->first->link) : INT64_MAX;

    return g->accept_us && g->accept_us < due ? g->accept_us : due;
}

/* Events of epoll are those of poll. */
static void watch_stranger(struct ty_gate *g, struct stranger *s)
{
    uint32_t events = (uint32_t)ty_link_events(s->link);

    if (events != s->events && watch(g->epoll, s->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                                     ty_link_fd(s->link), events, s) == 0)
        s->events = events;
}

/* True: it has proven the key, and *ret is its link.  It is gone also where its link is over. */
static bool hear(struct ty_gate *g, struct stranger *s, int64_t now_us, struct ty_link **ret)
{
    if (ty_link_turn(s->link, now_us) < 0) {
        ty_link_free(leave(g, s));
        return false;
    }
    if (ty_link_ready(s->link)) {
        *ret = leave(g, s);
        return true;
    }
    watch_stranger(g, s);
    return false;
}

static void come(struct ty_gate *g, int fd, int64_t now_us)
{
    struct ty_link *l = ty_link_new(fd, true, g->key, now_us), *none;
    struct stranger *s = l ? calloc(1, sizeof *s) : NULL;

    if (!s) {
        ty_link_free(l);
        return;
    }
    if (g->n == TY_GATE_STRANGERS_MAX)
        ty_link_free(leave(g, g->first));
    s->link = l;
    s->before = g->last;
    *(g->last ? &g->last->next : &g->first) = s;
    g->last = s;
    g->n++;
    (void)hear(g, s, now_us, &none); /* greets; nobody has proven anything yet */
}

static void accept_all(struct ty_gate *g, int64_t now_us)
{
    for (int i = 0; i < EVENTS; i++) {
        int fd =
            FAULT("link.accept", -1, accept4(g->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));

        if (fd >= 0) {
            come(g, fd, now_us);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            /* The socket would say again and again that somebody waits. */
            g->accept_us = now_us + ACCEPT_RETRY_US;
            epoll_ctl(g->epoll, EPOLL_CTL_DEL, g->listen, NULL);
            return;
        }
    }
}

struct ty_link *ty_gate_next(struct ty_gate *g, int64_t now_us)
{
    struct epoll_event e;
    struct ty_link *l = NULL;

    if (g->accept_us && now_us >= g->accept_us &&
        watch(g->epoll, EPOLL_CTL_ADD, g->listen, EPOLLIN, NULL) == 0)
        g->accept_us = 0;
    while (g->first && now_us >= ty_link_due(g->first->link))
        ty_link_free(leave(g, g->first));
    for (int i = 0; i < EVENTS && epoll_wait(g->epoll, &e, 1, 0) > 0; i++)
        if (!e.data.ptr)
            accept_all(g, now_us);
        else if (hear(g, e.data.ptr, now_us, &l))
            return l;
    return NULL;
}

/* --- call --- */

struct ty_call {
    unsigned char key[TY_LINK_KEY];
    union ty_link_address *to; /* first the one that was answered at last */
    struct ty_link **link;     /* NULL: not begun, or failed */
    int *failed;               /* why */
    int n, begun, open, epoll;
    int64_t next_us;
};

static int parse(const char *text, int port, union ty_link_address *ret)
{
    union ty_link_address a = { 0 };

    if (inet_pton(AF_INET, text, &a.v4.sin_addr) == 1) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons((uint16_t)port);
    } else if (inet_pton(AF_INET6, text, &a.v6.sin6_addr) == 1) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons((uint16_t)port);
    } else {
        return -EINVAL;
    }
    *ret = a;
    return 0;
}

int ty_call_new(char *const *addresses, int port, const unsigned char key[TY_LINK_KEY],
                struct ty_call **ret)
{
    struct ty_call *c = calloc(1, sizeof *c);

    if (!c)
        return -ENOMEM;
    memcpy(c->key, key, TY_LINK_KEY);
    c->to = calloc(TY_LINK_ADDRESSES_MAX, sizeof *c->to);
    c->link = calloc(TY_LINK_ADDRESSES_MAX, sizeof(void *));
    c->failed = calloc(TY_LINK_ADDRESSES_MAX, sizeof *c->failed);
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!c->to || !c->link || !c->failed || c->epoll < 0) {
        ty_call_free(c);
        return -ENOMEM;
    }
    for (; *addresses && c->n < TY_LINK_ADDRESSES_MAX; addresses++)
        if (parse(*addresses, port, &c->to[c->n]) == 0)
            c->n++;
    if (c->n == 0 || port < 1 || port > UINT16_MAX) {
        ty_call_free(c);
        return -EINVAL;
    }
    *ret = c;
    return 0;
}

/* A child that was just forked may hold the socket a little longer: it leaves the set before it is closed. */
static void drop(struct ty_call *c, int i)
{
    if (c->link[i])
        epoll_ctl(c->epoll, EPOLL_CTL_DEL, ty_link_fd(c->link[i]), NULL);
    c->link[i] = ty_link_free(c->link[i]);
}

static void hang_up(struct ty_call *c)
{
    for (int i = 0; i < c->begun; i++)
        drop(c, i);
    c->begun = c->open = 0;
}

struct ty_call *ty_call_free(struct ty_call *c)
{
    if (!c)
        return NULL;
    hang_up(c);
    if (c->epoll >= 0)
        close(c->epoll);
    free(c->to);
    free(c->link);
    free(c->failed);
    free(c);
    return NULL;
}

int ty_call_fd(const struct ty_call *c)
{
    return c->epoll;
}

int64_t ty_call_due(const struct ty_call *c)
{
    int64_t due = c->begun < c->n ? c->next_us : INT64_MAX;

    for (int i = 0; i < c->begun; i++)
        if (c->link[i] && ty_link_due(c->link[i]) < due)
            due = ty_link_due(c->link[i]);
    return due;
}

static void failed(struct ty_call *c, int i, int why, int64_t now_us)
{
    drop(c, i);
    c->failed[i] = why;
    c->open--;
    c->next_us = now_us; /* the next need not wait */
}

static void begin_next(struct ty_call *c, int64_t now_us)
{
    int i = c->begun++, r;

    c->next_us = now_us + TY_CALL_NEXT_US;
    c->open++;
    r = FAULT("link.connect", -errno, ty_link_connect(&c->to[i], c->key, now_us, &c->link[i]));
    if (r == 0)
        r = watch(c->epoll, EPOLL_CTL_ADD, ty_link_fd(c->link[i]), EPOLLOUT, NULL);
    if (r < 0)
        failed(c, i, r, now_us);
}

static struct ty_link *take(struct ty_call *c, int i)
{
    struct ty_link *l = TAKE(c->link[i]);
    union ty_link_address here = c->to[i];

    epoll_ctl(c->epoll, EPOLL_CTL_DEL, ty_link_fd(l), NULL);
    hang_up(c);
    memmove(c->to + 1, c->to, (size_t)i * sizeof here);
    c->to[0] = here;
    return l;
}

/* True: the other side has proven the key. */
static bool try(struct ty_call *c, int i, int64_t now_us)
{
    int r = ty_link_turn(c->link[i], now_us);

    if (r < 0) {
        failed(c, i, r, now_us);
        return false;
    }
    watch(c->epoll, EPOLL_CTL_MOD, ty_link_fd(c->link[i]), (uint32_t)ty_link_events(c->link[i]),
          NULL);
    return ty_link_ready(c->link[i]);
}

int ty_call_turn(struct ty_call *c, int64_t now_us, struct ty_link **ret)
{
    do {
        if (c->begun < c->n && (c->open == 0 || now_us >= c->next_us))
            begin_next(c, now_us);
        for (int i = 0; i < c->begun; i++)
            if (c->link[i] && try(c, i, now_us)) {
                *ret = take(c, i);
                return 0;
            }
    } while (c->begun < c->n && (c->open == 0 || now_us >= c->next_us));
    if (c->open > 0)
        return -EAGAIN;
    hang_up(c);
    return c->failed[0];
}
