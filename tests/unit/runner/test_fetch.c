/* test_fetch.c - blobs through a stream, from one store to another */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/str.h"
#include "runner/fetch.h"
#include "runner/stream.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PATIENCE_US (20 * 1000 * 1000)

struct box {
    char dir[64];
    struct ty_blobs *here, *there;
    struct ty_gate *gate;
    struct ty_stream *near, *far; /* who wants, and who has */
    struct ty_fetch *fetch;
    int whole, failed, last;
};

static int set_up(void **state)
{
    static const unsigned char key[TY_LINK_KEY] = { 3 };
    static char *const to[] = { (char *)"127.0.0.1", NULL };
    struct box *b = calloc(1, sizeof *b);
    CLEANUP_FREE char *here = NULL, *there = NULL;
    struct ty_call *call = NULL;
    struct ty_error err = { 0 };

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-fetch-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    here = ty_path_join(b->dir, "here");
    there = ty_path_join(b->dir, "there");
    assert_int_equal(ty_blobs_open(here, &b->here, &err), 0);
    assert_int_equal(ty_blobs_open(there, &b->there, &err), 0);
    assert_int_equal(ty_gate_open(key, &b->gate, &err), 0);
    assert_int_equal(ty_call_new(to, ty_gate_port(b->gate), key, &call), 0);
    b->near = ty_stream_new_call(call, "{}");
    b->fetch = ty_fetch_new(b->here);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_fetch_free(b->fetch);
    ty_stream_free(b->near);
    ty_stream_free(b->far);
    ty_gate_free(b->gate);
    ty_blobs_free(b->here);
    ty_blobs_free(b->there);
    ty_rm_rf(b->dir);
    free(b);
    return 0;
}

/* A turn of both sides; the far one answers. */
static void turn(struct box *b)
{
    int64_t now = ty_mono_us();
    struct ty_link *l = ty_gate_next(b->gate, now);
    struct ty_error err = { 0 };
    struct ty_frame f;

    if (l) {
        ty_stream_free(b->far);
        b->far = ty_stream_new_called(l);
        ty_fetch_again(b->fetch);
    }
    if (b->far) {
        ty_stream_turn(b->far, now);
        while (ty_stream_room(b->far) && ty_stream_next(b->far, &f) == 0)
            if (f.type == TY_FRAME_WANT)
                ty_fetch_answer(b->there, &f, b->far);
        ty_stream_flush(b->far, now);
    }
    ty_stream_turn(b->near, now);
    while (ty_stream_next(b->near, &f) == 0)
        if (f.type == TY_FRAME_BLOB) {
            b->last = ty_fetch_hear(b->fetch, &f, &err);
            b->whole += b->last == 1;
            b->failed += b->last < 0;
        }
    ty_fetch_pump(b->fetch, b->near);
    ty_stream_flush(b->near, now);
}

static void settle(struct box *b)
{
    int64_t end = ty_mono_us() + PATIENCE_US;

    while (ty_fetch_left(b->fetch) > 0) {
        assert_true(ty_mono_us() < end);
        turn(b);
        poll(NULL, 0, 1);
    }
}

static void put(struct box *b, const char *bytes, size_t n, char sha[TY_SHA256_HEX + 1])
{
    struct ty_error err = { 0 };

    assert_true(ty_blob_put_bytes(b->there, bytes, n, sha, &err) >= 0);
}

/* Sizes around what one piece holds, and none at all. */
static void comes_whole(void **state)
{
    static const size_t sizes[] = { 0,
                                    1,
                                    TY_WIRE_BLOB_CHUNK - 1,
                                    TY_WIRE_BLOB_CHUNK,
                                    TY_WIRE_BLOB_CHUNK + 1,
                                    3 * TY_WIRE_BLOB_CHUNK };
    enum { N = sizeof sizes / sizeof *sizes };
    struct box *b = *state;
    char sha[N][TY_SHA256_HEX + 1], *bytes = calloc(1, 3 * TY_WIRE_BLOB_CHUNK);

    for (int i = 0; i < N; i++) {
        memset(bytes, 'a' + i, sizes[i]);
        put(b, bytes, sizes[i], sha[i]);
        assert_int_equal(ty_fetch_add(b->fetch, sha[i]), 1);
    }
    free(bytes);
    settle(b);
    assert_int_equal(b->whole, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(ty_blob_bytes(b->here, sha[i]), sizes[i]);
        assert_int_equal(ty_fetch_add(b->fetch, sha[i]), 0); /* it is there */
    }
}

