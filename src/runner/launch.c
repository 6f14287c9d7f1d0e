/* launch.c - starting a rank wrapper */
#include "runner/launch.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static json_t *strings(char *const *v)
{
    json_t *list = json_array();

    for (; list && *v; v++)
        if (json_array_append_new(list, json_string(*v)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *numbers(const int *v, int n)
{
    json_t *list = json_array();

    for (int i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_integer(v[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* The plan goes through memory: command lines and environments may hold what others must not see. */
static int plan_fd(const struct ty_launch_spec *s)
{
    CLEANUP_JSON json_t *o = json_pack(
        "{s:s, s:s, s:i, s:I, s:o, s:o, s:o, s:o*}", "work", s->work, "log", s->log, "oom", s->oom,
        "files", (json_int_t)s->files, "argv", strings(s->argv), "env", strings(s->env), "cpus",
        numbers(s->cpus, s->ncpus), "after", s->after ? strings(s->after) : NULL);
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!text)
        return -ENOMEM;
    fd = memfd_create("trainyard-plan", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = ty_pwrite_all(fd, text, strlen(text), 0);
    return r < 0 ? r : TAKE_FD(fd);
}

int ty_rank_start(const struct ty_launch_spec *s, struct ty_rank *ret, struct ty_error *err)
{
    CLEANUP_FREE char *mark = ty_strf("TRAINYARD_JOB=%s", s->job_dir);
    CLEANUP_CLOSE int plan = plan_fd(s), mine = -1, its = -1;
    char line_arg[16], plan_arg[16];
    const char *argv[] = { "/proc/self/exe", "rank", line_arg, plan_arg, NULL };
    const char *fault = getenv("TY_FAULT");
    CLEANUP_FREE char *fault_env = fault ? ty_strf("TY_FAULT=%s", fault) : NULL;
    const char *env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", mark, fault_env, NULL };
    struct ty_spawn spawn = { .argv = argv,
                              .envp = env,
                              .cwd = "/",
                              .in = -1,
                              .out = s->err,
                              .err = s->err,
                              .owner = s->owner };
    pid_t pid = 0;
    int fds[2], r;

    if (!mark || (fault && !fault_env))
        return ty_error_oom(err);
    if (plan < 0)
        return ty_error_set(err, plan, "cannot write the plan of the process: %s", strerror(-plan));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return ty_error_set(err, -errno, "cannot make a socket: %m");
    mine = fds[0];
    its = fds[1];
    snprintf(line_arg, sizeof line_arg, "%d", its);
    snprintf(plan_arg, sizeof plan_arg, "%d", plan);
    spawn.keep[spawn.nkeep++] = its;
    spawn.keep[spawn.nkeep++] = plan;
    r = ty_spawn(&spawn, &pid, err);
    if (r < 0)
        return ty_error_prefix(err, "starting the rank wrapper");
    *ret = (struct ty_rank){ .pid = pid, .line = TAKE_FD(mine) };
    return 0;
}

int ty_rank_report(struct ty_rank *r, struct ty_report *ret)
{
    ssize_t n = recv(r->line, ret, sizeof *ret, MSG_DONTWAIT);

    if (n == (ssize_t)sizeof *ret) {
        ret->text[sizeof ret->text - 1] = '\0';
        return 0;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : -EPIPE;
}

void ty_rank_done(struct ty_rank *r)
{
    if (r->line >= 0)
        close(r->line);
    *r = (struct ty_rank)TY_RANK_INIT;
}
