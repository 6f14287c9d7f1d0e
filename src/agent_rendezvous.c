/* agent_rendezvous.c - `trainyard-agent rendezvous OUT SIZE SECRET [HOST]`: where the ranks of a job find each other
 *
 * A process beside the runner, because it listens to the network: what comes from there never touches the one that
 * watches over the job.  It says its port through OUT, and ends when nobody reads there any more.
 */
#include "agent.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/str.h"
#include "coll/boot.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SECRET_MAX 128

static int descriptor(const char *text)
{
    int64_t n;

    if (ty_parse_i64(text, &n) < 0 || n < 3 || n > 1 << 20 ||
        fcntl((int)n, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return (int)n;
}

/* The reader's end was closed: the runner has gone, or is done. */
static void await_end(int out)
{
    struct pollfd p = { .fd = out };

    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

static int say(int out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(int out, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str line = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&line, fmt, ap);
    va_end(ap);
    ty_str_add(&line, "\n");
    return line.failed || write(out, line.text, line.len) != (ssize_t)line.len ? -1 : 0;
}

static int fail(int out, const struct ty_error *err)
{
    CLEANUP_STR struct ty_str text = { 0 };

    ty_str_add_json(&text, err->text, strlen(err->text));
    say(out, "{\"kind\":\"failed\",\"text\":%s}", text.text ? text.text : "\"\"");
    return 1;
}

int agent_rendezvous(int argc, char **argv)
{
    int out = argc >= 5 ? descriptor(argv[2]) : -1;
    CLEANUP_CLOSE int secret_fd = argc >= 5 ? descriptor(argv[4]) : -1;
    const char *host = argc >= 6 ? argv[5] : NULL;
    struct ty_rendezvous *server = NULL;
    char secret[SECRET_MAX + 1] = "";
    struct ty_error err = { 0 };
    int64_t size = 0;
    ssize_t n;

    if (out < 0 || secret_fd < 0 || ty_parse_i64(argv[3], &size) < 0 || size < 1 ||
        size > INT32_MAX) {
        ty_log(TY_LOG_ERROR, "'rendezvous' is started by the runner only");
        return 2;
    }
    prctl(PR_SET_NAME, "trainyard-meet");
    signal(SIGTERM, SIG_IGN); /* meant for the job, whose processes are all signalled */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    n = pread(secret_fd, secret, SECRET_MAX, 0);
    if (n <= 0)
        ty_error_set(&err, -EIO, "cannot read the secret of the processes");
    if (n <= 0 || ty_rendezvous_open(host, 0, secret, (int)size, &server, &err) < 0)
        return fail(out, &err);
    if (say(out, "{\"kind\":\"port\",\"port\":%d}", ty_rendezvous_port(server)) == 0)
        await_end(out);
    ty_rendezvous_free(server);
    return 0;
}
