/* words.c - what other tools call our commands: whoever types "stop" is told of "cancel" */
#include "cli/cli.h"
#include <string.h>

/* A word has a line for each command that it may mean; the first that can stand there counts. */
static const struct {
    const char *word, *command;
} words[] = {
    { "abort", "cancel" },
    { "artifact", "artifacts ls" },
    { "clean", "gc" },
    { "clusters", "target ls" },
    { "compute", "target ls" },
    { "config", "config list" },
    { "create", "add" },
    { "dashboard", "link" },
    { "datastore", "data ls" },
    { "datastores", "data ls" },
    { "delete", "rm" },
    { "describe", "show" },
    { "details", "show" },
    { "download", "get" },
    { "download", "artifacts get" },
    { "environments", "env ls" },
    { "envs", "env ls" },
    { "files", "artifacts ls" },
    { "follow", "attach" },
    { "gpus", "node ls" },
    { "history", "ps" },
    { "hosts", "node ls" },
    { "info", "show" },
    { "inspect", "show" },
    { "jobs", "ps" },
    { "kill", "cancel" },
    { "launch", "run" },
    { "list", "ls" },
    { "list", "ps" },
    { "ls", "ps" },
    { "machines", "node ls" },
    { "make", "build" },
    { "new", "add" },
    { "nodes", "node ls" },
    { "open", "link" },
    { "output", "logs" },
    { "outputs", "artifacts ls" },
    { "prune", "gc" },
    { "register", "add" },
    { "remove", "rm" },
    { "restart", "rerun" },
    { "resubmit", "rerun" },
    { "retry", "rerun" },
    { "runs", "ps" },
    { "secrets", "secret ls" },
    { "shell", "exec" },
    { "ssh", "exec" },
    { "start", "run" },
    { "stop", "cancel" },
    { "tail", "logs" },
    { "targets", "target ls" },
    { "terminate", "cancel" },
    { "train", "run" },
    { "ui", "link" },
    { "unregister", "rm" },
    { "upload", "put" },
    { "upload", "data put" },
    { "web", "link" },
};

const char *ty_cli_other_word(const char *word, const char *const *commands)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (size_t k = 0; !strcmp(words[i].word, word) && commands[k]; k++)
            if (!strcmp(commands[k], words[i].command))
                return commands[k];
    return NULL;
}
