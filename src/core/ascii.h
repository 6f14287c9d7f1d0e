/* ascii.h - letters and digits of ASCII, whatever the locale
 *
 * A name that is valid in one process is valid in all.
 */
#ifndef TY_ASCII_H
#define TY_ASCII_H
#include <stdbool.h>
#include <string.h>

static inline bool ty_ascii_digit(char c)
{
    return c >= '0' && c <= '9';
}
static inline bool ty_ascii_alnum(char c)
{
    return ty_ascii_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
/* Is `s` made of letters, digits and the characters of `also` alone? */
static inline bool ty_ascii_only(const char *s, const char *also)
{
    while (ty_ascii_alnum(*s) || (*s && strchr(also, *s)))
        s++;
    return *s == '\0';
}
/* Is `s` exactly `n` lower-case hexadecimal digits, as hashes are written? */
static inline bool ty_ascii_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}
#endif
