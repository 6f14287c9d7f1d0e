/* Job folders on a host: whose they are, and what is removed when nobody has used it for a month. */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "courier/farjob.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DAY (24 * 3600)

static char dir[64];
static struct ty_far far;

static int set_up(void **state)
{
    CLEANUP_FREE char *folder = NULL;
    struct ty_error err = { 0 };

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-farjob-XXXXXX");
    assert_non_null(mkdtemp(dir));
    folder = ty_path_join(dir, "trainyard");
    assert_int_equal(ty_far_open(&far, folder, &err), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ty_far_done(&far);
    return ty_rm_rf(dir);
}

static char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", far.folder, name);
    return path;
}

static bool is_there(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

/* As if it was touched last so long ago. */
static void age(const char *name, int days)
{
    struct timespec t[2] = { { .tv_sec = time(NULL) - (time_t)days * DAY } };

    t[1] = t[0];
    assert_int_equal(utimensat(AT_FDCWD, path_of(name), t, 0), 0);
}

static void put(const char *name, const char *text, int days)
{
    CLEANUP_FREE char *copy = strdup(name);

    *strrchr(copy, '/') = '\0';
    assert_int_equal(ty_mkdir_p(path_of(copy), 0700), 0);
    assert_int_equal(ty_write_file(path_of(name), text, strlen(text), 0600), 0);
    age(name, days);
    age(copy, days);
}

static void put_blob(const char *text, int days, char sha[TY_SHA256_HEX + 1])
{
    char name[80];

    assert_int_equal(ty_blob_put_bytes(far.blobs, text, strlen(text), sha, NULL), 0);
    snprintf(name, sizeof name, "blobs/%.2s/%s", sha, sha + 2);
    age(name, days);
}

static bool blob_there(const char *sha)
{
    return ty_blob_bytes(far.blobs, sha) >= 0;
}

/* Until it is done with. */
static void keep(void)
{
    ty_far_keep(&far);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    assert_int_equal(errno, ECHILD);
}

static void keep_again(void)
{
    age("kept", 2);
    keep();
}

static void put_old_things(char old[TY_SHA256_HEX + 1], char fresh[TY_SHA256_HEX + 1])
{
    put("agents/a1/trainyard-agent", "x", 31);
    put("agents/a2/trainyard-agent", "x", 29);
    put("packages/p1/trainyard.py", "x", 31);
    put("packages/p2/trainyard.py", "x", 29);
    put("packages/.new-p3-1/trainyard.py", "x", 31);
    put("checkpoints/r_1/model.pt", "x", 400);
    put_blob("old", 31, old);
    put_blob("fresh", 29, fresh);
}

static void test_old(void **state)
{
    char old[TY_SHA256_HEX + 1], fresh[TY_SHA256_HEX + 1];

    (void)state;
    put_old_things(old, fresh);
    keep();
    assert_false(is_there("agents/a1"));
    assert_true(is_there("agents/a2/trainyard-agent"));
    assert_false(is_there("packages/p1"));
    assert_true(is_there("packages/p2/trainyard.py"));
    assert_false(is_there("packages/.new-p3-1"));
    assert_true(is_there("checkpoints/r_1/model.pt"));
    assert_false(blob_there(old));
    assert_true(blob_there(fresh));
    /* Once a day. */
    age("agents/a2", 31);
    keep();
    assert_true(is_there("agents/a2"));
    keep_again();
    assert_false(is_there("agents/a2"));
}

/* What is asked for is used, and stays. */
static void test_used(void **state)
{
    char old[TY_SHA256_HEX + 1], fresh[TY_SHA256_HEX + 1];

    (void)state;
    put_old_things(old, fresh);
    assert_true(ty_blob_has(far.blobs, old));
    keep();
    assert_true(blob_there(old));
}

/* A job that runs for longer than a month keeps what it began with. */
static void test_long_job(void **state)
{
    char old[TY_SHA256_HEX + 1], fresh[TY_SHA256_HEX + 1], older[TY_SHA256_HEX + 1];
    CLEANUP_CLOSE int lock = -1;

    (void)state;
    put_old_things(old, fresh);
    put_blob("older", 50, older);
    put("packages/p0/trainyard.py", "x", 50);
    put("jobs/r_1/lock", "", 40);
    put("jobs/r_1/job.json", "{}", 40);
    lock = open(path_of("jobs/r_1/lock"), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);
    keep();
    assert_true(is_there("jobs/r_1/job.json"));
    assert_true(is_there("agents/a1/trainyard-agent"));
    assert_true(is_there("packages/p1/trainyard.py"));
    assert_true(blob_there(old));
    assert_false(is_there("packages/p0"));
    assert_false(blob_there(older));
    /* Its process is gone, and nobody comes for it. */
    close(TAKE_FD(lock));
    keep_again();
    assert_false(is_there("jobs/r_1"));
    assert_false(is_there("agents/a1"));
    assert_false(blob_there(old));
}

/* Folders of jobs that a courier may still come for. */
static void test_jobs(void **state)
{
    struct ty_proc_id me = { 0 };
    CLEANUP_FREE char *id = NULL;

    (void)state;
    assert_int_equal(ty_proc_identify(getpid(), &me), 0);
    id = ty_strf("%s %d %" PRIu64 "\n", me.boot, (int)me.pid, me.start);
    put("jobs/recent/job.json", "{}", 29);
    put("jobs/lives/job.json", "{}", 31);
    put("jobs/lives/runner.id", id, 31);
    put("jobs/watched/job.json", "{}", 31);
    put("jobs/watched/remote.id", id, 31);
    put("jobs/writes/work/outputs/model.pt", "x", 1);
    put("jobs/writes/job.json", "{}", 31);
    put("jobs/ended/job.json", "{}", 31);
    put("jobs/ended/runner.id", "00000000-0000-0000-0000-000000000000 7 7\n", 31);
    put("jobs/.new-r_9/job.json", "{", 31);
    keep();
    assert_true(is_there("jobs/recent"));
    assert_true(is_there("jobs/lives"));
    assert_true(is_there("jobs/watched"));
    assert_true(is_there("jobs/writes"));
    assert_false(is_there("jobs/ended"));
    assert_false(is_there("jobs/.new-r_9"));
}

static void put_job(const char *run, int attempt, const char *token)
{
    CLEANUP_FREE char *name = ty_strf("jobs/%s/job.json", run);
    CLEANUP_FREE char *text = ty_strf("{\"attempt\": %d, \"token\": \"%s\"}", attempt, token);

    put(name, text, 0);
}

/* The courier of an attempt that was lost comes late: the run has begun anew, on this host. */
static void test_attempts(void **state)
{
    struct ty_error err = { 0 };

    (void)state;
    put_job("r_1", 2, "t");
    assert_int_equal(ty_far_attach(&far, "r_1", 1, "t", &err), 0);
    assert_null(far.dir);
    assert_true(is_there("jobs/r_1/job.json"));
    assert_int_equal(ty_far_attach(&far, "r_1", 2, "t", &err), 1);
    assert_non_null(far.dir);
    assert_int_equal(ty_far_attach(&far, "r_1", 3, "t", &err), 0);
    assert_false(is_there("jobs/r_1"));
    /* Of another service, or not whole: it makes way. */
    put_job("r_1", 2, "of another");
    assert_int_equal(ty_far_attach(&far, "r_1", 1, "t", &err), 0);
    assert_false(is_there("jobs/r_1"));
    put("jobs/r_1/job.json", "{\"attempt\": ", 0);
    assert_int_equal(ty_far_attach(&far, "r_1", 1, "t", &err), 0);
    assert_false(is_there("jobs/r_1"));
}

/* The far end that an earlier attempt left behind does not remove what the next one makes. */
static void test_left_behind(void **state)
{
    struct ty_error err = { 0 };
    struct ty_proc_id other = { 0 };
    CLEANUP_FREE char *id = NULL;
    pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_int_equal(ty_proc_identify(pid, &other), 0);
    id = ty_strf("%s %d %" PRIu64 "\n", other.boot, (int)other.pid, other.start);
    put_job("r_1", 1, "t");
    put("jobs/r_1/remote.id", id, 0);
    assert_int_equal(ty_far_attach(&far, "r_1", 2, "t", &err), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

/* Nodes of one job may share the folder. */
static void test_shared(void **state)
{
    struct ty_error err = { 0 };
    struct ty_far other;

    (void)state;
    assert_int_equal(ty_far_open(&other, far.folder, &err), 0);
    put_job("r_1", 1, "t");
    put_job("r_1.1", 1, "t");
    assert_int_equal(ty_far_attach(&far, "r_1", 1, "t", &err), 1);
    assert_int_equal(ty_far_attach(&other, "r_1.1", 1, "t", &err), 1);
    assert_int_equal(ty_far_clean(&far, 0, &err), 0);
    assert_false(is_there("jobs/r_1"));
    assert_true(is_there("jobs/r_1.1/job.json"));
    ty_far_done(&other);
}

static void start_with(json_t *start, const char *words)
{
    CLEANUP_JSON json_t *o = start;
    CLEANUP_JSON json_t *notes = json_array();
    struct ty_error err = { 0 };

    assert_true(ty_far_make(&far, o, notes, &err) < 0);
    if (!strstr(err.text, words))
        fail_msg("no '%s' in: %s", words, err.text);
    assert_false(is_there("jobs/r_1"));
}

/* What would lead out of the folder, or is no name of content. */
static void test_names(void **state)
{
    static const char *const bad[] = { "", ".", "..", "../x", "a/b", ".new-r_1" };
    struct ty_error err = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_far_attach(&far, bad[i], 1, "t", &err), -EINVAL);
    start_with(json_pack("{s:{}}", "job"), "does not hold a job"); /* nothing is attached */
    assert_int_equal(ty_far_attach(&far, "r_1", 1, "t", &err), 0);
    start_with(json_object(), "does not hold a job");
    start_with(json_pack("{s:{}, s:s}", "job", "packages", "a"), "does not hold a job");
    start_with(json_pack("{s:{}, s:s}", "job", "packages", "../../x"), "does not hold a job");
    start_with(json_pack("{s:{}, s:s}", "job", "manifest", "/etc/passwd"), "does not hold a job");
    start_with(json_pack("{s:{}}", "job"), "run specification");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_jobs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_attempts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_left_behind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
