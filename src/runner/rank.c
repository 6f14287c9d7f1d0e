/* rank.c - the rank wrapper */
#include "runner/rank.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "runner/launch.h"
#include "runner/oom.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_MS 5000
#define PLAN_MAX (256 << 20)
#define AFTER_MS 10000 /* for the tool that removes what is left of a container */

struct rank {
    int line, signals;
    pid_t program; /* 0: not started, or reaped */
    int status;    /* of the program, once it is reaped */
};

static void report(struct rank *k, enum ty_report_kind kind, int value, const char *text)
{
    struct ty_report rep = { .kind = kind, .value = value };

    snprintf(rep.text, sizeof rep.text, "%s", text);
    /* A runner that is gone shows as the line's end in the loop. */
    if (send(k->line, &rep, sizeof rep, MSG_NOSIGNAL) < 0)
        return;
}

static const char **strings(const json_t *list)
{
    size_t n = json_array_size(list);
    const char **v = calloc(n + 1, sizeof *v);

    for (size_t i = 0; v && i < n; i++)
        v[i] = json_string_value(json_array_get(list, i));
    return v;
}

static json_t *read_plan(int fd)
{
    CLEANUP_FREE char *text = NULL;
    struct stat st;
    json_t *o = NULL;

    if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > PLAN_MAX ||
        !(text = malloc((size_t)st.st_size)))
        return NULL;
    if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size ||
        ty_json_parse(text, (size_t)st.st_size, &o, NULL) < 0)
        return NULL;
    return o;
}

/* To the CPUs that the scheduler gave, and their memory follows.  Where that cannot be (a CPU that went off line, a cgroup
 * that allows others only), a slower job is better than none. */
static void bind_cpus(const json_t *list)
{
    size_t n = json_array_size(list), i;
    int highest = 0;
    const json_t *v;
    cpu_set_t *set;

    json_array_foreach (list, i, v)
        if (json_integer_value(v) > highest)
            highest = (int)json_integer_value(v);
    set = n > 0 ? CPU_ALLOC(highest + 1) : NULL;
    if (!set)
        return;
    CPU_ZERO_S(CPU_ALLOC_SIZE(highest + 1), set);
    json_array_foreach (list, i, v)
        CPU_SET_S((size_t)json_integer_value(v), CPU_ALLOC_SIZE(highest + 1), set);
    if (sched_setaffinity(0, CPU_ALLOC_SIZE(highest + 1), set) < 0)
        ty_log(TY_LOG_WARN, "cannot bind the process to its %zu CPUs: %m", n);
    CPU_FREE(set);
}

