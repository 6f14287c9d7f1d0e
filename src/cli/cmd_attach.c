/* cmd_attach.c - trainyard attach: follow a run as `trainyard run` does after the submission */
#include "cli/commands.h"
#include "cli/runs.h"

static int run(struct ty_cli *cli)
{
    CLEANUP_FREE char *id = NULL;
    CLEANUP_JSON json_t *found = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, &err);
    if (r == 0) /* what cannot be found is not "detached" */
        r = ty_cli_run(cli, id, &found, &err);
    return r < 0 ? ty_cli_fail(cli, &err) : ty_cli_follow_to_end(cli, id);
}

static const struct ty_cli_option options[] = {
    { 0, "json", NULL, "print each event as one line of JSON instead of the output" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_attach = {
    .name = "attach",
    .usage = "[OPTIONS] RUN",
    .summary = "Follow a run to its end, with its output and exit code",
    .examples = "  trainyard attach @last\n"
                "  trainyard attach first_17 > output.txt && echo it went well\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  The output comes from its beginning, and to standard output; of a run that\n"
        "has ended it is all that there is.  The exit code is the job's own (128 + signal); Trainyard's own failures give 125.\n"
        "Ctrl-C detaches: the run goes on.  'trainyard logs -f --tail N RUN' begins later, and does not give the job's code.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .own_failure = TY_EXIT_OWN,
    .run = run,
};
