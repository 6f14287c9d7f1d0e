/* test_store_artifact.c - files, snapshots, and the blobs that something refers to */
#include "kit.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void test_files_by_path(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);
    json_t *j = NULL;
    char sha[65] = "as before";
    uint64_t bytes = 7;

    kit_note(u, id, 2, TY_NOTE_ARTIFACT,
             "{\"path\": \"outputs/m\", \"sha256\": \"" SHA_A "\", \"bytes\": 12}", &run);
    ty_unit_log(u, id, "x", "azureml-logs/70_driver_log.txt", 0, "hello", 5, T0);
    ty_unit_log(u, id, "x", "zz", 0, "", 0, T0);
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_files(k->st, id, &j), 0);
    kit_json_is(
        j,
        "[{\"path\": \"azureml-logs/70_driver_log.txt\", \"bytes\": 5, \"kind\": \"log\", \"sha256\": null}, "
        "{\"path\": \"outputs/m\", \"bytes\": 12, \"kind\": \"artifact\", \"sha256\": \"" SHA_A
        "\"}, "
        "{\"path\": \"zz\", \"bytes\": 0, \"kind\": \"log\", \"sha256\": null}]");
    assert_int_equal(ty_store_artifact(k->st, id, "outputs/none", sha, &bytes), -ENOENT);
    assert_string_equal(sha, "as before");
    assert_int_equal(bytes, 7);
    assert_int_equal(ty_store_artifact(k->st, id, "outputs/m", sha, &bytes), 0);
    assert_string_equal(sha, SHA_A);
    assert_int_equal(bytes, 12);
}

static int collect(const char *sha, bool is_manifest, void *ctx)
{
    char *have = ctx;

    snprintf(have + strlen(have), 64 - strlen(have), "%c%c ", sha[0], is_manifest ? 'm' : 'a');
    return sha[0] == 'e' ? -ECANCELED : 0;
}

static void blobs_are(struct kit *k, const char *want, int r)
{
    char have[64] = "";

    assert_int_equal(ty_store_each_blob(k->home, collect, have), r);
    assert_string_equal(have, want);
}

static void test_snapshots_and_blobs(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run_row row = { .id = ty_store_next_id(k->st),
                              .name = "x",
                              .experiment = "e",
                              .snapshot = SHA_B,
                              .run = TY_RUN_INIT };

    ty_unit_snapshot_put(u, SHA_A, 3, 100, T0);
    ty_unit_snapshot_put(u, SHA_B, 3, 100, T0);
    ty_unit_run_add(u, &row);
    kit_event(u, row.id, 1, TY_EV_SUBMITTED, NULL, &row.run);
    kit_note(u, row.id, 2, TY_NOTE_ARTIFACT, "{\"path\": \"p\", \"sha256\": \"c\", \"bytes\": 1}",
             &row.run);
    kit_note(u, row.id, 3, TY_NOTE_ARTIFACT, "{\"path\": \"q\", \"sha256\": \"c\", \"bytes\": 1}",
             &row.run);
    assert_int_equal(kit_commit(k, u), 0);
    assert_true(ty_store_snapshot_has(k->st, SHA_A));
    blobs_are(k, "am bm ca ", 0);

    u = ty_unit_new();
    ty_unit_snapshot_put(u, SHA_A, 3, 100, T0 + 10); /* touched */
    ty_unit_snapshots_prune(u, T0 + 10, NULL);
    assert_int_equal(kit_commit(k, u), 0);
    assert_true(ty_store_snapshot_has(k->st, SHA_A));
    assert_true(ty_store_snapshot_has(k->st, SHA_B)); /* old, but a run refers to it */

    u = ty_unit_new();
    ty_unit_run_delete(u, row.id);
    ty_unit_snapshots_prune(u, T0 + 11, NULL);
    ty_unit_snapshot_put(u, "e", 1, 1, T0);
    assert_int_equal(kit_commit(k, u), 0);
    assert_false(ty_store_snapshot_has(k->st, SHA_A));
    assert_false(ty_store_snapshot_has(k->st, SHA_B));
    blobs_are(k, "em ", -ECANCELED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_files_by_path), T(test_snapshots_and_blobs) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
