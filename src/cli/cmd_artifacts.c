/* cmd_artifacts.c - trainyard artifacts ls, get: the logs and output files of a run */
#include "base/fs.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/runs.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static int ls(struct ty_cli *cli)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "PATH", "KIND", "SIZE" },
                                        .state_column = -1,
                                        .right = 1 << 2 };
    CLEANUP_JSON json_t *files = NULL;
    CLEANUP_FREE char *id = NULL;
    struct ty_error err = { 0 };
    struct ty_place place;
    const json_t *file;
    size_t i;
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, &err);
    place = ty_place_run(id);
    if (r == 0)
        r = ty_files_list(cli, &place, NULL, &files, &err);
    if (r < 0)
        return ty_cli_fail(cli, &err);
    if (ty_cli_flag(cli, "json")) {
        CLEANUP_JSON json_t *all = json_pack("{sO}", "files", files);

        return ty_out_json(cli, all);
    }
    json_array_foreach (files, i, file) {
        uint64_t n = (uint64_t)json_integer_value(json_object_get(file, "bytes"));
        char size[24];
        const char *cells[] = { ty_out_str(file, "path"), ty_out_str(file, "kind"), size };

        if (ty_cli_flag(cli, "plain"))
            snprintf(size, sizeof size, "%llu", (unsigned long long)n);
        else
            ty_show_bytes(n, size);
        ty_table_row(&t, cells);
    }
    return ty_table_print(cli, &t);
}

/* Those of the run's files that the command line names; everything when it names none. */
static int choose(struct ty_cli *cli, const char *id, const json_t *files, json_t *chosen,
                  struct ty_error *err)
{
    int i;

    if (cli->nargs == 1)
        json_array_extend(chosen, (json_t *)(uintptr_t)files);
    for (i = 1; i < cli->nargs; i++) {
        CLEANUP_JSON json_t *some = ty_files_select(files, cli->args[i]);

        if (json_array_size(some) == 0)
            return ty_error_set(
                err, -ENOENT,
                "run '%s' has no file or folder '%s'; 'trainyard artifacts ls %s' lists what it has",
                id, cli->args[i], id);
        json_array_extend(chosen, some);
    }
    return 0;
}

/* One file that was named itself becomes what -o says, unless that is a folder. */
static bool renames(const struct ty_cli *cli, const json_t *files, const char *to)
{
    struct stat st;

    return cli->nargs == 2 && json_array_size(files) == 1 && !ty_ends_with(to, "/") &&
           !(stat(to, &st) == 0 && S_ISDIR(st.st_mode)) &&
           !strcmp(ty_out_str(json_array_get(files, 0), "path"), cli->args[1]);
}

static int save_all(struct ty_cli *cli, const struct ty_place *place, const json_t *files,
                    struct ty_error *err)
{
    const char *dir = ty_cli_value(cli, "output") ? ty_cli_value(cli, "output") : ".";
    bool rename = renames(cli, files, dir);
    struct ty_transfer t = { .what = "download",
                             .all = ty_files_bytes(files),
                             .bar = { .on = cli->err_terminal } };
    const json_t *file;
    size_t i;
    int r = 0;

    json_array_foreach (files, i, file) {
        const char *path = ty_out_str(file, "path");
        CLEANUP_FREE char *dest = rename ? strdup(dir) : ty_path_join(dir, path);

        if (!dest)
            r = ty_error_oom(err);
        else if (!ty_path_is_inside(path))
            r = ty_error_set(
                err, -EINVAL,
                "the run has a file with the name '%s', which would lie outside of '%s'", path,
                dir);
        else
            r = ty_file_save(cli, place, path, dest, ty_cli_flag(cli, "overwrite"), &t, err);
        if (r < 0)
            break;
    }
    ty_progress_clear(&t.bar);
    if (r == 0)
        fprintf(stderr, "%zu file%s %s '%s'\n", json_array_size(files),
                json_array_size(files) == 1 ? "" : "s", rename ? "as" : "in", dir);
    return r;
}

static int print_one(struct ty_cli *cli, const struct ty_place *place, const json_t *files,
                     struct ty_error *err)
{
    if (json_array_size(files) != 1)
        return ty_error_set(err, -EINVAL, "'-o -' prints one file, but %zu are named",
                            json_array_size(files));
    return ty_file_fetch(cli, place, ty_out_str(json_array_get(files, 0), "path"), 0, STDOUT_FILENO,
                         NULL, err);
}

static int get(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *files = NULL;
    CLEANUP_JSON json_t *chosen = json_array();
    CLEANUP_FREE char *id = NULL;
    const char *output = ty_cli_value(cli, "output");
    struct ty_error err = { 0 };
    struct ty_place place;
    int r = ty_cli_client(cli, true, &err);

    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, &err);
    place = ty_place_run(id);
    if (r == 0)
        r = ty_files_list(cli, &place, NULL, &files, &err);
    if (r == 0)
        r = choose(cli, id, files, chosen, &err);
    ty_cli_catch_signals();
    if (r == 0)
        r = output && !strcmp(output, "-") ? print_one(cli, &place, chosen, &err)
                                           : save_all(cli, &place, chosen, &err);
    return r < 0 ? ty_cli_fail(cli, &err) : TY_EXIT_OK;
}

static const struct ty_cli_option ls_options[] = { TY_OPT_JSON, TY_OPT_PLAIN, TY_OPT_QUIET,
                                                   TY_OPT_END };
static const struct ty_cli_option get_options[] = {
    { 'o', "output", "PLACE",
      "folder to write to (default: .), or the new name of one file; '-': standard output" },
    { 0, "overwrite", NULL, "replace files that exist" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_artifacts_ls = {
    .name = "artifacts ls",
    .usage = "RUN",
    .summary = "List the logs and output files of a run",
    .options = ls_options,
    .min = 1,
    .max = 1,
    .run = ls,
};
const struct ty_cli_command ty_cmd_artifacts_get = {
    .name = "artifacts get",
    .usage = "RUN [PATH...]",
    .summary = "Copy logs and output files of a run here",
    .examples = "  trainyard artifacts get @last outputs -o result\n"
                "  trainyard artifacts get @last outputs/loss.csv -o - | head\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  PATH is a file or a folder of the run; without one: everything.\n",
    .options = get_options,
    .min = 1,
    .max = -1,
    .run = get,
};
