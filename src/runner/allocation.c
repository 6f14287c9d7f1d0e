/* allocation.c - asking Slurm for the state of the allocation that the job runs in */
#include "runner/allocation.h"
#include "base/error.h"
#include "base/str.h"
#include "target/slurm_ask.h"
#include "target/slurm_command.h"
#include <string.h>

#define ASK_MS 2000

static const char *reason_of(const char *text, long long job, char **message)
{
    char state[32] = "", reason[64] = "", preempted[32] = "None";
    bool going;

    ty_slurm_value(text, "JobState", state, sizeof state);
    ty_slurm_value(text, "Reason", reason, sizeof reason);
    ty_slurm_value(text, "PreemptTime", preempted, sizeof preempted);
    going = strcmp(state, "RUNNING") == 0 || strcmp(state, "SUSPENDED") == 0 || !*state;
    if (strcmp(state, "PREEMPTED") == 0 || strcmp(preempted, "None") != 0) {
        *message = ty_strf("Slurm took the nodes of its job %lld for another job", job);
        return "preempted";
    }
    if (going)
        return NULL;
    if (strcmp(state, "TIMEOUT") == 0 || strcmp(reason, "TimeLimit") == 0) {
        *message = ty_strf("Slurm ended its job %lld at the time limit of the allocation", job);
        return "time_limit";
    }
    if (strcmp(state, "NODE_FAIL") == 0 || strcmp(reason, "NodeDown") == 0) {
        *message = ty_strf("a node of Slurm job %lld failed", job);
        return "node_lost";
    }
    if (strcmp(state, "OUT_OF_MEMORY") == 0) {
        *message = ty_strf(
            "Slurm job %lld used more memory than it had; ask for more (resources, memory_mb)",
            job);
        return "out_of_memory";
    }
    *message = ty_strf("Slurm job %lld was canceled from outside (scancel)", job);
    return "cancel";
}

const char *ty_allocation_end(const json_t *job, char **message)
{
    const json_t *a = json_object_get(job, "allocation");
    long long number = json_integer_value(json_object_get(a, "job"));
    struct ty_slurm_setting where = { .environment = json_object_get(a, "environment") };
    CLEANUP_FREE char *text = ty_strf("%lld", number);
    const char *argv[] = { "scontrol", "show", "job", "-o", text, NULL };
    CLEANUP_FREE char *out = NULL;
    struct ty_error err;

    if (number <= 0 || !text || ty_slurm_run(&where, argv, ASK_MS, &out, &err) < 0)
        return NULL;
    return reason_of(out, number, message);
}
