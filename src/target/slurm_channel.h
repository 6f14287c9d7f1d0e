/* slurm_channel.h - `trainyard-agent channel JOBDIR NODE ARGUMENT...`: what ssh is for hosts, for the nodes of an allocation
 *
 * Standard input and output become those of `trainyard-agent ARGUMENT...` on that node (0 is the first) of the run's allocation,
 * which is asked for when there is none; a keeper is started when none answers.  Until then the file `why` in the job folder says
 * what is waited for.  Then the line TY_SLURM_READY is written, and before it the file `allocated`: {"nodes": [{"name", "cpus",
 * "cpu_set", "gpus"}...]}.  When the allocation is over, the file `ended` says how ({"reason", "message"}, reason as in
 * docs/spec/runner-stream.md), and the sentence goes to standard error; the exit code is TY_SLURM_OVER.
 */
#ifndef TY_SLURM_CHANNEL_H
#define TY_SLURM_CHANNEL_H
struct ty_error;

#define TY_SLURM_READY "trainyard:ready"
#define TY_SLURM_OVER 5
#define TY_SLURM_WHY "why"
#define TY_SLURM_ALLOCATED "allocated"
#define TY_SLURM_ENDED_FILE "ended"

int ty_slurm_channel_main(const char *agent, int argc, char **argv); /* argv[0] is JOBDIR */
/* Connect to the keeper of that folder, which is started when none answers.  The descriptor does not block; or why not, as a
 * negative errno. */
int ty_slurm_keeper_reach(const char *agent, const char *folder, const char *user, struct ty_error *err);
/* The folder of the keeper of a target: in the state folder; `user` NULL: the daemon's own.  malloc'ed; NULL: out of memory. */
char *ty_slurm_keeper_folder(const char *home, const char *target, const char *user);
#endif
