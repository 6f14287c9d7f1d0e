/* submit.c - what `run`, `submit` and `rerun` share: from the command line to a stored run
 *
 * The program is looked up before anything is sent: a missing one costs no upload and leaves no
 * run behind.
 */
#include "cli/submit.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/program.h"
#include "base/str.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/run_spec.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPERIMENT_MAX 36
#define EXPERIMENT_MIN 3

/* Why `path` is no program, for a sentence. */
static const char *why_not(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return strerror(errno);
    return S_ISDIR(st.st_mode) ? "it is a folder" : "it is not executable; 'chmod +x' makes it so";
}

static int on_path(const char *word, char **ret, struct ty_error *err)
{
    char *path = ty_program_find(word, NULL);

    if (path) {
        *ret = path;
        return 0;
    }
    return ty_error_set(err, -ENOENT, "cannot run '%s': no program of that name is on PATH", word);
}

int ty_submit_program(const char *word, const char *dir, char **ret, struct ty_error *err)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *clean = NULL;
    char real[PATH_MAX];

    if (!*word)
        return ty_error_set(err, -EINVAL, "cannot run '': the command's first word is empty");
    if (!strchr(word, '/'))
        return on_path(word, ret, err);
    if (word[0] != '/' && dir && ty_path_clean(word, &clean) == 0) {
        path = ty_path_join(dir, clean);
        if (!path)
            return ty_error_oom(err);
        if (!ty_program_is(path))
            return ty_error_set(err, -ENOENT, "cannot run '%s' in '%s': %s", word, dir,
                                why_not(path));
        *ret = TAKE(clean);
        return 0;
    }
    if (!ty_program_is(word))
        return ty_error_set(err, -ENOENT, "cannot run '%s': %s", word, why_not(word));
    /* an absolute name stays as it was typed: python finds its virtual environment by it */
    *ret = strdup(word[0] == '/' ? word : realpath(word, real) ? real : word);
    return *ret ? 0 : ty_error_oom(err);
}

void ty_submit_experiment(const char *dir, char ret[37])
{
    char real[PATH_MAX];
    const char *name = realpath(dir, real) ? strrchr(real, '/') + 1 : "";
    size_t n = 0;

    for (; *name && n < EXPERIMENT_MAX; name++) {
        unsigned char b = (unsigned char)*name;
        bool good = b < 0x80 && (isalnum(b) || b == '_' || b == '-');

        if (good && (n > 0 || isalnum(b)))
            ret[n++] = (char)b;
        else if (n > 0 && ret[n - 1] != '-')
            ret[n++] = '-';
    }
    while (n > 0 && ret[n - 1] == '-')
        n--;
    ret[n] = '\0';
    if (n < EXPERIMENT_MIN)
        snprintf(ret, EXPERIMENT_MAX + 1, "default");
}

int ty_submit_data(const char *text, json_t *refs, struct ty_error *err)
{
    const char *eq = strchr(text, '='), *store = eq ? eq + 1 : "", *colon = strrchr(store, ':'),
               *slash;
    CLEANUP_FREE char *name = eq ? ty_strf("%.*s", (int)(eq - text), text) : NULL;
    size_t end = colon ? (size_t)(colon - store) : strlen(store);
    json_t *ref;

    if (!eq || eq == text || end == 0 || *store == '/' || *store == ':' || (colon && !colon[1]))
        return ty_error_set(
            err, -EINVAL,
            "--data '%s' is not NAME=STORE[/PATH][:MODE], for example in=workspaceblobstore/corpus",
            text);
    slash = memchr(store, '/', end);
    ref = json_pack("{ss%ss%ss}", "datastore", store,
                    (size_t)(slash ? slash - store : (ptrdiff_t)end), "path",
                    slash ? slash + 1 : "", slash ? end - (size_t)(slash + 1 - store) : 0, "mode",
                    colon ? colon + 1 : "mount");
    if (!name || !ref || json_object_set_new(refs, name, ref) < 0)
        return ty_error_set(err, -EINVAL, "--data '%s' is not valid UTF-8", text);
    return 0;
}

/* What is on PATH here says nothing of the programs of an image. */
static bool in_image(const json_t *spec)
{
    return json_object_get(json_object_get(spec, "environment"), "image") != NULL;
}

