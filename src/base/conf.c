/* conf.c - configuration, by precedence
 *
 * OPTIONS is the only place where an option is named.  Sources are applied from the weakest to the strongest, so
 * that whoever comes later wins; every source goes through ty_conf_set() and is checked there.
 */
#include "base/conf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct ty_conf_option options[] = {
    { "daemon.log_bytes",        "10MB",    "bytes",   "size at which daemon.log is set aside and begun anew" },
    { "limits.snapshot_bytes",   "300MB",   "bytes",   "largest snapshot of a source_directory" },
    { "limits.snapshot_files",   "100000",  "count",   "most files in a snapshot" },
    { "limits.request_bytes",    "16MB",    "bytes",   "largest body of a request that is not a file" },
    { "limits.upload_bytes",     "1TB",     "bytes",   "largest file that is uploaded" },
    { "limits.log_bytes",        "1GB",     "bytes",   "log that is kept of one run; 0: no limit" },
    { "limits.queued_runs",      "10000",   "count",   "most runs that wait or run at a time" },
    { "limits.followers",        "1000",    "count",   "most open streams of logs and states" },
    { "limits.metric_keys",      "10000",   "count",   "most names of metrics in one run; 0: no limit" },
    { "limits.metric_rows",      "50000000", "count",  "most metric values in one run; 0: no limit" },
    { "limits.tags",             "1000",    "count",   "most tags of one run; 0: no limit" },
    { "limits.user_runs",        "0",       "count",   "most runs of one user that have not ended; 0: no limit" },
    { "limits.properties",       "1000",    "count",   "most properties of one run; 0: no limit" },
    { "limits.writers",          "1000",    "count",   "most processes outside of a run's job that log to it; 0: no limit" },
    { "limits.secrets",          "1000",    "count",   "most secrets; 0: no limit" },
    { "limits.datastores",       "1000",    "count",   "most datastores; 0: no limit" },
    { "limits.registered",       "10000",   "count",   "most versions of registered environments, and of datasets; 0: no limit" },
    { "limits.targets",          "1000",    "count",   "most compute targets; 0: no limit" },
    { "limits.artifacts",        "100000",  "count",   "most files that one run may keep; 0: no limit" },
    { "limits.artifact_bytes",   "100GB",   "bytes",   "bytes of files that one run may keep; 0: no limit" },
    { "retention.runs_days",     "0",       "count",   "days after its end that a run is kept; 0 keeps it" },
    { "retention.failed_days",   "0",       "count",   "the same for failed runs alone; 0 keeps them" },
    { "run.max_run_duration_seconds", "2592000", "seconds", "time limit of a run that names none" },
    { "run.cancel_grace_seconds", "10",     "seconds", "time between asking a run to stop and killing it" },
    { "run.system_metrics_seconds", "10",   "seconds", "time between two samples of a run's system metrics; 0: none are taken" },
    { "sched.cpus",              "0",       "count",   "CPU slots of this machine; 0 takes all of it" },
    { "sched.memory_mb",         "0",       "count",   "memory of this machine in MB, for runs that ask for some; 0 takes all of it" },
    { "sched.share_half_life",   "86400",   "seconds", "time in which what a user has used loses half its weight in the queue's order" },
    { "sched.user_cpus",         "0",       "count",   "most CPU slots that one user's runs hold at a time; 0: no limit" },
    { "sched.begin_seconds",     "300",     "seconds", "how long a runner that cannot begin (a full disk) is tried again before its run is given up" },
    { "sched.silent_seconds",    "10",      "seconds", "silence of a runner after which its run is NotResponding" },
    { "sched.node_lost_seconds", "60",      "seconds", "silence of a runner after which it is killed and replaced" },
    { "blob.gc_grace_seconds",   "3600",    "seconds", "age at which a file that nothing needs is removed" },
    { "data.cache_bytes",        "100GB",   "bytes",   "what the cache of downloaded data may hold on each machine; 0: no limit" },
    { "env.cache_bytes",         "20GB",    "bytes",   "what the cache of environments may hold on each machine; 0: no limit" },
    { "env.torch_index",         "none",    "text",    "package index with PyTorch's wheels, in whose place /whl of download.pytorch.org is asked otherwise" },
    { "target.require_gpu",      "false",   "bool",    "refuse use_gpu on a machine without a GPU" },
    { "target.slurm_partition",  "none",    "text",    "Slurm's partition for new targets that name no kind; none: they are this machine" },
    { "target.template",         "none",    "text",    "JSON file, a target specification: what new targets that name no kind get from it" },
    { "http.pages",              "true",    "bool",    "serve pages to browsers on this machine, once somebody asks for a link" },
    { "http.port",               "0",       "count",   "port on 127.0.0.1 for the pages; 0 takes a free one, and keeps it" },
    { "system.shared",           "false",   "bool",    "under a daemon for all users: everybody may read every run" },
    { "cli.color",               "auto",    "text",    "colors on a terminal: auto, always or never" },
};
/* clang-format on */
enum { OPTION_COUNT = sizeof options / sizeof *options, FILE_MAX_BYTES = 1 << 20 };

