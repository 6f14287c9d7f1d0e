/* conda.c - a prefix for conda's packages
 *
 * micromamba, mamba or conda when the node has one of them; else py-rattler, from the package index, in a folder of tools/, run by
 * python/trainyard/condatool.py.  Channels are asked first whether they answer: the clients themselves try for minutes.
 * <cache>/conda has the unpacked packages, which prefixes hard-link.  What was installed is read from the prefix's conda-meta.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "env/env_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLIENT_SECONDS (4 * 3600)
#define META_MAX (256u << 20)
#define RATTLER \
    "py-rattler>=0.24,<1" /* before, a channel could write outside of the cache (CVE-2026-53956) */
#define RATTLER_PYTHON 10 /* 3.x, at least */

bool env_conda_needed(const struct env_build *b)
{
    const json_t *lock = b->q->spec->lock;

    return json_array_size(
               json_object_get(lock ? lock : b->asked, lock ? "conda" : "conda_missing")) > 0;
}

/* ---- what is asked of the client ---- */

struct asking {
    json_t *specs, *channels; /* owned: arrays of texts */
    bool of_base; /* the same minor version of Python as the base: its packages are seen */
};

static void asking_done(struct asking *a)
{
    json_decref(a->specs);
    json_decref(a->channels);
}

static int add_text(json_t *list, char *text)
{
    int r = text ? json_array_append_new(list, json_string(text)) : -1;

    free(text);
    return r;
}

/* "3.11" of "3.11.2" */
static int minor_length(const char *version)
{
    size_t n = strcspn(version, ".");

    n += version[n] == '.';
    return (int)(n + strcspn(version + n, "."));
}

static bool provided(const struct env_build *b, const char *spec)
{
    const json_t *one;
    size_t i;

    json_array_foreach (json_object_get(b->asked, "satisfied"), i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *from = json_string_value(json_object_get(one, "from"));

        if (name && from && strcmp(from, "trainyard") == 0 &&
            strncasecmp(spec, name, strlen(name)) == 0)
            return true;
    }
    return false;
}

/* With the base's own Python, only what the base lacks; with another one, everything. */
static int name_specs(struct env_build *b, struct asking *a)
{
    const struct ty_env_spec *s = b->q->spec;
    const char *version = json_string_value(json_object_get(b->asked, "version")),
               *python = s->python;
    const json_t *one;
    size_t i;
    int r;

    a->of_base = !python || json_is_true(json_object_get(b->asked, "python_matches"));
    if (a->of_base) {
        r = add_text(a->specs, ty_strf("python %.*s.*", minor_length(version), version));
        json_array_foreach (json_object_get(b->asked, "conda_missing"), i, one)
            if (r == 0)
                r = json_array_append(a->specs, json_object_get(one, "spec"));
        return r;
    }
    r = add_text(a->specs, ty_strf("python%s%s", strchr("<>=!~", *python) ? "" : "=", python));
    for (const char **p = s->conda; *p && r == 0; p++)
        if (!provided(b, *p))
            r = json_array_append_new(a->specs, json_string(*p));
    return r;
}

static int find_asking(struct env_build *b, struct asking *a, struct ty_error *err)
{
    int r;

    a->specs = json_array();
    a->channels = json_array();
    r = a->specs && a->channels ? name_specs(b, a) : -1;
    for (const char **c = b->q->spec->channels; *c && r == 0; c++)
        r = add_text(a->channels, **c == '/' ? ty_strf("file://%s", *c) : strdup(*c));
    return r < 0 ? ty_error_oom(err) : 0;
}

/* ---- channels that do not answer ---- */

static const char *subdir(void)
{
#if defined(__aarch64__)
    return "linux-aarch64";
#elif defined(__powerpc64__)
    return "linux-ppc64le";
#else
    return "linux-64";
#endif
}

/* Address of a channel; what is a name only is on conda's own server. */
static char *address_of(const char *channel)
{
    size_t n = strlen(channel);

    while (n > 0 && channel[n - 1] == '/')
        n--;
    if (strcmp(channel, "defaults") == 0)
        return strdup("https://repo.anaconda.com/pkgs/main");
    return strstr(channel, "://") ? strndup(channel, n)
                                  : ty_strf("https://conda.anaconda.org/%.*s", (int)n, channel);
}

