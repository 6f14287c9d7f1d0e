/* cli.h - the frame of the command line: one table of commands, options, exit codes
 *
 * A command is one file with one `struct ty_cli_command`; commands.c lists them.  Parsing,
 * --help, completion and the man page come from that table.  What a command prints: data on
 * stdout, messages on stderr (out.h).
 */
#ifndef TY_CLI_H
#define TY_CLI_H
#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct ty_client;

/* clang-format off */
/*     name          code  meaning */
#define TY_CLI_EXITS(X) \
    X(OK,             0, "done") \
    X(FAILED,         1, "the job or the operation failed") \
    X(USAGE,          2, "the command line is wrong") \
    X(NOT_FOUND,      3, "there is no such run, file, target or datastore") \
    X(DENIED,         4, "not permitted") \
    X(CONFLICT,       5, "exists already, or its state forbids it") \
    X(NO_DAEMON,      6, "no daemon, or one of another version") \
    X(TIMED_OUT,      7, "the daemon did not answer in time") \
    X(WAIT_TIMED_OUT, 124, "wait --timeout passed before the runs ended") \
    X(OWN,            125, "run, rerun, attach, exec, or wait --exit-status, failed itself, or the job has no exit code; other codes are the job's own") \
    X(INTERRUPTED,    130, "ended by Ctrl-C, SIGTERM or SIGHUP (run, rerun, attach and wait --exit-status: 125)")
/* clang-format on */
#define X(name, code, meaning) TY_EXIT_##name = code,
enum ty_cli_exit { TY_CLI_EXITS(X) };
#undef X

struct ty_cli_option {
    char letter;      /* 0: none */
    const char *name; /* without "--" */
    const char *arg;  /* word for its value in the help; NULL: a flag */
    const char *help;
};
/* Options that several commands share. */
#define TY_OPT_JSON \
    { \
        0, "json", NULL, "print JSON" \
    }
#define TY_OPT_PLAIN \
    { \
        0, "plain", NULL, "separate columns by tabs; no heading, no colour" \
    }
#define TY_OPT_QUIET \
    { \
        'q', "quiet", NULL, "print names only" \
    }
#define TY_OPT_YES \
    { \
        'y', "yes", NULL, "do not ask" \
    }
#define TY_OPT_END \
    { \
        0, NULL, NULL, NULL \
    }

struct ty_cli;
struct ty_cli_command {
    const char *name;                    /* one word, or two: "data ls" */
    const char *usage;                   /* what follows the name */
    const char *summary;                 /* one line */
    const char *examples;                /* lines, each "  trainyard ..." */
    const char *text;                    /* further paragraphs of the help; NULL: none */
    const struct ty_cli_option *options; /* ends with TY_OPT_END */
    int min, max;                        /* positional arguments; max -1: any number */
    bool takes_command;             /* all words from the first positional one on are a command */
    int own_failure;                /* exit code of its own failures; 0: by kind */
    int (*run)(struct ty_cli *cli); /* the exit code */
};
extern const struct ty_cli_command
    *const ty_cli_commands[]; /* NULL-terminated, in the order of the help */

#define TY_CLI_VALUES_MAX 256
struct ty_cli {
    const struct ty_cli_command *command;
    char **args; /* positional, NULL-terminated */
    int nargs;
    struct {
        const struct ty_cli_option *option;
        const char *value;
    } values[TY_CLI_VALUES_MAX]; /* options in the order given */
    int nvalues;
    int own_failure;          /* as in the command; a command may change it */
    bool color, terminal;     /* of stdout */
    bool err_terminal;        /* stderr may show progress */
    int width;                /* of the terminal; 0: not one */
    struct ty_client *client; /* opened by ty_cli_client */
};

int ty_cli_main(int argc, char **argv);
/* Parse what follows the program's name.  0, or -1 and the exit code in *code (help was printed,
 * or an error). */
int ty_cli_parse(struct ty_cli *cli, int argc, char **argv, int *code);
int ty_cli_help(const struct ty_cli_command *command); /* to stdout; NULL: of the program.  0 */
bool ty_cli_help_group(
    const char *first); /* of the commands of two words that begin so; false: there are none */
extern const struct ty_cli_option ty_cli_global_options[];
const struct ty_cli_command *ty_cli_find(const char *first, const char *second, int *words);

bool ty_cli_flag(const struct ty_cli *cli, const char *option);
const char *ty_cli_value(const struct ty_cli *cli,
                         const char *option); /* the last one given, or NULL */
/* The n-th value of an option that may be repeated; NULL after the last. */
const char *ty_cli_nth(const struct ty_cli *cli, const char *option, int n);

/* Print the sentence on stderr; the exit code. */
int ty_cli_fail(const struct ty_cli *cli, const struct ty_error *err);
int ty_cli_usage(const struct ty_cli *cli, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The usage error for a command that is not there, with the one that was likely meant.  `second` may be NULL. */
int ty_cli_unknown(const struct ty_cli *cli, const char *first, const char *second);
/* The one of `commands` that does what other tools call `word`; NULL: none is known. */
const char *ty_cli_other_word(const char *word, const char *const *commands);
int ty_cli_exit_of(int code); /* of a negative errno */
/* The client, opened at the first call; `start`: start a daemon when none answers. */
int ty_cli_client(struct ty_cli *cli, bool start, struct ty_error *err);
/* Ask on the terminal.  1 yes; 0 no; -1 it cannot be asked (no terminal, --no-input). */
int ty_cli_ask(const struct ty_cli *cli, const char *question);
/* "90", "0.5", "90s", "10m", "1h30m", "2d" in microseconds; -EINVAL. */
int ty_cli_parse_time(const char *s, int64_t *ret);
#endif
