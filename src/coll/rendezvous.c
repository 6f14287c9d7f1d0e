/* rendezvous.c - the server of a rendezvous, on a thread of its own
 *
 *   connection  greeted, not yet proven -> proven -> joined to a world -> gone
 *   world       forming until its first fence is complete, then formed; a rank that joins after that begins the next one.
 *               A world goes when its last connection goes.
 *
 * A rank that is lost while its world forms may come again (it puts everything anew); one that is lost from a formed world
 * cannot, so fences of that world end at once.
 *
 * Values are not queued: each connection has a position in its world's list, and what fits is encrypted when the socket
 * takes it.  So the memory is one copy of the values and one buffer for each rank.
 *
 * Strangers: no more than `size` and 64 connections may be unproven at a time (a new one pushes the oldest out), each for
 * HELLO_MS, and a byte that cannot belong to a hello ends them.  All state belongs to the thread; others hand it wishes.
 */
#include "coll/rendezvous.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define HELLO_MS 3000       /* to prove and to join */
#define FLUSH_MS 3000       /* for the last answers, at the end */
#define STRANGERS 64        /* more than there are ranks */
#define ACCEPT_PAUSE_MS 100 /* when there are no descriptors left */
#define OUT_BYTES 65536     /* an output buffer is filled up to here */

struct value {
    int rank;
    char *key;
    void *bytes;
    size_t n;
};

struct member {
    struct conn *conn; /* NULL: has not come, or has gone */
    bool waiting;      /* at the fence */
    int64_t until_us;  /* then it wants to be told who is missing */
    size_t bytes;      /* put so far */
};

struct world {
    struct world *next;
    uint32_t number;
    int size, here, waiting, gone; /* gone: a rank that has left the formed world; -1: none */
    bool formed;
    struct member *members;
    struct value *values;
    size_t nvalues, cap;
};

struct conn {
    struct conn *next;
    int fd, slot; /* slot: index in the array of poll */
    int64_t born_us;
    bool proven;
    bool ending;    /* was refused: what it says is not heard any more */
    bool lingering; /* and has been told so */
    struct ty_rdv_side side;
    struct ty_rdv_keys keys;
    struct world *world;
    int rank;
    size_t told, tell; /* values that were sent, and that are to be sent now; then comes FENCED */
    bool telling;
    size_t in_len;
    unsigned char *in; /* TY_RDV_FRAME_MAX + 4 bytes */
    struct ty_str out;
    size_t out_at;
};

struct ty_rendezvous {
    int listener, wake, port;
    char *secret;
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; /* of the wishes */
    bool stop;
    int new_size; /* 0: none */

    int size; /* the rest is the thread's */
    uint32_t worlds_made;
    struct conn *conns; /* the latest first */
    int nconns;
    struct world *worlds; /* the latest first */
    int64_t pause_until_us;
    struct pollfd *polls;
    int npolls;
};

/* ---- worlds ---- */

static void values_drop(struct world *w, int rank) /* -1: of all */
{
    size_t kept = 0;

    for (size_t i = 0; i < w->nvalues; i++) {
        if (rank >= 0 && w->values[i].rank != rank) {
            w->values[kept++] = w->values[i];
            continue;
        }
        free(w->values[i].key);
        sodium_memzero(w->values[i].bytes, w->values[i].n);
        free(w->values[i].bytes);
    }
    w->nvalues = kept;
}

static void world_free(struct ty_rendezvous *s, struct world *w)
{
    struct world **at = &s->worlds;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    values_drop(w, -1);
    free(w->values);
    free(w->members);
    free(w);
}

static struct world *world_new(struct ty_rendezvous *s)
{
    struct world *w = FAULT("rendezvous.world", NULL, calloc(1, sizeof *w));

    if (!w)
        return NULL;
    w->members = calloc((size_t)s->size, sizeof *w->members);
    if (!w->members) {
        free(w);
        return NULL;
    }
    w->size = s->size;
    w->gone = -1;
    w->number = ++s->worlds_made;
    w->next = s->worlds;
    s->worlds = w;
    return w;
}