struct value {
    char *text, *origin;
    int64_t number;
};
struct ty_conf {
    struct value values[OPTION_COUNT];
};

const struct ty_conf_option *ty_conf_option(int n)
{
    return n >= 0 && n < OPTION_COUNT ? &options[n] : NULL;
}

static int find(const char *key)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strcmp(options[i].key, key) == 0)
            return i;
    return -1;
}

/* ---- values ---- */

static int read_bytes(const char *text, int64_t *ret)
{
    uint64_t n;
    int r = ty_parse_bytes(text, &n);

    if (r == 0 && n > INT64_MAX)
        r = -ERANGE;
    if (r == 0)
        *ret = (int64_t)n;
    return r;
}

static int read_count(const char *text, int64_t *ret)
{
    int64_t n;
    int r = ty_parse_i64(text, &n);

    if (r == 0 && n < 0)
        r = -ERANGE;
    if (r == 0)
        *ret = n;
    return r;
}

/* A count of seconds, or of what its last letter says: s, m, h, d. */
static int read_seconds(const char *text, int64_t *ret)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    size_t len = strlen(text);
    int64_t n, unit = 1;
    char digits[24];
    int r;

    for (size_t i = 0; len > 1 && i < sizeof units / sizeof *units; i++)
        if (text[len - 1] == units[i].letter) {
            unit = units[i].seconds;
            len--;
            break;
        }
    if (len >= sizeof digits)
        return -EINVAL;
    snprintf(digits, sizeof digits, "%.*s", (int)len, text);
    r = read_count(digits, &n);
    if (r == 0 && __builtin_mul_overflow(n, unit, &n))
        r = -ERANGE;
    if (r == 0)
        *ret = n;
    return r;
}

static int read_bool(const char *text, int64_t *ret)
{
    static const char *const yes[] = { "true", "yes", "on", "1", NULL };
    static const char *const no[] = { "false", "no", "off", "0", NULL };

    for (int i = 0; yes[i]; i++)
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    return -EINVAL;
}

static int read_text(const char *text, int64_t *ret)
{
    (void)text;
    *ret = 0;
    return 0;
}

static const struct kind {
    const char *word;
    int (*read)(const char *text, int64_t *ret);
    const char *form; /* completes "must be ..." */
} kinds[] = {
    { "text", read_text, "a text" },
    { "bytes", read_bytes, "a size in bytes like 300MB" },
    { "seconds", read_seconds, "a time in seconds, or like 90m, 12h or 7d" },
    { "count", read_count, "a whole number, 0 or more" },
    { "bool", read_bool, "true or false" },
};

static const struct kind *kind_of(const struct ty_conf_option *option)
{
    size_t i = 0;

    while (strcmp(kinds[i].word, option->kind) != 0) {
        i++;
        assert(i < sizeof kinds / sizeof *kinds);
    }
    return &kinds[i];
}

static int unknown_option(const char *key, const char *origin, struct ty_error *err)
{
    const char *known[OPTION_COUNT + 1], *near;

    for (int i = 0; i < OPTION_COUNT; i++)
        known[i] = options[i].key;
    known[OPTION_COUNT] = NULL;
    near = ty_nearest(key, known);
    if (near)
        return ty_error_set(err, -ENOENT, "%s: there is no option '%s'; did you mean '%s'?", origin,
                            key, near);
    return ty_error_set(err, -ENOENT, "%s: there is no option '%s'", origin, key);
}

int ty_conf_set(struct ty_conf *c, const char *key, const char *value, const char *origin,
                struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL, *from = NULL;
    const struct kind *kind;
    int64_t number = 0;
    int i = find(key), r;

    if (i < 0)
        return unknown_option(key, origin, err);
    kind = kind_of(&options[i]);
    r = kind->read(value, &number);
    if (r < 0)
        return ty_error_set(err, r, "%s: %s must be %s, not '%s'", origin, key, kind->form, value);
    text = strdup(value);
    from = strdup(origin);
    if (!text || !from)
        return ty_error_oom(err);
    free(c->values[i].text);
    free(c->values[i].origin);
    c->values[i] = (struct value){ .text = TAKE(text), .origin = TAKE(from), .number = number };
    return 0;
}

/* ---- sources ---- */

struct file {
    struct ty_conf *conf;
    const char *path;
    struct ty_error *err;
    int r; /* of the first line that was wrong */
};

/* The form alone, so that the number of a broken line is not taken for that of a refused one. */
static int accept_line(void *ctx, const char *section, const char *name, const char *value)
{
    (void)ctx, (void)section, (void)name, (void)value;
    return 1;
}

/* inih goes on after a line that was refused; only the first refusal is told. */
static int take_line(void *ctx, const char *section, const char *name, const char *value)
{
    struct file *f = ctx;
    char key[160];

    if (f->r < 0)
        return 0;
    snprintf(key, sizeof key, "%s%s%s", section, *section ? "." : "", name);
    f->r = ty_conf_set(f->conf, key, value ? value : "", f->path, f->err);
    return f->r == 0;
}

