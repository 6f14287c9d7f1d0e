/* trainyardd.c - the daemon: one process, one loop, a writer thread, a small pool for blocking work
 *
 * Everything it keeps lies in one folder, which it locks: one folder, one daemon.  Whoever starts it reads
 * one line from its standard output: `ready`, `busy` (another daemon has the folder) or `error <sentence>`; after that it
 * says nothing more there, and its log is daemon.log in the folder.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/str.h"
#include "blob/blob.h"
#include "http/server.h"
#include "sched/sched.h"
#include "store/store.h"
#include "track/follow.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <trainyard/client.h>
#include <uv.h>

#define LOG_LOOK_MS (60 * 1000)

struct daemon {
    char *home, *bin, *agent,
        *python_path; /* python_path NULL: no Python packages were installed */
    bool foreground;
    bool system; /* serves every user of the machine */
    int lock;
    struct ty_conf *conf;
    uv_loop_t loop;
    uv_async_t wake;
    uv_signal_t term, interrupt;
    uv_timer_t rotate;   /* looks at the size of the log */
    uv_fs_event_t place; /* of the socket, by which it is reached */
    struct stat socket;
    struct ty_store *store;
    struct ty_blobs *blobs;
    struct ty_follow_hub *hub;
    struct ty_sched *sched;
    struct ty_http *http;
    bool stopping;
};

/* ---- the state folder ---- */

static int lock_home(struct daemon *d, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(d->home, "lock");

    if (!path)
        return ty_error_oom(err);
    d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock < 0)
        return ty_error_set(
            err, -errno,
            "cannot write in the state folder '%s': %m; make it writable, or name another one with "
            "TRAINYARD_HOME",
            d->home);
    if (flock(d->lock, LOCK_EX | LOCK_NB) < 0)
        return ty_error_set(err, -EBUSY, "another daemon has the state folder '%s'", d->home);
    return 0;
}

/* What each user of the machine has to pass through or write to.  What is not named here is root's alone. */
static int open_to_users(struct daemon *d, struct ty_error *err)
{
    static const struct {
        const char *path;
        mode_t mode;
    } folders[] = { { ".", 0711 },
                    { "jobs", 0711 },
                    { "data", 0711 },
                    { "data/workspaceblobstore", 01777 },
                    { "data/workspacefilestore", 01777 } };

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        CLEANUP_FREE char *path = ty_path_join(d->home, folders[i].path);

        if (!path)
            return ty_error_oom(err);
        if (ty_mkdir_p(path, 0700) < 0 || chmod(path, folders[i].mode) < 0)
            return ty_error_set(err, -errno, "cannot open the folder '%s' to users: %m", path);
    }
    return 0;
}

/* Once a folder has served the machine it always does: its files belong to many. */
static int be_system(struct daemon *d, struct ty_error *err)
{
    CLEANUP_FREE char *mark = ty_path_join(d->home, TY_SYSTEM_MARK);
    int fd;

    if (geteuid() != 0)
        return ty_error_set(
            err, -EPERM,
            "a daemon that serves all users of the machine must be started by root; "
            "leave out --system for one of your own");
    if (ty_owner_check() < 0)
        return ty_error_set(
            err, -EPERM,
            "root cannot act as other users here, as in a container without the capabilities SETUID and "
            "SETGID: no daemon for all users can run");
    fd = mark ? open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0400) : -1;
    if (fd < 0)
        return ty_error_set(err, mark ? -errno : -ENOMEM,
                            "cannot write in the state folder '%s': %m", d->home);
    close(fd);
    return open_to_users(d, err);
}

static int find_home(struct daemon *d, struct ty_error *err)
{
    char *absolute;
    int r = ty_mkdir_p(d->home, 0700);

    if (r < 0) {
        errno = -r;
        return ty_error_set(
            err, r, "cannot make the state folder '%s': %m; name another one with TRAINYARD_HOME",
            d->home);
    }
    absolute = realpath(d->home, NULL);
    if (!absolute)
        return ty_error_oom(err);
    free(d->home);
    d->home = absolute;
    return 0;
}

