/* cmd_status.c - trainyard status: is there a daemon, and how is it */
#include "base/clock.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"

static long long number(const json_t *o, const char *part, const char *key)
{
    return json_integer_value(json_object_get(part ? json_object_get(o, part) : o, key));
}

static void print_status(const json_t *s)
{
    const char *store = ty_out_str(s, "store");
    char since[16], db[16], disk[16];

    ty_out_duration(ty_wall_us() - ty_out_time(json_object_get(s, "started")), since);
    printf("daemon   trainyard %s, process %lld, up %s\n", ty_out_str(s, "version"),
           number(s, NULL, "pid"), since);
    printf("home     %s\n", ty_out_str(s, "home"));
    printf("runs     %lld active, %lld queued, %lld in all\n", number(s, "runs", "active"),
           number(s, "runs", "queued"), number(s, "runs", "total"));
    printf("slots    %lld of %lld CPUs in use%s\n", number(s, "slots", "used"),
           number(s, "slots", "cpus"),
           json_is_true(json_object_get(s, "queue_paused")) ? "; the queue is paused" : "");
    printf("store    %s; database %s, %s free\n", store[0] ? store : "ok",
           ty_show_bytes((uint64_t)number(s, NULL, "db_bytes"), db),
           ty_show_bytes((uint64_t)number(s, NULL, "free_bytes"), disk));
}

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *status = NULL;
    struct ty_error err = { 0 };
    int r = ty_cli_client(cli, false, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_status_get, NULL, &status, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        r = ty_out_json(cli, status);
    else
        print_status(status);
    return r ? r : strcmp(ty_out_str(status, "store"), "ok") ? TY_EXIT_FAILED : TY_EXIT_OK;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_status = {
    .name = "status",
    .usage = "",
    .summary = "Show how the daemon is (starts none)",
    .text = "Exit code: 0 it serves and can write; 1 it cannot write; 6 none runs.\n",
    .options = options,
    .run = run,
};
