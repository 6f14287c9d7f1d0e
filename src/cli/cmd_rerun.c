/* cmd_rerun.c - trainyard rerun: submit a run's specification again
 *
 * Usually with a new snapshot of the folder that the old one was taken of, as it is now; with
 * --exact with the recorded one, and with exactly the packages that the run had.  All else is what the service recorded.
 */
#include "base/fs.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "cli/submit.h"
#include "client/stubs.h"
#include <errno.h>
#include <sys/stat.h>

#define RERUN_OF "trainyard.rerun_of"
#define SNAPSHOT_PROPERTY "ContentSnapshotId" /* where scripts of Azure ML look for the snapshot */

static int check_folder(const char *id, const char *dir, struct ty_error *err)
{
    struct stat st;

    if (!*dir)
        return ty_error_set(err, -ENOENT,
                            "cannot run '%s' again: it does not say which folder its snapshot was "
                            "taken of; 'trainyard rerun --exact %s' uses the recorded snapshot",
                            id, id);
    if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return ty_error_set(err, -ENOENT,
                        "cannot run '%s' again: its folder '%s' is gone; 'trainyard rerun --exact "
                        "%s' uses the recorded snapshot",
                        id, dir, id);
}

/* What the run begins with, when that lies in the snapshot. */
static const char *entry(const json_t *spec)
{
    const char *script = ty_out_str(spec, "script"),
               *program = json_string_value(json_array_get(json_object_get(spec, "command"), 0));

    if (script[0])
        return script;
    return program && program[0] != '/' ? program : NULL;
}

/* A folder that lacks it now is told of before anything is uploaded. */
static int check_entry(const char *id, const char *dir, const json_t *spec, struct ty_error *err)
{
    const char *name = entry(spec);
    CLEANUP_FREE char *path = name ? ty_path_join(dir, name) : NULL;

    if (!name)
        return 0;
    if (!path)
        return ty_error_oom(err);
    if (access(path, F_OK) == 0)
        return 0;
    return ty_error_set(err, -ENOENT,
                        "cannot run '%s' again: its '%s' is not in '%s' any more; 'trainyard rerun "
                        "--exact %s' uses the recorded snapshot",
                        id, name, dir, id);
}

static int renew(struct ty_cli *cli, const char *id, json_t *spec, struct ty_error *err)
{
    json_t *properties = json_object_get(spec, "properties");
    const char *dir = ty_out_str(spec, "source_directory");
    char snapshot[65];
    int r;

    if (!json_is_string(json_object_get(spec, "snapshot")))
        return 0; /* it ran in an empty folder */
    r = check_folder(id, dir, err);
    if (r == 0)
        r = check_entry(id, dir, spec, err);
    if (r == 0)
        r = ty_submit_snapshot(cli, dir, snapshot, err);
    if (r == 0 && json_object_set_new(spec, "snapshot", json_string(snapshot)) < 0)
        r = ty_error_oom(err);
    if (r == 0 && json_object_get(properties, SNAPSHOT_PROPERTY))
        json_object_set_new(properties, SNAPSHOT_PROPERTY, json_string(snapshot));
    return r;
}

static int note_origin(const char *id, json_t *spec, struct ty_error *err)
{
    json_t *properties = json_object_get(spec, "properties");

    if (!json_is_object(properties)) {
        properties = json_object();
        if (json_object_set_new(spec, "properties", properties) < 0)
            return ty_error_oom(err);
    }
    return json_object_set_new(properties, RERUN_OF, json_string(id)) < 0 ? ty_error_oom(err) : 0;
}

static int stop_reading(const char *bytes, size_t n, void *ctx)
{
    (void)bytes;
    (void)n;
    (void)ctx;
    return -ECANCELED;
}

static bool snapshot_gone(struct ty_cli *cli, const char *snapshot)
{
    struct ty_call call = { .args = { snapshot }, .on_data = stop_reading };

    return *snapshot && ty_client_snapshot_get(cli->client, &call, NULL, NULL) == -ENOENT;
}

/* The service refuses a snapshot that is not stored, in words for those who upload them. */
static int explain(struct ty_cli *cli, const char *id, const json_t *spec, int r,
                   struct ty_error *err)
{
    const char *snapshot = ty_out_str(spec, "snapshot");

    if ((r != -ENOENT && r != -EEXIST) || !snapshot_gone(cli, snapshot))
        return r;
    return ty_error_set(err, r,
                        "cannot run '%s' exactly again: its snapshot '%.12s...' has been removed; "
                        "'trainyard rerun %s' takes a new one of its folder as it is now",
                        id, snapshot, id);
}

/* The lock of a node, and for which kind of nodes its PyTorch was built.  NULL: it has none. */
static json_t *lock_of(const json_t *record)
{
    json_t *lock = json_copy(json_object_get(record, "lock")),
           *build = json_object_get(json_object_get(record, "torch"), "build");

    if (lock && json_is_string(build))
        json_object_set(lock, "build", build);
    return lock;
}

static bool is_one_of(const json_t *lock, const json_t *others)
{
    const json_t *one;
    size_t i;

    json_array_foreach (others, i, one)
        if (json_equal(one, lock))
            return true;
    return false;
}

