/* test_gang.c - what runs hold of nodes: CPUs, GPUs (of a stand-in for NVML), hosts; draining; what is refused; asking */
#include "kit.h"
#include "sched/ask.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"

#define SLEEP "\"command\": [\"/bin/sleep\", \"100\"]}"
#define SPEC(more) "{\"version\": 1, " more SLEEP

static struct {
    int r;
    char text[1024];
} got;

static void on_answer(void *ctx, int r, const char *name, const struct ty_error *err)
{
    (void)ctx, (void)name;
    got.r = r;
    snprintf(got.text, sizeof got.text, "%s", r < 0 ? err->text : "");
}

static bool answered(struct kit *k, const char *run)
{
    (void)k, (void)run;
    return got.r != 1;
}

static void submit(struct kit *k, const char *spec, char run[128])
{
    struct ty_error err = { 0 };

    if (kit_try(k, spec, run, &err) < 0)
        fail_msg("%s: %s", spec, err.text);
}

static void refused(struct kit *k, const char *spec, const char *words)
{
    struct ty_error err = { 0 };
    char run[128];

    assert_int_equal(kit_try(k, spec, run, &err), -EINVAL);
    if (!strstr(err.text, words))
        fail_msg("'%s' should say '%s'", err.text, words);
}

static void assert_text(struct kit *k, const char *run, const char *key, const char *part)
{
    CLEANUP_JSON json_t *j = kit_run(k, run);
    const json_t *v = json_object_get(j, key);
    const char *text = json_string_value(json_is_array(v) ? json_array_get(v, 0) : v);

    if (!text || !strstr(text, part))
        fail_msg("'%s' should say '%s'", text ? text : "", part);
}

/* What job.json says of that node of the run: the list of that key, as compact JSON. */
static void assert_node(struct kit *k, const char *run, size_t node, const char *key,
                        const char *value)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(k->home, run);
    CLEANUP_FREE char *path = ty_path_join(dir, "job.json");
    CLEANUP_JSON json_t *job = json_load_file(path, 0, NULL);
    CLEANUP_FREE char *text =
        json_dumps(json_object_get(json_array_get(json_object_get(job, "nodes"), node), key),
                   JSON_COMPACT | JSON_ENCODE_ANY);

    assert_string_equal(text ? text : "none", value);
}

/* That key of a node, by its name; as compact JSON, malloc'ed. */
static char *node_says(struct kit *k, const char *name, const char *key)
{
    CLEANUP_JSON json_t *nodes = NULL;
    const json_t *n;
    size_t i;

    assert_int_equal(ty_sched_nodes(k->sched, &nodes), 0);
    json_array_foreach (json_object_get(nodes, "nodes"), i, n)
        if (strcmp(json_string_value(json_object_get(n, *name ? "name" : "kind")),
                   *name ? name : "local") == 0)
            return json_dumps(json_object_get(n, key), JSON_COMPACT | JSON_ENCODE_ANY);
    return NULL;
}

static void assert_says(struct kit *k, const char *name, const char *key, const char *value)
{
    CLEANUP_FREE char *text = node_says(k, name, key);

    assert_string_equal(text ? text : "none", value);
}

static void configure(struct kit *k, const char *key, const char *value)
{
    kit_conf(k, key, value);
    kit_stop(k);
    kit_start(k);
}

/* ---- GPUs ---- */

static void test_a_gpu_has_one_run(void **state)
{
    struct kit *k = *state;
    char a[128], b[128], c[128], plain[128];

    configure(k, "sched.cpus", "8");
    submit(k, SPEC("\"use_gpu\": true, "), a);
    submit(k, SPEC("\"use_gpu\": true, "), b);
    submit(k, SPEC("\"use_gpu\": true, "), c);
    submit(k, SPEC(""), plain);
    kit_state(k, a, "Running");
    kit_state(k, b, "Running");
    kit_state(k, plain, "Running"); /* who waits for a GPU keeps nobody from CPUs */
    assert_node(k, a, 0, "gpus", "[\"0\"]");
    assert_node(k, b, 0, "gpus", "[\"1\"]");
    assert_node(k, plain, 0, "gpus", "[]");
    assert_text(k, c, "why", "waits for 1 GPU of this box (2 of 2 in use)");
    kit_stop(k);
    kit_start(k); /* GPUs stay held */
    kit_idle(k, 50);
    kit_state(k, c, "Queued");
    assert_int_equal(kit_cancel(k, a), 0);
    kit_state(k, c, "Running");
    assert_node(k, c, 0, "gpus", "[\"0\"]");
}

