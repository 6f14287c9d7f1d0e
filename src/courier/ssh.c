/* ssh.c - starting ssh, and bringing our agent to the other side of it */
#include "courier/ssh.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/proc.h"
#include "core/target_spec.h"
#include "courier/channel.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK "trainyard:"
#define ARGS_MAX 256
#define GREETING_MAX (256 * 1024) /* what a login shell may print before us */
#define REAP_US (1000 * 1000)
#define SSH_PROGRAM "/usr/bin/ssh"

/* In single quotes on the command line of a shell that may be any: no quote, no "!", no line end in it.  $1 is the hash, $2 the size
 * and $3 the folder.  The copy, whose name no other host of a shared folder takes, is renamed only when it is whole; `head` takes no byte too much. */
static const char script[] =
    "umask 077; d=$3; case $d in \"~/\"*) d=$HOME/${d#??};; \"\") d=${XDG_CACHE_HOME:-$HOME/.cache}/trainyard;; esac; "
    "a=$d/agents/$1/trainyard-agent; "
    "if test -x \"$a\"; then :; else "
    "mkdir -p \"$d/agents/$1\" || exit 71; t=$a.$(uname -n).$$; echo; echo " MARK "send; "
    "head -c $2 > \"$t\" || { rm -f \"$t\"; exit 72; }; "
    "if command -v sha256sum > /dev/null; then s=$(sha256sum < \"$t\"); "
    "test \"${s%% *}\" = $1 || { echo the agent did not arrive whole >&2; rm -f \"$t\"; exit 73; }; fi; "
    "chmod 700 \"$t\" && mv -f \"$t\" \"$a\" || exit 74; fi; "
    "test -x \"$a\" || { echo no program can be run from \"$d\" >&2; exit 75; }; "
    "touch -c \"$d/agents/$1\"; echo; echo " MARK "ready; exec \"$a\" remote \"$d\"";

static bool plain(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "/_.+,:=@%-~ ";

    return text[strspn(text, allowed)] == '\0';
}

/* Arguments grow from texts that this owns. */
struct args {
    const char *at[ARGS_MAX + 1];
    char *own[ARGS_MAX];
    int n, nown;
    bool failed;
};

static void add(struct args *a, const char *text)
{
    if (a->n == ARGS_MAX || !text)
        a->failed = true;
    else
        a->at[a->n++] = text;
}

static void add_own(struct args *a, char *text)
{
    if (text && a->nown < ARGS_MAX)
        a->own[a->nown++] = text;
    add(a, text);
}

static void args_done(struct args *a)
{
    for (int i = 0; i < a->nown; i++)
        free(a->own[i]);
}

/* "~/..." is of whom ssh runs as. */
static char *path_here(const char *path, const char *home)
{
    return ty_starts_with(path, "~/") ? ty_path_join(home, path + 2) : strdup(path);
}

static void build(struct args *a, const struct ty_target_spec *target, const struct ty_host *host,
                  const char *home, char *command)
{
    /* The first to say something wins: the target's options, then these, then the user's configuration. */
    static const char *const ours[] = { "-T",
                                        "-x",
                                        "-oBatchMode=yes",
                                        "-oConnectTimeout=10",
                                        "-oServerAliveInterval=3",
                                        "-oServerAliveCountMax=3",
                                        "-oControlMaster=no",
                                        "-oClearAllForwardings=yes",
                                        "-oRequestTTY=no",
                                        "-oRemoteCommand=none",
                                        "-oEscapeChar=none" };
    const json_t *option;
    size_t i;

    add(a, SSH_PROGRAM);
    if (target->ssh_config) {
        add(a, "-F");
        add_own(a, path_here(target->ssh_config, home));
    }
    json_array_foreach (target->ssh_options, i, option)
        add_own(a, ty_strf("-o%s", json_string_value(option)));
    for (i = 0; i < sizeof ours / sizeof *ours; i++)
        add(a, ours[i]);
    if (host->port > 0)
        add_own(a, ty_strf("-p%d", host->port));
    if (host->identity_file) {
        add(a, "-i");
        add_own(a, path_here(host->identity_file, home));
    }
    if (host->user)
        add_own(a, ty_strf("-l%s", host->user));
    add(a, "--");
    add(a, host->host);
    add_own(a, command);
    a->at[a->n] = NULL;
}

