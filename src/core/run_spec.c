/* run_spec.c - reading and checking a run specification (docs/spec/run-spec.md) */
#include "core/run_spec.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "core/ascii.h"
#include "core/ids.h"
#include <errno.h>
#include <string.h>

#define WHAT "run specification"
#define NAME_MAX_EXPERIMENT 36
#define NAME_MAX_TARGET 32
#define NAME_MAX_DATA 255
#define DISPLAY_NAME_MAX 256
#define CPUS_MAX 4096
#define MEMORY_MB_MAX (1LL << 30)
#define GPUS_MAX 1024
#define PRIORITY_MAX 1000
#define RUN_SECONDS_MAX (10LL * 366 * 24 * 3600)
#define AZUREML_MAX (256 * 1024)
#define SOURCE_DIRECTORY_MAX 4096
#define TAG_KEY_MAX 1024
#define WARNING_MAX 4096

static const char *const mode_words[TY_DATA_MODE_COUNT] = { "mount", "download", "upload" };

const char *ty_data_mode_word(enum ty_data_mode m)
{
    return mode_words[m];
}

/* ---- names ---- */

/* min to max letters, digits, '_' and '-', the first a letter or digit. */
static bool is_word(const char *s, size_t min, size_t max)
{
    size_t n = strlen(s);

    return n >= min && n <= max && ty_ascii_alnum(*s) && ty_ascii_only(s, "_-");
}

int ty_check_experiment_name(const char *value, struct ty_error *err)
{
    if (is_word(value, 3, NAME_MAX_EXPERIMENT))
        return 0;
    return ty_error_set(
        err, -EINVAL,
        "'%.80s' cannot be the name of an experiment: it has 3 to 36 letters, digits, '_' or '-', "
        "and begins with a letter or digit",
        value);
}

int ty_check_target_name(const char *value, struct ty_error *err)
{
    if (is_word(value, 2, NAME_MAX_TARGET))
        return 0;
    return ty_error_set(
        err, -EINVAL,
        "'%.80s' cannot be the name of a compute target: it has 2 to 32 letters, digits, '_' or '-', "
        "and begins with a letter or digit",
        value);
}

static bool is_identifier(const char *s)
{
    return *s && !ty_ascii_digit(*s) && ty_ascii_only(s, "_");
}

int ty_check_datastore_name(const char *value, struct ty_error *err)
{
    if (*value && strlen(value) <= NAME_MAX_DATA && ty_ascii_only(value, "_"))
        return 0;
    return ty_error_set(
        err, -EINVAL,
        "'%.80s' cannot be the name of a datastore: it has 1 to 255 letters, digits or '_'", value);
}

int ty_check_data_name(const char *value, struct ty_error *err)
{
    if (is_identifier(value) && strlen(value) <= NAME_MAX_DATA)
        return 0;
    return ty_error_set(
        err, -EINVAL,
        "'%.80s' cannot be the name of a data reference: it has up to 255 letters, digits or '_', "
        "and does not begin with a digit",
        value);
}

int ty_check_env_name(const char *value, struct ty_error *err)
{
    static const char *const reserved[] = { "TRAINYARD_", "AZUREML_RUN_",
                                            "AZUREML_DATAREFERENCE_" };

    if (!is_identifier(value))
        return ty_error_set(
            err, -EINVAL,
            "environment_variables: '%.80s' cannot be the name of a variable: it has letters, digits "
            "or '_', and does not begin with a digit",
            value);
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (ty_starts_with(value, reserved[i]))
            return ty_error_set(
                err, -EINVAL,
                "environment_variables: '%.80s' is set by the service for each run; names that "
                "begin with %s cannot be given",
                value, reserved[i]);
    return 0;
}

/* ---- parts ---- */

