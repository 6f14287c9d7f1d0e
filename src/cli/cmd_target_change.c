/* cmd_target_change.c - trainyard target add, rm, drain, resume */
#include "base/fs.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SPEC_BYTES_MAX (4 << 20)

/* ---- target add ---- */

/* What an option puts into the spec; its name with '-' is the key with '_'. */
enum sort { TEXT, NUMBER, YES, LIST };
static const struct {
    const char *option, *key;
    enum sort sort;
} plain[] = {
    { "kind", "kind", TEXT },
    { "vm-size", "vm_size", TEXT },
    { "min-nodes", "min_nodes", NUMBER },
    { "max-nodes", "max_nodes", NUMBER },
    { "idle-seconds", "idle_seconds_before_scaledown", NUMBER },
    { "require-gpu", "require_gpu", YES },
    { "description", "description", TEXT },
    { "folder", "folder", TEXT },
    { "ssh-config", "ssh_config", TEXT },
    { "ssh-option", "ssh_options", LIST },
    { "partition", "partition", TEXT },
    { "account", "account", TEXT },
    { "qos", "qos", TEXT },
    { "gres", "gres", TEXT },
    { "constraint", "constraint", TEXT },
    { "time-minutes", "time_minutes", NUMBER },
    { "sbatch-option", "sbatch_options", LIST },
};

static int put_number(json_t *spec, const char *option, const char *key, const char *text,
                      struct ty_error *err)
{
    int64_t n;

    if (ty_parse_i64(text, &n) < 0)
        return ty_error_set(err, -EINVAL, "--%s is '%.80s', and must be a whole number", option,
                            text);
    json_object_set_new(spec, key, json_integer(n));
    return 0;
}

static int put_plain(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    int r = 0;

    for (size_t i = 0; i < sizeof plain / sizeof *plain && r == 0; i++) {
        const char *option = plain[i].option, *key = plain[i].key;
        const char *value = plain[i].sort == YES ? NULL : ty_cli_value(cli, option);

        if (plain[i].sort == YES && ty_cli_flag(cli, option))
            json_object_set_new(spec, key, json_true());
        if (!value)
            continue;
        if (plain[i].sort == NUMBER) {
            r = put_number(spec, option, key, value, err);
        } else if (plain[i].sort == TEXT) {
            json_object_set_new(spec, key, json_string(value));
        } else {
            json_t *list = json_array();

            for (int n = 0; (value = ty_cli_nth(cli, option, n)); n++)
                json_array_append_new(list, json_string(value));
            json_object_set_new(spec, key, list);
        }
    }
    return r;
}

/* "[user@]host[:port]", or "[user@][address]:port" for an address with colons. */
static int host_json(const struct ty_cli *cli, const char *text, json_t **ret, struct ty_error *err)
{
    const char *at = strrchr(text, '@'), *host = at ? at + 1 : text;
    const char *key = ty_cli_value(cli, "identity-file"), *open = *host == '[' ? host : NULL;
    const char *close = open ? strchr(open, ']') : NULL, *colon = strrchr(host, ':');
    size_t n = strlen(host);
    CLEANUP_JSON json_t *o = json_object();
    int64_t port = 0;

    if (open && !close)
        return ty_error_set(err, -EINVAL, "--host '%.200s': the bracket is not closed", text);
    if (open) {
        n = (size_t)(close - ++host);
        colon = close[1] == ':' ? close + 1 : NULL;
    } else if (colon && strchr(host, ':') == colon) {
        n = (size_t)(colon - host);
    } else {
        colon = NULL; /* an address: all of it is the host */
    }
    if (colon && (ty_parse_i64(colon + 1, &port) < 0 || port < 1))
        return ty_error_set(err, -EINVAL, "--host '%.200s': '%.20s' is no port", text, colon + 1);
    json_object_set_new(o, "host", json_stringn(host, n));
    if (at)
        json_object_set_new(o, "user", json_stringn(text, (size_t)(at - text)));
    if (colon)
        json_object_set_new(o, "port", json_integer(port));
    if (key)
        json_object_set_new(o, "identity_file", json_string(key));
    *ret = TAKE(o);
    return 0;
}

static int put_hosts(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    json_t *list = json_array(), *host = NULL;
    const char *text;
    int r = 0;

    for (int n = 0; r == 0 && (text = ty_cli_nth(cli, "host", n)); n++) {
        r = host_json(cli, text, &host, err);
        if (r == 0)
            json_array_append_new(list, host);
    }
    if (json_array_size(list) > 0)
        json_object_set(spec, "hosts", list);
    json_decref(list);
    return r;
}

