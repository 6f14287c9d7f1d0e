/* test_target_spec.c */
#include "allocs.h"
#include "base/error.h"
#include "core/target_spec.h"
#include "tests.h"

static json_t *load(const char *text)
{
    json_error_t why;
    json_t *j = json_loads(text, JSON_DECODE_ANY, &why);

    if (!j)
        fail_msg("%s: %s", text, why.text);
    return j;
}

static struct ty_target_spec *parse(const char *text)
{
    CLEANUP_JSON json_t *j = load(text);
    struct ty_target_spec *s = NULL;
    struct ty_error err = { 0 };

    if (ty_target_spec_parse(j, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void test_defaults(void **state)
{
    struct ty_target_spec *s = parse("{\"kind\": \"local\"}");

    (void)state;
    assert_string_equal(s->kind, "local");
    assert_string_equal(s->vm_size, "");
    assert_string_equal(s->description, "");
    assert_string_equal(s->vm_priority, "dedicated");
    assert_int_equal(s->min_nodes, 0);
    assert_int_equal(s->max_nodes, 0);
    assert_int_equal(s->idle_seconds, 1800);
    assert_false(s->require_gpu);
    assert_true(json_is_object(s->tags) && json_object_size(s->tags) == 0);
    assert_null(ty_target_spec_free(s));
    assert_null(ty_target_spec_free(NULL));
    s = parse(
        "{\"kind\": \"local\", \"vm_size\": null, \"min_nodes\": null, \"max_nodes\": null, \"tags\": null, "
        "\"idle_seconds_before_scaledown\": null, \"vm_priority\": null, \"require_gpu\": null, \"description\": null}");
    assert_int_equal(s->idle_seconds, 1800);
    assert_true(json_is_object(s->tags));
    ty_target_spec_free(s);
}

static void test_everything(void **state)
{
    struct ty_target_spec *s = parse(
        "{\"kind\": \"local\", \"vm_size\": \"STANDARD_NC6\", \"min_nodes\": 1, \"max_nodes\": 2, \"tags\": {\"a\": \"b\"}, "
        "\"idle_seconds_before_scaledown\": 60, \"vm_priority\": \"lowpriority\", \"require_gpu\": true, "
        "\"description\": \"a box\"}");

    (void)state;
    assert_string_equal(s->vm_size, "STANDARD_NC6");
    assert_int_equal(s->min_nodes, 1);
    assert_int_equal(s->max_nodes, 2);
    assert_int_equal(s->idle_seconds, 60);
    assert_string_equal(s->vm_priority, "lowpriority");
    assert_true(s->require_gpu);
    assert_string_equal(s->description, "a box");
    assert_string_equal(json_string_value(json_object_get(s->tags, "a")), "b");
    ty_target_spec_free(s);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        { "[]", "not a JSON object" },
        { "{}", "'kind' is missing" },
        { "{\"kind\": \"cloud\"}", "'kind' is 'cloud'; it may be 'local', 'hosts' or 'slurm'" },
        { "{\"kind\": 5}", "'kind'" },
        { "{\"kind\": \"local\", \"max_node\": 5}", "'max_nodes'" },
        { "{\"kind\": \"local\", \"max_nodes\": -1}", "'max_nodes'" },
        { "{\"kind\": \"local\", \"max_nodes\": 100001}", "'max_nodes'" },
        { "{\"kind\": \"local\", \"max_nodes\": \"4\"}", "'max_nodes'" },
        { "{\"kind\": \"local\", \"min_nodes\": 3, \"max_nodes\": 2}",
          "min_nodes is 3 and max_nodes 2" },
        { "{\"kind\": \"local\", \"idle_seconds_before_scaledown\": 1.5}",
          "'idle_seconds_before_scaledown'" },
        { "{\"kind\": \"local\", \"idle_seconds_before_scaledown\": 4294967296}",
          "'idle_seconds_before_scaledown'" },
        { "{\"kind\": \"local\", \"vm_priority\": \"high\"}", "vm_priority is 'high'" },
        { "{\"kind\": \"local\", \"require_gpu\": 1}", "'require_gpu'" },
        { "{\"kind\": \"local\", \"description\": []}", "'description'" },
        { "{\"kind\": \"local\", \"tags\": {\"a\": 1}}", "'tags'" },
        { "{\"kind\": \"local\", \"vm_size\": \"a234567890123456789012345678901234567890123456789012345678901234x\"}",
          "vm_size" },
        { "{\"kind\": \"local\", \"hosts\": []}", "of kind 'local': there is no key 'hosts'" },
        { "{\"kind\": \"local\", \"drained\": 1}", "'drained'" },
        { "{\"kind\": \"local\", \"drained_nodes\": \"node-0\"}", "'drained_nodes' is not a list" },
        { "{\"kind\": \"local\", \"drained_nodes\": [1]}", "entry 1 of 'drained_nodes'" },
        { "{\"kind\": \"hosts\"}", "'hosts' must be a list" },
        { "{\"kind\": \"hosts\", \"hosts\": []}", "'hosts' must be a list" },
        { "{\"kind\": \"hosts\", \"hosts\": [\"h1\"]}", "entry 1 of 'hosts'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{}]}", "entry 1 of 'hosts': 'host' is missing" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"\"}]}", "'host' is missing" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"-oProxyCommand=x\"}]}",
          "'host' is '-oProxyCommand=x'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a b\"}]}", "'host' is 'a b'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\", \"user\": \"-l\"}]}",
          "'user' is '-l'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\"}, {\"host\": \"b\", \"port\": 0}]}",
          "entry 2 of 'hosts': 'port'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\", \"cpus\": 0}]}", "'cpus'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\", \"memory_mb\": 0}]}",
          "'memory_mb'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\", \"gpus\": -1}]}", "'gpus'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\", \"identity_file\": \"k\"}]}",
          "'identity_file' is 'k'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"b\"}, {\"host\": \"a\"}, {\"host\": \"b\"}]}",
          "'hosts' names 'b' twice" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\"}], \"partition\": \"p\"}",
          "'partition'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\"}], \"ssh_options\": \"-v\"}",
          "'ssh_options'" },
        { "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\"}], \"folder\": \"x\"}",
          "'folder' is 'x'" },
        { "{\"kind\": \"slurm\", \"partition\": \"-p\"}", "'partition' is '-p'" },
        { "{\"kind\": \"slurm\", \"account\": \"a;b\"}", "'account' is 'a;b'" },
        { "{\"kind\": \"slurm\", \"qos\": 1}", "'qos'" },
        { "{\"kind\": \"slurm\", \"time_minutes\": 0}", "'time_minutes'" },
        { "{\"kind\": \"slurm\", \"shared_home\": \"yes\"}", "'shared_home'" },
        { "{\"kind\": \"slurm\", \"sbatch_options\": {}}", "'sbatch_options'" },
        { "{\"kind\": \"slurm\", \"vm_sizes\": []}", "'vm_sizes'" },
        { "{\"kind\": \"slurm\", \"vm_sizes\": {\"A\": {\"cpu\": 1}}}",
          "'A' of 'vm_sizes': there is no key 'cpu'" },
        { "{\"kind\": \"slurm\", \"vm_sizes\": {\"A\": {\"gres\": \"--x\"}}}", "'gres' is '--x'" },
        { "{\"kind\": \"slurm\", \"environment\": {\"A B\": \"x\"}}", "'A B' of 'environment'" },
        { "{\"kind\": \"slurm\", \"environment\": {\"A\": 1}}", "'environment'" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_JSON json_t *j = load(bad[i].text);
        struct ty_target_spec *s = NULL;
        struct ty_error err = { 0 };

        assert_int_equal(ty_target_spec_parse(j, &s, &err), -EINVAL);
        assert_int_equal(err.code, -EINVAL);
        assert_null(s);
        if (!strstr(err.text, bad[i].words))
            fail_msg("'%s' lacks '%s'", err.text, bad[i].words);
    }
}

static void test_hosts(void **state)
{
    struct ty_target_spec *s = parse(
        "{\"kind\": \"hosts\", \"ssh_config\": \"~/.ssh/lab\", \"ssh_options\": [\"StrictHostKeyChecking=no\"], "
        "\"folder\": \"/scratch/ty\", \"drained_nodes\": [\"h2\"], \"hosts\": [{\"host\": \"h1\"}, "
        "{\"host\": \"h2\", \"user\": \"ann\", \"port\": 2222, \"identity_file\": \"/k\", \"cpus\": 8, "
        "\"memory_mb\": 1000, \"gpus\": 0}, {\"host\": \"fe80::1%eth0\", \"user\": \"\"}]}");
    CLEANUP_FREE char *plain = ty_host_key(&s->hosts[0]);
    CLEANUP_FREE char *full = ty_host_key(&s->hosts[1]);

    (void)state;
    assert_int_equal(s->nhosts, 3);
    assert_string_equal(plain, "h1");
    assert_string_equal(full, "ann@h2:2222");
    assert_string_equal(s->hosts[2].host, "fe80::1%eth0");
    assert_null(s->hosts[0].user);
    assert_null(s->hosts[2].user);
    assert_int_equal(s->hosts[0].cpus, -1);
    assert_int_equal(s->hosts[0].memory_mb, -1);
    assert_int_equal(s->hosts[0].gpus, -1);
    assert_int_equal(s->hosts[1].cpus, 8);
    assert_int_equal(s->hosts[1].memory_mb, 1000);
    assert_int_equal(s->hosts[1].gpus, 0);
    assert_string_equal(s->hosts[1].identity_file, "/k");
    assert_string_equal(s->folder, "/scratch/ty");
    assert_string_equal(s->ssh_config, "~/.ssh/lab");
    assert_int_equal(json_array_size(s->ssh_options), 1);
    assert_true(ty_target_spec_drains(s, "h2"));
    assert_false(ty_target_spec_drains(s, "h1"));
    ty_target_spec_free(s);
    s = parse("{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}], \"drained\": true}");
    assert_null(s->ssh_config);
    assert_null(s->folder);
    assert_true(json_is_array(s->ssh_options) && json_array_size(s->ssh_options) == 0);
    assert_true(json_is_array(s->drained_nodes));
    assert_true(ty_target_spec_drains(s, "h1"));
    ty_target_spec_free(s);
}

static void test_slurm(void **state)
{
    struct ty_target_spec *s = parse(
        "{\"kind\": \"slurm\", \"partition\": \"gpu,cpu\", \"account\": \"a_1\", \"qos\": \"high\", "
        "\"gres\": \"gpu:a100:2\", \"constraint\": \"[rack1*2&rack2*4]\", \"time_minutes\": 90, "
        "\"sbatch_options\": [\"--exclusive\"], \"shared_home\": false, \"folder\": \"~/ty\", "
        "\"vm_sizes\": {\"STANDARD_NC6\": {\"partition\": \"gpu\", \"gres\": \"gpu:1\", \"cpus\": 6}}, "
        "\"environment\": {\"SLURM_CONF\": \"/etc/lab.conf\"}, \"min_nodes\": 1, \"max_nodes\": 4}");

    (void)state;
    assert_string_equal(s->slurm.partition, "gpu,cpu");
    assert_string_equal(s->slurm.account, "a_1");
    assert_string_equal(s->slurm.qos, "high");
    assert_string_equal(s->slurm.gres, "gpu:a100:2");
    assert_string_equal(s->slurm.constraint, "[rack1*2&rack2*4]");
    assert_int_equal(s->slurm.time_minutes, 90);
    assert_int_equal(json_array_size(s->slurm.sbatch_options), 1);
    assert_false(s->slurm.shared_home);
    assert_string_equal(s->folder, "~/ty");
    assert_int_equal(json_object_size(s->slurm.vm_sizes), 1);
    assert_int_equal(json_object_size(s->slurm.environment), 1);
    assert_int_equal(s->max_nodes, 4);
    ty_target_spec_free(s);
    s = parse("{\"kind\": \"slurm\"}");
    assert_null(s->slurm.partition);
    assert_true(s->slurm.shared_home);
    assert_int_equal(s->slurm.time_minutes, 0);
    assert_true(json_is_array(s->slurm.sbatch_options) && json_is_object(s->slurm.vm_sizes) &&
                json_is_object(s->slurm.environment));
    ty_target_spec_free(s);
}

static void memory_fails_at_each_point(const char *text)
{
    CLEANUP_JSON json_t *j = load(text);
    int k;

    for (k = 0; k < 100; k++) {
        struct ty_target_spec *s = NULL;
        struct ty_error err = { 0 };
        int r;

        allocs_left = k;
        r = ty_target_spec_parse(j, &s, &err);
        allocs_left = -1;
        if (r == 0) {
            ty_target_spec_free(s);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        assert_true(err.code == r && !s);
    }
    assert_in_range(k, 3, 99);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    memory_fails_at_each_point("{\"kind\": \"local\"}");
    memory_fails_at_each_point("{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"a\"}]}");
    memory_fails_at_each_point("{\"kind\": \"slurm\", \"vm_sizes\": {\"A\": {\"cpus\": 1}}}");
}

static void test_sizes(void **state)
{
    int cpus = -1, gpus = -1, memory = -1, n = 0;

    (void)state;
    assert_true(ty_vm_size("STANDARD_NC6", &cpus, &gpus, &memory));
    assert_int_equal(cpus, 6);
    assert_int_equal(gpus, 1);
    assert_int_equal(memory, 56);
    assert_true(ty_vm_size("Standard_D2_v2", &cpus, &gpus, &memory));
    assert_int_equal(cpus, 2);
    assert_int_equal(gpus, 0);
    assert_false(ty_vm_size("my own box", &cpus, &gpus, &memory));
    assert_false(ty_vm_size("", &cpus, &gpus, &memory));
    assert_int_equal(cpus, 2);
    for (const struct ty_vm_size *s; (s = ty_vm_sizes(n)); n++) {
        assert_true(ty_vm_size(s->name, &cpus, &gpus, &memory));
        assert_true(cpus == s->cpus && gpus == s->gpus && memory == s->memory_gb);
        assert_true(s->cpus > 0 && s->gpus >= 0 && s->memory_gb > 0);
    }
    assert_in_range(n, 10, 1000);
    assert_null(ty_vm_sizes(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_everything),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_sizes),    cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_slurm),
    };
    return cmocka_run_group_tests(tests, allocs_setup, NULL);
}
