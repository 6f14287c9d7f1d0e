/* runner.c - beginning, waiting for events, ending
 *
 * One thread, one poll loop.  A turn: hear what happened, act on it (life.c), write records, send
 * (deliver.c), wait.  Nothing waits for the daemon; work that takes long is done by a child
 * (child.h).
 */
#include "runner/runner.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/proc.h"
#include "base/str.h"
#include "runner/lead.h"
#include "runner/oom.h"
#include "runner/runner_internal.h"
#include "runner/sync.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WRITE_RETRY_US (1000 * 1000)
#define OOM_PROTECT (-500)
#define FILES_OF_ITS_OWN 128
#define FILES_OF_A_RANK 4
#define LOCK_WAIT_US \
    (10 * 1000 * 1000) /* on a busy machine a fresh process may not run for seconds */
#define LOCK_LOOK_US 2000

void ty_runner_note(struct ty_runner *r, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str line = { 0 };
    char time[32];
    va_list ap;

    ty_str_addf(&line, "%s ", ty_time_iso(ty_wall_us(), time));
    va_start(ap, fmt);
    ty_str_addv(&line, fmt, ap);
    va_end(ap);
    ty_str_add(&line, "\n");
    if (!line.failed && write(r->logs.at[TY_LOG_CONTROL].tail.fd, line.text, line.len) < 0)
        ty_log(TY_LOG_WARN, "cannot write to the control log: %m");
}

uint64_t ty_runner_record(struct ty_runner *r, json_t *o)
{
    return ty_records_add(r->records, o);
}

void ty_runner_warning(struct ty_runner *r, const char *text)
{
    ty_runner_note(r, "warning: %s", text);
    ty_runner_record(
        r, json_pack("{s:s, s:o}", "kind", "warning", "text", ty_lossy_text(text, strlen(text))));
}

void ty_runner_reaped(pid_t pid, int status, void *ctx)
{
    struct ty_runner *r = ctx;

    ty_child_reaped(&r->child, pid, status);
    ty_child_reaped(&r->syncer, pid, status);
    ty_child_reaped(&r->sampler, pid, status);
    ty_helpers_reaped(r, pid, status);
    ty_ranks_reaped(&r->ranks, pid, status);
    if (r->lead)
        ty_lead_reaped(r->lead, pid, status);
}

void ty_runner_reap(struct ty_runner *r)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        ty_runner_reaped(pid, status, r);
}

/* --- beginning --- */

void ty_runner_init(struct ty_runner *r)
{
    *r = (struct ty_runner){ .lock = -1,
                             .dir_fd = -1,
                             .signals = -1,
                             .inotify = -1,
                             .spool_watch = -1,
                             .limit_us = TY_NEVER,
                             .kill_us = TY_NEVER,
                             .verdict_us = TY_NEVER,
                             .culprit = -1,
                             .child = TY_CHILD_INIT,
                             .syncer = TY_CHILD_INIT,
                             .sampler = TY_CHILD_INIT,
                             .sampler_due_us = TY_NEVER,
                             .ranks = TY_RANKS_INIT,
                             .meeting.hold = -1,
                             .env.hold = -1,
                             .mpi.aborted = -1,
                             .records_acked = 1 };
    ty_hang_init(&r->hang);
    for (int h = 0; h < TY_HELPER_COUNT; h++)
        r->helper[h] = (struct ty_child)TY_CHILD_INIT;
}

static int watch_signals(struct ty_runner *r)
{
    sigset_t mask;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    r->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return r->signals < 0 ? -errno : 0;
}

/* Is the runner that signed the folder last alive? */
static bool other_lives(const char *dir)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "runner.id");
    CLEANUP_FREE char *text = NULL;
    struct ty_proc_id id = { 0 };
    bool lives;
    int pid = 0;

    lives = path && ty_read_file(path, 256, &text, NULL) == 0 &&
            sscanf(text, "%39s %d %" SCNu64, id.boot, &pid, &id.start) == 3;
    id.pid = pid;
    return lives && ty_proc_alive(&id);
}

/* File systems of clusters may have no locks: NFS without its daemon, Lustre without `flock`. */
static bool has_no_locks(int error)
{
    return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP;
}

