/* The world of the tests itself: ranks find each other, as threads and as processes. */
#include "tests.h"
#include "world.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads),
        cmocka_unit_test(processes),
        cmocka_unit_test(nodes),
    };

    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
