/* test_sync.c - getting a job folder onto the disk */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/child.h"
#include "runner/sync.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    char *spool;
};

static int set_up(void **state)
{
    static struct box b;

    b = (struct box){ .dir = "/tmp/ty-sync-XXXXXX" };
    assert_non_null(mkdtemp(b.dir));
    b.spool = ty_path_join(b.dir, "records.spool");
    assert_non_null(b.spool);
    *state = &b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_rm_rf(b->dir);
    free(b->spool);
    return 0;
}

static int descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += lseek(fd, 0, SEEK_CUR) >= 0 || errno != EBADF;
    return n;
}

static void test_what_is_there(void **state)
{
    struct box *b = *state;
    int before = descriptors();

    assert_int_equal(ty_write_file(b->spool, "", 0, 0600), 0);
    assert_int_equal(ty_sync(-1, b->dir), 0);
    assert_int_equal(ty_write_file(b->spool, "1 {}\n", 5, 0600), 0);
    assert_int_equal(ty_sync(-1, b->dir), 0);
    assert_int_equal(descriptors(), before);
}

static void test_what_is_not(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *other = ty_path_join(b->dir, "other");
    int before = descriptors();

    assert_int_equal(ty_sync(-1, (char *)"/nowhere/at/all"), -ENOENT);
    assert_int_equal(ty_sync(-1, b->dir), -ENOENT);
    assert_int_equal(ty_write_file(other, "", 0, 0600), 0);
    assert_int_equal(ty_sync(-1, other), -ENOTDIR);
    assert_int_equal(symlink(other, b->spool), 0); /* nobody's records lie behind a link */
    assert_int_equal(ty_sync(-1, b->dir), -ELOOP);
    assert_int_equal(descriptors(), before);
}

static void no_line(json_t *line, void *ctx)
{
    (void)line, (void)ctx;
    fail_msg("a sync has nothing to tell");
}

static bool fails_as_a_child(struct box *b)
{
    struct ty_child c = TY_CHILD_INIT;
    struct ty_error err;
    bool failed;

    assert_int_equal(ty_child_start(&c, ty_sync, b->dir, &err), 0);
    for (;;) {
        struct pollfd p = { .fd = c.fd, .events = POLLIN };

        assert_int_equal(poll(&p, 1, 20000), 1);
        if (ty_child_read(&c, no_line, NULL, &failed) == -EPIPE)
            return failed;
    }
}

/* How the runner sees it: the end of the child, and whether it failed. */
static void test_as_a_child(void **state)
{
    struct box *b = *state;

    assert_true(fails_as_a_child(b));
    assert_int_equal(ty_write_file(b->spool, "1 {}\n", 5, 0600), 0);
    assert_false(fails_as_a_child(b));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_there),
        TEST(test_what_is_not),
        TEST(test_as_a_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
