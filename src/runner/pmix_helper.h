/* pmix_helper.h - the PMIx server of a node: `trainyard-agent pmix FD` (docs/spec/pmix-helper.md)
 *
 * A process of its own, so that libpmix and its threads stay out of the runner.  It runs as the user
 * of the job, ends when its socket closes, and leaves nothing outside the folder it was given.
 */
#ifndef TY_PMIX_HELPER_H
#define TY_PMIX_HELPER_H
/* `fd`: the socket to the runner, as a decimal number.  The exit code. */
int ty_pmix_helper_main(const char *fd);
#endif
