/* test_datastore.c - datastores, and the kind that is a folder */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/datastore.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct fixture {
    char dir[64];
    struct ty_datastore *d;
    struct ty_error err;
};

static int open_store(void **state)
{
    static struct fixture x;

    x = (struct fixture){ 0 };
    snprintf(x.dir, sizeof x.dir, "/tmp/ty-data-XXXXXX");
    assert_non_null(mkdtemp(x.dir));
    assert_int_equal(ty_datastore_open("store", "file", x.dir, &x.d, &x.err), 0);
    *state = &x;
    return 0;
}

static int close_store(void **state)
{
    struct fixture *x = *state;

    ty_datastore_free(x->d);
    ty_rm_rf(x->dir);
    return 0;
}

static int put(struct fixture *x, const char *path, const char *text, bool overwrite)
{
    struct ty_data_put *p = NULL;
    int r = ty_datastore_put(x->d, path, overwrite, &p, &x->err);

    if (r == 0) {
        r = ty_data_put_write(p, text, strlen(text), &x->err);
        if (r < 0)
            ty_data_put_abort(p);
    }
    return r < 0 ? r : ty_data_put_finish(p, &x->err);
}

static void check_content(struct fixture *x, const char *path, const char *text)
{
    char buf[64] = { 0 };
    uint64_t bytes = 0;
    int fd = -1;

    assert_int_equal(ty_datastore_read(x->d, path, &fd, &bytes, &x->err), 0);
    assert_int_equal(bytes, strlen(text));
    assert_int_equal(ty_read_full(fd, buf, sizeof buf - 1), (ssize_t)strlen(text));
    assert_string_equal(buf, text);
    close(fd);
}

static int add_path(const char *path, uint64_t bytes, void *ctx)
{
    ty_str_addf(ctx, "%s:%llu ", path, (unsigned long long)bytes);
    return 0;
}

static void check_list(struct fixture *x, const char *prefix, const char *expected)
{
    CLEANUP_STR struct ty_str s = { 0 };

    assert_int_equal(ty_datastore_list(x->d, prefix, add_path, &s, &x->err), 0);
    assert_string_equal(s.text ? s.text : "", expected);
}

static void test_open(void **state)
{
    struct fixture *x = *state;
    struct ty_datastore *d = NULL;

    assert_int_equal(ty_datastore_open("s", "file", "/nowhere/at/all", &d, &x->err), -ENOENT);
    assert_non_null(strstr(x->err.text, "datastore 's'"));
    assert_int_equal(ty_datastore_open("s", "s3", "x", &d, &x->err), -EINVAL);
    assert_null(d);
    assert_null(ty_datastore_free(NULL));
}

static void test_put_and_read(void **state)
{
    struct fixture *x = *state;

    assert_int_equal(put(x, "a/b/c.txt", "one", false), 0);
    check_content(x, "a/b/c.txt", "one");
    assert_int_equal(put(x, "a/b/c.txt", "two", false), -EEXIST);
    check_content(x, "a/b/c.txt", "one");
    assert_int_equal(put(x, "a/b/c.txt", "three", true), 0);
    check_content(x, "a/b/c.txt", "three");
    assert_int_equal(put(x, "top", "", false), 0);
    check_content(x, "top", "");
    assert_int_equal(put(x, "a/b", "x", true), -EISDIR);
    assert_int_equal(put(x, "top/x", "x", true), -EEXIST);
}

static void test_list(void **state)
{
    struct fixture *x = *state;

    put(x, "a/1", "x", false);
    put(x, "a/b/2", "xx", false);
    put(x, "ab", "xxx", false);
    check_list(x, NULL, "a/1:1 a/b/2:2 ab:3 ");
    check_list(x, "a", "a/1:1 a/b/2:2 ab:3 ");
    check_list(x, "a/", "a/1:1 a/b/2:2 ");
    check_list(x, "a/b/2", "a/b/2:2 ");
    check_list(x, "nothing/here", "");
    check_list(x, "ab/", "");
    assert_int_equal(ty_datastore_list(x->d, "../", add_path, NULL, &x->err), -EINVAL);
    assert_int_equal(ty_datastore_list(x->d, "/etc/", add_path, NULL, &x->err), -EINVAL);
}

static void make_link(struct fixture *x, const char *to, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(x->dir, name);

    assert_int_equal(symlink(to, path), 0);
}

