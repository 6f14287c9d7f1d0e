/* Late ranks are reported by name, whoever waits and wherever; after a while the world ends. */
#include "base/clock.h"
#include "coll/stall.h"
#include "tests.h"
#include "world.h"
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define PID 0 /* a word of the world: the process that is stopped */

/* What a test's ranks were told.  In memory that forked ranks share. */
static struct heard {
    char line[WORLD_MAX][2048]; /* the first of each rank */
    _Atomic uint32_t lines[WORLD_MAX];
    _Atomic uint32_t ends; /* ranks that have seen the world end */
    _Atomic uint32_t go;   /* the one that is waited for comes */
    _Atomic uint32_t bell;
} * heard;

static void ring(void)
{
    atomic_fetch_add(&heard->bell, 1);
    ty_futex_wake(&heard->bell, WORLD_MAX);
}

static void wait_for(_Atomic uint32_t *word, uint32_t least)
{
    for (;;) {
        uint32_t bell = atomic_load(&heard->bell);

        if (atomic_load(word) >= least)
            return;
        ty_futex_wait(&heard->bell, bell, -1);
    }
}

static void hear(void *ctx, const char *line)
{
    int rank = (int)(intptr_t)ctx;

    if (atomic_load(&heard->lines[rank]) == 0)
        snprintf(heard->line[rank], sizeof heard->line[rank], "%s", line);
    atomic_fetch_add(&heard->lines[rank], 1);
    ring();
}

static void wait_for_line(int rank, uint32_t lines)
{
    wait_for(&heard->lines[rank], lines);
}
static void wait_for_ends(int n)
{
    wait_for(&heard->ends, (uint32_t)n);
}

/* Did that rank say that `late`, and nobody else, keeps the others waiting in this? */
static bool said(int rank, const char *title, int late)
{
    const char *at = strstr(heard->line[rank], title),
               *missing = at ? strstr(at, "missing: ") : NULL;
    char names[32];

    snprintf(names, sizeof names, "missing: rank %d)", late);
    if (missing && strncmp(missing, names, strlen(names)) == 0)
        return true;
    fprintf(stderr, "rank %d was to say \"%s ... %s\": %s\n", rank, title, names,
            heard->line[rank]);
    return false;
}

struct plan {
    int warning_s, shutdown_s;
    bool async;
    int late; /* the rank */
};

static struct ty_coll *open_with(struct world_rank *r, struct ty_coll_options *o)
{
    struct world w = *r->w;
    struct world_rank own = *r;

    w.options = o;
    own.w = &w;
    return world_open(&own, 0);
}

static struct ty_coll *open_as(struct world_rank *r, int warning_s, int shutdown_s)
{
    return open_with(r, &(struct ty_coll_options){ .stall_warning_s = warning_s,
                                                   .stall_shutdown_s = shutdown_s,
                                                   .warn = hear,
                                                   .warn_ctx = (void *)(intptr_t)r->rank });
}

static int64_t submit(struct world_rank *r, const char *name, int32_t *x, struct ty_error *err)
{
    struct ty_coll_buf b = { .data = x, .count = 1 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = name,
                                 .dtype = TY_COLL_I32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };

    return ty_coll_submit(r->c, &call, err);
}

