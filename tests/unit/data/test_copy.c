/* test_copy.c - copying files and folders of data */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/copy.h"
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
    char *a, *b;
};

static int set_up(void **state)
{
    struct box *x = calloc(1, sizeof *x);

    snprintf(x->dir, sizeof x->dir, "/tmp/ty-copy-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    x->a = ty_path_join(x->dir, "a");
    x->b = ty_path_join(x->dir, "new/folder/b");
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    struct box *x = *state;

    ty_rm_rf(x->dir);
    free(x->a);
    free(x->b);
    free(x);
    return 0;
}

static void put(const char *path, const char *text)
{
    assert_int_equal(ty_write_file(path, text, strlen(text), 0755), 0);
}

static void assert_file(const char *path, const char *text)
{
    CLEANUP_FREE char *got = NULL;
    size_t n;

    assert_int_equal(ty_read_file(path, 1000, &got, &n), 0);
    assert_string_equal(got, text);
}

static int names(const char *rel, const struct stat *st, void *ctx)
{
    (void)rel, (void)st;
    ++*(int *)ctx;
    return 0;
}

static void test_one_file(void **state)
{
    struct box *x = *state;
    CLEANUP_FREE char *folder = ty_path_join(x->dir, "new/folder");
    struct stat st;
    int n = 0;

    put(x->a, "text");
    assert_int_equal(ty_copy_file(x->a, x->b, false), 0);
    assert_file(x->b, "text");
    assert_int_equal(stat(x->b, &st), 0);
    assert_int_equal(st.st_mode & 0700, 0700);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(ty_copy_file(x->a, x->b, false), 0); /* the same: nothing to do */
    put(x->a, "TEXT");
    assert_int_equal(ty_copy_file(x->a, x->b, false), -EEXIST);
    assert_file(x->b, "text");
    assert_int_equal(ty_copy_file(x->a, x->b, true), 0);
    assert_file(x->b, "TEXT");
    assert_int_equal(ty_walk(folder, names, &n, NULL), 0);
    assert_int_equal(n, 1); /* no temporary file is left */
}

static void test_bad_files(void **state)
{
    struct box *x = *state;

    assert_int_equal(ty_copy_file(x->a, x->b, false), -ENOENT);
    assert_int_equal(mkfifo(x->a, 0600), 0);
    assert_int_equal(ty_copy_file(x->a, x->b, false), -EINVAL);
    assert_int_equal(access(x->b, F_OK), -1);
}

struct missed {
    int n, stop;
};

static int miss(const char *rel, int why, void *ctx)
{
    struct missed *m = ctx;

    assert_string_equal(rel, "p");
    assert_int_equal(why, -ENOTSUP);
    m->n++;
    return m->stop;
}

static void test_tree(void **state)
{
    struct box *x = *state;
    CLEANUP_FREE char *deep = ty_path_join(x->a, "d/e"), *file = ty_path_join(deep, "f"),
                      *fifo = ty_path_join(x->a, "p");
    CLEANUP_FREE char *there = ty_path_join(x->b, "d/e/f");
    struct missed m = { 0 };
    struct ty_error err;

    assert_int_equal(ty_mkdir_p(deep, 0700), 0);
    put(file, "f");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(ty_copy_tree(x->a, x->b, false, miss, NULL, &m, &err), 0);
    assert_int_equal(m.n, 1);
    assert_file(there, "f");
    m.stop = -EIO;
    assert_int_equal(ty_copy_tree(x->a, x->b, false, miss, NULL, &m, &err), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tree, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
