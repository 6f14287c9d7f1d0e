/* md5.c - RFC 1321, for one sum, for two, or for eight at once
 *
 * Each step of MD5 waits for the one before it, so that a core could do twice as much: two sums are
 * run side by side.  What waits longest, the word that was made last, is taken last into each addition.
 * Eight sums lie in the lanes of vectors, one step of all of them being one instruction or two.  The loops over steps
 * and lanes are unrolled by the compiler, which turns the tables into constants.
 */
#include "data/md5.h"
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define BLOCK 64

static const uint32_t sines[64] = {
    // clang-format off
    0xd76aa478u, 0xe8c7b756u, 0x242070dbu, 0xc1bdceeeu, 0xf57c0fafu, 0x4787c62au,
    0xa8304613u, 0xfd469501u, 0x698098d8u, 0x8b44f7afu, 0xffff5bb1u, 0x895cd7beu,
    0x6b901122u, 0xfd987193u, 0xa679438eu, 0x49b40821u, 0xf61e2562u, 0xc040b340u,
    0x265e5a51u, 0xe9b6c7aau, 0xd62f105du, 0x02441453u, 0xd8a1e681u, 0xe7d3fbc8u,
    0x21e1cde6u, 0xc33707d6u, 0xf4d50d87u, 0x455a14edu, 0xa9e3e905u, 0xfcefa3f8u,
    0x676f02d9u, 0x8d2a4c8au, 0xfffa3942u, 0x8771f681u, 0x6d9d6122u, 0xfde5380cu,
    0xa4beea44u, 0x4bdecfa9u, 0xf6bb4b60u, 0xbebfbc70u, 0x289b7ec6u, 0xeaa127fau,
    0xd4ef3085u, 0x04881d05u, 0xd9d4d039u, 0xe6db99e5u, 0x1fa27cf8u, 0xc4ac5665u,
    0xf4292244u, 0x432aff97u, 0xab9423a7u, 0xfc93a039u, 0x655b59c3u, 0x8f0ccc92u,
    0xffeff47du, 0x85845dd1u, 0x6fa87e4fu, 0xfe2ce6e0u, 0xa3014314u, 0x4e0811a1u,
    0xf7537e82u, 0xbd3af235u, 0x2ad7d2bbu, 0xeb86d391u
    // clang-format on
};
static const uint8_t turns[4][4] = {
    { 7, 12, 17, 22 }, { 5, 9, 14, 20 }, { 4, 11, 16, 23 }, { 6, 10, 15, 21 }
};

/* For words and for vectors of them. */
#define MIX(round, b, c, d) \
    ((round) == 0   ? (d) ^ ((b) & ((c) ^ (d))) \
     : (round) == 1 ? ((c) & ~(d)) + ((b) & (d)) \
     : (round) == 2 ? (b) ^ (c) ^ (d) \
                    : (c) ^ ((b) | ~(d)))

static inline __attribute__((always_inline)) int word_of(int step)
{
    switch (step / 16) {
    case 0:
        return step;
    case 1:
        return (5 * step + 1) % 16;
    case 2:
        return (3 * step + 5) % 16;
    default:
        return 7 * step % 16;
    }
}

