/* sigv4.h - AWS Signature Version 4
 *
 * The signature covers every header that the request has, its method, path, query and the hash of its body.
 * Path and query are taken as they stand in the URL: they must be encoded as S3 wants it (every byte but A-Z a-z 0-9 - . _ ~,
 * and '/' of a path, as %XX with capitals) and are not encoded again.
 */
#ifndef TY_SIGV4_H
#define TY_SIGV4_H
#include "data/http.h"

#define TY_SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define TY_SIGV4_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" /* SHA-256 of nothing */

struct ty_sigv4 {
    const char *key_id, *secret;
    const char *token; /* of a session; NULL: none */
    const char *region, *service;
    /* private: the key of a day */
    char day[9];
    uint8_t key[32];
};

/* Add x-amz-date, with a token x-amz-security-token, with `payload` (a hex SHA-256 or TY_SIGV4_UNSIGNED)
 * x-amz-content-sha256, and Authorization; the request must have no such headers yet, and may have no others
 * afterwards.  payload NULL: the body is empty, and no header says so.  now_s: seconds since 1970. */
int ty_sigv4_sign(struct ty_sigv4 *k, struct ty_http_req *r, const char *payload, int64_t now_s);
/* What is signed, for tests: malloc'ed; NULL: out of memory. */
char *ty_sigv4_canonical(const struct ty_http_req *r, const char *payload, char **signed_headers);
#endif
