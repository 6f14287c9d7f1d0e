/* runner.h - the runner of one job: `trainyard-agent runner JOBDIR` (docs/spec/runner-stream.md)
 *
 * It prepares the job, runs it, follows it, collects what it leaves and delivers all of that to the
 * daemon, whenever there is one.  What it knows is on disk in the job folder, so that a second
 * runner can go on where one was killed.
 */
#ifndef TY_RUNNER_H
#define TY_RUNNER_H
/* Exit code of a runner that finds another one at work. */
#define TY_RUNNER_BUSY 3
#define TY_RUNNER_NOT_BEGUN 4 /* its job folder cannot be used now; runner.log says why */
/* 0: all is delivered, or the run is gone, and so is the job folder; 1: there is no such folder; or one of those above. */
int ty_runner_main(const char *job_dir);
#endif