static int channel_is_dead(const char *channel, const char *url, const char *why,
                           struct ty_error *err)
{
    CLEANUP_FREE char *name = ty_env_mask(channel), *address = ty_env_mask(url);
    bool file = ty_starts_with(url, "file://");

    if (file || strcmp(why, "404") == 0)
        return ty_error_set(
            err, -ENOENT,
            "cannot build the environment: the conda channel '%s' has no packages: there is no '%s' (%s)",
            name ? name : "", address ? address : "", why);
    return ty_error_set(
        err, -ENETUNREACH,
        "cannot build the environment: the conda channel '%s' does not answer: %s (%s). Environments that are in "
        "the cache need no channel ('trainyard env ls' lists them)",
        name ? name : "", why, address ? address : "");
}

/* Each channel has packages for any machine or for this one. */
static int check_channels(struct env_build *b, const json_t *channels, struct ty_error *err)
{
    size_t n = json_array_size(channels), i;
    CLEANUP_JSON json_t *answer = NULL, *made = json_array();
    const char **urls = calloc(2 * (n ? n : 1) + 1, sizeof *urls);
    int r = urls && made ? 0 : ty_error_oom(err);

    for (i = 0; i < (n ? n : 1) && r == 0; i++) {
        CLEANUP_FREE char *base =
            address_of(n ? json_string_value(json_array_get(channels, i)) : "conda-forge");

        if (!base || add_text(made, ty_strf("%s/noarch/repodata.json", base)) < 0 ||
            add_text(made, ty_strf("%s/%s/repodata.json", base, subdir())) < 0)
            r = ty_error_oom(err);
    }
    for (i = 0; r == 0 && i < json_array_size(made); i++)
        urls[i] = json_string_value(json_array_get(made, i));
    r = r == 0 ? env_reached(b, urls, &answer, err) : r;
    for (i = 0; r == 0 && i + 1 < json_array_size(made); i += 2) {
        const char *why = json_string_value(json_object_get(answer, urls[i]));
        bool other = json_is_null(json_object_get(answer, urls[i + 1]));

        if (why && !other)
            r = channel_is_dead(n ? json_string_value(json_array_get(channels, i / 2))
                                  : "conda-forge",
                                urls[i], why, err);
    }
    free(urls);
    return r;
}

/* ---- what a client says when it cannot ---- */

/* The line that begins with "ERROR:", and what follows it; else the end of it all, in one line. */
static char *own_words(const char *text)
{
    const char *at = text ? strstr(text, "ERROR: ") : NULL;
    size_t n = text ? strlen(text) : 0;
    char *words = at ? strdup(at + strlen("ERROR: "))
                     : strdup(n > 1500 ? text + n - 1500
                              : text   ? text
                                       : "");

    for (char *p = words; p && *p; p++)
        if (*p == '\n')
            *p = ' ';
    for (size_t end = words ? strlen(words) : 0; end > 0 && words[end - 1] == ' ';)
        words[--end] = '\0';
    return words;
}

static int client_failed(const struct env_build *b, const struct env_said *said,
                         struct ty_error *err)
{
    CLEANUP_FREE char *words = own_words(said->end.text);

    if (said->end.text && strstr(said->end.text, "No space left on device"))
        return ty_error_set(
            err, -ENOSPC,
            "cannot build the environment: the disk of '%s' is full; 'trainyard env gc' frees what no run uses",
            b->q->cache);
    return ty_error_set(err, -ENOENT, "cannot build the environment: %s (status %d): %.1500s",
                        b->tool, said->status, words && *words ? words : "it ended without a word");
}

/* ---- py-rattler ---- */