/* 0; -EWOULDBLOCK: another runner is at work. */
static int take_lock(struct ty_runner *r, const char *dir)
{
    r->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir_fd < 0)
        return -errno;
    r->lock = openat(r->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->lock < 0)
        return -errno;
    /* What a killed runner was just starting holds the lock until it has closed what it inherited. */
    for (int64_t end = ty_mono_us() + LOCK_WAIT_US;
         FAULT("runner.flock", -1, flock(r->lock, LOCK_EX | LOCK_NB)) < 0; usleep(LOCK_LOOK_US))
        if (has_no_locks(errno))
            return other_lives(dir) ? -EWOULDBLOCK : 0; /* its signature has to do */
        else if (errno != EWOULDBLOCK)
            return -errno;
        else if (other_lives(dir) || ty_mono_us() >= end)
            return -EWOULDBLOCK;
    return 0;
}

static void open_own_log(const struct ty_runner *r)
{
    CLEANUP_CLOSE int fd = openat(r->dir_fd, "runner.log",
                                  O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd >= 0)
        dup2(fd, STDERR_FILENO);
    ty_log_init(STDERR_FILENO, "runner");
}

/* Say who is at work here, and whether whoever was before lived on another boot. */
static int sign(struct ty_runner *r, struct ty_proc_id *me)
{
    CLEANUP_FREE char *path = ty_path_join(r->job->dir, "runner.id");
    CLEANUP_FREE char *was = NULL, *now = NULL;
    CLEANUP_CLOSE int fd = -1;
    size_t n;
    int got = ty_proc_identify(getpid(), me);

    if (got < 0)
        return got;
    if (!path || !(now = ty_strf("%s %d %" PRIu64 "\n", me->boot, (int)me->pid, me->start)))
        return -ENOMEM;
    if (ty_read_file(path, 256, &was, &n) == 0)
        r->rebooted = !ty_starts_with(was, me->boot);
    /* Renamed without a sync: a reader sees one whole line, and after a power cut it means nothing. */
    fd = openat(r->dir_fd, ".runner.id", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                0600);
    if (fd < 0)
        return -errno;
    got = ty_write_all(fd, now, strlen(now));
    return got < 0                                                         ? got
           : renameat(r->dir_fd, ".runner.id", r->dir_fd, "runner.id") < 0 ? -errno
                                                                           : 0;
}

static char *hello(const struct ty_jobfile *j, const struct ty_proc_id *me)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:i, s:s, s:I, s:s, s:s, s:i, s:I}", "protocol", TY_WIRE_PROTOCOL, "run",
                  j->run, "attempt", (json_int_t)j->attempt, "token", j->token, "boot", me->boot,
                  "pid", (int)me->pid, "start", (json_int_t)me->start);

    return o ? ty_json_text(o) : NULL;
}

static void watch_files(struct ty_runner *r)
{
    CLEANUP_FREE char *logs = ty_path_join(r->job->log, "azureml-logs");

    r->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (r->inotify >= 0 && (!logs || inotify_add_watch(r->inotify, logs, IN_MODIFY) < 0)) {
        close(r->inotify);
        r->inotify = -1;
    }
    if (r->inotify < 0) {
        ty_log(TY_LOG_WARN, "inotify cannot be used (%m); logs are looked at every 100 ms");
        return;
    }
    r->spool_watch = inotify_add_watch(r->inotify, r->job->spool, IN_CREATE | IN_MOVED_TO);
}

struct past {
    bool started, exited;
    uint64_t collected;
    json_t *settled; /* names of nodes that are done or lost, as keys */
};

static void past_done(struct past *p)
{
    json_decref(p->settled);
}

static void learn_node(struct past *p, const char *node, const char *state)
{
    if (!node || !state ||
        (strcmp(state, ty_node_state_word(TY_NODE_DONE)) != 0 &&
         strcmp(state, ty_node_state_word(TY_NODE_LOST)) != 0))
        return;
    if (!p->settled)
        p->settled = json_object();
    json_object_set_new(p->settled, node, json_true());
}

static void learn(uint64_t seq, const json_t *o, void *ctx)
{
    const char *kind = json_string_value(json_object_get(o, "kind"));
    struct past *p = ctx;

    if (kind && strcmp(kind, "started") == 0)
        p->started = true;
    if (kind && strcmp(kind, "exited") == 0)
        p->exited = true;
    if (kind && strcmp(kind, "collected") == 0)
        p->collected = seq;
    if (kind && strcmp(kind, "node") == 0)
        learn_node(p, json_string_value(json_object_get(o, "node")),
                   json_string_value(json_object_get(o, "state")));
}

