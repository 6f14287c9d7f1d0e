/* cmd_cancel.c - trainyard cancel: ask runs to stop */
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/run_state.h"

static bool ended(const json_t *run)
{
    enum ty_run_state state = ty_run_state_parse(ty_out_str(run, "state"));

    return state != TY_RUN_STATE_INVALID && ty_run_state_ended(state);
}

static int cancel(struct ty_cli *cli, const char *ref, struct ty_error *err)
{
    CLEANUP_FREE char *id = NULL;
    CLEANUP_JSON json_t *run = NULL;
    struct ty_call call = { 0 };
    int r = ty_cli_run_id(cli, ref, &id, err);

    call.args[0] = id;
    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_run_cancel, &call, &run, err);
    if (r < 0)
        return ty_cli_fail(cli, err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, run);
    fprintf(stderr, ended(run) ? "run '%s' had ended before: %s\n" : "run '%s': %s\n", id,
            ty_out_str(run, "state"));
    return TY_EXIT_OK;
}

static int run(struct ty_cli *cli)
{
    struct ty_error err = { 0 };
    int code = TY_EXIT_OK, i;

    if (ty_cli_client(cli, true, &err) < 0)
        return ty_cli_fail(cli, &err);
    for (i = 0; i < cli->nargs; i++) {
        int one = cancel(cli, cli->args[i], &err);

        code = code ? code : one;
    }
    return code;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_cancel = {
    .name = "cancel",
    .usage = "RUN...",
    .summary = "Ask runs to stop; their outputs so far are kept",
    .examples = "  trainyard cancel @last\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  'trainyard wait' waits until they have ended.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .run = run,
};
