/* cli.c - the frame of the command line: finding the command, reading its options, help, exit codes */
#include "cli/cli.h"
#include "base/cleanup.h"
#include "base/conf.h"
#include "base/str.h"
#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <trainyard/client.h>
#include <unistd.h>

#define WORDS_MAX 128 /* commands, or options of one command, that a typo is compared with */

/* Options that every command has. */
const struct ty_cli_option ty_cli_global_options[] = {
    { 'h', "help", NULL, "show this help" },
    { 0, "home", "DIR", "state folder, instead of TRAINYARD_HOME" },
    { 0, "no-color", NULL, "no colour (also NO_COLOR, TERM=dumb)" },
    { 0, "no-input", NULL, "never ask" },
    { 'V', "version", NULL, "print the version" },
    TY_OPT_END,
};

int ty_cli_exit_of(int code)
{
    switch (code) {
    case -ENOENT:
        return TY_EXIT_NOT_FOUND;
    case -EACCES:
    case -EPERM:
        return TY_EXIT_DENIED;
    case -EEXIST:
        return TY_EXIT_CONFLICT;
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -EPROTO:
        return TY_EXIT_NO_DAEMON;
    case -ETIMEDOUT:
        return TY_EXIT_TIMED_OUT;
    case -EINTR:
        return TY_EXIT_INTERRUPTED;
    default:
        return TY_EXIT_FAILED;
    }
}

int ty_cli_fail(const struct ty_cli *cli, const struct ty_error *err)
{
    fflush(stdout);
    fprintf(stderr, "trainyard: %s\n",
            err->text[0] ? err->text : strerror(err->code < 0 ? -err->code : EIO));
    return cli->own_failure ? cli->own_failure : ty_cli_exit_of(err->code);
}

int ty_cli_usage(const struct ty_cli *cli, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "trainyard: %s%s 'trainyard %s%s--help'\n", text.text ? text.text : fmt,
            text.text && ty_ends_with(text.text, "?") ? " See" : "; see",
            cli->command ? cli->command->name : "", cli->command ? " " : "");
    return cli->own_failure ? cli->own_failure : TY_EXIT_USAGE;
}

/* ---- values of options ---- */

const char *ty_cli_nth(const struct ty_cli *cli, const char *option, int n)
{
    int i;

    for (i = 0; i < cli->nvalues; i++)
        if (!strcmp(cli->values[i].option->name, option) && n-- == 0)
            return cli->values[i].value ? cli->values[i].value : "";
    return NULL;
}

const char *ty_cli_value(const struct ty_cli *cli, const char *option)
{
    int i;

    for (i = cli->nvalues - 1; i >= 0; i--)
        if (!strcmp(cli->values[i].option->name, option))
            return cli->values[i].value ? cli->values[i].value : "";
    return NULL;
}

bool ty_cli_flag(const struct ty_cli *cli, const char *option)
{
    return ty_cli_value(cli, option) != NULL;
}

/* Seconds with at most six decimals, and nothing after them. */
static int parse_plain_seconds(const char *s, int64_t *ret)
{
    size_t whole = strspn(s, "0123456789"),
           decimals = s[whole] == '.' ? strspn(s + whole + 1, "0123456789") : 0, i;
    int64_t us = 0, unit = 100000;

    if (whole == 0 || whole > 11 || decimals > 6 || (s[whole] == '.' && !decimals) ||
        s[whole + (decimals ? decimals + 1 : 0)])
        return -EINVAL;
    for (i = 0; i < whole; i++)
        us = us * 10 + (s[i] - '0') * INT64_C(1000000);
    for (i = 0; i < decimals; i++, unit /= 10)
        us += (s[whole + 1 + i] - '0') * unit;
    *ret = us;
    return 0;
}

