/* Ranks that are processes and end: killed at random moments, from any operation, closing, exiting; every survivor is told
 * whose end it was, soon. */
#include "base/clock.h"
#include "tests.h"
#include "values.h"
#include "world.h"
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON_US 2000000

/* Words of the world: when the rank was killed, the longest that a survivor took, rounds done by all. */
enum { KILLED_US, LONGEST_US, ROUNDS, READY, GONE, CHILD };

static const int sizes[] = { 1, 30, 5000, 100000, 400000 };

/* One operation, chosen by k; all ranks choose the same.  buf[] has room for a megabyte float for each rank. */
static int any_operation(struct world_rank *r, uint64_t k, float *buf, float *arena,
                         struct ty_error *err)
{
    int64_t n = sizes[mix(k) % 5], dims[2] = { n - n % r->size, 1 };
    struct ty_coll_buf b = {
        .data = mix(k) % 3 == 0 ? arena : buf, .count = dims[0], .ndims = 2, .dims = dims
    };
    struct ty_coll_call call = {
        .dtype = TY_COLL_F32, .op = TY_COLL_SUM, .in = &b, .out = &b, .nbufs = 1
    };
    struct ty_coll_result ret = { 0 };
    char name[32];
    int e;

    snprintf(name, sizeof name, "op%llu", (unsigned long long)(k % 7));
    call.name = mix(k * 3) % 2 ? name : NULL;
    call.kind = (enum ty_coll_kind)(mix(k * 5) % 9 % 6);
    call.root = (int)(mix(k * 7) % (uint64_t)r->size);
    if (call.kind == TY_COLL_ALLTOALL || call.kind == TY_COLL_ALLGATHER)
        call.out = NULL;
    e = ty_coll_do(r->c, &call, &ret, err);
    ty_coll_result_done(&ret);
    return e;
}

static void note_longest(struct world_rank *r)
{
    uint64_t took = (uint64_t)ty_mono_us() - *world_word(r->w, KILLED_US),
             longest = *world_word(r->w, LONGEST_US);

    while (took > longest &&
           !atomic_compare_exchange_weak(world_word(r->w, LONGEST_US), &longest, took))
        ;
}

/* Work until an operation fails; it must be for the end of the rank in word GONE. */
static void work(struct world_rank *r)
{
    float *buf = calloc(1 << 20, sizeof *buf),
          *arena = ty_coll_arena_alloc(r->c, sizeof(float) << 20);
    struct ty_error err = { 0 };
    char words[40];
    int e = 0;

    CHECK(buf && arena);
    for (uint64_t k = r->w->seed * 1000; e == 0; k++) {
        e = any_operation(r, k, buf, arena, &err);
        if (r->rank == 0 && e == 0)
            atomic_fetch_add(world_word(r->w, ROUNDS), 1);
    }
    note_longest(r);
    snprintf(words, sizeof words, "rank %d ", (int)*world_word(r->w, GONE));
    if (e != -EOWNERDEAD || !strstr(err.text, words))
        fprintf(stderr, "rank %d: %d (%s), and %s is gone\n", r->rank, e, err.text, words);
    CHECK(e == -EOWNERDEAD && strstr(err.text, words));
    /* And so does all that follows. */
    CHECK(any_operation(r, 1, buf, arena, &err) == -EOWNERDEAD && strstr(err.text, words));
    free(buf);
}

static void wait_for(_Atomic uint64_t *word, uint64_t least)
{
    while (*word < least)
        usleep(200);
}

static uint64_t kill_one(struct world *w, uint64_t *seed)
{
    uint64_t longest;
    int gone = (int)(tests_random(seed) % (uint32_t)w->size);

    w->seed = tests_random(seed);
    world_fork(w, work);
    *world_word(w, GONE) = (uint64_t)gone;
    wait_for(world_word(w, ROUNDS), 1 + tests_random(seed) % 20);
    usleep(tests_random(seed) % 3000);
    *world_word(w, KILLED_US) = (uint64_t)ty_mono_us();
    world_kill(w, gone);
    for (int i = 0; i < w->size; i++) /* before the table goes */
        if (w->pid[i]) {
            siginfo_t info;

            assert_int_equal(waitid(P_PID, (id_t)w->pid[i], &info, WEXITED | WNOWAIT), 0);
        }
    longest = *world_word(w, LONGEST_US);
    world_end(w, 20000);
    assert_true(longest < SOON_US);
    return longest;
}

