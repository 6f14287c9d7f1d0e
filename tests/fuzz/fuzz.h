/* fuzz.h - the parsers of foreign bytes, and who feeds them
 *
 *   parsers.c  request.c  nodes.c  channel.c  datastore.c  objects.c   the parsers: what each must do with any bytes, and good inputs to begin with
 *   target.c               libFuzzer's entry; built once for each parser (make fuzz)
 *   inputs.c               feeds the good inputs and those in broken/, in every build (make test)
 */
#ifndef TY_TESTS_FUZZ_H
#define TY_TESTS_FUZZ_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MAX (64 * 1024)

/* Takes good inputs, from which the others are made. */
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
extern const struct parser parsers[]; /* the last has no name */
const struct parser *parser_find(const char *name); /* NULL: none */

/* Good inputs are fed, whose answer is waited for; parsers.c */
extern bool fuzz_patient;

/* request.c */
void seed_request(struct corpus *c);
bool parse_request(const char *bytes, size_t n);

/* datastore.c */
void seed_datastore(struct corpus *c);
bool parse_datastore(const char *bytes, size_t n);

/* listing.c */
void seed_listing(struct corpus *c);
bool parse_listing(const char *bytes, size_t n);

/* objects.c */
void seed_objects(struct corpus *c);
bool parse_objects(const char *bytes, size_t n);

/* nodes.c */
void seed_link(struct corpus *c);
bool parse_link(const char *bytes, size_t n);
void seed_node(struct corpus *c);
bool parse_node(const char *bytes, size_t n);

/* channel.c */
void seed_channel(struct corpus *c);
bool parse_channel(const char *bytes, size_t n);
void seed_far(struct corpus *c);
bool parse_far(const char *bytes, size_t n);
void seed_greeting(struct corpus *c);
bool parse_greeting(const char *bytes, size_t n);
#endif