int ty_ssh_run(struct ty_ssh *s, const char *const *argv, const char *home,
               const struct ty_owner *owner, struct ty_error *err)
{
    const char *sock = getenv("SSH_AUTH_SOCK");
    CLEANUP_FREE char *home_text = ty_strf("HOME=%s", home);
    CLEANUP_FREE char *agent = sock && !owner ? ty_strf("SSH_AUTH_SOCK=%s", sock) : NULL;
    const char *env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", home_text, agent, NULL };
    int to[2], from[2], errs[2], r;

    if (!home_text)
        return ty_error_oom(err);
    if (pipe2(to, O_CLOEXEC) < 0)
        return ty_error_set(err, -errno, "cannot make a pipe: %m");
    if (pipe2(from, O_CLOEXEC) < 0) {
        r = ty_error_set(err, -errno, "cannot make a pipe: %m");
        close(to[0]), close(to[1]);
        return r;
    }
    if (pipe2(errs, O_CLOEXEC) < 0) {
        r = ty_error_set(err, -errno, "cannot make a pipe: %m");
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        return r;
    }
    struct ty_spawn spawn = { .argv = argv,
                              .envp = env,
                              .cwd = "/",
                              .in = to[0],
                              .out = from[1],
                              .err = errs[1],
                              .owner = owner };
    r = ty_spawn(&spawn, &s->pid, err);
    close(to[0]), close(from[1]), close(errs[1]);
    if (r < 0) {
        close(to[1]), close(from[0]), close(errs[0]);
        return r;
    }
    ty_flow_open(&s->flow, from[0], to[1]);
    ty_flow_open(&s->err, errs[0], errs[0]);
    return 0;
}

int ty_ssh_start(struct ty_ssh *s, const struct ty_target_spec *target, const struct ty_host *host,
                 const char *sha, const struct ty_owner *owner, struct ty_error *err)
{
    const char *folder = target->folder ? target->folder : "";
    const struct passwd *pw = owner ? NULL : getpwuid(getuid());
    const char *home = owner ? owner->home : pw ? pw->pw_dir : "/";
    struct args a = { 0 };
    struct stat st;
    int r;

    *s = (struct ty_ssh)TY_SSH_INIT;
    s->sha = sha;
    if (!plain(folder))
        return ty_error_set(
            err, -EINVAL,
            "the folder '%.200s' of the target has characters that do not go through every shell; "
            "name one of letters, digits, blanks and / _ . + , : = @ %% - ~",
            folder);
    if (owner && (target->ssh_config || json_array_size(target->ssh_options) > 0))
        return ty_error_set(
            err, -EINVAL,
            "a service of the whole machine runs ssh as the user of each run, and takes no "
            "ssh_config and ssh_options from a target; put them into the user's ~/.ssh/config");
    s->shell = true;
    s->agent = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (s->agent < 0 || fstat(s->agent, &st) < 0)
        r = ty_error_set(err, -errno, "cannot open our own program: %m");
    else
        r = 0;
    if (r == 0) {
        s->agent_left = (uint64_t)st.st_size;
        build(&a, target, host, home,
              ty_strf("exec /bin/sh -c '%s' sh %s %lld '%s'", script, sha, (long long)st.st_size,
                      folder));
        r = a.failed ? ty_error_oom(err) : ty_ssh_run(s, a.at, home, owner, err);
        if (r < 0 && !a.failed)
            ty_error_prefix(err, "the ssh client (openssh-client)");
    }
    args_done(&a);
    if (r < 0)
        ty_ssh_end(s);
    return r;
}

static int send_agent(struct ty_ssh *s, struct ty_error *err)
{
    char buf[64 * 1024];

    while (s->agent_left > 0 && ty_flow_unsent(&s->flow) < TY_CHANNEL_UNSENT_MAX) {
        ssize_t n =
            read(s->agent, buf, s->agent_left < sizeof buf ? (size_t)s->agent_left : sizeof buf);

        if (n <= 0)
            return ty_error_set(err, n < 0 ? -errno : -EIO, "cannot read our own program: %s",
                                n < 0 ? strerror(errno) : "it became shorter");
        ty_str_addn(&s->flow.unsent, buf, (size_t)n);
        s->agent_left -= (uint64_t)n;
    }
    return 0;
}

/* One line of what the other side printed: 1 the far end speaks from here on, 2 the agent is wanted. */
static int mark_of(const char *line, size_t n)
{
    if (n > 0 && line[n - 1] == '\r')
        n--;
    if (n == strlen(MARK "ready") && memcmp(line, MARK "ready", n) == 0)
        return 1;
    if (n == strlen(MARK "send") && memcmp(line, MARK "send", n) == 0)
        return 2;
    return 0;
}

static void skip_line(struct ty_ssh *s, const char *line, size_t n)
{
    s->skipped += n + 1;
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' '))
        n--;
    if (n > 0)
        snprintf(s->printed, sizeof s->printed, "%.*s", (int)(n < 190 ? n : 190), line);
}

int ty_ssh_greet(struct ty_ssh *s, struct ty_error *err)
{
    int r = ty_flow_read(&s->flow, GREETING_MAX);
    const char *end;

    while ((end = ty_flow_waiting(&s->flow)
                      ? memchr(ty_flow_bytes(&s->flow), '\n', ty_flow_waiting(&s->flow))
                      : NULL)) {
        const char *line = ty_flow_bytes(&s->flow);
        size_t n = (size_t)(end - line);
        int mark = mark_of(line, n);

        if (mark == 0)
            skip_line(s, line, n);
        ty_flow_use(&s->flow, n + 1);
        s->ready = mark == 1;
        if (s->ready)
            return 1;
        if (mark == 2)
            s->greeted = true;
    }
    if (ty_flow_waiting(&s->flow) + s->skipped >= GREETING_MAX)
        return ty_error_set(err, -EPROTO,
                            "its shell prints without end, and does not run a command; look at its "
                            "start-up files (~/.bashrc)");
    if (r == 0 && s->greeted && s->agent_left > 0)
        r = send_agent(s, err);
    if (r == 0)
        r = ty_flow_write(&s->flow);
    return r;
}