static void kills(const char *what, int times, int from, int to, const char *const *node,
                  uint64_t first)
{
    uint64_t seed = first, longest = 0;

    for (int k = 0; k < times; k++) {
        struct world w = { .size = from + k % (to - from + 1), .node = node };
        uint64_t took = kill_one(&w, &seed);

        longest = took > longest ? took : longest;
    }
    printf("# %s: %d kills from seed %llu, the longest until all knew: %.1f ms\n", what, times,
           (unsigned long long)first, (double)longest / 1e3);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("TY_TEST_SEED");

    return text ? strtoull(text, NULL, 10) : 1;
}

static void killed_on_one_node(void **state)
{
    (void)state;
    kills("one node", 24, 2, 4, NULL, first_seed());
}

static void killed_on_two_nodes(void **state)
{
    static const char *const two[] = { "a", "b", "a", "b" };

    (void)state;
    kills("two nodes", 10, 3, 4, two, first_seed() + 100);
}

static void killed_on_three_nodes(void **state)
{
    static const char *const three[] = { "a", "b", "c", "a" };

    (void)state;
    kills("three nodes", 10, 3, 4, three, first_seed() + 200);
}

/* ---- waiting for one that never comes ---- */

static int barrier(struct world_rank *r, struct ty_error *err)
{
    struct ty_coll_call call = { .kind = TY_COLL_BARRIER };

    return ty_coll_do(r->c, &call, NULL, err);
}

/* The last barrier of this rank ends with `code` and says so. */
static void barrier_fails(struct world_rank *r, int code, const char *words)
{
    struct ty_error err = { 0 };
    int e = barrier(r, &err);

    if (e != code || !strstr(err.text, words))
        fprintf(stderr, "rank %d: %d (%s), not %d with '%s'\n", r->rank, e, err.text, code, words);
    CHECK(e == code && strstr(err.text, words));
}

/* The last rank sleeps without an operation; the others wait for it. */
static void idle(struct world_rank *r)
{
    struct ty_error err = { 0 };

    CHECK(barrier(r, &err) == 0);
    atomic_fetch_add(world_word(r->w, READY), 1);
    if (r->rank == r->size - 1)
        for (;;)
            pause();
    barrier_fails(r, -EOWNERDEAD, r->size == 3 ? "rank 2 has died" : "rank 3 ");
    note_longest(r);
}

static void killed_idle(void **state)
{
    static const char *const nodes[][4] = { { "a", "a", "a" },
                                            { "a", "b", "a", "b" },
                                            { "a", "a", "b", "c" } };

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct world w = { .size = k ? 4 : 3, .node = nodes[k] };
        siginfo_t info;

        world_fork(&w, idle);
        wait_for(world_word(&w, READY), (uint64_t)w.size);
        usleep(20000); /* likely, but not needed: the others sleep by now */
        *world_word(&w, KILLED_US) = (uint64_t)ty_mono_us();
        world_kill(&w, w.size - 1);
        for (int i = 0; i < w.size - 1; i++)
            assert_int_equal(waitid(P_PID, (id_t)w.pid[i], &info, WEXITED | WNOWAIT), 0);
        printf("# killed idle: known after %.1f ms\n", (double)*world_word(&w, LONGEST_US) / 1e3);
        assert_true(*world_word(&w, LONGEST_US) < SOON_US);
        world_end(&w, 20000);
    }
}

/* ---- other ends ---- */

static void leave_without_close(struct world_rank *r)
{
    struct ty_error err = { 0 };

    CHECK(barrier(r, &err) == 0);
    atomic_fetch_add(world_word(r->w, READY), 1);
    if (r->rank == 1) {
        wait_for(world_word(r->w, READY), (uint64_t)r->size);
        _exit(0);
    }
    barrier_fails(r, -EOWNERDEAD, "rank 1 ");
}

static void exits(void **state)
{
    static const char *const two[] = { "a", "b", "b" };

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct world w = { .size = 3, .node = k ? two : NULL };

        world_fork(&w, leave_without_close);
        world_end(&w, 10000);
    }
}

