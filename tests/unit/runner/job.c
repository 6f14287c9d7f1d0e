/* job.c - a job folder with everything around it, and a runner at work on it, for tests */
#include "job.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "blob/snapshot.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

#define RUN "first_1700000000_0badcafe"
#define PATIENCE_US (20 * 1000 * 1000)

static struct job alive; /* a copy of the one that was made last; no home: it is done */
static pid_t runner;     /* the one that was started last; 0: it has ended */

char *job_file(const struct job *j, const char *name)
{
    return ty_path_join(j->dir, name);
}
json_t *job_spec(struct job *j)
{
    return json_object_get(j->json, "spec");
}

static void put_text(const char *path, const char *text)
{
    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

/* The snapshot of a folder with train.sh in it, stored; the manifest goes into the job folder. */
static void put_snapshot(struct job *j, const char *script)
{
    CLEANUP_FREE char *source = ty_path_join(j->home, "source"),
                      *file = ty_path_join(source, "train.sh");
    CLEANUP_FREE char *store = ty_path_join(j->home, "blobs"), *manifest = job_file(j, "manifest");
    struct ty_snapshot *s = NULL;
    struct ty_blobs *blobs = NULL;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];
    const char *text;
    uint64_t bytes;
    size_t n;

    put_text(file, script);
    assert_int_equal(ty_snapshot_from_dir(source, NULL, NULL, &s, &err), 0);
    assert_int_equal(ty_blobs_open(store, &blobs, &err), 0);
    assert_true(ty_blob_put_file(blobs, file, sha, &bytes, &err) >= 0);
    text = ty_snapshot_manifest(s, &n);
    assert_int_equal(ty_write_file(manifest, text, n, 0600), 0);
    json_object_set_new(j->json, "manifest", json_string(manifest));
    json_object_set_new(job_spec(j), "snapshot", json_string(ty_snapshot_id(s)));
    json_object_set_new(job_spec(j), "source_directory", json_string(source));
    ty_snapshot_free(s);
    ty_blobs_free(blobs);
}

void job_make(struct job *j, const char *command, const char *script)
{
    CLEANUP_FREE char *socket = NULL, *blobs = NULL;

    *j = (struct job){ 0 };
    snprintf(j->home, sizeof j->home, "/tmp/ty-runner-XXXXXX");
    assert_non_null(mkdtemp(j->home));
    j->dir = ty_strf("%s/jobs/" RUN, j->home);
    assert_int_equal(ty_mkdir_p(j->dir, 0700), 0);
    socket = ty_path_join(j->home, "runner.sock");
    blobs = ty_path_join(j->home, "blobs");
    j->json = json_pack(
        "{s:i, s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:{s:i, s:s}, s:n, s:[], s:s, s:s, s:n, s:i, s:i, s:[]}",
        "version", 1, "run", RUN, "attempt", 1, "token", "secret", "socket", socket, "blobs", blobs,
        "home", j->home, "workspace", "trainyard", "spec", "version", 1, "experiment", "first",
        "manifest", "data_dirs", "user", "somebody", "user_home", "/", "python_path",
        "cancel_grace_seconds", 1, "log_bytes_max", 1 << 30, "warnings");
    assert_non_null(j->json);
    if (command)
        json_object_set_new(job_spec(j), "command",
                            json_pack("[s, s, s]", "/bin/sh", "-c", command));
    if (script) {
        json_object_set_new(job_spec(j), "script", json_string("train.sh"));
        json_object_set_new(job_spec(j), "interpreter", json_string("/bin/sh"));
        put_snapshot(j, script);
    }
    fake_open(&j->fake, socket);
    alive = *j;
}

void job_write(struct job *j)
{
    CLEANUP_FREE char *path = job_file(j, "job.json");
    char *text = json_dumps(j->json, 0);

    put_text(path, text);
    free(text);
}

void job_start(struct job *j, const char *fault, const char *boot)
{
    const char *agent = getenv("TRAINYARD_AGENT");
    const char *argv[] = { agent, "runner", j->dir, NULL };
    CLEANUP_FREE char *fault_env = fault ? ty_strf("TY_FAULT=%s", fault) : NULL;
    CLEANUP_FREE char *boot_env = boot ? ty_strf("TRAINYARD_TEST_BOOT_ID=%s", boot) : NULL;
    const char *env[] = { "PATH=/usr/bin:/bin", NULL, NULL, NULL };
    struct ty_spawn s = { .argv = argv, .envp = env, .cwd = "/", .in = -1, .out = -1, .err = 2 };
    struct ty_error err = { 0 };
    int n = 1;

    assert_non_null(agent);
    if (fault_env)
        env[n++] = fault_env;
    if (boot_env)
        env[n++] = boot_env;
    assert_int_equal(j->runner, 0);
    if (ty_spawn(&s, &j->runner, &err) < 0)
        fail_msg("%s", err.text);
    runner = j->runner;
}

