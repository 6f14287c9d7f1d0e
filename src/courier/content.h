/* content.h - what a host must have before a job can start there: named by content, so that only what is missing is sent */
#ifndef TY_CONTENT_H
#define TY_CONTENT_H
#include "blob/blob.h"
#include "courier/channel.h"
struct ty_error;
struct ty_owner;
struct ty_statcache;

struct ty_item {
    unsigned char sha[TY_CHANNEL_SHA];
    char *path; /* owned; NULL: it is in the blob store, or a line of the listing */
    uint64_t offset; /* of the line in the listing; 0: it is not of it */
};
struct ty_content {
    struct ty_item *items;
    size_t n, cap;
    char manifest[TY_SHA256_HEX + 1]; /* of the snapshot; "": none */
    char packages[TY_SHA256_HEX + 1]; /* of our Python packages; "": none */
    /* Of the files of a data reference, which are read from their place: */
    const char *folder;           /* the caller's; NULL: there are none */
    const struct ty_owner *owner; /* the caller's; as whom they are read */
    int listing;                  /* descriptor */
};
/* `manifest` and `packages` (a folder) may be NULL.  `known`: files of the packages that it names unchanged are not read. */
int ty_content_open(struct ty_content *c, struct ty_blobs *blobs, const char *manifest, const char *packages,
                    struct ty_statcache *known, struct ty_error *err);
/* The files of a listing (data/listing.h), which lie in `folder`, and the listing itself, whose hash becomes `manifest`.  48 bytes a
 * file are kept. */
int ty_content_open_listing(struct ty_content *c, const char *listing, const char *folder, const struct ty_owner *owner,
                            struct ty_error *err);
void ty_content_done(struct ty_content *c);
/* A descriptor to read the item, and its size; or a negative errno.  -ESTALE: a file of a listing is not what it was. */
int ty_content_read(const struct ty_content *c, struct ty_blobs *blobs, size_t i, uint64_t *bytes);
/* Is the file behind a descriptor of ty_content_read() still what it was?  0 or -ESTALE. */
int ty_content_check(const struct ty_content *c, size_t i, int fd);
/* What people call the item: malloc'ed, or NULL. */
char *ty_content_name(const struct ty_content *c, size_t i);
/* The first item of that hash from `from` on; c->n: there is none. */
size_t ty_content_find(const struct ty_content *c, const unsigned char *sha, size_t from);
#endif
