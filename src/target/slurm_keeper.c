/* slurm_keeper.c - the loop of a keeper
 *
 * One thread, nothing waits.  A turn: take in who calls, go on with clients and allocations, ask Slurm when it is time,
 * write down what has changed, wait.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "target/slurm_keeper_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BARE_US (5 * 1000 * 1000) /* without anything to keep: it ends */
#define STRANGER_US (10 * 1000 * 1000)
#define BACKLOG 1024
#define SENTENCE 200

struct ty_slurm_setting keeper_setting(const struct keeper *k)
{
    return (struct ty_slurm_setting){ .environment =
                                          k->target ? k->target->slurm.environment : NULL,
                                      .owner = k->owner };
}

/* ---- those that call ---- */

static void take_links(struct keeper *k)
{
    struct ty_link *l;

    while ((l = ty_gate_next(k->gate, k->now_us))) {
        struct stranger *s = calloc(1, sizeof *s);

        if (!s) {
            ty_link_free(l);
            continue;
        }
        s->link = l;
        s->since_us = k->now_us;
        s->next = k->strangers;
        k->strangers = s;
    }
}

static void stranger_turn(struct keeper *k, struct stranger *s)
{
    CLEANUP_JSON json_t *o = NULL;
    const char *kind, *token;
    int r = ty_link_turn(s->link, k->now_us);

    if (r == 0)
        r = ty_lines_read(&s->lines, -1, s->link);
    if (ty_lines_next(&s->lines, &o) < 0) {
        s->gone |= r < 0 || k->now_us - s->since_us > STRANGER_US;
        return;
    }
    kind = json_string_value(json_object_get(o, "kind"));
    token = json_string_value(json_object_get(o, "token"));
    if (kind && strcmp(kind, "node") == 0)
        alloc_join(k, s, o);
    else if (kind && token && strcmp(kind, "channel") == 0)
        client_opened(k, s, token);
    s->gone = true; /* taken over, or of nobody here */
}

