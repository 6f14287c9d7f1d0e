/* start_daemon.h - the daemon of a state folder: where it listens, where its program lies,
 * starting it */
#ifndef TY_CLIENT_START_DAEMON_H
#define TY_CLIENT_START_DAEMON_H
struct ty_error;

#define TY_DAEMON_START_MS 30000 /* how long a start may take */

/* The state folder as an absolute path: `home`, else $TRAINYARD_HOME, else
 * $XDG_STATE_HOME/trainyard, else ~/.local/state/trainyard.  malloc'ed; need not exist. */
int ty_client_find_home(const char *home, char **ret, struct ty_error *err);
/* Connect to HOME/sock: a non-blocking descriptor, or -ECONNREFUSED (nobody listens), -EACCES
 * and others with a text. */
int ty_daemon_connect(const char *home, struct ty_error *err);
/* The program trainyardd, malloc'ed: `daemon` or $TRAINYARD_DAEMON (used or refused), else
 * beside this program, beside the shared object that this code is in and in the folders above
 * it, else on PATH.  -ENOENT. */
int ty_daemon_find(const char *daemon, char **ret, struct ty_error *err);
/* Start a daemon for `home` and wait until it serves, or until the one that is starting already
 * does. It gets a minimal environment, so that nothing of the caller's shell can reach a job. */
int ty_daemon_start(const char *home, const char *daemon, struct ty_error *err);
#endif
