/* ssh.h - a far end on a host, through the system's ssh and with its user's configuration
 *
 *   ssh ... HOST 'exec /bin/sh -c "..."'    a few lines of sh: is our agent there?  Else it comes through standard input.
 *                                           Then they become `trainyard-agent remote`.
 *
 * Nothing secret is on the command line.  What the shell of the other side prints before is skipped.
 */
#ifndef TY_SSH_H
#define TY_SSH_H
#include "base/str.h"
#include "courier/flow.h"
#include <sys/types.h>
struct ty_error;
struct ty_host;
struct ty_owner;
struct ty_target_spec;

struct ty_ssh {
    pid_t pid;           /* 0: none */
    struct ty_flow flow; /* standard input and output of it */
    struct ty_flow err;  /* what it says when it fails */
    char said[512];      /* the last line of that, "" before there is one */
    int agent;           /* descriptor of the program that is to be sent */
    uint64_t agent_left; /* bytes of it to send */
    const char *sha;     /* of the agent; the caller's */
    bool other_key;      /* ssh has said that the host has another key than before */
    bool greeted;        /* the sh has spoken */
    bool shell;          /* a login shell stands before our command */
    bool ready;          /* our program speaks */
    char printed[200];   /* the last line that came before it does */
    size_t skipped;      /* bytes of all those lines */
};
#define TY_SSH_INIT { .flow = TY_FLOW_INIT, .err = TY_FLOW_INIT, .agent = -1 }

/* `folder` NULL: the default.  `sha` is the hash of this program, as 64 digits, and stays the caller's.  `owner`: as whom ssh runs; NULL: as this process.
 * -EINVAL: the folder has characters that cannot be brought through a shell. */
int ty_ssh_start(struct ty_ssh *s, const struct ty_target_spec *target, const struct ty_host *host, const char *sha,
                 const struct ty_owner *owner, struct ty_error *err);
/* Any program in ssh's place, which greets as its script does. */
int ty_ssh_run(struct ty_ssh *s, const char *const *argv, const char *home, const struct ty_owner *owner, struct ty_error *err);
/* Until the far end speaks: read, and send the agent when it is wanted.  1: it speaks, and s->flow is a channel; 0: not yet;
 * a negative errno and why. */
int ty_ssh_greet(struct ty_ssh *s, struct ty_error *err);
/* Read what ssh says on its standard error. */
void ty_ssh_listen(struct ty_ssh *s);
/* Why the connection is over: what ssh said last and what mends that, or how it ended.  Waits for it to end, a second at most. */
void ty_ssh_why(struct ty_ssh *s, char *buf, size_t n);
void ty_ssh_end(struct ty_ssh *s); /* kill and reap; *s is as new */
#endif
