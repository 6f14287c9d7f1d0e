/* cmd_config.c - trainyard config list, get, set: options, what they are and where that is said */
#include "base/conf.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include <errno.h>
#include <string.h>

#define FILE_MAX (1 << 20)

static void conf_freep(struct ty_conf **c)
{
    ty_conf_free(*c);
}

/* ---- looking ---- */

static int print_json(const struct ty_cli *cli, const struct ty_conf *conf)
{
    CLEANUP_JSON json_t *all = json_array();
    const struct ty_conf_option *o;
    CLEANUP_JSON json_t *reply = NULL;

    for (int i = 0; (o = ty_conf_option(i)); i++)
        json_array_append_new(all, json_pack("{s:s s:s s:s s:s s:s s:s}", "name", o->key, "value",
                                             ty_conf_text(conf, o->key), "origin",
                                             ty_conf_origin(conf, o->key), "default", o->fallback,
                                             "kind", o->kind, "help", o->help));
    reply = json_pack("{s:O}", "options", all);
    return ty_out_json(cli, reply);
}

static int list(struct ty_cli *cli)
{
    CLEANUP(conf_freep) struct ty_conf *conf = NULL;
    bool origins = ty_cli_flag(cli, "show-origin");
    CLEANUP_TABLE struct ty_table t = { .heads = { "OPTION", "VALUE", origins ? "ORIGIN" : NULL },
                                        .state_column = -1 };
    const struct ty_conf_option *o;
    struct ty_error err = { 0 };

    if (ty_conf_load(".", &conf, &err) < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return print_json(cli, conf);
    for (int i = 0; (o = ty_conf_option(i)); i++) {
        const char *cells[] = { o->key, ty_conf_text(conf, o->key), ty_conf_origin(conf, o->key) };

        ty_table_row(&t, cells);
    }
    return ty_table_print(cli, &t);
}

/* Also with a sentence that names the nearest one. */
static int check_name(struct ty_conf *conf, const char *name, struct ty_error *err)
{
    const struct ty_conf_option *o;

    for (int i = 0; (o = ty_conf_option(i)); i++)
        if (strcmp(o->key, name) == 0)
            return 0;
    return ty_conf_set(conf, name, "", "config", err);
}

static int get(struct ty_cli *cli)
{
    CLEANUP(conf_freep) struct ty_conf *conf = NULL;
    struct ty_error err = { 0 };
    int r = ty_conf_load(".", &conf, &err);

    if (r == 0)
        r = check_name(conf, cli->args[0], &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    puts(ty_conf_text(conf, cli->args[0]));
    return TY_EXIT_OK;
}

/* ---- setting ---- */

static int user_file(char **ret, struct ty_error *err)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (xdg && xdg[0] == '/')
        *ret = ty_path_join(xdg, "trainyard/config");
    else if (home && home[0] == '/')
        *ret = ty_path_join(home, ".config/trainyard/config");
    else
        return ty_error_set(err, -ENOENT,
                            "there is no place for your configuration: neither XDG_CONFIG_HOME nor "
                            "HOME is an absolute path; --project writes './.trainyard/config'");
    return *ret ? 0 : ty_error_oom(err);
}

/* The text between blanks, of a line that is [at, at + n). */
static const char *trimmed(const char *at, size_t n, size_t *ret)
{
    while (n > 0 && strchr(" \t\r", *at)) {
        at++;
        n--;
    }
    while (n > 0 && strchr(" \t\r", at[n - 1]))
        n--;
    *ret = n;
    return at;
}

static bool is_section(const char *line, size_t n, const char *name, size_t name_len)
{
    return n == name_len + 2 && line[0] == '[' && line[n - 1] == ']' &&
           strncmp(line + 1, name, name_len) == 0;
}

static bool is_key(const char *line, size_t n, const char *key)
{
    size_t len = strlen(key), rest;

    if (n <= len || strncmp(line, key, len) != 0)
        return false;
    line = trimmed(line + len, n - len, &rest);
    return rest > 0 && (*line == '=' || *line == ':');
}

/* `text` with section.key = value: in place of the line that says so, else at the end of the section, else in a new one. */
static void edit(const char *text, const char *name, const char *value, struct ty_str *out)
{
    const char *dot = strchr(name, '.'), *key = dot + 1;
    size_t section_len = (size_t)(dot - name),
           end = 0; /* where the section's last line ends in `out` */
    bool inside = false, done = false;
    CLEANUP_FREE char *line = ty_strf("%s = %s\n", key, value);

    while (*text) {
        size_t whole = strcspn(text, "\n"), n;
        const char *at = trimmed(text, whole, &n);

        if (n > 0 && *at == '[')
            inside = is_section(at, n, name, section_len);
        if (inside && !done && is_key(at, n, key)) {
            ty_str_add(out, line ? line : "");
            done = true;
        } else {
            ty_str_addn(out, text, whole);
            ty_str_add(out, "\n");
        }
        if (inside && n > 0)
            end = out->len;
        text += whole + (text[whole] == '\n');
    }
    if (done)
        return;
    if (end > 0) {
        CLEANUP_FREE char *rest = strdup(out->text + end);

        out->len = end;
        ty_str_add(out, line ? line : "");
        ty_str_add(out, rest ? rest : "");
        out->failed |= !rest || !line;
        return;
    }
    ty_str_addf(out, "%s[%.*s]\n%s", out->len ? "\n" : "", (int)section_len, name,
                line ? line : "");
    out->failed |= !line;
}

static int write_option(const char *path, const char *name, const char *value, struct ty_error *err)
{
    CLEANUP_STR struct ty_str out = { 0 };
    CLEANUP_FREE char *text = NULL;
    int r = ty_read_file(path, FILE_MAX, &text, NULL);

    if (r == -ENOENT || r == -ENOTDIR)
        r = (text = strdup("")) ? 0 : -ENOMEM;
    if (r == 0) {
        edit(text, name, value, &out);
        r = out.failed ? -ENOMEM : ty_mkdir_parent(path, 0755);
    }
    if (r == 0)
        r = ty_write_file(path, out.text, out.len, 0644);
    return r < 0 ? ty_error_set(err, r, "cannot write the configuration file '%s': %s", path,
                                strerror(-r))
                 : 0;
}

static int set(struct ty_cli *cli)
{
    const char *name = cli->args[0], *value = cli->args[1];
    CLEANUP(conf_freep) struct ty_conf *conf = NULL;
    CLEANUP_FREE char *path = NULL;
    struct ty_error err = { 0 };
    int r = ty_conf_load(NULL, &conf, &err); /* a file that cannot be read is not made worse */

    if (r == 0)
        r = ty_conf_set(conf, name, value, "config", &err);
    if (r == 0 && strpbrk(value, "\n\r;#"))
        r = ty_error_set(&err, -EINVAL, "the value of %s cannot hold ';', '#' or the end of a line",
                         name);
    if (r == 0 && ty_cli_flag(cli, "project"))
        r = (path = strdup(".trainyard/config")) ? 0 : ty_error_oom(&err);
    else if (r == 0)
        r = user_file(&path, &err);
    if (r == 0)
        r = write_option(path, name, value, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    fprintf(stderr, "set %s = %s in '%s'; a daemon that runs reads it when it is started again\n",
            name, value, path);
    return TY_EXIT_OK;
}

static const struct ty_cli_option list_options[] = {
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    { 0, "show-origin", NULL,
      "say which file, the environment or the default each value comes from" },
    TY_OPT_END
};
static const struct ty_cli_option set_options[] = {
    { 0, "project", NULL, "in ./.trainyard/config, for this folder, instead of your own file" },
    TY_OPT_END
};
static const struct ty_cli_option no_options[] = { TY_OPT_END };

const struct ty_cli_command ty_cmd_config_list = {
    .name = "config list",
    .usage = "",
    .summary = "List all options with their values",
    .text = "docs/configuration.md says what each is for.\n",
    .options = list_options,
    .run = list,
};
const struct ty_cli_command ty_cmd_config_get = {
    .name = "config get",
    .usage = "NAME",
    .summary = "Print the value of an option",
    .options = no_options,
    .min = 1,
    .max = 1,
    .run = get,
};
const struct ty_cli_command ty_cmd_config_set = {
    .name = "config set",
    .usage = "NAME VALUE",
    .summary = "Set an option in your configuration file, or the project's",
    .examples = "  trainyard config set sched.cpus 4\n"
                "  trainyard config set --project limits.snapshot_bytes 1GB\n",
    .options = set_options,
    .min = 2,
    .max = 2,
    .run = set,
};
