/* man.c - writes the manual pages from the tables that the programs use
 *
 *   trainyard-man FOLDER    man1/trainyard.1, man1/trainyard-<command>.1 and man5/trainyard-config.5 in it
 *
 * Commands, options and exit codes come from the table of commands, configuration from its own: what --help says and what the
 * manual says is one text.  Part of the build and of `make install`; not installed itself.
 */
#include "base/cleanup.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/cli.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RELEASED "November 23, 2026"

/* ---- mdoc ---- */

/* Text in which roff sees nothing of its own. */
static void add_text(struct ty_str *page, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((i == 0 || text[i - 1] == '\n') && (text[i] == '.' || text[i] == '\''))
            ty_str_add(page, "\\&");
        if (text[i] == '\\')
            ty_str_add(page, "\\e");
        else if (text[i] == '-')
            ty_str_add(page, "\\-");
        else
            ty_str_addn(page, text + i, 1);
    }
}

/* One argument of a macro: quoted, and never a macro itself. */
static void add_argument(struct ty_str *page, const char *text)
{
    ty_str_add(page, " \"\\&");
    for (; *text; text++)
        if (*text == '"')
            ty_str_add(page, "\\(dq");
        else
            add_text(page, text, 1);
    ty_str_add(page, "\"");
}

static void add_head(struct ty_str *page, const char *title, int section, const char *name,
                     const char *summary)
{
    ty_str_addf(page,
                ".Dd " RELEASED "\n.Dt %s %d\n.Os Trainyard " TY_VERSION "\n.Sh NAME\n.Nm %s\n.Nd ",
                title, section, name);
    add_text(page, summary, strlen(summary));
    ty_str_add(page, "\n");
}

static void add_literal(struct ty_str *page, const char *text, size_t n)
{
    ty_str_add(page, ".Bd -literal\n");
    add_text(page, text, n);
    if (n > 0 && text[n - 1] != '\n')
        ty_str_add(page, "\n");
    ty_str_add(page, ".Ed\n");
}

static bool is_laid_out(const char *paragraph, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        if ((i == 0 || paragraph[i - 1] == '\n') && paragraph[i] == ' ')
            return true;
    return false;
}

/* Running text: a sentence begins on a line of its own, as mdoc wants it. */
static void add_prose(struct ty_str *page, const char *text, size_t n)
{
    size_t from = 0;

    for (size_t i = 0; i + 2 < n; i++) {
        size_t next = i + 1 + strspn(text + i + 1, " ");

        if (text[i] != '.' || next == i + 1 || next >= n)
            continue;
        add_text(page, text + from, i + 1 - from);
        ty_str_add(page, "\n");
        from = next;
    }
    add_text(page, text + from, n - from);
    if (page->len == 0 || page->text[page->len - 1] != '\n')
        ty_str_add(page, "\n");
}

static void add_line(struct ty_str *page, const char *text)
{
    add_prose(page, text, strlen(text));
}

/* Paragraphs, an empty line between them; one with an indented line stays as it is laid out. */
static void add_paragraphs(struct ty_str *page, const char *text)
{
    bool first = true;

    while (*text) {
        const char *end = strstr(text, "\n\n");
        size_t n = end ? (size_t)(end - text) + 1 : strlen(text);

        if (is_laid_out(text, n)) {
            add_literal(page, text, n);
        } else {
            if (!first)
                ty_str_add(page, ".Pp\n");
            add_prose(page, text, n);
        }
        first = false;
        text += n;
        while (*text == '\n')
            text++;
    }
}

static void add_options(struct ty_str *page, const char *heading, const struct ty_cli_option *o)
{
    if (!o || !o->name)
        return;
    ty_str_addf(page, ".Sh %s\n.Bl -tag -width Ds\n", heading);
    for (; o->name; o++) {
        ty_str_add(page, ".It");
        if (o->letter)
            ty_str_addf(page, " Fl %c ,", o->letter);
        ty_str_addf(page, " Fl \\-%s", o->name);
        if (o->arg) {
            ty_str_add(page, " Ar");
            add_argument(page, o->arg);
        }
        ty_str_add(page, "\n");
        add_line(page, o->help);
    }
    ty_str_add(page, ".El\n");
}

/* ---- pages ---- */

/* "data ls" -> "trainyard-data-ls" */
static char *page_name(const char *command)
{
    char *name = ty_strf("trainyard-%s", command);

    for (char *c = name; c && *c; c++)
        if (*c == ' ')
            *c = '-';
    return name;
}

