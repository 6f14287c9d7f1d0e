/* test_logtail.c - reading a log behind its writer */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/logtail.h"
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
    struct ty_logtail t;
};

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-logtail-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_logtail_done(&b->t);
    ty_rm_rf(b->dir);
    free(b);
    return 0;
}

static void open_log(struct box *b, uint64_t limit)
{
    struct ty_error err;

    assert_int_equal(ty_logtail_open(&b->t, b->dir, "log.txt", limit, &err), 0);
}

static void put(struct box *b, const char *text)
{
    assert_int_equal(ty_write_all(b->t.fd, text, strlen(text)), 0);
}

static void assert_reads(struct box *b, uint64_t offset, const char *text)
{
    char buf[256];
    uint64_t at = 0;
    ssize_t n = ty_logtail_read(&b->t, buf, sizeof buf, &at);

    assert_int_equal(n, strlen(text));
    if (n > 0)
        assert_int_equal(at, offset);
    assert_memory_equal(buf, text, strlen(text));
}

static void test_reading(void **state)
{
    struct box *b = *state;

    open_log(b, 1000);
    assert_reads(b, 0, "");
    put(b, "one\n");
    assert_true(ty_logtail_pending(&b->t));
    assert_reads(b, 0, "one\n");
    assert_false(ty_logtail_pending(&b->t));
    put(b, "two\n");
    assert_reads(b, 4, "two\n");
    ty_logtail_seek(&b->t, 2);
    assert_reads(b, 2, "e\ntwo\n");
    ty_logtail_ack(&b->t, 100); /* more than was sent: not believed */
    assert_int_equal(b->t.acked, 2);
    ty_logtail_ack(&b->t, 8);
    assert_int_equal(b->t.acked, 8);
}

static void test_a_later_attempt(void **state)
{
    struct box *b = *state;

    open_log(b, 1006);
    ty_logtail_base(&b->t, 1000);
    put(b, "one\n");
    ty_logtail_seek(&b->t, 1000);
    assert_reads(b, 1000, "one\n");
    ty_logtail_ack(&b->t, 1002);
    assert_int_equal(b->t.acked, 2);
    ty_logtail_seek(&b->t, 1002);
    assert_reads(b, 1002, "e\n");
    put(b, "two\n"); /* the limit is of the whole log */
    assert_reads(b, 1004, "tw");
    assert_true(b->t.over);
}

static void test_limit(void **state)
{
    struct box *b = *state;

    open_log(b, 6);
    put(b, "abcdef");
    assert_reads(b, 0, "abcdef");
    assert_false(b->t.over);
    put(b, "g");
    assert_reads(b, 0, "");
    assert_true(b->t.over);
    assert_false(ty_logtail_pending(&b->t));
}

static void fill(struct box *b, size_t n)
{
    CLEANUP_FREE char *block = malloc(n);

    memset(block, 'x', n);
    assert_int_equal(ty_write_all(b->t.fd, block, n), 0);
}

static void test_window_and_holes(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *buf = malloc(1 << 17);
    struct stat before, after;
    uint64_t at;

    open_log(b, UINT64_MAX);
    fill(b, 2 * TY_LOGTAIL_WINDOW);
    while (ty_logtail_read(&b->t, buf, 1 << 17, &at) > 0)
        ;
    assert_int_equal(b->t.sent, TY_LOGTAIL_WINDOW);
    assert_true(ty_logtail_pending(&b->t));
    assert_int_equal(fstat(b->t.fd, &before), 0);
    ty_logtail_ack(&b->t, TY_LOGTAIL_WINDOW);
    assert_int_equal(fstat(b->t.fd, &after), 0);
    assert_true(after.st_blocks <= before.st_blocks - TY_LOGTAIL_WINDOW / 512);
    assert_int_equal(after.st_size, before.st_size);
    while (ty_logtail_read(&b->t, buf, 1 << 17, &at) > 0)
        for (int i = 0; i < 1 << 17; i++)
            assert_int_equal(buf[i], 'x');
    assert_int_equal(b->t.sent, 2 * TY_LOGTAIL_WINDOW);
}

/* What lies beyond the limit takes no disk, but the end can be quoted. */
static void test_beyond_the_limit(void **state)
{
    struct box *b = *state;
    char quote[TY_LOGTAIL_QUOTE];
    struct stat st;

    open_log(b, 4);
    fill(b, 4 << 20);
    put(b, "\nlast words\n");
    assert_reads(b, 0, "xxxx");
    ty_logtail_ack(&b->t, 4);
    ty_logtail_trim(&b->t);
    assert_int_equal(fstat(b->t.fd, &st), 0);
    assert_true(st.st_blocks * 512 < 1 << 20);
    assert_int_equal(ty_logtail_quote(&b->t, quote), 11);
    assert_memory_equal(quote, "last words\n", 11);
}

/* The same while the daemon has nothing of it. */
static void test_beyond_the_limit_alone(void **state)
{
    struct box *b = *state;
    char start[4];
    struct stat st;
    uint64_t at;

    open_log(b, 8192);
    fill(b, 4 << 20);
    assert_true(ty_logtail_over(&b->t));
    ty_logtail_trim(&b->t);
    assert_int_equal(fstat(b->t.fd, &st), 0);
    assert_true(st.st_blocks * 512 < 1 << 20);
    fill(b, 4 << 20);
    ty_logtail_trim(&b->t);
    assert_int_equal(fstat(b->t.fd, &st), 0);
    assert_true(st.st_blocks * 512 < 2 << 20);
    assert_int_equal(ty_logtail_read(&b->t, start, sizeof start, &at), 4);
    assert_memory_equal(start, "xxxx", 4); /* what is to be sent is there */
}

static void test_quote(void **state)
{
    struct box *b = *state;
    char quote[TY_LOGTAIL_QUOTE];
    size_t n;

    open_log(b, UINT64_MAX);
    assert_int_equal(ty_logtail_quote(&b->t, quote), 0);
    put(b, "a\nb");
    assert_int_equal(ty_logtail_quote(&b->t, quote), 3);
    for (int i = 0; i < 1000; i++)
        put(b, "0123456\n");
    n = ty_logtail_quote(&b->t, quote);
    assert_true(n > TY_LOGTAIL_QUOTE - 10 && n <= TY_LOGTAIL_QUOTE);
    assert_memory_equal(quote, "0123456\n", 8);
    fill(b, 10000); /* no line end at all: the bytes themselves */
    assert_int_equal(ty_logtail_quote(&b->t, quote), TY_LOGTAIL_QUOTE);
}

static void test_no_folder(void **state)
{
    struct box *b = *state;
    struct ty_error err;

    assert_int_equal(ty_logtail_open(&b->t, "/no/such", "log.txt", 1, &err), -ENOENT);
    assert_null(b->t.name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_later_attempt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window_and_holes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_beyond_the_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_beyond_the_limit_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quote, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_folder, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
