/* test_deliver.c - what goes to the daemon and when, and what its answers do */
#include "base/clock.h"
#include "base/fs.h"
#include "inside.h"
#include "runner/spool.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HOUR_US (3600 * INT64_C(1000000))
#define IN_FLIGHT 1024
#define DRIVER_LOG "azureml-logs/70_driver_log.txt"

static struct inside in;

static int set_up(void **state)
{
    (void)state;
    job_make(&in.j, "true", NULL);
    return 0;
}

static void say(enum ty_frame_type type, uint64_t seq)
{
    fake_say(&in.j.fake, &(struct ty_frame){ .type = type, .seq = seq });
}

static uint64_t add(const char *kind)
{
    return ty_runner_record(&in.r, json_pack("{s:s}", "kind", kind));
}

static void driver_log(const char *text)
{
    assert_int_equal(ty_write_all(in.r.logs.at[TY_LOG_DRIVER].tail.fd, text, strlen(text)), 0);
}

static size_t stored(void)
{
    return json_array_size(in.j.fake.records);
}

/* A record is sent when it would survive a power cut, not before. */
static void test_records_wait_for_the_disk(void **state)
{
    (void)state;
    inside_open(&in);
    add("one");
    add("two");
    inside_settle(&in);
    assert_int_equal(stored(), 0);
    assert_int_equal(ty_records_write(in.r.records), 0);
    inside_settle(&in);
    assert_int_equal(stored(), 0);
    inside_sync(&in);
    inside_settle(&in);
    assert_int_equal(stored(), 2);
    assert_int_equal(in.r.records_acked, 3);
    inside_done(&in);
}

static void test_records_in_flight(void **state)
{
    (void)state;
    in.j.fake.mute = true;
    inside_open(&in);
    for (int i = 0; i < IN_FLIGHT + 500; i++)
        assert_int_equal(add("note"), i + 1);
    inside_sync(&in);
    inside_settle(&in);
    assert_int_equal(in.j.fake.frames, 1 + IN_FLIGHT); /* HELLO, and no more than that */
    say(TY_FRAME_RECORD_ACK, 301);
    say(TY_FRAME_RECORD_ACK, 11); /* an older word takes nothing back */
    inside_settle(&in);
    assert_int_equal(in.r.records_acked, 301);
    assert_int_equal(in.j.fake.frames, 1 + IN_FLIGHT + 300);
    say(TY_FRAME_RECORD_ACK, 601);
    inside_settle(&in);
    assert_int_equal(in.j.fake.frames, 1 + IN_FLIGHT + 500);
    inside_done(&in);
}

/* The daemon closes the run's books with `collected`: logs and rows come before it. */
static void test_collected_comes_last(void **state)
{
    struct ty_row row = {
        .kind = TY_ROW_INT, .name = "n", .name_len = 1, .value = "\1\0\0\0\0\0\0\0", .value_len = 8
    };
    struct ty_spool_writer *w = NULL;

    (void)state;
    in.j.fake.hold = true;
    inside_open(&in);
    assert_int_equal(ty_spool_create(in.r.job->spool, &w, NULL), 0);
    inside_settle(&in); /* welcomed, and the spool is known */
    in.r.hold_us = in.r.rows_due_us = ty_mono_us() + HOUR_US;
    driver_log("said\n");
    assert_int_equal(ty_spool_write(w, &row), 0);
    add("exited");
    in.r.collected_seq = add("collected");
    inside_sync(&in);
    inside_settle(&in);
    assert_int_equal(stored(), 1);
    in.r.hold_us = 0;
    inside_settle(&in);
    assert_string_equal(fake_log(&in.j.fake, DRIVER_LOG)->text, "said\n");
    assert_int_equal(stored(), 1);
    in.r.rows_due_us = 0;
    inside_settle(&in);
    assert_int_equal(in.j.fake.nrows[0], 1);
    assert_non_null(fake_record(&in.j.fake, "collected", 0));
    ty_spool_writer_free(w);
    inside_done(&in);
}