static int reduce(struct world_rank *r, const char *name, struct ty_error *err)
{
    int32_t x = 1;
    struct ty_coll_buf b = { .data = &x, .count = 1 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = name,
                                 .dtype = TY_COLL_I32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    int e = ty_coll_do(r->c, &call, NULL, err);

    if (e == 0)
        CHECK(x == r->size);
    return e;
}

/* ---- reports ---- */

static void check_stalled(struct world_rank *r, int late)
{
    struct ty_error err;
    char *text = NULL;
    json_t *all, *one;

    CHECK(ty_coll_stalled(r->c, 500, &text, &err) == 0);
    all = json_loads(text, 0, NULL);
    CHECK(json_array_size(all) == 1);
    one = json_array_get(all, 0);
    CHECK(strcmp(json_string_value(json_object_get(one, "name")), "late \"one\"") == 0);
    CHECK(strcmp(json_string_value(json_object_get(one, "kind")), "allreduce") == 0);
    CHECK(json_integer_value(json_object_get(one, "set")) == 0);
    CHECK(json_real_value(json_object_get(one, "waiting_s")) >= 0.5);
    CHECK(json_is_false(json_object_get(one, "moving")));
    CHECK(json_array_size(json_object_get(one, "missing")) == 1);
    CHECK(json_integer_value(json_array_get(json_object_get(one, "missing"), 0)) == late);
    json_decref(all);
    free(text);
    CHECK(ty_coll_stalled(r->c, 3600000, &text, &err) == 0 && strcmp(text, "[]") == 0);
    free(text);
}

/* All but one wait; that one comes when it has been reported. */
static void one_is_late(struct world_rank *r)
{
    const struct plan *p = r->arg;
    int teller = p->late == 0 ? 1 : 0;
    struct ty_error err;

    r->c = open_as(r, p->warning_s, p->shutdown_s);
    CHECK(reduce(r, "first", &err) == 0);
    if (r->rank == p->late) {
        wait_for_line(teller, 1);
        CHECK(reduce(r, "late \"one\"", &err) == 0);
    } else if (p->async) {
        int32_t x = 1;
        int64_t h = submit(r, "late \"one\"", &x, &err);

        CHECK(h > 0);
        wait_for_line(teller, 1); /* the engine's thread does the waiting */
        CHECK(ty_coll_wait(r->c, h, NULL, &err) == 0 && x == r->size);
    } else {
        CHECK(reduce(r, "late \"one\"", &err) == 0);
    }
    r->c = ty_coll_close(r->c);
}

static void check_one_late(int size, int late, const char *const *node, bool async)
{
    struct plan p = { 1, 0, async, late };
    struct world w = { .size = size, .manual = true, .arg = &p, .node = node };
    int teller = late == 0 ? 1 : 0;

    memset(heard, 0, sizeof *heard);
    world_threads(&w, one_is_late);
    assert_true(said(teller, "allreduce 'late \"one\"' (", late));
    for (int i = 0; i < size; i++)
        if (i != teller)
            assert_int_equal(heard->lines[i], 0);
}

static void a_late_rank(void **state)
{
    (void)state;
    check_one_late(2, 1, NULL, false);
    check_one_late(2, 1, NULL, true);
    check_one_late(3, 0, NULL, false);
}

static void a_late_rank_of_another_node(void **state)
{
    static const char *const two[] = { "a", "a", "b", "b" }, *const three[] = { "a", "b", "c" };

    (void)state;
    check_one_late(4, 3, two, false);   /* its neighbour says so */
    check_one_late(3, 1, three, false); /* nothing is heard from its node */
    check_one_late(3, 2, three, true);
    check_one_late(4, 1, two, true);
}

static void as_data(struct world_rank *r)
{
    struct ty_error err;
    int32_t x = 1;
    int64_t h;

    r->c = open_as(r, 1, 0);
    if (r->rank == 0) {
        h = submit(r, "late \"one\"", &x, &err);
        wait_for_line(0, 1);
        check_stalled(r, 1);
        wait_for_line(0, 2); /* again after a period; only now may the other one come */
        CHECK(ty_coll_wait(r->c, h, NULL, &err) == 0);
    } else {
        wait_for_line(0, 2);
        CHECK(reduce(r, "late \"one\"", &err) == 0);
    }
    r->c = ty_coll_close(r->c);
}

static void reports_as_data(void **state)
{
    (void)state;
    memset(heard, 0, sizeof *heard);
    world_threads(&(struct world){ .size = 2, .manual = true }, as_data);
}

/* ---- the file ---- */

/* What it says, once it says anything; NULL: it is not there. */
static json_t *file_says(const char *path)
{
    return json_load_file(path, 0, NULL);
}

static void check_file(struct world_rank *r, const char *path, const char *name, int late)
{
    json_t *all, *one;

    while (!(all = file_says(path))) /* the alarm of the test ends it */
        sched_yield();
    one = json_array_get(all, 0);
    CHECK(json_array_size(all) == 1);
    CHECK(strcmp(json_string_value(json_object_get(one, "name")), name) == 0);
    CHECK(strcmp(json_string_value(json_object_get(one, "kind")), "allreduce") == 0);
    CHECK(json_is_false(json_object_get(one, "moving")));
    CHECK(json_integer_value(json_object_get(one, "nlate")) == 1);
    CHECK(json_integer_value(json_array_get(json_object_get(one, "late"), 0)) == late);
    CHECK(json_integer_value(json_object_get(one, "since_us")) <= ty_mono_us() - 1000000);
    json_decref(all);
}

static void to_file(struct world_rank *r)
{
    const char *dir = r->arg;
    struct ty_error err;
    char path[200];

    snprintf(path, sizeof path, "%s/%d", dir, r->rank);
    r->c = open_with(r, &(struct ty_coll_options){ .stall_warning_s = 1,
                                                   .stall_file = path,
                                                   .warn = hear,
                                                   .warn_ctx = (void *)(intptr_t)r->rank });
    CHECK(reduce(r, "first", &err) == 0);
    for (int k = 0; k < 2; k++) {
        char name[16];

        snprintf(name, sizeof name, "late \"%d\"", k);
        if (r->rank == 1) {
            snprintf(path, sizeof path, "%s/0", dir);
            check_file(r, path, name, 1);
            CHECK(reduce(r, name, &err) == 0);
        } else {
            CHECK(reduce(r, name, &err) == 0);
        }
        while (access(path, F_OK) == 0) /* it goes when nobody is late any more */
            sched_yield();
    }
    /* Who does not report has none. */
    snprintf(path, sizeof path, "%s/%d", dir, r->rank ? r->rank : 9);
    CHECK(access(path, F_OK) < 0);
    r->c = ty_coll_close(r->c);
}

static void a_file_for_those_who_watch(void **state)
{
    char dir[] = "/tmp/ty-stall.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(dir));
    memset(heard, 0, sizeof *heard);
    world_threads(&(struct world){ .size = 3, .manual = true, .arg = dir }, to_file);
    assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
}

/* Other operations go on while one waits. */
static void one_of_many(struct world_rank *r)
{
    struct ty_error err;
    int32_t x = 1;
    int64_t h;

    r->c = open_as(r, 1, 0);
    if (r->rank == 0) {
        h = submit(r, "owed", &x, &err);
        CHECK(h > 0 && reduce(r, "common", &err) == 0);
        CHECK(ty_coll_wait(r->c, h, NULL, &err) == 0 && x == 2);
    } else {
        CHECK(reduce(r, "common", &err) == 0);
        wait_for_line(0, 1);
        CHECK(reduce(r, "owed", &err) == 0);
    }
    r->c = ty_coll_close(r->c);
}

static void what_lists_say(void **state)
{
    (void)state;
    memset(heard, 0, sizeof *heard);
    world_threads(&(struct world){ .size = 2, .manual = true }, one_of_many);
    assert_true(said(0, "allreduce 'owed' (", 1));
    assert_null(strstr(heard->line[0], "common"));
}

/* ---- ends ---- */

static void patience_ends(struct world_rank *r)
{
    struct ty_error err;

    r->c = open_as(r, 1, 1);
    CHECK(reduce(r, "first", &err) == 0);
    if (r->rank == 1) {
        wait_for_ends(r->size - 1);
        CHECK(reduce(r, "other", &err) == -ETIMEDOUT);
        CHECK(strstr(err.text, "stalled for too long"));
    } else {
        CHECK(reduce(r, "late", &err) == -ETIMEDOUT);
        CHECK(strstr(err.text, "allreduce 'late' failed"));
        CHECK(strstr(err.text, "missing: rank 1)"));
        CHECK(reduce(r, "later", &err) == -ETIMEDOUT);
        atomic_fetch_add(&heard->ends, 1);
        ring();
    }
    /* Who closes says goodbye, which is another end. */
    wait_for_ends(r->size - 1);
    r->c = ty_coll_close(r->c);
}

static void the_world_ends(void **state)
{
    static const char *const nodes[] = { "a", "b", "a" };

    (void)state;
    memset(heard, 0, sizeof *heard);
    world_threads(&(struct world){ .size = 3, .manual = true }, patience_ends);
    memset(heard, 0, sizeof *heard);
    world_threads(&(struct world){ .size = 3, .manual = true, .node = nodes }, patience_ends);
}

static void no_end_before_a_word(void **state)
{
    struct plan p = { 2, 1, false, 1 };

    (void)state;
    memset(heard, 0, sizeof *heard);
    world_threads(&(struct world){ .size = 2, .manual = true, .arg = &p }, one_is_late);
    assert_true(said(0, "allreduce 'late \"one\"' (", 1));
}

/* ---- data that do not move ---- */

static void *trap;
#define TRAP_BYTES (1 << 20)

/* The engine has touched the tensor: stop here, in the middle of the operation, until somebody says go on. */
static void stop_here(int signal)
{
    (void)signal;
    raise(SIGSTOP);
    mprotect(trap, TRAP_BYTES, PROT_READ | PROT_WRITE);
}

static void stopped_peer(struct world_rank *r)
{
    struct ty_coll_buf b = { .count = TRAP_BYTES / 4 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = "big",
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .prescale =
                                     0.5, /* computed: a kernel's copy would find no memory */
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    int last = r->size - 1, ends = r->arg != NULL;
    struct ty_error err;
    int e;

    b.data = mmap(NULL, TRAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    r->c = open_as(r, 1, ends ? 2 : 0);
    CHECK(reduce(r, "first", &err) == 0);
    if (r->rank == last) {
        trap = b.data;
        signal(SIGSEGV, stop_here);
        mprotect(trap, TRAP_BYTES, PROT_NONE);
        atomic_store(world_word(r->w, PID), (uint64_t)getpid());
    }
    CHECK(reduce(r, "second", &err) == 0);
    e = ty_coll_do(r->c, &call, NULL, &err);
    if (ends && r->rank != last)
        CHECK(e == -ETIMEDOUT && strstr(err.text, "allreduce 'big'"));
    else if (ends)
        CHECK(e == -ETIMEDOUT || e == -ESHUTDOWN || e == -EOWNERDEAD);
    else
        CHECK(e == 0 || (fprintf(stderr, "%s\n", err.text), false));
    if (ends && r->rank == 0)
        kill((pid_t)atomic_load(world_word(r->w, PID)), SIGCONT);
    r->c = ty_coll_close(r->c);
}

static void check_stopped(int size, const char *const *node, void *ends)
{
    struct world w = { .size = size, .manual = true, .node = node, .arg = ends };

    memset(heard, 0, sizeof *heard);
    world_fork(&w, stopped_peer);
    if (!ends) {
        wait_for_line(0, 1);
        kill((pid_t)atomic_load(world_word(&w, PID)), SIGCONT);
    }
    world_end(&w, 20000);
    assert_true(said(0, "allreduce 'big' (", size - 1));
    for (int i = 1; i < size; i++)
        assert_int_equal(heard->lines[i], 0);
}

static void a_peer_that_is_stopped(void **state)
{
    static const char *const two[] = { "a", "b" }, *const three[] = { "a", "b", "c" },
                             *const mixed[] = { "a", "a", "b", "b" };

    (void)state;
    check_stopped(2, NULL, NULL);
    check_stopped(3, NULL, NULL);
    check_stopped(2, two, NULL);
    check_stopped(3, three, NULL);
    check_stopped(4, mixed, NULL);
    check_stopped(3, NULL, (void *)1);
    check_stopped(3, three, (void *)1);
}

/* Until the engine knows that it was stopped; the alarm of the test ends it. */
static void await_noticed(struct ty_coll *c)
{
    for (bool noticed = false; !noticed && !c->ended; usleep(1000)) {
        pthread_mutex_lock(&c->lock);
        noticed = c->stall->deaf_us > 0;
        pthread_mutex_unlock(&c->lock);
    }
}

/* All are stopped while one waits: those who come as soon as they can again are not late. */
static void stopped_together(struct world_rank *r)
{
    struct ty_error err;
    int32_t x = 1;

    r->c = open_as(r, 2, 2);
    CHECK(reduce(r, "first", &err) == 0);
    if (r->rank == 0) {
        int64_t h = submit(r, "second", &x, &err);

        CHECK(h > 0);
        atomic_fetch_add(&heard->ends, 1);
        ring();
        await_noticed(r->c); /* it looks before the other comes */
        atomic_store(&heard->go, 1);
        ring();
        CHECK(ty_coll_wait(r->c, h, NULL, &err) == 0 || (fprintf(stderr, "%s\n", err.text), false));
    } else {
        wait_for(&heard->go, 1);
        CHECK(reduce(r, "second", &err) == 0);
    }
    r->c = ty_coll_close(r->c);
}

static void a_world_that_is_stopped(void **state)
{
    struct world w = { .size = 2, .manual = true };

    (void)state;
    memset(heard, 0, sizeof *heard);
    world_fork(&w, stopped_together);
    wait_for_ends(1);
    for (int i = 0; i < w.size; i++)
        kill(w.pid[i], SIGSTOP);
    /* More than they are patient: this is what is tested, and nothing is waited for. */
    usleep(4000000);
    for (int i = 0; i < w.size; i++)
        kill(w.pid[i], SIGCONT);
    world_end(&w, 60000);
    for (int i = 0; i < w.size; i++)
        assert_int_equal(heard->lines[i], 0);
}

/* ---- what it costs ---- */

static void idle(struct world_rank *r)
{
    struct ty_error err;
    bool dormant = false;

    r->c = open_as(r, r->arg ? -1 : 1, 0);
    CHECK(reduce(r, "first", &err) == 0);
    CHECK(r->c->stall->started == (r->size > 1 && !r->arg));
    while (!dormant && r->c->stall->started) { /* the alarm of the test ends it */
        pthread_mutex_lock(&r->c->lock);
        dormant = r->c->stall->dormant;
        pthread_mutex_unlock(&r->c->lock);
        sched_yield();
    }
    r->c = ty_coll_close(r->c);
}

static void nobody_looks_at_nothing(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 1, .manual = true }, idle);
    world_threads(&(struct world){ .size = 2, .manual = true }, idle);
    world_threads(&(struct world){ .size = 2, .manual = true, .arg = (void *)1 }, idle);
}

/* The variables, as Horovod has them. */
static void by_variables(struct world_rank *r)
{
    const int *want = r->arg;

    CHECK(r->c->stall_warning_s == want[0] && r->c->stall_shutdown_s == want[1]);
    CHECK(r->c->stall->started == (want[0] > 0));
}

static void variables(void **state)
{
    static const struct {
        const char *disable, *check, *shutdown;
        int want[2];
    } cases[] = {
        { NULL, NULL, NULL, { 60, 0 } }, { NULL, "5", "7", { 5, 7 } },
        { NULL, "5", "4", { 5, 0 } },    { "1", "5", "7", { -1, 0 } },
        { "0", "5", "7", { 5, 7 } },     { NULL, NULL, "90", { 60, 90 } },
    };
    static const char *const names[] = { "HOROVOD_STALL_CHECK_DISABLE",
                                         "HOROVOD_STALL_CHECK_TIME_SECONDS",
                                         "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS" };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const values[] = { cases[i].disable, cases[i].check, cases[i].shutdown };
        struct world w = { .size = 2, .arg = (void *)(uintptr_t)cases[i].want };

        for (int k = 0; k < 3; k++)
            values[k] ? setenv(names[k], values[k], 1) : unsetenv(names[k]);
        world_threads(&w, by_variables);
    }
    for (int k = 0; k < 3; k++)
        unsetenv(names[k]);
}