int ty_cli_parse_time(const char *s, int64_t *ret)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };
    int64_t total = 0;
    size_t from = 0;

    if (parse_plain_seconds(s, ret) == 0)
        return 0;
    if (!*s)
        return -EINVAL;
    while (*s) {
        size_t digits = strspn(s, "0123456789"), i;
        int64_t n = 0;

        if (digits == 0 || digits > 6)
            return -EINVAL;
        for (i = 0; i < digits; i++)
            n = n * 10 + (s[i] - '0');
        s += digits;
        for (i = from; i < 4 && units[i].unit != *s; i++)
            ;
        if (!*s || i == 4)
            return -EINVAL;
        total += n * units[i].seconds * 1000000;
        from = i + 1;
        s++;
    }
    *ret = total;
    return 0;
}

/* ---- finding the command ---- */

const struct ty_cli_command *ty_cli_find(const char *first, const char *second, int *words)
{
    int i;

    for (i = 0; ty_cli_commands[i]; i++) {
        const char *name = ty_cli_commands[i]->name;
        size_t n = strlen(first);

        *words = strchr(name, ' ') ? 2 : 1;
        if (*words == 1 && !strcmp(name, first))
            return ty_cli_commands[i];
        if (*words == 2 && second && !strncmp(name, first, n) && name[n] == ' ' &&
            !strcmp(name + n + 1, second))
            return ty_cli_commands[i];
    }
    *words = 0;
    return NULL;
}

/* The second words of the commands that begin with `first`, as "ls, put or get"; false when
 * there are none. */
static bool second_words(const char *first, struct ty_str *list, const char *words[WORDS_MAX])
{
    size_t n = strlen(first);
    int i, k = 0;

    for (i = 0; ty_cli_commands[i] && k < WORDS_MAX - 1; i++) {
        const char *name = ty_cli_commands[i]->name;

        if (!strncmp(name, first, n) && name[n] == ' ')
            words[k++] = name + n + 1;
    }
    words[k] = NULL;
    for (i = 0; i < k; i++)
        ty_str_addf(list, "%s%s", i == 0 ? "" : i + 1 < k ? ", " : " or ", words[i]);
    return k > 0;
}

int ty_cli_unknown(const struct ty_cli *cli, const char *first, const char *second)
{
    CLEANUP_STR struct ty_str list = { 0 };
    const char *words[WORDS_MAX], *near;
    int i, k = 0;

    if (second_words(first, &list, words)) {
        near = second ? ty_cli_other_word(second, words) : NULL;
        near = near || !second ? near : ty_nearest(second, words);
        if (!second)
            return ty_cli_usage(cli, "'%s' needs one of %s after it", first, list.text);
        return ty_cli_usage(cli,
                            near ? "no command '%s %s'; did you mean '%s %s'?"
                                 : "no command '%s %s'; after '%s' comes %s",
                            first, second, first, near ? near : list.text);
    }
    for (i = 0; ty_cli_commands[i] && k < WORDS_MAX - 1; i++)
        words[k++] = ty_cli_commands[i]->name;
    words[k] = NULL;
    near = ty_cli_other_word(first, words);
    near = near ? near : ty_nearest(first, words);
    if (near)
        return ty_cli_usage(cli, "no command '%s'; did you mean '%s'?", first, near);
    return ty_cli_usage(cli, "no command '%s'", first);
}

/* ---- reading options ---- */

static const struct ty_cli_option *find_in(const struct ty_cli_option *o, const char *name,
                                           size_t n, char letter)
{
    for (; o && o->name; o++)
        if (letter ? o->letter == letter : strlen(o->name) == n && !strncmp(o->name, name, n))
            return o;
    return NULL;
}

static const struct ty_cli_option *find_option(const struct ty_cli *cli, const char *name, size_t n,
                                               char letter)
{
    const struct ty_cli_option *o =
        cli->command ? find_in(cli->command->options, name, n, letter) : NULL;

    return o ? o : find_in(ty_cli_global_options, name, n, letter);
}

