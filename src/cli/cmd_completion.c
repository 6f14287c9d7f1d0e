/* cmd_completion.c - trainyard completion: scripts for shells, and the words they offer
 *
 * The scripts know nothing: they hand the line over (`completion words`) and offer what comes back, one word
 * a line, or "@files" where the shell's own file names are wanted.  The answer comes from the table of
 * commands, and from the service where it runs; none is started, and nothing is said about what fails.
 */
#include "base/conf.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/run_state.h"
#include <stdio.h>
#include <string.h>

#define FILES "@files"
#define RUNS_QUERY "limit=200"

static const char bash_script[] =
    "_trainyard() {\n"
    "    local IFS=$'\\n' found\n"
    "    found=$(trainyard completion words \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "    COMPREPLY=()\n"
    "    if [[ $found == " FILES " ]]; then\n"
    "        compopt -o default\n"
    "    else\n"
    "        COMPREPLY=($found)\n"
    "    fi\n"
    "}\n"
    "complete -F _trainyard trainyard\n";

static const char zsh_script[] =
    "#compdef trainyard\n"
    "_trainyard() {\n"
    "    local -a found\n"
    "    found=(\"${(@f)$(trainyard completion words \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
    "    if [[ $found[1] == " FILES " ]]; then\n"
    "        _files\n"
    "    else\n"
    "        compadd -a found\n"
    "    fi\n"
    "}\n"
    "(( $+functions[compdef] )) && compdef _trainyard trainyard\n";

static const char fish_script[] =
    "function __trainyard_words\n"
    "    set -l line (commandline -opc) (commandline -ct)\n"
    "    set -l found (trainyard completion words $line[2..-1] 2>/dev/null)\n"
    "    if test \"$found[1]\" = " FILES "\n"
    "        __fish_complete_path (commandline -ct)\n"
    "    else\n"
    "        printf '%s\\n' $found\n"
    "    end\n"
    "end\n"
    "complete -c trainyard -f -a '(__trainyard_words)'\n";

/* ---- the words ---- */

static void offer(const char *word, size_t n, const char *prefix)
{
    if (strlen(prefix) <= n && strncmp(word, prefix, strlen(prefix)) == 0)
        printf("%.*s\n", (int)n, word);
}

/* The first words of commands, each once, or the second ones of a group. */
static void offer_commands(const char *group, const char *prefix)
{
    size_t skip = group ? strlen(group) + 1 : 0;
    const char *last = "";

    for (int i = 0; ty_cli_commands[i]; i++) {
        const char *name = ty_cli_commands[i]->name;
        size_t n = strcspn(name + (strlen(name) > skip ? skip : 0), " ");

        if (group && (strncmp(name, group, skip - 1) != 0 || name[skip - 1] != ' '))
            continue;
        name += skip;
        if (!group && strncmp(name, last, n) == 0 && (last[n] == ' ' || last[n] == '\0'))
            continue;
        last = name;
        offer(name, n, prefix);
    }
}

static void offer_options(const struct ty_cli_option *o, const char *prefix)
{
    for (; o && o->name; o++) {
        CLEANUP_FREE char *word = ty_strf("--%s", o->name);

        if (word)
            offer(word, strlen(word), prefix);
    }
}

/* The texts of `key` in the list `list` of what a route gives. */
static void offer_from(struct ty_cli *cli, int route, const char *query, const char *list,
                       const char *key, const char *prefix)
{
    const struct ty_call call = { .query = query };
    CLEANUP_JSON json_t *reply = NULL;
    struct ty_error err = { 0 };
    const json_t *one;
    size_t i;

    if (ty_cli_client(cli, false, &err) < 0 || ty_cli_get(cli, route, &call, &reply, &err) < 0)
        return;
    json_array_foreach (json_object_get(reply, list), i, one) {
        CLEANUP_FREE char *safe = ty_out_safe(ty_out_str(one, key));

        if (safe)
            offer(safe, strlen(safe), prefix);
    }
}

static void offer_runs(struct ty_cli *cli, const char *prefix)
{
    offer("@last", strlen("@last"), prefix);
    offer_from(cli, TY_ROUTE_run_list, RUNS_QUERY, "runs", "id", prefix);
}

/* What the value of an option can be. */
static void offer_value(struct ty_cli *cli, const struct ty_cli_option *o, const char *prefix)
{
    if (strcmp(o->name, "node") == 0)
        offer_from(cli, TY_ROUTE_node_list, NULL, "nodes", "name", prefix);
    else if (strcmp(o->name, "target") == 0)
        offer_from(cli, TY_ROUTE_target_list, NULL, "targets", "name", prefix);
    else if (strcmp(o->name, "experiment") == 0)
        offer_from(cli, TY_ROUTE_experiment_list, NULL, "experiments", "name", prefix);
    else if (strcmp(o->name, "state") == 0)
        for (int i = 0; i < TY_RUN_STATE_COUNT; i++)
            offer(ty_run_state_word(i), strlen(ty_run_state_word(i)), prefix);
    else if (strcmp(o->arg, "FILE") == 0 || strcmp(o->arg, "DIR") == 0 ||
             strcmp(o->arg, "PLACE") == 0)
        puts(FILES);
}

