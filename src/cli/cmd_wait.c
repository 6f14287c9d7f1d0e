/* cmd_wait.c - trainyard wait: until runs have ended */
#include "base/clock.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include <errno.h>

/* The exit code of one run. */
static int wait_one(struct ty_cli *cli, const char *ref, int64_t deadline_us, struct ty_error *err)
{
    struct ty_cli_follow f = { .deadline_us = deadline_us };
    CLEANUP_FREE char *id = NULL;
    int r = ty_cli_run_id(cli, ref, &id, err), code;

    f.run = id;
    if (r == 0)
        r = ty_cli_follow(cli, &f, err);
    if (r == -ETIMEDOUT && deadline_us && ty_mono_us() >= deadline_us) {
        fprintf(stderr, "trainyard: run '%s' has not ended\n", id);
        return TY_EXIT_WAIT_TIMED_OUT;
    }
    if (r < 0)
        return ty_cli_fail(cli, err);
    code = ty_cli_run_code(f.end);
    if (ty_cli_flag(cli, "json"))
        ty_out_json(cli, f.end);
    else if (!ty_cli_flag(cli, "quiet"))
        ty_cli_run_outcome(f.end);
    json_decref(f.end);
    return code && !ty_cli_flag(cli, "exit-status") ? TY_EXIT_FAILED : code;
}

static int run(struct ty_cli *cli)
{
    const char *text = ty_cli_value(cli, "timeout");
    struct ty_error err = { 0 };
    int64_t us, deadline_us = 0;
    int code = TY_EXIT_OK, i;

    if (ty_cli_flag(cli, "exit-status"))
        cli->own_failure = TY_EXIT_OWN;
    if (text && ty_cli_parse_time(text, &us) < 0)
        return ty_cli_usage(cli, "--timeout '%s' is not a time such as 90, 10m or 1h30m", text);
    if (text)
        deadline_us = ty_mono_us() + us;
    if (ty_cli_client(cli, true, &err) < 0)
        return ty_cli_fail(cli, &err);
    ty_cli_catch_signals();
    for (i = 0; i < cli->nargs && code != TY_EXIT_WAIT_TIMED_OUT && !*ty_cli_stop(); i++) {
        int one = wait_one(cli, cli->args[i], deadline_us, &err);

        code = code && one != TY_EXIT_WAIT_TIMED_OUT ? code : one;
    }
    return code;
}

static const struct ty_cli_option options[] = {
    { 0, "timeout", "TIME", "give up after this time (exit code 124): 90, 10m, 1h30m" },
    { 0, "exit-status", NULL, "end with the job's own exit code" },
    { 'q', "quiet", NULL, "say nothing of the outcome" },
    TY_OPT_JSON,
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_wait = {
    .name = "wait",
    .usage = "[OPTIONS] RUN...",
    .summary = "Wait until runs have ended",
    .examples = "  trainyard wait --timeout 1h @last && echo done\n",
    .text =
        "RUN is an id, the beginning of one, or @last.\n"
        "Exit code: 0 all are Completed; 1 one is not; 124 the timeout passed.  With --exit-status: the job's own (128 + signal)\n"
        "of the first that is not Completed, and 125 for failures of this command.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .run = run,
};
