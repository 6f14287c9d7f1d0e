/* test_hang.c - what files say of ranks that wait, whom that is told, and when it ends the job */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "inside.h"
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define S INT64_C(1000000)

static struct inside in;

/* Two nodes with two ranks each, which run as far as anybody can tell. */
static void begin(int timeout_s)
{
    job_make(&in.j, "true", NULL);
    json_object_set_new(
        in.j.json, "nodes",
        json_pack("[{s:s, s:i}, {s:s, s:i}]", "name", "h1", "ranks", 2, "name", "h2", "ranks", 2));
    json_object_set_new(job_spec(&in.j), "hang_timeout_seconds", json_integer(timeout_s));
    inside_open(&in);
    for (int i = 0; i < in.r.ranks.n; i++)
        in.r.ranks.at[i].wrapper.pid = getpid();
    in.r.phase = TY_PHASE_running;
    in.r.now_us = ty_mono_us();
    ty_hang_open(&in.r);
}

static char *file_of(const char *name)
{
    return ty_path_join(in.r.job->spool, name);
}

static void hear(void)
{
    struct pollfd p = { .fd = in.r.hang.inotify, .events = POLLIN };

    assert_int_equal(poll(&p, 1, 5000), 1);
    in.r.now_us = ty_mono_us();
    ty_hang_hear(&in.r);
}

/* As the engine does it: all at once. */
static void says(const char *name, const char *text)
{
    CLEANUP_FREE char *path = file_of(name), *fresh = file_of("fresh");

    assert_int_equal(ty_write_file(fresh, text, strlen(text), 0600), 0);
    assert_int_equal(rename(fresh, path), 0);
    hear();
}

static void waits(int rank, const char *op, int64_t since_us, const char *late, int nlate)
{
    char name[32];
    CLEANUP_FREE char *text =
        ty_strf("[{\"name\": \"%s\", \"kind\": \"allreduce\", \"set\": 0, \"since_us\": %" PRId64
                ", \"moving\": false, \"late\": [%s], \"nlate\": %d}]",
                op, since_us, late, nlate);

    snprintf(name, sizeof name, "stall.%d", rank);
    says(name, text);
}

static void waits_no_more(int rank)
{
    char name[32];
    CLEANUP_FREE char *path = NULL;

    snprintf(name, sizeof name, "stall.%d", rank);
    path = file_of(name);
    assert_int_equal(unlink(path), 0);
    hear();
}

static void pass_us(int64_t us)
{
    in.r.now_us += us;
    ty_hang_timers(&in.r);
}

static void done(void)
{
    in.r.phase = TY_PHASE_collected;
    inside_done(&in);
}

static const char *warning(int n)
{
    return inside_text(&in, "warning", n, "text");
}

static void once_a_hang(void **state)
{
    int64_t now;

    (void)state;
    begin(0);
    now = in.r.now_us;
    assert_int_equal(ty_hang_due(&in.r), TY_NEVER);
    waits(0, "grad.3", now - 61 * S, "3", 1);
    assert_string_equal(warning(0),
                        "rank 3 (node h2) keeps the others waiting: allreduce 'grad.3' since 61 s");
    waits(0, "grad.4", now - 62 * S, "2, 3", 2);
    waits(1, "grad.3", now - 60 * S, "3", 1);
    assert_int_equal(inside_count(&in, "warning"), 1);
    waits_no_more(1);
    assert_int_equal(ty_hang_due(&in.r), TY_NEVER);
    waits_no_more(0);
    assert_int_equal(inside_count(&in, "warning"), 1);
    assert_true(ty_hang_due(&in.r) <= in.r.now_us + 2 * S);
    /* Another rank takes the report over: it is the same hang. */
    waits(1, "grad.4", now - 62 * S, "2, 3", 2);
    pass_us(5 * S);
    assert_int_equal(inside_count(&in, "warning"), 1);
    waits_no_more(1);
    pass_us(5 * S);
    assert_int_equal(inside_count(&in, "warning"), 2);
    assert_true(ty_starts_with(
        warning(1), "the processes go on: ranks 2 and 3 had kept the others waiting for 6"));
    assert_int_equal(ty_hang_due(&in.r), TY_NEVER);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT); /* no limit */
    waits(0, "x", now - 10 * S, "", 0);
    assert_string_equal(
        warning(2), "a rank that is not known keeps the others waiting: allreduce 'x' since 10 s");
    done();
}

static void not_for_ever(void **state)
{
    (void)state;
    begin(0);
    for (int i = 0; i < 30; i++) {
        waits(0, "x", ty_mono_us() - 10 * S, "0, 1, 2, 3", 4);
        waits_no_more(0);
        pass_us(2 * S);
    }
    assert_int_equal(inside_count(&in, "warning"), 40);
    assert_string_equal(
        warning(38),
        "ranks 0, 1, 2 and 3 keep the others waiting: allreduce 'x' since 10 s; further ones are in the control log");
    done();
}

