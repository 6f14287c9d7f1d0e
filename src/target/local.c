/* local.c - runners on this box */
#include "target/local.h"
#include "base/error.h"
#include "base/str.h"
#include "target/process.h"
#include <errno.h>

static int local_check(const struct ty_target_spec *target, const struct ty_run_spec *run,
                       struct ty_str *warning, struct ty_error *err)
{
    if (!run->use_gpu || ty_target_gpus() > 0)
        return 0;
    if (target->require_gpu)
        return ty_error_set(
            err, -EINVAL,
            "use_gpu is true, and target '%s' has no GPU but requires one (require_gpu); "
            "set use_gpu=False, or require_gpu=false on the target to run on the CPU",
            run->target);
    ty_str_addf(warning, "use_gpu is true, but target '%s' has no GPU: the run uses the CPU",
                run->target);
    return 0;
}

static int local_start(const struct ty_job_start *how, struct ty_job **ret, struct ty_error *err)
{
    return ty_process_start(how, "runner", ret, err);
}

const struct ty_target_kind ty_target_local = {
    .name = "local",
    .check = local_check,
    .start = local_start,
    .cancel = ty_process_cancel,
    .kill = ty_process_kill,
    .free = ty_process_free,
};
