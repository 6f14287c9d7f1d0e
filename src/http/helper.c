/* helper.c - asking the data helper, beside the loop
 *
 * What may wait for a network is not done in the daemon: a process of its own reads the request from a file in memory,
 * leaves its answer in another, and is watched by its pidfd.  One that takes too long is killed.
 */
#include "base/fs.h"
#include "base/proc.h"
#include "http/request.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HELPERS_MAX 8
#define HELPER_MS 25000 /* clients wait for 30 s */
#define ANSWER_MAX (1 << 20)

struct helper {
    struct request *req;
    int (*after)(struct request *req, int r);
    uv_poll_t poll; /* of the pidfd */
    uv_timer_t timer;
    pid_t pid;
    int pidfd, out;
    int handles; /* not closed yet */
    bool late;   /* it was killed */
    struct helper *next;
};

static int memory_file(const char *name, const char *text)
{
    CLEANUP_CLOSE int fd = memfd_create(name, MFD_CLOEXEC);
    int r = fd < 0 ? -errno : ty_write_all(fd, text, strlen(text));

    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    return r < 0 ? r : TAKE_FD(fd);
}

/* $TRAINYARD_TEST_HELPER_MS takes its place. */
static int64_t patience_ms(void)
{
    const char *text = getenv("TRAINYARD_TEST_HELPER_MS");
    int64_t ms;

    return text && ty_parse_i64(text, &ms) == 0 && ms > 0 ? ms : HELPER_MS;
}

/* ---- its answer ---- */

static const struct {
    const char *code;
    int r;
} codes[] = {
    { "conflict", -EEXIST },
    { "no_space", -ENOSPC },
    { "no_libcurl", -EINVAL },
};

static int read_answer(struct helper *g, struct ty_error *err)
{
    CLEANUP_FREE char *text = calloc(1, ANSWER_MAX + 1);
    CLEANUP_JSON json_t *last = NULL;
    const json_t *error;
    const char *code;
    ssize_t n = text ? pread(g->out, text, ANSWER_MAX, 0) : -1;
    char *line;

    if (n < 0)
        return ty_error_oom(err);
    if (g->late)
        return ty_error_set(
            err, -EINVAL,
            "it has not answered within %lld s; check its address and the way there, or "
            "register it without a look at it (skip_validation)",
            (long long)(patience_ms() / 1000));
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    if (n == 0 || ty_json_parse(line, strlen(line), &last, NULL) < 0)
        return ty_error_set(err, -EIO, "the data helper (trainyard-agent) ended without an answer");
    if (json_object_get(last, "done"))
        return 0;
    error = json_object_get(last, "error");
    code = json_string_value(json_object_get(error, "code"));
    for (size_t i = 0; code && i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].code, code) == 0)
            return ty_error_set(err, codes[i].r, "%s",
                                json_string_value(json_object_get(error, "message")));
    return ty_error_set(err, -EINVAL, "%s",
                        json_string_value(json_object_get(error, "message"))
                            ?: "the data helper did not say why");
}

/* ---- its life ---- */

static void on_closed(uv_handle_t *handle)
{
    struct helper *g = handle->data;

    if (--g->handles > 0)
        return;
    close(g->pidfd);
    close(g->out);
    free(g);
}

static void let_go(struct helper *g)
{
    struct helper **at = &g->req->http->helpers;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    ty_wait(g->pid, NULL);
    uv_close((uv_handle_t *)&g->poll, on_closed);
    uv_close((uv_handle_t *)&g->timer, on_closed);
}

static void on_ended(uv_poll_t *p, int status, int events)
{
    struct helper *g = p->data;
    struct request *req = g->req;
    int r = read_answer(g, &req->err);

    (void)status, (void)events;
    let_go(g);
    r = g->after(req, r);
    if (r != REQUEST_HELD)
        request_answer(req, r, NULL);
    request_release(req);
}

static void on_late(uv_timer_t *t)
{
    struct helper *g = t->data;

    g->late = true;
    kill(g->pid, SIGKILL); /* on_ended hears of it */
}

void helpers_stop(struct ty_http *h)
{
    while (h->helpers) {
        struct helper *g = h->helpers;
        struct request *req = g->req;

        kill(g->pid, SIGKILL);
        let_go(g);
        ty_error_set(&req->err, -ESHUTDOWN, "the daemon is stopping; ask again when it is back");
        request_answer(req, -ESHUTDOWN, NULL);
        request_release(req);
    }
}

static int start(struct helper *g, const char *agent, int in, struct ty_error *err)
{
    const char *argv[] = { agent, "data", NULL };
    struct ty_spawn spawn = { .argv = argv, .cwd = "/", .in = in, .out = g->out, .err = -1 };
    int r = ty_spawn(&spawn, &g->pid, err);

    if (r < 0)
        return r;
    g->pidfd = (int)syscall(SYS_pidfd_open, g->pid, 0);
    if (g->pidfd >= 0)
        return 0;
    r = ty_error_set(err, -errno, "cannot watch the data helper: %m");
    kill(g->pid, SIGKILL);
    ty_wait(g->pid, NULL);
    return r;
}

static int watch(struct helper *g, struct ty_http *h)
{
    uv_poll_init(h->o.loop, &g->poll, g->pidfd);
    uv_timer_init(h->o.loop, &g->timer);
    g->handles = 2;
    g->poll.data = g->timer.data = g;
    g->next = h->helpers;
    h->helpers = g;
    uv_timer_start(&g->timer, on_late, (uint64_t)patience_ms(), 0);
    return uv_poll_start(&g->poll, UV_READABLE, on_ended);
}

static bool is_room(const struct ty_http *h)
{
    int n = 0;

    for (const struct helper *g = h->helpers; g; g = g->next)
        n++;
    return n < HELPERS_MAX;
}

int request_helper(struct request *req, const json_t *asked,
                   int (*after)(struct request *req, int r))
{
    struct ty_http *h = req->http;
    CLEANUP_FREE char *text = ty_json_text(asked);
    CLEANUP_CLOSE int in = text ? memory_file("asked", text) : -ENOMEM;
    struct helper *g;
    int r;

    if (!is_room(h))
        return ty_error_set(&req->err, -EAGAIN,
                            "%d stores are being asked already; try again in a moment",
                            HELPERS_MAX);
    g = calloc(1, sizeof *g);
    if (g)
        g->out = memory_file("answer", "");
    if (!g || in < 0 || g->out < 0) {
        if (g && g->out >= 0)
            close(g->out);
        free(g);
        return ty_error_oom(&req->err);
    }
    g->req = req;
    g->after = after;
    r = start(g, h->o.agent, in, &req->err);
    if (r < 0) {
        close(g->out);
        free(g);
        return r;
    }
    request_hold(req);
    r = watch(g, h);
    if (r < 0) {
        kill(g->pid, SIGKILL);
        let_go(g);
        request_release(req);
        return ty_error_set(&req->err, r, "cannot watch the data helper: %s", uv_strerror(r));
    }
    return REQUEST_HELD;
}
