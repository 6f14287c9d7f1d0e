/* error.h - filling struct ty_error
 *
 * A function returns 0 or a negative errno; where a user's mistake can reach it, it also fills a
 * struct ty_error.
 */
#ifndef TY_ERROR_H
#define TY_ERROR_H
#include <trainyard/error.h>

/* Fill *err (NULL is fine) and return `code`, which must be negative.  %m works: errno is kept. */
int ty_error_set(struct ty_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Put "<context>: " before the text that is there; returns err->code.  For a caller that knows more. */
int ty_error_prefix(struct ty_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The usual text for -ENOMEM. */
int ty_error_oom(struct ty_error *err);
#endif