static void leave_early(struct world_rank *r)
{
    struct ty_error err = { 0 };
    int e = barrier(r, &err);

    if (e)
        fprintf(stderr, "rank %d: %d %s\n", r->rank, e, err.text);
    CHECK(e == 0);
    atomic_fetch_add(world_word(r->w, READY), 1);
    if (r->rank == 1)
        return;
    /* Whoever gives up the next one ends the world for those that are not through the first. */
    wait_for(world_word(r->w, READY), (uint64_t)r->size);
    e = barrier(r, &err);
    if (e != -ESHUTDOWN)
        fprintf(stderr, "rank %d: %d %s\n", r->rank, e, err.text);
    CHECK(e == -ESHUTDOWN && strstr(err.text, "has shut down"));
    CHECK(strstr(err.text, "rank 1 ") || r->w->node);
}

/* The last operation counts, however soon a rank leaves after it. */
static void last_operation(struct world_rank *r)
{
    struct ty_error err = { 0 };
    static float x[3000];
    struct ty_coll_buf b = { .data = x, .count = r->w->seed % 2 ? 3000 : 30 };
    struct ty_coll_call call = { .kind = r->w->seed % 3 ? TY_COLL_ALLREDUCE : TY_COLL_BROADCAST,
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    int e = ty_coll_do(r->c, &call, NULL, &err);

    if (e)
        fprintf(stderr, "rank %d: %d %s\n", r->rank, e, err.text);
    CHECK(e == 0);
}

static void closes(void **state)
{
    static const char *const two[] = { "a", "b", "b", "a" }, *const three[] = { "a", "b", "c",
                                                                                "a" };

    (void)state;
    for (int k = 0; k < 9; k++) {
        struct world w = { .size = 3 + k % 2,
                           .node = k % 3 == 0   ? NULL
                                   : k % 3 == 1 ? two
                                                : three,
                           .seed = (uint64_t)k };

        world_fork(&w, leave_early);
        world_end(&w, 10000);
        world_fork(&w, last_operation);
        world_end(&w, 10000);
    }
}

/* A rank that submits and closes at once leaves nobody waiting for its part. */
static void submit_and_close(struct world_rank *r)
{
    static float x[1 << 20];
    struct ty_coll_buf b = { .data = x, .count = r->w->seed % 2 ? 1 << 20 : 50000 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    struct ty_error err = { 0 };
    int64_t h;
    int e;

    atomic_fetch_add(world_word(r->w, READY),
                     1); /* else the world of the others may end while it begins */
    wait_for(world_word(r->w, READY), (uint64_t)r->size);
    h = ty_coll_submit(r->c, &call, &err);
    CHECK(h > 0 || h == -ESHUTDOWN);
    if (h < 0)
        return;
    if (r->rank == (int)(r->w->seed % (uint64_t)r->size)) {
        while (mix(r->seed) % 2 && ty_coll_poll(r->c, h) == 0 && mix(r->seed++) % 16)
            ;
        return;
    }
    e = ty_coll_wait(r->c, h, NULL, &err);
    if (e && e != -ESHUTDOWN)
        fprintf(stderr, "rank %d: %d %s\n", r->rank, e, err.text);
    CHECK(e == 0 || e == -ESHUTDOWN);
}

static void closes_at_once(void **state)
{
    static const char *const two[] = { "a", "b", "b", "a" };

    (void)state;
    for (int k = 0; k < 40; k++) {
        struct world w = { .size = 2 + k % 3,
                           .node = k % 4 == 3 ? two : NULL,
                           .seed = (uint64_t)k };

        world_threads(&w, submit_and_close);
    }
}

/* ---- forks ---- */

static void fork_and_die(struct world_rank *r)
{
    struct ty_error err = { 0 };
    float *p = ty_coll_arena_alloc(r->c, 4096);
    struct ty_coll_buf b = { .data = p, .count = 1000 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    pid_t child;

    for (int i = 0; i < 1000; i++)
        p[i] = 1;
    CHECK(barrier(r, &err) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) { /* as workers of a data loader do */
        alarm(380);
        for (int i = 0; i < 1000; i++)
            p[i] = p[i] == 1 ? 100 : 1000;
        CHECK(ty_coll_do(r->c, &call, NULL, &err) == -ESHUTDOWN && strstr(err.text, "fork"));
        CHECK(ty_coll_submit(r->c, &call, &err) == -ESHUTDOWN);
        CHECK(ty_coll_poll(r->c, 1) == -ENOENT);
        CHECK(ty_coll_arena_alloc(r->c, 1) == NULL);
        ty_coll_close(r->c);
        for (int i = 0; i < 1000; i++)
            CHECK(p[i] == 100);
        world_word(r->w, CHILD + r->rank)[0] = (uint64_t)getpid();
        atomic_fetch_add(world_word(r->w, READY), 1);
        for (;;)
            pause();
    }
    wait_for(world_word(r->w, READY), (uint64_t)r->size);
    for (int i = 0; i < 1000; i++)
        CHECK(p[i] == 1);
    CHECK(ty_coll_do(r->c, &call, NULL, &err) == 0);
    CHECK(p[0] == (float)r->size && p[999] == (float)r->size);
    /* A death may break what others have not ended, although the dead one had done its part. */
    atomic_fetch_add(world_word(r->w, READY), 1);
    wait_for(world_word(r->w, READY), 2 * (uint64_t)r->size);
    if (r->rank == 1)
        kill(getpid(), SIGKILL);
    *world_word(r->w, KILLED_US) = (uint64_t)ty_mono_us();
    barrier_fails(r, -EOWNERDEAD, "rank 1 ");
    note_longest(r);
}

static void forked_children(void **state)
{
    static const char *const two[] = { "a", "b", "b" };

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct world w = { .size = 3, .node = k ? two : NULL };
        int status;

        world_fork(&w, fork_and_die);
        waitpid(w.pid[1], &status, 0);
        w.pid[1] = 0;
        for (int i = 0; i < 3; i++)
            if (w.pid[i]) {
                siginfo_t info;

                assert_int_equal(waitid(P_PID, (id_t)w.pid[i], &info, WEXITED | WNOWAIT), 0);
            }
        printf("# the parent of a child that sleeps: known after %.1f ms\n",
               (double)*world_word(&w, LONGEST_US) / 1e3);
        assert_true(*world_word(&w, LONGEST_US) < SOON_US);
        for (int i = 0; i < 3; i++) {
            assert_true(*world_word(&w, CHILD + i) > 1);
            kill((pid_t)*world_word(&w, CHILD + i), SIGKILL);
        }
        world_end(&w, 10000);
    }
}

/* ---- stopped is not dead; waiting costs nothing ---- */

static void be_stopped(struct world_rank *r)
{
    struct ty_error err = { 0 };
    struct rusage before, after;
    int64_t used, begun;

    CHECK(barrier(r, &err) == 0);
    atomic_fetch_add(world_word(r->w, READY), 1);
    if (r->rank == 1)
        wait_for(world_word(r->w, GONE), 1); /* stopped before it asks for this for the last time */
    getrusage(RUSAGE_SELF, &before);
    begun = ty_mono_us();
    CHECK(barrier(r, &err) == 0);
    getrusage(RUSAGE_SELF, &after);
    used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
            before.ru_stime.tv_sec) *
               1000000 +
           after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
           before.ru_stime.tv_usec;
    if (r->rank != 1) {
        printf("# %d ms of waiting took %.2f ms of a processor\n",
               (int)((ty_mono_us() - begun) / 1000), (double)used / 1e3);
        fflush(stdout);
        CHECK(ty_mono_us() - begun > 900000);
        CHECK(used < 50000);
    }
}

static void stopped(void **state)
{
    static const char *const two[] = { "a", "b", "b" };

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct world w = { .size = 3, .node = k ? two : NULL };
        int status;

        world_fork(&w, be_stopped);
        wait_for(world_word(&w, READY), 3);
        kill(w.pid[1], SIGSTOP);
        assert_int_equal(waitpid(w.pid[1], &status, WUNTRACED), w.pid[1]);
        *world_word(&w, GONE) = 1;
        usleep(1000000);
        kill(w.pid[1], SIGCONT);
        world_end(&w, 10000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_on_one_node),
        cmocka_unit_test(killed_on_two_nodes),
        cmocka_unit_test(killed_on_three_nodes),
        cmocka_unit_test(killed_idle),
        cmocka_unit_test(exits),
        cmocka_unit_test(closes),
        cmocka_unit_test(closes_at_once),
        cmocka_unit_test(forked_children),
        cmocka_unit_test(stopped),
    };

    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
