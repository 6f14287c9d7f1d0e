/* test_allocation.c - was it Slurm that ended the job?  By a scontrol of the test. */
#include "base/fs.h"
#include "base/str.h"
#include "runner/allocation.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static char dir[] = "/tmp/ty-alloc.XXXXXX";

static const char *end_of(const char *scontrol, char **message)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "scontrol"),
                      *text = ty_strf("#!/bin/sh\n%s\n", scontrol),
                      *places = ty_strf("%s:/usr/bin:/bin", dir);
    CLEANUP_JSON json_t *job =
        json_pack("{s:{s:i s:{s:s}}}", "allocation", "job", 7, "environment", "PATH", places);

    assert_int_equal(ty_write_file(path, text, strlen(text), 0755), 0);
    return ty_allocation_end(job, message);
}

static void check(const char *said, const char *reason, const char *words)
{
    CLEANUP_FREE char *script = ty_strf("echo 'JobId=7 %s'", said), *message = NULL;
    const char *got = end_of(script, &message);

    if (!reason) {
        assert_null(got);
        return;
    }
    assert_non_null(got);
    assert_string_equal(got, reason);
    assert_non_null(strstr(message, words));
}

static void test_states(void **state)
{
    (void)state;
    check("JobState=RUNNING Reason=None PreemptTime=None", NULL, NULL);
    check("JobState=COMPLETING Reason=None PreemptTime=None", "cancel",
          "job 7 was canceled from outside");
    check("JobState=COMPLETING Reason=TimeLimit PreemptTime=None", "time_limit",
          "time limit of the allocation");
    check("JobState=RUNNING Reason=None PreemptTime=2026-11-26T17:17:17", "preempted",
          "for another job");
    check("JobState=PREEMPTED Reason=None", "preempted", "for another job");
    check("JobState=NODE_FAIL Reason=NodeDown", "node_lost", "failed");
    check("JobState=OUT_OF_MEMORY Reason=None", "out_of_memory", "memory_mb");
}

static void test_silence(void **state)
{
    CLEANUP_JSON json_t *none = json_object();
    CLEANUP_FREE char *message = NULL;

    (void)state;
    assert_null(ty_allocation_end(none, &message));
    assert_null(end_of(
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", &message));
    assert_null(end_of("exec sleep 30", &message)); /* two seconds are enough */
    assert_null(message);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    return ty_rm_rf(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_states),
                                        cmocka_unit_test(test_silence) };

    return cmocka_run_group_tests_name("allocation", tests, setup, teardown);
}