static void what_is_no_report(void **state)
{
    static const char *const odd[] = {
        "",
        "[",
        "{}",
        "[1, null, {}]",
        "[{\"since_us\": -5, \"late\": [1]}]",
        "[{\"since_us\": 9000000000000000000, \"late\": [1]}]",
        "[{\"since_us\": \"1\", \"late\": [1]}]",
    };
    CLEANUP_FREE char *folder = NULL, *fifo = NULL;

    (void)state;
    begin(1);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        says("stall.0", odd[i]);
    says("stall.4", "[{\"since_us\": 1, \"late\": [1]}]"); /* no such rank */
    says("stall.-1", "[{\"since_us\": 1, \"late\": [1]}]");
    says("stall.x", "[{\"since_us\": 1, \"late\": [1]}]");
    folder = file_of("stall.1");
    fifo = file_of("stall.2");
    assert_int_equal(mkdir(folder, 0700) | mkfifo(fifo, 0600), 0);
    ty_ranks_ended(&in.r.ranks, 3, NULL, false, 1);
    waits(3, "x", in.r.now_us - 10 * S, "0", 1); /* a rank that has ended complains of nothing */
    pass_us(5 * S);
    assert_int_equal(inside_count(&in, "warning"), 0);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT);
    /* Ranks that are none are not named; a name is cut between two characters. */
    waits(
        0,
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456\xe2\x82\xac\xe2\x82\xac",
        ty_mono_us() - S / 2, "-1, 7, 1", 100);
    assert_true(strstr(warning(0), "rank 1 (node h1) keeps the others waiting: allreduce '0123"));
    assert_true(strstr(warning(0), "23456\xe2\x82\xac'"));
    done();
}

static void it_ends_the_job(void **state)
{
    int64_t since;

    (void)state;
    begin(60);
    since = in.r.now_us - 50 * S;
    waits(2, "grad.3", since, "1", 1);
    assert_int_equal(ty_hang_due(&in.r), since + 60 * S);
    in.r.now_us = since + 60 * S - 1;
    ty_hang_timers(&in.r);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT);
    pass_us(1);
    assert_int_equal(in.r.ending, TY_ENDING_HANG);
    assert_int_equal(in.r.culprit, 1);
    assert_string_equal(in.r.hang.message, "rank 1 (node h1) kept the others waiting for 60 s: "
                                           "allreduce 'grad.3' (hang_timeout_seconds is 60)");
    assert_int_equal(ty_hang_due(&in.r), TY_NEVER);
    assert_int_equal(in.r.kill_us, in.r.now_us + S);
    done();
}

/* The one that complains has gone, and nobody took its file away. */
static void a_file_that_was_left(void **state)
{
    (void)state;
    begin(60);
    waits(2, "grad.3", in.r.now_us - 50 * S, "1", 1);
    ty_ranks_ended(&in.r.ranks, 2, &(int){ 0 }, false, in.r.now_us);
    pass_us(20 * S);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT);
    pass_us(2 * S);
    assert_int_equal(inside_count(&in, "warning"), 2);
    done();
}

/* What another node tells, in the order in which its agent does. */
static void from_another_node(void **state)
{
    CLEANUP_JSON json_t *there = json_pack("{s:s, s:I, s:[i], s:i, s:s}", "kind", "stalled",
                                           "waited_us", (json_int_t)(30 * S), "late", 0, "nlate", 1,
                                           "what", "broadcast 'b'"),
                        *over = json_pack("{s:s, s:i, s:[], s:i, s:s}", "kind", "stalled",
                                          "waited_us", 0, "late", "nlate", 0, "what", "");

    (void)state;
    begin(60);
    ty_hang_told(&in.r, 1, there);
    assert_string_equal(warning(0),
                        "rank 0 (node h1) keeps the others waiting: broadcast 'b' since 30 s");
    waits(1, "grad.3", in.r.now_us - 20 * S, "3", 1); /* a shorter one, here */
    ty_hang_told(&in.r, 1, over);
    pass_us(35 * S);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT);
    pass_us(10 * S);
    assert_int_equal(in.r.ending, TY_ENDING_HANG);
    assert_int_equal(in.r.culprit, 3);
    done();
}

/* An agent of another node tells, and decides nothing. */
static void at_another_node(void **state)
{
    (void)state;
    begin(5);
    in.r.job->leads = false;
    waits(1, "x", in.r.now_us - 10 * S, "0", 1);
    assert_int_equal(inside_count(&in, "stalled"), 1);
    assert_string_equal(inside_text(&in, "stalled", 0, "what"), "allreduce 'x'");
    assert_in_range(inside_number(&in, "stalled", 0, "waited_us"), 10 * S, 20 * S);
    waits_no_more(1);
    assert_int_equal(inside_number(&in, "stalled", 1, "waited_us"), 0);
    pass_us(100 * S);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT);
    assert_int_equal(inside_count(&in, "warning"), 0);
    in.r.job->leads = true;
    done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(once_a_hang, job_clean),
        cmocka_unit_test_teardown(not_for_ever, job_clean),
        cmocka_unit_test_teardown(what_is_no_report, job_clean),
        cmocka_unit_test_teardown(it_ends_the_job, job_clean),
        cmocka_unit_test_teardown(a_file_that_was_left, job_clean),
        cmocka_unit_test_teardown(from_another_node, job_clean),
        cmocka_unit_test_teardown(at_another_node, job_clean),
    };

    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
