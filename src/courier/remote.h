/* remote.h - the far end of a channel: `trainyard-agent remote FOLDER` (docs/spec/channel.md)
 *
 * Speaks over standard input and output, for as long as the connection lasts; the job that it starts outlives it.
 */
#ifndef TY_REMOTE_H
#define TY_REMOTE_H
/* The program; returns its exit code.  `folder` as the shell has it: absolute. */
int ty_remote_main(const char *folder);
#endif
