/* program.c - pip and its like: run with a bound, their output line by line to the build log */
#include "base/program.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "blob/blob.h"
#include "core/launch_plan.h"
#include "env/env_internal.h"
#include "env/view.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUT_MAX (64u << 20)
#define END_MAX 8192
#define LINE_MAX_BYTES 4000 /* a longer one goes to the log in pieces */
#define DAY_S (24 * 3600)
#define LOOK_MS 1000 /* how long a signal that came just before waiting goes unseen */

extern char **environ;

void env_log(struct env_build *b, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str s = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&s, fmt, ap);
    va_end(ap);
    if (b->q->log && s.text && !s.failed)
        b->q->log(s.text, b->q->ctx);
}

bool env_stopped(const struct env_build *b)
{
    return b->q->stopped && b->q->stopped(b->q->ctx);
}

void env_progress(struct env_build *b, int percent, const char *doing)
{
    if (b->q->progress)
        b->q->progress(percent, doing, b->q->ctx);
    env_log(b, "[%3d%%] %s", percent, doing);
}

char *env_find(const char *program)
{
    static const char *const usual = "/usr/local/bin:/usr/bin:/bin";
    const char *path = getenv("PATH");

    return ty_program_find(program, path && *path ? path : usual);
}

/* A conda channel may have its key behind the host: "/t/KEY/channel".  Where to go on. */
static const char *mask_token(struct ty_str *s, const char *path)
{
    size_t n = ty_starts_with(path, "/t/") ? strcspn(path + 3, "/ \t\n'\"?#") : 0;

    if (n == 0 || path[3 + n] != '/')
        return path;
    ty_str_add(s, "/t/***");
    return path + 3 + n;
}

/* What stands before an '@', `n` bytes.  A user of the web without a password is a token: "https://TOKEN@host", "https://TOKEN:@host". */
static void mask_user(struct ty_str *s, const char *user, size_t n, bool web)
{
    size_t name = strcspn(user, ":@");

    if (name + 1 < n)
        ty_str_addf(s, "%.*s:***@", (int)name, user);
    else if (web)
        ty_str_add(s, "***@");
    else
        ty_str_addf(s, "%.*s@", (int)n, user);
}

/* Is what ends there the scheme of the web's addresses, alone or as in "git+https"? */
static bool is_web(const char *text, const char *end)
{
    return (end - text >= 4 && memcmp(end - 4, "http", 4) == 0) ||
           (end - text >= 5 && memcmp(end - 5, "https", 5) == 0);
}

char *ty_env_mask(const char *text)
{
    CLEANUP_STR struct ty_str s = { 0 };

    for (const char *p = text; *p;) {
        const char *scheme = strstr(p, "://");
        size_t host, user;

        if (!scheme) {
            ty_str_add(&s, p);
            break;
        }
        scheme += 3;
        host = strcspn(scheme, "/ \t\n'\"?#");
        for (user = host; user > 0 && scheme[user - 1] != '@'; user--)
            ;
        ty_str_addn(&s, p, (size_t)(scheme - p));
        if (user > 0)
            mask_user(&s, scheme, user - 1, is_web(text, scheme - 3));
        p = scheme + user;
        ty_str_addn(&s, p, host - user);
        p = mask_token(&s, p + host - user);
    }
    return ty_str_take(&s);
}

bool ty_env_secret(const char *masked, char name[TY_ENV_SECRET])
{
    char hex[TY_SHA256_HEX + 1];

    ty_sha256_hex(masked, strlen(masked), hex);
    snprintf(name, TY_ENV_SECRET, "address-%.16s", hex);
    return strstr(masked, ":***@") || strstr(masked, "://***@") || strstr(masked, "/t/***/");
}

bool ty_env_is_for_tools(const char *variable)
{
    static const char *const beginnings[] = { "PIP_", "UV_", "CONDA_", "MAMBA_", NULL };

    for (const char *const *b = beginnings; *b; b++)
        if (ty_starts_with(variable, *b))
            return true;
    return false;
}

void env_said_done(struct env_said *s)
{
    ty_str_done(&s->out);
    ty_str_done(&s->end);
}

/* ---- its environment ---- */

/* Ours, without what would lead a Python astray. */
static bool passes(const char *var)
{
    static const char *const without[] = {
        "PYTHON",      "VIRTUAL_ENV=", "CONDA_",    "__PYVENV",     "PIP_REQUIRE_VIRTUALENV=",
        "PIP_TARGET=", "PIP_PREFIX=",  "PIP_ROOT=", "PIP_DRY_RUN=", "PIP_REPORT=",
        NULL
    };

    for (const char *const *w = without; *w; w++)
        if (ty_starts_with(var, *w))
            return false;
    return true;
}