static int open_home(struct daemon *d, struct ty_error *err)
{
    const char *network;
    struct stat st;
    int r = find_home(d, err);

    if (r < 0)
        return r;
    network = ty_fs_network_kind(d->home);
    if (network)
        return ty_error_set(
            err, -EOPNOTSUPP,
            "the state folder '%s' lies on a network file system (%s), where locks, sockets and the "
            "database do not work; name a folder on a local disk with TRAINYARD_HOME",
            d->home, network);
    if (stat(d->home, &st) == 0 && st.st_uid != geteuid())
        return ty_error_set(
            err, -EACCES,
            "the state folder '%s' belongs to user %u, not to you (%u); name one of your own "
            "with TRAINYARD_HOME",
            d->home, st.st_uid, geteuid());
    r = lock_home(d, err);
    if (r < 0)
        return r;
    d->system |= ty_home_is_system(d->home);
    if (d->system)
        return be_system(d, err);
    return chmod(d->home, 0700) < 0
               ? ty_error_set(err, -errno, "cannot set the mode of '%s': %m", d->home)
               : 0;
}

/* ---- its log ---- */

/* Beyond the limit the log is set aside, as daemon.log.1 in place of the one before, and begun anew. */
static int begin_log(struct daemon *d, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(d->home, "daemon.log");
    CLEANUP_FREE char *old = ty_path_join(d->home, "daemon.log.1");
    struct stat st;
    int fd;

    if (!path || !old)
        return ty_error_oom(err);
    if (stat(path, &st) == 0 && st.st_size > ty_conf_number(d->conf, "daemon.log_bytes"))
        rename(path, old);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return ty_error_set(err, -errno, "cannot write '%s': %m", path);
    dup2(fd, 2);
    close(fd);
    return 0;
}

static void on_rotate(uv_timer_t *t)
{
    struct daemon *d = t->data;
    struct ty_error err = { 0 };
    struct stat st;

    if (fstat(2, &st) < 0 || st.st_size <= ty_conf_number(d->conf, "daemon.log_bytes"))
        return;
    if (begin_log(d, &err) < 0)
        ty_log(TY_LOG_WARN, "the log is not set aside: %s", err.text);
}

static int open_log(struct daemon *d, struct ty_error *err)
{
    int r = d->foreground ? 0 : begin_log(d, err);

    ty_log_init(2, "trainyardd");
    return r;
}

/* Listen on <home>/<name>.  A path too long for a socket address is reached through the folder's descriptor. */
static int listen_on(struct daemon *d, const char *name, mode_t mode, int *ret,
                     struct ty_error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    CLEANUP_CLOSE int dir = open(d->home, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", d->home, name);

    if (n >= (int)sizeof a.sun_path)
        snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dir, name);
    unlinkat(dir, name, 0); /* the lock is ours: whoever made it is dead */
    if (dir < 0 || fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        fchmodat(dir, name, mode, 0) < 0 || listen(fd, 511) < 0)
        return ty_error_set(err, -errno, "cannot listen on '%s/%s': %m", d->home, name);
    *ret = TAKE_FD(fd);
    return 0;
}

/* ---- the loop ---- */

static void on_wake(uv_async_t *a)
{
    struct daemon *d = a->data;

    if (d->store)
        ty_store_deliver(d->store);
}

static void wake(void *ctx)
{
    uv_async_send(&((struct daemon *)ctx)->wake);
}

static void stop(void *ctx)
{
    struct daemon *d = ctx;

    if (d->stopping)
        return;
    d->stopping = true;
    ty_log(TY_LOG_INFO, "stopping; runs that go on are taken up at the next start");
    ty_http_stop(d->http);
    ty_sched_stop(d->sched);
    d->store = ty_store_close(d->store); /* commits and answers everything that was queued */
    uv_close((uv_handle_t *)&d->wake, NULL);
    uv_close((uv_handle_t *)&d->term, NULL);
    uv_close((uv_handle_t *)&d->interrupt, NULL);
    uv_close((uv_handle_t *)&d->rotate, NULL);
    uv_close((uv_handle_t *)&d->place, NULL);
}

static void on_signal(uv_signal_t *s, int signum)
{
    (void)signum;
    stop(s->data);
}

/* Nobody can reach a daemon whose socket is gone: the state folder was removed, or moved away. */
static void on_place(uv_fs_event_t *e, const char *name, int events, int status)
{
    struct daemon *d = e->data;
    CLEANUP_FREE char *path = ty_path_join(d->home, "sock");
    struct stat now;

    (void)name, (void)events, (void)status;
    if (d->stopping || !path ||
        (stat(path, &now) == 0 && now.st_ino == d->socket.st_ino && now.st_dev == d->socket.st_dev))
        return;
    ty_log(TY_LOG_WARN, "the socket of '%s' is gone: nobody can reach this daemon any more",
           d->home);
    stop(d);
}

