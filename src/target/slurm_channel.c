/* slurm_channel.c - asking the keeper for a channel, and being its near end */
#include "target/slurm_channel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "target/slurm_keeper.h"
#include "target/slurm_lines.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define JOB_MAX (64 << 20)
#define BUFFER (128 * 1024)
#define KEEPER_WAIT_US (10 * 1000 * 1000)
#define LOOK_US (5 * 1000)

struct channel {
    const char *agent, *dir;
    json_t *job;
    int fd; /* to the keeper */
    struct ty_lines lines;
};

char *ty_slurm_keeper_folder(const char *home, const char *target, const char *user)
{
    return ty_strf("%s/slurm/%s%s%s", home, target, user ? "@" : "", user ? user : "");
}

/* ---- files in the job folder ---- */

static int put(const struct channel *c, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(c->dir, name),
                      *fresh = ty_strf("%s/.%s.%d.new", c->dir, name, (int)getpid());
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!path || !fresh)
        return -ENOMEM;
    /* Renamed without a sync: after a power cut it means nothing.  The channels of all nodes write here at the same time. */
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    r = ty_write_all(fd, text, strlen(text));
    return r < 0 ? r : rename(fresh, path) < 0 ? -errno : 0;
}

static int put_json(const struct channel *c, const char *name, const json_t *o)
{
    CLEANUP_FREE char *text = ty_json_text(o);

    return text ? put(c, name, text) : -ENOMEM;
}

static void drop(const struct channel *c, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(c->dir, name);

    if (path)
        unlink(path);
}

static int read_job(struct channel *c, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(c->dir, "job.json");
    CLEANUP_FREE char *text = NULL;
    size_t n;
    int r = path ? ty_read_file(path, JOB_MAX, &text, &n) : -ENOMEM;

    if (r < 0)
        return ty_error_set(err, r, "cannot read '%s': %s", path ? path : c->dir, strerror(-r));
    return ty_json_parse(text, n, &c->job, err);
}

/* ---- the keeper ---- */

static int connect_to(const char *folder)
{
    CLEANUP_CLOSE int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    if (dir < 0 || fd < 0)
        return -errno;
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/" TY_KEEPER_SOCKET, dir);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static int start_keeper(const char *agent, const char *folder, const char *user,
                        struct ty_error *err)
{
    const char *argv[] = { agent, "keeper", folder, user, NULL };
    const char *envp[] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    struct ty_spawn spawn = {
        .argv = argv, .envp = envp, .cwd = "/", .in = -1, .out = -1, .err = -1
    };
    pid_t pid;

    return ty_spawn(&spawn, &pid, err);
}

/* Several channels may start one at the same time: all but one of those end at once. */
int ty_slurm_keeper_reach(const char *agent, const char *folder, const char *user,
                          struct ty_error *err)
{
    int64_t end = ty_mono_us() + KEEPER_WAIT_US;
    bool started = false;
    int fd, r;

