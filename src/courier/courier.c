/* courier.c - beginning, waiting for events, ending
 *
 * A courier stands for the runner of a job that runs elsewhere: it signs and locks the job folder as a runner does, outlives the
 * daemon, and removes the folder in the end.  One thread, one poll loop; nothing in it waits but the disk.
 */
#include "courier/courier.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/proc.h"
#include "blob/statcache.h"
#include "courier/courier_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY = 3, NOT_BEGUN = 4 };
#define JOB_JSON_MAX (64 << 20)
#define AGENT "trainyard-agent" /* its own program, among files that are known by their paths */
#define FILES_OF_ITS_OWN 64
#define FILES_OF_A_HOST \
    8 /* three pipes to its ssh, both ends while that starts, and a file that is sent */

/* --- beginning --- */

static int take_lock(struct ty_courier *c)
{
    c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->dir_fd < 0)
        return -errno;
    c->lock = openat(c->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (c->lock < 0)
        return -errno;
    return flock(c->lock, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int sign(struct ty_courier *c)
{
    struct ty_proc_id me = { 0 };
    CLEANUP_FREE char *path = ty_path_join(c->dir, "runner.id");
    CLEANUP_FREE char *text = NULL;
    int r = ty_proc_identify(getpid(), &me);

    if (r < 0)
        return r;
    text = ty_strf("%s %d %" PRIu64 "\n", me.boot, (int)me.pid, me.start);
    return path && text ? ty_write_file(path, text, strlen(text), 0600) : -ENOMEM;
}

static int need(struct ty_courier *c, const char *key, const char **ret, struct ty_error *err)
{
    int r = ty_json_get_str(c->job, "job.json", key, ret, err);

    return r < 0 ? r : *ret ? 0 : ty_error_set(err, -EINVAL, "job.json has no '%s'", key);
}

static int read_job(struct ty_courier *c, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(c->dir, "job.json");
    CLEANUP_FREE char *text = NULL;
    const char *blobs = NULL, *run_as = NULL;
    int64_t lost = 60;
    size_t n;
    int r = path ? ty_read_file(path, JOB_JSON_MAX, &text, &n) : -ENOMEM;

    if (r < 0)
        return ty_error_set(err, r, "cannot read job.json: %s", strerror(-r));
    r = ty_json_parse(text, n, &c->job, err);
    c->attempt = 1;
    if (r == 0)
        r = need(c, "run", &c->run, err);
    if (r == 0)
        r = need(c, "token", &c->token, err);
    if (r == 0)
        r = need(c, "socket", &c->socket, err);
    if (r == 0)
        r = need(c, "blobs", &blobs, err);
    if (r == 0)
        r = ty_json_get_i64(c->job, "job.json", "attempt", 1, INT32_MAX, &c->attempt, err);
    if (r == 0)
        r = ty_json_get_i64(c->job, "job.json", "node_lost_seconds", 1, INT32_MAX, &lost, err);
    if (r == 0)
        r = ty_json_get_str(c->job, "job.json", "run_as", &run_as, err);
    if (r == 0)
        r = ty_run_spec_parse(json_object_get(c->job, "spec"), &c->spec, err);
    if (r == 0)
        r = ty_target_spec_parse(json_object_get(c->job, "target"), &c->target, err);
    if (r == 0 && run_as)
        r = ty_owner_find(run_as, &c->owner, err);
    if (r == 0)
        r = ty_blobs_open(blobs, &c->blobs, err);
    c->node_lost_us = lost * 1000000;
    return r;
}

static const struct ty_host *host_named(const struct ty_courier *c, const char *name)
{
    for (int i = 0; name && i < c->target->nhosts; i++)
        if (strcmp(c->target->hosts[i].host, name) == 0)
            return &c->target->hosts[i];
    return NULL;
}

/* The hosts of the placement: what the daemon says; else the first of the target. */
static int find_hosts(struct ty_courier *c, struct ty_error *err)
{
    if (ty_courier_slurm(c))
        return ty_slurm_places(c, err);
    const json_t *placed = json_object_get(c->job, "hosts");
    int n = json_array_size(placed) ? (int)json_array_size(placed) : c->spec->node_count;

    c->nodes = placed ? json_incref(json_object_get(c->job, "nodes")) : json_array();
    if (!c->nodes)
        c->nodes = json_array();
    bool named = json_array_size(c->nodes) > 0;
    c->hosts = calloc((size_t)n, sizeof *c->hosts);
    if (!c->hosts || !c->nodes)
        return ty_error_oom(err);
    for (int i = 0; i < n; i++) {
        const json_t *entry = json_array_get(placed, (size_t)i);
        const char *name = json_is_string(entry)
                               ? json_string_value(entry)
                               : json_string_value(json_object_get(entry, "host"));
        const struct ty_host *h = placed                  ? host_named(c, name)
                                  : i < c->target->nhosts ? &c->target->hosts[i]
                                                          : NULL;

        if (!h)
            return ty_error_set(err, -EINVAL, "the target has no host '%.100s' (node %d of %d)",
                                name ? name : "?", i + 1, n);
        ty_host_init(&c->hosts[i], c, h, i);
        c->hosts[i].heard_us = c->now_us;
        c->nhosts++;
        if (!named)
            json_array_append_new(c->nodes,
                                  json_pack("{s:s s:i s:[] s:[]}", "name", h->host, "ranks",
                                            c->spec->process_count_per_node, "cpus", "gpus"));
    }
    if ((int)json_array_size(c->nodes) != n)
        return ty_error_set(err, -EINVAL, "job.json has %d hosts and %d nodes", n,
                            (int)json_array_size(c->nodes));
    return 0;
}

static int hash_agent(struct ty_courier *c, struct ty_statcache *known, struct ty_error *err)
{
    CLEANUP_CLOSE int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    const char *sha = NULL;
    struct stat st;
    uint64_t bytes;
    int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

    if (r == 0 && (sha = ty_statcache_get(known, AGENT, &st)))
        memcpy(c->sha, sha, sizeof c->sha);
    else if (r == 0 && (r = ty_sha256_file(fd, c->sha, &bytes)) == 0)
        ty_statcache_put(known, AGENT, &st, c->sha);
    return r < 0 ? ty_error_set(err, r, "cannot read our own program: %s", strerror(-r)) : 0;
}

/* The key of this run's link is made once, and every courier of the run has it. */
static int link_key(struct ty_courier *c, struct ty_error *err)
{
    const char *given = json_string_value(json_object_get(json_object_get(c->job, "link"), "key"));
    CLEANUP_FREE char *path = ty_path_join(c->dir, "link.key");
    CLEANUP_FREE char *text = NULL;
    unsigned char key[TY_LINK_KEY];
    int r = 0;

    if (!path)
        return ty_error_oom(err);
    if (given || ty_read_file(path, 256, &text, NULL) == 0)
        snprintf(c->link_key, sizeof c->link_key, "%s", given ? given : text);
    if (ty_link_key_parse(c->link_key, key) == 0)
        return 0;
    r = ty_link_key_make(c->link_key);
    if (r == 0)
        r = ty_write_file(path, c->link_key, strlen(c->link_key), 0600);
    return r < 0 ? ty_error_set(err, r, "cannot make the key of the run's link: %s", strerror(-r))
                 : 0;
}

static int gather(struct ty_courier *c, struct ty_statcache *known, struct ty_error *err)
{
    const char *manifest = json_string_value(json_object_get(c->job, "manifest")),
               *packages = json_string_value(json_object_get(c->job, "python_path"));

    return ty_content_open(&c->content, c->blobs, manifest, packages, known, err);
}

static void allow_files(const struct ty_courier *c)
{
    rlim_t wanted = FILES_OF_ITS_OWN + (rlim_t)c->nhosts * FILES_OF_A_HOST;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        ty_log(TY_LOG_WARN, "cannot raise the limit on open files: %m");
}

static int begin_with(struct ty_courier *c, struct ty_statcache *known, struct ty_error *err)
{
    int r = hash_agent(c, known, err);

    if (r == 0)
        r = link_key(c, err);
    if (r == 0)
        r = sign(c);
    if (r < 0)
        return r;
    c->voice.wanted = true;
    if (faccessat(c->dir_fd, "released", F_OK, 0) == 0) {
        c->released = true;
        c->voice.wanted = false;
    } else if (ty_courier_end_load(c) < 0) {
        struct ty_error why = { 0 };

        r = gather(c, known, &why);
        if (r < 0) { /* nothing that a second courier could do better */
            ty_courier_end(c, "prepare", NULL, why.text);
            r = 0;
        }
    }
    return r;
}

/* What goes to every host is the same for every job: its hashes are kept in the state folder for the next courier. */
static int begin(struct ty_courier *c, struct ty_error *err)
{
    struct ty_statcache *known = NULL;
    CLEANUP_FREE char *file = NULL;
    const char *home;
    int r = read_job(c, err);

    if (r == 0)
        r = find_hosts(c, err);
    if (r < 0)
        return r;
    allow_files(c);
    r = ty_data_open(c);
    if (r < 0)
        return ty_error_oom(err);
    home = json_string_value(json_object_get(c->job, "home"));
    file = home ? ty_path_join(home, "cache/stat/courier") : NULL;
    known = ty_statcache_load(file);
    if (!known)
        return ty_error_oom(err);
    r = begin_with(c, known, err);
    if (r == 0 && file)
        ty_statcache_save(known, file);
    ty_statcache_free(known);
    return r;
}

/* --- the loop --- */

static void hear_signals(struct ty_courier *c)
{
    struct signalfd_siginfo info;

    while (read(c->signals, &info, sizeof info) == sizeof info)
        c->cancel = true;
}

static int64_t due(const struct ty_courier *c)
{
    int64_t at = ty_way_due(c), other = ty_relay_due(c);

    if (other < at)
        at = other;
    other = ty_voice_due(c);
    if (other < at)
        at = other;
    for (int i = 0; i < c->nhosts; i++) {
        other = ty_host_due(&c->hosts[i]);
        if (other < at)
            at = other;
    }
    return at;
}

static int wait_ms(const struct ty_courier *c)
{
    int64_t us = due(c) - c->now_us;

    if (us <= 0)
        return 0;
    return us > 60 * 1000 * 1000 ? 60 * 1000 : (int)((us + 999) / 1000);
}

static void wait_for_something(struct ty_courier *c, struct pollfd *p)
{
    int n = 0;

    p[n++] = (struct pollfd){ .fd = c->signals, .events = POLLIN };
    n += ty_relay_poll(c, p + n);
    n += ty_data_poll(c, p + n);
    n += ty_voice_poll(c, p + n);
    for (int i = 0; i < c->nhosts; i++)
        n += ty_host_poll(&c->hosts[i], p + n);
    if (poll(p, (nfds_t)n, wait_ms(c)) < 0 && errno != EINTR)
        ty_log(TY_LOG_ERROR, "poll: %m");
    c->now_us = ty_mono_us();
    if (p[0].revents)
        hear_signals(c);
}

/* The folder goes when the daemon has released the job; while hosts are not clean that cannot be reached, it lies elsewhere. */
static void remove_folder(struct ty_courier *c)
{
    int r;

    if (c->folder_gone || (!ty_way_over(c) && !ty_courier_slurm(c) && ty_lost_keep(c)))
        return;
    c->folder_gone = true;
    unlinkat(c->dir_fd, "job.json", 0);
    r = ty_rm_rf(c->dir);
    if (r < 0)
        ty_log(TY_LOG_ERROR, "cannot remove the job folder '%s': %s", c->dir, strerror(-r));
}

static bool any_up(const struct ty_courier *c)
{
    for (int i = 0; i < c->nhosts; i++)
        if (ty_host_up(&c->hosts[i]))
            return true;
    return false;
}

static void loop(struct ty_courier *c)
{
    CLEANUP_FREE char *buf = calloc(9 + 4 * (size_t)c->nhosts, sizeof(struct pollfd));
    struct pollfd *p = (struct pollfd *)(void *)buf;

    while (p && !ty_way_over(c)) {
        for (int i = 0; i < c->nhosts; i++)
            ty_host_turn(&c->hosts[i]);
        ty_data_turn(c);
        ty_relay_turn(c);
        ty_voice_turn(c);
        ty_way(c);
        /* What these have added to the channels goes now. */
        for (int i = 0; i < c->nhosts; i++)
            if (ty_host_up(&c->hosts[i]))
                (void)ty_flow_write(&c->hosts[i].ssh.flow);
        if (c->phase == TY_COURIER_CLEANING && !any_up(c))
            remove_folder(c);
        if (!ty_way_over(c))
            wait_for_something(c, p);
    }
}

/* --- ending --- */

static void done(struct ty_courier *c)
{
    ty_relay_close(c, false);
    ty_voice_stop(c);
    for (int i = 0; i < c->nhosts; i++)
        ty_host_done(&c->hosts[i]);
    free(c->hosts);
    free(c->made);
    ty_content_done(&c->content);
    if (c->spec)
        ty_data_done(c);
    ty_blobs_free(c->blobs);
    ty_run_spec_free(c->spec);
    ty_target_spec_free(c->target);
    ty_owner_free(c->owner);
    json_decref(c->nodes);
    json_decref(c->link);
    json_decref(c->verdict);
    json_decref(c->job);
    free(c->dir);
    for (size_t i = 0; i < 3; i++) {
        int fd = (const int[]){ c->signals, c->lock, c->dir_fd }[i];

        if (fd >= 0)
            close(fd);
    }
}

static int become_courier(struct ty_courier *c)
{
    CLEANUP_CLOSE int log = openat(c->dir_fd, "runner.log",
                                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    sigset_t mask;

    setsid(); /* fails where the daemon has seen to it */
    if (chdir("/") < 0)
        ty_log(TY_LOG_WARN, "cannot leave the current folder: %m");
    umask(0077);
    prctl(PR_SET_NAME, "trainyard-cour");
    if (log >= 0)
        dup2(log, STDERR_FILENO);
    ty_log_init(STDERR_FILENO, "courier");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    c->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return c->signals < 0 ? -errno : 0;
}

int ty_courier_main(const char *job_dir)
{
    struct ty_courier c = { .dir = realpath(job_dir, NULL),
                            .dir_fd = -1,
                            .lock = -1,
                            .signals = -1,
                            .now_us = ty_mono_us(),
                            .relay = { .daemon = TY_FLOW_INIT },
                            .voice = { .daemon = TY_FLOW_INIT } };
    struct ty_error err = { 0 };
    int r;

    if (!c.dir) {
        ty_log(TY_LOG_ERROR, "cannot find the job folder '%s': %m", job_dir);
        return 1;
    }
    r = take_lock(&c);
    if (r < 0) {
        ty_log(TY_LOG_ERROR, "cannot lock the job folder '%s': %s", c.dir, strerror(-r));
        done(&c);
        return r == -EWOULDBLOCK ? BUSY : NOT_BEGUN;
    }
    r = become_courier(&c);
    if (r == 0)
        r = begin(&c, &err);
    if (r < 0) {
        ty_log(TY_LOG_ERROR, "%s", err.code ? err.text : strerror(-r));
        done(&c);
        return NOT_BEGUN;
    }
    ty_lost_take_up(&c);
    loop(&c);
    remove_folder(&c);
    done(&c);
    return 0;
}
