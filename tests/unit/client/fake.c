/* fake.c - an HTTP server on a Unix socket that says what a test wrote down */
#include "fake.h"
#include "base/fs.h"
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNS 16
#define REPLIES 256

struct conn {
    int fd;
    char *in;
    size_t n;
};
struct request {
    char *head, *body;
    size_t body_len;
};
struct fake {
    char home[64];
    int listener, wake[2], back[2];
    pthread_t thread;
    pthread_mutex_t lock;
    struct fake_answer answers[FAKE_ANSWERS];
    struct conn conns[CONNS];
    struct request requests[FAKE_REQUESTS];
    int nrequests, naccepted;
};

static char *replies[REPLIES];
static int nreplies;

const char *fake_reply(int status, const char *type, const char *body)
{
    char *raw;

    assert(nreplies < REPLIES);
    if (asprintf(
            &raw,
            "HTTP/1.1 %d Said\r\nTrainyard-Version: 0.1.0\r\nTrainyard-Api: 1\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
            status, type, strlen(body), body) < 0)
        abort();
    replies[nreplies++] = raw;
    return raw;
}

const char *fake_json(const char *body)
{
    return fake_reply(200, "application/json", body);
}

static void conn_close(struct conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->in);
    *c = (struct conn){ .fd = -1 };
}

static void send_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = send(fd, bytes, n, MSG_NOSIGNAL);

        if (done <= 0)
            return;
        bytes += done;
        n -= (size_t)done;
    }
}

static struct fake_answer *find_answer(struct fake *f, const char *head)
{
    struct fake_answer *a;

    for (a = f->answers; a->match; a++) {
        if (strncmp(head, a->match, strlen(a->match)) || a->times < 0)
            continue;
        if (a->times > 0 && --a->times == 0)
            a->times = -1;
        return a;
    }
    return NULL;
}

static size_t content_length(const char *head)
{
    const char *at = strcasestr(head, "\r\nContent-Length:");

    return at ? strtoul(at + strlen("\r\nContent-Length:"), NULL, 10) : 0;
}

/* Answer what is complete in the buffer; false when the connection is to be closed. */
static bool serve(struct fake *f, struct conn *c)
{
    char *end;

    while (c->in && (end = memmem(c->in, c->n, "\r\n\r\n", 4)) != NULL) {
        size_t head = (size_t)(end - c->in) + 4, body;
        struct fake_answer *a;
        struct request *q;
        bool early;

        end[2] = '\0';
        body = content_length(c->in);
        for (a = f->answers, early = false; a->match && !early; a++)
            early = a->early && !strncmp(c->in, a->match, strlen(a->match));
        end[2] = '\r';
        if (!early && c->n < head + body)
            return true;
        body = early ? 0 : body;
        assert(f->nrequests < FAKE_REQUESTS);
        q = &f->requests[f->nrequests++];
        q->head = strndup(c->in, head);
        q->body = calloc(1, body + 1);
        memcpy(q->body, c->in + head, body);
        q->body_len = body;
        memmove(c->in, c->in + head + body, c->n - head - body + 1);
        c->n -= head + body;
        a = find_answer(f, q->head);
        if (!a)
            return false;
        send_all(c->fd, a->raw, a->raw_len ? a->raw_len : strlen(a->raw));
        if (a->close)
            return false;
    }
    return true;
}

static bool receive(struct fake *f, struct conn *c)
{
    char buf[65536];
    ssize_t n = recv(c->fd, buf, sizeof buf, 0);
    bool keep = n > 0;

    if (!keep)
        return false;
    c->in = realloc(c->in, c->n + (size_t)n + 1);
    memcpy(c->in + c->n, buf, (size_t)n);
    c->n += (size_t)n;
    c->in[c->n] = '\0';
    pthread_mutex_lock(&f->lock);
    keep = serve(f, c);
    pthread_mutex_unlock(&f->lock);
    return keep;
}