/* A list of texts as a NULL-terminated vector whose texts belong to the list. */
static int text_list(const json_t *o, const char *key, const char ***ret, struct ty_error *err)
{
    const json_t *list = json_object_get(o, key), *item;
    const char **v;
    size_t i, n = json_array_size(list);

    if (list && !json_is_null(list) && !json_is_array(list))
        return ty_error_set(err, -EINVAL, WHAT ": '%s' is not a list", key);
    if (n > TY_ARGUMENTS_MAX)
        return ty_error_set(err, -EINVAL, WHAT ": '%s' has %zu entries, and may have %d", key, n,
                            TY_ARGUMENTS_MAX);
    json_array_foreach (list, i, item) {
        if (!json_is_string(item))
            return ty_error_set(err, -EINVAL, WHAT ": entry %zu of '%s' is not a text", i + 1, key);
        if (json_string_length(item) > TY_TEXT_MAX)
            return ty_error_set(err, -EINVAL, WHAT ": entry %zu of '%s' has more than %d bytes",
                                i + 1, key, TY_TEXT_MAX);
    }
    v = calloc(n + 1, sizeof *v);
    if (!v)
        return ty_error_oom(err);
    json_array_foreach (list, i, item)
        v[i] = json_string_value(item);
    *ret = v;
    return 0;
}

static int check_command(const struct ty_run_spec *s, struct ty_error *err)
{
    const char *program = s->command[0];

    if (s->interpreter)
        return ty_error_set(
            err, -EINVAL,
            WHAT ": 'interpreter' runs a 'script'; a 'command' names its program itself");
    if (!program || (*program != '/' && !ty_path_is_inside(program)))
        return ty_error_set(
            err, -EINVAL,
            WHAT ": 'command' begins with '%.200s', and must begin with an absolute path, or a "
                 "path inside the snapshot",
            program ? program : "");
    if (*program != '/' && !s->snapshot)
        return ty_error_set(
            err, -EINVAL,
            WHAT ": 'command' begins with '%.200s', a relative path, which needs a 'snapshot' that "
                 "it lies in",
            program);
    return 0;
}

static int check_script(const struct ty_run_spec *s, struct ty_error *err)
{
    if (!ty_path_is_inside(s->script))
        return ty_error_set(
            err, -EINVAL,
            "entry_script '%.200s' is not a path inside source_directory; give it relative to "
            "source_directory, without '..'",
            s->script);
    if (!s->snapshot)
        return ty_error_set(err, -EINVAL, WHAT ": 'script' needs a 'snapshot' that it lies in");
    if (!s->interpreter || *s->interpreter != '/')
        return ty_error_set(err, -EINVAL,
                            WHAT ": 'script' needs an 'interpreter', an absolute path");
    return 0;
}

/* What only a program needs has no meaning in a run that has none. */
static int check_interactive(const struct ty_run_spec *s, struct ty_error *err)
{
    static const char *const none[] = { "arguments",       "environment_variables",
                                        "data_references", "resources",
                                        "use_gpu",         "max_restarts" };
    const char *wrong = s->script        ? "script"
                        : s->command     ? "command"
                        : s->interpreter ? "interpreter"
                                         : NULL;

    for (size_t i = 0; !wrong && i < sizeof none / sizeof *none; i++) {
        const json_t *v = json_object_get(s->json, none[i]);

        if (json_is_true(v) || json_array_size(v) > 0 || json_object_size(v) > 0)
            wrong = none[i];
    }
    return wrong ? ty_error_set(err, -EINVAL,
                                WHAT ": an 'interactive' run has no program, and so no '%s'", wrong)
                 : 0;
}

static int get_program(struct ty_run_spec *s, struct ty_error *err)
{
    const json_t *command = json_object_get(s->json, "command");
    int r = ty_json_get_bool(s->json, WHAT, "interactive", &s->interactive, err);

    if (r == 0)
        r = ty_json_get_str(s->json, WHAT, "script", &s->script, err);
    if (r == 0)
        r = ty_json_get_str(s->json, WHAT, "interpreter", &s->interpreter, err);
    if (r == 0 && command && !json_is_null(command))
        r = text_list(s->json, "command", &s->command, err);
    if (r < 0 || s->interactive)
        return r < 0 ? r : check_interactive(s, err);
    if (!s->script == !s->command)
        return ty_error_set(err, -EINVAL,
                            WHAT
                            ": give either 'script' (the entry_script) or 'command', and not both");
    return s->script ? check_script(s, err) : check_command(s, err);
}

