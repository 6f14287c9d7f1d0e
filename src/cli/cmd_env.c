/* cmd_env.c - trainyard env ls, show, build, gc: the environments that this machine has built
 *
 * They lie in a folder of the user's own, and are looked at there, without a daemon: a builder, whoever it is, and these commands
 * are kept apart by its locks.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/program.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/doctor.h"
#include "cli/environment.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/start_daemon.h"
#include "client/stubs.h"
#include "data/cache.h"
#include "env/env.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SHOWN_KEY 12 /* digits of a key in lists; any beginning will do where one is named */
#define KEY_MIN 4

/* ---- words ---- */

/* What it was asked for: "torch 1.13, six, numpy and 3 more". */
static char *asked_text(const json_t *spec)
{
    static const struct {
        const char *in, *key;
    } lists[] = { { "conda", "packages" }, { "pip", "packages" } };
    CLEANUP_STR struct ty_str s = { 0 };
    const char *torch = json_string_value(json_object_get(spec, "torch"));
    size_t more = 0, shown = 0, i;
    const json_t *one;

    if (torch && ++shown)
        ty_str_addf(&s, "torch%s%s", *torch ? " " : "", torch);
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        json_array_foreach (json_object_get(json_object_get(spec, lists[k].in), lists[k].key), i,
                            one)
            if (shown < 4 && json_is_string(one))
                ty_str_addf(&s, "%s%s", shown++ ? ", " : "", json_string_value(one));
            else
                more++;
    if (more)
        ty_str_addf(&s, " and %zu more", more);
    return s.failed ? NULL : s.len ? ty_str_take(&s) : strdup("-");
}

static json_t *item_json(const struct ty_env_item *item)
{
    return json_pack("{s:s s:s s:O? s:I s:I s:b}", "key", item->key, "prefix", item->prefix,
                     "about", item->about, "bytes", (json_int_t)item->bytes, "used_us",
                     (json_int_t)item->used_us, "busy", item->busy);
}

/* ---- ls ---- */

struct listing {
    struct ty_table table;
    json_t *all; /* of --json; NULL: a table */
    bool whole;  /* keys */
};

static int list_item(const struct ty_env_item *item, void *ctx)
{
    struct listing *l = ctx;
    const json_t *record = json_object_get(item->about, "record"),
                 *torch = json_object_get(record, "torch");
    CLEANUP_FREE char *asked = asked_text(json_object_get(item->about, "spec")),
                      *key = strndup(item->key, l->whole ? strlen(item->key) : SHOWN_KEY);
    char size[16], ago[16];
    const char *cells[] = { key,
                            ty_out_str(record, "python"),
                            *ty_out_str(torch, "version") ? ty_out_str(torch, "version") : "-",
                            ty_show_bytes((uint64_t)item->bytes, size),
                            item->busy ? "now" : ty_out_duration(ty_wall_us() - item->used_us, ago),
                            asked };

    if (l->all)
        return json_array_append_new(l->all, item_json(item)) < 0 ? -ENOMEM : 0;
    if (!asked || !key)
        return -ENOMEM;
    ty_table_row(&l->table, cells);
    return 0;
}

/* The latest versions of those that the daemon knows by name. */
static int ls_registered(struct ty_cli *cli)
{
    struct ty_table t = { .heads = { "NAME", "VERSION", "REGISTERED", "ASKS FOR" },
                          .state_column = -1,
                          .right = 1u << 1 };
    const struct ty_call call = { 0 };
    CLEANUP_JSON json_t *reply = NULL;
    struct ty_error err = { 0 };
    const json_t *one;
    size_t i;
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_environment_list, &call, &reply, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, reply);
    json_array_foreach (json_object_get(reply, "environments"), i, one) {
        const json_t *content = json_object_get(one, "content");
        CLEANUP_FREE char *asked = asked_text(json_object_get(content, "spec")),
                          *version = ty_out_value(json_object_get(one, "version"));
        const char *cells[] = { ty_out_str(one, "name"), version ? version : "",
                                ty_out_str(one, "created"), asked ? asked : "" };

        ty_table_row(&t, cells);
    }
    r = ty_table_print(cli, &t);
    ty_table_done(&t);
    return r;
}

