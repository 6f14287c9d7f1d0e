/* pmix.c - starting the PMIx helper, and talking to it */
#include "runner/pmix.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/owner.h"
#include "base/proc.h"
#include "base/str.h"
#include "runner/pmix_wire.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define READ_BYTES (64 * 1024)
#define SHM_FOLDER "/dev/shm"

struct ty_pmix {
    pid_t pid;
    bool reaped;
    int line;          /* -1: the helper has gone */
    struct ty_str out; /* waits for the socket, from `sent` on */
    size_t sent;
    struct ty_str in; /* from `used` on not looked at */
    size_t used;
    json_t *ready; /* READY; what follows is made of it */
    char ***env;   /* per rank of this node, NULL-terminated; the texts belong to `ready` */
    size_t nenv;
    json_t *said;    /* of the last event */
    char *mpi, *shm; /* shm: folder with the ranks' shared memory, or NULL */
    const struct ty_owner *owner;
};

/* ---- starting ---- */

static json_t *nodes_json(const struct ty_pmix_spec *s)
{
    json_t *list = json_array();

    for (int i = 0; list && i < s->nnodes; i++)
        if (json_array_append_new(list, json_pack("{s:s, s:i}", "name", s->nodes[i].name, "ranks",
                                                  s->nodes[i].ranks)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static int queue(struct ty_pmix *p, const struct ty_pmix_frame *f)
{
    if (p->sent == p->out.len) {
        ty_str_done(&p->out);
        p->sent = 0;
    }
    return ty_pmix_encode(f, &p->out);
}

static int queue_setup(struct ty_pmix *p, const struct ty_pmix_spec *s)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:i, s:s, s:s, s:s, s:i, s:i, s:o}", "protocol", TY_PMIX_PROTOCOL, "namespace",
                  s->name_space, "tmp", s->tmp, "shm", p->shm ? p->shm : "", "node", s->node,
                  "cpus", s->cpus, "nodes", nodes_json(s));
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;

    if (!text)
        return -ENOMEM;
    return queue(p, &(struct ty_pmix_frame){
                        .type = TY_PMIX_SETUP, .body = text, .body_len = strlen(text) });
}

