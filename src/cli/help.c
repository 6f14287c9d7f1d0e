/* help.c - what --help prints, from the table of commands; examples first */
#include "base/str.h"
#include "cli/cli.h"
#include <stdio.h>
#include <string.h>

#define COLUMN 30

/* What begins with these commands, in the order of the table. */
static const struct heading {
    const char *first, *text;
} headings[] = {
    { "run", "Start" },       { "ps", "Look at runs, and end them" },
    { "data ls", "Data" },    { "target ls", "Machines, and who waits for them" },
    { "env ls", "Packages" }, { "secret ls", "Secrets" },
    { "up", "The service" },  { NULL, NULL },
};

static void print_options(const struct ty_cli_option *o)
{
    for (; o && o->name; o++) {
        char left[80], letter[8] = "    ";

        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, o->arg ? " " : "",
                 o->arg ? o->arg : "");
        printf("%-*s%s%s\n", COLUMN, left,
               strlen(left) < COLUMN ? "  " : "\n                                ", o->help);
    }
}

static int command_help(const struct ty_cli_command *c)
{
    printf("%s: %s\n\nUsage: trainyard %s%s%s\n", c->name, c->summary, c->name,
           c->usage[0] ? " " : "", c->usage);
    if (c->examples)
        printf("\nExamples:\n%s", c->examples);
    if (c->text)
        printf("\n%s", c->text);
    if (c->options && c->options[0].name) {
        fputs("\nOptions:\n", stdout);
        print_options(c->options);
    }
    fputs("\nOptions of every command:\n", stdout);
    print_options(ty_cli_global_options);
    return 0;
}

bool ty_cli_help_group(const char *first)
{
    size_t n = strlen(first);
    bool any = false;
    int i;

    for (i = 0; ty_cli_commands[i]; i++) {
        const char *name = ty_cli_commands[i]->name;

        if (strncmp(name, first, n) || name[n] != ' ')
            continue;
        if (!any)
            printf("Commands of '%s':\n", first);
        any = true;
        printf("  %-16s  %s\n", name, ty_cli_commands[i]->summary);
    }
    if (any)
        printf("\n'trainyard %s COMMAND --help' tells more.\n", first);
    return any;
}

int ty_cli_help(const struct ty_cli_command *c)
{
    const struct heading *next = headings;
    int i;

    if (c)
        return command_help(c);
    fputs(
        "Trainyard runs training jobs on machines of your own.\n\nExamples:\n"
        "  trainyard run -- python3 train.py --lr 0.01    run it here, watch its output, get its exit code\n"
        "  trainyard ps                                   what runs and what ran\n"
        "  trainyard logs -f @last                        follow the output of the latest run\n",
        stdout);
    for (i = 0; ty_cli_commands[i]; i++) {
        if (!strcmp(ty_cli_commands[i]->name, next->first ? next->first : ""))
            printf("\n%s:\n", next++->text);
        printf("  %-16s  %s\n", ty_cli_commands[i]->name, ty_cli_commands[i]->summary);
    }
    fputs("\nOptions of every command:\n", stdout);
    print_options(ty_cli_global_options);
    fputs("\n'trainyard COMMAND --help' tells more.\n", stdout);
    return 0;
}
