/* environment.c - what options and files ask for, as the `environment` of a run specification
 *
 * Files are read here, on the user's machine: what a job depends on stands in its specification.
 */
#include "cli/environment.h"
#include "base/cleanup.h"
#include "base/conf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/runs.h"
#include "cli/yamlfile.h"
#include "client/start_daemon.h"
#include "client/stubs.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define FILE_MAX (16 << 20)
#define NESTED_MAX 20

/* ---- putting together ---- */

static json_t *part(json_t *env, const char *key, bool list)
{
    json_t *o = json_object_get(env, key);

    if (!o) {
        o = list ? json_array() : json_object();
        json_object_set_new(env, key, o);
    }
    return o;
}

static int add(json_t *list, const char *text, size_t n, struct ty_error *err)
{
    return json_array_append_new(list, json_stringn(text, n)) < 0
               ? ty_error_set(err, -EINVAL, "'%.*s' is not valid UTF-8", (int)n, text)
               : 0;
}

static int add_pip(json_t *env, const char *key, const char *text, struct ty_error *err)
{
    return add(part(part(env, "pip", false), key, true), text, strlen(text), err);
}

static char *absolute(const char *path, const char *from)
{
    const char *slash = strrchr(from, '/');
    CLEANUP_FREE char *whole =
        *path == '/' || !slash ? strdup(path) : ty_strf("%.*s/%s", (int)(slash - from), from, path);
    char *real = whole ? realpath(whole, NULL) : NULL;

    return real ? real : TAKE(whole);
}

/* ---- requirements files ---- */

struct file {
    json_t *env;
    const char *path;
    int line, depth;
    bool constraints; /* what stands there limits versions, and asks for nothing */
    bool *
        told; /* --trusted-host was spoken of already, in whichever of the files that name each other */
};

static int read_requirements(const struct file *f, struct ty_error *err);

static int wrong(const struct file *f, const char *line, const char *why, struct ty_error *err)
{
    return ty_error_set(err, -EINVAL, "%s, line %d: '%.200s': %s", f->path, f->line, line, why);
}

/* The value of an option that stands at the front of the line: "-r x", "-rx", "--requirement x", "--requirement=x"; NULL: it is
 * another one. */
static const char *option(const char *line, const char *letter, const char *word)
{
    size_t n = strlen(word);

    if (letter && ty_starts_with(line, letter))
        line += 2;
    else if (ty_starts_with(line, word) && strchr(" \t=", line[n]))
        line += n + (line[n] == '=');
    else
        return NULL;
    return line + strspn(line, " \t");
}

static int nested(const struct file *f, const char *path, bool constraints, struct ty_error *err)
{
    CLEANUP_FREE char *whole = absolute(path, f->path);
    struct file next = { .env = f->env,
                         .path = whole,
                         .depth = f->depth + 1,
                         .constraints = constraints,
                         .told = f->told };

    if (!whole)
        return ty_error_oom(err);
    return f->depth >= NESTED_MAX ? wrong(f, path, "files name each other too deeply", err)
                                  : read_requirements(&next, err);
}

/* An address, or a folder of this machine. */
static int find_links(const struct file *f, const char *where, struct ty_error *err)
{
    CLEANUP_FREE char *path = strstr(where, "://") ? strdup(where) : absolute(where, f->path);

    return path ? add_pip(f->env, "find_links", path, err) : ty_error_oom(err);
}

/* What the file asks for, and the builder does not do: once. */
static void untold(const struct file *f)
{
    if (!*f->told)
        fprintf(stderr,
                "trainyard: warning: %s: --trusted-host has no effect here; --env "
                "PIP_TRUSTED_HOST=HOST has\n",
                f->path);
    *f->told = true;
}

static int take_option(const struct file *f, const char *line, struct ty_error *err)
{
    const char *v;

    if ((v = option(line, "-r", "--requirement")))
        return nested(f, v, f->constraints, err);
    if ((v = option(line, "-c", "--constraint")))
        return nested(f, v, true, err);
    if ((v = option(line, "-i", "--index-url")))
        return json_object_set_new(part(f->env, "pip", false), "index_url", json_string(v)) < 0
                   ? wrong(f, line, "it is not valid UTF-8", err)
                   : 0;
    if ((v = option(line, NULL, "--extra-index-url")))
        return add_pip(f->env, "extra_index_urls", v, err);
    if ((v = option(line, "-f", "--find-links")))
        return find_links(f, v, err);
    if (strcmp(line, "--pre") == 0)
        return json_object_set_new(part(f->env, "pip", false), "pre", json_true()) < 0
                   ? ty_error_oom(err)
                   : 0;
    if (ty_starts_with(line, "--trusted-host"))
        untold(f);
    if (ty_starts_with(line, "--trusted-host") || ty_starts_with(line, "--prefer-binary"))
        return 0;
    return wrong(f, line,
                 "that option is not understood here; requirements, and -r, -c, -i, -f, --pre and "
                 "--extra-index-url are",
                 err);
}

