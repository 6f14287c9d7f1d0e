/* venv.c - a prefix for pip's packages: a venv that sees the interpreter's own packages
 *
 * pip decides twice: once what is to be installed (a dry run, whose report is the lock), and once how a package is
 * unpacked, for those that no prefix has had yet. Everything else is linking (wheels.c).
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "env/env_internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPORT_MAX (256u << 20)
#define RESOLVE_SECONDS 3600
#define PIP_WORDS_MAX 32

/* ---- pip's words ---- */

struct words {
    const char **v;
    size_t n, cap;
    bool failed;
};

static void add(struct words *w, const char *word)
{
    if (w->n + 1 >= w->cap && !w->failed) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        const char **v = reallocarray(w->v, cap, sizeof *v);

        w->failed = v == NULL;
        if (v) {
            w->v = v;
            w->cap = cap;
        }
    }
    if (w->failed)
        return;
    w->v[w->n++] = word;
    w->v[w->n] = NULL;
}

static void words_done(struct words *w)
{
    free(w->v);
}

static void add_each(struct words *w, const char *option, const char **values)
{
    for (; *values; values++) {
        add(w, option);
        add(w, *values);
    }
}

/* Where packages come from. */
static void add_sources(struct words *w, const struct env_build *b)
{
    const struct ty_env_spec *s = b->q->spec;

    if (b->q->offline)
        add(w, "--no-index");
    if (s->index_url) {
        add(w, "--index-url");
        add(w, s->index_url);
    }
    add_each(w, "--extra-index-url", s->extra_index_urls);
    add_each(w, "--find-links", s->find_links);
    if (s->pre)
        add(w, "--pre");
}

/* Which program is pip for `python`: its own module, or that of a venv of ours. */
static void add_pip(struct words *w, const char *python, const char *tool)
{
    if (tool) {
        add(w, tool);
        add(w, "-m");
        add(w, "pip");
        add(w, "--python");
        add(w, python);
    } else {
        add(w, python);
        add(w, "-m");
        add(w, "pip");
    }
}

/* ---- the report of a dry run ---- */

static const char *sha_of(const json_t *download)
{
    const json_t *archive = json_object_get(download, "archive_info");
    const char *sha =
        json_string_value(json_object_get(json_object_get(archive, "hashes"), "sha256"));
    const char *hash = json_string_value(json_object_get(archive, "hash"));

    if (!sha && hash && ty_starts_with(hash, "sha256="))
        sha = hash + strlen("sha256=");
    return sha;
}

/* What has no hash (a folder, a repository) is known by its address, and by this prefix alone. */
static char *id_of(const struct env_build *b, const char *sha, const char *url)
{
    CLEANUP_FREE char *text = NULL;
    char hex[TY_ENV_HASH + 1];

    if (sha && strlen(sha) == TY_ENV_HASH && strspn(sha, "0123456789abcdef") == TY_ENV_HASH)
        return strdup(sha);
    text = ty_strf("%s\n%s", b->key, url);
    if (!text)
        return NULL;
    ty_sha256_hex(text, strlen(text), hex);
    return strdup(hex);
}

static int take_item(struct env_build *b, const json_t *item, struct ty_error *err)
{
    const json_t *download = json_object_get(item, "download_info"),
                 *metadata = json_object_get(item, "metadata");
    const char *name = json_string_value(json_object_get(metadata, "name"));
    const char *version = json_string_value(json_object_get(metadata, "version"));
    const char *url = json_string_value(json_object_get(download, "url")), *sha = sha_of(download);
    CLEANUP_FREE char *id = url ? id_of(b, sha, url) : NULL;
    json_t *one;

    if (!name || !version || !url)
        return ty_error_set(err, -EBADMSG,
                            "pip's report has an entry without a name, version or address");
    if (!id)
        return ty_error_oom(err);
    one = json_pack("{s:s, s:s, s:s, s:s?, s:s}", "name", name, "version", version, "url", url,
                    "sha256", sha, "id", id);
    return json_array_append_new(b->lock_pip, one) < 0 ? ty_error_oom(err) : 0;
}