static void test_gpus_of_several_processes(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *held = NULL;
    char pair[128], many[128];

    refused(k,
            SPEC("\"use_gpu\": true, \"resources\": {\"gpus\": 2}, \"node_count\": 2, "
                 "\"communicator\": \"nccl\", "),
            "asks for 4 GPUs, and this box has 2");
    submit(k, SPEC("\"use_gpu\": true, \"node_count\": 2, \"communicator\": \"nccl\", "), pair);
    kit_state(k, pair, "Running");
    assert_node(k, pair, 0, "gpus", "[\"0\"]");
    assert_node(k, pair, 1, "gpus", "[\"1\"]");
    held = node_says(k, "", "gpus");
    assert_non_null(strstr(held, pair));
    assert_int_equal(kit_cancel(k, pair), 0);
    kit_until(k, kit_ended, pair);
    /* More processes than GPUs, and nobody has said how many: they share. */
    submit(k,
           SPEC("\"use_gpu\": true, \"process_count_per_node\": 3, \"communicator\": \"gloo\", "),
           many);
    kit_state(k, many, "Running");
    assert_text(k, many, "warnings", "3 processes share 2 GPUs");
    assert_node(k, many, 0, "gpus", "[\"0\",\"1\"]");
}

/* ---- slots ---- */

static void test_slots_are_shared_out(void **state)
{
    struct kit *k = *state;
    char a[128], b[128];

    configure(k, "sched.cpus", "6"); /* more than CPUs, maybe: slots alone are looked at */
    submit(k, SPEC("\"node_count\": 2, \"resources\": {\"cpus\": 2}, \"communicator\": \"gloo\", "),
           a);
    submit(k, SPEC("\"resources\": {\"cpus\": 2}, "), b);
    kit_state(k, a, "Running");
    kit_state(k, b, "Running");
    assert_says(k, "", "cpus_used", "6");
    assert_node(k, a, 1, "name", "\"node-1\"");
    assert_node(k, a, 1, "ranks", "1");
    assert_int_equal(kit_cancel(k, a), 0);
    kit_until(k, kit_ended, a);
    assert_says(k, "", "cpus_used", "2");
    kit_stop(k);
    kit_start(k);
    assert_says(k, "", "cpus_used", "2");
    assert_int_equal(kit_cancel(k, b), 0);
    kit_until(k, kit_ended, b);
    assert_says(k, "", "cpus_used", "0");
}

/* ---- hosts ---- */

#define LAB \
    "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\", \"cpus\": 4, \"memory_mb\": 100}, " \
    "{\"host\": \"h2\", \"cpus\": 2, \"memory_mb\": 100, \"gpus\": 1}]}"

