/* cmd_doctor.c - trainyard doctor: what a first run needs, checked one by one, each with what
 * mends it
 *
 * It starts no daemon and changes nothing.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/program.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/doctor.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/start_daemon.h"
#include "client/stubs.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#define FREE_MIN (1000u * 1000 * 1000) /* below it, a warning */
#define PROBE_MS 20000                 /* an interpreter on a slow disk */

static const char *const verdict_words[] = { "ok", "warning", "failed" };

void doctor_note(struct doctor *d, const char *check, enum verdict v, const char *fix,
                 const char *fmt, ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    json_array_append_new(d->checks,
                          json_pack("{ssssssss*}", "check", check, "result", verdict_words[v],
                                    "text", text.text ? text.text : "", "fix", fix));
    d->worst = v > d->worst ? v : d->worst;
}

/* The nearest folder that exists, at or above `path`; cut in place. */
static void existing(char *path)
{
    char *slash;

    while (access(path, F_OK) < 0 && (slash = strrchr(path, '/')) != NULL && slash != path)
        *slash = '\0';
    if (access(path, F_OK) < 0)
        path[1] = '\0';
}

static void check_home(struct doctor *d, const char *home)
{
    CLEANUP_FREE char *at = strdup(home);
    const char *network;
    uint64_t left;
    char size[16];

    if (!at)
        return;
    existing(at);
    if (ty_home_is_system(home))
        doctor_note(d, "state folder", GOOD, NULL,
                    "'%s', of the daemon for all users of this machine", home);
    else if (access(at, W_OK | X_OK) < 0)
        doctor_note(d, "state folder", BAD, "set TRAINYARD_HOME to a folder that you may write to",
                    "'%s' cannot be used: '%s' cannot be written: %s", home, at, strerror(errno));
    else
        doctor_note(d, "state folder", GOOD, NULL, strcmp(at, home) ? "'%s' will be made" : "'%s'",
                    home);
    network = ty_fs_network_kind(at);
    if (network)
        doctor_note(d, "file system", BAD, "set TRAINYARD_HOME to a folder on a local disk",
                    "the state folder lies on %s, where neither the database nor the socket works",
                    network);
    left = ty_fs_free_bytes(at);
    if (left && left < FREE_MIN)
        doctor_note(d, "disk", DOUBT, "free some space; 'trainyard gc' removes what no run needs",
                    "only %s are free", ty_show_bytes(left, size));
    else
        doctor_note(d, "disk", GOOD, NULL, "%s free", ty_show_bytes(left, size));
}

/* The daemon replays the events of every run; under a daemon for all users that is root's to ask for. */
static void check_store(struct doctor *d)
{
    CLEANUP_JSON json_t *check = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_get(d->cli, TY_ROUTE_store_check, NULL, &check, &err);
    long long runs = json_integer_value(json_object_get(check, "runs"));

    if (r == -EACCES || r == -EPERM)
        doctor_note(d, "event log", GOOD, NULL, "not looked at: %s", err.text);
    else if (r < 0)
        doctor_note(d, "event log", BAD, "see daemon.log in the state folder", "%s", err.text);
    else if (json_integer_value(json_object_get(check, "differ")) > 0)
        doctor_note(
            d, "event log", BAD,
            "keep a copy of the state folder and report it; `trainyard rm` removes that run",
            "%lld of %lld runs differ: %s",
            (long long)json_integer_value(json_object_get(check, "differ")), runs,
            ty_out_str(check, "first"));
    else
        doctor_note(d, "event log", GOOD, NULL, "agrees with the tables, %lld run%s", runs,
                    runs == 1 ? "" : "s");
}

static void check_daemon(struct doctor *d)
{
    CLEANUP_FREE char *program = NULL;
    CLEANUP_JSON json_t *status = NULL;
    struct ty_error err = { 0 };
    int r = ty_daemon_find(NULL, &program, &err);

    if (r < 0)
        doctor_note(d, "daemon program", BAD,
                    "build or install trainyardd beside trainyard, or set TRAINYARD_DAEMON", "%s",
                    err.text);
    else
        doctor_note(d, "daemon program", GOOD, NULL, "%s", program);
    r = ty_cli_client(d->cli, false, &err);
    if (r == 0)
        r = ty_cli_get(d->cli, TY_ROUTE_status_get, NULL, &status, &err);
    if (r == -ECONNREFUSED)
        doctor_note(d, "daemon", GOOD, NULL,
                    "none runs; the first command that needs one starts it");
    else if (r == -EACCES)
        doctor_note(d, "daemon", BAD, "set TRAINYARD_HOME to a folder of your own", "%s", err.text);
    else if (r < 0)
        doctor_note(d, "daemon", BAD, "trainyard down && trainyard up", "%s", err.text);
    else if (strcmp(ty_out_str(status, "store"), "ok"))
        doctor_note(d, "daemon", BAD,
                    "free space on its disk, or see daemon.log in the state folder",
                    "it runs, but cannot write: %s", ty_out_str(status, "store"));
    else
        doctor_note(d, "daemon", GOOD, NULL, "trainyard %s runs, process %lld",
                    ty_out_str(status, "version"),
                    (long long)json_integer_value(json_object_get(status, "pid")));
    if (r == 0)
        check_store(d);
    if (r == 0)
        doctor_slurm(d, ty_cli_value(d->cli, "write"));
}

