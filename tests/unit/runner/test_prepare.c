/* test_prepare.c - from a snapshot to a working directory */
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "core/launch_plan.h"
#include "runner/child.h"
#include "runner/prepare.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    struct ty_jobfile job;
    struct ty_run_spec spec;
    struct ty_blobs *blobs;
    struct ty_str told; /* kind: text */
    bool failed;
};

static char *in(struct box *b, const char *name)
{
    return ty_path_join(b->dir, name);
}

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    struct ty_error err = { 0 };

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-prepare-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->job = (struct ty_jobfile){ .spec = &b->spec,
                                  .dir = b->dir,
                                  .work = in(b, "work"),
                                  .tmp = in(b, "tmp"),
                                  .blobs = in(b, "blobs") };
    assert_int_equal(ty_blobs_open(b->job.blobs, &b->blobs, &err), 0);
    assert_int_equal(ty_env_spec_parse(NULL, &b->spec.env, &err), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_blobs_free(b->blobs);
    ty_env_spec_free(b->spec.env);
    ty_rm_rf(b->dir);
    free(b->job.work);
    free(b->job.tmp);
    free((char *)b->job.blobs);
    free((char *)b->job.manifest);
    ty_str_done(&b->told);
    free(b);
    return 0;
}

static void hear(json_t *line, void *ctx)
{
    struct box *b = ctx;

    ty_str_addf(&b->told, "%s: %s\n", json_string_value(json_object_get(line, "kind")),
                json_string_value(json_object_get(line, "text")));
}

static void run(struct box *b, int (*fn)(int out, void *ctx), void *ctx)
{
    struct ty_child c = TY_CHILD_INIT;
    struct ty_error err;

    assert_int_equal(ty_child_start(&c, fn, ctx, &err), 0);
    for (;;) {
        struct pollfd p = { .fd = c.fd, .events = POLLIN };

        assert_int_equal(poll(&p, 1, 20000), 1);
        if (ty_child_read(&c, hear, b, &b->failed) == -EPIPE)
            return;
    }
}

static void write_manifest(struct box *b, const char *text)
{
    if (!b->job.manifest)
        b->job.manifest = in(b, "manifest");
    assert_int_equal(ty_write_file(b->job.manifest, text, strlen(text), 0600), 0);
}

static bool is_folder(struct box *b, const char *name)
{
    CLEANUP_FREE char *path = in(b, name);
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void test_without_a_snapshot(void **state)
{
    struct box *b = *state;

    run(b, ty_prepare, &b->job);
    assert_false(b->failed);
    assert_true(is_folder(b, "work/outputs") && is_folder(b, "work/logs"));
    assert_int_equal(b->told.len, 0);
}

static void test_with_one(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *text = NULL, *path = in(b, "work/train.py"), *got = NULL;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];
    size_t n;

    assert_int_equal(ty_blob_put_bytes(b->blobs, "print(1)\n", 9, sha, &err), 0);
    text = ty_strf("trainyard-snapshot 1\nf 644 9 %s train.py\n", sha);
    write_manifest(b, text);
    run(b, ty_prepare, &b->job);
    assert_false(b->failed);
    assert_non_null(strstr(b->told.text, "unpacked: 1 files, 9 B"));
    assert_int_equal(ty_read_file(path, 100, &got, &n), 0);
    assert_string_equal(got, "print(1)\n");
    assert_true(is_folder(b, "work/outputs"));
}

static void test_one_that_cannot_be_unpacked(void **state)
{
    struct box *b = *state;

    write_manifest(
        b,
        "trainyard-snapshot 1\nf 644 9 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 a\n");
    run(b, ty_prepare, &b->job);
    assert_true(b->failed);
    assert_non_null(strstr(b->told.text, "failed: cannot unpack the snapshot: "));
    assert_non_null(strstr(b->told.text, "is not in the store"));
    ty_str_done(&b->told);
    write_manifest(b, "nonsense");
    run(b, ty_prepare, &b->job);
    assert_true(b->failed);
    assert_non_null(strstr(b->told.text, "not a snapshot manifest"));
    ty_str_done(&b->told);
    free((char *)b->job.manifest);
    b->job.manifest = in(b, "absent");
    run(b, ty_prepare, &b->job);
    assert_true(b->failed);
    assert_non_null(strstr(b->told.text, "cannot read the snapshot's manifest"));
}

static void test_where_outputs_is_a_file(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *text = NULL;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];

    assert_int_equal(ty_blob_put_bytes(b->blobs, "x", 1, sha, &err), 0);
    text = ty_strf("trainyard-snapshot 1\nf 644 1 %s outputs\n", sha);
    write_manifest(b, text);
    run(b, ty_prepare, &b->job);
    assert_true(b->failed);
    assert_non_null(strstr(b->told.text, "work/outputs'"));
}

