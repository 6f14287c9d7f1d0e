/* boot.h - how the ranks of a world find each other: who am I, and a few hundred bytes from everybody to everybody
 *
 *   who      rank and size, from the first launcher in ty_world_from_env's table whose variables are there
 *   exchange struct ty_coll_boot: put, fence, get - over PMIx (dlopen) under mpirun and srun, else over a rendezvous
 *
 * Rendezvous: one server, in the launcher (horovodrun, the agent) or in rank 0 at MASTER_ADDR:MASTER_PORT; format in
 * docs/spec/rendezvous.md.  Clients and server prove to each other that they know the secret before anything is said.
 */
#ifndef TY_COLL_BOOT_H
#define TY_COLL_BOOT_H
#include <trainyard/coll.h>

struct ty_world {
    int rank, size;
    const char *launcher; /* "openmpi", "slurm", "torchrun", "horovodrun", "trainyard", "alone" */
};
/* From the environment; without any launcher's variables a world of one.  -EINVAL: variables that contradict. */
int ty_world_from_env(struct ty_world *ret, struct ty_error *err);

/* The exchange for `w`.  The first that applies:
 *   a world of one               nothing
 *   TRAINYARD_COLL_RENDEZVOUS    host:port (secret: TRAINYARD_COLL_SECRET)
 *   horovodrun's own             HOROVOD_GLOO_RENDEZVOUS_ADDR and _PORT (secret: HOROVOD_SECRET_KEY)
 *   PMIx                         unless torchrun told the rank; where a PMIx server is named and libpmix can be opened
 *   MASTER_ADDR and MASTER_PORT  one of the 8 ports after MASTER_PORT, which is torch's own
 * Rank 0 opens the rendezvous itself, unless the rank was told by horovodrun or Trainyard, whose launchers do.
 * *ret is closed with ret->close(ret->ctx).  A name in the environment that makes no sense is -EINVAL, no way to find the
 * others -ENOENT; for the rest see the kinds. */
int ty_boot_from_env(const struct ty_world *w, int timeout_ms, struct ty_coll_boot *ret, struct ty_error *err);
/* In a forked child, for an exchange of any kind: close its descriptors, touch nothing else. */
void ty_boot_forked(const struct ty_coll_boot *b);

/* The three kinds. */
int ty_boot_alone(struct ty_coll_boot *ret, struct ty_error *err);
/* -ENOENT: no PMIx here.  After a fence has timed out, close.  The library is held until the process ends by exit(): one that
 * ends by _exit() is reported by mpirun as an abnormal end. */
int ty_boot_pmix(const struct ty_world *w, struct ty_coll_boot *ret, struct ty_error *err);
/* secret: any text, "" for none.  -EEXIST: this rank is there already; -EINVAL: the server's world has another size;
 * -EACCES: it has another secret; -EPROTO: who listens there is no rendezvous; -ETIMEDOUT: nobody does.
 * Fences: -ETIMEDOUT names who is missing, and another fence may follow; -EOWNERDEAD: a rank has left since the first fence
 * (it is named); -E2BIG: too much was put. */
int ty_boot_rendezvous(const char *host, int port, const char *secret, const struct ty_world *w, int timeout_ms,
                       struct ty_coll_boot *ret, struct ty_error *err);

/* A rendezvous server on a thread of its own.  host NULL: any address; port 0: chosen, see ty_rendezvous_port.
 * -EADDRINUSE: another program has the port.  size: ranks that a fence waits for; ty_rendezvous_reset() forgets everything and begins a new world (elastic). */
struct ty_rendezvous;
int ty_rendezvous_open(const char *host, int port, const char *secret, int size, struct ty_rendezvous **ret,
                       struct ty_error *err);
int ty_rendezvous_port(const struct ty_rendezvous *s);
void ty_rendezvous_reset(struct ty_rendezvous *s, int size);
struct ty_rendezvous *ty_rendezvous_free(struct ty_rendezvous *s);
#endif
