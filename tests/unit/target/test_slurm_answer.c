/* test_slurm_answer.c - reading what Slurm's commands print */
#include "base/error.h"
#include "core/launch_plan.h"
#include "target/slurm_ask.h"
#include "tests.h"
#include <errno.h>

static void test_numbers(void **state)
{
    uint32_t n = 0;

    (void)state;
    assert_int_equal(ty_slurm_job_number("123\n", &n), 0);
    assert_int_equal(n, 123);
    assert_int_equal(ty_slurm_job_number("7;cluster\n", &n), 0);
    assert_int_equal(n, 7);
    assert_int_equal(ty_slurm_job_number("0", &n), -EBADMSG);
    assert_int_equal(ty_slurm_job_number("", &n), -EBADMSG);
    assert_int_equal(ty_slurm_job_number("12x", &n), -EBADMSG);
    assert_int_equal(ty_slurm_job_number("4294967296", &n), -EBADMSG);
    assert_int_equal(ty_slurm_job_number("Submitted batch job 7", &n), -EBADMSG);
    assert_int_equal(n, 7);
}

static void test_queue(void **state)
{
    char line[] = "12|PENDING|Resources|4||N/A|trainyard:abc|d\n",
         run[] = "13|RUNNING|None|2|n[1-2]|1-02:03:04|(null)",
         part[] = "14_3|COMPLETED|None|1|n1|N/A|", bad[] = "14|RUNNING|None|1|n1";
    struct ty_slurm_job j;

    (void)state;
    assert_int_equal(ty_slurm_queue_line(line, &j), 0);
    assert_int_equal(j.number, 12);
    assert_int_equal(j.state, TY_SLURM_PENDING);
    assert_string_equal(j.reason, "Resources");
    assert_int_equal(j.nodes, 4);
    assert_int_equal(j.left_seconds, -1);
    assert_string_equal(j.node_list, "");
    assert_string_equal(j.comment, "trainyard:abc|d");
    assert_int_equal(ty_slurm_queue_line(run, &j), 0);
    assert_int_equal(j.state, TY_SLURM_RUNNING);
    assert_string_equal(j.node_list, "n[1-2]");
    assert_int_equal(j.left_seconds, 26 * 3600 + 3 * 60 + 4);
    assert_int_equal(ty_slurm_queue_line(part, &j), 0);
    assert_int_equal(j.number, 14);
    assert_int_equal(ty_slurm_queue_line(bad, &j), -EBADMSG);
}

static void test_states(void **state)
{
    (void)state;
    assert_int_equal(ty_slurm_state("NODE_FAIL"), TY_SLURM_NODE_FAIL);
    assert_int_equal(ty_slurm_state("CONFIGURING"), TY_SLURM_STARTING);
    assert_int_equal(ty_slurm_state("a word of tomorrow"), TY_SLURM_FAILED);
    assert_false(ty_slurm_over(TY_SLURM_ENDING));
    assert_true(ty_slurm_over(TY_SLURM_ENDED));
    assert_true(ty_slurm_over(TY_SLURM_PREEMPTED));
    assert_string_equal(ty_slurm_reason("Priority"), "others come before it");
    assert_null(ty_slurm_reason("SomethingNew"));
}

static void test_values(void **state)
{
    static const char line[] =
        "JobId=1 JobName=a Reason=None JobState=TIMEOUT ExitCode=0:15 Comment=\n";
    char buf[8];

    (void)state;
    assert_true(ty_slurm_value(line, "JobState", buf, sizeof buf));
    assert_string_equal(buf, "TIMEOUT");
    assert_true(ty_slurm_value(line, "Comment", buf, sizeof buf));
    assert_string_equal(buf, "");
    assert_true(ty_slurm_value(line, "ExitCode", buf, sizeof buf));
    assert_string_equal(buf, "0:15");
    assert_false(ty_slurm_value(line, "State", buf, sizeof buf)); /* only the end of a name */
    assert_false(ty_slurm_value(line, "JobState", buf, 7));
}

static void test_partitions(void **state)
{
    char line[] = "main|up|4|4+|4000+|gpu:2|infinite|idle\n",
         down[] = "old|down|1|2|100|(null)|1:00|down", bad[] = "old|down|x|2|100|(null)|1:00|down";
    struct ty_slurm_partition p;

    (void)state;
    assert_int_equal(ty_slurm_partition_line(line, &p), 0);
    assert_string_equal(p.name, "main");
    assert_true(p.up);
    assert_int_equal(p.nodes, 4);
    assert_int_equal(p.cpus, 4);
    assert_int_equal(p.memory_mb, 4000);
    assert_string_equal(p.gres, "gpu:2");
    assert_string_equal(p.limit, "infinite");
    assert_int_equal(ty_slurm_partition_line(down, &p), 0);
    assert_false(p.up);
    assert_int_equal(ty_slurm_partition_line(bad, &p), -EBADMSG);
}