/* Nodes of another kind than the first had other packages: each finds its own. */
static int add_others(struct ty_cli *cli, const char *id, json_t *lock, struct ty_error *err)
{
    struct ty_call call = { .args = { id } };
    CLEANUP_JSON json_t *reply = NULL, *others = json_array();
    const json_t *one;
    size_t i;
    int r =
        others ? ty_cli_get(cli, TY_ROUTE_run_environments, &call, &reply, err) : ty_error_oom(err);

    json_array_foreach (json_object_get(reply, "environments"), i, one) {
        CLEANUP_JSON json_t *other = lock_of(json_object_get(one, "record"));

        if (r == 0 && json_is_object(other) && !json_equal(other, lock) &&
            !is_one_of(other, others))
            r = json_array_append(others, other) < 0 ? ty_error_oom(err) : 0;
    }
    if (r == 0 && json_array_size(others) > 0 && json_object_set(lock, "others", others) < 0)
        r = ty_error_oom(err);
    return r;
}

/* What the run's environment came to, to the file: its lock. */
static int lock_environment(struct ty_cli *cli, const char *id, const json_t *old, json_t *spec,
                            struct ty_error *err)
{
    json_t *env = json_object_get(spec, "environment");
    CLEANUP_JSON json_t *lock = lock_of(json_object_get(old, "environment"));
    int r = 0;

    if (!json_is_object(env) || json_is_true(json_object_get(env, "user_managed")) ||
        json_object_size(env) == 0)
        return 0;
    if (!json_is_object(lock) && json_object_get(env, "image"))
        return 0; /* what the image holds is all that it had */
    if (!json_is_object(lock)) {
        fprintf(stderr,
                "trainyard: run '%s' has no record of the packages that it had (it never got so "
                "far): they are looked for again\n",
                id);
        return 0;
    }
    if (json_integer_value(json_object_get(spec, "node_count")) > 1)
        r = add_others(cli, id, lock, err);
    return r < 0 ? r : json_object_set(env, "lock", lock) < 0 ? ty_error_oom(err) : 0;
}

static int again(struct ty_cli *cli, json_t **ret, struct ty_error *err)
{
    CLEANUP_FREE char *id = NULL;
    CLEANUP_JSON json_t *old = NULL;
    CLEANUP_JSON json_t *spec = NULL;
    bool exact = ty_cli_flag(cli, "exact");
    int r = ty_cli_client(cli, true, err);

    if (r == 0)
        r = ty_cli_run_id(cli, cli->args[0], &id, err);
    if (r == 0)
        r = ty_cli_run(cli, id, &old, err);
    if (r == 0 && strcmp(ty_out_str(old, "kind"), "interactive") == 0)
        r = ty_error_set(err, -EINVAL,
                         "cannot run '%s' again: it is interactive, and has no program", id);
    if (r < 0)
        return r;
    spec = json_deep_copy(json_object_get(old, "spec"));
    if (!spec)
        return ty_error_oom(err);
    r = exact ? lock_environment(cli, id, old, spec, err) : renew(cli, id, spec, err);
    if (r == 0)
        r = note_origin(id, spec, err);
    if (r == 0)
        r = ty_submit_post(cli, ty_out_str(old, "experiment"), spec, ret, err);
    return r < 0 && exact ? explain(cli, id, spec, r, err) : r;
}

static int run(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *stored = NULL;
    bool detach = ty_cli_flag(cli, "detach");
    struct ty_error err = { 0 };
    const char *id;

    if (detach)
        cli->own_failure = 0;
    if (ty_cli_flag(cli, "quiet") && !detach)
        return ty_cli_usage(cli, "--quiet needs --detach: the output is shown otherwise");
    if (again(cli, &stored, &err) < 0)
        return ty_cli_fail(cli, &err);
    id = ty_out_str(stored, "id");
    if (!detach) {
        fprintf(stderr, "run %s\n", id);
        return ty_cli_follow_to_end(cli, id);
    }
    if (ty_cli_flag(cli, "json"))
        return ty_out_json(cli, stored);
    puts(id);
    if (!ty_cli_flag(cli, "quiet"))
        fprintf(stderr, "submitted; 'trainyard logs -f %s' follows it\n", id);
    return TY_EXIT_OK;
}

static const struct ty_cli_option options[] = {
    { 0, "exact", NULL,
      "with the recorded snapshot instead of a new one, and the same versions of all packages" },
    { 'd', "detach", NULL, "return at once; prints the run's id" },
    { 'q', "quiet", NULL, "with --detach: print the id only" },
    { 0, "json", NULL, "print each event as one line of JSON; with --detach: the run" },
    TY_OPT_END,
};

const struct ty_cli_command ty_cmd_rerun = {
    .name = "rerun",
    .usage = "[OPTIONS] RUN",
    .summary = "Run again what a run was, with the files as they are now or as they were",
    .examples =
        "  trainyard rerun @last                 after a change of the code\n"
        "  trainyard rerun --exact first_17      the same files, whatever has become of them\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  Command, environment, target, limits, data references, and the tags and\n"
        "properties of the submission are those of RUN; the property " RERUN_OF
        " names it.  A new snapshot is taken of the\n"
        "folder that RUN's was taken of.  The rest is as in 'trainyard run': the exit code is the job's own (128 + signal),\n"
        "Trainyard's own failures give 125 (with --detach: as of 'trainyard submit'), Ctrl-C detaches.\n",
    .options = options,
    .min = 1,
    .max = 1,
    .own_failure = TY_EXIT_OWN,
    .run = run,
};