/* `lanes` is a constant where this is called; each has bytes of its own. */
static inline __attribute__((always_inline)) void run(uint32_t *const *state, int lanes,
                                                      const uint8_t *const *bytes, size_t blocks)
{
    uint32_t a[2], b[2], c[2], d[2], w[2][16];

    for (size_t n = 0; n < blocks; n++) {
        for (int l = 0; l < lanes; l++) /* little endian, as this machine is */
            memcpy(w[l], bytes[l] + n * BLOCK, sizeof w[l]);
        for (int l = 0; l < lanes; l++)
            a[l] = state[l][0], b[l] = state[l][1], c[l] = state[l][2], d[l] = state[l][3];
#pragma GCC unroll 64
        for (int i = 0; i < 64; i++)
#pragma GCC unroll 2
            for (int l = 0; l < lanes; l++) {
                uint32_t f = a[l] + w[l][word_of(i)] + sines[i] + MIX(i / 16, b[l], c[l], d[l]);
                int turn = turns[i / 16][i % 4];

                a[l] = d[l], d[l] = c[l], c[l] = b[l];
                b[l] += (f << turn) | (f >> (32 - turn));
            }
        for (int l = 0; l < lanes; l++)
            state[l][0] += a[l], state[l][1] += b[l], state[l][2] += c[l], state[l][3] += d[l];
    }
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are loaded as they lie in memory");

static void run_one(struct ty_md5 *m, const uint8_t *p, size_t blocks)
{
    uint32_t *state[1] = { m->state };

    run(state, 1, &p, blocks);
}

static void run_two(struct ty_md5 *a, const uint8_t *p, struct ty_md5 *b, const uint8_t *q,
                    size_t blocks)
{
    uint32_t *state[2] = { a->state, b->state };
    const uint8_t *bytes[2] = { p, q };

    run(state, 2, bytes, blocks);
}

/* ---- eight at once ---- */

typedef uint32_t vec __attribute__((vector_size(4 * TY_MD5_LANES)));
typedef uint32_t quad __attribute__((vector_size(16)));

static inline __attribute__((always_inline)) quad load(const uint8_t *p)
{
    quad q;

    memcpy(&q, p, sizeof q);
    return q;
}

/* Four words of four lanes, turned so that each row is one word of all of them. */
static inline __attribute__((always_inline)) void turn_four(const uint8_t *const *bytes, size_t at,
                                                            uint32_t (*w)[TY_MD5_LANES])
{
    quad a = load(bytes[0] + at), b = load(bytes[1] + at);
    quad c = load(bytes[2] + at), d = load(bytes[3] + at);
    quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
         cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    quad low = __builtin_shufflevector(ab, cd, 0, 1, 4, 5),
         next = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);

    memcpy(w[0], &low, sizeof low);
    memcpy(w[1], &next, sizeof next);
    ab = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    low = __builtin_shufflevector(ab, cd, 0, 1, 4, 5),
    next = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    memcpy(w[2], &low, sizeof low);
    memcpy(w[3], &next, sizeof next);
}

/* state[k]: word k of all lanes. */
static inline __attribute__((always_inline)) void
run_vec(uint32_t (*state)[TY_MD5_LANES], const uint8_t *const *bytes, size_t blocks)
{
    uint32_t w[16][TY_MD5_LANES] __attribute__((aligned(sizeof(vec))));
    vec was[4], a, b, c, d;

    memcpy(was, state, sizeof was);
    for (size_t n = 0; n < blocks; n++) {
        for (size_t k = 0; k < 16; k += 4)
            for (size_t l = 0; l < TY_MD5_LANES; l += 4)
                turn_four(bytes + l, n * BLOCK + 4 * k, (uint32_t(*)[TY_MD5_LANES]) & w[k][l]);
        a = was[0], b = was[1], c = was[2], d = was[3];
#pragma GCC unroll 64
        for (int i = 0; i < 64; i++) {
            int turn = turns[i / 16][i % 4];
            vec f;

            memcpy(&f, w[word_of(i)], sizeof f);
            f += a + sines[i] + MIX(i / 16, b, c, d);
            a = d, d = c, c = b;
            b += (f << turn) | (f >> (32 - turn));
        }
        was[0] += a, was[1] += b, was[2] += c, was[3] += d;
    }
    memcpy(state, was, sizeof was);
}

void ty_md5_begin(struct ty_md5 *m)
{
    *m = (struct ty_md5){ .state = { 0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u } };
}

void ty_md5_add(struct ty_md5 *m, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    size_t have = m->bytes % BLOCK;

    if (n == 0)
        return;
    m->bytes += n;
    if (have > 0) {
        size_t take = n < BLOCK - have ? n : BLOCK - have;

        memcpy(m->rest + have, p, take);
        if (have + take < BLOCK)
            return;
        run_one(m, m->rest, 1);
        p += take;
        n -= take;
    }
    run_one(m, p, n / BLOCK);
    memcpy(m->rest, p + n / BLOCK * BLOCK, n % BLOCK);
}

