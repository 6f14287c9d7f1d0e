/* slurm_hold.h - `trainyard-agent hold`: what stays in an allocation of Slurm, one on each node (docs/spec/slurm.md)
 *
 * On the first node it is the batch process itself, and starts the others through srun.  It calls the keeper (slurm_keeper.h) of
 * the box that asked for the allocation, opens a channel whenever it is told to, and starts at its end what ssh would start on a
 * host.  When it ends, the allocation ends.
 */
#ifndef TY_SLURM_HOLD_H
#define TY_SLURM_HOLD_H
/* The program; reads its configuration, one line of JSON, from standard input.  `agent` is the path of this program. */
int ty_slurm_hold_main(const char *agent);
#endif
