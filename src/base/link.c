/* link.c - proof of the key, and messages on the wire
 *
 *   called -> caller   magic, public key
 *   caller -> called   magic, public key, header, proof of all that
 *   called -> caller   header, proof of all that
 *   both               messages: u16 bytes, ciphertext (crypto_secretstream), the length as additional data
 *
 * A proof is a MAC under the shared key over the word of its side, both public keys and the header of its direction.  The
 * keys of the messages come from the exchange of the two pairs.
 */
#include "base/link.h"
#include "base/fault.h"
#include "base/str.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "TyLink\n\1" /* the last byte is the version */
#define MAGIC_BYTES 8
#define PAIR 32
#define HEADER crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define PROOF crypto_auth_BYTES
#define GREETING_BYTES (MAGIC_BYTES + PAIR)
#define HELLO_BYTES (MAGIC_BYTES + PAIR + HEADER + PROOF)
#define ANSWER_BYTES (HEADER + PROOF)
#define HEAD 2
#define SEAL crypto_secretstream_xchacha20poly1305_ABYTES
#define MESSAGE_MAX (HEAD + TY_LINK_CHUNK + SEAL)
#define READ_MAX (2 * MESSAGE_MAX)
#define KEEP_BYTES 4096 /* a buffer up to this size stays while it is empty */

static_assert(TY_LINK_KEY == crypto_auth_KEYBYTES, "the key proves");
static_assert(PAIR == crypto_kx_PUBLICKEYBYTES && PAIR == crypto_kx_SECRETKEYBYTES &&
                  crypto_kx_SESSIONKEYBYTES == crypto_secretstream_xchacha20poly1305_KEYBYTES,
              "the pairs give the keys of the messages");
static_assert(TY_LINK_CHUNK <= UINT16_MAX, "the length has two bytes");
static_assert(TY_LINK_ADDRESS_TEXT == INET6_ADDRSTRLEN, "room for an address");

/* What is awaited. */
enum step { CONNECTED, GREETING, HELLO, ANSWER, OPEN };

typedef crypto_secretstream_xchacha20poly1305_state stream_state;

struct ty_link {
    int fd;
    enum step step;
    bool called;
    int over; /* why, once it is; 0 */
    int mute; /* why nothing can be sent any more, while what came can still be heard; 0 */
    int64_t due_us;
    unsigned char key[TY_LINK_KEY], pk[PAIR], sk[PAIR], other[PAIR];
    stream_state push, pull;
    struct ty_str out; /* encrypted; out.text[out_at..] is not sent yet */
    size_t out_at;
    unsigned char
        *in; /* in[in_at..in_len) came and is not decrypted yet; READ_MAX bytes; NULL: nothing */
    size_t in_at, in_len;
    unsigned char *plain; /* plain[plain_at..plain_len) is for ty_link_recv; NULL: nothing */
    size_t plain_at, plain_len;
    bool closed; /* by the other side */
};

int ty_link_key_parse(const char *hex, unsigned char key[TY_LINK_KEY])
{
    size_t n = 0;

    if (strlen(hex) != 2 * TY_LINK_KEY ||
        sodium_hex2bin(key, TY_LINK_KEY, hex, 2 * TY_LINK_KEY, NULL, &n, NULL) != 0 ||
        n != TY_LINK_KEY)
        return -EINVAL;
    return 0;
}

int ty_link_key_make(char hex[2 * TY_LINK_KEY + 1])
{
    unsigned char key[TY_LINK_KEY];

    if (FAULT("link.random", -1, sodium_init()) < 0)
        return -EIO;
    randombytes_buf(key, sizeof key);
    sodium_bin2hex(hex, 2 * TY_LINK_KEY + 1, key, sizeof key);
    sodium_memzero(key, sizeof key);
    return 0;
}

/* --- the proof --- */

static void prove(const struct ty_link *l, bool by_called, const unsigned char header[HEADER],
                  unsigned char proof[PROOF])
{
    const unsigned char *mine = l->pk, *other = l->other;
    unsigned char text[6 + PAIR + PAIR + HEADER], *p = text;

    memcpy(p, by_called ? "called" : "caller", 6);
    memcpy(p += 6, l->called ? mine : other, PAIR);
    memcpy(p += PAIR, l->called ? other : mine, PAIR);
    memcpy(p += PAIR, header, HEADER);
    crypto_auth(proof, text, sizeof text, l->key);
}

