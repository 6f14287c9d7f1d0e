/* commands.h - every command; a new one is a file cmd_<name>.c and a line here */
#ifndef TY_CLI_COMMANDS_H
#define TY_CLI_COMMANDS_H
#include "cli/cli.h"

/* In the order of the help. */
/* clang-format off */
#define TY_COMMANDS(X) \
    X(run) \
    X(submit) X(rerun) \
    X(ps) X(show) X(why) X(logs) X(attach) X(exec) X(wait) X(cancel) X(tag) X(rm) X(diff) X(compare) X(metrics) X(link) \
    X(artifacts_ls) X(artifacts_get) X(data_ls) X(data_put) X(data_get) X(data_show) X(data_add) X(data_default) X(data_rm) X(data_cache) \
    X(target_ls) X(target_show) X(target_add) X(target_rm) X(target_drain) X(target_resume) X(node_ls) X(queue_ls) X(queue_pause) X(queue_resume) \
    X(env_ls) X(env_show) X(env_build) X(env_gc) \
    X(secret_ls) X(secret_get) X(secret_set) X(secret_rm) \
    X(up) X(down) X(status) X(doctor) X(gc) X(backup) X(restore) X(serve) X(config_list) X(config_get) X(config_set) X(api) X(completion) \
    X(version) X(help)
/* clang-format on */
#define X(name) extern const struct ty_cli_command ty_cmd_##name;
TY_COMMANDS(X)
#undef X
#endif
