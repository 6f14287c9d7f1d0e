/* capture.h - run the command line inside the test, and keep what it prints */
#ifndef TY_TEST_CAPTURE_H
#define TY_TEST_CAPTURE_H
#include <stddef.h>

struct captured {
    int code;
    char *out, *err; /* NUL-terminated */
    size_t out_len;
};
/* trainyard --home HOME WORDS..., standard input from /dev/null; home NULL: no --home. */
struct captured capture(const char *home, const char *const *words);
#define CAPTURE(home, ...) capture(home, (const char *const[]){ __VA_ARGS__, NULL })
void captured_done(struct captured *c);
/* The same for any function. */
struct captured capture_call(int (*fn)(void *ctx), void *ctx);
#endif