static void greet(struct ty_link *l)
{
    ty_str_addn(&l->out, MAGIC, MAGIC_BYTES);
    ty_str_addn(&l->out, l->pk, PAIR);
}

/* The header of this side's direction and the proof. */
static void add_proof(struct ty_link *l, const unsigned char tx[PAIR])
{
    unsigned char header[HEADER], proof[PROOF];

    crypto_secretstream_xchacha20poly1305_init_push(&l->push, header, tx);
    prove(l, l->called, header, proof);
    ty_str_addn(&l->out, header, HEADER);
    ty_str_addn(&l->out, proof, PROOF);
}

static int keys(struct ty_link *l, unsigned char rx[PAIR], unsigned char tx[PAIR])
{
    int r = l->called ? crypto_kx_server_session_keys(rx, tx, l->pk, l->sk, l->other)
                      : crypto_kx_client_session_keys(rx, tx, l->pk, l->sk, l->other);

    return r < 0 ? -EACCES : 0;
}

static int check_proof(const struct ty_link *l, const unsigned char *header)
{
    unsigned char want[PROOF];

    prove(l, !l->called, header, want);
    return sodium_memcmp(want, header + HEADER, PROOF) == 0 ? 0 : -EACCES;
}

/* Of the caller: it answers the greeting with everything it has to say. */
static int on_greeting(struct ty_link *l, const unsigned char *in)
{
    unsigned char rx[PAIR], tx[PAIR];
    int r;

    memcpy(l->other, in + MAGIC_BYTES, PAIR);
    r = keys(l, rx, tx);
    if (r < 0)
        return r;
    greet(l);
    add_proof(l, tx);
    l->step = ANSWER;
    return 0;
}

static int on_answer(struct ty_link *l, const unsigned char *in)
{
    unsigned char rx[PAIR], tx[PAIR];
    int r = check_proof(l, in);

    if (r == 0)
        r = keys(l, rx, tx);
    if (r == 0 && crypto_secretstream_xchacha20poly1305_init_pull(&l->pull, in, rx) != 0)
        r = -EACCES;
    return r;
}

static int on_hello(struct ty_link *l, const unsigned char *in)
{
    const unsigned char *header = in + GREETING_BYTES;
    unsigned char rx[PAIR], tx[PAIR];
    int r;

    memcpy(l->other, in + MAGIC_BYTES, PAIR);
    r = check_proof(l, header);
    if (r == 0)
        r = keys(l, rx, tx);
    if (r == 0 && crypto_secretstream_xchacha20poly1305_init_pull(&l->pull, header, rx) != 0)
        r = -EACCES;
    if (r == 0)
        add_proof(l, tx);
    return r;
}

static void open_link(struct ty_link *l)
{
    l->step = OPEN;
    l->due_us = INT64_MAX;
    sodium_memzero(l->sk, sizeof l->sk);
    sodium_memzero(l->key, sizeof l->key);
}

static size_t awaited(const struct ty_link *l)
{
    return l->step == GREETING ? GREETING_BYTES : l->step == HELLO ? HELLO_BYTES : ANSWER_BYTES;
}

/* --- the socket --- */

/* True: something came, if only the end. */
static bool fill(struct ty_link *l)
{
    ssize_t n;

    if (!l->in && !(l->in = malloc(READ_MAX)))
        return l->over = -ENOMEM, false;
    if (l->in_at > 0) {
        memmove(l->in, l->in + l->in_at, l->in_len - l->in_at);
        l->in_len -= l->in_at;
        l->in_at = 0;
    }
    do
        n = FAULT("link.recv", -1, recv(l->fd, l->in + l->in_len, READ_MAX - l->in_len, 0));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        l->closed = true;
    else if (n < 0 && errno != EAGAIN)
        l->over = -errno;
    if (n > 0)
        l->in_len += (size_t)n;
    return n >= 0;
}

static void drop_empty(struct ty_link *l)
{
    if (l->in_at == l->in_len) {
        free(l->in);
        l->in = NULL;
        l->in_at = l->in_len = 0;
    }
}

static int flush(struct ty_link *l)
{
    if (l->out.failed)
        l->over = -ENOMEM;
    while (!l->over && !l->mute && l->out.len > l->out_at) {
        ssize_t n =
            FAULT("link.send", -1,
                  send(l->fd, l->out.text + l->out_at, l->out.len - l->out_at, MSG_NOSIGNAL));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            l->mute = -errno;
        else
            l->out_at += (size_t)n;
    }
    l->out_at = l->out.len = 0;
    if (l->out.cap > KEEP_BYTES)
        ty_str_done(&l->out);
    if (l->mute && l->step != OPEN)
        l->over = l->mute;
    return l->over ? l->over : l->mute;
}

