/* object.h - object stores: S3 and what speaks like it, and Azure Blob
 *
 * A kind of store (struct ty_object_kind) says how each operation is asked for and what its answer means:
 * it fills in a request (method, URL, headers, signature, sometimes a body in memory) and reads one, and never waits.
 * Who runs the requests is either move.c, which has many under way at once, or the functions at the end, which
 * wait for one operation at a time and try again where that is right.  A store is used by one thread.
 *
 * Paths are those of objects below the store's root (container or bucket, and prefix), UTF-8, checked by
 * ty_object_path_check() before a kind sees them: relative, no empty, "." or ".." part, no control character.
 * A store's root has no slash at its end; kinds join with one.
 */
#ifndef TY_OBJECT_H
#define TY_OBJECT_H
#include "base/json.h"
#include "data/md5.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_error;
struct ty_http;     /* http.h: libcurl, opened at run time; many transfers at once */
struct ty_http_req; /* one request and its answer */

/* What a listing or an answer says of an object.  Texts are never NULL, and belong to whoever says it. */
struct ty_object {
    const char *path;
    uint64_t bytes;
    const char *etag;    /* as If-Match wants it, quotes included where the store has them; "": not said */
    int64_t modified_us; /* 0: not said */
    bool has_md5;        /* of the whole content */
    uint8_t md5[TY_MD5_BYTES];
    /* The object came in parts of part_bytes (the last one shorter), and parts_md5 is the MD5 of their MD5s. S3 has this instead of an
     * MD5 of the whole, Azure Blob besides it. */
    uint64_t part_bytes; /* 0: not known */
    bool has_parts_md5;
    uint8_t parts_md5[TY_MD5_BYTES];
};
/* 0, or a negative value that stops and is returned. */
typedef int (*ty_object_fn)(const struct ty_object *o, void *ctx);

/* A part of an upload: where it is in the file is (number - 1) times the part size that `begin` was told. */
struct ty_object_part {
    unsigned number; /* from 1 */
    uint64_t bytes;
    bool has_md5; /* known of parts that are sent, and of what a store lists if it can be had from there */
    uint8_t md5[TY_MD5_BYTES];
    const char *etag; /* as the store gave it; "" where it gives none */
};
typedef int (*ty_object_part_fn)(const struct ty_object_part *p, void *ctx);

/* What is put. */
struct ty_object_content {
    uint64_t bytes;
    const uint8_t *md5;  /* NULL: not known */
    bool overwrite;      /* false: only when there is no such object (If-None-Match: *); answers judge to -EEXIST */
    uint64_t part_bytes; /* begin, finish: the size of the parts */
};

struct ty_object_store {
    const struct ty_object_kind *kind;
    char *where; /* malloc'ed, for texts: "container 'c' of account 'a'", "bucket 'b' at http://host:9000"; never a secret */
};

/* Functions that fill in `r` return 0 or a negative errno with a text; the caller has zero-initialised r or called
 * ty_http_req_again(), and owns body_fd, sink and callbacks.  Functions that read `r` are called when judge() said 0. */
struct ty_object_kind {
    const char *name;         /* "s3", "azureblob" */
    uint64_t part_bytes;      /* files that are larger go in parts of so many bytes, or of more where parts_max asks for it */
    uint64_t part_bytes_max;
    unsigned parts_max;
    bool whole_md5;           /* put and finish want the MD5 of the whole content also when it goes in parts */
    /* `config` as docs/data.md has it, secrets included; it is not kept. */
    int (*open)(const json_t *config, struct ty_object_store **ret, struct ty_error *err);
    void (*close)(struct ty_object_store *s);

    /* One page, at most 1000 or 5000 objects, in the order of their bytes.  marker NULL: the first.  Markers of folders (a slash at the
     * end) are left out; other names come as they are, also those that ty_object_path_check() refuses. */
    int (*list)(struct ty_object_store *s, struct ty_http_req *r, const char *prefix, const char *marker, struct ty_error *err);
    /* *next: the following page's marker (malloc'ed), NULL after the last. */
    int (*listed)(struct ty_object_store *s, struct ty_http_req *r, ty_object_fn fn, void *ctx, char **next, struct ty_error *err);
    /* Is the container there, and may we look into it?  Judged as any other request. */
    int (*probe)(struct ty_object_store *s, struct ty_http_req *r, struct ty_error *err);
    /* judge() says -EEXIST when it is there already. */
    int (*make_container)(struct ty_object_store *s, struct ty_http_req *r, struct ty_error *err);

    /* `bytes` from `offset`; UINT64_MAX: all that follows (with offset 0: no Range at all).  etag (NULL: any): judge() says -ESTALE when the
     * object is another one by now (If-Match). */
    int (*get)(struct ty_object_store *s, struct ty_http_req *r, const char *path, uint64_t offset, uint64_t bytes, const char *etag,
               struct ty_error *err);
    int (*head)(struct ty_object_store *s, struct ty_http_req *r, const char *path, struct ty_error *err);
    /* What the answer of get, head or put says; o->bytes is that of the whole object (of put: 0).  Texts live as long as r. */
    int (*about)(struct ty_object_store *s, const struct ty_http_req *r, struct ty_object *o);
    int (*put)(struct ty_object_store *s, struct ty_http_req *r, const char *path, const struct ty_object_content *c, struct ty_error *err);
    int (*remove)(struct ty_object_store *s, struct ty_http_req *r, const char *path, struct ty_error *err);

