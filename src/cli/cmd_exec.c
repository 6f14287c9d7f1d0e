/* cmd_exec.c - trainyard exec: a command beside the program of a running job
 *
 * This process becomes the command, so its exit code, its signals and the terminal are the
 * command's own.  The job's program is found by the pid in the run's event log, and known by the
 * run's id in its environment: everything is read through one descriptor of its folder in /proc,
 * which names that process and no later one of the same number.
 *
 * The command is no part of the job: without TRAINYARD_JOB nothing ends it with the job, and
 * without TRAINYARD_SPOOL_DIR it cannot log as the job.
 */
#include "base/fs.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include <errno.h>
#include <fcntl.h>

#define ENVIRONMENT_MAX_BYTES (64 << 20) /* more than the kernel gives to any program */

/* The job's program, as /proc has it. */
struct program {
    json_int_t pid;
    int proc, cwd; /* its folder in /proc, its working directory */
    char *text;    /* its environment, "NAME=value" after "NAME=value", each with its NUL */
    char **env;    /* the command's: NULL-terminated, pointing into text, and one into term */
    char *term;
};
#define PROGRAM_INIT \
    { \
        .proc = -1, .cwd = -1 \
    }

static void program_done(struct program *p)
{
    ty_closep(&p->proc);
    ty_closep(&p->cwd);
    free(p->env);
    free(p->text);
    free(p->term);
}
#define CLEANUP_PROGRAM CLEANUP(program_done)

/* ---- finding it ---- */

static void on_event(const json_t *event, void *ctx)
{
    json_int_t *pid = ctx;

    if (!strcmp(ty_out_str(event, "kind"), "started")) /* the last one is of this attempt */
        *pid = json_integer_value(json_object_get(json_object_get(event, "data"), "pid"));
}

static int find_pid(struct ty_cli *cli, const char *id, json_int_t *pid, struct ty_error *err)
{
    CLEANUP_JSON json_t *run = NULL;
    int r = ty_cli_run(cli, id, &run, err);

    if (r < 0)
        return r;
    if (strcmp(ty_out_str(run, "state"), "Running"))
        return ty_error_set(
            err, -EEXIST,
            "cannot run a command in run '%s': it is %s, and only a Running one has a place for it; "
            "'trainyard why %s' tells more",
            id, ty_out_str(run, "state"), id);
    r = ty_cli_run_events(cli, id, on_event, pid, err);
    if (r == 0 && *pid <= 0)
        r = ty_error_set(err, -EIO,
                         "cannot run a command in run '%s': its event log names no process", id);
    return r;
}

static int no_process(const char *id, json_int_t pid, int why, struct ty_error *err)
{
    if (why == -EACCES || why == -EPERM)
        return ty_error_set(
            err, why,
            "cannot run a command in run '%s': you may not look into its process %lld; only the user "
            "whose daemon runs it may, and root",
            id, (long long)pid);
    return ty_error_set(
        err, -ENOENT,
        "cannot run a command in run '%s': its process %lld is not on this machine, or "
        "has just ended",
        id, (long long)pid);
}

static int list_variables(struct program *p, size_t n, struct ty_error *err)
{
    size_t count = 0, at;

    for (at = 0; at < n; at += strlen(p->text + at) + 1)
        count++;
    p->env = calloc(count + 2, sizeof *p->env); /* room for TERM */
    if (!p->env)
        return ty_error_oom(err);
    for (at = count = 0; at < n; at += strlen(p->text + at) + 1)
        p->env[count++] = p->text + at;
    return 0;
}

