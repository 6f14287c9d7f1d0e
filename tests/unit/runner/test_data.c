/* test_data.c - data references whose files came from another machine: unpacked, used, sent back */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "data/listing.h"
#include "data/stage.h"
#include "runner/data.h"
#include <errno.h>
#include <fcntl.h>
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
    struct ty_data_ref ref;
    struct ty_blobs *blobs;
    const char *data_dir;
    struct ty_str kept; /* what goes back */
    struct ty_error err;
    int out;
};

static char *in(const struct box *b, const char *name)
{
    return ty_path_join(b->dir, name);
}

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-data-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->ref = (struct ty_data_ref){ .name = "d", .datastore = "far", .path = "sets/a" };
    b->spec = (struct ty_run_spec){ .data = &b->ref, .ndata = 1 };
    b->data_dir = "/nowhere/that/is/seen/here/sets/a";
    b->job = (struct ty_jobfile){ .spec = &b->spec,
                                  .dir = b->dir,
                                  .work = in(b, "work"),
                                  .tmp = in(b, "tmp"),
                                  .blobs = in(b, "blobs"),
                                  .data_dirs = &b->data_dir,
                                  .leads = true };
    b->job.json = json_object();
    b->out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ty_blobs_open(b->job.blobs, &b->blobs, &b->err), 0);
    assert_int_equal(ty_mkdir_p(b->job.work, 0700), 0);
    assert_int_equal(ty_data_begin(&b->job, &b->err), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_blobs_free(b->blobs);
    ty_rm_rf(b->dir);
    json_decref(b->job.json);
    free(b->job.work);
    free(b->job.tmp);
    free((char *)b->job.blobs);
    ty_str_done(&b->kept);
    close(b->out);
    free(b);
    return 0;
}

static void add(struct box *b, struct ty_listing_out *o, const char *path, const char *text)
{
    char sha[TY_SHA256_HEX + 1];

    assert_int_equal(ty_blob_put_bytes(b->blobs, text, strlen(text), sha, &b->err), 0);
    assert_int_equal(ty_listing_add(o, &(struct ty_listed){ .path = path,
                                                            .mark = sha,
                                                            .bytes = strlen(text),
                                                            .mtime_us = 1700000000000000,
                                                            .mode = 0644 }),
                     0);
}

/* Two files, or one that is the reference itself. */
static void sent(struct box *b, bool file)
{
    CLEANUP_FREE char *path = in(b, "list"), *text = NULL;
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct ty_listing_out o;
    char sha[TY_SHA256_HEX + 1];
    size_t n;

    assert_int_equal(ty_listing_begin(&o, fd), 0);
    if (file) {
        add(b, &o, "a", "alone");
    } else {
        add(b, &o, "one", "first");
        add(b, &o, "sub/two", "second");
    }
    assert_int_equal(ty_listing_finish(&o), 0);
    assert_int_equal(ty_read_file(path, 4096, &text, &n), 0);
    assert_int_equal(ty_blob_put_bytes(b->blobs, text, n, sha, &b->err), 0);
    json_object_set_new(b->job.json, "data_sent",
                        json_pack("[{s:s s:b s:[]}]", "list", sha, "file", (int)file, "left"));
}

static char *place(struct box *b)
{
    CLEANUP_FREE char *dir = ty_data_dir(&b->job, 0);
    struct ty_stage s = { .ref = &b->ref, .dir = dir, .work = b->job.work, .tmp = b->job.tmp };
    char *ret = NULL;

    assert_int_equal(ty_stage_place(&s, &ret, &b->err), 0);
    return ret;
}

static void assert_text(const char *dir, const char *name, const char *text)
{
    CLEANUP_FREE char *path = *name ? ty_path_join(dir, name) : strdup(dir), *got = NULL;
    size_t n;

    assert_int_equal(ty_read_file(path, 4096, &got, &n), 0);
    assert_string_equal(got, text);
}

static int keep(void *ctx, const char *real, json_t *record)
{
    struct box *b = ctx;
    const char *was = json_string_value(json_object_get(record, "was"));

    (void)real;
    ty_str_addf(&b->kept, "%s%s%s;", json_string_value(json_object_get(record, "path")),
                was && *was ? " instead" : "",
                json_is_true(json_object_get(record, "file")) ? " alone" : "");
    return 0;
}

