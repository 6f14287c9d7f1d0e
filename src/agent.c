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

/* This program, for the parts that start it again; NULL: it cannot be found out. */
static const char *self(void)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    if (n < 0)
        return NULL;
    path[n] = '\0';
    return path;
}

/* What each word needs of `argv` is there, and what may be left out is NULL then. */
static int runner(int argc, char **argv)
{
    (void)argc;
    return ty_runner_main(argv[2]);
}
static int pmix(int argc, char **argv)
{
    (void)argc;
    return ty_pmix_helper_main(argv[2]);
}
static int courier(int argc, char **argv)
{
    (void)argc;
    return ty_courier_main(argv[2]);
}
static int far_end(int argc, char **argv)
{
    (void)argc;
    return ty_remote_main(argv[2]);
}
static int probe(int argc, char **argv)
{
    (void)argc;
    return ty_probe_main(argv[2]);
}
static int data(int argc, char **argv)
{
    (void)argc, (void)argv;
    return ty_data_helper(0, 1);
}
static int hold(int argc, char **argv)
{
    (void)argc, (void)argv;
    return self() ? ty_slurm_hold_main(self()) : 1;
}
static int keeper(int argc, char **argv)
{
    (void)argc;
    return self() ? ty_slurm_keeper_main(self(), argv[2], argv[3]) : 1;
}
static int told(int argc, char **argv)
{
    (void)argc;
    return self() ? ty_slurm_told_main(self(), argv[2]) : 1;
}
static int channel(int argc, char **argv)
{
    return self() ? ty_slurm_channel_main(self(), argc - 2, argv + 2) : 1;
}
static int version(int argc, char **argv)
{
    (void)argc, (void)argv;
    puts("trainyard-agent " TY_VERSION);
    return 0;
}

/* clang-format off */
static const struct word {
    const char *word, *arguments;
    int least, most; /* arguments behind the word */
    int (*run)(int argc, char **argv);
} words[] = {
    { "runner",     " JOBDIR",                         1, 1,       runner }, /* the folder says whether it is */
    { "node",       " JOBDIR",                         1, 1,       runner }, /* that of the job's first node */
    { "rank",       " ...",                            0, INT_MAX, ty_rank_main },
    { "rendezvous", " OUT SIZE SECRET [HOST]",         0, INT_MAX, agent_rendezvous },
    { "pmix",       " DESCRIPTOR",                     1, 1,       pmix },
    { "data",       "",                                0, 0,       data },
    { "courier",    " JOBDIR",                         1, 1,       courier },
    { "remote",     " FOLDER",                         1, 1,       far_end },
    { "probe",      " [DESCRIPTOR]",                   0, 1,       probe },
    { "keeper",     " FOLDER [USER]",                  1, 2,       keeper },
    { "told",       " FOLDER",                         1, 1,       told },
    { "hold",       "",                                0, 0,       hold },
    { "channel",    " JOBDIR NODE ARGUMENT...",        3, INT_MAX, channel },
    { "--version",  "",                                0, 0,       version },
};
/* clang-format on */

static int usage(void)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        fprintf(stderr, "%s trainyard-agent %s%s\n", i == 0 ? "usage:" : "      ", words[i].word,
                words[i].arguments);
    fputs("Started by the Trainyard daemon; people use 'trainyard'.\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    ty_log_init(2, "trainyard-agent");
    for (size_t i = 0; argc >= 2 && i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].word, argv[1]) == 0 && argc - 2 >= words[i].least &&
            argc - 2 <= words[i].most)
            return words[i].run(argc, argv);
    return usage();
}
