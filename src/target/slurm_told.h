/* slurm_told.h - `trainyard-agent told FOLDER`: tells the keeper of that folder what its target is now (docs/spec/slurm.md)
 *
 * The target's specification comes on standard input.  A keeper is started when none answers; with min_nodes above 0 it asks
 * Slurm for so many nodes, and keeps them.
 */
#ifndef TY_SLURM_TOLD_H
#define TY_SLURM_TOLD_H

int ty_slurm_told_main(const char *agent, const char *folder); /* the program: its exit code */
#endif
