/* html.c - escaping, times */
#include "http/html.h"
#include "base/clock.h"
#include <stdarg.h>
#include <string.h>

#define ESC 0x1b

/* Bytes of the character that begins here; 0: none does. */
static size_t character(const char *bytes, size_t n)
{
    for (size_t width = 1; width <= 4 && width <= n; width++)
        if (ty_utf8_valid(bytes, width))
            return width;
    return 0;
}

static bool is_markup(char c)
{
    return c == '&' || c == '<' || c == '>' || c == '"' || c == '\'' || c == '\0';
}

void html_textn(struct ty_str *s, const char *bytes, size_t n)
{
    for (size_t i = 0, one; i < n; i += one) {
        size_t plain = 0;

        while (i + plain < n && !is_markup(bytes[i + plain]) &&
               (unsigned char)bytes[i + plain] < 0x80)
            plain++;
        ty_str_addn(s, bytes + i, plain);
        i += plain;
        one = i < n ? character(bytes + i, n - i) : 0;
        if (one > 1)
            ty_str_addn(s, bytes + i, one);
        else if (one == 1 && bytes[i])
            ty_str_addf(s, "&#%d;", bytes[i]);
        else if (i < n)
            ty_str_add(s, "\xef\xbf\xbd");
        one += one == 0;
    }
}

void html_text(struct ty_str *s, const char *text)
{
    if (text)
        html_textn(s, text, strlen(text));
}

/* How long the escape sequence is that begins at bytes[0]: CSI up to its letter, OSC up to BEL or ESC \, else two bytes. */
static size_t sequence(const char *bytes, size_t n)
{
    size_t i = 2;

    if (n < 2)
        return n;
    if (bytes[1] == '[') {
        while (i < n && (unsigned char)bytes[i] < 0x40)
            i++;
        return i < n ? i + 1 : n;
    }
    if (bytes[1] == ']') {
        while (i < n && bytes[i] != 7 && bytes[i] != ESC)
            i++;
        return i < n ? i + 1 + (bytes[i] == ESC && i + 1 < n) : n;
    }
    return 2;
}

static bool is_shown(unsigned char c)
{
    return c >= ' ' ? c != 0x7f : c == '\n' || c == '\t';
}

void html_log(struct ty_str *s, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t plain = 0;

        while (i + plain < n && is_shown((unsigned char)bytes[i + plain]))
            plain++;
        html_textn(s, bytes + i, plain);
        i += plain;
        if (i < n && bytes[i] == '\r' && i + 1 < n && bytes[i + 1] != '\n')
            ty_str_add(s, "\n"); /* a progress bar that draws over itself: one line each */
        if (i < n)
            i += bytes[i] == ESC ? sequence(bytes + i, n - i) : 1;
    }
}

void html_add(struct ty_str *s, const char *markup, ...)
{
    va_list ap;

    va_start(ap, markup);
    for (const char *at; (at = strstr(markup, "%s")); markup = at + 2) {
        ty_str_addn(s, markup, (size_t)(at - markup));
        html_text(s, va_arg(ap, const char *));
    }
    va_end(ap);
    ty_str_add(s, markup);
}

void html_time(struct ty_str *s, const json_t *iso)
{
    const char *text = json_string_value(iso);

    if (!text || strlen(text) < 19) {
        ty_str_add(s, "&ndash;");
        return;
    }
    html_add(s, "<time datetime=\"%s\">", text);
    ty_str_addf(s, "%.10s %.8s", text, text + 11);
    ty_str_add(s, "</time>");
}

void html_duration(struct ty_str *s, int64_t us)
{
    long long seconds = us / 1000000;

    if (seconds < 10)
        ty_str_addf(s, "%.1f s", (double)us / 1e6);
    else if (seconds < 60)
        ty_str_addf(s, "%lld s", seconds);
    else if (seconds < 3600)
        ty_str_addf(s, "%lld min %lld s", seconds / 60, seconds % 60);
    else if (seconds < 86400)
        ty_str_addf(s, "%lld h %lld min", seconds / 3600, seconds / 60 % 60);
    else
        ty_str_addf(s, "%lld d %lld h", seconds / 86400, seconds / 3600 % 24);
}
