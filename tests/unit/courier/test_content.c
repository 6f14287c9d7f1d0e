/* What a job needs, as a list of hashes: each content once, our packages without what builds and interpreters leave. */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/snapshot.h"
#include "blob/statcache.h"
#include "courier/content.h"
#include "data/listing.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static struct ty_blobs *blobs;
static struct ty_statcache *known;

static int set_up(void **state)
{
    struct ty_error err = { 0 };
    char path[96];

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-content-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/blobs", dir);
    known = ty_statcache_load(NULL);
    assert_non_null(known);
    return ty_blobs_open(path, &blobs, &err);
}

static int tear_down(void **state)
{
    (void)state;
    blobs = ty_blobs_free(blobs);
    known = ty_statcache_free(known);
    return ty_rm_rf(dir);
}

static void put(const char *name, const char *text)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0644), 0);
}

static bool has(const struct ty_content *c, const char *text)
{
    unsigned char sha[TY_CHANNEL_SHA];
    char hex[65];

    ty_sha256_hex(text, strlen(text), hex);
    assert_int_equal(ty_sha_to_bytes(hex, sha), 0);
    return ty_content_find(c, sha, 0) < c->n;
}

static char *read_item(const struct ty_content *c, size_t i)
{
    uint64_t bytes = 0;
    int fd = ty_content_read(c, blobs, i, &bytes);
    char *text = calloc(1, bytes + 1);

    assert_true(fd >= 0);
    assert_int_equal(ty_read_full(fd, text, bytes), bytes);
    close(fd);
    return text;
}

static void test_nothing(void **state)
{
    struct ty_content c = { 0 };
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_content_open(&c, blobs, NULL, NULL, known, &err), 0);
    assert_int_equal(c.n, 0);
    assert_string_equal(c.manifest, "");
    ty_content_done(&c);
}

