/* test_run_spec.c - what is taken, and what each mistake is answered with */
#include "allocs.h"
#include "base/error.h"
#include "core/run_spec.h"
#include "tests.h"

#define SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const char script[] =
    "{'version': 1, 'experiment': 'first', 'snapshot': '" SHA "', 'script': 'train.py', "
    "'interpreter': '/usr/bin/python3'}";
static const char command[] =
    "{'version': 1, 'experiment': 'first', 'command': ['/bin/echo', 'a b']}";

/* JSON with ' for ", so that it can be read here. */
static json_t *load(const char *text)
{
    char *copy = strdup(text);
    json_error_t why;
    json_t *j;

    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    j = json_loads(copy, JSON_DECODE_ANY, &why);
    if (!j)
        fail_msg("%s: %s", copy, why.text);
    free(copy);
    return j;
}

static json_t *with(const char *base, const char *change)
{
    json_t *j = load(base);
    CLEANUP_JSON json_t *c = load(change);

    assert_int_equal(json_object_update(j, c), 0);
    return j;
}

static struct ty_run_spec *parse(const char *base, const char *change)
{
    CLEANUP_JSON json_t *j = with(base, change);
    struct ty_run_spec *s = NULL;
    struct ty_error err = { 0 };

    if (ty_run_spec_parse(j, &s, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(err.code, 0);
    return s;
}

/* The change makes `base` bad, and the sentence holds `words`. */
static void assert_refused(const char *base, const char *change, const char *words)
{
    CLEANUP_JSON json_t *j = with(base, change);
    struct ty_run_spec *s = NULL;
    struct ty_error err = { 0 };

    if (ty_run_spec_parse(j, &s, &err) == 0)
        fail_msg("%s is taken", change);
    assert_int_equal(err.code, -EINVAL);
    assert_null(s);
    if (!strstr(err.text, words))
        fail_msg("%s: '%s' lacks '%s'", change, err.text, words);
}

static void test_defaults(void **state)
{
    struct ty_run_spec *s = parse(script, "{}");

    (void)state;
    assert_string_equal(s->experiment, "first");
    assert_string_equal(s->target, "local");
    assert_string_equal(s->script, "train.py");
    assert_string_equal(s->interpreter, "/usr/bin/python3");
    assert_string_equal(s->snapshot, SHA);
    assert_null(s->display_name);
    assert_null(s->source_directory);
    assert_null(s->command);
    assert_null(s->arguments[0]);
    assert_true(s->expand);
    assert_false(s->use_gpu);
    assert_int_equal(s->cpus, 1);
    assert_false(s->cpus_said);
    assert_int_equal(s->gpus, 0);
    assert_int_equal(s->node_count, 1);
    assert_int_equal(s->process_count_per_node, 1);
    assert_int_equal(ty_run_spec_size(s), 1);
    assert_int_equal(s->comm, TY_COMM_NONE);
    assert_int_equal(s->hang_timeout_seconds, 0);
    assert_int_equal(s->max_restarts[TY_CAUSE_error], 0);
    assert_false(s->interpreter_any);
    assert_string_equal(s->communicator, "None");
    assert_int_equal(s->max_run_seconds, 30 * 24 * 3600);
    assert_int_equal(s->ndata, 0);
    assert_true(json_is_object(s->environment) && json_object_size(s->environment) == 0);
    assert_true(json_is_object(s->tags) && json_object_size(s->tags) == 0);
    assert_true(json_is_object(s->properties) && json_object_size(s->properties) == 0);
    assert_true(json_is_array(s->warnings) && json_array_size(s->warnings) == 0);
    assert_null(ty_run_spec_free(s));
    assert_null(ty_run_spec_free(NULL));

    s = parse(command, "{}");
    assert_null(s->script);
    assert_null(s->interpreter);
    assert_false(s->expand);
    assert_string_equal(s->command[0], "/bin/echo");
    assert_string_equal(s->command[1], "a b");
    assert_null(s->command[2]);
    ty_run_spec_free(s);
}

static void test_null_is_absence(void **state)
{
    struct ty_run_spec *s = parse(
        script,
        "{'display_name': null, 'target': null, 'source_directory': null, 'command': null, 'arguments': null, "
        "'expand': null, 'environment_variables': null, 'data_references': null, 'node_count': null, "
        "'process_count_per_node': null, 'communicator': null, 'resources': null, 'use_gpu': null, "
        "'max_run_duration_seconds': null, 'tags': null, 'properties': null, 'warnings': null, 'azureml': null}");

    (void)state;
    assert_string_equal(s->target, "local");
    assert_true(s->expand);
    assert_int_equal(s->cpus, 1);
    assert_true(json_is_object(s->environment) && json_is_object(s->tags) &&
                json_is_array(s->warnings));
    ty_run_spec_free(s);
    s = parse(command, "{'snapshot': null, 'script': null, 'interpreter': null}");
    assert_null(s->script);
    ty_run_spec_free(s);
}

static void test_everything(void **state)
{
    struct ty_run_spec *s = parse(
        script,
        "{'display_name': 'a run', 'target': 'box', 'source_directory': '/home/ann/p', 'script': 'src/train.py', "
        "'arguments': ['--lr', '0.01', '', '$HOME'], 'expand': false, 'environment_variables': {'A_1': 'x', '_b': ''}, "
        "'data_references': {'d': {'datastore': 'store_1', 'path': 'a/b', 'mode': 'download', "
        "'path_on_compute': 'in/here', 'overwrite': true}, 'E': {'datastore': '2nd', 'mode': 'upload'}}, "
        "'node_count': 1, 'process_count_per_node': 1, 'communicator': 'None', 'resources': {'cpus': 4}, "
        "'use_gpu': true, 'max_run_duration_seconds': 0, 'tags': {'t': null, 'u': 'v'}, 'properties': {'p': 'q'}, "
        "'warnings': ['one', 'two'], 'azureml': {'anything': [1, {}]}}");

    (void)state;
    assert_string_equal(s->display_name, "a run");
    assert_string_equal(s->target, "box");
    assert_string_equal(s->source_directory, "/home/ann/p");
    assert_string_equal(s->script, "src/train.py");
    assert_string_equal(s->arguments[1], "0.01");
    assert_string_equal(s->arguments[2], "");
    assert_string_equal(s->arguments[3], "$HOME");
    assert_null(s->arguments[4]);
    assert_false(s->expand);
    assert_string_equal(json_string_value(json_object_get(s->environment, "A_1")), "x");
    assert_int_equal(s->ndata, 2);
    assert_string_equal(s->data[0].name, "d");
    assert_string_equal(s->data[0].datastore, "store_1");
    assert_string_equal(s->data[0].path, "a/b");
    assert_int_equal(s->data[0].mode, TY_DATA_DOWNLOAD);
    assert_string_equal(s->data[0].path_on_compute, "in/here");
    assert_true(s->data[0].overwrite);
    assert_string_equal(s->data[1].name, "E");
    assert_string_equal(s->data[1].path, "");
    assert_int_equal(s->data[1].mode, TY_DATA_UPLOAD);
    assert_null(s->data[1].path_on_compute);
    assert_false(s->data[1].overwrite);
    assert_int_equal(s->cpus, 4);
    assert_true(s->use_gpu);
    assert_int_equal(s->max_run_seconds, 0);
    assert_int_equal(json_array_size(s->warnings), 2);
    assert_int_equal(json_object_size(s->tags), 2);
    ty_run_spec_free(s);
}

/* The specification is its own: what the caller does with his JSON later changes nothing. */
static void test_independent(void **state)
{
    CLEANUP_JSON json_t *j = with(script, "{'arguments': ['one'], 'tags': {'t': 'v'}}");
    struct ty_run_spec *s = NULL;

    (void)state;
    assert_int_equal(ty_run_spec_parse(j, &s, NULL), 0);
    assert_null(json_object_get(j, "properties"));
    json_string_set(json_array_get(json_object_get(j, "arguments"), 0), "another");
    json_object_clear(json_object_get(j, "tags"));
    assert_string_equal(s->arguments[0], "one");
    assert_string_equal(json_string_value(json_object_get(s->tags, "t")), "v");
    ty_run_spec_free(s);
}

static const struct {
    const char *change, *words;
} bad_scripts[] = {
    { "{'version': null}", "'version' is missing" },
    { "{'version': 2}", "'version' is 2, and this service knows version 1" },
    { "{'version': '1'}", "'version'" },
    { "{'experiment': null}", "'experiment' is missing" },
    { "{'experiment': 'a b'}", "'a b' cannot be the name of an experiment" },
    { "{'experiment': 5}", "'experiment'" },
    { "{'display_name': 5}", "'display_name'" },
    { "{'target': 'not a name'}", "'not a name' cannot be the name of a compute target" },
    { "{'target': ''}", "compute target" },
    { "{'snapshot': 'abc'}", "'snapshot'" },
    { "{'snapshot': null}", "'script' needs a 'snapshot'" },
    { "{'script': null}", "either 'script' (the entry_script) or 'command'" },
    { "{'command': ['/bin/true']}", "either 'script' (the entry_script) or 'command'" },
    { "{'script': '../train.py'}",
      "entry_script '../train.py' is not a path inside source_directory" },
    { "{'script': '/train.py'}", "entry_script '/train.py'" },
    { "{'script': 'a//b.py'}", "entry_script 'a//b.py'" },
    { "{'script': './b.py'}", "entry_script" },
    { "{'script': ''}", "entry_script ''" },
    { "{'script': 'a\\nb'}", "entry_script" },
    { "{'script': ['train.py']}", "'script'" },
    { "{'interpreter': null}", "'interpreter', an absolute path" },
    { "{'interpreter': 'python3'}", "'interpreter', an absolute path" },
    { "{'arguments': 'x'}", "'arguments' is not a list" },
    { "{'arguments': ['x', 5]}", "entry 2 of 'arguments'" },
    { "{'arguments': [null]}", "entry 1 of 'arguments'" },
    { "{'expand': 1}", "'expand'" },
    { "{'environment_variables': []}", "'environment_variables'" },
    { "{'environment_variables': {'A': 5}}", "'environment_variables'" },
    { "{'environment_variables': {'1A': 'x'}}", "environment_variables: '1A'" },
    { "{'environment_variables': {'A=B': 'x'}}", "environment_variables: 'A=B'" },
    { "{'environment_variables': {'TRAINYARD_RUN_ID': 'x'}}",
      "'TRAINYARD_RUN_ID' is set by the service" },
    { "{'environment_variables': {'AZUREML_RUN_ID': 'x'}}",
      "'AZUREML_RUN_ID' is set by the service" },
    { "{'environment_variables': {'AZUREML_DATAREFERENCE_d': 'x'}}",
      "'AZUREML_DATAREFERENCE_d' is set by the service" },
    { "{'node_count': 2}",
      "node_count 2 with process_count_per_node 1 makes 2 processes, and no communicator" },
    { "{'process_count_per_node': 4, 'communicator': 'none'}", "makes 4 processes" },
    { "{'node_count': 0}", "'node_count'" },
    { "{'node_count': 10001}", "'node_count'" },
    { "{'node_count': 1.0}", "'node_count'" },
    { "{'process_count_per_node': 0}", "'process_count_per_node'" },
    { "{'process_count_per_node': 1025}", "'process_count_per_node'" },
    { "{'node_count': 10000, 'process_count_per_node': 7, 'communicator': 'Mpi'}",
      "makes 70000 processes; a job has at most 65536" },
    { "{'communicator': 'ParameterServer'}", "'ParameterServer' belongs to TensorFlow" },
    { "{'communicator': 'PS'}", "(distributed_backend) 'PS'" },
    { "{'communicator': 'tcp'}", "(distributed_backend) 'tcp' is not known" },
    { "{'communicator': 5}", "'communicator'" },
    { "{'hang_timeout_seconds': -1}", "'hang_timeout_seconds'" },
    { "{'max_restarts': 3}", "'max_restarts' is not an object" },
    { "{'max_restarts': {'node': 3}}", "'node'" },
    { "{'max_restarts': {'error': 1001}}", "'error'" },
    { "{'interpreter_any': 'yes'}", "'interpreter_any'" },
    { "{'use_gpu': true, 'resources': {'gpus': 0}}", "'use_gpu' is true, and 'gpus'" },
    { "{'use_gpu': false, 'resources': {'gpus': 2}}", "'use_gpu' is false, and 'gpus'" },
    { "{'resources': 1}", "'resources' is not an object" },
    { "{'resources': {'cpus': 0}}", "'cpus'" },
    { "{'resources': {'cpus': 4097}}", "'cpus'" },
    { "{'resources': {'gpus': 1025}}", "'gpus'" },
    { "{'resources': {'disks': 1}}", "'disks'" },
    { "{'resources': {'memory_mb': -1}}", "'memory_mb'" },
    { "{'priority': 1001}", "'priority'" },
    { "{'priority': 'high'}", "'priority'" },
    { "{'use_gpu': 'yes'}", "'use_gpu'" },
    { "{'max_run_duration_seconds': -1}", "'max_run_duration_seconds'" },
    { "{'max_run_duration_seconds': 1e9}", "'max_run_duration_seconds'" },
    { "{'max_run_duration_seconds': 9999999999}", "'max_run_duration_seconds'" },
    { "{'tags': []}", "'tags' is not an object" },
    { "{'tags': {'': 'x'}}", "'tags'" },
    { "{'tags': {'t': 5}}", "'t' in 'tags'" },
    { "{'properties': {'p': null}}", "'p' in 'properties'" },
    { "{'warnings': {}}", "'warnings' is not a list" },
    { "{'warnings': ['a', 5]}", "entry 2 of 'warnings'" },
    { "{'azureml': 'x'}", "'azureml' is not an object" },
    { "{'data_references': []}", "'data_references' is not an object" },
    { "{'data_references': {'1d': {'datastore': 's'}}}",
      "'1d' cannot be the name of a data reference" },
    { "{'data_references': {'d': 's'}}", "data reference 'd' is not an object" },
    { "{'data_references': {'d': {}}}", "data reference 'd' names no 'datastore'" },
    { "{'data_references': {'d': {'datastore': 'a-b'}}}",
      "'a-b' cannot be the name of a datastore" },
    { "{'data_references': {'d': {'datastore': 's', 'path': '../x'}}}",
      "data reference 'd': path '../x' (path_on_datastore)" },
    { "{'data_references': {'d': {'datastore': 's', 'path': '/x'}}}", "path '/x'" },
    { "{'data_references': {'d': {'datastore': 's', 'mode': 'copy'}}}", "'mode' is 'copy'" },
    { "{'data_references': {'d': {'datastore': 's', 'path_on_compute': '../x'}}}",
      "path_on_compute '../x'" },
    { "{'data_references': {'d': {'datastore': 's', 'overwrite': 'no'}}}", "'overwrite'" },
    { "{'data_references': {'d': {'datastore': 's', 'path_on_datastore': 'x'}}}",
      "'path_on_datastore'" },
    { "{'interactive': 'yes'}", "'interactive'" },
    { "{'interactive': true}", "an 'interactive' run has no program, and so no 'script'" },
    { "{'process': {'pid': 5}}", "'process' is an object, of an 'interactive' run" },
    { "{'parent': 5}", "'parent'" },
    { "{'nodecount': 1}", "'nodecount'" },
};

static void test_several(void **state)
{
    static const struct {
        const char *word;
        enum ty_comm comm;
    } words[] = { { "mpi", TY_COMM_MPI },
                  { "OpenMpi", TY_COMM_MPI },
                  { "INTELMPI", TY_COMM_MPI },
                  { "Gloo", TY_COMM_GLOO },
                  { "nccl", TY_COMM_NCCL } };
    struct ty_run_spec *s = parse(
        script,
        "{'node_count': 3, 'process_count_per_node': 2, 'communicator': 'Mpi', 'resources': {'cpus': 1, "
        "'gpus': 2}, 'hang_timeout_seconds': 60, 'max_restarts': {'node_lost': 3, 'error': 1}, "
        "'interpreter_any': true}");

    (void)state;
    assert_int_equal(ty_run_spec_size(s), 6);
    assert_int_equal(s->node_count, 3);
    assert_true(s->cpus_said && s->use_gpu && s->interpreter_any);
    assert_int_equal(s->gpus, 2);
    assert_int_equal(s->hang_timeout_seconds, 60);
    assert_int_equal(s->max_restarts[TY_CAUSE_node_lost], 3);
    assert_int_equal(s->max_restarts[TY_CAUSE_preempted], 0);
    assert_int_equal(s->max_restarts[TY_CAUSE_error], 1);
    assert_string_equal(ty_cause_word(TY_CAUSE_preempted), "preempted");
    ty_run_spec_free(s);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        CLEANUP_JSON json_t *j = load(script);
        struct ty_error err = { 0 };

        json_object_set_new(j, "communicator", json_string(words[i].word));
        assert_int_equal(ty_run_spec_parse(j, &s, &err), 0);
        assert_int_equal(s->comm, words[i].comm);
        ty_run_spec_free(s);
    }
    s = parse(script, "{'use_gpu': true, 'resources': null}");
    assert_int_equal(s->gpus, 1);
    ty_run_spec_free(s);
    /* A command may run once per node; more of it needs a communicator. */
    s = parse(command, "{'node_count': 2}");
    assert_int_equal(ty_run_spec_size(s), 2);
    ty_run_spec_free(s);
    assert_refused(command, "{'process_count_per_node': 2}", "no communicator");
}

static const char interactive[] = "{'version': 1, 'experiment': 'first', 'interactive': true}";

static void test_interactive(void **state)
{
    CLEANUP_JSON json_t *j = load(interactive);
    CLEANUP_FREE char *line = NULL;
    struct ty_run_spec *s = NULL;
    struct ty_error err = { 0 };

    (void)state;
    json_object_set_new(j, "parent", json_string("first_1"));
    json_object_set_new(
        j, "process",
        json_pack("{s:i s:I s:s}", "pid", 77, "start", (json_int_t)5000000000, "boot", "a-boot"));
    assert_int_equal(ty_run_spec_parse(j, &s, &err), 0);
    assert_true(s->interactive && !s->script && !s->command);
    assert_string_equal(s->parent, "first_1");
    assert_true(s->process.pid == 77 && s->process.start == 5000000000);
    assert_string_equal(s->process.boot, "a-boot");
    line = ty_run_spec_command_line(s, 100);
    assert_string_equal(line, "");
    ty_run_spec_free(s);
    assert_refused(interactive, "{'command': ['/bin/true']}", "no 'command'");
    assert_refused(interactive, "{'interpreter': '/bin/sh'}", "no 'interpreter'");
    assert_refused(interactive, "{'arguments': ['x']}", "no 'arguments'");
    assert_refused(interactive, "{'environment_variables': {'A': 'b'}}",
                   "no 'environment_variables'");
    assert_refused(interactive, "{'use_gpu': true}", "no 'use_gpu'");
    assert_refused(interactive, "{'max_restarts': {'error': 1}}", "no 'max_restarts'");
    assert_refused(interactive, "{'node_count': 2, 'communicator': 'Mpi'}", "no 'node_count'");
    assert_refused(interactive, "{'process': {'start': 1}}", "it has a 'pid'");
    assert_refused(interactive, "{'process': {'pid': 0}}", "'pid'");
    assert_refused(interactive, "{'process': {'pid': 1, 'uid': 1}}", "'uid'");
    assert_refused(interactive,
                   "{'process': {'pid': 1, 'boot': '0123456789012345678901234567890123456789'}}",
                   "of at most 39 bytes");
}

static void test_refused(void **state)
{
    CLEANUP_JSON json_t *list = json_array();
    struct ty_run_spec *s = NULL;
    struct ty_error err = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad_scripts / sizeof *bad_scripts; i++)
        assert_refused(script, bad_scripts[i].change, bad_scripts[i].words);
    assert_refused(command, "{'command': []}", "must begin with an absolute path");
    assert_refused(command, "{'command': ['']}", "must begin with an absolute path");
    assert_refused(command, "{'command': ['../x']}", "'../x'");
    assert_refused(command, "{'command': 'ls'}", "'command' is not a list");
    assert_refused(command, "{'expand_variables': ['A'], 'environment_variables': {'B': ''}}",
                   "'expand_variables' names 'A', which 'environment_variables' does not have");
    assert_refused(command, "{'expand_variables': 'A'}", "'expand_variables' is not a list");
    assert_refused(command, "{'command': ['/bin/ls', 5]}", "entry 2 of 'command'");
    assert_refused(command, "{'command': ['go.sh']}",
                   "'go.sh', a relative path, which needs a 'snapshot'");
    assert_refused(command, "{'interpreter': '/usr/bin/python3'}", "'interpreter' runs a 'script'");
    assert_int_equal(ty_run_spec_parse(list, &s, &err), -EINVAL);
    assert_int_equal(ty_run_spec_parse(NULL, &s, &err), -EINVAL);
    assert_null(s);
}