static int get_identity(struct ty_run_spec *s, struct ty_error *err)
{
    const json_t *o = s->json;
    int64_t version = -1;
    int r = ty_json_get_i64(o, WHAT, "version", 0, INT32_MAX, &version, err);

    s->target = "local";
    s->communicator = "None";
    if (r == 0 && version < 0)
        r = ty_error_set(err, -EINVAL, WHAT ": 'version' is missing; this service knows version %d",
                         TY_RUN_SPEC_VERSION);
    if (r == 0 && version != TY_RUN_SPEC_VERSION)
        r = ty_error_set(err, -EINVAL,
                         WHAT ": 'version' is %lld, and this service knows version %d",
                         (long long)version, TY_RUN_SPEC_VERSION);
    if (r == 0)
        r = ty_json_get_str(o, WHAT, "experiment", &s->experiment, err);
    if (r == 0)
        r = s->experiment ? ty_check_experiment_name(s->experiment, err)
                          : ty_error_set(err, -EINVAL, WHAT ": 'experiment' is missing");
    if (r == 0)
        r = ty_json_get_str(o, WHAT, "display_name", &s->display_name, err);
    if (r == 0 && s->display_name && strlen(s->display_name) > DISPLAY_NAME_MAX)
        r = ty_error_set(err, -EINVAL, WHAT ": 'display_name' has more than %d bytes",
                         DISPLAY_NAME_MAX);
    if (r == 0)
        r = ty_json_get_str(o, WHAT, "target", &s->target, err);
    if (r == 0)
        r = ty_check_target_name(s->target, err);
    if (r == 0)
        r = ty_json_get_str(o, WHAT, "snapshot", &s->snapshot, err);
    if (r == 0 && s->snapshot && !ty_sha256_valid(s->snapshot))
        r = ty_error_set(err, -EINVAL, WHAT ": 'snapshot' is not 64 lower-case hexadecimal digits");
    if (r == 0)
        r = ty_json_get_str(o, WHAT, "source_directory", &s->source_directory, err);
    if (r == 0 && s->source_directory && strlen(s->source_directory) > SOURCE_DIRECTORY_MAX)
        r = ty_error_set(err, -EINVAL, "source_directory '%.80s...' has more than %d bytes",
                         s->source_directory, SOURCE_DIRECTORY_MAX);
    return r == 0 ? ty_json_get_str(o, WHAT, "communicator", &s->communicator, err) : r;
}

/* Whose child the run is, and the process that an interactive run is lost with. */
static int get_kin(struct ty_run_spec *s, struct ty_error *err)
{
    static const char *const known[] = { "pid", "start", "boot", NULL };
    const json_t *o = json_object_get(s->json, "process");
    int64_t pid = 0, start = 0;
    const char *boot = "";
    int r = ty_json_get_str(s->json, WHAT, "parent", &s->parent, err);

    if (r < 0 || !o || json_is_null(o))
        return r;
    if (!json_is_object(o) || !s->interactive)
        return ty_error_set(err, -EINVAL, WHAT ": 'process' is an object, of an 'interactive' run");
    r = ty_json_only(o, WHAT ", 'process'", known, err);
    if (r == 0)
        r = ty_json_get_i64(o, WHAT ", 'process'", "pid", 1, INT32_MAX, &pid, err);
    if (r == 0)
        r = ty_json_get_i64(o, WHAT ", 'process'", "start", 0, INT64_MAX, &start, err);
    if (r == 0)
        r = ty_json_get_str(o, WHAT ", 'process'", "boot", &boot, err);
    if (r == 0 && (pid == 0 || strlen(boot) >= sizeof s->process.boot))
        r = ty_error_set(err, -EINVAL,
                         WHAT
                         ", 'process': it has a 'pid', a 'start' and a 'boot' of at most %zu bytes",
                         sizeof s->process.boot - 1);
    if (r < 0)
        return r;
    s->process = (struct ty_proc_id){ .pid = (pid_t)pid, .start = (uint64_t)start };
    memcpy(s->process.boot, boot, strlen(boot) + 1);
    return 0;
}