/* The variables of --env, and PATH, which the job's program may need to find its helpers. */
static int add_environment(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    CLEANUP_JSON json_t *env = json_object();
    const char *text, *path = getenv("PATH");
    int i;

    if (path && !in_image(spec))
        json_object_set_new(env, "PATH", json_string(path));
    for (i = 0; (text = ty_cli_nth(cli, "env", i)) != NULL; i++) {
        const char *eq = strchr(text, '=');
        CLEANUP_FREE char *name =
            ty_strf("%.*s", (int)(eq ? eq - text : (ptrdiff_t)strlen(text)), text);
        const char *value = eq ? eq + 1 : name ? getenv(name) : NULL;

        if (!name)
            return ty_error_oom(err);
        if (!value)
            return ty_error_set(err, -EINVAL,
                                "--env %s: that variable is not set here; give --env %s=VALUE",
                                text, text);
        if (ty_check_env_name(name, err) < 0)
            return err->code;
        if (json_object_set_new(env, name, json_string(value)) < 0)
            return ty_error_set(err, -EINVAL, "--env %s: the value is not valid UTF-8", name);
    }
    return json_object_set(spec, "environment_variables", env) < 0 ? ty_error_oom(err) : 0;
}

static int add_tags(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    CLEANUP_JSON json_t *tags = json_object();
    const char *text;
    int i;

    for (i = 0; (text = ty_cli_nth(cli, "tag", i)) != NULL; i++) {
        const char *eq = strchr(text, '=');
        CLEANUP_FREE char *key =
            ty_strf("%.*s", (int)(eq ? eq - text : (ptrdiff_t)strlen(text)), text);

        if (!key || !*key ||
            json_object_set_new(tags, key, eq ? json_string(eq + 1) : json_null()) < 0)
            return ty_error_set(err, -EINVAL, "--tag '%s' is not KEY=VALUE", text);
    }
    return i > 0 && json_object_set(spec, "tags", tags) < 0 ? ty_error_oom(err) : 0;
}

static int add_data(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    CLEANUP_JSON json_t *refs = json_object();
    const char *text;
    int i, r;

    for (i = 0; (text = ty_cli_nth(cli, "data", i)) != NULL; i++) {
        r = ty_submit_data(text, refs, err);
        if (r < 0)
            return r;
    }
    return i > 0 && json_object_set(spec, "data_references", refs) < 0 ? ty_error_oom(err) : 0;
}

static int add_numbers(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    const char *cpus = ty_cli_value(cli, "cpus"), *limit = ty_cli_value(cli, "max-run-duration");
    const char *memory = ty_cli_value(cli, "memory"), *priority = ty_cli_value(cli, "priority");
    const char *gpus = ty_cli_value(cli, "gpus");
    CLEANUP_JSON json_t *resources = json_object();
    uint64_t bytes;
    int64_t n;

    if (cpus && (ty_parse_i64(cpus, &n) < 0 || n < 1))
        return ty_error_set(err, -EINVAL, "--cpus '%s' is not a number from 1 on", cpus);
    if (cpus)
        json_object_set_new(resources, "cpus", json_integer(n));
    if (memory && (ty_parse_bytes(memory, &bytes) < 0 || bytes < 1))
        return ty_error_set(err, -EINVAL, "--memory '%s' is not a size such as 500M or 16G",
                            memory);
    if (memory)
        json_object_set_new(resources, "memory_mb",
                            json_integer((json_int_t)((bytes + (1 << 20) - 1) >> 20)));
    if (gpus && (ty_parse_i64(gpus, &n) < 0 || n < 1))
        return ty_error_set(err, -EINVAL, "--gpus '%s' is not a number from 1 on", gpus);
    if (gpus) {
        json_object_set_new(resources, "gpus", json_integer(n));
        json_object_set_new(spec, "use_gpu", json_true());
    }
    if (json_object_size(resources) > 0)
        json_object_set(spec, "resources", resources);
    if (priority && (ty_parse_i64(priority, &n) < 0 || n < -1000 || n > 1000))
        return ty_error_set(err, -EINVAL, "--priority '%s' is not a number from -1000 to 1000",
                            priority);
    if (priority)
        json_object_set_new(spec, "priority", json_integer(n));
    if (limit && (ty_cli_parse_time(limit, &n) < 0 || n % 1000000))
        return ty_error_set(err, -EINVAL,
                            "--max-run-duration '%s' is not a time such as 3600, 90m, 1h30m or 2d",
                            limit);
    if (limit)
        json_object_set_new(spec, "max_run_duration_seconds", json_integer(n / 1000000));
    return 0;
}

/* "node_lost=2,error=1" */
static int add_restarts(const char *text, json_t *spec, struct ty_error *err)
{
    static const char *const causes[] = { "node_lost", "preempted", "error", NULL };
    CLEANUP_JSON json_t *restarts = json_object();

    while (*text) {
        size_t n = strcspn(text, ","), name = strcspn(text, "=");
        CLEANUP_FREE char *number =
            name < n ? ty_strf("%.*s", (int)(n - name - 1), text + name + 1) : NULL;
        int64_t count;
        int i = 0;

        while (causes[i] && (strlen(causes[i]) != name || strncmp(causes[i], text, name) != 0))
            i++;
        if (!number || !causes[i] || ty_parse_i64(number, &count) < 0 || count < 0 || count > 1000)
            return ty_error_set(
                err, -EINVAL,
                "--max-restarts '%.*s' is not CAUSE=N with one of node_lost, preempted and error, and N from 0 to 1000",
                (int)n, text);
        json_object_set_new(restarts, causes[i], json_integer(count));
        text += n + (text[n] == ',');
    }
    return json_object_set(spec, "max_restarts", restarts) < 0 ? ty_error_oom(err) : 0;
}