static void take_clients(struct keeper *k)
{
    int fd;

    while ((fd = accept4(k->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        client_new(k, fd);
}

/* ---- what is over goes ---- */

static void sweep(struct keeper *k)
{
    for (struct stranger **p = &k->strangers, *s; (s = *p);) {
        if (!s->gone) {
            p = &s->next;
            continue;
        }
        *p = s->next;
        ty_link_free(s->link);
        ty_lines_done(&s->lines);
        free(s);
    }
    for (struct client **p = &k->clients, *c; (c = *p);) {
        if (!c->gone) {
            p = &c->next;
            continue;
        }
        *p = c->next;
        client_free(c);
    }
    for (struct alloc **p = &k->allocs, *a; (a = *p);) {
        if (!a->over || a->run) {
            p = &a->next;
            continue;
        }
        *p = a->next;
        alloc_free(a);
        k->changed = true;
    }
}

/* ---- one list of all jobs ---- */

static bool anything_to_look_for(const struct keeper *k)
{
    for (const struct alloc *a = k->allocs; a; a = a->next)
        if (!a->over && (a->job || a->unsure))
            return true;
    return false;
}

static void start_look(struct keeper *k)
{
    CLEANUP_FREE char *user = ty_strf("%u", k->owner ? k->owner->uid : geteuid());
    const char *argv[] = { "squeue", "-h", "-t", "all", "-u", user, "-o", TY_SLURM_QUEUE_FORMAT,
                           NULL };
    struct ty_slurm_setting where = keeper_setting(k);
    struct ty_error err;

    k->look_us = k->now_us + LOOK_US;
    if (user && ty_slurm_command_start(&k->look, &where, argv, NULL, 0, &err) < 0)
        ty_log(TY_LOG_WARN, "%s", err.text);
}

static void hear_look(struct keeper *k)
{
    CLEANUP_FREE char *out = NULL, *complaint = NULL;
    char sentence[SENTENCE];
    int r = ty_slurm_command_end(&k->look, &out, &complaint);

    if (r == 0 && out) {
        k->changed |= k->trouble != NULL;
        free(k->trouble);
        k->trouble = NULL;
        allocs_heard(k, out);
    } else if (!k->trouble) {
        k->trouble =
            strdup(ty_slurm_sentence(complaint ? complaint : "", sentence, sizeof sentence));
        k->changed = true;
        ty_log(TY_LOG_WARN, "squeue: %s", sentence);
    }
}

static void look(struct keeper *k)
{
    struct pollfd p = { .fd = k->look.ended, .events = POLLIN };

    if (k->look.pid && poll(&p, 1, 0) == 1)
        hear_look(k);
    if (!k->look.pid && anything_to_look_for(k) && k->now_us >= k->look_us)
        start_look(k);
}

/* ---- waiting ---- */

struct waits {
    struct pollfd *p;
    size_t n, cap;
};

static void wait_for(struct waits *w, struct pollfd p)
{
    if (p.fd < 0)
        return;
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        struct pollfd *more = realloc(w->p, cap * sizeof *more);

        if (!more)
            return; /* it is looked at in the next turn, which comes soon enough */
        w->p = more;
        w->cap = cap;
    }
    w->p[w->n++] = p;
}

static void wait_for_link(struct waits *w, const struct ty_link *l, const struct ty_lines *lines)
{
    struct pollfd p = { .fd = ty_link_fd(l), .events = ty_link_events(l) };

    if (ty_lines_waiting(lines))
        p.events |= POLLOUT;
    wait_for(w, p);
}

static int64_t gather_clients(const struct keeper *k, struct waits *w, int64_t due)
{
    for (const struct client *c = k->clients; c; c = c->next) {
        struct pollfd p[2] = { { .fd = c->fd, .events = POLLIN }, { .fd = -1 } };

        if (c->piped) {
            ty_pump_events(&c->pump, p);
            due = ty_pump_busy(&c->pump) ? 0 : due;
        } else if (ty_lines_waiting(&c->lines)) {
            p[0].events |= POLLOUT;
        }
        due = c->later_us && c->later_us < due ? c->later_us : due;
        wait_for(w, p[0]);
        wait_for(w, p[1]);
    }
    return due;
}

static int64_t gather(const struct keeper *k, struct waits *w)
{
    int64_t due = ty_gate_due(k->gate);

    wait_for(w, (struct pollfd){ .fd = k->listen, .events = POLLIN });
    wait_for(w, (struct pollfd){ .fd = ty_gate_fd(k->gate), .events = POLLIN });
    wait_for(w, (struct pollfd){ .fd = k->look.ended, .events = POLLIN });
    if (!k->look.pid && anything_to_look_for(k) && k->look_us < due)
        due = k->look_us;
    for (const struct stranger *s = k->strangers; s; s = s->next)
        wait_for_link(w, s->link, &s->lines);
    for (const struct alloc *a = k->allocs; a; a = a->next) {
        int64_t at = alloc_due(k, a);

        due = at < due ? at : due;
        wait_for(w, (struct pollfd){ .fd = a->command.ended, .events = POLLIN });
        for (int i = 0; i < a->nodes; i++)
            if (a->members[i].link)
                wait_for_link(w, a->members[i].link, &a->members[i].lines);
    }
    return gather_clients(k, w, due);
}

static void wait_turn(struct keeper *k)
{
    struct waits w = { 0 };
    int64_t us = gather(k, &w) - k->now_us;

    if (us > LOOK_US)
        us = LOOK_US;
    if (poll(w.p, w.n, us <= 0 ? 0 : (int)((us + 999) / 1000)) < 0 && errno != EINTR)
        ty_log(TY_LOG_ERROR, "poll: %m");
    free(w.p);
    k->now_us = ty_mono_us();
}

/* ---- the loop ---- */

static bool is_bare(struct keeper *k)
{
    if (k->allocs || k->clients || (!k->owner && reserve_wanted(k) > 0))
        k->bare_us = k->now_us;
    return k->now_us - k->bare_us >= BARE_US;
}

static void loop(struct keeper *k)
{
    while (!is_bare(k)) {
        take_links(k);
        take_clients(k);
        for (struct stranger *s = k->strangers; s; s = s->next)
            stranger_turn(k, s);
        for (struct client *c = k->clients; c; c = c->next)
            if (!c->gone)
                client_turn(k, c);
        reserve_turn(k);
        for (struct alloc *a = k->allocs; a; a = a->next)
            alloc_turn(k, a);
        look(k);
        sweep(k);
        if (k->changed)
            keep_state(k);
        wait_turn(k);
    }
}

/* ---- beginning ---- */

/* 0; -EWOULDBLOCK: another one keeps this folder. */
static int take_lock(const char *folder)
{
    CLEANUP_FREE char *path = ty_path_join(folder, "lock");
    int r = path ? ty_mkdir_p(folder, 0700) : -ENOMEM, fd;

    if (r < 0)
        return r;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0; /* held until this process ends */
}

static int listen_at(struct keeper *k, struct ty_error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    /* By the short name, from within the folder: a path to it may be too long for an address. */
    if (chdir(k->folder) < 0)
        return ty_error_set(err, -errno, "cannot enter '%s': %m", k->folder);
    unlink(TY_KEEPER_SOCKET);
    snprintf(a.sun_path, sizeof a.sun_path, TY_KEEPER_SOCKET);
    k->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (k->listen < 0 || bind(k->listen, (struct sockaddr *)&a, sizeof a) < 0 ||
        listen(k->listen, BACKLOG) < 0)
        return ty_error_set(err, -errno, "cannot listen in '%s': %m", k->folder);
    return 0;
}

static int open_gate(struct keeper *k, struct ty_error *err)
{
    int port = 0, r = keep_key(k, &port, err);

    if (r < 0)
        return r;
    r = ty_gate_open_at(k->key, port, &k->gate, err);
    if (r < 0 && port)
        k->moved = (r = ty_gate_open(k->key, &k->gate, err)) == 0;
    if (r == 0)
        keep_port(k);
    return r;
}

static int find_home(struct keeper *k, const char *user, struct ty_error *err)
{
    const struct passwd *pw;
    int r;

    if (user) {
        r = ty_owner_find(user, &k->owner, err);
        if (r < 0)
            return r;
        k->home = strdup(k->owner->home);
    } else {
        pw = getpwuid(geteuid());
        k->home = strdup(pw && pw->pw_dir ? pw->pw_dir : "/");
    }
    return k->home ? 0 : ty_error_oom(err);
}

/* Who keeps this folder, for people. */
static void sign(const struct keeper *k)
{
    CLEANUP_FREE char *path = ty_path_join(k->folder, "pid");
    char text[16];

    snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (path)
        ty_write_file(path, text, strlen(text), 0600);
}

static void become_keeper(struct keeper *k)
{
    CLEANUP_FREE char *path = ty_path_join(k->folder, "keeper.log");
    CLEANUP_CLOSE int log =
        path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

    if (log >= 0)
        dup2(log, STDERR_FILENO);
    ty_log_init(STDERR_FILENO, "keeper");
    umask(0077);
    sign(k);
    prctl(PR_SET_NAME, "trainyard-keep");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

int ty_slurm_keeper_main(const char *agent, const char *folder, const char *user)
{
    static struct keeper kept; /* for as long as the process lives */
    struct keeper *k = &kept;
    struct ty_error err = { 0 };
    int r = take_lock(folder);

    if (r < 0)
        return r == -EWOULDBLOCK ? 3 : 1;
    k->agent = agent;
    k->folder = folder;
    k->look = (struct ty_slurm_command)TY_SLURM_COMMAND_INIT;
    k->now_us = k->bare_us = k->daemon_us = ty_mono_us();
    become_keeper(k);
    r = find_home(k, user, &err);
    if (r == 0)
        r = open_gate(k, &err);
    if (r == 0)
        r = keep_load(k, &err);
    if (r == 0)
        r = listen_at(k, &err);
    if (r < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.text);
        return 1;
    }
    loop(k);
    unlink(TY_KEEPER_SOCKET);
    return 0;
}