/* ---- size, and what goes with it ---- */

static int get_comm(struct ty_run_spec *s, struct ty_error *err)
{
    static const struct {
        const char *word;
        enum ty_comm comm;
    } words[] = {
        { "None", TY_COMM_NONE },    { "Mpi", TY_COMM_MPI },   { "OpenMpi", TY_COMM_MPI },
        { "IntelMpi", TY_COMM_MPI }, { "Gloo", TY_COMM_GLOO }, { "Nccl", TY_COMM_NCCL },
    };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(s->communicator, words[i].word) == 0) {
            s->comm = words[i].comm;
            return 0;
        }
    if (strcasecmp(s->communicator, "ParameterServer") == 0 ||
        strcasecmp(s->communicator, "ps") == 0)
        return ty_error_set(
            err, -EINVAL,
            "the communicator (distributed_backend) '%.40s' belongs to TensorFlow's parameter servers, "
            "which this service does not run; use 'mpi', 'gloo' or 'nccl'",
            s->communicator);
    return ty_error_set(
        err, -EINVAL,
        "the communicator (distributed_backend) '%.40s' is not known; it may be None, Mpi, Gloo or "
        "Nccl",
        s->communicator);
}

static int get_size(struct ty_run_spec *s, struct ty_error *err)
{
    int64_t nodes = 1, processes = 1;
    int r = ty_json_get_i64(s->json, WHAT, "node_count", 1, TY_NODES_MAX, &nodes, err);

    if (r == 0)
        r = ty_json_get_i64(s->json, WHAT, "process_count_per_node", 1, TY_NODE_PROCESSES_MAX,
                            &processes, err);
    if (r == 0)
        r = get_comm(s, err);
    if (r < 0)
        return r;
    s->node_count = (int)nodes;
    s->process_count_per_node = (int)processes;
    if (nodes * processes > TY_PROCESSES_MAX)
        return ty_error_set(
            err, -EINVAL,
            "node_count %d with process_count_per_node %d makes %lld processes; a job has at most %d",
            s->node_count, s->process_count_per_node, (long long)(nodes * processes),
            TY_PROCESSES_MAX);
    if (nodes * processes > 1 && s->interactive)
        return ty_error_set(err, -EINVAL,
                            WHAT ": an 'interactive' run has no program, and so no 'node_count' or "
                                 "'process_count_per_node' of more than 1");
    /* A command runs once per node without having to speak with its like. */
    if (nodes * processes > 1 && s->comm == TY_COMM_NONE && (s->script || processes > 1))
        return ty_error_set(
            err, -EINVAL,
            "node_count %d with process_count_per_node %d makes %lld processes, and no communicator "
            "(distributed_backend) says how they speak with each other; name 'mpi', 'gloo' or 'nccl'",
            s->node_count, s->process_count_per_node, (long long)(nodes * processes));
    return 0;
}

int64_t ty_run_spec_size(const struct ty_run_spec *s)
{
    return (int64_t)s->node_count * s->process_count_per_node;
}

static const char *const causes[TY_CAUSE_COUNT] = {
#define X(word) #word,
    TY_CAUSES(X)
#undef X
};

const char *ty_cause_word(enum ty_cause c)
{
    return causes[c];
}

