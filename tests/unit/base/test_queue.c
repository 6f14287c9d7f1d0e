#include "base/queue.h"
#include "tests.h"
#include <errno.h>

struct number {
    int value;
    struct ty_queue_item item;
};

enum { WRITERS = 4, EACH = 500 };

struct writer {
    struct ty_queue *queue;
    struct number numbers[EACH];
    int refused;
};

static void test_order_and_close(void **state)
{
    struct number n[3] = { { .value = 1 }, { .value = 2 }, { .value = 3 } };
    struct ty_queue_item *chain;
    struct ty_queue q;
    int expected = 1;

    (void)state;
    ty_queue_init(&q);
    assert_null(ty_queue_poll_all(&q));
    for (int i = 0; i < 3; i++)
        assert_int_equal(ty_queue_push(&q, &n[i].item), 0);
    assert_int_equal(q.count, 3);
    for (chain = ty_queue_take_all(&q); chain; chain = chain->next)
        assert_int_equal(ty_container(chain, struct number, item)->value, expected++);
    assert_int_equal(expected, 4);
    assert_int_equal(q.count, 0);

    assert_int_equal(ty_queue_push(&q, &n[0].item), 0);
    ty_queue_close(&q);
    assert_int_equal(ty_queue_push(&q, &n[1].item), -EPIPE);
    assert_ptr_equal(ty_queue_take_all(&q), &n[0].item);
    assert_null(ty_queue_take_all(&q));
    ty_queue_done(&q);
}

static void *write_all(void *arg)
{
    struct writer *w = arg;

    for (int i = 0; i < EACH; i++) {
        w->numbers[i].value = i;
        w->refused += ty_queue_push(w->queue, &w->numbers[i].item) != 0;
    }
    return NULL;
}

/* One reader gets everything of each writer once, and in that writer's order. */
static void test_threads(void **state)
{
    struct writer *w = calloc(WRITERS, sizeof *w);
    int next[WRITERS] = { 0 }, got = 0;
    pthread_t threads[WRITERS];
    struct ty_queue q;

    (void)state;
    assert_non_null(w);
    ty_queue_init(&q);
    for (int i = 0; i < WRITERS; i++) {
        w[i].queue = &q;
        assert_int_equal(pthread_create(&threads[i], NULL, write_all, &w[i]), 0);
    }
    while (got < WRITERS * EACH)
        for (struct ty_queue_item *c = ty_queue_take_all(&q); c; c = c->next, got++) {
            struct number *n = ty_container(c, struct number, item);
            int i = (int)((size_t)((char *)n - (char *)w) / sizeof *w);

            assert_int_equal(n->value, next[i]++);
        }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(w[i].refused, 0);
    }
    ty_queue_done(&q);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_order_and_close),
                                        cmocka_unit_test(test_threads) };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
