/* md5.h - MD5, because object stores check what arrives by it
 *
 * It guards against accidents, not against attackers: those are kept out by the signature and by TLS.
 */
#ifndef TY_MD5_H
#define TY_MD5_H
#include <stddef.h>
#include <stdint.h>

#define TY_MD5_BYTES 16
#define TY_MD5_HEX 32

struct ty_md5 {
    uint32_t state[4];
    uint64_t bytes; /* taken so far */
    uint8_t rest[64];
};
void ty_md5_begin(struct ty_md5 *m);
void ty_md5_add(struct ty_md5 *m, const void *bytes, size_t n);
/* The same bytes into two sums at once: it takes hardly longer than one, as MD5 leaves a core half idle. */
void ty_md5_add_two(struct ty_md5 *a, struct ty_md5 *b, const void *bytes, size_t n);
/* n bytes of its own into each of two sums, for the same price. */
void ty_md5_add_pair(struct ty_md5 *a, const void *p, struct ty_md5 *b, const void *q, size_t n);
#define TY_MD5_LANES 8
/* `each` bytes of its own into each of n <= TY_MD5_LANES sums.  Eight cost little more than two, and three as much as eight. */
void ty_md5_add_lanes(struct ty_md5 *const *sums, const void *const *bytes, unsigned n, size_t each);
/* The sum; m must be begun again. */
void ty_md5_end(struct ty_md5 *m, uint8_t sum[TY_MD5_BYTES]);

/* All at once. */
void ty_md5(const void *bytes, size_t n, uint8_t sum[TY_MD5_BYTES]);
/* Into hex[TY_MD5_HEX + 1]; returns hex. */
char *ty_md5_hex(const uint8_t sum[TY_MD5_BYTES], char *hex);
/* From 32 hex digits of either case; -EINVAL: it is no MD5. */
int ty_md5_parse(const char *hex, uint8_t sum[TY_MD5_BYTES]);
/* As Content-MD5 has it, into text[25]; returns text. */
char *ty_md5_base64(const uint8_t sum[TY_MD5_BYTES], char text[25]);
/* The reverse; -EINVAL: it is no MD5. */
int ty_md5_from_base64(const char *text, uint8_t sum[TY_MD5_BYTES]);
#endif
