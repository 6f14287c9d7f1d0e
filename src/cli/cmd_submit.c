/* cmd_submit.c - trainyard submit: as run, without following */
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/submit.h"

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *stored = NULL;
    struct ty_error err = { 0 };
    const char *id;

    if (ty_cli_submit(cli, &stored, &err) < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, stored);
    id = ty_out_str(stored, "id");
    puts(id);
    if (!ty_cli_flag(cli, "quiet"))
        fprintf(stderr, "submitted; 'trainyard logs -f %s' follows it\n", id);
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = { TY_SUBMIT_OPTIONS, TY_OPT_JSON, TY_OPT_QUIET,
                                                TY_OPT_END };

const struct ty_cli_command ty_cmd_submit = {
    .name = "submit",
    .usage = "[OPTIONS] -- COMMAND [ARGUMENTS]",
    .summary = "Submit a command and return at once; prints the run's id",
    .examples =
        "  id=$(trainyard submit -q -- python3 train.py); trainyard wait --exit-status $id\n",
    .options = options,
    .min = 1,
    .max = -1,
    .takes_command = true,
    .run = run,
};
