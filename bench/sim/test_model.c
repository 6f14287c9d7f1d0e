/* test_model.c - where the time of an allreduce is known, the simulator gives it; elsewhere it keeps to bounds */
#include "model.h"
#include "tests.h"
#include <math.h>

static const struct sim_net plain = { .alpha = 20e-6, .bandwidth = 1.15e9, .segment = 1 << 30 };

static void close_to(double is, double should)
{
    if (fabs(is - should) > 1e-9 * should)
        fail_msg("%.12g s, not %.12g s", is, should);
}

static int log2_of(int n)
{
    return 31 - __builtin_clz((unsigned)n);
}

static void test_formulas(void **state)
{
    (void)state;
    for (int n = 2; n <= 256; n *= 2)
        for (int64_t bytes = 4096; bytes <= 64 << 20; bytes *= 16) {
            double most = 2 * ((double)bytes - (double)bytes / n) / plain.bandwidth, L = log2_of(n);

            close_to(sim_allreduce(&plain, TY_PLAN_RING, n, bytes),
                     2 * (n - 1) * plain.alpha + most);
            close_to(sim_allreduce(&plain, TY_PLAN_HALVING_DOUBLING, n, bytes),
                     2 * L * plain.alpha + most);
            close_to(sim_allreduce(&plain, TY_PLAN_RECURSIVE_DOUBLING, n, bytes),
                     L * (plain.alpha + (double)bytes / plain.bandwidth));
        }
}

/* Any number of nodes: the ring always, halving-doubling with equal blocks in ceil(log2 n) steps each way. */
static void test_formulas_of_any_number(void **state)
{
    (void)state;
    for (int n = 3; n <= 40; n++) {
        int64_t bytes = (int64_t)n * 64 * 1024;
        double most = 2 * ((double)bytes - (double)bytes / n) / plain.bandwidth;
        int up = log2_of(n - 1) + 1;

        close_to(sim_allreduce(&plain, TY_PLAN_RING, n, bytes), 2 * (n - 1) * plain.alpha + most);
        close_to(sim_allreduce(&plain, TY_PLAN_HALVING_DOUBLING, n, bytes),
                 2 * up * plain.alpha + most);
    }
}

static void test_adding_and_segments(void **state)
{
    struct sim_net net = plain;
    const int64_t bytes = 32 << 20;
    const int n = 8;
    double wire = 6 * net.alpha + 2 * (double)(bytes - bytes / n) / net.bandwidth;
    double adds = (double)(bytes - bytes / n) / 10e9;

    (void)state;
    net.reduce = 10e9;
    close_to(sim_allreduce(&net, TY_PLAN_HALVING_DOUBLING, n, bytes), wire + adds);
    net.part = 32 << 10; /* three times, the last part follows */
    close_to(sim_allreduce(&net, TY_PLAN_HALVING_DOUBLING, n, bytes), wire + 3 * (32 << 10) / 10e9);
    net.reduce =
        1e9; /* slower than the wire: the first byte comes after alpha, then adding alone counts */
    close_to(sim_allreduce(&net, TY_PLAN_HALVING_DOUBLING, n, bytes),
             6 * net.alpha + (double)(bytes - bytes / n) / net.reduce +
                 (double)(bytes - bytes / n) / net.bandwidth);
    net.reduce = 0;
    net.segment = 1 << 20; /* 16 + 8 + 4 MiB each way: a latency for each */
    close_to(sim_allreduce(&net, TY_PLAN_HALVING_DOUBLING, n, bytes),
             wire + (2 * 28 - 6) * net.alpha);
}

/* A bucket: each step after a pause long enough sends its first bytes at once, further ones at the bandwidth. */
static void test_bursts(void **state)
{
    struct sim_net net = plain;
    const double burst = 16384;

    (void)state;
    net.burst = burst;
    net.receive = 1e18;
    for (int64_t bytes = 1024; bytes <= 1 << 20; bytes *= 2)
        close_to(sim_allreduce(&net, TY_PLAN_RECURSIVE_DOUBLING, 16, bytes),
                 4 * (net.alpha + fmax((double)bytes - burst, 0) / net.bandwidth));
    /* So far the bucket was full after each pause, with 23000 bytes; now it gets 1150. */
    net.alpha = 1e-6;
    close_to(sim_allreduce(&net, TY_PLAN_RECURSIVE_DOUBLING, 16, 1 << 20),
             4 * net.alpha + (4 * 1048576.0 - burst - 3 * 1150) / net.bandwidth);
}

