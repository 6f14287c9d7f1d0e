/* way.c - what a courier does next, decided in one place
 *
 *   PREPARING   until every host is READY; the first that cannot ends the run
 *   STARTING    the leader's runner; then, when it says where it listens, the agents of the other nodes
 *   RUNNING     until the daemon has released the job.  A host that is not reached for node_lost_seconds ends it
 *   TELLING     the end is told by us
 *   CLEANING    job folders go; hosts that cannot be reached are tried for a day
 *
 * Steps are repeated by a courier that takes up the job folder of another: a far end that has the job already is only asked to
 * go on with it.  The file `started` in the job folder is there before a job may be on its hosts.
 */
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "courier/courier_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CONNECTS_MAX 2  /* attempts to reach a host before its run fails */
#define FRUITLESS_MAX 5 /* connections that break while files are brought, and bring none */
#define RESUMES_MAX 3
#define CLEAN_US ((int64_t)24 * 3600 * 1000000)
#define ADDRESSES_MAX 64

static bool has_mark(const struct ty_courier *c, const char *name)
{
    return faccessat(c->dir_fd, name, F_OK, 0) == 0;
}

static void set_mark(const struct ty_courier *c, const char *name)
{
    int fd = openat(c->dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        ty_log(TY_LOG_WARN, "cannot write '%s' into the job folder: %m", name);
    else
        close(fd);
}

static void end_with(struct ty_courier_host *h, const char *reason, const char *message)
{
    struct ty_courier *c = h->c;
    CLEANUP_FREE char *text =
        ty_strf("%s '%s': %s", ty_courier_slurm(c) ? "node" : "host", h->spec->host, message);

    if (c->cancel)
        ty_courier_end(c, "cancel", NULL, "the run was canceled");
    else
        ty_courier_end(c, reason, h->spec->host, text ? text : message);
}

/* --- what happens --- */

void ty_way_failed(struct ty_courier_host *h, const char *message)
{
    struct ty_courier *c = h->c;

    if (c->phase == TY_COURIER_CLEANING) {
        ty_log(TY_LOG_WARN, "host %s: %s", h->spec->host, message);
        ty_host_let_go(h);
        h->state = TY_HOST_CLEAN;
    } else {
        end_with(h, "prepare", message);
    }
}

/* Words, most of them ssh's, for what no second try will mend. */
static bool is_final(const char *why)
{
    static const char *const words[] = { "Permission denied",
                                         "Host key verification failed",
                                         "Could not resolve hostname",
                                         "Bad configuration option",
                                         "Too many authentication failures",
                                         "its shell does not begin",
                                         "its shell prints without end",
                                         "REMOTE HOST IDENTIFICATION HAS CHANGED" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(why, words[i]))
            return true;
    return false;
}

/* Small things go through, and large ones do not: a network that loses large packets looks like this. */
static void give_up_bringing(struct ty_courier_host *h)
{
    CLEANUP_FREE char *text =
        ty_strf("the connection breaks again and again before a file has come there (%s); does the "
                "network let large packets through?",
                h->why);

    end_with(h, "prepare", text ? text : h->why);
}

/* What was tried, and ssh's own words. */
static char *unreached(const struct ty_courier_host *h)
{
    if (ty_courier_slurm(h->c) || h->failures == INT16_MAX)
        return strdup(h->why);
    return h->failures > 1
               ? ty_strf("cannot be reached by ssh (%d attempts): %s", h->failures, h->why)
               : ty_strf("cannot be reached by ssh: %s", h->why);
}

void ty_way_broken(struct ty_courier_host *h)
{
    struct ty_courier *c = h->c;
    CLEANUP_FREE char *text = NULL;

    if (h->index == 0)
        ty_relay_close(c, false);
    if (ty_slurm_over(h))
        return;
    if (c->phase == TY_COURIER_PREPARING && !has_mark(c, "started") &&
        (h->failures >= CONNECTS_MAX || is_final(h->why)))
        end_with(h, "prepare", (text = unreached(h)) ? text : h->why);
    else if (c->phase == TY_COURIER_PREPARING && !has_mark(c, "started") &&
             h->fruitless >= FRUITLESS_MAX)
        give_up_bringing(h);
    /* Agents of other nodes are the leader's: their channels were for starting them. */
    if (c->phase == TY_COURIER_RUNNING && h->index > 0 && c->link && h->begun)
        h->wanted = false;
}

void ty_way_ended(struct ty_courier_host *h, int code)
{
    struct ty_courier *c = h->c;
    char text[128];

    if (c->phase >= TY_COURIER_TELLING || code == 0)
        return; /* with 0 it was released; the channel says so too */
    ty_log(TY_LOG_WARN, "host %s: the %s has ended (%d) before its job", h->spec->host,
           h->index == 0 ? "runner" : "node agent", code);
    if (h->index > 0)
        return; /* the leader misses it */
    if (h->resumes++ < RESUMES_MAX) {
        ty_host_start(h); /* it finds its folder, and tells what became of the job */
        return;
    }
    snprintf(text, sizeof text, "the runner ends again and again (exit code %d)", code);
    end_with(h, "lost", text);
}

/* "port address address..." */
int ty_way_linked(struct ty_courier *c, const char *line, size_t n)
{
    CLEANUP_FREE char *text = strndup(line, n);
    CLEANUP_JSON json_t *addresses = json_array();
    char *save = NULL, *word = text ? strtok_r(text, " ", &save) : NULL;
    int64_t port = 0;

    if (!word || ty_parse_i64(word, &port) < 0 || port < 1 || port > 65535)
        return -EBADMSG;
    while ((word = strtok_r(NULL, " ", &save)) && json_array_size(addresses) < ADDRESSES_MAX)
        if (json_array_append_new(addresses, json_string(word)) < 0)
            return -EBADMSG;
    json_decref(c->link);
    c->link = json_pack("{s:O s:I}", "addresses", addresses, "port", (json_int_t)port);
    return 0;
}

void ty_way_released(struct ty_courier *c)
{
    if (c->phase == TY_COURIER_CLEANING)
        return;
    c->released = true;
    set_mark(c, "released");
}

/* --- what is next --- */

static bool all_ready(const struct ty_courier *c)
{
    for (int i = 0; i < c->nhosts; i++)
        if (c->hosts[i].state != TY_HOST_READY)
            return false;
    return true;
}

/* MPI libraries of different releases do not understand each other.  Where one has none at all, a job that speaks Horovod
 * alone runs all the same: the runner says so. */
static bool mpi_agrees(struct ty_courier *c)
{
    const struct ty_courier_host *a = NULL;

    if (c->spec->comm != TY_COMM_MPI)
        return true;
    for (int i = 0; i < c->nhosts; i++) {
        const struct ty_courier_host *b = &c->hosts[i];
        CLEANUP_FREE char *text = NULL;

        if (b->here || !b->openmpi[0])
            continue;
        if (!a)
            a = b;
        if (strcmp(a->openmpi, b->openmpi) == 0)
            continue;
        text =
            ty_strf("Open MPI is version %s on host '%s' and version %s on host '%s'; install one "
                    "version on both, or use another backend (gloo, nccl)",
                    a->openmpi, a->spec->host, b->openmpi, b->spec->host);
        ty_courier_end(c, "prepare", b->spec->host, text ? text : "Open MPI differs between hosts");
        return false;
    }
    return true;
}

static void prepare(struct ty_courier *c)
{
    if (has_mark(c, "started")) { /* by another courier: only the leader has to be reached */
        if (c->hosts[0].state != TY_HOST_READY)
            return;
        if (!c->hosts[0].here) {
            end_with(&c->hosts[0], "lost", "the job's folder has vanished from it");
            return;
        }
    } else if (c->cancel) {
        ty_courier_end(c, "cancel", NULL, "the run was canceled before it started");
        return;
    } else if (!all_ready(c) || !ty_voice_settled(c) || !mpi_agrees(c)) {
        return;
    }
    set_mark(c, "started");
    ty_host_start(&c->hosts[0]);
    c->phase = TY_COURIER_STARTING;
}

static void start_nodes(struct ty_courier *c)
{
    for (int i = 1; c->link && i < c->nhosts; i++)
        if (c->hosts[i].state == TY_HOST_READY)
            ty_host_start(&c->hosts[i]);
}

static void tell_cancel(struct ty_courier *c)
{
    if (!c->cancel || c->cancel_told || c->hosts[0].state != TY_HOST_RUNNING)
        return;
    ty_channel_send(&c->hosts[0].ssh.flow, TY_CHANNEL_CANCEL, NULL, 0);
    c->cancel_told = true;
}

static int64_t lost_at(const struct ty_courier *c)
{
    const struct ty_courier_host *h = &c->hosts[0];

    return h->state >= TY_HOST_ATTACHING ? TY_NEVER : h->heard_us + c->node_lost_us;
}

static void run(struct ty_courier *c)
{
    struct ty_courier_host *h = &c->hosts[0];

    if (h->state == TY_HOST_READY) { /* after a break: it must still be there */
        if (h->here)
            ty_host_start(h);
        else
            end_with(h, "lost", "the job's folder has vanished from it");
    }
    if (h->state == TY_HOST_RUNNING)
        c->phase = TY_COURIER_RUNNING;
    start_nodes(c);
    tell_cancel(c);
}

static void look_for_loss(struct ty_courier *c)
{
    struct ty_courier_host *h = &c->hosts[0];
    CLEANUP_FREE char *text = NULL;

    if (c->phase >= TY_COURIER_TELLING || !has_mark(c, "started") || c->now_us < lost_at(c))
        return;
    text = ty_strf("it is not reached for %lld s: %s", (long long)(c->node_lost_us / 1000000),
                   h->why[0] ? h->why : "no answer");
    end_with(h, "node_lost", text ? text : "it is not reached any more");
}

/* Hosts that were never spoken to have nothing of the job. */
static void begin_cleaning(struct ty_courier *c)
{
    ty_relay_close(c, false);
    ty_voice_stop(c);
    c->phase = TY_COURIER_CLEANING;
    c->clean_until_us = c->now_us + CLEAN_US;
    for (int i = 0; i < c->nhosts; i++) {
        struct ty_courier_host *h = &c->hosts[i];

        h->wanted = h->touched || has_mark(c, "started");
        if (!h->wanted) {
            ty_host_let_go(h);
            h->state = TY_HOST_CLEAN;
        } else if (h->state == TY_HOST_DOWN) {
            h->retry_us = c->now_us;
        }
    }
}

static void clean(struct ty_courier *c)
{
    for (int i = 0; i < c->nhosts; i++) {
        struct ty_courier_host *h = &c->hosts[i];

        /* Behind ATTACHING the far end knows which job is meant. */
        if (h->state > TY_HOST_ATTACHING && h->state < TY_HOST_CLEANING)
            ty_host_clean(h, c->verdict != NULL);
    }
}

void ty_way(struct ty_courier *c)
{
    if (c->phase == TY_COURIER_PREPARING)
        prepare(c);
    if (c->phase == TY_COURIER_STARTING || c->phase == TY_COURIER_RUNNING)
        run(c);
    look_for_loss(c);
    if (c->released && c->phase != TY_COURIER_CLEANING)
        begin_cleaning(c);
    if (c->phase == TY_COURIER_CLEANING)
        clean(c);
}

int64_t ty_way_due(const struct ty_courier *c)
{
    if (c->phase == TY_COURIER_CLEANING)
        return c->clean_until_us;
    return c->phase < TY_COURIER_TELLING && has_mark(c, "started") ? lost_at(c) : TY_NEVER;
}

bool ty_way_over(const struct ty_courier *c)
{
    if (c->phase != TY_COURIER_CLEANING)
        return false;
    for (int i = 0; i < c->nhosts && c->now_us < c->clean_until_us; i++)
        if (c->hosts[i].state != TY_HOST_CLEAN)
            return false;
    return true;
}
