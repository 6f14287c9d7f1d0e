/* slurm_command.h - the commands of Slurm as child processes: no shell, and no variables but those of the target
 *
 * What a command prints goes to a file in memory, and its end is told by a descriptor: nothing here waits but ty_slurm_run.
 */
#ifndef TY_SLURM_COMMAND_H
#define TY_SLURM_COMMAND_H
#include "base/json.h"
#include <sys/types.h>
struct ty_error;
struct ty_owner;

/* As whom, and with which variables; borrowed. */
struct ty_slurm_setting {
    const json_t *environment;    /* of the target: object of texts; NULL: none */
    const struct ty_owner *owner; /* NULL: as this process */
};

struct ty_slurm_command {
    pid_t pid;   /* 0: none is running */
    int ended;   /* becomes readable when it has ended; -1: none */
    int out, err;
};
#define TY_SLURM_COMMAND_INIT { .ended = -1, .out = -1, .err = -1 }

/* The path of a program in the target's PATH: malloc'ed; NULL and a sentence: it is not there. */
char *ty_slurm_program(const struct ty_slurm_setting *where, const char *name, struct ty_error *err);
/* argv[0] is a name (found as above) or a path.  `input` (n bytes, may be NULL) is what it reads. */
int ty_slurm_command_start(struct ty_slurm_command *c, const struct ty_slurm_setting *where, const char *const *argv,
                           const void *input, size_t n, struct ty_error *err);
/* It has ended (or is waited for): 0 when it exited with 0, else -EREMOTEIO; what it printed is malloc'ed; either may be
 * NULL.  *c is as new. */
int ty_slurm_command_end(struct ty_slurm_command *c, char **out, char **complaint);
void ty_slurm_command_kill(struct ty_slurm_command *c); /* and wait; *c is as new */

/* Run one and wait for its end, at most `timeout_ms`.  *out is malloc'ed.  -EREMOTEIO and Slurm's own sentence; -ETIMEDOUT; or
 * why it could not be started. */
int ty_slurm_run(const struct ty_slurm_setting *where, const char *const *argv, int timeout_ms, char **out,
                 struct ty_error *err);
#endif