static int unknown_option(const struct ty_cli *cli, const char *given, size_t n)
{
    const char *words[WORDS_MAX], *near;
    CLEANUP_FREE char *name = ty_strf("%.*s", (int)n, given);
    const struct ty_cli_option *o;
    int k = 0;

    for (o = cli->command ? cli->command->options : NULL; o && o->name && k < WORDS_MAX - 1; o++)
        words[k++] = o->name;
    for (o = ty_cli_global_options; o->name && k < WORDS_MAX - 1; o++)
        words[k++] = o->name;
    words[k] = NULL;
    near = name ? ty_nearest(name, words) : NULL;
    if (near)
        return ty_cli_usage(cli, "no option '--%s'; did you mean '--%s'?", name, near);
    return ty_cli_usage(cli, "no option '--%s'", name ? name : given);
}

/* Note one option; 0 or an exit code. */
static int add_value(struct ty_cli *cli, const struct ty_cli_option *o, const char *value)
{
    if (cli->nvalues == TY_CLI_VALUES_MAX)
        return ty_cli_usage(cli, "more than %d options", TY_CLI_VALUES_MAX);
    cli->values[cli->nvalues].option = o;
    cli->values[cli->nvalues++].value = value;
    return 0;
}

static int read_long(struct ty_cli *cli, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const struct ty_cli_option *o = find_option(cli, name, n, 0);

    if (!o)
        return unknown_option(cli, name, n);
    if (!o->arg)
        return eq ? ty_cli_usage(cli, "'--%s' takes no value", o->name) : add_value(cli, o, NULL);
    if (!eq && !argv[*i + 1])
        return ty_cli_usage(cli, "'--%s' needs a value (%s)", o->name, o->arg);
    return add_value(cli, o, eq ? eq + 1 : argv[++*i]);
}

static int read_letters(struct ty_cli *cli, char **argv, int *i)
{
    const char *p = argv[*i] + 1;
    int r = 0;

    for (; *p && r == 0; p++) {
        const struct ty_cli_option *o = find_option(cli, NULL, 0, *p);

        if (!o)
            return ty_cli_usage(cli, "no option '-%c'", *p);
        if (!o->arg) {
            r = add_value(cli, o, NULL);
            continue;
        }
        if (!p[1] && !argv[*i + 1])
            return ty_cli_usage(cli, "'-%c' needs a value (%s)", o->letter, o->arg);
        return add_value(cli, o, p[1] ? p + 1 : argv[++*i]);
    }
    return r;
}

/* Read options and positional arguments from argv[i] on.  Before the command is known, stop at
 * the first word. */
static int read_words(struct ty_cli *cli, char **argv, int *i)
{
    bool only_words = false;
    int r = 0;

    for (; argv[*i] && r == 0; ++*i) {
        char *word = argv[*i];

        if (only_words || word[0] != '-' || !word[1]) {
            if (!cli->command)
                return 0;
            cli->args[cli->nargs++] = word;
            only_words = only_words || cli->command->takes_command;
        } else if (!strcmp(word, "--")) {
            only_words = true;
        } else if (word[1] == '-') {
            r = read_long(cli, argv, i);
        } else {
            r = read_letters(cli, argv, i);
        }
    }
    return r;
}

static int check_count(const struct ty_cli *cli)
{
    const struct ty_cli_command *c = cli->command;

    if (cli->nargs < c->min)
        return ty_cli_usage(cli, "'%s' needs %s", c->name, c->usage);
    if (c->max >= 0 && cli->nargs > c->max)
        return c->max == 0 ? ty_cli_usage(cli, "'%s' takes no argument '%s'", c->name, cli->args[0])
                           : ty_cli_usage(cli, "'%s' does not know what to do with '%s'", c->name,
                                          cli->args[c->max]);
    return 0;
}

/* --no-color, then NO_COLOR and TERM (in `usual`), then cli.color.  A configuration that cannot
 * be read is not told of here: `doctor` and whatever depends on it do. */
static bool wants_color(const struct ty_cli *cli, bool usual)
{
    struct ty_conf *conf = NULL;
    const char *no_color = getenv("NO_COLOR"), *word;

    if (ty_cli_flag(cli, "no-color") || (no_color && *no_color))
        return false;
    if (ty_conf_load(".", &conf, NULL) < 0)
        return usual;
    word = ty_conf_text(conf, "cli.color");
    usual = !strcmp(word, "always") || (usual && strcmp(word, "never"));
    ty_conf_free(conf);
    return usual;
}