    /* Uploads in parts.  `uploads` asks for unfinished ones of this path, `found` gives the latest one's name (malloc'ed), NULL: none.
     * uploads, begin and abandon may be NULL: an upload needs no name then, and `upload` is "". */
    int (*uploads)(struct ty_object_store *s, struct ty_http_req *r, const char *path, struct ty_error *err);
    int (*found)(struct ty_object_store *s, struct ty_http_req *r, const char *path, char **upload, struct ty_error *err);
    int (*begin)(struct ty_object_store *s, struct ty_http_req *r, const char *path, const struct ty_object_content *c, struct ty_error *err);
    int (*begun)(struct ty_object_store *s, struct ty_http_req *r, char **upload, struct ty_error *err);
    /* The parts that an unfinished upload has; a page at a time, as list.  -ENOENT of judge(): there is no such upload (any more). */
    int (*parts)(struct ty_object_store *s, struct ty_http_req *r, const char *path, const char *upload, const char *marker,
                 struct ty_error *err);
    int (*parts_listed)(struct ty_object_store *s, struct ty_http_req *r, ty_object_part_fn fn, void *ctx, char **next, struct ty_error *err);
    /* Send one: p->etag is not set yet, p->md5 is.  `sent` gives what the answer says of it: md5 where the store says what it has. */
    int (*part)(struct ty_object_store *s, struct ty_http_req *r, const char *path, const char *upload, const struct ty_object_part *p,
                struct ty_error *err);
    int (*sent)(struct ty_object_store *s, const struct ty_http_req *r, struct ty_object_part *p);
    int (*finish)(struct ty_object_store *s, struct ty_http_req *r, const char *path, const char *upload, const struct ty_object_part *parts,
                  unsigned n, const struct ty_object_content *c, struct ty_error *err);
    int (*abandon)(struct ty_object_store *s, struct ty_http_req *r, const char *path, const char *upload, struct ty_error *err);

    /* The end of `r`: 0, or a negative errno and a sentence: "cannot <doing> '<path>' in <where>: <what the store said>; <what to do>".
     * `doing` is "upload", "download", "list", ...; path NULL: of the store itself.
     * -EACCES (key, SAS, rights), -ENOENT (object), -ENODEV (container), -EEXIST, -ESTALE, -EBADMSG (checksum: what arrived is not what was
     * sent), -ETIME (clock), -EAGAIN (throttled, 5xx), -EPROTO (no such answer is known), and what r->result has.
     * *again_ms >= 0: another try is right, after so many ms at least; -1: it is not. */
    int (*judge)(struct ty_object_store *s, const struct ty_http_req *r, const char *doing, const char *path, int *again_ms,
                 struct ty_error *err);
};
extern const struct ty_object_kind ty_s3, ty_azblob;
/* NULL: there is no such kind. */
const struct ty_object_kind *ty_object_kind_of(const char *name);

/* `access`: {"name","kind","config":{...}}.  -EINVAL: no such kind, or config that it does not understand.  From now on the process, which
 * has credentials in its memory, leaves no core file. */
int ty_object_open(const json_t *access, struct ty_object_store **ret, struct ty_error *err);
struct ty_object_store *ty_object_close(struct ty_object_store *s);
/* -EINVAL and a text that names it, quoted, with what is wrong. */
int ty_object_path_check(const char *path, struct ty_error *err);
/* The prefix of a store as it is put before paths: without '/' at its ends, checked as a path is.  *ret: malloc'ed, "" for none (NULL
 * is none, too). */
int ty_object_prefix(const char *prefix, char **ret, struct ty_error *err);

/* What kinds say with judge() when no answer came (r->result < 0): the sentence, and again_ms for what may work next time. */
int ty_object_judge_result(const struct ty_object_store *s, const struct ty_http_req *r, const char *doing, const char *path,
                           int *again_ms, struct ty_error *err);
/* -ETIME and the sentence of a clock that is wrong, with both times: the machine's, and the answer's Date (or `theirs`, NULL).  0: its Date is
 * within 5 minutes of this machine's, or not there. */
int ty_object_judge_clock(const struct ty_object_store *s, const struct ty_http_req *r, const char *doing, const char *path,
                          const char *theirs, struct ty_error *err);
/* The pause before try number `tries` (from 1) of something that failed: doubled each time from half a second on, at most 20 s, a fifth of it by
 * chance, and at least again_ms; $TRAINYARD_TEST_RETRY_MS is the first one then. */
int ty_object_pause_ms(unsigned tries, int again_ms);
#define TY_OBJECT_TRIES 6
/* This machine's time as requests are signed with it, seconds since 1970; $TRAINYARD_TEST_CLOCK_SHIFT (seconds) is added. */
int64_t ty_object_now_s(void);

/* "cannot <doing> '<path>' in <where>: " and the rest, which says why and what to do; returns code. */
int ty_object_say(const struct ty_object_store *s, const char *doing, const char *path, int code, struct ty_error *err, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

/* (waits) Every object whose path begins with `prefix`. */
int ty_object_list(struct ty_object_store *s, struct ty_http *h, const char *prefix, ty_object_fn fn, void *ctx, struct ty_error *err);
/* (waits) fn is called with what is there. -ENOENT. */
int ty_object_head(struct ty_object_store *s, struct ty_http *h, const char *path, ty_object_fn fn, void *ctx, struct ty_error *err);
/* (waits) 0 also when there was none. */
int ty_object_remove(struct ty_object_store *s, struct ty_http *h, const char *path, struct ty_error *err);
/* (waits) Is the container there, does the key fit, is the clock right?  -ENODEV, -EACCES, -ETIME, ... */
int ty_object_validate(struct ty_object_store *s, struct ty_http *h, struct ty_error *err);
/* (waits) 0 also when it is there. */
int ty_object_make_container(struct ty_object_store *s, struct ty_http *h, struct ty_error *err);
#endif
