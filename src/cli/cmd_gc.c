/* cmd_gc.c - trainyard gc: remove what nothing refers to */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"

static int run(struct ty_cli *cli)
{
    struct ty_call call = { .silence_ms = -1 }; /* a large store takes its time */
    CLEANUP_JSON json_t *report = NULL;
    struct ty_error err = { 0 };
    char freed[16], kept[16];
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_gc_run, &call, &report, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, report);
#define N(key) ((long long)json_integer_value(json_object_get(report, key)))
    printf("removed %lld files (%s), %lld runs, %lld snapshots; kept %lld files (%s)\n",
           N("blobs_removed"), ty_show_bytes((uint64_t)N("bytes_removed"), freed),
           N("runs_removed"), N("snapshots_removed"), N("blobs_kept"),
           ty_show_bytes((uint64_t)N("bytes_kept"), kept));
#undef N
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_gc = {
    .name = "gc",
    .usage = "",
    .summary = "Remove what nothing refers to, and runs past their retention",
    .options = options,
    .run = run,
};
