/* start_daemon.c - the daemon of a state folder: where it listens, where its program lies,
 * starting it
 *
 * A start is a double fork, so that the daemon is nobody's child: the process that happened to
 * need it first may be a Python program that waits for its children, or that ends.  The daemon
 * says one line on the pipe that is its standard output:
 *
 *     ready               it listens
 *     busy                another daemon has the lock of this folder: it listens, or soon will
 *     error <sentence>    it cannot serve
 *
 * A socket file that a killed daemon left refuses connections, which is the same as none.
 */
#include "client/start_daemon.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/program.h"
#include "base/str.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRAM "trainyardd"
#define FOLDERS_UP 6 /* from a Python extension to the prefix it was installed in */
#define BUSY_MS 500  /* then the place may be free, and is asked for again */
#define RETRY_MS 20  /* between looks for a daemon that somebody else starts */
#define LINE_MAX_BYTES 1024
#define ENV_MAX 128

extern char **environ;

/* The caller's working directory is no part of a state folder's name, nor of a program's. */
static int absolute(const char *what, const char *path, char **ret, struct ty_error *err)
{
    int r = ty_path_absolute(path, ret);

    if (r == -ENOMEM)
        return ty_error_oom(err);
    return r < 0
               ? ty_error_set(err, r, "cannot find the %s '%s': the working directory is gone: %s",
                              what, path, strerror(-r))
               : 0;
}

int ty_client_find_home(const char *home, char **ret, struct ty_error *err)
{
    return home && *home ? absolute("state folder", home, ret, err) : ty_home(ret, err);
}

/* sun_path holds 107 bytes; a longer path is reached through a descriptor of its folder, which
 * *dir keeps open. */
static int socket_address(const char *home, struct sockaddr_un *a, int *dir)
{
    int n;

    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    n = snprintf(a->sun_path, sizeof a->sun_path, "%s/sock", home);
    if (n >= 0 && (size_t)n < sizeof a->sun_path)
        return 0;
    *dir = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir < 0)
        return -errno;
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/sock", *dir);
    return 0;
}

