/* store_secret.c - secrets: sealed before they reach the database, opened when they are read
 *
 * XChaCha20-Poly1305 with a random nonce; the secret's name is authenticated with it, so that a sealed value
 * cannot be moved to another name.  The key is a file of its own beside the database, made with the first
 * secret: a copy of state.db alone tells nothing.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "store/store_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#define KEY_BYTES crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES
#define BASE64 sodium_base64_VARIANT_ORIGINAL

struct op_secret {
    struct op op;
    const char *name, *sealed;
    int64_t at_us;
};

/* ---- the key ---- */

static int read_key(const char *path, unsigned char key[KEY_BYTES])
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char more;

    if (fd < 0)
        return -errno;
    return ty_read_full(fd, key, KEY_BYTES) == KEY_BYTES && read(fd, &more, 1) == 0 ? 0 : -EBADMSG;
}

static int make_key(const char *path)
{
    unsigned char key[KEY_BYTES];
    int r;

    crypto_aead_xchacha20poly1305_ietf_keygen(key);
    r = ty_write_file(path, key, sizeof key, 0600);
    sodium_memzero(key, sizeof key);
    return r;
}

static int get_key(struct ty_store *st, bool make, unsigned char key[KEY_BYTES])
{
    int r = read_key(st->key_path, key);

    if (r == -ENOENT && make) {
        r = make_key(st->key_path);
        if (r == 0)
            r = read_key(st->key_path, key);
    }
    return r;
}

static int key_error(const struct ty_store *st, int r, struct ty_error *err)
{
    return ty_error_set(
        err, r == -ENOENT ? -EIO : r,
        "cannot use the key of the secrets, '%s': %s; put its backup there, or remove "
        "the secrets and set them again",
        st->key_path, r == -EBADMSG ? "it is damaged" : strerror(-r));
}

/* ---- changing ---- */

static char *seal(const unsigned char key[KEY_BYTES], const char *name, const char *value)
{
    size_t n = strlen(value), whole = NONCE_BYTES + n + TAG_BYTES;
    CLEANUP_FREE char *room_for_bytes = malloc(whole);
    unsigned char *bytes = (unsigned char *)room_for_bytes;
    size_t room = sodium_base64_encoded_len(whole, BASE64);
    char *text = malloc(room);

    if (!bytes || !text) {
        free(text);
        return NULL;
    }
    randombytes_buf(bytes, NONCE_BYTES);
    crypto_aead_xchacha20poly1305_ietf_encrypt(
        bytes + NONCE_BYTES, NULL, (const unsigned char *)value, n, (const unsigned char *)name,
        strlen(name), NULL, bytes, key);
    return sodium_bin2base64(text, room, bytes, whole, BASE64);
}

static int apply_secret_put(struct ty_store *st, const struct op *op)
{
    const struct op_secret *o = (const struct op_secret *)op;

    return store_exec(&st->writer, STMT_secret_put, "tti", o->name, o->sealed, o->at_us);
}

int store_seal(struct ty_store *st, const char *name, const char *value, char **ret,
               struct ty_error *err)
{
    unsigned char key[KEY_BYTES];
    char *sealed;
    int r = get_key(st, true, key);

    if (r < 0)
        return key_error(st, r, err);
    sealed = seal(key, name, value);
    sodium_memzero(key, sizeof key);
    if (!sealed)
        return ty_error_oom(err);
    *ret = sealed;
    return 0;
}

int ty_unit_secret_put(struct ty_unit *u, struct ty_store *st, const char *name, const char *value,
                       struct ty_error *err)
{
    CLEANUP_FREE char *sealed = NULL;
    struct op_secret *o;
    int r = store_seal(st, name, value, &sealed, err);

    if (r < 0)
        return r;
    o = unit_op(u, sizeof *o, apply_secret_put);
    if (!o)
        return ty_error_oom(err);
    o->name = unit_text(u, name);
    o->sealed = unit_text(u, sealed);
    o->at_us = ty_wall_us();
    return 0;
}

static int apply_secret_delete(struct ty_store *st, const struct op *op)
{
    return store_exec(&st->writer, STMT_secret_delete, "t", ((const struct op_secret *)op)->name);
}

void ty_unit_secret_delete(struct ty_unit *u, const char *name)
{
    struct op_secret *o = unit_op(u, sizeof *o, apply_secret_delete);

    if (o)
        o->name = unit_text(u, name);
}

/* ---- reading ---- */

int ty_store_secrets(struct ty_store *st, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_secrets, "");
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, json_pack("{s:o s:o s:o}", "name", store_json_text(q, 0), "created",
                                    store_json_time(q, 1), "changed", store_json_time(q, 2))) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}

/* The value, malloc'ed: 0, -ENOMEM, or -EBADMSG for what this key has not sealed. */
static int unseal(const unsigned char key[KEY_BYTES], const char *name, const char *sealed,
                  char **ret)
{
    size_t n = strlen(sealed), whole = 0;
    CLEANUP_FREE char *room_for_bytes = malloc(n + 1);
    unsigned char *bytes = (unsigned char *)room_for_bytes;
    char *value;

    if (!bytes)
        return -ENOMEM;
    if (sodium_base642bin(bytes, n + 1, sealed, n, NULL, &whole, NULL, BASE64) < 0 ||
        whole < NONCE_BYTES + TAG_BYTES)
        return -EBADMSG;
    value = malloc(whole);
    if (!value)
        return -ENOMEM;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(
            (unsigned char *)value, NULL, NULL, bytes + NONCE_BYTES, whole - NONCE_BYTES,
            (const unsigned char *)name, strlen(name), bytes, key) < 0) {
        free(value);
        return -EBADMSG;
    }
    value[whole - NONCE_BYTES - TAG_BYTES] = '\0';
    *ret = value;
    return 0;
}

int store_unseal(struct ty_store *st, const char *name, const char *sealed, const char *what,
                 const char *undo, char **ret, struct ty_error *err)
{
    unsigned char key[KEY_BYTES];
    int r = get_key(st, false, key);

    if (r < 0)
        return key_error(st, r, err);
    r = unseal(key, name, sealed, ret);
    sodium_memzero(key, sizeof key);
    if (r == -EBADMSG)
        return ty_error_set(err, -EIO,
                            "%s was sealed with another key than '%s', or is damaged; %s", what,
                            st->key_path, undo);
    return r < 0 ? ty_error_oom(err) : 0;
}

int ty_store_secret(struct ty_store *st, const char *name, char **ret, struct ty_error *err)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_secret_get, "t", name);
    CLEANUP_FREE char *what = ty_strf("the secret '%s'", name);
    int r = store_step(q);

    if (r == 0)
        return ty_error_set(err, -ENOENT, "there is no secret '%s'", name);
    if (r < 0)
        return ty_error_set(err, r, "cannot read the secret '%s' from the state folder: %s", name,
                            strerror(-r));
    if (!what)
        return ty_error_oom(err);
    return store_unseal(st, name, store_text(q, 0), what, "set it again", ret, err);
}

int ty_store_derived_key(struct ty_store *st, const char *use,
                         unsigned char key[TY_STORE_KEY_BYTES], struct ty_error *err)
{
    unsigned char from[KEY_BYTES];
    int r = get_key(st, true, from);

    if (r < 0)
        return key_error(st, r, err);
    crypto_generichash(key, TY_STORE_KEY_BYTES, (const unsigned char *)use, strlen(use), from,
                       sizeof from);
    sodium_memzero(from, sizeof from);
    return 0;
}
