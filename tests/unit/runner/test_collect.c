/* test_collect.c - what is kept of outputs/ and logs/ */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "runner/child.h"
#include "runner/collect.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    char *work, *blobs;
    struct ty_jobfile job;
    struct ty_run_spec spec;
    json_t *artifacts; /* path -> sha */
    struct ty_str warnings;
    bool failed;
};

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-collect-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->work = ty_path_join(b->dir, "work");
    b->blobs = ty_path_join(b->dir, "blobs");
    b->artifacts = json_object();
    b->job = (struct ty_jobfile){
        .spec = &b->spec,
        .dir = b->dir,
        .work = b->work,
        .tmp = b->dir,
        .blobs = b->blobs,
        .artifact_files_max = 100,
        .artifact_bytes_max = 1 << 20,
    };
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_rm_rf(b->dir);
    free(b->work);
    free(b->blobs);
    json_decref(b->artifacts);
    ty_str_done(&b->warnings);
    free(b);
    return 0;
}

static void put(struct box *b, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(b->dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

static void link_to(struct box *b, const char *target, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(b->dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(symlink(target, path), 0);
}

static void hear(json_t *line, void *ctx)
{
    struct box *b = ctx;
    const char *kind = json_string_value(json_object_get(line, "kind"));

    if (strcmp(kind, "artifact") == 0)
        json_object_set(b->artifacts, json_string_value(json_object_get(line, "path")),
                        json_object_get(line, "sha256"));
    if (strcmp(kind, "warning") == 0)
        ty_str_addf(&b->warnings, "%s\n", json_string_value(json_object_get(line, "text")));
}

static void collect(struct box *b)
{
    struct ty_child c = TY_CHILD_INIT;
    struct ty_error err;

    assert_int_equal(ty_child_start(&c, ty_collect, &b->job, &err), 0);
    for (;;) {
        struct pollfd p = { .fd = c.fd, .events = POLLIN };

        assert_int_equal(poll(&p, 1, 20000), 1);
        if (ty_child_read(&c, hear, b, &b->failed) == -EPIPE)
            break;
    }
    assert_false(b->failed);
}

static bool warned(const struct box *b, const char *part)
{
    return b->warnings.text && strstr(b->warnings.text, part);
}

static void test_files(void **state)
{
    struct box *b = *state;
    struct ty_blobs *blobs = NULL;
    struct ty_error err;
    char sha[TY_SHA256_HEX + 1];

    put(b, "work/outputs/a.txt", "a");
    put(b, "work/outputs/deep/er/b.txt", "b");
    put(b, "work/outputs/empty", "");
    put(b, "work/logs/c.txt", "c");
    put(b, "work/other.txt", "not kept");
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 4);
    assert_null(b->warnings.text);
    ty_sha256_hex("b", 1, sha);
    assert_string_equal(json_string_value(json_object_get(b->artifacts, "outputs/deep/er/b.txt")),
                        sha);
    assert_int_equal(ty_blobs_open(b->blobs, &blobs, &err), 0);
    assert_int_equal(ty_blob_bytes(blobs, sha), 1);
    ty_blobs_free(blobs);
}

static void test_links(void **state)
{
    struct box *b = *state;

    put(b, "secret", "outside");
    put(b, "work/data/inside.txt", "inside");
    put(b, "work/outputs/run1/model", "model");
    link_to(b, "../data/inside.txt", "work/outputs/inside");
    link_to(b, "../../secret", "work/outputs/outside");
    link_to(b, "/etc", "work/outputs/etc");
    link_to(b, "nowhere", "work/outputs/dangling");
    link_to(b, "run1", "work/outputs/latest");
    link_to(b, "..", "work/outputs/run1/up");
    link_to(b, "/etc", "work/logs");
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 3);
    assert_non_null(json_object_get(b->artifacts, "outputs/inside"));
    assert_non_null(json_object_get(b->artifacts, "outputs/latest/model"));
    assert_non_null(json_object_get(b->artifacts, "outputs/run1/model"));
    assert_true(warned(b, "'outputs/outside' is not kept: the link leads out"));
    assert_true(warned(b, "'outputs/etc' is not kept: the link leads out"));
    assert_true(warned(b, "'outputs/dangling' is not kept: the link leads nowhere"));
    assert_true(warned(b, "'outputs/run1/up' is not kept: the link leads in a circle"));
    assert_true(warned(b, "'logs' is not kept: the link leads out"));
}

static void test_what_is_no_file(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *pipe_path = ty_path_join(b->dir, "work/outputs/pipe");

    put(b, "work/outputs/a", "a");
    put(b, "work/outputs/\xff", "x");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 1);
    assert_true(warned(b, "its name is not UTF-8"));
}

/* What cannot be entered costs no more than itself. */
static void test_a_folder_that_cannot_be_entered(void **state)
{
    struct box *b = *state;
    CLEANUP_STR struct ty_str deep = { 0 };

    ty_str_add(&deep, "work/outputs/");
    for (int i = 0; i < TY_WALK_DEPTH_MAX + 5; i++)
        ty_str_add(&deep, "d/");
    ty_str_add(&deep, "lost");
    put(b, deep.text, "x");
    put(b, "work/outputs/a", "a");
    put(b, "work/outputs/z", "z");
    put(b, "work/logs/l", "l");
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 3);
    assert_true(warned(b, "is not kept: folders are nested more than 200 deep"));
}

static void test_limits(void **state)
{
    struct box *b = *state;

    put(b, "work/outputs/a", "0123456789");
    put(b, "work/outputs/b", "0123456789");
    put(b, "work/outputs/c", "");
    b->job.artifact_bytes_max = 15;
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 2); /* one of ten bytes, and the empty one */
    assert_true(warned(b, "limits.artifact_bytes"));
    b->job.artifact_files_max = 1;
    json_object_clear(b->artifacts);
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 1);
    assert_true(warned(b, "limits.artifacts"));
}

static void test_nothing(void **state)
{
    struct box *b = *state;

    collect(b); /* not even a working directory */
    assert_int_equal(ty_mkdir_p(b->work, 0700), 0);
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 0);
    assert_null(b->warnings.text);
}

static void test_again(void **state)
{
    struct box *b = *state;

    put(b, "work/outputs/a", "a");
    put(b, "work/outputs/b", "b");
    put(b, "work/outputs/c", "c");
    put(b, "records.spool",
        "1 {\"kind\":\"artifact\",\"path\":\"outputs/b\"}\n2 {\"kind\":\"artifact\",\"path\":\"outputs/a\"}\n3 {\"ki");
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 1);
    assert_non_null(json_object_get(b->artifacts, "outputs/c"));
}

/* No store: one warning that says so, and the run is not harmed. */
static void test_no_store(void **state)
{
    struct box *b = *state;

    put(b, "blobs", "a file where the folder should be");
    put(b, "work/outputs/a", "a");
    collect(b);
    assert_int_equal(json_object_size(b->artifacts), 0);
    assert_true(warned(b, "could not be kept"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_folder_that_cannot_be_entered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_store, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
