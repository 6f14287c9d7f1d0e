/* net_wire.c - hello, proofs and frames of lanes, as bytes */
#include "coll/net_wire.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define STRIPE_ALIGN 4096u

static const unsigned char magic[8] = {
    'T', 'y', 'L', 'a', 'n', 'e', 0, 1
}; /* the last is the version */

/* Where the parts of a hello lie; the eight bytes before the nonce are zero. */
enum { AT_FROM = 8, AT_TO = 12, AT_SIZE = 16, AT_LANE = 20, AT_ZERO = 24, AT_NONCE = 32 };

static void put(unsigned char *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t get(const unsigned char *p, int bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

void ty_lane_hello_encode(const struct ty_lane_hello *h, unsigned char out[TY_LANE_HELLO_BYTES])
{
    memset(out, 0, TY_LANE_HELLO_BYTES);
    memcpy(out, magic, sizeof magic);
    put(out + AT_FROM, h->from, 4);
    put(out + AT_TO, h->to, 4);
    put(out + AT_SIZE, h->size, 4);
    put(out + AT_LANE, h->lane, 4);
    memcpy(out + AT_NONCE, h->nonce, sizeof h->nonce);
}

int ty_lane_hello_decode(const unsigned char in[TY_LANE_HELLO_BYTES], struct ty_lane_hello *ret)
{
    struct ty_lane_hello h = {
        .from = (uint32_t)get(in + AT_FROM, 4),
        .to = (uint32_t)get(in + AT_TO, 4),
        .size = (uint32_t)get(in + AT_SIZE, 4),
        .lane = (uint32_t)get(in + AT_LANE, 4),
    };

    if (memcmp(in, magic, sizeof magic) != 0 || get(in + AT_ZERO, 8) != 0 || h.size > INT32_MAX ||
        h.from >= h.size || h.to >= h.size || h.from == h.to || h.lane > TY_NET_LANES)
        return -EBADMSG;
    memcpy(h.nonce, in + AT_NONCE, sizeof h.nonce);
    *ret = h;
    return 0;
}

/* What a proof is over: who proves, then all that both have said. */
struct proven {
    unsigned char who[8];
    unsigned char hello[TY_LANE_HELLO_BYTES];
    unsigned char nonce[TY_LANE_NONCE_BYTES];
};

static void fill_proven(struct proven *p, enum ty_lane_role who, const unsigned char *hello,
                        const unsigned char *nonce)
{
    memcpy(p->who, who == TY_LANE_OPENS ? "opens   " : "accepts ", sizeof p->who);
    memcpy(p->hello, hello, sizeof p->hello);
    memcpy(p->nonce, nonce, sizeof p->nonce);
}

void ty_lane_proof(const unsigned char key[TY_NET_KEY_BYTES], enum ty_lane_role who,
                   const unsigned char hello[TY_LANE_HELLO_BYTES],
                   const unsigned char nonce[TY_LANE_NONCE_BYTES],
                   unsigned char out[TY_LANE_PROOF_BYTES])
{
    struct proven p;

    _Static_assert(TY_LANE_PROOF_BYTES == crypto_auth_BYTES &&
                       TY_NET_KEY_BYTES == crypto_auth_KEYBYTES,
                   "the proof is a crypto_auth");
    fill_proven(&p, who, hello, nonce);
    crypto_auth(out, (const unsigned char *)&p, sizeof p, key);
}

bool ty_lane_proof_holds(const unsigned char key[TY_NET_KEY_BYTES], enum ty_lane_role who,
                         const unsigned char hello[TY_LANE_HELLO_BYTES],
                         const unsigned char nonce[TY_LANE_NONCE_BYTES],
                         const unsigned char proof[TY_LANE_PROOF_BYTES])
{
    struct proven p;

    fill_proven(&p, who, hello, nonce);
    return crypto_auth_verify(proof, (const unsigned char *)&p, sizeof p, key) == 0;
}

void ty_lane_frame_encode(uint64_t tag, uint64_t bytes, unsigned char out[TY_LANE_FRAME_BYTES])
{
    put(out, tag, 8);
    put(out + 8, bytes, 8);
}

void ty_lane_frame_decode(const unsigned char in[TY_LANE_FRAME_BYTES], uint64_t *tag,
                          uint64_t *bytes)
{
    *tag = get(in, 8);
    *bytes = get(in + 8, 8);
}

ptrdiff_t ty_lane_small_decode(const unsigned char *bytes, size_t n, struct ty_lane_small *ret)
{
    uint64_t tag, len;

    if (n < TY_LANE_FRAME_BYTES)
        return -EAGAIN;
    ty_lane_frame_decode(bytes, &tag, &len);
    if (tag > TY_NET_TAG_MAX ? tag != TY_LANE_GOODBYE || len != 0 : len > TY_NET_SMALL_BYTES)
        return -EBADMSG;
    if (n - TY_LANE_FRAME_BYTES < len)
        return -EAGAIN;
    *ret = (struct ty_lane_small){ tag, bytes + TY_LANE_FRAME_BYTES, (size_t)len };
    return (ptrdiff_t)(TY_LANE_FRAME_BYTES + len);
}

bool ty_lane_stripe(uint64_t bytes, int lane, uint64_t *at, uint64_t *len)
{
    uint64_t each = bytes;

    if (bytes >= TY_NET_STRIPE_BYTES)
        each = (bytes / TY_NET_LANES + STRIPE_ALIGN) / STRIPE_ALIGN * STRIPE_ALIGN;
    else if (lane > 0)
        return false;
    *at = each * (uint64_t)lane;
    *len = bytes - *at < each ? bytes - *at : each;
    return true;
}