/* What the job writes to is its user's; the folders above stay the runner's, so that nothing can be exchanged. */
static int hand_over(const struct ty_jobfile *j, const char *logs)
{
    if (!j->owner)
        return 0;
    if (chmod(j->log, 0711) < 0 || chmod(logs, 0711) < 0 ||
        lchown(j->spool, j->owner->uid, j->owner->gid) < 0 ||
        lchown(j->tmp, j->owner->uid, j->owner->gid) < 0)
        return -errno;
    return 0;
}

static int open_files(struct ty_runner *r, struct past *past, struct ty_error *err)
{
    const struct ty_jobfile *j = r->job;
    CLEANUP_FREE char *records = ty_path_join(j->dir, "records.spool");
    CLEANUP_FREE char *logs = ty_path_join(j->log, "azureml-logs");
    const char *const folders[] = { logs, j->spool, j->tmp };
    int got = records && logs ? 0 : -ENOMEM;

    for (size_t i = 0; i < sizeof folders / sizeof *folders && got == 0; i++)
        got = ty_mkdir_p(folders[i], 0700);
    if (got == 0)
        got = hand_over(j, logs);
    if (got < 0)
        return ty_error_set(err, got, "cannot make the folders of the job: %s", strerror(-got));
    got = ty_logs_open(&r->logs, j, err);
    if (got == 0)
        got = ty_ranks_open(&r->ranks, j, err);
    if (got == 0)
        got = ty_records_open(records, learn, past, &r->records, err);
    return got;
}

static int connect_daemon(struct ty_runner *r, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;
    struct ty_proc_id me;
    int got = sign(r, &me);

    if (got < 0)
        return ty_error_set(err, got, "cannot write runner.id: %s", strerror(-got));
    r->rows = ty_rows_new(r->job->spool);
    if (!r->rows)
        return ty_error_oom(err);
    if (!r->job->leads) {
        r->stream = ty_node_stream(r, &me, err);
        return r->stream ? 0 : err->code;
    }
    text = hello(r->job, &me);
    r->stream = text ? ty_stream_new(r->job->socket, text) : NULL;
    if (!r->stream)
        return ty_error_oom(err);
    ty_rows_base(r->rows, (uint32_t)r->job->writer_base);
    return 0;
}

/* Each rank needs a log, a line, and perhaps a row spool.  Its program is given the limit as it was. */
static void allow_files(struct ty_runner *r)
{
    rlim_t wanted = FILES_OF_ITS_OWN + (rlim_t)r->job->size * FILES_OF_A_RANK;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted ||
        limit.rlim_cur == limit.rlim_max)
        return;
    r->files = (int64_t)limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        ty_log(TY_LOG_WARN, "cannot raise the limit on open files: %m");
}

static int begin(struct ty_runner *r, const char *dir, struct ty_error *err)
{
    enum ty_phase before = ty_phase_read(dir);
    CLEANUP(past_done) struct past past = { 0 };
    int got = ty_jobfile_read(dir, &r->job, err);
    bool fresh;

    if (got == 0)
        allow_files(r);
    if (got == 0)
        got = open_files(r, &past, err);
    if (got == 0)
        got = connect_daemon(r, err);
    if (got < 0)
        return got;
    watch_files(r);
    r->rescan = true;
    r->now_us = r->heard_us = r->spoke_us = ty_mono_us();
    r->phase = before;
    r->collected_seq = past.collected;
    fresh = before == TY_PHASE_none && ty_records_next(r->records) == 1;
    /* After a runner that was killed the other nodes have ended, too: they are not led any more. */
    if (fresh)
        got = ty_leading_open(r, err);
    else if (r->job->leads)
        got = ty_logs_take_up(&r->logs, r->job, err);
    if (got < 0)
        return got;
    if (fresh) {
        ty_life_begin(r);
        return 0;
    }
    if (r->job->leads && !past.collected && past.started)
        ty_leading_after(r, past.settled);
    ty_life_salvage(r, past.exited);
    return 0;
}

/* --- the loop --- */

static void hear_signals(struct ty_runner *r)
{
    struct signalfd_siginfo info;

    while (read(r->signals, &info, sizeof info) == sizeof info)
        if (info.ssi_signo != SIGCHLD)
            ty_life_cancel(r, TY_ENDING_CANCEL);
    ty_runner_reap(r);
}

static void hear_files(struct ty_runner *r)
{
    char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;

    while ((n = read(r->inotify, buf, sizeof buf)) > 0)
        for (char *at = buf; at < buf + n;) {
            const struct inotify_event *e = (const struct inotify_event *)at;

            if (e->wd == r->spool_watch || (e->mask & IN_Q_OVERFLOW)) {
                r->rescan = true;
                r->rows_due_us = 0;
            }
            at += sizeof *e + e->len;
        }
}

