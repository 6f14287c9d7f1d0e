/* cmd_secret.c - trainyard secret ls, get, set, rm: values that scripts need and nobody shall read in passing
 *
 * A value comes from standard input or a file, never from the command line, which every user of the box can
 * list and the shell remembers.
 */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "cli/secret_input.h"
#include "client/stubs.h"
#include <errno.h>
#include <string.h>

static int ls(struct ty_cli *cli)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "SECRET", "CHANGED" }, .state_column = -1 };
    CLEANUP_JSON json_t *reply = NULL;
    struct ty_error err = { 0 };
    const json_t *secret;
    size_t i;
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_secret_list, NULL, &reply, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, reply);
    json_array_foreach (json_object_get(reply, "secrets"), i, secret) {
        const char *cells[] = { ty_out_str(secret, "name"), ty_out_str(secret, "changed") };

        ty_table_row(&t, cells);
    }
    return ty_table_print(cli, &t);
}

static int get(struct ty_cli *cli)
{
    const struct ty_call call = { .args = { cli->args[0] } };
    CLEANUP_JSON json_t *reply = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_secret_get, &call, &reply, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    puts(ty_out_str(reply, "value"));
    return TY_EXIT_OK;
}

/* ---- set ---- */

static int send_value(struct ty_cli *cli, const char *name, const struct ty_str *value,
                      struct ty_error *err)
{
    CLEANUP_JSON json_t *body = json_pack("{s:s}", "value", value->text ? value->text : "");
    CLEANUP_FREE char *text = body ? ty_json_text(body) : NULL;
    struct ty_call call = { .args = { name }, .body = text };

    if (!body)
        return ty_error_set(err, -EINVAL, "the value of secret '%s' is not UTF-8", name);
    if (!text)
        return ty_error_oom(err);
    call.body_len = strlen(text);
    return ty_client_secret_put(cli->client, &call, NULL, err);
}

static int set(struct ty_cli *cli)
{
    CLEANUP_STR struct ty_str value = { 0 };
    struct ty_error err = { 0 };
    CLEANUP_FREE char *what = ty_strf("the value of secret '%s'", cli->args[0]);
    int r =
        what ? ty_secret_read(what, ty_cli_value(cli, "file"), &value, &err) : ty_error_oom(&err);

    if (r == 0)
        r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = send_value(cli, cli->args[0], &value, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "set secret '%s'\n", cli->args[0]);
    return TY_EXIT_OK;
}

static int rm(struct ty_cli *cli)
{
    return ty_cli_remove_each(cli, TY_ROUTE_secret_delete, "removed secret", "");
}

static const struct ty_cli_option ls_options[] = { TY_OPT_JSON, TY_OPT_PLAIN, TY_OPT_QUIET,
                                                   TY_OPT_END };
static const struct ty_cli_option set_options[] = {
    { 0, "file", "FILE", "read the value from this file (default: standard input)" }, TY_OPT_END
};
static const struct ty_cli_option no_options[] = { TY_OPT_END };

const struct ty_cli_command ty_cmd_secret_ls = {
    .name = "secret ls",
    .usage = "",
    .summary = "List the names of secrets",
    .options = ls_options,
    .run = ls,
};
const struct ty_cli_command ty_cmd_secret_get = {
    .name = "secret get",
    .usage = "NAME",
    .summary = "Print a secret",
    .options = no_options,
    .min = 1,
    .max = 1,
    .run = get,
};
const struct ty_cli_command ty_cmd_secret_set = {
    .name = "secret set",
    .usage = "NAME",
    .summary = "Set a secret, from standard input or a file",
    .examples = "  trainyard secret set wandb-key            asks for it\n"
                "  trainyard secret set wandb-key < key.txt\n",
    .text =
        "Scripts read it with run.get_secret('NAME').  One end of line at its end is left out.\n",
    .options = set_options,
    .min = 1,
    .max = 1,
    .run = set,
};
const struct ty_cli_command ty_cmd_secret_rm = {
    .name = "secret rm",
    .usage = "NAME...",
    .summary = "Remove secrets",
    .options = no_options,
    .min = 1,
    .max = -1,
    .run = rm,
};
