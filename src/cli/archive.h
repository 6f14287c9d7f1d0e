/* archive.h - tar, as a process: what trainyard backup writes and trainyard restore reads */
#ifndef TY_CLI_ARCHIVE_H
#define TY_CLI_ARCHIVE_H
#include "cli/cli.h"

/* What tar is told of the compression that a file's name asks for: "--gzip" for .tar.gz and so on; NULL: no name for an archive. */
const char *ty_archive_option(const char *file);
/* Run tar with these arguments (argv[0] is its place) to its end, with standard output `out` (-1: none), showing how large `growing`
 * (NULL: nothing) has become.  0; a negative errno with what tar said. */
int ty_archive_run(struct ty_cli *cli, const char *const *argv, int out, const char *growing, struct ty_error *err);
#endif
