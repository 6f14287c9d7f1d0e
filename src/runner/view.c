/* view.c - what a job's view has in it, and the tool that makes it */
#include "runner/view.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "env/view.h"
#include "runner/child.h"
#include "runner/runner_internal.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIXED_PATHS 16

static const char *user_variable(const struct ty_jobfile *j, const char *name)
{
    return json_string_value(json_object_get(j->spec->environment, name));
}

static bool is_plain(const struct ty_jobfile *j)
{
    return j->spec->env->view == TY_VIEW_PLAIN;
}

const char *ty_view_interpreter(const struct ty_jobfile *j)
{
    return j->spec->env->view == TY_VIEW_IMAGE && j->spec->interpreter_any ? "python3" : NULL;
}

/* ---- fetching the image ---- */

static void tell_line(const char *line, void *ctx)
{
    ty_child_tell(*(int *)ctx, "log", line);
}

static bool add(char **v, size_t *n, char *text)
{
    v[(*n)++] = text;
    return text != NULL;
}

/* For the tool itself: the user's own settings of it come from environment_variables. */
static char **tool_env(const struct ty_jobfile *j)
{
    char **v = calloc(json_object_size(j->spec->environment) + 8, sizeof *v), runtime[64];
    const char *name;
    json_t *value;
    size_t n = 0;
    bool good = v != NULL;

    good = good &&
           add(v, &n, strdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    good = good && add(v, &n, ty_strf("HOME=%s", j->user_home ? j->user_home : "/"));
    good = good && add(v, &n, ty_strf("TMPDIR=%s", j->tmp));
    good = good && add(v, &n, ty_strf("TRAINYARD_JOB=%s", j->dir));
    snprintf(runtime, sizeof runtime, "/run/user/%u", (unsigned)geteuid());
    if (access(runtime, W_OK) == 0)
        good = good && add(v, &n, ty_strf("XDG_RUNTIME_DIR=%s", runtime));
    json_object_foreach (j->spec->environment, name, value)
        good = good && add(v, &n, ty_strf("%s=%s", name, json_string_value(value)));
    return good ? v : ty_strv_free(v);
}

int ty_view_prepare(const struct ty_jobfile *j, int out, struct ty_error *err)
{
    struct ty_view v = { .spec = j->spec->env,
                         .tmp = j->tmp,
                         .password =
                             json_string_value(json_object_get(j->json, "image_password")) };
    char **env;
    int r;

    if (is_plain(j))
        return 0;
    r = ty_view_tool(v.spec, user_variable(j, "DOCKER_HOST"), &v.tool, err);
    if (r < 0 || v.spec->view != TY_VIEW_IMAGE)
        return r;
    env = tool_env(j);
    if (!env)
        return ty_error_oom(err);
    r = ty_view_pull(&v, env, tell_line, &out, err);
    ty_strv_free(env);
    return r;
}

/* ---- what it shows ---- */

struct paths {
    const char **v; /* borrowed texts */
    size_t n;
};

static void show(struct paths *p, const char *path)
{
    if (path && path[0] == '/')
        p->v[p->n++] = path;
}

/* The folder two above what a path stands for, links followed: PREFIX/bin/python3 -> PREFIX. */
static char *two_above(const char *path)
{
    char *real = path && *path == '/' ? realpath(path, NULL) : NULL;

    for (int up = 0; real && up < 2; up++) {
        char *slash = strrchr(real, '/');

        if (slash)
            *slash = '\0';
    }
    return real;
}

#define PROGRAMS \
    4 /* the process's own and the python of the run, each as it is named and what it stands for */

struct shown {
    struct paths writable, readable;
    char *cache_data, *packages, *secret;
    char *installations[PROGRAMS];
    int ninstallations;
};

static void shown_done(struct shown *s)
{
    free(s->writable.v);
    free(s->readable.v);
    for (int i = 0; i < s->ninstallations; i++)
        free(s->installations[i]);
    free(s->cache_data);
    free(s->packages);
    free(s->secret);
}

static char *two_above_file(const char *python_path)
{
    CLEANUP_FREE char *file = ty_strf("%s/trainyard/__init__.py", python_path);

    return two_above(file);
}

/* Does `path` lie below `folder`, and is not the folder itself? */
static bool is_below(const char *path, const char *folder)
{
    size_t n = folder ? strlen(folder) : 0;

    while (n > 0 && folder[n - 1] == '/')
        n--;
    return n > 0 && strncmp(path, folder, n) == 0 && path[n] == '/' && path[n + 1];
}

/* The folder that a sandbox empties and in which `path` lies; NULL: it is seen in any case. */
static const char *emptied(const char *path, const char *home)
{
    return is_below(path, home)         ? home
           : is_below(path, "/tmp")     ? "/tmp"
           : is_below(path, "/var/tmp") ? "/var/tmp"
                                        : NULL;
}

static void cut_name(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        *slash = '\0';
}

/* How much of an emptied folder a program in it needs: PREFIX of PREFIX/bin/python3.  Where that would be the emptied folder, or
 * HOME/.local, which holds more than programs: the program's own folder, or itself alone. */
static char *installation_of(const char *program, const char *home)
{
    const char *top = emptied(program, home);
    CLEANUP_FREE char *local = ty_strf("%s/.local", home ? home : "");
    CLEANUP_FREE char *folder = strdup(program), *prefix = NULL;

    if (!top || !local || !folder)
        return NULL;
    cut_name(folder);
    prefix = strdup(folder);
    if (!prefix)
        return NULL;
    cut_name(prefix);
    if (is_below(prefix, top) && strcmp(prefix, local) != 0)
        return TAKE(prefix);
    return is_below(folder, top) ? TAKE(folder) : strdup(program);
}

/* A venv in the user's folder is needed as much as the Python that its links lead to. */
static void show_program(struct shown *s, const char *program, const char *home)
{
    CLEANUP_FREE char *real = program && *program == '/' ? realpath(program, NULL) : NULL;
    const char *names[] = { real ? program : NULL, real };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *installation = names[i] ? installation_of(names[i], home) : NULL;

        if (!installation)
            continue;
        s->installations[s->ninstallations++] = installation;
        show(&s->readable, installation);
    }
}