    while ((fd = connect_to(folder)) < 0) {
        if (ty_mono_us() > end)
            return ty_error_set(err, fd,
                                "the keeper of Slurm's allocations in '%s' does not answer (%s); "
                                "keeper.log there says why",
                                folder, strerror(-fd));
        r = waitpid(-1, NULL, WNOHANG) > 0 ? 1 : 0;
        if ((!started || r == 1) && (r = start_keeper(agent, folder, user, err)) < 0)
            return r;
        started = true;
        usleep(LOOK_US);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int reach_keeper(struct channel *c, struct ty_error *err)
{
    const char *home = json_string_value(json_object_get(c->job, "home"));
    const char *user = json_string_value(json_object_get(c->job, "run_as"));
    const char *target =
        json_string_value(json_object_get(json_object_get(c->job, "spec"), "target"));
    CLEANUP_FREE char *folder =
        home ? ty_slurm_keeper_folder(home, target ? target : "local", user) : NULL;

    if (!folder)
        return ty_error_set(err, -EINVAL, "the job folder '%s' names no state folder", c->dir);
    c->fd = ty_slurm_keeper_reach(c->agent, folder, user, err);
    return c->fd < 0 ? c->fd : 0;
}

static void ask(struct channel *c, int node, char **argv)
{
    json_t *list = json_array();

    for (char **a = argv; *a; a++)
        json_array_append_new(list, json_string(*a));
    ty_lines_add(&c->lines,
                 json_pack("{s:O? s:O? s:s s:i s:o s:O? s:O?}", "run",
                           json_object_get(c->job, "run"), "attempt",
                           json_object_get(c->job, "attempt"), "job_dir", c->dir, "node", node,
                           "argv", list, "target", json_object_get(c->job, "target"), "spec",
                           json_object_get(c->job, "spec")));
}

/* ---- waiting ---- */

static volatile sig_atomic_t terminated;

static void on_term(int sig)
{
    (void)sig;
    terminated = 1;
}

/* 0: connected; 1: the allocation is over; or why not. */
static int hear(struct channel *c, const json_t *line, struct ty_error *err)
{
    const char *state = json_string_value(json_object_get(line, "state"));
    const char *text = json_string_value(json_object_get(line, "why"));
    int r;

    if (!state)
        return -EAGAIN;
    if (text && strcmp(state, "waiting") == 0)
        put(c, TY_SLURM_WHY, text);
    if (strcmp(state, "connected") == 0) {
        drop(c, TY_SLURM_WHY);
        r = put_json(c, TY_SLURM_ALLOCATED, line);
        return r < 0 ? ty_error_set(err, r, "cannot write in '%s': %s", c->dir, strerror(-r)) : 0;
    }
    if (strcmp(state, "ended") != 0)
        return -EAGAIN;
    drop(c, TY_SLURM_WHY);
    put_json(c, TY_SLURM_ENDED_FILE, line);
    text = json_string_value(json_object_get(line, "message"));
    fprintf(stderr, "%s\n", text ? text : "the allocation is over");
    return 1;
}

static int wait_for_channel(struct channel *c, struct ty_error *err)
{
    bool told = false;

    for (;;) {
        /* Whoever started this closes its end when it has gone, also when it was killed. */
        struct pollfd p[2] = { { .fd = c->fd, .events = POLLIN }, { .fd = STDIN_FILENO } };
        json_t *line = NULL;
        int r, got;

        if (terminated && !told) {
            ty_lines_add(&c->lines, json_pack("{s:b}", "cancel", 1));
            told = true;
        }
        r = ty_lines_send(&c->lines, c->fd, NULL);
        if (ty_lines_waiting(&c->lines))
            p[0].events |= POLLOUT;
        if (r == 0)
            poll(p, 2, -1);
        if (p[1].revents)
            return ty_error_set(err, -EPIPE, "nobody waits for this channel any more");
        if (r == 0)
            r = ty_lines_read(&c->lines, c->fd, NULL);
        while ((got = ty_lines_next(&c->lines, &line)) == 0) {
            got = hear(c, line, err);
            json_decref(line);
            if (got != -EAGAIN)
                return got;
        }
        if (r < 0 || got == -EBADMSG)
            return ty_error_set(err, r < 0 ? r : got, "the keeper of Slurm's allocations has gone");
    }
}

/* ---- the near end ---- */

struct way {
    int from, to;
    size_t at, len;
    bool ended;
    char buf[BUFFER];
};

/* False: the other side is gone. */
static bool move(struct way *w)
{
    while (w->at < w->len) {
        ssize_t n = write(w->to, w->buf + w->at, w->len - w->at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        w->at += (size_t)n;
    }
    if (w->ended)
        return true;
    ssize_t n = read(w->from, w->buf, sizeof w->buf);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    w->ended = n == 0;
    w->at = 0;
    w->len = (size_t)n;
    return true;
}

static int relay(struct channel *c)
{
    static struct way up = { .from = STDIN_FILENO }, down = { .to = STDOUT_FILENO };
    size_t n;
    const char *rest = ty_lines_rest(&c->lines, &n);

    up.to = down.from = c->fd;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    if (ty_write_all(STDOUT_FILENO, "\n" TY_SLURM_READY "\n", strlen(TY_SLURM_READY) + 2) < 0 ||
        ty_write_all(STDOUT_FILENO, rest, n) < 0)
        return 1;
    fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
    while (!(down.ended && down.at == down.len)) {
        struct pollfd p[4] = {
            { .fd = up.at == up.len && !up.ended ? up.from : -1, .events = POLLIN },
            { .fd = up.at < up.len ? up.to : -1, .events = POLLOUT },
            { .fd = down.at == down.len ? down.from : -1, .events = POLLIN },
            { .fd = down.at < down.len ? down.to : -1, .events = POLLOUT },
        };

        poll(p, 4, -1);
        if (((p[0].revents || p[1].revents) && !move(&up)) ||
            ((p[2].revents || p[3].revents) && !move(&down)))
            return 1;
        if (up.ended && up.at == up.len) { /* whoever started this has no more to say */
            up.from = -1;
            shutdown(c->fd, SHUT_WR);
        }
    }
    return 0;
}

int ty_slurm_channel_main(const char *agent, int argc, char **argv)
{
    struct channel c = { .agent = agent, .dir = argv[0], .fd = -1 };
    struct sigaction term = { .sa_handler = on_term };
    struct ty_error err = { 0 };
    int64_t node = 0;
    int r;

    if (argc < 3 || ty_parse_i64(argv[1], &node) < 0)
        return 2;
    sigaction(SIGTERM, &term, NULL);
    r = read_job(&c, &err);
    if (r == 0)
        r = reach_keeper(&c, &err);
    if (r == 0) {
        ask(&c, (int)node, argv + 2);
        r = wait_for_channel(&c, &err);
    }
    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    if (r != 0)
        return r < 0 ? 1 : TY_SLURM_OVER;
    return relay(&c);
}
