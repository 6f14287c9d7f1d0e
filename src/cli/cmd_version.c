/* cmd_version.c - trainyard version, trainyard --version */
#include "cli/commands.h"
#include "cli/out.h"
#include <trainyard/client.h>

static int run(struct ty_cli *cli)
{
    if (ty_cli_flag(cli, "json")) {
        CLEANUP_JSON json_t *v = json_pack("{sssi}", "version", TY_VERSION, "api", TY_API);

        return ty_out_json(cli, v);
    }
    puts("trainyard " TY_VERSION);
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_version = {
    .name = "version",
    .usage = "",
    .summary = "Print the version of this program",
    .options = options,
    .run = run,
};
