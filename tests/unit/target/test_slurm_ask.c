/* test_slurm_ask.c - what an allocation must have, and how it is asked for */
#include "base/error.h"
#include "core/launch_plan.h"
#include "target/slurm_ask.h"
#include "tests.h"
#include <errno.h>

#define TARGET(more) "{\"kind\": \"slurm\"" more "}"
#define RUN(more) \
    "{\"version\": 1, \"experiment\": \"exp\", \"command\": [\"/bin/true\"], \"target\": \"hpc\"" more \
    "}"

static struct ty_target_spec *target_of(const char *text)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_target_spec *t = NULL;
    struct ty_error err;

    if (ty_json_parse(text, strlen(text), &o, &err) < 0 || ty_target_spec_parse(o, &t, &err) < 0)
        fail_msg("%s", err.text);
    return t;
}

static struct ty_run_spec *run_of(const char *text)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_run_spec *run = NULL;
    struct ty_error err;

    if (ty_json_parse(text, strlen(text), &o, &err) < 0 || ty_run_spec_parse(o, &run, &err) < 0)
        fail_msg("%s", err.text);
    return run;
}

/* The arguments joined by blanks; malloc'ed. */
static char *line_of(const char *target, const char *run, bool lasting)
{
    struct ty_target_spec *t = target_of(target);
    struct ty_run_spec *r = run_of(run);
    struct ty_str s = { 0 };
    struct ty_slurm_shape shape;
    char **argv = NULL;

    ty_slurm_shape(t, r, lasting, &shape);
    assert_int_equal(ty_slurm_args("/bin/sbatch", t, &shape, "exp_1", "w1", &argv), 0);
    for (char **a = argv; *a; a++)
        ty_str_addf(&s, "%s ", *a);
    ty_strv_free(argv);
    ty_target_spec_free(t);
    ty_run_spec_free(r);
    return ty_str_take(&s);
}

static void has(const char *line, const char *word)
{
    if (!strstr(line, word))
        fail_msg("no '%s' in: %s", word, line);
}

static void has_not(const char *line, const char *word)
{
    if (strstr(line, word))
        fail_msg("'%s' in: %s", word, line);
}

static void test_least(void **state)
{
    CLEANUP_FREE char *line = line_of(TARGET(), RUN(), false);

    (void)state;
    has(line, "/bin/sbatch --parsable --job-name=exp_1 --comment=trainyard:w1 --export=NIL ");
    has(line, " --no-requeue --signal=B:USR1@60 --nodes=1 --ntasks-per-node=1 --cpus-per-task=1 ");
    has_not(line, "--time");
    has_not(line, "--mem");
    has_not(line, "--gpus");
    has_not(line, "--wait-all-nodes");
    has_not(line, "--partition");
}

static void test_target_says(void **state)
{
    CLEANUP_FREE char *line = line_of(
        TARGET(
            ", \"partition\": \"long\", \"account\": \"lab\", \"qos\": \"high\", \"gres\": \"gpu:a100:2\", "
            "\"constraint\": \"ib\", \"time_minutes\": 90, \"sbatch_options\": [\"--exclusive\", \"--nice=5\"]"),
        RUN(", \"use_gpu\": true"), false);

    (void)state;
    has(line, " --partition=long --account=lab --qos=high --gres=gpu:a100:2 --constraint=ib ");
    has(line, " --time=90 --exclusive --nice=5 ");
    has_not(line, "--gpus-per-node"); /* gres says which */
}

static void test_drained(void **state)
{
    CLEANUP_FREE char *line = line_of(TARGET(", \"drained_nodes\": [\"n1\", \"n3\"], "
                                             "\"sbatch_options\": [\"--exclude=n7\"]"),
                                      RUN(), false);

    (void)state;
    has(line, " --exclude=n7 --exclude=n1,n3,n7 ");
}