static int ls_built(struct ty_cli *cli)
{
    struct listing l = { .table = { .heads = { "KEY", "PYTHON", "TORCH", "SIZE", "USED",
                                               "ASKED FOR" },
                                    .state_column = -1,
                                    .right = 1u << 3 | 1u << 4 },
                         .whole = ty_cli_flag(cli, "quiet") || ty_cli_flag(cli, "plain") };
    CLEANUP_JSON json_t *reply =
        ty_cli_flag(cli, "json") ? json_pack("{s:[]}", "environments") : NULL;
    CLEANUP_FREE char *cache = NULL;
    struct ty_error err = { 0 };
    int r = ty_environment_cache(cli, &cache, &err), code;

    l.all = json_object_get(reply, "environments");
    if (r == 0)
        r = ty_env_each(cache, list_item, &l, &err);
    code = r < 0   ? ty_cli_fail(cli, &err)
           : reply ? ty_out_json(cli, reply)
                   : ty_table_print(cli, &l.table);
    ty_table_done(&l.table);
    return code;
}

static int ls(struct ty_cli *cli)
{
    return ty_cli_flag(cli, "registered") ? ls_registered(cli) : ls_built(cli);
}

/* ---- show ---- */

struct search {
    const char *key;
    json_t *found; /* owned */
    int count;
};

static int search_item(const struct ty_env_item *item, void *ctx)
{
    struct search *s = ctx;

    if (!ty_starts_with(item->key, s->key))
        return 0;
    s->count++;
    json_decref(s->found);
    s->found = item_json(item);
    return s->found ? 0 : -ENOMEM;
}

static int find_item(const char *cache, const char *key, json_t **ret, struct ty_error *err)
{
    struct search s = { .key = key };
    int r = strlen(key) < KEY_MIN
                ? ty_error_set(err, -EINVAL, "'%s' is too short: give at least %d digits of a key",
                               key, KEY_MIN)
                : ty_env_each(cache, search_item, &s, err);

    if (r == 0 && s.count != 1)
        r = ty_error_set(
            err, s.count ? -EINVAL : -ENOENT,
            s.count ? "several environments have keys that begin with '%s'; 'trainyard env "
                      "ls -q' lists them whole"
                    : "no environment of this machine has a key that begins with '%s'; "
                      "'trainyard env ls' lists them",
            key);
    if (r < 0)
        json_decref(s.found);
    else
        *ret = s.found;
    return r;
}

static void line(const char *name, const char *text)
{
    CLEANUP_FREE char *safe = text && *text ? ty_out_safe(text) : NULL;

    if (safe)
        printf("%-12s %s\n", name, safe);
}

static void print_packages(const json_t *list, const char *from)
{
    const json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        CLEANUP_FREE char *text =
            ty_strf("%s %s", ty_out_str(one, "name"), ty_out_str(one, "version"));

        line(from, text ? text : "");
    }
}

static void print_item(const json_t *item)
{
    const json_t *about = json_object_get(item, "about"),
                 *record = json_object_get(about, "record"),
                 *torch = json_object_get(record, "torch"), *lock = json_object_get(record, "lock");
    CLEANUP_FREE char *asked = asked_text(json_object_get(about, "spec"));
    char text[64], size[16], ago[16];

    line("key", ty_out_str(item, "key"));
    line("prefix", ty_out_str(item, "prefix"));
    line("asked for", asked ? asked : "");
    line("interpreter", ty_out_str(record, "interpreter"));
    line("python", ty_out_str(record, "python"));
    line("torch", ty_out_str(torch, "version"));
    line("", ty_out_str(torch, "reason"));
    line("tool", ty_out_str(record, "tool"));
    line("size", ty_show_bytes((uint64_t)json_integer_value(json_object_get(item, "bytes")), size));
    snprintf(
        text, sizeof text, "%s ago%s",
        ty_out_duration(ty_wall_us() - json_integer_value(json_object_get(item, "used_us")), ago),
        json_is_true(json_object_get(item, "busy")) ? ", and in use now" : "");
    line("used", text);
    print_packages(json_object_get(record, "satisfied"), "there");
    print_packages(json_object_get(lock, "conda"), "conda");
    print_packages(json_object_get(lock, "pip"), "pip");
}

static int show(struct ty_cli *cli)
{
    CLEANUP_FREE char *cache = NULL;
    CLEANUP_JSON json_t *item = NULL;
    struct ty_error err = { 0 };
    int r = ty_environment_cache(cli, &cache, &err);

    if (r == 0)
        r = find_item(cache, cli->args[0], &item, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, item);
    print_item(item);
    return TY_EXIT_OK;
}

/* ---- build ---- */

struct building {
    bool quiet, logged;
    char shown[64];
};

