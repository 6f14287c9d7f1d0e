/* s3_internal.h - what the files of the S3 kind share */
#ifndef TY_S3_INTERNAL_H
#define TY_S3_INTERNAL_H
#include "data/http.h"
#include "data/object.h"
#include "data/sigv4.h"

struct ty_s3_store {
    struct ty_object_store base;
    struct ty_sigv4 key; /* its texts are those below; key_id NULL: requests are not signed */
    char *key_id, *secret, *token, *region;
    char *bucket;
    char *prefix; /* "": none; else without a slash at its ends */
    char *url;    /* of the bucket, without a slash at its end */
    bool unconditional; /* the store does not know If-None-Match for what is put: it is not asked for any more, */
    bool blind;         /* unless the key may not look what is there */
};

/* Method, URL and query ("" or "?..."), before the headers; path NULL: of the bucket. */
int ty_s3_ask(struct ty_s3_store *s, struct ty_http_req *r, const char *method, const char *path,
              const char *query, struct ty_error *err);
/* After the headers.  `payload` as ty_sigv4_sign() has it. */
int ty_s3_sign(struct ty_s3_store *s, struct ty_http_req *r, const char *payload,
               struct ty_error *err);
/* The body of XML that `text` holds, with its hash. */
int ty_s3_sign_xml(struct ty_s3_store *s, struct ty_http_req *r, struct ty_str *text,
                   struct ty_error *err);
/* An ETag as MD5, which it is for what came in one piece and is not encrypted with a key of KMS. */
bool ty_s3_etag_md5(const char *etag, uint8_t md5[TY_MD5_BYTES]);

/* s3_parts.c: uploads in parts */
int ty_s3_uploads(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  struct ty_error *err);
int ty_s3_found(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                char **upload, struct ty_error *err);
int ty_s3_begin(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                const struct ty_object_content *c, struct ty_error *err);
int ty_s3_begun(struct ty_object_store *base, struct ty_http_req *r, char **upload,
                struct ty_error *err);
int ty_s3_parts(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                const char *upload, const char *marker, struct ty_error *err);
int ty_s3_parts_listed(struct ty_object_store *base, struct ty_http_req *r, ty_object_part_fn fn,
                       void *ctx, char **next, struct ty_error *err);
int ty_s3_part(struct ty_object_store *base, struct ty_http_req *r, const char *path,
               const char *upload, const struct ty_object_part *p, struct ty_error *err);
int ty_s3_sent(struct ty_object_store *base, const struct ty_http_req *r, struct ty_object_part *p);
int ty_s3_finish(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                 const char *upload, const struct ty_object_part *parts, unsigned n,
                 const struct ty_object_content *c, struct ty_error *err);
int ty_s3_abandon(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  const char *upload, struct ty_error *err);
/* The key of an object in a listing (percent-encoded when the answer says so) below our prefix, or NULL. */
char *ty_s3_path_of(const struct ty_s3_store *s, char *key, bool encoded);

/* s3_judge.c */
int ty_s3_judge(struct ty_object_store *base, const struct ty_http_req *r, const char *doing,
                const char *path, int *again_ms, struct ty_error *err);
#endif
