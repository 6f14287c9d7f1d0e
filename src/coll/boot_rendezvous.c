/* boot_rendezvous.c - the exchange through a rendezvous: the side of a rank
 *
 * What is put is kept here until a fence, which sends it, waits, and receives everything that anybody has put since the last
 * one; so get only looks into memory, and nothing is lost when the server goes after the fence (with rank 0, say).
 *
 * Until the first fence has succeeded, a lost connection is made anew and everything is put again: the server may be one
 * that is about to end, of an earlier world, when a rank comes to the next world before rank 0 has left the last one.
 */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/rendezvous.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECT_MS 2000 /* for one address, and for one answer to a hello */
#define RETRY_MS 50     /* until somebody listens */
#define GUESSES 3 /* so many in a row are believed: who says nothing, or hangs up, is a stranger */
#define GRACE_MS 5000 /* for the server's word on who is missing */

struct entry {
    int rank;
    char *key;
    void *bytes;
    size_t n;
};
struct entries {
    struct entry *v;
    size_t n, cap;
};

struct client {
    struct ty_world world;
    char *host, *dial, *secret, *who_serves;
    int first, nports; /* where to look for the server */
    int port;          /* where it was found */
    int fd;
    struct ty_rdv_keys keys;
    bool formed;
    int guesses;         /* in a row, that a stranger listens there */
    size_t sent;         /* of mine: what this server has */
    struct entries mine; /* put here */
    struct entries all;  /* received */
    unsigned char *in;   /* TY_RDV_FRAME_MAX + 4 bytes */
    size_t in_len, used; /* used: the frame that was looked at last */
    struct ty_rendezvous *own;
};

/* ---- entries ---- */

static void entries_drop(struct entries *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->v[i].key);
        sodium_memzero(e->v[i].bytes, e->v[i].n);
        free(e->v[i].bytes);
    }
    e->n = 0;
}

static int entries_add(struct entries *e, int rank, const char *key, const void *bytes, size_t n)
{
    struct entry x = { .rank = rank, .n = n };

    if (e->n == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : 16;
        struct entry *more = FAULT("rdv.entries", NULL, realloc(e->v, cap * sizeof *more));

        if (!more)
            return -ENOMEM;
        e->v = more;
        e->cap = cap;
    }
    x.key = strdup(key);
    x.bytes = malloc(n ? n : 1);
    if (!x.key || !x.bytes) {
        free(x.key);
        free(x.bytes);
        return -ENOMEM;
    }
    if (n)
        memcpy(x.bytes, bytes, n);
    e->v[e->n++] = x;
    return 0;
}

/* ---- bytes ---- */

static int left_ms(int64_t until_us)
{
    int64_t left = (until_us - ty_mono_us() + 999) / 1000;

    return left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
}

