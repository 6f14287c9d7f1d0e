/* test_records.c - records.spool */
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "runner/records.h"
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
    char *path;
    struct ty_records *r;
};

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    struct ty_error err;

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-records-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->path = ty_path_join(b->dir, "records.spool");
    assert_int_equal(ty_records_open(b->path, NULL, NULL, &b->r, &err), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_records_free(b->r);
    ty_rm_rf(b->dir);
    free(b->path);
    free(b);
    return 0;
}

static uint64_t add(struct box *b, int n)
{
    return ty_records_add(b->r, json_pack("{s:s, s:i}", "kind", "x", "n", n));
}

static int sync_all(struct box *b)
{
    int r = ty_records_write(b->r);

    if (r == 0)
        ty_records_synced(b->r, ty_records_mark(b->r));
    return r;
}

/* Everything that may be sent from here on must be the numbers from..to. */
static void assert_sends(struct box *b, uint64_t from, uint64_t to)
{
    const char *json;
    uint64_t seq;
    size_t n;

    for (uint64_t i = from; i <= to; i++) {
        json_t *o;

        assert_int_equal(ty_records_peek(b->r, &seq, &json, &n), 0);
        assert_int_equal(seq, i);
        o = json_loadb(json, n, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(o, "n")), i);
        assert_true(json_integer_value(json_object_get(o, "at_us")) > 0);
        json_decref(o);
        ty_records_skip(b->r);
    }
    assert_int_equal(ty_records_peek(b->r, &seq, &json, &n), -EAGAIN);
}

static void test_only_what_is_on_disk_is_sent(void **state)
{
    struct box *b = *state;

    assert_int_equal(ty_records_next(b->r), 1);
    assert_int_equal(add(b, 1), 1);
    assert_int_equal(add(b, 2), 2);
    assert_true(ty_records_waiting(b->r));
    assert_sends(b, 1, 0);
    assert_int_equal(ty_records_write(b->r), 0);
    assert_false(ty_records_waiting(b->r));
    assert_true(ty_records_unsynced(b->r));
    assert_sends(b, 1, 0);
    ty_records_synced(b->r, ty_records_mark(b->r) + 1); /* more than there is: not believed */
    assert_sends(b, 1, 0);
    assert_int_equal(sync_all(b), 0);
    assert_false(ty_records_unsynced(b->r));
    assert_sends(b, 1, 2);
    assert_int_equal(ty_records_seek(b->r, 2), 0);
    assert_sends(b, 2, 2);
    assert_int_equal(ty_records_seek(b->r, 1), 0);
    assert_sends(b, 1, 2);
    assert_int_equal(ty_records_seek(b->r, 3), 0);
    assert_int_equal(ty_records_seek(b->r, 4), -EINVAL);
    assert_int_equal(ty_records_seek(b->r, 0), -EINVAL);
}

static void test_many(void **state)
{
    struct box *b = *state;

    for (int i = 1; i <= 5000; i++) {
        assert_int_equal(add(b, i), i);
        if (i % 37 == 0)
            assert_int_equal(sync_all(b), 0);
    }
    assert_int_equal(sync_all(b), 0);
    assert_sends(b, 1, 5000);
    assert_int_equal(ty_records_seek(b->r, 4321), 0);
    assert_sends(b, 4321, 5000);
}

#ifdef TY_FAULTS
static void test_full_disk(void **state)
{
    struct box *b = *state;

    assert_int_equal(add(b, 1), 1);
    ty_fault_arm("runner.record", 1, ENOSPC);
    assert_int_equal(sync_all(b), -ENOSPC);
    assert_true(ty_records_waiting(b->r));
    assert_int_equal(add(b, 2), 2);
    assert_int_equal(sync_all(b), 0);
    assert_sends(b, 1, 2);
}
#endif

static void test_bad_records(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *text = malloc(TY_RECORD_MAX + 1);

    memset(text, 'x', TY_RECORD_MAX);
    text[TY_RECORD_MAX] = '\0';
    assert_int_equal(ty_records_add(b->r, NULL), 0);
    assert_int_equal(ty_records_add(b->r, json_pack("{s:s}", "text", text)), 0);
    assert_int_equal(ty_records_next(b->r), 1);
}

static void count(uint64_t seq, const json_t *o, void *ctx)
{
    uint64_t *n = ctx;

    assert_int_equal(seq, ++*n);
    assert_string_equal(json_string_value(json_object_get(o, "kind")), "x");
}

static void reopen(struct box *b, uint64_t expected)
{
    struct ty_error err;
    uint64_t n = 0;

    b->r = ty_records_free(b->r);
    assert_int_equal(ty_records_open(b->path, count, &n, &b->r, &err), 0);
    assert_int_equal(n, expected);
    assert_int_equal(ty_records_next(b->r), expected + 1);
}

/* Whatever the last line was cut to, the ones before it stay and the file goes on behind them. */
static void test_torn_end(void **state)
{
    struct box *b = *state;
    struct stat two, three;
    uint64_t n = 0;

    for (int i = 1; i <= 3; i++) {
        if (i == 3) {
            assert_int_equal(sync_all(b), 0);
            assert_int_equal(stat(b->path, &two), 0);
        }
        add(b, i);
    }
    assert_int_equal(sync_all(b), 0);
    assert_int_equal(stat(b->path, &three), 0);
    reopen(b, 3);
    assert_true(
        ty_records_unsynced(b->r)); /* whoever wrote it may have died before it was synced */
    assert_int_equal(sync_all(b), 0);
    assert_sends(b, 1, 3);
    for (off_t size = three.st_size - 1; size >= two.st_size; size -= 5) {
        assert_int_equal(truncate(b->path, size), 0);
        n = 0;
        assert_int_equal(ty_records_each(b->path, count, &n), 0);
        assert_int_equal(n, 2);
        reopen(b, 2);
    }
    assert_int_equal(add(b, 3), 3);
    assert_int_equal(sync_all(b), 0);
    reopen(b, 3);
    assert_true(
        ty_records_unsynced(b->r)); /* whoever wrote it may have died before it was synced */
    assert_int_equal(sync_all(b), 0);
    assert_sends(b, 1, 3);
    assert_int_equal(ty_records_each("/no/such", count, &n), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_what_is_on_disk_is_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
#ifdef TY_FAULTS
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
#endif
        cmocka_unit_test_setup_teardown(test_bad_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_torn_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
