/* test_spool.c - the mapped row spool, both sides */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/spool.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    char *path;
    struct ty_spool_writer *w;
    struct ty_spool_reader *r;
    unsigned char buf[TY_SPOOL_ROW_MAX];
};

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    struct ty_error err;

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-spool-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->path = ty_path_join(b->dir, "rows-0.spool");
    assert_int_equal(ty_spool_create(b->dir, &b->w, &err), 0);
    assert_int_equal(ty_spool_reader_open(b->path, &b->r, &err), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_spool_reader_free(b->r);
    ty_spool_writer_free(b->w);
    ty_rm_rf(b->dir);
    free(b->path);
    free(b);
    return 0;
}

static int put(struct box *b, int64_t step, size_t value_len)
{
    static char text[TY_ROW_VALUE_MAX + 1];
    struct ty_row row = { .kind = TY_ROW_TEXT,
                          .step = step,
                          .at_us = 7,
                          .name = "n",
                          .name_len = 1,
                          .value = text,
                          .value_len = value_len };

    memset(text, 'a' + (int)(step % 26), sizeof text);
    return ty_spool_write(b->w, &row);
}

/* Read everything from the present place on: rows must have the steps first, first + 1, ... */
static uint64_t drain(struct box *b, uint64_t next)
{
    uint64_t first = 0;
    uint32_t count = 0;
    ptrdiff_t n;

    while ((n = ty_spool_read(b->r, b->buf, sizeof b->buf, &first, &count)) > 0) {
        size_t used = 0;

        assert_int_equal(first, next);
        for (uint32_t i = 0; i < count; i++) {
            struct ty_row row;
            ptrdiff_t got = ty_row_decode(b->buf + used, (size_t)n - used, &row);

            assert_true(got > 0);
            assert_int_equal(row.step, next++);
            if (row.value_len > 0)
                assert_int_equal(*(const char *)row.value, 'a' + row.step % 26);
            used += (size_t)got;
        }
        assert_int_equal(used, n);
    }
    assert_int_equal(n, 0);
    return next;
}

static void test_rows_come_out_in_order(void **state)
{
    struct box *b = *state;

    assert_false(ty_spool_reader_pending(b->r));
    for (int i = 0; i < 100; i++)
        assert_int_equal(put(b, i, 10), 0);
    assert_true(ty_spool_reader_pending(b->r));
    assert_int_equal(drain(b, 0), 100);
    assert_int_equal(put(b, 100, 0), 0);
    assert_int_equal(drain(b, 100), 101);
    assert_int_equal(ty_spool_written(b->w), 101);
    assert_int_equal(ty_spool_writer_pid(b->w), getpid());
}

/* Sizes that leave every remainder at a segment's end: padding rows, and gaps that are too small
 * for one. */
static void test_segments(void **state)
{
    struct box *b = *state;
    int64_t n = 0;

    for (size_t len = 1000; len < 1000 + 8 * 40; len += 8)
        for (int i = 0; i < 60; i++)
            assert_int_equal(put(b, n++, len), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(b, n++, TY_ROW_VALUE_MAX), 0);
    assert_int_equal(drain(b, 0), n);
    assert_int_equal(ty_spool_reader_seek(b->r, 1234), 0);
    assert_int_equal(drain(b, 1234), n);
    assert_int_equal(ty_spool_reader_seek(b->r, (uint64_t)n + 1), -EINVAL);
}

/* A row that ends exactly with its segment, and one that would leave less than a row's head. */
static void test_exact_ends(void **state)
{
    struct box *b = *state;
    struct ty_row one = {
        .kind = TY_ROW_TEXT, .name = "n", .name_len = 1, .value = "", .value_len = 1000
    };
    size_t size = ty_row_size(&one), full = TY_SPOOL_SEGMENT / size,
           left = TY_SPOOL_SEGMENT - full * size;
    int64_t n = 0;

    for (size_t i = 0; i + 1 < full; i++)
        assert_int_equal(put(b, n++, 1000), 0);
    assert_int_equal(put(b, n++, 1000 + left), 0); /* to the last byte */
    assert_int_equal(put(b, n++, 8), 0);
    assert_int_equal(drain(b, 0), n);
}

static void test_limits(void **state)
{
    struct box *b = *state;
    struct ty_row row = {
        .kind = TY_ROW_PAD, .name = "n", .name_len = 1, .value = "", .value_len = 0
    };

    assert_int_equal(ty_spool_write(b->w, &row), -EINVAL);
    assert_int_equal(put(b, 0, TY_ROW_VALUE_MAX + 1), -EINVAL);
    assert_int_equal(ty_spool_reader_dropped(b->r), 0);
    assert_int_equal(put(b, 0, TY_ROW_VALUE_MAX), 0);
    assert_int_equal(drain(b, 0), 1);
}

