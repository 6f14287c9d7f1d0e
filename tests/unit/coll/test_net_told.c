/* test_net_told.c - an exchange tells of what has come while the rest is on its way: every byte once, and it is there */
#include "base/error.h"
#include "coll/net.h"
#include "tests.h"
#include <pthread.h>

struct side {
    struct ty_net *net;
    char *address;
    pthread_t thread;
    int rank, result;
    size_t sends, receives; /* bytes */
    unsigned char *out, *in, *seen;
    size_t told, parts, bad;
};

static void nothing_lost(void *ctx, int rank, const char *why)
{
    (void)ctx, (void)rank, (void)why;
}

static void nothing_left(void *ctx, int rank)
{
    (void)ctx, (void)rank;
}

static void nothing_heard(void *ctx)
{
    (void)ctx;
}

static unsigned char byte_at(int from, size_t at)
{
    return (unsigned char)(at * 31 + at / 251 + (size_t)from * 7 + 1);
}

static void got(void *arg, size_t at, size_t bytes)
{
    struct side *s = arg;

    s->parts++;
    s->told += bytes;
    s->bad += bytes == 0 || at % 64 != 0 || ((at + bytes) % 64 != 0 && at + bytes != s->receives);
    s->bad += at + bytes > s->receives;
    for (size_t i = at; i < at + bytes && i < s->receives; i++)
        s->bad += s->in[i] != byte_at(!s->rank, i) || s->seen[i]++ != 0;
}

static void *run_side(void *arg)
{
    struct side *s = arg;
    /* Three pieces each, cut anywhere. */
    struct iovec out[3] = { { s->out, s->sends / 3 },
                            { s->out + s->sends / 3, s->sends / 5 },
                            { s->out + s->sends / 3 + s->sends / 5,
                              s->sends - s->sends / 3 - s->sends / 5 } };
    struct iovec in[2] = { { s->in, s->receives / 7 * 3 },
                           { s->in + s->receives / 7 * 3, s->receives - s->receives / 7 * 3 } };
    struct ty_net_msg send = { !s->rank, 5, out, 3 }, recv = { !s->rank, 5, in, 2 };

    s->result = ty_net_exchange_told(s->net, &send, &recv, NULL, got, s);
    return NULL;
}

static void exchange(struct side side[2], size_t a, size_t b)
{
    for (int r = 0; r < 2; r++) {
        struct side *s = &side[r];

        s->sends = r ? b : a;
        s->receives = r ? a : b;
        s->told = s->parts = s->bad = 0;
        s->out = malloc(s->sends + 1);
        s->in = calloc(1, s->receives + 1);
        s->seen = calloc(1, s->receives + 1);
        for (size_t i = 0; i < s->sends; i++)
            s->out[i] = byte_at(r, i);
    }
    for (int r = 0; r < 2; r++)
        assert_int_equal(pthread_create(&side[r].thread, NULL, run_side, &side[r]), 0);
    for (int r = 0; r < 2; r++)
        pthread_join(side[r].thread, NULL);
    for (int r = 0; r < 2; r++) {
        struct side *s = &side[r];

        assert_int_equal(s->result, 0);
        assert_int_equal(s->bad, 0);
        assert_int_equal(s->told, s->receives);
        assert_true(s->parts <= TY_NET_LANES + s->receives / TY_NET_TELL_BYTES);
        free(s->out);
        free(s->in);
        free(s->seen);
    }
}

static void test_every_byte_is_told_of_once(void **state)
{
    static const size_t sizes[] = {
        0,       1,       63, 64, 4097, 100000, TY_NET_STRIPE_BYTES - 1, TY_NET_STRIPE_BYTES + 1,
        3000001, 20 << 20
    };
    struct ty_net_options o = { .size = 2,
                                .key = (const unsigned char *)"0123456789abcdef0123456789abcdef",
                                .interfaces = "lo",
                                .lost = nothing_lost,
                                .left = nothing_left,
                                .heard = nothing_heard };
    struct side side[2] = { { .rank = 0 }, { .rank = 1 } };
    struct ty_error err = { 0 };
    const char *addresses[2];

    (void)state;
    for (o.rank = 0; o.rank < 2; o.rank++) {
        if (ty_net_open(&o, &side[o.rank].net, &side[o.rank].address, &err) < 0)
            fail_msg("%s", err.text);
        addresses[o.rank] = side[o.rank].address;
    }
    for (int r = 0; r < 2; r++)
        assert_int_equal(ty_net_peers(side[r].net, addresses, &err), 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j += 3)
            exchange(side, sizes[i], sizes[j]);
    for (int r = 0; r < 2; r++) {
        ty_net_free(side[r].net);
        free(side[r].address);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_byte_is_told_of_once) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