static char *title_of(const char *name)
{
    char *title = strdup(name);

    for (char *c = title; c && *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return title;
}

static void command_page(const struct ty_cli_command *c, const char *name, const char *title,
                         struct ty_str *page)
{
    add_head(page, title, 1, name, c->summary);
    ty_str_addf(page, ".Sh SYNOPSIS\n.Nm trainyard %s\n", c->name);
    if (c->usage[0])
        add_line(page, c->usage);
    ty_str_add(page, ".Sh DESCRIPTION\n");
    if (c->text)
        add_paragraphs(page, c->text);
    else {
        add_text(page, c->summary, strlen(c->summary));
        ty_str_add(page, ".\n");
    }
    add_options(page, "OPTIONS", c->options);
    ty_str_add(
        page, ".Pp\nThe options of every command, and the exit codes, are in\n.Xr trainyard 1 .\n");
    if (c->examples) {
        ty_str_add(page, ".Sh EXAMPLES\n");
        add_literal(page, c->examples, strlen(c->examples));
    }
    ty_str_add(page, ".Sh SEE ALSO\n.Xr trainyard 1 ,\n.Xr trainyard-config 5\n");
}

static void program_page(struct ty_str *page)
{
    static const struct {
        int code;
        const char *meaning;
    } exits[] = {
#define X(name, code, meaning) { code, meaning },
        TY_CLI_EXITS(X)
#undef X
    };

    add_head(page, "TRAINYARD", 1, "trainyard", "training jobs on machines of your own");
    ty_str_add(
        page,
        ".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar options\n.Op Ar arguments\n.Sh DESCRIPTION\n"
        "Submits PyTorch jobs to this machine, keeps a queue, shows logs and metrics while they come, and\n"
        "keeps what the jobs leave.\nThe commands are:\n.Bl -tag -width Ds\n");
    for (int i = 0; ty_cli_commands[i]; i++) {
        const struct ty_cli_command *c = ty_cli_commands[i];
        CLEANUP_FREE char *name = page_name(c->name);

        ty_str_addf(page, ".It Xr %s 1\n", name);
        add_line(page, c->summary);
    }
    ty_str_add(page, ".El\n");
    add_options(page, "OPTIONS OF EVERY COMMAND", ty_cli_global_options);
    ty_str_add(
        page,
        ".Sh ENVIRONMENT\n.Bl -tag -width Ds\n"
        ".It Ev TRAINYARD_HOME\nThe state folder.\n"
        ".It Ev TRAINYARD_DAEMON\nThe program trainyardd, where it does not lie beside trainyard or on PATH.\n"
        ".It Ev TRAINYARD_LOG\nWhat the daemon writes to its log: error, warn, info or debug.\n"
        ".It Ev NO_COLOR\nNo colour.\n"
        ".El\n");
    ty_str_add(page, ".Sh EXIT STATUS\n.Bl -tag -width Ds\n");
    for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) {
        ty_str_addf(page, ".It %d\n", exits[i].code);
        add_line(page, exits[i].meaning);
    }
    ty_str_add(page, ".El\n.Sh SEE ALSO\n.Xr trainyard-config 5\n");
}

static void config_page(struct ty_str *page)
{
    const struct ty_conf_option *o;

    add_head(page, "TRAINYARD-CONFIG", 5, "trainyard-config", "configuration of Trainyard");
    ty_str_add(
        page,
        ".Sh DESCRIPTION\n"
        "Nothing needs to be configured.\nWhat can be is taken, from the strongest source to the weakest, from\n"
        "a flag of the command, an environment variable\n.Ev TRAINYARD_ Ns Ar SECTION Ns _ Ns Ar KEY ,\n"
        "the project's file\n.Pa .trainyard/config\n(in the working directory or above it), the user's file\n"
        ".Pa ~/.config/trainyard/config ,\nthe machine's file\n.Pa /etc/trainyard/config ,\nand the default.\n"
        "Files are INI.\n.Sh OPTIONS\n.Bl -tag -width Ds\n");
    for (int i = 0; (o = ty_conf_option(i)); i++) {
        ty_str_add(page, ".It Cm");
        add_argument(page, o->key);
        ty_str_addf(page, " Pq %s; default", o->kind);
        add_argument(page, *o->fallback ? o->fallback : "none");
        ty_str_add(page, "\n");
        add_line(page, o->help);
    }
    ty_str_add(page, ".El\n.Sh EXAMPLES\n");
    add_literal(page, "[limits]\nsnapshot_bytes = 1GB\n\n[retention]\nruns_days = 90\n",
                strlen("[limits]\nsnapshot_bytes = 1GB\n\n[retention]\nruns_days = 90\n"));
    ty_str_add(page, ".Sh SEE ALSO\n.Xr trainyard 1 ,\n.Xr trainyard-config-list 1\n");
}

static int put(const char *folder, const char *name, int section, struct ty_str *page)
{
    CLEANUP_FREE char *path = ty_strf("%s/man%d/%s.%d", folder, section, name, section);
    int r = path && !page->failed ? ty_mkdir_parent(path, 0755) : -ENOMEM;

    if (r == 0)
        r = ty_write_file(path, page->text, page->len, 0644);
    if (r < 0)
        fprintf(stderr, "trainyard-man: cannot write '%s': %s\n", path ? path : name, strerror(-r));
    ty_str_done(page);
    return r;
}

int main(int argc, char **argv)
{
    CLEANUP_STR struct ty_str page = { 0 };
    int r;

    if (argc != 2) {
        fputs("usage: trainyard-man FOLDER\n", stderr);
        return 2;
    }
    program_page(&page);
    r = put(argv[1], "trainyard", 1, &page);
    config_page(&page);
    if (r == 0)
        r = put(argv[1], "trainyard-config", 5, &page);
    for (int i = 0; r == 0 && ty_cli_commands[i]; i++) {
        CLEANUP_FREE char *name = page_name(ty_cli_commands[i]->name);
        CLEANUP_FREE char *title = title_of(name);

        command_page(ty_cli_commands[i], name, title, &page);
        r = put(argv[1], name, 1, &page);
    }
    return r < 0;
}
