/* error.c - what went wrong, for a person */
#include "base/error.h"
#include "base/str.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char dots[] = "...";

/* `text` was filled to its last byte and more would have come: end it in dots, after a whole character. */
static void mark_cut(char *text, size_t cap)
{
    size_t n = ty_utf8_whole(text, cap - sizeof dots);

    memcpy(text + n, dots, sizeof dots);
}

int ty_error_set(struct ty_error *err, int code, const char *fmt, ...)
{
    int saved = errno, n;
    va_list ap;

    if (!err)
        return code;
    va_start(ap, fmt);
    err->code = code;
    n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof err->text)
        mark_cut(err->text, sizeof err->text);
    errno = saved;
    return code;
}

int ty_error_prefix(struct ty_error *err, const char *fmt, ...)
{
    char old[sizeof err->text];
    int saved = errno, n;
    size_t room;
    va_list ap;

    if (!err)
        return 0;
    memcpy(old, err->text, sizeof old);
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof err->text) {
        mark_cut(err->text, sizeof err->text);
    } else {
        room = sizeof err->text - (size_t)n;
        if (snprintf(err->text + n, room, ": %s", old) >= (int)room)
            mark_cut(err->text, sizeof err->text);
    }
    errno = saved;
    return err->code;
}

int ty_error_oom(struct ty_error *err)
{
    return ty_error_set(err, -ENOMEM, "out of memory");
}
