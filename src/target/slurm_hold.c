/* slurm_hold.c - holding an allocation
 *
 * One poll loop: the control link to the keeper, the channels, the signals.  The control link is called again whenever it broke,
 * with a growing delay; what runs here does not depend on it.  An allocation that nobody asks for, and in which nothing runs,
 * is given back after ALONE_US.
 */
#include "target/slurm_hold.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/log.h"
#include "base/proc.h"
#include "target/slurm_lines.h"
#include "target/slurm_pump.h"
#include "target/slurm_warn.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CONFIG_MAX (1 << 20)
#define CHANNELS_MAX 64
#define DELAY_MIN_US (50 * 1000)
#define DELAY_MAX_US (2 * 1000 * 1000)
#define ALONE_US (60LL * 1000 * 1000)
#define PING_US (5 * 1000 * 1000)
#define SILENT_US (30 * 1000 * 1000) /* without a word from the keeper: the link is dead */
#define SENTINEL_US \
    (1000 * 1000) /* after the beginning, which it would delay: it takes four programs */
#define NEVER INT64_MAX
#define SENTINEL_PROCESSES 3 /* srun, which forks; `sleep` belongs to slurmstepd */

/* A link that is called: to the keeper, for control, or for a channel. */
struct line {
    struct ty_call *call; /* while it is called */
    struct ty_link *link; /* then */
    struct ty_lines lines;
};

struct channel {
    bool used, open; /* open: the pump has the link */
    struct line line;
    struct ty_pump pump;
    json_t *argv;
    char *token;
};

struct holder {
    json_t *config;
    const char *agent;
    char *address_file; /* NULL: none; owned */
    unsigned char key[TY_LINK_KEY];
    json_t *addresses; /* texts; owned */
    int port;
    const char *node; /* Slurm's name of this node */
    bool first;
    int signals;
    int64_t now_us, retry_us, delay_us, heard_us, spoken_us, alone_us;
    struct line control;
    struct channel channel[CHANNELS_MAX];
    int64_t sentinel_us;     /* when it is started */
    pid_t sentinel;          /* dies of the SIGTERM that preemption begins with; 0: none */
    pid_t others;            /* srun, which has brought this program to the other nodes; 0: none */
    bool used;               /* a channel was asked for */
    bool failed;             /* the other nodes cannot be had */
    bool ending, terminated; /* by the keeper; by Slurm, which will kill what does not end */
};

/* ---- lines to the keeper ---- */

static void line_close(struct line *l)
{
    l->call = ty_call_free(l->call);
    l->link = ty_link_free(l->link);
    ty_lines_done(&l->lines);
}

/* What a keeper that had to begin anew has left for us: where it listens now. */
static void read_address_file(struct holder *h)
{
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *o = NULL;
    struct ty_error err;
    size_t n;

    if (!h->address_file || ty_read_file(h->address_file, CONFIG_MAX, &text, &n) < 0 ||
        ty_json_parse(text, n, &o, &err) < 0 || !json_is_array(json_object_get(o, "addresses")))
        return;
    json_decref(h->addresses);
    h->addresses = json_incref(json_object_get(o, "addresses"));
    h->port = (int)json_integer_value(json_object_get(o, "port"));
}

static int line_call(struct holder *h, struct line *l)
{
    size_t n = json_array_size(h->addresses);
    CLEANUP(ty_freep) char *list = calloc(n + 1, sizeof(char *));
    char **texts = (char **)(void *)list;
    const json_t *a;
    size_t i;

    if (!texts)
        return -ENOMEM;
    n = 0;
    json_array_foreach (h->addresses, i, a)
        if (json_is_string(a))
            texts[n++] = (char *)(uintptr_t)json_string_value(a);
    return ty_call_new(texts, h->port, h->key, &l->call);
}

/* Go on calling: 0 once there is a link; -EAGAIN; or why nobody answers. */
static int line_turn(struct line *l, int64_t now_us)
{
    int r;

    if (l->link)
        return ty_link_turn(l->link, now_us);
    r = ty_call_turn(l->call, now_us, &l->link);
    if (r == 0)
        l->call = ty_call_free(l->call);
    return r;
}

static struct pollfd line_events(const struct line *l)
{
    struct pollfd p = { .fd = -1 };

