/* courier.h - the program `trainyard-agent courier JOBDIR`: brings a job to its hosts, and its runner's stream to the daemon
 * (docs/spec/channel.md) */
#ifndef TY_COURIER_H
#define TY_COURIER_H

/* Exit codes as those of a runner: 0 released or refused, 1 an error of its own, 3 another one is at work, 4 it could not begin. */
int ty_courier_main(const char *job_dir);
/* The program `trainyard-agent probe [FD]`: the facts of this machine as one line; with FD, a file with {"target", "host"}
 * (a target spec and the name of one of its hosts, "run_as": a user), those of that host, or {"error": why}. */
int ty_probe_main(const char *fd);
#endif