/* py-rattler's folder; pip alone is needed to make it. */
static int rattler_folder(struct env_build *b, char **ret, struct ty_error *err)
{
    CLEANUP_FREE char *folder = ty_strf("%s/tools/rattler", b->q->cache), *pip = NULL;
    CLEANUP_FREE char *mine = ty_strf("%s.%d", folder ? folder : "", (int)getpid());
    const char *version = json_string_value(json_object_get(b->asked, "version"));
    const char *argv[] = { b->interpreter,  "-m",
                           "pip",           "install",
                           "--quiet",       "--disable-pip-version-check",
                           "--retries",     "1",
                           "--timeout",     "5",
                           "--only-binary", ":all:",
                           "--target",      mine,
                           RATTLER,         NULL };
    struct env_program p = { .argv = argv, .limit_seconds = 1800, .doing = "getting py-rattler" };
    struct env_said said;
    int r = 0;

    if (!folder || !mine)
        return ty_error_oom(err);
    if (access(folder, F_OK) == 0) {
        *ret = TAKE(folder);
        return 0;
    }
    if (ty_starts_with(version, "3.") && strtol(version + 2, NULL, 10) < RATTLER_PYTHON)
        return ty_error_set(
            err, -ENOTSUP,
            "cannot build the environment: conda packages need micromamba, mamba or conda on this node, or a "
            "Python of 3.%d or newer for py-rattler, and '%s' is Python %s",
            RATTLER_PYTHON, b->interpreter, version);
    if (!json_object_get(b->asked, "pip") || json_is_null(json_object_get(b->asked, "pip")))
        r = env_tool_pip(b, &pip, err);
    if (r < 0)
        return r;
    if (pip)
        argv[0] = pip;
    env_log(b, "getting py-rattler, with which conda packages are installed");
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.status != 0) {
        CLEANUP_FREE char *words = own_words(said.end.text);

        r = ty_error_set(
            err, -ENETUNREACH,
            "cannot build the environment: there is no micromamba, mamba or conda on this node, and py-rattler, which "
            "does without, cannot be had: %.500s. Install one of them, or py-rattler into '%s' ('pip install "
            "--target'); environments that are in the cache need none ('trainyard env ls')",
            words ? words : "", folder);
    }
    env_said_done(&said);
    if (r == 0 && rename(mine, folder) < 0 && errno != EEXIST && errno != ENOTEMPTY)
        r = ty_error_set(err, -errno, "cannot rename '%s' to '%s': %m", mine, folder);
    ty_rm_rf(mine);
    if (r == 0)
        *ret = TAKE(folder);
    return r;
}

static int run_rattler(struct env_build *b, const char *folder, const char *what,
                       const json_t *question, json_t **answer, struct ty_error *err)
{
    CLEANUP_FREE char *script = ty_strf("%s/trainyard/condatool.py", b->q->python_path);
    CLEANUP_FREE char *path = ty_strf("PYTHONPATH=%s", folder), *input = ty_json_text(question);
    const char *argv[] = { b->interpreter, "-B", script, what, NULL };
    const char *env[] = { path, NULL };
    struct env_program p = { .argv = argv,
                             .more_env = env,
                             .input = input,
                             .quiet = answer != NULL,
                             .limit_seconds = CLIENT_SECONDS,
                             .doing = "installing conda packages" };
    struct env_said said;
    int r;

    if (!script || !path || !input)
        return ty_error_oom(err);
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.status != 0)
        r = client_failed(b, &said, err);
    if (r == 0 && answer)
        r = ty_json_parse(said.out.text, said.out.len, answer, err);
    env_said_done(&said);
    return r;
}

static int with_rattler(struct env_build *b, const char *folder, const struct asking *a,
                        const json_t *lock, struct ty_error *err)
{
    CLEANUP_FREE char *cache = ty_strf("%s/conda", b->q->cache);
    CLEANUP_JSON json_t *records = lock ? json_deep_copy(lock) : NULL, *question = NULL;
    int r = 0;

    b->tool = strdup("py-rattler");
    if (!cache || !b->tool)
        return ty_error_oom(err);
    env_progress(b, 10, "resolving");
    if (!records) {
        question = json_pack("{s:O, s:O, s:s, s:b}", "channels", a->channels, "specs", a->specs,
                             "cache", cache, "offline", b->q->offline);
        r = question ? run_rattler(b, folder, "solve", question, &records, err) : ty_error_oom(err);
        json_decref(TAKE(question));
    }
    if (r < 0)
        return r;
    env_progress(b, 30, "downloading");
    question = json_pack("{s:O, s:s, s:s, s:s}", "records", records, "prefix", b->building, "as",
                         b->final, "cache", cache);
    return question ? run_rattler(b, folder, "install", question, NULL, err) : ty_error_oom(err);
}

/* ---- micromamba, mamba, conda ---- */

static char *find_client(const char **name)
{
    static const char *const clients[] = { "micromamba", "mamba", "conda", NULL };

    for (const char *const *c = clients; *c; c++) {
        char *path = env_find(*c);

        if (path) {
            *name = *c;
            return path;
        }
    }
    return NULL;
}

