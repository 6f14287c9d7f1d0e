/* cmd_link.c - trainyard link: the address of the pages, for a browser on this machine */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"

static int revoke_links(struct ty_cli *cli)
{
    const struct ty_call call = { 0 };
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_client_link_revoke(cli->client, &call, NULL, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "the links that you got so far are void; 'trainyard link' prints a new one\n");
    return TY_EXIT_OK;
}

/* "run=...", "experiment=..." or "". */
static int query_of(struct ty_cli *cli, struct ty_str *ret, struct ty_error *err)
{
    const char *experiment = ty_cli_value(cli, "experiment");
    CLEANUP_FREE char *run = NULL;
    int r = cli->nargs > 0 ? ty_cli_run_id(cli, cli->args[0], &run, err) : 0;

    if (run) {
        ty_str_add(ret, "run=");
        ty_str_add_url(ret, run, false);
    } else if (experiment) {
        ty_str_add(ret, "experiment=");
        ty_str_add_url(ret, experiment, false);
    }
    return r;
}

static int run(struct ty_cli *cli)
{
    CLEANUP_STR struct ty_str query = { 0 };
    CLEANUP_JSON json_t *link = NULL;
    struct ty_error err = { 0 };
    int r;

    if (ty_cli_flag(cli, "revoke"))
        return revoke_links(cli);
    r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = query_of(cli, &query, &err);
    if (r == 0) {
        const struct ty_call call = { .query = query.text };

        r = ty_cli_get(cli, TY_ROUTE_link_get, &call, &link, &err);
    }
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, link);
    puts(ty_out_str(link, "url"));
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = {
    { 'e', "experiment", "NAME", "to the list of the runs of this experiment" },
    { 0, "revoke", NULL, "make every link void that you have got so far" },
    TY_OPT_JSON,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_link = {
    .name = "link",
    .usage = "[OPTIONS] [RUN]",
    .summary = "Print the address of the pages, for a browser on this machine",
    .examples = "  trainyard link                    the newest runs\n"
                "  trainyard link @last              one run: its log and curves, live\n"
                "  xdg-open $(trainyard link @last)\n",
    .text =
        "The first link opens a port on 127.0.0.1 (http.port; http.pages = false forbids it), and the daemon keeps it.\n"
        "Whoever has a link reads what you may read: treat it as a password.  From another machine, forward the port:\n"
        "ssh -L PORT:127.0.0.1:PORT HOST, and open the same link there.\n",
    .options = options,
    .max = 1,
    .run = run,
};
