/* rendezvous_wire.c - the bytes of a rendezvous: hello, frames, messages
 *
 * Both sides make a fresh X25519 key pair for each connection.  A proof is a MAC, under a key made from the secret, over
 * both public keys and the word for its side: it cannot be repeated on another connection, sent back to its maker, or
 * made by somebody in the middle.  The keys of the frames come from the exchange of these pairs, so that what was
 * recorded cannot be read later even by one who learns the secret.
 */
#include "base/bytes.h"
#include "base/fault.h"
#include "coll/rendezvous.h"
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define MAGIC "TyRdv\r\n\1" /* the last byte is the version */
#define MAGIC_BYTES 8
#define HEAD 10 /* type, a, b, bytes of the key */
#define SEAL crypto_aead_chacha20poly1305_ietf_ABYTES

static_assert(TY_RDV_KEY == crypto_auth_KEYBYTES && TY_RDV_PROOF_BYTES == crypto_auth_BYTES,
              "crypto_auth");
static_assert(crypto_kx_PUBLICKEYBYTES == 32 && crypto_kx_SECRETKEYBYTES == 32 &&
                  crypto_kx_SESSIONKEYBYTES == 32 &&
                  crypto_aead_chacha20poly1305_ietf_KEYBYTES == 32,
              "sizes of keys");
static_assert(TY_RDV_FRAME_MAX == HEAD + TY_RDV_NAME_MAX + TY_RDV_VALUE_MAX + SEAL,
              "room for the largest message");

/* ---- hello ---- */

int ty_rdv_side_init(struct ty_rdv_side *s, const char *secret)
{
    static const char use[] = "trainyard rendezvous 1";

    if (FAULT("rdv.random", -1, sodium_init()) < 0)
        return -EIO;
    crypto_generichash(s->secret, sizeof s->secret, (const unsigned char *)secret, strlen(secret),
                       (const unsigned char *)use, sizeof use - 1);
    crypto_kx_keypair(s->pk, s->sk);
    return 0;
}

void ty_rdv_greet(const struct ty_rdv_side *server, unsigned char greeting[TY_RDV_GREETING_BYTES])
{
    memcpy(greeting, MAGIC, MAGIC_BYTES);
    memcpy(greeting + MAGIC_BYTES, server->pk, 32);
}

static void prove(const unsigned char secret[TY_RDV_KEY], const char *side,
                  const unsigned char server_pk[32], const unsigned char client_pk[32],
                  unsigned char proof[TY_RDV_PROOF_BYTES])
{
    unsigned char text[6 + 32 + 32];

    memcpy(text, side, 6);
    memcpy(text + 6, server_pk, 32);
    memcpy(text + 38, client_pk, 32);
    crypto_auth(proof, text, sizeof text, secret);
}

int ty_rdv_hello(const struct ty_rdv_side *client,
                 const unsigned char greeting[TY_RDV_GREETING_BYTES],
                 unsigned char hello[TY_RDV_HELLO_BYTES])
{
    if (memcmp(greeting, MAGIC, MAGIC_BYTES - 1) != 0)
        return -EPROTO;
    if (greeting[MAGIC_BYTES - 1] != MAGIC[MAGIC_BYTES - 1])
        return -EPROTONOSUPPORT;
    memcpy(hello, MAGIC, MAGIC_BYTES);
    memcpy(hello + MAGIC_BYTES, client->pk, 32);
    prove(client->secret, "client", greeting + MAGIC_BYTES, client->pk,
          hello + TY_RDV_GREETING_BYTES);
    return 0;
}

bool ty_rdv_hello_begins(const unsigned char *hello, size_t n)
{
    return memcmp(hello, MAGIC, n < MAGIC_BYTES ? n : MAGIC_BYTES) == 0;
}

int ty_rdv_accept(const struct ty_rdv_side *server, const unsigned char hello[TY_RDV_HELLO_BYTES],
                  unsigned char proof[TY_RDV_PROOF_BYTES], struct ty_rdv_keys *ret)
{
    const unsigned char *client_pk = hello + MAGIC_BYTES;
    unsigned char want[TY_RDV_PROOF_BYTES];
    struct ty_rdv_keys k = { 0 };

    prove(server->secret, "client", server->pk, client_pk, want);
    if (!ty_rdv_hello_begins(hello, MAGIC_BYTES) ||
        sodium_memcmp(want, hello + TY_RDV_GREETING_BYTES, sizeof want) != 0 ||
        crypto_kx_server_session_keys(k.rx, k.tx, server->pk, server->sk, client_pk) < 0)
        return -EACCES;
    prove(server->secret, "server", server->pk, client_pk, proof);
    *ret = k;
    return 0;
}

int ty_rdv_confirm(const struct ty_rdv_side *client,
                   const unsigned char greeting[TY_RDV_GREETING_BYTES],
                   const unsigned char proof[TY_RDV_PROOF_BYTES], struct ty_rdv_keys *ret)
{
    const unsigned char *server_pk = greeting + MAGIC_BYTES;
    unsigned char want[TY_RDV_PROOF_BYTES];
    struct ty_rdv_keys k = { 0 };

    prove(client->secret, "server", server_pk, client->pk, want);
    if (sodium_memcmp(want, proof, sizeof want) != 0 ||
        crypto_kx_client_session_keys(k.rx, k.tx, client->pk, client->sk, server_pk) < 0)
        return -EACCES;
    *ret = k;
    return 0;
}

