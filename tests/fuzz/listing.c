/* listing.c - listings of data, as they lie in job folders and come from other machines */
#include "data/listing.h"
#include "base/fs.h"
#include "data/bring_internal.h"
#include "fuzz.h"
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME "fuzz-listing"

void seed_listing(struct corpus *c)
{
    corpus_text(c, "trainyard-data 1\n");
    corpus_text(
        c,
        "trainyard-data 1\n644 1024 1700000000000000 "
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 sets/cat%201.png\n755 0 -5 - b\n");
    corpus_text(c,
                "trainyard-data 1\n644 5 1 900150983cd24fb0d6963f7d28e17f72%20-%200%20%22e%22 a\n"
                "644 5 1 -%20900150983cd24fb0d6963f7d28e17f72%208388608%20x b/c\n");
}

static int check(const struct ty_listed *f, void *ctx)
{
    struct ty_object o;

    (void)ctx;
    assert(ty_path_is_inside(f->path) && f->mark && (f->mode & ~0777u) == 0);
    ty_bring_object(f, &o);
    assert(o.path == f->path && strlen(o.etag) <= strlen(f->mark));
    return 0;
}

/* What is read can be asked for by path; nothing of it leads out of its folder. */
bool parse_listing(const char *bytes, size_t n)
{
    struct ty_listing_known *known = NULL;
    int r;

    assert(ty_write_file(FILE_NAME, bytes, n, 0600) == 0);
    r = ty_listing_read(FILE_NAME, check, NULL);
    assert(r == 0 || r == -EBADMSG);
    if (ty_listing_load(FILE_NAME, &known) == 0)
        assert(!ty_listing_find(known, "../x"));
    ty_listing_forget(known);
    unlink(FILE_NAME);
    return r == 0;
}
