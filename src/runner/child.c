/* child.c - helpers of the runner that do long work */
#include "runner/child.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_MAX (64 * 1024)
#define LINE_MAX_BYTES (1 << 20)

/* Everything but the standard descriptors and the pipe belongs to the runner: its lock, its stream. */
static void child_main(pid_t runner, int out, int (*fn)(int out, void *ctx), void *ctx)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != runner)
        _exit(1);
    prctl(PR_SET_NAME, "trainyard-files");
    signal(SIGTERM, SIG_IGN); /* meant for the job, whose processes are all signalled */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(out, 3) < 0 || close_range(4, ~0U, 0) < 0)
        _exit(1);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    _exit(fn(3, ctx) < 0 ? 1 : 0);
}

int ty_child_start(struct ty_child *c, int (*fn)(int out, void *ctx), void *ctx,
                   struct ty_error *err)
{
    pid_t self = getpid(), pid;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return ty_error_set(err, -errno, "cannot make a socket: %m");
    pid = fork();
    if (pid == 0)
        child_main(self, fds[1], fn, ctx);
    close(fds[1]);
    if (pid < 0) {
        int r = ty_error_set(err, -errno, "cannot start a process: %m");

        close(fds[0]);
        return r;
    }
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    *c = (struct ty_child){ .pid = pid, .fd = fds[0], .passes = true, .passed = -1 };
    return 0;
}

int ty_child_exec(struct ty_child *c, const struct ty_child_program *p, struct ty_error *err)
{
    CLEANUP_FREE char *mark = ty_strf("TRAINYARD_JOB=%s", p->job_dir);
    const char *env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", mark, NULL };
    const char *argv[4 + TY_CHILD_ARGS_MAX] = { "/proc/self/exe", p->word };
    CLEANUP_CLOSE int mine = -1, its = -1;
    char out[16];
    struct ty_spawn spawn = { .argv = argv,
                              .envp = env,
                              .cwd = "/",
                              .in = -1,
                              .out = p->err,
                              .err = p->err,
                              .owner = p->owner };
    pid_t pid = 0;
    int fds[2], r;

    if (!mark)
        return ty_error_oom(err);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return ty_error_set(err, -errno, "cannot make a pipe: %m");
    mine = fds[0];
    its = fds[1];
    fcntl(mine, F_SETFL, O_NONBLOCK);
    snprintf(out, sizeof out, "%d", its);
    argv[2] = out;
    for (int i = 0; p->args && p->args[i] && i < TY_CHILD_ARGS_MAX; i++)
        argv[3 + i] = p->args[i];
    spawn.keep[spawn.nkeep++] = its;
    if (p->keep >= 0)
        spawn.keep[spawn.nkeep++] = p->keep;
    r = ty_spawn(&spawn, &pid, err);
    if (r < 0)
        return r;
    *c = (struct ty_child){ .pid = pid, .fd = TAKE_FD(mine), .passed = -1 };
    return 0;
}

static int reap(struct ty_child *c)
{
    int status = c->status;

    close(c->fd); /* first: it may wait for somebody to read */
    if (c->passed >= 0)
        close(c->passed);
    if (!c->reaped)
        ty_wait(c->pid, &status);
    ty_str_done(&c->in);
    *c = (struct ty_child)TY_CHILD_INIT;
    return status;
}

void ty_child_reaped(struct ty_child *c, pid_t pid, int status)
{
    if (pid != c->pid || pid == 0)
        return;
    c->reaped = true;
    c->status = status;
}

void ty_child_kill(struct ty_child *c)
{
    if (c->pid == 0)
        return;
    if (!c->reaped)
        kill(c->pid, SIGKILL);
    reap(c);
}