static void write_failed(struct ty_runner *r, const char *why)
{
    ty_log(TY_LOG_ERROR, "cannot write records.spool: %s; trying again", why);
    r->write_due_us = r->now_us + WRITE_RETRY_US;
}

/* Added records are written at once, and synced by a child: then they may be sent. */
static void write_records(struct ty_runner *r)
{
    struct ty_error err;
    int got;

    if (r->now_us < r->write_due_us)
        return;
    r->write_due_us = 0;
    got = ty_records_write(r->records);
    if (got < 0)
        write_failed(r, strerror(-got));
    if (got < 0 || r->syncer.pid || !ty_records_unsynced(r->records))
        return;
    r->sync_mark = ty_records_mark(r->records);
    if (ty_child_start(&r->syncer, ty_sync, r->job->dir, &err) < 0)
        write_failed(r, err.text);
}

static void no_lines(json_t *line, void *ctx)
{
    (void)line, (void)ctx;
}

static void hear_syncer(struct ty_runner *r)
{
    bool failed = false;

    if (ty_child_read(&r->syncer, no_lines, NULL, &failed) == 0)
        return;
    if (failed)
        write_failed(r, "the disk did not take it");
    else
        ty_records_synced(r->records, r->sync_mark);
}

static int64_t due(const struct ty_runner *r)
{
    int64_t at = ty_deliver_due(r), life = ty_life_due(r), mpi = ty_mpi_due(r);

    if (life < at)
        at = life;
    if (r->sampler_due_us < at)
        at = r->sampler_due_us;
    if (mpi < at)
        at = mpi;
    if (ty_node_due(r) < at)
        at = ty_node_due(r);
    if (ty_hang_due(r) < at)
        at = ty_hang_due(r);
    if (r->lead && ty_lead_due(r->lead) < at)
        at = ty_lead_due(r->lead);
    if (r->write_due_us && r->write_due_us < at)
        at = r->write_due_us;
    if (r->inotify < 0 && ty_deliver_listens(r) && r->phase == TY_PHASE_running &&
        r->now_us + TY_ROWS_POLL_US < at)
        at = r->now_us + TY_ROWS_POLL_US;
    return at;
}

static int wait_ms(const struct ty_runner *r)
{
    int64_t us = due(r) - r->now_us;

    if (us <= 0)
        return 0;
    return us > 60 * 1000 * 1000 ? 60 * 1000 : (int)((us + 999) / 1000);
}

/* Wait for something to happen, and hear it. */
static void turn(struct ty_runner *r)
{
    enum {
        STREAM,
        SIGNALS,
        RANKS,
        CHILD,
        SYNCER,
        SAMPLER,
        FILES,
        STALLS,
        MPI,
        NODES,
        HELPERS,
        N = HELPERS + TY_HELPER_COUNT
    };
    short events, mpi_events;
    struct pollfd p[N] = {
        [STREAM] = { .fd = ty_stream_fd(r->stream, &events) },
        [SIGNALS] = { .fd = r->signals, .events = POLLIN },
        [RANKS] = { .fd = r->ranks.epoll, .events = POLLIN },
        [CHILD] = { .fd = r->child.fd, .events = POLLIN },
        [SYNCER] = { .fd = r->syncer.fd, .events = POLLIN },
        [SAMPLER] = { .fd = r->sampler.fd, .events = POLLIN },
        [NODES] = { .fd = r->lead ? ty_lead_fd(r->lead) : -1, .events = POLLIN },
        [FILES] = { .fd = ty_deliver_listens(r) ? r->inotify : -1, .events = POLLIN },
        [STALLS] = { .fd = r->hang.inotify, .events = POLLIN },
        [MPI] = { .fd = ty_mpi_fd(r, &mpi_events) },
    };

    p[STREAM].events = events;
    p[MPI].events = mpi_events;
    for (int h = 0; h < TY_HELPER_COUNT; h++)
        p[HELPERS + h] = (struct pollfd){ .fd = r->helper[h].fd, .events = POLLIN };
    if (poll(p, N, wait_ms(r)) < 0 && errno != EINTR)
        ty_log(TY_LOG_ERROR, "poll: %m");
    r->now_us = ty_mono_us();
    if (p[SIGNALS].revents)
        hear_signals(r);
    if (p[FILES].revents)
        hear_files(r);
    if (p[STALLS].revents)
        ty_hang_hear(r);
    if (p[SYNCER].revents && r->syncer.fd == p[SYNCER].fd)
        hear_syncer(r);
    if (p[SAMPLER].revents && r->sampler.fd == p[SAMPLER].fd)
        ty_sampling_hear(r);
    if (p[CHILD].revents && r->child.fd == p[CHILD].fd)
        ty_life_child(r);
    for (int h = 0; h < TY_HELPER_COUNT; h++)
        if (p[HELPERS + h].revents && r->helper[h].fd == p[HELPERS + h].fd)
            ty_helpers_hear(r, (enum ty_helper)h);
    if (p[MPI].revents && ty_mpi_fd(r, &mpi_events) == p[MPI].fd)
        ty_mpi_hear(r);
    if (p[RANKS].revents)
        ty_follow_ranks(r);
    if (r->lead && (p[NODES].revents || ty_lead_due(r->lead) <= r->now_us))
        ty_lead_turn(r->lead, r->now_us);
    ty_life_timers(r);
    ty_hang_timers(r);
    ty_sampling_timers(r);
    ty_mpi_timer(r);
}

