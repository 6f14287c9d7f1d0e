/* test_stage.c - mount, download and upload */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/stage.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    char *store, *work, *tmp;
    struct ty_data_ref ref;
    struct ty_stage s;
    struct ty_str warnings;
    struct ty_error err;
};

static void hear(const char *text, void *ctx)
{
    ty_str_addf(ctx, "%s\n", text);
}

static void put(struct box *b, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(b->dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

static void assert_file(struct box *b, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(b->dir, name), *got = NULL;
    size_t n;

    assert_int_equal(ty_read_file(path, 1000, &got, &n), 0);
    assert_string_equal(got, text);
}

static bool is_there(struct box *b, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(b->dir, name);
    struct stat st;

    return lstat(path, &st) == 0;
}

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-stage-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->store = ty_path_join(b->dir, "store/set");
    b->work = ty_path_join(b->dir, "work");
    b->tmp = ty_path_join(b->dir, "tmp");
    assert_int_equal(ty_mkdir_p(b->work, 0700), 0);
    assert_int_equal(ty_mkdir_p(b->tmp, 0700), 0);
    b->ref = (struct ty_data_ref){ .name = "d", .datastore = "ds", .path = "set" };
    b->s = (struct ty_stage){ .ref = &b->ref,
                              .dir = b->store,
                              .work = b->work,
                              .tmp = b->tmp,
                              .warn = hear,
                              .ctx = &b->warnings };
    put(b, "store/set/x.txt", "x");
    put(b, "store/set/deep/y.txt", "y");
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_rm_rf(b->dir);
    free(b->store);
    free(b->work);
    free(b->tmp);
    ty_str_done(&b->warnings);
    free(b);
    return 0;
}

static void assert_place(struct box *b, const char *expected)
{
    CLEANUP_FREE char *place = NULL, *want = ty_path_join(b->dir, expected);

    assert_int_equal(ty_stage_place(&b->s, &place, &b->err), 0);
    assert_string_equal(place, want);
}

static void assert_says(struct box *b, const char *part)
{
    if (!strstr(b->err.text, part))
        fail_msg("'%s' should say '%s'", b->err.text, part);
}

static void test_mount(void **state)
{
    struct box *b = *state;

    assert_place(b, "store/set"); /* the directory itself */
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    b->ref.path_on_compute = "./in//put";
    assert_place(b, "work/in/put");
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0); /* it is there already */
    assert_file(b, "work/in/put/x.txt", "x");
    put(b, "work/in/put/new.txt", "new");
    assert_file(b, "store/set/new.txt", "new");
    assert_null(b->warnings.text);
}

static void test_mount_of_what_is_not_there(void **state)
{
    struct box *b = *state;

    assert_int_equal(ty_rm_rf(b->store), 0);
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0); /* a script may make it */
    assert_non_null(strstr(b->warnings.text, "'set' does not exist in datastore 'ds'"));
}

static void test_something_is_in_the_way(void **state)
{
    struct box *b = *state;

    put(b, "work/taken/file", "mine");
    b->ref.path_on_compute = "taken";
    assert_int_equal(ty_stage_in(&b->s, &b->err), -EEXIST);
    assert_says(b, "path_on_compute 'taken'");
    assert_file(b, "work/taken/file", "mine");
    b->ref.overwrite = true;
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_file(b, "work/taken/x.txt", "x");
}

static void test_absolute_places(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *there = ty_path_join(b->dir, "elsewhere/here");

    b->ref.path_on_compute = there;
    assert_place(b, "elsewhere/here");
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_file(b, "elsewhere/here/x.txt", "x");
    assert_int_equal(unlink(there), 0);
    put(b, "elsewhere/here/precious", "p");
    b->ref.overwrite = true; /* a real folder outside the job is never removed */
    assert_int_equal(ty_stage_in(&b->s, &b->err), -EEXIST);
    assert_file(b, "elsewhere/here/precious", "p");
}

static void test_leading_out(void **state)
{
    struct box *b = *state;
    char *place = NULL;

    b->ref.path_on_compute = "../out";
    assert_int_equal(ty_stage_place(&b->s, &place, &b->err), -EINVAL);
    assert_null(place);
    assert_says(b, "'../out'");
    assert_int_equal(ty_stage_in(&b->s, &b->err), -EINVAL);
}

