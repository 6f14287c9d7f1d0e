/* sharedkey.h - Shared Key, the signature by which Azure Storage knows who asks
 *
 * The signature covers the method, the headers that matter, every x-ms- header, the path as it stands in the URL, and
 * the query.  Headers must be complete when it is made, and the length of the body must be known (body_bytes).
 */
#ifndef TY_SHAREDKEY_H
#define TY_SHAREDKEY_H
#include "data/http.h"

struct ty_sharedkey {
    const char *account;
    const uint8_t *key; /* decoded */
    size_t key_bytes;
};

/* Add x-ms-date and Authorization, which the request must not have yet.  now_s: seconds since 1970. */
int ty_sharedkey_sign(const struct ty_sharedkey *k, struct ty_http_req *r, int64_t now_s);
/* What is signed, in the form that versions since 2015-02-21 of the service want; malloc'ed; NULL: out of memory. */
char *ty_sharedkey_string(const char *account, const struct ty_http_req *r);

/* A SAS of the container, good for its blobs until then (seconds since 1970), for who must not have the key: "sp=rcwdl&...&sig=...",
 * malloc'ed; NULL: out of memory. */
char *ty_sharedkey_sas(const struct ty_sharedkey *k, const char *container, int64_t until_s);
#endif
