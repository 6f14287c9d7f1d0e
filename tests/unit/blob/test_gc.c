/* test_gc.c - what is old and not live goes; everything else stays */
#include "base/fault.h"
#include "blob/gc.h"
#include "kit.h"

#define HOUR 3600

struct world {
    const char *live; /* one blob */
    struct ty_blobs *touch;
    int asked;
};

static bool is_live(const char *sha, void *ctx)
{
    struct world *w = ctx;

    w->asked++;
    if (w->touch)
        assert_true(ty_blob_has(w->touch, sha)); /* somebody refers to it at this very moment */
    return w->live && strcmp(sha, w->live) == 0;
}

static void age_all(void)
{
    CLEANUP_FREE char *a = ty_strf("%s", BLOB_HELLO);

    make_old(a, 2 * HOUR);
}

static int enter(void **state)
{
    struct ty_blobs *b;
    char sha[TY_SHA256_HEX + 1];

    if (tests_enter(state) < 0)
        return -1;
    b = open_store();
    put_text(b, "hello", sha);
    *state = b;
    return 0;
}

static int leave(void **state)
{
    ty_blobs_free(*state);
    return tests_leave(state);
}

static void collect(struct ty_blobs *b, struct world *w, struct ty_gc_report *report)
{
    struct ty_error err = { 0 };

    assert_int_equal(ty_gc(b, HOUR, is_live, w, report, &err), 0);
}

static void test_young_ones_stay(void **state)
{
    struct world w = { 0 };
    struct ty_gc_report r;

    collect(*state, &w, &r);
    assert_int_equal(w.asked, 0);
    assert_true(r.kept == 1 && r.kept_bytes == 5 && r.removed == 0 && r.removed_bytes == 0);
}

static void test_old_ones_go_unless_they_are_live(void **state)
{
    struct world w = { .live = SHA_HELLO };
    struct ty_gc_report r;

    age_all();
    collect(*state, &w, &r);
    assert_int_equal(w.asked, 1);
    assert_int_equal(r.kept, 1);
    assert_true(ty_blob_bytes(*state, SHA_HELLO) == 5);
    age_all();
    w.live = NULL;
    collect(*state, &w, &r);
    assert_true(r.kept == 0 && r.removed == 1 && r.removed_bytes == 5);
    assert_int_equal(ty_blob_bytes(*state, SHA_HELLO), -ENOENT);
    assert_int_equal(files_below("store/tmp"), 0);
}

static void test_one_that_is_touched_meanwhile_stays(void **state)
{
    struct world w = { .touch = *state };
    struct ty_gc_report r;

    age_all();
    collect(*state, &w, &r);
    assert_int_equal(w.asked, 1);
    assert_true(r.kept == 1 && r.removed == 0);
    assert_true(ty_blob_bytes(*state, SHA_HELLO) == 5);
    assert_int_equal(files_below("store/tmp"), 0);
}

static void test_leftovers_go(void **state)
{
    struct world w = { .live = SHA_HELLO };
    struct ty_gc_report r;

    tests_put("store/tmp/old", "123");
    make_old("store/tmp/old", 2 * HOUR);
    tests_put("store/tmp/young", "12");
    tests_put("store/notes.txt", "of somebody else");
    make_old("store/notes.txt", 2 * HOUR);
    collect(*state, &w, &r);
    assert_true(r.removed == 1 && r.removed_bytes == 3 && r.kept == 2);
    assert_int_equal(access("store/tmp/young", F_OK), 0);
    assert_int_equal(access("store/notes.txt", F_OK), 0);
}

#ifdef TY_FAULTS
static void test_one_that_cannot_be_removed(void **state)
{
    struct world w = { 0 };
    struct ty_gc_report r;
    struct ty_error err = { 0 };

    age_all();
    ty_fault_arm("gc.remove", 1, EROFS);
    assert_int_equal(ty_gc(*state, HOUR, is_live, &w, &r, &err), -EROFS);
    ty_fault_arm("none", 0, 0);
    assert_non_null(strstr(err.text, "'store'"));
    assert_int_equal(r.kept, 1);
    assert_true(ty_blob_bytes(*state, SHA_HELLO) == 5);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_young_ones_stay, enter, leave),
        cmocka_unit_test_setup_teardown(test_old_ones_go_unless_they_are_live, enter, leave),
        cmocka_unit_test_setup_teardown(test_one_that_is_touched_meanwhile_stays, enter, leave),
        cmocka_unit_test_setup_teardown(test_leftovers_go, enter, leave),
#ifdef TY_FAULTS
        cmocka_unit_test_setup_teardown(test_one_that_cannot_be_removed, enter, leave),
#endif
    };

    return cmocka_run_group_tests_name("gc", tests, NULL, NULL);
}