static void test_run_says(void **state)
{
    CLEANUP_FREE char *line = line_of(
        TARGET(),
        RUN(", \"node_count\": 4, \"process_count_per_node\": 2, \"communicator\": \"Mpi\", \"use_gpu\": true, "
            "\"resources\": {\"cpus\": 3, \"memory_mb\": 500}, \"max_run_duration_seconds\": 3601"),
        false);

    (void)state;
    has(line, " --nodes=4 --ntasks-per-node=1 --cpus-per-task=6 --wait-all-nodes=1 ");
    has(line, " --gpus-per-node=2 --mem=1000M ");
    has(line, " --time=71 "); /* an hour and a second, and ten minutes to spare, in minutes */
}

static void test_limits(void **state)
{
    CLEANUP_FREE char *shorter = line_of(TARGET(", \"time_minutes\": 30"),
                                         RUN(", \"max_run_duration_seconds\": 3600"), false);
    CLEANUP_FREE char *longer = line_of(TARGET(", \"time_minutes\": 300"),
                                        RUN(", \"max_run_duration_seconds\": 3600"), false);
    CLEANUP_FREE char *lasting = line_of(TARGET(", \"time_minutes\": 300"),
                                         RUN(", \"max_run_duration_seconds\": 3600"), true);
    CLEANUP_FREE char *builds = line_of(
        TARGET(", \"time_minutes\": 300"),
        RUN(", \"max_run_duration_seconds\": 3600, \"environment\": {\"torch\": \"\"}"), false);

    (void)state;
    has(builds, "--time=130 "); /* building counts for nothing */
    has(shorter, "--time=30 ");
    has(longer, "--time=70 ");
    has(lasting, "--time=300 ");
}

#define SIZES \
    ", \"vm_size\": \"standard_nc6\", \"vm_sizes\": {\"STANDARD_NC6\": {\"partition\": \"gpu\", \"gres\": \"gpu:1\", " \
    "\"cpus\": 6}}"

static void test_vm_size(void **state)
{
    CLEANUP_FREE char *line = line_of(TARGET(SIZES), RUN(), false);
    CLEANUP_FREE char *more = line_of(TARGET(SIZES ", \"partition\": \"other\""),
                                      RUN(", \"resources\": {\"cpus\": 8}"), false);

    (void)state;
    has(line, "--partition=gpu ");
    has(line, "--gres=gpu:1 ");
    has(line, "--cpus-per-task=6 ");
    has(more, "--partition=other ");
    has(more, "--cpus-per-task=8 ");
}

static void goes_to(const char *target, const char *expected)
{
    struct ty_target_spec *t = target_of(target);
    const char *got = ty_slurm_partition_of(t);

    if (expected)
        assert_string_equal(got, expected);
    else
        assert_null(got);
    ty_target_spec_free(t);
}

/* Whatever says it: the same that sbatch goes by. */
static void test_partition_of(void **state)
{
    (void)state;
    goes_to(TARGET(), NULL);
    goes_to(TARGET(SIZES), "gpu");
    goes_to(TARGET(SIZES ", \"partition\": \"other\""), "other");
    goes_to(TARGET(", \"environment\": {\"SBATCH_PARTITION\": \"night\"}"), "night");
    goes_to(TARGET(", \"partition\": \"other\", \"sbatch_options\": [\"--partition=a,b\"]"), "a,b");
}