int ty_daemon_connect(const char *home, struct ty_error *err)
{
    CLEANUP_CLOSE int fd = -1;
    CLEANUP_CLOSE int dir = -1;
    struct sockaddr_un a;
    int r;

    fd = FAULT("client.socket", -1, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd < 0)
        return ty_error_set(err, -errno, "cannot make a socket: %m");
    r = socket_address(home, &a, &dir);
    if (r == 0 && connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        r = -errno;
    if (r == -ENOENT || r == -ECONNREFUSED || r == -ENOTDIR || r == -ENOTSOCK)
        return ty_error_set(err, -ECONNREFUSED,
                            "no daemon serves the state folder '%s'; 'trainyard up' starts one",
                            home);
    if (r == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        r = -errno;
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot connect to the daemon of '%s': %m", home);
    }
    return TAKE_FD(fd);
}

/* A program found by walking up must belong to root, to us, or to whoever owns the file we
 * started from: a stranger who may write to a folder above must not be able to plant one. */
static bool trusted(const char *path, uid_t owner)
{
    struct stat st;

    return ty_program_is(path) && stat(path, &st) == 0 &&
           (st.st_uid == 0 || st.st_uid == geteuid() || st.st_uid == owner);
}

/* Look in the folder of `file`, then in FOLDERS_UP folders above it and in their bin/. */
static char *find_near(const char *file, int up)
{
    char dir[PATH_MAX];
    struct stat st;
    int i;

    if (!realpath(file, dir) || stat(dir, &st) < 0)
        return NULL;
    for (i = 0; i <= up; i++) {
        static const char *const below[] = { PROGRAM, "bin/" PROGRAM };
        char *slash = strrchr(dir, '/');
        size_t k;

        if (!slash)
            return NULL;
        *slash = '\0';
        for (k = 0; k < sizeof below / sizeof *below; k++) {
            CLEANUP_FREE char *path = ty_strf("%s/%s", dir, below[k]);

            if (path && trusted(path, st.st_uid))
                return TAKE(path);
        }
    }
    return NULL;
}

int ty_daemon_find(const char *daemon, char **ret, struct ty_error *err)
{
    CLEANUP_FREE char *path = NULL;
    Dl_info me;

    if (!daemon || !*daemon)
        daemon = getenv("TRAINYARD_DAEMON");
    if (daemon && *daemon) {
        if (!ty_program_is(daemon))
            return ty_error_set(err, -ENOENT,
                                "cannot start a daemon: '%s' (TRAINYARD_DAEMON) is no program",
                                daemon);
        return absolute("program", daemon, ret, err);
    }
    path = find_near("/proc/self/exe", 0);
    if (!path && dladdr((void *)&ty_daemon_find, &me) && me.dli_fname)
        path = find_near(me.dli_fname, FOLDERS_UP);
    if (!path)
        path = ty_program_find(PROGRAM, NULL);
    if (!path)
        return ty_error_set(err, -ENOENT,
                            "cannot find the program " PROGRAM
                            ": it is neither beside this program or library nor on "
                            "PATH; set TRAINYARD_DAEMON to where it is");
    *ret = TAKE(path);
    return 0;
}

/* What a daemon may know of the shell that happened to start it. */
static bool env_passes(const char *entry)
{
    static const char *const names[] = { "PATH=",   "HOME=",     "USER=", "LOGNAME=", "LANG=",
                                         "LC_ALL=", "LC_CTYPE=", "TZ=",   "TMPDIR=" };
    /* The way to the network, by which it asks object stores; no job gets them from it. */
    static const char *const network[] = { "http_proxy=",   "https_proxy=",   "no_proxy=",
                                           "all_proxy=",    "HTTP_PROXY=",    "HTTPS_PROXY=",
                                           "NO_PROXY=",     "ALL_PROXY=",     "SSL_CERT_FILE=",
                                           "SSL_CERT_DIR=", "CURL_CA_BUNDLE=" };
    size_t i;

    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (ty_starts_with(entry, names[i]))
            return true;
    for (i = 0; i < sizeof network / sizeof *network; i++)
        if (ty_starts_with(entry, network[i]))
            return true;
#ifdef TY_FAULTS
    if (ty_starts_with(entry, "TY_FAULT=") || ty_starts_with(entry, "ASAN_OPTIONS=") ||
        ty_starts_with(entry, "UBSAN_OPTIONS=") || ty_starts_with(entry, "LSAN_OPTIONS="))
        return true;
#endif
    return ty_starts_with(entry, "XDG_") ||
           (ty_starts_with(entry, "TRAINYARD_") && !ty_starts_with(entry, "TRAINYARD_HOME="));
}

/* A daemon that a job started would end with the job, and take with it every run that it had begun. */
static bool in_job(void)
{
    const char *job = getenv("TRAINYARD_JOB");

    return job && *job;
}

static void minimal_env(const char *envp[ENV_MAX])
{
    size_t n = 0;
    char **e;

    for (e = environ; e && *e && n < ENV_MAX - 1; e++)
        if (env_passes(*e))
            envp[n++] = *e;
    envp[n] = NULL;
}

/* In the process between: start the daemon, say so on the pipe if that fails, and end.  It must
 * not return into the caller's program. */
static void spawn_and_exit(const char *program, const char *home, const char *const *envp, int out)
{
    const char *argv[] = { program, "--home", home, NULL };
    struct ty_spawn spec = {
        .argv = argv, .envp = envp, .cwd = "/", .in = -1, .out = out, .err = -1
    };
    struct ty_error err = { 0 };
    pid_t pid;

    if (ty_spawn(&spec, &pid, &err) < 0)
        dprintf(out, "error %s\n", err.text);
    _exit(0);
}

static int spawn(const char *program, const char *home, int *ret, struct ty_error *err)
{
    CLEANUP_CLOSE int from = -1;
    CLEANUP_CLOSE int to = -1;
    const char *envp[ENV_MAX];
    int fds[2], status;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return ty_error_set(err, -errno, "cannot start '%s': %m", program);
    from = fds[0];
    to = fds[1];
    minimal_env(envp);
    pid = FAULT("client.fork", -1, fork());
    if (pid < 0)
        return ty_error_set(err, -errno, "cannot start '%s': %m", program);
    if (pid == 0)
        spawn_and_exit(program, home, envp, to);
    ty_wait(pid, &status);
    *ret = TAKE_FD(from);
    return 0;
}

/* The daemon's one line, without its end; "" when it ended without a word; -ETIMEDOUT. */
static int read_word(int fd, char line[LINE_MAX_BYTES])
{
    int64_t until = ty_mono_us() + TY_DAEMON_START_MS * INT64_C(1000);
    size_t n = 0;

    while (n < LINE_MAX_BYTES - 1) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int64_t left = (until - ty_mono_us()) / 1000;
        ssize_t got;

        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(&p, 1, (int)left) <= 0)
            continue;
        got = read(fd, line + n, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || line[n] == '\n')
            break;
        n++;
    }
    line[n] = '\0';
    return 0;
}