/* What is to be done about a job that stands still, or ends before its time. */
static int get_trouble(struct ty_run_spec *s, struct ty_error *err)
{
    static const char *const known[] = {
#define X(word) #word,
        TY_CAUSES(X)
#undef X
            NULL
    };
    const json_t *o = json_object_get(s->json, "max_restarts");
    int r = ty_json_get_i64(s->json, WHAT, "hang_timeout_seconds", 0, RUN_SECONDS_MAX,
                            &s->hang_timeout_seconds, err);

    if (r == 0)
        r = ty_json_get_bool(s->json, WHAT, "interpreter_any", &s->interpreter_any, err);
    if (r < 0 || !o || json_is_null(o))
        return r;
    if (!json_is_object(o))
        return ty_error_set(err, -EINVAL, WHAT ": 'max_restarts' is not an object");
    r = ty_json_only(o, WHAT ", 'max_restarts'", known, err);
    for (int i = 0; i < TY_CAUSE_COUNT && r == 0; i++) {
        int64_t n = 0;

        r = ty_json_get_i64(o, WHAT ", 'max_restarts'", causes[i], 0, TY_RESTARTS_MAX, &n, err);
        s->max_restarts[i] = (int)n;
    }
    return r;
}

/* use_gpu asks for one GPU per process, resources.gpus for so many. */
static int get_gpus(struct ty_run_spec *s, const json_t *resources, struct ty_error *err)
{
    bool said = json_is_boolean(json_object_get(s->json, "use_gpu"));
    int64_t gpus = -1;
    int r = ty_json_get_bool(s->json, WHAT, "use_gpu", &s->use_gpu, err);

    if (r == 0 && resources)
        r = ty_json_get_i64(resources, WHAT ", 'resources'", "gpus", 0, GPUS_MAX, &gpus, err);
    if (r < 0)
        return r;
    if (said && gpus >= 0 && s->use_gpu != (gpus > 0))
        return ty_error_set(err, -EINVAL,
                            WHAT ": 'use_gpu' is %s, and 'gpus' of 'resources' is %lld; leave one "
                                 "of them out",
                            s->use_gpu ? "true" : "false", (long long)gpus);
    s->gpus = gpus >= 0 ? (int)gpus : s->use_gpu;
    s->use_gpu = s->gpus > 0;
    return 0;
}

static int get_resources(struct ty_run_spec *s, struct ty_error *err)
{
    static const char *const known[] = { "cpus", "memory_mb", "gpus", NULL };
    const json_t *o = json_object_get(s->json, "resources");
    int64_t cpus = 1, memory = 0, priority = 0, seconds = 30LL * 24 * 3600;
    int r;

    s->expand = s->script != NULL;
    r = ty_json_get_bool(s->json, WHAT, "expand", &s->expand, err);
    if (r == 0 && o && !json_is_null(o)) {
        if (!json_is_object(o))
            return ty_error_set(err, -EINVAL, WHAT ": 'resources' is not an object");
        r = ty_json_only(o, WHAT ", 'resources'", known, err);
        if (r == 0)
            r = ty_json_get_i64(o, WHAT ", 'resources'", "cpus", 1, CPUS_MAX, &cpus, err);
        if (r == 0)
            r = ty_json_get_i64(o, WHAT ", 'resources'", "memory_mb", 0, MEMORY_MB_MAX, &memory,
                                err);
        s->cpus_said = json_is_integer(json_object_get(o, "cpus"));
    }
    if (r == 0)
        r = get_gpus(s, json_is_object(o) ? o : NULL, err);
    if (r == 0)
        r = ty_json_get_i64(s->json, WHAT, "priority", -PRIORITY_MAX, PRIORITY_MAX, &priority, err);
    if (r == 0)
        r = ty_json_get_i64(s->json, WHAT, "max_run_duration_seconds", 0, RUN_SECONDS_MAX, &seconds,
                            err);
    s->cpus = (int)cpus;
    s->memory_mb = memory;
    s->priority = (int)priority;
    s->max_run_seconds = seconds;
    return r;
}

