/* runs.h - runs as commands see them: found by a name or part of one, fetched, followed */
#ifndef TY_CLI_RUNS_H
#define TY_CLI_RUNS_H
#include "base/json.h"
#include "cli/cli.h"

#define TY_DRIVER_LOG "azureml-logs/70_driver_log.txt"
#define TY_FOLLOW_RANKS_MAX 256 /* whose logs are followed at once */

/* The id of the run that `ref` names: an id, the only id that begins so, or "@last", the latest
 * run.  malloc'ed. -ENOENT none, -EINVAL several (the text lists them). */
int ty_cli_run_id(struct ty_cli *cli, const char *ref, char **ret, struct ty_error *err);
/* A reply's body as JSON; `call` as for ty_client_route. */
struct ty_call;
int ty_cli_get(struct ty_cli *cli, int route, const struct ty_call *call, json_t **ret,
               struct ty_error *err);
/* Of commands `rm NAME...`: remove each by that route, and say on stderr "<said> '<name>'<more>".  The exit code: of the first failure. */
int ty_cli_remove_each(struct ty_cli *cli, int route, const char *said, const char *more);
/* RUN of an id. */
int ty_cli_run(struct ty_cli *cli, const char *id, json_t **ret, struct ty_error *err);
/* Tell fn of each event of a run's log ({"seq", "at", "kind", "data"}, docs/spec/event-log.md), in
 * order. */
int ty_cli_run_events(struct ty_cli *cli, const char *id,
                      void (*fn)(const json_t *event, void *ctx), void *ctx, struct ty_error *err);
/* Processes of a RUN in all, from 1 on. */
int64_t ty_cli_run_size(const json_t *run);
/* What an ended run's shell sees: its exit code, 128 + signal, TY_EXIT_OWN when it has none that
 * tells of its failure. */
int ty_cli_run_code(const json_t *run);
/* What mends a run that ended for want of a Python module, told from the last lines of its log; NULL: nothing is known.  The
 * caller's to free. */
char *ty_cli_run_advice(const json_t *run);
/* "run 'x' Failed: <message>" on stderr, and the advice. */
void ty_cli_run_outcome(const json_t *run);

/* Following one run to its end, over restarts of the daemon. */
struct ty_lines;
struct ty_cli_follow {
    const char *run;
    const char *log; /* NULL: states only */
    int64_t offset;  /* of the log, to begin with */
    bool
        ranks; /* of a run of several processes the logs of all instead: lines with "[rank] " before them */
    const int64_t *offsets; /* of their logs, to begin with; NULL: from their beginnings */
    int noffsets;
    struct ty_lines *only; /* with ranks: lines that match; NULL: every line */
    bool now;            /* end with what there is now; `end` is set when the run has ended, too */
    int64_t deadline_us; /* CLOCK_MONOTONIC; 0: none */
    bool json;           /* print each event as a line of JSON instead of the log's bytes */
    bool states;         /* tell of states on stderr */
    int (*print)(const char *bytes, size_t n, void *ctx); /* the log's bytes; NULL: to stdout */
    void *print_ctx;
    bool rows;   /* also what is logged as metrics: "rows" events */
    bool system; /* these are what is sampled of the machines, instead */
    /* Told of each event but "log", whose result ends the following when negative; NULL: none. */
    int (*hear)(const char *event, const json_t *data, void *ctx);
    void *hear_ctx;
    json_t *end; /* out: RUN, owned by the caller */
};
/* 0 and f->end; -EINTR after ty_cli_catch_signals() and a Ctrl-C; -ETIMEDOUT the deadline; and
 * others. */
int ty_cli_follow(struct ty_cli *cli, struct ty_cli_follow *f, struct ty_error *err);
/* As `run` after the submission: the driver's log on stdout (--json: events), states on stderr, a
 * detachment that says so.  The exit code: the job's own, or TY_EXIT_OWN. */
int ty_cli_follow_to_end(struct ty_cli *cli, const char *run);
/* From now on SIGINT, SIGTERM and SIGHUP end what is being waited for, and the program ends in
 * its own way. */
void ty_cli_catch_signals(void);
const volatile int *ty_cli_stop(void); /* non-zero after such a signal; for ty_call.stop */
/* Say on stderr that the run goes on, and with which commands it is looked after. */
void ty_cli_detached(const char *run);
#endif
