/* view.c - argument vectors for bubblewrap, podman, docker and apptainer
 *
 * No value of an environment variable is ever an argument: whoever may list processes would read it.  The tool gets the
 * job's environment, and is told the names that the process in the image gets.
 */
#include "env/view.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *const folders[] = { "/usr/local/bin", "/usr/bin", "/bin", "/opt/bin", NULL };

const char *ty_tool_word(enum ty_tool_kind k)
{
    static const char *const words[] = { [TY_TOOL_NONE] = "",
                                         [TY_TOOL_BWRAP] = "bubblewrap",
                                         [TY_TOOL_PODMAN] = "podman",
                                         [TY_TOOL_DOCKER] = "docker",
                                         [TY_TOOL_APPTAINER] = "apptainer" };

    return words[k];
}

/* ---- which tool ---- */

static bool find(const char *program, struct ty_tool *ret)
{
    for (const char *const *f = folders; *f; f++) {
        int n = snprintf(ret->path, sizeof ret->path, "%s/%s", *f, program);

        if (n > 0 && (size_t)n < sizeof ret->path && access(ret->path, X_OK) == 0)
            return true;
    }
    return false;
}

/* Many machines have the client of docker without its service. */
static bool docker_answers(const char *host)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const char *path = "/var/run/docker.sock";
    CLEANUP_CLOSE int fd = -1;

    if (host && *host) {
        if (!ty_starts_with(host, "unix://"))
            return true; /* another machine: its own client will say */
        path = host + strlen("unix://");
    }
    if (strlen(path) >= sizeof a.sun_path)
        return false;
    memcpy(a.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
}

static bool image_tool(const char *docker_host, struct ty_tool *ret)
{
    ret->kind = TY_TOOL_PODMAN;
    if (find("podman", ret))
        return true;
    ret->kind = TY_TOOL_DOCKER;
    if (find("docker", ret) && docker_answers(docker_host))
        return true;
    ret->kind = TY_TOOL_APPTAINER;
    return find("apptainer", ret) || find("singularity", ret);
}

const char *ty_view_can_image(void)
{
    struct ty_tool t = TY_TOOL_INIT;

    return image_tool(NULL, &t) ? ty_tool_word(t.kind) : NULL;
}

bool ty_view_can_sandbox(void)
{
    struct ty_tool t = TY_TOOL_INIT;

    return find("bwrap", &t);
}

int ty_view_tool(const struct ty_env_spec *s, const char *docker_host, struct ty_tool *ret,
                 struct ty_error *err)
{
    struct ty_tool t = TY_TOOL_INIT;

    if (s->view == TY_VIEW_SANDBOX) {
        t.kind = TY_TOOL_BWRAP;
        if (!find("bwrap", &t))
            return ty_error_set(
                err, -ENOTSUP,
                "the run asks for a sandbox, and bubblewrap is not on this machine: install it "
                "('apt install bubblewrap'), or leave 'sandbox' out");
    } else if (s->view == TY_VIEW_IMAGE && !image_tool(docker_host, &t)) {
        return ty_error_set(
            err, -ENOTSUP,
            "the run asks for the image '%s', and nothing on this machine can run images: "
            "install podman ('apt install podman'), docker or apptainer, or leave the image out",
            s->image);
    }
    *ret = t;
    return 0;
}

/* ---- vectors ---- */

struct words {
    char **v;
    size_t n, cap;
    bool failed;
};

static void add_taken(struct words *w, char *text)
{
    if (w->n + 1 >= w->cap && !w->failed) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        char **v = reallocarray(w->v, cap, sizeof *v);

        w->failed = v == NULL;
        if (v) {
            w->v = v;
            w->cap = cap;
        }
    }
    if (!text || w->failed) {
        w->failed = true;
        free(text);
        return;
    }
    w->v[w->n++] = text;
    w->v[w->n] = NULL;
}

static void add(struct words *w, const char *text)
{
    add_taken(w, strdup(text));
}

/* The words up to NULL. */
__attribute__((sentinel)) static void add_all(struct words *w, ...)
{
    const char *text;
    va_list ap;

    va_start(ap, w);
    while ((text = va_arg(ap, const char *)))
        add(w, text);
    va_end(ap);
}

static void add_vector(struct words *w, char *const *v)
{
    for (; *v; v++)
        add(w, *v);
}

static void words_done(struct words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->v[i]);
    free(w->v);
    *w = (struct words){ 0 };
}
#define CLEANUP_WORDS CLEANUP(words_done)