void ty_md5_add_pair(struct ty_md5 *a, const void *p, struct ty_md5 *b, const void *q, size_t n)
{
    size_t whole = n / BLOCK * BLOCK;

    if (a->bytes % BLOCK == 0 && b->bytes % BLOCK == 0 && whole > 0) {
        run_two(a, p, b, q, whole / BLOCK);
        a->bytes += whole;
        b->bytes += whole;
    } else {
        whole = 0;
    }
    ty_md5_add(a, (const uint8_t *)p + whole, n - whole);
    ty_md5_add(b, (const uint8_t *)q + whole, n - whole);
}

void ty_md5_add_two(struct ty_md5 *a, struct ty_md5 *b, const void *bytes, size_t n)
{
    ty_md5_add_pair(a, bytes, b, bytes, n);
}

/* Lanes without a sum of their own run the first one's bytes. */
static void run_lanes(struct ty_md5 *const *sums, const void *const *bytes, unsigned n,
                      size_t blocks)
{
    uint32_t state[4][TY_MD5_LANES] = { 0 };
    const uint8_t *from[TY_MD5_LANES];

    for (unsigned l = 0; l < TY_MD5_LANES; l++) {
        from[l] = bytes[l < n ? l : 0];
        for (int k = 0; k < 4; k++)
            state[k][l] = sums[l < n ? l : 0]->state[k];
    }
    run_vec(state, from, blocks);
    for (unsigned l = 0; l < n; l++) {
        for (int k = 0; k < 4; k++)
            sums[l]->state[k] = state[k][l];
        sums[l]->bytes += blocks * BLOCK;
    }
}

void ty_md5_add_lanes(struct ty_md5 *const *sums, const void *const *bytes, unsigned n, size_t each)
{
    size_t whole = each / BLOCK * BLOCK;

    for (unsigned l = 0; l < n; l++)
        if (sums[l]->bytes % BLOCK != 0)
            whole = 0;
    if (n > 2 && whole > 0)
        run_lanes(sums, bytes, n, whole / BLOCK);
    else if (n == 2)
        ty_md5_add_pair(sums[0], bytes[0], sums[1], bytes[1], whole);
    else
        whole = 0;
    for (unsigned l = 0; l < n; l++)
        ty_md5_add(sums[l], (const uint8_t *)bytes[l] + whole, each - whole);
}

void ty_md5_end(struct ty_md5 *m, uint8_t sum[TY_MD5_BYTES])
{
    uint64_t bits = m->bytes * 8;
    uint8_t tail[BLOCK + 8] = { 0x80 };
    size_t have = m->bytes % BLOCK, pad = have < 56 ? 56 - have : 120 - have;

    memcpy(tail + pad, &bits, sizeof bits);
    ty_md5_add(m, tail, pad + sizeof bits);
    memcpy(sum, m->state, TY_MD5_BYTES);
}

void ty_md5(const void *bytes, size_t n, uint8_t sum[TY_MD5_BYTES])
{
    struct ty_md5 m;

    ty_md5_begin(&m);
    ty_md5_add(&m, bytes, n);
    ty_md5_end(&m, sum);
}

char *ty_md5_hex(const uint8_t sum[TY_MD5_BYTES], char *hex)
{
    return sodium_bin2hex(hex, TY_MD5_HEX + 1, sum, TY_MD5_BYTES);
}

int ty_md5_parse(const char *hex, uint8_t sum[TY_MD5_BYTES])
{
    uint8_t got[TY_MD5_BYTES];
    size_t n;

    if (strlen(hex) != TY_MD5_HEX ||
        sodium_hex2bin(got, sizeof got, hex, TY_MD5_HEX, NULL, &n, NULL) < 0 || n != sizeof got)
        return -EINVAL;
    memcpy(sum, got, sizeof got);
    return 0;
}

char *ty_md5_base64(const uint8_t sum[TY_MD5_BYTES], char text[25])
{
    return sodium_bin2base64(text, 25, sum, TY_MD5_BYTES, sodium_base64_VARIANT_ORIGINAL);
}

int ty_md5_from_base64(const char *text, uint8_t sum[TY_MD5_BYTES])
{
    uint8_t got[TY_MD5_BYTES];
    size_t n;

    if (sodium_base642bin(got, sizeof got, text, strlen(text), NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) < 0 ||
        n != sizeof got)
        return -EINVAL;
    memcpy(sum, got, sizeof got);
    return 0;
}
