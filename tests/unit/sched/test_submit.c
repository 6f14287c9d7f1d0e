/* test_submit.c - what is refused before anything is stored, and what an accepted run begins with */
#include "kit.h"

#define SPEC(more) "{\"version\": 1, " more "}"
#define TRUE "\"command\": [\"/bin/true\"]"

static int64_t runs(struct kit *k)
{
    CLEANUP_JSON json_t *counts = NULL;

    assert_int_equal(ty_store_counts(k->store, &counts), 0);
    return json_integer_value(json_object_get(counts, "runs"));
}

static void test_refusals(void **state)
{
    static const struct {
        const char *spec;
        int r;
        const char *text;
    } cases[] = {
        { "[]", -EINVAL, "not a JSON object" },
        { SPEC("\"target\": \"gpuland\", " TRUE), -ENOENT,
          "there is no compute target 'gpuland'; there are 'local'" },
        { SPEC("\"command\": [\"/bin/absent\"]"), -EINVAL,
          "the command '/bin/absent' cannot be run on target 'local'" },
        { SPEC(
              "\"snapshot\": \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\", " TRUE),
          -ENOENT, "is not stored" },
        { SPEC("\"resources\": {\"cpus\": 3}, " TRUE), -EINVAL,
          "asks for 3 CPU slots, and this box has 2 (sched.cpus)" },
        { SPEC("\"data_references\": {\"d\": {\"datastore\": \"none\"}}, " TRUE), -ENOENT,
          "datastore 'none'" },
        { SPEC("\"process_count_per_node\": 2, " TRUE), -EINVAL, "no communicator" },
        { SPEC("\"node_count\": 1025, \"communicator\": \"Mpi\", " TRUE), -EINVAL,
          "asks for 1025 processes, and this box, with 2 CPU slots, may start 1024" },
        { SPEC("\"colour\": 1, " TRUE), -EINVAL, "colour" },
        { SPEC("\"use_gpu\": 1, " TRUE), -EINVAL, "use_gpu" },
    };
    char run[128];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_error err = { 0 };
        int r = kit_try(*state, cases[i].spec, run, &err);

        if (r != cases[i].r || !strstr(err.text, cases[i].text))
            fail_msg("%s gave %d: %s", cases[i].spec, r, err.text);
    }
    assert_int_equal(runs(*state), 0);
}

static void test_what_a_run_begins_with(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    CLEANUP_FREE char *events = NULL;
    char name[128];

    kit_submit(
        k,
        "\"tags\": {\"a\": \"b\", \"bare\": null}, \"warnings\": [\"mind\"], \"display_name\": \"mine\", ",
        "true", name);
    run = kit_run(k, name);
    assert_int_equal(strncmp(name, "first_", 6), 0);
    assert_string_equal(json_string_value(json_object_get(run, "user")), "ann");
    assert_string_equal(json_string_value(json_object_get(run, "display_name")), "mine");
    assert_string_equal(json_string_value(json_object_get(run, "command_line")), "/bin/sh -c true");
    assert_string_equal(json_string_value(json_object_get(json_object_get(run, "tags"), "a")), "b");
    assert_true(json_is_null(json_object_get(json_object_get(run, "tags"), "bare")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(run, "warnings"), 0)),
                        "mind");
    assert_int_equal(json_integer_value(
                         json_object_get(json_object_get(run, "spec"), "max_run_duration_seconds")),
                     2592000);
    kit_until(k, kit_ended, name);
    events = kit_events(k, name);
    assert_string_equal(events,
                        "submitted tagged tagged prepare warned ready started exited_ok collected");
}

static void test_several_processes(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    CLEANUP_FREE char *events = NULL;
    struct ty_error err = { 0 };
    char name[128];

    assert_int_equal(kit_target(k, "pair", "{\"kind\": \"local\", \"max_nodes\": 2}", &err), 0);
    assert_int_equal(kit_try(k, SPEC("\"node_count\": 3, \"target\": \"pair\", " TRUE), name, &err),
                     -EINVAL);
    assert_non_null(
        strstr(err.text, "node_count is 3, and target 'pair' has at most 2 nodes (max_nodes)"));
    /* More processes than slots: they share all of them, and are told. */
    kit_submit(k,
               "\"node_count\": 2, \"process_count_per_node\": 2, \"communicator\": \"gloo\", "
               "\"target\": \"pair\", ",
               "test $RANK != 3 || exit 5", name);
    kit_until(k, kit_ended, name);
    events = kit_events(k, name);
    assert_string_equal(events, "submitted prepare warned ready started exited_bad collected");
    run = kit_run(k, name);
    assert_string_equal(json_string_value(json_array_get(json_object_get(run, "warnings"), 0)),
                        "4 processes share 2 CPU slots");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(run, "error"), "message")),
        "rank 3 (node node-1) exited with code 5");
}

