/* env.c - the way from a specification to an interpreter
 *
 *   1. known: the same was asked before, of the same interpreter whose folders have not changed: only stat(2) is needed
 *   2. satisfied: the interpreter has all that is asked for, and is used as it is
 *   3. there: the prefix was built for somebody else
 *   4. built: under a lock, beside its place, and renamed when it is whole
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "env/env_internal.h"
#include "env/view.h"
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KNOWN_MAX (16u << 20)
#define RECORD_VERSION 1

static void build_done(struct env_build *b)
{
    free(b->interpreter);
    json_decref(b->asked);
    json_decref(b->torch);
    free(b->torch_index);
    json_decref(b->lock_pip);
    json_decref(b->lock_conda);
    json_decref(b->system);
    free(b->final);
    free(b->building);
    free(b->tool);
    if (b->lock >= 0)
        close(b->lock);
}

void ty_env_done(struct ty_env *e)
{
    free(e->interpreter);
    free(e->prefix);
    free(e->path);
    json_decref(e->variables);
    json_decref(e->record);
    if (e->hold >= 0)
        close(e->hold);
    *e = (struct ty_env){ .hold = -1 };
}

/* ---- 1. known ---- */

static json_int_t mtime_of(const char *path)
{
    struct stat st;

    return stat(path, &st) < 0 ? -1
                               : (json_int_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

/* What the answer depends on, but for the folders of the interpreter, whose times stand in the file. */
static char *known_path(const struct env_build *b, const char *interpreter)
{
    const struct ty_env_request *q = b->q;
    struct utsname u = { 0 };
    char gpu[16];

    /* A folder that several nodes share has the answers of each kind. */
    uname(&u);
    env_gpu_kind(b, gpu);
    CLEANUP_FREE char *text =
        ty_strf("%s\n%s\n%s\n%s\n%lld\n%d\n%d\n%s\n%s\n%s", u.machine, gpu, b->hash, interpreter,
                (long long)mtime_of(interpreter), q->use_gpu, q->interpreter_any,
                q->python_path ? q->python_path : "", q->torch_index ? q->torch_index : "",
                q->image_id ? q->image_id : "");
    char hex[TY_ENV_HASH + 1];

    if (!text)
        return NULL;
    ty_sha256_hex(text, strlen(text), hex);
    return env_path(q->cache, "envs/known", hex, ".json");
}

static bool folders_are_as_they_were(const json_t *sites)
{
    const char *path;
    json_t *when;

    json_object_foreach ((json_t *)sites, path, when)
        if (mtime_of(path) != json_integer_value(when))
            return false;
    return json_object_size(sites) > 0;
}

static int give(const struct env_build *b, json_t *record, int hold, struct ty_env *ret,
                struct ty_error *err)
{
    const char *prefix = json_string_value(json_object_get(record, "prefix"));
    const char *interpreter = json_string_value(json_object_get(record, "interpreter"));
    const char *path = json_string_value(json_object_get(json_object_get(record, "image"), "path"));
    const json_t *variables = json_object_get(record, "variables");
    struct ty_env e = { .hold = hold, .record = json_incref(record) };

    (void)b;
    e.interpreter = strdup(interpreter ? interpreter : "");
    e.prefix = prefix ? strdup(prefix) : NULL;
    e.path = prefix ? ty_strf("%s/bin%s%s", prefix, path ? ":" : "", path ? path : "") : NULL;
    e.variables = variables ? json_incref((json_t *)variables) : json_object();
    if (!e.interpreter || (prefix && (!e.prefix || !e.path)) || !e.variables || !*e.interpreter) {
        ty_env_done(&e);
        return ty_error_oom(err);
    }
    *ret = e;
    return 0;
}

/* A prefix without its "about" is not whole: conda's clients make it at its place.  A descriptor, or -1. */
static int hold_whole(const struct env_build *b, const json_t *record, const char *prefix)
{
    const char *key = json_string_value(json_object_get(record, "key"));
    CLEANUP_FREE char *about = key ? env_path(b->q->cache, "envs", key, ".json") : NULL;
    CLEANUP_CLOSE int hold = about ? env_lock_now(b->q->cache, key, LOCK_SH) : -1;

    return hold >= 0 && access(prefix, F_OK) == 0 && access(about, F_OK) == 0 ? TAKE_FD(hold) : -1;
}

/* 1 and *ret, 0: not known, or no longer true. */
static int look_up(struct env_build *b, const char *path, struct ty_env *ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *known = NULL;
    CLEANUP_FREE char *text = NULL;
    CLEANUP_CLOSE int hold = -1;
    const char *prefix;
    json_t *record;
    size_t n;
    int r;

    if (ty_read_foreign(path, KNOWN_MAX, &text, &n) < 0 || ty_json_parse(text, n, &known, NULL) < 0)
        return 0;
    record = json_object_get(known, "record");
    prefix = json_string_value(json_object_get(record, "prefix"));
    /* An image stays what it is. */
    if (!record || (!b->q->view && !folders_are_as_they_were(json_object_get(known, "sites"))))
        return 0;
    if (prefix) {
        hold = hold_whole(b, record, prefix);
        if (hold < 0)
            return 0;
        futimens(hold, NULL); /* when it was last used */
    }
    json_object_set_new(record, "built", json_false());
    json_object_set_new(record, "seconds", json_real(0));
    r = give(b, record, hold, ret, err);
    if (r == 0)
        TAKE_FD(hold);
    return r < 0 ? r : 1;
}

static void remember(const struct env_build *b, const char *path, const json_t *record)
{
    CLEANUP_JSON json_t *sites = json_object();
    CLEANUP_JSON json_t *known = NULL;
    CLEANUP_FREE char *text = NULL;
    const json_t *site;
    size_t i;

    json_array_foreach (json_object_get(b->asked, "sites"), i, site)
        json_object_set_new(sites, json_string_value(site),
                            json_integer(mtime_of(json_string_value(site))));
    known = json_pack("{s:O, s:O}", "sites", sites, "record", (json_t *)record);
    text = known ? ty_json_text(known) : NULL;
    /* Without it the next one asks again. */
    if (text && ty_write_file(path, text, strlen(text), 0600) < 0)
        env_log((struct env_build *)b, "cannot remember this environment in '%s': %m", path);
}

/* ---- the record ---- */

static json_t *record_of(const struct env_build *b, const char *interpreter, const char *prefix,
                         bool built, double seconds)
{
    const json_t *a = b->asked;
    json_t *lock =
        json_pack("{s:i, s:O?, s:O?, s:O?, s:O?, s:O?}", "version", RECORD_VERSION, "python",
                  json_object_get(a, "version"), "platform", json_object_get(a, "platform"), "pip",
                  b->lock_pip, "conda", b->lock_conda, "system",
                  b->system || prefix ? b->system : json_object_get(a, "system"));

    json_t *image = b->q->view ? json_pack("{s:s, s:s?, s:O?}", "name", b->q->spec->image, "id",
                                           b->q->image_id, "path", json_object_get(a, "path"))
                               : NULL;

    return json_pack("{s:i, s:s, s:s?, s:b, s:f, s:s, s:O?, s:s?, s:O?, s:O?, s:o, s:s?, s:o*}",
                     "version", RECORD_VERSION, "hash", b->hash, "key", *b->key ? b->key : NULL,
                     "built", built, "seconds", seconds, "interpreter", interpreter, "python",
                     json_object_get(a, "version"), "prefix", prefix, "torch", b->torch,
                     "satisfied", json_object_get(a, "satisfied"), "lock", lock, "tool", b->tool,
                     "image", image);
}

/* ---- which prefix ---- */

static int place_prefix(struct env_build *b, struct ty_error *err)
{
    free(b->final);
    free(b->building);
    b->final = env_path(b->q->cache, "envs", b->key, "");
    b->building = env_path(b->q->cache, "envs", b->key, ".building");
    return b->final && b->building ? 0 : ty_error_oom(err);
}

static int name_prefix(struct env_build *b, struct ty_error *err)
{
    CLEANUP_FREE char *spec = ty_env_spec_canonical(b->q->spec),
                      *real = b->q->view ? strdup(b->q->image_id) : realpath(b->interpreter, NULL);
    CLEANUP_FREE char *missing =
        json_dumps(json_object_get(b->asked, "missing"), JSON_COMPACT | JSON_SORT_KEYS);
    CLEANUP_FREE char *torch =
        b->torch ? json_dumps(b->torch, JSON_COMPACT | JSON_SORT_KEYS) : strdup("");
    CLEANUP_FREE char *text = NULL;
    struct utsname u = { 0 };

    uname(&u);
    if (spec && missing && torch)
        text = ty_strf("%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s", spec, u.machine, gnu_get_libc_version(),
                       b->interpreter, real ? real : "",
                       json_string_value(json_object_get(b->asked, "version")), missing, torch);
    if (!text)
        return ty_error_oom(err);
    ty_sha256_hex(text, strlen(text), b->key);
    return place_prefix(b, err);
}

static char *about_path(const struct env_build *b)
{
    return env_path(b->q->cache, "envs", b->key, ".json");
}

/* ---- 4. building ---- */

static json_t *missing_specs(const struct env_build *b, const char *key)
{
    json_t *list = json_array();
    const json_t *one;
    size_t i;

    json_array_foreach (json_object_get(b->asked, key), i, one)
        json_array_append(list, json_object_get(one, "spec"));
    return list;
}

/* What no prefix holds has to be what it was, too. */
static int check_system(const struct env_build *b, const json_t *lock, struct ty_error *err)
{
    const json_t *packages = json_object_get(b->asked, "packages"), *one;
    size_t i;

    json_array_foreach (json_object_get(lock, "system"), i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *then = json_string_value(json_object_get(one, "version"));
        const char *is = name ? json_string_value(json_object_get(packages, name)) : NULL;

        if (name && then && (!is || strcmp(is, then) != 0))
            return ty_error_set(
                err, -ENOENT,
                "the environment is locked with %.80s %.80s of the interpreter, and '%s' has %s: "
                "install that version there, or run without the lock",
                name, then, b->interpreter, is ? is : "none");
    }
    return 0;
}

/* The locked versions are of this Python: wheels and paths are. */
static int check_lock(const struct env_build *b, const json_t *lock, struct ty_error *err)
{
    const char *of = json_string_value(json_object_get(lock, "python"));
    const char *have = json_string_value(json_object_get(b->asked, "version"));
    size_t minor = of ? strcspn(of, ".") : 0;

    if (!of || !have)
        return ty_error_set(err, -EINVAL,
                            "the lock of the environment does not say of which Python it is");
    minor += of[minor] == '.';
    minor += strcspn(of + minor, ".");
    if (strncmp(of, have, minor) != 0 || (have[minor] != '.' && have[minor]))
        return ty_error_set(
            err, -EINVAL,
            "the environment is locked for Python %s, and '%s' is Python %s: name an interpreter of the "
            "locked version, or run without the lock",
            of, b->interpreter, have);
    return check_system(b, lock, err);
}

/* From here on, what is asked of the interpreter is asked of the one that conda has installed. */
static int move_in(struct env_build *b, struct ty_error *err)
{
    static const char *const of_base[] = { "sites", "satisfied", "prefix", "base_prefix", NULL };
    CLEANUP_FREE char *python = ty_strf("%s/bin/python3", b->building);
    json_t *asked = NULL;
    int r = python ? env_ask(b, python, &asked, err) : ty_error_oom(err);

    if (r < 0)
        return r;
    for (const char *const *key = of_base; *key; key++)
        json_object_set(asked, *key, json_object_get(b->asked, *key));
    json_object_set(asked, "base_pip", json_object_get(b->asked, "pip"));
    json_object_set(asked, "base_version", json_object_get(b->asked, "version"));
    json_decref(b->asked);
    b->asked = asked;
    return b->q->spec->lock ? 0 : env_torch_choose(b, err);
}

static int fill_conda(struct env_build *b, const json_t *lock, const json_t *locked,
                      struct ty_error *err)
{
    CLEANUP_FREE char *python = ty_strf("%s/bin/python3", b->building);
    CLEANUP_JSON json_t *specs = NULL;
    int r = python ? env_conda_build(b, json_object_get(lock, "conda"), err) : ty_error_oom(err);

    if (r == 0)
        r = move_in(b, err);
    if (r == 0 && !lock)
        r = env_torch_reach(b, err);
    if (r < 0)
        return r;
    specs = missing_specs(b, "missing");
    r = specs ? env_pip_into(b, python, specs, locked, err) : ty_error_oom(err);
    return r == 0 ? env_ask_prefix(b, python, err) : r;
}

static int fill(struct env_build *b, struct ty_error *err)
{
    const json_t *lock = b->q->spec->lock, *locked = lock ? json_object_get(lock, "pip") : NULL;
    CLEANUP_JSON json_t *specs = NULL;
    int r;

    if (env_conda_needed(b))
        return fill_conda(b, lock, locked, err);
    r = lock ? 0 : env_torch_reach(b, err);
    if (r < 0)
        return r;
    specs = missing_specs(b, "missing");
    return specs ? env_venv_build(b, specs, locked, err) : ty_error_oom(err);
}

/* What a killed builder has left is of no use; what is whole gets its name at once, on disk before. */
static int build(struct env_build *b, struct ty_error *err)
{
    CLEANUP_CLOSE int dir = -1, wheels = env_lock_wheels(b->q->cache, LOCK_SH);
    int r;

    if (wheels < 0)
        return ty_error_set(err, wheels, "cannot lock the packages of '%s': %s", b->q->cache,
                            strerror(-wheels));
    ty_rm_rf(b->building);
    env_log(b, "building environment %.12s for %s (Python %s)", b->key, b->interpreter,
            json_string_value(json_object_get(b->asked, "version")));
    r = fill(b, err);
    if (r == 0) {
        env_torch_settle(b);
        dir = open(b->q->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir >= 0)
            syncfs(dir);
        if (rename(b->building, b->final) < 0)
            r = ty_error_set(err, -errno, "cannot rename '%s' to '%s': %m", b->building, b->final);
    }
    if (r < 0)
        ty_rm_rf(b->building);
    return r;
}

static int write_about(const struct env_build *b, const json_t *record, struct ty_error *err)
{
    CLEANUP_FREE char *path = about_path(b);
    CLEANUP_JSON json_t *about =
        json_pack("{s:O?, s:O, s:I}", "spec", (json_t *)b->q->spec->json, "record",
                  (json_t *)record, "built", (json_int_t)ty_wall_us());
    CLEANUP_FREE char *whole = about ? ty_json_text(about) : NULL;
    CLEANUP_FREE char *text = whole ? ty_env_mask(whole) : NULL;
    int r = path && text ? ty_write_file(path, text, strlen(text), 0600) : -ENOMEM;

    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path ? path : "", strerror(-r))
                 : 0;
}

/* What somebody else has built says itself what it holds. */
static json_t *record_there(const struct env_build *b)
{
    CLEANUP_FREE char *path = about_path(b), *text = NULL;
    CLEANUP_JSON json_t *about = NULL;
    json_t *record;
    size_t n;

    if (!path || ty_read_foreign(path, KNOWN_MAX, &text, &n) < 0 ||
        ty_json_parse(text, n, &about, NULL) < 0)
        return NULL;
    record = json_object_get(about, "record");
    if (!json_is_string(json_object_get(record, "key")) ||
        strcmp(json_string_value(json_object_get(record, "key")), b->key) != 0)
        return NULL;
    json_object_set_new(record, "built", json_false());
    json_object_set_new(record, "seconds", json_real(0));
    return json_incref(record);
}

/* b->lock is held exclusively.  The prefix is built, and says what it is. */
static int make_prefix(struct env_build *b, json_t **ret, struct ty_error *err)
{
    CLEANUP_FREE char *python = ty_strf("%s/bin/python3", b->final), *about = about_path(b);
    int64_t begun = ty_mono_us();
    CLEANUP_JSON json_t *record = NULL;
    int r;

    /* What is there does not say what it is; what was told of an earlier one is not true of this one before it is whole. */
    if (about)
        unlink(about);
    ty_rm_rf(b->final);
    r = python && about ? build(b, err) : ty_error_oom(err);
    if (r < 0)
        return r;
    record = record_of(b, python, b->final, true, (double)(ty_mono_us() - begun) / 1e6);
    r = record ? write_about(b, record, err) : ty_error_oom(err);
    if (r == 0)
        *ret = TAKE(record);
    return r;
}

static json_t *there(const struct env_build *b)
{
    return access(b->final, F_OK) == 0 ? record_there(b) : NULL;
}

/* Does the interpreter still have what the prefix was resolved against?  1, 0, or -ENOMEM. *now gets what of it there is now, as a
 * line each. */
static int counts_on(struct env_build *b, const json_t *record, struct ty_str *now)
{
    const json_t *system = json_object_get(json_object_get(record, "lock"), "system"), *one;
    const json_t *packages = json_object_get(b->asked, "packages");
    bool same = true;
    size_t i;

    json_array_foreach (system, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *then = json_string_value(json_object_get(one, "version"));
        const char *is = name ? json_string_value(json_object_get(packages, name)) : NULL;

        ty_str_addf(now, "%s %s\n", name ? name : "", is ? is : "");
        if (!name || !then || (is && strcmp(is, then) == 0))
            continue;
        env_log(b, "%s had %s %s when this environment was built, and has %s now", b->interpreter,
                name, then, is ? is : "none");
        same = false;
    }
    return now->failed ? -ENOMEM : same;
}

/* The prefix of the same name that was made for what the interpreter has now. */
static int rename_prefix(struct env_build *b, const char *now, struct ty_error *err)
{
    CLEANUP_FREE char *text = ty_strf("%s\n%s", b->key, now ? now : "");

    if (!text)
        return ty_error_oom(err);
    ty_sha256_hex(text, strlen(text), b->key);
    return place_prefix(b, err);
}

/* b->lock is held shared or exclusively: the record of what is there, if that is still true. */
static int look_there(struct env_build *b, json_t **ret, bool *changed, struct ty_error *err)
{
    CLEANUP_JSON json_t *record = there(b);
    CLEANUP_STR struct ty_str now = { 0 };
    int r = record ? counts_on(b, record, &now) : 1;

    *changed = r == 0;
    if (r < 0)
        return ty_error_oom(err);
    if (r == 0)
        return rename_prefix(b, now.text, err);
    *ret = TAKE(record);
    return 0;
}

/* The prefix, held shared, and its record. */
static int get_prefix(struct env_build *b, json_t **ret, struct ty_error *err)
{
    bool changed;
    int r;

    for (;;) {
        r = env_lock(b, LOCK_SH, err);
        if (r == 0)
            r = look_there(b, ret, &changed, err);
        if (r < 0)
            return r;
        if (changed)
            continue;
        if (!*ret) {
            r = env_lock(b, LOCK_EX, err);
            if (r == 0)
                r = look_there(b, ret, &changed, err);
            if (r == 0 && changed)
                continue;
            if (r == 0 && !*ret)
                r = make_prefix(b, ret, err);
            if (r < 0)
                return r;
            flock(b->lock, LOCK_SH); /* no single step: who collects may come between */
        }
        futimens(b->lock, NULL);
        if (access(b->final, F_OK) == 0)
            return 0;
        json_decref(TAKE(*ret));
    }
}

/* What the cache may hold is exceeded by what others have left, not by what is used now. */
static void keep_limit(struct env_build *b)
{
    struct ty_env_gc gc = { .max_bytes = b->q->cache_bytes_max, .unused_us = -1 };
    struct ty_error err;
    char size[16];

    if (gc.max_bytes <= 0)
        return;
    if (ty_env_collect(b->q->cache, &gc, &err) < 0)
        env_log(b, "%s", err.text);
    else if (gc.freed_bytes > 0)
        env_log(
            b,
            "the cache was over its limit: %d environments that were not used for long are gone, %s",
            gc.removed, ty_show_bytes((uint64_t)gc.freed_bytes, size));
}

/* ---- together ---- */

/* Nothing is asked for, or it is the user's own affair. */
static int as_it_is(struct env_build *b, struct ty_env *ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *record = record_of(b, b->q->interpreter, NULL, false, 0);

    return record ? give(b, record, -1, ret, err) : ty_error_oom(err);
}

static bool lacks_nothing(const struct env_build *b)
{
    return json_array_size(json_object_get(b->asked, "missing")) == 0 &&
           json_array_size(json_object_get(b->asked, "conda_missing")) == 0;
}

static bool locks_nothing(const json_t *lock)
{
    return json_array_size(json_object_get(lock, "pip")) == 0 &&
           json_array_size(json_object_get(lock, "conda")) == 0;
}

/* The locked environment had nothing installed: all was there, and here it is not. */
static int lacks_locked(const struct env_build *b, struct ty_error *err)
{
    const json_t *missing = json_object_get(b->asked, "missing");
    const json_t *first = json_array_get(
        json_array_size(missing) ? missing : json_object_get(b->asked, "conda_missing"), 0);

    return ty_error_set(
        err, -ENOENT,
        "the environment is locked to packages of the interpreter itself, and '%s' does not "
        "satisfy '%s': %s; install it there, or run without the lock",
        b->interpreter, json_string_value(json_object_get(first, "spec")),
        json_string_value(json_object_get(first, "why")));
}

static int look_at(struct env_build *b, const char *interpreter, struct ty_error *err)
{
    int r;

    free(b->interpreter);
    json_decref(b->asked);
    json_decref(b->torch);
    b->asked = b->torch = NULL;
    b->interpreter = strdup(interpreter);
    r = b->interpreter ? env_ask(b, b->interpreter, &b->asked, err) : ty_error_oom(err);
    if (r == 0 && b->q->view) { /* a name of the image's PATH */
        const char *path = json_string_value(json_object_get(b->asked, "executable"));

        free(b->interpreter);
        b->interpreter = strdup(path ? path : interpreter);
        r = b->interpreter ? 0 : ty_error_oom(err);
    }
    return r == 0 ? env_torch_choose(b, err) : r;
}

static bool has_all(struct env_build *b, const char *interpreter)
{
    struct ty_error err;

    return interpreter && access(interpreter, X_OK) == 0 &&
           strcmp(interpreter, b->q->interpreter) != 0 && look_at(b, interpreter, &err) == 0 &&
           lacks_nothing(b);
}

/* The interpreter, or another one of this machine that has all that is asked for, where the user has named none. */
static int choose_interpreter(struct env_build *b, struct ty_error *err)
{
    int r = look_at(b, b->q->interpreter, err);

    if ((r == 0 && lacks_nothing(b)) || !b->q->interpreter_any || b->q->spec->lock)
        return r;
    CLEANUP_FREE char *of_path = env_find("python3");
    if (!has_all(b, of_path) && !has_all(b, "/usr/bin/python3"))
        return look_at(b, b->q->interpreter, err);
    env_log(b, "%s lacks what is asked for, and %s has it: that one is used", b->q->interpreter,
            b->interpreter);
    return 0;
}

/* How well a lock suits this node: its Python and platform above all, then what the interpreter has to have, then its GPU. */
static int suits(const struct env_build *b, const json_t *lock)
{
    const char *platform = json_string_value(json_object_get(lock, "platform"));
    const char *here = json_string_value(json_object_get(b->asked, "platform"));
    const char *build = json_string_value(json_object_get(lock, "build"));
    struct ty_error err;
    char gpu[16];
    bool conda = json_array_size(json_object_get(lock, "conda")) > 0; /* has a Python of its own */
    int r = conda ? 0 : check_lock(b, lock, &err);

    if ((r < 0 && r != -ENOENT) || !platform || !here || strcmp(platform, here) != 0)
        return 0;
    env_gpu_kind(b, gpu);
    return 4 + 2 * (r == 0) + ((build && ty_starts_with(build, "cu")) == (*gpu != '\0'));
}

/* The run that is repeated had several kinds of nodes: of its locks, the one of a node like this one. */
static void choose_lock(struct env_build *b)
{
    const json_t *first = b->q->spec->lock, *best = first, *one;
    size_t i;

    json_array_foreach (json_object_get(first, "others"), i, one)
        if (suits(b, one) > suits(b, best))
            best = one;
    b->spec = *b->q->spec;
    b->spec.lock = best;
    b->own = *b->q;
    b->own.spec = &b->spec;
    b->q = &b->own;
}

/* What is missing, if anything, in a prefix. */
static int find_or_build(struct env_build *b, json_t **ret, struct ty_error *err)
{
    const json_t *lock = b->q->spec->lock;
    int r = lock && !env_conda_needed(b) ? check_lock(b, lock, err) : 0;

    if (r < 0)
        return r;
    if (b->q->view && env_conda_needed(b))
        return ty_error_set(
            err, -ENOTSUP,
            "packages of conda cannot be installed on top of the image '%s', and it lacks some that are "
            "asked for: name them as packages of pip, or take an image that has them",
            b->q->spec->image);
    if (lock && locks_nothing(lock) && !lacks_nothing(b))
        return lacks_locked(b, err);
    if (lock ? locks_nothing(lock) : lacks_nothing(b)) {
        *ret = record_of(b, b->interpreter, NULL, false, 0);
        return *ret ? 0 : ty_error_oom(err);
    }
    r = name_prefix(b, err);
    return r == 0 ? get_prefix(b, ret, err) : r;
}

/* As before any prefix was named. */
static void start_again(struct env_build *b)
{
    free(b->final);
    free(b->building);
    b->final = b->building = NULL;
    b->key[0] = '\0';
    if (b->lock >= 0)
        close(b->lock);
    b->lock = -1;
}

int ty_env_get(const struct ty_env_request *q, struct ty_env *ret, struct ty_error *err)
{
    CLEANUP(build_done) struct env_build b = { .q = q, .lock = -1 };
    CLEANUP_FREE char *known = NULL;
    CLEANUP_JSON json_t *record = NULL;
    bool lasting = true;
    int r = ty_env_hash(q->spec, b.hash);

    if (r < 0)
        return ty_error_oom(err);
    if (ty_env_spec_is_empty(q->spec) || q->spec->user_managed ||
        (q->spec->view == TY_VIEW_IMAGE && !q->view))
        return as_it_is(&b, ret, err);
    known = known_path(&b, q->interpreter);
    if (!known)
        return ty_error_oom(err);
    r = look_up(&b, known, ret, err);
    if (r != 0)
        return r < 0 ? r : 0;
    r = env_cache_make(q->cache, err);
    if (r == 0)
        r = choose_interpreter(&b, err);
    if (r < 0)
        return r;
    if (q->spec->lock && json_object_get(q->spec->lock, "others"))
        choose_lock(&b);
    r = find_or_build(&b, &record, err);
    if (r < 0 && env_torch_fall_back(&b, err)) {
        lasting = err->code != -ENETUNREACH; /* an index may answer again */
        start_again(&b);
        r = find_or_build(&b, &record, err);
    }
    if (r < 0)
        return r;
    if (lasting)
        remember(&b, known, record);
    if (json_is_true(json_object_get(record, "built")))
        keep_limit(&b);
    r = give(&b, record, b.lock, ret, err);
    if (r == 0)
        b.lock = -1;
    return r;
}