/* Hosts make it one of hosts, and a partition one of Slurm, unless --kind says so itself. */
static void guess_kind(json_t *spec)
{
    if (json_object_get(spec, "kind"))
        return;
    if (json_object_get(spec, "hosts"))
        json_object_set_new(spec, "kind", json_string("hosts"));
    else if (json_object_get(spec, "partition"))
        json_object_set_new(spec, "kind", json_string("slurm"));
}

/* Variables of Slurm's commands.  The cluster that this shell means (SLURM_CONF) is the one that is meant. */
static int put_environment(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    const char *kind = json_string_value(json_object_get(spec, "kind")), *text,
               *conf = getenv("SLURM_CONF");
    CLEANUP_JSON json_t *env = json_incref(json_object_get(spec, "environment"));

    if (!env)
        env = json_object();
    for (int n = 0; (text = ty_cli_nth(cli, "environment", n)); n++) {
        const char *equals = strchr(text, '=');
        CLEANUP_FREE char *name = equals ? strndup(text, (size_t)(equals - text)) : NULL;

        if (!name || !*name)
            return ty_error_set(err, -EINVAL, "--environment '%.200s' is not NAME=VALUE", text);
        json_object_set_new(env, name, json_string(equals + 1));
    }
    if (conf && *conf && kind && strcmp(kind, "slurm") == 0 && !json_object_get(env, "SLURM_CONF"))
        json_object_set_new(env, "SLURM_CONF", json_string(conf));
    if (json_object_size(env) > 0)
        json_object_set(spec, "environment", env);
    return 0;
}

/* What --file says, or nothing. */
static int read_spec(const struct ty_cli *cli, json_t **ret, struct ty_error *err)
{
    const char *file = ty_cli_value(cli, "file");
    CLEANUP_FREE char *text = NULL;
    struct ty_error why = { 0 };
    size_t n = 0;
    int r = 0;

    *ret = file ? NULL : json_object();
    if (file && (r = ty_read_file(file, SPEC_BYTES_MAX, &text, &n)) < 0)
        return ty_error_set(err, r, "cannot read '%s': %s", file, strerror(-r));
    if (file && (r = ty_json_parse(text, n, ret, &why)) < 0)
        return ty_error_set(err, r, "cannot use '%s': %s", file, why.text);
    return *ret ? 0 : ty_error_oom(err);
}

/* Options come on top. */
static int put_options(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    int r = put_plain(cli, spec, err);

    if (r == 0)
        r = put_hosts(cli, spec, err);
    if (r < 0)
        return r;
    if (ty_cli_flag(cli, "no-shared-home"))
        json_object_set_new(spec, "shared_home", json_false());
    guess_kind(spec);
    return put_environment(cli, spec, err);
}

static int not_there_yet(struct ty_cli *cli, const char *name, struct ty_error *err)
{
    const struct ty_call call = { .args = { name } };
    CLEANUP_JSON json_t *there = NULL;
    struct ty_error none = { 0 };

    if (ty_cli_flag(cli, "replace") ||
        ty_cli_get(cli, TY_ROUTE_target_get, &call, &there, &none) < 0)
        return 0; /* whatever is wrong besides is told by the next call */
    return ty_error_set(err, -EEXIST,
                        "there is a compute target '%s' already; change it with --replace, or "
                        "choose another name",
                        name);
}

static int add(struct ty_cli *cli)
{
    const char *name = cli->args[0];
    CLEANUP_JSON json_t *spec = NULL;
    CLEANUP_FREE char *body = NULL;
    struct ty_error err = { 0 };
    /* Hosts are asked as long as ssh tries: no bound of ours. */
    struct ty_call call = { .args = { name },
                            .query = ty_cli_flag(cli, "no-probe") ? NULL : "ask=1",
                            .silence_ms = -1 };
    int r = read_spec(cli, &spec, &err);

    if (r == 0 && (r = put_options(cli, spec, &err)) == -EINVAL)
        return ty_cli_usage(cli, "%s", err.text);
    if (r == 0 && !(body = ty_json_text(spec)))
        r = ty_error_oom(&err);
    if (r == 0)
        r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = not_there_yet(cli, name, &err);
    if (r == 0) {
        call.body = body;
        call.body_len = strlen(body);
        r = ty_client_target_put(cli->client, &call, NULL, &err);
    }
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "added compute target '%s'\n", name);
    return TY_EXIT_OK;
}

/* ---- the others ---- */

static int rm(struct ty_cli *cli)
{
    return ty_cli_remove_each(cli, TY_ROUTE_target_delete, "removed compute target", "");
}

