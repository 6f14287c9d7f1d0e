/* cmd_logs.c - trainyard logs: print a log, or follow it to the run's end */
#include "base/str.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include <errno.h>
#include <unistd.h>

#define TAIL_FIRST 65536 /* bytes looked at for --tail before more are */

/* How long the log is, or -ENOENT while there is none. */
static int64_t log_bytes(struct ty_cli *cli, const char *id, const char *log, struct ty_error *err)
{
    struct ty_place place = ty_place_run(id);
    CLEANUP_JSON json_t *files = NULL;
    const json_t *file;
    size_t i;
    int r = ty_files_list(cli, &place, NULL, &files, err);

    if (r < 0)
        return r;
    json_array_foreach (files, i, file)
        if (!strcmp(ty_out_str(file, "path"), log))
            return json_integer_value(json_object_get(file, "bytes"));
    return -ENOENT;
}

/* Where the last `lines` lines of text[0..n) begin; -1 when that is before text. */
static int64_t tail_start(const char *text, size_t n, int64_t lines)
{
    size_t at = n > 0 && text[n - 1] == '\n' ? n - 1 : n;

    if (lines == 0)
        return (int64_t)n;
    for (; at > 0; at--)
        if (text[at - 1] == '\n' && --lines == 0)
            return (int64_t)at;
    return -1;
}

/* The offset from which on `lines` lines are left of a log of `size` bytes. */
static int tail_offset(struct ty_cli *cli, const char *id, const char *log, int64_t size,
                       int64_t lines, int64_t *ret, struct ty_error *err)
{
    int64_t look = TAIL_FIRST;

    for (;; look *= 4) {
        int64_t from = size > look ? size - look : 0, at;
        CLEANUP_FREE char *query = ty_strf("offset=%lld", (long long)from);
        struct ty_call call = { .args = { id, log }, .query = query };
        struct ty_reply reply = { 0 };
        int r = query ? ty_client_file_get(cli->client, &call, &reply, err) : ty_error_oom(err);

        if (r < 0)
            return r;
        at = tail_start(reply.body, reply.len, lines);
        ty_reply_done(&reply);
        if (at >= 0 || from == 0) {
            *ret = at < 0 ? 0 : from + at;
            return 0;
        }
    }
}

static int no_log_yet(struct ty_cli *cli, const char *id, const char *log, struct ty_error *err)
{
    CLEANUP_JSON json_t *run = NULL;
    const char *why;

    if (strcmp(log, TY_DRIVER_LOG)) {
        ty_error_set(err, -ENOENT,
                     "run '%s' has no log '%s'; 'trainyard artifacts ls %s' lists its files", id,
                     log, id);
        return ty_cli_fail(cli, err);
    }
    if (ty_cli_run(cli, id, &run, err) < 0)
        return ty_cli_fail(cli, err);
    why = ty_out_str(run, "why");
    fprintf(stderr, "run '%s' has written no log; it is %s%s%s\n", id, ty_out_str(run, "state"),
            why[0] ? ": " : "", why);
    return TY_EXIT_OK;
}

static int print_log(struct ty_cli *cli, const char *id, const char *log, int64_t lines,
                     struct ty_error *err)
{
    struct ty_place place = ty_place_run(id);
    int64_t offset = 0, size = log_bytes(cli, id, log, err);
    int r = size < 0 && size != -ENOENT ? (int)size : 0;

    if (size == -ENOENT && !err->text[0])
        return no_log_yet(cli, id, log, err);
    if (size < 0)
        return ty_cli_fail(cli, err);
    if (lines >= 0)
        r = tail_offset(cli, id, log, size, lines, &offset, err);
    if (r == 0 && size > offset)
        r = ty_file_fetch(cli, &place, log, offset, STDOUT_FILENO, NULL, err);
    return r < 0 ? ty_cli_fail(cli, err) : TY_EXIT_OK;
}

static int follow_log(struct ty_cli *cli, const char *id, const char *log, int64_t lines,
                      struct ty_error *err)
{
    struct ty_cli_follow f = {
        .run = id, .log = log, .json = ty_cli_flag(cli, "json"), .states = true
    };
    int64_t size = lines >= 0 ? log_bytes(cli, id, log, err) : 0;
    int r = size < 0 && size != -ENOENT ? (int)size : 0;

    if (size == -ENOENT && err->text[0])
        return ty_cli_fail(cli, err);
    if (r == 0 && size > 0)
        r = tail_offset(cli, id, log, size, lines, &f.offset, err);
    ty_cli_catch_signals();
    if (r == 0)
        r = ty_cli_follow(cli, &f, err);
    if (r == -EINTR) {
        ty_cli_detached(id);
        return TY_EXIT_INTERRUPTED;
    }
    if (r < 0)
        return ty_cli_fail(cli, err);
    if (ty_cli_run_code(f.end) != TY_EXIT_OK)
        ty_cli_run_outcome(f.end);
    json_decref(f.end);
    return TY_EXIT_OK;
}

static int run(struct ty_cli *cli)
{
    const char *rank = ty_cli_value(cli, "rank"), *tail = ty_cli_value(cli, "tail"),
               *log = ty_cli_value(cli, "file");
    CLEANUP_FREE char *id = NULL;
    struct ty_error err = { 0 };
    int64_t lines = -1;

    if (rank && strcmp(rank, "0"))
        return ty_cli_usage(cli, "--rank '%s': a run has one process, rank 0", rank);
    if (tail && (ty_parse_i64(tail, &lines) < 0 || lines < 0))
        return ty_cli_usage(cli, "--tail '%s' is not a number of lines", tail);
    if (ty_cli_flag(cli, "json") && !ty_cli_flag(cli, "follow"))
        return ty_cli_usage(cli, "--json needs --follow: a log itself is no JSON");
    if (ty_cli_client(cli, true, &err) < 0 || ty_cli_run_id(cli, cli->args[0], &id, &err) < 0)
        return ty_cli_fail(cli, &err);
    log = log ? log : TY_DRIVER_LOG;
    return ty_cli_flag(cli, "follow") ? follow_log(cli, id, log, lines, &err)
                                      : print_log(cli, id, log, lines, &err);
}

static const struct ty_cli_option options[] = {
    { 'f', "follow", NULL, "go on until the run ends" },
    { 'n', "tail", "N", "begin with the last N lines" },
    { 0, "rank", "N", "of this process (a run has one: 0)" },
    { 0, "file", "NAME", "this log instead of " TY_DRIVER_LOG },
    { 0, "json", NULL, "with --follow: each event as one line of JSON" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_logs = {
    .name = "logs",
    .usage = "[OPTIONS] RUN",
    .summary = "Print the output of a run",
    .examples = "  trainyard logs @last\n"
                "  trainyard logs -f --tail 20 first_17\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  Ctrl-C ends the following, not the run.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .run = run,
};