static char *put(struct box *b, const char *name, const char *text)
{
    char *path = in(b, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
    return path;
}

/* References of the job, each in the folder `dir`; they live as long as the test's own memory. */
static void refer(struct box *b, struct ty_data_ref *refs, const char **dirs, int n)
{
    b->spec.data = refs;
    b->spec.ndata = n;
    b->job.data_dirs = dirs;
}

static void test_data(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *a = put(b, "store/a.txt", "A"), *dir = in(b, "store"),
                      *none = in(b, "later");
    CLEANUP_FREE char *copy = in(b, "work/here/a.txt"), *link = in(b, "work/there"), *text = NULL;
    struct ty_data_ref refs[] = {
        { .name = "down",
          .datastore = "d",
          .path = "x",
          .mode = TY_DATA_DOWNLOAD,
          .path_on_compute = "here" },
        { .name = "mount",
          .datastore = "d",
          .path = "y",
          .mode = TY_DATA_MOUNT,
          .path_on_compute = "there" },
        { .name = "up", .datastore = "d", .path = "z", .mode = TY_DATA_UPLOAD },
    };
    const char *dirs[] = { dir, none, none };
    struct stat st;

    refer(b, refs, dirs, 3);
    run(b, ty_prepare, &b->job);
    assert_false(b->failed);
    assert_int_equal(ty_read_file(copy, 64, &text, NULL), 0);
    assert_string_equal(text, "A");
    assert_true(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    assert_true(is_folder(b, "tmp/upload/up"));
    assert_string_equal(
        b->told.text, "warning: data reference 'mount': 'y' does not exist in datastore 'd' yet\n");
}

/* The first reference that cannot be brought ends it, in the reference's own words. */
static void test_data_that_is_not_there(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *none = in(b, "none");
    struct ty_data_ref refs[] = {
        { .name = "first", .datastore = "d", .path = "x", .mode = TY_DATA_DOWNLOAD },
        { .name = "second", .datastore = "d", .path = "y", .mode = TY_DATA_DOWNLOAD },
    };
    const char *dirs[] = { none, none };

    refer(b, refs, dirs, 2);
    run(b, ty_prepare, &b->job);
    assert_true(b->failed);
    assert_string_equal(b->told.text, "failed: data reference 'first': cannot download 'x' from "
                                      "datastore 'd': No such file or directory\n");
}

static void test_places(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *here = in(b, "work/here"), *mine = in(b, "tmp/data/mine");
    struct ty_data_ref refs[] = {
        { .name = "whole", .datastore = "d", .path = "x", .mode = TY_DATA_MOUNT },
        { .name = "here",
          .datastore = "d",
          .path = "x",
          .mode = TY_DATA_MOUNT,
          .path_on_compute = "./here" },
        { .name = "mine", .datastore = "d", .path = "x", .mode = TY_DATA_DOWNLOAD },
    };
    const char *dirs[] = { "/somewhere", "/somewhere", "/somewhere" };
    struct ty_error err = { 0 };
    char **places = NULL;

    refer(b, refs, dirs, 3);
    assert_int_equal(ty_prepare_places(&b->job, &places, &err), 0);
    assert_string_equal(places[0], "/somewhere");
    assert_string_equal(places[1], here);
    assert_string_equal(places[2], mine);
    assert_null(places[3]);
    ty_strv_free(places);
    places = NULL;
    refs[2].path_on_compute = "../out"; /* what was found before it is given back */
    assert_int_equal(ty_prepare_places(&b->job, &places, &err), -EINVAL);
    assert_null(places);
    assert_string_equal(
        err.text,
        "data reference 'mine': path_on_compute '../out' leads out of the working directory");
    refer(b, NULL, NULL, 0);
    assert_int_equal(ty_prepare_places(&b->job, &places, &err), 0);
    assert_null(places[0]);
    ty_strv_free(places);
}

static void test_folders_that_cannot_be_made(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *file = put(b, "work", "in the way"), *why = NULL;

    why = ty_strf("failed: cannot make the folder '%s': Not a directory\n", file);
    run(b, ty_prepare, &b->job);
    assert_true(b->failed);
    assert_string_equal(b->told.text, why);
}

#ifdef TY_FAULTS
static void test_unpacking_fails(void **state)
{
    struct box *b = *state;

    write_manifest(b, "trainyard-snapshot 1\n");
    ty_fault_arm("runner.unpack", 1, ENOSPC);
    run(b, ty_prepare, &b->job);
    ty_fault_arm("none", 0, 0);
    assert_true(b->failed);
    assert_string_equal(b->told.text,
                        "failed: cannot unpack the snapshot: No space left on device\n");
    ty_str_done(&b->told);
    b->failed = false;
    run(b, ty_prepare, &b->job); /* and nothing stands in the way of doing it again */
    assert_false(b->failed);
}
#endif

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_without_a_snapshot),
        T(test_with_one),
        T(test_one_that_cannot_be_unpacked),
        T(test_where_outputs_is_a_file),
        T(test_data),
        T(test_data_that_is_not_there),
        T(test_places),
        T(test_folders_that_cannot_be_made),
#ifdef TY_FAULTS
        T(test_unpacking_fails),
#endif
    };

    return cmocka_run_group_tests_name("prepare", tests, NULL, NULL);
}