static void on_log(const char *text, void *ctx)
{
    struct building *b = ctx;
    CLEANUP_FREE char *safe = b->quiet ? NULL : ty_out_safe(text);

    if (safe)
        fprintf(stderr, "%s\n", safe);
}

/* Who breaks a build off finds nothing of it afterwards, and a shell that it was a signal. */
static volatile sig_atomic_t broken_off; /* the signal */

static void break_off(int sig)
{
    broken_off = sig;
}

static bool is_broken_off(void *ctx)
{
    (void)ctx;
    return broken_off != 0;
}

static void hear_signals(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction a = { .sa_handler = break_off }, old;

        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &a, NULL);
    }
}

static void end_by_signal(void)
{
    fflush(NULL);
    signal(broken_off, SIG_DFL);
    raise(broken_off);
}

/* Trainyard's Python packages, which lie beside the programs, or where they were installed. */
static char *python_path(void)
{
    CLEANUP_FREE char *daemon = NULL;
    char *slash, *path;

    if (ty_daemon_find(NULL, &daemon, NULL) < 0 || !(slash = strrchr(daemon, '/')))
        return NULL;
    *slash = '\0';
    path = ty_path_join(daemon, "python");
    if (path && access(path, F_OK) == 0)
        return path;
    free(path);
    path = ty_path_join(daemon, "../lib/trainyard/python");
    if (path && access(path, F_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* What a registered environment asks for; -ENOENT: there is none of that name. */
static int of_name(struct ty_cli *cli, json_t **env, struct ty_error *err)
{
    const struct ty_call call = { .args = { cli->args[0], "latest" } };
    CLEANUP_JSON json_t *one = NULL;
    int r = ty_cli_get(cli, TY_ROUTE_environment_get, &call, &one, err);
    json_t *spec = json_object_get(json_object_get(one, "content"), "spec");

    if (r < 0)
        return r;
    *env = spec ? json_incref(spec) : json_object();
    return *env ? 0 : ty_error_oom(err);
}

/* What a run asked for, and the interpreter that it was to begin with. */
static int of_run(struct ty_cli *cli, json_t **env, char **interpreter, struct ty_error *err)
{
    CLEANUP_FREE char *id = NULL;
    CLEANUP_JSON json_t *run = NULL;
    const json_t *spec;
    int r = ty_cli_client(cli, true, err);

    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, err);
    if (r == 0)
        r = ty_cli_run(cli, id, &run, err);
    if (r < 0)
        return r;
    spec = json_object_get(run, "spec");
    if (!json_is_object(json_object_get(spec, "environment")))
        return ty_error_set(err, -EINVAL, "run '%s' asks for no environment", id);
    *env = json_incref(json_object_get(spec, "environment"));
    if (*ty_out_str(spec, "interpreter"))
        *interpreter = strdup(ty_out_str(spec, "interpreter"));
    return 0;
}

struct completing {
    struct ty_cli *cli;
    struct ty_error *err;
};

/* What a specification has without its password is a secret of whoever gave it. */
static int complete(const char *text, json_t **instead, void *ctx)
{
    const struct completing *c = ctx;
    char name[TY_ENV_SECRET];
    const struct ty_call call = { .args = { name } };
    CLEANUP_JSON json_t *reply = NULL;
    int r;

    if (!ty_env_secret(text, name))
        return 0;
    r = ty_cli_get(c->cli, TY_ROUTE_secret_get, &call, &reply, c->err);
    if (r == -ENOENT)
        return ty_error_set(c->err, r,
                            "the password of the address '%.300s' is not known here: build with "
                            "options that have it",
                            text);
    *instead = json_incref(json_object_get(reply, "value"));
    return r;
}

static int ask_for(struct ty_cli *cli, json_t **env, char **interpreter, struct ty_error *err)
{
    const char *python = ty_cli_value(cli, "interpreter");
    CLEANUP_JSON json_t *variables = NULL;
    int r = ty_environment_asked(cli, env, err);

    if (r == 0 && ty_cli_value(cli, "environment"))
        r = ty_cli_client(cli, true, err);
    if (r == 0)
        r = ty_environment_registered(cli, env, &variables, err);
    if (r == 0 && *env && cli->nargs)
        r = ty_error_set(err, -EINVAL,
                         "give a run, or options that say what is wanted, and not both");
    if (r == 0 && !*env && !cli->nargs)
        r = ty_error_set(
            err, -EINVAL,
            "say what is wanted: --pip, --requirements, --conda-file, --torch, --environment, or a run");
    if (r == 0 && cli->nargs) {
        struct ty_error other = { 0 };

        r = of_run(cli, env, interpreter, err);
        if (r == -ENOENT && of_name(cli, env, &other) == 0)
            r = 0;
    }
    if (r == 0 && cli->client)
        r = ty_json_each_text(*env, "lock", complete,
                              &(struct completing){ .cli = cli, .err = err });
    if (r < 0)
        return r;
    if (python) {
        free(*interpreter);
        *interpreter = strdup(python);
    } else if (!*interpreter) {
        *interpreter = ty_program_find("python3", NULL);
    }
    return *interpreter
               ? 0
               : ty_error_set(err, -ENOENT, "there is no python3 on PATH; --interpreter names one");
}

static int get(struct ty_cli *cli, const char *cache, json_t **record, struct ty_error *err)
{
    CLEANUP_JSON json_t *asked = NULL;
    CLEANUP_FREE char *interpreter = NULL, *packages = python_path();
    struct building b = { .quiet = ty_cli_flag(cli, "quiet") };
    struct ty_env_request q = { .cache = cache,
                                .python_path = packages,
                                .interpreter_any = !ty_cli_value(cli, "interpreter"),
                                .use_gpu = ty_cli_flag(cli, "gpu"),
                                .offline = ty_cli_flag(cli, "offline"),
                                .log = on_log,
                                .stopped = is_broken_off,
                                .ctx = &b };
    struct ty_env_spec *spec = NULL;
    struct ty_conf *conf = NULL;
    struct ty_env e = { .hold = -1 };
    int r = ask_for(cli, &asked, &interpreter, err);

    if (r == 0)
        r = ty_conf_load(".", &conf, err);
    if (r == 0)
        r = ty_env_spec_parse(asked, &spec, err);
    q.spec = spec;
    q.interpreter = interpreter;
    if (r == 0)
        q.cache_bytes_max = ty_conf_number(conf, "env.cache_bytes");
    if (r == 0 && strcmp(ty_conf_text(conf, "env.torch_index"), "none") != 0)
        q.torch_index = ty_conf_text(conf, "env.torch_index");
    if (r == 0) {
        hear_signals();
        r = ty_env_get(&q, &e, err);
    }
    if (r == 0) {
        *record = json_incref(e.record);
        ty_env_done(&e);
    }
    ty_env_spec_free(spec);
    ty_conf_free(conf);
    return r;
}

static int build(struct ty_cli *cli)
{
    CLEANUP_FREE char *cache = NULL;
    CLEANUP_JSON json_t *record = NULL;
    struct ty_error err = { 0 };
    int r = ty_environment_cache(cli, &cache, &err);

    if (r == 0)
        r = get(cli, cache, &record, &err);
    if (r < 0) {
        int code = ty_cli_fail(cli, &err);

        if (broken_off)
            end_by_signal();
        return code;
    }
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, record);
    puts(ty_out_str(record, "interpreter"));
    if (!ty_cli_flag(cli, "quiet") && !json_is_true(json_object_get(record, "built")))
        fputs(json_is_string(json_object_get(record, "prefix"))
                  ? "it was there already\n"
                  : "nothing has to be built for that\n",
              stderr);
    return TY_EXIT_OK;
}

/* ---- gc ---- */

/* *data: the most bytes of downloaded data. */
static int limits(const struct ty_cli *cli, struct ty_env_gc *gc, uint64_t *data,
                  struct ty_error *err)
{
    const char *max = ty_cli_value(cli, "max"), *unused = ty_cli_value(cli, "unused");
    struct ty_conf *conf = NULL;
    uint64_t bytes;
    int64_t limit, data_limit;
    int r = ty_conf_load(".", &conf, err);

    if (r < 0)
        return r;
    *gc = (struct ty_env_gc){ .max_bytes = -1,
                              .unused_us = -1,
                              .all = ty_cli_flag(cli, "all"),
                              .dry = ty_cli_flag(cli, "dry-run") };
    limit = ty_conf_number(conf, "env.cache_bytes");
    data_limit = ty_conf_number(conf, "data.cache_bytes");
    ty_conf_free(conf);
    if (max && (ty_parse_bytes(max, &bytes) < 0 || bytes > INT64_MAX))
        return ty_error_set(err, -EINVAL, "--max '%s' is not a size such as 500M or 20G", max);
    if (unused && ty_cli_parse_time(unused, &gc->unused_us) < 0)
        return ty_error_set(err, -EINVAL, "--unused '%s' is not a time such as 12h or 30d", unused);
    if (max)
        gc->max_bytes = (int64_t)bytes;
    else if (!unused && limit > 0)
        gc->max_bytes = limit;
    *data = gc->all                     ? 0
            : max                       ? bytes
            : unused || data_limit == 0 ? UINT64_MAX
                                        : (uint64_t)data_limit;
    return 0;
}

static int collect(struct ty_cli *cli)
{
    CLEANUP_FREE char *cache = NULL;
    struct ty_error err = { 0 };
    struct ty_env_gc gc;
    uint64_t objects = 0, data_max = UINT64_MAX;
    char freed[16], data[16];
    int r = ty_environment_cache(cli, &cache, &err);

    if (r == 0)
        r = limits(cli, &gc, &data_max, &err);
    if (r == 0)
        r = ty_env_collect(cache, &gc, &err);
    if (r == 0)
        r = ty_data_cache_collect(cache, data_max, gc.unused_us >= 0 ? gc.unused_us : INT64_MAX,
                                  gc.dry, &objects, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json")) {
        CLEANUP_JSON json_t *o = json_pack("{s:i s:I s:I s:b}", "removed", gc.removed,
                                           "freed_bytes", (json_int_t)gc.freed_bytes,
                                           "freed_data_bytes", (json_int_t)objects, "dry", gc.dry);

        return ty_out_json(cli, o);
    }
    printf("%s %d environment%s (%s), and %s of data\n", gc.dry ? "would remove" : "removed",
           gc.removed, gc.removed == 1 ? "" : "s", ty_show_bytes((uint64_t)gc.freed_bytes, freed),
           ty_show_bytes(objects, data));
    return TY_EXIT_OK;
}

/* ---- the table ---- */

static const struct ty_cli_option ls_options[] = {
    { 0, "registered", NULL, "those that are registered by name, whether they are built or not" },
    TY_OPT_CACHE,
    TY_OPT_JSON,
    TY_OPT_PLAIN,
    TY_OPT_QUIET,
    TY_OPT_END,
};
static const struct ty_cli_option show_options[] = { TY_OPT_CACHE, TY_OPT_JSON, TY_OPT_END };
static const struct ty_cli_option build_options[] = {
    TY_ENVIRONMENT_OPTIONS,
    { 0, "interpreter", "PATH",
      "Python to begin with (default: python3 on PATH, or another that has more)" },
    { 0, "gpu", NULL, "PyTorch that was built for CUDA, where this machine has a GPU" },
    { 0, "offline", NULL, "ask no index: only what is cached" },
    TY_OPT_CACHE,
    { 'q', "quiet", NULL, "print the interpreter only" },
    TY_OPT_JSON,
    TY_OPT_END,
};
static const struct ty_cli_option gc_options[] = {
    { 0, "max", "SIZE",
      "remove the least used until no more is left (default: env.cache_bytes, data.cache_bytes)" },
    { 0, "unused", "TIME", "remove what nobody has used for so long: 30d" },
    { 0, "all", NULL, "remove everything that nobody uses at this moment" },
    { 0, "dry-run", NULL, "only tell what would go" },
    TY_OPT_CACHE,
    TY_OPT_JSON,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_env_ls = {
    .name = "env ls",
    .usage = "",
    .summary = "List the environments that this machine has built",
    .options = ls_options,
    .run = ls,
};
const struct ty_cli_command ty_cmd_env_show = {
    .name = "env show",
    .usage = "KEY",
    .summary = "Show what an environment of this machine holds",
    .text = "KEY is a key of 'trainyard env ls', or its beginning.\n",
    .options = show_options,
    .min = 1,
    .max = 1,
    .run = show,
};
const struct ty_cli_command ty_cmd_env_build = {
    .name = "env build",
    .usage = "[OPTIONS] [RUN|NAME]",
    .summary = "Build an environment on this machine before a run needs it; prints its interpreter",
    .examples = "  trainyard env build --pip 'pandas>=2' --torch any\n"
                "  trainyard env build --requirements requirements.txt\n"
                "  trainyard env build first_17          what that run asked for\n",
    .text =
        "NAME is that of a registered environment.  The build log goes to standard error.  A run that asks for the same finds it built.\n",
    .options = build_options,
    .max = 1,
    .run = build,
};
const struct ty_cli_command ty_cmd_env_gc = {
    .name = "env gc",
    .usage = "",
    .summary = "Remove environments and downloaded data of this machine that are not used any more",
    .text = "What a run uses stays.\n",
    .options = gc_options,
    .run = collect,
};
