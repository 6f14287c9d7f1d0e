/* lines.c - the lines of a stream that match a regular expression */
#include "cli/lines.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

int ty_lines_open(struct ty_lines *l, const char *pattern, bool ignore_case, char *why, size_t n)
{
    int flags = REG_EXTENDED | REG_NOSUB | (ignore_case ? REG_ICASE : 0);
    int rc = regcomp(&l->regex, pattern, flags);

    if (rc) {
        regerror(rc, &l->regex, why, n);
        return -EINVAL;
    }
    l->compiled = true;
    return 0;
}

void ty_lines_done(struct ty_lines *l)
{
    if (l->compiled)
        regfree(&l->regex);
    l->compiled = false;
    ty_str_done(&l->part);
}

/* A line may hold NUL bytes; its end is no part of what is matched. */
bool ty_lines_match(const struct ty_lines *l, const char *line, size_t n)
{
    regmatch_t whole = { 0 };

    if (n > 0 && line[n - 1] == '\n')
        n--;
    if (n > 0 && line[n - 1] == '\r')
        n--;
    whole.rm_eo = (regoff_t)n;
    return regexec(&l->regex, line, 0, &whole, REG_STARTEND) == 0;
}

static int take_part(struct ty_lines *l)
{
    size_t n = l->part.len;

    if (l->part.failed)
        return -ENOMEM;
    l->part.len = 0;
    return ty_lines_match(l, l->part.text, n) && fwrite(l->part.text, 1, n, stdout) != n ? -EIO : 0;
}

int ty_lines_feed(struct ty_lines *l, const char *bytes, size_t n)
{
    int r = 0;

    while (n > 0 && r == 0) {
        const char *nl = memchr(bytes, '\n', n);
        size_t line = nl ? (size_t)(nl - bytes) + 1 : n, room = TY_LINE_MAX - l->part.len;

        line = line < room ? line : room;
        ty_str_addn(&l->part, bytes, line);
        if (l->part.failed || bytes[line - 1] == '\n' || l->part.len == TY_LINE_MAX)
            r = take_part(l);
        bytes += line;
        n -= line;
    }
    return r == 0 && fflush(stdout) != 0 ? -EIO : r;
}

int ty_lines_end(struct ty_lines *l)
{
    int r = l->part.len ? take_part(l) : 0;

    return r == 0 && fflush(stdout) != 0 ? -EIO : r;
}