static void lines(struct ty_child *c, void (*fn)(json_t *line, void *ctx), void *ctx)
{
    char *at = c->in.text, *end;

    while (at && (end = memchr(at, '\n', c->in.len - (size_t)(at - c->in.text)))) {
        json_t *o = NULL;

        if (ty_json_parse(at, (size_t)(end - at), &o, NULL) == 0)
            fn(o, ctx);
        else
            ty_log(TY_LOG_ERROR, "a helper said something that is not JSON");
        json_decref(o);
        at = end + 1;
    }
    if (at && at > c->in.text) {
        c->in.len -= (size_t)(at - c->in.text);
        memmove(c->in.text, at, c->in.len);
        c->in.text[c->in.len] = '\0';
    }
}

/* As read(2); a descriptor that comes goes to c->passed, in place of one that nobody has taken. */
static ssize_t receive(struct ty_child *c, char *buf, size_t size)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec bytes = { .iov_base = buf, .iov_len = size };
    struct msghdr m = { .msg_iov = &bytes,
                        .msg_iovlen = 1,
                        .msg_control = control.room,
                        .msg_controllen = sizeof control.room };
    const struct cmsghdr *head;
    ssize_t n;

    if (!c->passes)
        return read(c->fd, buf, size);
    n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC);
    head = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof(int))) {
        if (c->passed >= 0)
            close(c->passed);
        memcpy(&c->passed, CMSG_DATA(head), sizeof(int));
    }
    return n;
}

int ty_child_read(struct ty_child *c, void (*fn)(json_t *line, void *ctx), void *ctx, bool *failed)
{
    CLEANUP_FREE char *buf = NULL;
    ssize_t n;
    int status;

    if (c->pid == 0)
        return 0;
    buf = malloc(READ_MAX);
    n = buf ? receive(c, buf, READ_MAX) : -1;
    if (n < 0 && buf && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n > 0) {
        ty_str_addn(&c->in, buf, (size_t)n);
        lines(c, fn, ctx);
        if (!c->in.failed && c->in.len < LINE_MAX_BYTES)
            return 0;
    }
    if (n != 0 && !c->reaped)
        kill(c->pid, SIGKILL); /* out of memory, or a line without an end */
    status = reap(c);
    *failed = n != 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    return -EPIPE;
}

json_t *ty_lossy_text(const char *bytes, size_t n)
{
    CLEANUP_STR struct ty_str clean = { 0 }, text = { 0 };

    for (size_t i = 0; i < n;) {
        const char *nul = memchr(bytes + i, '\0', n - i);
        size_t run = nul ? (size_t)(nul - bytes) - i : n - i;

        ty_str_addn(&clean, bytes + i, run);
        i += run;
        if (nul) {
            ty_str_add(&clean, "\xef\xbf\xbd");
            i++;
        }
    }
    ty_str_add_json(&text, clean.text ? clean.text : "", clean.len);
    return text.failed || clean.failed ? NULL
                                       : json_loadb(text.text, text.len, JSON_DECODE_ANY, NULL);
}

int ty_child_send(int out, const json_t *line)
{
    CLEANUP_FREE char *text = ty_json_text(line);
    CLEANUP_STR struct ty_str s = { 0 };

    if (!text)
        return -ENOMEM;
    ty_str_add(&s, text);
    ty_str_add(&s, "\n");
    return s.failed ? -ENOMEM : ty_write_all(out, s.text, s.len);
}

int ty_child_pass(int out, const json_t *line, int fd)
{
    CLEANUP_FREE char *text = ty_json_text(line);
    CLEANUP_FREE char *whole = text ? ty_strf("%s\n", text) : NULL;
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec bytes = { .iov_base = whole, .iov_len = whole ? strlen(whole) : 0 };
    struct msghdr m = { .msg_iov = &bytes,
                        .msg_iovlen = 1,
                        .msg_control = control.room,
                        .msg_controllen = sizeof control.room };
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    ssize_t n;

    if (!whole)
        return -ENOMEM;
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &fd, sizeof(int));
    while ((n = sendmsg(out, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return n < 0 ? -errno : ty_write_all(out, whole + n, bytes.iov_len - (size_t)n);
}

void ty_child_tell(int out, const char *kind, const char *text)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:s, s:o}", "kind", kind, "text", ty_lossy_text(text, strlen(text)));

    if (o)
        ty_child_send(out, o);
}
