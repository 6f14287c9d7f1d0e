/* target.c - libFuzzer's entry for the parser that the build names in FUZZ_PARSER */
#include "fuzz.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct parser *parser;
    char *copy;

    if (!parser && !(parser = parser_find(FUZZ_PARSER)))
        abort();
    if (n > FUZZ_INPUT_MAX)
        return -1;
    copy = malloc(
        n + 1); /* with nothing readable behind it, so that the sanitizer sees a step too far */
    memcpy(copy, bytes, n);
    copy[n] = '\0';
    parser->parse(copy, n);
    free(copy);
    return 0;
}

/* The good inputs come as files, which `inputs -w` has written. */
void corpus_add(struct corpus *c, const void *bytes, size_t n)
{
    (void)c, (void)bytes, (void)n;
}

void corpus_text(struct corpus *c, const char *text)
{
    (void)c, (void)text;
}