/* A package with hashes, with one blank before each, in the way of writing that a specification has. */
static char *with_hashes(const char *line, const char *hashes)
{
    CLEANUP_STR struct ty_str s = { 0 };
    size_t n = (size_t)(hashes - line);

    while (n > 0 && strchr(" \t", line[n - 1]))
        n--;
    ty_str_addn(&s, line, n);
    while (*(hashes += strspn(hashes, " \t"))) {
        size_t option = ty_starts_with(hashes, "--hash") ? strlen("--hash") : 0;

        ty_str_add(&s, option ? " --hash=" : " ");
        hashes += option;
        hashes += option ? strspn(hashes, " \t=") : 0;
        n = strcspn(hashes, " \t");
        ty_str_addn(&s, hashes, n);
        hashes += n;
    }
    return ty_str_take(&s);
}

static const char *find_hashes(const char *line)
{
    const char *at = line;

    while ((at = strstr(at, "--hash")) && (at == line || !strchr(" \t", at[-1])))
        at++;
    return at;
}

static int take_package(const struct file *f, const char *line, struct ty_error *err)
{
    const char *hashes = find_hashes(line);
    CLEANUP_FREE char *text = hashes ? with_hashes(line, hashes) : strdup(line);

    return text ? add_pip(f->env, f->constraints ? "constraints" : "packages", text, err)
                : ty_error_oom(err);
}

static int take_line(const struct file *f, char *line, struct ty_error *err)
{
    size_t n;

    line += strspn(line, " \t");
    for (char *p = line; *p; p++) /* a comment, not the fragment of an address */
        if (*p == '#' && (p == line || p[-1] == ' ' || p[-1] == '\t')) {
            *p = '\0';
            break;
        }
    n = strlen(line);
    while (n > 0 && strchr(" \t\r", line[n - 1]))
        line[--n] = '\0';
    if (n == 0)
        return 0;
    if (*line == '-')
        return take_option(f, line, err);
    if (*line == '.' || *line == '/')
        return wrong(
            f, line,
            "a folder of this machine is not there where the job runs; build a wheel of it "
            "and name its folder with --find-links",
            err);
    return take_package(f, line, err);
}

static int read_requirements(const struct file *f, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;
    struct file here = *f;
    size_t n;
    int r = ty_read_file(f->path, FILE_MAX, &text, &n);
    char *at = text, *end;

    if (r < 0)
        return ty_error_set(err, r, "cannot read the requirements file '%s': %s", f->path,
                            strerror(-r));
    for (; r == 0 && at; at = end) {
        char *whole = at;

        here.line++;
        end = strchr(at, '\n');
        while (end && end > at && end[-1] == '\\') { /* the line goes on */
            end[-1] = end[0] = ' ';
            end = strchr(end, '\n');
        }
        if (end)
            *end++ = '\0';
        r = take_line(&here, whole, err);
    }
    return r;
}

int ty_environment_requirements(json_t *env, const char *path, struct ty_error *err)
{
    bool told = false;
    struct file f = { .env = env, .path = path, .told = &told };

    return read_requirements(&f, err);
}

/* ---- conda files ---- */

/* "python=3.8" and the like: what follows the name; NULL: another package. */
static const char *python_of(const char *text)
{
    const char *rest = ty_starts_with(text, "python") ? text + strlen("python") : NULL;

    if (!rest || (*rest && !strchr(" =<>!~", *rest)))
        return NULL;
    rest += strspn(rest, " ");
    return *rest == '=' ? rest + strspn(rest, "= ") : rest;
}

static int conda_package(json_t *env, const char *text, struct ty_error *err)
{
    const char *python = python_of(text);
    size_t n = python ? strcspn(python, "=") : 0;

    if (python && *python) /* "3.8=build" is "3.8" */
        return json_object_set_new(
                   env, "python",
                   json_stringn(python, strpbrk(python, "<>!~") ? strlen(python) : n)) < 0
                   ? ty_error_oom(err)
                   : 0;
    if (python || strcmp(text, "pip") == 0 || ty_starts_with(text, "pip="))
        return 0;
    return add(part(part(env, "conda", false), "packages", true), text, strlen(text), err);
}