static int change(struct ty_cli *cli, bool drained)
{
    const char *name = cli->args[0], *node = ty_cli_value(cli, "node");
    CLEANUP_JSON json_t *o = json_pack("{s:s*}", "node", node);
    CLEANUP_FREE char *body = o ? ty_json_text(o) : NULL;
    struct ty_call call = { .args = { name }, .body = body };
    struct ty_error err = { 0 };
    int r = body ? ty_cli_client(cli, true, &err) : ty_error_oom(&err);

    if (r == 0) {
        call.body_len = strlen(body);
        r = drained ? ty_client_target_drain(cli->client, &call, NULL, &err)
                    : ty_client_target_resume(cli->client, &call, NULL, &err);
    }
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "%s%s%scompute target '%s' %s\n", node ? "node '" : "", node ? node : "",
            node ? "' of " : "", name,
            drained ? "is drained: what runs goes on, and nothing new is placed"
                    : "takes runs again");
    return TY_EXIT_OK;
}

static int drain(struct ty_cli *cli)
{
    return change(cli, true);
}

static int resume(struct ty_cli *cli)
{
    return change(cli, false);
}

/* clang-format off */
static const struct ty_cli_option add_options[] = {
    { 0, "kind", "KIND", "local, hosts or slurm (default: hosts with --host, slurm with --partition, else as configured)" },
    { 0, "max-nodes", "N", "nodes that its runs hold at once (default: as many as there are)" },
    { 0, "min-nodes", "N", "nodes that are kept ready" },
    { 0, "idle-seconds", "N", "how long a node beyond those is kept idle" },
    { 0, "vm-size", "LABEL", "a label, as clouds have them" },
    { 0, "require-gpu", NULL, "refuse runs with use_gpu where no GPU is" },
    { 0, "description", "TEXT", "for people" },
    { 0, "host", "HOST", "a machine: [user@]host[:port], or a Host of ssh's configuration; may be repeated" },
    { 0, "identity-file", "FILE", "ssh's key for these hosts" },
    { 0, "ssh-config", "FILE", "a configuration file for ssh" },
    { 0, "ssh-option", "NAME=VALUE", "an option of ssh; may be repeated" },
    { 0, "folder", "PATH", "where our files lie on the nodes (default: ~/.cache/trainyard)" },
    { 0, "partition", "NAME", "Slurm's partition" },
    { 0, "account", "NAME", "Slurm's account" },
    { 0, "qos", "NAME", "Slurm's quality of service" },
    { 0, "gres", "TEXT", "generic resources of each node, as sbatch has them" },
    { 0, "constraint", "TEXT", "features of nodes, as sbatch has them" },
    { 0, "time-minutes", "N", "time limit of an allocation" },
    { 0, "sbatch-option", "OPTION", "another option of sbatch; may be repeated" },
    { 0, "environment", "NAME=VALUE", "a variable of Slurm's commands; may be repeated (SLURM_CONF: this shell's)" },
    { 0, "no-shared-home", NULL, "the nodes do not see the folder of each other" },
    { 0, "file", "FILE", "a JSON file with the target's specification; options come on top" },
    { 0, "no-probe", NULL, "do not ask the hosts what they have; they need not answer now" },
    { 0, "replace", NULL, "change the target if it exists" },
    TY_OPT_END
};
static const struct ty_cli_option node_options[] = {
    { 0, "node", "NAME", "this node only" },
    TY_OPT_END
};
/* clang-format on */
static const struct ty_cli_option no_options[] = { TY_OPT_END };

const struct ty_cli_command ty_cmd_target_add = {
    .name = "target add",
    .usage = "NAME",
    .summary = "Make a compute target: a part of this box, hosts over ssh, or a Slurm cluster",
    .examples = "  trainyard target add pair --kind local --max-nodes 2\n"
                "  trainyard target add lab --host ann@lab1 --host ann@lab2:2222\n"
                "  trainyard target add cluster --partition gpu --gres gpu:1 --max-nodes 8\n",
    .text =
        "Hosts are asked what they have, and a partition whether it is there, before the target is\n"
        "made (--no-probe leaves that out).\n",
    .options = add_options,
    .min = 1,
    .max = 1,
    .run = add,
};
const struct ty_cli_command ty_cmd_target_rm = {
    .name = "target rm",
    .usage = "NAME...",
    .summary = "Remove compute targets that no run uses",
    .options = no_options,
    .min = 1,
    .max = -1,
    .run = rm,
};
const struct ty_cli_command ty_cmd_target_drain = {
    .name = "target drain",
    .usage = "NAME",
    .summary = "Place nothing new on a compute target, or on one of its nodes; what runs goes on",
    .options = node_options,
    .min = 1,
    .max = 1,
    .run = drain,
};
const struct ty_cli_command ty_cmd_target_resume = {
    .name = "target resume",
    .usage = "NAME",
    .summary = "Place runs again on what was drained",
    .options = node_options,
    .min = 1,
    .max = 1,
    .run = resume,
};
