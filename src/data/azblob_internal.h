/* azblob_internal.h - what the files of the Azure Blob kind share */
#ifndef TY_AZBLOB_INTERNAL_H
#define TY_AZBLOB_INTERNAL_H
#include "data/http.h"
#include "data/object.h"
#include "data/sharedkey.h"

#define TY_AZ_VERSION "2020-10-02" /* of the service: of requests and answers */
#define TY_AZ_PARTS "x-ms-meta-trainyard_parts"

struct ty_az_store {
    struct ty_object_store base;
    struct ty_sharedkey key; /* account is that below; key NULL: there is a SAS, or requests are anonymous */
    char *account, *container;
    char *sas;    /* as it goes behind '?', or NULL */
    char *prefix; /* "": none; else without a slash at its ends */
    char *url;    /* of the container, without a slash at its end */
    bool cloud;   /* it is the cloud's own address: no endpoint but a suffix was given */
};

/* Method and URL; path NULL: of the container; `query` is "" or "a=b&c=d". */
int ty_az_ask(struct ty_az_store *s, struct ty_http_req *r, const char *method, const char *path, const char *query,
              struct ty_error *err);
/* The same for a blob that is written: its name must be one that the service keeps as it is. */
int ty_az_ask_write(struct ty_az_store *s, struct ty_http_req *r, const char *path, const char *query, struct ty_error *err);
/* After the headers: the version, and the signature or the SAS. */
int ty_az_sign(struct ty_az_store *s, struct ty_http_req *r, struct ty_error *err);
/* What the SAS says for a key ("se"), decoded, into text; false: nothing. */
bool ty_az_sas_value(const char *sas, const char *key, char *text, size_t max);

/* The container's address with who may use it in its query: the SAS that the store has, or one of the account key's that is good until
 * then (seconds since 1970).  malloc'ed; NULL: out of memory. */
char *ty_az_sas_url(const struct ty_object_store *base, int64_t until_s);

/* "Thu, 26 Nov 2026 20:31:51 GMT" as microseconds since 1970; 0: it is no such time. */
int64_t ty_az_when(const char *text);

/* azblob_parts.c: uploads in blocks */
int ty_az_parts(struct ty_object_store *base, struct ty_http_req *r, const char *path, const char *upload, const char *marker,
                struct ty_error *err);
int ty_az_parts_listed(struct ty_object_store *base, struct ty_http_req *r, ty_object_part_fn fn, void *ctx, char **next,
                       struct ty_error *err);
int ty_az_part(struct ty_object_store *base, struct ty_http_req *r, const char *path, const char *upload,
               const struct ty_object_part *p, struct ty_error *err);
int ty_az_sent(struct ty_object_store *base, const struct ty_http_req *r, struct ty_object_part *p);
int ty_az_finish(struct ty_object_store *base, struct ty_http_req *r, const char *path, const char *upload,
                 const struct ty_object_part *parts, unsigned n, const struct ty_object_content *c, struct ty_error *err);
/* What TY_AZ_PARTS says (NULL: nothing) into o, whose md5 is set; what is not of that content counts for nothing. */
void ty_az_read_parts(const char *text, struct ty_object *o);

/* azblob_judge.c */
int ty_az_judge(struct ty_object_store *base, const struct ty_http_req *r, const char *doing, const char *path, int *again_ms,
                struct ty_error *err);
#endif
