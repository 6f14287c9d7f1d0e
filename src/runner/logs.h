/* logs.h - the logs of a job at its runner: the control log, one for the output of each rank, and one for each node that builds
 * its environment
 *
 * The first is the control log; those of the runner's own ranks follow in their order, and then those that were added.
 */
#ifndef TY_LOGS_H
#define TY_LOGS_H
#include "runner/jobfile.h"
#include "runner/logtail.h"

enum ty_log_id { TY_LOG_CONTROL, TY_LOG_DRIVER /* of the runner's first rank */ };

struct ty_log {
    struct ty_logtail tail;
    char *name;      /* "azureml-logs/70_driver_log.txt" */
    int rank;        /* -1: the control log; TY_LOG_BUILD */
    bool limit_told; /* the warning that it reached its limit was given */
};
struct ty_logs {
    struct ty_log *at;
    int n, cap;
    int turn; /* whose turn it is to be sent */
};
/* Make or open the control log and those of the ranks that this runner starts; the latter belong to the job's owner. */
int ty_logs_open(struct ty_logs *l, const struct ty_jobfile *j, struct ty_error *err);
/* In place of a rank: what building the environment of that node says. */
#define TY_LOG_BUILD(node) (-2 - (node))
/* One more, of a rank that runs elsewhere, or of a build: the runner's own. */
int ty_logs_add(struct ty_logs *l, const struct ty_jobfile *j, int rank, struct ty_error *err);
/* Those of ranks that run elsewhere, and of builds, as far as an earlier runner has left them in the folder: what it had taken is nowhere else. */
int ty_logs_take_up(struct ty_logs *l, const struct ty_jobfile *j, struct ty_error *err);
/* NULL: that rank has none here.  Pointers are good until the next ty_logs_add. */
struct ty_log *ty_logs_of_rank(const struct ty_logs *l, int rank);
void ty_logs_done(struct ty_logs *l);
#endif
