/* cmd_data_store.c - trainyard data show, add, default, rm: datastores themselves
 *
 * Keys come from an environment variable, a file or a terminal that does not show them, never from the command line.
 */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "cli/secret_input.h"
#include "client/stubs.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- show ---- */

static void print_line(const char *key, const char *value)
{
    CLEANUP_FREE char *safe = ty_out_safe(value);

    printf("%-14s %s\n", key, safe ? safe : "");
}

static void print_store(const json_t *store)
{
    CLEANUP_FREE char *where = ty_objects_where(store);
    const char *key;
    json_t *value;

    print_line("datastore", ty_out_str(store, "name"));
    print_line("kind", ty_out_str(store, "kind"));
    print_line("where", where ? where : "");
    print_line("default", json_is_true(json_object_get(store, "default")) ? "yes" : "no");
    print_line("credentials", ty_out_str(store, "credentials"));
    print_line("created", ty_out_str(store, "created"));
    json_object_foreach (json_object_get(store, "config"), key, value) {
        CLEANUP_FREE char *text = ty_out_value(value);

        print_line(key, text ? text : "");
    }
}

static int show(struct ty_cli *cli)
{
    const struct ty_call call = { .args = { cli->args[0] } };
    CLEANUP_JSON json_t *store = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_datastore_get, &call, &store, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, store);
    print_store(store);
    return TY_EXIT_OK;
}

/* ---- add ---- */

static const struct {
    const char *option, *key;
} plain[] = {
    { "root", "root" },
    { "bucket", "bucket" },
    { "prefix", "prefix" },
    { "region", "region" },
    { "endpoint", "endpoint" },
    { "key-id", "access_key_id" },
    { "account", "account_name" },
    { "container", "container_name" },
    { "share", "file_share_name" },
    { "protocol", "protocol" },
};

/* The options say it when --kind does not. */
static const char *kind_of(const struct ty_cli *cli)
{
    const char *kind = ty_cli_value(cli, "kind");

    if (kind)
        return kind;
    return ty_cli_value(cli, "bucket")      ? "s3"
           : ty_cli_value(cli, "container") ? "azureblob"
           : ty_cli_value(cli, "share")     ? "azurefile"
           : ty_cli_value(cli, "root")      ? "file"
                                            : NULL;
}

static int put_plain(const struct ty_cli *cli, json_t *config, struct ty_error *err)
{
    const char *style = ty_cli_value(cli, "path-style");

    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const char *value = ty_cli_value(cli, plain[i].option);

        if (value && json_object_set_new(config, plain[i].key, json_string(value)) < 0)
            return ty_error_set(err, -EINVAL, "--%s is not UTF-8", plain[i].option);
    }
    if (style && strcmp(style, "yes") != 0 && strcmp(style, "no") != 0)
        return ty_error_set(err, -EINVAL, "--path-style is '%.40s', and must be yes or no", style);
    if (style && json_object_set_new(config, "path_style", json_boolean(*style == 'y')) < 0)
        return ty_error_oom(err);
    return 0;
}

static int put_secret(json_t *config, const char *key, const char *what, const struct ty_str *value,
                      struct ty_error *err)
{
    if (!value->len)
        return ty_error_set(err, -EINVAL, "%s is empty", what);
    return json_object_set_new(config, key, json_string(value->text)) < 0
               ? ty_error_set(err, -EINVAL, "%s is not UTF-8", what)
               : 0;
}

/* The key: from where the options say, or asked for on a terminal. */
static int put_key(const struct ty_cli *cli, const char *kind, json_t *config, struct ty_error *err)
{
    CLEANUP_STR struct ty_str value = { 0 };
    bool s3 = strcmp(kind, "s3") == 0, sas = ty_cli_flag(cli, "sas");
    const char *file = ty_cli_value(cli, "key-file"), *env = ty_cli_value(cli, "key-env");
    const char *key = s3 ? "secret_access_key" : sas ? "sas_token" : "account_key";
    const char *what = s3 ? "the secret access key" : sas ? "the SAS token" : "the account key";
    int r;

    if (ty_cli_flag(cli, "no-key"))
        return file || env ? ty_error_set(err, -EINVAL, "--no-key, and a key: give one of them")
                           : 0;
    if (file && env)
        return ty_error_set(err, -EINVAL, "--key-file and --key-env: give one of them");
    if (s3 && sas)
        return ty_error_set(err, -EINVAL, "--sas is for kind azureblob");
    if (!file && !env && !isatty(0))
        return ty_error_set(
            err, -EINVAL,
            "where is %s? Give --key-env NAME, --key-file FILE, or --no-key when the "
            "store wants none",
            what);
    r = env ? ty_secret_from_env(what, env, &value, err) : ty_secret_read(what, file, &value, err);
    return r < 0 ? r : put_secret(config, key, what, &value, err);
}

static int put_token(const struct ty_cli *cli, json_t *config, struct ty_error *err)
{
    CLEANUP_STR struct ty_str value = { 0 };
    const char *env = ty_cli_value(cli, "token-env"), *what = "the session token";
    int r = env ? ty_secret_from_env(what, env, &value, err) : 0;

    return r < 0 || !env ? r : put_secret(config, "session_token", what, &value, err);
}

