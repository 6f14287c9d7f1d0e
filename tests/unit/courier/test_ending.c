/* The end that no runner can tell: told once, and kept for the next courier. */
#include "base/fs.h"
#include "base/str.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char target[] = "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}]}";

/* The first word counts, lies on disk, and is what the next courier tells. */
static void test_end(void **state)
{
    struct kit k;
    json_t *kept;

    (void)state;
    kit_begin(&k, "/tmp", 1, target);
    assert_true(ty_courier_end_load(&k.c) < 0);
    assert_int_equal(k.c.phase, TY_COURIER_PREPARING);
    ty_courier_end(&k.c, "node_lost", "h1", "host 'h1' said \xff\xfe");
    ty_courier_end(&k.c, "cancel", NULL, "another");
    assert_int_equal(k.c.phase, TY_COURIER_TELLING);
    assert_string_equal(json_string_value(json_object_get(k.c.verdict, "reason")), "node_lost");
    assert_string_equal(json_string_value(json_object_get(k.c.verdict, "node")), "h1");
    assert_non_null(strstr(json_string_value(json_object_get(k.c.verdict, "message")), "said "));
    kept = k.c.verdict;
    k.c.verdict = NULL;
    k.c.phase = TY_COURIER_PREPARING;
    assert_int_equal(ty_courier_end_load(&k.c), 0);
    assert_true(json_equal(kept, k.c.verdict));
    assert_int_equal(k.c.phase, TY_COURIER_TELLING);
    assert_true(k.c.voice.wanted);
    json_decref(kept);
    kit_end(&k);
}

/* What lies there and is no verdict, is none. */
static void test_no_end(void **state)
{
    static const char *const bad[] = { "", "{\"kind\": \"exi", "[]", "7" };
    struct kit k;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_FREE char *path = NULL;

        kit_begin(&k, "/tmp", 1, target);
        path = ty_path_join(k.c.dir, "verdict");
        assert_int_equal(ty_write_file(path, bad[i], strlen(bad[i]), 0600), 0);
        assert_true(ty_courier_end_load(&k.c) < 0);
        assert_null(k.c.verdict);
        assert_int_equal(k.c.phase, TY_COURIER_PREPARING);
        kit_end(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_no_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
