/* test_ds_file.c - the datastore that is a folder: what a reader or a crash can meet half-way, and
 * every sentence it says
 *
 * What holds for any kind of datastore is in test_datastore.c.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/datastore.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64], root[80]; /* the datastore is a folder in the box's own */
    struct ty_datastore *d;
    struct ty_error err;
};

static int set_up(void **state)
{
    static struct box b;

    b = (struct box){ .dir = "/tmp/ty-dsfile-XXXXXX" };
    assert_non_null(mkdtemp(b.dir));
    snprintf(b.root, sizeof b.root, "%s/root", b.dir);
    assert_int_equal(mkdir(b.root, 0700), 0);
    assert_int_equal(ty_datastore_open("store", "file", b.root, &b.d, &b.err), 0);
    *state = &b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_datastore_free(b->d);
    ty_rm_rf(b->dir);
    return 0;
}

static char *in(const struct box *b, const char *name)
{
    return ty_path_join(b->root, name);
}

static void place(const struct box *b, const char *name, const char *text)
{
    CLEANUP_FREE char *path = in(b, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

static void link_to(const struct box *b, const char *to, const char *name)
{
    CLEANUP_FREE char *path = in(b, name);

    assert_int_equal(symlink(to, path), 0);
}

static bool is_there(const struct box *b, const char *name)
{
    CLEANUP_FREE char *path = in(b, name);

    return access(path, F_OK) == 0;
}

static int begin(struct box *b, const char *path, bool overwrite, struct ty_data_put **p)
{
    return ty_datastore_put(b->d, path, overwrite, p, &b->err);
}

static int put(struct box *b, const char *path, const char *text, bool overwrite)
{
    struct ty_data_put *p = NULL;
    int r = begin(b, path, overwrite, &p);

    if (r == 0 && (r = ty_data_put_write(p, text, strlen(text), &b->err)) < 0)
        ty_data_put_abort(p);
    return r < 0 ? r : ty_data_put_finish(p, &b->err);
}

static void refused(struct box *b, int r, int code, const char *text)
{
    assert_int_equal(r, code);
    assert_int_equal(b->err.code, code);
    assert_string_equal(b->err.text, text);
}

static void check_content(struct box *b, const char *path, const char *text)
{
    CLEANUP_FREE char *full = in(b, path), *got = NULL;

    assert_int_equal(ty_read_file(full, 4096, &got, NULL), 0);
    assert_string_equal(got, text);
}

static int add_path(const char *path, uint64_t bytes, void *ctx)
{
    ty_str_addf(ctx, "%s:%llu ", path, (unsigned long long)bytes);
    return 0;
}

static void check_list(struct box *b, const char *prefix, const char *expected)
{
    CLEANUP_STR struct ty_str s = { 0 };

    assert_int_equal(ty_datastore_list(b->d, prefix, add_path, &s, &b->err), 0);
    assert_string_equal(s.text ? s.text : "", expected);
}

static int descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_root(void **state)
{
    struct box *b = *state;
    struct ty_datastore *d = NULL;
    CLEANUP_FREE char *file = in(b, "file"), *why = NULL;

    place(b, "file", "x");
    refused(b, ty_datastore_open("s", "file", "/no/such/folder", &d, &b->err), -ENOENT,
            "cannot open the folder '/no/such/folder' of datastore 's': No such file or directory");
    why = ty_strf("cannot open the folder '%s' of datastore 's': Not a directory", file);
    refused(b, ty_datastore_open("s", "file", file, &d, &b->err), -ENOTDIR, why);
    assert_null(d);
    assert_true(fcntl(b->d->root, F_GETFD) & FD_CLOEXEC);
}

/* A prefix is the beginning of a path, not a folder; and only its folder is read. */
static void test_prefixes(void **state)
{
    struct box *b = *state;

    place(b, "a/b/1", "x");
    place(b, "a/bc/2", "xx");
    place(b, "a/b.txt", "xxx");
    place(b, "b", "xxxx");
    place(b, ".trainyard-datastore", "the service's own");
    place(b, "c/.trainyard-datastore", "a user's");
    check_list(b, ".", "");
    check_list(b, "c", "c/.trainyard-datastore:8 ");
    check_list(b, "a/b", "a/b/1:1 a/b.txt:3 a/bc/2:2 ");
    check_list(b, "a/b/", "a/b/1:1 ");
    check_list(b, "a/b/12", "");
    check_list(b, "a/b.txt/x", ""); /* below a file there is nothing */
    check_list(b, "b", "b:4 ");
    refused(b, ty_datastore_list(b->d, "a/../b", add_path, NULL, &b->err), -EINVAL,
            "the prefix 'a/../b' cannot begin a path in datastore 'store': paths are relative, "
            "without empty parts, '.' and '..'");
    refused(b, ty_datastore_list(b->d, "/etc", add_path, NULL, &b->err), -EINVAL,
            "the prefix '/etc' cannot begin a path in datastore 'store': paths are relative, "
            "without empty parts, '.' and '..'");
}

static int stop_at_second(const char *path, uint64_t bytes, void *ctx)
{
    int *n = ctx;

    (void)path, (void)bytes;
    return ++*n == 2 ? -ECANCELED : 0;
}

static void test_a_listing_can_be_stopped(void **state)
{
    struct box *b = *state;
    int n = 0, before = descriptors();

    place(b, "a/1", "");
    place(b, "a/2", "");
    place(b, "a/3", "");
    assert_int_equal(ty_datastore_list(b->d, NULL, stop_at_second, &n, &b->err), -ECANCELED);
    assert_int_equal(n, 2);
    assert_int_equal(descriptors(), before);
}

/* A link to a file inside is that file, with its size; to a folder, to nowhere, to itself or to the
 * outside it is nothing. */
static void test_links_in_a_listing(void **state)
{
    struct box *b = *state;
    uint64_t bytes = 77;
    int fd = -1;

    place(b, "set/data", "12345");
    link_to(b, "set/data", "file");
    link_to(b, "set", "folder");
    link_to(b, "nothing", "nowhere");
    link_to(b, "loop", "loop");
    link_to(b, "../root/set/data", "out-and-in");
    check_list(b, NULL, "file:5 set/data:5 ");
    assert_int_equal(ty_datastore_read(b->d, "folder/data", &fd, &bytes, &b->err), 0);
    assert_int_equal(bytes, 5);
    close(fd);
    fd = -1;
    refused(b, ty_datastore_read(b->d, "out-and-in", &fd, &bytes, &b->err), -EXDEV,
            "'out-and-in' leads out of datastore 'store' through a link");
    refused(b, ty_datastore_read(b->d, "loop", &fd, &bytes, &b->err), -ELOOP,
            "'loop' leads out of datastore 'store' through a link");
    assert_int_equal(fd, -1);
}

static void test_what_cannot_be_read(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *fifo = in(b, "fifo");
    uint64_t bytes = 77;
    int fd = -1;

    place(b, "set/data", "x");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    refused(b, ty_datastore_read(b->d, "set", &fd, &bytes, &b->err), -EISDIR,
            "'set' of datastore 'store' is a folder, not a file");
    refused(b, ty_datastore_read(b->d, "fifo", &fd, &bytes, &b->err), -EISDIR,
            "'fifo' of datastore 'store' is a device or pipe, not a file");
    refused(b, ty_datastore_read(b->d, "set/other", &fd, &bytes, &b->err), -ENOENT,
            "datastore 'store' has no file 'set/other'; `trainyard data ls` lists those it has");
    refused(b, ty_datastore_read(b->d, "set/data/x", &fd, &bytes, &b->err), -ENOENT,
            "datastore 'store' has no file 'set/data/x'; `trainyard data ls` lists those it has");
    assert_true(fd == -1 && bytes == 77);
    assert_int_equal(ty_datastore_read(b->d, "set/data", &fd, &bytes, &b->err), 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}

static void test_what_cannot_be_put(void **state)
{
    struct box *b = *state;

    place(b, "set/data", "old");
    link_to(b, "/tmp", "out");
    refused(b, put(b, "set/data", "new", false), -EEXIST,
            "datastore 'store' has a file 'set/data' already; ask for it to be overwritten "
            "(--overwrite), or choose another path");
    refused(b, put(b, "set", "new", true), -EISDIR,
            "'set' is a folder of datastore 'store'; choose another path");
    refused(b, put(b, "set/data/x/y", "new", true), -EEXIST,
            "cannot put 'set/data/x/y' into datastore 'store': a part of its path is a file");
    refused(b, put(b, "out/x", "new", true), -EXDEV,
            "'out/x' leads out of datastore 'store' through a link");
    refused(b, put(b, "set/.trainyard-put-9", "new", true), -EINVAL,
            "names that begin with '.trainyard-put-' are the service's own");
    check_list(b, NULL, "set/data:3 ");
    check_content(b, "set/data", "old");
}

/* Deep folders are made one by one, and those that were there are used; also through a link. */
static void test_folders_are_made(void **state)
{
    struct box *b = *state;
    int before = descriptors();

    place(b, "a/old", "x");
    link_to(b, "a", "link");
    assert_int_equal(put(b, "a/b/c/d/e/f", "deep", false), 0);
    assert_int_equal(put(b, "link/g/h", "linked", false), 0);
    check_content(b, "a/b/c/d/e/f", "deep");
    check_content(b, "a/g/h", "linked");
    assert_int_equal(descriptors(), before);
}

/* Whoever has the old file open keeps it; nobody sees half of the new one. */
static void test_replacing(void **state)
{
    struct box *b = *state;
    struct ty_data_put *p = NULL;
    char buf[16] = { 0 };
    uint64_t bytes;
    int fd;

    assert_int_equal(put(b, "f", "old", false), 0);
    assert_int_equal(ty_datastore_read(b->d, "f", &fd, &bytes, &b->err), 0);
    assert_int_equal(begin(b, "f", true, &p), 0);
    assert_int_equal(ty_data_put_write(p, "n", 1, &b->err), 0);
    assert_int_equal(ty_data_put_write(p, "ew one", 6, &b->err), 0);
    check_content(b, "f", "old");
    check_list(b, NULL, "f:3 ");
    assert_int_equal(ty_data_put_finish(p, &b->err), 0);
    check_content(b, "f", "new one");
    assert_int_equal(ty_read_full(fd, buf, sizeof buf), 3);
    assert_string_equal(buf, "old");
    close(fd);
}

/* What a killed daemon left is no data, and does not stand in the way of a process with its number. */
static void test_leftovers(void **state)
{
    struct box *b = *state;

    for (unsigned i = 0; i < 200; i++) {
        CLEANUP_FREE char *name = ty_strf("set/.trainyard-put-%u-%u", (unsigned)getpid(), i);

        place(b, name, "half");
    }
    check_list(b, NULL, "");
    assert_int_equal(put(b, "set/whole", "whole", false), 0);
    check_content(b, "set/whole", "whole");
    check_list(b, NULL, "set/whole:5 ");
}

/* Two puts of one place, of which both may replace: the last to finish has it. */
static void test_two_that_replace(void **state)
{
    struct box *b = *state;
    struct ty_data_put *one = NULL, *two = NULL;

    assert_int_equal(begin(b, "f", true, &one), 0);
    assert_int_equal(begin(b, "f", true, &two), 0);
    assert_int_equal(ty_data_put_write(two, "two", 3, &b->err), 0);
    assert_int_equal(ty_data_put_write(one, "one", 3, &b->err), 0);
    assert_int_equal(ty_data_put_finish(two, &b->err), 0);
    assert_int_equal(ty_data_put_finish(one, &b->err), 0);
    check_content(b, "f", "one");
    check_list(b, NULL, "f:3 ");
}

/* The folder went away, or became another thing, while the file was on its way. */
static void test_the_place_changes(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *folder = in(b, "set"), *file = in(b, "other");
    struct ty_data_put *p = NULL;
    int before = descriptors();

    assert_int_equal(begin(b, "set/f", false, &p), 0);
    assert_int_equal(ty_rm_rf(folder), 0);
    refused(b, ty_data_put_finish(p, &b->err), -ENOENT,
            "cannot write 'set/f' of datastore 'store': No such file or directory");
    assert_int_equal(begin(b, "other", true, &p), 0);
    assert_int_equal(mkdir(file, 0700), 0);
    refused(b, ty_data_put_finish(p, &b->err), -EISDIR,
            "cannot write 'other' of datastore 'store': Is a directory");
    check_list(b, NULL, "");
    assert_int_equal(descriptors(), before);
}

/* With no descriptor left, each call says so and leaves everything as it was. */
static void test_no_descriptors(void **state)
{
    struct box *b = *state;
    struct rlimit was, none;
    uint64_t bytes;
    int fd = dup(STDERR_FILENO), listed, read_it, put_it;

    assert_true(fd >= 0);
    close(fd);
    place(b, "f", "x");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = was;
    none.rlim_cur = (rlim_t)fd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    listed = ty_datastore_list(b->d, NULL, add_path, NULL, &b->err);
    read_it = ty_datastore_read(b->d, "f", &fd, &bytes, &b->err);
    put_it = put(b, "g", "x", false);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(listed, -EMFILE);
    assert_int_equal(read_it, -EMFILE);
    refused(b, put_it, -EMFILE, "cannot write 'g' of datastore 'store': Too many open files");
    assert_false(is_there(b, "g"));
}

#ifdef TY_FAULTS
static int put_in_pieces(struct box *b, const char *path)
{
    struct ty_data_put *p = NULL;
    int r = begin(b, path, true, &p);

    for (int i = 0; i < 3 && r == 0; i++)
        if ((r = ty_data_put_write(p, "piece ", 6, &b->err)) < 0)
            ty_data_put_abort(p);
    return r < 0 ? r : ty_data_put_finish(p, &b->err);
}

static int count_entry(const char *rel, const struct stat *st, void *ctx)
{
    (void)rel, (void)st;
    ++*(int *)ctx;
    return 0;
}

/* Files and folders on the disk, listed or not. */
static int entries(const struct box *b)
{
    int n = 0;

    assert_int_equal(ty_walk(b->root, count_entry, &n, NULL), 0);
    return n;
}

/* Every point of a put fails once, at each of its visits: what was there stays as it was, and
 * nothing else is left behind. */
static void test_each_point_fails(void **state)
{
    static const struct {
        const char *point;
        int visits;
    } points[] = { { "data.open", 1 }, { "data.write", 3 }, { "data.sync", 1 } };
    struct box *b = *state;
    int before;

    assert_int_equal(put(b, "set/f", "old", false), 0);
    before = descriptors();
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        for (int visit = 1; visit <= points[i].visits; visit++) {
            ty_fault_arm(points[i].point, visit, ENOSPC);
            refused(b, put_in_pieces(b, "set/f"), -ENOSPC,
                    "cannot write 'set/f' of datastore 'store': No space left on device");
            check_content(b, "set/f", "old");
            check_list(b, NULL, "set/f:3 ");
            assert_int_equal(entries(b), 2);
            assert_int_equal(descriptors(), before);
        }
        ty_fault_arm(points[i].point, points[i].visits + 1, ENOSPC);
        assert_int_equal(put_in_pieces(b, "set/f"), 0); /* there is no further visit */
        ty_fault_arm("none", 0, 0);
        check_content(b, "set/f", "piece piece piece ");
        assert_int_equal(put(b, "set/f", "old", true), 0);
    }
}
#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_root),
        TEST(test_prefixes),
        TEST(test_a_listing_can_be_stopped),
        TEST(test_links_in_a_listing),
        TEST(test_what_cannot_be_read),
        TEST(test_what_cannot_be_put),
        TEST(test_folders_are_made),
        TEST(test_replacing),
        TEST(test_leftovers),
        TEST(test_two_that_replace),
        TEST(test_the_place_changes),
        TEST(test_no_descriptors),
#ifdef TY_FAULTS
        TEST(test_each_point_fails),
#endif
    };

    return cmocka_run_group_tests_name("ds_file", tests, NULL, NULL);
}