static int connected(struct ty_link *l)
{
    struct pollfd p = { .fd = l->fd, .events = POLLOUT };
    socklen_t n = sizeof l->over;

    if (poll(&p, 1, 0) == 0)
        return 0;
    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &l->over, &n) < 0)
        l->over = errno;
    l->over = -l->over;
    l->step = GREETING;
    return l->over;
}

/* One step of the proof, if what it needs is there.  True: look again. */
static bool step(struct ty_link *l)
{
    size_t have = l->in_len - l->in_at, want = awaited(l);
    const unsigned char *in = l->in ? l->in + l->in_at : NULL;
    bool greeting = l->step == GREETING;

    /* A stranger is sent away at the first byte that is wrong. */
    if (l->step != ANSWER && have > 0 &&
        memcmp(in, MAGIC, have < MAGIC_BYTES ? have : MAGIC_BYTES) != 0)
        l->over = -EPROTO;
    else if (have < want && l->closed)
        l->over = l->step == ANSWER ? -EACCES : -ECONNRESET;
    if (l->over || have < want)
        return false;
    l->in_at += want;
    l->over = greeting ? on_greeting(l, in) : l->step == HELLO ? on_hello(l, in) : on_answer(l, in);
    if (!l->over && !greeting)
        open_link(l);
    return !l->over && l->step != OPEN;
}

int ty_link_turn(struct ty_link *l, int64_t now_us)
{
    if (!l->over && l->step == CONNECTED)
        connected(l);
    while (!l->over && l->step != CONNECTED && l->step != OPEN)
        if (!step(l) && (l->over || l->step == OPEN || !fill(l)))
            break;
    if (!l->over && l->step != OPEN && now_us >= l->due_us)
        l->over = -ETIMEDOUT;
    if (l->step == OPEN)
        drop_empty(l);
    return l->over ? l->over : flush(l);
}

/* --- messages --- */

