/* test_net_move.c - exchanges: sizes, directions, stripes, and what ends one early */
#include "net_kit.h"

static void test_sizes(void **state)
{
    static const size_t sizes[][2] = {
        { 0, 0 },
        { 1, 1 },
        { 0, 7 },
        { 8, 8 },
        { 4095, 3 },
        { TY_NET_STRIPE_BYTES - 1, TY_NET_STRIPE_BYTES },
        { TY_NET_STRIPE_BYTES + 1, 0 },
        { 50000001, 50000000 },
        { 3, 20000000 },
        { 5, 5 },
    };
    uint64_t sent, received, all = 0;
    struct node d[2];

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        swap(d, sizes[i][0], sizes[i][1], 100 + i);
        all += sizes[i][0] +
               (sizes[i][0] < TY_NET_STRIPE_BYTES ? 1 : TY_NET_LANES) * TY_LANE_FRAME_BYTES;
    }
    ty_net_bytes(d[0].net, &sent, NULL);
    ty_net_bytes(d[1].net, NULL, &received);
    assert_true(sent == all && received == all);
    close_world(d, 2);
}

/* Everybody sends to the right and receives from the left, thousands of times, in one direction only between two. */
struct ring {
    struct node *d;
    int rank, size, rounds, result;
    pthread_t thread;
};

static void *run_ring(void *arg)
{
    struct ring *g = arg;
    int right = (g->rank + 1) % g->size, left = (g->rank + g->size - 1) % g->size;
    uint32_t token = (uint32_t)g->rank;

    for (int k = 0; k < g->rounds && g->result == 0; k++) {
        uint32_t in = 0;
        struct iovec s = { &token, sizeof token }, r = { &in, sizeof in };
        struct ty_net_msg send = { right, (uint64_t)k, &s, 1 }, recv = { left, (uint64_t)k, &r, 1 };

        g->result = ty_net_exchange(g->d[g->rank].net, &send, &recv, NULL);
        token = in;
    }
    if (token != (uint32_t)((g->rank + g->size * g->rounds - g->rounds) % g->size) &&
        g->result == 0)
        g->result = 1;
    return NULL;
}

static void test_ring_of_four(void **state)
{
    struct node d[RANKS];
    struct ring g[RANKS];

    (void)state;
    open_world(d, RANKS, (struct ty_net_options){ 0 });
    for (int r = 0; r < RANKS; r++) {
        g[r] = (struct ring){ d, r, RANKS, 301, 0, 0 };
        assert_int_equal(pthread_create(&g[r].thread, NULL, run_ring, &g[r]), 0);
    }
    for (int r = 0; r < RANKS; r++) {
        pthread_join(g[r].thread, NULL);
        assert_int_equal(g[r].result, 0);
    }
    close_world(d, RANKS);
}

/* A message of another round, or of another length, is no data. */
static void mismatch(uint64_t tag, size_t sent, size_t wanted)
{
    unsigned char out[64] = { 1 }, in[64];
    struct iovec s = { out, sent }, r = { in, wanted };
    struct ty_net_msg send = { 1, tag, &s, 1 }, recv = { 0, 7, &r, 1 };
    struct node d[2];

    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_exchange(d[0].net, &send, NULL, NULL), 0);
    assert_int_equal(ty_net_exchange(d[1].net, NULL, &recv, NULL), -EPROTO);
    assert_int_equal(ty_net_exchange(d[1].net, NULL, &recv, NULL), -EPIPE);
    close_world(d, 2);
}

static void test_another_message(void **state)
{
    (void)state;
    mismatch(8, 10, 10);
    mismatch(7, 10, 9);
    mismatch(7, 10, 11);
    mismatch(7, 0, 64);
}

