/* test_keep.c - collection, retention, leftovers */
#include "base/clock.h"
#include "blob/blob.h"
#include "kit.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

static json_t *report;
static int report_r;

static void on_report(void *ctx, int r, json_t *j, const struct ty_error *err)
{
    (void)ctx, (void)err;
    report_r = r;
    report = json_incref(j);
}

static bool reported(struct kit *k, const char *run)
{
    (void)k, (void)run;
    return report != NULL;
}

/* A collection; the number of `key` in its report. */
static int64_t collect(struct kit *k, const char *key)
{
    struct ty_error err = { 0 };
    int64_t n;

    report = NULL;
    assert_int_equal(ty_sched_gc(k->sched, on_report, NULL, &err), 0);
    assert_int_equal(ty_sched_gc(k->sched, on_report, NULL, &err), -EBUSY); /* one at a time */
    kit_until(k, reported, NULL);
    assert_int_equal(report_r, 0);
    n = json_integer_value(json_object_get(report, key));
    json_decref(report);
    return n;
}

/* One is removed; a run whose runner still clears away is left for the next collection. */
static void collect_one(struct kit *k, const char *key)
{
    int64_t n = 0;

    for (int i = 0; n == 0 && i < 200; i++) {
        n = collect(k, key);
        kit_idle(k, 10);
    }
    assert_int_equal(n, 1);
}

/* What was stored long ago. */
static void make_old(struct kit *k, const char *sql)
{
    CLEANUP_FREE char *age =
        ty_strf("find %s/blobs -type f -exec touch -d '2 days ago' {} +", k->home);

    kit_sql(k, sql);
    assert_int_equal(system(age), 0);
}

/* A run with an output, that has ended. */
static void run_with_output(struct kit *k, const char *text, char name[128])
{
    CLEANUP_FREE char *shell = ty_strf("echo %s > outputs/o", text);

    kit_submit(k, "", shell, name);
    kit_until(k, kit_ended, name);
}

static void test_files_live_as_long_as_their_run(void **state)
{
    struct kit *k = *state;
    char sha[TY_SHA256_HEX + 1], kept[128], gone[128];

    run_with_output(k, "kept", kept);
    run_with_output(k, "gone", gone);
    make_old(k, "SELECT 1");
    assert_int_equal(collect(k, "blobs_removed"), 0);
    assert_int_equal(kit_delete(k, gone), 0);
    make_old(k, "SELECT 1");
    assert_int_equal(collect(k, "blobs_removed"), 1);
    ty_sha256_hex("kept\n", 5, sha);
    assert_true(ty_blob_bytes(k->blobs, sha) == 5);
    ty_sha256_hex("gone\n", 5, sha);
    assert_int_equal(ty_blob_bytes(k->blobs, sha), -ENOENT);
}

static void put_snapshot(struct kit *k, const char *file, char manifest[TY_SHA256_HEX + 1])
{
    CLEANUP_STR struct ty_str text = { 0 };
    struct ty_error err = { 0 };
    struct ty_unit *u = ty_unit_new();
    char sha[TY_SHA256_HEX + 1];

    assert_int_equal(ty_blob_put_bytes(k->blobs, file, strlen(file), sha, &err), 0);
    ty_str_addf(&text, "trainyard-snapshot 1\nf 644 %zu %s a\n", strlen(file), sha);
    assert_int_equal(ty_blob_put_bytes(k->blobs, text.text, text.len, manifest, &err), 0);
    ty_unit_snapshot_put(u, manifest, 1, strlen(file), ty_wall_us());
    ty_store_commit(k->store, u, NULL, NULL);
    assert_int_equal(ty_store_settle(k->store), 0);
}

static void test_snapshots(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *more = NULL;
    char used[TY_SHA256_HEX + 1], unused[TY_SHA256_HEX + 1], name[128];

    put_snapshot(k, "used", used);
    put_snapshot(k, "unused", unused);
    more = ty_strf("\"snapshot\": \"%s\", ", used);
    kit_submit(k, more, "cat a", name);
    kit_state(k, name, "Completed");
    assert_int_equal(collect(k, "snapshots_removed"), 0); /* young */
    make_old(k, "UPDATE snapshot SET created_us = 1, touched_us = 1");
    assert_int_equal(collect(k, "snapshots_removed"), 1);
    assert_true(ty_blob_bytes(k->blobs, used) > 0);
    assert_int_equal(ty_blob_bytes(k->blobs, unused), -ENOENT);
}

#ifdef TY_FAULTS
/* What cannot be read now may keep everything alive. */
static void test_a_manifest_that_cannot_be_read(void **state)
{
    struct kit *k = *state;
    char used[TY_SHA256_HEX + 1], sha[TY_SHA256_HEX + 1];
    struct ty_error err = { 0 };

    put_snapshot(k, "used", used);
    make_old(k, "UPDATE snapshot SET touched_us = 9e15"); /* wanted, however slow this machine is */
    report = NULL;
    ty_fault_arm("sched.manifest", 1, EMFILE);
    assert_int_equal(ty_sched_gc(k->sched, on_report, NULL, &err), 0);
    kit_until(k, reported, NULL);
    ty_fault_arm("none", 0, 0);
    assert_int_equal(report_r, -EMFILE);
    json_decref(report);
    ty_sha256_hex("used", 4, sha);
    assert_int_equal(ty_blob_bytes(k->blobs, sha), 4);
    assert_int_equal(collect(k, "blobs_removed"), 0);
}
#endif

static void test_retention(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *a = NULL, *b = NULL, *c = NULL;
    char good[128], bad[128], young[128];

    kit_submit(k, "", "true", good);
    kit_submit(k, "", "false", bad);
    kit_until(k, kit_ended, good);
    kit_until(k, kit_ended, bad);
    make_old(k, "UPDATE run SET ended_us = 1");
    kit_submit(k, "", "false", young);
    kit_until(k, kit_ended, young);
    assert_int_equal(collect(k, "runs_removed"), 0); /* nothing was asked for */
    kit_conf(k, "retention.failed_days", "3");
    collect_one(k, "runs_removed");
    kit_conf(k, "retention.runs_days", "3");
    collect_one(k, "runs_removed");
    a = kit_run(k, good);
    b = kit_run(k, bad);
    c = kit_run(k, young);
    assert_true(!a && !b && c);
}

/* Job folders of runs that nobody knows, unless a runner holds them. */
static void test_leftovers(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *dead = ty_strf("%s/jobs/first_1_0000dead", k->home),
                      *held = ty_strf("%s/jobs/first_1_00001d1d", k->home);
    CLEANUP_FREE char *lock = ty_path_join(held, "lock");
    int fd;

    kit_stop(k);
    assert_int_equal(ty_mkdir_p(dead, 0700), 0);
    assert_int_equal(ty_mkdir_p(held, 0700), 0);
    fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    kit_start(k);
    assert_int_equal(access(dead, F_OK), -1);
    assert_int_equal(access(held, F_OK), 0);
    close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_files_live_as_long_as_their_run), T(test_snapshots),
#ifdef TY_FAULTS
                                        T(test_a_manifest_that_cannot_be_read),
#endif

                                        T(test_retention), T(test_leftovers) };

    return cmocka_run_group_tests_name("keep", tests, NULL, NULL);
}