/* Another daemon has the lock: it will listen soon, or it is one that is just ending, and then the
 * place is free soon.  0 once one listens; -ECONNREFUSED: not within BUSY_MS. */
static int await_other(const char *home, struct ty_error *err)
{
    int64_t until = ty_mono_us() + BUSY_MS * INT64_C(1000);

    for (;;) {
        int fd = ty_daemon_connect(home, err);

        if (fd >= 0) {
            close(fd);
            return 0;
        }
        if (fd != -ECONNREFUSED || ty_mono_us() > until)
            return fd;
        poll(NULL, 0, RETRY_MS);
    }
}

/* 0 when it is ready; -EBUSY: another one has the lock. */
static int start_once(const char *home, const char *program, struct ty_error *err)
{
    CLEANUP_CLOSE int from = -1;
    char line[LINE_MAX_BYTES];
    int r = spawn(program, home, &from, err);

    if (r < 0)
        return r;
    r = read_word(from, line);
    if (r < 0)
        return ty_error_set(
            err, -ECONNREFUSED,
            "the daemon for '%s' was not ready after %d seconds; see '%s/daemon.log'", home,
            TY_DAEMON_START_MS / 1000, home);
    if (!strcmp(line, "ready"))
        return 0;
    if (!strcmp(line, "busy"))
        return -EBUSY;
    if (ty_starts_with(line, "error "))
        return ty_error_set(err, -ECONNREFUSED, "cannot start the daemon: %s",
                            line + strlen("error "));
    return ty_error_set(
        err, -ECONNREFUSED,
        "the daemon ended before it was ready; see '%s/daemon.log', or run 'trainyard serve' to "
        "see why",
        home);
}

int ty_daemon_start(const char *home, const char *daemon, struct ty_error *err)
{
    int64_t until = ty_mono_us() + TY_DAEMON_START_MS * INT64_C(1000);
    CLEANUP_FREE char *program = NULL;
    int r;

    if (geteuid() != 0 && ty_home_is_system(home))
        return ty_error_set(
            err, -ECONNREFUSED,
            "the daemon of this machine ('%s') does not run; an administrator starts it "
            "with `systemctl start trainyard`, or TRAINYARD_HOME=FOLDER gives you one of "
            "your own",
            home);
    if (in_job())
        return ty_error_set(
            err, -ECONNREFUSED,
            "no daemon serves '%s', and a job starts none, because it would end with "
            "the job; start one with 'trainyard up' outside of it",
            home);
    if (ty_daemon_find(daemon, &program, err) < 0)
        return err ? err->code = -ECONNREFUSED : -ECONNREFUSED;
    do {
        r = start_once(home, program, err);
        if (r != -EBUSY)
            return r;
        r = await_other(home, err);
    } while (r == -ECONNREFUSED && ty_mono_us() < until);
    if (r != -ECONNREFUSED)
        return r;
    return ty_error_set(err, r,
                        "a process holds the lock of the state folder '%s' but answers nobody; see "
                        "'%s/daemon.log', then end it",
                        home, home);
}