static void test_gpu(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    struct ty_error err = { 0 };
    char name[128];

    if (ty_target_gpus() > 0)
        return;
    kit_submit(k, "\"use_gpu\": true, \"warnings\": [\"mind\"], ", "true", name);
    run = kit_run(k, name);
    assert_non_null(strstr(json_string_value(json_array_get(json_object_get(run, "warnings"), 0)),
                           "has no GPU: the run uses the CPU"));
    assert_int_equal(json_array_size(json_object_get(run, "warnings")), 2);
    assert_int_equal(kit_target(k, "strict", "{\"kind\": \"local\", \"require_gpu\": true}", &err),
                     0);
    assert_int_equal(
        kit_try(k, SPEC("\"target\": \"strict\", \"use_gpu\": true, " TRUE), name, &err), -EINVAL);
    assert_non_null(strstr(err.text, "require_gpu"));
}

static void test_a_full_queue(void **state)
{
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char a[128], b[128];

    kit_conf(k, "limits.queued_runs", "1");
    kit_submit(k, "", "sleep 100", a);
    assert_int_equal(kit_try(k, SPEC(TRUE), b, &err), -EUSERS);
    assert_non_null(strstr(err.text, "limits.queued_runs"));
    assert_int_equal(kit_cancel(k, a), 0);
    kit_until(k, kit_ended, a);
}

/* A datastore that is named is used until the run has ended. */
static void test_datastores_in_use(void **state)
{
    struct kit *k = *state;
    char run[128];

    assert_null(ty_sched_uses_datastore(k->sched, "workspacefilestore"));
    kit_submit(
        k,
        "\"data_references\": {\"d\": {\"datastore\": \"workspacefilestore\", \"mode\": \"upload\"}}, ",
        "sleep 100", run);
    assert_string_equal(ty_sched_uses_datastore(k->sched, "workspacefilestore"), run);
    assert_null(ty_sched_uses_datastore(k->sched, "workspaceblobstore"));
    assert_int_equal(kit_cancel(k, run), 0);
    kit_until(k, kit_ended, run);
    assert_null(ty_sched_uses_datastore(k->sched, "workspacefilestore"));
}

static bool has_store(struct kit *k, const char *name)
{
    CLEANUP_JSON json_t *j = NULL;

    return ty_store_datastore(k->store, name, &j) == 0;
}

static void put_s3(struct kit *k)
{
    struct ty_unit *u = ty_unit_new();
    CLEANUP_JSON json_t *config = json_pack("{s:s s:s s:s s:b}", "bucket", "sets", "region", "r",
                                            "endpoint", "http://127.0.0.1:1", "path_style", 1);
    CLEANUP_JSON json_t *secrets =
        json_pack("{s:s s:s}", "access_key_id", "id", "secret_access_key", "hush");
    struct ty_error err = { 0 };

    assert_int_equal(ty_unit_datastore_put_sealed(u, k->store, "sets", "s3", config, "access_key",
                                                  secrets, false, 1, &err),
                     0);
    ty_store_commit(k->store, u, NULL, NULL);
    kit_until(k, has_store, "sets");
}

static json_t *job_of(struct kit *k, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/jobs/%s/job.json", k->home, run);
    CLEANUP_FREE char *text = NULL;
    json_t *job = NULL;
    size_t n;

    return ty_read_file(path, 1 << 20, &text, &n) == 0 && ty_json_parse(text, n, &job, NULL) == 0
               ? job
               : NULL;
}

static bool has_job(struct kit *k, const char *run)
{
    CLEANUP_JSON json_t *job = job_of(k, run);

    return job != NULL;
}