static void test_hosts(void **state)
{
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char run[128];

    assert_int_equal(kit_target(k, "lab", LAB, &err), 0);
    assert_says(k, "h1", "cpus", "4");
    assert_says(k, "h2", "targets", "[\"lab\"]");
    refused(k, SPEC("\"target\": \"lab\", \"node_count\": 3, \"communicator\": \"gloo\", "),
            "target 'lab' has 2 hosts");
    refused(k, SPEC("\"target\": \"lab\", \"resources\": {\"cpus\": 5}, "),
            "no node of target 'lab' has more than 4");
    refused(k,
            SPEC("\"target\": \"lab\", \"node_count\": 2, \"resources\": {\"cpus\": 3}, "
                 "\"communicator\": \"gloo\", "),
            "asks for 2 nodes with 3 CPU slots each, and target 'lab' has 1 such node");
    refused(k, SPEC("\"target\": \"lab\", \"resources\": {\"memory_mb\": 101}, "),
            "1 node with 101 MB of memory each, and target 'lab' has 0");
    refused(k,
            SPEC("\"target\": \"lab\", \"node_count\": 2, \"use_gpu\": true, "
                 "\"communicator\": \"gloo\", "),
            "asks for 2 nodes with a GPU (use_gpu), and target 'lab' has 1");
    /* Neither machine is placed on while it is drained or has failed a run. */
    assert_int_equal(ty_sched_drain(k->sched, "lab", "h3", true, on_answer, NULL, &err), -ENOENT);
    got.r = 1;
    assert_int_equal(ty_sched_drain(k->sched, "lab", "h1", true, on_answer, NULL, &err), 0);
    kit_until(k, answered, NULL);
    assert_int_equal(got.r, 0);
    assert_says(k, "h1", "state", "\"drained\"");
    node_fails(node_find(k->sched, "h2"), "was lost", "somebody");
    assert_says(k, "h2", "state", "\"unusable\"");
    submit(k, SPEC("\"target\": \"lab\", \"node_count\": 2, \"communicator\": \"gloo\", "), run);
    kit_idle(k, 50);
    kit_state(k, run, "Queued");
    assert_text(k, run, "why",
                "waits for 2 nodes of target 'lab', of which 0 can be used: 'h1' is drained, 'h2' "
                "was lost; what has failed is asked every 10 seconds, and used when it answers");
    assert_text(k, run, "warnings", "node 'h2' of target 'lab' was lost");
    /* Nobody knows what this one has: nothing is refused, and one run at a time has all of it. */
    assert_int_equal(
        kit_target(k, "dark", "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h9\"}]}", &err), 0);
    struct plan_node dark = node_plan(node_find(k->sched, "h9"));
    assert_true(dark.all.cpus > 1000 && dark.all.memory_mb > 1000000);
    assert_int_equal(kit_target(k, "lab", "{\"kind\": \"local\"}", &err), 0); /* none is in use */
    assert_null(node_find(k->sched, "h1"));
    assert_int_equal(kit_cancel(k, run), 0);
    kit_until(k, kit_ended, run);
}

/* After a restart a run may hold a host that its target has lost: when a target names it again, that is still held. */
static void test_a_lost_host_stays_held(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *slots = json_pack("[i]", 0), *gpus = json_pack("[s]", "0");
    struct node *n = node_keep(k->sched, "away");
    struct ty_error err = { 0 };
    struct hold hold;

    assert_non_null(n);
    assert_int_equal(node_take_again(n, slots, gpus, 10, &hold), 0);
    assert_int_equal(kit_target(k, "lab",
                                "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"away\", "
                                "\"cpus\": 2, \"memory_mb\": 100, \"gpus\": 1}]}",
                                &err),
                     0);
    assert_ptr_equal(node_find(k->sched, "away"), n);
    assert_says(k, "away", "cpus_used", "1");
    struct plan_node p = node_plan(n);
    assert_int_equal(p.all.gpus, 1);
    assert_int_equal(p.used.gpus, 1);
    assert_int_equal(p.used.memory_mb, 10);
    assert_int_equal(kit_target(k, "lab", NULL, &err), 0);
    assert_ptr_equal(node_find(k->sched, "away"), n);
    node_give(&hold);
    assert_null(node_find(k->sched, "away"));
}

/* A machine that does not answer is named, and nothing is stored. */
static void test_asking(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *spec =
        json_pack("{s:s s:[{s:s s:i}]}", "kind", "hosts", "hosts", "host", "127.0.0.1", "port", 1);
    CLEANUP_JSON json_t *stored = NULL;
    struct ty_error err = { 0 };

    if (access("/usr/bin/ssh", X_OK) < 0)
        skip();
    got.r = 1;
    assert_int_equal(ty_sched_target_put(k->sched, "lab", spec, true, on_answer, NULL, &err), 0);
    kit_until(k, answered, NULL);
    assert_int_equal(got.r, -EINVAL);
    if (!strstr(got.text, "127.0.0.1") || !strstr(got.text, "'lab' cannot be used"))
        fail_msg("%s", got.text);
    assert_int_equal(ty_store_target(k->store, "lab", &stored), -ENOENT);
}

