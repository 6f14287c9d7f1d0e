/* courier.c - starting couriers, and leaving them alone */
#include "target/courier.h"
#include "target/process.h"

#define KILLS_IGNORED 15 /* the scheduler asks once a second */

int ty_courier_start(const struct ty_job_start *how, struct ty_job **ret, struct ty_error *err)
{
    return ty_process_start(how, "courier", ret, err);
}

void ty_courier_kill(struct ty_job *job)
{
    if (ty_process_kills(job) > KILLS_IGNORED)
        ty_process_kill(job);
}
