/* doctor.h - what the parts of `trainyard doctor` share */
#ifndef TY_CLI_DOCTOR_H
#define TY_CLI_DOCTOR_H
#include "cli/cli.h"
#include <jansson.h>

enum verdict { GOOD, DOUBT, BAD };
struct doctor {
    struct ty_cli *cli;
    json_t *checks; /* [{"check", "result", "text", "fix"}] */
    enum verdict worst;
};
void doctor_note(struct doctor *d, const char *check, enum verdict v, const char *fix, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* The first line that `argv` prints, cut to size; false when it fails or takes too long. */
bool doctor_first_line(const char *const *argv, char *line, size_t size);

/* doctor_tools.c: programs that this machine may have, and what each is for */
void doctor_tools(struct doctor *d);
/* doctor_slurm.c: each target of kind slurm, with the daemon that runs; `folder` (NULL: none): a configuration for power saving
 * is proposed there. */
void doctor_slurm(struct doctor *d, const char *folder);
#endif