static void test_shapes(void **state)
{
    struct ty_target_spec *t = target_of(TARGET());
    struct ty_run_spec *one = run_of(RUN()), *same = run_of(RUN(", \"priority\": 3")),
                       *two = run_of(RUN(", \"resources\": {\"cpus\": 2}"));
    struct ty_slurm_shape a, b, c;

    (void)state;
    ty_slurm_shape(t, one, true, &a);
    ty_slurm_shape(t, same, true, &b);
    ty_slurm_shape(t, two, true, &c);
    CLEANUP_FREE char *x = ty_slurm_shape_text(&a), *y = ty_slurm_shape_text(&b),
                      *z = ty_slurm_shape_text(&c);
    assert_string_equal(x, y);
    assert_string_not_equal(x, z);
    assert_true(ty_slurm_shape_fits(x, y));
    assert_true(ty_slurm_shape_fits(z, x)); /* more than was asked for */
    assert_false(ty_slurm_shape_fits(x, z));
    assert_true(ty_slurm_shape_fits("1 2 400 0 60 main - -", "1 1 0 0 0 main - -"));
    assert_true(ty_slurm_shape_fits("1 2 400 0 60 main - -", "1 1 400 0 0 main - -"));
    assert_false(ty_slurm_shape_fits("1 2 400 0 60 main - -", "1 1 500 0 0 main - -"));
    assert_false(ty_slurm_shape_fits("1 2 0 0 60 main - -", "1 1 500 0 0 main - -"));
    assert_false(ty_slurm_shape_fits("1 2 400 0 60 main - -", "1 1 0 0 0 other - -"));
    assert_false(ty_slurm_shape_fits("1 2 400 1 60 main - -", "1 1 0 0 0 main - -"));
    assert_false(ty_slurm_shape_fits("2 2 400 0 60 main - -", "1 1 0 0 0 main - -"));
    assert_false(ty_slurm_shape_fits("", "1 1 0 0 0 main - -"));
    ty_target_spec_free(t);
    ty_run_spec_free(one);
    ty_run_spec_free(same);
    ty_run_spec_free(two);
}

static void test_script_shared(void **state)
{
    struct ty_slurm_script from = { .agent = "~/it's/agent",
                                    .config = "{\"key\": \"$HOME `id` '\"}" };
    CLEANUP_STR struct ty_str s = { 0 };

    (void)state;
    assert_int_equal(ty_slurm_script(&from, &s), 0);
    has(s.text, "#!/bin/sh\n");
    has(s.text, "\nexec \"$HOME\"/'it'\\''s/agent' hold <<'.'\n{\"key\": \"$HOME `id` '\"}\n.\n");
}

/* Run by a shell: the agent is unpacked once, and reads what is its own. */
static void test_script_packed(void **state)
{
    char dir[] = "/tmp/ty-slurm.XXXXXX", line[256] = "";
    CLEANUP_STR struct ty_str s = { 0 };
    CLEANUP_FREE char *pack = NULL, *agent = NULL, *command = NULL;
    unsigned char packed[4096];
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    pack = ty_strf("printf '#!/bin/sh\\necho \"$1\"\\ncat\\n' | gzip -nc");
    f = popen(pack, "r");
    assert_non_null(f);
    size_t n = fread(packed, 1, sizeof packed, f);
    pclose(f);
    agent = ty_strf("%s/agents/x/agent", dir);
    struct ty_slurm_script from = {
        .agent = agent, .config = "{\"a\": 1}", .packed = packed, .packed_bytes = n
    };
    assert_int_equal(ty_slurm_script(&from, &s), 0);
    command = ty_strf("%s/script", dir);
    f = fopen(command, "w");
    assert_non_null(f);
    fputs(s.text, f);
    fclose(f);
    for (int again = 0; again < 2; again++) {
        CLEANUP_FREE char *run = ty_strf("sh %s | tr '\\n' ' '", command);

        f = popen(run, "r");
        assert_non_null(fgets(line, sizeof line, f));
        pclose(f);
        assert_string_equal(line, "hold {\"a\": 1} ");
    }
    CLEANUP_FREE char *rm = ty_strf("rm -rf %s", dir);
    assert_int_equal(system(rm), 0);
}

static void test_script_too_long(void **state)
{
    CLEANUP_STR struct ty_str s = { 0 };
    void *much = calloc(1, 4 << 20);
    struct ty_slurm_script from = {
        .agent = "/a/b", .config = "{}", .packed = much, .packed_bytes = 4 << 20
    };

    (void)state;
    assert_int_equal(ty_slurm_script(&from, &s), -E2BIG);
    free(much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least),           cmocka_unit_test(test_target_says),
        cmocka_unit_test(test_drained),         cmocka_unit_test(test_run_says),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_vm_size),
        cmocka_unit_test(test_partition_of),    cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_script_shared),   cmocka_unit_test(test_script_packed),
        cmocka_unit_test(test_script_too_long),
    };

    return cmocka_run_group_tests_name("slurm_ask", tests, NULL, NULL);
}