static bool folder_gone(const struct ty_runner *r)
{
    struct stat st;

    return fstat(r->dir_fd, &st) == 0 && st.st_nlink == 0;
}

static void loop(struct ty_runner *r)
{
    while (!r->over) {
        bool was = ty_stream_connected(r->stream);

        write_records(r);
        ty_stream_turn(r->stream, r->now_us);
        ty_deliver_frames(r);
        ty_deliver_pump(r);
        ty_stream_flush(r->stream, r->now_us);
        if (r->over || (!was && !ty_stream_connected(r->stream) && folder_gone(r)))
            break;
        turn(r);
        ty_node_timers(r);
        ty_leading_release(r);
    }
}

/* --- ending --- */

static void done(struct ty_runner *r)
{
    ty_stream_free(r->stream);
    ty_lead_free(r->lead);
    ty_node_done(r);
    ty_rows_free(r->rows);
    ty_records_free(r->records);
    ty_logs_done(&r->logs);
    ty_ranks_done(&r->ranks);
    ty_hang_done(&r->hang);
    ty_environment_done(r);
    ty_jobfile_free(r->job);
    free(r->failure);
    free(r->declared);
    free(r->buf);
    for (size_t i = 0; i < 5; i++) {
        int fd = (const int[]){ r->signals, r->inotify, r->lock, r->dir_fd, r->meeting.hold }[i];

        if (fd >= 0)
            close(fd);
    }
}

static void become_runner(struct ty_runner *r)
{
    setsid(); /* fails where the daemon has seen to it */
    if (chdir("/") < 0)
        ty_log(TY_LOG_WARN, "cannot leave the current folder: %m");
    umask(0077);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "trainyard-run");
    r->oom = ty_oom_get();
    if (r->oom > OOM_PROTECT)
        ty_oom_set(OOM_PROTECT);
}

int ty_runner_main(const char *job_dir)
{
    struct ty_runner r;
    char dir[PATH_MAX];
    struct ty_error err = { 0 };
    int got;

    ty_runner_init(&r);
    if (!realpath(job_dir, dir)) {
        ty_log(TY_LOG_ERROR, "cannot find the job folder '%s': %m", job_dir);
        return 1;
    }
    got = take_lock(&r, dir);
    if (got < 0) {
        ty_log(TY_LOG_ERROR, "cannot lock the job folder '%s': %s", dir, strerror(-got));
        done(&r);
        return got == -EWOULDBLOCK ? TY_RUNNER_BUSY : TY_RUNNER_NOT_BEGUN;
    }
    become_runner(&r);
    open_own_log(&r);
    got = watch_signals(&r);
    if (got == 0)
        got = begin(&r, dir, &err);
    if (got < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.code ? err.text : strerror(-got));
        done(&r);
        return TY_RUNNER_NOT_BEGUN;
    }
    loop(&r);
    ty_life_stop(&r);
    /* job.json first: the rest of a removal that was cut short cannot be taken for a job to start. */
    unlinkat(r.dir_fd, "job.json", 0);
    got = ty_rm_rf(dir);
    if (got < 0)
        ty_log(TY_LOG_ERROR, "cannot remove the job folder '%s': %s", dir, strerror(-got));
    done(&r);
    return 0;
}
