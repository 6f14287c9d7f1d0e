/* test_unit.c - the memory of a unit: what it was given is copied, and a failure sticks */
#include "kit.h"
#include "store/store_internal.h"

struct op_probe {
    struct op op;
    const char *text;
    const void *bytes;
};

static int apply(struct ty_store *st, const struct op *op)
{
    (void)st;
    (void)op;
    return 0;
}

static void test_texts_are_copied(void **state)
{
    struct ty_unit *u = ty_unit_new();
    struct op_probe *first, *last = NULL;
    char text[] = "given", big[9000];

    (void)state;
    memset(big, 'b', sizeof big);
    first = unit_op(u, sizeof *first, apply);
    first->text = unit_text(u, text);
    first->bytes = unit_bytes(u, big, sizeof big);
    for (int i = 0; i < 1000; i++) {
        last = unit_op(u, sizeof *last, apply);
        assert_null(last->text); /* zeroed */
        last->text = unit_text(u, text);
    }
    text[0] = '?';
    big[0] = big[8999] = '?';
    assert_string_equal(first->text, "given");
    assert_string_equal(last->text, "given");
    assert_int_equal(((const char *)first->bytes)[0], 'b');
    assert_int_equal(((const char *)first->bytes)[8999], 'b');
    assert_int_equal((uintptr_t)last % 16, 0);
    assert_null(unit_text(u, NULL));
    assert_ptr_equal(u->head, first);
    assert_ptr_equal(*u->tail, NULL);
    ty_unit_free(u);
    ty_unit_free(NULL);
}

static void test_a_failure_sticks(void **state)
{
    struct ty_unit *u = ty_unit_new();

    (void)state;
    unit_failed(u);
    assert_null(unit_op(u, sizeof(struct op_probe), apply));
    assert_null(u->head);
    assert_null(unit_op(NULL, sizeof(struct op_probe), apply));
    unit_failed(NULL);
    ty_unit_free(u);
}

/* NULL units and failed ones are accepted everywhere and told once. */
static void test_units_without_memory(void **state)
{
    struct kit *k = *state;
    struct ty_run run = TY_RUN_INIT;
    int r[40];
    struct ty_unit *u = ty_unit_new();
    struct ty_run_row row = { .name = "x", .experiment = "e", .run = TY_RUN_INIT };

    ty_unit_run_add(NULL, &row);
    ty_unit_event(NULL, 1, 1, 1, "warned", NULL, &run);
    ty_unit_log(NULL, 1, "x", "y", 0, "z", 1, 2);
    ty_unit_rows(NULL, 1, 0, 0, 0, "", 0);
    ty_unit_target_put(NULL, "t", "{}", 1);
    ty_unit_target_delete(NULL, "t");
    ty_unit_snapshot_put(NULL, "s", 1, 1, 1);
    ty_unit_snapshots_prune(NULL, 1, NULL);
    ty_unit_datastore_put(NULL, "d", "file", "{}", 1);
    ty_unit_run_delete(NULL, 1);
    ty_unit_record_next(NULL, 1, 1);
    for (int i = 0; i < 40; i++) { /* more than there are spares */
        r[i] = NOT_YET;
        ty_store_commit(k->st, NULL, kit_done, &r[i]);
    }
    for (int i = 0; i < 40; i++) {
        kit_pump(k, &r[i]);
        assert_int_equal(r[i], -ENOMEM);
    }
    assert_int_equal(ty_store_failed(k->st),
                     -ENOMEM); /* later units may rest on it: the caller reads again */
    assert_int_equal(ty_store_resume(k->st), 0);
    ty_unit_target_put(u, "t", "{}", 1);
    assert_int_equal(kit_commit(k, u), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_copied),
        cmocka_unit_test(test_a_failure_sticks),
        cmocka_unit_test_setup_teardown(test_units_without_memory, kit_setup, kit_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
