/* test_mpi.c - whole MPI jobs: the runner, its PMIx helper, the ranks' environment, and how such jobs end
 *
 * The program is mpi_main; test_pmix has what concerns the helper alone.
 */
#include "base/cleanup.h"
#include "base/str.h"
#include "job.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
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

int main(void)
{
#define T(f) cmocka_unit_test_teardown(f, job_clean)
    const struct CMUnitTest tests[] = { T(test_all_meet),
                                        T(test_mpi4py),
                                        T(test_abort),
                                        T(test_a_rank_is_killed),
                                        T(test_spawning_is_refused),
                                        T(test_only_for_mpi),
                                        T(test_the_user_decides),
                                        T(test_without_pmix),
                                        T(test_cancel) };

    return cmocka_run_group_tests_name("mpi", tests, NULL, NULL);
}
