/* test_writer.c - batches: all or nothing, failures that reach exactly the units that they must,
 * and kill -9 */
#include "base/clock.h"
#include "base/fs.h"
#include "kit.h"
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define LOG "log.txt"

static void test_callbacks_come_in_order(void **state)
{
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);
    int r[200];

    for (int i = 0; i < 200; i++) {
        struct ty_unit *u = ty_unit_new();

        r[i] = NOT_YET;
        kit_note(u, id, i % 2 ? 1 : 2 + i / 2, TY_NOTE_WARNED, "{\"text\": \"w\"}",
                 &run); /* each second one: known */
        ty_store_commit(k->st, u, kit_done, &r[i]);
    }
    kit_pump(k, &r[199]);
    for (int i = 0; i < 200; i++)
        assert_int_equal(r[i], i % 2 ? -EEXIST : 0);
    assert_int_equal(ty_store_check(k->home, &id, NULL), 0);
}

/* Without anybody who runs the loop. */
static void test_what_is_settled_can_be_read(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    CLEANUP_JSON json_t *j = NULL;

    ty_unit_target_put(u, "t", "{}", T0);
    ty_store_commit(k->st, u, NULL, NULL);
    assert_int_equal(ty_store_settle(k->st), 0);
    assert_int_equal(ty_store_target(k->st, "t", &j), 0);
}

static void test_a_failed_unit_leaves_nothing(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run), events = 0;
    CLEANUP_JSON json_t *j = NULL;

    kit_note(u, id, 2, TY_NOTE_TAGGED, "{\"key\": \"a\", \"value\": \"b\"}", &run);
    ty_unit_target_put(u, "t", "{}", T0);
    ty_unit_log(u, id, "x", LOG, 5, "gap", 3, T0);
    assert_int_equal(kit_commit(k, u), -EPROTO);
    assert_int_equal(ty_store_target(k->st, "t", &j), -ENOENT);
    assert_int_equal(ty_store_events(k->st, id, 0, 10, &j), 0);
    events = (int64_t)json_array_size(j);
    assert_int_equal(events, 1);
    assert_int_equal(ty_store_check(k->home, &id, NULL), 0);
}

/* A deletion that is undone must leave the log files. */
static void test_an_undone_deletion_keeps_the_logs(void **state)
{
    struct kit *k = *state;
    struct ty_unit *u = ty_unit_new();
    int64_t id = kit_run(k, "x", "e", NULL);
    CLEANUP_FREE char *path = ty_store_log_path(k->st, "x", LOG);

    ty_unit_log(u, id, "x", LOG, 0, "kept", 4, T0);
    assert_int_equal(kit_commit(k, u), 0);
    u = ty_unit_new();
    ty_unit_run_delete(u, id);
    ty_unit_record_next(u, 999, 1);
    assert_int_equal(kit_commit(k, u), -ENOENT);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(ty_store_run_id(k->st, "x", &id), 0);
}

static void test_close_stores_and_tells_everything(void **state)
{
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);
    CLEANUP_JSON json_t *j = NULL;
    int r[50];

    for (int i = 0; i < 50; i++) {
        struct ty_unit *u = ty_unit_new();

        r[i] = NOT_YET;
        kit_note(u, id, 2 + i, TY_NOTE_WARNED, "{\"text\": \"w\"}", &run);
        ty_store_commit(k->st, u, kit_done, &r[i]);
    }
    kit_close(k);
    for (int i = 0; i < 50; i++)
        assert_int_equal(r[i], 0);
    assert_int_equal(kit_open(k, NULL), 0);
    assert_int_equal(ty_store_events(k->st, id, 0, 100, &j), 0);
    assert_int_equal(json_array_size(j), 51);
}

struct chain {
    struct kit *k;
    int r, second;
};

static void commit_again(void *ctx, int r)
{
    struct chain *c = ctx;

    c->r = r;
    ty_store_commit(c->k->st, ty_unit_new(), kit_done, &c->second);
}

static void test_a_unit_that_comes_after_close_began_is_told(void **state)
{
    struct kit *k = *state;
    struct chain c = { .k = k, .r = NOT_YET, .second = NOT_YET };

    ty_store_commit(k->st, ty_unit_new(), commit_again, &c);
    kit_close(k);
    assert_int_equal(c.r, 0);
    assert_int_equal(c.second, -ESHUTDOWN);
}

/* ---- batches that fail ---- */

/* What a stream would send: an event, log bytes and a row, the n-th of each, in one unit. */
static struct ty_unit *step(int64_t id, const char *run_name, int n, const struct ty_run *run)
{
    CLEANUP_STR struct ty_str s = { 0 };
    struct ty_unit *u = ty_unit_new();
    char line[16];

    snprintf(line, sizeof line, "%07d\n", n);
    kit_row_double(&s, "n", T0 + n, n);
    kit_note(u, id, 2 + n, TY_NOTE_WARNED, "{\"text\": \"w\"}", run);
    ty_unit_log(u, id, run_name, LOG, (uint64_t)n * 8, line, 8, T0);
    ty_unit_rows(u, id, 0, (uint64_t)n, 1, s.text, s.len);
    ty_unit_record_next(u, id, (uint64_t)n + 2);
    return u;
}

