/* test_mpi.c - whole MPI jobs: the runner, its PMIx helper, the ranks' environment, and how such jobs end
 *
 * The program is mpi_main; test_pmix has what concerns the helper alone.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "inside.h"
#include "runner/pmix_helper.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A job of two logical nodes with two processes each, all on this machine. */
static void make(struct job *j, const char *communicator, const char *command)
{
    job_make(j, command, NULL);
    json_object_set_new(job_spec(j), "node_count", json_integer(2));
    json_object_set_new(job_spec(j), "process_count_per_node", json_integer(2));
    json_object_set_new(job_spec(j), "communicator", json_string(communicator));
    json_object_set_new(j->json, "nodes",
                        json_pack("[{s:s, s:i}, {s:s, s:i}]", "name", "first", "ranks", 2, "name",
                                  "second", "ranks", 2));
}

static char *program(const char *what)
{
    const char *path = getenv("TRAINYARD_MPI_MAIN");

    assert_non_null(path);
    return ty_strf("exec %s %s", path, what);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' should say '%s'", text, part);
}

static void assert_control(const struct job *j, const char *part)
{
    assert_has(fake_log(&j->fake, "60_control_log.txt")->text, part);
}

/* Ranks of all logical nodes share the machine's memory; who is on which node the variables say. */
static void test_all_meet(void **state)
{
    CLEANUP_FREE char *sum = program("sum 4");
    CLEANUP_FREE char *command = ty_strf("test \"$OMPI_COMM_WORLD_LOCAL_RANK\" -lt 2 && "
                                         "test \"$OMPI_COMM_WORLD_LOCAL_SIZE\" = 2 && "
                                         "test \"$PMIX_RANK\" = \"$RANK\" && %s",
                                         sum);
    struct job j;

    (void)state;
    make(&j, "Mpi", command);
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    assert_control(&j, "MPI programs find each other through");
    assert_control(&j, "PMIx 4.");
    job_done(&j);
}

static void test_mpi4py(void **state)
{
    struct job j;

    (void)state;
    make(&j, "Mpi",
         "exec /usr/bin/python3 -c 'from mpi4py import MPI\n"
         "import os\n"
         "c = MPI.COMM_WORLD\n"
         "assert c.rank == int(os.environ[\"RANK\"]) and c.size == 4\n"
         "assert c.allreduce(c.rank + 1) == 10\n"
         "assert c.allgather(str(c.rank)) == list(\"0123\")'");
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    job_done(&j);
}

static void test_abort(void **state)
{
    CLEANUP_FREE char *command = program("abort");
    struct job j;

    (void)state;
    make(&j, "Mpi", command);
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 7);
    assert_int_equal(job_number(&j, "exited", 0, "rank"), 1);
    assert_string_equal(job_text(&j, "exited", 0, "node"), "first");
    assert_string_equal(job_text(&j, "exited", 0, "message"),
                        "rank 1 (node first) called MPI_Abort and exited with code 7");
    assert_control(&j, "rank 1 called MPI_Abort with code 7");
    job_done(&j);
}

/* The others would wait for ever; that it ends well is what the program says, and what mpirun makes of it. */
static void test_abort_with_zero(void **state)
{
    CLEANUP_FREE char *command = program("abort 0");
    struct job j;

    (void)state;
    make(&j, "Mpi", command);
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    assert_int_equal(job_number(&j, "exited", 0, "rank"), 1);
    assert_control(&j, "rank 1 called MPI_Abort with code 0");
    job_done(&j);
}

static void test_a_rank_is_killed(void **state)
{
    CLEANUP_FREE char *command = program("die");
    struct job j;

    (void)state;
    make(&j, "Mpi", command);
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_signal"), SIGKILL);
    assert_int_equal(job_number(&j, "exited", 0, "rank"), 1);
    job_done(&j);
}

static void test_spawning_is_refused(void **state)
{
    CLEANUP_FREE char *command = program("spawn");
    struct job j;

    (void)state;
    make(&j, "Mpi", command);
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    assert_control(&j, "rank 0 called MPI_Comm_spawn, which is refused");
    job_done(&j);
}

/* Jobs of other communicators have no helper, and neither has one of one process. */
static void test_only_for_mpi(void **state)
{
    struct job j;

    (void)state;
    make(&j, "Gloo", "test -z \"$PMIX_RANK$JSM_JSRUN_PORT$OMPI_COMM_WORLD_RANK\"");
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    job_done(&j);
    job_make(&j, "test -z \"$PMIX_RANK$JSM_JSRUN_PORT\"", NULL);
    json_object_set_new(job_spec(&j), "communicator", json_string("Mpi"));
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    job_done(&j);
}

