/* reply.h - what goes back, and the one table of error codes */
#ifndef TY_HTTP_REPLY_H
#define TY_HTTP_REPLY_H
#include "base/json.h"
#include "base/str.h"
#include <stddef.h>
#include <stdint.h>
struct MHD_Response;
struct ty_error;

struct reply {
    unsigned status;
    struct MHD_Response *response; /* NULL: not made yet */
};
void reply_done(struct reply *rep);

/* Each returns 0 or -ENOMEM, and takes over what it is given even then. */
int reply_json(struct reply *rep, unsigned status, json_t *j);
int reply_text(struct reply *rep, const char *type, struct ty_str *text); /* leaves *text empty */
int reply_nothing(struct reply *rep);                                     /* 204 */
/* bytes [offset, offset + n) of fd */
int reply_fd(struct reply *rep, int fd, uint64_t offset, uint64_t n, const char *type);
int reply_header(struct reply *rep, const char *name, const char *value);

unsigned reply_status(int r);            /* of a negative errno: 400 to 507 */
const char *reply_code(unsigned status); /* "bad_request" ... */
/* The body of an error: JSON, or the sentence alone. */
void reply_error_body(struct ty_str *s, unsigned status, const char *sentence, bool plain);
int reply_error(struct reply *rep, int r, const char *sentence, bool plain);
#endif
