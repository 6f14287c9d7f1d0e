/* slurm_keeper.h - `trainyard-agent keeper`: who keeps the allocations of one user on one target of kind slurm
 * (docs/spec/slurm.md)
 *
 * A process of its own, which outlives daemon and couriers, and ends when nothing is left to keep.  It alone starts Slurm's
 * commands: sbatch for an allocation, one squeue every two seconds for all of them, scancel.  Couriers ask it for channels
 * (slurm_channel.h); the holders of its allocations (slurm_hold.h) call it.
 */
#ifndef TY_SLURM_KEEPER_H
#define TY_SLURM_KEEPER_H

#define TY_KEEPER_SOCKET "socket" /* in the keeper's folder */
#define TY_KEEPER_STATUS "status" /* what it keeps, for others to read: JSON */
/* The program.  `folder` is its own, in the state folder; `user` as whom commands run, NULL: as this process. */
int ty_slurm_keeper_main(const char *agent, const char *folder, const char *user);
#endif