/* What the user sets wins. */
static void test_the_user_decides(void **state)
{
    struct job j;

    (void)state;
    make(&j, "Mpi", "test \"$OMPI_MCA_btl_vader_backing_directory\" = /elsewhere");
    json_object_set_new(job_spec(&j), "environment_variables",
                        json_pack("{s:s}", "OMPI_MCA_btl_vader_backing_directory", "/elsewhere"));
    job_run(&j);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    job_done(&j);
}

/* Horovod needs no PMIx: the job runs, and says what it lacks. */
static void without(const char *fault, const char *why)
{
#ifdef TY_FAULTS
    struct job j;

    make(&j, "Mpi", "test -z \"$PMIX_RANK\"");
    job_write(&j);
    job_start(&j, fault, NULL);
    job_until(&j, job_over);
    assert_int_equal(job_number(&j, "exited", 0, "exit_code"), 0);
    assert_control(&j, "no PMIx server for MPI programs: ");
    assert_control(&j, why);
    job_done(&j);
#else
    (void)fault, (void)why; /* the build with faults has it */
#endif
}

static void test_without_pmix(void **state)
{
    (void)state;
    without("pmix.dlopen:1", "libpmix.so.2 cannot be opened");
    without("pmix.socket:1", "cannot make a socket");
    without("pmix.mkdir:1", "cannot make the folder");
    without("pmix.alloc:1", "out of memory");
}

static bool has_helper(struct job *j)
{
    return job_find(j, "trainyard-pmix") != 0;
}

static bool waits(struct job *j)
{
    const struct ty_str *log = fake_log(&j->fake, "70_driver_log_0.txt");

    return log->len > 0 && strstr(log->text, "ready") && strstr(log->text, "/dev/shm/trainyard-");
}

/* A canceled job leaves neither helper nor shared memory. */
static void test_cancel(void **state)
{
    CLEANUP_FREE char *wait = program("wait");
    CLEANUP_FREE char *command =
        ty_strf("echo ready; echo $OMPI_MCA_btl_vader_backing_directory >&2; %s", wait);
    const struct ty_str *log;
    CLEANUP_FREE char *shm = NULL;
    const char *at;
    struct job j;

    (void)state;
    make(&j, "Mpi", command);
    json_object_set_new(j.json, "cancel_grace_seconds", json_integer(0));
    job_write(&j);
    job_start(&j, NULL, NULL);
    job_until(&j, has_helper);
    job_until(&j, waits);
    fake_cancel(&j.fake);
    job_until(&j, job_over);
    assert_string_equal(job_text(&j, "exited", 0, "reason"), "cancel");
    assert_int_equal(job_processes(&j), 0);
    log = fake_log(&j.fake, "70_driver_log_0.txt");
    assert_non_null(at = strstr(log->text, "/dev/shm/trainyard-"));
    shm = strndup(at, strcspn(at, "\n"));
    assert_int_equal(access(shm, F_OK), -1);
    job_done(&j);
}

/* ---- a leader and a node, as if on two machines ---- */

#define WAIT_US (30 * 1000 * 1000)

static struct inside *sides[2];

/* What a link between them would carry. */
static void to_node(struct ty_runner *r, const int *nodes, int n, const struct ty_frame *f)
{
    assert_ptr_equal(r, &sides[0]->r);
    assert_int_equal(n, 1);
    assert_int_equal(nodes[0], 1);
    assert_int_equal(f->type, TY_FRAME_FENCED);
    ty_mpi_fenced(&sides[1]->r, f);
}

static void to_leader(struct ty_runner *r, const struct ty_frame *f)
{
    assert_ptr_equal(r, &sides[1]->r);
    assert_int_equal(f->type, TY_FRAME_FENCE);
    ty_mpi_fence(&sides[0]->r, 1, f);
}

static void open_side(struct inside *in, int node)
{
    make(&in->j, "Mpi", "true");
    json_object_set_new(in->j.json, "local_nodes", json_integer(1));
    json_object_set_new(in->j.json, "node", json_integer(node));
    if (node > 0) {
        json_object_set_new(in->j.json, "role", json_string("node"));
        json_object_set_new(in->j.json, "link",
                            json_pack("{s:s, s:[s], s:i}", "key",
                                      "00112233445566778899aabbccddeeff"
                                      "00112233445566778899aabbccddeeff",
                                      "addresses", "127.0.0.1", "port", 9));
    }
    inside_open(in);
    in->r.mpi.fenced = to_node;
    in->r.mpi.came = to_leader;
}

static pid_t run_rank(struct ty_runner *r, int rank)
{
    const char *const *add = ty_mpi_env(r, &(struct ty_rank_plan){ rank, rank / 2, rank % 2, 2 });
    const char *argv[] = { getenv("TRAINYARD_MPI_MAIN"), "sum", "2", NULL };
    const char *env[64] = { "PATH=/usr/bin:/bin", "OMPI_MCA_mpi_yield_when_idle=1",
                            "OMPI_MCA_btl_tcp_if_include=lo" };
    int n = 3;
    pid_t pid;

    for (assert_non_null(add); *add && n < 63; add++)
        env[n++] = *add;
    pid = fork();
    if (pid == 0) {
        dup2(2, 1);
        execve(argv[0], (char *const *)argv, (char *const *)env);
        _exit(127);
    }
    return pid;
}

