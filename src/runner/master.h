/* master.h - a port on which the ranks of a job can meet (MASTER_PORT)
 *
 * The runner does not listen there: the job's first process will, when it comes to that.  Until then a name in the
 * abstract space of Unix sockets, which belongs to the network as ports do, keeps other jobs from choosing the same.
 */
#ifndef TY_MASTER_H
#define TY_MASTER_H
/* The port, TY_MASTER_PORT if nobody has it; *hold (closed by the caller when the job is over) keeps it, or is -1
 * where there was nothing to hold it with.  Never fails: without a free one it is TY_MASTER_PORT. */
int ty_master_claim(int *hold);
#endif