static void test_snapshot(void **state)
{
    struct ty_content c = { 0 };
    struct ty_error err = { 0 };
    char source[96], manifest[96];
    struct ty_snapshot *s = NULL;
    const char *text;
    size_t n;

    (void)state;
    put("source/a.py", "one");
    put("source/b.py", "two");
    put("source/deep/c.py", "one"); /* the same content again */
    snprintf(source, sizeof source, "%s/source", dir);
    snprintf(manifest, sizeof manifest, "%s/manifest", dir);
    assert_int_equal(ty_snapshot_from_dir(source, NULL, NULL, &s, &err), 0);
    text = ty_snapshot_manifest(s, &n);
    assert_int_equal(ty_write_file(manifest, text, n, 0600), 0);
    assert_int_equal(ty_content_open(&c, blobs, manifest, NULL, known, &err), 0);
    assert_string_equal(c.manifest, ty_snapshot_id(s));
    assert_int_equal(c.n, 3); /* the manifest, and two contents */
    assert_true(has(&c, "one") && has(&c, "two") && !has(&c, "three"));
    ty_content_done(&c);
    ty_snapshot_free(s);
    assert_int_equal(ty_content_open(&c, blobs, "/nonexistent/manifest", NULL, known, &err),
                     -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/manifest"));
}

static void test_packages(void **state)
{
    struct ty_content c = { 0 };
    struct ty_error err = { 0 };
    struct ty_snapshot *s = NULL;
    unsigned char sha[TY_CHANNEL_SHA];
    char root[96], link[128], target[128];
    char *text;

    (void)state;
    put("py/horovod/__init__.py", "hvd");
    put("py/horovod/__pycache__/x.pyc", "compiled");
    put("py/horovod/_coll.abi3.so.p/x.o", "object");
    put("elsewhere/run.py", "linked");
    snprintf(root, sizeof root, "%s/py", dir);
    snprintf(link, sizeof link, "%s/py/run.py", dir);
    snprintf(target, sizeof target, "%s/elsewhere/run.py", dir);
    assert_int_equal(symlink(target, link), 0);
    assert_int_equal(ty_content_open(&c, blobs, NULL, root, known, &err), 0);
    assert_true(has(&c, "hvd") && has(&c, "linked"));
    assert_false(has(&c, "compiled") || has(&c, "object"));
    assert_int_equal(c.n, 3);
    /* The manifest is one that a far end can unpack. */
    assert_int_equal(ty_sha_to_bytes(c.packages, sha), 0);
    text = read_item(&c, ty_content_find(&c, sha, 0));
    assert_int_equal(ty_snapshot_parse(text, strlen(text), &s, &err), 0);
    assert_int_equal(ty_snapshot_files(s), 2);
    ty_snapshot_free(s);
    free(text);
    ty_content_done(&c);
    assert_true(ty_content_open(&c, blobs, NULL, "/nonexistent", known, &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent"));
}

/* The cache says of a file what is not in it: who believes the cache has not read the file. */
static void test_packages_known(void **state)
{
    static const char other[] = "what it does not hold";
    struct ty_content c = { 0 };
    struct ty_error err = { 0 };
    CLEANUP_STR struct ty_str lines = { 0 };
    char root[96], path[128], file[96], sha[65];
    struct stat st;

    (void)state;
    put("py/known.py", "old");
    put("py/new.py", "new");
    snprintf(root, sizeof root, "%s/py", dir);
    snprintf(path, sizeof path, "%s/py/known.py", dir);
    snprintf(file, sizeof file, "%s/cache", dir);
    assert_int_equal(stat(path, &st), 0);
    ty_sha256_hex(other, strlen(other), sha);
    ty_str_addf(&lines,
                "trainyard-statcache 1\n%" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %s %s\n",
                (uint64_t)st.st_size, (uint64_t)st.st_ino,
                (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec, sha, path);
    ty_sha256_hex(lines.text, lines.len, sha);
    ty_str_addf(&lines, "sum %s\n", sha);
    assert_int_equal(ty_write_file(file, lines.text, lines.len, 0600), 0);
    ty_statcache_free(known);
    known = ty_statcache_load(file);
    assert_int_equal(ty_content_open(&c, blobs, NULL, root, known, &err), 0);
    assert_true(has(&c, other) && has(&c, "new") && !has(&c, "old"));
    ty_content_done(&c);
    put("py/known.py", "newer"); /* and once it has changed, the file counts */
    assert_int_equal(ty_content_open(&c, blobs, NULL, root, known, &err), 0);
    assert_true(has(&c, "newer") && !has(&c, other));
    ty_content_done(&c);
}

static int add_with_hash(const struct ty_listed *f, void *ctx)
{
    struct ty_listed with = *f;
    char path[256], sha[TY_SHA256_HEX + 1], *text;
    size_t n;

    snprintf(path, sizeof path, "%s/data/%s", dir, f->path);
    assert_int_equal(ty_read_file(path, 1000, &text, &n), 0);
    ty_sha256_hex(text, n, sha);
    free(text);
    with.mark = sha;
    return ty_listing_add(ctx, &with);
}

static ssize_t read_listed_item(const struct ty_content *c, const char *text)
{
    unsigned char sha[TY_CHANNEL_SHA];
    char hex[65], buf[64];
    uint64_t bytes = 0;
    ssize_t n;
    size_t i;
    int fd;

    ty_sha256_hex(text, strlen(text), hex);
    assert_int_equal(ty_sha_to_bytes(hex, sha), 0);
    i = ty_content_find(c, sha, 0);
    assert_true(i < c->n);
    fd = ty_content_read(c, blobs, i, &bytes);
    if (fd < 0)
        return fd;
    n = read(fd, buf, sizeof buf);
    assert_int_equal(n, bytes);
    assert_memory_equal(buf, text, (size_t)n);
    assert_int_equal(ty_content_check(c, i, fd), 0);
    close(fd);
    return n;
}

/* Files of data are read from their place, as long as they are what they were. */
static void test_listed(void **state)
{
    struct ty_listing_out out;
    struct ty_content c = { 0 };
    struct ty_error err = { 0 };
    char folder[96], list[96], *name;
    int fd;

    (void)state;
    put("data/one", "first");
    put("data/sub/two", "second");
    put("data/same", "first");
    snprintf(folder, sizeof folder, "%s/data", dir);
    snprintf(list, sizeof list, "%s/list", dir);
    fd = open(list, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ty_listing_begin(&out, fd), 0);
    assert_int_equal(ty_listing_walk(folder, add_with_hash, NULL, &out, &err), 0);
    assert_int_equal(ty_listing_finish(&out), 0);
    close(fd);
    assert_int_equal(ty_content_open_listing(&c, list, folder, NULL, &err), 0);
    assert_int_equal(c.n, 3); /* two contents, and the listing */
    assert_int_equal(strlen(c.manifest), 64);
    assert_int_equal(read_listed_item(&c, "first"), 5);
    assert_int_equal(read_listed_item(&c, "second"), 6);
    put("data/sub/two", "another");
    assert_int_equal(read_listed_item(&c, "second"), -ESTALE);
    snprintf(list, sizeof list, "%s/data/sub/two", dir);
    assert_int_equal(unlink(list), 0);
    assert_int_equal(read_listed_item(&c, "second"), -ENOENT);
    for (size_t i = 0; i < c.n; i++) {
        name = ty_content_name(&c, i);
        assert_non_null(name);
        free(name);
    }
    ty_content_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_packages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_packages_known, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