    if (l->call)
        p = (struct pollfd){ .fd = ty_call_fd(l->call), .events = POLLIN };
    else if (l->link)
        p = (struct pollfd){ .fd = ty_link_fd(l->link), .events = ty_link_events(l->link) };
    if (l->link && ty_lines_waiting(&l->lines))
        p.events |= POLLOUT;
    return p;
}

static int64_t line_due(const struct line *l)
{
    return l->call ? ty_call_due(l->call) : l->link ? ty_link_due(l->link) : NEVER;
}

/* ---- what this node is ---- */

static json_t *cpus_here(void)
{
    json_t *list = json_array();
    cpu_set_t set;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set))
                json_array_append_new(list, json_integer(i));
    return list;
}

static json_t *gpus_here(void)
{
    const char *p = getenv("CUDA_VISIBLE_DEVICES");
    json_t *list = json_array();

    while (p && *p) {
        size_t n = strcspn(p, ",");

        if (n > 0 && !ty_starts_with(p, "NoDevFiles"))
            json_array_append_new(list, json_stringn(p, n));
        p += n;
        p += *p == ',';
    }
    return list;
}

static void introduce(struct holder *h)
{
    const char *job = getenv("SLURM_JOB_ID"), *cpus = getenv("SLURM_CPUS_PER_TASK"),
               *list = getenv("SLURM_JOB_NODELIST");
    int64_t n = 1;

    if (cpus)
        ty_parse_i64(cpus, &n);
    ty_lines_add(&h->control.lines,
                 json_pack("{s:s s:O? s:s s:s s:s s:b s:i s:o s:I s:o}", "kind", "node",
                           "allocation", json_object_get(h->config, "allocation"), "job",
                           job ? job : "", "node", h->node, "node_list", list ? list : "", "first",
                           h->first, "pid", (int)getpid(), "cpu_set", cpus_here(), "cpus",
                           (json_int_t)n, "gpus", gpus_here()));
}

/* ---- channels ---- */

static void channel_close(struct channel *c)
{
    line_close(&c->line);
    if (c->open)
        ty_pump_close(&c->pump);
    json_decref(c->argv);
    free(c->token);
    *c = (struct channel){ 0 };
}

static void channel_new(struct holder *h, const json_t *order)
{
    const char *token = json_string_value(json_object_get(order, "open"));
    json_t *argv = json_object_get(order, "argv");
    struct channel *c = h->channel;

    while (c < h->channel + CHANNELS_MAX && c->used)
        c++;
    if (c == h->channel + CHANNELS_MAX || !token || !json_is_array(argv) ||
        line_call(h, &c->line) < 0) {
        ty_log(TY_LOG_ERROR,
               "no channel can be opened: there are too many, or the order is broken");
        return;
    }
    c->used = true;
    c->argv = json_incref(argv);
    c->token = strdup(token);
    ty_lines_add(&c->line.lines, json_pack("{s:s s:s?}", "kind", "channel", "token", c->token));
}

/* "~/..." lies in the home folder of this node.  *own holds what was made. */
static const char *at_home(const char *argument, char **own)
{
    const char *home = getenv("HOME");

    if (*own || !home || !ty_starts_with(argument, "~/"))
        return argument;
    *own = ty_path_join(home, argument + 2);
    return *own ? *own : argument;
}

