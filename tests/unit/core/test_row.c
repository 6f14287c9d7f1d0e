/* test_row.c - rows to bytes and back, and bytes that are no rows */
#include "core/row.h"
#include "tests.h"

static struct ty_row make(enum ty_row_kind kind, const char *name, const void *value, size_t n)
{
    return (struct ty_row){ .kind = kind,
                            .step = TY_ROW_NO_STEP,
                            .at_us = 1780000000000000,
                            .name = name,
                            .name_len = strlen(name),
                            .value = value,
                            .value_len = n };
}

static void round_trip(const struct ty_row *row)
{
    size_t size = ty_row_size(row);
    unsigned char *bytes = malloc(size);
    struct ty_row back;

    assert_non_null(bytes);
    memset(bytes, 0xee, size);
    assert_int_equal(size % 8, 0);
    assert_int_equal(ty_row_encode(row, bytes), 0);
    assert_int_equal(ty_row_decode(bytes, size, &back), size);
    assert_int_equal(back.kind, row->kind);
    assert_int_equal(back.step, row->step);
    assert_int_equal(back.at_us, row->at_us);
    assert_int_equal(back.name_len, row->name_len);
    assert_memory_equal(back.name, row->name, row->name_len);
    assert_int_equal(back.value_len, row->value_len);
    if (row->value_len)
        assert_memory_equal(back.value, row->value, row->value_len);
    for (size_t n = 0; n<size; n += size> 4096 ? 997 : 1) {
        unsigned char *cut = tests_tight(bytes, n);

        assert_int_equal(ty_row_decode(cut, n, &back), -EAGAIN);
        free(cut);
    }
    free(bytes);
}

static void test_round_trips(void **state)
{
    double d = -0.5;
    int64_t i = INT64_MIN;
    char *name = malloc(TY_ROW_NAME_MAX + 1), *value = malloc(TY_ROW_VALUE_MAX);
    struct ty_row row;

    (void)state;
    memset(name, 'n', TY_ROW_NAME_MAX);
    name[TY_ROW_NAME_MAX] = 0;
    memset(value, 'v', TY_ROW_VALUE_MAX);
    row = make(TY_ROW_DOUBLE, "loss", &d, sizeof d);
    row.step = 17;
    round_trip(&row);
    row = make(TY_ROW_INT, "n", &i, sizeof i);
    round_trip(&row);
    row = make(TY_ROW_TEXT, "w", "", 0);
    round_trip(&row);
    row = make(TY_ROW_TEXT, "na\xff\xfeve", "\xe2\0\xac", 3);
    round_trip(&row);
    row = make(TY_ROW_TABLE, name, value, TY_ROW_VALUE_MAX);
    round_trip(&row);
    for (int kind = TY_ROW_TEXT; kind < TY_ROW_KIND_COUNT; kind++) {
        row = make((enum ty_row_kind)kind, "key", "[1, 2]", 6);
        round_trip(&row);
    }
    free(name);
    free(value);
}

/* What row.h draws, byte by byte. */
static void test_bytes(void **state)
{
    static const unsigned char want[48] = {
        48,  0,   0,   0,   TY_ROW_TEXT, 0,   4,   0,   2,   1, 0, 0, 0, 0, 0, 0x80,
        3,   0,   0,   0,   0,           0,   0,   0,   5,   0, 0, 0, 0, 0, 0, 0,
        'n', 'a', 'm', 'e', 'v',         'a', 'l', 'u', 'e', 0, 0, 0, 0, 0, 0, 0,
    };
    struct ty_row row = { .kind = TY_ROW_TEXT,
                          .step = INT64_MIN + 258,
                          .at_us = 3,
                          .name = "name",
                          .name_len = 4,
                          .value = "value",
                          .value_len = 5 };
    unsigned char got[sizeof want];

    (void)state;
    assert_int_equal(ty_row_size(&row), sizeof want);
    assert_int_equal(ty_row_encode(&row, got), 0);
    assert_memory_equal(got, want, sizeof want);
}

