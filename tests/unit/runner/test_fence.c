/* test_fence.c - fences: who comes when, in what order the blobs stand, and what is refused */
#include "base/fault.h"
#include "base/str.h"
#include "runner/fence.h"
#include "runner/pmix_wire.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int add(struct ty_fences *f, int node, const char *key, uint32_t parts, const char *blob,
               struct ty_fence_joined *ret)
{
    return ty_fences_add(f, node, key, strlen(key), parts, blob, strlen(blob), ret);
}

static void test_joined_in_the_order_of_nodes(void **state)
{
    struct ty_fences *f = ty_fences_new(3);
    struct ty_fence_joined j = { 0 };

    (void)state;
    assert_int_equal(add(f, 2, "*/1", 3, "cc", &j), 0);
    assert_int_equal(add(f, 0, "*/1", 3, "a", &j), 0);
    assert_int_equal(ty_fences_open(f), 1);
    assert_int_equal(add(f, 1, "*/1", 3, "bbb", &j), 1);
    assert_string_equal(j.key, "*/1");
    assert_int_equal(j.len, 6);
    assert_memory_equal(j.blob, "abbbcc", 6);
    assert_int_equal(j.nnodes, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(j.nodes[i], i);
    assert_int_equal(ty_fences_open(f), 0);
    assert_null(ty_fences_free(f));
}

static void test_several_at_once(void **state)
{
    struct ty_fences *f = ty_fences_new(4);
    struct ty_fence_joined j = { 0 };

    (void)state;
    assert_int_equal(add(f, 3, "0-3/1", 2, "x", &j), 0);
    assert_int_equal(add(f, 0, "0-3/10", 2, "", &j), 0); /* the other's key is a part of it */
    assert_int_equal(ty_fences_open(f), 2);
    assert_int_equal(add(f, 1, "0-3/10", 2, "", &j), 1);
    assert_int_equal(j.len, 0);
    assert_non_null(j.blob);
    assert_int_equal(add(f, 2, "0-3/1", 2, "w", &j), 1);
    assert_memory_equal(j.blob, "wx", 2);
    assert_int_equal(j.nodes[0], 2);
    assert_int_equal(j.nodes[1], 3);
    assert_int_equal(add(f, 1, "one/1", 1, "alone", &j), 1);
    assert_memory_equal(j.blob, "alone", 5);
    ty_fences_free(f);
}

static void test_refusals(void **state)
{
    struct ty_fences *f = ty_fences_new(2);
    char long_key[TY_PMIX_KEY_MAX + 2] = "";
    struct ty_fence_joined j = { .nnodes = -1 };

    (void)state;
    memset(long_key, 'k', sizeof long_key - 1);
    assert_int_equal(add(f, 2, "a", 2, "", &j), -EINVAL);
    assert_int_equal(add(f, -1, "a", 2, "", &j), -EINVAL);
    assert_int_equal(add(f, 0, "a", 3, "", &j), -EINVAL);
    assert_int_equal(add(f, 0, "a", 0, "", &j), -EINVAL);
    assert_int_equal(add(f, 0, "", 2, "", &j), -EINVAL);
    assert_int_equal(add(f, 0, long_key, 2, "", &j), -EINVAL);
    assert_int_equal(ty_fences_add(f, 0, "a\0b", 3, 2, "", 0, &j), -EINVAL);
    assert_int_equal(add(f, 0, "a", 2, "", &j), 0);
    assert_int_equal(add(f, 0, "a", 2, "", &j), -EEXIST);
    assert_int_equal(add(f, 1, "a", 1, "", &j), -EINVAL); /* another number of nodes than before */
    assert_int_equal(ty_fences_open(f), 1);
    assert_int_equal(j.nnodes, -1);
    assert_int_equal(add(f, 1, "a", 2, "", &j), 1);
    ty_fences_free(f);
    ty_fences_free(NULL);
}

static void test_limits(void **state)
{
    struct ty_fences *f = ty_fences_new(2);
    struct ty_fence_joined j;
    char key[16];

    (void)state;
    for (int i = 0; i < TY_FENCES_OPEN_MAX; i++) {
        snprintf(key, sizeof key, "%d", i);
        assert_int_equal(add(f, 0, key, 2, "", &j), 0);
    }
    assert_int_equal(add(f, 0, "more", 2, "", &j), -ENOSPC);
    assert_int_equal(add(f, 1, "17", 2, "", &j), 1);
    assert_int_equal(add(f, 0, "more", 2, "", &j), 0);
    assert_int_equal(ty_fences_add(f, 1, "0", 1, 2, key, TY_FENCES_BYTES_MAX + 1, &j), -ENOSPC);
    ty_fences_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_joined_in_the_order_of_nodes),
                                        cmocka_unit_test(test_several_at_once),
                                        cmocka_unit_test(test_refusals),
                                        cmocka_unit_test(test_limits) };

    return cmocka_run_group_tests_name("fence", tests, NULL, NULL);
}
