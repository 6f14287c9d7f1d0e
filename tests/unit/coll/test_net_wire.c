/* test_net_wire.c - hello, proofs, frames and stripes as bytes */
#include "coll/net_wire.h"
#include "tests.h"
#include <sodium.h>

static const unsigned char key[TY_NET_KEY_BYTES] = "a key of thirty-two bytes, just.";
static const struct ty_lane_hello good = {
    .from = 3, .to = 1, .size = 4, .lane = 2, .nonce = { 7, 8, 9 }
};

static void test_hello(void **state)
{
    unsigned char bytes[TY_LANE_HELLO_BYTES];
    struct ty_lane_hello h = { 0 };

    (void)state;
    ty_lane_hello_encode(&good, bytes);
    assert_memory_equal(bytes, "TyLane\0\1\3\0\0\0\1\0\0\0\4\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\7\10\11",
                        35);
    assert_int_equal(ty_lane_hello_decode(bytes, &h), 0);
    assert_memory_equal(&h, &good, sizeof h);
}

static void refuse(size_t at, unsigned char value)
{
    unsigned char bytes[TY_LANE_HELLO_BYTES];
    struct ty_lane_hello h = { .from = 99 };

    ty_lane_hello_encode(&good, bytes);
    assert_int_not_equal(bytes[at], value);
    bytes[at] = value;
    assert_int_equal(ty_lane_hello_decode(bytes, &h), -EBADMSG);
    assert_int_equal(h.from, 99);
}

static void test_no_hello(void **state)
{
    (void)state;
    refuse(0, 't');
    refuse(7, 2);     /* another version */
    refuse(8, 4);     /* from beyond the world */
    refuse(8, 1);     /* to itself */
    refuse(12, 4);    /* to beyond the world */
    refuse(19, 0x80); /* a world of more than 2^31 */
    refuse(20, TY_NET_LANES + 1);
    refuse(31, 1); /* what is zero */
}

static void test_proofs(void **state)
{
    unsigned char hello[TY_LANE_HELLO_BYTES], nonce[TY_LANE_NONCE_BYTES] = { 1 },
                                              proof[TY_LANE_PROOF_BYTES];
    unsigned char other_key[TY_NET_KEY_BYTES];

    (void)state;
    ty_lane_hello_encode(&good, hello);
    ty_lane_proof(key, TY_LANE_OPENS, hello, nonce, proof);
    assert_true(ty_lane_proof_holds(key, TY_LANE_OPENS, hello, nonce, proof));
    assert_false(ty_lane_proof_holds(key, TY_LANE_ACCEPTS, hello, nonce, proof));
    memcpy(other_key, key, sizeof other_key);
    other_key[31] ^= 1;
    assert_false(ty_lane_proof_holds(other_key, TY_LANE_OPENS, hello, nonce, proof));
    nonce[31] ^= 1;
    assert_false(ty_lane_proof_holds(key, TY_LANE_OPENS, hello, nonce, proof));
    nonce[31] ^= 1;
    hello[8] ^= 1;
    assert_false(ty_lane_proof_holds(key, TY_LANE_OPENS, hello, nonce, proof));
    hello[8] ^= 1;
    proof[0] ^= 1;
    assert_false(ty_lane_proof_holds(key, TY_LANE_OPENS, hello, nonce, proof));
}

static void test_frames(void **state)
{
    unsigned char bytes[TY_LANE_FRAME_BYTES];
    uint64_t tag, len;

    (void)state;
    ty_lane_frame_encode(0x0102030405060708u, 0x1112131415161718u, bytes);
    assert_memory_equal(bytes, "\10\7\6\5\4\3\2\1\30\27\26\25\24\23\22\21", sizeof bytes);
    ty_lane_frame_decode(bytes, &tag, &len);
    assert_true(tag == 0x0102030405060708u && len == 0x1112131415161718u);
}

static void test_small(void **state)
{
    unsigned char bytes[TY_LANE_FRAME_BYTES + TY_NET_SMALL_BYTES + 1] = { 0 };
    struct ty_lane_small m = { 0 };

    (void)state;
    ty_lane_frame_encode(TY_NET_TAG_MAX, TY_NET_SMALL_BYTES, bytes);
    for (size_t n = 0; n < sizeof bytes - 1; n++) {
        unsigned char *tight = tests_tight(bytes, n);

        assert_int_equal(ty_lane_small_decode(tight, n, &m), -EAGAIN);
        free(tight);
    }
    assert_int_equal(ty_lane_small_decode(bytes, sizeof bytes, &m), sizeof bytes - 1);
    assert_true(m.tag == TY_NET_TAG_MAX && m.len == TY_NET_SMALL_BYTES &&
                m.bytes == bytes + TY_LANE_FRAME_BYTES);
    ty_lane_frame_encode(TY_LANE_GOODBYE, 0, bytes);
    assert_int_equal(ty_lane_small_decode(bytes, sizeof bytes, &m), TY_LANE_FRAME_BYTES);
    ty_lane_frame_encode(TY_LANE_GOODBYE, 1, bytes);
    assert_int_equal(ty_lane_small_decode(bytes, sizeof bytes, &m), -EBADMSG);
    ty_lane_frame_encode(TY_LANE_WELCOME, 0, bytes);
    assert_int_equal(ty_lane_small_decode(bytes, sizeof bytes, &m), -EBADMSG);
    ty_lane_frame_encode(5, TY_NET_SMALL_BYTES + 1, bytes);
    assert_int_equal(ty_lane_small_decode(bytes, sizeof bytes, &m), -EBADMSG);
}

/* Every byte is in one stripe, in order. */
static void test_stripes(void **state)
{
    static const uint64_t sizes[] = { 0,
                                      1,
                                      TY_NET_STRIPE_BYTES - 1,
                                      TY_NET_STRIPE_BYTES,
                                      TY_NET_STRIPE_BYTES + 1,
                                      50000001,
                                      (uint64_t)5 << 40,
                                      UINT64_MAX };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t at = 0, len = 0, next = 0;
        int k = 0;

        for (; k < TY_NET_LANES && ty_lane_stripe(sizes[i], k, &at, &len); k++) {
            assert_true(at == next);
            assert_true(len > 0 || sizes[i] == 0);
            next = at + len;
        }
        assert_true(next == sizes[i]);
        assert_int_equal(k, sizes[i] < TY_NET_STRIPE_BYTES ? 1 : TY_NET_LANES);
    }
}

static int start(void **state)
{
    (void)state;
    return sodium_init() < 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),  cmocka_unit_test(test_no_hello),
        cmocka_unit_test(test_proofs), cmocka_unit_test(test_frames),
        cmocka_unit_test(test_small),  cmocka_unit_test(test_stripes),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
