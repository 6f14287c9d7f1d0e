/* secret_input.c - reading a secret */
#include "cli/secret_input.h"
#include "base/error.h"
#include "base/fs.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* One line from the terminal, which does not show it. */
static int ask(const char *what, struct ty_str *value)
{
    struct termios shown, hidden;
    char line[16384];
    bool quiet = tcgetattr(0, &shown) == 0;

    /* Quiet first: who answers the question at once is not shown either. */
    if (quiet) {
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSAFLUSH, &hidden);
    }
    fprintf(stderr, "%c%s: ", toupper((unsigned char)what[0]), what + 1);
    if (fgets(line, sizeof line, stdin))
        ty_str_add(value, line);
    if (quiet)
        tcsetattr(0, TCSAFLUSH, &shown);
    explicit_bzero(line, sizeof line);
    fputc('\n', stderr);
    return value->failed ? -ENOMEM : 0;
}

static void cut_line_end(struct ty_str *value)
{
    if (value->len > 0 && value->text[value->len - 1] == '\n')
        value->text[--value->len] = '\0';
}

int ty_secret_read(const char *what, const char *file, struct ty_str *ret, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;
    bool input = !file || strcmp(file, "-") == 0;
    size_t n = 0;
    int r;

    if (input && isatty(0)) {
        r = ask(what, ret) < 0 ? ty_error_oom(err) : 0;
        cut_line_end(ret);
        return r;
    }
    r = ty_read_file(input ? "/dev/stdin" : file, TY_SECRET_BYTES_MAX + 2, &text, &n);
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot read %s from '%s': %m", what,
                            input ? "standard input" : file);
    }
    if (memchr(text, '\0', n))
        return ty_error_set(err, -EINVAL, "%s is no text: it holds a NUL", what);
    ty_str_addn(ret, text, n);
    cut_line_end(ret);
    return ret->failed ? ty_error_oom(err) : 0;
}

int ty_secret_from_env(const char *what, const char *variable, struct ty_str *ret,
                       struct ty_error *err)
{
    const char *value = getenv(variable);

    if (!value || !*value)
        return ty_error_set(err, -EINVAL,
                            "cannot read %s: there is no environment variable '%s', or it is empty",
                            what, variable);
    ty_str_add(ret, value);
    return ret->failed ? ty_error_oom(err) : 0;
}