static int give(struct words *w, char ***ret, struct ty_error *err)
{
    if (w->failed || !w->v)
        return ty_error_oom(err);
    *ret = w->v;
    *w = (struct words){ 0 };
    return 0;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- bubblewrap ---- */

/* Everything read-only, the places for scratch files and the user's folder empty, and the job's own at their places. */
static void sandbox(const struct ty_view *v, struct words *w)
{
    static const char *const empty[] = { "/tmp", "/var/tmp", NULL };

    add_all(w, v->tool.path, "--die-with-parent", "--ro-bind", "/", "/", "--dev-bind", "/dev",
            "/dev", NULL);
    for (const char *const *e = empty; *e; e++)
        if (exists(*e))
            add_all(w, "--tmpfs", *e, NULL);
    if (v->home && v->home[0] == '/' && v->home[1] && exists(v->home))
        add_all(w, "--tmpfs", v->home, NULL);
    for (const char *const *p = v->readable; p && *p; p++)
        if (exists(*p))
            add_all(w, "--ro-bind", *p, *p, NULL);
    if (v->hidden && exists(v->hidden))
        add_all(w, "--ro-bind", "/dev/null", v->hidden, NULL);
    for (const char *const *p = v->writable; p && *p; p++)
        if (exists(*p))
            add_all(w, "--bind", *p, *p, NULL);
    add_all(w, "--chdir", v->work, "--", NULL);
}

/* ---- podman and docker ---- */

/* What an image knows better, unless the user has said it. */
static bool image_knows(const struct ty_view *v, const char *name, size_t n)
{
    static const char *const own[] = { "PATH", "SHELL", "HOME", "USER", "LOGNAME", "LANG", NULL };

    for (const char *const *o = own + v->own_path; *o; o++)
        if (strlen(*o) == n && memcmp(*o, name, n) == 0)
            return !json_object_get(v->user_environment, *o);
    return false;
}

static void name_variables(const struct ty_view *v, char *const *env, struct words *w)
{
    for (; *env; env++) {
        size_t n = strcspn(*env, "=");

        if (!image_knows(v, *env, n))
            add_all(w, "--env", NULL), add_taken(w, ty_strf("%.*s", (int)n, *env));
    }
    if (!json_object_get(v->user_environment, "HOME"))
        add_all(w, "--env", NULL), add_taken(w, ty_strf("HOME=%s", v->tmp));
}

/* Is `path` one of those from `v` to `end` (NULL: to the list's end)? */
static bool is_among(const char *const *v, const char *const *end, const char *path)
{
    for (; v && v != end && *v; v++)
        if (strcmp(*v, path) == 0)
            return true;
    return false;
}

/* podman and docker refuse what is bound twice; an installation's packages lie where they are named, those of a build elsewhere. */
static void bind_all(const char *const *paths, const char *const *before, const char *mode,
                     struct words *w)
{
    for (const char *const *p = paths; p && *p; p++)
        if (exists(*p) && !is_among(paths, p, *p) && !is_among(before, NULL, *p))
            add_all(w, "--volume", NULL), add_taken(w, ty_strf("%s:%s%s", *p, *p, mode));
}

/* GPUs by the Container Device Interface, where its description is, else by the device files. */
static void podman_gpus(struct words *w)
{
    static const char *const files[] = { "/dev/nvidiactl", "/dev/nvidia-uvm",
                                         "/dev/nvidia-uvm-tools", NULL };

    if (exists("/etc/cdi/nvidia.yaml") || exists("/var/run/cdi/nvidia.yaml")) {
        add_all(w, "--device", "nvidia.com/gpu=all", NULL);
        return;
    }
    for (const char *const *f = files; *f; f++)
        if (exists(*f))
            add_all(w, "--device", *f, NULL);
    for (int i = 0; i < 64; i++) {
        char path[32];

        snprintf(path, sizeof path, "/dev/nvidia%d", i);
        if (exists(path))
            add_all(w, "--device", path, NULL);
    }
}

static unsigned long long largest_pid(void)
{
    CLEANUP_FREE char *text = NULL;
    unsigned long long n = ty_read_file("/proc/sys/kernel/pid_max", 64, &text, NULL) == 0
                               ? strtoull(text, NULL, 10)
                               : 0;

    return n ? n : 32768;
}

static void add_limit(struct words *w, const char *word, rlim_t soft, rlim_t hard, rlim_t most)
{
    add(w, "--ulimit");
    add_taken(w, ty_strf("%s=%llu:%llu", word, (unsigned long long)(soft < most ? soft : most),
                         (unsigned long long)(hard < most ? hard : most)));
}

/* podman would ask for more than this process may have, and itself goes down to as many processes as there can be pids. */
static void add_limits(struct words *w)
{
    struct rlimit files, processes;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY)
        add_limit(w, "nofile", files.rlim_cur, files.rlim_max, RLIM_INFINITY);
    if (getrlimit(RLIMIT_NPROC, &processes) == 0 && processes.rlim_max != RLIM_INFINITY)
        add_limit(w, "nproc", processes.rlim_cur, processes.rlim_max, largest_pid());
}