/* The errors of ty_conf_set begin with the file's path; the line is known only here. */
static int name_line(struct file *f, int line)
{
    CLEANUP_FREE char *rest = NULL;
    const char *text = f->err ? f->err->text : "";

    if (!f->err || f->r == -ENOMEM)
        return f->r;
    if (ty_starts_with(text, f->path))
        text += strlen(f->path);
    rest = strdup(text);
    return ty_error_set(f->err, f->r, "configuration file '%s', line %d%s", f->path, line,
                        rest ? rest : "");
}

static int apply_file(struct ty_conf *c, const char *path, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;
    struct file f = { .conf = c, .path = path, .err = err };
    int line, r = ty_read_file(path, FILE_MAX_BYTES, &text, NULL);

    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r < 0)
        return ty_error_set(err, r, "cannot read the configuration file '%s': %s", path,
                            strerror(-r));
    line = ini_parse_string(text, accept_line, NULL);
    if (line > 0)
        return ty_error_set(
            err, -EINVAL,
            "configuration file '%s', line %d: it is neither '[section]' nor 'key = value'", path,
            line);
    line = ini_parse_string(text, take_line, &f);
    return f.r < 0 ? name_line(&f, line) : 0;
}

static int apply_named(struct ty_conf *c, const char *folder, const char *rest,
                       struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(folder, rest);

    return path ? apply_file(c, path, err) : ty_error_oom(err);
}

static int apply_user_file(struct ty_conf *c, struct ty_error *err)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (xdg && xdg[0] == '/')
        return apply_named(c, xdg, "trainyard/config", err);
    return home && home[0] == '/' ? apply_named(c, home, ".config/trainyard/config", err) : 0;
}

/* The nearest .trainyard/config in `start` or above it. */
static int apply_project_file(struct ty_conf *c, const char *start, struct ty_error *err)
{
    CLEANUP_FREE char *dir = realpath(start, NULL);
    CLEANUP_FREE char *path = NULL;

    while (dir) {
        char *slash;

        free(path);
        path = ty_path_join(dir, ".trainyard/config");
        if (!path)
            return ty_error_oom(err);
        if (access(path, F_OK) == 0)
            return apply_file(c, path, err);
        slash = strrchr(dir, '/');
        if (!slash || dir[1] == 0)
            break;
        slash[slash == dir] = 0;
    }
    return 0;
}

static int apply_environment(struct ty_conf *c, struct ty_error *err)
{
    char name[96];

    for (int i = 0; i < OPTION_COUNT; i++) {
        const char *value;
        int r;

        snprintf(name, sizeof name, "TRAINYARD_%s", options[i].key);
        for (char *p = name; *p; p++)
            *p = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
        value = getenv(name);
        if (!value || !*value)
            continue;
        r = ty_conf_set(c, options[i].key, value, "environment", err);
        if (r < 0)
            return ty_error_set(err, r, "environment variable %s must be %s, not '%s'", name,
                                kind_of(&options[i])->form, value);
    }
    return 0;
}

static int apply_defaults(struct ty_conf *c, struct ty_error *err)
{
    int r = 0;

    for (int i = 0; i < OPTION_COUNT && r == 0; i++)
        r = ty_conf_set(c, options[i].key, options[i].fallback, "default", err);
    return r;
}

static void conf_freep(struct ty_conf **c)
{
    ty_conf_free(*c);
}

int ty_conf_load(const char *start_dir, struct ty_conf **ret, struct ty_error *err)
{
    CLEANUP(conf_freep) struct ty_conf *c = calloc(1, sizeof *c);
    int r;

    if (!c)
        return ty_error_oom(err);
    r = apply_defaults(c, err);
    if (r == 0)
        r = apply_file(c, "/etc/trainyard/config", err);
    if (r == 0)
        r = apply_user_file(c, err);
    if (r == 0 && start_dir)
        r = apply_project_file(c, start_dir, err);
    if (r == 0)
        r = apply_environment(c, err);
    if (r == 0)
        *ret = TAKE(c);
    return r;
}

struct ty_conf *ty_conf_free(struct ty_conf *c)
{
    for (int i = 0; c && i < OPTION_COUNT; i++) {
        free(c->values[i].text);
        free(c->values[i].origin);
    }
    free(c);
    return NULL;
}

/* ---- asking ---- */

static const struct value *value_of(const struct ty_conf *c, const char *key)
{
    int i = find(key);

    assert(i >= 0);
    return &c->values[i];
}

const char *ty_conf_text(const struct ty_conf *c, const char *key)
{
    return value_of(c, key)->text;
}

int64_t ty_conf_number(const struct ty_conf *c, const char *key)
{
    return value_of(c, key)->number;
}

bool ty_conf_bool(const struct ty_conf *c, const char *key)
{
    return value_of(c, key)->number != 0;
}

const char *ty_conf_origin(const struct ty_conf *c, const char *key)
{
    return value_of(c, key)->origin;
}