/* The file that names each package by its address and MD5. */
static int write_explicit(const char *path, const json_t *lock, struct ty_error *err)
{
    CLEANUP_STR struct ty_str s = { 0 };
    const json_t *one;
    size_t i;
    int r;

    ty_str_add(&s, "@EXPLICIT\n");
    json_array_foreach (lock, i, one) {
        const char *url = json_string_value(json_object_get(one, "url"));
        const char *md5 = json_string_value(json_object_get(one, "md5"));

        ty_str_addf(&s, "%s%s%s\n", url ? url : "", md5 ? "#" : "", md5 ? md5 : "");
    }
    r = s.failed ? -ENOMEM : ty_write_file(path, s.text, s.len, 0600);
    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path, strerror(-r)) : 0;
}

/* Command lines are seen by everybody on the machine: channels with a password are told in a file that nobody else can read. */
static bool has_passwords(const json_t *channels)
{
    const json_t *one;
    size_t i;

    json_array_foreach (channels, i, one) {
        CLEANUP_FREE char *masked = ty_env_mask(json_string_value(one));

        if (!masked || strcmp(masked, json_string_value(one)) != 0)
            return true;
    }
    return false;
}

/* "#!final" is conda's: channels of files that are read before do not count. */
static int write_settings(const char *path, const json_t *channels, struct ty_error *err)
{
    CLEANUP_STR struct ty_str s = { 0 };
    const json_t *one;
    size_t i;
    int r;

    ty_str_add(&s, "channels: #!final\n");
    json_array_foreach (channels, i, one) {
        ty_str_add(&s, "  - ");
        ty_str_add_json(&s, json_string_value(one), json_string_length(one));
        ty_str_add(&s, "\n");
    }
    r = s.failed ? -ENOMEM : ty_write_file(path, s.text, s.len, 0600);
    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path, strerror(-r)) : 0;
}

/* `settings`: the file that has the channels; NULL: they are words, as is which file it is for micromamba. */
static size_t client_words(const struct env_build *b, const struct asking *a,
                           const char *explicit_file, const char *settings, bool by_word,
                           const char **v)
{
    const json_t *one;
    size_t i, n = 1;

    v[n++] = "create";
    v[n++] = "--yes";
    v[n++] = "--quiet";
    v[n++] = "--prefix";
    v[n++] = b->final;
    if (b->q->offline)
        v[n++] = "--offline";
    if (explicit_file) {
        v[n++] = "--file";
        v[n++] = explicit_file;
        return n;
    }
    if (settings && by_word) {
        v[n++] = "--rc-file";
        v[n++] = settings;
    }
    if (json_array_size(a->channels) > 0 && !settings)
        v[n++] = "--override-channels";
    json_array_foreach (settings ? NULL : a->channels, i, one) {
        v[n++] = "--channel";
        v[n++] = json_string_value(one);
    }
    json_array_foreach (a->specs, i, one)
        v[n++] = json_string_value(one);
    return n;
}

/* They know but one place of a prefix: it is made where it will lie, which without what it is about counts as half made, and
 * moved aside for what follows. */