/* Does `more` ("NAME=value", ..) have the variable?  Of two with one name, a program may take the first. */
static bool is_given(const char *const *more, const char *var)
{
    size_t n = strcspn(var, "=");

    for (; more && *more; more++)
        if (strncmp(*more, var, n) == 0 && (*more)[n] == '=')
            return true;
    return false;
}

static char **environment(const char *const *more)
{
    size_t n = 0, have = 0;
    char **v;

    while (environ[have])
        have++;
    for (const char *const *m = more; m && *m; m++)
        have++;
    v = calloc(have + 2, sizeof *v);
    if (!v)
        return NULL;
    for (char **e = environ; *e; e++)
        if (passes(*e) && !is_given(more, *e))
            v[n++] = *e;
    v[n++] = (char *)"PYTHONUNBUFFERED=1";
    for (const char *const *m = more; m && *m; m++)
        v[n++] = (char *)*m;
    return v;
}

/* ---- in an image ---- */

/* What a program becomes there; on this machine, itself. */
struct vessel {
    char *name;         /* of the container */
    char **argv, **env; /* owned; NULL: those of the program */
};

static void vessel_done(struct vessel *v)
{
    free(v->name);
    ty_strv_free(v->argv);
    ty_strv_free(v->env);
}

static struct ty_view view_of(const struct env_build *b, const struct env_program *p,
                              const struct vessel *vessel)
{
    struct ty_view v = *b->q->view;

    v.name = vessel->name;
    v.work = p->cwd ? p->cwd : b->q->cache;
    v.input = p->input != NULL;
    return v;
}

static int put_into(struct env_build *b, const struct env_program *p, char *const *env,
                    struct vessel *vessel, struct ty_error *err)
{
    struct ty_view v;

    vessel->name = ty_strf("trainyard-build-%d-%lld", (int)getpid(), (long long)ty_mono_us());
    if (!vessel->name)
        return ty_error_oom(err);
    v = view_of(b, p, vessel);
    return ty_view_wrap(&v, (char *const *)p->argv, env, &vessel->argv, &vessel->env, err);
}

/* A tool that was killed leaves its container. */
static void remove_container(const struct env_build *b, const struct env_program *p,
                             const struct vessel *vessel)
{
    struct ty_view v = view_of(b, p, vessel);
    struct ty_error err;
    char **argv = NULL;
    pid_t pid;

    if (ty_view_after(&v, &argv, &err) == 0 && argv) {
        struct ty_spawn s = { .argv = (const char *const *)argv,
                              .envp = (const char *const *)vessel->env,
                              .cwd = "/",
                              .in = -1,
                              .out = -1,
                              .err = -1 };

        if (ty_spawn(&s, &pid, &err) == 0)
            ty_wait(pid, NULL);
    }
    ty_strv_free(argv);
}

/* ---- running ---- */

struct pipes {
    int in, out, log; /* our ends; -1: closed */
};

/* `ends`: for its input, its answer and the log. */
static void child(const struct env_program *p, const struct vessel *in, const char *cwd, char **env,
                  pid_t parent, const int ends[3])
{
    char *const *argv = in->argv ? in->argv : (char *const *)p->argv;
    sigset_t none;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(126);
    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (dup2(ends[0], 0) < 0 || dup2(ends[p->quiet ? 1 : 2], 1) < 0 || dup2(ends[2], 2) < 0 ||
        chdir(cwd) < 0)
        _exit(126);
    execve(argv[0], argv, in->argv ? in->env : env);
    _exit(127);
}

static void keep_end(struct ty_str *end, const char *line)
{
    ty_str_add(end, line);
    ty_str_add(end, "\n");
    if (end->text && end->len > END_MAX) {
        size_t drop = end->len - END_MAX;

        memmove(end->text, end->text + drop, END_MAX + 1);
        end->len = END_MAX;
    }
}

/* Whole lines go to the log; what redraws itself with a carriage return is a line, too. */
static void log_lines(struct env_build *b, const struct env_program *prog, struct ty_str *buf,
                      struct env_said *said, bool all)
{
    char *p = buf->text;
    size_t left = buf->len;

    while (left > 0) {
        size_t n = 0;
        CLEANUP_FREE char *masked = NULL;

        while (n < left && n < LINE_MAX_BYTES && p[n] != '\n' && p[n] != '\r')
            n++;
        if (n == left && n < LINE_MAX_BYTES && !all)
            break;
        CLEANUP_FREE char *line = strndup(p, n);
        n += n < left && (p[n] == '\n' || p[n] == '\r');
        p += n;
        left -= n;
        masked = line && *line ? ty_env_mask(line) : NULL;
        if (!masked)
            continue;
        keep_end(&said->end, masked);
        if (b->q->log)
            b->q->log(masked, b->q->ctx);
        if (prog->seen)
            prog->seen(b, masked);
        if (prog->hopeless && prog->hopeless(masked))
            said->hopeless = true;
    }
    if (buf->text) {
        memmove(buf->text, p, left);
        buf->text[left] = '\0';
    }
    buf->len = left;
}

