/* cmd_run.c - trainyard run: submit, show the output as it comes, end with the job's own exit code */
#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "cli/submit.h"

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *stored = NULL;
    struct ty_error err = { 0 };

    if (ty_cli_submit(cli, &stored, &err) < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "run %s\n", ty_out_str(stored, "id"));
    return ty_cli_follow_to_end(cli, ty_out_str(stored, "id"));
}

static const struct ty_cli_option options[] = {
    TY_SUBMIT_OPTIONS,
    { 0, "json", NULL, "print each event as one line of JSON instead of the output" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_run = {
    .name = "run",
    .usage = "[OPTIONS] -- COMMAND [ARGUMENTS]",
    .summary = "Run a command here: snapshot this folder, submit, follow",
    .examples =
        "  trainyard run -- python3 train.py --lr 0.01\n"
        "  trainyard run --env SEED=1 --cpus 2 --max-run-duration 2h -- ./train.sh\n"
        "  trainyard run --data in=workspaceblobstore/corpus --expand -- python3 train.py '$AZUREML_DATAREFERENCE_in'\n",
    .text =
        "The exit code is the job's own (128 + signal); Trainyard's own failures give 125.  Ctrl-C detaches: the run goes on.\n"
        "Of your environment the job gets PATH and what --env names, nothing else.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .takes_command = true,
    .own_failure = TY_EXIT_OWN,
    .run = run,
};