static int with_client(struct env_build *b, const char *client, const char *name,
                       const struct asking *a, const json_t *lock, struct ty_error *err)
{
    size_t room = 16 + 2 * json_array_size(a->channels) + json_array_size(a->specs);
    CLEANUP_FREE char *pkgs = ty_strf("CONDA_PKGS_DIRS=%s/conda/pkgs", b->q->cache);
    CLEANUP_FREE char *root = ty_strf("MAMBA_ROOT_PREFIX=%s/conda/root", b->q->cache);
    CLEANUP_FREE char *list = lock ? ty_strf("%s.txt", b->building) : NULL;
    bool micromamba = strcmp(name, "micromamba") == 0, told = !lock && has_passwords(a->channels);
    CLEANUP_FREE char *settings = told ? ty_strf("%s.condarc", b->building) : NULL;
    CLEANUP_FREE char *condarc = ty_strf("CONDARC=%s", settings ? settings : "");
    const char *env[] = { pkgs, micromamba ? root : told ? condarc : NULL, NULL };
    const char **v = calloc(room, sizeof *v);
    struct env_program p = { .argv = v,
                             .more_env = env,
                             .limit_seconds = CLIENT_SECONDS,
                             .doing = "installing conda packages" };
    struct env_said said;
    int r = v && pkgs && root && condarc && (list || !lock) && (settings || !told)
                ? 0
                : ty_error_oom(err);

    if (r == 0 && lock)
        r = write_explicit(list, lock, err);
    if (r == 0 && told)
        r = write_settings(settings, a->channels, err);
    if (r == 0) {
        v[0] = client;
        client_words(b, a, list, settings, micromamba, v);
        b->tool = strdup(name);
        env_progress(b, 10, "installing conda packages");
        r = env_run(b, &p, &said, err);
        if (r == 0 && said.status != 0)
            r = client_failed(b, &said, err);
        env_said_done(&said);
    }
    if (list)
        unlink(list);
    if (settings)
        unlink(settings);
    free(v);
    if (r == 0 && rename(b->final, b->building) < 0)
        r = ty_error_set(err, -errno, "cannot rename '%s' to '%s': %m", b->final, b->building);
    if (r < 0)
        ty_rm_rf(b->final);
    return r;
}

/* ---- what was installed ---- */

/* What a lock is made of; passwords in addresses are nobody's business. */
static json_t *kept_of(const json_t *meta)
{
    static const char *const keys[] = { "name",
                                        "version",
                                        "build",
                                        "build_number",
                                        "url",
                                        "sha256",
                                        "md5",
                                        "subdir",
                                        "noarch",
                                        "depends",
                                        "channel",
                                        "fn",
                                        "python_site_packages_path",
                                        NULL };
    json_t *o = json_object();

    for (const char *const *k = keys; o && *k; k++) {
        json_t *value = json_object_get(meta, *k);
        CLEANUP_FREE char *masked =
            json_is_string(value) ? ty_env_mask(json_string_value(value)) : NULL;

        if (masked)
            json_object_set_new(o, *k, json_string(masked));
        else if (value && !json_is_null(value))
            json_object_set(o, *k, value);
    }
    return o;
}

static int take_meta(const char *rel, const struct stat *st, void *ctx)
{
    struct env_build *b = ctx;
    CLEANUP_FREE char *path = ty_strf("%s/conda-meta/%s", b->building, rel), *text = NULL;
    CLEANUP_JSON json_t *meta = NULL;
    struct ty_error err;
    size_t n;
    int r;

    if (!S_ISREG(st->st_mode) || !ty_ends_with(rel, ".json"))
        return 0;
    r = path ? ty_read_file(path, META_MAX, &text, &n) : -ENOMEM;
    if (r == 0)
        r = ty_json_parse(text, n, &meta, &err);
    return r < 0 ? r : json_array_append_new(b->lock_conda, kept_of(meta)) < 0 ? -ENOMEM : 0;
}

static int read_lock(struct env_build *b, struct ty_error *err)
{
    CLEANUP_FREE char *folder = ty_strf("%s/conda-meta", b->building);
    int r;

    json_decref(b->lock_conda);
    b->lock_conda = json_array();
    if (!folder || !b->lock_conda)
        return ty_error_oom(err);
    r = ty_walk(folder, take_meta, b, err);
    return r < 0 ? ty_error_set(err, r, "cannot read what conda has installed in '%s': %s", folder,
                                strerror(-r))
                 : 0;
}

/* ---- the base's packages at the end of its path ---- */

static bool is_of_packages(const char *folder)
{
    return ty_ends_with(folder, "-packages");
}

static int see_base(struct env_build *b, struct ty_error *err)
{
    const char *version = json_string_value(json_object_get(b->asked, "version"));
    CLEANUP_FREE char *path = ty_strf("%s/lib/python%.*s/site-packages/zz-trainyard-base.pth",
                                      b->building, minor_length(version), version);
    CLEANUP_STR struct ty_str lines = { 0 };
    const json_t *one;
    size_t i;
    int r;

    json_array_foreach (json_object_get(b->asked, "sites"), i, one)
        if (is_of_packages(json_string_value(one)))
            ty_str_addf(&lines, "%s\n", json_string_value(one));
    r = path && !lines.failed ? ty_write_file(path, lines.text ? lines.text : "", lines.len, 0644)
                              : -ENOMEM;
    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path ? path : "", strerror(-r))
                 : 0;
}

