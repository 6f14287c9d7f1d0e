/* test_rows.c - the set of row spools */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/rows.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    struct ty_spool_writer *w[2];
    struct ty_rows *rows;
    unsigned char buf[TY_SPOOL_ROW_MAX];
};

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    struct ty_error err;

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-rows-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    for (int i = 0; i < 2; i++)
        assert_int_equal(ty_spool_create(b->dir, &b->w[i], &err), 0);
    b->rows = ty_rows_new(b->dir);
    assert_non_null(b->rows);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_rows_free(b->rows);
    for (int i = 0; i < 2; i++)
        ty_spool_writer_free(b->w[i]);
    ty_rm_rf(b->dir);
    free(b);
    return 0;
}

static void put(struct box *b, int writer, int n)
{
    struct ty_row row = { .kind = TY_ROW_TEXT,
                          .step = TY_ROW_NO_STEP,
                          .name = "n",
                          .name_len = 1,
                          .value = "v",
                          .value_len = 1 };

    for (int i = 0; i < n; i++)
        assert_int_equal(ty_spool_write(b->w[writer], &row), 0);
}

static ptrdiff_t next(struct box *b, uint32_t *writer, uint64_t *first, uint32_t *count)
{
    return ty_rows_read(b->rows, b->buf, sizeof b->buf, writer, first, count);
}

static void test_both_writers(void **state)
{
    struct box *b = *state;
    uint64_t first, sum[2] = { 0 };
    uint32_t writer, count;

    assert_int_equal(ty_rows_count(b->rows), 0);
    assert_false(ty_rows_scan(b->rows));
    assert_int_equal(ty_rows_count(b->rows), 2);
    put(b, 0, 10);
    put(b, 1, 20);
    assert_true(ty_rows_pending(b->rows));
    while (next(b, &writer, &first, &count) > 0)
        sum[writer] += count;
    assert_int_equal(sum[0], 10);
    assert_int_equal(sum[1], 20);
    assert_false(ty_rows_pending(b->rows));
}

static void test_window(void **state)
{
    struct box *b = *state;
    uint64_t first;
    uint32_t writer, count;

    ty_rows_scan(b->rows);
    for (int i = 0; i < TY_ROWS_FRAMES_MAX; i++) {
        put(b, 0, 1);
        assert_true(next(b, &writer, &first, &count) > 0);
    }
    put(b, 0, 1);
    assert_int_equal(next(b, &writer, &first, &count), 0);
    assert_true(ty_rows_pending(b->rows));
    ty_rows_ack(b->rows, 0, 3);
    assert_true(next(b, &writer, &first, &count) > 0);
    assert_int_equal(first, TY_ROWS_FRAMES_MAX);
    ty_rows_ack(b->rows, 7, 3); /* nobody's */
}

static void test_the_daemon_says_where(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *at = json_pack("{s:i}", "1", 5);
    uint64_t first, seen[2] = { 99, 99 };
    uint32_t writer, count;

    put(b, 0, 10);
    put(b, 1, 10);
    ty_rows_seek(b->rows, at); /* before the spools are known */
    ty_rows_scan(b->rows);
    while (next(b, &writer, &first, &count) > 0)
        seen[writer] = first;
    assert_int_equal(seen[0], 0);
    assert_int_equal(seen[1], 5);
    ty_rows_seek(b->rows, at); /* and again */
    while (next(b, &writer, &first, &count) > 0)
        seen[writer] = first;
    assert_int_equal(seen[1], 5);
}

static void test_damage(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *path = ty_path_join(b->dir, "rows-0.spool"),
                      *junk = ty_path_join(b->dir, "rows-5.spool");
    uint64_t first;
    uint32_t writer, count;

    assert_int_equal(ty_write_file(junk, "", 0, 0600), 0);
    assert_true(ty_rows_scan(b->rows)); /* may still become one */
    put(b, 0, 10);
    put(b, 1, 10);
    assert_int_equal(truncate(path, 4096), 0);
    assert_true(next(b, &writer, &first, &count) > 0);
    assert_int_equal(writer, 1);
    assert_int_equal(next(b, &writer, &first, &count), 0);
    assert_true(ty_rows_damaged(b->rows, &writer));
    assert_int_equal(writer, 0);
    assert_false(ty_rows_damaged(b->rows, &writer));
    assert_false(ty_rows_pending(b->rows));
}

static void test_a_later_attempt(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *at = json_pack("{s:i, s:i}", "1", 9, "5", 2);
    uint64_t first;
    uint32_t writer, count;

    ty_rows_base(b->rows, 4);
    ty_rows_scan(b->rows);
    put(b, 1, 3);
    ty_rows_seek(b->rows, at);
    assert_true(next(b, &writer, &first, &count) > 0);
    assert_int_equal(writer, 5); /* the second of this attempt */
    assert_int_equal(first, 2);
    assert_int_equal(count, 1);
    ty_rows_ack(b->rows, 1, 3); /* of an earlier attempt: nobody's here */
    ty_rows_ack(b->rows, 5, 3);
    assert_int_equal(ty_spool_acked(b->w[0]), 0);
    assert_int_equal(ty_spool_acked(b->w[1]), 3);
}

/* A spool of which the writer tells is read like any other, but is none to look at. */
static void test_quiet(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *none = json_object();
    uint32_t writer, count;
    uint64_t first;

    ty_rows_quiet(b->rows, 1);
    ty_rows_quiet(b->rows, TY_SPOOL_WRITERS_MAX);
    assert_false(ty_rows_scan(b->rows));
    assert_int_equal(ty_rows_count(b->rows), 1);
    ty_rows_quiet(b->rows, 0); /* it is open already */
    ty_rows_quiet(b->rows, 0);
    assert_int_equal(ty_rows_count(b->rows), 0);
    ty_rows_seek(b->rows, none);
    put(b, 1, 2);
    assert_true(ty_rows_pending(b->rows));
    assert_true(ty_rows_read(b->rows, b->buf, sizeof b->buf, &writer, &first, &count) > 0);
    assert_true(writer == 1 && first == 0 && count == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_both_writers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_daemon_says_where, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_later_attempt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quiet, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
