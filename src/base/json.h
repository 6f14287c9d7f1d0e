/* json.h - jansson, with the checks that input from outside needs
 *
 * Getters name the key and what is wrong with it in *err, and leave *ret alone when they fail.
 * `what` is the word for the object in error texts, for example "run spec".
 */
#ifndef TY_JSON_H
#define TY_JSON_H
#include "base/cleanup.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

static inline void ty_json_decrefp(json_t **j) { json_decref(*j); }
#define CLEANUP_JSON CLEANUP(ty_json_decrefp)

/* Parse; refuses duplicate keys, NUL characters and nesting over 64.  -EINVAL with line and column. */
int ty_json_parse(const char *text, size_t n, json_t **ret, struct ty_error *err);
char *ty_json_text(const json_t *j); /* compact, keys in insertion order, malloc'ed; NULL: out of memory */

/* A missing or null key gives 0 and leaves *ret alone. -EINVAL: wrong type or out of range. */
int ty_json_get_str(const json_t *o, const char *what, const char *key, const char **ret, struct ty_error *err);
int ty_json_get_i64(const json_t *o, const char *what, const char *key, int64_t min, int64_t max, int64_t *ret,
                    struct ty_error *err);
int ty_json_get_bool(const json_t *o, const char *what, const char *key, bool *ret, struct ty_error *err);
/* An object whose values are all strings; *ret is borrowed from o. */
int ty_json_get_strings(const json_t *o, const char *what, const char *key, json_t **ret, struct ty_error *err);
/* -EINVAL, naming the key, when o has a key that the NULL-terminated `known` lacks. */
int ty_json_only(const json_t *o, const char *what, const char *const *known, struct ty_error *err);

/* Each text in `value`, at whatever depth, but not below the key `but` of an object (NULL: none).  What `fn` puts into *instead, owned from
 * then on, takes its place; a negative return ends it, and is returned.  -ENOMEM. */
int ty_json_each_text(json_t *value, const char *but, int (*fn)(const char *text, json_t **instead, void *ctx), void *ctx);
#endif
