/* object.h - object stores: S3 and what speaks like it, and Azure Blob
 *
 * One vtable (struct ty_object_kind) with what moving files needs; src/data/move.c moves many files at once on top of it. Functions wait for
 * the network: they are for processes of their own. A store is used by one thread; each request may be one of many that
 * ty_http (src/data/http.h) has under way at once.
 */
#ifndef TY_OBJECT_H
#define TY_OBJECT_H
#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_error;
struct ty_http;     /* http.h: libcurl, opened at run time; many transfers at once */
struct ty_http_req; /* one request and its answer */

/* What a listing or an answer says of an object. */
struct ty_object {
    const char *path;     /* below the store's root (container or bucket, and prefix) */
    uint64_t bytes;
    const char *etag;     /* "": not said */
    const char *md5;      /* hex, of the whole content; "": not known (S3: etag of a single part; Azure: Content-MD5) */
    int64_t modified_us;  /* 0: not said */
    const char *sha256;   /* hex, of the object's metadata when we have put it there; "": not known */
};
typedef int (*ty_object_fn)(const struct ty_object *o, void *ctx);

struct ty_object_store;
struct ty_object_kind {
    const char *name;       /* "s3", "azureblob" */
    uint64_t part_bytes;    /* larger files go in parts of so many bytes (at least; at most 10,000 or 50,000 parts) */
    uint64_t parts_max;
    int (*open)(const json_t *config, struct ty_object_store **ret, struct ty_error *err);
    void (*close)(struct ty_object_store *s);
    /* One page: *next is the marker of the following one (malloc'ed), NULL after the last. */
    int (*list)(struct ty_object_store *s, struct ty_http *h, const char *prefix, const char *marker, ty_object_fn fn, void *ctx,
                char **next, struct ty_error *err);
    int (*make_container)(struct ty_object_store *s, struct ty_http *h, struct ty_error *err); /* -EEXIST is no error */
    /* Requests that move.c runs many of; they fill in method, URL, headers and signature of `r`, body and sink are the caller's.
     * get: `bytes` from `offset`, UINT64_MAX: all; `etag`: -ESTALE when the object is another one by now (If-Match). */
    int (*get)(struct ty_object_store *s, struct ty_http_req *r, const char *path, uint64_t offset, uint64_t bytes, const char *etag,
               struct ty_error *err);
    int (*head)(struct ty_object_store *s, struct ty_http_req *r, const char *path, struct ty_error *err);
    /* overwrite false: If-None-Match: *.  md5 and sha256: of the content, hex; NULL: not known. */
    int (*put)(struct ty_object_store *s, struct ty_http_req *r, const char *path, uint64_t bytes, const char *md5, const char *sha256,
               bool overwrite, struct ty_error *err);
    int (*remove)(struct ty_object_store *s, struct ty_http_req *r, const char *path, struct ty_error *err);
    /* Parts: begin gives an upload's name (malloc'ed); part n from 1; finish with what each part's answer said. `resume` gives the
     * parts of an unfinished upload of `path` that are there (name, and for each its bytes and md5). */
    int (*begin)(struct ty_object_store *s, struct ty_http *h, const char *path, const char *sha256, char **upload, struct ty_error *err);
    int (*part)(struct ty_object_store *s, struct ty_http_req *r, const char *path, const char *upload, unsigned n, uint64_t bytes,
                const char *md5, struct ty_error *err);
    int (*finish)(struct ty_object_store *s, struct ty_http *h, const char *path, const char *upload, unsigned parts,
                  const char *const *etags, const char *md5, const char *sha256, bool overwrite, struct ty_error *err);
    int (*resume)(struct ty_object_store *s, struct ty_http *h, const char *path, char **upload,
                  int (*fn)(unsigned n, uint64_t bytes, const char *etag, void *ctx), void *ctx, struct ty_error *err);
    int (*abandon)(struct ty_object_store *s, struct ty_http *h, const char *path, const char *upload, struct ty_error *err);
    /* The answer to `r` (complete): 0, or a negative errno and a sentence that says what the store said and what to do;
     * *again: worth another try after so many ms (a throttle, a 5xx, a connection that broke), 0: not. */
    int (*judge)(struct ty_object_store *s, const struct ty_http_req *r, const char *doing, const char *path, int *again,
                 struct ty_error *err);
    /* What the answer of get, head or put says of the object. */
    int (*about)(struct ty_object_store *s, const struct ty_http_req *r, struct ty_object *o);
};
struct ty_object_store {
    const struct ty_object_kind *kind;
    char *where; /* malloc'ed: for texts, "container 'c' of account 'a'"; never a secret */
};
extern const struct ty_object_kind ty_s3, ty_azblob;
/* NULL: there is no such kind. */
const struct ty_object_kind *ty_object_kind_of(const char *name);
#endif