static int tell(void *ctx, json_t *record)
{
    struct box *b = ctx;

    ty_str_addf(&b->kept, "%s", json_is_true(json_object_get(record, "end")) ? "end" : "?");
    return 0;
}

static const char *goes_back(struct box *b)
{
    const struct ty_data_back back = { .out = b->out, .keep = keep, .tell = tell, .ctx = b };

    assert_int_equal(ty_data_out(&b->job, &back), 0);
    return b->kept.text ? b->kept.text : "";
}

static void write_to(const char *dir, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

static void a_download_is_unpacked_and_nothing_of_it_goes_back(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *at = NULL;

    b->ref.mode = TY_DATA_DOWNLOAD;
    sent(b, false);
    assert_int_equal(ty_data_in(&b->job, b->out, &b->err), 0);
    at = place(b);
    assert_text(at, "one", "first");
    assert_text(at, "sub/two", "second");
    write_to(at, "mine", "x");
    assert_string_equal(goes_back(b), "end");
}

static void a_download_of_a_file_is_that_file(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *at = NULL;

    b->ref.mode = TY_DATA_DOWNLOAD;
    sent(b, true);
    assert_int_equal(ty_data_in(&b->job, b->out, &b->err), 0);
    at = place(b);
    assert_true(ty_ends_with(at, "/a"));
    assert_text(at, "", "alone");
}

static void of_a_mount_goes_back_what_is_new_or_changed(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *at = NULL;

    b->ref.mode = TY_DATA_MOUNT;
    sent(b, false);
    assert_int_equal(ty_data_in(&b->job, b->out, &b->err), 0);
    at = place(b);
    write_to(at, "one", "changed");
    write_to(at, "sub/new", "x");
    assert_string_equal(goes_back(b), "one instead;sub/new;end");
}

/* What is removed in a copy stays where it came from, and that is said. */
static void of_a_mount_what_is_removed_is_named(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *at = NULL, *two = NULL, *told = in(b, "told"), *text = NULL;
    CLEANUP_CLOSE int quiet = b->out;

    b->out = open(told, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    b->ref.mode = TY_DATA_MOUNT;
    sent(b, false);
    assert_int_equal(ty_data_in(&b->job, b->out, &b->err), 0);
    at = place(b);
    two = ty_path_join(at, "sub/two");
    assert_int_equal(unlink(two), 0);
    assert_string_equal(goes_back(b), "end");
    assert_int_equal(ty_read_file(told, 1 << 20, &text, NULL), 0);
    assert_non_null(strstr(text, "data reference 'd': 1 file that the run has removed stays in "
                                 "datastore 'far': sub/two"));
}

static void of_an_upload_goes_back_all(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *at = NULL, *pipe = NULL;

    b->ref.mode = TY_DATA_UPLOAD;
    json_object_set_new(b->job.json, "data_sent", json_pack("[{s:b s:[]}]", "file", 0, "left"));
    assert_int_equal(ty_data_in(&b->job, b->out, &b->err), 0);
    at = place(b);
    write_to(at, "x", "1");
    write_to(at, "deep/y", "2");
    pipe = ty_path_join(at, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_string_equal(goes_back(b), "deep/y;x;");
}

static void content_that_is_gone_is_named(void **state)
{
    struct box *b = *state;
    char sha[TY_SHA256_HEX + 1];

    b->ref.mode = TY_DATA_DOWNLOAD;
    sent(b, false);
    ty_sha256_hex("second", 6, sha);
    assert_int_equal(ty_blob_remove(b->blobs, sha), 0);
    assert_int_equal(ty_data_in(&b->job, b->out, &b->err), -ENOENT);
    assert_non_null(strstr(b->err.text, "data reference 'd': cannot write 'sub/two'"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_download_is_unpacked_and_nothing_of_it_goes_back),
        T(a_download_of_a_file_is_that_file),
        T(of_a_mount_goes_back_what_is_new_or_changed),
        T(of_a_mount_what_is_removed_is_named),
        T(of_an_upload_goes_back_all),
        T(content_that_is_gone_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
