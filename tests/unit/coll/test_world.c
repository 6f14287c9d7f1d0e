/* The world of the tests itself: ranks find each other, as threads and as processes. */
#include "tests.h"
#include "world.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void sum(struct world_rank *r)
{
    int32_t x = r->rank + 1;
    struct ty_coll_buf b = { .data = &x, .count = 1 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = TY_COLL_I32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    struct ty_error err;

    CHECK(ty_coll_rank(r->c) == r->rank && ty_coll_size(r->c) == r->size);
    CHECK(ty_coll_do(r->c, &call, NULL, &err) == 0);
    CHECK(x == r->size * (r->size + 1) / 2);
}

static void threads(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++)
        world_threads(&(struct world){ .size = n }, sum);
}

static void processes(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct world w = { .size = n };

        world_fork(&w, sum);
        world_end(&w, 20000);
    }
}

static void nodes(void **state)
{
    (void)state;
    static const char *const names[] = { "a", "b", "a", "b" };
    struct world w = { .size = 4, .node = names };

    world_threads(&w, sum);
    world_fork(&w, sum);
    world_end(&w, 20000);
}

/* Two threads wait for one operation: it is handed to one of them. */
struct waiter {
    struct ty_coll *c;
    int64_t handle;
    int status;
};
static void *wait_for(void *arg)
{
    struct waiter *w = arg;

    w->status = ty_coll_wait(w->c, w->handle, NULL, NULL);
    return NULL;
}

static void wait_twice(struct world_rank *r)
{
    float x[3000] = { 1 };
    struct ty_coll_buf b = { .data = x, .count = 3000 };
    struct ty_coll_call call = {
        .dtype = TY_COLL_F32, .op = TY_COLL_SUM, .in = &b, .out = &b, .nbufs = 1
    };

    for (int k = 0; k < 20; k++) {
        struct waiter w[2] = { { .c = r->c } };
        pthread_t t[2];

        w[0].handle = ty_coll_submit(r->c, &call, NULL);
        CHECK(w[0].handle > 0);
        w[1] = w[0];
        for (int i = 0; i < 2; i++)
            CHECK(pthread_create(&t[i], NULL, wait_for, &w[i]) == 0);
        for (int i = 0; i < 2; i++)
            pthread_join(t[i], NULL);
        CHECK((w[0].status == 0 && w[1].status == -ENOENT) ||
              (w[1].status == 0 && w[0].status == -ENOENT));
    }
}

static void waiters(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 3 }, wait_twice);
}

/* A child may ask, whatever the threads of its parent were doing: their locks are free in it. */
static void *work(void *arg)
{
    struct world_rank *r = arg;

    for (int k = 0; k < 300; k++) {
        int32_t x[600] = { 0 };
        struct ty_coll_buf b = { .data = x, .count = 600 };
        struct ty_coll_call call = { .name = k % 2 ? "a" : "b",
                                     .dtype = TY_COLL_I32,
                                     .op = TY_COLL_SUM,
                                     .in = &b,
                                     .out = &b,
                                     .nbufs = 1 };
        int64_t handle = ty_coll_submit(r->c, &call, NULL);

        CHECK(handle > 0 && ty_coll_wait(r->c, handle, NULL, NULL) == 0);
    }
    return NULL;
}

static void fork_and_ask(struct world_rank *r)
{
    pthread_t t;

    CHECK(pthread_create(&t, NULL, work, r) == 0);
    for (int k = 0; k < 30; k++) {
        int status;
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            struct ty_coll_stats stats;

            alarm(100);
            ty_coll_stats(r->c, &stats);
            _exit(ty_coll_set_size(r->c, 0) != r->size || ty_coll_set_rank(r->c, 0) != r->rank);
        }
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    pthread_join(t, NULL);
}

static void forks(void **state)
{
    struct world w = { .size = 2 };

    (void)state;
    world_fork(&w, fork_and_ask);
    world_end(&w, 30000);
}

/* A child of a child keeps the files that its parent has opened. */
static void fork_twice(struct world_rank *r)
{
    pid_t child = fork();
    int status;

    CHECK(child >= 0);
    if (child == 0) {
        int fds[40][2], bad = 0;
        pid_t grandchild;

        for (int i = 0; i < 40; i++)
            bad += pipe(fds[i]) < 0;
        grandchild = fork();
        if (grandchild == 0) {
            for (int i = 0; i < 80; i++)
                bad += fcntl(fds[i / 2][i % 2], F_GETFD) < 0;
            _exit(bad != 0);
        }
        _exit(waitpid(grandchild, &status, 0) != grandchild || status != 0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void grandchildren(void **state)
{
    static const char *const names[] = { "a", "b" };
    struct world w = { .size = 2, .node = names };

    (void)state;
    world_fork(&w, fork_twice);
    world_end(&w, 30000);
}

/* Ranks that would go different ways do not begin: each is told, and nobody waits for the others. */
static void open_differently(struct world_rank *r)
{
    struct ty_coll_boot boot = world_boot(r->w->table, r->rank, 0);
    struct ty_coll_options o = { .size = r->size,
                                 .rank = r->rank,
                                 .boot = &boot,
                                 .node = r->rank ? "b" : "a",
                                 .select = r->rank == 1 ? "allreduce:0-inf:2-inf:ring" : NULL };
    struct ty_error err = { 0 };

    CHECK(ty_coll_open(&o, &r->c, &err) == -EPROTO);
    CHECK(strstr(err.text, "ranks 0 and 1") && strstr(err.text, "TRAINYARD_COLL_SELECT"));
}

static void long_name(struct world_rank *r)
{
    struct ty_coll_boot boot = world_boot(r->w->table, r->rank, 0);
    char name[200];
    struct ty_coll_options o = { .size = r->size, .rank = r->rank, .boot = &boot, .node = name };
    struct ty_error err = { 0 };

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    CHECK(ty_coll_open(&o, &r->c, &err) == -EINVAL);
    CHECK(strstr(err.text, "TRAINYARD_COLL_NODE"));
}

static void refused(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 3, .manual = true }, open_differently);
    world_threads(&(struct world){ .size = 2, .manual = true }, long_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads), cmocka_unit_test(processes), cmocka_unit_test(nodes),
        cmocka_unit_test(waiters), cmocka_unit_test(forks),     cmocka_unit_test(grandchildren),
        cmocka_unit_test(refused),
    };

    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