static json_t *body_of(struct ty_cli *cli, const char *kind, struct ty_error *err)
{
    CLEANUP_JSON json_t *config = json_object();
    int r = config ? put_plain(cli, config, err) : ty_error_oom(err);
    json_t *body;

    if (r == 0 && (strcmp(kind, "s3") == 0 || strcmp(kind, "azureblob") == 0))
        r = put_key(cli, kind, config, err);
    if (r == 0)
        r = put_token(cli, config, err);
    if (r < 0)
        return NULL;
    body =
        json_pack("{s:s s:O s:b s:b s:b}", "kind", kind, "config", config, "overwrite",
                  ty_cli_flag(cli, "overwrite"), "create_if_not_exists", ty_cli_flag(cli, "create"),
                  "skip_validation", ty_cli_flag(cli, "skip-validation"));
    if (!body)
        ty_error_oom(err);
    return body;
}

static int add(struct ty_cli *cli)
{
    const char *name = cli->args[0], *kind = kind_of(cli);
    CLEANUP_JSON json_t *body = NULL;
    CLEANUP_FREE char *text = NULL;
    struct ty_call call = { .args = { name } };
    struct ty_error err = { 0 };
    int r;

    if (!kind)
        return ty_cli_usage(cli, "which kind? --kind file, s3, azureblob or azurefile, or one of "
                                 "--root, --bucket and --container");
    body = body_of(cli, kind, &err);
    if (!body)
        return err.code == -EINVAL ? ty_cli_usage(cli, "%s", err.text) : ty_cli_fail(cli, &err);
    text = ty_json_text(body);
    r = text ? ty_cli_client(cli, true, &err) : ty_error_oom(&err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    call.body = text;
    call.body_len = strlen(text);
    r = ty_client_datastore_put(cli->client, &call, NULL, &err);
    explicit_bzero(text, call.body_len);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "registered datastore '%s'\n", name);
    return TY_EXIT_OK;
}

/* ---- default, rm ---- */

static int make_default(struct ty_cli *cli)
{
    const struct ty_call call = { .args = { cli->args[0] } };
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_client_datastore_default(cli->client, &call, NULL, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "the default datastore is '%s'\n", cli->args[0]);
    return TY_EXIT_OK;
}

static int rm(struct ty_cli *cli)
{
    return ty_cli_remove_each(cli, TY_ROUTE_datastore_delete, "forgot datastore",
                              "; its data stays where it is");
}

static const struct ty_cli_option show_options[] = { TY_OPT_JSON, TY_OPT_END };
static const struct ty_cli_option no_options[] = { TY_OPT_END };
static const struct ty_cli_option add_options[] = {
    { 0, "kind", "KIND", "file, s3, azureblob or azurefile (default: what the other options say)" },
    { 0, "root", "DIR", "file: the folder; azurefile: where the share is mounted" },
    { 0, "bucket", "NAME", "s3: the bucket" },
    { 0, "region", "NAME", "s3: its region (default: us-east-1)" },
    { 0, "endpoint", "URL",
      "s3: the server (default: AWS); azureblob: DNS suffix, or address of the account" },
    { 0, "path-style", "YES",
      "s3: the bucket is part of the path (yes), or of the host name (no)" },
    { 0, "key-id", "ID", "s3: the access key's id" },
    { 0, "account", "NAME", "azureblob: the storage account" },
    { 0, "container", "NAME", "azureblob: the container" },
    { 0, "share", "NAME", "azurefile: the share" },
    { 0, "protocol", "WORD", "azureblob: https (default) or http" },
    { 0, "prefix", "PATH", "only what is below this path in the bucket or container" },
    { 0, "sas", NULL, "azureblob: the key is a SAS token" },
    { 0, "key-env", "NAME", "the environment variable that has the key" },
    { 0, "key-file", "FILE", "the file that has the key ('-': standard input)" },
    { 0, "no-key", NULL, "the store wants no key" },
    { 0, "token-env", "NAME", "s3: the environment variable that has the session token" },
    { 0, "create", NULL, "make the container, bucket or folder when it is not there" },
    { 0, "overwrite", NULL, "replace a datastore of that name" },
    { 0, "skip-validation", NULL, "do not ask the store whether it can be used" },
    TY_OPT_END
};

const struct ty_cli_command ty_cmd_data_show = {
    .name = "data show",
    .usage = "DATASTORE",
    .summary = "Show one datastore, without its key",
    .options = show_options,
    .min = 1,
    .max = 1,
    .run = show,
};
const struct ty_cli_command ty_cmd_data_add = {
    .name = "data add",
    .usage = "NAME [OPTIONS]",
    .summary = "Register a folder, a bucket or a container as a datastore",
    .examples =
        "  trainyard data add corpus --root /srv/corpus\n"
        "  trainyard data add sets --bucket sets --endpoint https://s3.example.org --key-id ann    asks for the key\n"
        "  trainyard data add blobs --account acc --container con --key-env AZURE_STORAGE_KEY\n",
    .text =
        "The key comes from --key-env or --key-file, or is asked for on the terminal; it is sealed in the state folder, and goes only\n"
        "to who asks how the store is reached and to the jobs that use it.\n",
    .options = add_options,
    .min = 1,
    .max = 1,
    .run = add,
};
const struct ty_cli_command ty_cmd_data_default = {
    .name = "data default",
    .usage = "DATASTORE",
    .summary = "Make a datastore the default one",
    .options = no_options,
    .min = 1,
    .max = 1,
    .run = make_default,
};
const struct ty_cli_command ty_cmd_data_rm = {
    .name = "data rm",
    .usage = "DATASTORE...",
    .summary = "Forget datastores; their data stays",
    .options = no_options,
    .min = 1,
    .max = -1,
    .run = rm,
};