static int conda_pip(json_t *env, const json_t *list, const char *path, struct ty_error *err)
{
    bool told = false;
    struct file f = { .env = env, .path = path, .told = &told };
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach (list, i, one) {
        CLEANUP_FREE char *line = json_is_string(one) ? strdup(json_string_value(one)) : NULL;

        if (!line)
            return ty_error_set(err, -EINVAL, "%s: 'pip' must be a list of texts", path);
        r = r < 0 ? r : take_line(&f, line, err);
    }
    return r;
}

static int conda_dependency(json_t *env, const json_t *one, const char *path, struct ty_error *err)
{
    const json_t *pip = json_object_get(one, "pip");

    if (json_is_string(one))
        return conda_package(env, json_string_value(one), err);
    if (json_is_array(pip) && json_object_size(one) == 1)
        return conda_pip(env, pip, path, err);
    return ty_error_set(err, -EINVAL,
                        "%s: 'dependencies' holds packages, and one mapping 'pip: [..]'", path);
}

static int conda_all(json_t *env, const json_t *file, const char *path, struct ty_error *err)
{
    const json_t *list = json_object_get(file, "dependencies"),
                 *channels = json_object_get(file, "channels"), *one;
    size_t i;
    int r = 0;

    if ((list && !json_is_array(list) && !json_is_null(list)) ||
        (channels && !json_is_array(channels) && !json_is_null(channels)))
        return ty_error_set(err, -EINVAL, "%s: 'dependencies' and 'channels' must be lists", path);
    json_array_foreach (list, i, one)
        r = r < 0 ? r : conda_dependency(env, one, path, err);
    json_array_foreach (channels, i, one)
        if (!json_is_string(one))
            r = ty_error_set(err, -EINVAL, "%s: 'channels' must hold texts", path);
        else if (r == 0)
            r = add(part(part(env, "conda", false), "channels", true), json_string_value(one),
                    json_string_length(one), err);
    return r;
}

int ty_environment_conda_file(json_t *env, const char *path, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL, *what = ty_strf("the conda file '%s'", path);
    CLEANUP_JSON json_t *file = NULL;
    size_t n;
    int r = ty_read_file(path, FILE_MAX, &text, &n);

    if (!what)
        return ty_error_oom(err);
    if (r < 0)
        return ty_error_set(err, r, "cannot read %s: %s", what, strerror(-r));
    r = ty_yaml_parse(text, n, what, &file, err);
    return r < 0 ? r : conda_all(env, file, path, err);
}

/* ---- options ---- */

static int view_asked(const struct ty_cli *cli, json_t *env, struct ty_error *err)
{
    const char *image = ty_cli_value(cli, "image"), *shm = ty_cli_value(cli, "shm-size");
    int r = 0;

    if (shm && !image)
        return ty_error_set(err, -EINVAL,
                            "--shm-size is the size of /dev/shm in an image; give --image, too");
    if (image)
        r |= json_object_set_new(part(env, "image", false), "name", json_string(image));
    if (shm)
        r |= json_object_set_new(part(env, "image", false), "shm_size", json_string(shm));
    if (ty_cli_flag(cli, "sandbox"))
        r |= json_object_set_new(env, "sandbox", json_true());
    return r ? ty_error_oom(err) : 0;
}