static int open_process(const char *id, struct program *p, struct ty_error *err)
{
    char path[64];
    size_t n = 0;
    int r;

    snprintf(path, sizeof path, "/proc/%lld", (long long)p->pid);
    p->proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (p->proc < 0)
        return no_process(id, p->pid, -errno, err);
    p->cwd = openat(p->proc, "cwd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (p->cwd < 0)
        return no_process(id, p->pid, -errno, err);
    snprintf(path, sizeof path, "/proc/self/fd/%d/environ", p->proc);
    r = ty_read_file(path, ENVIRONMENT_MAX_BYTES, &p->text, &n);
    if (r < 0)
        return no_process(id, p->pid, r, err);
    return list_variables(p, n, err);
}

static bool carries(char *const *env, const char *name, const char *value)
{
    size_t n = strlen(name);

    for (; *env; env++)
        if (!strncmp(*env, name, n) && (*env)[n] == '=' && (!value || !strcmp(*env + n + 1, value)))
            return true;
    return false;
}

static int check_mark(const char *id, const struct program *p, struct ty_error *err)
{
    if (carries(p->env, "TRAINYARD_RUN_ID", id))
        return 0;
    return ty_error_set(
        err, -ENOENT,
        "cannot run a command in run '%s': process %lld does not carry TRAINYARD_RUN_ID=%s; the run's "
        "program has just ended, is on another machine, or has cleared its environment",
        id, (long long)p->pid, id);
}

/* ---- becoming the command ---- */

static void leave_out(char **env, const char *name)
{
    size_t n = strlen(name);
    char **to = env;

    for (; *env; env++)
        if (strncmp(*env, name, n) || (*env)[n] != '=')
            *to++ = *env;
    *to = NULL;
}

/* A job knows no terminal; a command that is typed at one does. */
static int add_term(const struct ty_cli *cli, struct program *p, struct ty_error *err)
{
    const char *term = getenv("TERM");
    char **end = p->env;

    if (!cli->terminal || !term || carries(p->env, "TERM", NULL))
        return 0;
    p->term = ty_strf("TERM=%s", term);
    if (!p->term)
        return ty_error_oom(err);
    while (*end)
        end++;
    end[0] = p->term;
    end[1] = NULL;
    return 0;
}

/* Returns only when it has failed. */
static int become(const char *id, const struct program *p, char **argv, struct ty_error *err)
{
    if (fchdir(p->cwd) < 0)
        return ty_error_set(err, -errno,
                            "cannot run '%s' in run '%s': cannot enter its working directory: %m",
                            argv[0], id);
    fflush(NULL);
    environ = p->env; /* execvp looks for the program on the PATH of the job */
    execvp(argv[0], argv);
    return ty_error_set(
        err, -errno,
        errno == ENOENT && !strchr(argv[0], '/')
            ? "cannot run '%s' in run '%s': no program of that name is on the job's PATH"
            : "cannot run '%s' in run '%s': %m",
        argv[0], id);
}

/* The words after RUN, without a "--" before them; NULL: there are none. */
static char **command_of(const struct ty_cli *cli)
{
    char **words = cli->args + 1;

    if (!strcmp(words[0], "--"))
        words++;
    return words[0] ? words : NULL;
}

static int run(struct ty_cli *cli)
{
    CLEANUP_FREE char *id = NULL;
    CLEANUP_PROGRAM struct program p = PROGRAM_INIT;
    struct ty_error err = { 0 };
    char **argv = command_of(cli);
    int r;

    if (!argv)
        return ty_cli_usage(cli, "'exec' needs a command after RUN --");
    if (argv == cli->args + 1 && argv[0][0] == '-')
        return ty_cli_usage(cli, "options such as '%s' come before RUN, a command after '--'",
                            argv[0]);
    r = ty_cli_client(cli, true, &err);
    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, &err);
    if (r == 0)
        r = find_pid(cli, id, &p.pid, &err);
    if (r == 0)
        r = open_process(id, &p, &err);
    if (r == 0)
        r = check_mark(id, &p, &err);
    if (r == 0) {
        leave_out(p.env, "TRAINYARD_JOB");
        leave_out(p.env, "TRAINYARD_SPOOL_DIR");
        r = add_term(cli, &p, &err);
    }
    if (r == 0)
        become(id, &p, argv, &err);
    return ty_cli_fail(cli, &err);
}

const struct ty_cli_command ty_cmd_exec = {
    .name = "exec",
    .usage = "RUN -- COMMAND [ARGUMENTS]",
    .summary = "Run a command where a running job runs: its folder, its environment",
    .examples =
        "  trainyard exec @last -- ls -l outputs\n"
        "  trainyard exec @last -- bash\n"
        "  trainyard exec first_17 -- python3 -c 'import torch; print(torch.__version__)'\n",
    .text =
        "RUN is an id, the beginning of one, or @last; it must be Running, on this machine.  The command has the working directory\n"
        "and the environment of the job's program, and your terminal; of your own environment it has TERM alone, at a terminal.\n"
        "It is no part of the job: it uses none of its slots, it is not ended with it (the folder vanishes when the run ends),\n"
        "and what it logs is not recorded: it has neither TRAINYARD_JOB nor TRAINYARD_SPOOL_DIR.  The exit code is the command's\n"
        "own; Trainyard's own failures give 125.\n",
    .min = 2,
    .max = -1,
    .takes_command = true,
    .own_failure = TY_EXIT_OWN,
    .run = run,
};
