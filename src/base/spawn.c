/* spawn.c - start a program with nothing inherited but what the spec names
 *
 * Parent and child share a close-on-exec pipe: its end of file means that exec worked, and what comes through it
 * says which step failed and why.  Between fork and exec the child calls only what is allowed after a fork of a
 * process with threads.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/proc.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

enum { HIGH_FD = 64, CLOSE_ONE_BY_ONE_MAX = 65536 };

enum step { STEP_FDS, STEP_OWNER, STEP_CWD, STEP_EXEC };

struct report {
    enum step step;
    int error;
};

/* ---- in the child ---- */

static void close_from_to(unsigned first, unsigned last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    for (unsigned fd = first; fd <= last && fd < CLOSE_ONE_BY_ONE_MAX; fd++)
        close((int)fd);
}

/* Close everything from 3 up but spec->keep and `pipe_fd`. */
static void close_rest(const struct ty_spawn *spec, int pipe_fd)
{
    unsigned from = 3;

    for (;;) {
        unsigned next = (unsigned)pipe_fd >= from ? (unsigned)pipe_fd : ~0u;

        for (int i = 0; i < spec->nkeep; i++)
            if ((unsigned)spec->keep[i] >= from && (unsigned)spec->keep[i] < next)
                next = (unsigned)spec->keep[i];
        if (next == ~0u)
            break;
        if (next > from)
            close_from_to(from, next - 1);
        from = next + 1;
    }
    close_from_to(from, ~0u);
}

/* Make 0, 1, 2 what the spec says.  All are first copied high, because any of them may be 0, 1 or 2 itself. */
static int arrange_fds(const struct ty_spawn *spec, int pipe_fd)
{
    int wanted[3] = { spec->in, spec->out, spec->err };
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int i = 0; i < 3; i++) {
        wanted[i] = fcntl(wanted[i] >= 0 ? wanted[i] : null, F_DUPFD_CLOEXEC, HIGH_FD);
        if (wanted[i] < 0)
            return -errno;
    }
    for (int i = 0; i < 3; i++)
        if (dup2(wanted[i], i) < 0)
            return -errno;
    for (int i = 0; i < spec->nkeep; i++)
        if (fcntl(spec->keep[i], F_SETFD, 0) < 0)
            return -errno;
    close_rest(spec, pipe_fd);
    return 0;
}

static void default_signals(void)
{
    struct sigaction plain = { .sa_handler = SIG_DFL };
    sigset_t none;

    for (int sig = 1; sig < _NSIG; sig++)
        sigaction(sig, &plain, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child(const struct ty_spawn *spec, int pipe_fd)
{
    char *const *envp = spec->envp ? (char *const *)spec->envp : environ;
    struct report report = { .step = STEP_FDS };

    setsid();
    default_signals();
    /* It may be 0, 1 or 2 when those were closed. */
    pipe_fd = fcntl(pipe_fd, F_DUPFD_CLOEXEC, HIGH_FD);
    report.error = -arrange_fds(spec, pipe_fd);
    if (!report.error && spec->owner) {
        report.step = STEP_OWNER;
        report.error = -ty_owner_become(spec->owner);
    }
    if (!report.error && spec->cwd && chdir(spec->cwd) < 0) {
        report.step = STEP_CWD;
        report.error = errno;
    }
    if (!report.error) {
        execve(spec->argv[0], (char *const *)spec->argv, envp);
        report.step = STEP_EXEC;
        report.error = errno;
    }
    /* A short write leaves the parent with a report that it calls -EIO. */
    if (write(pipe_fd, &report, sizeof report) < 0)
        _exit(126);
    _exit(127);
}

/* ---- in the parent ---- */

static int explain(const struct ty_spawn *spec, const struct report *report, struct ty_error *err)
{
    struct stat st;

    errno = report->error;
    if (report->step == STEP_OWNER)
        return ty_error_set(err, -errno, "cannot start '%s' as user '%s': %m", spec->argv[0],
                            spec->owner->name);
    if (report->step == STEP_CWD)
        return ty_error_set(err, -errno, "cannot start '%s' in the folder '%s': %m", spec->argv[0],
                            spec->cwd);
    if (report->step == STEP_EXEC && errno == ENOENT && spec->argv[0][0] == '/' &&
        stat(spec->argv[0], &st) == 0)
        return ty_error_set(
            err, -ENOENT,
            "cannot start '%s': the interpreter that its first line names, or its loader, is not there",
            spec->argv[0]);
    errno = report->error;
    if (report->step == STEP_EXEC && errno == ENOEXEC)
        return ty_error_set(
            err, -ENOEXEC,
            "cannot start '%s': it is no program, and no script that begins with '#!'",
            spec->argv[0]);
    return ty_error_set(err, -errno, "cannot start '%s': %m", spec->argv[0]);
}

/* fork() with every signal held back, so that no handler of ours runs in the child. */
static pid_t fork_quietly(const struct ty_spawn *spec, int pipe_fd)
{
    sigset_t all, before;
    int saved;
    pid_t pid;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = FAULT("proc.fork", -1, fork());
    if (pid == 0)
        child(spec, pipe_fd);
    saved = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return pid;
}

int ty_wait(pid_t pid, int *status)
{
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int ty_spawn(const struct ty_spawn *spec, pid_t *ret, struct ty_error *err)
{
    CLEANUP_CLOSE int from_child = -1;
    struct report report = { .error = EIO };
    int pipe_fds[2];
    ssize_t got;
    pid_t pid;

    if (FAULT("proc.pipe", -1, pipe2(pipe_fds, O_CLOEXEC)) < 0)
        return ty_error_set(err, -errno, "cannot start '%s': %m", spec->argv[0]);
    from_child = pipe_fds[0];
    pid = fork_quietly(spec, pipe_fds[1]);
    if (pid < 0) {
        int r = ty_error_set(err, -errno, "cannot start '%s': %m", spec->argv[0]);

        close(pipe_fds[1]);
        return r;
    }
    close(pipe_fds[1]);
    got = ty_read_full(from_child, &report, sizeof report);
    if (got == 0) {
        *ret = pid;
        return 0;
    }
    if (got != (ssize_t)sizeof report)
        kill(pid, SIGKILL); /* it may live, but nobody would know of it */
    ty_wait(pid, NULL);
    if (got != (ssize_t)sizeof report)
        report = (struct report){ .error = EIO };
    return explain(spec, &report, err);
}
