/* fuzz.h - one parser of foreign bytes, as the driver (fuzz.c) sees it */
#ifndef TY_TESTS_FUZZ_H
#define TY_TESTS_FUZZ_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MAX (64 * 1024)

/* Good inputs, from which the others are made. */
struct corpus;
void corpus_add(struct corpus *c, const void *bytes, size_t n);
void corpus_text(struct corpus *c, const char *text);

struct parser {
    const char *name;
    void (*seed)(struct corpus *c);
    /* Must return, whatever the bytes are, and asserts what is true of every result; true: they were accepted, as good inputs
     * must be.  `bytes` is followed by a NUL, which does not belong to the input. */
    bool (*parse)(const char *bytes, size_t n);
};
extern const struct parser parsers[]; /* parsers.c; the last has no name */
#endif