/* {KEY: value}, put over the script's specification: taken? */
static bool taken(const char *key, json_t *value, char said[sizeof((struct ty_error *)0)->text])
{
    CLEANUP_JSON json_t *j = load(script);
    struct ty_run_spec *s = NULL;
    struct ty_error err = { 0 };

    json_object_set_new(j, key, value);
    if (ty_run_spec_parse(j, &s, &err) == 0) {
        ty_run_spec_free(s);
        return true;
    }
    memcpy(said, err.text, sizeof err.text);
    assert_non_null(strstr(said, key));
    return false;
}

static json_t *text(size_t n)
{
    char *bytes = malloc(n + 1);
    json_t *j;

    memset(bytes, 'a', n);
    bytes[n] = 0;
    j = json_string(bytes);
    free(bytes);
    return j;
}

static json_t *many(size_t n, bool list)
{
    json_t *j = list ? json_array() : json_object();
    char name[16];

    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "v%zu", i);
        if (list)
            json_array_append_new(j, json_string(name));
        else
            json_object_set_new(j, name, json_string(""));
    }
    return j;
}

static json_t *data_refs(size_t n)
{
    json_t *j = many(n, false), *v;
    const char *name;
    void *next;

    json_object_foreach_safe(j, next, name, v)
        json_object_set_new(j, name, json_pack("{s:s}", "datastore", "s"));
    return j;
}

