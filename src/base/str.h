/* str.h - a growing string, and small helpers for text
 *
 * Invariant: `text` is NULL (empty) or ends in a NUL that `len` does not count.  Failure is sticky: after
 * an allocation failed every further addition does nothing and ty_str_take() gives NULL, so only
 * the end of a chain of additions is checked.
 */
#ifndef TY_STR_H
#define TY_STR_H
#include "base/cleanup.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ty_str {
    char *text;
    size_t len, cap;
    bool failed;
};

/* Data structure and life cycle: zero-initialise; ty_str_done() frees and leaves it empty again. */
void ty_str_done(struct ty_str *s);
#define CLEANUP_STR CLEANUP(ty_str_done)

/* Content */
void ty_str_add(struct ty_str *s, const char *text);
void ty_str_addn(struct ty_str *s, const void *bytes, size_t n);
void ty_str_addf(struct ty_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ty_str_addv(struct ty_str *s, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Append `text` as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
void ty_str_add_json(struct ty_str *s, const char *text, size_t n);
/* Append `text` percent-encoded; '/' stays when `keep_slash`. */
void ty_str_add_url(struct ty_str *s, const char *text, bool keep_slash);
/* Append `n` bytes as base64 with padding. */
void ty_str_add_base64(struct ty_str *s, const void *bytes, size_t n);
/* The text, owned by the caller (free); never NULL for an empty string; NULL when an addition failed. */
char *ty_str_take(struct ty_str *s);

/* malloc'ed printf; NULL when out of memory. */
char *ty_strf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool ty_starts_with(const char *s, const char *prefix);
bool ty_ends_with(const char *s, const char *suffix);
bool ty_utf8_valid(const char *s, size_t n);
/* Length of the longest prefix of s[0..n) that does not end inside a UTF-8 character. */
size_t ty_utf8_whole(const char *s, size_t n);
/* Strict decimal: the whole text, no sign but '-', no blanks.  0, -EINVAL or -ERANGE. */
int ty_parse_i64(const char *s, int64_t *ret);
/* Bytes as a person writes them: "300MB", "1.5GiB", "1024"; k/M/G/T are powers of 1000, with an 'i' of 1024. */
int ty_parse_bytes(const char *s, uint64_t *ret);
/* Bytes as a person reads them ("12.3 MB") into buf[16]; returns buf. */
const char *ty_show_bytes(uint64_t n, char buf[16]);
/* Undo percent-encoding in place; -EINVAL on a bad escape or on an encoded NUL. */
int ty_url_decode(char *s);
/* Edit distance for "did you mean": the nearest of the NULL-terminated `words` within 2 edits, or NULL. */
const char *ty_nearest(const char *word, const char *const *words);
#endif
