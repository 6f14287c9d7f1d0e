/* kit.h - a store in the test's own folder */
#ifndef TESTS_BLOB_KIT_H
#define TESTS_BLOB_KIT_H
#include "base/error.h"
#include "base/str.h"
#include "blob/blob.h"
#include "tests.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#define SHA_HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" /* "hello" */
#define BLOB_HELLO "store/2c/f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static inline struct ty_blobs *open_store(void)
{
    struct ty_error err = { 0 };
    struct ty_blobs *b = NULL;

    assert_int_equal(ty_blobs_open("store", &b, &err), 0);
    return b;
}

static inline void put_text(struct ty_blobs *b, const char *text, char sha[TY_SHA256_HEX + 1])
{
    struct ty_error err = { 0 };

    assert_int_equal(ty_blob_put_bytes(b, text, strlen(text), sha, &err), 0);
}

/* Files below a folder, folders not counted. */
static inline int count_file(const char *rel, const struct stat *st, void *ctx)
{
    (void)rel;
    *(int *)ctx += !S_ISDIR(st->st_mode);
    return 0;
}

static inline int files_below(const char *dir)
{
    int n = 0;

    assert_int_equal(ty_walk(dir, count_file, &n, NULL), 0);
    return n;
}

static inline void make_old(const char *path, int64_t seconds)
{
    const struct timespec t[2] = { { .tv_sec = time(NULL) - seconds }, { .tv_sec = time(NULL) - seconds } };

    assert_int_equal(utimensat(AT_FDCWD, path, t, AT_SYMLINK_NOFOLLOW), 0);
}
#endif