static void read_some(int *fd, struct ty_str *into)
{
    char buf[16384];
    ssize_t n = read(*fd, buf, sizeof buf);

    if (n > 0 && into->len < OUT_MAX)
        ty_str_addn(into, buf, (size_t)n);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
        close(*fd);
        *fd = -1;
    }
}

static void write_some(int *fd, const char **input)
{
    size_t left = strlen(*input);
    ssize_t n = left ? write(*fd, *input, left) : 0;

    if (n > 0)
        *input += n;
    if (!**input || (n < 0 && errno != EINTR && errno != EAGAIN)) {
        close(*fd);
        *fd = -1;
    }
}

/* Until it has closed both of its outputs, or has said that it is hopeless.  -ETIMEDOUT, -ECANCELED. */
static int follow(struct env_build *b, const struct env_program *p, struct pipes *io,
                  struct env_said *said)
{
    int64_t end = ty_mono_us() + (int64_t)(p->limit_seconds ? p->limit_seconds : DAY_S) * 1000000;
    CLEANUP_STR struct ty_str lines = { 0 };
    const char *input = p->input ? p->input : "";

    while ((io->out >= 0 || io->log >= 0) && !said->hopeless) {
        struct pollfd fds[] = { { .fd = io->out, .events = POLLIN },
                                { .fd = io->log, .events = POLLIN },
                                { .fd = io->in, .events = POLLOUT } };
        int64_t left = end - ty_mono_us();

        if (left <= 0 || env_stopped(b))
            return left <= 0 ? -ETIMEDOUT : -ECANCELED;
        if (poll(fds, 3, (int)(left / 1000 < LOOK_MS ? left / 1000 + 1 : LOOK_MS)) < 0) {
            if (errno != EINTR)
                return -errno;
            continue;
        }
        if (fds[2].revents)
            write_some(&io->in, &input);
        if (fds[0].revents)
            read_some(&io->out, p->quiet ? &said->out : &lines);
        if (fds[1].revents)
            read_some(&io->log, &lines);
        log_lines(b, p, &lines, said, false);
    }
    log_lines(b, p, &lines, said, true);
    return 0;
}

static int open_pipes(int fds[6], struct ty_error *err)
{
    for (int i = 0; i < 3; i++)
        if (pipe2(fds + 2 * i, O_CLOEXEC) < 0)
            return ty_error_set(err, -errno, "cannot make a pipe: %m");
    return 0;
}

static void close_all(int *fds, int n)
{
    for (int i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int env_run(struct env_build *b, const struct env_program *p, struct env_said *said,
            struct ty_error *err)
{
    CLEANUP(vessel_done) struct vessel vessel = { 0 };
    int fds[6] = { -1, -1, -1, -1, -1, -1 }, status = 0, r;
    char **env = environment(p->more_env);
    pid_t pid = -1, self = getpid();
    struct pipes io;

    *said = (struct env_said){ 0 };
    r = env ? open_pipes(fds, err) : ty_error_oom(err);
    if (r == 0 && b->q->view)
        r = put_into(b, p, env, &vessel, err);
    if (r == 0 && (pid = fork()) < 0)
        r = ty_error_set(err, -errno, "cannot start '%s': %m", p->argv[0]);
    if (pid == 0)
        child(p, &vessel, p->cwd ? p->cwd : b->q->cache, env, self,
              (int[]){ fds[0], fds[3], fds[5] });
    free(env);
    if (r < 0) {
        close_all(fds, 6);
        return r;
    }
    close(fds[0]);
    close(fds[3]);
    close(fds[5]);
    /* As it does itself: whoever is first, it is done before it may have to be ended. */
    setpgid(pid, pid);
    io = (struct pipes){ .in = fds[1], .out = fds[2], .log = fds[4] };
    signal(SIGPIPE, SIG_IGN);
    r = follow(b, p, &io, said);
    if (r < 0 || said->hopeless)
        kill(-pid, SIGKILL);
    ty_wait(pid, &status);
    close_all((int[]){ io.in, io.out, io.log }, 3);
    if (b->q->view && (r < 0 || said->hopeless))
        remove_container(b, p, &vessel);
    said->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (r == -ETIMEDOUT)
        return ty_error_set(err, r, "%s took more than %d s and was ended ('%s')", p->doing,
                            p->limit_seconds, p->argv[0]);
    if (r == -ECANCELED)
        return ty_error_set(err, r, "%s was broken off", p->doing);
    return r < 0 ? ty_error_set(err, r, "cannot follow '%s': %s", p->argv[0], strerror(-r)) : 0;
}
