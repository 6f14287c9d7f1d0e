/* cmd_serve.c - trainyard serve: become the daemon, in the foreground */
#include "base/cleanup.h"
#include "cli/commands.h"
#include "client/start_daemon.h"
#include <errno.h>
#include <unistd.h>

static int run(struct ty_cli *cli)
{
    CLEANUP_FREE char *program = NULL;
    CLEANUP_FREE char *home = NULL;
    struct ty_error err = { 0 };
    int r = ty_daemon_find(NULL, &program, &err);

    if (r == 0)
        r = ty_client_find_home(ty_cli_value(cli, "home"), &home, &err);
    if (r == 0) {
        execl(program, "trainyardd", "--home", home, (char *)NULL);
        ty_error_set(&err, -errno, "cannot run '%s': %m", program);
    }
    return ty_cli_fail(cli, &err);
}

const struct ty_cli_command ty_cmd_serve = {
    .name = "serve",
    .usage = "",
    .summary =
        "Run the daemon in the foreground (for a service manager, or to see why it does not start)",
    .run = run,
};
