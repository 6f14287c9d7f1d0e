/* slurm_pump.h - bytes between a link and a local socket, both ways, nothing waiting
 *
 * Each side's end is passed on when all before it has gone through; the pump is over when both have ended, or either broke.
 */
#ifndef TY_SLURM_PUMP_H
#define TY_SLURM_PUMP_H
#include "base/link.h"
#include <poll.h>

#define TY_PUMP_BUFFER (128 * 1024)

struct ty_pump {
    struct ty_link *link; /* both owned */
    int fd;               /* a Unix socket, not blocking */
    char *out, *in;       /* to the link, from the link */
    size_t out_len, out_at, in_len, in_at;
    bool out_ended, in_ended; /* no more comes from fd; from the link */
};
/* Takes both over, also when it fails (-ENOMEM).  `first`: bytes that the link has brought already, at most TY_PUMP_BUFFER. */
int ty_pump_open(struct ty_pump *p, struct ty_link *link, int fd, const char *first, size_t n);
void ty_pump_close(struct ty_pump *p);
/* What to wait for: p[0] the link, p[1] the socket (fd -1: nothing). */
void ty_pump_events(const struct ty_pump *p, struct pollfd to[2]);
/* Is there something to do that no descriptor tells of? */
bool ty_pump_busy(const struct ty_pump *p);
/* Move what can be moved: 0 goes on; 1 both sides have ended; a negative errno: the link, or the socket (-EPIPE), broke. */
int ty_pump_turn(struct ty_pump *p, int64_t now_us);
#endif
