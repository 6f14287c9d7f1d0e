/* local.c - runners on this box
 *
 * A runner is a session of its own and outlives the daemon.  It is watched through a pidfd, whether
 * this daemon started it or an earlier one did: a pidfd names one process, a pid only a number.
 */
#include "target/local.h"
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
    int pidfd;
    uv_poll_t poll;
    ty_job_ended ended;
    void *ctx;
};

static int local_check(const struct ty_target_spec *target, const struct ty_run_spec *run,
                       struct ty_str *warning, struct ty_error *err)
{
    if (!run->use_gpu || ty_target_gpus() > 0)
        return 0;
    if (target->require_gpu)
        return ty_error_set(
            err, -EINVAL,
            "use_gpu is true, and target '%s' has no GPU but requires one (require_gpu); "
            "set use_gpu=False, or require_gpu=false on the target to run on the CPU",
            run->target);
    ty_str_addf(warning, "use_gpu is true, but target '%s' has no GPU: the run uses the CPU",
                run->target);
    return 0;
}

static void closed(uv_handle_t *h)
{
    struct ty_job *job = h->data;

    close(job->pidfd);
    free(job);
}

static struct ty_job *local_free(struct ty_job *job)
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
        local_free(job);
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

static int start_new(const struct ty_job_start *how, struct ty_job **ret, struct ty_error *err)
{
    CLEANUP_FREE char *boot = NULL;
    const char *argv[] = { how->agent, "runner", how->job_dir, NULL };
    const char *test_boot = getenv("TRAINYARD_TEST_BOOT_ID"), *fault = getenv("TY_FAULT");
    const char *nvml = getenv("TRAINYARD_TEST_NVML");
    const char *envp[5] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    CLEANUP_FREE char *fault_text = NULL, *nvml_text = NULL;
    struct ty_spawn spawn = {
        .argv = argv, .envp = envp, .cwd = "/", .in = -1, .out = -1, .err = -1
    };
    struct ty_proc_id id = { 0 };
    int n = 1, r;
    pid_t pid;

    if (test_boot && (boot = ty_strf("TRAINYARD_TEST_BOOT_ID=%s", test_boot)))
        envp[n++] = boot;
    if (fault && (fault_text = ty_strf("TY_FAULT=%s", fault)))
        envp[n++] = fault_text;
    if (nvml && (nvml_text = ty_strf("TRAINYARD_TEST_NVML=%s", nvml)))
        envp[n++] = nvml_text;
    r = ty_spawn(&spawn, &pid, err);
    if (r < 0)
        return ty_error_prefix(err, "starting the runner");
    if (ty_proc_identify(pid, &id) < 0)
        id.pid = pid; /* it has ended already; watch() sees the zombie, which is ours to reap */
    r = watch(how, &id, true, ret, err);
    if (r < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return r;
}

static int local_start(const struct ty_job_start *how, struct ty_job **ret, struct ty_error *err)
{
    struct ty_proc_id id = { 0 };

    if (running(how->job_dir, &id) == 0 && watch(how, &id, false, ret, err) == 0)
        return 0;
    return start_new(how, ret, err);
}

static void signal_runner(struct ty_job *job, int sig)
{
    if (job->over)
        return;
    if (ty_proc_signal(&job->id, sig) < 0 && errno != ESRCH)
        ty_log(TY_LOG_WARN, "cannot send signal %d to runner %d: %m", sig, (int)job->id.pid);
}

static void local_cancel(struct ty_job *job)
{
    signal_runner(job, SIGTERM);
}
static void local_kill(struct ty_job *job)
{
    signal_runner(job, SIGKILL);
}

const struct ty_target_kind ty_target_local = {
    .name = "local",
    .check = local_check,
    .start = local_start,
    .cancel = local_cancel,
    .kill = local_kill,
    .free = local_free,
};