/* What a job is told of an object store, key included, stands in its job.json alone. */
static void test_object_stores(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *job = NULL;
    CLEANUP_JSON json_t *shown = NULL;
    CLEANUP_FREE char *text = NULL;
    const json_t *access;
    char run[128];

    put_s3(k);
    kit_submit(
        k,
        "\"data_references\": {\"a\": {\"datastore\": \"workspaceblobstore\", \"path\": \"x\"}, "
        "\"b\": {\"datastore\": \"sets\", \"mode\": \"download\"}}, ",
        "sleep 100", run);
    kit_until(k, has_job, run);
    job = job_of(k, run);
    access = json_object_get(job, "data_access");
    assert_int_equal(json_array_size(access), 2);
    assert_true(json_is_string(json_array_get(json_object_get(job, "data_dirs"), 0)));
    assert_true(json_is_null(json_array_get(json_object_get(job, "data_dirs"), 1)));
    assert_true(json_is_null(json_array_get(access, 0)));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(json_array_get(access, 1), "config"),
                                          "secret_access_key")),
        "hush");
    assert_int_equal(kit_cancel(k, run), 0);
    kit_until(k, kit_ended, run);
    shown = kit_run(k, run);
    text = ty_json_text(shown);
    assert_null(strstr(text, "hush"));
}

/* A password in an address, or a token in its place, is in no record; what is left of the address stands for it from then on. */
static void test_passwords_of_addresses(void **state)
{
    static const char given[] =
        "\"environment\": {\"pip\": {\"packages\": [\"a @ git+https://hush@h/a.git\"], "
        "\"index_url\": \"https://me:hush@h/simple\"}}, "
        "\"environment_variables\": {\"UV_INDEX_URL\": \"https://hush@h/simple\"}, ";
    static const char *const left[] = { "https://***@h/a.git", "https://me:***@h/simple",
                                        "\"https://***@h/simple\"" };
    struct kit *k = *state;
    CLEANUP_JSON json_t *shown = NULL;
    CLEANUP_FREE char *text = NULL, *again = NULL;
    struct ty_error err = { 0 };
    char run[128];

    kit_submit(k, "\"resources\": {\"cpus\": 2}, ", "sleep 100", run); /* the others wait */
    kit_submit(k, given, "true", run);
    shown = kit_run(k, run);
    text = ty_json_text(json_object_get(shown, "spec"));
    assert_null(strstr(text, "hush"));
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        assert_non_null(strstr(text, left[i]));
    assert_int_equal(kit_try(k, text, run, &err), 0);
    again = ty_strf("{\"version\": 1, \"command\": [\"/bin/true\"], \"environment\": {\"pip\": "
                    "{\"packages\": [\"six\"], \"index_url\": \"https://***@other/simple\"}}}");
    assert_int_equal(kit_try(k, again, run, &err), -ENOENT);
    assert_non_null(strstr(err.text, "'https://***@other/simple' is not known here"));
}

#ifdef TY_FAULTS
/* A submission that cannot be stored is refused, leaves nothing, and the next one works. */
static void test_a_store_that_fails(void **state)
{
    static const struct {
        const char *point;
        int error;
    } faults[] = { { "store.commit", ENOSPC }, { "store.event", ENOSPC }, { "store.commit", EIO } };
    struct kit *k = *state;
    char run[128];

    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct ty_error err = { 0 };

        ty_fault_arm(faults[i].point, 1, faults[i].error);
        assert_int_equal(kit_try(k, SPEC(TRUE), run, &err), -faults[i].error);
        ty_fault_arm("none", 0, 0);
        assert_non_null(strstr(err.text, "cannot store the change"));
        assert_int_equal(runs(k), (int64_t)i);
        kit_recover(k);
        kit_submit(k, "", "true", run);
        kit_until(k, kit_ended, run);
    }
}
#endif

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_refusals),           T(test_what_a_run_begins_with), T(test_gpu),
        T(test_several_processes),  T(test_a_full_queue),           T(test_datastores_in_use),
        T(test_object_stores),      T(test_passwords_of_addresses),
#ifdef TY_FAULTS
        T(test_a_store_that_fails),
#endif
    };

    return cmocka_run_group_tests_name("submit", tests, NULL, NULL);
}
