/* The memory that ranks of a node share: who gets it, bells, deaths and leaves. */
#include "base/clock.h"
#include "coll/node.h"
#include "tests.h"
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <sys/wait.h>
#include <trainyard/error.h>
#include <unistd.h>

static const int world[] = { 3, 7, 8 };
static const unsigned char key[TY_KEY_BYTES] = "the key of this world";
static const unsigned char wrong[TY_KEY_BYTES] = "another key";

struct rank {
    int me, ranks, listener, timeout_ms;
    const unsigned char *key;
    const char *socket;
    size_t arena_bytes;
    _Atomic int lost, why; /* what it was told last */
    struct ty_node *n;
    struct ty_error err;
    int r;
    pthread_t t;
};

static void lost(void *ctx, int rank, enum ty_end why)
{
    struct rank *r = ctx;

    r->why = (int)why;
    r->lost = rank;
}

static void *open_node(void *arg)
{
    struct rank *r = arg;
    struct ty_node_options o = { .me = r->me,
                                 .ranks = r->ranks,
                                 .world = world,
                                 .key = r->key,
                                 .socket = r->socket,
                                 .listener = r->listener,
                                 .arena_bytes = r->arena_bytes,
                                 .timeout_ms = r->timeout_ms,
                                 .lost = lost,
                                 .ctx = r };

    r->r = ty_node_open(&o, &r->n, &r->err);
    return NULL;
}

/* Ranks that are to be opened: the leader listens. */
static void prepare(struct rank *r, int n, char name[32])
{
    struct ty_error err;
    int fd = ty_node_listen(name, &err);

    assert_true(fd >= 0);
    for (int i = 0; i < n; i++)
        r[i] = (struct rank){ .me = i,
                              .ranks = n,
                              .listener = i ? -1 : fd,
                              .timeout_ms = 10000,
                              .key = key,
                              .socket = name,
                              .arena_bytes = 1 << 20,
                              .lost = -1 };
}
static void begin(struct rank *r)
{
    assert_int_equal(pthread_create(&r->t, NULL, open_node, r), 0);
}
static int end(struct rank *r)
{
    pthread_join(r->t, NULL);
    return r->r;
}

static void open_all(struct rank *r, int n, char name[32])
{
    prepare(r, n, name);
    for (int i = 0; i < n; i++)
        begin(&r[i]);
    for (int i = 0; i < n; i++)
        if (end(&r[i]) < 0)
            fail_msg("%s", r[i].err.text);
}

static void shared(void **state)
{
    struct rank r[3];
    char name[32];

    (void)state;
    open_all(r, 3, name);
    for (int i = 0; i < 3; i++) {
        unsigned char *mine = ty_node_arena(r[i].n, i);

        mine[0] = (unsigned char)(i + 1);
        mine[(1 << 20) - 1] = (unsigned char)(i + 11);
        *ty_node_control(r[i].n, 63, i) = (unsigned char)(i + 21);
        ty_node_slot(r[i].n, 63, i, 1)[TY_SLOT_BYTES - 1] = (unsigned char)(i + 31);
    }
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            assert_int_equal(ty_node_arena(r[i].n, k)[0], k + 1);
            assert_int_equal(ty_node_arena(r[i].n, k)[(1 << 20) - 1], k + 11);
            assert_int_equal(*ty_node_control(r[i].n, 63, k), k + 21);
            assert_int_equal(ty_node_slot(r[i].n, 63, k, 1)[TY_SLOT_BYTES - 1], k + 31);
            assert_int_equal(r[i].n->rank[k].world, world[k]);
        }
    assert_int_equal(ty_node_poisoned(r[0].n), 0);
    for (int i = 0; i < 3; i++) /* the leader first: the mapping stays until the last */
        assert_null(ty_node_free(r[i].n));
}

static void strangers(void **state)
{
    struct rank r[2], bad;
    char name[32];

    (void)state;
    prepare(r, 2, name);
    begin(&r[0]);
    bad = r[1];
    bad.key = wrong;
    begin(&bad);
    assert_true(end(&bad) < 0);
    assert_non_null(strstr(bad.err.text, "rank 3 has not given the shared memory"));
    begin(&r[1]); /* the one who knows it is served all the same */
    assert_int_equal(end(&r[1]), 0);
    assert_int_equal(end(&r[0]), 0);
    ty_node_free(r[0].n);
    ty_node_free(r[1].n);
}

static void other_layout(void **state)
{
    struct rank r[2];
    char name[32];

    (void)state;
    prepare(r, 2, name);
    r[0].timeout_ms = 300;
    r[1].arena_bytes = 2 << 20;
    begin(&r[0]);
    begin(&r[1]);
    assert_int_equal(end(&r[1]), -EPROTO);
    assert_non_null(strstr(r[1].err.text, "TRAINYARD_COLL_ARENA"));
    assert_int_equal(end(&r[0]), -ETIMEDOUT);
    assert_non_null(strstr(r[0].err.text, "rank 7 has not come"));
}

static void nobody_comes(void **state)
{
    struct rank r[3];
    char name[32];

    (void)state;
    prepare(r, 3, name);
    r[0].timeout_ms = 50;
    begin(&r[0]);
    assert_int_equal(end(&r[0]), -ETIMEDOUT);
    assert_non_null(strstr(r[0].err.text, "ranks 7, 8 have not come"));
    begin(&r[1]); /* and nobody listens any more */
    assert_true(end(&r[1]) < 0);
    assert_non_null(strstr(r[1].err.text, "cannot ask rank 3"));
}

