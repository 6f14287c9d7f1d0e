#include "coll/map.h"
#include "tests.h"

static void empty(void **state)
{
    struct ty_map m = { 0 };
    uint64_t v = 7;

    (void)state;
    assert_false(ty_map_get(&m, 1, &v));
    assert_int_equal(v, 7);
    ty_map_remove(&m, 1);
    ty_map_clear(&m);
    assert_int_equal(m.used, 0);
    ty_map_done(&m);
}

static void put_get_remove(void **state)
{
    struct ty_map m = { 0 };
    uint64_t v;

    (void)state;
    assert_int_equal(ty_map_reserve(&m), 0);
    ty_map_put(&m, 5, 50);
    ty_map_put(&m, 5, 51);
    assert_int_equal(m.used, 1);
    assert_true(ty_map_get(&m, 5, &v));
    assert_int_equal(v, 51);
    ty_map_remove(&m, 6);
    assert_int_equal(m.used, 1);
    ty_map_remove(&m, 5);
    assert_false(ty_map_get(&m, 5, &v));
    ty_map_put(&m, 5, 52);
    ty_map_clear(&m);
    assert_false(ty_map_get(&m, 5, &v));
    assert_int_equal(m.used, 0);
    ty_map_done(&m);
    assert_int_equal(m.size, 0);
}

/* Against a plain table, with many removals: whatever is in stays reachable. */
static void random_changes(void **state)
{
    static uint64_t plain[2000]; /* value of key i + 1; 0: absent */
    struct ty_map m = { 0 };
    uint64_t seed = 1, v;
    size_t used = 0;

    (void)state;
    for (int k = 0; k < 200000; k++) {
        /* Phases of growing and of shrinking. */
        bool add = tests_random(&seed) % 100 < (k / 20000 % 2 ? 30u : 70u);
        uint64_t i = tests_random(&seed) % 2000, key = (i + 1) << (i % 3 * 20);

        if (add) {
            assert_int_equal(ty_map_reserve(&m), 0);
            used += plain[i] == 0;
            plain[i] = tests_random(&seed) + 1u;
            ty_map_put(&m, key, plain[i]);
        } else {
            used -= plain[i] != 0;
            plain[i] = 0;
            ty_map_remove(&m, key);
        }
        assert_int_equal(m.used, used);
        i = tests_random(&seed) % 2000;
        assert_int_equal(ty_map_get(&m, (i + 1) << (i % 3 * 20), &v), plain[i] != 0);
        if (plain[i])
            assert_int_equal(v, plain[i]);
    }
    for (uint64_t i = 0; i < 2000; i++)
        assert_int_equal(ty_map_get(&m, (i + 1) << (i % 3 * 20), &v) ? v : 0, plain[i]);
    assert_true(m.used * 2 <= m.size);
    ty_map_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),
        cmocka_unit_test(put_get_remove),
        cmocka_unit_test(random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
