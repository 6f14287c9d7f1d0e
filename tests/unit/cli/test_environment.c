/* test_environment.c - requirements files, conda files and options, as the `environment` of a run specification */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/environment.h"
#include "core/env_spec.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char dir[64];

static char *put(const char *name, const char *text)
{
    char *path = ty_path_join(dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0755), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0644), 0);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-environment.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return ty_rm_rf(dir);
}

static void is(const json_t *env, const char *text)
{
    CLEANUP_JSON json_t *want = json_loads(text, 0, NULL);
    CLEANUP_FREE char *got = ty_json_text(env);
    struct ty_env_spec *spec = NULL;
    struct ty_error err = { 0 };

    assert_non_null(want);
    if (!json_equal(env, want))
        fail_msg("it is %s", got);
    /* What is made here is what the service understands. */
    if (ty_env_spec_parse(env, &spec, &err) < 0)
        fail_msg("%s", err.text);
    ty_env_spec_free(spec);
}

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static void test_requirements(void **state)
{
    CLEANUP_FREE char *more = put("more.txt", "b\n"), *limits = put("sub/limits.txt", "numpy<2\n"),
                      *path = put("r.txt", "# first\n"
                                           "six\n"
                                           "  a >= 1.0 , < 2   # a reason\n"
                                           "c[x]==1.0 \\\n   --hash=sha256:" ZEROS
                                           " \\\n\t--hash sha256:" ZEROS "  # both\n"
                                           "d @ https://host/d-1-py3-none-any.whl#sha256=00\r\n"
                                           "e; python_version < '3.9'\n"
                                           "\n"
                                           "-r more.txt\n"
                                           "--constraint=sub/limits.txt\n"
                                           "-i https://host/simple\n"
                                           "--extra-index-url https://other/simple\n"
                                           "-f sub\n"
                                           "--find-links https://host/links\n"
                                           "--pre\n"
                                           "--trusted-host host"),
                      *want = NULL;
    CLEANUP_JSON json_t *env = json_object();
    struct ty_error err = { 0 };

    (void)state;
    if (ty_environment_requirements(env, path, &err) < 0)
        fail_msg("%s", err.text);
    want = ty_strf(
        "{\"pip\": {\"packages\": [\"six\", \"a >= 1.0 , < 2\", \"c[x]==1.0 --hash=sha256:" ZEROS
        " --hash=sha256:" ZEROS "\", "
        "\"d @ https://host/d-1-py3-none-any.whl#sha256=00\", \"e; python_version < '3.9'\", \"b\"], "
        "\"constraints\": [\"numpy<2\"], \"index_url\": \"https://host/simple\", "
        "\"extra_index_urls\": [\"https://other/simple\"], "
        "\"find_links\": [\"%s/sub\", \"https://host/links\"], \"pre\": true}}",
        dir);
    is(env, want);
}

static void test_requirements_that_cannot_be_used(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        { "six\n-e .\n", "r.txt, line 2: '-e .': that option is not understood" },
        { "./mine\n", "line 1: './mine': a folder of this machine is not there" },
        { "-r r.txt\n", "too deeply" },
        { "-r none.txt\n", "none.txt': No such file" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *path = put("r.txt", cases[i].text);
        CLEANUP_JSON json_t *env = json_object();
        struct ty_error err = { 0 };

        assert_true(ty_environment_requirements(env, path, &err) < 0);
        if (!strstr(err.text, cases[i].why))
            fail_msg("%s", err.text);
    }
}

static void test_conda_file(void **state)
{
    CLEANUP_FREE char *path = put("env.yml", "name: project\n"
                                             "channels: [conda-forge, 'file:///channel']\n"
                                             "dependencies:\n"
                                             "  - python=3.8.*\n"
                                             "  - pip=20\n"
                                             "  - conda-forge::numpy=1.21\n"
                                             "  - python-dateutil\n"
                                             "  - pip:\n"
                                             "    - six>=1\n"
                                             "    - --index-url https://host/simple\n"
                                             "    - azureml-defaults\n");
    CLEANUP_JSON json_t *env = json_object();
    struct ty_error err = { 0 };

    (void)state;
    if (ty_environment_conda_file(env, path, &err) < 0)
        fail_msg("%s", err.text);
    is(env, "{\"python\": \"3.8.*\", "
            "\"conda\": {\"packages\": [\"conda-forge::numpy=1.21\", \"python-dateutil\"], "
            "\"channels\": [\"conda-forge\", \"file:///channel\"]}, "
            "\"pip\": {\"packages\": [\"six>=1\", \"azureml-defaults\"], "
            "\"index_url\": \"https://host/simple\"}}");
}