static void test_limits(void **state)
{
    char said[768];

    (void)state;
    assert_true(taken("display_name", text(256), said));
    assert_false(taken("display_name", text(257), said));
    assert_true(taken("source_directory", text(4096), said));
    assert_false(taken("source_directory", text(4097), said));
    assert_true(taken("arguments", many(TY_ARGUMENTS_MAX, true), said));
    assert_false(taken("arguments", many(TY_ARGUMENTS_MAX + 1, true), said));
    assert_true(taken("arguments", json_pack("[o]", text(TY_TEXT_MAX)), said));
    assert_false(taken("arguments", json_pack("[o]", text(TY_TEXT_MAX + 1)), said));
    assert_true(taken("environment_variables", many(TY_ENVIRONMENT_MAX, false), said));
    assert_false(taken("environment_variables", many(TY_ENVIRONMENT_MAX + 1, false), said));
    assert_true(
        taken("environment_variables", json_pack("{s:o}", "NAME", text(TY_TEXT_MAX - 5)), said));
    assert_false(
        taken("environment_variables", json_pack("{s:o}", "NAME", text(TY_TEXT_MAX - 4)), said));
    assert_true(taken("data_references", data_refs(TY_DATA_REFS_MAX), said));
    assert_false(taken("data_references", data_refs(TY_DATA_REFS_MAX + 1), said));
    assert_true(taken("warnings", many(TY_WARNINGS_MAX, true), said));
    assert_false(taken("warnings", many(TY_WARNINGS_MAX + 1, true), said));
    assert_false(taken("warnings", json_pack("[o]", text(4097)), said));
    assert_true(taken("azureml", json_pack("{s:o}", "k", text(256 * 1024 - 8)), said));
    assert_false(taken("azureml", json_pack("{s:o}", "k", text(256 * 1024 - 7)), said));
}

