/* cmd_down.c - trainyard down: stop the daemon and wait until it has ended; runs go on
 *
 * A daemon that cannot be asked (of another version, or stuck) is sent SIGTERM: the kernel says
 * which process listens.
 */
#include "base/clock.h"
#include "base/proc.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define END_MS 30000

/* 0 it has ended, or -ETIMEDOUT. */
static int await_end(int pidfd)
{
    struct pollfd p = { .fd = pidfd, .events = POLLIN };
    int64_t until = ty_mono_us() + END_MS * INT64_C(1000);

    for (;;) {
        int64_t left = (until - ty_mono_us()) / 1000;

        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(&p, 1, (int)left) > 0)
            return 0;
    }
}

static int stop(struct ty_cli *cli, json_t **status, struct ty_error *err)
{
    struct ty_proc_id id;
    int pid = ty_client_daemon_pid(cli->client, err), r;
    CLEANUP_CLOSE int pidfd = -1;

    if (pid < 0)
        return pid == -ECONNREFUSED ? 0 : pid;
    if (ty_proc_identify(pid, &id) < 0 || (pidfd = ty_proc_open(&id)) < 0)
        return 0;
    r = ty_cli_get(cli, TY_ROUTE_status_get, NULL, status, err);
    if (r == 0)
        r = ty_client_daemon_stop(cli->client, NULL, NULL, err);
    if (r < 0 && r != -ECONNRESET && ty_proc_signal(&id, SIGTERM) < 0)
        return err->code;
    if (await_end(pidfd) < 0)
        return ty_error_set(
            err, -ETIMEDOUT,
            "the daemon (process %d) of '%s' did not end within %d s; 'kill -9 %d' is safe: nothing that "
            "was acknowledged is lost",
            pid, ty_client_home(cli->client), END_MS / 1000, pid);
    return 1;
}

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *status = NULL;
    struct ty_error err = { 0 };
    long long active;
    int r = ty_cli_client(cli, false, &err);

    if (r == 0)
        r = stop(cli, &status, &err);
    if (r == -ECONNREFUSED || r == 0) {
        fprintf(stderr, "no daemon runs\n");
        return TY_EXIT_OK;
    }
    if (r < 0)
        return ty_cli_fail(cli, &err);
    active = json_integer_value(json_object_get(json_object_get(status, "runs"), "active"));
    fprintf(stderr, "stopped the daemon of '%s'", ty_client_home(cli->client));
    if (active > 0)
        fprintf(stderr, "; %lld run%s go%s on without it", active, active == 1 ? "" : "s",
                active == 1 ? "es" : "");
    fputc('\n', stderr);
    return TY_EXIT_OK;
}

const struct ty_cli_command ty_cmd_down = {
    .name = "down",
    .usage = "",
    .summary = "Stop the daemon; runs go on and are taken up again by the next one",
    .run = run,
};