static void test_nothing_is_faster_than_the_wire(void **state)
{
    struct sim_net net = plain;

    (void)state;
    net.reduce = 12e9;
    net.part = 32 << 10;
    net.segment = 0;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int n = 2; n < 70; n++) {
            double before = 0;

            for (int64_t bytes = 4; bytes <= 16 << 20; bytes *= 8) {
                double t = sim_allreduce(&net, (enum ty_plan_kind)kind, n, bytes);

                assert_true(t >= 2 * (1 - 1.0 / n) * (double)bytes / net.bandwidth ||
                            (kind == TY_PLAN_RECURSIVE_DOUBLING && n == 2));
                assert_true(t >= log2_of(n) * net.alpha);
                assert_true(t >= before * (1 - 1e-9));
                before = t;
            }
        }
    assert_true(sim_allreduce(&net, TY_PLAN_RING, 1, 4096) == 0);
    assert_true(sim_allreduce(&net, TY_PLAN_RING, 9, 0) == 0);
}

static void test_jitter_and_slow_nodes(void **state)
{
    struct sim_net net = plain;

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++) {
        enum ty_plan_kind k = (enum ty_plan_kind)kind;
        double calm = sim_allreduce(&plain, k, 48, 1 << 20);

        net = plain;
        net.jitter = 50e-6;
        net.seed = 5;
        double a = sim_allreduce(&net, k, 48, 1 << 20);

        assert_true(a > calm);
        assert_true(a == sim_allreduce(&net, k, 48, 1 << 20));
        net.seed = 6;
        assert_true(a != sim_allreduce(&net, k, 48, 1 << 20));
        net = plain;
        net.slow_share = 1;
        net.slow_factor = 4;
        struct sim_net quarter = plain;

        quarter.bandwidth /= 4;
        close_to(sim_allreduce(&net, k, 48, 1 << 20), sim_allreduce(&quarter, k, 48, 1 << 20));
        net.slow_share = 0.1;
        double some = sim_allreduce(&net, k, 48, 1 << 20);

        /* Not always less than with slow nodes alone: who runs ahead sends into the way of what a slow one waits for. */
        assert_true(some > calm && some < sim_allreduce(&quarter, k, 48, 1 << 20) * 1.5);
    }
}

static void test_racks(void **state)
{
    struct sim_net net = plain;
    const int64_t bytes = 16 << 20;

    (void)state;
    net.rack = 16;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++) {
        enum ty_plan_kind k = (enum ty_plan_kind)kind;
        double one = sim_allreduce(&plain, k, 64, bytes), before = 0;

        for (net.oversubscription = 1; net.oversubscription < 20; net.oversubscription *= 2) {
            double t = sim_allreduce(&net, k, 64, bytes);

            assert_true(t >= one * (1 - 1e-9));
            assert_true(t >= before);
            before = t;
        }
    }
    /* All the bytes of recursive doubling's two last steps cross, at 1/16 of the bandwidth. */
    net.oversubscription = 16;
    double least = 2 * 16 * (double)bytes / net.bandwidth;

    assert_true(sim_allreduce(&net, TY_PLAN_RECURSIVE_DOUBLING, 64, bytes) > least);
    /* Halving sends most of its bytes inside the racks. */
    assert_true(sim_allreduce(&net, TY_PLAN_HALVING_DOUBLING, 64, bytes) < least / 6);
    net.rack = 64; /* nobody leaves */
    close_to(sim_allreduce(&net, TY_PLAN_RING, 64, bytes),
             sim_allreduce(&plain, TY_PLAN_RING, 64, bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formulas),
        cmocka_unit_test(test_formulas_of_any_number),
        cmocka_unit_test(test_adding_and_segments),
        cmocka_unit_test(test_bursts),
        cmocka_unit_test(test_nothing_is_faster_than_the_wire),
        cmocka_unit_test(test_jitter_and_slow_nodes),
        cmocka_unit_test(test_racks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