/* A WELCOME that says nonsense is not believed, and whoever said it is asked again. */
static void test_bad_welcome(void **state)
{
    static const char *const bad[] = { "nonsense", "[]", "{", "{\"record_next\": 99}" };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (i > 0)
            job_make(&in.j, "true", NULL);
        in.j.fake.welcome = bad[i];
        inside_open(&in);
        add("one");
        inside_sync(&in);
        for (int64_t end = ty_mono_us() + 20000000; in.j.fake.welcomes < 3; inside_deliver(&in))
            assert_true(ty_mono_us() < end);
        assert_int_equal(in.j.fake.frames, 3); /* HELLO each time, and nothing else */
        assert_int_equal(in.r.welcomed, 0);
        in.j.fake.welcome = NULL;
        inside_settle(&in);
        assert_int_equal(stored(), 1);
        inside_done(&in);
    }
}

/* What the daemon has is not sent again. */
static void test_welcome_says_where_to_go_on(void **state)
{
    (void)state;
    in.j.fake.welcome =
        "{\"record_next\": 3, \"logs\": {\"" DRIVER_LOG "\": 4, \"other\": 9}, \"more\": 1}";
    in.j.fake.mute = true;
    inside_open(&in);
    add("one");
    add("two");
    inside_sync(&in);
    driver_log("said\n");
    inside_settle(&in);
    assert_int_equal(in.j.fake.frames, 1 + 1); /* HELLO, the last byte of the log */
    assert_int_equal(in.r.records_acked, 3);
    assert_int_equal(in.r.logs.at[TY_LOG_DRIVER].tail.sent, 5);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT);
    inside_done(&in);
}

/* A connection after the welcomed one has to be welcomed itself. */
static void test_a_new_connection(void **state)
{
    (void)state;
    inside_open(&in);
    inside_settle(&in);
    assert_true(ty_deliver_listens(&in.r));
    in.j.fake.welcome = "[]"; /* none */
    ty_stream_break(in.r.stream, in.r.now_us);
    add("one");
    inside_sync(&in);
    for (int64_t end = ty_mono_us() + 20000000; in.j.fake.welcomes < 3; inside_deliver(&in)) {
        assert_false(ty_deliver_listens(&in.r));
        assert_int_equal(stored(), 0);
        assert_true(ty_mono_us() < end);
    }
    in.j.fake.welcome = NULL;
    inside_settle(&in);
    assert_true(ty_deliver_listens(&in.r));
    assert_int_equal(stored(), 1);
    inside_done(&in);
}

static void test_cancel(void **state)
{
    (void)state;
    inside_open(&in);
    in.r.phase = TY_PHASE_running;
    inside_settle(&in);
    fake_cancel(&in.j.fake);
    inside_settle(&in);
    assert_int_equal(in.r.ending, TY_ENDING_CANCEL);
    int64_t kill_us = in.r.kill_us;
    assert_true(kill_us < TY_NEVER);
    fake_cancel(&in.j.fake); /* the time until SIGKILL does not begin again */
    inside_settle(&in);
    assert_int_equal(in.r.kill_us, kill_us);
    inside_done(&in);

    job_make(&in.j, "true", NULL);
    in.j.fake.cancel = true; /* in WELCOME */
    inside_open(&in);
    in.r.phase = TY_PHASE_running;
    inside_settle(&in);
    assert_int_equal(in.r.ending, TY_ENDING_CANCEL);
    inside_done(&in);

    job_make(&in.j, "true", NULL);
    in.j.fake.cancel = true;
    inside_open(&in);
    in.r.phase = TY_PHASE_exited; /* too late: it stays as it ended */
    inside_settle(&in);
    assert_int_equal(in.r.ending, TY_ENDING_SCRIPT);
    inside_done(&in);
}

static void test_the_end(void **state)
{
    (void)state;
    inside_open(&in);
    in.r.phase = TY_PHASE_collecting;
    inside_settle(&in);
    say(TY_FRAME_RELEASE, 0);
    inside_settle(&in);
    assert_false(in.r.over); /* there is something left to tell */
    in.r.phase = TY_PHASE_collected;
    say(TY_FRAME_RELEASE, 0);
    inside_settle(&in);
    assert_true(in.r.over);
    inside_done(&in);

    job_make(&in.j, "true", NULL);
    in.j.fake.refuse = true;
    inside_open(&in);
    in.r.phase = TY_PHASE_running;
    inside_settle(&in);
    assert_true(in.r.over);
    inside_done(&in);
}