/* Start the far end of the channel: this program with the arguments that came, on one end of a socket pair. */
static int channel_start(struct holder *h, struct channel *c)
{
    size_t n = json_array_size(c->argv), i;
    CLEANUP(ty_freep) char *list = calloc(n + 2, sizeof(char *));
    const char **argv = (const char **)(void *)list;
    struct ty_error err = { 0 };
    const json_t *a;
    CLEANUP_FREE char *own = NULL;
    int ends[2], r;
    pid_t pid;

    if (!argv || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return argv ? -errno : -ENOMEM;
    argv[0] = h->agent;
    json_array_foreach (c->argv, i, a)
        argv[1 + i] = at_home(json_is_string(a) ? json_string_value(a) : "", &own);
    struct ty_spawn spawn = {
        .argv = argv, .cwd = "/", .in = ends[1], .out = ends[1], .err = STDERR_FILENO
    };
    r = ty_spawn(&spawn, &pid, &err);
    close(ends[1]);
    if (r < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.text);
        close(ends[0]);
        return r;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    c->open = true;
    r = ty_pump_open(&c->pump, TAKE(c->line.link), ends[0], NULL, 0);
    return r;
}

/* 0, or the channel is over. */
static int channel_turn(struct holder *h, struct channel *c)
{
    int r = 0;

    if (!c->open) {
        r = line_turn(&c->line, h->now_us);
        if (r == -EAGAIN)
            return 0;
        if (r == 0)
            r = ty_lines_send(&c->line.lines, -1, c->line.link);
        if (r == 0 && !ty_lines_waiting(&c->line.lines))
            r = channel_start(h, c);
        if (r < 0 || !c->open)
            return r;
    }
    return ty_pump_turn(&c->pump, h->now_us);
}

/* ---- the keeper's orders ---- */

static void hear_order(struct holder *h, const json_t *order)
{
    const char *warning = json_string_value(json_object_get(order, "warn"));

    h->heard_us = h->now_us;
    h->delay_us = DELAY_MIN_US;
    if (json_object_get(order, "open")) {
        h->used = true;
        channel_new(h, order);
    }
    if (warning)
        ty_slurm_warn(warning);
    if (json_is_true(json_object_get(order, "end")))
        h->ending = true;
}

static void control_broke(struct holder *h)
{
    line_close(&h->control);
    h->retry_us = h->now_us + h->delay_us;
    h->delay_us = 2 * h->delay_us < DELAY_MAX_US ? 2 * h->delay_us : DELAY_MAX_US;
    read_address_file(h);
}

static void control_turn(struct holder *h)
{
    struct line *l = &h->control;
    bool was = l->link != NULL;
    json_t *order;
    int r;

    if (!l->call && !l->link) {
        if (h->now_us < h->retry_us)
            return;
        if (line_call(h, l) < 0) {
            control_broke(h);
            return;
        }
    }
    r = line_turn(l, h->now_us);
    if (r == -EAGAIN)
        return;
    if (r == 0 && !was) {
        introduce(h);
        h->heard_us = h->spoken_us = h->now_us;
    }
    if (r == 0 && h->now_us - h->spoken_us >= PING_US) {
        ty_lines_add(&l->lines, json_pack("{s:s}", "kind", "ping"));
        h->spoken_us = h->now_us;
    }
    if (r == 0)
        r = ty_lines_send(&l->lines, -1, l->link);
    if (r == 0)
        r = ty_lines_read(&l->lines, -1, l->link);
    while (l->link && ty_lines_next(&l->lines, &order) == 0) {
        hear_order(h, order);
        json_decref(order);
    }
    if (r < 0 || h->now_us - h->heard_us > SILENT_US)
        control_broke(h);
}

/* ---- the other nodes ---- */

/* One of these on each node but the first, through srun; they read the same configuration. */
static int start_others(struct holder *h, int nodes, struct ty_error *err)
{
    CLEANUP_FREE char *text = ty_json_text(h->config);
    CLEANUP_FREE char *count = ty_strf("--nodes=%d", nodes - 1),
                      *tasks = ty_strf("--ntasks=%d", nodes - 1);
    CLEANUP_FREE char *cpus = NULL, *bcast = NULL;
    const char *per_task = getenv("SLURM_CPUS_PER_TASK"), *job = getenv("SLURM_JOB_ID"),
               *id = json_string_value(json_object_get(h->config, "allocation"));
    const char *argv[20];
    int n = 0, pipe_fds[2], r;

    argv[n++] = "/usr/bin/env"; /* srun is where the batch script's PATH says */
    argv[n++] = "srun";
    argv[n++] = "--overlap";
    argv[n++] = "--relative=1";
    argv[n++] = count;
    argv[n++] = tasks;
    argv[n++] = "--ntasks-per-node=1";
    argv[n++] = "--export=ALL";
    argv[n++] = "--cpu-bind=none";
    argv[n++] = "--wait=0";
    argv[n++] = "--kill-on-bad-exit=0";
    argv[n++] = "--chdir=/";
    if (per_task && (cpus = ty_strf("--cpus-per-task=%s", per_task)))
        argv[n++] = cpus;
    if (json_is_true(json_object_get(h->config, "bcast")) &&
        (bcast = ty_strf("--bcast=/tmp/trainyard-agent-%s-%s", job ? job : "0", id ? id : "")))
        argv[n++] = bcast;
    argv[n++] = h->agent;
    argv[n++] = "hold";
    argv[n] = NULL;
    if (!text || !count || !tasks || pipe2(pipe_fds, O_CLOEXEC) < 0)
        return ty_error_oom(err);
    struct ty_spawn spawn = {
        .argv = argv, .cwd = "/", .in = pipe_fds[0], .out = STDERR_FILENO, .err = STDERR_FILENO
    };
    r = ty_spawn(&spawn, &h->others, err);
    close(pipe_fds[0]);
    /* A line fits into the pipe: nobody has to read it yet. */
    if (r == 0 && (ty_write_all(pipe_fds[1], text, strlen(text)) < 0 ||
                   ty_write_all(pipe_fds[1], "\n", 1) < 0))
        r = ty_error_set(err, -EIO, "cannot hand srun its input: %m");
    close(pipe_fds[1]);
    return r;
}

/* Where Slurm preempts, a time of grace begins with SIGTERM to the steps, of which the batch process hears nothing: a step
 * that sleeps stands for it. */
static void start_sentinel(struct holder *h)
{
    static const char *const argv[] = {
        "/bin/sh", "-c",
        "c=$(scontrol show config) || exit 0; m=$(echo \"$c\" | sed -n 's/^PreemptMode *= *//p'); "
        "case $m in ''|OFF) exit 0;; esac; "
        "exec srun --overlap --nodes=1 --relative=0 --ntasks=1 --mem=0 --chdir=/ --export=ALL sleep infinity",
        NULL
    };
    struct ty_spawn spawn = { .argv = argv, .cwd = "/", .in = -1, .out = -1, .err = -1 };
    struct ty_error err;

    h->sentinel_us = NEVER;
    if (ty_spawn(&spawn, &h->sentinel, &err) < 0)
        ty_log(TY_LOG_WARN, "%s", err.text);
}

/* ---- the loop ---- */

static void warn(struct holder *h, const char *sign)
{
    ty_slurm_warn("Slurm ends this allocation soon\n");
    if (h->control.link)
        ty_lines_add(&h->control.lines, json_pack("{s:s s:s}", "kind", "signal", "signal", sign));
}

static void reap(struct holder *h)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        /* Nobody waits for nodes that do not come.  Of those that are lost later others tell. */
        if (pid == h->others) {
            h->others = 0;
            h->failed = status != 0 && !h->used && !h->terminated && !h->ending;
        }
        if (pid == h->sentinel) {
            h->sentinel = 0;
            if (status != 0 && !h->terminated && !h->ending)
                warn(h, "USR1");
        }
    }
}

