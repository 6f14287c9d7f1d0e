/* cmd_rm.c - trainyard rm: remove ended runs with their logs and files */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/runs.h"
#include "client/stubs.h"

static void free_ids(char **ids, int n)
{
    while (n-- > 0)
        free(ids[n]);
    free(ids);
}

/* Every name is looked up before the first is removed: "rm @last @last" must not remove two. */
static int find_all(struct ty_cli *cli, char **ids, struct ty_error *err)
{
    int i, r = ty_cli_client(cli, true, err);

    for (i = 0; i < cli->nargs && r == 0; i++)
        r = ty_cli_run_id(cli, cli->args[i], &ids[i], err);
    return r;
}

static int confirm(struct ty_cli *cli, char **ids)
{
    CLEANUP_FREE char *question =
        cli->nargs == 1 ? ty_strf("Remove run '%s' with its logs and files?", ids[0])
                        : ty_strf("Remove %d runs with their logs and files?", cli->nargs);
    int yes = ty_cli_ask(cli, question ? question : "Remove?");

    if (yes < 0)
        return ty_cli_usage(cli, "removing needs -y where nobody can be asked");
    return yes ? TY_EXIT_OK : TY_EXIT_FAILED;
}

static bool named_before(char **ids, int n)
{
    int i;

    for (i = 0; i < n; i++)
        if (!strcmp(ids[i], ids[n]))
            return true;
    return false;
}

static int run(struct ty_cli *cli)
{
    char **ids = calloc((size_t)cli->nargs, sizeof *ids);
    struct ty_error err = { 0 };
    int i, code;

    if (!ids || find_all(cli, ids, &err) < 0)
        code = ty_cli_fail(cli, &err);
    else
        code = confirm(cli, ids);
    for (i = 0; i < cli->nargs && code == TY_EXIT_OK; i++) {
        struct ty_call call = { .args = { ids[i] } };

        if (named_before(ids, i))
            continue;
        if (ty_client_run_delete(cli->client, &call, NULL, &err) < 0)
            code = ty_cli_fail(cli, &err);
        else
            fprintf(stderr, "removed run '%s'\n", ids[i]);
    }
    if (ids)
        free_ids(ids, cli->nargs);
    return code;
}

static const struct ty_cli_option options[] = { TY_OPT_YES, TY_OPT_END };

const struct ty_cli_command ty_cmd_rm = {
    .name = "rm",
    .usage = "RUN...",
    .summary = "Remove ended runs with their logs and files",
    .examples = "  trainyard rm -y $(trainyard ps -q -s Failed)\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  A run that has not ended must be canceled first.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .run = run,
};
