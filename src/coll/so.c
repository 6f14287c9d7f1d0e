/* so.c - see so.h */
#include "coll/so.h"
#include "base/error.h"
#include "base/fault.h"
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FLAGS (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)

/* A list of words for the text of an error. */
struct tried {
    char text[400];
    size_t n;
};

static void note(struct tried *t, const char *word)
{
    int n = snprintf(t->text + t->n, sizeof t->text - t->n, "%s%s", t->n ? ", " : "", word);

    if (n > 0)
        t->n = t->n + (size_t)n < sizeof t->text ? t->n + (size_t)n : sizeof t->text - 1;
}

static void *try_file(const char *file, int flags)
{
    return FAULT("so.dlopen", NULL, dlopen(file, FLAGS | flags));
}

static void *try_folder(const struct ty_so *so, const char *folder)
{
    char file[PATH_MAX];
    void *ret = NULL;

    for (int i = 0; so->names[i] && !ret; i++)
        if (snprintf(file, sizeof file, "%s/%s", folder, so->names[i]) < (int)sizeof file)
            ret = try_file(file, 0);
    return ret;
}

static void *try_path(const struct ty_so *so, const char *path)
{
    const char *name = strrchr(path, '/');
    struct stat st;

    if (stat(path, &st) < 0)
        return NULL;
    if (S_ISDIR(st.st_mode))
        return try_folder(so, path);
    return strncmp(name ? name + 1 : path, so->stem, strlen(so->stem)) == 0 ? try_file(path, 0)
                                                                            : NULL;
}

static void *try_paths(const struct ty_so *so, const char *paths, struct tried *tried)
{
    char path[PATH_MAX];
    void *ret = NULL;

    for (const char *at = paths ? paths : ""; *at && !ret;) {
        size_t n = strcspn(at, ":");

        if (n > 0 && n < sizeof path) {
            memcpy(path, at, n);
            path[n] = 0;
            note(tried, path);
            ret = try_path(so, path);
        }
        at += n + (at[n] == ':');
    }
    return ret;
}

static int by_variable(const struct ty_so *so, const char *file, void **ret, struct ty_error *err)
{
    const char *why;

    if (strcmp(file, "none") == 0)
        return ty_error_set(err, -ENOENT, "cannot use %s: %s=none says that it is not wanted",
                            so->what, so->env);
    *ret = try_file(file, 0);
    if (*ret)
        return 0;
    why = dlerror();
    return ty_error_set(err, -ENOENT, "cannot open %s, which %s names as '%s': %s", so->what,
                        so->env, file, why ? why : "not found");
}

int ty_so_open(const struct ty_so *so, const char *paths, void **ret, struct ty_error *err)
{
    const char *file = getenv(so->env);
    struct tried tried = { .n = 0 };
    void *handle = NULL;

    if (file && *file)
        return by_variable(so, file, ret, err);
    for (int i = 0; so->names[i] && !handle; i++)
        handle = try_file(so->names[i], RTLD_NOLOAD);
    if (!handle)
        handle = try_paths(so, paths, &tried);
    for (int i = 0; so->names[i] && !handle; i++) {
        note(&tried, so->names[i]);
        handle = try_file(so->names[i], 0);
    }
    if (!handle)
        return ty_error_set(
            err, -ENOENT,
            "cannot find %s (tried what is loaded in this process, and %s); install a "
            "torch that is built for CUDA, or name the file in %s",
            so->what, tried.text, so->env);
    *ret = handle;
    return 0;
}

int ty_so_fill(const struct ty_so *so, void *handle, const struct ty_so_call *calls, size_t n,
               void *table, struct ty_error *err)
{
    for (size_t i = 0; i < n; i++) {
        void *f = dlsym(handle, calls[i].name);

        if (!f)
            return ty_error_set(err, -ENOENT,
                                "cannot use %s: it has no function %s; is it too old?", so->what,
                                calls[i].name);
        memcpy((char *)table + calls[i].at, &f, sizeof f);
    }
    return 0;
}
