/* cmd_api.c - trainyard api: one request to the service, as it is
 *
 * For what no command does, and for scripts in languages without a client.
 */
#include "base/fs.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/runs.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <trainyard/client.h>
#include <unistd.h>

#define BODY_MAX (256 << 20)
#define PREFIX "/api/v1/"

static int read_body(const char *given, char **ret, size_t *n, struct ty_error *err)
{
    const char *file = given[0] == '@' ? given + 1 : NULL;
    int r;

    if (!file) {
        *ret = strdup(given);
        *n = strlen(given);
        return *ret ? 0 : ty_error_oom(err);
    }
    r = ty_read_file(strcmp(file, "-") == 0 ? "/dev/stdin" : file, BODY_MAX, ret, n);
    errno = -r;
    return r < 0 ? ty_error_set(err, r, "cannot read the body of the request from '%s': %m", file)
                 : 0;
}

/* "NAME=VALUE" of each -q, encoded. */
static int add_query(const struct ty_cli *cli, struct ty_str *query, struct ty_error *err)
{
    const char *text, *eq;

    for (int i = 0; (text = ty_cli_nth(cli, "query", i)) != NULL; i++) {
        CLEANUP_FREE char *name = NULL;

        eq = strchr(text, '=');
        if (!eq || eq == text)
            return ty_error_set(err, -EINVAL, "--query '%s' is not NAME=VALUE", text);
        name = ty_strf("%.*s", (int)(eq - text), text);
        if (query->len)
            ty_str_add(query, "&");
        ty_str_add_url(query, name ? name : "", false);
        ty_str_add(query, "=");
        ty_str_add_url(query, eq + 1, false);
        if (!name || query->failed)
            return ty_error_oom(err);
    }
    return 0;
}

static int print(const char *bytes, size_t n, void *ctx)
{
    bool *newline = ctx;

    if (n > 0)
        *newline = bytes[n - 1] == '\n';
    return fwrite(bytes, 1, n, stdout) == n && fflush(stdout) == 0 ? 0 : -EPIPE;
}

static int ask(struct ty_cli *cli, const char *method, const char *path, struct ty_error *err)
{
    const char *given = ty_cli_value(cli, "data");
    CLEANUP_STR struct ty_str query = { 0 };
    CLEANUP_FREE char *body = NULL;
    bool newline = true;
    struct ty_call call = { .on_data = print, .ctx = &newline, .stop = ty_cli_stop() };
    int r = add_query(cli, &query, err);

    if (r == 0 && given)
        r = read_body(given, &body, &call.body_len, err);
    if (r == 0)
        r = ty_cli_client(cli, true, err);
    if (r < 0)
        return r;
    call.body = body;
    call.query = query.len ? query.text : NULL;
    ty_cli_catch_signals();
    r = ty_client_request(cli->client, method, path, &call, NULL, err);
    if (r == 0 && !newline)
        putchar('\n');
    return r;
}

static int run(struct ty_cli *cli)
{
    const char *method = ty_cli_value(cli, "method"), *path = cli->args[0];
    CLEANUP_FREE char *whole = path[0] == '/' ? strdup(path) : ty_strf(PREFIX "%s", path);
    struct ty_error err = { 0 };

    if (!method)
        method = ty_cli_value(cli, "data") ? "POST" : "GET";
    for (const char *c = method; *c; c++)
        if (!isupper((unsigned char)*c))
            return ty_cli_usage(cli, "--method '%s' is no method such as GET or POST", method);
    if (!whole || ask(cli, method, whole, &err) < 0) {
        if (!whole)
            ty_error_oom(&err);
        return ty_cli_fail(cli, &err);
    }
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = {
    { 'X', "method", "METHOD", "GET, POST, PUT, PATCH or DELETE (default: GET; POST with --data)" },
    { 'd', "data", "TEXT", "body of the request; @FILE: that file, @-: standard input" },
    { 'q', "query", "NAME=VALUE", "parameter of the query (repeat)" },
    TY_OPT_END
};

const struct ty_cli_command ty_cmd_api = {
    .name = "api",
    .usage = "PATH",
    .summary = "Send one request to the service, and print its answer",
    .examples = "  trainyard api runs -q state=Failed -q limit=3\n"
                "  trainyard api runs/RUN/tags -X PATCH -d '{\"set\": {\"best\": null}}'\n"
                "  trainyard api /openapi.json | jq '.paths | keys'\n",
    .text = "PATH begins with '/', or is taken below " PREFIX
            ".  docs/spec/http-api.md has the routes.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .run = run,
};