static int ready(int fd, short events, int64_t until_us)
{
    struct pollfd p = { .fd = fd, .events = events };
    int n;

    do
        n = FAULT("rdv.poll", -1, poll(&p, 1, left_ms(until_us)));
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

static int send_all(int fd, const void *bytes, size_t n, int64_t until_us)
{
    const char *p = bytes;

    while (n > 0) {
        ssize_t k = FAULT("rdv.send", -1, send(fd, p, n, MSG_NOSIGNAL));
        int r;

        if (k < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (k < 0) {
            r = ready(fd, POLLOUT, until_us);
            if (r < 0)
                return r;
            continue;
        }
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

/* At least one byte, at most n. */
static ssize_t receive(int fd, void *bytes, size_t n, int64_t until_us)
{
    for (;;) {
        ssize_t k = FAULT("rdv.recv", -1, recv(fd, bytes, n, 0));
        int r;

        if (k > 0)
            return k;
        if (k == 0)
            return -ECONNRESET;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        r = ready(fd, POLLIN, until_us);
        if (r < 0)
            return r;
    }
}

static int receive_all(int fd, unsigned char *bytes, size_t n, int64_t until_us)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = receive(fd, bytes + at, n - at, until_us);

        if (k < 0)
            return (int)k;
        at += (size_t)k;
    }
    return 0;
}

/* The next message; its value lasts until the next call. */
static int next_message(struct client *c, struct ty_rdv_message *ret, int64_t until_us)
{
    for (;;) {
        ptrdiff_t used;
        ssize_t k;

        c->in_len -= c->used;
        memmove(c->in, c->in + c->used, c->in_len);
        c->used = 0;
        used = ty_rdv_open(&c->keys, c->in, c->in_len, ret);
        if (used < 0)
            return (int)used;
        if (used > 0) {
            c->used = (size_t)used;
            return 0;
        }
        k = receive(c->fd, c->in + c->in_len, TY_RDV_FRAME_MAX + 4 - c->in_len, until_us);
        if (k < 0)
            return (int)k;
        c->in_len += (size_t)k;
    }
}

static int say(struct client *c, const struct ty_rdv_message *m, int64_t until_us)
{
    CLEANUP_STR struct ty_str out = { 0 };

    ty_rdv_seal(&c->keys, m, &out);
    return out.failed ? -ENOMEM : send_all(c->fd, out.text, out.len, until_us);
}

/* ---- coming in ---- */

static void hang_up(struct client *c)
{
    if (c->fd >= 0) {
        shutdown(c->fd, SHUT_RDWR); /* a forked child may have a copy */
        close(c->fd);
    }
    c->fd = -1;
    c->in_len = c->used = c->sent = 0;
}

static int connect_to(const struct addrinfo *a, int64_t until_us, int *ret)
{
    CLEANUP_CLOSE int fd = FAULT(
        "rdv.socket", -1, socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int r, e = 0, on = 1;
    socklen_t n = sizeof e;

    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (FAULT("rdv.connect", -1, connect(fd, a->ai_addr, a->ai_addrlen)) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        r = ready(fd, POLLOUT, until_us);
        if (r < 0)
            return r;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0 || e != 0)
            return e ? -e : -errno;
    }
    *ret = TAKE_FD(fd);
    return 0;
}

static int dial(const char *host, int port, int64_t until_us, int *ret, struct ty_error *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV },
                    *list = NULL;
    char service[12];
    int r;

    snprintf(service, sizeof service, "%d", port);
    r = getaddrinfo(host, service, &hints, &list);
    if (r != 0)
        return ty_error_set(err, -EHOSTUNREACH, "%s", gai_strerror(r));
    r = -EHOSTUNREACH;
    for (struct addrinfo *a = list; a && r < 0; a = a->ai_next) {
        int64_t end = ty_mono_us() + CONNECT_MS * 1000;

        r = connect_to(a, end < until_us ? end : until_us, ret);
    }
    freeaddrinfo(list);
    return r < 0 ? ty_error_set(err, r, "%s", strerror(-r)) : 0;
}

/* -EACCES, -EPROTO: who is there is no rendezvous of this job.  Others may pass.  A server that is stopped for seconds (on a
 * machine that has much else to do) looks like a stranger, so what was not said outright counts as a guess. */
static int prove(struct client *c, int64_t until_us, struct ty_error *err)
{
    unsigned char greeting[TY_RDV_GREETING_BYTES], hello[TY_RDV_HELLO_BYTES],
        proof[TY_RDV_PROOF_BYTES];
    struct ty_rdv_side side;
    int r = ty_rdv_side_init(&side, c->secret);

    if (r < 0)
        return ty_error_set(err, r, "there is no source of random bytes");
    r = receive_all(c->fd, greeting, sizeof greeting, until_us);
    if (r == -ETIMEDOUT) {
        c->guesses++;
        return ty_error_set(err, -EPROTO, "who listens there is no rendezvous: it has not greeted");
    }
    if (r < 0)
        return ty_error_set(err, r, "the greeting did not come: %s", strerror(-r));
    r = ty_rdv_hello(&side, greeting, hello);
    if (r < 0) {
        c->guesses = GUESSES;
        return ty_error_set(err, -EPROTO,
                            r == -EPROTO
                                ? "who listens there is no rendezvous"
                                : "the rendezvous there is of another version of Trainyard");
    }
    r = send_all(c->fd, hello, sizeof hello, until_us);
    if (r == 0)
        r = receive_all(c->fd, proof, sizeof proof, until_us);
    if (r == 0)
        r = ty_rdv_confirm(&side, greeting, proof, &c->keys);
    sodium_memzero(&side, sizeof side);
    c->guesses = r == 0 ? 0 : r == -EACCES ? GUESSES : c->guesses + 1;
    if (r == -ECONNRESET || r == -EPIPE || r == -EACCES)
        return ty_error_set(err, -EACCES,
                            "the rendezvous there does not have the secret of this rank");
    return r < 0 ? ty_error_set(err, r, "the proof of the secret did not come: %s", strerror(-r))
                 : 0;
}

/* -EEXIST, -EINVAL: the server does not want this rank. */
static int join(struct client *c, int64_t until_us, struct ty_error *err)
{
    struct ty_rdv_message m = { .type = TY_RDV_JOIN,
                                .a = (uint32_t)c->world.rank,
                                .b = (uint32_t)c->world.size };
    int r = say(c, &m, until_us);

    if (r == 0)
        r = next_message(c, &m, until_us);
    if (r < 0)
        return ty_error_set(err, r, "the answer did not come: %s", strerror(-r));
    if (m.type == TY_RDV_REFUSED)
        return ty_error_set(err, m.a == TY_RDV_TWICE ? -EEXIST : -EINVAL, "%.*s", (int)m.value_len,
                            (const char *)m.value);
    if (m.type == TY_RDV_JOINED)
        return 0;
    c->guesses = GUESSES;
    return ty_error_set(err, -EPROTO, "the rendezvous gave no sensible answer");
}

static int try_port(struct client *c, int port, int64_t until_us, struct ty_error *err)
{
    int r = dial(c->dial, port, until_us, &c->fd, err);
    int64_t end = ty_mono_us() + CONNECT_MS * 1000;

    if (r < 0)
        return r;
    if (end > until_us)
        end = until_us;
    r = prove(c, end, err);
    if (r == 0)
        r = join(c, until_us, err);
    if (r < 0)
        hang_up(c);
    else
        c->port = port;
    return r;
}

/* Does waiting help?  At one port, who is there is who was meant. */
static bool is_final(const struct client *c, int r)
{
    return r == -EEXIST || r == -EINVAL || r == -ENOMEM ||
           ((r == -EACCES || r == -EPROTO) && c->nports == 1 && c->guesses >= GUESSES);
}

static int cannot_come(struct client *c, int r, int timeout_ms, const struct ty_error *why,
                       struct ty_error *err)
{
    char ports[32];

    snprintf(ports, sizeof ports, c->nports > 1 ? "%d-%d" : "%d", c->first,
             c->first + c->nports - 1);
    if (is_final(c, r))
        return ty_error_set(err, r, "rank %d cannot join the rendezvous at %s:%s: %s",
                            c->world.rank, c->host, ports, why->text);
    return ty_error_set(
        err, -ETIMEDOUT,
        "rank %d of %d has not reached the rendezvous at %s:%s, which %s opens, within %d s: %s",
        c->world.rank, c->world.size, c->host, ports, c->who_serves, (timeout_ms + 999) / 1000,
        why->text);
}

/* Ask at every port until the server is found.  -ETIMEDOUT and what is final. */
static int come_in(struct client *c, int64_t until_us, int timeout_ms, struct ty_error *err)
{
    for (;;) {
        struct ty_error why = { 0 }, one;
        int r = 0;

        for (int i = 0; i < c->nports; i++) {
            r = try_port(c, c->first + i, until_us, &one);
            if (r == 0)
                return 0;
            if (!why.text[0] || r != -ECONNREFUSED) /* what is most telling */
                why = one;
            if (is_final(c, r) || left_ms(until_us) == 0)
                return cannot_come(c, r, timeout_ms, &why, err);
        }
        /* Nothing tells when somebody begins to listen elsewhere. */
        poll(NULL, 0, left_ms(until_us) < RETRY_MS ? left_ms(until_us) : RETRY_MS);
    }
}

/* ---- the exchange ---- */

static int client_put(void *ctx, const char *key, const void *value, size_t n, struct ty_error *err)
{
    struct client *c = ctx;

    if (!*key || strlen(key) > TY_RDV_NAME_MAX || n > TY_RDV_VALUE_MAX)
        return ty_error_set(
            err, -EINVAL,
            "cannot put %zu bytes under '%s' into a rendezvous: keys have 1 to %d bytes, values %d at most",
            n, key, TY_RDV_NAME_MAX, TY_RDV_VALUE_MAX);
    return entries_add(&c->mine, c->world.rank, key, value, n) < 0 ? ty_error_oom(err) : 0;
}

/* "rank 3", "ranks 2 and 5", "ranks 1, 2, 3 and 70 more" */
static void name_ranks(struct ty_str *s, const unsigned char *list, uint32_t count)
{
    uint32_t shown = count < TY_RDV_MISSING_MAX ? count : TY_RDV_MISSING_MAX;

    if (shown > 16 && shown < count)
        shown = 16;
    ty_str_add(s, count == 1 ? "rank " : "ranks ");
    for (uint32_t i = 0; i < shown; i++)
        ty_str_addf(s, "%s%u",
                    i == 0           ? ""
                    : i == count - 1 ? " and "
                                     : ", ",
                    ty_get_u32(list + 4 * i));
    if (shown < count)
        ty_str_addf(s, " and %u more", count - shown);
}

static int missing(struct client *c, const struct ty_rdv_message *m, int timeout_ms,
                   struct ty_error *err)
{
    CLEANUP_STR struct ty_str s = { 0 };
    const unsigned char *list = m->value;
    uint32_t skip = m->a < TY_RDV_MISSING_MAX ? m->a : TY_RDV_MISSING_MAX;

    if (m->a > 0) {
        name_ranks(&s, list, m->a);
        ty_str_addf(&s, " of %d %s not come", c->world.size, m->a == 1 ? "has" : "have");
    }
    if (m->b > 0) {
        if (m->a > 0)
            ty_str_add(&s, ", and ");
        name_ranks(&s, list + 4 * skip, m->b);
        ty_str_addf(&s, " %s come but %s not ready,", m->b == 1 ? "has" : "have",
                    m->b == 1 ? "is" : "are");
    }
    if (s.failed)
        return ty_error_oom(err);
    return ty_error_set(err, -ETIMEDOUT, "%s to the rendezvous at %s:%d within %d s",
                        s.text ? s.text : "nobody has come", c->host, c->port,
                        (timeout_ms + 999) / 1000);
}

/* Put what the server does not have, and wait for the end of the fence: 0 and *ret is FENCED, MISSING, GONE or REFUSED. */
static int one_fence(struct client *c, int timeout_ms, int64_t until_us, struct ty_rdv_message *ret)
{
    struct ty_rdv_message m = { .type = TY_RDV_PUT };
    int r = 0;

    for (; r == 0 && c->sent < c->mine.n; c->sent++) {
        const struct entry *e = &c->mine.v[c->sent];

        snprintf(m.key, sizeof m.key, "%s", e->key);
        m.value = e->bytes;
        m.value_len = e->n;
        r = say(c, &m, until_us);
    }
    m = (struct ty_rdv_message){ .type = TY_RDV_FENCE, .a = (uint32_t)timeout_ms };
    if (r == 0)
        r = say(c, &m, until_us);
    while (r == 0) {
        r = next_message(c, &m, until_us + GRACE_MS * 1000);
        if (r < 0 || m.type != TY_RDV_VALUE)
            break;
        r = m.a < (uint32_t)c->world.size
                ? entries_add(&c->all, (int)m.a, m.key, m.value, m.value_len)
                : -EPROTO;
    }
    *ret = m;
    return r;
}

static int fence_end(struct client *c, const struct ty_rdv_message *m, int timeout_ms,
                     struct ty_error *err)
{
    switch (m->type) {
    case TY_RDV_FENCED:
        c->formed = true;
        return 0;
    case TY_RDV_MISSING:
        return missing(c, m, timeout_ms, err);
    case TY_RDV_GONE:
        return ty_error_set(err, -EOWNERDEAD, "rank %u of %d has left the rendezvous at %s:%d",
                            m->a, c->world.size, c->host, c->port);
    case TY_RDV_REFUSED:
        return ty_error_set(err, m->a == TY_RDV_LIMIT ? -E2BIG : -EPROTO,
                            "the rendezvous at %s:%d has turned rank %d away: %.*s", c->host,
                            c->port, c->world.rank, (int)m->value_len, (const char *)m->value);
    default:
        return ty_error_set(err, -EPROTO, "the rendezvous at %s:%d gave no sensible answer",
                            c->host, c->port);
    }
}

static int client_fence(void *ctx, int timeout_ms, struct ty_error *err)
{
    struct client *c = ctx;
    int64_t until_us = ty_mono_us() + (int64_t)timeout_ms * 1000;

    for (;;) {
        size_t known = c->all.n;
        struct ty_rdv_message m;
        int r;

        if (c->fd < 0 && c->formed)
            return ty_error_set(err, -ECONNRESET, "the rendezvous at %s:%d has gone", c->host,
                                c->port);
        r = c->fd >= 0 ? 0 : come_in(c, until_us, timeout_ms, err);
        if (r < 0)
            return r;
        r = one_fence(c, left_ms(until_us), until_us, &m);
        if (r == 0)
            return fence_end(c, &m, timeout_ms, err);
        hang_up(c);
        if (!c->formed)
            entries_drop(&c->all);
        if (r == -ENOMEM)
            return ty_error_oom(err);
        if (c->formed || r == -ETIMEDOUT || r == -EPROTO || r == -EBADMSG || left_ms(until_us) == 0)
            return ty_error_set(
                err, r, "the rendezvous at %s:%d, %s's, was lost (%zu values were known): %s",
                c->host, c->port, c->who_serves, known, strerror(-r));
    }
}

static int client_get(void *ctx, int rank, const char *key, void **ret, size_t *n,
                      struct ty_error *err)
{
    struct client *c = ctx;

    for (size_t i = c->all.n; i-- > 0;) {
        const struct entry *e = &c->all.v[i];
        void *copy;

        if (e->rank != rank || strcmp(e->key, key) != 0)
            continue;
        copy = FAULT("rdv.copy", NULL, malloc(e->n ? e->n : 1));
        if (!copy)
            return ty_error_oom(err);
        memcpy(copy, e->bytes, e->n);
        *ret = copy;
        *n = e->n;
        return 0;
    }
    return ty_error_set(err, -ENOENT, "rank %d has put nothing under '%s'", rank, key);
}

static void client_close(void *ctx)
{
    struct client *c = ctx;

    hang_up(c);
    ty_rendezvous_free(c->own);
    entries_drop(&c->mine);
    entries_drop(&c->all);
    free(c->mine.v);
    free(c->all.v);
    free(c->host);
    free(c->dial);
    if (c->secret)
        sodium_memzero(c->secret, strlen(c->secret));
    free(c->secret);
    free(c->who_serves);
    free(c->in);
    sodium_memzero(c, sizeof *c);
    free(c);
}

void ty_boot_rendezvous_forked(const struct ty_coll_boot *b)
{
    struct client *c = b->ctx;

    if (b->close != client_close)
        return;
    if (c->fd >= 0)
        close(c->fd);
    if (c->own)
        ty_rendezvous_forked(c->own);
}

int ty_boot_rendezvous_at(const struct ty_rdv_place *p, const struct ty_world *w, int timeout_ms,
                          struct ty_coll_boot *ret, struct ty_error *err)
{
    struct client *c = FAULT("rdv.alloc", NULL, calloc(1, sizeof *c));
    int r;

    if (!c) {
        ty_rendezvous_free(p->own);
        return ty_error_oom(err);
    }
    c->fd = -1;
    c->world = *w;
    c->own = p->own;
    c->first = p->port;
    c->nports = p->nports;
    c->host = strdup(p->host);
    c->dial = strdup(p->dial ? p->dial : p->host);
    c->secret = strdup(p->secret);
    c->who_serves = strdup(p->who_serves);
    c->in = malloc(TY_RDV_FRAME_MAX + 4);
    r = c->host && c->dial && c->secret && c->who_serves && c->in
            ? come_in(c, ty_mono_us() + (int64_t)timeout_ms * 1000, timeout_ms, err)
            : ty_error_oom(err);
    if (r < 0) {
        client_close(c);
        return r;
    }
    *ret = (struct ty_coll_boot){ c, client_put, client_fence, client_get, client_close };
    return 0;
}

int ty_boot_rendezvous(const char *host, int port, const char *secret, const struct ty_world *w,
                       int timeout_ms, struct ty_coll_boot *ret, struct ty_error *err)
{
    struct ty_rdv_place p = { .host = host,
                              .port = port,
                              .nports = 1,
                              .secret = secret ? secret : "",
                              .who_serves = "the launcher" };

    return ty_boot_rendezvous_at(&p, w, timeout_ms, ret, err);
}