static void many(void **state)
{
    struct box *b = *state;
    char sha[TY_SHA256_HEX + 1], text[16];

    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "%d", i);
        put(b, text, strlen(text), sha);
        assert_int_equal(ty_fetch_add(b->fetch, sha), 1);
        if (i % 100 == 0)
            assert_int_equal(ty_fetch_add(b->fetch, sha), 1); /* twice is once too often, no more */
    }
    settle(b);
    assert_true(b->whole >= 500);
    assert_int_equal(b->failed, 0);
}

static void refuses(void **state)
{
    struct box *b = *state;
    char none[TY_SHA256_HEX + 1];

    memset(none, '0', TY_SHA256_HEX);
    none[TY_SHA256_HEX] = '\0';
    assert_int_equal(ty_fetch_add(b->fetch, "../../etc/passwd"), -EINVAL);
    assert_int_equal(ty_fetch_add(b->fetch, none), 1);
    settle(b);
    assert_int_equal(b->last, -ENOENT);
    assert_int_equal(b->failed, 1);
}

/* The other side's content is not what its name says. */
static void damaged(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *path = NULL;
    char sha[TY_SHA256_HEX + 1];

    put(b, "good", 4, sha);
    path = ty_strf("%s/there/%.2s/%s", b->dir, sha, sha + 2);
    assert_int_equal(ty_write_file(path, "evil", 4, 0600), 0);
    assert_int_equal(ty_fetch_add(b->fetch, sha), 1);
    settle(b);
    assert_int_equal(b->last, -EBADMSG);
    assert_false(ty_blob_has(b->here, sha));
}

static void goes_on_after_a_cut(void **state)
{
    struct box *b = *state;
    size_t n = 12 * TY_WIRE_BLOB_CHUNK;
    char sha[TY_SHA256_HEX + 1], *bytes = malloc(n);
    int cuts = 0;

    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(i * 31 >> 8);
    put(b, bytes, n, sha);
    free(bytes);
    assert_int_equal(ty_fetch_add(b->fetch, sha), 1);
    for (int i = 0; i < 20000 && ty_fetch_left(b->fetch) > 0; i++) {
        turn(b);
        ty_stream_progress(b->near);
        if (cuts < 3 && b->far && i % 40 == 39) {
            ty_stream_break(b->far, ty_mono_us());
            cuts++;
        }
        poll(NULL, 0, 1);
    }
    assert_int_equal(b->whole, 1);
    assert_int_equal(ty_blob_bytes(b->here, sha), n);
}

/* What nobody asked for, or not there, changes nothing. */
static void not_asked(void **state)
{
    struct box *b = *state;
    struct ty_error err = { 0 };
    char sha[TY_SHA256_HEX + 1];
    struct ty_frame f = {
        .type = TY_FRAME_BLOB, .name = sha, .name_len = TY_SHA256_HEX, .body = "x", .body_len = 1
    };

    put(b, "x", 1, sha);
    assert_int_equal(ty_fetch_hear(b->fetch, &f, &err), 0);
    assert_int_equal(ty_fetch_add(b->fetch, sha), 1);
    assert_int_equal(ty_fetch_hear(b->fetch, &f, &err), 0);
    f.name_len = 3;
    assert_int_equal(ty_fetch_hear(b->fetch, &f, &err), 0);
    assert_false(ty_blob_has(b->here, sha));
    settle(b);
    assert_true(ty_blob_has(b->here, sha));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(comes_whole), T(many), T(refuses), T(damaged), T(goes_on_after_a_cut), T(not_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