/* Events, log and rows all say that exactly the steps 0 ... n-1 are there. */
static void has_steps(struct kit *k, int64_t id, const char *run_name, int n)
{
    CLEANUP_JSON json_t *events = NULL;
    CLEANUP_JSON json_t *rows = NULL;
    CLEANUP_JSON json_t *at = NULL;
    CLEANUP_FREE char *path = ty_store_log_path(k->st, run_name, LOG);
    CLEANUP_FREE char *text = NULL;
    size_t len = 0;
    int64_t runs;

    assert_int_equal(ty_store_events(k->st, id, 0, 1 << 20, &events), 0);
    assert_int_equal(json_array_size(events), n + 1);
    assert_int_equal(ty_store_rows_json(k->st, id, NULL, 0, &rows), 0);
    assert_int_equal(json_array_size(rows), n);
    assert_int_equal(ty_store_resume_point(k->st, id, &at), 0);
    assert_int_equal(json_integer_value(json_object_get(at, "record_next")), n + 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(at, "logs"), LOG)), n * 8);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(at, "rows"), "0")), n);
    if (n > 0)
        assert_int_equal(ty_read_file(path, 1 << 24, &text, &len), 0);
    assert_true(len >= (size_t)n * 8);
    for (int i = 0; i < n; i++) {
        int64_t line = -1;

        text[i * 8 + 7] = '\0';
        for (char *p = text + i * 8; *p == '0' && p[1]; p++)
            *p = ' ';
        assert_int_equal(ty_parse_i64(text + i * 8 + strspn(text + i * 8, " "), &line), 0);
        assert_int_equal(line, i);
        assert_int_equal(
            (int)json_real_value(json_object_get(json_array_get(rows, (size_t)i), "value")), i);
    }
    assert_int_equal(ty_store_check(k->home, &runs, NULL), 0);
}

#ifdef TY_FAULTS
/* Break each point on its own; what was queued meanwhile fails too; after resume the same is
 * sent again from the start. */
static void test_each_failure_of_a_batch_and_resuming(void **state)
{
    static const char *const points[] = { "store.commit", "store.log", "store.row", "store.event" };
    static const int errors[] = { ENOSPC, EIO, EROFS };
    struct kit *k = *state;

    for (size_t i = 0; i < sizeof points / sizeof *points * 3; i++) {
        char name[16];
        struct ty_run run;
        int r[20], failed = -1;
        int64_t id;

        snprintf(name, sizeof name, "x%zu", i);
        id = kit_run(k, name, "e", &run);
        ty_fault_arm(points[i / 3], 1 + (int)i % 3, errors[i % 3]);
        for (int n = 0; n < 20; n++) {
            r[n] = NOT_YET;
            ty_store_commit(k->st, step(id, name, n, &run), kit_done, &r[n]);
            if (n % 4 ==
                0) /* sometimes one by one: with store.commit the third commit has to come */
                kit_pump(k, &r[n]);
        }
        kit_pump(k, &r[19]);
        for (int n = 0; n < 20; n++) {
            if (r[n] < 0 && failed < 0)
                failed = n;
            assert_int_equal(r[n],
                             failed < 0 ? 0 : -errors[i % 3]); /* from the first one on: all */
        }
        assert_true(failed >= 0);
        assert_int_equal(ty_store_failed(k->st), -errors[i % 3]);
        has_steps(k, id, name, failed);
        assert_int_equal(kit_commit(k, ty_unit_new()), -errors[i % 3]); /* still refusing */
        assert_int_equal(ty_store_resume(k->st), 0);
        assert_int_equal(ty_store_failed(k->st), 0);
        for (int n = failed; n < 20; n++)
            assert_int_equal(kit_commit(k, step(id, name, n, &run)), 0);
        has_steps(k, id, name, 20);
    }
}

/* A unit that was composed before its author learned of the failure must fail, even after resuming. */
static void test_units_of_the_failed_epoch_fail_after_resume(void **state)
{
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run), until;
    int r[3] = { NOT_YET, NOT_YET, NOT_YET };

    ty_fault_arm("store.commit", 1, ENOSPC);
    ty_store_commit(k->st, step(id, "x", 0, &run), kit_done, &r[0]);
    until = ty_mono_us() + 20000000;
    while (!ty_store_failed(k->st) && ty_mono_us() < until)
        poll(NULL, 0, 1);
    ty_store_commit(k->st, step(id, "x", 0, &run), kit_done,
                    &r[1]); /* failed already, but this is not delivered yet */
    assert_int_equal(ty_store_resume(k->st), 0);
    ty_store_commit(k->st, step(id, "x", 0, &run), kit_done, &r[2]);
    kit_pump(k, &r[2]);
    assert_int_equal(r[0], -ENOSPC);
    assert_int_equal(r[1], -ENOSPC);
    assert_int_equal(r[2], 0);
    has_steps(k, id, "x", 1);
}
#endif