static int check_environment(const json_t *env, struct ty_error *err)
{
    const char *name;
    json_t *value;
    int r;

    if (json_object_size(env) > TY_ENVIRONMENT_MAX)
        return ty_error_set(err, -EINVAL, "environment_variables: there are %zu, and may be %d",
                            json_object_size(env), TY_ENVIRONMENT_MAX);
    json_object_foreach ((json_t *)env, name, value) {
        r = ty_check_env_name(name, err);
        if (r < 0)
            return r;
        if (strlen(name) + 1 + json_string_length(value) > TY_TEXT_MAX)
            return ty_error_set(
                err, -EINVAL,
                "environment_variables: '%.80s' and its value have more than %d bytes", name,
                TY_TEXT_MAX - 1);
    }
    return 0;
}

static int check_tags(const json_t *o, const char *key, bool null_allowed, struct ty_error *err)
{
    const json_t *map = json_object_get(o, key);
    const char *name;
    json_t *value;

    if (map && !json_is_null(map) && !json_is_object(map))
        return ty_error_set(err, -EINVAL, WHAT ": '%s' is not an object", key);
    json_object_foreach ((json_t *)map, name, value)
        if (!*name || strlen(name) > TAG_KEY_MAX ||
            !(json_is_string(value) || (null_allowed && json_is_null(value))))
            return ty_error_set(err, -EINVAL,
                                WHAT
                                ": '%.80s' in '%s': a key has 1 to %d bytes, a value is a text%s",
                                name, key, TAG_KEY_MAX, null_allowed ? " or null" : "");
    return 0;
}

static int check_azureml(const json_t *azureml, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;

    if (!azureml || json_is_null(azureml))
        return 0;
    text = ty_json_text(azureml);
    if (!text)
        return ty_error_oom(err);
    if (!json_is_object(azureml) || strlen(text) > AZUREML_MAX)
        return ty_error_set(err, -EINVAL, WHAT ": 'azureml' is not an object of at most %d bytes",
                            AZUREML_MAX);
    return 0;
}

static int check_warnings(const json_t *warnings, struct ty_error *err)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(warnings) || json_array_size(warnings) > TY_WARNINGS_MAX)
        return ty_error_set(err, -EINVAL, WHAT ": 'warnings' is not a list of at most %d texts",
                            TY_WARNINGS_MAX);
    json_array_foreach (warnings, i, item)
        if (!json_is_string(item) || json_string_length(item) > WARNING_MAX)
            return ty_error_set(err, -EINVAL,
                                WHAT ": entry %zu of 'warnings' is not a text of at most %d bytes",
                                i + 1, WARNING_MAX);
    return 0;
}

static int get_expanded(struct ty_run_spec *s, struct ty_error *err)
{
    int r = text_list(s->json, "expand_variables", &s->expand_variables, err);

    for (const char **name = s->expand_variables; r == 0 && *name; name++)
        if (!json_object_get(s->environment, *name))
            r = ty_error_set(err, -EINVAL,
                             WHAT
                             ": 'expand_variables' names '%.80s', which 'environment_variables' "
                             "does not have",
                             *name);
    return r;
}

static int get_maps(struct ty_run_spec *s, struct ty_error *err)
{
    json_t *o = s->json;
    int r = ty_json_get_strings(o, WHAT, "environment_variables", &s->environment, err);

    if (r == 0)
        r = check_environment(s->environment, err);
    if (r == 0)
        r = get_expanded(s, err);
    if (r == 0)
        r = check_tags(o, "tags", true, err);
    if (r == 0)
        r = check_tags(o, "properties", false, err);
    if (r == 0)
        r = check_azureml(json_object_get(o, "azureml"), err);
    s->tags = json_object_get(o, "tags");
    s->properties = json_object_get(o, "properties");
    s->warnings = json_object_get(o, "warnings");
    return r == 0 ? check_warnings(s->warnings, err) : r;
}

/* ---- data references ---- */

