/* process.c - runners and couriers
 *
 * A runner is a session of its own and outlives the daemon.  It is watched through a pidfd, whether
 * this daemon started it or an earlier one did: a pidfd names one process, a pid only a number.
 */
#include "target/process.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct ty_job {
    struct ty_proc_id id;
    bool child; /* started by this process: its exit code can be had */
    bool over;
    int kills; /* times that it was asked to be killed */
    int pidfd;
    uv_poll_t poll;
    ty_job_ended ended;
    void *ctx;
};

static void closed(uv_handle_t *h)
{
    struct ty_job *job = h->data;

    close(job->pidfd);
    free(job);
}

struct ty_job *ty_process_free(struct ty_job *job)
{
    if (job) {
        job->ended = NULL;
        uv_close((uv_handle_t *)&job->poll, closed);
    }
    return NULL;
}

static int exit_code(struct ty_job *job)
{
    int status;

    if (!job->child || waitpid(job->id.pid, &status, WNOHANG) != job->id.pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static void on_runner_exit(uv_poll_t *poll, int status, int events)
{
    struct ty_job *job = poll->data;

    (void)status, (void)events;
    uv_poll_stop(poll);
    job->over = true;
    int code = exit_code(job);
    if (job->ended)
        job->ended(job->ctx, code);
}

static int watch(const struct ty_job_start *how, const struct ty_proc_id *id, bool child,
                 struct ty_job **ret, struct ty_error *err)
{
    CLEANUP_CLOSE int fd = ty_proc_open(id);
    struct ty_job *job;
    int r;

    if (fd < 0 && child) /* our own unreaped child exists even when it has ended already */
        fd = (int)syscall(SYS_pidfd_open, id->pid, 0);
    if (fd < 0)
        return ty_error_set(err, -ESRCH, "cannot watch the runner, process %d: %m", (int)id->pid);
    job = calloc(1, sizeof *job);
    if (!job)
        return ty_error_oom(err);
    job->id = *id;
    job->child = child;
    job->ended = how->ended;
    job->ctx = how->ctx;
    job->poll.data = job;
    r = uv_poll_init(how->loop, &job->poll, fd);
    if (r < 0) {
        free(job);
        return ty_error_set(err, r, "cannot watch the runner, process %d: %s", (int)id->pid,
                            uv_strerror(r));
    }
    job->pidfd = TAKE_FD(fd);
    r = uv_poll_start(&job->poll, UV_READABLE, on_runner_exit);
    if (r < 0) {
        ty_process_free(job);
        return ty_error_set(err, r, "cannot watch the runner, process %d: %s", (int)id->pid,
                            uv_strerror(r));
    }
    *ret = job;
    return 0;
}

/* The runner that holds the job folder, if one lives. */
static int running(const char *job_dir, struct ty_proc_id *ret)
{
    CLEANUP_FREE char *path = ty_path_join(job_dir, "runner.id");
    CLEANUP_FREE char *text = NULL;
    unsigned long long start;
    int pid;
    size_t n;

    if (!path)
        return -ENOMEM;
    if (ty_read_file(path, 256, &text, &n) < 0 ||
        sscanf(text, "%39s %d %llu", ret->boot, &pid, &start) != 3)
        return -ESRCH;
    ret->pid = pid;
    ret->start = start;
    return ty_proc_alive(ret) ? 0 : -ESRCH;
}

/* What of the daemon's environment goes through: hooks of tests, and for couriers what ssh asks for keys. */
static const char *const passed[] = { "TRAINYARD_TEST_BOOT_ID", "TY_FAULT", "TRAINYARD_TEST_NVML",
                                      "SSH_AUTH_SOCK" };
#define NPASSED (sizeof passed / sizeof *passed)

static int start_new(const struct ty_job_start *how, const char *verb, struct ty_job **ret,
                     struct ty_error *err)
{
    const char *argv[] = { how->agent, verb, how->job_dir, NULL };
    char *texts[NPASSED] = { NULL };
    const char *envp[NPASSED + 2] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    struct ty_spawn spawn = {
        .argv = argv, .envp = envp, .cwd = "/", .in = -1, .out = -1, .err = -1
    };
    struct ty_proc_id id = { 0 };
    int n = 1, r;
    pid_t pid;

    for (size_t i = 0; i < NPASSED; i++)
        if (getenv(passed[i]) && (texts[i] = ty_strf("%s=%s", passed[i], getenv(passed[i]))))
            envp[n++] = texts[i];
    r = ty_spawn(&spawn, &pid, err);
    for (size_t i = 0; i < NPASSED; i++)
        free(texts[i]);
    if (r < 0)
        return ty_error_prefix(err, "starting the %s", verb);
    if (ty_proc_identify(pid, &id) < 0)
        id.pid = pid; /* it has ended already; watch() sees the zombie, which is ours to reap */
    r = watch(how, &id, true, ret, err);
    if (r < 0) {
        kill(pid, SIGKILL);
        ty_wait(pid, NULL);
    }
    return r;
}

int ty_process_start(const struct ty_job_start *how, const char *verb, struct ty_job **ret,
                     struct ty_error *err)
{
    struct ty_proc_id id = { 0 };

    if (running(how->job_dir, &id) == 0 && watch(how, &id, false, ret, err) == 0)
        return 0;
    return start_new(how, verb, ret, err);
}

static void signal_runner(struct ty_job *job, int sig)
{
    if (job->over)
        return;
    if (ty_proc_signal(&job->id, sig) < 0 && errno != ESRCH)
        ty_log(TY_LOG_WARN, "cannot send signal %d to runner %d: %m", sig, (int)job->id.pid);
}

void ty_process_cancel(struct ty_job *job)
{
    signal_runner(job, SIGTERM);
}
void ty_process_kill(struct ty_job *job)
{
    signal_runner(job, SIGKILL);
}

int ty_process_kills(struct ty_job *job)
{
    return ++job->kills;
}