static void test_python_of_a_conda_file(void **state)
{
    static const char *const cases[][2] = {
        { "python==3.8", "3.8" },    { "python=3.8.12=h_1", "3.8.12" },
        { "python >=3.6", ">=3.6" }, { "python>=3.6,<3.9", ">=3.6,<3.9" },
        { "python = 3.8", "3.8" },   { "python", NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *text = ty_strf("dependencies:\n- %s\n", cases[i][0]),
                          *path = put("env.yml", text);
        CLEANUP_JSON json_t *env = json_object();
        struct ty_error err = { 0 };
        const char *got;

        assert_int_equal(ty_environment_conda_file(env, path, &err), 0);
        got = json_string_value(json_object_get(env, "python"));
        if (cases[i][1] ? !got || strcmp(got, cases[i][1]) != 0 : got != NULL)
            fail_msg("'%s' gives '%s'", cases[i][0], got ? got : "(none)");
    }
}

static void test_conda_files_that_cannot_be_used(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        { "dependencies: six\n", "must be lists" },
        { "channels: [[a]]\n", "must hold texts" },
        { "dependencies:\n- pip: six\n", "one mapping 'pip: [..]'" },
        { "dependencies:\n- pip: [{a: b}]\n", "list of texts" },
        { "dependencies:\n- a\n  b: c\n", "cannot be read: line " },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *path = put("env.yml", cases[i].text);
        CLEANUP_JSON json_t *env = json_object();
        struct ty_error err = { 0 };

        assert_int_equal(ty_environment_conda_file(env, path, &err), -EINVAL);
        if (!strstr(err.text, cases[i].why))
            fail_msg("%s", err.text);
    }
}

static int no_run(struct ty_cli *cli)
{
    (void)cli;
    return 0;
}

static json_t *asked(struct ty_error *err, int *r, char **words)
{
    static const struct ty_cli_option options[] = { TY_ENVIRONMENT_OPTIONS, TY_OPT_END };
    static const struct ty_cli_command command = { .name = "x", .options = options, .run = no_run };
    struct ty_cli cli = { .command = &command };
    json_t *env = NULL;

    for (int i = 0; words[i]; i += 2)
        for (const struct ty_cli_option *o = options; o->name; o++)
            if (strcmp(o->name, words[i]) == 0) {
                cli.values[cli.nvalues].option = o;
                cli.values[cli.nvalues++].value = words[i + 1];
            }
    *r = ty_environment_asked(&cli, &env, err);
    return env;
}

static void test_options(void **state)
{
    CLEANUP_FREE char *file = put("r.txt", "six\n");
    CLEANUP_JSON json_t *env = NULL;
    struct ty_error err = { 0 };
    int r;

    (void)state;
    assert_null(asked(&err, &r, (char *[]){ NULL }));
    assert_int_equal(r, 0);
    env = asked(&err, &r,
                (char *[]){ "pip", "b", "torch", "any", "python-version", "3.11", "requirements",
                            file, "pip", "a>1", NULL });
    assert_int_equal(r, 0);
    is(env,
       "{\"pip\": {\"packages\": [\"six\", \"b\", \"a>1\"]}, \"torch\": \"\", \"python\": \"3.11\"}");
    assert_null(asked(&err, &r, (char *[]){ "environment", "mine", "pip", "six", NULL }));
    assert_int_equal(r, -EINVAL);
    assert_null(asked(&err, &r, (char *[]){ "environment", "mine", NULL }));
    assert_int_equal(r, 0);
    assert_null(asked(&err, &r, (char *[]){ "pip", "-r x", NULL }));
    assert_int_equal(r, -EINVAL);
    assert_non_null(strstr(err.text, "requirements file"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_requirements),
        T(test_requirements_that_cannot_be_used),
        T(test_conda_file),
        T(test_python_of_a_conda_file),
        T(test_conda_files_that_cannot_be_used),
        T(test_options),
    };

    return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
