/* cmd_up.c - trainyard up: start the daemon, if none runs */
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *status = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_status_get, NULL, &status, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, status);
    fprintf(stderr, "trainyard %s serves '%s' (process %lld)\n", ty_out_str(status, "version"),
            ty_out_str(status, "home"),
            (long long)json_integer_value(json_object_get(status, "pid")));
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_up = {
    .name = "up",
    .usage = "",
    .summary = "Start the daemon (other commands do so when they need it)",
    .options = options,
    .run = run,
};
