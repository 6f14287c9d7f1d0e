/* facts.c - asking this machine */
#include "courier/facts.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/gpu.h"
#include "base/proc.h"
#include "base/str.h"
#include "env/view.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef TY_VERSION
#define TY_VERSION "0"
#endif
#define PYTHON_US (10 * 1000 * 1000)
#define ANSWER_MAX 4096
#define PYTHONS_MAX 8

/* --- asking through a child --- */

/* Read what the child writes to `fd`, then end it: it may hang. */
static size_t answer(pid_t pid, int fd, char *buf, size_t cap)
{
    int64_t end = ty_mono_us() + PYTHON_US;
    size_t n = 0;

    while (n < cap - 1) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int64_t left = end - ty_mono_us();
        ssize_t got;

        if (left <= 0 || (poll(&p, 1, (int)(left / 1000) + 1) < 0 && errno != EINTR))
            break;
        if (!p.revents)
            continue;
        got = read(fd, buf + n, cap - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    buf[n] = '\0';
    kill(pid, SIGKILL);
    ty_wait(pid, NULL);
    return n;
}

static void tell_openmpi(int fd)
{
    int (*version)(char *, int *);
    void *lib = dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL);
    char text[8192] = "";
    int n = 0;

    if (!lib)
        _exit(0);
    version = (int (*)(char *, int *))dlsym(lib, "MPI_Get_library_version");
    if (version && version(text, &n) == 0) {
        text[sizeof text - 1] = '\0';
        if (write(fd, text, strlen(text)) < 0)
            _exit(1);
    }
    _exit(0);
}

/* "Open MPI v4.1.4, package: ..." -> "4.1.4" */
char *ty_facts_openmpi(char buf[64])
{
    char text[ANSWER_MAX], *at;
    int fds[2];
    pid_t pid;

    buf[0] = '\0';
    if (pipe2(fds, O_CLOEXEC) < 0)
        return buf;
    pid = fork();
    if (pid == 0)
        tell_openmpi(fds[1]);
    close(fds[1]);
    if (pid > 0 && answer(pid, fds[0], text, sizeof text) > 0) {
        at = ty_starts_with(text, "Open MPI v") ? text + strlen("Open MPI v") : text;
        snprintf(buf, 64, "%.*s", (int)strcspn(at, ", "), at);
    }
    close(fds[0]);
    return buf;
}

bool ty_facts_libpmix(void)
{
    void *lib = dlopen("libpmix.so.2", RTLD_LAZY | RTLD_LOCAL);

    if (lib)
        dlclose(lib);
    return lib != NULL;
}

/* --- interpreters --- */

/* Torch is looked up, not imported: that takes seconds. */
static const char ask[] =
    "import sys, json\n"
    "try:\n"
    "    from importlib.metadata import version\n"
    "    torch = version('torch')\n"
    "except Exception:\n"
    "    torch = ''\n"
    "print(json.dumps({'version': '%d.%d.%d' % sys.version_info[:3], 'torch': torch}))\n";

static json_t *ask_python(const char *path)
{
    const char *argv[] = { path, "-c", ask, NULL };
    const char *envp[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", NULL };
    struct ty_spawn spawn = { .argv = argv, .envp = envp, .cwd = "/", .in = -1, .err = -1 };
    char text[ANSWER_MAX];
    json_t *o = NULL;
    int fds[2];
    pid_t pid;
    size_t n;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return NULL;
    spawn.out = fds[1];
    int r = ty_spawn(&spawn, &pid, NULL);
    close(fds[1]);
    n = r == 0 ? answer(pid, fds[0], text, sizeof text) : 0;
    close(fds[0]);
    if (n == 0 || ty_json_parse(text, n, &o, NULL) < 0 || !json_is_object(o)) {
        json_decref(o);
        return NULL;
    }
    json_object_set_new(o, "path", json_string(path));
    return o;
}

static json_t *pythons(void)
{
    static const char *const below_home[] = { "miniconda3/bin/python3", "miniforge3/bin/python3",
                                              "anaconda3/bin/python3", ".venv/bin/python3" };
    static const char *const fixed[] = { "/usr/bin/python3", "/usr/local/bin/python3",
                                         "/opt/conda/bin/python3" };
    const struct passwd *pw = getpwuid(getuid());
    char real[PYTHONS_MAX][PATH_MAX];
    json_t *list = json_array();
    int n = 0;

    for (size_t i = 0; i < 7 && n < PYTHONS_MAX; i++) {
        CLEANUP_FREE char *path = i < 3              ? strdup(fixed[i])
                                  : pw && pw->pw_dir ? ty_path_join(pw->pw_dir, below_home[i - 3])
                                                     : NULL;
        bool known = false;
        json_t *o;

        if (!path || access(path, X_OK) < 0 || !realpath(path, real[n]))
            continue;
        for (int k = 0; k < n; k++)
            known |= strcmp(real[k], real[n]) == 0;
        /* The interpreter of an environment is a link to another one, and yet is another one. */
        known &= i < 3;
        if (!known && (o = ask_python(path))) {
            json_array_append_new(list, o);
            n++;
        }
    }
    return list;
}

static json_t *gpus(void)
{
    json_t *list = json_array();
    struct ty_gpu *g = NULL;
    int n = 0;

    if (ty_gpu_list(&g, &n) < 0)
        n = 0;
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:i s:s s:s s:I}", "index", g[i].index, "uuid",
                                              g[i].uuid, "name", g[i].name, "memory_mb",
                                              (json_int_t)g[i].memory_mb));
    free(g);
    ty_gpu_release();
    return list;
}

json_t *ty_facts(void)
{
    struct ty_proc_id me = { 0 };
    struct utsname u = { 0 };
    char openmpi[64];
    const char *images = ty_view_can_image();
    cpu_set_t set;

    CPU_ZERO(&set);
    uname(&u);
    ty_proc_identify(getpid(), &me);
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        CPU_SET(0, &set);
    return json_pack("{s:s s:s s:s s:i s:I s:o s:o s:b s:s s:s s:b s:s s:s}", "hostname",
                     u.nodename, "arch", u.machine, "glibc", gnu_get_libc_version(), "cpus",
                     CPU_COUNT(&set), "memory_mb",
                     (json_int_t)((int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) >> 20),
                     "gpus", gpus(), "python", pythons(), "libpmix", (int)ty_facts_libpmix(),
                     "openmpi", ty_facts_openmpi(openmpi), "images", images ? images : "",
                     "sandbox", (int)ty_view_can_sandbox(), "boot", me.boot, "agent", TY_VERSION);
}
