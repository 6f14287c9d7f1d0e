/* test_wire.c - frames to bytes and back, and bytes that are no frames */
#include "base/fault.h"
#include "core/wire.h"
#include "tests.h"

/* One frame of each type, with everything that it can carry. */
static const struct ty_frame frames[] = {
    { .type = TY_FRAME_HELLO, .body = "{\"a\":1}", .body_len = 7 },
    { .type = TY_FRAME_RECORD, .seq = UINT64_MAX, .body = "{}", .body_len = 2 },
    { .type = TY_FRAME_LOG,
      .seq = 1ull << 40,
      .name = "azureml-logs/x",
      .name_len = 14,
      .body = "line\n\0\xff",
      .body_len = 7 },
    { .type = TY_FRAME_ROWS,
      .writer = 0xfffffffe,
      .seq = 258,
      .count = 65536,
      .body = "rows",
      .body_len = 4 },
    { .type = TY_FRAME_PING },
    { .type = TY_FRAME_WELCOME, .body = "{}", .body_len = 2 },
    { .type = TY_FRAME_RECORD_ACK, .seq = 9 },
    { .type = TY_FRAME_LOG_ACK, .seq = 10, .name = "n", .name_len = 1 },
    { .type = TY_FRAME_ROWS_ACK, .writer = 3, .seq = 11 },
    { .type = TY_FRAME_CANCEL },
    { .type = TY_FRAME_PONG },
    { .type = TY_FRAME_REFUSED, .body = "{}", .body_len = 2 },
    { .type = TY_FRAME_RELEASE },
    { .type = TY_FRAME_WANT, .seq = 1 << 18, .name = "abcdef", .name_len = 6 },
    { .type = TY_FRAME_BLOB,
      .seq = 1,
      .name = "ab",
      .name_len = 2,
      .body = "bytes",
      .body_len = 5 },
    { .type = TY_FRAME_FENCE,
      .count = 3,
      .name = "0+1",
      .name_len = 3,
      .body = "x",
      .body_len = 1 },
    { .type = TY_FRAME_GO, .body = "{}", .body_len = 2 },
    { .type = TY_FRAME_END, .count = 1000 },
    { .type = TY_FRAME_FENCED, .name = "0+1", .name_len = 3, .body = "xy", .body_len = 2 },
};
enum { FRAMES = sizeof frames / sizeof *frames };

static void assert_same(const struct ty_frame *a, const struct ty_frame *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->writer, b->writer);
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->name_len, b->name_len);
    if (a->name_len)
        assert_memory_equal(a->name, b->name, a->name_len);
    assert_int_equal(a->body_len, b->body_len);
    if (a->body_len)
        assert_memory_equal(a->body, b->body, a->body_len);
}

static void test_round_trips(void **state)
{
    CLEANUP_STR struct ty_str all = { 0 };
    struct ty_frame back;
    size_t at = 0;

    (void)state;
#define X(name, value) +1
    assert_int_equal(FRAMES, TY_FRAMES(X));
#undef X
    for (int i = 0; i < FRAMES; i++)
        assert_int_equal(ty_frame_encode(&frames[i], &all), 0);
    for (int i = 0; i < FRAMES; i++) {
        ptrdiff_t used = ty_frame_decode(all.text + at, all.len - at, &back);

        assert_true(used >= TY_WIRE_HEAD);
        assert_same(&back, &frames[i]);
        for (size_t n = 0; n < (size_t)used; n++) {
            char *cut = tests_tight(all.text + at, n);

            assert_int_equal(ty_frame_decode(cut, n, &back), -EAGAIN);
            free(cut);
        }
        at += (size_t)used;
    }
    assert_int_equal(at, all.len);
}

/* What wire.h says, byte by byte. */
static void test_bytes(void **state)
{
    static const unsigned char rows[] = { 20, 0, 0, 0, 4, 0xfe, 0xff, 0xff, 0xff, 2,   1,   0,  0,
                                          0,  0, 0, 0, 0, 0,    1,    0,    'r',  'o', 'w', 's' };
    static const unsigned char ack[] = { 11, 0, 0, 0, 67, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'n' };
    CLEANUP_STR struct ty_str out = { 0 };

    (void)state;
    assert_int_equal(ty_frame_encode(&frames[3], &out), 0);
    assert_int_equal(out.len, sizeof rows);
    assert_memory_equal(out.text, rows, sizeof rows);
    ty_str_done(&out);
    assert_int_equal(ty_frame_encode(&frames[7], &out), 0);
    assert_int_equal(out.len, sizeof ack);
    assert_memory_equal(out.text, ack, sizeof ack);
}