static void test_encode_refuses(void **state)
{
    char *long_text = calloc(1, TY_ROW_VALUE_MAX + 2);
    unsigned char out[64];
    struct ty_row bad[] = {
        make(TY_ROW_PAD, "n", "", 0),
        make(TY_ROW_KIND_COUNT, "n", "", 0),
        make(TY_ROW_TEXT, "", "v", 1),
        make(TY_ROW_DOUBLE, "n", "1234567", 7),
        make(TY_ROW_INT, "n", "123456789", 9),
        make(TY_ROW_TEXT, "n", long_text, TY_ROW_VALUE_MAX + 1),
        make(TY_ROW_TEXT, long_text, "", 0),
    };

    (void)state;
    memset(long_text, 'a', TY_ROW_VALUE_MAX + 1);
    bad[6].name_len = TY_ROW_NAME_MAX + 1;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_row_encode(&bad[i], out), -EINVAL);
    free(long_text);
}

static void test_decode_refuses(void **state)
{
    static const struct {
        int at;
        unsigned char byte;
    } changes[] = {
        { 0, 0 },   { 0, 24 },
        { 0, 47 },  { 0, 56 },
        { 3, 1 },   { 4, TY_ROW_KIND_COUNT },
        { 4, 255 }, { 4, TY_ROW_DOUBLE },
        { 5, 1 },   { 6, 0 },
        { 6, 20 },  { 7, 255 },
        { 24, 0 },  { 27, 255 },
        { 28, 1 },  { 31, 1 },
    };
    struct ty_row row = make(TY_ROW_TEXT, "name", "value", 5), back = { .at_us = 77 };
    unsigned char bytes[48];

    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        assert_int_equal(ty_row_encode(&row, bytes), 0);
        bytes[changes[i].at] = changes[i].byte;
        if (ty_row_decode(bytes, sizeof bytes, &back) != -EBADMSG)
            fail_msg("byte %d as %d", changes[i].at, changes[i].byte);
        assert_int_equal(back.at_us, 77);
    }
}

static void test_pad(void **state)
{
    unsigned char bytes[64] = { 64, 0, 0, 0, TY_ROW_PAD };
    struct ty_row row;

    (void)state;
    assert_int_equal(ty_row_decode(bytes, sizeof bytes, &row), 64);
    assert_int_equal(row.kind, TY_ROW_PAD);
    assert_int_equal(row.name_len, 0);
    assert_int_equal(row.value_len, 0);
    bytes[2] = 0x10; /* 1 MiB and 64 bytes */
    assert_int_equal(ty_row_decode(bytes, sizeof bytes, &row), -EBADMSG);
    bytes[0] = 0; /* 1 MiB */
    assert_int_equal(ty_row_decode(bytes, sizeof bytes, &row), -EAGAIN);
}

/* Any bytes: the answer is one of three, and a row lies inside what was given.  Half of them begin as a good row. */
static void test_random(void **state)
{
    struct ty_row row = make(TY_ROW_TEXT, "name", "value", 5);
    uint64_t seed = 7;
    int good = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        unsigned char bytes[80];
        size_t n = tests_random(&seed) % (sizeof bytes + 1);
        unsigned char *p;
        struct ty_row back;
        ptrdiff_t r;

        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (unsigned char)tests_random(&seed);
        if (i % 2) {
            assert_int_equal(ty_row_encode(&row, bytes), 0);
            bytes[tests_random(&seed) % 48] = (unsigned char)tests_random(&seed);
        }
        p = tests_tight(bytes, n);
        r = ty_row_decode(p, n, &back);
        if (r > 0) {
            assert_true((size_t)r <= n && r % 8 == 0);
            assert_in_range(back.kind, 0, TY_ROW_KIND_COUNT - 1);
            assert_ptr_equal(back.name, p + TY_ROW_HEAD);
            assert_true(TY_ROW_HEAD + back.name_len + back.value_len <= (size_t)r);
            good++;
        } else {
            assert_true(r == -EAGAIN || r == -EBADMSG);
        }
        free(p);
    }
    assert_in_range(good, 1000, 100000);
}

static void test_words(void **state)
{
    (void)state;
    assert_string_equal(ty_row_kind_word(TY_ROW_PAD), "pad");
    assert_string_equal(ty_row_kind_word(TY_ROW_DOUBLE), "double");
    assert_string_equal(ty_row_kind_word(TY_ROW_PROPERTY), "property");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_encode_refuses),
        cmocka_unit_test(test_decode_refuses),
        cmocka_unit_test(test_pad),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
