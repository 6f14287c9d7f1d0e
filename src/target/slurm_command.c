/* slurm_command.c - starting commands of Slurm, and hearing what they have said */
#include "target/slurm_command.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/proc.h"
#include "base/program.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "target/slurm_ask.h"
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PLAIN_PATH "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
#define SAID_MAX (64 << 20)
#define SENTENCE 200

static const char *path_of(const struct ty_slurm_setting *where)
{
    const char *path = json_string_value(json_object_get(where->environment, "PATH"));

    return path && *path ? path : PLAIN_PATH;
}

char *ty_slurm_program(const struct ty_slurm_setting *where, const char *name, struct ty_error *err)
{
    char *path = ty_program_find(name, path_of(where));

    if (path)
        return path;
    ty_error_set(
        err, -ENOENT,
        "cannot find Slurm's program '%s' in %s; install Slurm's commands on this machine, or set "
        "PATH in the target's 'environment'",
        name, path_of(where));
    return NULL;
}

static bool add_variable(char **env, size_t *n, const char *name, const char *value)
{
    env[*n] = value ? ty_strf("%s=%s", name, value) : NULL;
    *n += env[*n] != NULL;
    return env[*n - (*n > 0)] != NULL;
}

/* PATH, the user's own variables, and those of the target. */
static char **environment_of(const struct ty_slurm_setting *where)
{
    const struct passwd *pw = where->owner ? NULL : getpwuid(geteuid());
    const char *name = where->owner ? where->owner->name : pw ? pw->pw_name : "root";
    const char *home = where->owner ? where->owner->home : pw ? pw->pw_dir : "/";
    char **env = calloc(json_object_size(where->environment) + 8, sizeof *env);
    const char *key;
    json_t *value;
    size_t n = 0;

    if (!env)
        return NULL;
    add_variable(env, &n, "PATH", path_of(where));
    add_variable(env, &n, "HOME", home);
    add_variable(env, &n, "USER", name);
    add_variable(env, &n, "LOGNAME", name);
    add_variable(env, &n, "LC_ALL", "C"); /* times and sentences as they are read here */
    json_object_foreach ((json_t *)where->environment, key, value)
        if (strcmp(key, "PATH") != 0)
            add_variable(env, &n, key, json_string_value(value));
    return env;
}

static int memory_file(const char *name, const void *bytes, size_t n)
{
    CLEANUP_CLOSE int fd = memfd_create(name, MFD_CLOEXEC);
    int r = fd < 0 ? -errno : 0;

    if (r == 0 && n > 0)
        r = ty_write_all(fd, bytes, n);
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    return r < 0 ? r : TAKE_FD(fd);
}

static void forget(struct ty_slurm_command *c)
{
    for (size_t i = 0; i < 3; i++) {
        int fd = (const int[]){ c->ended, c->out, c->err }[i];

        if (fd >= 0)
            close(fd);
    }
    *c = (struct ty_slurm_command)TY_SLURM_COMMAND_INIT;
}

int ty_slurm_command_start(struct ty_slurm_command *c, const struct ty_slurm_setting *where,
                           const char *const *argv, const void *input, size_t n,
                           struct ty_error *err)
{
    CLEANUP_FREE char *program =
        strchr(argv[0], '/') ? strdup(argv[0]) : ty_slurm_program(where, argv[0], err);
    CLEANUP_CLOSE int in = memory_file("input", input, n);
    char **env = environment_of(where);
    size_t argc = 0;
    int r;

    while (argv[argc])
        argc++;
    CLEANUP(ty_freep) char *list = calloc(argc + 1, sizeof(char *));
    const char **full = (const char **)(void *)list;
    *c = (struct ty_slurm_command)TY_SLURM_COMMAND_INIT;
    if (!program || !env || !list || in < 0) {
        ty_strv_free(env);
        return !program && err && err->code ? err->code : ty_error_oom(err);
    }
    memcpy(full, argv, argc * sizeof *full);
    full[0] = program;
    c->out = memory_file("said", NULL, 0);
    c->err = memory_file("complaint", NULL, 0);
    struct ty_spawn spawn = { .argv = full,
                              .envp = (const char *const *)env,
                              .cwd = "/",
                              .in = in,
                              .out = c->out,
                              .err = c->err,
                              .owner = where->owner };
    r = c->out < 0 || c->err < 0 ? ty_error_oom(err) : ty_spawn(&spawn, &c->pid, err);
    ty_strv_free(env);
    if (r == 0) {
        c->ended = (int)syscall(SYS_pidfd_open, c->pid, 0);
        if (c->ended < 0)
            r = ty_error_set(err, -errno, "cannot watch '%s': %m", argv[0]);
    }
    if (r < 0 && c->pid > 0)
        ty_slurm_command_kill(c);
    else if (r < 0)
        forget(c);
    return r;
}

static char *text_of(int fd)
{
    struct stat st;
    char *text;
    ssize_t n;

    if (fstat(fd, &st) < 0 || st.st_size > SAID_MAX || lseek(fd, 0, SEEK_SET) < 0)
        return NULL;
    text = malloc((size_t)st.st_size + 1);
    n = text ? ty_read_full(fd, text, (size_t)st.st_size) : -1;
    if (n < 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

int ty_slurm_command_end(struct ty_slurm_command *c, char **out, char **complaint)
{
    int status = -1;

    ty_wait(c->pid, &status);
    if (out)
        *out = text_of(c->out);
    if (complaint)
        *complaint = text_of(c->err);
    forget(c);
    return status == 0 ? 0 : -EREMOTEIO;
}

void ty_slurm_command_kill(struct ty_slurm_command *c)
{
    if (c->pid <= 0)
        return;
    kill(c->pid, SIGKILL);
    ty_slurm_command_end(c, NULL, NULL);
}

int ty_slurm_run(const struct ty_slurm_setting *where, const char *const *argv, int timeout_ms,
                 char **out, struct ty_error *err)
{
    struct ty_slurm_command c = TY_SLURM_COMMAND_INIT;
    CLEANUP_FREE char *said = NULL, *complaint = NULL;
    char sentence[SENTENCE];
    int r = ty_slurm_command_start(&c, where, argv, NULL, 0, err);

    if (r < 0)
        return r;
    struct pollfd p = { .fd = c.ended, .events = POLLIN };
    if (poll(&p, 1, timeout_ms) <= 0) {
        ty_slurm_command_kill(&c);
        return ty_error_set(err, -ETIMEDOUT, "'%s' did not answer within %d seconds", argv[0],
                            timeout_ms / 1000);
    }
    r = ty_slurm_command_end(&c, &said, &complaint);
    if (r < 0)
        return ty_error_set(
            err, r, "%s: %s", argv[0],
            ty_slurm_sentence(complaint ? complaint : "", sentence, sizeof sentence));
    if (!said)
        return ty_error_oom(err);
    *out = TAKE(said);
    return 0;
}
