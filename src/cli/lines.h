/* lines.h - the lines of a stream that match a regular expression
 *
 * Bytes come in pieces that end anywhere; a line is printed when its end has come.
 */
#ifndef TY_CLI_LINES_H
#define TY_CLI_LINES_H
#include "base/str.h"
#include <regex.h>

#define TY_LINE_MAX (1u << 20) /* bytes; what is longer is looked at in pieces of this size */

struct ty_lines {
    regex_t regex;
    bool compiled;
    struct ty_str part; /* of a line whose end has not come */
};
/* A POSIX extended regular expression; -EINVAL and why in `why` (at least 128 bytes). */
int ty_lines_open(struct ty_lines *l, const char *pattern, bool ignore_case, char *why, size_t n);
void ty_lines_done(struct ty_lines *l);
/* Print to stdout the lines that match, whole.  0, -ENOMEM, or -EIO: stdout cannot be written. */
int ty_lines_feed(struct ty_lines *l, const char *bytes, size_t n);
/* Does a line match?  Its end is no part of it. */
bool ty_lines_match(const struct ty_lines *l, const char *line, size_t n);
/* Nothing more comes: a last line without an end is looked at, too. */
int ty_lines_end(struct ty_lines *l);
#endif