/* Nothing that a daemon says of what is not there does harm. */
static void test_words_about_nothing(void **state)
{
    (void)state;
    inside_open(&in);
    inside_settle(&in);
    fake_say(&in.j.fake, &(struct ty_frame){
                             .type = TY_FRAME_LOG_ACK, .seq = 77, .name = "other", .name_len = 5 });
    fake_say(&in.j.fake, &(struct ty_frame){ .type = TY_FRAME_LOG_ACK,
                                             .seq = 77,
                                             .name = DRIVER_LOG,
                                             .name_len = strlen(DRIVER_LOG) });
    fake_say(&in.j.fake,
             &(struct ty_frame){ .type = TY_FRAME_ROWS_ACK, .writer = 4000000000u, .seq = 77 });
    say(TY_FRAME_PONG, 0);
    inside_settle(&in);
    assert_int_equal(in.r.logs.at[TY_LOG_DRIVER].tail.acked, 0);
    assert_int_equal(in.j.fake.welcomes, 1); /* the connection holds */
    driver_log("said\n");
    inside_settle(&in);
    assert_int_equal(in.r.logs.at[TY_LOG_DRIVER].tail.acked, 5);
    inside_done(&in);
}

static void test_log_limit(void **state)
{
    (void)state;
    json_object_set_new(in.j.json, "log_bytes_max", json_integer(6));
    inside_open(&in);
    driver_log("sixish");
    inside_settle(&in);
    assert_int_equal(inside_count(&in, "warning"), 0); /* full is not over */
    driver_log("more");
    inside_settle(&in);
    driver_log("and more");
    inside_settle(&in);
    assert_string_equal(fake_log(&in.j.fake, DRIVER_LOG)->text, "sixish");
    assert_string_equal(inside_text(&in, "warning", 0, "text"),
                        "the log '" DRIVER_LOG
                        "' reached its limit of 6 B (limits.log_bytes); what "
                        "came after that was not kept");
    /* the control log, in which that stands too, is over its own limit then */
    assert_int_equal(inside_count(&in, "warning"), 2);
    inside_done(&in);

    job_make(&in.j, "true", NULL);
    json_object_set_new(in.j.json, "log_bytes_max", json_integer(6));
    inside_open(&in);
    in.r.collected_seq = add("collected"); /* no record may follow it */
    driver_log("too much");
    inside_sync(&in);
    inside_settle(&in);
    assert_int_equal(inside_count(&in, "warning"), 0);
    inside_done(&in);
}

static void test_damaged_rows(void **state)
{
    CLEANUP_FREE char *path = NULL;
    char nonsense[8192];

    (void)state;
    inside_open(&in);
    memset(nonsense, 'x', sizeof nonsense);
    path = ty_path_join(in.r.job->spool, "rows-3.spool");
    assert_int_equal(ty_write_file(path, nonsense, sizeof nonsense, 0600), 0);
    inside_settle(&in);
    in.r.rows_due_us = 0;
    inside_settle(&in);
    assert_int_equal(inside_count(&in, "warning"), 1); /* once */
    assert_string_equal(inside_text(&in, "warning", 0, "text"),
                        "logged values of writer 3 could not be read and are not complete");
    inside_done(&in);
}

/* When the loop has to come back: while a log is held back, and for rows while somebody may write
 * some. */
static void test_due(void **state)
{
    (void)state;
    inside_open(&in);
    assert_int_equal(ty_deliver_due(&in.r), ty_stream_due(in.r.stream));
    inside_settle(&in);
    in.r.now_us = ty_mono_us();
    in.r.hold_us = in.r.now_us + 1000;
    assert_int_equal(ty_deliver_due(&in.r), in.r.hold_us);
    assert_false(ty_deliver_listens(&in.r));
    in.r.hold_us = 0;
    in.r.rows_due_us = in.r.now_us + 2000;
    assert_int_equal(ty_deliver_due(&in.r), ty_stream_due(in.r.stream)); /* nothing runs */
    in.r.phase = TY_PHASE_running;
    assert_int_equal(ty_deliver_due(&in.r), in.r.rows_due_us); /* no inotify: it is polled */
    inside_done(&in);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, job_clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_records_wait_for_the_disk),
        TEST(test_records_in_flight),
        TEST(test_collected_comes_last),
        TEST(test_bad_welcome),
        TEST(test_welcome_says_where_to_go_on),
        TEST(test_a_new_connection),
        TEST(test_cancel),
        TEST(test_the_end),
        TEST(test_words_about_nothing),
        TEST(test_log_limit),
        TEST(test_damaged_rows),
        TEST(test_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
