/* test_submit.c - from the command line to the specification, without a daemon */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/submit.h"
#include "core/run_spec.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static void put(const char *name, int mode)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0755), 0);
    assert_int_equal(ty_write_file(path, "#!/bin/sh\n", 10, (mode_t)mode), 0);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-submit.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    put("bin/tool", 0755);
    put("bin/data", 0644);
    put("go.sh", 0755);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return ty_rm_rf(dir);
}

static void test_program(void **state)
{
    CLEANUP_FREE char *old = strdup(getenv("PATH"));
    CLEANUP_FREE char *path = ty_strf("relative:%s/bin:/usr/bin", dir),
                      *tool = ty_strf("%s/bin/tool", dir);
    struct ty_error err = { 0 };
    char *got = NULL;

    (void)state;
    setenv("PATH", path, 1);
    assert_int_equal(ty_submit_program("tool", dir, &got, &err), 0);
    assert_string_equal(got, tool);
    free(got);
    got = NULL;
    assert_int_equal(ty_submit_program("no-such-program-here", dir, &got, &err), -ENOENT);
    assert_non_null(strstr(err.text, "'no-such-program-here'"));
    assert_int_equal(ty_submit_program("data", dir, &got, &err), -ENOENT); /* not executable */
    assert_int_equal(ty_submit_program("", dir, &got, &err), -EINVAL);
    assert_null(got);
    /* with a '/', it is looked for in the folder that is snapshotted, and stays relative */
    assert_int_equal(ty_submit_program("./bin/../go.sh", dir, &got, &err), 0);
    assert_string_equal(got, "go.sh");
    free(got);
    got = NULL;
    assert_int_equal(ty_submit_program("./bin/data", dir, &got, &err), -ENOENT);
    assert_non_null(strstr(err.text, "chmod +x"));
    assert_int_equal(ty_submit_program("./bin", dir, &got, &err), -ENOENT);
    assert_non_null(strstr(err.text, "folder"));
    /* an absolute name is kept as it was typed; without a snapshot a relative one becomes absolute */
    assert_int_equal(ty_submit_program(tool, dir, &got, &err), 0);
    assert_string_equal(got, tool);
    free(got);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(ty_submit_program("./bin/tool", NULL, &got, &err), 0);
    assert_string_equal(got, tool);
    free(got);
    assert_int_equal(chdir("/"), 0);
    setenv("PATH", old, 1);
}

static void test_experiment(void **state)
{
    static const struct {
        const char *folder, *name;
    } table[] = {
        { "my-pytorch_proj1", "my-pytorch_proj1" },
        { "My Project (2)", "My-Project-2" },
        { "--xyz", "xyz" },
        { "_xyz", "xyz" },
        { "ab", "default" },
        { "h\xc3\xa9llo", "h-llo" },
        { "\xe5\xa4\xa7", "default" },
        { "...", "default" },
        { "a123456789b123456789c123456789d123456789", "a123456789b123456789c123456789d12345" },
    };
    char name[37];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        CLEANUP_FREE char *path = ty_path_join(dir, table[i].folder);

        assert_int_equal(ty_mkdir_p(path, 0755), 0);
        ty_submit_experiment(path, name);
        assert_string_equal(name, table[i].name);
        assert_int_equal(ty_check_experiment_name(name, NULL), 0);
    }
    ty_submit_experiment("/", name);
    assert_string_equal(name, "default");
}

static void test_data(void **state)
{
    static const struct {
        const char *text, *store, *path, *mode;
    } good[] = {
        { "d=store", "store", "", "mount" },
        { "d=store/", "store", "", "mount" },
        { "d=store/a/b", "store", "a/b", "mount" },
        { "d=store/a:download", "store", "a", "download" },
        { "d=store:upload", "store", "", "upload" },
    };
    static const char *const bad[] = { "", "d", "=store", "d=", "d=/a", "d=:mount", "d=store:" };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        CLEANUP_JSON json_t *refs = json_object();
        const json_t *ref;

        assert_int_equal(ty_submit_data(good[i].text, refs, NULL), 0);
        ref = json_object_get(refs, "d");
        assert_string_equal(json_string_value(json_object_get(ref, "datastore")), good[i].store);
        assert_string_equal(json_string_value(json_object_get(ref, "path")), good[i].path);
        assert_string_equal(json_string_value(json_object_get(ref, "mode")), good[i].mode);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_JSON json_t *refs = json_object();
        struct ty_error err = { 0 };

        assert_int_equal(ty_submit_data(bad[i], refs, &err), -EINVAL);
        assert_non_null(strstr(err.text, bad[i]));
        assert_int_equal(json_object_size(refs), 0);
    }
}

static int spec_of(const char *const *words, json_t **spec, struct ty_error *err)
{
    char *argv[30];
    struct ty_cli cli;
    int n = 0, code, r;

    while (words[n]) {
        argv[n] = (char *)words[n];
        n++;
    }
    argv[n] = NULL;
    assert_int_equal(ty_cli_parse(&cli, n, argv, &code), 0);
    r = ty_submit_spec(&cli, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                       spec, err);
    free(cli.args);
    return r;
}
#define SPEC(spec, err, ...) spec_of((const char *const[]){ "run", __VA_ARGS__, NULL }, spec, err)