static int list_shown(const struct ty_runner *r, char **places, const char *program,
                      struct shown *s, struct ty_error *err)
{
    const struct ty_jobfile *j = r->job;
    size_t n = 2 * (size_t)j->spec->ndata + FIXED_PATHS;

    s->writable.v = calloc(n, sizeof *s->writable.v);
    s->readable.v = calloc(n, sizeof *s->readable.v);
    s->cache_data = ty_strf("%s/data", j->cache);
    s->secret = ty_strf("%s/secret.key", j->home);
    /* Where they are links, what they lead to. */
    s->packages = j->python_path ? two_above_file(j->python_path) : NULL;
    if (!s->writable.v || !s->readable.v || !s->cache_data || !s->secret)
        return ty_error_oom(err);
    show(&s->readable, j->home);
    show(&s->readable, j->python_path);
    show(&s->readable, s->packages);
    show(&s->readable, j->cache);
    show(&s->readable, r->env.prefix);
    /* The machine's own Python would take the place of the image's. */
    if (j->spec->env->view == TY_VIEW_SANDBOX) {
        show_program(s, program, j->user_home);
        show_program(s, ty_run_python(j->spec), j->user_home);
    }
    show(&s->writable, j->dir);
    show(&s->writable, j->work);
    show(&s->writable, j->tmp);
    show(&s->writable, j->spool);
    show(&s->writable, j->log);
    show(&s->writable, j->checkpoint_dir);
    show(&s->writable, s->cache_data);
    for (int i = 0; i < j->spec->ndata; i++) {
        show(&s->writable, j->data_dirs[i]);
        show(&s->writable, places ? places[i] : NULL);
    }
    return 0;
}

void ty_view_builder_done(struct ty_view_builder *b)
{
    free(b->id);
    free(b->packages);
}

int ty_view_of_builder(const struct ty_jobfile *j, struct ty_view_builder *ret,
                       struct ty_error *err)
{
    struct ty_view *v = &ret->view;
    size_t n = 0;
    char **env;
    int r;

    if (j->spec->env->view != TY_VIEW_IMAGE)
        return 0;
    /* What is written comes first, then what is only read. */
    ret->packages = two_above_file(j->python_path);
    ret->paths[n++] = j->cache;
    ret->paths[n++] = j->tmp;
    ret->paths[n++] = NULL;
    *v = (struct ty_view){ .spec = j->spec->env,
                           .tmp = j->tmp,
                           .writable = ret->paths,
                           .readable = ret->paths + n,
                           .uid = geteuid(),
                           .gid = getegid() };
    ret->paths[n++] = j->python_path;
    ret->paths[n++] = ret->packages;
    ret->paths[n] = NULL;
    r = ty_mkdir_p(j->cache, 0700);
    if (r < 0)
        return ty_error_set(err, r, "cannot make the cache of environments '%s': %s", j->cache,
                            strerror(-r));
    r = ty_view_tool(v->spec, user_variable(j, "DOCKER_HOST"), &v->tool, err);
    if (r < 0)
        return r;
    env = tool_env(j);
    if (!env)
        return ty_error_oom(err);
    r = ty_view_image_id(v, env, &ret->id, err);
    ty_strv_free(env);
    return r;
}

int ty_view_of_rank(const struct ty_runner *r, const struct ty_rank_plan *p, char **places,
                    char ***env, char ***argv, char ***after, struct ty_error *err)
{
    const struct ty_jobfile *j = r->job;
    CLEANUP_FREE char *name =
        ty_strf("trainyard-%s-%lld-%d", j->run, (long long)j->attempt, p->rank);
    CLEANUP(shown_done) struct shown shown = { 0 };
    struct ty_view v = { .spec = j->spec->env,
                         .work = j->work,
                         .tmp = j->tmp,
                         .home = j->user_home,
                         .name = name,
                         .user_environment = j->spec->environment,
                         .gpu = j->spec->use_gpu,
                         .own_path = r->env.path != NULL,
                         .alone = ty_jobfile_own_ranks(j, &(int){ 0 }) == 1,
                         .uid = j->owner ? j->owner->uid : geteuid(),
                         .gid = j->owner ? j->owner->gid : getegid() };
    char **wrapped = NULL, **seen = NULL;
    int got;

    *after = NULL;
    if (is_plain(j))
        return 0;
    got = ty_view_tool(v.spec, user_variable(j, "DOCKER_HOST"), &v.tool, err);
    if (got == 0)
        got = name ? list_shown(r, places, (*argv)[0], &shown, err) : ty_error_oom(err);
    v.writable = shown.writable.v;
    v.readable = shown.readable.v;
    v.hidden = shown.secret;
    if (got == 0)
        got = ty_view_wrap(&v, *argv, *env, &wrapped, &seen, err);
    if (got < 0)
        return got;
    ty_strv_free(*argv);
    ty_strv_free(*env);
    *argv = wrapped;
    *env = seen;
    return ty_view_after(&v, after, err);
}