/* ---- bells ---- */

struct sleeper {
    struct ty_node *n;
    _Atomic int ready, woken, asked;
};
static bool is_ready(void *ctx)
{
    struct sleeper *s = ctx;

    s->asked++;
    return s->ready || ty_node_poisoned(s->n);
}
static void *sleep_until_ready(void *arg)
{
    struct sleeper *s = arg;

    while (!is_ready(s))
        ty_node_sleep(s->n, is_ready, s, -1);
    s->woken = 1;
    return NULL;
}

static void bells(void **state)
{
    struct rank r[2];
    struct sleeper s;
    char name[32];
    pthread_t t;

    (void)state;
    open_all(r, 2, name);
    for (int k = 0; k < 300; k++) {
        s = (struct sleeper){ .n = r[1].n };
        pthread_create(&t, NULL, sleep_until_ready, &s);
        if (k % 3) /* asleep, or about to be */
            while (!r[0].n->rank[1].asleep)
                sched_yield();
        s.ready = 1;
        if (k % 2)
            ty_node_ring(r[0].n);
        else
            ty_node_ring_one(r[0].n, 1);
        pthread_join(t, NULL);
        assert_int_equal(s.woken, 1);
    }
    assert_int_equal(r[0].n->head->sleepers, 0);
    /* A timeout ends a sleep too. */
    s = (struct sleeper){ .n = r[1].n };
    ty_node_sleep(r[1].n, is_ready, &s, 1000);
    assert_int_equal(s.asked, 1);
    /* And so does the end of the world. */
    pthread_create(&t, NULL, sleep_until_ready, &s);
    while (!r[0].n->rank[1].asleep)
        sched_yield();
    assert_true(ty_node_poison(r[0].n, 8, TY_END_CUT));
    pthread_join(t, NULL);
    assert_false(ty_node_poison(r[0].n, 7, TY_END_DIED)); /* the first stays */
    assert_int_equal(ty_node_poisoned(r[1].n), 9 | (uint64_t)TY_END_CUT << 32);
    assert_int_equal(ty_node_broken(r[1].n), 9 | (uint64_t)TY_END_CUT << 32);
    for (int i = 0; i < 2; i++) { /* both watchers tell it */
        while (r[i].lost < 0)
            usleep(100);
        assert_int_equal(r[i].lost, 8);
        assert_int_equal(r[i].why, TY_END_CUT);
    }
    ty_node_free(r[1].n);
    ty_node_free(r[0].n);
}

/* ---- ends ---- */

/* Rank 1 of two is a process, which does what it is told. */
static pid_t other_process(struct rank *r, bool leaves)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    alarm(280);
    close(r[0].listener);
    open_node(&r[1]);
    if (r[1].r < 0)
        _exit(1);
    while (!*(volatile unsigned char *)ty_node_arena(r[1].n, 0))
        usleep(100);
    if (leaves) {
        ty_node_free(r[1].n);
        _exit(0);
    }
    ty_node_arena(r[1].n, 1)[5] = 1;
    for (;;)
        pause();
}

static void wait_told(struct rank *r, int rank, enum ty_end why)
{
    int64_t until = ty_mono_us() + 5000000;

    while (r->lost < 0 && ty_mono_us() < until)
        usleep(100);
    assert_int_equal(r->lost, rank);
    assert_int_equal(r->why, why);
}

static void death(void **state)
{
    struct rank r[2];
    char name[32];
    int status;
    pid_t pid;

    (void)state;
    prepare(r, 2, name);
    pid = other_process(r, false);
    open_node(&r[0]);
    assert_int_equal(r[0].r, 0);
    ty_node_look(r[0].n, 1);
    assert_int_equal(ty_node_poisoned(r[0].n), 0);
    ty_node_arena(r[0].n, 0)[0] = 1;
    while (!*(volatile unsigned char *)(ty_node_arena(r[0].n, 1) + 5))
        usleep(100);
    kill(pid, SIGKILL);
    wait_told(&r[0], 7, TY_END_DIED);
    assert_int_equal(ty_node_broken(r[0].n), 8 | (uint64_t)TY_END_DIED << 32);
    waitpid(pid, &status, 0);
    ty_node_free(r[0].n);
}

static void leave(void **state)
{
    struct rank r[2];
    char name[32];
    int status;
    pid_t pid;

    (void)state;
    prepare(r, 2, name);
    pid = other_process(r, true);
    open_node(&r[0]);
    assert_int_equal(r[0].r, 0);
    ty_node_arena(r[0].n, 0)[0] = 1;
    wait_told(&r[0], 7, TY_END_LEFT);
    assert_int_equal(ty_node_poisoned(r[0].n), 8 | (uint64_t)TY_END_LEFT << 32);
    assert_int_equal(ty_node_broken(r[0].n), 0); /* what has begun ends */
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    ty_node_free(r[0].n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared),       cmocka_unit_test(strangers), cmocka_unit_test(other_layout),
        cmocka_unit_test(nobody_comes), cmocka_unit_test(bells),     cmocka_unit_test(death),
        cmocka_unit_test(leave),
    };

    if (sodium_init() < 0)
        return 1;
    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
