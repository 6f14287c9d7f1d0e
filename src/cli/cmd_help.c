/* cmd_help.c - trainyard help [COMMAND] */
#include "cli/commands.h"

static int run(struct ty_cli *cli)
{
    const struct ty_cli_command *c;
    int words;

    if (cli->nargs == 0)
        return ty_cli_help(NULL);
    c = ty_cli_find(cli->args[0], cli->args[1], &words);
    if (c && words == cli->nargs)
        return ty_cli_help(c);
    if (cli->nargs == 1 && ty_cli_help_group(cli->args[0]))
        return TY_EXIT_OK;
    if (ty_cli_find(cli->args[0], NULL, &words))
        return ty_cli_usage(cli, "no command '%s %s'", cli->args[0], cli->args[1]);
    return ty_cli_unknown(cli, cli->args[0], cli->args[1]);
}

const struct ty_cli_command ty_cmd_help = {
    .name = "help",
    .usage = "[COMMAND]",
    .summary = "Explain a command",
    .max = 2,
    .run = run,
};
