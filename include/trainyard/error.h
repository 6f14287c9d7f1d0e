/* error.h - what went wrong, for a person
 *
 * Filled by a function that returned a negative errno.  The text is one sentence: what was attempted,
 * on what (quoted, in the user's own words), why it failed and, when known, what to do.
 */
#ifndef TRAINYARD_ERROR_H
#define TRAINYARD_ERROR_H

struct ty_error {
    int code;       /* the negative errno that the function returned; 0: nothing went wrong */
    char text[768]; /* UTF-8; longer texts are cut at a character boundary and end in "..." */
};
#endif
