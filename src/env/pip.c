/* pip.c - packages into a prefix
 *
 * pip decides twice: once what is to be installed (a dry run, whose report is the lock), and once how a package is
 * unpacked, for those that no prefix has had yet. Everything else is linking (wheels.c).
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "core/ascii.h"
#include "env/env_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPORT_MAX (256u << 20)
#define RESOLVE_SECONDS 3600
#define SLOW_SECONDS "60" /* of silence, from an index that is known to be slow */

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

/* Command lines are seen by everybody on the machine. */
static bool has_password(const char *text)
{
    CLEANUP_FREE char *masked = ty_env_mask(text);

    return !masked || strcmp(masked, text) != 0;
}

/* A word of pip's; where it holds a password, a line of its requirements file.  There alone pip takes hashes, too. */
static void add_address(struct words *w, struct ty_str *lines, const char *option,
                        const char *value)
{
    if (has_password(value) || strstr(value, " --hash=")) {
        ty_str_addf(lines, "%s%s%s\n", option ? option : "", option ? " " : "", value);
        return;
    }
    if (option)
        add(w, option);
    add(w, value);
}

/* Where packages come from; the index comes with the environment (run_pip).  `lines`: for the requirements file. */
static void add_sources(struct words *w, struct ty_str *lines, const struct env_build *b)
{
    const struct ty_env_spec *s = b->q->spec;

    if (b->q->offline)
        add(w, "--no-index");
    for (const char **u = s->extra_index_urls; *u && !b->q->offline; u++)
        add_address(w, lines, "--extra-index-url", *u);
    if (b->torch_index && !b->q->offline)
        add_address(w, lines, "--extra-index-url", b->torch_index);
    for (const char **u = s->find_links; *u; u++)
        add_address(w, lines, "--find-links", *u);
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

static bool is_sha(const char *sha)
{
    return sha && ty_ascii_hex(sha, TY_ENV_HASH);
}

/* The name of the package's folder in wheels/.  A wheel is named by its SHA-256.  What is built here from source is of one Python
 * and machine; what has no hash (a folder, a repository) is of this prefix alone. */
static char *id_of(const struct env_build *b, const char *sha, const char *url)
{
    const char *version = json_string_value(json_object_get(b->asked, "version"));
    const char *platform = json_string_value(json_object_get(b->asked, "platform"));
    CLEANUP_FREE char *path = strndup(url, strcspn(url, "#?")), *text = NULL;
    char hex[TY_ENV_HASH + 1];

    if (path && is_sha(sha) && ty_ends_with(path, ".whl"))
        return strdup(sha);
    text = is_sha(sha) ? ty_strf("%s\n%s\n%s\n%s", sha, version, platform,
                                 b->q->image_id ? b->q->image_id : "")
                       : ty_strf("%s\n%s", b->key, url);
    if (!text || !path)
        return NULL;
    ty_sha256_hex(text, strlen(text), hex);
    return strdup(hex);
}

/* One line of a requirements file is made of them. */
static bool is_word(const char *text)
{
    if (!text || !*text || *text == '-')
        return false;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return false;
    return true;
}

static int add_package(struct env_build *b, const char *whose, const char *name,
                       const char *version, const char *url, const char *sha, struct ty_error *err)
{
    CLEANUP_FREE char *id = url ? id_of(b, sha, url) : NULL;

    if (!is_word(name) || !is_word(version) || !is_word(url) || (sha && !is_sha(sha)))
        return ty_error_set(
            err, -EBADMSG,
            "%s has an entry ('%.80s') whose name, version, address or hash is not one", whose,
            name ? name : "");
    if (!id || json_array_append_new(b->lock_pip, json_pack("{s:s, s:s, s:s, s:s?, s:s}", "name",
                                                            name, "version", version, "url", url,
                                                            "sha256", sha, "id", id)) < 0)
        return ty_error_oom(err);
    return 0;
}

static int take_item(struct env_build *b, const json_t *item, struct ty_error *err)
{
    const json_t *download = json_object_get(item, "download_info"),
                 *metadata = json_object_get(item, "metadata");

    return add_package(b, "pip's report", json_string_value(json_object_get(metadata, "name")),
                       json_string_value(json_object_get(metadata, "version")),
                       json_string_value(json_object_get(download, "url")), sha_of(download), err);
}

/* What an earlier run was given; its folders in wheels/ are named anew, for a lock comes from outside. */
static int take_lock(struct env_build *b, const json_t *lock, struct ty_error *err)
{
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach (lock, i, one)
        if (r == 0)
            r = add_package(b, "the environment's lock",
                            json_string_value(json_object_get(one, "name")),
                            json_string_value(json_object_get(one, "version")),
                            json_string_value(json_object_get(one, "url")),
                            json_string_value(json_object_get(one, "sha256")), err);
    return r;
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

/* ---- pip itself ---- */

/* pip names each package when it begins with it; unpacking and compiling them all, the longer part of large ones, it tells once. */
static void count(struct env_build *b, const char *line)
{
    if (b->total == 0)
        return;
    if (b->q->progress && ty_starts_with(line, "Installing collected packages"))
        b->q->progress(85, "installing", b->q->ctx);
    if (!ty_starts_with(line, "Collecting ") || b->done >= b->total)
        return;
    if (b->q->progress)
        b->q->progress(40 + 45 * b->done / b->total, "downloading", b->q->ctx);
    b->done++;
}

/* An index that keeps silent for some seconds may only be slow: then it has an answer to what costs it nothing. */
static bool is_alive(struct env_build *b, const char *index)
{
    const char *urls[] = { index, NULL }, *why;
    CLEANUP_JSON json_t *answer = NULL;
    CLEANUP_FREE char *shown = ty_env_mask(index);
    struct ty_error err;

    if (env_reached(b, urls, &answer, &err) < 0)
        return false;
    why = json_string_value(json_object_get(answer, index));
    if (why && (strlen(why) != 3 || strspn(why, "0123456789") != 3))
        return false;
    env_log(b, "the package index %s answers, but slowly: it is waited for", shown ? shown : "");
    return true;
}

/* What it leaves in a temporary folder goes with the prefix, whichever way both end.  `impatient`: an index that does not answer
 * twice is dead, and so is a name server (RES_OPTIONS is glibc's).  -EAGAIN: it is slow, and needs more patience. */
static int run_pip(struct env_build *b, struct words *w, bool impatient, const char *doing,
                   struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_strf("PYTHONPATH=%s", b->q->python_path ? b->q->python_path : "");
    CLEANUP_FREE char *tmp = ty_strf("TMPDIR=%s/tmp", b->building);
    const char *index = b->q->spec->index_url, *silent;
    CLEANUP_FREE char *of_pip = ty_strf("PIP_INDEX_URL=%s", index ? index : "");
    CLEANUP_FREE char *of_uv = ty_strf("UV_INDEX_URL=%s", index ? index : "");
    CLEANUP_FREE char *of_new_uv = ty_strf("UV_DEFAULT_INDEX=%s", index ? index : "");
    const char *env[16] = { path,
                            tmp,
                            "PIP_DISABLE_PIP_VERSION_CHECK=1",
                            "PIP_NO_INPUT=1",
                            "PIP_PROGRESS_BAR=off",
                            "PIP_USER=0" };
    size_t n = 6;
    struct env_program p = { .argv = w->v,
                             .more_env = env,
                             .limit_seconds = RESOLVE_SECONDS,
                             .seen = count,
                             .hopeless = impatient ? env_pip_hopeless : NULL,
                             .doing = doing };
    struct env_said said;
    int r;

    if (w->failed || !path || !tmp || !of_pip || !of_uv || !of_new_uv)
        return ty_error_oom(err);
    if (impatient)
        env[n++] = "RES_OPTIONS=timeout:2 attempts:1";
    if (index) { /* it may hold a password */
        env[n++] = of_pip;
        env[n++] = of_uv;
        env[n++] = of_new_uv;
    }
    r = ty_mkdir_p(tmp + strlen("TMPDIR="), 0700);
    if (r < 0)
        return ty_error_set(err, r, "cannot make '%s': %s", tmp + strlen("TMPDIR="), strerror(-r));
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.hopeless && (silent = env_pip_silent(b, &said)) && is_alive(b, silent))
        r = -EAGAIN;
    else if (r == 0 && (said.status != 0 || said.hopeless))
        r = env_pip_failed(b, &said, doing, err);
    env_said_done(&said);
    ty_rm_rf(tmp + strlen("TMPDIR="));
    return r;
}

/* --report and --python are younger than the pip of some releases that are in use (Ubuntu 22.04, Debian 11). */
static bool is_old(const char *version)
{
    char *end;
    long major = strtol(version, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;

    return major < 22 || (major == 22 && minor < 3);
}

/* ensurepip's may be old, too; asks no index when it is not. */
static int renew_pip(struct env_build *b, const char *venv, struct ty_error *err)
{
    CLEANUP_FREE char *python = ty_strf("%s/bin/python3", venv);
    const char *argv[] = {
        python,      "-m",        "pip", "install",   "--disable-pip-version-check",
        "--quiet",   "--retries", "1",   "--timeout", "4",
        "pip>=22.3", NULL
    };
    struct env_program p = { .argv = argv,
                             .limit_seconds = 300,
                             .doing = "installing a newer pip" };
    struct env_said said;
    int r = python ? env_run(b, &p, &said, err) : ty_error_oom(err);

    if (!python)
        return r;
    if (r == 0 && said.status != 0)
        r = env_pip_failed(b, &said, "installing a newer pip", err);
    env_said_done(&said);
    return r;
}

/* Of an image's Python it is another one than of this machine's of the same version. */
static char *tool_folder(const struct env_build *b, const char *version)
{
    char hex[TY_ENV_HASH + 1];

    if (!b->q->view)
        return ty_strf("%s/tools/pip-%s", b->q->cache, version);
    ty_sha256_hex(b->q->image_id, strlen(b->q->image_id), hex);
    return ty_strf("%s/tools/pip-%s-%.12s", b->q->cache, version, hex);
}

/* A venv of ours with a pip in it, for interpreters that have none: made by ensurepip, once. */
int env_tool_pip(struct env_build *b, char **ret, struct ty_error *err)
{
    const json_t *base = json_object_get(b->asked, "base_version"); /* of b->interpreter */
    const char *version = json_string_value(base ? base : json_object_get(b->asked, "version"));
    CLEANUP_FREE char *folder = tool_folder(b, version);
    CLEANUP_FREE char *python = ty_strf("%s/bin/python3", folder ? folder : "");
    CLEANUP_FREE char *mine = ty_strf("%s.%d", folder ? folder : "", (int)getpid());
    const char *with[] = { b->interpreter, "-m", "venv", mine, NULL };
    const char *seen[] = { b->interpreter,  "-m", "venv", "--system-site-packages",
                           "--without-pip", mine, NULL };
    bool has = json_is_string(
        json_object_get(b->asked, base ? "base_pip" : "pip")); /* an old one brings a new one */
    struct env_program p = { .argv = has ? seen : with,
                             .limit_seconds = 300,
                             .doing = "making a venv with pip" };
    struct env_said said;
    int r;

    if (!folder || !python || !mine)
        return ty_error_oom(err);
    /* In an image's venv it is a link that leads nowhere here. */
    if (faccessat(AT_FDCWD, python, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        *ret = TAKE(python);
        return 0;
    }
    if (!has && !json_is_true(json_object_get(b->asked, "ensurepip")) && b->q->view)
        return ty_error_set(
            err, -ENOTSUP,
            "no packages can be installed on top of the image '%s': its Python has neither a pip (22.3 or "
            "newer) nor ensurepip; take an image that has one, or one that has the packages",
            b->q->spec->image);
    if (!has && !json_is_true(json_object_get(b->asked, "ensurepip")))
        return ty_error_set(
            err, -ENOTSUP,
            "cannot build the environment: '%s' has neither a pip (22.3 or newer) nor ensurepip; install them "
            "('apt install python3-pip python3-venv'), or name an interpreter that has pip",
            b->interpreter);
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.status != 0)
        r = env_pip_failed(b, &said, "making a venv with pip", err);
    env_said_done(&said);
    if (r == 0)
        r = renew_pip(b, mine, err);
    if (r == 0 && rename(mine, folder) < 0 && errno != EEXIST && errno != ENOTEMPTY)
        r = ty_error_set(err, -errno, "cannot rename '%s' to '%s': %m", mine, folder);
    ty_rm_rf(mine);
    if (r == 0)
        *ret = TAKE(python);
    return r;
}

/* A requirements file, which nobody else can read. */
static int write_list(const char *path, const struct ty_str *lines, struct ty_error *err)
{
    int r = lines->failed ? -ENOMEM : ty_write_file(path, lines->text, lines->len, 0600);

    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path, strerror(-r)) : 0;
}

static int resolve_once(struct env_build *b, const char *python, const char *tool,
                        const json_t *specs, bool patient, struct ty_error *err)
{
    CLEANUP_FREE char *report = ty_strf("%s/report.json", b->building);
    CLEANUP_FREE char *constraints = ty_strf("%s/constraints.txt", b->building);
    CLEANUP_FREE char *list = ty_strf("%s/requirements.txt", b->building);
    CLEANUP_STR struct ty_str lines = { 0 }, secret = { 0 };
    CLEANUP(words_done) struct words w = { 0 };
    const json_t *spec;
    size_t i;
    int r;

    if (!report || !constraints || !list)
        return ty_error_oom(err);
    add_pip(&w, python, tool);
    add(&w, "install");
    add(&w, "--dry-run");
    add(&w, "--report");
    add(&w, report);
    /* An index that is dead is to be known in seconds; what is large comes later, and with more patience. */
    add(&w, "--retries");
    add(&w, "2"); /* before the third try it is given up: env_pip_hopeless */
    add(&w, "--timeout");
    add(&w, patient ? SLOW_SECONDS : "4");
    add_sources(&w, &secret, b);
    if (b->q->spec->constraints[0]) {
        for (const char **c = b->q->spec->constraints; *c; c++)
            ty_str_addf(&lines, "%s\n", *c);
        r = write_list(constraints, &lines, err);
        if (r < 0)
            return r;
        add(&w, "--constraint");
        add(&w, constraints);
    }
    json_array_foreach (specs, i, spec)
        add_address(&w, &secret, NULL, json_string_value(spec));
    if (secret.len) {
        r = write_list(list, &secret, err);
        if (r < 0)
            return r;
        add(&w, "-r");
        add(&w, list);
    }
    r = run_pip(b, &w, !patient, "resolving the packages", err);
    if (r == 0)
        r = read_report(b, report, err);
    unlink(report);
    unlink(constraints);
    unlink(list);
    return r;
}

static int resolve(struct env_build *b, const char *python, const char *tool, const json_t *specs,
                   struct ty_error *err)
{
    int r = resolve_once(b, python, tool, specs, false, err);

    if (r == -EAGAIN)
        r = resolve_once(b, python, tool, specs, true, err);
    return r < 0 ? env_pip_refused(b, r, err) : r;
}

/* A line of a requirements file: the address and its hash; or, what an index has by that name, version and hash, whichever
 * address it has now. */
static void add_requirement(struct ty_str *s, const json_t *item, bool by_name)
{
    const char *name = json_string_value(json_object_get(item, "name"));
    const char *version = json_string_value(json_object_get(item, "version"));
    const char *url = json_string_value(json_object_get(item, "url"));
    const char *sha = json_string_value(json_object_get(item, "sha256"));

    if (by_name)
        ty_str_addf(s, "%s==%s --hash=sha256:%s\n", name, version, sha);
    else if (sha)
        ty_str_addf(s, "%s @ %s#sha256=%s\n", name, url, sha);
    else
        ty_str_addf(s, "%s @ %s\n", name, url);
}

static void add_installer(struct env_build *b, struct words *w, const char *uv, const char *python,
                          const char *tool)
{
    if (uv) { /* it has a cache of its own, whose files are not to be those of wheels/ */
        add(w, uv);
        add(w, "pip");
        add(w, "install");
        add(w, "--python");
        add(w, python);
        add(w, "--compile-bytecode");
        add(w, "--link-mode");
        add(w, "copy");
        free(b->tool);
        b->tool = strdup("uv");
    } else {
        add_pip(w, python, tool);
        add(w, "install");
        add(w, "--ignore-installed");
        add(w, "--no-warn-script-location");
        add(w, "--retries");
        add(w, "3");
    }
}

static int fetch_once(struct env_build *b, const char *python, const char *tool,
                      const json_t *items, bool by_name, struct ty_error *err)
{
    CLEANUP_FREE char *list = ty_strf("%s/requirements.txt", b->building);
    CLEANUP_FREE char *staging = ty_strf("%s/staging", b->building),
                      *uv = b->q->view ? NULL : env_find("uv");
    CLEANUP_STR struct ty_str lines = { 0 };
    CLEANUP(words_done) struct words w = { 0 };
    const json_t *item;
    size_t i;
    int r;

    if (!list || !staging)
        return ty_error_oom(err);
    add_installer(b, &w, uv, python, tool);
    add(&w, "--no-deps");
    if (by_name)
        add(&w, "--require-hashes");
    add(&w, "--prefix");
    add(&w, staging);
    add_sources(&w, &lines, b);
    json_array_foreach (items, i, item)
        add_requirement(&lines, item, by_name);
    r = write_list(list, &lines, err);
    if (r < 0)
        return r;
    add(&w, "-r");
    add(&w, list);
    b->total = (int)json_array_size(items);
    b->done = 0;
    r = run_pip(b, &w, false, "installing the packages", err);
    b->total = 0;
    if (r == 0)
        r = env_wheels_split(b, staging, items, err);
    ty_rm_rf(staging);
    unlink(list);
    return r;
}

static bool have_hashes(const json_t *items)
{
    const json_t *item;
    size_t i;

    json_array_foreach (items, i, item)
        if (!json_is_string(json_object_get(item, "sha256")))
            return false;
    return true;
}

/* Addresses change, those of private indexes are of no use without a password, which no lock has: then the index is asked. */
static int fetch(struct env_build *b, const char *python, const char *tool, const json_t *items,
                 struct ty_error *err)
{
    int r = fetch_once(b, python, tool, items, false, err);

    if (r != -ENOENT || !have_hashes(items))
        return r;
    env_log(b, "not to be had from where they were; asking the index for the same files");
    return fetch_once(b, python, tool, items, true, err);
}

/* ---- together ---- */

int env_pip_into(struct env_build *b, const char *python, const json_t *specs, const json_t *lock,
                 struct ty_error *err)
{
    const json_t *base = json_object_get(b->asked, "base_pip"); /* conda's prefix may have none */
    const char *have = json_string_value(base ? base : json_object_get(b->asked, "pip"));
    const char *version = have && !is_old(have) ? have : NULL;
    CLEANUP_FREE char *tool = version && base ? strdup(b->interpreter) : NULL, *site = NULL;
    CLEANUP_JSON json_t *lacking = json_array();
    const json_t *item;
    size_t i;
    int r = 0;

    if (json_array_size(specs) == 0 && json_array_size(lock) == 0)
        return 0;
    if (!version)
        r = env_tool_pip(b, &tool, err);
    if (r < 0)
        return r;
    free(b->tool);
    b->tool = version ? ty_strf("pip %s", version) : strdup("pip");
    json_decref(b->lock_pip);
    b->lock_pip = json_array();
    if (!b->lock_pip || !lacking || !b->tool)
        return ty_error_oom(err);
    env_progress(b, 10, "resolving");
    r = lock ? take_lock(b, lock, err) : resolve(b, python, tool, specs, err);
    json_array_foreach (b->lock_pip, i, item)
        if (!env_wheel_has(b->q->cache, json_string_value(json_object_get(item, "id"))))
            json_array_append(lacking, (json_t *)item);
    if (r == 0 && json_array_size(lacking) > 0) {
        env_progress(b, 40, "downloading");
        env_log(b, "packages to be had: %zu, here already: %zu", json_array_size(lacking),
                json_array_size(b->lock_pip) - json_array_size(lacking));
        env_torch_weigh(b, lacking);
        r = fetch(b, python, tool, lacking, err);
    }
    if (r == 0)
        r = env_find_site(b, &site, err);
    if (r == 0)
        env_progress(b, 90, "linking");
    json_array_foreach (b->lock_pip, i, item)
        if (r == 0 && env_stopped(b))
            r = ty_error_set(err, -ECANCELED, "linking the packages was broken off");
        else if (r == 0)
            r = env_wheel_link(b, json_string_value(json_object_get(item, "id")), site, err);
    return r;
}