static int value_add(struct world *w, int rank, const struct ty_rdv_message *m)
{
    struct value v = { .rank = rank, .n = m->value_len };

    if (w->nvalues == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        struct value *more = realloc(w->values, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        w->values = more;
        w->cap = cap;
    }
    v.key = strdup(m->key);
    v.bytes = malloc(v.n ? v.n : 1);
    if (!v.key || !v.bytes) {
        free(v.key);
        free(v.bytes);
        return -ENOMEM;
    }
    memcpy(v.bytes, m->value, v.n);
    w->values[w->nvalues++] = v;
    return 0;
}

/* ---- connections ---- */

static void say(struct conn *c, const struct ty_rdv_message *m)
{
    ty_rdv_seal(&c->keys, m, &c->out);
}

static void refuse(struct conn *c, enum ty_rdv_refusal why, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void refuse(struct conn *c, enum ty_rdv_refusal why, const char *fmt, ...)
{
    struct ty_rdv_message m = { .type = TY_RDV_REFUSED, .a = why };
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    m.value = text;
    m.value_len = strlen(text);
    say(c, &m);
    c->ending = true;
}

static void say_gone(struct world *w, int rank)
{
    struct ty_rdv_message m = { .type = TY_RDV_GONE, .a = (uint32_t)w->gone };
    struct member *member = &w->members[rank];

    w->waiting -= member->waiting;
    member->waiting = false;
    say(member->conn, &m);
}

static void leave(struct ty_rendezvous *s, struct conn *c)
{
    struct world *w = c->world;
    struct member *m = &w->members[c->rank];

    w->waiting -= m->waiting;
    w->here--;
    *m = (struct member){ 0 };
    c->world = NULL;
    if (w->here == 0) {
        world_free(s, w);
        return;
    }
    if (!w->formed) {
        values_drop(w, c->rank);
        return;
    }
    if (w->gone < 0)
        w->gone = c->rank;
    for (int i = 0; i < w->size; i++)
        if (w->members[i].waiting)
            say_gone(w, i);
}

static void conn_free(struct ty_rendezvous *s, struct conn *c)
{
    struct conn **at = &s->conns;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    s->nconns--;
    if (c->world)
        leave(s, c);
    shutdown(c->fd, SHUT_RDWR); /* a forked child may have a copy */
    close(c->fd);
    free(c->in);
    ty_str_done(&c->out);
    sodium_memzero(c, sizeof *c);
    free(c);
}

/* The oldest of those that have not proven anything makes room. */
static void make_room(struct ty_rendezvous *s)
{
    struct conn *oldest = NULL;
    int strangers = 0;

    for (struct conn *c = s->conns; c; c = c->next)
        if (!c->world) {
            strangers++;
            oldest = c;
        }
    if (strangers >= STRANGERS + s->size)
        conn_free(s, oldest);
}

static void watch_over(int fd)
{
    int on = 1, idle = 10, every = 5, lost_ms = 30000;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost_ms, sizeof lost_ms);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static struct conn *conn_new(struct ty_rendezvous *s, int fd)
{
    unsigned char greeting[TY_RDV_GREETING_BYTES];
    struct conn *c = FAULT("rendezvous.conn", NULL, calloc(1, sizeof *c));

    if (!c)
        return NULL;
    c->in = malloc(TY_RDV_FRAME_MAX + 4);
    if (!c->in || ty_rdv_side_init(&c->side, s->secret) < 0) {
        free(c->in);
        free(c);
        return NULL;
    }
    c->fd = fd;
    c->rank = -1;
    c->born_us = ty_mono_us();
    ty_rdv_greet(&c->side, greeting);
    ty_str_addn(&c->out, greeting, sizeof greeting);
    c->next = s->conns;
    s->conns = c;
    s->nconns++;
    watch_over(fd);
    return c;
}

static void accept_one(struct ty_rendezvous *s)
{
    CLEANUP_CLOSE int fd = FAULT("rendezvous.accept", -1,
                                 accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            s->pause_until_us = ty_mono_us() + ACCEPT_PAUSE_MS * 1000;
        return;
    }
    make_room(s);
    if (conn_new(s, fd))
        fd = -1;
}

/* ---- fences ---- */

static void fence_complete(struct world *w)
{
    w->formed = true;
    w->waiting = 0;
    for (int i = 0; i < w->size; i++) {
        struct conn *c = w->members[i].conn;

        w->members[i].waiting = false;
        c->tell = w->nvalues;
        c->telling = true;
    }
}

static void add_ranks(struct world *w, bool here, unsigned char *list, size_t *n, uint32_t *count)
{
    *count = 0;
    for (int i = 0; i < w->size; i++) {
        struct member *m = &w->members[i];
        uint32_t v = (uint32_t)i;

        if (m->waiting || (m->conn != NULL) != here || (*count)++ >= TY_RDV_MISSING_MAX)
            continue;
        for (int b = 0; b < 4; b++)
            list[(*n)++] = (unsigned char)(v >> (8 * b));
    }
}

static void say_missing(struct world *w, int rank)
{
    unsigned char list[2 * TY_RDV_MISSING_MAX * 4];
    struct ty_rdv_message m = { .type = TY_RDV_MISSING, .value = list };

    add_ranks(w, false, list, &m.value_len, &m.a);
    add_ranks(w, true, list, &m.value_len, &m.b);
    w->waiting--;
    w->members[rank].waiting = false;
    say(w->members[rank].conn, &m);
}

/* ---- what ranks say ---- */

static void on_join(struct ty_rendezvous *s, struct conn *c, const struct ty_rdv_message *m)
{
    struct ty_rdv_message joined = { .type = TY_RDV_JOINED };
    struct world *w = s->worlds;

    if (c->world) {
        refuse(c, TY_RDV_ORDER, "rank %d has joined already", c->rank);
        return;
    }
    if (m->b != (uint32_t)s->size || m->a >= m->b) {
        refuse(c, TY_RDV_SIZE, "rank %u believes in a world of %u ranks, but this is one of %d",
               m->a, m->b, s->size);
        return;
    }
    if (!w || w->formed || w->size != s->size)
        w = world_new(s);
    if (!w) {
        refuse(c, TY_RDV_LIMIT, "the server is out of memory");
        return;
    }
    if (w->members[m->a].conn) {
        refuse(c, TY_RDV_TWICE, "a process with rank %u of %d is here already", m->a, s->size);
        return;
    }
    c->world = w;
    c->rank = (int)m->a;
    w->members[c->rank].conn = c;
    w->here++;
    joined.a = w->number;
    say(c, &joined);
}

static void on_put(struct conn *c, const struct ty_rdv_message *m)
{
    struct member *me = &c->world->members[c->rank];
    size_t cost = strlen(m->key) + m->value_len + sizeof(struct value);

    if (me->bytes + cost > TY_RDV_RANK_BYTES ||
        FAULT("rendezvous.value", -1, value_add(c->world, c->rank, m)) < 0)
        refuse(c, TY_RDV_LIMIT, "rank %d has put more than the server takes (%d bytes)", c->rank,
               TY_RDV_RANK_BYTES);
    else
        me->bytes += cost;
}

static void on_fence(struct conn *c, const struct ty_rdv_message *m)
{
    struct world *w = c->world;
    struct member *me = &w->members[c->rank];

    me->waiting = true;
    me->until_us = ty_mono_us() + (int64_t)m->a * 1000;
    w->waiting++;
    if (w->gone >= 0)
        say_gone(w, c->rank);
    else if (w->waiting == w->size)
        fence_complete(w);
}

static void on_message(struct ty_rendezvous *s, struct conn *c, const struct ty_rdv_message *m)
{
    if (m->type == TY_RDV_JOIN)
        on_join(s, c, m);
    else if (!c->world || c->telling || c->world->members[c->rank].waiting)
        refuse(c, TY_RDV_ORDER, "a message came out of order");
    else if (m->type == TY_RDV_PUT)
        on_put(c, m);
    else if (m->type == TY_RDV_FENCE)
        on_fence(c, m);
    else
        refuse(c, TY_RDV_ORDER, "a message came that only servers send");
}

/* How many bytes were used; 0: wait for more; negative: the connection ends. */
static ptrdiff_t take_hello(struct conn *c)
{
    unsigned char proof[TY_RDV_PROOF_BYTES];

    if (!ty_rdv_hello_begins(c->in, c->in_len))
        return -EPROTO;
    if (c->in_len < TY_RDV_HELLO_BYTES)
        return 0;
    if (ty_rdv_accept(&c->side, c->in, proof, &c->keys) < 0)
        return -EACCES;
    c->proven = true;
    ty_str_addn(&c->out, proof, sizeof proof);
    return TY_RDV_HELLO_BYTES;
}

static int take(struct ty_rendezvous *s, struct conn *c)
{
    struct ty_rdv_message m;
    size_t at = 0;
    ptrdiff_t used = 1;

    while (!c->ending && at < c->in_len) {
        bool proven = c->proven;

        used = proven ? ty_rdv_open(&c->keys, c->in + at, c->in_len - at, &m) : take_hello(c);
        if (used <= 0)
            break;
        if (proven)
            on_message(s, c, &m);
        at += (size_t)used;
    }
    if (c->ending)
        at = c->in_len;
    c->in_len -= at;
    memmove(c->in, c->in + at, c->in_len);
    return used < 0 ? (int)used : 0;
}

static int on_readable(struct ty_rendezvous *s, struct conn *c)
{
    ssize_t n = FAULT("rendezvous.recv", -1,
                      recv(c->fd, c->in + c->in_len, TY_RDV_FRAME_MAX + 4 - c->in_len, 0));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    if (c->ending) {
        c->in_len = 0;
        return 0;
    }
    c->in_len += (size_t)n;
    return take(s, c);
}

/* ---- output ---- */

static void fill(struct conn *c)
{
    struct ty_rdv_message m = { .type = TY_RDV_VALUE };

    while (c->telling && c->out.len < OUT_BYTES && !c->out.failed) {
        const struct value *v = &c->world->values[c->told];

        if (c->told == c->tell) {
            c->telling = false;
            say(c, &(struct ty_rdv_message){ .type = TY_RDV_FENCED });
            return;
        }
        m.a = (uint32_t)v->rank;
        snprintf(m.key, sizeof m.key, "%s", v->key);
        m.value = v->bytes;
        m.value_len = v->n;
        say(c, &m);
        c->told++;
    }
}

static bool has_output(const struct conn *c)
{
    return c->out.len > c->out_at || c->telling || c->out.failed;
}

static int flush(struct conn *c)
{
    for (;;) {
        ssize_t n;

        if (c->out_at == c->out.len) {
            c->out_at = 0;
            c->out.len = 0;
            fill(c);
        }
        if (c->out.failed)
            return -ENOMEM;
        if (c->out_at == c->out.len)
            return 0;
        n = FAULT("rendezvous.send", -1,
                  send(c->fd, c->out.text + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL));
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        c->out_at += (size_t)n;
    }
}

/* ---- the loop ---- */

/* Times that are over; the next one, or INT64_MAX. */
static int64_t look_at_clock(struct ty_rendezvous *s)
{
    int64_t now = ty_mono_us(), next = INT64_MAX;

    for (struct conn *c = s->conns, *after; c; c = after) {
        struct member *m = c->world ? &c->world->members[c->rank] : NULL;
        int64_t end = m ? m->waiting ? m->until_us : INT64_MAX : c->born_us + HELLO_MS * 1000;

        after = c->next;
        if (end <= now && m)
            say_missing(c->world, c->rank);
        else if (end <= now)
            conn_free(s, c);
        else if (end < next)
            next = end;
    }
    if (s->pause_until_us > now && s->pause_until_us < next)
        next = s->pause_until_us;
    return next;
}

static int prepare(struct ty_rendezvous *s)
{
    int n = 2;

    if (s->npolls < s->nconns + 2) {
        int want = 2 * s->nconns + 16;
        struct pollfd *more = realloc(s->polls, (size_t)want * sizeof *more);

        if (!more)
            return -ENOMEM;
        s->polls = more;
        s->npolls = want;
    }
    s->polls[0] = (struct pollfd){ .fd = s->wake, .events = POLLIN };
    s->polls[1] = (struct pollfd){ .fd = s->pause_until_us > ty_mono_us() ? -1 : s->listener,
                                   .events = POLLIN };
    for (struct conn *c = s->conns; c; c = c->next, n++) {
        c->slot = n;
        s->polls[n] = (struct pollfd){ .fd = c->fd,
                                       .events = (short)(POLLIN | (has_output(c) ? POLLOUT : 0)) };
    }
    return n;
}

static void drop_all(struct ty_rendezvous *s)
{
    while (s->conns)
        conn_free(s, s->conns);
}

/* Wishes of other threads; false: the end. */
static bool heed(struct ty_rendezvous *s)
{
    uint64_t count;
    bool stop;
    int size;

    if (read(s->wake, &count, sizeof count) < 0 && errno != EAGAIN)
        return false;
    pthread_mutex_lock(&s->mutex);
    stop = s->stop;
    size = s->new_size;
    s->new_size = 0;
    pthread_mutex_unlock(&s->mutex);
    if (size > 0) {
        drop_all(s);
        s->size = size;
    }
    return !stop;
}

static int timeout_of(int64_t until_us)
{
    int64_t left = until_us == INT64_MAX ? -1 : (until_us - ty_mono_us() + 999) / 1000;

    return left > 600000 ? 600000 : left < 0 && until_us != INT64_MAX ? 0 : (int)left;
}

/* The kernel throws away what was sent when a connection is closed that has unread bytes; so the other side closes first, or
 * its time is over. */
static void linger(struct ty_rendezvous *s, struct conn *c)
{
    c->lingering = true;
    c->born_us = ty_mono_us();
    if (c->world)
        leave(s, c);
    shutdown(c->fd, SHUT_WR);
}

/* A connection that is freed here may make others speak, but frees no other. */
static void serve_conns(struct ty_rendezvous *s)
{
    for (struct conn *c = s->conns, *after; c; c = after) {
        short seen = c->slot >= 0 ? s->polls[c->slot].revents : 0;
        int r = 0;

        after = c->next;
        if (seen & (POLLIN | POLLHUP | POLLERR))
            r = on_readable(s, c);
        if (r == 0 && has_output(c))
            r = flush(c);
        if (r == 0 && c->ending && !c->lingering && !has_output(c))
            linger(s, c);
        if (r < 0)
            conn_free(s, c);
    }
}

static bool any_output(struct ty_rendezvous *s)
{
    for (struct conn *c = s->conns; c; c = c->next)
        if (has_output(c))
            return true;
    return false;
}

/* The last answers, to those who read them. */
static void finish(struct ty_rendezvous *s)
{
    int64_t end = ty_mono_us() + FLUSH_MS * 1000;

    while (any_output(s) && ty_mono_us() < end) {
        int n = prepare(s);

        if (n < 0)
            break;
        for (int i = 2; i < n; i++)
            s->polls[i].events = s->polls[i].events & POLLOUT;
        if (poll(s->polls + 2, (nfds_t)(n - 2), timeout_of(end)) < 0 && errno != EINTR)
            break;
        for (struct conn *c = s->conns, *after; c; c = after) {
            after = c->next;
            if (has_output(c) && (s->polls[c->slot].revents & (POLLERR | POLLHUP) || flush(c) < 0))
                conn_free(s, c);
        }
    }
    drop_all(s);
}

static void *work(void *arg)
{
    struct ty_rendezvous *s = arg;

    for (;;) {
        int64_t next = look_at_clock(s);
        int n = prepare(s);

        if (n < 0) {
            drop_all(s); /* no memory for a list of them */
            continue;
        }
        if (poll(s->polls, (nfds_t)n, timeout_of(next)) < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        if (s->polls[0].revents && !heed(s))
            break;
        serve_conns(s);
        if (s->polls[1].revents)
            accept_one(s);
    }
    finish(s);
    return NULL;
}

/* ---- open and free ---- */

static int listen_at(const struct sockaddr *a, socklen_t n, struct ty_rendezvous *s)
{
    CLEANUP_CLOSE int fd =
        FAULT("rendezvous.socket", -1,
              socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    struct sockaddr_storage got;
    socklen_t got_len = sizeof got;
    int on = 1, off = 0;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (FAULT("rendezvous.bind", -1, bind(fd, a, n)) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&got, &got_len) < 0)
        return -errno;
    s->port = ntohs(got.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&got)->sin6_port
                                              : ((struct sockaddr_in *)&got)->sin_port);
    s->listener = TAKE_FD(fd);
    return 0;
}

static int listen_anywhere(int port, struct ty_rendezvous *s)
{
    struct sockaddr_in6 six = { .sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)port),
                                .sin6_addr = in6addr_any };
    struct sockaddr_in four = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_ANY) };
    int r = listen_at((struct sockaddr *)&six, sizeof six, s);

    if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) /* a host without IPv6 */
        r = listen_at((struct sockaddr *)&four, sizeof four, s);
    return r;
}