/* ---- who has joined is not late ---- */

static void joined(struct world_rank *r)
{
    struct ty_coll_call join = { .kind = TY_COLL_JOIN };
    struct ty_coll_result got = { 0 };
    struct ty_error err;
    char *text;

    r->c = open_as(r, 1, 0);
    if (r->rank == 0) {
        int64_t h = ty_coll_submit(r->c, &join, &err);

        CHECK(h > 0);
        CHECK(ty_coll_stalled(r->c, 0, &text, &err) == 0 && strcmp(text, "[]") == 0);
        free(text);
        CHECK(ty_coll_wait(r->c, h, &got, &err) == 0);
    } else {
        CHECK(ty_coll_do(r->c, &join, &got, &err) == 0);
    }
    r->c = ty_coll_close(r->c);
}

static void joins(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 2, .manual = true }, joined);
}

/* ---- what others say ---- */

static void odd_notes(void **state)
{
    struct ty_notes *n = ty_notes_new();
    unsigned char bytes[TY_NOTE_BYTES];
    uint64_t seed = 1;

    (void)state;
    assert_non_null(n);
    for (int i = 0; i < 20000; i++) {
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = i & 1 && k >= 24 ? 0 : (unsigned char)tests_random(&seed);
        ty_notes_heard(n, bytes);
    }
    assert_null(ty_notes_free(n));
    assert_null(ty_notes_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_rank),
        cmocka_unit_test(a_late_rank_of_another_node),
        cmocka_unit_test(reports_as_data),
        cmocka_unit_test(a_file_for_those_who_watch),
        cmocka_unit_test(what_lists_say),
        cmocka_unit_test(the_world_ends),
        cmocka_unit_test(no_end_before_a_word),
        cmocka_unit_test(a_peer_that_is_stopped),
        cmocka_unit_test(a_world_that_is_stopped),
        cmocka_unit_test(nobody_looks_at_nothing),
        cmocka_unit_test(variables),
        cmocka_unit_test(joins),
        cmocka_unit_test(odd_notes),
    };

    heard = mmap(NULL, sizeof *heard, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
