/* agent.h - the parts of trainyard-agent that stand on the floor of programs, because they use the engine of collectives
 *
 * Each gives the exit code of the program.
 */
#ifndef TY_AGENT_H
#define TY_AGENT_H

/* `rendezvous OUT SIZE SECRET [HOST]`: see agent_rendezvous.c.  OUT is the pipe to the runner, SECRET a file with the text
 * that ranks have to know; without HOST it can be reached from other machines. */
int agent_rendezvous(int argc, char **argv);
#endif