static int get_mode(const json_t *o, const char *what, enum ty_data_mode *ret, struct ty_error *err)
{
    const char *word = "mount";
    int r = ty_json_get_str(o, what, "mode", &word, err);

    for (int i = 0; r == 0 && i < TY_DATA_MODE_COUNT; i++)
        if (strcmp(mode_words[i], word) == 0) {
            *ret = (enum ty_data_mode)i;
            return 0;
        }
    return r < 0 ? r
                 : ty_error_set(err, -EINVAL,
                                "%s: 'mode' is '%.40s', and may be mount, download or upload", what,
                                word);
}

/* A relative place lies in the job's working directory. */
static int check_place(const char *what, const char *path, struct ty_error *err)
{
    CLEANUP_FREE char *clean = NULL;
    int r = !path || *path == '/' ? 0 : ty_path_clean(path, &clean);

    if (r == -ENOMEM)
        return ty_error_oom(err);
    if (r < 0)
        return ty_error_set(
            err, -EINVAL,
            "%s: path_on_compute '%.200s' is neither absolute nor a path inside the working directory",
            what, path);
    return 0;
}

static int get_data_ref(const char *name, const json_t *o, struct ty_data_ref *ret,
                        struct ty_error *err)
{
    static const char *const known[] = { "datastore",       "path",      "mode",
                                         "path_on_compute", "overwrite", NULL };
    struct ty_data_ref d = { .name = name, .path = "" };
    char what[320];
    int r = ty_check_data_name(name, err);

    snprintf(what, sizeof what, "data reference '%s'", name);
    if (r == 0 && !json_is_object(o))
        r = ty_error_set(err, -EINVAL, "%s is not an object", what);
    if (r == 0)
        r = ty_json_only(o, what, known, err);
    if (r == 0)
        r = ty_json_get_str(o, what, "datastore", &d.datastore, err);
    if (r == 0)
        r = d.datastore ? ty_check_datastore_name(d.datastore, err)
                        : ty_error_set(err, -EINVAL, "%s names no 'datastore'", what);
    if (r == 0)
        r = ty_json_get_str(o, what, "path", &d.path, err);
    if (r == 0 && *d.path && !ty_path_is_inside(d.path))
        r = ty_error_set(
            err, -EINVAL,
            "%s: path '%.200s' (path_on_datastore) is not a path inside the datastore; give it relative "
            "to the datastore's root, without '..'",
            what, d.path);
    if (r == 0)
        r = ty_json_get_str(o, what, "path_on_compute", &d.path_on_compute, err);
    if (r == 0)
        r = check_place(what, d.path_on_compute, err);
    if (r == 0)
        r = ty_json_get_bool(o, what, "overwrite", &d.overwrite, err);
    if (r == 0)
        r = get_mode(o, what, &d.mode, err);
    if (r == 0)
        *ret = d;
    return r;
}

static int get_data(struct ty_run_spec *s, struct ty_error *err)
{
    json_t *map = json_object_get(s->json, "data_references"), *o;
    const char *name;

    if (!map || json_is_null(map))
        return 0;
    if (!json_is_object(map) || json_object_size(map) > TY_DATA_REFS_MAX)
        return ty_error_set(err, -EINVAL,
                            WHAT ": 'data_references' is not an object of at most %d entries",
                            TY_DATA_REFS_MAX);
    s->data = calloc(json_object_size(map) + 1, sizeof *s->data);
    if (!s->data)
        return ty_error_oom(err);
    json_object_foreach (map, name, o) {
        int r = get_data_ref(name, o, &s->data[s->ndata], err);

        if (r < 0)
            return r;
        s->ndata++;
    }
    return 0;
}

/* ---- the whole ---- */

/* Absent maps become empty ones, so that nobody has to ask. */
static int complete(json_t *o)
{
    static const char *const maps[] = { "environment_variables", "tags", "properties" };

    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        if (!json_object_get(o, maps[i]) || json_is_null(json_object_get(o, maps[i])))
            if (json_object_set_new(o, maps[i], json_object()) < 0)
                return -ENOMEM;
    if (!json_object_get(o, "warnings") || json_is_null(json_object_get(o, "warnings")))
        return json_object_set_new(o, "warnings", json_array()) < 0 ? -ENOMEM : 0;
    return 0;
}

