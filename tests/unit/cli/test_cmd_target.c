/* test_cmd_target.c - trainyard target ls, show */
#include "base/json.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BOX \
    "{\"name\": \"box\", \"spec\": {\"kind\": \"local\", \"vm_size\": \"STANDARD_NC6\", \"max_nodes\": 2}, " \
    "\"created\": \"2026-01-01T00:00:00.000000Z\", \"nodes\": {\"max\": 2, \"running\": 1, \"idle\": 1}, " \
    "\"cpus\": 4, \"gpus\": 0}"

#define LAB \
    "{\"name\": \"lab\", \"spec\": {\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}, {\"host\": \"h2\", " \
    "\"user\": \"ann\", \"port\": 2222, \"cpus\": 8}], \"environment\": {\"A\": \"1\", \"B\": \"x y\"}, \"tags\": {}, " \
    "\"description\": null, \"ssh_options\": [], \"drained_nodes\": [\"h1\", \"h2\"]}, " \
    "\"created\": \"2026-01-01T00:00:00.000000Z\", \"nodes\": {\"max\": 2}, \"cpus\": 4, \"gpus\": 0}"

#define SOME(name, counts) \
    "{\"name\": \"" name "\", \"spec\": {\"kind\": \"hosts\"}, \"nodes\": {" counts "}}"

static struct fake *f;

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    assert_string_equal(c.out, out);
    if (!strstr(c.err, err))
        fail_msg("'%s' should say '%s'", c.err, err);
    captured_done(&c);
}

#define TRY(...) CAPTURE(fake_home(f), __VA_ARGS__)

static void test_target(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/targets ", .raw = fake_json("{\"targets\": [" BOX "]}") },
        { .match = "GET /api/v1/targets/box ", .raw = fake_json(BOX) },
        { .match = "GET /api/v1/targets/lab ", .raw = fake_json(LAB) },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no compute target 'x'") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("target", "ls"), 0,
         "TARGET  KIND   NODES  IN USE  VM SIZE       STATE\n"
         "box     local      2       1  STANDARD_NC6  up\n",
         "");
    says(TRY("target", "ls", "-q"), 0, "box\n", "");
    says(TRY("target", "ls", "--plain"), 0, "box\tlocal\t2\t1\tSTANDARD_NC6\tup\n", "");
    says(TRY("target", "show", "box"), 0,
         "target       box\n"
         "created      2026-01-01T00:00:00.000000Z\n"
         "nodes        1 of 2 in use, 1 idle\n"
         "cpus         4\n"
         "gpus         0\n"
         "kind         local\n"
         "vm_size      STANDARD_NC6\n"
         "max_nodes    2\n",
         "");
    says(TRY("target", "show", "lab"), 0,
         "target       lab\n"
         "created      2026-01-01T00:00:00.000000Z\n"
         "nodes        0 of 2 in use\n"
         "cpus         4\n"
         "gpus         0\n"
         "kind         hosts\n"
         "hosts        h1, ann@h2:2222 {\"cpus\":8}\n"
         "environment  A=1, B=x y\n"
         "drained_nodes h1, h2\n",
         "");
    says(TRY("target", "show", "x"), 3, "", "there is no compute target 'x'");
    says(TRY("target", "show"), 2, "", "target show --help");
    fake_stop(f);
}

/* The body of the last request is this JSON. */
static void sent(const char *head, const char *json)
{
    int i = fake_count(f) - 1;
    size_t n;
    CLEANUP_JSON json_t *want = json_loads(json, 0, NULL);
    const char *body = fake_body(f, i, &n);
    CLEANUP_JSON json_t *have = json_loadb(body, n, 0, NULL);

    if (strncmp(fake_head(f, i), head, strlen(head)) != 0)
        fail_msg("'%s' is not '%s'", fake_head(f, i), head);
    assert_non_null(want);
    if (!json_equal(have, want))
        fail_msg("%.*s", (int)n, body);
}

