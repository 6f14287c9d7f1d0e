/* test_pmix_wire.c - frames between the runner and the PMIx helper, whole, in pieces and broken */
#include "runner/pmix_wire.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const unsigned types[] = {
#define X(name, value) value,
    TY_PMIX_FRAMES(X)
#undef X
};

static struct ty_pmix_frame sample(unsigned type)
{
    bool fence = type == TY_PMIX_FENCE || type == TY_PMIX_FENCE_DONE;

    return (struct ty_pmix_frame){ .type = type,
                                   .nodes = fence ? 70000 : 0,
                                   .key = fence ? "0-3,7/12" : NULL,
                                   .key_len = fence ? 8 : 0,
                                   .body = "a\0b",
                                   .body_len = 3 };
}

static void test_there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct ty_pmix_frame in = sample(types[i]), out = { 0 };
        CLEANUP_STR struct ty_str s = { 0 };

        assert_int_equal(ty_pmix_encode(&in, &s), 0);
        for (size_t n = 0; n < s.len; n++)
            assert_int_equal(ty_pmix_decode(s.text, n, &out), -EAGAIN);
        assert_int_equal(ty_pmix_decode(s.text, s.len, &out), s.len);
        assert_int_equal(out.type, in.type);
        assert_int_equal(out.nodes, in.nodes);
        assert_int_equal(out.key_len, in.key_len);
        if (in.key)
            assert_memory_equal(out.key, in.key, in.key_len);
        assert_int_equal(out.body_len, 3);
        assert_memory_equal(out.body, "a\0b", 3);
    }
}

static void test_what_cannot_be_said(void **state)
{
    struct ty_pmix_frame f = sample(TY_PMIX_FENCE);
    CLEANUP_STR struct ty_str s = { 0 };

    (void)state;
    f.key_len = 0;
    assert_int_equal(ty_pmix_encode(&f, &s), -EINVAL);
    f.key_len = TY_PMIX_KEY_MAX + 1;
    assert_int_equal(ty_pmix_encode(&f, &s), -EINVAL);
    f = sample(TY_PMIX_FENCE);
    f.nodes = 0;
    assert_int_equal(ty_pmix_encode(&f, &s), -EINVAL);
    f = sample(TY_PMIX_READY);
    f.body_len = (size_t)TY_PMIX_PAYLOAD_MAX + 1;
    assert_int_equal(ty_pmix_encode(&f, &s), -EINVAL);
    f = sample(200);
    assert_int_equal(ty_pmix_encode(&f, &s), -EINVAL);
    assert_int_equal(s.len, 0);
}

static void test_what_is_no_frame(void **state)
{
    static const struct {
        unsigned char bytes[16];
        size_t n;
    } bad[] = {
        { { 0, 0, 0, 0, 0 }, 5 },                                      /* no type */
        { { 0, 0, 0, 0, 200 }, 5 },                                    /* no such type */
        { { 1, 0, 0, 16, TY_PMIX_READY }, 5 },                         /* too long */
        { { 4, 0, 0, 0, TY_PMIX_FENCE, 1, 0, 0, 0 }, 9 },              /* ends before its key */
        { { 5, 0, 0, 0, TY_PMIX_FENCE, 1, 0, 0, 0, 0 }, 10 },          /* empty key */
        { { 6, 0, 0, 0, TY_PMIX_FENCE, 1, 0, 0, 0, 2, 'k' }, 11 },     /* key beyond the end */
        { { 6, 0, 0, 0, TY_PMIX_FENCE_DONE, 0, 0, 0, 0, 1, 'k' }, 11 } /* of no node */
    };
    struct ty_pmix_frame f = { .nodes = 5 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_pmix_decode(bad[i].bytes, bad[i].n, &f), -EBADMSG);
    assert_int_equal(f.nodes, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_there_and_back),
                                        cmocka_unit_test(test_what_cannot_be_said),
                                        cmocka_unit_test(test_what_is_no_frame) };

    return cmocka_run_group_tests_name("pmix_wire", tests, NULL, NULL);
}