static int add_count(const struct ty_cli *cli, const char *option, const char *key, json_t *spec,
                     struct ty_error *err)
{
    const char *text = ty_cli_value(cli, option);
    int64_t n;

    if (text && (ty_parse_i64(text, &n) < 0 || n < 1))
        return ty_error_set(err, -EINVAL, "--%s '%s' is not a number from 1 on", option, text);
    if (text)
        json_object_set_new(spec, key, json_integer(n));
    return 0;
}

/* Several processes: how many, how they work together, and what happens when they do not. */
static int add_processes(const struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    static const char *const words[][2] = { { "mpi", "Mpi" },
                                            { "gloo", "Gloo" },
                                            { "nccl", "Nccl" } };
    const char *backend = ty_cli_value(cli, "backend"), *hang = ty_cli_value(cli, "hang-timeout"),
               *restarts = ty_cli_value(cli, "max-restarts"), *communicator = NULL;
    int64_t us;
    int r = add_count(cli, "nodes", "node_count", spec, err);

    if (r == 0)
        r = add_count(cli, "procs", "process_count_per_node", spec, err);
    if (r < 0)
        return r;
    for (size_t i = 0; backend && i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(backend, words[i][0]))
            communicator = words[i][1];
    if (backend && !communicator)
        return ty_error_set(err, -EINVAL, "--backend '%s' is none of mpi, gloo and nccl", backend);
    if (!backend && (json_integer_value(json_object_get(spec, "node_count")) > 1 ||
                     json_integer_value(json_object_get(spec, "process_count_per_node")) > 1))
        communicator = "Mpi";
    if (communicator)
        json_object_set_new(spec, "communicator", json_string(communicator));
    if (hang && (ty_cli_parse_time(hang, &us) < 0 || us % 1000000))
        return ty_error_set(err, -EINVAL,
                            "--hang-timeout '%s' is not a time such as 600, 10m or 1h30m", hang);
    if (hang)
        json_object_set_new(spec, "hang_timeout_seconds", json_integer(us / 1000000));
    return restarts ? add_restarts(restarts, spec, err) : 0;
}

/* Who says no more than that names none: where it lacks what the run asks for, and another one of the node has it, that one runs. */
static bool is_any_python(const char *word)
{
    return strcmp(word, "python3") == 0 || strcmp(word, "python") == 0;
}

static int add_command(const struct ty_cli *cli, const char *dir, json_t *spec,
                       struct ty_error *err)
{
    CLEANUP_JSON json_t *command = json_array();
    CLEANUP_FREE char *program = NULL;
    const char *word = cli->args[0];
    bool given = in_image(spec) && *word && (*word == '/' || !strchr(word, '/'));
    int i, r = given ? 0 : ty_submit_program(word, dir, &program, err);

    if (given && !(program = strdup(word)))
        return ty_error_oom(err);
    if (r < 0)
        return r;
    for (i = 0; i < cli->nargs; i++)
        if (json_array_append_new(command, json_string(i == 0 ? program : cli->args[i])) < 0)
            return ty_error_set(err, -EINVAL, "the command's word %d, '%s', is not valid UTF-8",
                                i + 1, cli->args[i]);
    if (is_any_python(word) && json_object_set_new(spec, "interpreter_any", json_true()) < 0)
        return ty_error_oom(err);
    return json_object_set(spec, "command", command) < 0 ? ty_error_oom(err) : 0;
}

static const char *folder(const struct ty_cli *cli)
{
    return ty_cli_value(cli, "dir") ? ty_cli_value(cli, "dir") : ".";
}

static void name_snapshot(const struct ty_cli *cli, const char *snapshot, json_t *spec)
{
    char real[PATH_MAX];

    json_object_set_new(spec, "snapshot", json_string(snapshot));
    if (realpath(folder(cli), real))
        json_object_set_new(spec, "source_directory", json_string(real));
}

int ty_submit_spec(const struct ty_cli *cli, const char *snapshot, json_t **ret,
                   struct ty_error *err)
{
    CLEANUP_JSON json_t *spec = json_pack("{si}", "version", TY_RUN_SPEC_VERSION);
    const char *target = ty_cli_value(cli, "target"), *name = ty_cli_value(cli, "name");
    CLEANUP_JSON json_t *asked = NULL;
    int r;