static void test_encode_limits(void **state)
{
    CLEANUP_STR struct ty_str out = { 0 };
    char *bytes = calloc(1, TY_WIRE_PAYLOAD_MAX + 1);
    struct ty_frame f = { .type = TY_FRAME_WELCOME,
                          .body = bytes,
                          .body_len = TY_WIRE_PAYLOAD_MAX },
                    back;

    (void)state;
    assert_int_equal(ty_frame_encode(&f, &out), 0);
    assert_int_equal(ty_frame_decode(out.text, out.len, &back), TY_WIRE_HEAD + TY_WIRE_PAYLOAD_MAX);
    assert_int_equal(back.body_len, TY_WIRE_PAYLOAD_MAX);
    ty_str_done(&out);

    f.body_len++;
    assert_int_equal(ty_frame_encode(&f, &out), -EINVAL);
    f.body_len = SIZE_MAX;
    assert_int_equal(ty_frame_encode(&f, &out), -EINVAL);
    f = (struct ty_frame){ .type = TY_FRAME_RECORD,
                           .body = bytes,
                           .body_len = TY_WIRE_PAYLOAD_MAX - 7 };
    assert_int_equal(ty_frame_encode(&f, &out), -EINVAL);
    f = (struct ty_frame){ .type = TY_FRAME_LOG, .name = bytes, .name_len = 65536 };
    assert_int_equal(ty_frame_encode(&f, &out), -EINVAL);
    f = (struct ty_frame){ .type = TY_FRAME_PING, .body = "x", .body_len = 1 };
    assert_int_equal(ty_frame_encode(&f, &out), -EINVAL);
    f = (struct ty_frame){ .type = (enum ty_frame_type)99 };
    assert_int_equal(ty_frame_encode(&f, &out), -EINVAL);
    assert_int_equal(out.len, 0);
    free(bytes);
}

static void test_decode_refuses(void **state)
{
    static const struct {
        unsigned char bytes[24];
        size_t n;
    } bad[] = {
        { { 0, 0, 0, 0, 0 }, 5 },         /* no such type */
        { { 0, 0, 0, 0, 6 }, 5 },         /* no such type */
        { { 1, 0, 16, 0, 1 }, 5 },        /* one byte over the limit: known from the head alone */
        { { 255, 255, 255, 255, 1 }, 5 }, /* 4 GiB */
        { { 7, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7 }, 12 }, /* a RECORD without its whole number */
        { { 9, 0, 0, 0, 3 }, 5 },                       /* a LOG without its name's length */
        { { 10, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0 }, 15 }, /* a name beyond the payload */
        { { 11, 0, 0, 0, 67, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 'n' }, 16 },
        { { 1, 0, 0, 0, 5, 'x' }, 6 },                           /* a PING with a body */
        { { 9, 0, 0, 0, 66, 0, 0, 0, 0, 0, 0, 0, 0, 'x' }, 14 }, /* a RECORD_ACK with a body */
    };
    struct ty_frame back = { .writer = 77 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        unsigned char *p = tests_tight(bad[i].bytes, bad[i].n);

        if (ty_frame_decode(p, bad[i].n, &back) != -EBADMSG)
            fail_msg("case %zu is taken for a frame", i);
        assert_int_equal(back.writer, 77);
        free(p);
    }
}

/* Any bytes: the answer is one of three, and the parts lie inside what was given. */
static void test_random(void **state)
{
    uint64_t seed = 11;
    int good = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        unsigned char bytes[48];
        size_t n = tests_random(&seed) % (sizeof bytes + 1);
        struct ty_frame f;
        unsigned char *p;
        ptrdiff_t r;

        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (unsigned char)tests_random(&seed);
        if (i % 4) { /* a head that may be one */
            bytes[0] %= 44;
            bytes[1] = bytes[2] = bytes[3] = 0;
            bytes[4] = (unsigned char)frames[bytes[4] % FRAMES].type;
            bytes[14] = 0;
        }
        p = tests_tight(bytes, n);
        r = ty_frame_decode(p, n, &f);
        if (r > 0) {
            const unsigned char *body = f.body;

            assert_true((size_t)r <= n);
            assert_true(!f.name || ((const unsigned char *)f.name >= p &&
                                    (const unsigned char *)f.name + f.name_len <= p + r));
            assert_true(body >= p && body + f.body_len == p + r);
            good++;
        } else {
            assert_true(r == -EAGAIN || r == -EBADMSG);
        }
        free(p);
    }
    assert_in_range(good, 1000, 150000);
}

#ifdef TY_FAULTS
static void test_out_of_memory(void **state)
{
    CLEANUP_STR struct ty_str out = { 0 };

    (void)state;
    ty_fault_arm("str.alloc", 1, ENOMEM);
    assert_int_equal(ty_frame_encode(&frames[2], &out), -ENOMEM);
    ty_fault_arm(NULL, 0, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),   cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_encode_limits), cmocka_unit_test(test_decode_refuses),
        cmocka_unit_test(test_random),
#ifdef TY_FAULTS
        cmocka_unit_test(test_out_of_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