static void hear_signals(struct holder *h)
{
    struct signalfd_siginfo info;

    while (read(h->signals, &info, sizeof info) == sizeof info) {
        const char *name = info.ssi_signo == SIGUSR1   ? "USR1"
                           : info.ssi_signo == SIGTERM ? "TERM"
                                                       : NULL;

        if (info.ssi_signo == SIGCHLD)
            reap(h);
        if (!name)
            continue;
        h->terminated |= info.ssi_signo == SIGTERM;
        if (info.ssi_signo == SIGUSR1)
            warn(h, name);
        else if (h->control.link)
            ty_lines_add(&h->control.lines,
                         json_pack("{s:s s:s}", "kind", "signal", "signal", name));
    }
}

static bool nothing_runs(const struct holder *h)
{
    for (const struct channel *c = h->channel; c < h->channel + CHANNELS_MAX; c++)
        if (c->used)
            return false;
    return ty_tree_signal(0) <= (h->sentinel ? SENTINEL_PROCESSES : 0);
}

/* Nobody asks for this allocation, or it is being ended, and nothing runs in it. */
static bool is_alone(struct holder *h)
{
    if (h->terminated && nothing_runs(h))
        return true;
    if (h->control.link || !nothing_runs(h)) {
        h->alone_us = h->now_us;
        return false;
    }
    return h->now_us - h->alone_us >= ALONE_US;
}

static int64_t earliest(const struct holder *h)
{
    int64_t due = h->control.call || h->control.link ? line_due(&h->control) : h->retry_us;

    if (h->sentinel_us < due)
        due = h->sentinel_us;
    if (h->control.link && h->spoken_us + PING_US < due)
        due = h->spoken_us + PING_US;
    for (const struct channel *c = h->channel; c < h->channel + CHANNELS_MAX; c++) {
        if (!c->used)
            continue;
        if (!c->open && line_due(&c->line) < due)
            due = line_due(&c->line);
        if (c->open && ty_pump_busy(&c->pump))
            due = 0;
    }
    return due;
}

