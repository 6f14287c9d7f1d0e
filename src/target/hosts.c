/* hosts.c - machines that are reached over ssh: jobs by a courier, questions by a helper process
 *
 * The helper is `trainyard-agent probe FD`: it prints one line of JSON and ends.  What it is to ask for is in a file in memory.
 */
#include "target/hosts.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "target/courier.h"
#include "target/process.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ANSWER_MAX (1 << 20)

struct ty_probe {
    uv_poll_t poll;
    int fd;
    pid_t pid;  /* 0: reaped */
    char *host; /* its name, for error texts */
    struct ty_str said;
    void (*done)(void *ctx, int r, json_t *facts, const struct ty_error *err);
    void *ctx;
};

static int hosts_check(const struct ty_target_spec *target, const struct ty_run_spec *run,
                       struct ty_str *warning, struct ty_error *err)
{
    (void)warning;
    if (run->node_count > target->nhosts)
        return ty_error_set(
            err, -EINVAL,
            "the run asks for %d nodes, and target '%s' has %d host%s; ask for fewer "
            "(node_count), or add hosts to the target",
            run->node_count, run->target, target->nhosts, target->nhosts == 1 ? "" : "s");
    return 0;
}

/* --- probe --- */

static void closed(uv_handle_t *h)
{
    struct ty_probe *p = h->data;

    close(p->fd);
    ty_str_done(&p->said);
    free(p->host);
    free(p);
}

static void end_helper(struct ty_probe *p)
{
    if (p->pid == 0)
        return;
    kill(p->pid, SIGKILL); /* it has said all that it had to say */
    ty_wait(p->pid, NULL);
    p->pid = 0;
}

static struct ty_probe *hosts_probe_free(struct ty_probe *p)
{
    if (p && p->done) {
        p->done = NULL;
        end_helper(p);
        uv_close((uv_handle_t *)&p->poll, closed);
    }
    return NULL;
}

static void tell(struct ty_probe *p)
{
    void (*done)(void *ctx, int r, json_t *facts, const struct ty_error *err) = p->done;
    void *ctx = p->ctx;
    CLEANUP_JSON json_t *o = NULL;
    struct ty_error err = { 0 };
    const char *why;
    int r = -EPROTO;

    if (p->said.len > 0 && ty_json_parse(p->said.text, p->said.len, &o, NULL) == 0 &&
        json_is_object(o)) {
        why = json_string_value(json_object_get(o, "error"));
        r = why ? ty_error_set(&err, -EHOSTUNREACH, "%s", why) : 0;
    } else {
        ty_error_set(&err, r, "host '%s': the process that asked it ended without an answer",
                     p->host);
    }
    hosts_probe_free(p);
    done(ctx, r, r == 0 ? o : NULL, &err);
}

static void on_answer(uv_poll_t *poll, int status, int events)
{
    struct ty_probe *p = poll->data;
    char buf[16 * 1024];
    ssize_t n;

    (void)status, (void)events;
    while ((n = read(p->fd, buf, sizeof buf)) > 0 && p->said.len < ANSWER_MAX)
        ty_str_addn(&p->said, buf, (size_t)n);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    uv_poll_stop(poll);
    tell(p);
}

static int plan_fd(const struct ty_probe_start *how, struct ty_error *err)
{
    CLEANUP_JSON json_t *o = json_pack("{s:O s:s s:s*}", "target", how->target->json, "host",
                                       how->host->host, "run_as", how->user);
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!text)
        return ty_error_oom(err);
    fd = memfd_create("trainyard-probe", MFD_CLOEXEC);
    r = fd < 0 ? -errno : ty_pwrite_all(fd, text, strlen(text), 0);
    return r < 0 ? ty_error_set(err, r, "cannot write what is to be asked: %s", strerror(-r))
                 : TAKE_FD(fd);
}

static int start_helper(const struct ty_probe_start *how, struct ty_probe *p, struct ty_error *err)
{
    CLEANUP_CLOSE int plan = plan_fd(how, err);
    const char *sock = getenv("SSH_AUTH_SOCK"), *nvml = getenv("TRAINYARD_TEST_NVML");
    CLEANUP_FREE char *sock_text = sock ? ty_strf("SSH_AUTH_SOCK=%s", sock) : NULL;
    CLEANUP_FREE char *nvml_text = nvml ? ty_strf("TRAINYARD_TEST_NVML=%s", nvml) : NULL;
    char arg[16];
    const char *argv[] = { how->agent, "probe", arg, NULL };
    const char *envp[4] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    struct ty_spawn spawn = { .argv = argv, .envp = envp, .cwd = "/", .in = -1, .err = -1 };
    int fds[2], n = 1, r;

    if (plan < 0)
        return plan;
    if (sock_text)
        envp[n++] = sock_text;
    if (nvml_text)
        envp[n++] = nvml_text;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return ty_error_set(err, -errno, "cannot make a pipe: %m");
    snprintf(arg, sizeof arg, "%d", plan);
    spawn.out = fds[1];
    spawn.keep[spawn.nkeep++] = plan;
    r = ty_spawn(&spawn, &p->pid, err);
    close(fds[1]);
    if (r < 0) {
        close(fds[0]);
        return r;
    }
    p->fd = fds[0];
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
    return 0;
}

static int hosts_probe(const struct ty_probe_start *how, struct ty_probe **ret,
                       struct ty_error *err)
{
    struct ty_probe *p = calloc(1, sizeof *p);
    int r;

    if (!p || !(p->host = strdup(how->host->host))) {
        free(p);
        return ty_error_oom(err);
    }
    r = start_helper(how, p, err);
    if (r < 0) {
        free(p->host);
        free(p);
        return r;
    }
    p->done = how->done;
    p->ctx = how->ctx;
    p->poll.data = p;
    r = uv_poll_init(how->loop, &p->poll, p->fd);
    if (r < 0) {
        end_helper(p);
        close(p->fd);
        free(p->host);
        free(p);
        return ty_error_set(err, r, "cannot wait for an answer: %s", uv_strerror(r));
    }
    r = uv_poll_start(&p->poll, UV_READABLE, on_answer);
    if (r < 0) {
        hosts_probe_free(p);
        return ty_error_set(err, r, "cannot wait for an answer: %s", uv_strerror(r));
    }
    *ret = p;
    return 0;
}

const struct ty_target_kind ty_target_hosts = {
    .name = "hosts",
    .check = hosts_check,
    .start = ty_courier_start,
    .cancel = ty_process_cancel,
    .kill = ty_courier_kill,
    .free = ty_process_free,
    .probe = hosts_probe,
    .probe_free = hosts_probe_free,
    .couriers = true,
};
