/* slurm_warn.h - telling the processes of a job that its time is nearly over */
#ifndef TY_SLURM_WARN_H
#define TY_SLURM_WARN_H

#define TY_WARNING_FILE "warning" /* in $TRAINYARD_SPOOL_DIR of the job */

/* For each job among the descendants of this process: write `text` to the file above, and send SIGUSR1 to those of its processes
 * that catch it; the others would die of it.  Returns how many were sent it. */
int ty_slurm_warn(const char *text);
#endif
