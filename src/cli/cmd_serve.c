/* cmd_serve.c - trainyard serve: become the daemon, in the foreground */
#include "base/cleanup.h"
#include "base/conf.h"
#include "cli/commands.h"
#include "client/start_daemon.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int run(struct ty_cli *cli)
{
    CLEANUP_FREE char *program = NULL;
    CLEANUP_FREE char *home = NULL;
    struct ty_error err = { 0 };
    const char *named = ty_cli_value(cli, "home");
    bool system = ty_cli_flag(cli, "system");
    int r = ty_daemon_find(NULL, &program, &err);

    if (system && !named && !getenv("TRAINYARD_HOME"))
        named = TY_SYSTEM_HOME;
    if (r == 0)
        r = ty_client_find_home(named, &home, &err);
    if (r == 0) {
        execl(program, "trainyardd", "--home", home, system ? "--system" : NULL, (char *)NULL);
        ty_error_set(&err, -errno, "cannot run '%s': %m", program);
    }
    return ty_cli_fail(cli, &err);
}

static const struct ty_cli_option options[] = {
    { .name = "system",
      .help = "serve all users of this machine; needs root (state: " TY_SYSTEM_HOME ")" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_serve = {
    .name = "serve",
    .usage = "[--system]",
    .summary =
        "Run the daemon in the foreground (for a service manager, or to see why it does not start)",
    .options = options,
    .run = run,
};