/* ---- messages ---- */

/* What a kind of message carries besides a and b. */
static const struct {
    bool known, key;
    size_t value_max;
} kinds[] = {
    [TY_RDV_JOIN] = { .known = true },
    [TY_RDV_PUT] = { .known = true, .key = true, .value_max = TY_RDV_VALUE_MAX },
    [TY_RDV_FENCE] = { .known = true },
    [TY_RDV_JOINED] = { .known = true },
    [TY_RDV_REFUSED] = { .known = true, .value_max = 512 },
    [TY_RDV_VALUE] = { .known = true, .key = true, .value_max = TY_RDV_VALUE_MAX },
    [TY_RDV_FENCED] = { .known = true },
    [TY_RDV_MISSING] = { .known = true, .value_max = 2 * TY_RDV_MISSING_MAX * 4 },
    [TY_RDV_GONE] = { .known = true },
};

static uint32_t named(uint32_t n)
{
    return n < TY_RDV_MISSING_MAX ? n : TY_RDV_MISSING_MAX;
}

int ty_rdv_decode(const void *bytes, size_t n, struct ty_rdv_message *ret)
{
    const unsigned char *p = bytes;
    struct ty_rdv_message m = { 0 };
    size_t key_len;

    if (n < HEAD || p[0] >= sizeof kinds / sizeof *kinds || !kinds[p[0]].known)
        return -EPROTO;
    m.type = (enum ty_rdv_type)p[0];
    m.a = ty_get_u32(p + 1);
    m.b = ty_get_u32(p + 5);
    key_len = p[9];
    if (key_len > TY_RDV_NAME_MAX || key_len > n - HEAD || (key_len > 0) != kinds[p[0]].key ||
        memchr(p + HEAD, 0, key_len))
        return -EPROTO;
    memcpy(m.key, p + HEAD, key_len);
    m.value = p + HEAD + key_len;
    m.value_len = n - HEAD - key_len;
    if (m.value_len > kinds[p[0]].value_max)
        return -EPROTO;
    if (m.type == TY_RDV_MISSING && m.value_len != 4 * (size_t)(named(m.a) + named(m.b)))
        return -EPROTO;
    *ret = m;
    return 0;
}

void ty_rdv_encode(const struct ty_rdv_message *m, struct ty_str *out)
{
    unsigned char head[HEAD] = { (unsigned char)m->type };
    size_t key_len = strlen(m->key);

    ty_put_u32(head + 1, m->a);
    ty_put_u32(head + 5, m->b);
    head[9] = (unsigned char)key_len;
    ty_str_addn(out, head, sizeof head);
    ty_str_addn(out, m->key, key_len);
    ty_str_addn(out, m->value, m->value_len);
}

/* ---- frames ---- */

/* Each direction has a key of its own and each frame its number as nonce: none can be repeated, left out or moved. */
static void nonce_of(uint64_t number,
                     unsigned char nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
    memset(nonce, 0, crypto_aead_chacha20poly1305_ietf_NPUBBYTES);
    ty_put_u32(nonce, (uint32_t)number);
    ty_put_u32(nonce + 4, (uint32_t)(number >> 32));
}

void ty_rdv_seal(struct ty_rdv_keys *k, const struct ty_rdv_message *m, struct ty_str *out)
{
    static const char room[SEAL];
    unsigned char nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES], head[4];
    unsigned char *at;
    size_t start = out->len, n;

    n = HEAD + strlen(m->key) + m->value_len;
    ty_put_u32(head, (uint32_t)(n + SEAL));
    ty_str_addn(out, head, sizeof head);
    ty_rdv_encode(m, out);
    ty_str_addn(out, room, sizeof room);
    if (out->failed)
        return;
    nonce_of(k->sent++, nonce);
    at = (unsigned char *)out->text + start;
    crypto_aead_chacha20poly1305_ietf_encrypt(at + 4, NULL, at + 4, n, at, 4, NULL, nonce, k->tx);
}

ptrdiff_t ty_rdv_open(struct ty_rdv_keys *k, unsigned char *bytes, size_t n,
                      struct ty_rdv_message *ret)
{
    unsigned char nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    size_t len;
    int r;

    if (n < 4)
        return 0;
    len = ty_get_u32(bytes);
    if (len < SEAL || len > TY_RDV_FRAME_MAX)
        return -EPROTO;
    if (n - 4 < len)
        return 0;
    nonce_of(k->received, nonce);
    if (crypto_aead_chacha20poly1305_ietf_decrypt(bytes + 4, NULL, NULL, bytes + 4, len, bytes, 4,
                                                  nonce, k->rx) < 0)
        return -EBADMSG;
    k->received++;
    r = ty_rdv_decode(bytes + 4, len - SEAL, ret);
    return r < 0 ? r : (ptrdiff_t)(4 + len);
}