/* As far as goes without waiting. */
static void flush(struct ty_pmix *p)
{
    while (p->line >= 0 && p->sent < p->out.len) {
        ssize_t n =
            send(p->line, p->out.text + p->sent, p->out.len - p->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* that it has gone shows when it is read from */
        p->sent += (size_t)n;
    }
}

/* Open MPI names shared memory by host and local rank alone, which two nodes of a job may have in common when
 * they lie on one machine; in a folder of its own nothing meets, and nothing is left behind.  Where none can
 * be made Open MPI finds a place itself. */
static int make_folders(struct ty_pmix *p, const struct ty_pmix_spec *s, struct ty_error *err)
{
    char shm[] = SHM_FOLDER "/trainyard-XXXXXX";
    int r;

    ty_owner_enter(s->owner);
    r = FAULT("pmix.mkdir", -EIO, ty_mkdir_p(s->tmp, 0700));
    if (r == 0 && mkdtemp(shm)) {
        p->shm = strdup(shm);
        if (!p->shm)
            rmdir(shm);
    }
    ty_owner_leave(s->owner);
    return r < 0 ? ty_error_set(err, r, "cannot make the folder '%s': %s", s->tmp, strerror(-r))
                 : 0;
}

static int spawn_helper(const struct ty_pmix_spec *s, int its, pid_t *ret, struct ty_error *err)
{
    CLEANUP_FREE char *mark = ty_strf("TRAINYARD_JOB=%s", s->job_dir);
    CLEANUP_FREE char *tmp = ty_strf("TMPDIR=%s", s->tmp);
    const char *fault = getenv("TY_FAULT");
    CLEANUP_FREE char *fault_env = fault ? ty_strf("TY_FAULT=%s", fault) : NULL;
    char fd[16];
    const char *argv[] = { "/proc/self/exe", "pmix", fd, NULL };
    /* libpmix looks at the machine's topology when it starts, which takes two thirds of all its time and more on large
     * machines; nobody asks its server for it. */
    const char *env[] = { "PATH=/usr/local/bin:/usr/bin:/bin",
                          "HWLOC_COMPONENTS=no_os,stop",
                          mark,
                          tmp,
                          fault_env,
                          NULL };
    struct ty_spawn spawn = { .argv = argv,
                              .envp = env,
                              .cwd = "/",
                              .in = -1,
                              .out = s->err,
                              .err = s->err,
                              .keep = { its },
                              .nkeep = 1,
                              .owner = s->owner };

    if (!mark || !tmp || (fault && !fault_env))
        return ty_error_oom(err);
    snprintf(fd, sizeof fd, "%d", its);
    return ty_spawn(&spawn, ret, err);
}

int ty_pmix_start(const struct ty_pmix_spec *s, struct ty_pmix **ret, struct ty_error *err)
{
    CLEANUP_CLOSE int mine = -1, its = -1;
    struct ty_pmix *p;
    int fds[2], r;

    if (FAULT("pmix.socket", -1, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) < 0)
        return ty_error_set(err, -errno, "starting the PMIx helper: cannot make a socket: %m");
    mine = fds[0];
    its = fds[1];
    p = FAULT("pmix.alloc", NULL, calloc(1, sizeof *p));
    if (!p)
        return ty_error_oom(err);
    p->line = -1;
    p->owner = s->owner;
    r = make_folders(p, s, err);
    if (r == 0)
        r = queue_setup(p, s) < 0 ? ty_error_oom(err) : spawn_helper(s, its, &p->pid, err);
    if (r < 0) {
        ty_pmix_free(p);
        return ty_error_prefix(err, "starting the PMIx helper");
    }
    p->line = TAKE_FD(mine);
    flush(p);
    *ret = p;
    return 0;
}

int ty_pmix_fd(const struct ty_pmix *p, short *events)
{
    *events = p->sent < p->out.len ? POLLIN | POLLOUT : POLLIN;
    return p->line;
}

/* ---- what it says ---- */

static void env_free(struct ty_pmix *p)
{
    for (size_t i = 0; i < p->nenv; i++)
        free(p->env[i]);
    free(p->env);
    p->env = NULL;
    p->nenv = 0;
}

/* The texts belong to the JSON. */
static char **borrow(const json_t *list)
{
    char **v = json_is_array(list) ? calloc(json_array_size(list) + 1, sizeof *v) : NULL;
    size_t i, n = 0;
    json_t *text;

    if (v)
        json_array_foreach (list, i, text)
            if (json_is_string(text))
                v[n++] = (char *)json_string_value(text);
    return v;
}

static int on_ready(struct ty_pmix *p, struct ty_pmix_event *ev)
{
    const json_t *list = json_object_get(p->said, "env");
    size_t n = json_array_size(list);

    if (p->ready || n == 0)
        return -EBADMSG;
    p->env = calloc(n, sizeof *p->env);
    if (!p->env)
        return -ENOMEM;
    for (p->nenv = 0; p->nenv < n; p->nenv++) {
        p->env[p->nenv] = borrow(json_array_get(list, p->nenv));
        if (!p->env[p->nenv])
            return -ENOMEM;
    }
    p->ready = TAKE(p->said);
    ev->kind = TY_PMIX_IS_READY;
    return 0;
}

static const char *text_of(const struct ty_pmix *p, const char *key)
{
    const char *s = json_string_value(json_object_get(p->said, key));

    return s ? s : "";
}

static int on_json(struct ty_pmix *p, const struct ty_pmix_frame *f, struct ty_pmix_event *ev)
{
    int r = ty_json_parse(f->body, f->body_len, &p->said, NULL);

    if (r < 0)
        return r;
    ev->text = text_of(p, "text");
    switch (f->type) {
    case TY_PMIX_READY:
        return on_ready(p, ev);
    case TY_PMIX_FAILED:
        ev->kind = TY_PMIX_IS_FAILED;
        ev->code = -(int)json_integer_value(json_object_get(p->said, "error"));
        return 0;
    case TY_PMIX_ABORT:
        ev->kind = TY_PMIX_HAS_ABORT;
        ev->rank = (int)json_integer_value(json_object_get(p->said, "rank"));
        ev->code = (int)json_integer_value(json_object_get(p->said, "code"));
        return 0;
    case TY_PMIX_NOTE:
        ev->kind = TY_PMIX_HAS_NOTE;
        return 0;
    case TY_PMIX_MPI:
        ev->kind = TY_PMIX_HAS_MPI;
        free(p->mpi);
        p->mpi = strdup(text_of(p, "version"));
        ev->text = ty_pmix_mpi(p);
        return p->mpi ? 0 : -ENOMEM;
    default:
        return -EBADMSG;
    }
}

static int on_frame(struct ty_pmix *p, const struct ty_pmix_frame *f, struct ty_pmix_event *ev)
{
    *ev = (struct ty_pmix_event){ .text = "" };
    json_decref(p->said);
    p->said = NULL;
    if (f->type != TY_PMIX_FENCE)
        return on_json(p, f, ev);
    *ev = (struct ty_pmix_event){ .kind = TY_PMIX_HAS_FENCE,
                                  .text = "",
                                  .key = f->key,
                                  .key_len = f->key_len,
                                  .nodes = f->nodes,
                                  .blob = f->body,
                                  .len = f->body_len };
    return 0;
}

/* Make room for what has been looked at, and read.  0: there may be more; -EAGAIN; -EPIPE. */
static int fill(struct ty_pmix *p)
{
    char buf[READ_BYTES];
    ssize_t n;

    if (p->used > 0) {
        p->in.len -= p->used;
        memmove(p->in.text, p->in.text + p->used, p->in.len);
        p->used = 0;
    }
    n = recv(p->line, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    if (n <= 0)
        return -EPIPE;
    ty_str_addn(&p->in, buf, (size_t)n);
    return p->in.failed ? -ENOMEM : 0;
}

static void gone(struct ty_pmix *p)
{
    close(p->line);
    p->line = -1;
}

int ty_pmix_next(struct ty_pmix *p, struct ty_pmix_event *ret)
{
    flush(p);
    for (;;) {
        struct ty_pmix_frame f;
        ptrdiff_t n =
            p->in.text ? ty_pmix_decode(p->in.text + p->used, p->in.len - p->used, &f) : -EAGAIN;
        int r;

        if (p->line < 0)
            return -EPIPE;
        if (n > 0) {
            p->used += (size_t)n;
            r = on_frame(p, &f, ret);
            if (r == 0)
                return 0;
        } else {
            r = n == -EAGAIN ? fill(p) : (int)n;
            if (r == -EAGAIN)
                return -EAGAIN;
        }
        if (r < 0) { /* a helper that cannot be understood is as good as none */
            gone(p);
            return -EPIPE;
        }
    }
}

char *const *ty_pmix_env(const struct ty_pmix *p, int local)
{
    return p->ready && local >= 0 && (size_t)local < p->nenv ? p->env[local] : NULL;
}

const char *ty_pmix_version(const struct ty_pmix *p)
{
    const char *s = json_string_value(json_object_get(p->ready, "pmix"));

    return s ? s : "";
}

const char *ty_pmix_mpi(const struct ty_pmix *p)
{
    return p->mpi ? p->mpi : "";
}

int ty_pmix_fence_done(struct ty_pmix *p, const char *key, size_t key_len, uint32_t nodes,
                       const void *blob, size_t len)
{
    struct ty_pmix_frame f = { .type = TY_PMIX_FENCE_DONE,
                               .nodes = nodes,
                               .key = key,
                               .key_len = key_len,
                               .body = blob,
                               .body_len = len };
    int r;

    if (p->line < 0)
        return -EPIPE;
    r = queue(p, &f);
    flush(p);
    return r;
}

/* ---- the end ---- */

void ty_pmix_reaped(struct ty_pmix *p, pid_t pid, int status)
{
    (void)status;
    if (pid == p->pid)
        p->reaped = true;
}

void ty_pmix_stop(struct ty_pmix *p)
{
    if (p->line >= 0)
        shutdown(p->line, SHUT_WR);
}

/* The helper closes its end when it has cleaned up. */
static void wait_end(struct ty_pmix *p)
{
    int64_t end = ty_mono_us() + TY_PMIX_END_MS * 1000;
    char buf[4096];

    while (p->line >= 0) {
        struct pollfd fd = { .fd = p->line, .events = POLLIN };
        int64_t left = end - ty_mono_us();
        ssize_t n;

        if (left <= 0)
            return;
        if (poll(&fd, 1, (int)(left / 1000) + 1) <= 0)
            continue;
        n = recv(p->line, buf, sizeof buf, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return;
    }
}

struct ty_pmix *ty_pmix_free(struct ty_pmix *p)
{
    if (!p)
        return NULL;
    ty_pmix_stop(p);
    wait_end(p);
    if (p->pid > 0 && !p->reaped) {
        kill(p->pid, SIGKILL);
        ty_wait(p->pid, NULL);
    }
    if (p->line >= 0)
        close(p->line);
    if (p->shm) {
        ty_owner_enter(p->owner);
        ty_rm_rf(p->shm);
        ty_owner_leave(p->owner);
    }
    env_free(p);
    json_decref(p->ready);
    json_decref(p->said);
    ty_str_done(&p->in);
    ty_str_done(&p->out);
    free(p->mpi);
    free(p->shm);
    free(p);
    return NULL;
}