/* Back to what it was before the runner needed more. */
static void limit_files(int64_t n)
{
    struct rlimit limit;

    if (n <= 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = (rlim_t)n;
    setrlimit(RLIMIT_NOFILE, &limit); /* lower: nothing can be wrong with it */
}

static int start(struct rank *k, const json_t *plan, struct ty_error *err)
{
    const char *work = json_string_value(json_object_get(plan, "work"));
    const char *log = json_string_value(json_object_get(plan, "log"));
    const char **argv = strings(json_object_get(plan, "argv")),
               **env = strings(json_object_get(plan, "env"));
    CLEANUP_CLOSE int out = open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
    struct ty_spawn spawn = {
        .argv = argv, .envp = env, .cwd = work, .in = -1, .out = out, .err = out
    };
    int mine = ty_oom_get(), r;

    if (out < 0)
        r = ty_error_set(err, -errno, "cannot open the log '%s': %m", log);
    else if (!argv || !env || !argv[0])
        r = ty_error_set(err, -EINVAL, "there is no program to start");
    else {
        ty_oom_set((int)json_integer_value(json_object_get(plan, "oom")));
        bind_cpus(json_object_get(plan, "cpus"));
        limit_files(json_integer_value(json_object_get(plan, "files")));
        r = ty_spawn(&spawn, &k->program, err);
        ty_oom_set(mine);
    }
    free(argv);
    free(env);
    return r;
}

static void reaped(pid_t pid, int status, void *ctx)
{
    struct rank *k = ctx;

    if (pid != k->program)
        return;
    k->program = 0;
    k->status = status;
}

/* The tool that had started the program was killed, and what it made is still there: a container, by its name. */
static void clear_up(const json_t *plan)
{
    const char **argv = strings(json_object_get(plan, "after")),
               **env = strings(json_object_get(plan, "env"));
    struct ty_spawn spawn = {
        .argv = argv, .envp = env, .cwd = "/", .in = -1, .out = -1, .err = -1
    };
    int64_t end = ty_mono_us() + AFTER_MS * 1000;
    struct ty_error err;
    pid_t pid = 0;

    if (argv && argv[0] && env && ty_spawn(&spawn, &pid, &err) == 0)
        while (waitpid(pid, NULL, WNOHANG) == 0 && ty_mono_us() < end)
            poll(NULL, 0, 10);
    free(argv);
    free(env);
    if (pid > 0)
        ty_tree_kill(KILL_MS, NULL, NULL);
}

/* The runner was killed before there was a program: then there will be none. */
static bool abandoned(const struct rank *k)
{
    struct pollfd p = { .fd = k->line, .events = POLLIN };

    return poll(&p, 1, 0) > 0;
}

/* True when the program ended, false when the runner is gone. */
static bool follow(struct rank *k)
{
    struct pollfd p[2] = { { .fd = k->line, .events = POLLIN },
                           { .fd = k->signals, .events = POLLIN } };

    while (k->program) {
        struct signalfd_siginfo info;
        pid_t pid;
        int status;

        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return false;
        if (p[0].revents)
            return false; /* the runner never sends: this is the end of the line */
        if (p[1].revents && read(k->signals, &info, sizeof info) < 0 && errno != EAGAIN)
            return false;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            reaped(pid, status, k);
    }
    return true;
}

static int watch_signals(void)
{
    sigset_t mask;

    /* The runner signals the whole tree; the wrapper stays until its program has gone. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    return signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int descriptor(const char *text)
{
    int64_t n;

    if (ty_parse_i64(text, &n) < 0 || n < 3 || n > 1 << 20 ||
        fcntl((int)n, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return (int)n;
}

int ty_rank_main(int argc, char **argv)
{
    struct rank k = { .line = argc == 4 ? descriptor(argv[2]) : -1 };
    CLEANUP_CLOSE int plan_fd = argc == 4 ? descriptor(argv[3]) : -1;
    CLEANUP_JSON json_t *plan = NULL;
    struct ty_error err;
    int r;

    if (k.line < 0 || plan_fd < 0) {
        ty_log(TY_LOG_ERROR, "'rank' is started by the runner only");
        return 2;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, TY_RANK_COMM);
    k.signals = watch_signals();
    plan = read_plan(plan_fd);
    if (abandoned(&k))
        return 1;
    r = !plan || k.signals < 0 ? ty_error_set(&err, -EIO, "cannot read the plan of the process")
                               : start(&k, plan, &err);
    if (r < 0) {
        report(&k, TY_REPORT_FAILED, r, err.text);
        return 127;
    }
    report(&k, TY_REPORT_STARTED, k.program, "");
    bool ended = follow(&k);
    if (ty_tree_kill(KILL_MS, reaped, &k) < 0)
        ty_log(TY_LOG_WARN, "some processes of the job did not end within %d ms of SIGKILL",
               KILL_MS);
    if (!ended || WIFSIGNALED(k.status))
        clear_up(plan);
    if (!ended)
        return 1;
    report(&k, TY_REPORT_EXITED, k.status, "");
    return WIFEXITED(k.status) ? WEXITSTATUS(k.status) : 128 + WTERMSIG(k.status);
}