/* One turn of both loops. */
static void turn_both(void)
{
    struct pollfd p[2];

    for (int i = 0; i < 2; i++)
        p[i].fd = ty_mpi_fd(&sides[i]->r, &p[i].events);
    poll(p, 2, 10);
    for (int i = 0; i < 2; i++)
        if (p[i].revents)
            ty_mpi_hear(&sides[i]->r);
}

static void test_two_machines(void **state)
{
    struct inside leader = { 0 }, node = { 0 };
    int64_t end = ty_mono_us() + WAIT_US;
    int good = 0, status;
    pid_t pid[4];

    (void)state;
    sides[0] = &leader;
    sides[1] = &node;
    for (int i = 0; i < 2; i++) {
        open_side(sides[i], i);
        ty_mpi_start(&sides[i]->r);
        assert_non_null(sides[i]->r.mpi.helper);
    }
    while (!leader.r.mpi.settled || !node.r.mpi.settled) {
        assert_true(ty_mono_us() < end);
        turn_both();
    }
    for (int i = 0; i < 4; i++)
        pid[i] = run_rank(&sides[i / 2]->r, i);
    while (good < 4) {
        assert_true(ty_mono_us() < end);
        turn_both();
        for (int i = 0; i < 4; i++)
            if (pid[i] > 0 && waitpid(pid[i], &status, WNOHANG) == pid[i]) {
                assert_int_equal(status, 0);
                pid[i] = 0;
                good++;
            }
    }
    assert_int_equal(ty_fences_open(leader.r.mpi.fences), 0);
    while (inside_count(&node, "mpi") == 0) {
        assert_true(ty_mono_us() < end);
        turn_both();
    }
    assert_has(inside_text(&node, "mpi", 0, "version"), "Open MPI v4");
    inside_done(&node);
    inside_done(&leader);
}

static void test_versions(void **state)
{
    struct inside leader = { 0 };

    (void)state;
    open_side(&leader, 0);
    ty_mpi_has(&leader.r, 0, "Open MPI v4.1.4, package: Debian");
    ty_mpi_has(&leader.r, 1, "Open MPI v4.1.4, package: home-made");
    ty_mpi_has(&leader.r, 2, "no such node");
    assert_int_equal(inside_count(&leader, "warning"), 0);
    ty_mpi_has(&leader.r, 1, "");
    ty_mpi_has(&leader.r, 1, "Open MPI v4.1.2, package: Ubuntu");
    assert_int_equal(inside_count(&leader, "warning"), 1);
    assert_has(inside_text(&leader, "warning", 0, "text"),
               "node 'first' has Open MPI v4.1.4, node 'second' has none; install one version");
    inside_done(&leader);
}

/* What no node can have said; and a helper that never comes to an end is not waited for. */
static void test_oddities(void **state)
{
    struct ty_frame odd = { .type = TY_FRAME_FENCE, .count = 9, .name = "k", .name_len = 1 };
    struct inside leader = { 0 };

    (void)state;
    open_side(&leader, 0);
    ty_mpi_fence(&leader.r, 1, &odd); /* before there are fences */
    ty_mpi_fenced(&leader.r, &odd);   /* nor a helper */
    assert_false(ty_mpi_ready(&leader.r));
    ty_mpi_start(&leader.r);
    ty_mpi_fence(&leader.r, 1, &odd);
    assert_int_equal(ty_fences_open(leader.r.mpi.fences), 0);
    assert_true(ty_mpi_due(&leader.r) < TY_NEVER);
    ty_mpi_timer(&leader.r);
    assert_false(ty_mpi_ready(&leader.r));
    leader.r.now_us = ty_mpi_due(&leader.r);
    ty_mpi_timer(&leader.r);
    assert_true(ty_mpi_ready(&leader.r));
    assert_int_equal(ty_mpi_due(&leader.r), TY_NEVER);
    inside_done(&leader);
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_teardown(f, job_clean)
    const struct CMUnitTest tests[] = {
        T(test_all_meet),        T(test_mpi4py),           T(test_abort),
        T(test_abort_with_zero), T(test_a_rank_is_killed), T(test_spawning_is_refused),
        T(test_only_for_mpi),    T(test_the_user_decides), T(test_without_pmix),
        T(test_cancel),          T(test_two_machines),     T(test_versions),
        T(test_oddities)
    };

    if (argc == 3 && strcmp(argv[1], "pmix") == 0)
        return ty_pmix_helper_main(argv[2]);

    return cmocka_run_group_tests_name("mpi", tests, NULL, NULL);
}