/* What the command line makes, the service's own parser takes, and reads as it was meant. */
static void test_spec(void **state)
{
    CLEANUP_JSON json_t *json = NULL;
    struct ty_run_spec *spec = NULL;
    struct ty_error err = { 0 };

    (void)state;
    setenv("GIVEN", "from here", 1);
    assert_int_equal(SPEC(&json, &err, "--dir", dir, "--target", "box", "--name", "a name", "--env",
                          "GIVEN", "--env", "SEED=1=2", "--cpus", "3", "--gpu", "--tag", "k=v",
                          "--tag", "bare", "--max-run-duration", "1h30m", "--data",
                          "in=store/x:download", "--expand", "--", "./go.sh", "-x",
                          "$AZUREML_DATAREFERENCE_in"),
                     0);
    json_object_set_new(json, "experiment", json_string("exp"));
    if (ty_run_spec_parse(json, &spec, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(spec->command[0], "go.sh");
    assert_string_equal(spec->command[2], "$AZUREML_DATAREFERENCE_in");
    assert_true(spec->expand && spec->use_gpu);
    assert_string_equal(spec->target, "box");
    assert_string_equal(spec->display_name, "a name");
    assert_string_equal(spec->source_directory, dir);
    assert_int_equal(spec->cpus, 3);
    assert_int_equal(spec->max_run_seconds, 5400);
    assert_int_equal(spec->ndata, 1);
    assert_int_equal(spec->data[0].mode, TY_DATA_DOWNLOAD);
    assert_string_equal(json_string_value(json_object_get(spec->environment, "GIVEN")),
                        "from here");
    assert_string_equal(json_string_value(json_object_get(spec->environment, "SEED")), "1=2");
    assert_string_equal(json_string_value(json_object_get(spec->environment, "PATH")),
                        getenv("PATH"));
    assert_int_equal(json_object_size(spec->environment), 3);
    assert_string_equal(json_string_value(json_object_get(spec->tags, "k")), "v");
    assert_true(json_is_null(json_object_get(spec->tags, "bare")));
    ty_run_spec_free(spec);
}

static void is_json(const json_t *spec, const char *key, const char *value)
{
    const json_t *said = json_object_get(spec, key);
    char *text = said ? json_dumps(said, JSON_ENCODE_ANY | JSON_COMPACT) : strdup("none");

    assert_string_equal(text, value);
    free(text);
}

static void test_processes(void **state)
{
    CLEANUP_JSON json_t *one = NULL;
    CLEANUP_JSON json_t *plain = NULL;
    CLEANUP_JSON json_t *all = NULL;
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(SPEC(&one, &err, "--nodes", "1", "--", "true"), 0);
    is_json(one, "communicator", "none");
    assert_int_equal(SPEC(&plain, &err, "--procs", "2", "--", "true"), 0);
    is_json(plain, "process_count_per_node", "2");
    is_json(plain, "communicator", "\"Mpi\"");
    assert_int_equal(SPEC(&all, &err, "--nodes", "2", "--procs", "4", "--backend", "NCCL", "--gpus",
                          "1", "--hang-timeout", "10m", "--max-restarts", "node_lost=2,error=0",
                          "--", "true"),
                     0);
    is_json(all, "node_count", "2");
    is_json(all, "process_count_per_node", "4");
    is_json(all, "communicator", "\"Nccl\"");
    is_json(all, "resources", "{\"gpus\":1}");
    is_json(all, "use_gpu", "true");
    is_json(all, "hang_timeout_seconds", "600");
    is_json(all, "max_restarts", "{\"node_lost\":2,\"error\":0}");
}

static void test_refused_processes(void **state)
{
    static const char *const bad[][3] = {
        { "--nodes", "0", "--nodes '0' is not a number from 1 on" },
        { "--procs", "two", "--procs 'two' is not a number from 1 on" },
        { "--backend", "ps", "--backend 'ps' is none of mpi, gloo and nccl" },
        { "--gpus", "-1", "--gpus '-1'" },
        { "--hang-timeout", "soon", "--hang-timeout 'soon' is not a time" },
        { "--max-restarts", "luck=1", "--max-restarts 'luck=1' is not CAUSE=N" },
        { "--max-restarts", "error", "--max-restarts 'error' is not" },
        { "--max-restarts", "error=1,node_lost=x", "--max-restarts 'node_lost=x' is not" },
        { "--max-restarts", "error=1001", "from 0 to 1000" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_FREE char *word = ty_strf("%s=%s", bad[i][0], bad[i][1]);
        struct ty_error err = { 0 };
        json_t *json = NULL;

        assert_int_equal(SPEC(&json, &err, word, "--", "true"), -EINVAL);
        if (!strstr(err.text, bad[i][2]))
            fail_msg("'%s' should say '%s'", err.text, bad[i][2]);
    }
}

static void test_refusals(void **state)
{
    json_t *json = NULL;
    struct ty_error err = { 0 };

    (void)state;
    unsetenv("NOT_SET_HERE");
    assert_int_equal(SPEC(&json, &err, "--env", "NOT_SET_HERE", "--", "true"), -EINVAL);
    assert_non_null(strstr(err.text, "NOT_SET_HERE"));
    assert_int_equal(SPEC(&json, &err, "--env", "1X=2", "--", "true"), -EINVAL);
    assert_int_equal(SPEC(&json, &err, "--cpus", "0", "--", "true"), -EINVAL);
    assert_int_equal(SPEC(&json, &err, "--cpus", "two", "--", "true"), -EINVAL);
    assert_int_equal(SPEC(&json, &err, "--max-run-duration", "1.5", "--", "true"), -EINVAL);
    assert_int_equal(SPEC(&json, &err, "--tag", "=v", "--", "true"), -EINVAL);
    assert_int_equal(SPEC(&json, &err, "--", "true", "bad\xff"), -EINVAL);
    assert_non_null(strstr(err.text, "word 2"));
    assert_null(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program),   cmocka_unit_test(test_experiment),
        cmocka_unit_test(test_data),      cmocka_unit_test(test_spec),
        cmocka_unit_test(test_processes), cmocka_unit_test(test_refused_processes),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
