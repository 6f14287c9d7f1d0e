/* test_ranks.c - the table of ranks, and wrappers that are heard through it.  This program is its own wrapper */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/rank.h"
#include "runner/ranks.h"
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct ty_job_node nodes[] = { { .name = "a", .ranks = 2, .first = 0 },
                                      { .name = "b", .ranks = 3, .first = 2 } };
static struct ty_jobfile job = { .nodes = nodes, .nnodes = 2, .size = 5 };

static void open_as(struct ty_ranks *s, bool leads, int node, int own_nodes)
{
    struct ty_error err = { 0 };

    job.leads = leads;
    job.node = node;
    job.own_nodes = own_nodes;
    assert_int_equal(ty_ranks_open(s, &job, &err), 0);
}

static void test_who_they_are(void **state)
{
    struct ty_ranks s = TY_RANKS_INIT;

    (void)state;
    ty_ranks_done(&s);
    open_as(&s, true, 0, 1);
    assert_int_equal(s.n, 5); /* also those of others: they are told of */
    assert_int_equal(s.at[4].plan.rank, 4);
    assert_int_equal(s.at[4].plan.node, 1);
    assert_int_equal(s.at[4].plan.local_rank, 2);
    assert_int_equal(s.at[4].plan.local_size, 3);
    assert_int_equal(s.at[1].plan.local_rank, 1);
    ty_ranks_done(&s);
    open_as(&s, false, 1, 1);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.at[0].plan.rank, 2);
    assert_int_equal(s.at[0].plan.local_rank, 0);
    ty_ranks_done(&s);
}

static void test_counts(void **state)
{
    struct ty_ranks s = TY_RANKS_INIT;
    int good = 0, bad = SIGKILL;

    (void)state;
    open_as(&s, true, 0, 2);
    ty_ranks_started(&s, 3, 100);
    ty_ranks_started(&s, 3, 100);
    assert_int_equal(s.started, 1);
    assert_false(ty_member_good(&s.at[3]));
    ty_ranks_ended(&s, 3, &good, false, 7);
    ty_ranks_ended(&s, 3, &bad, false, 8);
    assert_true(ty_member_good(&s.at[3]));
    ty_ranks_ended(&s, 0, &bad, true, 8);
    ty_ranks_ended(&s, 1, NULL, false, 9);
    assert_int_equal(s.ended, 3);
    assert_int_equal(s.bad, 2);
    assert_true(s.at[0].victim && !s.at[1].reported && s.at[1].ended_us == 9);
    ty_ranks_done(&s);
}

static int told[5][4]; /* per rank: started, exited, failed, the end */
static struct ty_ranks real = TY_RANKS_INIT;

static void hear(int i, const struct ty_report *report, void *ctx)
{
    (void)ctx;
    if (!report)
        told[i][3]++;
    else if (report->kind == TY_REPORT_STARTED)
        told[i][0]++;
    else if (report->kind == TY_REPORT_EXITED)
        told[i][1] = 1 + WEXITSTATUS(report->value);
    else
        told[i][2]++;
}

static void test_wrappers(void **state)
{
    char *const env[] = { NULL };
    char dir[] = "/tmp/ty-ranks-XXXXXX";
    int64_t end = ty_mono_us() + 20000000;
    CLEANUP_FREE char *log = NULL;

    (void)state;
    assert_non_null(mkdtemp(dir));
    log = ty_path_join(dir, "log");
    assert_int_equal(ty_write_file(log, "", 0, 0600), 0);
    open_as(&real, true, 0, 2);
    for (int i = 0; i < 3; i++) {
        CLEANUP_FREE char *command = ty_strf("exit %d", i);
        char *const argv[] = { i == 2 ? (char *)"/no/such/program" : (char *)"/bin/sh",
                               (char *)"-c", command, NULL };
        struct ty_launch_spec how = {
            .job_dir = dir, .work = dir, .log = log, .argv = argv, .env = env, .err = 2
        };
        struct ty_error err = { 0 };

        if (ty_ranks_start(&real, i, &how, &err) < 0)
            fail_msg("%s", err.text);
    }
    while (told[0][3] + told[1][3] + told[2][3] < 3) {
        struct pollfd p = { .fd = real.epoll, .events = POLLIN };

        assert_true(ty_mono_us() < end);
        poll(&p, 1, 1000);
        ty_ranks_hear(&real, hear, NULL);
    }
    assert_true(told[0][0] == 1 && told[0][1] == 1 && told[0][2] == 0);
    assert_true(told[1][0] == 1 && told[1][1] == 2 && told[1][2] == 0);
    assert_true(told[2][0] == 0 && told[2][1] == 0 && told[2][2] == 1);
    for (int i = 0; i < 3; i++) {
        int status;
        pid_t pid = real.at[i].wrapper.pid;

        assert_int_equal(real.at[i].wrapper.line, -1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(ty_ranks_reaped(&real, pid, status));
        assert_int_equal(real.at[i].wrapper_status, status);
        assert_true(real.at[i].reaped);
    }
    assert_false(ty_ranks_reaped(&real, getpid(), 0));
    ty_ranks_done(&real);
    ty_rm_rf(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_who_they_are),
                                        cmocka_unit_test(test_counts),
                                        cmocka_unit_test(test_wrappers) };

    if (argc > 1 && strcmp(argv[1], "rank") == 0)
        return ty_rank_main(argc, argv);
    return cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
}
