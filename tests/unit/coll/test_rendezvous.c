/* test_rendezvous.c - ranks that are threads, and a server; strangers that are sockets */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/rendezvous.h"
#include "tests.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET "a secret of this test"
#define TIMEOUT_MS 20000
#define RANKS_MAX 5

/* ---- ranks ---- */

struct rank {
    pthread_t thread;
    struct ty_world world;
    int port, r;
    const char *secret;
    struct ty_error err;
    struct ty_coll_boot boot;
    void (*run)(struct rank *me);
};

static void enter(struct rank *me)
{
    me->r = ty_boot_rendezvous("127.0.0.1", me->port, me->secret, &me->world, TIMEOUT_MS, &me->boot,
                               &me->err);
    if (me->r < 0)
        fprintf(stderr, "# %s\n", me->err.text);
    assert_int_equal(me->r, 0);
}

static void put_text(struct rank *me, const char *key, int world)
{
    char text[100];

    snprintf(text, sizeof text, "%s of %d in %d", key, me->world.rank, world);
    assert_int_equal(me->boot.put(me->boot.ctx, key, text, strlen(text) + 1, &me->err), 0);
}

static void expect_text(struct rank *me, int rank, const char *key, int world)
{
    char want[100];
    void *got;
    size_t n;

    snprintf(want, sizeof want, "%s of %d in %d", key, rank, world);
    assert_int_equal(me->boot.get(me->boot.ctx, rank, key, &got, &n, &me->err), 0);
    assert_int_equal(n, strlen(want) + 1);
    assert_string_equal(got, want);
    free(got);
}

static void *rank_main(void *arg)
{
    struct rank *me = arg;

    me->run(me);
    return NULL;
}

static void run_ranks(int n, int port, void (*run)(struct rank *me))
{
    struct rank ranks[RANKS_MAX] = { 0 };

    for (int i = 0; i < n; i++) {
        ranks[i] = (struct rank){
            .world = { i, n, "trainyard" }, .port = port, .secret = SECRET, .run = run
        };
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]), 0);
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_join(ranks[i].thread, NULL), 0);
}

static struct ty_rendezvous *serve(int size)
{
    struct ty_rendezvous *s;
    struct ty_error err = { 0 };

    if (ty_rendezvous_open("127.0.0.1", 0, SECRET, size, &s, &err) < 0)
        fail_msg("%s", err.text);
    assert_in_range(ty_rendezvous_port(s), 1, 65535);
    return s;
}

/* ---- worlds ---- */

static void two_worlds(struct rank *me)
{
    for (int world = 0; world < 3; world++) {
        void *got;
        size_t n;

        enter(me);
        assert_int_equal(me->boot.get(me->boot.ctx, 0, "address", &got, &n, &me->err), -ENOENT);
        put_text(me, "address", world);
        if (world == 0)
            put_text(me, "first", world);
        assert_int_equal(me->boot.fence(me->boot.ctx, TIMEOUT_MS, &me->err), 0);
        for (int i = 0; i < me->world.size; i++) {
            expect_text(me, i, "address", world);
            if (world > 0)
                assert_int_equal(me->boot.get(me->boot.ctx, i, "first", &got, &n, &me->err),
                                 -ENOENT);
        }
        put_text(me, "more", world);
        assert_int_equal(me->boot.fence(me->boot.ctx, TIMEOUT_MS, &me->err), 0);
        for (int i = 0; i < me->world.size; i++)
            expect_text(me, i, "more", world);
        me->boot.close(me->boot.ctx);
    }
}

static void test_worlds_one_after_the_other(void **state)
{
    (void)state;
    for (int n = 1; n <= RANKS_MAX; n++) {
        struct ty_rendezvous *s = serve(n);

        run_ranks(n, ty_rendezvous_port(s), two_worlds);
        ty_rendezvous_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