/* What a target has is what its jobs may get, however often a cluster lists its nodes. */
static void test_have(void **state)
{
    static const char lines[] = "main*|up|3|4|4000|gpu:2|infinite|idle\n"
                                "main*|up|1|4|4000|gpu:a100:4(S:0-1),mps:100|infinite|mixed\n"
                                "maintenance|up|4|4|4000|(null)|2:00:00|idle\n"
                                "small|down|1|8|9000|(null)|30:00|idle\n";
    static const struct {
        const char *wanted;
        int nodes, cpus, gpus;
        int64_t limit;
        bool up;
    } cases[] = {
        { NULL, 4, 4, 4, -1, true },       { "main", 4, 4, 4, -1, true },
        { "small", 1, 8, 0, 1800, false }, { "maintenance,small", 5, 8, 0, 7200, true },
        { "mainten", 0, 0, 0, -1, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *text = strdup(lines);
        struct ty_slurm_have have;

        ty_slurm_have(text, cases[i].wanted, &have);
        assert_int_equal(have.nodes, cases[i].nodes);
        assert_int_equal(have.cpus, cases[i].cpus);
        assert_int_equal(have.gpus, cases[i].gpus);
        assert_int_equal(have.limit_seconds, cases[i].limit);
        assert_int_equal(have.up, cases[i].up);
        assert_string_equal(have.names.text, "main, maintenance, small");
        ty_str_done(&have.names);
    }
}

/* Where no partition is the default one, Slurm may choose any. */
static void test_have_no_default(void **state)
{
    char lines[] = "a|up|3|4|4000|(null)|infinite|idle\nb|up|2|4|4000|(null)|infinite|idle\n";
    struct ty_slurm_have have;

    (void)state;
    ty_slurm_have(lines, NULL, &have);
    assert_int_equal(have.nodes, 5);
    ty_str_done(&have.names);
}

static void names(const char *list, const char *expected)
{
    CLEANUP_STR struct ty_str s = { 0 };
    char **v = NULL;

    assert_int_equal(ty_slurm_node_names(list, &v), 0);
    for (char **n = v; *n; n++)
        ty_str_addf(&s, "%s%s", n > v ? " " : "", *n);
    assert_string_equal(s.text, expected);
    ty_strv_free(v);
}

static void test_node_names(void **state)
{
    static const char *const bad[] = { "",      "n[",    "n[]",  "n[1",   "n[1-", "n[3-1]", ",a",
                                       "n[1]x", "[1-2]", "n[a]", "n[1,]", "a,,b", "n[1]2" };
    char **v = NULL;

    (void)state;
    names("n1", "n1");
    names("n[1-3,7],m01", "n1 n2 n3 n7 m01");
    names("n[08-11]", "n08 n09 n10 n11");
    names("a,b", "a b");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (ty_slurm_node_names(bad[i], &v) != -EBADMSG)
            fail_msg("'%s' is a list", bad[i]);
    assert_int_equal(ty_slurm_node_names("n[1-20000]", &v), -E2BIG);
    assert_null(v);
}

static void test_sentences(void **state)
{
    char buf[200], small[12];

    (void)state;
    assert_string_equal(
        ty_slurm_sentence(
            "sbatch: error: invalid partition specified: x\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
            buf, sizeof buf),
        "invalid partition specified: x; Batch job submission failed: Invalid partition name specified");
    assert_string_equal(ty_slurm_sentence("", buf, sizeof buf), "");
    assert_string_equal(ty_slurm_sentence("\n\nwhy\n\n", buf, sizeof buf), "why");
    assert_string_equal(ty_slurm_sentence("a long sentence of it", small, sizeof small),
                        "a long sent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_have),       cmocka_unit_test(test_have_no_default),
        cmocka_unit_test(test_numbers),    cmocka_unit_test(test_queue),
        cmocka_unit_test(test_states),     cmocka_unit_test(test_values),
        cmocka_unit_test(test_partitions), cmocka_unit_test(test_node_names),
        cmocka_unit_test(test_sentences),
    };

    return cmocka_run_group_tests_name("slurm_answer", tests, NULL, NULL);
}