static void seal(struct ty_link *l, const void *bytes, size_t n)
{
    static const char room[SEAL + TY_LINK_CHUNK];
    const unsigned char head[HEAD] = { (unsigned char)n, (unsigned char)(n >> 8) };
    size_t start = l->out.len;

    ty_str_addn(&l->out, head, HEAD);
    ty_str_addn(&l->out, room, n + SEAL);
    if (!l->out.failed)
        crypto_secretstream_xchacha20poly1305_push(
            &l->push, (unsigned char *)l->out.text + start + HEAD, NULL, bytes, n, head, HEAD,
            crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
}

ssize_t ty_link_send(struct ty_link *l, const void *bytes, size_t n)
{
    size_t taken = 0;

    if (l->step != OPEN)
        return l->over ? l->over : -EAGAIN;
    if (flush(l) < 0)
        return l->over ? l->over : l->mute;
    while (taken < n && ty_link_unsent(l) < TY_LINK_UNSENT_MAX) {
        size_t part = n - taken < TY_LINK_CHUNK ? n - taken : TY_LINK_CHUNK;

        seal(l, (const char *)bytes + taken, part);
        taken += part;
        if (flush(l) < 0)
            return l->over ? l->over : l->mute;
    }
    return taken || n == 0 ? (ssize_t)taken : -EAGAIN;
}

/* The next whole message becomes `plain`.  False: it is not there yet. */
static bool decrypt(struct ty_link *l)
{
    const unsigned char *in = l->in ? l->in + l->in_at : NULL;
    size_t have = l->in_len - l->in_at, n;
    unsigned char tag;

    if (have < HEAD)
        return false;
    n = in[0] | (size_t)in[1] << 8;
    if (n == 0 || n > TY_LINK_CHUNK)
        return l->over = -EBADMSG, false;
    if (have < HEAD + n + SEAL)
        return false;
    l->plain = malloc(n);
    if (!l->plain)
        return l->over = -ENOMEM, false;
    if (crypto_secretstream_xchacha20poly1305_pull(&l->pull, l->plain, NULL, &tag, in + HEAD,
                                                   n + SEAL, in, HEAD) != 0) {
        free(l->plain);
        l->plain = NULL;
        return l->over = -EBADMSG, false;
    }
    l->plain_at = 0;
    l->plain_len = n;
    l->in_at += HEAD + n + SEAL;
    return true;
}

ssize_t ty_link_recv(struct ty_link *l, void *buf, size_t cap)
{
    size_t n;

    if (l->step != OPEN)
        return l->over ? l->over : -EAGAIN;
    while (!l->plain && !decrypt(l))
        if (l->over || l->closed || !fill(l))
            break;
    if (!l->plain) {
        drop_empty(l);
        return l->over ? l->over : l->closed ? 0 : -EAGAIN;
    }
    n = l->plain_len - l->plain_at < cap ? l->plain_len - l->plain_at : cap;
    memcpy(buf, l->plain + l->plain_at, n);
    l->plain_at += n;
    if (l->plain_at == l->plain_len) {
        free(l->plain);
        l->plain = NULL;
    }
    return (ssize_t)n;
}

/* --- the rest --- */

struct ty_link *ty_link_new(int fd, bool called, const unsigned char key[TY_LINK_KEY],
                            int64_t now_us)
{
    struct ty_link *l = calloc(1, sizeof *l);
    int on = 1;

    if (!l || FAULT("link.random", -1, sodium_init()) < 0) {
        close(fd);
        free(l);
        return NULL;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    l->fd = fd;
    l->called = called;
    l->step = called ? HELLO : CONNECTED;
    l->due_us = now_us + TY_LINK_HANDSHAKE_US;
    memcpy(l->key, key, TY_LINK_KEY);
    crypto_kx_keypair(l->pk, l->sk);
    if (called)
        greet(l);
    return l;
}

static socklen_t address_bytes(const union ty_link_address *a)
{
    return a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}

int ty_link_connect(const union ty_link_address *to, const unsigned char key[TY_LINK_KEY],
                    int64_t now_us, struct ty_link **ret)
{
    int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct ty_link *l;

    if (fd < 0)
        return -errno;
    if (connect(fd, &to->any, address_bytes(to)) < 0 && errno != EINPROGRESS) {
        int r = -errno;

        close(fd);
        return r;
    }
    l = ty_link_new(fd, false, key, now_us);
    if (!l)
        return -ENOMEM;
    *ret = l;
    return 0;
}

struct ty_link *ty_link_free(struct ty_link *l)
{
    if (!l)
        return NULL;
    close(l->fd);
    ty_str_done(&l->out);
    free(l->in);
    if (l->plain)
        sodium_memzero(l->plain, l->plain_len);
    free(l->plain);
    sodium_memzero(l, sizeof *l);
    free(l);
    return NULL;
}

int ty_link_fd(const struct ty_link *l)
{
    return l->fd;
}
short ty_link_events(const struct ty_link *l)
{
    if (l->step == CONNECTED)
        return POLLOUT;
    return l->out.len > l->out_at ? POLLIN | POLLOUT : POLLIN;
}
int64_t ty_link_due(const struct ty_link *l)
{
    return l->due_us;
}
bool ty_link_ready(const struct ty_link *l)
{
    return l->step == OPEN && !l->over;
}
size_t ty_link_unsent(const struct ty_link *l)
{
    return l->out.len - l->out_at;
}
bool ty_link_holds(const struct ty_link *l)
{
    size_t have = l->in_len - l->in_at;

    return l->plain || (have >= HEAD &&
                        have >= HEAD + SEAL + (l->in[l->in_at] | (size_t)l->in[l->in_at + 1] << 8));
}

static int show(const union ty_link_address *a, char text[TY_LINK_ADDRESS_TEXT])
{
    const struct in6_addr *six = &a->v6.sin6_addr;

    if (a->any.sa_family == AF_INET)
        inet_ntop(AF_INET, &a->v4.sin_addr, text, TY_LINK_ADDRESS_TEXT);
    else if (a->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six))
        inet_ntop(AF_INET, six->s6_addr + 12, text, TY_LINK_ADDRESS_TEXT);
    else if (a->any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, six, text, TY_LINK_ADDRESS_TEXT);
    else
        return -EAFNOSUPPORT;
    return 0;
}

int ty_link_local(const struct ty_link *l, char text[TY_LINK_ADDRESS_TEXT])
{
    union ty_link_address a = { 0 };
    socklen_t n = sizeof a;

    return getsockname(l->fd, &a.any, &n) < 0 ? -errno : show(&a, text);
}

int ty_link_peer(const struct ty_link *l, char text[TY_LINK_ADDRESS_TEXT])
{
    union ty_link_address a = { 0 };
    socklen_t n = sizeof a;

    return getpeername(l->fd, &a.any, &n) < 0 ? -errno : show(&a, text);
}
