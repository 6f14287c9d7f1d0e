/* venv.c - a prefix for pip's packages: a venv that sees the interpreter's own packages */
#include "base/cleanup.h"
#include "base/fs.h"
#include "env/env_internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCRIPT_MAX (1u << 20)

/* lib/python3.11/site-packages of the prefix. */
int env_find_site(const struct env_build *b, char **ret, struct ty_error *err)
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
    r = env_find_site(b, &site, err);
    if (r < 0)
        return r;
    path = ty_strf("%s/%s/zz-trainyard-base.pth", b->building, site);
    r = path && !lines.failed ? ty_write_file(path, lines.text ? lines.text : "", lines.len, 0600)
                              : -ENOMEM;
    return r < 0 ? ty_error_set(err, r, "cannot write '%s': %s", path ? path : "", strerror(-r))
                 : 0;
}

/* What a person sources names the place where the prefix will be.  A venv without these files works as well. */
static void name_place(const struct env_build *b)
{
    static const char *const files[] = { "bin/activate", "bin/activate.csh", "bin/activate.fish",
                                         "pyvenv.cfg", NULL };

    for (const char *const *f = files; *f; f++) {
        CLEANUP_FREE char *path = ty_strf("%s/%s", b->building, *f), *text = NULL;
        CLEANUP_STR struct ty_str s = { 0 };
        const char *at;

        if (!path || ty_read_file(path, SCRIPT_MAX, &text, NULL) < 0)
            continue;
        for (const char *p = text; *p; p = at ? at + strlen(b->building) : p + strlen(p)) {
            at = strstr(p, b->building);
            ty_str_addn(&s, p, at ? (size_t)(at - p) : strlen(p));
            ty_str_add(&s, at ? b->final : "");
        }
        if (!s.failed)
            ty_write_file(path, s.text, s.len, 0644);
    }
}

int env_ask_prefix(struct env_build *b, const char *python, struct ty_error *err)
{
    CLEANUP_JSON json_t *answer = NULL;
    int r = env_ask(b, python, &answer, err);

    if (r == 0) {
        json_decref(b->system);
        b->system = json_incref(json_object_get(answer, "system"));
    }
    return r;
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
    if (!json_is_true(json_object_get(b->asked, "venv")) && b->q->view)
        return ty_error_set(
            err, -ENOTSUP,
            "no packages can be installed on top of the image '%s': its Python has no module venv; take "
            "an image that has it, or one that has the packages",
            b->q->spec->image);
    if (!json_is_true(json_object_get(b->asked, "venv")))
        return ty_error_set(
            err, -ENOTSUP,
            "cannot build the environment: '%s' has no module venv; install it ('apt install "
            "python3-venv'), or name an interpreter that has it",
            b->interpreter);
    r = env_run(b, &p, &said, err);
    if (r == 0 && said.status != 0)
        r = env_pip_failed(b, &said, "making a venv", err);
    env_said_done(&said);
    if (r == 0)
        name_place(b);
    if (r == 0)
        r = see_base(b, err);
    if (r == 0)
        r = env_pip_into(b, python, specs, lock, err);
    return r == 0 ? env_ask_prefix(b, python, err) : r;
}
