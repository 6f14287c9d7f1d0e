/* logs.c - opening the logs of a job */
#include "runner/logs.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CONTROL_LOG "azureml-logs/60_control_log.txt"

static int add(struct ty_logs *l, const struct ty_jobfile *j, const char *name, int rank,
               struct ty_error *err)
{
    struct ty_log log = { .rank = rank };
    int r;

    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 4;
        struct ty_log *more = realloc(l->at, (size_t)cap * sizeof *more);

        if (!more)
            return ty_error_oom(err);
        l->at = more;
        l->cap = cap;
    }
    log.name = strdup(name);
    if (!log.name)
        return ty_error_oom(err);
    r = ty_logtail_open(&log.tail, j->log, log.name, (uint64_t)j->log_bytes_max, err);
    if (r < 0) {
        free(log.name);
        return r;
    }
    ty_logtail_base(&log.tail, (uint64_t)json_integer_value(json_object_get(j->log_base, name)));
    l->at[l->n++] = log;
    return 0;
}

int ty_logs_add(struct ty_logs *l, const struct ty_jobfile *j, int rank, struct ty_error *err)
{
    char name[TY_DRIVER_LOG_MAX];

    return add(l, j,
               rank <= TY_LOG_BUILD(0) ? ty_build_log(TY_LOG_BUILD(rank), name)
                                       : ty_driver_log(rank, j->size, name),
               rank, err);
}

static int take_up(struct ty_logs *l, const struct ty_jobfile *j, int rank, const char *name,
                   struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(j->log, name);

    return path && access(path, F_OK) == 0 ? ty_logs_add(l, j, rank, err) : 0;
}

int ty_logs_take_up(struct ty_logs *l, const struct ty_jobfile *j, struct ty_error *err)
{
    int first, n = ty_jobfile_own_ranks(j, &first), r = 0;
    char name[TY_DRIVER_LOG_MAX];

    for (int rank = 0; rank < j->size && r == 0; rank++)
        if (rank < first || rank >= first + n)
            r = take_up(l, j, rank, ty_driver_log(rank, j->size, name), err);
    for (int node = 0; node < j->nnodes && r == 0; node++)
        r = take_up(l, j, TY_LOG_BUILD(node), ty_build_log(node, name), err);
    return r;
}

int ty_logs_open(struct ty_logs *l, const struct ty_jobfile *j, struct ty_error *err)
{
    int first, n = ty_jobfile_own_ranks(j, &first);
    int r = add(l, j, CONTROL_LOG, -1, err);

    for (int rank = first; rank < first + n && r == 0; rank++) {
        r = ty_logs_add(l, j, rank, err);
        if (r == 0 && j->owner && fchown(l->at[l->n - 1].tail.fd, j->owner->uid, j->owner->gid) < 0)
            r = ty_error_set(err, -errno, "cannot give the log to user '%s': %m", j->owner->name);
    }
    return r;
}

struct ty_log *ty_logs_of_rank(const struct ty_logs *l, int rank)
{
    int guess = l->n > TY_LOG_DRIVER ? TY_LOG_DRIVER + rank - l->at[TY_LOG_DRIVER].rank : -1;

    if (guess >= TY_LOG_DRIVER && guess < l->n && l->at[guess].rank == rank)
        return &l->at[guess];
    for (int i = TY_LOG_DRIVER; i < l->n; i++)
        if (l->at[i].rank == rank)
            return &l->at[i];
    return NULL;
}

void ty_logs_done(struct ty_logs *l)
{
    for (int i = 0; i < l->n; i++) {
        ty_logtail_done(&l->at[i].tail);
        free(l->at[i].name);
    }
    free(l->at);
    *l = (struct ty_logs){ 0 };
}
