/* html.h - writing HTML: what comes from users is text and never markup */
#ifndef TY_HTTP_HTML_H
#define TY_HTTP_HTML_H
#include "base/json.h"
#include "base/str.h"
#include <stddef.h>
#include <stdint.h>

/* For content and for attributes in double quotes; bytes that are not UTF-8 become U+FFFD.  NULL: nothing. */
void html_text(struct ty_str *s, const char *text);
void html_textn(struct ty_str *s, const char *bytes, size_t n);
/* Output of a terminal: escape sequences and control characters, but for tab and line feed, are left out. */
void html_log(struct ty_str *s, const char *bytes, size_t n);
/* printf with every argument a text: each %s is escaped; nothing else may follow a '%'. */
void html_add(struct ty_str *s, const char *markup, ...);
/* "2026-11-23 20:11:05" of an ISO time, in a <time> element; a dash for null. */
void html_time(struct ty_str *s, const json_t *iso);
/* "1 h 12 min" of microseconds. */
void html_duration(struct ty_str *s, int64_t us);

/* A curve of n values as inline SVG with its extremes; NaN and infinities leave gaps.  What stands in it says so to readers, too. */
void html_chart(struct ty_str *s, const char *name, const double *values, size_t n);
#endif
