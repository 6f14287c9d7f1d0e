/* test_jobfile.c - job.json and the phase file */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/jobfile.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXTS \
    "\"run\":\"r\",\"token\":\"t\",\"socket\":\"/s\",\"blobs\":\"/b\",\"home\":\"/h\",\"workspace\":\"w\",\"user\":\"u\",\"user_home\":\"/\""
#define SPEC "\"spec\":{\"version\":1,\"experiment\":\"first\",\"command\":[\"/bin/true\"]}"

static int set_up(void **state)
{
    char *dir = strdup("/tmp/ty-jobfile-XXXXXX");

    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int tear_down(void **state)
{
    ty_rm_rf(*state);
    free(*state);
    return 0;
}

static int read_text(const char *dir, const char *text, struct ty_jobfile **ret,
                     struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "job.json");

    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
    return ty_jobfile_read(dir, ret, err);
}

static void test_whole(void **state)
{
    CLEANUP(ty_jobfile_freep) struct ty_jobfile *j = NULL;
    CLEANUP_FREE char *work = ty_path_join(*state, "work");
    struct ty_error err = { 0 };

    if (read_text(
            *state,
            "{\"version\":1,\"attempt\":2,\"manifest\":null,\"log_bytes_max\":10,\"system_metrics_seconds\":4,\"warnings\":[\"a\"],\"data_dirs\":[]," TEXTS
            "," SPEC "}",
            &j, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(j->run, "r");
    assert_string_equal(j->work, work);
    assert_int_equal(j->attempt, 2);
    assert_int_equal(j->log_bytes_max, 10);
    assert_int_equal(j->system_metrics_seconds, 4);
    assert_string_equal(j->cache, "/h/cache");
    assert_null(j->manifest);
    assert_null(j->python_path);
    assert_int_equal(json_array_size(j->warnings), 1);
    assert_string_equal(j->spec->command[0], "/bin/true");
}

#define WITH(more) "{\"version\":1," TEXTS "," SPEC "," more "}"

static struct ty_jobfile *read_good(const char *dir, const char *text)
{
    struct ty_jobfile *j = NULL;
    struct ty_error err = { 0 };

    if (read_text(dir, text, &j, &err) < 0)
        fail_msg("%s", err.text);
    return j;
}

static void test_one_node(void **state)
{
    CLEANUP(ty_jobfile_freep)
    struct ty_jobfile *j = read_good(*state, WITH("\"checkpoint_dir\":\"/h/c\""));
    int first = -1;

    assert_int_equal(j->nnodes, 1);
    assert_int_equal(j->size, 1);
    assert_true(j->leads);
    assert_string_equal(j->nodes[0].name, "");
    assert_string_equal(j->nodes[0].gpus, "");
    assert_string_equal(j->checkpoint_dir, "/h/c");
    assert_int_equal(ty_jobfile_own_ranks(j, &first), 1);
    assert_int_equal(first, 0);
}

#define NODES \
    "\"nodes\":[{\"name\":\"h0\",\"ranks\":2,\"cpus\":[4,5,9],\"gpus\":[\"0\",\"GPU-x\"]}," \
    "{\"name\":\"h1\",\"ranks\":3,\"cpus\":[],\"gpus\":[]},{\"name\":\"h2\",\"ranks\":1}]"

static void test_nodes(void **state)
{
    struct ty_jobfile *j = read_good(*state, WITH(NODES));
    int first = -1;

    assert_int_equal(j->nnodes, 3);
    assert_int_equal(j->size, 6);
    assert_string_equal(j->nodes[0].gpus, "0,GPU-x");
    assert_int_equal(j->nodes[0].ncpus, 3);
    assert_int_equal(j->nodes[0].cpus[2], 9);
    assert_int_equal(j->nodes[1].first, 2);
    assert_int_equal(j->nodes[1].ncpus, 0);
    assert_string_equal(ty_jobfile_node_of(j, 0)->name, "h0");
    assert_string_equal(ty_jobfile_node_of(j, 1)->name, "h0");
    assert_string_equal(ty_jobfile_node_of(j, 4)->name, "h1");
    assert_string_equal(ty_jobfile_node_of(j, 5)->name, "h2");
    assert_int_equal(ty_jobfile_own_ranks(j, &first), 6);
    ty_jobfile_free(j);
    j = read_good(*state, WITH(NODES ",\"local_nodes\":1"));
    assert_true(j->leads);
    assert_int_equal(ty_jobfile_own_ranks(j, &first), 2);
    assert_int_equal(first, 0);
    ty_jobfile_free(j);
    j = read_good(*state, WITH(NODES ",\"role\":\"node\",\"node\":1"));
    assert_false(j->leads);
    assert_int_equal(ty_jobfile_own_ranks(j, &first), 3);
    assert_int_equal(first, 2);
    ty_jobfile_free(j);
}

#define DATA \
    "\"spec\":{\"version\":1,\"experiment\":\"first\",\"command\":[\"/bin/true\"]," \
    "\"data_references\":{\"d\":{\"datastore\":\"s\",\"path\":\"\"}}}"

/* Of each reference a folder, or how its object store is reached. */
static void test_data(void **state)
{
    struct ty_jobfile *j = read_good(
        *state,
        "{\"version\":1,\"data_dirs\":[null],\"data_access\":[{\"name\":\"s\",\"kind\":\"s3\"}]," TEXTS
        "," DATA "}");

    assert_null(j->data_dirs[0]);
    assert_string_equal(json_string_value(json_object_get(j->data_access[0], "kind")), "s3");
    ty_jobfile_free(j);
    j = read_good(*state, "{\"version\":1,\"data_dirs\":[\"/d\"],\"data_access\":[null]," TEXTS
                          "," DATA "}");
    assert_string_equal(j->data_dirs[0], "/d");
    assert_null(j->data_access[0]);
    ty_jobfile_free(j);
}

/* The specification is without the passwords of its addresses, which stand beside it. */
static void test_addresses(void **state)
{
    static const char text[] =
        "{\"version\":1,\"attempt\":1,\"warnings\":[],\"data_dirs\":[]," TEXTS
        ",\"addresses\":{\"https://me:***@a/s\":\"https://me:one@a/s\","
        "\"https://me:***@b/s\":\"https://me:two@b/s\"},"
        "\"spec\":{\"version\":1,\"experiment\":\"first\",\"command\":[\"/bin/true\"],"
        "\"environment\":{\"pip\":{\"packages\":[\"six\"],\"index_url\":\"https://me:***@a/s\","
        "\"extra_index_urls\":[\"https://c/s\",\"https://me:***@b/s\"]}},"
        "\"environment_variables\":{\"PIP_INDEX_URL\":\"https://me:***@b/s\",\"OTHER\":\"x\"}}}";
    CLEANUP(ty_jobfile_freep) struct ty_jobfile *j = read_good(*state, text);
    const json_t *variables = j->spec->environment;

    assert_string_equal(j->spec->env->index_url, "https://me:one@a/s");
    assert_string_equal(j->spec->env->extra_index_urls[0], "https://c/s");
    assert_string_equal(j->spec->env->extra_index_urls[1], "https://me:two@b/s");
    assert_string_equal(json_string_value(json_object_get(variables, "PIP_INDEX_URL")),
                        "https://me:two@b/s");
    assert_string_equal(json_string_value(json_object_get(variables, "OTHER")), "x");
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        { "{", "" },
        { "{" TEXTS "," SPEC "}", "version" },
        { "{\"version\":2," TEXTS "," SPEC "}", "version" },
        { "{\"version\":1," TEXTS "}", "" },
        { "{\"version\":1,\"run\":\"r\"," SPEC "}", "token" },
        { "{\"version\":1,\"attempt\":0," TEXTS "," SPEC "}", "attempt" },
        { "{\"version\":1,\"system_metrics_seconds\":-1," TEXTS "," SPEC "}",
          "system_metrics_seconds" },
        { "{\"version\":1," TEXTS
          ",\"spec\":{\"version\":1,\"experiment\":\"first\",\"command\":[\"/bin/true\"],"
          "\"data_references\":{\"d\":{\"datastore\":\"s\",\"path\":\"\"}}}}",
          "data_dirs" },
        { "{\"version\":1,\"data_dirs\":[\"relative\"]," TEXTS
          ",\"spec\":{\"version\":1,\"experiment\":\"first\",\"command\":[\"/bin/true\"],"
          "\"data_references\":{\"d\":{\"datastore\":\"s\",\"path\":\"\"}}}}",
          "data_dirs" },
        { "{\"version\":1,\"data_dirs\":[null]," TEXTS "," DATA "}", "data_dirs" },
        { "{\"version\":1,\"data_dirs\":[null],\"data_access\":[null]," TEXTS "," DATA "}",
          "data_dirs" },
        { "{\"version\":1,\"data_dirs\":[null],\"data_access\":{}," TEXTS "," DATA "}",
          "data_access" },
        { WITH("\"nodes\":[1]"), "nodes" },
        { WITH("\"nodes\":[{\"name\":\"a\",\"ranks\":0}]"), "ranks" },
        { WITH("\"nodes\":[{\"name\":\"a\",\"cpus\":[\"x\"]}]"), "node 'a': 'cpus'" },
        { WITH(NODES ",\"node\":3"), "node" },
        { WITH(NODES ",\"local_nodes\":4"), "local_nodes" },
        { WITH(NODES ",\"role\":\"boss\""), "'role' is 'boss'" },
    };
    struct ty_jobfile *j = NULL;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ty_error err = { 0 };

        assert_true(read_text(*state, bad[i].text, &j, &err) < 0);
        assert_null(j);
        if (!strstr(err.text, bad[i].says))
            fail_msg("'%s' should name '%s'", err.text, bad[i].says);
    }
    struct ty_error err = { 0 };
    assert_int_equal(ty_jobfile_read("/no/such", &j, &err), -ENOENT);
}

static void test_phase(void **state)
{
    CLEANUP_FREE char *path = ty_path_join(*state, "phase");

    assert_int_equal(ty_phase_read(*state), TY_PHASE_none);
    for (enum ty_phase p = TY_PHASE_preparing; p < TY_PHASE_COUNT; p++) {
        assert_int_equal(ty_phase_write(*state, p), 0);
        assert_int_equal(ty_phase_read(*state), p);
    }
    assert_string_equal(ty_phase_word(TY_PHASE_collected), "collected");
    assert_int_equal(ty_write_file(path, "", 0, 0600),
                     0); /* as a power cut may leave it: never start again */
    assert_int_equal(ty_phase_read(*state), TY_PHASE_preparing);
    assert_int_equal(ty_phase_write("/no/such", TY_PHASE_running), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_node, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nodes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_phase, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
