/* archive.c - running tar
 *
 * tar's exit code 1 says that a file changed while it was read: logs grow, and the copy of the database says how much of each counts.
 */
#include "cli/archive.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 200
#define SAID_MAX 4096

const char *ty_archive_option(const char *file)
{
    static const char *const kinds[][2] = { { ".tar", "--no-auto-compress" },
                                            { ".tar.gz", "--gzip" },
                                            { ".tgz", "--gzip" },
                                            { ".tar.zst", "--zstd" },
                                            { ".tar.xz", "--xz" } };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (ty_ends_with(file, kinds[i][0]))
            return kinds[i][1];
    return NULL;
}

static void show(const struct ty_cli *cli, const char *growing)
{
    struct stat st;
    char size[16];

    if (cli->err_terminal && growing && stat(growing, &st) == 0)
        fprintf(stderr, "\r%-12s", ty_show_bytes((uint64_t)st.st_size, size));
}

/* What it says until it ends. */
static void listen_to(const struct ty_cli *cli, int from, const char *growing, char said[SAID_MAX])
{
    size_t n = 0;

    for (;;) {
        struct pollfd p = { .fd = from, .events = POLLIN };
        char buf[512];
        ssize_t got;

        if (poll(&p, 1, LOOK_MS) == 0) {
            show(cli, growing);
            continue;
        }
        got = read(from, buf, sizeof buf);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        if ((size_t)got > SAID_MAX - 1 - n)
            got = (ssize_t)(SAID_MAX - 1 - n);
        memcpy(said + n, buf, (size_t)got);
        n += (size_t)got;
    }
    said[n] = '\0';
}

/* Its lines as one, without its name and without the last word, which is always the same. */
static const char *in_short(char *said)
{
    char *end = strstr(said, "/bin/tar: Error is not recoverable");

    if (end)
        *end = '\0';
    for (size_t n = strlen(said); n > 0 && said[n - 1] == '\n'; n--)
        said[n - 1] = '\0';
    for (char *line = said; (line = strchr(line, '\n'));)
        *line = ';';
    return ty_starts_with(said, "/bin/tar: ") ? said + strlen("/bin/tar: ") : said;
}

int ty_archive_run(struct ty_cli *cli, const char *const *argv, int out, const char *growing,
                   struct ty_error *err)
{
    CLEANUP_CLOSE int from = -1;
    static const char *const env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8",
                                       NULL };
    struct ty_spawn spawn = { .argv = argv, .envp = env, .in = -1, .out = out };
    char said[SAID_MAX] = "", how[64];
    int fds[2], status, r;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return ty_error_set(err, -errno, "cannot make a pipe: %m");
    from = fds[0];
    spawn.err = fds[1];
    r = ty_spawn(&spawn, &pid, err);
    close(fds[1]);
    if (r < 0)
        return ty_error_prefix(err, "starting tar");
    listen_to(cli, from, growing, said);
    ty_wait(pid, &status);
    if (cli->err_terminal && growing)
        fputs("\r            \r", stderr);
    if (WIFEXITED(status) && WEXITSTATUS(status) <= 1)
        return 0;
    return ty_error_set(err, -EIO, "tar %s: %s", ty_status_text(status, how),
                        *said ? in_short(said) : "it said nothing");
}