/* By this the prefix is known as one of ours (python/trainyard/asked.py). */
static int leave_mark(const struct env_build *b, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_strf("%s/conda-meta/trainyard", b->building);
    int r = path ? ty_write_file(path, "", 0, 0644) : -ENOMEM;

    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path ? path : "", strerror(-r))
                 : 0;
}

/* A lock says by its Python whose packages were seen. */
static bool lock_is_of_base(const struct env_build *b, const json_t *lock)
{
    const char *have = json_string_value(json_object_get(b->asked, "version"));
    const json_t *one;
    size_t i;

    json_array_foreach (lock, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *version = json_string_value(json_object_get(one, "version"));

        if (name && version && strcmp(name, "python") == 0)
            return strncmp(version, have, (size_t)minor_length(have)) == 0 &&
                   minor_length(version) == minor_length(have);
    }
    return false;
}

/* It comes from outside: its texts become names in the cache and lines of a file. */
static int check_lock(const json_t *lock, struct ty_error *err)
{
    static const char *const names[] = { "name", "version", "build", "subdir", "fn", NULL };
    const json_t *one;
    size_t i;

    json_array_foreach (lock, i, one) {
        const char *url = json_string_value(json_object_get(one, "url"));
        bool good = url && strstr(url, "://") && strcspn(url, "\r\n\t ") == strlen(url);

        for (const char *const *n = names; *n; n++) {
            const char *text = json_string_value(json_object_get(one, *n));

            good =
                good && text && *text && *text != '.' && strcspn(text, "/\\\r\n") == strlen(text);
        }
        if (!good || (!json_is_string(json_object_get(one, "sha256")) &&
                      !json_is_string(json_object_get(one, "md5"))))
            return ty_error_set(err, -EINVAL,
                                "the lock of the environment: entry %zu of 'conda' is no package "
                                "with name, version, build, subdir, fn, url and sha256",
                                i + 1);
    }
    return 0;
}

/* A lock's addresses have no passwords; those of the specification's channels have. */
static json_t *with_passwords(const struct env_build *b, const json_t *lock)
{
    json_t *copy = json_deep_copy(lock), *one;
    size_t i;

    json_array_foreach (copy, i, one) {
        const char *url = json_string_value(json_object_get(one, "url"));

        for (const char **c = b->q->spec->channels; url && *c; c++) {
            CLEANUP_FREE char *address = address_of(*c),
                              *masked = address ? ty_env_mask(address) : NULL;
            size_t n = masked ? strlen(masked) : 0;

            if (!masked || strncmp(url, masked, n) != 0 || url[n] != '/')
                continue;
            CLEANUP_FREE char *whole = ty_strf("%s%s", address, url + n);
            if (whole)
                json_object_set_new(one, "url", json_string(whole));
            break;
        }
    }
    return copy;
}

int env_conda_build(struct env_build *b, const json_t *given, struct ty_error *err)
{
    CLEANUP_JSON json_t *lock = given ? with_passwords(b, given) : NULL;
    CLEANUP(asking_done) struct asking a = { 0 };
    CLEANUP_FREE char *client = NULL, *folder = NULL,
                      *packages = ty_strf("%s/conda/pkgs", b->q->cache);
    const char *name = NULL;
    int r = packages ? ty_mkdir_p(packages, 0700) : -ENOMEM;

    if (r < 0)
        return ty_error_set(err, r, "cannot make '%s': %s", packages ? packages : "", strerror(-r));
    if (given && !lock)
        return ty_error_oom(err);
    r = lock ? check_lock(lock, err) : find_asking(b, &a, err);
    if (r == 0 && !lock && !b->q->offline)
        r = check_channels(b, a.channels, err);
    if (r < 0)
        return r;
    free(b->tool);
    b->tool = NULL;
    client = find_client(&name);
    if (client) {
        r = with_client(b, client, name, &a, lock, err);
    } else {
        r = rattler_folder(b, &folder, err);
        if (r == 0)
            r = with_rattler(b, folder, &a, lock, err);
    }
    if (r == 0)
        r = read_lock(b, err);
    if (r == 0)
        r = leave_mark(b, err);
    if (r == 0 && (lock ? lock_is_of_base(b, lock) : a.of_base))
        r = see_base(b, err);
    return r;
}