static void test_download(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *link_path = ty_path_join(b->dir, "store/set/link"),
                      *dir_link = ty_path_join(b->dir, "store/set/dir");

    assert_int_equal(symlink("x.txt", link_path), 0);
    assert_int_equal(symlink("deep", dir_link), 0);
    b->ref.mode = TY_DATA_DOWNLOAD;
    assert_place(b, "tmp/data/d");
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_file(b, "tmp/data/d/deep/y.txt", "y");
    assert_file(b, "tmp/data/d/link", "x");
    assert_false(is_there(b, "tmp/data/d/dir"));
    assert_non_null(strstr(b->warnings.text, "'dir' is left out: it is a link to a folder"));
    put(b, "tmp/data/d/x.txt", "changed");
    assert_file(b, "store/set/x.txt", "x"); /* a copy */
    assert_int_equal(ty_stage_in(&b->s, &b->err), -EEXIST);
    assert_says(b, "'x.txt'");
    b->ref.overwrite = true;
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_file(b, "tmp/data/d/x.txt", "x");
}

static void test_download_of_one_file(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *file = ty_path_join(b->dir, "store/set/x.txt");

    b->s.dir = file;
    b->ref.mode = TY_DATA_DOWNLOAD;
    b->ref.path_on_compute = "in";
    assert_place(b, "work/in/x.txt");
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_file(b, "work/in/x.txt", "x");
    b->s.dir = "/no/such";
    assert_int_equal(ty_stage_in(&b->s, &b->err), -ENOENT);
    assert_says(b, "cannot download 'set' from datastore 'ds'");
}

static void test_upload(void **state)
{
    struct box *b = *state;

    b->ref.mode = TY_DATA_UPLOAD;
    assert_place(b, "tmp/upload/d");
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    put(b, "tmp/upload/d/model/w.bin", "w");
    put(b, "tmp/upload/d/x.txt", "another x");
    assert_int_equal(ty_stage_out(&b->s, &b->err), 0);
    assert_file(b, "store/set/model/w.bin", "w");
    assert_file(b, "store/set/x.txt", "x");
    assert_non_null(strstr(b->warnings.text, "'x.txt' was not uploaded"));
    assert_null(strstr(b->warnings.text, "w.bin"));
    ty_str_done(&b->warnings);
    b->ref.overwrite = true;
    assert_int_equal(ty_stage_out(&b->s, &b->err), 0);
    assert_file(b, "store/set/x.txt", "another x");
    assert_null(b->warnings.text);
}

/* path_on_compute='./bar.pkl' names a file that the script is going to write. */
static void test_upload_of_one_file(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *renamed = ty_path_join(b->dir, "store/new/model.pkl"),
                      *folder = ty_path_join(b->dir, "store/new/folder");

    b->ref.mode = TY_DATA_UPLOAD;
    b->ref.path_on_compute = "./out/bar.pkl";
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_true(is_there(b, "work/out"));
    assert_false(is_there(b, "work/out/bar.pkl"));
    put(b, "work/out/bar.pkl", "pickle");
    assert_int_equal(ty_stage_out(&b->s, &b->err), 0);
    assert_file(b, "store/set/bar.pkl", "pickle");
    put(b, "work/out/bar.pkl", "another");
    assert_int_equal(ty_stage_out(&b->s, &b->err), 0);
    assert_non_null(strstr(b->warnings.text, "'bar.pkl' was not uploaded"));
    assert_file(b, "store/set/bar.pkl", "pickle");
    b->s.dir = folder; /* not there yet: it is made */
    b->ref.path = "new/folder";
    assert_int_equal(ty_stage_out(&b->s, &b->err), 0);
    assert_file(b, "store/new/folder/bar.pkl", "another");
    b->ref.path_on_compute = "model.pkl";
    b->ref.path = "new/model.pkl"; /* the same name: this very file */
    b->s.dir = renamed;
    put(b, "work/model.pkl", "model");
    assert_int_equal(ty_stage_out(&b->s, &b->err), 0);
    assert_file(b, "store/new/model.pkl", "model");
    b->ref.path_on_compute = "plain"; /* without an ending: a folder */
    assert_int_equal(ty_stage_in(&b->s, &b->err), 0);
    assert_true(is_there(b, "work/plain"));
}

static void test_nothing_to_upload(void **state)
{
    struct box *b = *state;

    assert_int_equal(ty_stage_out(&b->s, &b->err), 0); /* a mount has nothing to bring back */
    b->ref.mode = TY_DATA_UPLOAD;
    assert_int_equal(ty_stage_out(&b->s, &b->err), -ENOENT);
    assert_says(b, "nothing to upload");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mount, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mount_of_what_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_something_is_in_the_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_absolute_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leading_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_download, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_download_of_one_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_upload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_upload_of_one_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_upload, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
