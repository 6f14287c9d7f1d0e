/* slurm_reserve.c - nodes that a target keeps without a run (min_nodes)
 *
 * Each is an allocation of one node, of the smallest run's size or of what the target's vm_size stands for.  An allocation that
 * a run has left counts too, if it is not larger than what is to be kept.  They are kept while there is a daemon: nobody else
 * would ever use them.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "target/slurm_keeper_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ASK_DAEMON_US (5 * 1000 * 1000)
#define DAEMON_AWAY_US (60LL * 1000 * 1000) /* at least: it may be started again */
#define AGAIN_US (5 * 1000 * 1000)          /* after one that was had has ended */
#define REFUSED_US (60LL * 1000 * 1000)     /* after one that could not be had */

/* Its socket lies two folders above ours, which is the one that this process is in. */
static bool daemon_answers(void)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "../../sock" };

    return fd >= 0 && (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN);
}

int reserve_wanted(struct keeper *k)
{
    int64_t away = k->target ? (int64_t)k->target->idle_seconds * 1000000 : 0;

    /* Of a daemon for all users nobody knows for whom: there, what a run has left is kept, no more. */
    if (!k->target || k->target->min_nodes == 0)
        return 0;
    if (k->now_us >= k->daemon_ask_us) {
        k->daemon_ask_us = k->now_us + ASK_DAEMON_US;
        if (daemon_answers())
            k->daemon_us = k->now_us;
    }
    return k->now_us - k->daemon_us > (away > DAEMON_AWAY_US ? away : DAEMON_AWAY_US)
               ? 0
               : k->target->min_nodes;
}

static int nodes_kept(const struct keeper *k)
{
    int n = 0;

    for (const struct alloc *a = k->allocs; a; a = a->next)
        n += a->over || a->ending || a->cancel ? 0 : a->nodes;
    return n;
}

bool reserve_holds(struct keeper *k, const struct alloc *a)
{
    int wanted = reserve_wanted(k);

    return a->nodes <= wanted && nodes_kept(k) - a->nodes < wanted;
}

static bool add_one(struct keeper *k)
{
    CLEANUP_JSON json_t *spec =
        json_pack("{s:i s:s s:[s]}", "version", 1, "experiment", "reserve", "command", "/bin/true");
    struct ty_run_spec *run = NULL;
    struct ty_slurm_shape shape;
    struct ty_error err = { 0 };
    struct alloc *a;

    if (!spec || ty_run_spec_parse(spec, &run, &err) < 0) {
        ty_log(TY_LOG_ERROR, "no node is kept: %s", spec ? err.text : "out of memory");
        return false;
    }
    ty_slurm_shape(k->target, run, true, &shape);
    a = alloc_new(k, shape.nodes);
    if (a) {
        a->shape = ty_slurm_shape_text(&shape);
        a->spec = TAKE(spec);
        a->reserve = true;
        a->idle_us = k->now_us;
        a->idle_seconds = alloc_idle_seconds(k->target);
        a->retry_us = 0;
    }
    ty_run_spec_free(run);
    return a != NULL;
}

void reserve_turn(struct keeper *k)
{
    int wanted = k->owner ? 0 : reserve_wanted(k), n = nodes_kept(k);

    if (k->now_us < k->reserve_us)
        return;
    while (n++ < wanted)
        if (!add_one(k)) {
            k->reserve_us = k->now_us + REFUSED_US;
            return;
        }
}

void reserve_lost(struct keeper *k, const struct alloc *a)
{
    int64_t next = k->now_us + (a->up ? AGAIN_US : REFUSED_US);

    if (a->reserve && next > k->reserve_us)
        k->reserve_us = next;
}

void reserve_changed(struct keeper *k)
{
    k->reserve_us = 0;
    k->daemon_us = k->now_us;
    for (struct alloc *a = k->allocs; a; a = a->next)
        if (!a->run)
            a->idle_seconds = alloc_idle_seconds(k->target);
}