static void watch_place(struct daemon *d)
{
    CLEANUP_FREE char *path = ty_path_join(d->home, "sock");

    /* Where it cannot be watched, the daemon works all the same. */
    if (path && stat(path, &d->socket) == 0 && uv_fs_event_start(&d->place, on_place, path, 0) < 0)
        ty_log(TY_LOG_WARN, "cannot watch '%s'", path);
}

/* A follower and a runner take a descriptor each: use what the system allows, not what the shell set. */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void open_loop(struct daemon *d)
{
    uv_loop_init(&d->loop);
    uv_async_init(&d->loop, &d->wake, on_wake);
    uv_signal_init(&d->loop, &d->term);
    uv_signal_init(&d->loop, &d->interrupt);
    uv_timer_init(&d->loop, &d->rotate);
    uv_fs_event_init(&d->loop, &d->place);
    d->place.data = d;
    d->rotate.data = d->wake.data = d->term.data = d->interrupt.data = d;
    uv_signal_start(&d->term, on_signal, SIGTERM);
    uv_signal_start(&d->interrupt, on_signal, SIGINT);
    if (!d->foreground)
        uv_timer_start(&d->rotate, on_rotate, LOG_LOOK_MS, LOG_LOOK_MS);
    raise_descriptors();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* ---- opening the parts ---- */

static void set_store_limits(struct daemon *d)
{
    struct ty_store_limits limits = {
        .metric_keys = ty_conf_number(d->conf, "limits.metric_keys"),
        .metric_rows = ty_conf_number(d->conf, "limits.metric_rows"),
    };

    ty_store_limits(d->store, &limits);
}

/* PREFIX/lib/trainyard/python of PREFIX/bin.  Without "..": in an image there is no such folder to leave. */
static char *installed_packages(const char *bin)
{
    const char *slash = strrchr(bin, '/');

    return ty_strf("%.*s/lib/trainyard/python", slash ? (int)(slash - bin) : 0, bin);
}

static int open_sched(struct daemon *d, struct ty_error *err)
{
    CLEANUP_FREE char *built = ty_path_join(d->bin, "python");
    CLEANUP_FREE char *installed = installed_packages(d->bin);
    struct ty_sched_options o = { .loop = &d->loop,
                                  .store = d->store,
                                  .blobs = d->blobs,
                                  .conf = d->conf,
                                  .hub = d->hub,
                                  .home = d->home,
                                  .system = d->system };
    int r;

    d->agent = ty_path_join(d->bin, "trainyard-agent");
    if (!d->agent || !built || !installed)
        return ty_error_oom(err);
    if (access(d->agent, X_OK) < 0)
        return ty_error_set(err, -ENOENT,
                            "cannot find the runner '%s': %m; install Trainyard whole", d->agent);
    d->python_path = access(built, F_OK) == 0       ? TAKE(built)
                     : access(installed, F_OK) == 0 ? TAKE(installed)
                                                    : NULL;
    o.agent = d->agent;
    o.python_path = d->python_path;
    r = listen_on(d, "runner.sock", 0600, &o.runner_fd, err);
    return r < 0 ? r : ty_sched_open(&o, &d->sched, err);
}

static int open_http(struct daemon *d, struct ty_error *err)
{
    struct ty_http_options o = { .loop = &d->loop,
                                 .store = d->store,
                                 .sched = d->sched,
                                 .blobs = d->blobs,
                                 .conf = d->conf,
                                 .hub = d->hub,
                                 .home = d->home,
                                 .agent = d->agent,
                                 .system = d->system,
                                 .started_us = ty_wall_us(),
                                 .stop = stop,
                                 .ctx = d };
    int r = listen_on(d, "sock", d->system ? 0666 : 0600, &o.listen_fd, err);

    if (r < 0)
        return r;
    watch_place(d);
    return ty_http_open(&o, &d->http, err);
}

static int open_parts(struct daemon *d, struct ty_error *err)
{
    CLEANUP_FREE char *blobs = ty_path_join(d->home, "blobs");
    int r;

    if (!blobs)
        return ty_error_oom(err);
    r = ty_blobs_open(blobs, &d->blobs, err);
    if (r < 0)
        return r;
    r = ty_store_open(d->home, wake, d, &d->store, err);
    if (r < 0)
        return r;
    set_store_limits(d);
    d->hub = ty_follow_hub_new();
    if (!d->hub)
        return ty_error_oom(err);
    r = open_sched(d, err);
    return r < 0 ? r : open_http(d, err);
}

/* ---- main ---- */

/* The one line that whoever started this daemon waits for. */
static void report(const char *word, const char *text)
{
    dprintf(1, text ? "%s %s\n" : "%s\n", word, text);
}

/* systemd's protocol for Type=notify: a datagram to the socket that the environment names. */
static void tell_service_manager(const char *what)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    CLEANUP_CLOSE int fd = -1;
    size_t n = path ? strlen(path) : 0;

    if (n == 0 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(a.sun_path, path, n);
    if (path[0] == '@')
        a.sun_path[0] = '\0'; /* an abstract name */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, what, strlen(what), MSG_NOSIGNAL, (struct sockaddr *)&a,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
        ty_log(TY_LOG_WARN, "cannot tell the service manager '%s': %m", what);
}

static void let_go_of_stdout(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
        close(null);
    }
}