static void container(const struct ty_view *v, char *const *env, struct words *w)
{
    bool podman = v->tool.kind == TY_TOOL_PODMAN;

    add_all(w, v->tool.path, "run", "--rm", "--name", v->name, "--network", "host", "--pid", "host",
            "--workdir", v->work, "--entrypoint", "", "--security-opt", "label=disable", NULL);
    if (v->input)
        add(w, "--interactive");
    if (v->spec->shm_bytes > 0 && v->alone)
        add_all(w, "--shm-size", NULL),
            add_taken(w, ty_strf("%lld", (long long)v->spec->shm_bytes));
    else
        add_all(w, "--ipc", "host", NULL);
    if (podman)
        add_all(w, "--pull", "never", "--log-driver", "passthrough", NULL), add_limits(w);
    if (podman && v->uid != 0)
        add_all(w, "--userns", "keep-id", NULL);
    if (!podman)
        add_all(w, "--log-driver", "none", "--user", NULL),
            add_taken(w, ty_strf("%u:%u", (unsigned)v->uid, (unsigned)v->gid));
    if (v->gpu && podman)
        podman_gpus(w);
    else if (v->gpu)
        add_all(w, "--gpus", "all", NULL);
    bind_all(v->writable, NULL, "", w);
    bind_all(v->readable, v->writable, ":ro", w);
    name_variables(v, env, w);
    for (const char **a = v->spec->image_arguments; *a; a++)
        add(w, *a);
    add(w, v->spec->image);
}

/* ---- apptainer ---- */

/* An image of a registry has a scheme there; a file has not. */
static char *apptainer_image(const char *image)
{
    return strstr(image, "://") || image[0] == '/' ? strdup(image) : ty_strf("docker://%s", image);
}

/* It keeps PATH to itself, unless it is told. */
static void tell_path(char *const *env, struct words *w)
{
    for (; *env; env++)
        if (ty_starts_with(*env, "PATH="))
            add_all(w, "--env", *env, NULL);
}

static void apptainer(const struct ty_view *v, char *const *env, struct words *w)
{
    add_all(w, v->tool.path, "exec", "--pwd", v->work, "--home", v->tmp, NULL);
    if (v->gpu)
        add(w, "--nv");
    if (v->own_path)
        tell_path(env, w);
    for (const char *const *p = v->writable; p && *p; p++)
        if (exists(*p))
            add_all(w, "--bind", *p, NULL);
    for (const char *const *p = v->readable; p && *p; p++)
        if (exists(*p))
            add_all(w, "--bind", NULL), add_taken(w, ty_strf("%s:%s:ro", *p, *p));
    for (const char **a = v->spec->image_arguments; *a; a++)
        add(w, *a);
    add_taken(w, apptainer_image(v->spec->image));
}

/* ---- together ---- */

int ty_view_wrap(const struct ty_view *v, char *const *argv, char *const *env, char ***ret_argv,
                 char ***ret_env, struct ty_error *err)
{
    CLEANUP_WORDS struct words w = { 0 }, e = { 0 };
    char **wrapped = NULL;
    int r;

    switch (v->tool.kind) {
    case TY_TOOL_NONE:
        break;
    case TY_TOOL_BWRAP:
        sandbox(v, &w);
        break;
    case TY_TOOL_PODMAN:
    case TY_TOOL_DOCKER:
        container(v, env, &w);
        break;
    case TY_TOOL_APPTAINER:
        apptainer(v, env, &w);
        break;
    }
    add_vector(&w, argv);
    add_vector(&e, env);
    r = give(&w, &wrapped, err);
    if (r == 0)
        r = give(&e, ret_env, err);
    if (r < 0) {
        for (char **p = wrapped; p && *p; p++)
            free(*p);
        free(wrapped);
        return r;
    }
    *ret_argv = wrapped;
    return 0;
}

int ty_view_after(const struct ty_view *v, char ***ret, struct ty_error *err)
{
    CLEANUP_WORDS struct words w = { 0 };

    *ret = NULL;
    if (v->tool.kind == TY_TOOL_PODMAN)
        add_all(&w, v->tool.path, "rm", "--force", "--time", "0", "--ignore", v->name, NULL);
    else if (v->tool.kind == TY_TOOL_DOCKER)
        add_all(&w, v->tool.path, "rm", "--force", v->name, NULL);
    else
        return 0;
    return give(&w, ret, err);
}
