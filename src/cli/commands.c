/* commands.c - the table of commands */
#include "cli/commands.h"

#define X(name) &ty_cmd_##name,
const struct ty_cli_command *const ty_cli_commands[] = { TY_COMMANDS(X) NULL };
#undef X