static int start(struct daemon *d, struct ty_error *err)
{
    int r;

    umask(077);
    r = ty_conf_load(NULL, &d->conf, err);
    if (r < 0)
        return r;
    if (!d->home) {
        r = ty_home(&d->home, err);
        if (r < 0)
            return r;
    }
    r = open_home(d, err);
    if (r < 0)
        return r;
    r = open_log(d, err);
    if (r < 0)
        return r;
    open_loop(d);
    return open_parts(d, err);
}

static void done(struct daemon *d)
{
    uv_run(&d->loop, UV_RUN_DEFAULT); /* close callbacks */
    ty_http_done(d->http);
    ty_sched_free(d->sched);
    ty_follow_hub_free(d->hub);
    ty_blobs_free(d->blobs);
    ty_conf_free(d->conf);
    uv_loop_close(&d->loop);
    close(d->lock);
    free(d->home);
    free(d->bin);
    free(d->agent);
    free(d->python_path);
}

static char *own_folder(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    char *slash;

    if (n < 0)
        return NULL;
    path[n] = '\0';
    slash = strrchr(path, '/');
    return strndup(path, slash ? (size_t)(slash - path) : (size_t)n);
}

static int parse_options(struct daemon *d, int argc, char **argv)
{
    static const struct option options[] = {
        { "home", required_argument, NULL, 'H' }, { "foreground", no_argument, NULL, 'f' },
        { "system", no_argument, NULL, 's' },     { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },       { 0 }
    };
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (c == 'H') {
            free(d->home);
            d->home = strdup(optarg);
        } else if (c == 'f') {
            d->foreground = true;
        } else if (c == 's') {
            d->system = d->foreground = true; /* under a service manager, which keeps its log */
        } else if (c == 'V') {
            puts("trainyardd " TY_VERSION);
            return 1;
        } else {
            puts(
                "usage: trainyardd [--home FOLDER] [--foreground] [--system]\n\n"
                "The Trainyard daemon.  `trainyard up` starts it in the background, `trainyard serve` in the foreground.");
            return c == 'h' ? 1 : 2;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct daemon d = {
        .lock = -1
    }; /* static: what it holds when the start fails stays reachable */
    struct ty_error err = { 0 };
    int r = parse_options(&d, argc, argv);

    if (r > 0)
        return r == 1 ? 0 : 2;
    d.bin = own_folder();
    r = start(&d, &err);
    if (r < 0) {
        report(r == -EBUSY && d.store == NULL ? "busy" : "error",
               r == -EBUSY && d.store == NULL ? NULL : err.text);
        ty_log(TY_LOG_ERROR, "cannot start: %s", err.text);
        return r == -EBUSY ? 3 : 1;
    }
    ty_log(TY_LOG_INFO, "version " TY_VERSION " serves '%s'", d.home);
    report("ready", NULL);
    tell_service_manager("READY=1");
    if (!d.foreground)
        let_go_of_stdout();
    uv_run(&d.loop, UV_RUN_DEFAULT);
    done(&d);
    return 0;
}
