#include "coll/arena.h"
#include "tests.h"

#define SIZE (1 << 20)

static void first_fit(void **state)
{
    unsigned char *base = aligned_alloc(64, SIZE), *p, *q, *r;
    struct ty_arena a;

    (void)state;
    memset(base, 0, SIZE);
    ty_arena_init(&a, base, SIZE);
    p = ty_arena_take(&a, 0);
    q = ty_arena_take(&a, 100);
    r = ty_arena_take(&a, 64);
    assert_ptr_equal(p, base);
    assert_ptr_equal(q, base + 64);
    assert_ptr_equal(r, base + 192);
    assert_true(ty_arena_has(&a, p) && ty_arena_has(&a, base + SIZE - 1));
    assert_false(ty_arena_has(&a, base + SIZE) || ty_arena_has(&a, base - 1) ||
                 ty_arena_has(&a, NULL));
    memset(q, 7, 100);
    ty_arena_give(&a, q);
    ty_arena_give(&a, q); /* twice is ignored, as is what was not taken */
    ty_arena_give(&a, q + 1);
    ty_arena_give(&a, base + SIZE + 5);
    ty_arena_give(&a, NULL);
    assert_ptr_equal(ty_arena_take(&a, 65), q); /* the same 128 bytes */
    for (int i = 0; i < 128; i++)
        assert_int_equal(q[i], 0);
    assert_null(ty_arena_take(&a, SIZE - 255));
    assert_null(ty_arena_take(&a, SIZE_MAX));
    assert_ptr_equal(ty_arena_take(&a, SIZE - 256), base + 256);
    assert_null(ty_arena_take(&a, 1));
    ty_arena_done(&a);
    free(base);
}

/* Neighbours that are free become one: all of it can be taken again. */
static void joined(void **state)
{
    unsigned char *base = aligned_alloc(64, SIZE), *p[16];
    struct ty_arena a;
    static const int orders[][4] = {
        { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 0, 2, 1, 3 }, { 1, 3, 0, 2 }
    };

    (void)state;
    memset(base, 0, SIZE);
    ty_arena_init(&a, base, SIZE);
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < 4; i++)
            assert_non_null(p[i] = ty_arena_take(&a, SIZE / 4));
        assert_null(ty_arena_take(&a, 1));
        for (int i = 0; i < 4; i++)
            ty_arena_give(&a, p[orders[k][i]]);
        assert_ptr_equal(ty_arena_take(&a, SIZE), base);
        ty_arena_give(&a, base);
    }
    ty_arena_done(&a);
    free(base);
}

/* Pieces never overlap, are aligned and zero. */
static void random_pieces(void **state)
{
    unsigned char *base = aligned_alloc(64, SIZE);
    struct {
        unsigned char *p;
        size_t n;
    } piece[200] = { { 0 } };
    struct ty_arena a;
    uint64_t seed = 3;
    int taken = 0;

    (void)state;
    memset(base, 0, SIZE);
    ty_arena_init(&a, base, SIZE);
    for (int k = 0; k < 20000; k++) {
        int i = (int)(tests_random(&seed) % 200);

        if (piece[i].p) {
            for (size_t j = 0; j < piece[i].n; j++)
                assert_int_equal(piece[i].p[j], (unsigned char)(i + 1));
            ty_arena_give(&a, piece[i].p);
            piece[i].p = NULL;
            taken--;
        } else {
            piece[i].n = tests_random(&seed) % 12000;
            piece[i].p = ty_arena_take(&a, piece[i].n);
            if (!piece[i].p) /* full */
                continue;
            taken++;
            assert_int_equal((uintptr_t)piece[i].p % 64, 0);
            for (size_t j = 0; j < piece[i].n; j++)
                assert_int_equal(piece[i].p[j], 0);
            memset(piece[i].p, i + 1, piece[i].n);
        }
    }
    assert_true(taken > 50);
    for (int i = 0; i < 200; i++)
        ty_arena_give(&a, piece[i].p);
    assert_ptr_equal(ty_arena_take(&a, SIZE), base);
    ty_arena_done(&a);
    free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_fit),
        cmocka_unit_test(joined),
        cmocka_unit_test(random_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