int ty_environment_asked(const struct ty_cli *cli, json_t **ret, struct ty_error *err)
{
    const char *conda = ty_cli_value(cli, "conda-file"), *torch = ty_cli_value(cli, "torch"),
               *python = ty_cli_value(cli, "python-version"), *text;
    CLEANUP_JSON json_t *env = json_object();
    int r = conda ? ty_environment_conda_file(env, conda, err) : 0;

    for (int i = 0; r == 0 && (text = ty_cli_nth(cli, "requirements", i)) != NULL; i++)
        r = ty_environment_requirements(env, text, err);
    for (int i = 0; r == 0 && (text = ty_cli_nth(cli, "pip", i)) != NULL; i++)
        r = *text == '-'
                ? ty_error_set(err, -EINVAL,
                               "--pip '%s' is no package; options of pip go into a requirements "
                               "file",
                               text)
                : add_pip(env, "packages", text, err);
    if (r == 0 && python && json_object_set_new(env, "python", json_string(python)) < 0)
        r = ty_error_oom(err);
    if (r == 0 && python && !json_object_get(env, "conda"))
        fprintf(stderr,
                "trainyard: warning: --python-version %s: only with packages of conda "
                "(--conda-file) is a Python installed; else the interpreter is used as it is, and "
                "'trainyard run -- python%s ...' names another\n",
                python, python);
    if (r == 0 && torch &&
        json_object_set_new(env, "torch", json_string(strcmp(torch, "any") ? torch : "")) < 0)
        r = ty_error_oom(err);
    if (r == 0)
        r = view_asked(cli, env, err);
    if (r == 0 && json_object_size(env) > 0 && ty_cli_value(cli, "environment"))
        r = ty_error_set(
            err, -EINVAL,
            "--environment names all that is wanted: --pip and its like do not go with it");
    if (r == 0 && json_object_size(env) > 0)
        *ret = TAKE(env);
    return r;
}

/* ---- registered ---- */

/* What Azure has made for everybody stands for what a machine has; 1: *ret is it; 0: it is another name. */
static int curated(const char *name, json_t **ret, struct ty_error *err)
{
    static const char torch[] = "AzureML-PyTorch-";
    const char *version = name + strlen(torch);

    if (strcasecmp(name, "AzureML-Minimal") == 0 || strcasecmp(name, "AzureML-Tutorial") == 0)
        *ret = json_pack("{s:s}", "name", name);
    else if (strncasecmp(name, torch, strlen(torch)) == 0 && strspn(version, "0123456789.") > 0)
        *ret = json_pack("{s:s s:o}", "name", name, "torch",
                         json_stringn(version, strspn(version, "0123456789.")));
    else if (strncasecmp(name, "AzureML-", 8) == 0)
        return ty_error_set(err, -ENOENT,
                            "the command line knows AzureML-Minimal, AzureML-Tutorial and "
                            "AzureML-PyTorch-<version>, and not '%.100s'; Python knows more "
                            "(Environment.get)",
                            name);
    else
        return 0;
    return *ret ? 1 : ty_error_oom(err);
}

int ty_environment_registered(struct ty_cli *cli, json_t **ret, json_t **variables,
                              struct ty_error *err)
{
    const char *asked = ty_cli_value(cli, "environment"),
               *colon = asked ? strrchr(asked, ':') : NULL;
    CLEANUP_FREE char *name = !asked  ? NULL
                              : colon ? strndup(asked, (size_t)(colon - asked))
                                      : strdup(asked);
    struct ty_call call = { .args = { name, colon ? colon + 1 : "latest" } };
    CLEANUP_JSON json_t *reply = NULL;
    const json_t *content;
    json_t *spec;
    int r;

    if (!asked)
        return 0;
    if (!name)
        return ty_error_oom(err);
    r = curated(name, ret, err);
    if (r != 0)
        return r < 0 ? r : 0;
    r = ty_cli_get(cli, TY_ROUTE_environment_get, &call, &reply, err);
    if (r < 0)
        return r;
    content = json_object_get(reply, "content");
    spec = json_deep_copy(json_object_get(content, "spec"));
    if (!spec)
        spec = json_object();
    json_object_set(spec, "name", json_object_get(reply, "name"));
    json_object_set_new(
        spec, "version",
        json_sprintf("%lld", (long long)json_integer_value(json_object_get(reply, "version"))));
    *ret = spec;
    *variables = json_incref(json_object_get(content, "environment_variables"));
    return 0;
}

/* ---- the cache ---- */

int ty_environment_cache(const struct ty_cli *cli, char **ret, struct ty_error *err)
{
    const char *given = ty_cli_value(cli, "cache"), *user = getenv("HOME");
    CLEANUP_FREE char *home = NULL;
    int r;

    if (given) {
        r = ty_path_absolute(given, ret);
        return r < 0 ? ty_error_set(err, r, "cannot find the cache '%s': %s", given, strerror(-r))
                     : 0;
    }
    r = ty_client_find_home(ty_cli_value(cli, "home"), &home, err);
    if (r < 0)
        return r;
    *ret = ty_home_is_system(home) ? ty_path_join(user ? user : "/", ".cache/trainyard")
                                   : ty_path_join(home, "cache");
    return *ret ? 0 : ty_error_oom(err);
}
