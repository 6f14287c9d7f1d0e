/* str.c - a growing string, and small helpers for text */
#include "base/str.h"
#include "base/fault.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- growing ---- */

void ty_str_done(struct ty_str *s)
{
    free(s->text);
    *s = (struct ty_str){ 0 };
}

/* Make room for n more bytes and the NUL. */
static bool reserve(struct ty_str *s, size_t n)
{
    size_t cap = s->cap ? s->cap : 64, need;
    char *text;

    if (s->failed)
        return false;
    if (__builtin_add_overflow(s->len, n, &need) || need >= SIZE_MAX / 2) {
        s->failed = true;
        return false;
    }
    if (need < s->cap)
        return true;
    while (cap <= need)
        cap *= 2;
    text = FAULT("str.alloc", NULL, realloc(s->text, cap));
    if (!text) {
        s->failed = true;
        return false;
    }
    s->text = text;
    s->cap = cap;
    return true;
}

void ty_str_addn(struct ty_str *s, const void *bytes, size_t n)
{
    if (!reserve(s, n))
        return;
    if (n)
        memcpy(s->text + s->len, bytes, n);
    s->len += n;
    s->text[s->len] = 0;
}

void ty_str_add(struct ty_str *s, const char *text)
{
    ty_str_addn(s, text, strlen(text));
}

void ty_str_addv(struct ty_str *s, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    if (!reserve(s, 0))
        return;
    va_copy(again, ap);
    n = vsnprintf(s->text + s->len, s->cap - s->len, fmt, ap);
    if (n < 0) {
        s->failed = true;
    } else if ((size_t)n < s->cap - s->len) {
        s->len += (size_t)n;
    } else if (reserve(s, (size_t)n)) {
        vsnprintf(s->text + s->len, s->cap - s->len, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
    if (s->failed)
        s->text[s->len] = 0;
}

void ty_str_addf(struct ty_str *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(s, fmt, ap);
    va_end(ap);
}

char *ty_str_take(struct ty_str *s)
{
    char *text = NULL;

    if (reserve(s, 0)) {
        s->text[s->len] = 0;
        text = TAKE(s->text);
    }
    ty_str_done(s);
    return text;
}

char *ty_strf(const char *fmt, ...)
{
    CLEANUP_STR struct ty_str s = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&s, fmt, ap);
    va_end(ap);
    return ty_str_take(&s);
}

/* ---- UTF-8 ---- */

/* Bytes of a character by its first byte; 0: no character begins so. */
static size_t utf8_width(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

/* Bytes of the character that s[0..n) begins with; 0 when it is none (overlong, a surrogate, cut off, ...). */
static size_t utf8_char(const unsigned char *s, size_t n)
{
    size_t width = utf8_width(s[0]);

    if (width == 0 || width > n)
        return 0;
    for (size_t i = 1; i < width; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return width;
}

bool ty_utf8_valid(const char *s, size_t n)
{
    size_t width;

    for (size_t at = 0; at < n; at += width) {
        width = utf8_char((const unsigned char *)s + at, n - at);
        if (width == 0)
            return false;
    }
    return true;
}

size_t ty_utf8_whole(const char *s, size_t n)
{
    size_t first = n;

    while (first > 0 && n - first < 3 && ((unsigned char)s[first - 1] & 0xc0) == 0x80)
        first--;
    if (first == 0)
        return n;
    return utf8_width((unsigned char)s[first - 1]) > n - first + 1 ? first - 1 : n;
}

/* ---- other writings ---- */

static void add_json_char(struct ty_str *s, unsigned char c)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";

    for (size_t i = 0; i + 1 < sizeof shorts; i += 2)
        if (c == (unsigned char)shorts[i]) {
            ty_str_addn(s, (const char[]){ '\\', shorts[i + 1] }, 2);
            return;
        }
    ty_str_addf(s, "\\u%04x", c);
}

void ty_str_add_json(struct ty_str *s, const char *text, size_t n)
{
    const unsigned char *u = (const unsigned char *)text;
    size_t plain = 0, at = 0;

    ty_str_addn(s, "\"", 1);
    while (at < n) {
        size_t width = utf8_char(u + at, n - at);

        if (width > 0 && u[at] >= ' ' && u[at] != '"' && u[at] != '\\') {
            at += width;
            continue;
        }
        ty_str_addn(s, text + plain, at - plain);
        if (width > 0)
            add_json_char(s, u[at]);
        else
            ty_str_add(s, "\xef\xbf\xbd");
        plain = ++at;
    }
    ty_str_addn(s, text + plain, at - plain);
    ty_str_addn(s, "\"", 1);
}

void ty_str_add_url(struct ty_str *s, const char *text, bool keep_slash)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("-._~", *c) || (*c == '/' && keep_slash);

        if (plain)
            ty_str_addn(s, c, 1);
        else
            ty_str_addf(s, "%%%02X", *c);
    }
}

