/* test_live.c - the board of metrics, and a terminal on which it is drawn */
#include "base/clock.h"
#include "cli/live.h"
#include "cli/out.h"
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_US 20000000

static void add(struct ty_board *b, const char *text)
{
    CLEANUP_JSON json_t *rows = json_loads(text, 0, NULL);

    assert_non_null(rows);
    assert_int_equal(ty_board_add(b, rows), 0);
}

static void test_board(void **state)
{
    struct ty_board b = { .run = "r" };

    (void)state;
    add(&b,
        "[{\"name\": \"loss\", \"value\": 1, \"step\": null}, {\"name\": \"loss\", \"value\": 0.5, \"step\": null},"
        "{\"name\": \"text\", \"value\": \"x\"}, {\"name\": \"t\", \"value\": [1, 2]}, "
        "{\"name\": \"acc\", \"value\": {\"$float\": \"NaN\"}, \"step\": 7}]");
    assert_int_equal(b.n, 2);
    assert_int_equal(b.left_out, 2);
    assert_string_equal(b.series[0].name, "loss");
    assert_true(b.series[0].n == 2 && b.series[0].last == 0.5);
    assert_true(b.series[1].n == 0 && b.series[1].odd == 1 && b.series[1].steps);
    ty_board_done(&b);
    b = (struct ty_board){ .run = "r", .only = "acc" };
    add(&b, "[{\"name\": \"loss\", \"value\": 1}, {\"name\": \"acc\", \"value\": 2}]");
    assert_true(b.n == 1 && b.left_out == 0 && !strcmp(b.series[0].name, "acc"));
    ty_board_done(&b);
}

static void test_many_metrics(void **state)
{
    struct ty_board b = { .run = "r" };

    (void)state;
    for (int i = 0; i < TY_LIVE_SERIES_MAX + 10; i++) {
        char text[64];

        snprintf(text, sizeof text, "[{\"name\": \"m%d\", \"value\": %d}]", i, i);
        add(&b, text);
    }
    assert_int_equal(b.n, TY_LIVE_SERIES_MAX);
    assert_int_equal(b.left_out, 10);
    ty_board_done(&b);
}

/* In every window the picture fits, and what has no room is counted. */
static void test_every_size(void **state)
{
    static const struct ty_chart_style style = { .unicode = true };
    struct ty_board b = { .run = "a_rather_long_name_of_a_run_1780000000_0a1b2c3d",
                          .state = "Running" };

    (void)state;
    for (int n = 0; n < 12; n++) {
        for (int width = 1; width < 260; width += 7)
            for (int height = 1; height < 70; height += 3) {
                CLEANUP_STR struct ty_str out = { 0 };
                char *rest, *line;
                int lines = 0, charts = 0;

                ty_board_draw(&b, width, height, &style, "\n", &out);
                rest = out.text;
                while ((line = strsep(&rest, "\n")) && (rest || *line)) {
                    lines++;
                    charts += strstr(line, "└") != NULL;
                    assert_true(ty_out_width(line) <= (size_t)width);
                }
                assert_true(lines <= height);
                if (n > 0 && width > 120 && height > 60)
                    assert_true(charts > 0);
            }
        char text[64];

        snprintf(text, sizeof text, "[{\"name\": \"m%d\", \"value\": %d}]", n, n);
        add(&b, text);
    }
    ty_board_done(&b);
}

static void test_too_many_for_the_window(void **state)
{
    static const struct ty_chart_style style = { 0 };
    struct ty_board b = { .run = "r", .state = "Running" };
    CLEANUP_STR struct ty_str out = { 0 };

    (void)state;
    add(&b,
        "[{\"name\": \"a\", \"value\": 1}, {\"name\": \"b\", \"value\": 1}, {\"name\": \"c\", \"value\": 1}]");
    ty_board_draw(&b, 60, 11, &style, "\n", &out);
    assert_non_null(strstr(out.text, "\na  1"));
    assert_non_null(strstr(out.text, "\nb  1"));
    assert_null(strstr(out.text, "\nc  1"));
    assert_non_null(strstr(out.text, "no room for 1 more; --name shows one"));
    ty_board_done(&b);
}

/* ---- on a terminal ---- */

struct screen {
    int master, old;
    struct ty_str said;
};

static void screen_size(struct screen *s, int columns, int rows)
{
    struct winsize w = { .ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows };

    assert_int_equal(ioctl(s->master, TIOCSWINSZ, &w), 0);
}

static void screen_open(struct screen *s)
{
    char name[128];
    int slave;

    s->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(s->master >= 0 && grantpt(s->master) == 0 && unlockpt(s->master) == 0);
    assert_int_equal(ptsname_r(s->master, name, sizeof name), 0);
    slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    fflush(stdout);
    s->old = dup(STDOUT_FILENO);
    assert_true(slave >= 0 && s->old >= 0 && dup2(slave, STDOUT_FILENO) >= 0);
    close(slave);
}

static void screen_close(struct screen *s)
{
    fflush(stdout);
    dup2(s->old, STDOUT_FILENO);
    close(s->old);
    close(s->master);
    ty_str_done(&s->said);
}

/* Read until `text` has come `times` times; false after a while. */
static bool comes(struct screen *s, const char *text, int times)
{
    int64_t until = ty_mono_us() + WAIT_US;
    char buf[4096];

    while (ty_mono_us() < until) {
        struct pollfd p = { .fd = s->master, .events = POLLIN };
        const char *at = s->said.text;
        int n = 0;

        while (at && (at = strstr(at, text)) != NULL) {
            at++;
            n++;
        }
        if (n >= times)
            return true;
        if (poll(&p, 1, 100) > 0) {
            ssize_t got = read(s->master, buf, sizeof buf);

            if (got > 0)
                ty_str_addn(&s->said, buf, (size_t)got);
        }
    }
    return false;
}

static void test_terminal(void **state)
{
    CLEANUP_JSON json_t *rows = json_loads("[{\"name\": \"loss\", \"value\": 0.25}]", 0, NULL);
    struct ty_cli cli = { 0 };
    struct screen s = { 0 };
    struct ty_error err = { 0 };
    struct ty_live *l;
    bool first, second, third, last;

    (void)state;
    setenv("LC_ALL", "C", 1);
    screen_open(&s);
    screen_size(&s, 80, 24);
    l = ty_live_open(&cli, "first_17", NULL, &err);
    first = l && comes(&s, "no numbers were logged yet", 1);
    if (l) {
        ty_live_state(l, "Running");
        ty_live_rows(l, rows);
    }
    second = l && comes(&s, "loss  0.25", 1);
    screen_size(&s, 60, 20);
    third = l && comes(&s, "\033[2J\033[H", 2); /* another size: cleared, and drawn anew */
    ty_live_close(l);
    last = comes(&s, "\033[?1049lfirst_17  Running", 1);
    screen_close(&s);
    assert_true(first && second && third && last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_board),      cmocka_unit_test(test_many_metrics),
        cmocka_unit_test(test_every_size), cmocka_unit_test(test_too_many_for_the_window),
        cmocka_unit_test(test_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