int ty_run_spec_parse(const json_t *json, struct ty_run_spec **ret, struct ty_error *err)
{
    static const char *const known[] = { "version",
                                         "experiment",
                                         "display_name",
                                         "target",
                                         "snapshot",
                                         "source_directory",
                                         "script",
                                         "interpreter",
                                         "command",
                                         "interactive",
                                         "process",
                                         "parent",
                                         "arguments",
                                         "expand",
                                         "environment",
                                         "environment_variables",
                                         "expand_variables",
                                         "data_references",
                                         "node_count",
                                         "process_count_per_node",
                                         "communicator",
                                         "resources",
                                         "priority",
                                         "use_gpu",
                                         "max_run_duration_seconds",
                                         "hang_timeout_seconds",
                                         "max_restarts",
                                         "interpreter_any",
                                         "tags",
                                         "properties",
                                         "warnings",
                                         "azureml",
                                         NULL };
    struct ty_run_spec *s;
    int r;

    if (!json_is_object(json))
        return ty_error_set(err, -EINVAL, "the " WHAT " is not a JSON object");
    r = ty_json_only(json, WHAT, known, err);
    if (r < 0)
        return r;
    s = calloc(1, sizeof *s);
    if (!s || !(s->json = json_deep_copy(json)) || complete(s->json) < 0) {
        ty_run_spec_free(s);
        return ty_error_oom(err);
    }
    r = get_identity(s, err);
    if (r == 0)
        r = get_program(s, err);
    if (r == 0)
        r = get_kin(s, err);
    if (r == 0)
        r = text_list(s->json, "arguments", &s->arguments, err);
    if (r == 0)
        r = get_size(s, err);
    if (r == 0)
        r = get_resources(s, err);
    if (r == 0)
        r = get_trouble(s, err);
    if (r == 0)
        r = get_maps(s, err);
    if (r == 0)
        r = get_data(s, err);
    if (r == 0)
        r = ty_env_spec_parse(json_object_get(s->json, "environment"), &s->env, err);
    if (r == 0 && s->interactive && !ty_env_spec_is_empty(s->env))
        r = ty_error_set(err, -EINVAL,
                         WHAT ": an 'interactive' run has no program, and so no 'environment'");
    if (r < 0) {
        ty_run_spec_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct ty_run_spec *ty_run_spec_free(struct ty_run_spec *s)
{
    if (s) {
        json_decref(s->json);
        free(s->command);
        free(s->arguments);
        free(s->expand_variables);
        free(s->data);
        ty_env_spec_free(s->env);
        free(s);
    }
    return NULL;
}

static void add_word(struct ty_str *out, const char *word)
{
    if (out->len)
        ty_str_add(out, " ");
    if (*word && ty_ascii_only(word, "_-./=:,+@%")) {
        ty_str_add(out, word);
    } else {
        ty_str_add(out, "'");
        for (; *word; word++)
            ty_str_addn(out, *word == '\'' ? "'\\''" : word, *word == '\'' ? 4 : 1);
        ty_str_add(out, "'");
    }
}

char *ty_run_spec_command_line(const struct ty_run_spec *s, size_t max)
{
    struct ty_str out = { 0 };

    if (s->script) {
        const char *slash = strrchr(s->interpreter, '/');

        add_word(&out, slash ? slash + 1 : s->interpreter);
        add_word(&out, s->script);
    }
    for (const char **p = s->command; p && *p && out.len <= max; p++)
        add_word(&out, *p);
    for (const char **p = s->arguments; p && *p && out.len <= max; p++)
        add_word(&out, *p);
    if (!out.failed && out.len > max) {
        out.len = ty_utf8_whole(out.text, max > 3 ? max - 3 : 0);
        out.text[out.len] = '\0';
        ty_str_add(&out, "...");
    }
    return ty_str_take(&out);
}