static void test_stop(void **state)
{
    unsigned char *big = calloc(1, 30000000), small[8] = { 0 };
    struct node d[2];
    struct job j;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 8, 8, 1);
    /* nothing has moved: it can be tried again */
    set_job(&j, &d[0], -1, small, 8, 1, small, 8, 5);
    begin(&j);
    __atomic_store_n(&j.stop, 1, __ATOMIC_RELEASE);
    ty_net_wake(d[0].net);
    assert_int_equal(end(&j), -ECANCELED);
    swap(d, 8, 8, 2);
    /* in the middle of a message: that direction is done with */
    set_job(&j, &d[0], 1, big, 30000000, -1, small, 0, 6);
    begin(&j);
    for (uint64_t sent = 0; sent < 1000;)
        ty_net_bytes(d[0].net, &sent, NULL);
    __atomic_store_n(&j.stop, 1, __ATOMIC_RELEASE);
    ty_net_wake(d[0].net);
    assert_int_equal(end(&j), -ECANCELED);
    assert_int_equal(ty_net_exchange(d[0].net, &j.send, NULL, NULL), -EPIPE);
    assert_int_equal(count_of(&d[1], &d[1].lost[0]), 0);
    close_world(d, 2);
    free(big);
}

static void test_posts_from_many_threads_beside_data(void **state)
{
    struct node d[2];
    struct job j[2];
    unsigned char *out = random_bytes(8000000, 1), *in = malloc(8000000), b[8];
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ .spin_us = -1 });
    set_job(&j[0], &d[0], 1, out, 8000000, -1, in, 0, 1);
    set_job(&j[1], &d[1], -1, out, 0, 0, in, 8000000, 1);
    begin(&j[0]);
    for (uint64_t t = 0; t < 500; t++)
        assert_int_equal(ty_net_post(d[0].net, 1, t, &t, sizeof t), 0);
    begin(&j[1]);
    for (uint64_t t = 0; t < 500; t++) {
        take(&d[1], 0, t, b, sizeof b, &len);
        assert_memory_equal(b, &t, sizeof t);
    }
    assert_int_equal(end(&j[0]), 0);
    assert_int_equal(end(&j[1]), 0);
    assert_memory_equal(in, out, 8000000);
    close_world(d, 2);
    free(out);
    free(in);
}

/* A rank that does not take what it is sent is late, not lost, for longer than silence is borne; its kernel answers. */
static void test_late_is_not_lost(void **state)
{
    struct timespec until;
    unsigned char *out = random_bytes(30000000, 1), *in = malloc(30000000);
    struct node d[2];
    struct job j[2];

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 8, 8, 1);
    set_job(&j[0], &d[0], 1, out, 30000000, -1, in, 0, 3);
    begin(&j[0]);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TY_NET_LOST_MS / 1000 + 2;
    pthread_mutex_lock(&d[0].lock);
    while (!d[0].lost[1] && pthread_cond_timedwait(&d[0].told, &d[0].lock, &until) == 0)
        ;
    pthread_mutex_unlock(&d[0].lock);
    assert_int_equal(d[0].lost[1] + d[1].lost[0], 0);
    set_job(&j[1], &d[1], -1, out, 0, 0, in, 30000000, 3);
    begin(&j[1]);
    assert_int_equal(end(&j[0]), 0);
    assert_int_equal(end(&j[1]), 0);
    assert_memory_equal(in, out, 30000000);
    close_world(d, 2);
    free(out);
    free(in);
}

#ifdef TY_FAULTS
static void test_fault_in_an_exchange(void **state)
{
    struct node d[2];
    unsigned char b[8];
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 9, &v, 1 };

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 8, 8, 1);
    ty_fault_arm("net.move", 1, ECONNRESET);
    assert_int_equal(ty_net_exchange(d[0].net, &m, NULL, NULL), -ECONNRESET);
    ty_fault_arm(NULL, 0, 0);
    await(&d[0], &d[0].lost[1], 1);
    close_world(d, 2);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_ring_of_four),
        cmocka_unit_test(test_another_message),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_posts_from_many_threads_beside_data),
        cmocka_unit_test(test_late_is_not_lost),
#ifdef TY_FAULTS
        cmocka_unit_test(test_fault_in_an_exchange),
#endif
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