bool job_over(struct job *j)
{
    if (j->runner && waitpid(j->runner, &j->status, WNOHANG) == j->runner) {
        if (runner == j->runner)
            runner = 0;
        j->runner = 0;
    }
    return j->runner == 0;
}

bool job_collected(struct job *j)
{
    return fake_record(&j->fake, "collected", 0) != NULL;
}

bool job_has_output(struct job *j)
{
    const struct ty_str *log = fake_log(&j->fake, "70_driver_log.txt");

    return log->len > 0 && memmem(log->text, log->len, "ready\n", 6) != NULL;
}

void job_until(struct job *j, bool (*until)(struct job *j))
{
    int64_t end = ty_mono_us() + PATIENCE_US;

    while (!until(j)) {
        if (ty_mono_us() > end)
            fail_msg("it did not come to what the test waits for within 20 seconds");
        fake_turn(&j->fake, 10);
    }
}

static bool marked(const struct job *j, const char *pid)
{
    CLEANUP_FREE char *path = ty_strf("/proc/%s/environ", pid),
                      *mark = ty_strf("TRAINYARD_JOB=%s", j->dir), *env = NULL;
    size_t n = 0;

    if (ty_read_file(path, 1 << 20, &env, &n) < 0)
        return false;
    return n > 0 && memmem(env, n, mark, strlen(mark) + 1) != NULL;
}

int job_processes(const struct job *j)
{
    CLEANUP_DIR DIR *d = opendir("/proc");
    int n = 0;

    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] >= '0' && e->d_name[0] <= '9' && marked(j, e->d_name);
    return n;
}

bool job_nobody(struct job *j)
{
    return job_processes(j) == 0;
}

pid_t job_find(const struct job *j, const char *name)
{
    CLEANUP_DIR DIR *d = opendir("/proc");

    for (struct dirent *e; d && (e = readdir(d));) {
        CLEANUP_FREE char *path = ty_strf("/proc/%s/comm", e->d_name), *comm = NULL;
        int64_t pid;
        size_t n;

        if (ty_parse_i64(e->d_name, &pid) == 0 && marked(j, e->d_name) &&
            ty_read_file(path, 64, &comm, &n) == 0 && n == strlen(name) + 1 &&
            memcmp(comm, name, n - 1) == 0)
            return (pid_t)pid;
    }
    return 0;
}

void job_run(struct job *j)
{
    job_write(j);
    job_start(j, NULL, NULL);
    job_until(j, job_over);
    assert_true(WIFEXITED(j->status) && WEXITSTATUS(j->status) == 0);
    assert_int_equal(access(j->dir, F_OK), -1);
    assert_int_equal(job_processes(j), 0);
    assert_true(job_collected(j));
    assert_null(fake_record(&j->fake, "exited", 1));
    assert_null(fake_record(&j->fake, "collected", 1));
}

const char *job_text(const struct job *j, const char *kind, int n, const char *key)
{
    const char *text = json_string_value(json_object_get(fake_record(&j->fake, kind, n), key));

    return text ? text : "";
}

int64_t job_number(const struct job *j, const char *kind, int n, const char *key)
{
    const json_t *v = json_object_get(fake_record(&j->fake, kind, n), key);

    return json_is_integer(v) ? json_integer_value(v) : -1;
}

int job_clean(void **state)
{
    (void)state;
    if (!alive.home[0])
        return 0;
    ty_marked_kill("TRAINYARD_JOB", alive.dir);
    if (runner) {
        kill(runner, SIGKILL);
        waitpid(runner, NULL, 0);
    }
    /* Memory and descriptors of a test that failed are left to the end of the process. */
    ty_rm_rf(alive.home);
    alive.home[0] = '\0';
    runner = 0;
    return 0;
}

void job_done(struct job *j)
{
    if (j->runner) {
        kill(j->runner, SIGKILL);
        waitpid(j->runner, NULL, 0);
    }
    alive.home[0] = '\0';
    runner = 0;
    ty_marked_kill("TRAINYARD_JOB", j->dir);
    fake_done(&j->fake);
    ty_rm_rf(j->home);
    json_decref(j->json);
    free(j->dir);
}