static void offer_argument(struct ty_cli *cli, const struct ty_cli_command *c, const char *prefix)
{
    if (ty_starts_with(c->usage, "RUN"))
        offer_runs(cli, prefix);
    else if (ty_starts_with(c->name, "target "))
        offer_from(cli, TY_ROUTE_target_list, NULL, "targets", "name", prefix);
    else if (ty_starts_with(c->usage, "DATASTORE") || strcmp(c->name, "data ls") == 0)
        offer_from(cli, TY_ROUTE_datastore_list, NULL, "datastores", "name", prefix);
    else if (ty_starts_with(c->name, "secret "))
        offer_from(cli, TY_ROUTE_secret_list, NULL, "secrets", "name", prefix);
    else if (ty_starts_with(c->name, "config "))
        for (int i = 0; ty_conf_option(i); i++)
            offer(ty_conf_option(i)->key, strlen(ty_conf_option(i)->key), prefix);
    else if (strcmp(c->name, "help") == 0)
        offer_commands(NULL, prefix);
    else if (c->max != 0)
        puts(FILES);
}

static const struct ty_cli_option *option_of(const struct ty_cli_option *o, const char *word)
{
    for (; o && o->name; o++)
        if ((word[0] == '-' && word[1] == '-' && strcmp(o->name, word + 2) == 0) ||
            (word[0] == '-' && o->letter && word[1] == o->letter && !word[2]))
            return o;
    return NULL;
}

static const struct ty_cli_option *any_option(const struct ty_cli_command *c, const char *word)
{
    const struct ty_cli_option *o = option_of(c->options, word);

    return o ? o : option_of(ty_cli_global_options, word);
}

/* Do the words before the one that is typed end the options, so that it belongs to the job's own command? */
static bool in_job_command(const struct ty_cli_command *c, char *const *words, int n)
{
    for (int i = 0; c->takes_command && i < n; i++) {
        const struct ty_cli_option *o = any_option(c, words[i]);

        if (strcmp(words[i], "--") == 0 || words[i][0] != '-')
            return ty_starts_with(c->usage, "[") || strcmp(words[i], "--") == 0;
        i += o && o->arg;
    }
    return false;
}

/* words[0..n) follow the program's name; the last one is being typed. */
static void offer_for(struct ty_cli *cli, char *const *words, int n)
{
    const char *prefix = n > 0 ? words[n - 1] : "", *before = n > 1 ? words[n - 2] : "";
    const struct ty_cli_command *c;
    const struct ty_cli_option *o;
    int used = 0;

    if (n <= 1) {
        offer_commands(NULL, prefix);
        return;
    }
    c = ty_cli_find(words[0], n > 2 ? words[1] : NULL, &used);
    if (!c) {
        offer_commands(words[0], n == 2 ? prefix : "\n"); /* no word begins so */
        return;
    }
    if (in_job_command(c, words + used, n - 1 - used)) {
        puts(FILES);
        return;
    }
    o = any_option(c, before);
    if (o && o->arg) {
        offer_value(cli, o, prefix);
    } else if (prefix[0] == '-') {
        offer_options(c->options, prefix);
        offer_options(ty_cli_global_options, prefix);
    } else {
        offer_argument(cli, c, prefix);
    }
}

static int run(struct ty_cli *cli)
{
    static const struct {
        const char *name, *script;
    } shells[] = { { "bash", bash_script }, { "zsh", zsh_script }, { "fish", fish_script } };

    if (strcmp(cli->args[0], "words") == 0) {
        offer_for(cli, cli->args + 1, cli->nargs - 1);
        return TY_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (strcmp(cli->args[0], shells[i].name) == 0) {
            fputs(shells[i].script, stdout);
            return TY_EXIT_OK;
        }
    return ty_cli_usage(cli, "no script for the shell '%s'; there are bash, zsh and fish",
                        cli->args[0]);
}

static const struct ty_cli_option options[] = { TY_OPT_END };

const struct ty_cli_command ty_cmd_completion = {
    .name = "completion",
    .usage = "bash|zsh|fish",
    .summary = "Print a script that completes commands, options, runs and names in a shell",
    .examples = "  source <(trainyard completion bash)             now, or in ~/.bashrc\n"
                "  trainyard completion fish > ~/.config/fish/completions/trainyard.fish\n",
    .text =
        "What can be completed comes from this program, and from the daemon when it runs; none is started.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .takes_command = true,
    .run = run,
};