void ty_str_add_base64(struct ty_str *s, const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *b = bytes;

    for (size_t at = 0; at < n; at += 3) {
        size_t have = n - at < 3 ? n - at : 3;
        unsigned v = (unsigned)b[at] << 16 | (have > 1 ? (unsigned)b[at + 1] << 8 : 0) |
                     (have > 2 ? b[at + 2] : 0);
        char four[4] = { digits[v >> 18], digits[v >> 12 & 63], '=', '=' };

        if (have > 1)
            four[2] = digits[v >> 6 & 63];
        if (have > 2)
            four[3] = digits[v & 63];
        ty_str_addn(s, four, 4);
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int ty_url_decode(char *s)
{
    char *to = s;

    for (const char *from = s; *from; from++) {
        int high, low;

        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        high = hex_digit(from[1]);
        low = high < 0 ? -1 : hex_digit(from[2]);
        if (low < 0 || (high == 0 && low == 0))
            return -EINVAL;
        *to++ = (char)(high << 4 | low);
        from += 2;
    }
    *to = 0;
    return 0;
}

/* ---- reading ---- */

bool ty_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool ty_ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

int ty_parse_i64(const char *s, int64_t *ret)
{
    bool minus = *s == '-';
    int64_t v = 0;

    s += minus;
    if (!*s)
        return -EINVAL;
    for (const char *c = s; *c; c++)
        if (*c < '0' || *c > '9')
            return -EINVAL;
    /* Counted downwards, because the least number has no positive twin. */
    for (; *s; s++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *s - '0', &v))
            return -ERANGE;
    if (!minus && __builtin_mul_overflow(v, -1, &v))
        return -ERANGE;
    *ret = v;
    return 0;
}

/* The factor that "", "B", "k", "KiB", "MB", ... stands for; 0: none. */
static uint64_t byte_unit(const char *s)
{
    static const char prefixes[] = "kMGT";
    const char *p;
    uint64_t unit = 1, base = 1000;

    p = *s ? strchr(prefixes, *s == 'K' ? 'k' : *s) : NULL;
    if (p) {
        s++;
        if (*s == 'i') {
            base = 1024;
            s++;
        }
        for (long i = 0; i <= p - prefixes; i++)
            unit *= base;
    }
    if (*s == 'B')
        s++;
    return *s ? 0 : unit;
}

int ty_parse_bytes(const char *s, uint64_t *ret)
{
    uint64_t whole = 0, part = 0, scale = 1, unit;

    if (!isdigit((unsigned char)*s))
        return -EINVAL;
    for (; isdigit((unsigned char)*s); s++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*s - '0'), &whole))
            return -ERANGE;
    if (*s == '.' && !isdigit((unsigned char)s[1]))
        return -EINVAL;
    if (*s == '.')
        for (s++; isdigit((unsigned char)*s); s++)
            if (scale < 1000000) {
                part = part * 10 + (uint64_t)(*s - '0');
                scale *= 10;
            }
    if (*s == ' ')
        s++;
    unit = byte_unit(s);
    if (unit == 0)
        return -EINVAL;
    if (__builtin_mul_overflow(whole, unit, &whole) ||
        __builtin_add_overflow(whole, unit * part / scale, &whole))
        return -ERANGE;
    *ret = whole;
    return 0;
}

const char *ty_show_bytes(uint64_t n, char buf[16])
{
    static const char *const units[] = { "kB", "MB", "GB", "TB", "PB", "EB" };
    double v = (double)n / 1000;
    size_t u = 0;

    if (n < 1000) {
        snprintf(buf, 16, "%d B", (int)n);
        return buf;
    }
    /* 999.95 would be shown as 1000.0. */
    for (; v >= 999.95 && u + 1 < sizeof units / sizeof *units; u++)
        v /= 1000;
    snprintf(buf, 16, "%.1f %s", v, units[u]);
    return buf;
}

/* ---- did you mean ---- */

enum { WORD_MAX_BYTES = 63 };

/* Levenshtein's distance; both words have at most WORD_MAX_BYTES. */
static int distance(const char *a, const char *b)
{
    int row[WORD_MAX_BYTES + 1], na = (int)strlen(a), nb = (int)strlen(b);

    for (int j = 0; j <= nb; j++)
        row[j] = j;
    for (int i = 1; i <= na; i++) {
        int diagonal = row[0];

        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);

            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[nb];
}

const char *ty_nearest(const char *word, const char *const *words)
{
    const char *nearest = NULL;
    int least = 3;

    if (strlen(word) > WORD_MAX_BYTES)
        return NULL;
    for (; *words; words++) {
        int d = strlen(*words) > WORD_MAX_BYTES ? least : distance(word, *words);

        /* Two edits turn any word of two letters into any other: that is no hint. */
        if (d < least && d < (int)strlen(word)) {
            least = d;
            nearest = *words;
        }
    }
    return nearest;
}
