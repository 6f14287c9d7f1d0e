/* test_md5.c - MD5 against RFC 1321 and against itself */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/md5.h"
#include <errno.h>
#include <string.h>

static void check(const char *text, const char *expected)
{
    uint8_t sum[TY_MD5_BYTES];
    char hex[TY_MD5_HEX + 1];

    ty_md5(text, strlen(text), sum);
    assert_string_equal(ty_md5_hex(sum, hex), expected);
}

/* RFC 1321, A.5 */
static void test_published(void **state)
{
    (void)state;
    check("", "d41d8cd98f00b204e9800998ecf8427e");
    check("a", "0cc175b9c0f1b6a831c399e269772661");
    check("abc", "900150983cd24fb0d6963f7d28e17f72");
    check("message digest", "f96b697d7cb7938d525a2f31aaf161d0");
    check("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b");
    check("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
          "d174ab98d277d9f5a5611c2c9f419d9f");
    check("1234567890123456789012345678901234567890123456789012345678901234567890"
          "1234567890",
          "57edf4a22be3c955ac49da2e2107b67a");
}

/* However the bytes come, one sum or two, the result is the same. */
static void test_in_pieces(void **state)
{
    static uint8_t bytes[1000];
    uint8_t whole[16], a[16], b[16];
    struct ty_md5 one, two;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t n = 0; n <= sizeof bytes; n += n < 200 ? 1 : 37) {
        ty_md5(bytes, n, whole);
        for (size_t step = 1; step < 150; step += 9) {
            ty_md5_begin(&one);
            ty_md5_begin(&two);
            for (size_t at = 0; at < n; at += step)
                ty_md5_add_two(&one, &two, bytes + at, n - at < step ? n - at : step);
            ty_md5_end(&one, a);
            ty_md5_end(&two, b);
            assert_memory_equal(a, whole, 16);
            assert_memory_equal(b, whole, 16);
        }
    }
    ty_md5_begin(&one); /* sums that do not begin together */
    ty_md5_begin(&two);
    ty_md5_add(&one, bytes, 10);
    ty_md5_add_two(&one, &two, bytes + 10, 500);
    ty_md5_end(&one, a);
    ty_md5(bytes, 510, whole);
    assert_memory_equal(a, whole, 16);
    ty_md5_end(&two, b);
    ty_md5(bytes + 10, 500, whole);
    assert_memory_equal(b, whole, 16);
}

/* Bytes of their own, also where the sums do not begin together. */
static void test_pair(void **state)
{
    static uint8_t x[700], y[700];
    uint8_t a[16], b[16], whole[16];
    struct ty_md5 one, two;

    (void)state;
    for (size_t i = 0; i < sizeof x; i++)
        x[i] = (uint8_t)(i * 3), y[i] = (uint8_t)(i * 5 + 1);
    for (size_t first = 0; first < 70; first += 7) {
        ty_md5_begin(&one);
        ty_md5_begin(&two);
        ty_md5_add(&one, x, first);
        ty_md5_add_pair(&one, x + first, &two, y, 600);
        ty_md5_end(&one, a);
        ty_md5_end(&two, b);
        ty_md5(x, first + 600, whole);
        assert_memory_equal(a, whole, 16);
        ty_md5(y, 600, whole);
        assert_memory_equal(b, whole, 16);
    }
}

/* One to eight sums, whatever their length, also where one of them begins in the middle of a block. */
static void test_lanes(void **state)
{
    static uint8_t bytes[TY_MD5_LANES][1000];
    struct ty_md5 sums[TY_MD5_LANES], *at[TY_MD5_LANES];
    const void *from[TY_MD5_LANES];
    uint8_t got[16], whole[16];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i / 1000][i % 1000] = (uint8_t)(i * 7 + i / 251);
    for (unsigned n = 1; n <= TY_MD5_LANES; n++)
        for (size_t each = 0; each < 900; each += 13)
            for (size_t first = 0; first < 100; first += 64 + 10) {
                for (unsigned l = 0; l < n; l++) {
                    at[l] = &sums[l];
                    ty_md5_begin(&sums[l]);
                    if (l == n - 1)
                        ty_md5_add(&sums[l], bytes[l], first);
                    from[l] = bytes[l] + (l == n - 1 ? first : 0);
                }
                ty_md5_add_lanes(at, from, n, each / 2); /* and once more, from there */
                for (unsigned l = 0; l < n; l++)
                    from[l] = (const uint8_t *)from[l] + each / 2;
                ty_md5_add_lanes(at, from, n, each - each / 2);
                for (unsigned l = 0; l < n; l++) {
                    ty_md5_end(&sums[l], got);
                    ty_md5(bytes[l], each + (l == n - 1 ? first : 0), whole);
                    assert_memory_equal(got, whole, 16);
                }
            }
}

static void test_texts(void **state)
{
    uint8_t sum[16], again[16];
    char text[25];

    (void)state;
    ty_md5("abc", 3, sum);
    assert_string_equal(ty_md5_base64(sum, text), "kAFQmDzST7DWlj99KOF/cg==");
    assert_int_equal(ty_md5_from_base64(text, again), 0);
    assert_memory_equal(sum, again, 16);
    memset(again, 0, sizeof again);
    assert_int_equal(ty_md5_parse("900150983CD24FB0d6963f7d28e17f72", again), 0);
    assert_memory_equal(sum, again, 16);
    assert_int_equal(ty_md5_parse("900150983cd24fb0d6963f7d28e17f7", again), -EINVAL);
    assert_int_equal(ty_md5_parse("900150983cd24fb0d6963f7d28e17f72-2", again), -EINVAL);
    assert_int_equal(ty_md5_parse("z00150983cd24fb0d6963f7d28e17f72", again), -EINVAL);
    assert_int_equal(ty_md5_from_base64("kAFQmDzST7DWlj99KOF/", again), -EINVAL);
    assert_int_equal(ty_md5_from_base64("!", again), -EINVAL);
    assert_memory_equal(sum, again, 16); /* untouched by what is none */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published), cmocka_unit_test(test_in_pieces),
        cmocka_unit_test(test_pair),      cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