static int read_report(struct env_build *b, const char *path, struct ty_error *err)
{
    CLEANUP_JSON json_t *report = NULL;
    CLEANUP_FREE char *text = NULL;
    const json_t *item;
    size_t n, i;
    int r = ty_read_file(path, REPORT_MAX, &text, &n);

    if (r < 0)
        return ty_error_set(err, r, "cannot read pip's report '%s': %s", path, strerror(-r));
    r = ty_json_parse(text, n, &report, err);
    if (r < 0)
        return ty_error_prefix(err, "pip's report");
    json_array_foreach (json_object_get(report, "install"), i, item) {
        r = take_item(b, item, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- what pip says when it cannot ---- */

static bool says_unreachable(const char *text)
{
    static const char *const words[] = { "NewConnectionError",
                                         "ConnectTimeoutError",
                                         "ReadTimeoutError",
                                         "Connection refused",
                                         "Name or service not",
                                         "Temporary failure in name",
                                         "Network is unreach",
                                         "Max retries exceeded",
                                         "ProxyError",
                                         "RemoteDisconnected",
                                         "ConnectionResetError",
                                         "SSLError",
                                         NULL };

    for (const char *const *w = words; *w; w++)
        if (strstr(text, *w))
            return true;
    return false;
}

/* pip's own "ERROR: ..." lines, the last of them, in one sentence. */
static char *own_words(const char *text)
{
    CLEANUP_STR struct ty_str s = { 0 };

    for (const char *p = text; p && *p;) {
        size_t n = strcspn(p, "\n");

        if (ty_starts_with(p, "ERROR: ") && s.len < 2000) {
            ty_str_add(&s, s.len ? " " : "");
            ty_str_addn(&s, p + 7, n - 7);
        }
        p += n + (p[n] == '\n');
    }
    if (s.len == 0) { /* the last line, then */
        size_t end = text ? strlen(text) : 0, begin;

        while (end > 0 && text[end - 1] == '\n')
            end--;
        for (begin = end; begin > 0 && text[begin - 1] != '\n'; begin--)
            ;
        ty_str_addn(&s, text ? text + begin : "", end - begin);
    }
    return ty_str_take(&s);
}

static int pip_failed(const struct env_build *b, const struct env_said *said, const char *doing,
                      struct ty_error *err)
{
    const char *text = said->end.text ? said->end.text : "";
    CLEANUP_FREE char *words = own_words(text), *index = NULL;

    if (strstr(text, "No space left on device"))
        return ty_error_set(
            err, -ENOSPC,
            "cannot build the environment: the disk of '%s' is full; 'trainyard env gc' frees what "
            "no run uses",
            b->q->cache);
    if (says_unreachable(text)) {
        index = env_mask(b->q->spec->index_url ? b->q->spec->index_url : "pip's package index");
        return ty_error_set(
            err, -ENETUNREACH,
            "cannot build the environment: %s does not answer (%.500s). Environments that are in the "
            "cache need no index ('trainyard env ls' lists them), and wheels of a folder can be named "
            "in find_links",
            index ? index : "the package index", words ? words : "");
    }
    return ty_error_set(err, -ENOENT, "cannot build the environment: %s failed: %s", doing,
                        words ? words : text);
}

/* ---- pip itself ---- */

static int run_pip(struct env_build *b, struct words *w, const char *doing, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_strf("PYTHONPATH=%s", b->q->python_path ? b->q->python_path : "");
    const char *env[] = { path, "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INPUT=1",
                          "PIP_PROGRESS_BAR=off", NULL };
    struct env_program p = {
        .argv = w->v, .more_env = env, .limit_seconds = RESOLVE_SECONDS, .doing = doing
    };
    struct env_said said;
    int r;

    if (w->failed || !path)
        return ty_error_oom(err);
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.status != 0)
        r = pip_failed(b, &said, doing, err);
    env_said_done(&said);
    return r;
}

/* A venv of ours with a pip in it, for interpreters that have none: made by ensurepip, once. */
static int tool_pip(struct env_build *b, char **ret, struct ty_error *err)
{
    const char *version = json_string_value(json_object_get(b->asked, "version"));
    CLEANUP_FREE char *folder = ty_strf("%s/tools/pip-%s", b->q->cache, version);
    CLEANUP_FREE char *python = ty_strf("%s/bin/python3", folder ? folder : "");
    CLEANUP_FREE char *mine = ty_strf("%s.%d", folder ? folder : "", (int)getpid());
    const char *argv[] = { b->interpreter, "-m", "venv", mine, NULL };
    struct env_program p = { .argv = argv,
                             .limit_seconds = 300,
                             .doing = "making a venv with pip" };
    struct env_said said;
    int r;

    if (!folder || !python || !mine)
        return ty_error_oom(err);
    if (access(python, X_OK) == 0) {
        *ret = TAKE(python);
        return 0;
    }
    if (!json_is_true(json_object_get(b->asked, "ensurepip")))
        return ty_error_set(
            err, -ENOTSUP,
            "cannot build the environment: '%s' has neither pip nor ensurepip; install them "
            "('apt install python3-pip python3-venv'), or name an interpreter that has pip",
            b->interpreter);
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.status != 0)
        r = pip_failed(b, &said, "making a venv with pip", err);
    env_said_done(&said);
    if (r == 0 && rename(mine, folder) < 0 && errno != EEXIST && errno != ENOTEMPTY)
        r = ty_error_set(err, -errno, "cannot rename '%s' to '%s': %m", mine, folder);
    ty_rm_rf(mine);
    if (r == 0)
        *ret = TAKE(python);
    return r;
}

static int resolve(struct env_build *b, const char *python, const char *tool, const json_t *specs,
                   struct ty_error *err)
{
    CLEANUP_FREE char *report = ty_strf("%s/report.json", b->building);
    CLEANUP_FREE char *constraints = ty_strf("%s/constraints.txt", b->building);
    CLEANUP_STR struct ty_str lines = { 0 };
    CLEANUP(words_done) struct words w = { 0 };
    const json_t *spec;
    size_t i;
    int r;

    if (!report || !constraints)
        return ty_error_oom(err);
    add_pip(&w, python, tool);
    add(&w, "install");
    add(&w, "--dry-run");
    add(&w, "--report");
    add(&w, report);
    /* An index that is dead is to be known in seconds; what is large comes later, and with more patience. */
    add(&w, "--retries");
    add(&w, "1");
    add(&w, "--timeout");
    add(&w, "4");
    add_sources(&w, b);
    if (b->q->spec->constraints[0]) {
        for (const char **c = b->q->spec->constraints; *c; c++)
            ty_str_addf(&lines, "%s\n", *c);
        r = lines.failed ? -ENOMEM : ty_write_file(constraints, lines.text, lines.len, 0600);
        if (r < 0)
            return ty_error_set(err, r, "cannot write '%s': %s", constraints, strerror(-r));
        add(&w, "--constraint");
        add(&w, constraints);
    }
    json_array_foreach (specs, i, spec)
        add(&w, json_string_value(spec));
    r = run_pip(b, &w, "resolving the packages", err);
    if (r == 0)
        r = read_report(b, report, err);
    unlink(report);
    unlink(constraints);
    return r;
}

/* One line of a requirements file per package: its address, and its hash where there is one. */
static char *requirement(const json_t *item)
{
    const char *url = json_string_value(json_object_get(item, "url"));
    const char *sha = json_string_value(json_object_get(item, "sha256"));
    const char *name = json_string_value(json_object_get(item, "name"));

    if (!url || !name)
        return NULL;
    return sha ? ty_strf("%s @ %s#sha256=%s\n", name, url, sha) : ty_strf("%s @ %s\n", name, url);
}

static int fetch(struct env_build *b, const char *python, const char *tool, const json_t *items,
                 struct ty_error *err)
{
    CLEANUP_FREE char *list = ty_strf("%s/requirements.txt", b->building);
    CLEANUP_FREE char *staging = ty_strf("%s/staging", b->building), *uv = env_find("uv");
    CLEANUP_STR struct ty_str lines = { 0 };
    CLEANUP(words_done) struct words w = { 0 };
    const json_t *item;
    size_t i;
    int r;

    if (!list || !staging)
        return ty_error_oom(err);
    json_array_foreach (items, i, item) {
        CLEANUP_FREE char *line = requirement(item);

        ty_str_add(&lines, line ? line : "");
    }
    r = lines.failed ? -ENOMEM : ty_write_file(list, lines.text, lines.len, 0600);
    if (r < 0)
        return ty_error_set(err, r, "cannot write '%s': %s", list, strerror(-r));
    if (uv) {
        add(&w, uv);
        add(&w, "pip");
        add(&w, "install");
        add(&w, "--python");
        add(&w, python);
        add(&w, "--compile-bytecode");
        free(b->tool);
        b->tool = strdup("uv");
    } else {
        add_pip(&w, python, tool);
        add(&w, "install");
        add(&w, "--ignore-installed");
        add(&w, "--no-warn-script-location");
    }
    add(&w, "--no-deps");
    add(&w, "--prefix");
    add(&w, staging);
    add_sources(&w, b);
    add(&w, "-r");
    add(&w, list);
    r = run_pip(b, &w, "installing the packages", err);
    if (r == 0)
        r = env_wheels_split(b, staging, items, err);
    ty_rm_rf(staging);
    unlink(list);
    return r;
}

/* lib/python3.11/site-packages of the prefix. */
static int find_site(const struct env_build *b, char **ret, struct ty_error *err)
{
    CLEANUP_FREE char *lib = ty_strf("%s/lib", b->building);
    DIR *d = lib ? opendir(lib) : NULL;
    const struct dirent *e;

    *ret = NULL;
    while (d && !*ret && (e = readdir(d)))
        if (ty_starts_with(e->d_name, "python3")) {
            CLEANUP_FREE char *site = ty_strf("lib/%s/site-packages", e->d_name);
            CLEANUP_FREE char *full = ty_strf("%s/%s", b->building, site ? site : "");

            if (full && access(full, F_OK) == 0)
                *ret = TAKE(site);
        }
    if (d)
        closedir(d);
    return *ret ? 0
                : ty_error_set(err, -ENOENT, "the prefix '%s' has no lib/python3.*/site-packages",
                               b->building);
}

int env_pip_into(struct env_build *b, const char *python, const json_t *specs, const json_t *lock,
                 struct ty_error *err)
{
    const char *version = json_string_value(json_object_get(b->asked, "pip"));
    CLEANUP_FREE char *tool = NULL, *site = NULL;
    CLEANUP_JSON json_t *lacking = json_array();
    const json_t *item;
    size_t i;
    int r = 0;

    if (json_array_size(specs) == 0 && json_array_size(lock) == 0)
        return 0;
    if (!version)
        r = tool_pip(b, &tool, err);
    if (r < 0)
        return r;
    free(b->tool);
    b->tool = version ? ty_strf("pip %s", version) : strdup("pip");
    json_decref(b->lock_pip);
    b->lock_pip = lock ? json_deep_copy(lock) : json_array();
    if (!b->lock_pip || !lacking || !b->tool)
        return ty_error_oom(err);
    env_progress(b, 10, "resolving");
    if (!lock)
        r = resolve(b, python, tool, specs, err);
    json_array_foreach (b->lock_pip, i, item)
        if (!env_wheel_has(b->q->cache, json_string_value(json_object_get(item, "id"))))
            json_array_append(lacking, (json_t *)item);
    if (r == 0 && json_array_size(lacking) > 0) {
        env_progress(b, 40, "downloading");
        env_log(b, "%zu packages are to be had, %zu are here already", json_array_size(lacking),
                json_array_size(b->lock_pip) - json_array_size(lacking));
        r = fetch(b, python, tool, lacking, err);
    }
    if (r == 0)
        r = find_site(b, &site, err);
    if (r == 0)
        env_progress(b, 90, "linking");
    json_array_foreach (b->lock_pip, i, item)
        if (r == 0)
            r = env_wheel_link(b, json_string_value(json_object_get(item, "id")), site, err);
    return r;
}

/* ---- the venv ---- */

/* A venv made of a venv sees what the first one was made of, and not the first one's own packages. */
static int see_base(const struct env_build *b, struct ty_error *err)
{
    const char *prefix = json_string_value(json_object_get(b->asked, "prefix"));
    const char *base = json_string_value(json_object_get(b->asked, "base_prefix"));
    CLEANUP_FREE char *site = NULL, *path = NULL;
    CLEANUP_STR struct ty_str lines = { 0 };
    const json_t *one;
    size_t i;
    int r;

    if (!prefix || !base || strcmp(prefix, base) == 0)
        return 0;
    json_array_foreach (json_object_get(b->asked, "sites"), i, one)
        if (ty_starts_with(json_string_value(one), prefix))
            ty_str_addf(&lines, "%s\n", json_string_value(one));
    r = find_site(b, &site, err);
    if (r < 0)
        return r;
    path = ty_strf("%s/%s/zz-trainyard-base.pth", b->building, site);
    r = path && !lines.failed ? ty_write_file(path, lines.text ? lines.text : "", lines.len, 0600)
                              : -ENOMEM;
    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path ? path : "", strerror(-r))
                 : 0;
}

int env_venv_build(struct env_build *b, const json_t *specs, const json_t *lock,
                   struct ty_error *err)
{
    const char *argv[] = { b->interpreter,  "-m",        "venv", "--system-site-packages",
                           "--without-pip", b->building, NULL };
    struct env_program p = { .argv = argv, .limit_seconds = 300, .doing = "making a venv" };
    CLEANUP_FREE char *python = ty_strf("%s/bin/python3", b->building);
    struct env_said said;
    int r;

    if (!python)
        return ty_error_oom(err);
    if (!json_is_true(json_object_get(b->asked, "venv")))
        return ty_error_set(
            err, -ENOTSUP,
            "cannot build the environment: '%s' has no module venv; install it ('apt install "
            "python3-venv'), or name an interpreter that has it",
            b->interpreter);
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.status != 0)
        r = pip_failed(b, &said, "making a venv", err);
    env_said_done(&said);
    if (r == 0)
        r = see_base(b, err);
    return r == 0 ? env_pip_into(b, python, specs, lock, err) : r;
}
