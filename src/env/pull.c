/* pull.c - having an image here before its job starts */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "env/view.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

/* The registry of an image's name: what stands before the first '/' when it looks like a host, else Docker's. */
static char *registry_of(const char *image)
{
    size_t n = strcspn(image, "/");

    if (image[n] == '/' && (memchr(image, '.', n) || memchr(image, ':', n) ||
                            (n == strlen("localhost") && ty_starts_with(image, "localhost"))))
        return strndup(image, n);
    return strdup("https://index.docker.io/v1/");
}

/* {"auths": {registry: {"auth": base64 of user:password}}}, readable by the job's user alone. */
static int write_auth(const struct ty_view *v, const char *path, struct ty_error *err)
{
    CLEANUP_FREE char *both = ty_strf("%s:%s", v->spec->image_user, v->password);
    CLEANUP_FREE char *registry = registry_of(v->spec->image);
    CLEANUP_STR struct ty_str s = { 0 };
    int r;

    if (!both || !registry)
        return ty_error_oom(err);
    ty_str_add(&s, "{\"auths\":{");
    ty_str_add_json(&s, registry, strlen(registry));
    ty_str_add(&s, ":{\"auth\":\"");
    ty_str_add_base64(&s, both, strlen(both));
    ty_str_add(&s, "\"}}}\n");
    if (s.failed)
        return ty_error_oom(err);
    r = ty_write_file(path, s.text, s.len, 0600);
    return r < 0 ? ty_error_set(err, r, "cannot write the registry's password to '%s': %s", path,
                                strerror(-r))
                 : 0;
}

struct output {
    void (*log)(const char *line, void *ctx);
    void *ctx;
    char last[LINE_MAX_BYTES]; /* line that is not empty */
};

static void take_line(struct output *o, char *line)
{
    size_t n = strcspn(line, "\r\n");

    line[n] = '\0';
    if (n == 0)
        return;
    snprintf(o->last, sizeof o->last, "%s", line);
    if (o->log)
        o->log(line, o->ctx);
}

/* Run the tool, its output to the log.  Its exit status, or a negative errno. */
static int run_tool(const char *const *argv, char *const *env, struct output *o,
                    struct ty_error *err)
{
    CLEANUP_CLOSE int in = -1, out = -1;
    char line[LINE_MAX_BYTES];
    int fds[2], status = 0, r;
    pid_t pid;
    FILE *f;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return ty_error_set(err, -errno, "cannot make a pipe: %m");
    in = fds[0];
    out = fds[1];
    struct ty_spawn s = {
        .argv = argv, .envp = (const char *const *)env, .cwd = "/", .in = -1, .out = out, .err = out
    };
    r = ty_spawn(&s, &pid, err);
    if (r < 0)
        return r;
    close(TAKE_FD(out));
    f = fdopen(in, "r");
    if (f) {
        in = -1;
        while (fgets(line, sizeof line, f))
            take_line(o, line);
        fclose(f);
    } else {
        kill(pid, SIGKILL);
    }
    ty_wait(pid, &status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int pull_with(const struct ty_view *v, const char *auth, char *const *env, struct output *o,
                     struct ty_error *err)
{
    const char *argv[8] = { v->tool.path };
    size_t n = 1;

    if (v->tool.kind == TY_TOOL_DOCKER && auth) {
        argv[n++] = "--config";
        argv[n++] = auth;
    }
    argv[n++] = "pull";
    if (v->tool.kind == TY_TOOL_PODMAN && auth) {
        argv[n++] = "--authfile";
        argv[n++] = auth;
    }
    argv[n++] = v->spec->image;
    return run_tool(argv, env, o, err);
}

static bool is_here(const struct ty_view *v, char *const *env)
{
    struct output quiet = { 0 };
    struct ty_error err;
    const char *argv[] = {
        v->tool.path, "image", "inspect", "--format", "ok", v->spec->image, NULL
    };

    return run_tool(argv, env, &quiet, &err) == 0;
}

/* A file's time and size; what apptainer fetches when it starts is known by its name alone. */
static char *apptainer_id(const char *image)
{
    struct stat st;

    return stat(image, &st) < 0 ? strdup(image)
                                : ty_strf("%s %lld.%09ld %lld", image, (long long)st.st_mtim.tv_sec,
                                          st.st_mtim.tv_nsec, (long long)st.st_size);
}

int ty_view_image_id(const struct ty_view *v, char *const *env, char **ret, struct ty_error *err)
{
    const char *argv[] = { v->tool.path, "image",        "inspect", "--format",
                           "{{.Id}}",    v->spec->image, NULL };
    struct output o = { 0 };
    char *id;
    int r = v->tool.kind == TY_TOOL_APPTAINER ? 0 : run_tool(argv, env, &o, err);

    if (r < 0)
        return r;
    if (r > 0 || (v->tool.kind != TY_TOOL_APPTAINER && !o.last[0]))
        return ty_error_set(err, -EIO, "%s does not tell the id of the image '%s' (status %d): %s",
                            ty_tool_word(v->tool.kind), v->spec->image, r,
                            o.last[0] ? o.last : "it said nothing");
    id = o.last[0] ? strdup(o.last) : apptainer_id(v->spec->image);
    if (!id)
        return ty_error_oom(err);
    *ret = id;
    return 0;
}

int ty_view_pull(const struct ty_view *v, char *const *env,
                 void (*log)(const char *line, void *ctx), void *ctx, struct ty_error *err)
{
    bool docker = v->tool.kind == TY_TOOL_DOCKER;
    CLEANUP_FREE char *folder = ty_strf("%s/registry-auth", v->tmp);
    CLEANUP_FREE char *file = ty_strf("%s/config.json", folder ? folder : "");
    bool secret = v->spec->image_user && v->password;
    struct output o = { .log = log, .ctx = ctx };
    int r = 0;

    if (v->tool.kind != TY_TOOL_PODMAN && !docker)
        return 0; /* apptainer has its own cache, and fetches when it starts */
    if (is_here(v, env))
        return 0;
    if (!folder || !file)
        return ty_error_oom(err);
    if (secret) {
        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
            return ty_error_set(err, -errno, "cannot make the folder '%s': %m", folder);
        unlink(file);
        r = write_auth(v, file, err);
    }
    if (r == 0)
        r = pull_with(v, !secret ? NULL : docker ? folder : file, env, &o, err);
    unlink(file);
    rmdir(folder);
    if (r <= 0)
        return r;
    return ty_error_set(err, -EIO, "%s cannot get the image '%s' (status %d): %s%s",
                        ty_tool_word(v->tool.kind), v->spec->image, r,
                        o.last[0] ? o.last : "it said nothing",
                        strstr(o.last, "short-name")
                            ? "; give it with its registry, as in docker.io/library/python:3"
                            : "");
}