static void test_links(void **state)
{
    struct fixture *x = *state;
    uint64_t bytes = 77;
    int fd = -1;

    put(x, "inside", "x", false);
    make_link(x, "inside", "good");
    make_link(x, "/etc/passwd", "file-out");
    make_link(x, "/etc", "folder-out");
    check_content(x, "good", "x");
    check_list(x, NULL, "good:1 inside:1 ");
    assert_int_equal(ty_datastore_read(x->d, "file-out", &fd, &bytes, &x->err), -EXDEV);
    assert_int_equal(ty_datastore_read(x->d, "folder-out/passwd", &fd, &bytes, &x->err), -EXDEV);
    assert_true(fd == -1 && bytes == 77);
    assert_int_equal(put(x, "folder-out/x", "x", true), -EXDEV);
    assert_true(ty_datastore_list(x->d, "folder-out/", add_path, NULL, &x->err) < 0);
    assert_int_equal(put(x, "file-out", "mine", true),
                     0); /* the link's place is taken, what it led to is not touched */
    check_content(x, "file-out", "mine");
}

static void test_bad_paths(void **state)
{
    static const char *const bad[] = { "", "/a", "../a", "a/../../b", "a//b", "./a", "a/", "a\nb" };
    struct fixture *x = *state;
    uint64_t bytes;
    int fd;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(put(x, bad[i], "x", true), -EINVAL);
        assert_int_equal(ty_datastore_read(x->d, bad[i], &fd, &bytes, &x->err), -EINVAL);
    }
    assert_int_equal(put(x, "a/.trainyard-put-1", "x", true), -EINVAL);
    check_list(x, NULL, "");
}

static void test_odd_things(void **state)
{
    struct fixture *x = *state;
    CLEANUP_FREE char *fifo = ty_path_join(x->dir, "fifo");
    CLEANUP_FREE char *odd = ty_path_join(x->dir, "odd\xff");
    uint64_t bytes;
    int fd;

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(ty_write_file(odd, "x", 1, 0600), 0);
    check_list(x, NULL, "");
    assert_int_equal(ty_datastore_read(x->d, "fifo", &fd, &bytes, &x->err),
                     -EISDIR); /* and does not wait for a writer */
    assert_int_equal(ty_datastore_read(x->d, "nothing", &fd, &bytes, &x->err), -ENOENT);
}

/* A file that is being put is nobody's yet, and an aborted one leaves nothing. */
static void test_abort(void **state)
{
    struct fixture *x = *state;
    struct ty_data_put *p = NULL;

    assert_int_equal(ty_datastore_put(x->d, "a", false, &p, &x->err), 0);
    assert_int_equal(ty_data_put_write(p, "half", 4, &x->err), 0);
    check_list(x, NULL, "");
    ty_data_put_abort(p);
    ty_data_put_abort(NULL);
    assert_int_equal(rmdir(x->dir), 0); /* it is empty */
}

/* Two at once for one place: the first to finish has it. */
static void test_race(void **state)
{
    struct fixture *x = *state;
    struct ty_data_put *a = NULL, *b = NULL;

    assert_int_equal(ty_datastore_put(x->d, "f", false, &a, &x->err), 0);
    assert_int_equal(ty_datastore_put(x->d, "f", false, &b, &x->err), 0);
    ty_data_put_write(a, "a", 1, &x->err);
    ty_data_put_write(b, "b", 1, &x->err);
    assert_int_equal(ty_data_put_finish(b, &x->err), 0);
    assert_int_equal(ty_data_put_finish(a, &x->err), -EEXIST);
    check_content(x, "f", "b");
    check_list(x, NULL, "f:1 ");
}

#ifdef TY_FAULTS
static void test_every_failure_is_clean(void **state)
{
    static const char *const points[] = { "data.open", "data.write", "data.sync" };
    struct fixture *x = *state;

    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        ty_fault_arm(points[i], 1, ENOSPC);
        assert_int_equal(put(x, "f", "x", false), -ENOSPC);
        assert_non_null(strstr(x->err.text, "'f' of datastore 'store'"));
        ty_fault_arm("none", 0, 0);
        check_list(x, NULL, "");
    }
    assert_int_equal(rmdir(x->dir), 0);
}
#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_store, close_store)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open),
        TEST(test_put_and_read),
        TEST(test_list),
        TEST(test_links),
        TEST(test_bad_paths),
        TEST(test_odd_things),
        TEST(test_abort),
        TEST(test_race),
#ifdef TY_FAULTS
        TEST(test_every_failure_is_clean),
#endif
    };

    return cmocka_run_group_tests_name("datastore", tests, NULL, NULL);
}