static void test_full_until_acknowledged(void **state)
{
    struct box *b = *state;
    struct stat before, after;
    int64_t n = 0;

    while (put(b, n, 200000) == 0)
        n++;
    assert_int_equal(put(b, n, 200000), -ENOBUFS);
    assert_int_equal(ty_spool_reader_dropped(b->r), 2);
    assert_true(n > 200 && n < 64 * 6);
    assert_int_equal(drain(b, 0), n);
    assert_int_equal(stat(b->path, &before), 0);
    ty_spool_ack(b->r, (uint64_t)n / 2);
    assert_int_equal(ty_spool_acked(b->w), n / 2);
    assert_int_equal(stat(b->path, &after), 0);
    assert_true(after.st_blocks < before.st_blocks);
    assert_int_equal(put(b, n, 200000), 0);
    assert_int_equal(drain(b, (uint64_t)n), n + 1);
    assert_int_equal(ty_spool_reader_seek(b->r, (uint64_t)n / 2 - 1), -EINVAL);
    assert_int_equal(ty_spool_reader_seek(b->r, (uint64_t)n / 2), 0);
    assert_int_equal(drain(b, (uint64_t)n / 2), n + 1);
}

static void test_another_reader_goes_on(void **state)
{
    struct box *b = *state;
    struct ty_error err;

    for (int i = 0; i < 5000; i++)
        assert_int_equal(put(b, i, 400), 0);
    assert_int_equal(drain(b, 0), 5000);
    ty_spool_ack(b->r, 1000);
    ty_spool_ack(b->r, 3001);
    ty_spool_ack(b->r, 2000); /* late: changes nothing */
    b->r = ty_spool_reader_free(b->r);
    assert_int_equal(ty_spool_reader_open(b->path, &b->r, &err), 0);
    assert_int_equal(drain(b, 3001), 5000);
    assert_int_equal(ty_spool_reader_seek(b->r, 3000), -EINVAL);
}

static void test_writers_take_numbers(void **state)
{
    struct box *b = *state;
    struct ty_spool_writer *w = NULL;
    struct ty_spool_reader *r = NULL;
    CLEANUP_FREE char *path = ty_path_join(b->dir, "rows-1.spool");
    struct ty_error err;

    assert_int_equal(ty_spool_create(b->dir, &w, &err), 0);
    assert_int_equal(ty_spool_reader_open(path, &r, &err), 0);
    assert_int_equal(ty_spool_reader_writer(r), 1);
    assert_int_equal(ty_spool_reader_writer(b->r), 0);
    ty_spool_reader_free(r);
    ty_spool_writer_free(w);
    assert_int_equal(ty_spool_create("/no/such/folder", &w, &err), -ENOENT);
}

static void overwrite(const struct box *b, off_t at, const void *bytes, size_t n)
{
    CLEANUP_CLOSE int fd = open(b->path, O_WRONLY | O_CLOEXEC);

    assert_int_equal(ty_pwrite_all(fd, bytes, n, at), 0);
}

static void test_damage_is_noticed(void **state)
{
    struct box *b = *state;
    uint32_t bad = 7, count = 0;
    uint64_t first = 0;

    for (int i = 0; i < 10; i++)
        assert_int_equal(put(b, i, 10), 0);
    overwrite(b, 4096, &bad, sizeof bad);
    assert_int_equal(ty_spool_read(b->r, b->buf, sizeof b->buf, &first, &count), -EBADMSG);
    assert_int_equal(truncate(b->path, 100), 0);
    assert_true(ty_spool_read(b->r, b->buf, sizeof b->buf, &first, &count) < 0);
    assert_int_equal(truncate(b->path, 10), 0);
    assert_int_equal(ty_spool_read(b->r, b->buf, sizeof b->buf, &first, &count), -EBADMSG);
    assert_false(ty_spool_reader_pending(b->r));
}

static void test_what_is_no_spool(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *path = ty_path_join(b->dir, "other");
    struct ty_spool_reader *r = NULL;
    struct ty_error err;
    char junk[4096] = "TYROWS2\n";

    assert_int_equal(ty_write_file(path, "", 0, 0600), 0);
    assert_int_equal(ty_spool_reader_open(path, &r, &err), -EAGAIN);
    assert_int_equal(ty_write_file(path, junk, sizeof junk, 0600), 0);
    assert_int_equal(ty_spool_reader_open(path, &r, &err), -EBADMSG);
    assert_int_equal(ty_spool_reader_open(b->dir, &r, &err), -EISDIR);
    assert_int_equal(ty_spool_reader_open("/no/such", &r, &err), -ENOENT);
    assert_null(r);
}

/* Writer and reader at the same time, in two processes, and the writer ends without a word. */
static void test_two_processes(void **state)
{
    struct box *b = *state;
    uint64_t next = 0;
    int status = 1;
    pid_t pid = fork();

    if (pid == 0) {
        for (int i = 0; i < 200000; i++)
            while (put(b, i, 16) != 0)
                usleep(100);
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        next = drain(b, next);
        ty_spool_ack(b->r, next);
    }
    assert_int_equal(status, 0);
    assert_int_equal(drain(b, next), 200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows_come_out_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_exact_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_until_acknowledged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_reader_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writers_take_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_spool, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_processes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