/* Fail each of jansson's allocations in turn. */
static void test_out_of_memory(void **state)
{
    CLEANUP_JSON json_t *j = with(
        script,
        "{'tags': {'t': 'v'}, 'azureml': {'k': 'v'}, 'data_references': {'d': {'datastore': 's'}}}");
    int k;

    (void)state;
    for (k = 0; k < 1000; k++) {
        struct ty_run_spec *s = NULL;
        struct ty_error err = { 0 };
        int r;

        allocs_left = k;
        r = ty_run_spec_parse(j, &s, &err);
        allocs_left = -1;
        if (r == 0) {
            ty_run_spec_free(s);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        assert_true(err.code == r && err.text[0] && !s);
    }
    assert_in_range(k, 5, 999);
}

static void assert_line(const struct ty_run_spec *s, size_t max, const char *want)
{
    CLEANUP_FREE char *line = ty_run_spec_command_line(s, max);

    assert_non_null(line);
    assert_true(strlen(line) <= max);
    assert_string_equal(line, want);
}

static void test_command_line(void **state)
{
    struct ty_run_spec *s = parse(
        script,
        "{'script': 'a b.py', 'arguments': ['--lr', '0.01', '', \"it\\u0027s\", '$X', 'a;b']}");

    (void)state;
    assert_line(s, 1000, "python3 'a b.py' --lr 0.01 '' 'it'\\''s' '$X' 'a;b'");
    assert_line(s, 20, "python3 'a b.py' ...");
    assert_line(s, 3, "...");
    ty_run_spec_free(s);
    s = parse(command, "{'arguments': ['\xe2\x82\xac\xe2\x82\xac']}");
    assert_line(s, 1000, "/bin/echo 'a b' '\xe2\x82\xac\xe2\x82\xac'");
    assert_line(s, 23, "/bin/echo 'a b' '\xe2\x82\xac...");
    assert_line(s, 22, "/bin/echo 'a b' '...");
    ty_run_spec_free(s);
}

static void assert_names(int (*check)(const char *, struct ty_error *), const char *const *good,
                         const char *const *bad)
{
    for (; *good; good++)
        if (check(*good, NULL) != 0)
            fail_msg("'%s' is refused", *good);
    for (; *bad; bad++) {
        struct ty_error err = { 0 };

        if (check(*bad, &err) != -EINVAL)
            fail_msg("'%s' is taken", *bad);
        assert_int_equal(err.code, -EINVAL);
        if (strlen(*bad) < 80 && !strstr(err.text, *bad))
            fail_msg("'%s' does not name '%s'", err.text, *bad);
    }
}

#define TEN "a123456789"
#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_names(void **state)
{
    char long_name[257];

    (void)state;
    memset(long_name, 'n', 256);
    long_name[256] = 0;
    assert_names(ty_check_experiment_name, NAMES("abc", "0-_", TEN TEN TEN "123456"),
                 NAMES("", "ab", "-abc", "_abc", "a b", "a.b", "a/b",
                       "\xc3\xa4"
                       "bc",
                       TEN TEN TEN "1234567"));
    assert_names(ty_check_target_name, NAMES("ab", "gpu-cluster_1", TEN TEN TEN "12"),
                 NAMES("", "a", "-ab", "a b", "a.b", TEN TEN TEN "123"));
    assert_names(ty_check_datastore_name, NAMES("a", "_", "1", "workspaceblobstore", long_name + 1),
                 NAMES("", "a-b", "a b", "a/b", "..", long_name));
    assert_names(ty_check_data_name, NAMES("a", "_", "Data_1", long_name + 1),
                 NAMES("", "1a", "a-b", "a b", "$a", long_name));
    assert_names(ty_check_env_name,
                 NAMES("A", "_", "OMP_NUM_THREADS", "PATH", "AZUREML_X", "TRAINYARD", long_name),
                 NAMES("", "1A", "A=B", "A B", "A-B", "TRAINYARD_", "TRAINYARD_X",
                       "AZUREML_RUN_TOKEN", "AZUREML_DATAREFERENCE_a"));
    assert_string_equal(ty_data_mode_word(TY_DATA_MOUNT), "mount");
    assert_string_equal(ty_data_mode_word(TY_DATA_UPLOAD), "upload");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),      cmocka_unit_test(test_null_is_absence),
        cmocka_unit_test(test_everything),    cmocka_unit_test(test_independent),
        cmocka_unit_test(test_interactive),   cmocka_unit_test(test_several),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, allocs_setup, NULL);
}