static int listen_on(const char *host, int port, struct ty_rendezvous *s, struct ty_error *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV },
                    *list = NULL;
    char service[12];
    int r;

    if (!host) {
        r = listen_anywhere(port, s);
    } else {
        snprintf(service, sizeof service, "%d", port);
        r = getaddrinfo(host, service, &hints, &list);
        if (r != 0)
            return ty_error_set(err, -EADDRNOTAVAIL, "cannot open a rendezvous at '%s': %s", host,
                                gai_strerror(r));
        r = -EADDRNOTAVAIL;
        for (struct addrinfo *a = list; a && r < 0; a = a->ai_next)
            r = listen_at(a->ai_addr, a->ai_addrlen, s);
        freeaddrinfo(list);
    }
    if (r < 0)
        return ty_error_set(err, r, "cannot open a rendezvous at port %d%s%s: %s%s", port,
                            host ? " of " : "", host ? host : "", strerror(-r),
                            r == -EADDRINUSE ? "; another program has it" : "");
    return 0;
}

static int start(struct ty_rendezvous *s)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = FAULT("rendezvous.thread", -1, pthread_create(&s->thread, NULL, work, s));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->started = r == 0;
    return r == 0 ? 0 : r < 0 ? -errno : -r;
}

int ty_rendezvous_open(const char *host, int port, const char *secret, int size,
                       struct ty_rendezvous **ret, struct ty_error *err)
{
    struct ty_rendezvous *s = FAULT("rendezvous.alloc", NULL, calloc(1, sizeof *s));
    int r;

