/* cmd_logs.c - trainyard logs: print a log, or follow it to the run's end */
#include "base/clock.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/lines.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/launch_plan.h"
#include <errno.h>
#include <unistd.h>

#define TAIL_FIRST 65536 /* bytes looked at for --tail before more are */

/* What is asked for. */
struct want {
    const char *id, *log;
    int64_t lines;         /* the last ones; -1: all */
    char since[32];        /* a time, or "" */
    struct ty_lines *only; /* NULL: every line */
    int64_t rank;          /* of this process; -1: of all */
    int ranks;             /* how many logs there are to merge; 0: `log` alone */
    int64_t offsets[TY_FOLLOW_RANKS_MAX];
    char name[TY_DRIVER_LOG_MAX]; /* what `log` may be */
};

static int list_files(struct ty_cli *cli, const struct want *w, json_t **ret, struct ty_error *err)
{
    CLEANUP_FREE char *query = w->since[0] ? ty_strf("since=%s", w->since) : NULL;
    struct ty_call call = { .args = { w->id }, .query = query };

    return ty_cli_get(cli, TY_ROUTE_file_list, &call, ret, err);
}

/* How long the log is, and where that begins which came since; -ENOENT when it is not in the list. */
static int find_log(const json_t *list, const struct want *w, const char *log, int64_t *size,
                    int64_t *since, struct ty_error *err)
{
    const json_t *file;
    size_t i;

    json_array_foreach (json_object_get(list, "files"), i, file) {
        if (strcmp(ty_out_str(file, "path"), log))
            continue;
        if (w->since[0] && !json_is_integer(json_object_get(file, "offset")))
            return ty_error_set(
                err, -EINVAL,
                "'%s' of run '%s' is no log; --since knows when logs were written alone", log,
                w->id);
        *size = json_integer_value(json_object_get(file, "bytes"));
        *since = json_integer_value(json_object_get(file, "offset"));
        return 0;
    }
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

/* Where to begin: at the later of what --tail and --since say.  As find_log. */
static int find_start(struct ty_cli *cli, const struct want *w, const json_t *list, const char *log,
                      int64_t *size, int64_t *ret, struct ty_error *err)
{
    int64_t since = 0, tail = 0;
    int r = find_log(list, w, log, size, &since, err);

    if (r == 0 && w->lines >= 0 && *size > since)
        r = tail_offset(cli, w->id, log, *size, w->lines, &tail, err);
    if (r == 0)
        *ret = tail > since ? tail : since;
    return r;
}

/* The same for the logs of all ranks; those that are not there yet begin at their beginning.  -ENOENT: none is there. */
static int find_starts(struct ty_cli *cli, struct want *w, const json_t *list, struct ty_error *err)
{
    int found = 0, r = 0;
    int64_t size;

    for (int i = 0; i < w->ranks && r == 0; i++) {
        char log[TY_DRIVER_LOG_MAX];

        r = find_start(cli, w, list, ty_driver_log(i, 2, log), &size, &w->offsets[i], err);
        found += r == 0;
        if (r == -ENOENT && !err->text[0])
            r = 0;
    }
    return r < 0 ? r : found ? 0 : -ENOENT;
}

static int no_log_yet(struct ty_cli *cli, const struct want *w, struct ty_error *err)
{
    CLEANUP_JSON json_t *run = NULL;
    char build[TY_DRIVER_LOG_MAX];
    const char *why;

    if (strcmp(w->log, TY_DRIVER_LOG) && w->log != w->name) {
        ty_error_set(err, -ENOENT,
                     "run '%s' has no log '%s'; 'trainyard artifacts ls %s' lists its files", w->id,
                     w->log, w->id);
        return ty_cli_fail(cli, err);
    }
    if (ty_cli_run(cli, w->id, &run, err) < 0)
        return ty_cli_fail(cli, err);
    why = ty_out_str(run, "why");
    fprintf(stderr, "run '%s' has written no log; it is %s%s%s\n", w->id, ty_out_str(run, "state"),
            why[0] ? ": " : "", why);
    if (ty_starts_with(why, "building") ||
        strcmp(ty_out_str(json_object_get(run, "error"), "code"), "EnvironmentBuildFailed") == 0)
        fprintf(stderr, "'trainyard logs --file %s %s' shows what the build says\n",
                ty_build_log(0, build), w->id);
    return TY_EXIT_OK;
}

static int filter(const char *bytes, size_t n, void *ctx)
{
    return ty_lines_feed(ctx, bytes, n);
}

/* What is left of the last line, when the log ends. */
static int end_lines(const struct want *w, int r, struct ty_error *err)
{
    int last = w->only ? ty_lines_end(w->only) : 0;

    if ((r < 0 && err->text[0]) || (r == 0 && last == 0))
        return r;
    return ty_error_set(err, r < 0 ? r : last,
                        "cannot write the log of run '%s' to standard output", w->id);
}

static int print_log(struct ty_cli *cli, const struct want *w, struct ty_error *err)
{
    CLEANUP_JSON json_t *list = NULL;
    struct ty_place place = ty_place_run(w->id);
    int64_t offset = 0, size = 0;
    int r = list_files(cli, w, &list, err);

    if (r == 0)
        r = find_start(cli, w, list, w->log, &size, &offset, err);
    if (r == -ENOENT && !err->text[0])
        return no_log_yet(cli, w, err);
    if (r == 0 && size > offset)
        r = w->only ? ty_file_read(cli, &place, w->log, offset, filter, w->only, NULL, err)
                    : ty_file_fetch(cli, &place, w->log, offset, STDOUT_FILENO, NULL, err);
    r = end_lines(w, r, err);
    return r < 0 ? ty_cli_fail(cli, err) : TY_EXIT_OK;
}

/* Follow one log, or those of all ranks, to the run's end, or print what there is of the latter. */
static int follow_log(struct ty_cli *cli, struct want *w, struct ty_error *err)
{
    CLEANUP_JSON json_t *list = NULL;
    bool follow = ty_cli_flag(cli, "follow");
    struct ty_cli_follow f = { .run = w->id,
                               .log = w->log,
                               .ranks = w->ranks > 0,
                               .only = w->only,
                               .now = !follow,
                               .json = ty_cli_flag(cli, "json"),
                               .states = follow,
                               .print = w->only ? filter : NULL,
                               .print_ctx = w->only };
    int64_t size;
    int r = 0;

    if (!follow || w->lines >= 0 || w->since[0]) {
        r = list_files(cli, w, &list, err);
        if (r == 0)
            r = w->ranks ? find_starts(cli, w, list, err)
                         : find_start(cli, w, list, w->log, &size, &f.offset, err);
        f.offsets = w->offsets;
        f.noffsets = w->ranks;
    }
    if (r == -ENOENT && !err->text[0] && !follow)
        return no_log_yet(cli, w, err);
    if (r < 0 && (r != -ENOENT || err->text[0]))
        return ty_cli_fail(cli, err);
    ty_cli_catch_signals();
    r = ty_cli_follow(cli, &f, err);
    if (r == -EINTR) {
        if (w->only)
            ty_lines_end(w->only);
        ty_cli_detached(w->id);
        return TY_EXIT_INTERRUPTED;
    }
    r = end_lines(w, r, err);
    if (r < 0)
        return ty_cli_fail(cli, err);
    if (follow && ty_cli_run_code(f.end) != TY_EXIT_OK)
        ty_cli_run_outcome(f.end);
    json_decref(f.end);
    return TY_EXIT_OK;
}

/* "10m" ago, or a time; the time as the service wants it. */
static int read_since(const char *text, char ret[32])
{
    int64_t us;

    if (ty_cli_parse_time(text, &us) == 0)
        us = us < ty_wall_us() ? ty_wall_us() - us : 0;
    else if (ty_time_parse(text, true, &us) < 0)
        return -EINVAL;
    ty_time_iso(us, ret);
    return 0;
}

/* 0 or an exit code. */
static int read_words(struct ty_cli *cli, struct want *w, struct ty_lines *lines)
{
    const char *rank = ty_cli_value(cli, "rank"), *tail = ty_cli_value(cli, "tail"),
               *log = ty_cli_value(cli, "file"), *since = ty_cli_value(cli, "since"),
               *grep = ty_cli_value(cli, "grep");
    char why[256];

    w->lines = -1;
    w->log = log;
    w->rank = -1;
    if (rank && strcmp(rank, "all") && (ty_parse_i64(rank, &w->rank) < 0 || w->rank < 0))
        return ty_cli_usage(cli, "--rank '%s' is neither a number from 0 on nor 'all'", rank);
    if (rank && log)
        return ty_cli_usage(cli, "--rank and --file both name a log; give one of them");
    if (tail && (ty_parse_i64(tail, &w->lines) < 0 || w->lines < 0))
        return ty_cli_usage(cli, "--tail '%s' is not a number of lines", tail);
    if (ty_cli_flag(cli, "json") && !ty_cli_flag(cli, "follow"))
        return ty_cli_usage(cli, "--json needs --follow: a log itself is no JSON");
    if (ty_cli_flag(cli, "json") && grep)
        return ty_cli_usage(cli, "--grep chooses lines, and --json prints none");
    if (since && read_since(since, w->since) < 0)
        return ty_cli_usage(
            cli,
            "--since '%s' is neither a time ago such as 10m nor a time such as 2026-11-23T11:52",
            since);
    if (!grep)
        return ty_cli_flag(cli, "ignore-case") ? ty_cli_usage(cli, "--ignore-case needs --grep")
                                               : 0;
    if (ty_lines_open(lines, grep, ty_cli_flag(cli, "ignore-case"), why, sizeof why) < 0)
        return ty_cli_usage(cli, "--grep '%s' is no regular expression: %s", grep, why);
    w->only = lines;
    return 0;
}

/* Which log, or those of how many ranks, when no --file says it. */
static int choose_log(struct ty_cli *cli, struct want *w, struct ty_error *err)
{
    CLEANUP_JSON json_t *run = NULL;
    int64_t size;
    int r = w->log ? 0 : ty_cli_run(cli, w->id, &run, err);

    if (w->log || r < 0)
        return r;
    size = ty_cli_run_size(run);
    if (w->rank >= size)
        return size == 1
                   ? ty_error_set(err, -EINVAL, "run '%s' has one process, rank 0", w->id)
                   : ty_error_set(err, -EINVAL, "run '%s' has %lld processes, ranks 0 to %lld",
                                  w->id, (long long)size, (long long)size - 1);
    w->log = ty_driver_log(w->rank < 0 ? 0 : (int)w->rank, size > 1 ? 2 : 1, w->name);
    if (size > 1 && w->rank < 0)
        w->ranks = size < TY_FOLLOW_RANKS_MAX ? (int)size : TY_FOLLOW_RANKS_MAX;
    if (w->ranks > 0 && w->ranks < size)
        fprintf(stderr, "trainyard: the logs of ranks 0 to %d; --rank N gives another one\n",
                w->ranks - 1);
    return 0;
}

static int run(struct ty_cli *cli)
{
    CLEANUP(ty_lines_done) struct ty_lines lines = { 0 };
    CLEANUP_FREE char *id = NULL;
    struct want w = { 0 };
    struct ty_error err = { 0 };
    int code = read_words(cli, &w, &lines);

    if (code)
        return code;
    if (ty_cli_client(cli, true, &err) < 0 || ty_cli_run_id(cli, cli->args[0], &id, &err) < 0)
        return ty_cli_fail(cli, &err);
    w.id = id;
    if (choose_log(cli, &w, &err) < 0)
        return ty_cli_fail(cli, &err);
    return w.ranks || ty_cli_flag(cli, "follow") ? follow_log(cli, &w, &err)
                                                 : print_log(cli, &w, &err);
}

static const struct ty_cli_option options[] = {
    { 'f', "follow", NULL, "go on until the run ends" },
    { 'n', "tail", "N", "begin with the last N lines" },
    { 0, "since", "TIME",
      "only what came since: 10m, 2h, or 2026-11-23T11:52 (local; with Z: UTC)" },
    { 0, "grep", "REGEX", "only lines that match this POSIX extended regular expression" },
    { 'i', "ignore-case", NULL, "with --grep: a letter matches its capital, too" },
    { 0, "rank", "N|all",
      "of this process, or of all, each line with \"[rank] \" before it (default: all)" },
    { 0, "file", "NAME", "this log instead of the output" },
    { 0, "json", NULL, "with --follow: each event as one line of JSON" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_logs = {
    .name = "logs",
    .usage = "[OPTIONS] RUN",
    .summary = "Print the output of a run",
    .examples = "  trainyard logs @last\n"
                "  trainyard logs -f --tail 20 first_17\n"
                "  trainyard logs --rank 3 @last\n"
                "  trainyard logs --since 10m --grep 'loss|error' -i @last\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  Ctrl-C ends the following, not the run.  --since and "
        "--tail\nsay where to begin, --grep what is printed of it.  The times of a log are those at which the service\n"
        "received it, to a second.  Of a run of several processes, whole lines of all come in the order in which the\n"
        "service received them; --tail says then how many of each.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .run = run,
};
