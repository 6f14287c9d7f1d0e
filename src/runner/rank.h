/* rank.h - the rank wrapper: `trainyard-agent rank LINE PLAN`
 *
 * One per process of a job.  It starts the user's program in a session of its own, waits for it,
 * then kills whatever is left of its tree, also what moved to another session: being a subreaper it
 * is the parent of every orphan.  LINE is the descriptor of the socket to the runner, PLAN that of
 * a file with the JSON {"work", "log", "oom", "argv", "env", "cpus", "files"} (launch.h).
 */
#ifndef TY_RANK_H
#define TY_RANK_H

#define TY_RANK_COMM "trainyard-rank" /* the wrapper's name in /proc/PID/comm */
/* The program `rank`; returns its exit code: the program's own, or 128 + the signal that ended it. */
int ty_rank_main(int argc, char **argv);
#endif
