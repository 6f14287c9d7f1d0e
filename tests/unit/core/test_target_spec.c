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
        { "{\"kind\": \"slurm\"}", "'kind' is 'slurm'; this version knows 'local'" },
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

static void test_out_of_memory(void **state)
{
    CLEANUP_JSON json_t *j = load("{\"kind\": \"local\"}");
    int k;

    (void)state;
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
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, allocs_setup, NULL);
}
