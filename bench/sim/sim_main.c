/* sim_main.c - what the simulator says: without --nodes a report, with it one line for one allreduce */
#include "model.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <trainyard/error.h>

struct setting {
    const char *name;
    struct sim_net net;
};

/* Assumed: 92 % of the line for payload, the latency of kernel TCP between hosts, adding as one core does it. */
static const struct setting ethernet[] = {
    { "10 GbE", { .alpha = 20e-6, .bandwidth = 1.15e9, .reduce = 10e9, .part = 32 << 10 } },
    { "25 GbE", { .alpha = 20e-6, .bandwidth = 2.875e9, .reduce = 10e9, .part = 32 << 10 } },
};
#define SETTINGS (sizeof ethernet / sizeof *ethernet)

static struct ty_select *table;

static double time_of(const struct sim_net *net, enum ty_plan_kind kind, int nodes, int64_t bytes)
{
    double t = sim_allreduce(net, kind, nodes, bytes);

    if (t < 0) {
        fprintf(stderr, "sim: out of memory\n");
        exit(1);
    }
    return t;
}

static double chosen(const struct sim_net *net, int nodes, int64_t bytes)
{
    return time_of(net, ty_select_plan(table, bytes, nodes), nodes, bytes);
}

static double share(const struct sim_net *net, int64_t bytes, double t)
{
    return 100 * 2 * (double)bytes / net->bandwidth / t;
}

static const char *size_text(int64_t bytes, char buf[32])
{
    if (bytes % (1 << 20) == 0)
        snprintf(buf, 32, "%lld MiB", (long long)(bytes >> 20));
    else if (bytes % 1024 == 0)
        snprintf(buf, 32, "%lld KiB", (long long)(bytes >> 10));
    else
        snprintf(buf, 32, "%lld B", (long long)bytes);
    return buf;
}

static void show_sizes(const struct setting *s, int nodes)
{
    static const int64_t sizes[] = { 4,         1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10,
                                     256 << 10, 1 << 20, 4 << 20, 25 << 20, 100 << 20 };
    char buf[32];

    printf("\n%s, %d nodes: ms (* chosen)\n%10s %12s %12s %12s %12s\n", s->name, nodes, "size",
           "rd", "hd", "ring", "of 2N/B");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        enum ty_plan_kind best = ty_select_plan(table, sizes[i], nodes);

        printf("%10s", size_text(sizes[i], buf));
        for (int k = 0; k < TY_PLAN_KINDS; k++)
            printf(" %11.3f%c", 1e3 * time_of(&s->net, (enum ty_plan_kind)k, nodes, sizes[i]),
                   k == (int)best ? '*' : ' ');
        printf(" %10.1f %%\n", share(&s->net, sizes[i], chosen(&s->net, nodes, sizes[i])));
    }
}

static void show_goal(const struct setting *s)
{
    const int64_t bytes = 25 << 20;
    double ours = chosen(&s->net, 1024, bytes), ring = time_of(&s->net, TY_PLAN_RING, 1024, bytes);
    double eight = chosen(&s->net, 8, bytes);

    printf(
        "\n%s, 25 MiB: 1,024 nodes %.2f ms, %.1f %% of 2N/B (goal: 90 %%); the ring %.2f ms, %.1f %%\n",
        s->name, 1e3 * ours, share(&s->net, bytes, ours), 1e3 * ring, share(&s->net, bytes, ring));
    printf("  from 8 to 1,024 nodes: %.2f times as long (goal: 1.3); ms by nodes:", ours / eight);
    for (int n = 8; n <= 4096; n *= 2)
        printf(" %d: %.2f", n, 1e3 * chosen(&s->net, n, bytes));
    printf("\n  numbers that are no power of 2:");
    for (int n = 6; n < 4096; n = n * 5 / 2 + 1)
        printf(" %d: %.2f", n, 1e3 * chosen(&s->net, n, bytes));
    printf("\n");
}

static void show_trouble(const struct setting *s)
{
    struct sim_net racks = s->net, late = s->net, slow = s->net;
    const int64_t bytes = 25 << 20;

    racks.rack = 32;
    racks.oversubscription = 4;
    late.jitter = 100e-6;
    slow.slow_share = 0.01;
    slow.slow_factor = 2;
    printf("\n%s, 25 MiB, 1,024 nodes, ms: %8s %8s\n", s->name, "hd", "ring");
    printf("  racks of 32, uplinks 4:1 short     %8.2f %8.2f\n",
           1e3 * time_of(&racks, TY_PLAN_HALVING_DOUBLING, 1024, bytes),
           1e3 * time_of(&racks, TY_PLAN_RING, 1024, bytes));
    printf("  every message late, 100 us mean    %8.2f %8.2f\n",
           1e3 * time_of(&late, TY_PLAN_HALVING_DOUBLING, 1024, bytes),
           1e3 * time_of(&late, TY_PLAN_RING, 1024, bytes));
    printf("  1 %% of the nodes at half bandwidth %8.2f %8.2f\n",
           1e3 * time_of(&slow, TY_PLAN_HALVING_DOUBLING, 1024, bytes),
           1e3 * time_of(&slow, TY_PLAN_RING, 1024, bytes));
}