/* A real limit instead of a fault point: no file may grow beyond it. */
static void test_files_that_cannot_grow(void **state)
{
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run);
    struct rlimit old, tight;
    int n = 0, r = 0;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    tight = (struct rlimit){ .rlim_cur = 512 * 1024, .rlim_max = old.rlim_max };
    setrlimit(RLIMIT_FSIZE, &tight);
    for (; n < 2000 && r == 0; n += r == 0)
        r = kit_commit(k, step(id, "x", n, &run));
    setrlimit(RLIMIT_FSIZE, &old);
    assert_true(r < 0);
    assert_int_equal(ty_store_failed(k->st), r);
    has_steps(k, id, "x", n);
    ty_store_resume(k->st);
    assert_int_equal(kit_commit(k, step(id, "x", n, &run)), 0);
    has_steps(k, id, "x", n + 1);
    kit_close(k);
    assert_int_equal(kit_open(k, NULL), 0);
    has_steps(k, id, "x", n + 1);
}

static void test_the_log_of_writes_stays_bounded(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *wal = ty_strf("%s/state.db-wal", k->home);
    CLEANUP_FREE char *big = malloc(100001);
    struct stat sb;

    memset(big, 'b', 100000);
    memcpy(big, "\"", 1);
    memcpy(big + 99999, "\"", 2);
    for (int i = 0; i < 300; i++) { /* 30 MB through a log of 4 MB */
        struct ty_unit *u = ty_unit_new();

        ty_unit_target_put(u, "t", big, T0);
        big[1] = (char)('a' + i % 26);
        assert_int_equal(kit_commit(k, u), 0);
    }
    assert_int_equal(stat(wal, &sb), 0);
    assert_in_range(sb.st_size, 1, 12 << 20);
}

/* ---- kill -9 ---- */

static int tell_fd;

static void tell(void *ctx, int r)
{
    int n = (int)(intptr_t)ctx;

    if (r < 0 || write(tell_fd, &n, sizeof n) != sizeof n)
        _exit(3);
}

/* The child: steps from `from` on, in bursts, telling each one that was acknowledged, until it
 * is killed. */
static void child(struct kit *k, int64_t id, int from, const struct ty_run *run)
{
    if (kit_open(k, NULL) < 0)
        _exit(2);
    for (int n = from; n < from + 100000; n++) {
        struct pollfd p = { .fd = k->wake, .events = POLLIN };
        uint64_t count;

        ty_store_commit(k->st, step(id, "x", n, run), tell, (void *)(intptr_t)n);
        if (n % 7 == 6) {
            poll(&p, 1, 1000);
            (void)!read(k->wake, &count, sizeof count);
        }
        ty_store_deliver(k->st);
    }
    _exit(4);
}

/* Start a child, kill it after some acknowledgements and a random moment more; the last that it
 * told, or from - 1. */
static int run_and_kill(struct kit *k, int64_t id, int from, const struct ty_run *run,
                        unsigned *seed)
{
    struct timespec more = { .tv_nsec = rand_r(seed) % 20000000 };
    int fds[2], n, last = from - 1, wanted = rand_r(seed) % 40, status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        tell_fd = fds[1];
        child(k, id, from, run);
    }
    close(fds[1]);
    while (last < from + wanted && read(fds[0], &n, sizeof n) == sizeof n) {
        assert_int_equal(n, last + 1);
        last = n;
    }
    nanosleep(&more, NULL); /* the moment is the test's variable: nothing is waited for */
    kill(pid, SIGKILL);
    while (read(fds[0], &n, sizeof n) == sizeof n)
        last = n;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return last;
}

static void test_killed_at_random_moments(void **state)
{
    const char *kills = getenv("KILLS"), *given = getenv("SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : 1;
    struct kit *k = *state;
    struct ty_run run;
    int64_t id = kit_run(k, "x", "e", &run), rounds = 12;
    int n = 0;

    if (kills)
        assert_int_equal(ty_parse_i64(kills, &rounds), 0);
    kit_close(k);
    for (int i = 0; i < rounds; i++) {
        int told = run_and_kill(k, id, n, &run, &seed);
        CLEANUP_JSON json_t *at = NULL;

        assert_int_equal(kit_open(k, NULL), 0);
        assert_int_equal(ty_store_resume_point(k->st, id, &at), 0);
        n = (int)json_integer_value(json_object_get(json_object_get(at, "rows"), "0"));
        if (n <= told)
            fail_msg("seed %u, kill %d: step %d was acknowledged, %d are stored", seed, i, told, n);
        has_steps(k, id, "x", n);
        kit_close(k);
    }
    assert_true(n > 0);
    assert_int_equal(kit_open(k, NULL), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_callbacks_come_in_order),
        T(test_what_is_settled_can_be_read),
        T(test_a_failed_unit_leaves_nothing),
        T(test_an_undone_deletion_keeps_the_logs),
        T(test_close_stores_and_tells_everything),
        T(test_a_unit_that_comes_after_close_began_is_told),
#ifdef TY_FAULTS
        T(test_each_failure_of_a_batch_and_resuming),
        T(test_units_of_the_failed_epoch_fail_after_resume),
#endif
        T(test_files_that_cannot_grow),
        T(test_the_log_of_writes_stays_bounded),
        T(test_killed_at_random_moments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
