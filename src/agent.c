/* agent.c - the program trainyard-agent: what runs on the machine of a job */
#include "agent.h"
#include "base/log.h"
#include "runner/pmix_helper.h"
#include "runner/rank.h"
#include "runner/runner.h"
#include <stdio.h>
#include <string.h>

#ifndef TY_VERSION
#define TY_VERSION "0"
#endif

static int usage(void)
{
    fputs("usage: trainyard-agent runner JOBDIR\n"
          "       trainyard-agent --version\n"
          "Started by the Trainyard daemon; people use 'trainyard'.\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    ty_log_init(2, "trainyard-agent");
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("trainyard-agent " TY_VERSION);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "runner") == 0)
        return ty_runner_main(argv[2]);
    if (argc == 3 && strcmp(argv[1], "pmix") == 0)
        return ty_pmix_helper_main(argv[2]);
    if (argc >= 2 && strcmp(argv[1], "rank") == 0)
        return ty_rank_main(argc, argv);
    if (argc >= 2 && strcmp(argv[1], "rendezvous") == 0)
        return agent_rendezvous(argc, argv);
    return usage();
}