static void wait_for_events(struct holder *h)
{
    struct pollfd p[2 + 2 * CHANNELS_MAX];
    int64_t us = earliest(h) - h->now_us;
    nfds_t n = 0;

    p[n++] = (struct pollfd){ .fd = h->signals, .events = POLLIN };
    p[n++] = line_events(&h->control);
    for (const struct channel *c = h->channel; c < h->channel + CHANNELS_MAX; c++) {
        if (!c->used)
            continue;
        if (c->open) {
            ty_pump_events(&c->pump, &p[n]);
            n += 2;
        } else {
            p[n++] = line_events(&c->line);
        }
    }
    if (h->control.link && ty_link_holds(h->control.link))
        us = 0;
    if (poll(p, n,
             us <= 0        ? 0
             : us > PING_US ? PING_US / 1000
                            : (int)((us + 999) / 1000)) < 0 &&
        errno != EINTR)
        ty_log(TY_LOG_ERROR, "poll: %m");
    h->now_us = ty_mono_us();
    if (p[0].revents)
        hear_signals(h);
}

static void loop(struct holder *h)
{
    while (!h->ending && !h->failed && !is_alone(h)) {
        control_turn(h);
        if (h->now_us >= h->sentinel_us)
            start_sentinel(h);
        for (struct channel *c = h->channel; c < h->channel + CHANNELS_MAX; c++)
            if (c->used && channel_turn(h, c) != 0)
                channel_close(c);
        if (!h->ending)
            wait_for_events(h);
    }
}

/* ---- beginning ---- */

static int read_config(struct holder *h, struct ty_error *err)
{
    CLEANUP_FREE char *text = malloc(CONFIG_MAX);
    CLEANUP_FREE char *own = NULL;
    ssize_t n = text ? ty_read_full(STDIN_FILENO, text, CONFIG_MAX) : -ENOMEM;
    const char *key, *path;
    int r;

    if (n < 0)
        return ty_error_set(err, (int)n, "cannot read the configuration: %s", strerror((int)-n));
    r = ty_json_parse(text, (size_t)n, &h->config, err);
    if (r < 0)
        return r;
    key = json_string_value(json_object_get(h->config, "key"));
    h->addresses = json_incref(json_object_get(h->config, "addresses"));
    h->port = (int)json_integer_value(json_object_get(h->config, "port"));
    path = json_string_value(json_object_get(h->config, "address_file"));
    h->address_file = path ? strdup(at_home(path, &own)) : NULL;
    if (!key || ty_link_key_parse(key, h->key) < 0 || !json_is_array(h->addresses))
        return ty_error_set(err, -EINVAL, "the configuration has no key, or no addresses");
    return 0;
}

static int watch_signals(struct holder *h)
{
    sigset_t mask;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    h->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return h->signals < 0 ? -errno : 0;
}

int ty_slurm_hold_main(const char *agent)
{
    struct holder *h = calloc(1, sizeof *h);
    const char *step = getenv("SLURM_STEP_ID"), *node = getenv("SLURMD_NODENAME"),
               *count = getenv("SLURM_JOB_NUM_NODES");
    struct ty_error err = { 0 };
    int64_t nodes = 1;
    int r = h ? read_config(h, &err) : ty_error_oom(&err);

    if (r < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.text);
        return 1;
    }
    prctl(PR_SET_NAME, "trainyard-hold");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    h->agent = agent;
    h->node = node ? node : "";
    h->first = !step;
    h->delay_us = DELAY_MIN_US;
    h->now_us = h->alone_us = ty_mono_us();
    r = watch_signals(h);
    control_turn(h); /* the call is on its way while srun is started */
    if (count)
        ty_parse_i64(count, &nodes);
    if (r == 0 && h->first && nodes > 1)
        r = start_others(h, (int)nodes, &err);
    h->sentinel_us = h->first ? h->now_us + SENTINEL_US : NEVER;
    if (r < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.code ? err.text : strerror(-r));
        return 1;
    }
    loop(h);
    if (h->address_file && json_is_true(json_object_get(h->config, "bcast")))
        unlink(h->address_file); /* it is this node's own */
    return h->failed;
}
