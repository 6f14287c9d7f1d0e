/* test_launch_plan.c - the environment and the argument vector that a job gets */
#include "base/error.h"
#include "base/fault.h"
#include "core/launch_plan.h"
#include "tests.h"

#define SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct ty_run_spec *spec_of(json_t *program, json_t *more)
{
    CLEANUP_JSON json_t *j =
        json_pack("{s:i s:s s:s}", "version", 1, "experiment", "first", "snapshot", SHA);
    CLEANUP_JSON json_t *p = program, *m = more;
    struct ty_run_spec *s = NULL;
    struct ty_error err = { 0 };

    json_object_update(j, p);
    json_object_update(j, m);
    if (ty_run_spec_parse(j, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static struct ty_run_spec *script(json_t *more)
{
    return spec_of(
        json_pack("{s:s s:s}", "script", "train.py", "interpreter", "/opt/py/bin/python3"), more);
}

static struct ty_launch launch(const struct ty_run_spec *spec)
{
    return (struct ty_launch){
        .spec = spec,
        .run_id = "first_1780000000_0a1b2c3d",
        .attempt = 2,
        .work_dir = "/h/jobs/r/work",
        .job_dir = "/h/jobs/r",
        .spool_dir = "/h/jobs/r/spool",
        .tmp_dir = "/h/jobs/r/tmp",
        .home = "/h",
        .user = "ann",
        .user_home = "/home/ann",
        .python_path = "/opt/ty/python",
        .workspace = "trainyard",
        .rank = 0,
        .size = 1,
        .local_size = 1,
    };
}

static const char *value(char *const *env, const char *name)
{
    size_t n = strlen(name);

    for (; *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

/* No name twice: which of two a program sees is anybody's guess. */
static void assert_distinct(char *const *env)
{
    for (char *const *a = env; *a; a++) {
        assert_non_null(strchr(*a, '='));
        for (char *const *b = env; b < a; b++)
            assert_int_not_equal(strncmp(*a, *b, (size_t)(strchr(*a, '=') - *a) + 1), 0);
    }
}

static char **env_of(const struct ty_launch *l)
{
    struct ty_error err = { 0 };
    char **env = NULL;

    assert_int_equal(ty_launch_env(l, &env, &err), 0);
    assert_distinct(env);
    return env;
}

/* Everything, and nothing else: what happens to stand in the environment here does not reach a job. */
static void test_environment(void **state)
{
    static const char *const want[][2] = {
        { "PATH", "/opt/py/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
        { "HOME", "/home/ann" },
        { "USER", "ann" },
        { "LOGNAME", "ann" },
        { "SHELL", "/bin/sh" },
        { "LANG", "C.UTF-8" },
        { "TMPDIR", "/h/jobs/r/tmp" },
        { "PYTHONUNBUFFERED", "1" },
        { "AZUREML_CONDA_ENVIRONMENT_PATH", "/opt/py" },
        { "AZUREML_ENVIRONMENT_IMAGE", "False" },
        { "PYTHONPATH", "/h/jobs/r/work:/opt/ty/python" },
        { "RANK", "0" },
        { "WORLD_SIZE", "1" },
        { "LOCAL_RANK", "0" },
        { "LOCAL_WORLD_SIZE", "1" },
        { "NODE_RANK", "0" },
        { "MASTER_ADDR", "127.0.0.1" },
        { "MASTER_PORT", "6105" },
        { "AZUREML_RUN_ID", "first_1780000000_0a1b2c3d" },
        { "AZUREML_RUN_TOKEN", "local" },
        { "AZUREML_RUN_TOKEN_EXPIRY", "4102444800" },
        { "AZUREML_EXPERIMENT_ID", "first" },
        { "AZUREML_ARM_SUBSCRIPTION", "trainyard" },
        { "AZUREML_ARM_RESOURCEGROUP", "trainyard" },
        { "AZUREML_ARM_WORKSPACE_NAME", "trainyard" },
        { "AZUREML_ARM_PROJECT_NAME", "first" },
        { "AZUREML_WORKSPACE_ID", "trainyard" },
        { "AZUREML_SERVICE_ENDPOINT", "unix" },
        { "AZUREML_DISCOVERY_SERVICE_ENDPOINT", "unix" },
        { "AZUREML_SCRIPT_DIRECTORY_NAME", "/h/jobs/r/work" },
        { "AZ_BATCHAI_JOB_WORK_DIR", "/h/jobs/r/work" },
        { "TRAINYARD_HOME", "/h" },
        { "TRAINYARD_RUN_ID", "first_1780000000_0a1b2c3d" },
        { "TRAINYARD_JOB", "/h/jobs/r" },
        { "TRAINYARD_SPOOL_DIR", "/h/jobs/r/spool" },
        { "TRAINYARD_ATTEMPT", "2" },
    };
    struct ty_run_spec *spec = script(json_object());
    struct ty_launch l = launch(spec);
    char **env;
    size_t n = 0;

    (void)state;
    setenv("TY_TEST_OF_THE_SHELL", "1", 1);
    env = env_of(&l);
    while (env[n])
        n++;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *got = value(env, want[i][0]);

        if (!got || strcmp(got, want[i][1]) != 0)
            fail_msg("%s is '%s'", want[i][0], got ? got : "(absent)");
    }
    assert_int_equal(n, sizeof want / sizeof *want);
    assert_null(ty_strv_free(env));
    assert_null(ty_strv_free(NULL));
    ty_run_spec_free(spec);
}

static void test_users_wishes(void **state)
{
    static const char *const dirs[] = { "/data/a", "/data/b" };
    struct ty_run_spec *spec = script(
        json_pack("{s:{s:s s:s s:s s:s s:s s:s} s:{s:{s:s} s:{s:s}}}", "environment_variables",
                  "PATH", "/mine", "PYTHONPATH", "/lib/a:/lib/b", "LANG", "de_DE.UTF-8", "EMPTY",
                  "", "AZUREML_ARM_PROJECT_NAME", "faked", "PATH_2", "x", "data_references",
                  "train", "datastore", "s", "Test", "datastore", "s"));
    struct ty_launch l = launch(spec);
    char **env;

    (void)state;
    l.data_dirs = dirs;
    env = env_of(&l);
    assert_string_equal(value(env, "PATH"), "/mine");
    assert_string_equal(value(env, "PATH_2"), "x");
    assert_string_equal(value(env, "PYTHONPATH"), "/h/jobs/r/work:/opt/ty/python:/lib/a:/lib/b");
    assert_string_equal(value(env, "LANG"), "de_DE.UTF-8");
    assert_string_equal(value(env, "EMPTY"), "");
    assert_string_equal(value(env, "AZUREML_ARM_PROJECT_NAME"), "first");
    assert_string_equal(value(env, "AZUREML_DATAREFERENCE_train"), "/data/a");
    assert_string_equal(value(env, "AZUREML_DATAREFERENCE_Test"), "/data/b");
    ty_strv_free(env);
    ty_run_spec_free(spec);
}

/* A variable that names others: a dataset under the name that the script gave it. */
static void test_expanded_variables(void **state)
{
    static const char *const dirs[] = { "/data/a" };
    struct ty_run_spec *spec = script(
        json_pack("{s:{s:s s:s s:s} s:[ss] s:{s:{s:s}}}", "environment_variables", "mnist",
                  "${AZUREML_DATAREFERENCE_m}/x", "again", "$mnist/$nothing", "plain", "$HOME",
                  "expand_variables", "mnist", "again", "data_references", "m", "datastore", "s"));
    struct ty_launch l = launch(spec);
    char **env;

    (void)state;
    l.data_dirs = dirs;
    env = env_of(&l);
    assert_string_equal(value(env, "mnist"), "/data/a/x");
    assert_string_equal(value(env, "again"), "/data/a/x/$nothing");
    assert_string_equal(value(env, "plain"), "$HOME");
    ty_strv_free(env);
    ty_run_spec_free(spec);
}

/* Of what the environment came to the user's own variables alone are stronger. */
static void test_built_environment(void **state)
{
    struct ty_run_spec *spec =
        script(json_pack("{s:{s:s}}", "environment_variables", "LD_LIBRARY_PATH", "/mine"));
    CLEANUP_JSON json_t *variables =
        json_pack("{s:s s:s}", "LD_LIBRARY_PATH", "/c/envs/k/lib", "VIRTUAL_ENV", "/c/envs/k");
    struct ty_launch l = launch(spec);
    struct ty_error err = { 0 };
    char **env, **argv = NULL;

    (void)state;
    l.interpreter = "/c/envs/k/bin/python3";
    l.env_path = "/c/envs/k/bin:/c/more";
    l.env_prefix = "/c/envs/k";
    l.env_variables = variables;
    env = env_of(&l);
    assert_string_equal(
        value(env, "PATH"),
        "/c/envs/k/bin:/c/more:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_string_equal(value(env, "VIRTUAL_ENV"), "/c/envs/k");
    assert_string_equal(value(env, "LD_LIBRARY_PATH"), "/mine");
    assert_string_equal(value(env, "AZUREML_CONDA_ENVIRONMENT_PATH"), "/c/envs/k");
    assert_int_equal(ty_launch_argv(&l, env, &argv, &err), 0);
    assert_string_equal(argv[0], "/c/envs/k/bin/python3");
    ty_strv_free(argv);
    ty_strv_free(env);
    ty_run_spec_free(spec);
}

static void test_in_an_image(void **state)
{
    struct ty_run_spec *spec =
        script(json_pack("{s:{s:{s:s}}}", "environment", "image", "name", "debian:12"));
    struct ty_launch l = launch(spec);
    char **env = env_of(&l);

    (void)state;
    assert_string_equal(value(env, "AZUREML_ENVIRONMENT_IMAGE"), "True");
    ty_strv_free(env);
    ty_run_spec_free(spec);
}

static const char *first_word(const char *word, const char *interpreter, char ret[64])
{
    struct ty_run_spec *spec =
        spec_of(json_pack("{s:[s, s]}", "command", word, word), json_object());
    struct ty_launch l = launch(spec);
    struct ty_error err = { 0 };
    char **env, **argv = NULL;

    l.interpreter = interpreter;
    env = env_of(&l);
    assert_int_equal(ty_launch_argv(&l, env, &argv, &err), 0);
    snprintf(ret, 64, "%s", argv[0]);
    assert_string_equal(argv[1], word);
    ty_strv_free(argv);
    ty_strv_free(env);
    ty_run_spec_free(spec);
    return ret;
}

static void test_commands_that_begin_with_python(void **state)
{
    static const char *const pythons[] = { "/usr/bin/python", "/usr/bin/python3", "/a/python3.11" },
                             *const others[] = { "/usr/bin/pythonic", "/usr/bin/python3-config",
                                                 "/bin/sh", "/usr/bin/python2.7" };
    char word[64];

    (void)state;
    for (size_t i = 0; i < sizeof pythons / sizeof *pythons; i++) {
        assert_string_equal(first_word(pythons[i], "/k/bin/python3", word), "/k/bin/python3");
        assert_string_equal(first_word(pythons[i], NULL, word), pythons[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_string_equal(first_word(others[i], "/k/bin/python3", word), others[i]);
}

static void test_build_log(void **state)
{
    char name[TY_DRIVER_LOG_MAX];

    (void)state;
    assert_string_equal(ty_build_log(0, name), "azureml-logs/20_image_build_log.txt");
    assert_string_equal(ty_build_log(12, name), "azureml-logs/20_image_build_log_12.txt");
}

static void test_without_much(void **state)
{
    struct ty_run_spec *spec = spec_of(json_pack("{s:[s]}", "command", "/bin/true"), json_object());
    struct ty_launch l = launch(spec);
    char **env;

    (void)state;
    l.user = l.user_home = l.python_path = NULL;
    l.rank = 3;
    l.size = 8;
    l.local_rank = 1;
    l.local_size = 2;
    l.node_rank = 1;
    env = env_of(&l);
    assert_string_equal(value(env, "PATH"),
                        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_string_equal(value(env, "PYTHONPATH"), "/h/jobs/r/work");
    assert_string_equal(value(env, "HOME"), "/");
    assert_string_equal(value(env, "USER"), "");
    assert_string_equal(value(env, "RANK"), "3");
    assert_string_equal(value(env, "WORLD_SIZE"), "8");
    assert_string_equal(value(env, "LOCAL_RANK"), "1");
    assert_string_equal(value(env, "LOCAL_WORLD_SIZE"), "2");
    assert_string_equal(value(env, "NODE_RANK"), "1");
    ty_strv_free(env);
    ty_run_spec_free(spec);
}

/* Rank 3 of 4, the second on the second of two nodes of one box. */
static struct ty_launch several(const struct ty_run_spec *spec)
{
    struct ty_launch l = launch(spec);

    l.rank = 3;
    l.size = 4;
    l.local_rank = l.node_rank = 1;
    l.local_size = l.node_count = 2;
    l.master_port = 7001;
    l.threads = 3;
    l.rendezvous = "127.0.0.1:4711";
    l.secret = "s3cret";
    return l;
}

static void assert_value(char *const *env, const char *name, const char *want)
{
    const char *got = value(env, name);

    if (want ? !got || strcmp(got, want) != 0 : got != NULL)
        fail_msg("%s is '%s', and not '%s'", name, got ? got : "(absent)",
                 want ? want : "(absent)");
}

static void test_several(void **state)
{
    struct ty_run_spec *spec = script(json_pack(
        "{s:i s:i s:s}", "node_count", 2, "process_count_per_node", 2, "communicator", "mpi"));
    struct ty_launch l = several(spec);
    char **env = env_of(&l);

    (void)state;
    assert_value(env, "RANK", "3");
    assert_value(env, "WORLD_SIZE", "4");
    assert_value(env, "MASTER_ADDR", "127.0.0.1");
    assert_value(env, "MASTER_PORT", "7001");
    assert_value(env, "AZ_BATCH_MASTER_NODE", "127.0.0.1:7001");
    assert_value(env, "AZ_BATCHAI_MPI_MASTER_NODE", "127.0.0.1");
    assert_value(env, "AZ_BATCHAI_TASK_INDEX", "3");
    assert_value(env, "AZ_BATCHAI_PYTORCH_INIT_METHOD", "file:///h/jobs/r/tmp/init-2");
    assert_value(env, "OMPI_COMM_WORLD_RANK", "3");
    assert_value(env, "OMPI_COMM_WORLD_SIZE", "4");
    assert_value(env, "OMPI_COMM_WORLD_LOCAL_RANK", "1");
    assert_value(env, "OMPI_COMM_WORLD_LOCAL_SIZE", "2");
    assert_value(env, "OMPI_COMM_WORLD_NODE_RANK", "1");
    assert_value(env, "OMP_NUM_THREADS", "3");
    assert_value(env, "TRAINYARD_COLL_RANK", "3");
    assert_value(env, "TRAINYARD_COLL_SIZE", "4");
    assert_value(env, "TRAINYARD_COLL_RENDEZVOUS", "127.0.0.1:4711");
    assert_value(env, "TRAINYARD_COLL_SECRET", "s3cret");
    assert_value(env, "TRAINYARD_COLL_NODE", NULL);
    assert_value(env, "GLOO_SOCKET_IFNAME", NULL);
    assert_value(env, "CUDA_VISIBLE_DEVICES", NULL);
    assert_value(env, "CUDA_DEVICE_ORDER", NULL);
    assert_value(env, "TRAINYARD_CHECKPOINT_DIR", NULL);
    assert_value(env, "TRAINYARD_COLL_STALL_FILE", "/h/jobs/r/spool/stall.3");
    assert_value(env, "HOROVOD_STALL_CHECK_TIME_SECONDS", NULL);
    ty_strv_free(env);
    l.link_interface = "eth1";
    env = env_of(&l);
    assert_value(env, "OMPI_MCA_btl_tcp_if_include", "eth1");
    ty_strv_free(env);
    l.link_interface = NULL;
    l.node_count = 1;
    env = env_of(&l);
    assert_value(env, "OMPI_MCA_btl_tcp_if_include", NULL);
    assert_value(env, "AZ_BATCH_MASTER_NODE", NULL);
    assert_string_equal(ty_driver_log(0, 1, (char[TY_DRIVER_LOG_MAX]){ 0 }),
                        "azureml-logs/70_driver_log.txt");
    assert_string_equal(ty_driver_log(0, 2, (char[TY_DRIVER_LOG_MAX]){ 0 }),
                        "azureml-logs/70_driver_log_0.txt");
    ty_strv_free(env);
    ty_run_spec_free(spec);
}

static void test_several_machines(void **state)
{
    static const char *const more[] = { "PMIX_RANK=3", "EQUALS=a=b", "LANG=x", NULL };
    struct ty_run_spec *spec =
        script(json_pack("{s:i s:s s:{s:s s:s}}", "node_count", 4, "communicator", "Gloo",
                         "environment_variables", "OMP_NUM_THREADS", "1", "PMIX_RANK", "7"));
    struct ty_launch l = several(spec);
    char **env;

    (void)state;
    l.master_addr = "10.0.0.1";
    l.link_interface = "eth1";
    l.coll_node = "2";
    l.gpus = "0,GPU-1";
    l.checkpoint_dir = "/h/checkpoints/r";
    l.more = more;
    env = env_of(&l);
    assert_value(env, "MASTER_ADDR", "10.0.0.1");
    assert_value(env, "AZ_BATCHAI_PYTORCH_INIT_METHOD", "tcp://10.0.0.1:7001");
    assert_value(env, "GLOO_SOCKET_IFNAME", "eth1");
    assert_value(env, "NCCL_SOCKET_IFNAME", "eth1");
    assert_value(env, "CUDA_VISIBLE_DEVICES", "0,GPU-1");
    assert_value(env, "CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    assert_value(env, "TRAINYARD_COLL_NODE", "2");
    assert_value(env, "TRAINYARD_CHECKPOINT_DIR", "/h/checkpoints/r");
    assert_value(env, "OMPI_COMM_WORLD_RANK", NULL);
    assert_value(env, "OMPI_MCA_btl_tcp_if_include", NULL);
    assert_value(env, "OMP_NUM_THREADS", "1");
    assert_value(env, "PMIX_RANK", "7");
    assert_value(env, "EQUALS", "a=b");
    assert_value(env, "LANG", "x");
    ty_strv_free(env);
    ty_run_spec_free(spec);
}

/* When the engine looks for late ranks, by how long they may be late. */
static void test_hang_timeout(void **state)
{
    static const struct {
        int timeout_s;
        const char *own, *want;
    } cases[] = {
        { 0, NULL, NULL },   { 1, NULL, "1" },  { 30, NULL, "15" },
        { 600, NULL, "60" }, { 600, "7", "7" }, { 0, "7", "7" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_run_spec *spec = script(
            json_pack("{s:i s:i s:s s:{s:s*}}", "process_count_per_node", 2, "hang_timeout_seconds",
                      cases[i].timeout_s, "communicator", "Mpi", "environment_variables",
                      "HOROVOD_STALL_CHECK_TIME_SECONDS", cases[i].own));
        struct ty_launch l = several(spec);
        char **env = env_of(&l);

        assert_value(env, "HOROVOD_STALL_CHECK_TIME_SECONDS", cases[i].want);
        ty_strv_free(env);
        ty_run_spec_free(spec);
    }
}

static void test_expand(void **state)
{
    static char *const env[] = { "A=one", "AB=two", "E=", "D=$A", "_x1=three", NULL };
    static const char *const cases[][2] = {
        { "", "" },
        { "plain", "plain" },
        { "$A", "one" },
        { "${A}", "one" },
        { "$AB", "two" },
        { "${A}B", "oneB" },
        { "$A/$AB.$A", "one/two.one" },
        { "--dir=$_x1/y", "--dir=three/y" },
        { "$E", "" },
        { "a${E}b", "ab" },
        { "$D", "$A" },
        { "$NOT", "$NOT" },
        { "${NOT}", "${NOT}" },
        { "$ABC", "$ABC" },
        { "$a", "$a" },
        { "$", "$" },
        { "a$", "a$" },
        { "${", "${" },
        { "${A", "${A" },
        { "${}", "${}" },
        { "${A-x}", "${A-x}" },
        { "$1", "$1" },
        { "${1A}", "${1A}" },
        { "$$", "$$" },
        { "$$A", "$$A" },
        { "$$$A", "$$one" },
        { "$$${A}", "$$one" },
        { "$A$", "one$" },
        { "$NOT$A", "$NOTone" },
        { "\xc3\xa4$A\xc3\xa4", "\xc3\xa4one\xc3\xa4" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *got = NULL;

        assert_int_equal(ty_expand(cases[i][0], env, &got), 0);
        if (strcmp(got, cases[i][1]) != 0)
            fail_msg("'%s' gives '%s'", cases[i][0], got);
    }
}

static void test_expand_limit(void **state)
{
    enum { HALF = (TY_TEXT_MAX + 1) / 2 };
    char *variable = malloc(HALF + 3), *env[] = { variable, NULL }, *got = NULL;

    (void)state;
    memset(variable, 'v', HALF + 2);
    memcpy(variable, "V=", 2);
    variable[HALF + 2] = 0;
    assert_int_equal(ty_expand("$V$V", env, &got), -E2BIG);
    assert_null(got);
    variable[HALF + 1] = 0;
    assert_int_equal(ty_expand("$V${V}x", env, &got), 0);
    assert_int_equal(strlen(got), TY_TEXT_MAX);
    free(got);
    got = NULL;
    assert_int_equal(ty_expand("$V$V$V$V$V$V", env, &got), -E2BIG);
    free(variable);
}

static void assert_argv(const struct ty_launch *l, char *const *env, const char *const *want)
{
    struct ty_error err = { 0 };
    char **argv = NULL, **p;

    assert_int_equal(ty_launch_argv(l, env, &argv, &err), 0);
    for (p = argv; *want; want++, p++) {
        assert_non_null(*p);
        assert_string_equal(*p, *want);
    }
    assert_null(*p);
    ty_strv_free(argv);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_arguments(void **state)
{
    static char *const env[] = { "AZUREML_DATAREFERENCE_d=/data/d", NULL };
    struct ty_run_spec *spec = script(
        json_pack("{s:[s,s,s,s]}", "arguments", "--data", "$AZUREML_DATAREFERENCE_d/x", "", "a b"));
    struct ty_launch l = launch(spec);

    (void)state;
    assert_argv(&l, env,
                WORDS("/opt/py/bin/python3", "train.py", "--data", "/data/d/x", "", "a b"));
    ty_run_spec_free(spec);

    spec = script(json_pack("{s:[s] s:b}", "arguments", "$AZUREML_DATAREFERENCE_d", "expand", 0));
    l.spec = spec;
    assert_argv(&l, env, WORDS("/opt/py/bin/python3", "train.py", "$AZUREML_DATAREFERENCE_d"));
    ty_run_spec_free(spec);

    spec = spec_of(json_pack("{s:[s,s]}", "command", "/bin/echo", "$AZUREML_DATAREFERENCE_d"),
                   json_pack("{s:[s]}", "arguments", "last"));
    l.spec = spec;
    assert_argv(&l, env, WORDS("/bin/echo", "$AZUREML_DATAREFERENCE_d", "last"));
    ty_run_spec_free(spec);

    spec = spec_of(
        json_pack("{s:[s,s] s:b}", "command", "/bin/echo", "$AZUREML_DATAREFERENCE_d", "expand", 1),
        json_object());
    l.spec = spec;
    assert_argv(&l, env, WORDS("/bin/echo", "/data/d"));
    ty_run_spec_free(spec);
}

static void test_argument_limit(void **state)
{
    struct ty_run_spec *spec = script(json_pack("{s:[s,s]}", "arguments", "x", "$V$V"));
    struct ty_launch l = launch(spec);
    char *variable = calloc(1, TY_TEXT_MAX + 1), *env[] = { variable, NULL }, **argv = NULL;
    struct ty_error err = { 0 };

    (void)state;
    memset(variable, 'v', TY_TEXT_MAX);
    memcpy(variable, "V=", 2);
    assert_int_equal(ty_launch_argv(&l, env, &argv, &err), -E2BIG);
    assert_null(argv);
    assert_non_null(strstr(err.text, "entry 2 of 'arguments'"));
    free(variable);
    ty_run_spec_free(spec);
}

#ifdef TY_FAULTS
/* Fail each addition to a string in turn. */
static void test_out_of_memory(void **state)
{
    static const char *const dirs[] = { "/data/d" };
    struct ty_run_spec *spec =
        script(json_pack("{s:[s] s:{s:{s:s}} s:{s:s}}", "arguments", "$HOME/x", "data_references",
                         "d", "datastore", "s", "environment_variables", "A", "b"));
    struct ty_launch l = launch(spec);
    int k;

    (void)state;
    l.data_dirs = dirs;
    for (k = 1; k < 500; k++) {
        struct ty_error err = { 0 };
        char **env = NULL, **argv = NULL;
        int r;

        ty_fault_arm("str.alloc", k, ENOMEM);
        r = ty_launch_env(&l, &env, &err);
        assert_int_equal(r == 0, env != NULL);
        if (r == 0)
            r = ty_launch_argv(&l, env, &argv, &err);
        ty_fault_arm(NULL, 0, 0);
        assert_int_equal(r == 0, argv != NULL);
        ty_strv_free(env);
        ty_strv_free(argv);
        if (r == 0)
            break;
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(err.code, -ENOMEM);
    }
    assert_in_range(k, 30, 499);
    ty_run_spec_free(spec);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_users_wishes),
        cmocka_unit_test(test_built_environment),
        cmocka_unit_test(test_expanded_variables),
        cmocka_unit_test(test_commands_that_begin_with_python),
        cmocka_unit_test(test_in_an_image),
        cmocka_unit_test(test_build_log),
        cmocka_unit_test(test_without_much),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_several_machines),
        cmocka_unit_test(test_hang_timeout),
        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_expand_limit),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_argument_limit),
#ifdef TY_FAULTS
        cmocka_unit_test(test_out_of_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