static void look_at_terminal(struct ty_cli *cli)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM"), *columns = getenv("COLUMNS");
    bool dumb = !term || !*term || !strcmp(term, "dumb");
    struct winsize w;
    int64_t n;

    cli->terminal = isatty(1);
    cli->err_terminal = isatty(2) && !dumb;
    cli->color = wants_color(cli, cli->terminal && !dumb && !(no_color && *no_color));
    if (cli->terminal && columns && ty_parse_i64(columns, &n) == 0 && n >= 20 && n < 10000)
        cli->width = (int)n;
    else if (cli->terminal && ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20)
        cli->width = w.ws_col;
}

/* The command's name, which may be two words, at argv[*i]. */
static int read_command(struct ty_cli *cli, char **argv, int *i)
{
    int words;

    cli->command = ty_cli_find(argv[*i], argv[*i + 1], &words);
    if (!cli->command)
        return ty_cli_unknown(cli, argv[*i],
                              argv[*i + 1] && argv[*i + 1][0] != '-' ? argv[*i + 1] : NULL);
    *i += words;
    cli->own_failure = cli->command->own_failure;
    return 0;
}

/* The whole line.  0, or an exit code when that is all there is to do; *stop is then set. */
static int read_line(struct ty_cli *cli, char **argv, bool *stop)
{
    int i = 0, r = read_words(cli, argv, &i), words;

    *stop = true;
    if (r == 0 && argv[i] && argv[i + 1] &&
        (!strcmp(argv[i + 1], "--help") || !strcmp(argv[i + 1], "-h")) &&
        !ty_cli_find(argv[i], NULL, &words) && ty_cli_help_group(argv[i]))
        return 0;
    if (r == 0 && argv[i])
        r = read_command(cli, argv, &i);
    if (r == 0 && cli->command)
        r = read_words(cli, argv, &i);
    if (r != 0)
        return r;
    if (ty_cli_flag(cli, "help") || (!cli->command && !ty_cli_flag(cli, "version")))
        return ty_cli_help(cli->command);
    if (ty_cli_flag(cli, "version")) {
        cli->command = ty_cli_find("version", NULL, &words);
        cli->nargs = 0;
    }
    r = check_count(cli);
    *stop = r != 0;
    return r;
}

int ty_cli_parse(struct ty_cli *cli, int argc, char **argv, int *code)
{
    bool stop;

    *cli = (struct ty_cli){ .args = calloc((size_t)argc + 1, sizeof *cli->args) };
    if (!cli->args) {
        *code = TY_EXIT_FAILED;
        return -1;
    }
    *code = read_line(cli, argv, &stop);
    if (stop)
        return -1;
    look_at_terminal(cli);
    return 0;
}

int ty_cli_client(struct ty_cli *cli, bool start, struct ty_error *err)
{
    struct ty_client_options o = { .home = ty_cli_value(cli, "home"), .no_start = !start };

    return cli->client ? 0 : ty_client_open(&o, &cli->client, err);
}

int ty_cli_ask(const struct ty_cli *cli, const char *question)
{
    char answer[16] = "";

    if (ty_cli_flag(cli, "yes"))
        return 1;
    if (ty_cli_flag(cli, "no-input") || !isatty(0) || !isatty(2))
        return -1;
    fprintf(stderr, "%s [y/N] ", question);
    fflush(stderr);
    if (!fgets(answer, sizeof answer, stdin))
        return 0;
    return answer[0] == 'y' || answer[0] == 'Y';
}

int ty_cli_main(int argc, char **argv)
{
    struct ty_cli cli;
    int code;

    if (ty_cli_parse(&cli, argc - 1, argv + 1, &code) == 0)
        code = cli.command->run(&cli);
    ty_client_free(cli.client);
    free(cli.args);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "trainyard: cannot write to standard output: %s\n", strerror(errno));
        return code ? code : cli.own_failure ? cli.own_failure : TY_EXIT_FAILED;
    }
    return code;
}