void ty_ssh_listen(struct ty_ssh *s)
{
    const char *end;

    ty_flow_read(&s->err, sizeof s->said * 4);
    while (ty_flow_waiting(&s->err)) {
        const char *line = ty_flow_bytes(&s->err);
        size_t n = ty_flow_waiting(&s->err), used;

        end = memchr(line, '\n', n);
        if (!end && n < sizeof s->said * 2 && !s->err.ended)
            break;
        used = end ? (size_t)(end - line) + 1 : n;
        n = end ? (size_t)(end - line) : n;
        while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' '))
            n--;
        if (n > 0)
            snprintf(s->said, sizeof s->said, "%.*s", (int)(n < 400 ? n : 400), line);
        s->other_key |= strstr(s->said, "HOST IDENTIFICATION HAS CHANGED") != NULL;
        ty_flow_use(&s->err, used);
    }
}

/* Reap it when it ends within a second. */
static bool reap(struct ty_ssh *s, int *status)
{
    for (int64_t end = ty_mono_us() + REAP_US; ty_mono_us() < end; usleep(5000)) {
        pid_t got = waitpid(s->pid, status, WNOHANG);

        if (got == s->pid || (got < 0 && errno != EINTR)) {
            s->pid = 0;
            return got > 0;
        }
    }
    return false;
}

/* What a person can do about what was said; "": that says it itself. */
static const char *advice(const struct ty_ssh *s)
{
    static const struct {
        const char *said, *advice;
    } known[] = {
        /* with the ways that the host would take in brackets: this is not about a file */
        { "Permission denied (",
          "ssh has to log in without asking: put a key there (ssh-copy-id), load it (ssh-add), or "
          "name the user and the key of this host" },
        { "Too many authentication failures",
          "name the key of this host, with the ssh option IdentitiesOnly=yes" },
        { "Could not resolve hostname",
          "look at the name, or give it a HostName in ~/.ssh/config" },
        { "Connection refused", "is sshd running there, and is the port right?" },
        { "Connection timed out", "is the machine on, and does the network lead to it?" },
        { "No route to host", "is the machine on, and does the network lead to it?" },
        { "Network is unreachable", "is this the right address?" },
        { "No space left on device", "make room there, or name another folder of the target" },
        { "Disk quota exceeded", "make room there, or name another folder of the target" },
        { "Read-only file system", "name another folder of the target" },
        { "cannot create directory", "name another folder of the target" },
        { "no program can be run from",
          "its file system is mounted noexec: name another folder of the target" },
    };

    if (strstr(s->said, "Host key verification failed"))
        return s->other_key
                   ? "it has another key than the known one: look whether it is the right machine, "
                     "remove the old key (ssh-keygen -R), and log in once by hand"
                   : "its key is not known here: log in once by hand, and accept it if it is the "
                     "right machine";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strstr(s->said, known[i].said))
            return known[i].advice;
    return "";
}

#define SSH_FAILED 255 /* ssh's own exit code: others are the command's */

/* It has let us in, and has not come to run our command. */
static void why_no_command(const struct ty_ssh *s, int status, char *buf, size_t n)
{
    char how[64];

    snprintf(
        buf, n,
        "its shell %s before it ran a command%s%s%s; look at its start-up files (~/.bashrc), and "
        "whether this account may run commands",
        ty_status_text(status, how), s->printed[0] ? ", and said '" : "", s->printed,
        s->printed[0] ? "'" : "");
}

void ty_ssh_why(struct ty_ssh *s, char *buf, size_t n)
{
    int status = 0;
    char how[64];
    bool reaped = s->pid > 0 && reap(s, &status);

    ty_ssh_listen(s);
    const char *mends = advice(s);
    size_t said = strlen(s->said);
    if (*mends && s->said[said - 1] == '.')
        said--;
    if (s->said[0])
        snprintf(buf, n, "%.*s%s%s", (int)said, s->said, *mends ? "; " : "", mends);
    else if (reaped && s->shell && !s->greeted && !s->ready && WIFEXITED(status) &&
             WEXITSTATUS(status) != SSH_FAILED)
        why_no_command(s, status, buf, n);
    else if (reaped && status != 0)
        snprintf(buf, n, "ssh %s", ty_status_text(status, how));
    else
        snprintf(buf, n, "the connection is broken");
}

void ty_ssh_end(struct ty_ssh *s)
{
    ty_flow_close(&s->flow);
    ty_flow_close(&s->err);
    if (s->agent >= 0)
        close(s->agent);
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        ty_wait(s->pid, NULL);
    }
    *s = (struct ty_ssh)TY_SSH_INIT;
}
