/* test_lines.c - the lines of a stream that match, however its pieces are cut */
#include "capture.h"
#include "cli/lines.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct call {
    const char *pattern;
    bool ignore_case;
    const char *text;
    size_t n, piece;
};

static int feed(void *ctx)
{
    const struct call *c = ctx;
    struct ty_lines l = { 0 };
    char why[128];

    if (ty_lines_open(&l, c->pattern, c->ignore_case, why, sizeof why) < 0)
        abort();
    for (size_t at = 0; at < c->n; at += c->piece)
        if (ty_lines_feed(&l, c->text + at, c->n - at < c->piece ? c->n - at : c->piece) < 0)
            abort();
    if (ty_lines_end(&l) < 0)
        abort();
    ty_lines_done(&l);
    return 0;
}

static void gives(const char *pattern, bool ignore_case, const char *text, size_t n,
                  const char *want, size_t want_n)
{
    static const size_t pieces[] = { 1, 2, 3, 7, 1000000 };

    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct call call = { pattern, ignore_case, text, n, pieces[i] };
        struct captured c = capture_call(feed, &call);

        assert_int_equal(c.out_len, want_n);
        assert_memory_equal(c.out, want, want_n);
        captured_done(&c);
    }
}
#define GIVES(pattern, ignore_case, text, want) \
    gives(pattern, ignore_case, text, sizeof text - 1, want, sizeof want - 1)

static void test_lines(void **state)
{
    (void)state;
    GIVES("b", false, "abc\nxyz\n\nb\n", "abc\nb\n");
    GIVES("^(loss|acc)=[0-9.]+$", false, "loss=1\nloss=x\nacc=0.5\r\n acc=1\nloss=2",
          "loss=1\nacc=0.5\r\nloss=2");
    GIVES("ERROR", true, "error\nErRoR here\nfine\n", "error\nErRoR here\n");
    GIVES("ERROR", false, "error\n", "");
    GIVES("^$", false, "a\n\n", "\n");
    GIVES("b$", false, "a\0b\na\0c\n", "a\0b\n");
    GIVES("x", false, "", "");
}

/* A line without an end does not eat all memory. */
static void test_long_line(void **state)
{
    size_t n = 3 * (size_t)TY_LINE_MAX + 10;
    char *text = malloc(n);
    struct call call = { "a", false, text, n, 65536 };
    struct captured c;

    (void)state;
    memset(text, 'x', n);
    text[TY_LINE_MAX + 5] = 'a';
    text[n - 1] = '\n';
    c = capture_call(feed, &call);
    assert_int_equal(c.out_len, TY_LINE_MAX);
    assert_int_equal(c.out[5], 'a');
    captured_done(&c);
    free(text);
}

static void test_bad_pattern(void **state)
{
    struct ty_lines l = { 0 };
    char why[128] = "";

    (void)state;
    assert_int_equal(ty_lines_open(&l, "a(", false, why, sizeof why), -EINVAL);
    assert_true(strlen(why) > 5);
    ty_lines_done(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_bad_pattern),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