bool doctor_first_line(const char *const *argv, char *line, size_t size)
{
    CLEANUP_CLOSE int from = -1;
    int fds[2], status = -1;
    int64_t until = ty_mono_us() + PROBE_MS * INT64_C(1000);
    size_t n = 0;
    bool ended = false;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return false;
    from = fds[0];
    if (ty_spawn(&(struct ty_spawn){ .argv = argv, .in = -1, .out = fds[1], .err = -1 }, &pid,
                 NULL) < 0) {
        close(fds[1]);
        return false;
    }
    close(fds[1]);
    while (!ended && ty_mono_us() < until) {
        struct pollfd p = { .fd = from, .events = POLLIN };
        ssize_t got = poll(&p, 1, PROBE_MS) > 0 ? read(from, line + n, size - 1 - n) : -1;

        ended = got == 0 || n == size - 1;
        n += got > 0 ? (size_t)got : 0;
    }
    if (!ended)
        kill(pid, SIGKILL);
    ty_wait(pid, &status);
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return ended && status == 0;
}

/* True when the interpreter has torch. */
static bool check_python(struct doctor *d, const char *python)
{
    static const char code[] =
        "import sys, importlib.util as u\n"
        "v = '%d.%d.%d' % sys.version_info[:3]\n"
        "if not u.find_spec('torch'): print(v, '-')\n"
        "else:\n"
        "    try:\n"
        "        import importlib.metadata as m; print(v, m.version('torch'))\n"
        "    except Exception: print(v, 'torch')\n";
    const char *argv[] = { python, "-c", code, NULL };
    char line[128], *torch;

    if (!doctor_first_line(argv, line, sizeof line) || !(torch = strchr(line, ' '))) {
        doctor_note(d, "python", DOUBT, NULL, "'%s' does not run", python);
        return false;
    }
    *torch++ = '\0';
    if (!strcmp(torch, "-"))
        doctor_note(
            d, "python", GOOD, NULL,
            "'%s' is Python %s, without torch: a command that begins with python3 uses the first "
            "one on PATH",
            python, line);
    else
        doctor_note(d, "python", GOOD, NULL, "'%s' is Python %s with torch %s", python, line,
                    torch);
    return strcmp(torch, "-") != 0;
}

static void check_pythons(struct doctor *d)
{
    CLEANUP_FREE char *python = ty_program_find("python3", NULL);
    bool system = access("/usr/bin/python3", X_OK) == 0, torch = false;

    if (python)
        torch = check_python(d, python);
    if (system && (!python || strcmp(python, "/usr/bin/python3")))
        torch = check_python(d, "/usr/bin/python3") || torch;
    if (!torch)
        doctor_note(
            d, "torch", DOUBT,
            "sudo apt install python3-torch, or pip install torch in an environment of yours",
            "no interpreter with torch was found; jobs that do not import it run all the same");
}

static void check_configuration(struct doctor *d)
{
    struct ty_conf *conf = NULL;
    struct ty_error err = { 0 };

    if (ty_conf_load(".", &conf, &err) < 0)
        doctor_note(d, "configuration", BAD,
                    "correct that file or variable; docs/configuration.md lists the options", "%s",
                    err.text);
    else
        doctor_note(d, "configuration", GOOD, NULL, "readable");
    ty_conf_free(conf);
}

static void check_cpus(struct doctor *d)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        doctor_note(d, "cpus", GOOD, NULL, "%d", CPU_COUNT(&set));
}

static void print_checks(const struct ty_cli *cli, const json_t *checks)
{
    static const char *const colors[] = { "\033[32m", "\033[33m", "\033[31m" };
    const json_t *c;
    size_t i;

    json_array_foreach (checks, i, c) {
        const char *result = ty_out_str(c, "result"), *fix = ty_out_str(c, "fix");
        int v = !strcmp(result, "ok") ? GOOD : !strcmp(result, "warning") ? DOUBT : BAD;

        printf("%s%-8s%s %-14s %s\n", cli->color ? colors[v] : "", result,
               cli->color ? "\033[0m" : "", ty_out_str(c, "check"), ty_out_str(c, "text"));
        if (fix[0])
            printf("%-23s to mend it: %s\n", "", fix);
    }
}

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *report = json_pack("{s[]}", "checks");
    CLEANUP_FREE char *home = NULL;
    struct doctor d = { .cli = cli, .checks = json_object_get(report, "checks") };
    struct ty_error err = { 0 };

    if (ty_client_find_home(ty_cli_value(cli, "home"), &home, &err) < 0)
        doctor_note(&d, "state folder", BAD, "set TRAINYARD_HOME", "%s", err.text);
    else
        check_home(&d, home);
    check_configuration(&d);
    check_daemon(&d);
    check_pythons(&d);
    doctor_tools(&d);
    check_cpus(&d);
    if (ty_cli_flag(cli, "json"))
        ty_out_json(cli, report);
    else
        print_checks(cli, d.checks);
    return d.worst == BAD ? TY_EXIT_FAILED : TY_EXIT_OK;
}

static const struct ty_cli_option options[] = {
    { 0, "write", "DIR", "write a proposal for Slurm's power saving there" },
    TY_OPT_JSON,
    TY_OPT_END
};

const struct ty_cli_command ty_cmd_doctor = {
    .name = "doctor",
    .usage = "",
    .summary = "Check what a first run needs, and say what mends it",
    .text = "Exit code: 1 when a check failed.\n",
    .options = options,
    .run = run,
};
