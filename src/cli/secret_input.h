/* secret_input.h - secrets on their way in: from a terminal that does not show them, a file, standard input or a variable
 *
 * Never from the command line, which every user of the box can list and the shell remembers.
 */
#ifndef TY_CLI_SECRET_INPUT_H
#define TY_CLI_SECRET_INPUT_H
#include "base/str.h"
struct ty_error;

#define TY_SECRET_BYTES_MAX 65536

/* From `file` ("-" and NULL: standard input), or asked for when that is a terminal.  `what` names it in texts: "the value of secret 'x'".
 * One end of line at its end is left out: it is the terminal's, or the editor's. */
int ty_secret_read(const char *what, const char *file, struct ty_str *ret, struct ty_error *err);
/* From an environment variable.  -EINVAL: there is none of that name, or it is empty. */
int ty_secret_from_env(const char *what, const char *variable, struct ty_str *ret, struct ty_error *err);
#endif