static void report(void)
{
    printf("Simulated: plans of src/coll, %s\n", ty_select_text(table));
    for (size_t i = 0; i < SETTINGS; i++)
        printf("%s: %.0f us, %.3f GB/s, adding %.0f GB/s\n", ethernet[i].name,
               1e6 * ethernet[i].net.alpha, ethernet[i].net.bandwidth / 1e9,
               ethernet[i].net.reduce / 1e9);
    for (size_t i = 0; i < SETTINGS; i++) {
        show_goal(&ethernet[i]);
        show_trouble(&ethernet[i]);
    }
    for (int nodes = 2; nodes <= 1024; nodes = nodes < 4 ? nodes + 1 : nodes * 4)
        show_sizes(&ethernet[0], nodes);
    show_sizes(&ethernet[1], 1024);
}

/* For bench/run: one JSON object a line, of figures of which more is better. */
static void report_json(void)
{
    const int64_t bytes = 25 << 20;

    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &ethernet[i];
        double ours = chosen(&s->net, 1024, bytes),
               ring = time_of(&s->net, TY_PLAN_RING, 1024, bytes);

        printf(
            "{\"what\": \"25 MiB on 1,024 nodes, %s, share of 2N/B\", \"value\": %.2f, \"unit\": \"%%\", "
            "\"goal\": 90, \"against\": \"the ring %.1f %%\"}\n",
            s->name, share(&s->net, bytes, ours), share(&s->net, bytes, ring));
        printf(
            "{\"what\": \"25 MiB, %s, speed on 1,024 nodes of that on 8\", \"value\": %.2f, \"unit\": \"%%\", "
            "\"goal\": 76.9, \"against\": \"%.2f ms\"}\n",
            s->name, 100 * chosen(&s->net, 8, bytes) / ours, 1e3 * ours);
    }
}

enum {
    JSON = 255,
    NODES,
    BYTES,
    ALPHA,
    GBYTES,
    REDUCE,
    PART,
    SEGMENT,
    JITTER,
    SLOW,
    FACTOR,
    SEED,
    RACK,
    OVER,
    SELECT,
    BURST,
    RECEIVE
};
static const struct option options[] = {
    { "json", no_argument, NULL, JSON },
    { "nodes", required_argument, NULL, NODES },
    { "bytes", required_argument, NULL, BYTES },
    { "alpha-us", required_argument, NULL, ALPHA },
    { "gbytes", required_argument, NULL, GBYTES },
    { "reduce-gbytes", required_argument, NULL, REDUCE },
    { "part", required_argument, NULL, PART },
    { "segment", required_argument, NULL, SEGMENT },
    { "jitter-us", required_argument, NULL, JITTER },
    { "slow-share", required_argument, NULL, SLOW },
    { "slow-factor", required_argument, NULL, FACTOR },
    { "seed", required_argument, NULL, SEED },
    { "rack", required_argument, NULL, RACK },
    { "oversubscription", required_argument, NULL, OVER },
    { "select", required_argument, NULL, SELECT },
    { "burst", required_argument, NULL, BURST },
    { "receive-gbytes", required_argument, NULL, RECEIVE },
    { 0 },
};

static const char usage[] =
    "usage: sim [--select TABLE] [--json | --nodes N --bytes B [--alpha-us US] [--gbytes GB/S] [--reduce-gbytes GB/S (0: free)]\n"
    "           [--part BYTES (0: add when all is there)] [--segment BYTES] [--jitter-us US] [--seed N]\n"
    "           [--slow-share S --slow-factor F] [--rack NODES --oversubscription X]\n"
    "           [--burst BYTES (sent at once after a pause)] [--receive-gbytes GB/S]]\n"
    "With --nodes: the microseconds of rd, hd and ring on one line.\n";

int main(int argc, char **argv)
{
    struct sim_net net = ethernet[0].net;
    const char *text = NULL;
    int nodes = 0, opt;
    bool json = false;
    int64_t bytes = 25 << 20;
    struct ty_error err;

    net.slow_factor = net.oversubscription = 1;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        double v = optarg ? strtod(optarg, NULL) : 0;

        switch (opt) {
        case JSON:
            json = true;
            break;
        case NODES:
            nodes = (int)v;
            break;
        case BYTES:
            bytes = (int64_t)v;
            break;
        case ALPHA:
            net.alpha = v * 1e-6;
            break;
        case GBYTES:
            net.bandwidth = v * 1e9;
            break;
        case REDUCE:
            net.reduce = v * 1e9;
            break;
        case PART:
            net.part = (size_t)v;
            break;
        case SEGMENT:
            net.segment = (size_t)v;
            break;
        case JITTER:
            net.jitter = v * 1e-6;
            break;
        case SLOW:
            net.slow_share = v;
            break;
        case FACTOR:
            net.slow_factor = v;
            break;
        case SEED:
            net.seed = (uint64_t)v;
            break;
        case RACK:
            net.rack = (int)v;
            break;
        case OVER:
            net.oversubscription = v;
            break;
        case BURST:
            net.burst = v;
            break;
        case RECEIVE:
            net.receive = v * 1e9;
            break;
        case SELECT:
            text = optarg;
            break;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc || nodes < 0 || nodes > 1 << 16 || bytes < 0 || net.bandwidth <= 0 ||
        net.slow_factor <= 0) {
        fputs(usage, stderr);
        return 2;
    }
    if (ty_select_parse(text, &table, &err) < 0) {
        fprintf(stderr, "sim: %s\n", err.text);
        return 2;
    }
    if (nodes)
        for (int k = 0; k < TY_PLAN_KINDS; k++)
            printf("%s %.3f%c", ty_plan_word((enum ty_plan_kind)k),
                   1e6 * time_of(&net, (enum ty_plan_kind)k, nodes, bytes),
                   k + 1 < TY_PLAN_KINDS ? ' ' : '\n');
    else if (json)
        report_json();
    else
        report();
    table = ty_select_free(table);
    return 0;
}
