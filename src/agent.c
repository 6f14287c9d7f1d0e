/* agent.c - the program trainyard-agent: what runs on the machine of a job */
#include "agent.h"
#include "base/log.h"
#include "courier/courier.h"
#include "courier/remote.h"
#include "data/helper.h"
#include "runner/pmix_helper.h"
#include "runner/rank.h"
#include "runner/runner.h"
#include "target/slurm_channel.h"
#include "target/slurm_hold.h"
#include "target/slurm_keeper.h"
#include "target/slurm_told.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef TY_VERSION
#define TY_VERSION "0"
#endif

static int usage(void)
{
    fputs("usage: trainyard-agent runner JOBDIR\n"
          "       trainyard-agent probe\n"
          "       trainyard-agent node JOBDIR\n"
          "       trainyard-agent data\n"
          "       trainyard-agent --version\n"
          "Started by the Trainyard daemon; people use 'trainyard'.\n",
          stderr);
    return 2;
}

/* The parts that live in and around allocations of Slurm; they start this program again. */
static int slurm(int argc, char **argv)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n < 0)
        return 1;
    self[n] = '\0';
    if (argc == 2 && strcmp(argv[1], "hold") == 0)
        return ty_slurm_hold_main(self);
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "keeper") == 0)
        return ty_slurm_keeper_main(self, argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "told") == 0)
        return ty_slurm_told_main(self, argv[2]);
    if (argc >= 5 && strcmp(argv[1], "channel") == 0)
        return ty_slurm_channel_main(self, argc - 2, argv + 2);
    return usage();
}

int main(int argc, char **argv)
{
    ty_log_init(2, "trainyard-agent");
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("trainyard-agent " TY_VERSION);
        return 0;
    }
    /* The folder says whether it is that of the job's first node. */
    if (argc == 3 && (strcmp(argv[1], "runner") == 0 || strcmp(argv[1], "node") == 0))
        return ty_runner_main(argv[2]);
    if (argc == 3 && strcmp(argv[1], "pmix") == 0)
        return ty_pmix_helper_main(argv[2]);
    if (argc >= 2 && strcmp(argv[1], "rank") == 0)
        return ty_rank_main(argc, argv);
    if (argc >= 2 && strcmp(argv[1], "rendezvous") == 0)
        return agent_rendezvous(argc, argv);
    if (argc == 3 && strcmp(argv[1], "courier") == 0)
        return ty_courier_main(argv[2]);
    if (argc == 3 && strcmp(argv[1], "remote") == 0)
        return ty_remote_main(argv[2]);
    if (argc == 2 && strcmp(argv[1], "data") == 0)
        return ty_data_helper(0, 1);
    if (argc >= 2 && argc <= 3 && strcmp(argv[1], "probe") == 0)
        return ty_probe_main(argc == 3 ? argv[2] : NULL);
    return slurm(argc, argv);
}