    if (target)
        json_object_set_new(spec, "target", json_string(target));
    if (name)
        json_object_set_new(spec, "display_name", json_string(name));
    if (snapshot)
        name_snapshot(cli, snapshot, spec);
    if (ty_cli_flag(cli, "gpu"))
        json_object_set_new(spec, "use_gpu", json_true());
    if (ty_cli_flag(cli, "expand"))
        json_object_set_new(spec, "expand", json_true());
    r = ty_environment_asked(cli, &asked, err);
    if (r == 0 && asked)
        json_object_set(spec, "environment", asked);
    if (r == 0)
        r = add_command(cli, ty_cli_flag(cli, "no-snapshot") ? NULL : folder(cli), spec, err);
    if (r == 0)
        r = add_environment(cli, spec, err);
    if (r == 0)
        r = add_tags(cli, spec, err);
    if (r == 0)
        r = add_data(cli, spec, err);
    if (r == 0)
        r = add_numbers(cli, spec, err);
    if (r == 0)
        r = add_processes(cli, spec, err);
    if (r == 0)
        *ret = TAKE(spec);
    return r;
}

static void on_upload(const struct ty_upload_progress *p, void *ctx)
{
    ty_progress_draw(ctx, "snapshot", p->sent_bytes, p->to_send_bytes, false);
}

int ty_submit_snapshot(struct ty_cli *cli, const char *dir, char id[65], struct ty_error *err)
{
    struct ty_progress bar = { .on = cli->err_terminal };
    struct ty_conf *conf = NULL;
    int r = ty_conf_load(dir, &conf, err);

    if (r < 0)
        return r;
    r = ty_client_snapshot(
        cli->client, dir, (uint64_t)ty_conf_number(conf, "limits.snapshot_bytes"),
        (uint64_t)ty_conf_number(conf, "limits.snapshot_files"), on_upload, &bar, id, err);
    ty_progress_clear(&bar);
    ty_conf_free(conf);
    return r;
}

static void tell_warnings(const json_t *run)
{
    const json_t *text;
    size_t i;

    json_array_foreach (json_object_get(run, "warnings"), i, text) {
        CLEANUP_FREE char *safe = ty_out_safe(json_is_string(text) ? json_string_value(text) : "");

        fprintf(stderr, "trainyard: warning: %s\n", safe ? safe : "");
    }
}

int ty_submit_post(struct ty_cli *cli, const char *experiment, const json_t *spec, json_t **ret,
                   struct ty_error *err)
{
    struct ty_call call = { .args = { experiment } };
    CLEANUP_FREE char *body = ty_json_text(spec);
    int r;

    if (!body)
        return ty_error_oom(err);
    call.body = body;
    call.body_len = strlen(body);
    ty_cli_catch_signals(); /* from here on there may be a run, whose id must be told */
    r = ty_cli_get(cli, TY_ROUTE_run_submit, &call, ret, err);
    if (r == -ECONNRESET || r == -ETIMEDOUT)
        ty_error_prefix(err, "the run may have been submitted or not ('trainyard ps' shows it)");
    if (r == 0)
        tell_warnings(*ret);
    return r;
}

/* What --environment names; variables that were given are stronger than its own. */
static int add_registered(struct ty_cli *cli, json_t *spec, struct ty_error *err)
{
    CLEANUP_JSON json_t *env = NULL, *variables = NULL;
    json_t *own = json_object_get(spec, "environment_variables"), *value;
    const char *name;
    int r = ty_environment_registered(cli, &env, &variables, err);

    if (r == 0 && env && json_object_set(spec, "environment", env) < 0)
        r = ty_error_oom(err);
    json_object_foreach (variables, name, value)
        if (own && !json_object_get(own, name))
            json_object_set(own, name, value);
    return r;
}

int ty_cli_submit(struct ty_cli *cli, json_t **ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *spec = NULL;
    const char *experiment = ty_cli_value(cli, "experiment");
    char made[EXPERIMENT_MAX + 1], snapshot[65];
    int r;

    ty_submit_experiment(folder(cli), made);
    r = experiment ? ty_check_experiment_name(experiment, err) : 0;
    if (r == 0)
        r = ty_submit_spec(cli, NULL, &spec, err);
    if (r == 0)
        r = ty_cli_client(cli, true, err);
    if (r == 0 && !ty_cli_flag(cli, "no-snapshot")) {
        r = ty_submit_snapshot(cli, folder(cli), snapshot, err);
        if (r == 0)
            name_snapshot(cli, snapshot, spec);
    }
    if (r == 0)
        r = add_registered(cli, spec, err);
    if (r == 0)
        r = ty_submit_post(cli, experiment ? experiment : made, spec, ret, err);
    return r;
}