static void test_changes(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/targets/box ", .raw = fake_json(BOX) },
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no compute target 'x'") },
        { .match = "DELETE", .raw = fake_reply(204, "text/plain", "") },
        { .match = "P", .raw = fake_json(BOX) },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("target", "add", "lab", "--host", "ann@lab1:2222", "--host", "fe80::1", "--host",
             "[::1]:22", "--identity-file", "/k", "--ssh-option", "A=b", "--max-nodes", "2"),
         0, "", "added compute target 'lab'");
    sent("PUT /api/v1/targets/lab?ask=1 ",
         "{\"kind\": \"hosts\", \"max_nodes\": 2, \"ssh_options\": [\"A=b\"], \"hosts\": ["
         "{\"host\": \"lab1\", \"user\": \"ann\", \"port\": 2222, \"identity_file\": \"/k\"}, "
         "{\"host\": \"fe80::1\", \"identity_file\": \"/k\"}, "
         "{\"host\": \"::1\", \"port\": 22, \"identity_file\": \"/k\"}]}");
    says(TRY("target", "add", "c", "--partition", "gpu", "--no-shared-home", "--no-probe"), 0, "",
         "added");
    sent("PUT /api/v1/targets/c ",
         "{\"kind\": \"slurm\", \"partition\": \"gpu\", \"shared_home\": false}");
    says(TRY("target", "add", "box", "--kind", "local"), 5, "", "'box' already");
    says(TRY("target", "add", "box", "--kind", "local", "--replace", "--require-gpu"), 0, "",
         "added");
    sent("PUT /api/v1/targets/box?ask=1 ", "{\"kind\": \"local\", \"require_gpu\": true}");
    says(TRY("target", "add", "lab", "--host", "h:none"), 2, "", "'none' is no port");
    says(TRY("target", "add", "lab", "--host", "[::1"), 2, "", "bracket");
    says(TRY("target", "add", "lab", "--max-nodes", "many"), 2, "", "--max-nodes is 'many'");
    says(TRY("target", "add", "lab", "--file", "/nonexistent"), 3, "",
         "cannot read '/nonexistent'");
    says(TRY("target", "drain", "lab", "--node", "h1"), 0, "", "node 'h1' of compute target 'lab'");
    sent("POST /api/v1/targets/lab/drain ", "{\"node\": \"h1\"}");
    says(TRY("target", "resume", "lab"), 0, "", "compute target 'lab' takes runs again");
    sent("POST /api/v1/targets/lab/resume ", "{}");
    says(TRY("target", "rm", "lab"), 0, "", "removed compute target 'lab'");
    fake_stop(f);
}

static void test_nodes(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/nodes ",
          .raw = fake_json(
              "{\"nodes\": [{\"name\": \"h1\", \"address\": \"h1\", \"targets\": [\"a\", \"b\"], "
              "\"kind\": \"hosts\", \"state\": \"unusable\", \"why\": \"was lost\", \"cpus\": 4, "
              "\"cpus_used\": 1, \"memory_mb\": 100, \"memory_used_mb\": 10, \"gpus\": [{\"id\": \"0\", "
              "\"run\": \"r1\"}, {\"id\": \"1\", \"run\": null}], \"runs\": [\"r1\"], \"facts\": null}]}") },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("node", "ls"), 0,
         "NODE  STATE     CPUS  MEMORY MB  GPUS  TARGETS  RUNS  WHY\n"
         "h1    unusable   1/4     10/100   1/2  a,b      r1    was lost\n",
         "");
    fake_stop(f);
}

/* What keeps runs away is seen in the list; how many nodes there are is not known of a target that was not asked. */
static void test_states(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/targets ",
          .raw = fake_json("{\"targets\": [" SOME("all", "\"max\": 2, \"unusable\": 2") ", " SOME(
              "one", "\"max\": 2, \"idle\": 1, \"unusable\": 1") ", " SOME("new",
                                                                           "\"max\": 0") "]}") },
        { .match = "GET /api/v1/targets/new ", .raw = fake_json(SOME("new", "\"max\": 0")) },
        { 0 }
    };

    (void)state;
    f = fake_start(answers);
    says(TRY("target", "ls", "--plain"), 0,
         "all\thosts\t2\t0\t-\tunusable\n"
         "one\thosts\t2\t0\t-\t1 unusable\n"
         "new\thosts\t-\t0\t-\tup\n",
         "");
    says(TRY("target", "show", "new"), 0,
         "target       new\n"
         "created      \n"
         "nodes        0 in use\n"
         "cpus         0\n"
         "gpus         0\n"
         "kind         hosts\n",
         "");
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_target),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_nodes),
    };

    return cmocka_run_group_tests_name("cmd_target", tests, NULL, NULL);
}
