/* test_blobs.c - blobs and snapshots */
#include "base/fault.h"
#include "blob/blob.h"
#include "kit.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define NONE "0000000000000000000000000000000000000000000000000000000000000000"

static void put_hello(struct kit *k)
{
    expect(k, "PUT", "/api/v1/blobs/" HELLO, "hello", 204, "");
}

static void test_blob(void **state)
{
    struct kit *k = *state;

    expect(k, "POST", "/api/v1/blobs/missing", HELLO "\r\n\n" NONE, 200, HELLO "\n" NONE "\n");
    put_hello(k);
    put_hello(k);
    assert_int_equal(ty_blob_bytes(k->blobs, HELLO), 5);
    expect(k, "POST", "/api/v1/blobs/missing", HELLO "\n", 200, "");
    expect(k, "POST", "/api/v1/blobs/missing", "", 200, "");
}

static void test_bad_blobs(void **state)
{
    expect(*state, "PUT", "/api/v1/blobs/" NONE, "hello", 400, "has the SHA-256 " HELLO);
    expect(*state, "PUT", "/api/v1/blobs/abc", "hello", 400, "'abc' cannot be the name of a blob");
    expect(*state, "POST", "/api/v1/blobs/missing", HELLO "\n../x\n", 400,
           "'../x', which is no SHA-256");
    expect(*state, "POST", "/api/v1/blobs/missing", NONE, 200, NONE);
}

#ifdef TY_FAULTS
/* A disk that fills up while a file comes in: the client is told at once, and nothing stays. */
static void test_full_disk(void **state)
{
    static char big[200000];
    struct answer a;

    ty_fault_arm("blob.write", 2, ENOSPC);
    a = ask(*state, "PUT", "/api/v1/blobs/" NONE, NULL, big, sizeof big);
    ty_fault_arm("none", 0, 0);
    assert_int_equal(a.status, 507);
    check_schema("error", a.json);
    answer_done(&a);
    put_hello(*state);
}
#endif

static void snapshot_text(struct ty_str *s, char id[65])
{
    ty_str_add(s, "trainyard-snapshot 1\nf 644 5 " HELLO " train.py\n");
    ty_sha256_hex(s->text, s->len, id);
}

static void test_snapshot(void **state)
{
    CLEANUP_STR struct ty_str manifest = { 0 };
    CLEANUP_FREE char *path = NULL;
    char id[65];

    snapshot_text(&manifest, id);
    path = ty_strf("/api/v1/snapshots/%s", id);
    expect(*state, "GET", path, NULL, 404, "there is no snapshot");
    expect(*state, "PUT", path, manifest.text, 409,
           "the blob of 'train.py' (" HELLO ") is not there");
    put_hello(*state);
    expect(*state, "PUT", path, manifest.text, 204, "");
    expect(*state, "PUT", path, manifest.text, 204, "");
    expect(*state, "GET", path, NULL, 200, manifest.text);
    expect(*state, "PUT", "/api/v1/snapshots/" NONE, manifest.text, 400, "not of '" NONE "'");
    expect(*state, "PUT", path, "nonsense", 400, "");
    expect(*state, "PUT", "/api/v1/snapshots/x", manifest.text, 400,
           "cannot be the name of a snapshot");
    expect(*state, "GET", "/api/v1/snapshots/x", NULL, 400, "cannot be the name of a snapshot");
}

static void test_file_of_snapshot(void **state)
{
    CLEANUP_STR struct ty_str manifest = { 0 };
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *file = NULL;
    CLEANUP_FREE char *rest = NULL;
    CLEANUP_FREE char *link = NULL;
    CLEANUP_FREE char *behind = NULL;
    char id[65];

    ty_str_add(&manifest, "trainyard-snapshot 1\nd - - - empty\nf 644 5 " HELLO
                          " sub/a b%25.py\nl - 8 - to -> sub/x.py\n");
    ty_sha256_hex(manifest.text, manifest.len, id);
    path = ty_strf("/api/v1/snapshots/%s", id);
    file = ty_strf("%s/files/sub/a%%20b%%25.py", path);
    rest = ty_strf("%s?offset=2", file);
    behind = ty_strf("%s?offset=6", file);
    link = ty_strf("%s/files/to", path);
    expect(*state, "GET", file, NULL, 404, "there is no snapshot");
    put_hello(*state);
    expect(*state, "PUT", path, manifest.text, 204, "");
    expect(*state, "GET", file, NULL, 200, "hello");
    expect(*state, "GET", rest, NULL, 200, "llo");
    expect(*state, "GET", behind, NULL, 400, "behind its end");
    expect(*state, "GET", link, NULL, 404, "has no file 'to'");
    expect(*state, "GET", "/api/v1/snapshots/x/files/y", NULL, 400,
           "cannot be the name of a snapshot");
}

static void test_snapshot_of_wrong_size(void **state)
{
    CLEANUP_FREE char *path = NULL;
    const char *manifest = "trainyard-snapshot 1\nf 644 6 " HELLO " train.py\n";
    char id[65];

    ty_sha256_hex(manifest, strlen(manifest), id);
    path = ty_strf("/api/v1/snapshots/%s", id);
    put_hello(*state);
    expect(*state, "PUT", path, manifest, 400, "says that 'train.py' has 6 bytes; its blob has 5");
}

#ifdef TY_FAULTS
/* The store refuses after it: sched is asked to let it go on. */
static void test_snapshot_on_a_full_disk(void **state)
{
    struct kit *k = *state;
    CLEANUP_STR struct ty_str manifest = { 0 };
    CLEANUP_FREE char *path = NULL;
    char id[65];

    snapshot_text(&manifest, id);
    path = ty_strf("/api/v1/snapshots/%s", id);
    put_hello(*state);
    ty_fault_arm("store.commit", 1, ENOSPC);
    expect(k, "PUT", path, manifest.text, 507, "cannot store snapshot");
    ty_fault_arm("none", 0, 0);
    assert_int_equal(k->sched.recoveries, 1);
    assert_int_equal(ty_store_resume(k->store), 0);
    expect(k, "PUT", path, manifest.text, 204, "");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_blob, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_bad_blobs, kit_open, kit_close),
#ifdef TY_FAULTS
        cmocka_unit_test_setup_teardown(test_full_disk, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_snapshot_on_a_full_disk, kit_open, kit_close),
#endif
        cmocka_unit_test_setup_teardown(test_snapshot, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_file_of_snapshot, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_snapshot_of_wrong_size, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("blobs", tests, NULL, NULL);
}