static void take_new(struct fake *f)
{
    int i, fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

    pthread_mutex_lock(&f->lock);
    f->naccepted++;
    pthread_mutex_unlock(&f->lock);
    for (i = 0; i < CONNS; i++)
        if (f->conns[i].fd < 0) {
            f->conns[i].fd = fd;
            return;
        }
    abort();
}

/* 'd' drops every connection, 'q' ends the thread; each is confirmed. */
static bool obey(struct fake *f)
{
    char order;
    int i;

    if (read(f->wake[0], &order, 1) != 1)
        abort();
    for (i = 0; i < CONNS; i++)
        conn_close(&f->conns[i]);
    if (write(f->back[1], &order, 1) != 1)
        abort();
    return order != 'q';
}

static void *loop(void *ctx)
{
    struct fake *f = ctx;

    for (;;) {
        struct pollfd p[CONNS + 2];
        int i;

        p[0] = (struct pollfd){ .fd = f->wake[0], .events = POLLIN };
        p[1] = (struct pollfd){ .fd = f->listener, .events = POLLIN };
        for (i = 0; i < CONNS; i++)
            p[i + 2] = (struct pollfd){ .fd = f->conns[i].fd, .events = POLLIN };
        if (poll(p, CONNS + 2, -1) < 0)
            continue;
        if (p[0].revents && !obey(f))
            return NULL;
        if (p[0].revents)
            continue;
        if (p[1].revents)
            take_new(f);
        for (i = 0; i < CONNS; i++)
            if (p[i + 2].revents && f->conns[i].fd == p[i + 2].fd && !receive(f, &f->conns[i]))
                conn_close(&f->conns[i]);
    }
}

struct fake *fake_start(const struct fake_answer *answers)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct fake *f = calloc(1, sizeof *f);
    int i;

    snprintf(f->home, sizeof f->home, "/tmp/ty-fake.XXXXXX");
    if (!mkdtemp(f->home) || pipe2(f->wake, 0) < 0 || pipe2(f->back, 0) < 0)
        abort();
    for (i = 0; answers[i].match; i++)
        f->answers[i] = answers[i];
    for (i = 0; i < CONNS; i++)
        f->conns[i].fd = -1;
    pthread_mutex_init(&f->lock, NULL);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", f->home);
    if (bind(f->listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(f->listener, 16) < 0)
        abort();
    if (pthread_create(&f->thread, NULL, loop, f))
        abort();
    return f;
}

static void order(struct fake *f, char what)
{
    if (write(f->wake[1], &what, 1) != 1 || read(f->back[0], &what, 1) != 1)
        abort();
}

void fake_drop_all(struct fake *f)
{
    order(f, 'd');
}

void fake_stop(struct fake *f)
{
    int i;

    order(f, 'q');
    pthread_join(f->thread, NULL);
    for (i = 0; i < f->nrequests; i++) {
        free(f->requests[i].head);
        free(f->requests[i].body);
    }
    for (i = 0; i < nreplies; i++)
        free(replies[i]);
    nreplies = 0;
    close(f->listener);
    close(f->wake[0]);
    close(f->wake[1]);
    close(f->back[0]);
    close(f->back[1]);
    ty_rm_rf(f->home);
    free(f);
}

const char *fake_home(const struct fake *f)
{
    return f->home;
}

int fake_count(struct fake *f)
{
    int n;

    pthread_mutex_lock(&f->lock);
    n = f->nrequests;
    pthread_mutex_unlock(&f->lock);
    return n;
}

int fake_connections(struct fake *f)
{
    int n;

    pthread_mutex_lock(&f->lock);
    n = f->naccepted;
    pthread_mutex_unlock(&f->lock);
    return n;
}

const char *fake_head(struct fake *f, int i)
{
    return i < fake_count(f) ? f->requests[i].head : "";
}

const char *fake_body(struct fake *f, int i, size_t *n)
{
    if (n)
        *n = f->requests[i].body_len;
    return f->requests[i].body;
}