    if (!s)
        return ty_error_oom(err);
    s->listener = s->wake = -1;
    s->size = size;
    pthread_mutex_init(&s->mutex, NULL);
    s->secret = strdup(secret ? secret : "");
    s->wake = FAULT("rendezvous.eventfd", -1, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!s->secret || s->wake < 0) {
        r = ty_error_set(err, -ENOMEM, "cannot open a rendezvous: %m");
        ty_rendezvous_free(s);
        return r;
    }
    r = listen_on(host, port, s, err);
    if (r == 0) {
        r = start(s);
        if (r < 0)
            ty_error_set(err, r, "cannot start the thread of a rendezvous: %s", strerror(-r));
    }
    if (r < 0) {
        ty_rendezvous_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

int ty_rendezvous_port(const struct ty_rendezvous *s)
{
    return s->port;
}

static void wish(struct ty_rendezvous *s, bool stop, int size)
{
    uint64_t one = 1;

    pthread_mutex_lock(&s->mutex);
    s->stop |= stop;
    if (size > 0)
        s->new_size = size;
    pthread_mutex_unlock(&s->mutex);
    while (write(s->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void ty_rendezvous_reset(struct ty_rendezvous *s, int size)
{
    wish(s, false, size);
}

/* The thread is not here, and may have been at work on the list of connections when the fork came, so that is not looked at:
 * a copy of a connection harms nobody, because the thread shuts connections down before it closes them. */
void ty_rendezvous_forked(struct ty_rendezvous *s)
{
    close(s->listener);
    close(s->wake);
}

struct ty_rendezvous *ty_rendezvous_free(struct ty_rendezvous *s)
{
    if (!s)
        return NULL;
    if (s->started) {
        wish(s, true, 0);
        pthread_join(s->thread, NULL);
    }
    if (s->listener >= 0) {
        shutdown(s->listener, SHUT_RDWR);
        close(s->listener);
    }
    if (s->wake >= 0)
        close(s->wake);
    pthread_mutex_destroy(&s->mutex);
    if (s->secret)
        sodium_memzero(s->secret, strlen(s->secret));
    free(s->secret);
    free(s->polls);
    free(s);
    return NULL;
}