/* ---- draining a target ---- */

static void test_draining_stays(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *target = json_pack("{s:s}", "name", "box");
    struct ty_error err = { 0 };
    char run[128];

    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\", \"max_nodes\": 2}", &err), 0);
    got.r = 1;
    assert_int_equal(ty_sched_drain(k->sched, "box", NULL, true, on_answer, NULL, &err), 0);
    kit_until(k, answered, NULL);
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\", \"max_nodes\": 3}", &err), 0);
    submit(k, SPEC("\"target\": \"box\", "), run);
    kit_stop(k);
    kit_start(k);
    kit_idle(k, 50);
    assert_text(k, run, "why", "target 'box' is drained");
    ty_sched_annotate_target(k->sched, target);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(target, "nodes"), "unusable")), 3);
    got.r = 1;
    assert_int_equal(ty_sched_drain(k->sched, "box", NULL, false, on_answer, NULL, &err), 0);
    kit_until(k, answered, NULL);
    kit_state(k, run, "Running");
}

/* ---- estimates ---- */

static void test_estimates(void **state)
{
    struct kit *k = *state;
    char done[128], goes[128], waits[128];

    submit(k, SPEC("\"max_run_duration_seconds\": 3600, \"resources\": {\"cpus\": 2}, "), goes);
    kit_state(k, goes, "Running");
    submit(k, SPEC(""), waits);
    kit_idle(k, 50);
    assert_text(k, waits, "why", "expected to start within about 61 min: run ");
    assert_int_equal(kit_cancel(k, goes), 0);
    kit_state(k, waits, "Running");
    assert_int_equal(kit_cancel(k, waits), 0);
    kit_until(k, kit_ended, waits);
    /* What runs of the experiment took is known better than their limit. */
    kit_submit(k, "", "sleep 0.5", done);
    kit_until(k, kit_ended, done);
    kit_sql(k, "UPDATE run SET started_us = ended_us - 600000000 WHERE state = 'Completed'");
    submit(k, SPEC("\"max_run_duration_seconds\": 3600, \"resources\": {\"cpus\": 2}, "), goes);
    kit_state(k, goes, "Running");
    submit(k, SPEC(""), waits);
    kit_idle(k, 50);
    assert_text(k, waits, "why", "expected to start within about 10 min: run ");
}

/* ---- */

/* Two GPUs, in the file that the stand-in reads beside itself. */
static int pretend_gpus(void **state)
{
    static char dir[] = "/tmp/ty-gang.XXXXXX";
    CLEANUP_FREE char *from = ty_strf("%s/libnvml-whole.so", getenv("TRAINYARD_NVML_FOLDER"));
    CLEANUP_FREE char *lib = NULL, *list = NULL;
    const char *text = "gpu GPU-a First 1000 0 0 30 10\ngpu GPU-b Second 1000 0 0 30 10\n";

    if (!mkdtemp(dir))
        return -1;
    *state = dir;
    lib = ty_strf("%s/nvml.so", dir);
    list = ty_strf("%s/nvml.so.gpus", dir);
    if (symlink(from, lib) < 0 || ty_write_file(list, text, strlen(text), 0600) < 0)
        return -1;
    return setenv("TRAINYARD_TEST_NVML", lib, 1);
}

static int forget_gpus(void **state)
{
    return ty_rm_rf(*state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_gpu_has_one_run),      T(test_gpus_of_several_processes),
        T(test_slots_are_shared_out),   T(test_hosts),
        T(test_a_lost_host_stays_held), T(test_asking),
        T(test_draining_stays),         T(test_estimates),
    };

    return cmocka_run_group_tests_name("gang", tests, pretend_gpus, forget_gpus);
}
